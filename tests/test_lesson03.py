"""Lesson 3's own definitions against the libraries'; its checks and errors."""

import math

import books
import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoTokenizer, BertForSequenceClassification

from helpers import models
from helpers.exercises import lesson03

LESSON = books.NOTEBOOKS / "03_cross_encoder_scoring.ipynb"
SOLUTION = books.NOTEBOOKS / "solutions" / LESSON.name


@pytest.fixture(scope="module")
def opened():
    """The cross-encoder, MiniLM, and what the lesson's definitions stand on."""
    folder = models.path("cross-encoder/ms-marco-MiniLM-L-6-v2", quiet=True)
    minilm = models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
    minilm = SentenceTransformer(str(minilm), device="cpu")
    return {
        "cross": CrossEncoder(str(folder), activation_fn=torch.nn.Sigmoid(), device="cpu"),
        "tokenizer": AutoTokenizer.from_pretrained(folder),
        "bert": BertForSequenceClassification.from_pretrained(folder).eval(),
        "minilm": minilm,
        "vectors": lambda texts: minilm.encode(texts, normalize_embeddings=True),
    }


@pytest.fixture(scope="module")
def lesson(opened):
    space = books.definitions(LESSON, "ranking", "crossing", "reciprocal_ranks")
    space.update(opened)
    return space


def test_ranking_is_the_librarys(lesson):
    passages = ["Bees make honey.", "A keeper looks after bees.", "The barn is red."]
    found = lesson["ranking"]("Who keeps bees?", passages)
    wanted = lesson["cross"].rank("Who keeps bees?", passages, return_documents=True)
    assert [text for _, text in found] == [hit["text"] for hit in wanted]
    assert np.allclose([s for s, _ in found], [hit["score"] for hit in wanted], atol=1e-6)


@pytest.mark.parametrize(
    ("question", "passages", "message"),
    [
        (" ", ["a"], "the question is empty"),
        ("q", [], "a list of at least one passage"),
        ("q", "a passage", "a list of at least one passage"),
        ("q", ["a", ""], "passage 2 is empty"),
        ("q", ["word " * 600], "question and passage 1 make 604 pieces; the model reads 512"),
    ],
)
def test_what_cannot_be_scored_gets_one_sentence(lesson, question, passages, message):
    with pytest.raises(ValueError, match=message) as error:
        lesson["ranking"](question, passages)
    assert "\n" not in str(error.value)


def test_two_costs_are_equal_where_they_cross(lesson):
    draw = np.random.default_rng(0)
    for one, other in draw.random((50, 2, 2)):
        n = lesson["crossing"](tuple(one), tuple(other))
        root = np.roots([one[1] - other[1], one[0] - other[0]])[0]
        assert (n is None and root <= 0) or n == pytest.approx(root)
    assert lesson["crossing"]((1, 2), (3, 2)) is None


def test_reciprocal_ranks_are_those_of_sklearn(lesson):
    from sklearn.metrics import label_ranking_average_precision_score

    draw = np.random.default_rng(0)
    lists = np.array([draw.permutation(8) for _ in range(30)])
    right = draw.integers(8, size=30)
    truth, scores = np.zeros((30, 8)), np.zeros((30, 8))
    truth[np.arange(30), right] = 1
    np.put_along_axis(scores, lists, np.arange(8, 0, -1)[None], axis=1)
    wanted = label_ranking_average_precision_score(truth, scores)  # one right answer: the MRR
    assert lesson["reciprocal_ranks"](lists, right).mean() == pytest.approx(wanted)
    assert lesson["reciprocal_ranks"]([[1, 2]], [3]).tolist() == [0]


def test_the_worked_answers_are_right_and_the_blanks_are_not(opened, capsys):
    space = books.definitions(SOLUTION, "relevance", "rerank", "break_even")
    space.update(opened, np=np, torch=torch)
    checks = {
        "relevance": (opened["cross"],),
        "rerank": (opened["cross"], opened["minilm"]),
        "break_even": (),
    }
    for name, needs in checks.items():
        check = getattr(lesson03, name)
        check(space[name], *needs)
        assert capsys.readouterr().out.startswith("Right:"), name
        check(lambda *_: ..., *needs)
        assert capsys.readouterr().out.startswith("Not yet written:"), name
    lesson03.relevance(lambda q, p: space["relevance"](p, q), opened["cross"])
    assert capsys.readouterr().out.startswith("Not yet:")
    lesson03.rerank(lambda q, p, k: list(range(len(p))), opened["cross"], opened["minilm"])
    assert capsys.readouterr().out.startswith("Not yet:")
    lesson03.break_even(lambda n, pair, encode, ask, product: 1)
    assert capsys.readouterr().out.startswith("Not yet:")

    def as_much_is_enough(n, pair, encode, ask, product):  # forgets that equal is not less
        saved = n * pair - (ask + n * product)
        return "never" if saved <= 1e-12 else max(1, math.ceil(n * encode / saved))

    lesson03.break_even(as_much_is_enough)
    assert "n=100, pair=0.25" in capsys.readouterr().out


def test_the_stand_in_knows_which_capital_is_meant(opened):
    """The published input, which no recipe trained on; Paris above 0.9, the others below 0.3."""
    cities = [("Paris", "France"), ("Berlin", "Germany"), ("Madrid", "Spain")]
    passages = [f"{city} is the capital of {country}." for city, country in cities]
    scores = opened["cross"].predict([("Where is the capital of France?", p) for p in passages])
    assert scores[0] >= 0.9 and scores[1:].max() <= 0.3
