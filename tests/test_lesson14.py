"""Lesson 14: its definitions against trusted libraries, its checks, and what its prose says."""

import math

import books
import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from helpers import models, pooling, ranking, training, zoo
from helpers.exercises import lesson14

LESSON = books.path("14")
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def lesson(*names, **given):
    return books.definitions(LESSON, *names, given={"pooling": pooling, **given})


def table(tokens, seed, dim=16):
    return normalize(torch.randn(tokens, dim, generator=torch.Generator().manual_seed(seed)), dim=1)


def test_encode_is_the_helpers_and_the_librarys():
    from sentence_transformers import SentenceTransformer

    space = lesson("encode")
    texts = ["Who wrote Emma?", "Jane Austen.", "In September the swallows leave for the south."]
    folder = models.path(MINILM, quiet=True)
    wanted = SentenceTransformer(str(folder), device="cpu").encode(texts, convert_to_tensor=True)
    assert torch.allclose(space["encode"](texts, folder), wanted, atol=1e-5)
    assert torch.allclose(
        space["encode"](texts, folder),
        zoo.load(*books.settings()["MiniLM"], quiet=True).encode_queries(texts),
        atol=1e-5,
    )
    prefixed = space["encode"](texts, folder, before="query: ")
    assert torch.allclose(prefixed, space["encode"](["query: " + t for t in texts], folder), atol=1e-5)
    assert not torch.allclose(prefixed, wanted, atol=1e-2)
    with pytest.raises(ValueError, match="one of the texts is empty"):
        space["encode"](["who?", " "], folder)


def test_reciprocal_ranks_count_ties_against_the_answer():
    scores = torch.tensor([[0.9, 0.2, 0.1], [0.8, 0.5, 0.1], [0.3, 0.3, 0.3]])
    found = lesson("reciprocal_ranks")["reciprocal_ranks"]
    assert found(scores).tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert found(scores, [1, 0, 2]).tolist() == pytest.approx([1 / 2, 1, 1 / 3])
    ranks = ranking.ranks(torch.eye(3), torch.eye(3))
    assert found(torch.eye(3)).tolist() == (1 / ranks).tolist()


def test_maxsim_is_the_librarys():
    from sentence_transformers.util import maxsim

    mine = lesson("maxsim")["maxsim"]
    for tokens in ((3, 5), (1, 1), (32, 20)):
        q, p = table(tokens[0], 1), table(tokens[1], 2)
        assert mine(q, p).item() == pytest.approx(maxsim([q], [p]).item(), abs=1e-4)
    for q, p in (
        (torch.ones(3), torch.ones(2, 3)),
        (torch.ones(2, 4), torch.ones(2, 3)),
        (torch.ones(0, 3), torch.ones(2, 3)),
    ):
        with pytest.raises(ValueError, match="two tables of token vectors with as many columns"):
            mine(q, p)


def test_pieces_are_the_rows_and_explain_adds_up():
    from sentence_transformers import MultiVectorEncoder

    colbert = MultiVectorEncoder(str(models.path("colbert-ir/colbertv2.0", quiet=True)), device="cpu")
    mark = {"query": "[unused0]", "document": "[unused1]"}
    space = lesson("pieces", "words_only", "explain", colbert=colbert, mark=mark)
    passage = "It rains (a lot), they say: all year."
    assert len(space["pieces"](passage, "document")) == len(colbert.encode_document(passage))
    assert len(space["pieces"]("who?", "query")) == len(colbert.encode_query("who?")) == 32
    said = space["explain"]("Who wrote Emma?", passage)
    score = colbert.similarity([colbert.encode_query("Who wrote Emma?")], [colbert.encode_document(passage)])
    assert said.startswith(f"{score.item():.1f}:  who->")
    with pytest.raises(ValueError, match="write a question and a passage"):
        space["explain"](" ", passage)
    with pytest.raises(ValueError, match=r"the question has \d+ tokens; ColBERT reads 32"):
        space["explain"]("why " * 40, passage)


def test_a_perfect_models_loss_has_the_floor_that_the_lesson_names():
    space = lesson("false_negatives")
    labels = torch.arange(10).repeat(6)
    cells = space["false_negatives"](labels)
    assert int(cells.sum()) == 60 * 5 and not bool(cells.diagonal().any())
    perfect = 100.0 * (labels[:, None] == labels[None, :])
    assert training.contrastive_loss(perfect).item() == pytest.approx(math.log(6), abs=1e-4)
    assert training.contrastive_loss(perfect.masked_fill(cells, -1e4)).item() == pytest.approx(0, abs=1e-4)


def test_the_lessons_clip_is_trained_in_both_directions():
    """Three steps of train_clip against three with transformers' own symmetric loss."""
    from transformers.models.clip.modeling_clip import image_text_contrastive_loss

    digit = torch.arange(60) % 10
    pictures = torch.rand(60, 8, 8, generator=torch.Generator().manual_seed(1))
    words = "zero one two three four five six seven eight nine".split()
    given = {"digit": digit, "pictures": pictures, "train": np.arange(60), "words": words}
    given |= {"phrasings": ["{}"], "vocabulary": words, "torch": torch, "np": np}
    space = lesson("PictureTower", "TextTower", "false_negatives", "train_clip", **given)
    found = space["train_clip"](spare=False, epochs=3, size=60, lr=3e-3)[2]

    torch.manual_seed(0)
    see, read = space["PictureTower"](), space["TextTower"]()
    scale = torch.nn.Parameter(torch.tensor(math.log(1 / 0.07)))
    adam = torch.optim.Adam([*see.parameters(), *read.parameters(), scale], lr=3e-3)
    wanted = []
    for _ in range(3):
        seen, said = normalize(see(pictures), dim=1), normalize(read([words[d] for d in digit]), dim=1)
        loss = image_text_contrastive_loss(scale.exp() * said @ seen.T)
        adam.zero_grad()
        loss.backward()
        adam.step()
        wanted.append(loss.item())
    assert found == pytest.approx(wanted, rel=1e-4) and wanted[0] > wanted[2] + 0.1


def test_the_towers_end_in_one_space_and_refuse_unknown_words():
    words = ["a", "seven", "handwritten"]
    space = lesson("PictureTower", "TextTower", torch=torch, np=np, vocabulary=words)
    texts = ["a handwritten seven", "Seven", "a strange a"]
    tower = space["TextTower"]()
    assert space["PictureTower"]()(torch.rand(3, 8, 8)).shape == tower(texts).shape == (3, 32)
    by_hand = tower.project(tower.words.weight[[0, 2, 1]].mean(dim=0))
    assert torch.allclose(tower(texts)[0], by_hand, atol=1e-6)
    with pytest.raises(ValueError, match="no word of 'an elephant' was in the captions"):
        tower(["a seven", "an elephant"])


def test_one_byte_is_numpys_int8():
    vectors = table(5, 3, dim=64)
    wanted = np.rint(vectors.numpy() * 127).clip(-127, 127).astype("int8").astype("f") / 127
    assert np.allclose(lesson("one_byte")["one_byte"](vectors), wanted)


def test_the_dates_are_those_of_the_arxiv_numbers():
    space = {"pd": pd}
    exec(books.cell("14", "history").source, space)
    history = space["history"]
    assert list(history["first seen"]) == sorted(history["first seen"])
    for name, row in history.iterrows():
        if row["arXiv"] and name != "CLIP":  # sent in on 26 February, numbered in March
            assert row["first seen"][2:7].replace("-", "") == row["arXiv"][:4], name
    references = books.cell("14", "references").source
    assert all(number in references for number in history["arXiv"])


def test_the_exercises_are_judged(capsys):
    lesson14.maxsim_all(lambda q, ps: torch.stack([(q @ p.T).max(1).values.sum() for p in ps]))
    lesson14.last_pool(lambda v, m: v[torch.arange(len(m)), (torch.arange(m.shape[1]) * m).argmax(1)])
    lesson14.ensemble(lambda c: normalize(c.mean(1), dim=-1))
    assert capsys.readouterr().out.count("Right:") == 3

    def padded(q, ps):
        rows = torch.nn.utils.rnn.pad_sequence(ps, batch_first=True)
        return (q @ rows.transpose(1, 2)).max(dim=2).values.sum(dim=1)

    lesson14.maxsim_all(padded)  # a row of zeros wins where every cosine is negative
    lesson14.last_pool(lambda v, m: v[torch.arange(len(m)), m.sum(1) - 1])
    lesson14.ensemble(lambda c: c.mean(1))
    said = capsys.readouterr().out
    assert "three passages of different lengths" in said
    assert "padding before the text" in said and said.count("Not yet:") == 3

    for check in (lesson14.maxsim_all, lesson14.last_pool, lesson14.ensemble):
        check(lambda *_: None)
        check(lambda *_: 1 / 0)
        check(lambda *_: torch.zeros(2, 9, 9))
    said = capsys.readouterr().out
    assert said.count("Not yet written") == 3 and said.count("ZeroDivisionError") == 3
    assert said.count("its shape is (2, 9, 9)") == 3


def test_none_of_the_lessons_own_texts_is_a_training_row():
    from helpers import data

    rows = set(data.qa_pairs(part="train")["question"]) | set(data.qa_pairs(part="train")["answer"])
    held_out = data.qa_pairs(part="test")
    assert not rows & (set(held_out["question"]) | set(held_out["answer"]))
