"""Lesson 4: pooling against sentence-transformers, intervals by hand, and what its prose says."""

import re

import books
import numpy as np
import pytest
import torch
from scipy.stats import pearsonr
from sentence_transformers.sentence_transformer.modules import Pooling
from test_data import PUBLISHED_INPUTS
from test_originals_in_place import tiny_bert
from transformers import BertModel, BertTokenizer

from helpers import ROOT, pooling
from helpers.exercises import lesson04

LESSON = books.NOTEBOOKS / "04_mean_pooling_vs_sbert.ipynb"
SOLUTION = books.NOTEBOOKS / "solutions" / LESSON.name
POOLS = {"mean": "mean_pool", "cls": "cls_pool", "max": "max_pool"}


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """The lesson's definitions over a tiny BERT."""
    folder = tmp_path_factory.mktemp("models")
    tiny_bert(folder)
    folder = folder / "bert-base-uncased"
    names = (
        "real_tokens",
        *POOLS.values(),
        "embed",
        "one_by_one",
        "unit",
        "compare",
        "difference",
        "verdict",
        "centred",
        "token_lists",
        "within_and_across",
        "padding",
    )
    space = books.definitions(LESSON, *names)
    space["model"] = BertModel.from_pretrained(folder).eval()
    space["tokenizer"] = BertTokenizer.from_pretrained(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield space
    torch.set_num_threads(threads)


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(4, 7, 5, generator=draw)
    vectors[1] -= 9  # a row below zero: padding counted as 0 would win its maximum
    mask = (torch.arange(7)[None] < torch.tensor([7, 4, 1, 6])[:, None]).long()
    return vectors, mask


# pooling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", POOLS)
@pytest.mark.parametrize("kind", [torch.int64, torch.float32, torch.bool])
@pytest.mark.parametrize("side", ["right", "left"])
def test_pools_are_those_of_the_library(space, batch, mode, kind, side):
    vectors, mask = batch
    if side == "left":
        vectors, mask = vectors.flip(1), mask.flip(1)
    features = {"token_embeddings": vectors.clone(), "attention_mask": mask}
    wanted = Pooling(5, pooling_mode=mode)(features)["sentence_embedding"]
    for definition in (space[POOLS[mode]], getattr(pooling, POOLS[mode])):
        found = definition(vectors, mask.to(kind))
        assert found.shape == (4, 5) and torch.allclose(found, wanted, rtol=1e-5)


@pytest.mark.parametrize("mode", POOLS)
def test_padding_changes_nothing_and_a_row_of_it_is_refused(space, batch, mode):
    vectors, mask = batch
    for definition in (space[POOLS[mode]], getattr(pooling, POOLS[mode])):
        other = torch.where(mask.bool()[..., None], vectors, torch.tensor(1e4))
        assert torch.equal(definition(vectors, mask), definition(other, mask))
        mask_with_hole = mask.clone()
        mask_with_hole[2] = 0
        with pytest.raises(ValueError, match="a row is all padding: it has no token to pool"):
            definition(vectors, mask_with_hole)


def test_the_example_of_the_helper():
    vectors = torch.tensor([[[1.0, 4.0], [3.0, 2.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    found = (
        pooling.mean_pool(vectors, mask),
        pooling.cls_pool(vectors, mask),
        pooling.max_pool(vectors, mask),
    )
    assert str(found) in re.sub(r"\s+", " ", pooling.__doc__)


# encoding ---------------------------------------------------------------------------------

SENTENCES = [
    "A bat.",
    "The kettle is boiling over on the old stove in the kitchen.",
    "Why?",
    "It rained.",
    "She read the letter twice, then put it away.",
] * 3


@pytest.mark.parametrize("size", [1, 4, 32])
def test_batches_give_the_vectors_of_single_sentences_in_order(space, size):
    mean, cls = space["embed"](SENTENCES, space["mean_pool"], space["cls_pool"], size=size)
    assert mean.shape == cls.shape == (15, 48)
    assert np.abs(mean - space["one_by_one"](SENTENCES)).max() < 1e-5
    for sentence, vector in zip(SENTENCES[:5], cls, strict=False):
        with torch.no_grad():
            states = space["model"](**space["tokenizer"](sentence, return_tensors="pt")).last_hidden_state
        assert np.allclose(vector, states[0, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ([], "there is no sentence"),
        (["One.", " \n"], "one of the sentences is empty"),
        (["One.", "bat " * 511], "a sentence has 513 pieces; this model takes at most 512"),
    ],
)
def test_bad_input_gets_one_sentence(space, sentences, message):
    with pytest.raises(ValueError, match=message):
        space["embed"](sentences, space["mean_pool"])
    if sentences:
        assert space["compare"](*sentences) == f"not possible: {message}"


def test_padding_is_counted(space):
    masks = space["tokenizer"](SENTENCES[:4], padding=True, return_tensors="pt").attention_mask
    lengths = masks.sum(1).tolist()
    assert space["padding"](lengths, 4) == pytest.approx(1 - masks.float().mean().item())
    assert space["padding"](lengths, 1) == 0


# measures ---------------------------------------------------------------------------------


def test_the_interval_is_the_middle_of_correlations_of_rows_drawn_again():
    space = books.definitions(LESSON, "pearson", "interval")
    draw = np.random.default_rng(1)
    x = draw.normal(size=80)
    y = x + draw.normal(size=80)
    rows = np.random.default_rng(7).integers(80, size=(2_000, 80))
    by_hand = np.percentile([pearsonr(x[r], y[r]).statistic for r in rows], [2.5, 97.5])
    assert np.allclose(space["interval"](x, y), by_hand, atol=0.02)


def test_a_difference_is_of_the_same_draws():
    space = books.definitions(LESSON, "pearson", "interval", "difference", "verdict")
    draw = np.random.default_rng(2)
    space["gold"] = draw.random(60)
    good, bad = space["gold"] + 0.05 * draw.random(60), draw.random(60)
    assert space["difference"](good, good + 0.3, 60) == pytest.approx([0, 0])
    assert space["verdict"](*space["difference"](good, bad, 60)) == "better"
    assert space["verdict"](*space["difference"](bad, good, 60)) == "worse"
    assert space["verdict"](-0.1, 0.1) == "not settled"


def test_fishers_interval_of_the_published_figure_is_scipys():
    cell = next(c for c in books.code(books.read(LESSON)) if "arctanh(0.9304)" in c.source)
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, 50))
    a, b = (v - v.mean() for v in (a, b))
    b -= a * (a @ b) / (a @ a)
    y = 0.9304 * a / np.linalg.norm(a) + np.sqrt(1 - 0.9304**2) * b / np.linalg.norm(b)
    found = pearsonr(a, y)
    assert found.statistic == pytest.approx(0.9304)
    low, high = found.confidence_interval()
    assert f"95 % interval {low:.3f} to {high:.3f}; on all rows 0.827, outside" in books.text(cell)


def test_within_and_across_are_the_means_over_pairs_of_tokens(space):
    draw = torch.Generator().manual_seed(0)
    lists = [torch.randn(k, 6, generator=draw) + 1 for k in (2, 5, 3)]
    cosine = torch.nn.functional.cosine_similarity
    inside = [
        np.mean([cosine(a, b, dim=0) for i, a in enumerate(t) for j, b in enumerate(t) if i != j])
        for t in lists
    ]
    between = [
        np.mean([cosine(a, b, dim=0) for a in lists[i] for b in lists[j]])
        for i in range(3)
        for j in range(3)
        if i != j
    ]
    assert space["within_and_across"](lists) == pytest.approx((np.mean(inside), np.mean(between)), abs=1e-5)


def test_token_lists_hold_what_the_mean_averages(space):
    means = space["embed"](SENTENCES, space["mean_pool"])[0]
    lists = space["token_lists"](SENTENCES)
    assert np.allclose([t.mean(0) for t in lists], means, atol=1e-5)


def test_the_mean_cosine_is_the_squared_length_of_the_mean(space):
    draw = np.random.default_rng(0)
    rows = space["unit"](draw.normal(size=(40, 5)) + 1)
    assert np.linalg.norm(rows.mean(axis=0)) ** 2 == pytest.approx((rows @ rows.T).mean())
    assert np.abs(space["centred"](rows).mean(axis=0)).max() < 1e-12


# what the prose says ----------------------------------------------------------------------


def test_the_suspects_are_cleared_as_the_prose_says():
    said = "\n".join(books.text(c) for c in books.code(books.read(LESSON)))
    assert "mean pooling\nthe average of its token vectors is its sentence vector: True" in said
    columns = re.findall(r"unrelated sentences (\S+), squared length of the mean (\S+)", said)
    assert len(columns) == 5 and all(abs(float(a) - float(b)) < 0.015 for a, b in columns)
    after = re.findall(r"unrelated \S+ -> (\S+); Pearson", said)
    assert len(after) == 5 and all(float(x) < 0.02 for x in after)


def test_averages_of_more_tokens_are_more_alike():
    cell = next(c for c in books.code(books.read(LESSON)) if c.source.startswith("draw = "))
    for line in books.text(cell).splitlines():
        values = [float(x) for x in re.findall(r"\d+: (\S+)", line)]
        assert len(values) == 6 and values == sorted(values), line


def test_raw_bert_and_sbert_differ_as_the_lesson_is_about(space):
    """On the saved run: unrelated messages, and what a sentence's tokens share."""
    said = "\n".join(books.text(c) for c in books.code(books.read(LESSON)))
    raw, trained = map(float, re.findall(r"median of unrelated messages (\S+),", said))
    assert raw - trained >= 0.3
    raw, trained = map(int, re.findall(r"share, (\d+)% all sentences share", said))
    assert raw > trained


def test_the_messages_are_the_published_ones():
    cell = next(c for c in books.code(books.read(LESSON)) if c.source.startswith("messages = ["))
    messages = re.findall(r'"([^"]{10,})"', cell.source)[:11]
    lowered = " ".join(messages).lower()
    known = [words for words in PUBLISHED_INPUTS if words in lowered]
    assert len(messages) == 11 and known
    assert messages[0] == "I like my phone" and messages[10] == "what is your age?"
    table = (ROOT / "shared_data" / "sts_sample.tsv").read_text(encoding="utf-8")
    assert not any(message in table for message in messages)


# the checks of the exercises --------------------------------------------------------------

NAMES = ("mean_of_words", "mean_cosine", "without_top")


def test_the_worked_answers_are_right_and_the_blanks_are_not(capsys):
    books.judge_exercises(lesson04, SOLUTION, capsys, *NAMES, also=("unit",))


def test_the_checks_explain_wrong_answers(capsys):
    def table_of_all(vectors):
        rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.linalg.norm(rows.mean(axis=0)) ** 2  # each row's cosine with itself is in it

    wrong = {
        "mean_of_words": [pooling.mean_pool, lambda t, m: t[:, 1:-1].mean(dim=1), lambda t, m: 1 / 0],
        "mean_cosine": [table_of_all, lambda v: (v.sum(0) @ v.sum(0) - len(v)) / (len(v) * (len(v) - 1))],
        "without_top": [lambda v, k: v - v.mean(axis=0), lambda v, k: v[:1], lambda v, k: v],
    }
    for name, functions in wrong.items():
        for function in functions:
            getattr(lesson04, name)(function)
            assert capsys.readouterr().out.startswith(f"Not yet: {name} for"), name
