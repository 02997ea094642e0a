"""Lesson 16: its definitions against trusted libraries, its checks, and what its prose says."""

import re

import books
import decoder as recipe
import mteb
import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import normalize

from helpers import data, models, pooling, ranking, training
from helpers.exercises import lesson16

LESSON = books.path("16")
SOLUTIONS = books.path("16", solutions=True)
TABLE = books.ROOT / "models" / "recipes" / "decoder.tsv"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def lesson(*names, **given):
    return books.definitions(LESSON, *names, given={"pooling": pooling, "training": training, **given})


def prose():
    """All prose of the lesson, in one line."""
    return " ".join(" ".join(c.source.split()) for c in books.read(LESSON).cells if c.cell_type == "markdown")


def found(tag, pattern):
    """The numbers of the one place in what a cell shows that matches the pattern."""
    return re.search(pattern, books.shown("16", tag), re.S).groups()


# definitions ---------------------------------------------------------------------------------


def test_last_token_is_the_librarys():
    from sentence_transformers.sentence_transformer.modules import Pooling

    states = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    batch = {"token_embeddings": states.clone(), "attention_mask": mask}
    wanted = Pooling(4, pooling_mode="lasttoken")(batch)["sentence_embedding"]
    assert torch.allclose(lesson("last_token")["last_token"](states, mask), wanted, atol=1e-6)
    assert torch.allclose(recipe.last_token(states, mask), wanted, atol=1e-6)


def test_under_the_causal_mask_a_vector_does_not_see_what_follows():
    tokenizer = __import__("transformers").AutoTokenizer.from_pretrained(models.path(recipe.NETWORK, quiet=True))
    batch = tokenizer(["the bank of the river", "the bank of the city"], return_tensors="pt")
    for mask, same in (("causal", True), ("both sides", False)):
        with torch.no_grad():
            one, other = recipe.network(mask).eval()(**batch).last_hidden_state
        assert torch.allclose(one[:5], other[:5], atol=1e-4) is same


def test_reciprocal_ranks_count_ties_against_the_answer():
    scores = torch.tensor([[0.9, 0.2, 0.1], [0.8, 0.5, 0.1], [0.3, 0.3, 0.3]])
    mine = lesson("reciprocal_ranks")["reciprocal_ranks"]
    assert mine(scores).tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert mine(scores, [1, 0, 2]).tolist() == pytest.approx([1 / 2, 1, 1 / 3])
    assert mine(torch.eye(3)).tolist() == (1 / ranking.ranks(torch.eye(3), torch.eye(3))).tolist()


def test_the_lesson_trains_as_the_recipe_does(monkeypatch):
    from transformers import AutoTokenizer

    from helpers import documentation

    tokenizer = AutoTokenizer.from_pretrained(models.path(recipe.NETWORK, quiet=True))
    monkeypatch.setattr(recipe, "STEPS", 2)
    monkeypatch.setattr(recipe, "PAIRS", 4)
    given = {"tokenizer": tokenizer, "documentation": documentation, "normalize": normalize}
    space = lesson("last_token", "vectors", "train_on_pairs", **given)
    space["READ"] = {"last": space["last_token"], "mean": pooling.mean_pool}
    mine, its = recipe.network("causal"), recipe.network("causal")
    losses = space["train_on_pairs"](mine, "last", steps=2, size=4)
    recipe.on_pairs(its, tokenizer, "last", documentation.pairs("train"))
    assert len(losses) == 2
    for ours, theirs in zip(mine.parameters(), its.parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_late_chunks_are_means_of_the_librarys_token_vectors():
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(models.path(MINILM, quiet=True)), device="cpu")
    sentences = ["The Skerrin Light stands on a reef.", "It was built of grey granite.", "It is dark."]
    tokens = model.encode(" ".join(sentences), output_value="token_embeddings", normalize_embeddings=False)
    lengths = [len(model.tokenizer.tokenize(sentence)) for sentence in sentences]
    ends = np.cumsum(lengths) + 1  # behind [CLS]
    wanted = [tokens[end - n : end].mean(dim=0) for n, end in zip(lengths, ends, strict=True)]
    mine = lesson("late_chunks")["late_chunks"](model, sentences)
    assert torch.allclose(mine, normalize(torch.stack(wanted), dim=1), atol=1e-5)


def test_best_rank_counts_the_best_of_several_right_texts():
    given = {"texts_searched": ["a", "b", "c"], "twenty": ["q", "r"], "answers_of": {"q": {"a", "c"}, "r": {"b"}}}
    mine = lesson("best_rank", torch=torch, **given)["best_rank"]
    assert mine([[0.1, 0.9, 0.5], [0.2, 0.1, 0.1]]).tolist() == pytest.approx([1 / 2, 1 / 3])
    assert mine([[0.1, 0.2, 0.5], [0.2, 0.9, 0.1]]).tolist() == pytest.approx([1, 1])


# tables --------------------------------------------------------------------------------------


def test_the_recipes_table_has_every_run_on_every_question():
    table = pd.read_csv(TABLE, sep="\t")
    runs = {(f"{source} {pairs}".strip(), mask, pool) for source, mask, pool, pairs in recipe.RUNS}
    parts = dict(list(table.groupby(["weights", "mask", "pooling"])))
    assert set(parts) == runs and len(table) == 300 * len(runs)
    assert all(sorted(part["question"]) == list(range(300)) for part in parts.values())
    assert table["rr"].between(0, 1, inclusive="right").all()


def test_what_was_made_again_is_what_the_table_has():
    (differ,) = found("decoder", r"differ by (\S+) at most")
    assert float(differ) < 0.01


def test_the_register_is_that_of_the_installed_library():
    shown = books.shown("16", "register")
    for public in (name for name in re.findall(r'"([\w-]+/[\w.-]+)"', books.cell("16", "reads").source)):
        card = mteb.get_model_meta(public, fetch_from_hf=False)
        name = public.split("/")[1].replace("-v2-mntp-supervised", "")
        line = next(line for line in shown.splitlines() if line.startswith(name + " "))
        wanted = [card.release_date, f"{card.n_parameters / 1e6:,.0f} M", card.embed_dim, f"{card.max_tokens:,.0f}"]
        assert re.split(r" {2,}", line)[1:] == [*map(str, wanted), card.license], name


def test_the_share_of_unseen_tasks_is_the_librarys():
    shown = books.shown("16", "unseen")
    tasks = mteb.get_benchmark("MTEB(eng, v2)").tasks
    for public in ("intfloat/e5-mistral-7b-instruct", "Qwen/Qwen3-Embedding-0.6B"):
        card = mteb.get_model_meta(public, fetch_from_hf=False)
        used = card.get_training_datasets() & {task.metadata.name for task in tasks}
        share = int(100 - 100 * len(used) / len(tasks))
        assert re.search(rf"{re.escape(public.split('/')[1])} +{share} ", shown), public


def test_none_of_the_beds_is_a_training_text():
    training_texts = set(data.qa_pairs(part="train")["question"])
    told, asked = data.pronouns()
    assert not training_texts & set(asked["question"]) and not training_texts & set(told["text"])


# exercises -----------------------------------------------------------------------------------


def test_the_exercises_are_judged(capsys):
    books.judge_exercises(lesson16, SOLUTIONS, capsys, "may_see", "pool_spans", "rotation")


def test_usual_wrong_answers_are_refused(capsys):
    def refused(check, *answers):
        for answer in answers:
            check(answer)
            assert capsys.readouterr().out.startswith("Not yet"), answer

    tril = lambda mask: torch.ones(mask.shape[1], mask.shape[1]).tril().bool()
    refused(
        lesson16.may_see,
        lambda mask: mask,
        lambda mask: tril(mask).expand(len(mask), -1, -1),  # padding is seen
        lambda mask: mask.bool()[:, None, :].expand(-1, mask.shape[1], -1),  # an encoder's
        lambda mask: tril(mask).T & mask.bool()[:, None, :],  # the wrong way round
        lambda mask: (torch.ones(mask.shape[1], mask.shape[1]).tril(-1).bool()) & mask.bool()[:, None, :],
    )
    refused(
        lesson16.pool_spans,
        lambda states, spans: states,
        lambda states, spans: torch.stack([states[a:b].mean(dim=0) for a, b in spans]),  # not of length 1
        lambda states, spans: normalize(torch.stack([states[a : b + 1].mean(dim=0) for a, b in spans]), dim=1),
        lambda states, spans: normalize(torch.stack([states[a:b].max(dim=0).values for a, b in spans]), dim=1),
        lambda states, spans: torch.full((len(spans), 4), float("nan")),
    )
    refused(
        lesson16.rotation,
        lambda a, b: np.eye(3),
        lambda a, b: np.linalg.lstsq(a, b, rcond=None)[0],  # stretches
        lambda a, b: (lambda u, s, vt: vt.T @ u.T)(*np.linalg.svd(a.T @ b)),  # the way back
        lambda a, b: (lambda u, s, vt: u @ vt.T)(*np.linalg.svd(a.T @ b)),
        lambda a, b: np.full((3, 3), np.nan),
    )


# prose ---------------------------------------------------------------------------------------
PROSETESTS
