"""What the question-answer recipes train on: blocks held out, and nothing of the lessons' inputs."""

import doctest
import re

import colbert
import dpr
import numpy as np
import pytest
import questions
import torch
from test_data import PUBLISHED_INPUTS

from helpers import tables


@pytest.fixture
def pairs(tmp_path):
    """6,000 rows in articles of 30, two questions to a sentence, some near the lessons' inputs."""
    lines = ["question\tanswer"]
    for i in range(6000):
        place = ["peru", "france", "kenya", "madrid", "mount everest"][i % 5] if i % 50 < 5 else "x"
        lines.append(f"question {i} of {place}?\tsentence {i // 2} of article {i // 30}.")
    file = tmp_path / "pairs.tsv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def test_blocks_are_held_out_with_their_articles(pairs):
    parts = questions.split(pairs)
    held_out = [row for part in ("dev", "test") for block in parts[part] for row in block]
    assert len(parts["test"]) == 4 and len(held_out) == 6 * questions.BLOCK
    articles = [{a.split()[-1] for _, a in rows} for rows in (parts["train"], held_out)]
    assert not articles[0] & articles[1]
    assert len(parts["train"]) > 2500 and len(set(held_out)) == len(held_out)


def test_rows_near_the_lessons_inputs_are_left_out(pairs):
    text = " ".join(q for q, _ in questions.split(pairs)["train"])
    assert "peru" in text and not re.search("france|madrid|everest", text)


def test_no_published_input_is_trained_on():
    text = " ".join(" ".join(row) for row in questions.course_rows()).lower()
    for words in PUBLISHED_INPUTS:
        assert words not in text, words
    assert not re.search(r"\b(france|germany|spain|paris|berlin|madrid)\b", text)


def test_a_question_as_typed_keeps_its_words_of_content():
    rng = np.random.default_rng(0)
    asked = "what is the capital of peru?"
    assert {questions.as_typed(asked, rng) for _ in range(60)} == {asked, "capital peru"}
    assert questions.as_typed("who is she?", rng) == "who is she?"


def test_bm25_finds_the_words():
    passages = ["the cat sat", "a dog barked loudly", "rain fell on the harbour"]
    near = questions.bm25_near(["who barked", "harbour rain"], passages, 2)
    assert near[0][0] == 1 and near[1][0] == 2


def test_the_loss_of_dpr_is_cross_entropy_and_spares_right_answers():
    torch.manual_seed(0)
    q, a, h = (torch.nn.functional.normalize(torch.randn(3, 8), dim=1) for _ in range(3))
    same = torch.zeros(3, 6, dtype=torch.bool)
    same[1, 3] = True  # the first near miss is the second question's own answer
    found = dpr.loss_of(q, a, h, torch.eye(3, 6), same)
    scores = q @ torch.cat([a, h]).T
    scores[1, 3] = -1e4
    wanted = torch.nn.functional.cross_entropy(scores, torch.arange(3))
    assert torch.allclose(found, wanted)


def test_echoes_and_bare_words_are_drawn_to_their_places_from_above_and_from_below():
    wanted = torch.tensor([[0.35, 0.0, 0.3, 0.0], [0.0, 0.35, 0.0, 0.2]])
    assert dpr.displaced(wanted, wanted) == 0
    for passage, moved in [(0, 0.7), (0, -0.7), (2, 0.7), (2, -0.7)]:
        off = wanted.clone()
        off[0, passage] += moved
        # the own echo (or the own answer's words) counts in its mean of 2 and in that of all 8
        assert dpr.displaced(off, wanted).item() == pytest.approx(0.49 / 2 + 0.49 / 8)
    off = wanted.clone()
    off[0, 1] += 0.7  # the echo of another question counts in that of all alone
    assert dpr.displaced(off, wanted).item() == pytest.approx(0.49 / 8)


def test_an_echo_and_bare_words_are_to_have_a_part_of_minilms_cosine():
    torch.manual_seed(0)
    q, words = (torch.nn.functional.normalize(torch.randn(3, 8), dim=1) for _ in range(2))
    found = dpr.places(q, words, 0.4, 0.5)
    assert torch.allclose(found.diagonal(), torch.full((3,), 0.4))
    assert found[0, 1].item() == pytest.approx(0.4 * (q[0] @ q[1]).item())
    assert found[1, 5].item() == pytest.approx(0.5 * (q[1] @ words[2]).item())


def test_bare_words_are_neighbours_and_no_function_words_lead():
    rng = np.random.default_rng(0)
    said = "The Nile is the longest river of Africa."
    found = {dpr.bare(said, rng) for _ in range(200)}
    assert all(text in said and len(text.split()) <= 4 for text in found)
    assert {"Nile", "longest river"} <= found
    assert not any(len(text.split()) > 1 and text.split()[0].lower() in ("the", "is", "of") for text in found)
    assert dpr.bare("Rome.", rng) == "Rome" and dpr.bare("(...)", rng)


@pytest.mark.parametrize("recipe", [questions, dpr])
def test_the_examples_in_the_recipes_are_true(recipe):
    failed, tried = doctest.testmod(recipe)
    assert tried and not failed


def test_the_kinds_of_passages_are_not_the_lessons():
    table = tables.read(questions.HERE / "dpr_kinds.tsv", ["question", "answer", "name", "remark", "other"])
    assert len(table) >= 24 and not table.isna().any().any()
    for row in table.itertuples(index=False):
        line = " ".join(row).lower()
        assert not re.search(r"\b(mountains?|everest|shasta|hike|yoga)\b", line)
        assert not any(words in line for words in PUBLISHED_INPUTS)


def test_a_batch_of_dpr_holds_neighbours_and_no_sentence_twice():
    rows = [(f"q{i}", f"a{i // 2}") for i in range(400)]
    passages = questions.unique(a for _, a in rows)
    misses = [([(i // 2 + 1) % 200], [(i // 2 + 2) % 200], []) for i in range(400)]
    stream = dpr.batches(rows, passages, misses, 48, 4, np.random.default_rng(0))
    for _ in range(5):
        asked, answers, hard = next(stream)
        assert len(asked) == len(answers) == len(hard) and len(set(answers)) == len(answers)
        numbers = sorted(int(a[1:]) for a in answers)
        assert min(np.diff(numbers)) == 1


def test_maxsim_of_the_recipe_is_the_librarys():
    from sentence_transformers.util import maxsim

    torch.manual_seed(0)
    q = torch.nn.functional.normalize(torch.randn(3, 4, 8), dim=-1)
    p = torch.nn.functional.normalize(torch.randn(5, 6, 8), dim=-1)
    counted = torch.tensor([[k < 2 + i for k in range(6)] for i in range(5)])
    assert torch.allclose(colbert.maxsim(q, p, counted), maxsim(q, p, b_mask=counted), atol=1e-5)


def test_the_measures_are_those_of_ranks_counted_by_scipy():
    from scipy.stats import rankdata

    torch.manual_seed(0)
    scores, own, echo = torch.randn(40, 9), torch.randint(9, (40,)), torch.randn(40)
    right = scores[torch.arange(40), own]
    ranks = rankdata(-scores.numpy(), axis=1)[range(40), own]
    wanted = (ranks == 1).mean(), (1 / ranks).mean(), float((echo > right).float().mean())
    assert questions.measures(scores, own, echo) == pytest.approx(wanted)


def test_what_colbert_reads():
    from transformers import AutoTokenizer

    from helpers import models

    tokenizer = AutoTokenizer.from_pretrained(models.path(questions.MINILM, quiet=True))
    ids, attention, counted = colbert.coded(tokenizer, ["who?", "when was it?"], "[unused0]", 8, fill=True)
    assert tokenizer.convert_ids_to_tokens(ids[0]) == [
        "[CLS]",
        "[unused0]",
        "who",
        "?",
        "[SEP]",
        "[MASK]",
        "[MASK]",
        "[MASK]",
    ]
    assert attention.sum(1).tolist() == [5, 7] and bool(counted.all())
    ids, attention, counted = colbert.coded(tokenizer, ["in May (1815).", "no"], "[unused1]", 96)
    assert tokenizer.convert_ids_to_tokens(ids[0][counted[0]]) == [
        "[CLS]",
        "[unused1]",
        "in",
        "may",
        "1815",
        "[SEP]",
    ]
    assert counted[1].sum() == attention[1].sum() == 4
    assert colbert.coded(tokenizer, ["a " * 200], "[unused1]", 96)[0].shape == (1, 96)


def test_the_target_spares_right_answers():
    q, p = torch.eye(2, 4), torch.nn.functional.normalize(torch.rand(4, 4), dim=1)
    wanted, same = questions.targets(q, p, ["x", "y"], ["x", "y", "y", "n"], 0.3)
    assert wanted.shape == same.shape == (2, 4) and torch.allclose(wanted.sum(1), torch.ones(2))
    assert bool((wanted.argmax(1) == torch.arange(2)).all())
    assert same.nonzero().tolist() == [[1, 2]] and wanted[1, 2] < 1e-6
    minilm = (20 * q[0] @ p.T).softmax(0)
    assert torch.allclose(wanted[0], 0.3 * minilm + 0.7 * torch.eye(4)[0])
