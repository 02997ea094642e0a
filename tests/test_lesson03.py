"""Lesson 3's own definitions against the libraries'; its checks and errors."""

import math
import re

import books
import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import AutoTokenizer, BertForSequenceClassification

from helpers import data, models
from helpers.exercises import lesson03
from helpers.intervals import interval

LESSON = books.NOTEBOOKS / "03_cross_encoder_scoring.ipynb"
SOLUTION = books.NOTEBOOKS / "solutions" / LESSON.name


@pytest.fixture(scope="module")
def opened():
    """The cross-encoder, MiniLM, and what the lesson's definitions stand on."""
    folder = models.path("cross-encoder/ms-marco-MiniLM-L-12-v2", quiet=True)
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
    space = books.definitions(LESSON, "ranking", "crossing", "first_cheaper", "reciprocal_ranks")
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


def test_the_first_n_at_which_a_cost_is_smaller(lesson):
    draw = np.random.default_rng(0)
    for one, other in [
        *draw.integers(1, 9, (200, 2, 2)),
        ((1, 2), (0, 2)),
        ((0, 2), (1, 2)),
        ((0, 2), (4, 1)),
    ]:
        cheaper = [n for n in range(1, 200) if other[0] + other[1] * n < one[0] + one[1] * n]
        wanted = cheaper[0] if 199 in cheaper else math.inf
        assert lesson["first_cheaper"](tuple(one), tuple(other)) == wanted, (one, other)


def test_a_long_text_is_refused_without_a_warning(lesson, caplog):
    with pytest.raises(ValueError, match="the model reads 512"):
        lesson["ranking"]("q", ["word " * 600])
    assert caplog.text == ""


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


def test_break_even_refuses_the_usual_wrong_answers(capsys):
    def saved(n, pair, ask, product):
        return n * pair - (ask + n * product)

    wrong = {
        "ceil": lambda n, p, e, a, d: (
            "never" if saved(n, p, a, d) <= 0 else max(1, math.ceil(n * e / saved(n, p, a, d)))
        ),
        "round": lambda n, p, e, a, d: (
            "never" if saved(n, p, a, d) <= 0 else max(1, round(n * e / saved(n, p, a, d)))
        ),
        "no never": lambda n, p, e, a, d: max(1, math.floor(n * e / max(saved(n, p, a, d), 1e-9)) + 1),
        "products forgotten": lambda n, p, e, a, d: (
            "never" if n * p <= a else max(1, math.floor(n * e / (n * p - a)) + 1)
        ),
        "one product a question": lambda n, p, e, a, d: (
            "never" if n * p <= a + d else max(1, math.floor(n * e / (n * p - (a + d))) + 1)
        ),
        "question forgotten": lambda n, p, e, a, d: math.floor(e / p) + 1,
        "nan": lambda *_: math.nan,
        "none": lambda *_: None,
        "counted to 1,000": lambda n, p, e, a, d: next(
            (q for q in range(1, 1001) if n * e + q * (a + n * d) < q * n * p), "never"
        ),
    }
    for name, answer in wrong.items():
        lesson03.break_even(answer)
        assert capsys.readouterr().out.startswith("Not yet"), name
    for name in ("products forgotten", "one product a question"):
        lesson03.break_even(wrong[name])
        assert "product=0.008000 gives 6; it should be 51" in capsys.readouterr().out, name
    right = books.definitions(SOLUTION, "break_even")["break_even"]
    lesson03.break_even(lambda *costs: None if right(*costs) == "never" else right(*costs))
    assert "gives 'None'; it should be 'never'" in capsys.readouterr().out


def test_relevance_wants_a_plain_number(opened, capsys):
    cross, right = opened["cross"], books.definitions(SOLUTION, "relevance")
    right.update(opened, torch=torch)
    right = right["relevance"]
    wrong = {
        "a tensor": lambda q, p: torch.tensor([[right(q, p)]]),
        "a list": lambda q, p: [right(q, p)],
        "an array": lambda q, p: np.array([right(q, p)]),
    }
    for name, answer in wrong.items():
        lesson03.relevance(answer, cross)
        assert "a plain number is wanted; .item() makes one" in capsys.readouterr().out, name
    for name, answer in {"nan": lambda q, p: math.nan, "logit": lambda q, p: 8.7}.items():
        lesson03.relevance(answer, cross)
        assert capsys.readouterr().out.startswith("Not yet:"), name
    lesson03.relevance(lambda q, p: np.float32(right(q, p)), cross)
    assert capsys.readouterr().out.startswith("Right:")


def test_rerank_refuses_the_usual_wrong_answers(opened, capsys):
    cross, vectors = opened["cross"], opened["vectors"]

    def near(question, passages):
        return np.argsort(-(vectors(passages) @ vectors([question])[0]))

    def scores(question, passages):
        return cross.predict([(question, p) for p in passages], activation_fn=torch.nn.Identity())

    wrong = {
        "no reranking": lambda q, p, k: list(near(q, p)),
        "all reranked": lambda q, p, k: list(np.argsort(-scores(q, p))),
        "the tail lost": lambda q, p, k: list(near(q, p))[:k],
        "worst first": lambda q, p, k: list(near(q, p))[::-1],
        "the first k as they come": lambda q, p, k: [*np.argsort(-scores(q, p[:k])), *range(k, len(p))],
        "none": lambda q, p, k: None,
    }
    for name, answer in wrong.items():
        lesson03.rerank(answer, cross, opened["minilm"])
        assert capsys.readouterr().out.startswith("Not yet"), name
    lesson03.rerank(lambda q, p, k: [p[i] for i in near(q, p)], cross, opened["minilm"])
    assert "return the passages' numbers, not their texts" in capsys.readouterr().out


# what the sentences say ---------------------------------------------------------------------

PROSE = " ".join(
    " ".join(cell.source.split()) for cell in books.read(LESSON).cells if cell.cell_type == "markdown"
)
RAW = torch.nn.Identity()
TABLE = pd.read_csv(books.ROOT / "models" / "recipes" / "reranking.tsv", sep="\t")


def test_paris_and_the_others():
    assert re.findall(r"(0\.\d{4})  ", books.shown("03", "three")) == ["0.9998", "0.0553", "0.0918"]
    cosines = re.findall(r"cosine (\S+)", books.shown("03", "cosines"))
    assert cosines == ["0.84", "0.40", "0.41"] and "a wrong capital is near: 0.40." in PROSE
    assert "0.06 for Berlin, 0.09 for Madrid" in PROSE and "0.09 and 0.06" in PROSE
    assert books.shown("03", "cosines").endswith("\nthe same order\n")


def test_the_model_step_by_step(opened):
    shown = books.shown("03", "by-hand")
    assert "by hand 0.9998, by the library 0.9998" in shown and "pooled    shape (1, 384)" in shown


def test_the_sink():
    found = re.findall(r"(\d\.\d{3})  (\w+)", books.shown("03", "sink"))
    assert found[:2] == [("0.997", "Vinegar"), ("0.892", "The")]
    assert "0.000  A plunger." in books.shown("03", "sink") and '"A plunger." is a right answer too' in PROSE
    assert "comes first with 0.997" in PROSE and "with 0.892 not far behind" in PROSE


def test_what_reranking_is_worth():
    """Each figure in the prose is the table's, and four intervals of five lie above 0."""
    said = {
        "BM25": "from 0.684 to 0.835 (+0.151, interval 0.097 to 0.206)",
        "TF-IDF": "from 0.734 to 0.860",
        "mean GloVe": "from 0.386 to 0.613",
        "MiniLM, echoes among the passages": "from 0.460 to 0.657",
    }
    for stage, part in TABLE.groupby("first stage"):
        low, high = interval(part["after"] - part["before"])
        before, after = part["before"].mean(), part["after"].mean()
        if stage == "MiniLM":
            assert low < 0 < high
            assert f"{before:.3f} on these questions" in PROSE
            assert f"(+{after - before:.3f}, interval −{-low:.3f} to {high:.3f})" in PROSE
            assert round((part["before"] == 1).mean(), 1) == 0.9 and "first nine times in ten" in PROSE
            continue
        assert low > 0
        assert said[stage].startswith(f"from {before:.3f} to {after:.3f}") and said[stage] in PROSE
        if stage == "BM25":
            assert f"(+{after - before:.3f}, interval {low:.3f} to {high:.3f})" in said[stage]
        if stage == "mean GloVe":
            assert f"Mean GloVe gains most, {said[stage]} (+{after - before:.3f})" in PROSE
            gains = (TABLE["after"] - TABLE["before"]).groupby(TABLE["first stage"]).mean()
            assert gains.idxmax() == stage
        if "echoes" not in stage:
            assert (part["before"] > 0).mean() - after < 0.02
    assert "Reranking lifts {helped} of 5" in books.cell("03", "picture").source


def test_the_echoes(opened):
    """What is before the answer at place 2 is the question itself."""
    found = re.findall(r"first for +(\d+) questions of 100, second for (\d+)", books.shown("03", "echoes"))
    assert found == [("0", "83"), ("37", "53")]
    assert (
        "the answer comes second for 83" in PROSE and "moves 37 answers to the first place; for 53" in PROSE
    )
    pairs = data.qa_pairs(part="test")[:100]
    echo, answer = (
        opened["cross"].predict(list(zip(pairs["question"], pairs[column], strict=True)), activation_fn=RAW)
        for column in ("question", "answer")
    )
    after = TABLE.loc[TABLE["first stage"].str.contains("echoes"), "after"].to_numpy()
    assert (echo > answer)[after == 0.5].all() and not (echo > answer)[after == 1].any()
    above = re.search(r"above the answer for (\d+) of 100, for 53 of these 53", books.shown("03", "echoes"))
    assert (
        int(above[1]) == (echo > answer).sum()
        and f"the echo scores above the answer for {above[1]}:" in PROSE
    )


def test_the_live_questions_are_rows_of_the_table():
    part = TABLE[TABLE["first stage"] == "BM25"].iloc[:20]
    live = re.search(r"MRR (\S+), reranked (\S+)", books.shown("03", "live"))
    assert float(live[1]) == pytest.approx(part["before"].mean(), abs=6e-4)
    assert float(live[2]) == pytest.approx(part["after"].mean(), abs=6e-4)


def test_what_it_cannot_do():
    table = re.findall(
        r"(?m)^(.+?) {2,}(near miss|answer|echo|elsewhere|same subject) +(\S+) +(\d+) ",
        books.shown("03", "egg"),
    )
    place = {label.strip(): (int(at), float(score), kind) for label, kind, score, at in table}
    assert [place[label][0] for label in ("laying", "keeping", "boiling", "first egg")] == [1, 2, 3, 4]
    assert all(place[label][1] >= 0.99 for label in ("laying", "keeping", "boiling", "first egg"))
    answers = sorted((at, score) for at, score, kind in place.values() if kind == "answer")
    assert answers == [(7, 0.80), (13, 0.01), (16, 0.00)] and "is seventh with 0.80" in PROSE
    assert place["plan"][1] == 0.96 and place["the question"][1] == 0.93
    assert place["letter"][1] == 0.00 and "the letter of twenty-one days has 0.00" in PROSE
    words = re.findall(r"(?m)^(\d\.\d{4})  ", books.shown("03", "wording"))
    assert words == ["1.0000", "0.9999", "0.9997", "0.8040", "0.1122"]
    assert "*about twenty-one days of warmth* all get 1.00" in PROSE
    assert "*A chicken egg* in its place leaves 0.80, and *a chick* 0.11" in PROSE
    assert "has 0.96" in PROSE and "The echo has 0.93" in PROSE and "have 0.01 and 0.00" in PROSE


def test_relevant_is_not_true():
    scores = re.findall(r"(?m)^(\d\.\d{3})  ", books.shown("03", "truth"))
    assert scores[:5] == ["1.000"] * 5 and "Right and wrong get 1.000 alike" in PROSE
    assert scores[5:9] == ["0.999", "0.999", "0.936", "0.003"]
    assert "it leaves 0.999" in PROSE and "gives Paris 0.936 and Berlin 0.003" in PROSE
    assert scores[9:] == ["0.987", "0.000"]
    assert "gets 0.987 and the right answer in English 0.000" in PROSE
