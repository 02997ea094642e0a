"""Lesson 4: pooling against sentence-transformers, intervals by hand, and what its prose says."""

import itertools
import logging
import re

import books
import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from sklearn.decomposition import PCA
from test_data import PUBLISHED_INPUTS
from test_originals_in_place import tiny_bert
from transformers import BertModel, BertTokenizer

from helpers import ROOT, data, models, pooling
from helpers.exercises import lesson04

LESSON = books.NOTEBOOKS / "04_mean_pooling_vs_sbert.ipynb"
SOLUTION = books.NOTEBOOKS / "solutions" / LESSON.name
SOURCE = "\n".join(c.source for c in books.read(LESSON).cells if c.cell_type == "markdown")
PROSE = " ".join(SOURCE.split())
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
        "common_words",
        "pearson",
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


def test_a_text_that_is_too_long_is_told_once(space, caplog):
    logger = logging.getLogger("transformers")
    level = logger.level  # another test may have silenced the library
    logger.addHandler(caplog.handler)
    logger.setLevel(logging.WARNING)
    space["tokenizer"].deprecation_warnings.clear()  # it warns once, and may have done so
    try:
        with pytest.raises(ValueError, match="602 pieces"):
            space["embed"](["bat " * 600], space["mean_pool"])
        assert not caplog.records
        space["tokenizer"]("bat " * 600)  # the library's own warning would have been seen
        assert "longer than the specified maximum" in caplog.text
    finally:
        logger.setLevel(level)
        logger.removeHandler(caplog.handler)


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
    space = books.definitions(LESSON, "pearson", "spearman", "interval", "difference")
    draw = np.random.default_rng(2)
    space["gold"] = draw.random(60)
    good, bad, rows = space["gold"] + 0.05 * draw.random(60), draw.random(60), np.arange(60) < 40
    assert space["difference"](good, good + 0.3, rows) == pytest.approx([0, 0])
    assert min(space["difference"](good, bad, rows)) > 0 > max(space["difference"](bad, good, rows))
    assert max(np.abs(space["difference"](good, np.exp(9 * good), rows, space["spearman"]))) < 1e-12
    assert min(space["difference"](good, np.exp(9 * good), rows)) > 0.01
    other = np.where(rows, bad, 0)  # what is not in the rows does not count
    assert space["difference"](good, other, rows) == space["difference"](good, bad, rows)


def test_spearman_is_scipys():
    space = books.definitions(LESSON, "pearson", "spearman")
    x, y = np.random.default_rng(3).integers(9, size=(2, 5, 40))  # with ties
    wanted = [spearmanr(a, b).statistic for a, b in zip(x, y, strict=True)]
    assert space["spearman"](x, y, axis=-1) == pytest.approx(wanted)


def test_common_words_are_counted_once(space):
    assert space["common_words"]("The cat, the CAT!", "A cat sat.") == 1 / 4
    assert space["common_words"]("7.30 pm", "7.30 pm") == 1 and space["common_words"]("?", "!") == 0


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_whitening_is_that_of_sklearn(share):
    space = books.definitions(LESSON, "centred", "whitened")
    vectors = np.random.default_rng(4).normal(size=(50, 6)) * [9, 5, 3, 2, 1, 1] + 4
    found = space["whitened"](vectors, share)
    pca = PCA(n_components=share if share < 1 else None, whiten=True)
    wanted = pca.fit_transform(vectors)
    assert found.shape == wanted.shape
    assert np.allclose(found @ found.T * 49, wanted @ wanted.T)  # signs of directions are free


def test_fishers_interval_of_the_published_figure_is_scipys():
    draw = np.random.default_rng(0)
    a, b = draw.normal(size=(2, 50))
    a, b = (v - v.mean() for v in (a, b))
    b -= a * (a @ b) / (a @ a)
    y = 0.930 * a / np.linalg.norm(a) + np.sqrt(1 - 0.930**2) * b / np.linalg.norm(b)
    found = pearsonr(a, y)
    assert found.statistic == pytest.approx(0.930)
    low, high = found.confidence_interval()
    assert f"95 % interval {low:.3f} to {high:.3f}; on all rows 0.827, outside" in books.shown("04", "fisher")
    assert "No: 0.827 lies outside the interval" in PROSE


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


def shown(tag):
    return books.shown("04", tag)


def table(tag):
    """A printed DataFrame of one line a row: label -> its numbers."""
    rows = re.findall(r"(?m)^([A-Za-z][^\d\n]*?) {2,}(-?\d.*)$", shown(tag))
    return {label: [float(x) for x in numbers.split()] for label, numbers in rows}


def differences(tag):
    """(group, what is compared) -> for Pearson and Spearman "difference low high", signs as in the prose."""
    found = re.findall(r"(?m)^(.+?)  +(\S.*? +minus \S.*?)  +(pearson.*)$", shown(tag))
    each = r"\w+ (\S+) \((\S+) to (\S+)\)"
    return {
        (group, " ".join(name.split())): [[signed(x) for x in numbers] for numbers in re.findall(each, line)]
        for group, name, line in found
    }


def signed(x):
    """A printed number as the prose has it: no plus, and a true minus."""
    return x.lstrip("+").replace("-", "−")


def test_what_is_inherited_is_the_cards():
    card = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    rows = {
        "mean-pooled Pearson, STS Benchmark development part": "Pearson with the scores, development rows",
        "median cosine of unrelated messages among the eleven of lesson 4": "median cosine of the unrelated",
    }
    for there, here in rows.items():
        columns = next(line for line in card.splitlines() if line.startswith(f"| {there}")).split("|")[2:5]
        stand_in, scratch, sbert = (re.search(r"0\.\d{3}", column)[0] for column in columns)
        said = next(line for line in SOURCE.splitlines() if line.startswith(f"| {here}"))
        assert re.findall(r"0\.\d{3}", said) == [stand_in, scratch, sbert]
        assert abs(float(scratch) - float(sbert)) > abs(float(stand_in) - float(sbert))
    for said in ("4 layers of 256", "2 hours and 20 minutes"):
        assert said in card and said in PROSE
    row = "Pearson with the scores, development rows of the STS Benchmark"
    ours, random_start = re.search(rf"{row} \| (\S+) \| (\S+) \|", PROSE).groups()
    assert f"{float(random_start):.2f} for the stand-in's {float(ours):.2f} on the STS Benchmark" in PROSE


def test_pooling_and_padding():
    assert "[4.33, 5.67]" in shown("pools") and "(2, 4). Without it the padding joins in" in PROSE
    assert "makes it (4.33, 5.67)" in PROSE and "mean_pool  [[3.0, 2.0], [2.0, 4.0]]" in shown("pools")
    come, by_length = re.search(r"as they come (\d+)%, sorted by length (\d+)%", shown("padding")).groups()
    assert f"is padding ({come} %); sorted by length, {by_length} %" in PROSE and 30 <= int(come) <= 36


def test_the_messages_and_the_kettle():
    said = shown("messages")
    pair = re.findall(r"snow and paleo (\S+);", said)
    medians = re.findall(r"median of unrelated messages (\S+)", said)
    near = re.findall(r"same topic: (\d+) of 11", said)
    assert f"raw BERT gives snow and paleo {pair[0]}, SBERT {pair[1]}" in PROSE
    assert f"of all unrelated messages are {medians[0]} and {medians[1]}" in PROSE
    assert near[1] == "11" and f"In raw BERT for {near[0]} of 11, in SBERT for all 11" in PROSE
    assert float(medians[0]) - float(medians[1]) >= 0.3
    inside = dict(re.findall(r"(\w+) (\d\.\d\d)", re.search(r"inside a topic: (.*)", said)[1]))
    assert "do not stand out (medians inside the topic {weather} and {food})".format(**inside) in PROSE
    assert "phones and age do ({phones} and {age})".format(**inside) in PROSE
    over = {name: float(x) - float(medians[0]) for name, x in inside.items()}
    assert max(over["weather"], over["food"]) < 0.05 and min(over["phones"], over["age"]) > 0.3
    tea, parliament, dog = re.findall(r"raw BERT +(\S+) +SBERT +(\S+)", shown("compare"))
    assert f"Parliament have {parliament[0]} in raw BERT, nearly the {tea[1]} that SBERT gives" in PROSE
    assert float(tea[1]) - float(parliament[0]) < 0.05
    assert "whoever bites: {} and {}.".format(*dog) in PROSE and "Man bites dog." in shown("compare")
    assert "reads at most 256 pieces" in books.text(books.code(books.read(LESSON))[0])
    assert "longer than 256 pieces SBERT reads the beginning" in PROSE


def test_the_groups():
    sizes = dict(re.findall(r"([a-z ]+): (\d+) pairs", shown("pairs")))
    found = {group.strip(): int(size) for group, size in sizes.items()}
    assert found == {"all": 300, "plain": 122, "other words": 37, "same words": 141}
    assert "122 are plain. In 141 the two sentences share many" in PROSE and "37 say the same in" in PROSE
    pairs = data.sts(data.SHARED / "sts_sample.tsv")
    assert pairs.loc[pairs["kind"] == "paraphrase", "score"].min() >= 4 and "all scored 4 to 5" in PROSE


def test_common_words_lift_a_cosine():
    rows = table("heights")
    (_, same_score, common, same_bert, same_sbert) = rows["same words"]
    (_, other_score, few, other_bert, other_sbert) = rows["other words"]
    assert same_score < other_score and same_bert > other_bert and same_sbert > other_sbert and common > few
    assert f"a mean cosine of {same_sbert:.2f} in SBERT and {same_bert:.2f} in raw BERT" in PROSE
    assert f"pairs of other words {other_sbert:.2f} and {other_bert:.2f}" in PROSE
    assert f"scored {same_score} on average and the second {other_score}" in PROSE
    by_score = re.findall(r"\d to \d: (\S\.\d\d)", shown("heights"))
    assert len(by_score) == 5 and by_score[0] < by_score[1] < by_score[2] > by_score[3] > by_score[4]
    assert (
        "from {} over {} to {} for scores of 2 to 3, and then falls a little, to {} and {}:".format(*by_score)
        in PROSE
    )
    (top,) = re.findall(r"without the pairs in other words: (\S+)", shown("heights"))
    assert top > by_score[2] and f"Without them it is {top} there" in PROSE


def test_common_words_lift_the_cosines_of_low_and_middle_scores_alone():
    """The title of the figure: plain pairs against pairs of the same words, band by band."""
    assert "At low and middle scores, common words lift the cosine" in books.cell("04", "scatter").source
    space = books.definitions(LESSON, "unit")
    pairs = data.sts(data.SHARED / "sts_sample.tsv")
    minilm = SentenceTransformer(
        str(models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)), device="cpu"
    )
    a, b = (space["unit"](minilm.encode(list(pairs[column]))) for column in ("sentence1", "sentence2"))
    pairs["cosine"] = (a * b).sum(axis=1)
    plain, same = pairs["kind"] == "plain", ~pairs["kind"].isin(["plain", "paraphrase"])
    for low in (0, 1, 2, 3):
        band = (pairs["score"] >= low) & (pairs["score"] < low + 1)
        gap = pairs["cosine"][band & same].mean() - pairs["cosine"][band & plain].mean()
        assert gap > 0.1, (low, gap)
    band = pairs["score"] >= 4
    assert abs(pairs["cosine"][band & same].mean() - pairs["cosine"][band & plain].mean()) < 0.05


def test_who_agrees_with_the_scores_on_which_pairs():
    rows = table("agreement")
    columns = ["all", "all s", "plain", "plain s", "same words", "same words s"]
    pearson = {name: dict(zip(columns, numbers, strict=True)) for name, numbers in rows.items()}
    bert, sbert, glove = pearson["BERT, mean"], pearson["SBERT"], pearson["GloVe, mean"]
    counting = pearson["common words"]
    assert f"Pearson {bert['plain']}, where SBERT has {sbert['plain']}" in PROSE
    assert counting["plain"] == glove["plain"]
    assert f"common words reaches {counting['plain']} there, and the average of GloVe vectors, also" in PROSE
    said = f"−{-counting['same words']:.2f}, GloVe at −{-glove['same words']:.2f} and raw BERT's average at"
    assert f"{said} {bert['same words']}. SBERT has {sbert['same words']}." in PROSE
    assert f"raw BERT has {bert['all']} and SBERT {sbert['all']}" in PROSE
    levels = re.findall(r"over all pairs (\S+), with .* moved to its mean score (\S+)", shown("agreement"))
    assert [float(before) for before, _ in levels] == [bert["all"], sbert["all"]]
    assert "they would have {} and {}.".format(*(moved for _, moved in levels)) in PROSE
    assert all(float(before) < float(moved) for before, moved in levels)
    cls = pearson["BERT, [CLS]"]
    assert f"on pairs of the same words, {bert['same words']} to {cls['same words']}." in PROSE
    assert f"plain pairs: Pearson {bert['plain']}, SBERT {sbert['plain']}" in PROSE
    assert f"(all pairs of the same words: {bert['same words']}, SBERT {sbert['same words']})" in PROSE
    assert f"SBERT's own {sbert['all']} over all pairs is far from the 0.98" in PROSE
    order = [pearson[name]["all s"] for name in ("BERT, [CLS]", "BERT, mean", "GloVe, mean")]
    assert order == sorted(order, reverse=True)
    assert "[CLS] ({}) before the mean ({}), and of these three GloVe last ({})".format(*order) in PROSE


def test_fifty_rows_and_all():
    found = re.findall(r"(?m)^\d+ +(.+?) +(50|300) +(\S+) +(\S+) +(\S+)$", shown("intervals"))
    at = {(name, rows): numbers for name, rows, *numbers in found}
    sbert, bert = at["SBERT", "50"], at["BERT, mean", "50"]
    assert "On 50 rows SBERT has {}, with an interval from {} to {}, and".format(*sbert) in PROSE
    assert "mean-pooled BERT {}, from {} to {}. The bars overlap.".format(*bert) in PROSE
    assert float(bert[2]) > float(sbert[1])
    width = {
        r: np.mean([float(h) - float(w) for (_, k), (_, w, h) in at.items() if k == r]) for r in ("50", "300")
    }
    assert width["50"] > 2 * width["300"]


def test_sbert_is_better_in_every_group_and_by_how_much():
    found = differences("differences")
    assert len(found) == 12 and all(len(both) == 2 for both in found.values())
    ahead = {name: both for name, both in found.items() if name[1].startswith("SBERT")}
    assert len(ahead) == 8 and "No interval of SBERT's lead reaches 0" in PROSE
    assert not any("−" in low or float(low) == 0 for both in ahead.values() for _, low, _ in both)
    plain, same = (found[group, "SBERT minus BERT, mean"][0] for group in ("plain", "same words"))
    assert "it gains {} in Pearson on plain pairs ({} to {})".format(*plain) in PROSE
    assert "and {} on pairs of the same words ({} to {})".format(*same) in PROSE
    assert f"took {plain[0]} of Pearson from it on plain pairs and {same[0]} on pairs of the same" in PROSE
    cls = {group: found[group, "BERT, [CLS] minus BERT, mean"][0] for group in ("all", "plain", "same words")}
    assert "by {} on pairs of the same words ({} to {}) and by".format(*cls["same words"]) in PROSE
    assert "and by {} over all ({} to {}); on plain".format(*cls["all"]) in PROSE
    assert "no difference to be seen ({1} to {2})".format(*cls["plain"]) in PROSE
    assert cls["plain"][1].startswith("−") and not cls["plain"][2].startswith("−")


def test_the_five_kinds_of_the_same_words():
    page = books.cell("04", "kinds").outputs[-1].data["text/html"]
    rows = re.findall(r"<th>(\w+)</th>((?:\s*<td>.*?</td>)+)", page)
    kinds = {name: re.findall(r"<td>(.*?)</td>", cells) for name, cells in rows}
    assert sorted(kinds) == ["detail", "negation", "number", "overlap", "roles"]
    sizes = [int(row[0]) for row in kinds.values()]
    assert sum(sizes) == 141 and f"A kind has {min(sizes)} to {max(sizes)} pairs" in PROSE
    score, bert_height, sbert_height, count, bert, sbert, lead = (
        {name: row[place] for name, row in kinds.items()} for place in range(1, 8)
    )
    ends = {name: [float(x) for x in re.findall(r"[-+]\d\.\d+", text)] for name, text in lead.items()}
    assert all(low < 0 < high for low, high in (ends[k] for k in ("overlap", "detail", "negation")))
    assert all(low > 0 for low, _ in (ends["number"], ends["roles"]))
    said = f"{bert['overlap']} to {sbert['overlap']} and {bert['detail']} to {sbert['detail']}, and so does"
    assert said in PROSE and f"common words ({count['overlap']} and {count['detail']})" in PROSE
    assert f"on **number** ({signed(bert['number'])}, SBERT {sbert['number']})" in PROSE
    assert f"on **roles** ({bert['roles']}, SBERT {sbert['roles']})" in PROSE
    assert f"it has {bert['negation']} and SBERT {sbert['negation']}; these {kinds['negation'][0]}" in PROSE
    assert f"is scored {score['overlap']} on average and *detail* {score['detail']}," in PROSE
    assert f"mean cosines of {bert_height['overlap']} and {bert_height['detail']}, SBERT" in PROSE
    assert f", SBERT {sbert_height['overlap']} and {sbert_height['detail']}." in PROSE
    without = re.search(r"Pearson (\S+) in BERT, mean, (\S+) in SBERT", shown("kinds")).groups()
    assert "Without the means of the kinds raw BERT has {}, SBERT {}.".format(*without) in PROSE
    assert float(without[0]) > table("agreement")["BERT, mean"][4]
    equal = dict(re.findall(r"(\w+): cosine 1 in GloVe for (\d+ of \d+) pairs", shown("kinds")))
    roles, number = (equal[name].replace("of", "of the") for name in ("roles", "number"))
    assert f"{roles} pairs of roles and {number} of numbers both sentences" in PROSE
    assert [v.split()[0] for k, v in equal.items() if k not in ("roles", "number")] == ["0"] * 3


def test_the_suspects_are_cleared_as_the_prose_says():
    said = "\n".join(books.text(c) for c in books.code(books.read(LESSON)))
    assert "mean pooling\nthe average of its token vectors is its sentence vector: True" in said
    columns = re.findall(r"(?m)^(.+?) +unrelated sentences (\S+), squared.* mean (\S+)", shown("anisotropy"))
    assert len(columns) == 5 and all(abs(float(a) - float(b)) < 0.015 for _, a, b in columns)
    unrelated = {name: a for name, a, _ in columns}
    assert f"{unrelated['BERT, mean']} in raw BERT's average and of {unrelated['SBERT']} in SBERT" in PROSE
    cls = table("agreement")["BERT, [CLS]"][0]
    assert f"(unrelated {unrelated['BERT, [CLS]']}, the mean {unrelated['BERT, mean']})" in PROSE
    assert f"the higher Pearson ({cls}, the mean {table('agreement')['BERT, mean'][0]})" in PROSE
    raw, trained = map(int, re.findall(r": (\d+)% of what a sentence's tokens share", shown("tokens")))
    assert f"In raw BERT {raw} % of what they have in common" in PROSE and f"in SBERT {trained} %" in PROSE
    assert raw > trained
    within = re.findall(r"tokens of one sentence (\S+),", shown("tokens"))[1]
    sixteen = re.findall(r"16: (\S+)", shown("curves"))[1]
    said = f"At 16 tokens SBERT is at {sixteen}, and yet its real sentences are at {unrelated['SBERT']}:"
    assert said in PROSE and f"also share that sentence ({within}, above)" in PROSE
    assert f"hence {columns[4][2]} beside {columns[4][1]}" in PROSE


def test_averages_of_more_tokens_are_more_alike():
    ends = []
    for line in shown("curves").splitlines():
        values = re.findall(r"\d+: (\S+)", line)
        assert len(values) == 6 and list(map(float, values)) == sorted(map(float, values)), line
        ends += [f"from {values[0]} to {values[-1]}"]
    assert f"raw BERT's {ends[0]} and SBERT's {ends[1]}" in PROSE


def test_what_the_cures_mend():
    page = books.cell("04", "cures").outputs[-1].data["text/html"]
    labels = itertools.product(
        ["GloVe, mean", "BERT, mean", "SBERT"],
        ["centred", "whitened, 90 %", "whitened, 99 %"],
        ["unrelated", "all", "plain", "same words"],
    )
    at = dict(zip(labels, re.findall(r"<td>(.*?)</td>", page), strict=True))
    assert all(at.pop(label).endswith("→ 0.00") for label in list(at) if label[2] == "unrelated")
    change = r"(\S+) → (\S+) \((\S+) to (\S+)\)"
    at = {label: re.fullmatch(change, said).groups() for label, said in at.items()}
    assert "each cure takes unrelated sentences to 0.00" in PROSE and len(at) == 27
    by_rank = {name: numbers[1::2] for name, numbers in table("agreement").items()}
    for (name, _, group), (before, *_) in at.items():
        assert float(before) == by_rank[name][["all", "plain", "same words"].index(group)]

    plain, same = (at["GloVe, mean", "centred", group] for group in ("plain", "same words"))
    assert "on plain pairs from {} to {} ({} to {}), as much as".format(*plain) in PROSE
    assert plain[1] == at["BERT, mean", "centred", "plain"][0]
    assert "same words from {} to {} ({} to {}).".format(signed(same[0]), *same[1:]) in PROSE
    assert all(low.startswith("+") for _, _, low, _ in (plain, same))
    lows = {label: float(b) - float(a) for label, (a, b, *_) in at.items()}
    assert max(lows, key=lows.get)[0] == "GloVe, mean" and "largest gains of the table are GloVe's" in PROSE

    sbert = at["SBERT", "whitened, 90 %", "plain"]
    said = "on plain pairs {} to {} ({} to {}).".format(*sbert[:2], *map(signed, sbert[2:]))
    assert said in PROSE and float(sbert[3]) < 0
    weak = at["BERT, mean", "whitened, 99 %", "all"]
    said = "With 99 % Spearman falls from {} to {} over all ({} to {})"
    assert said.format(*weak[:2], *map(signed, weak[2:])) in PROSE and float(weak[3]) < 0
    centred = [at["BERT, mean", "centred", group] for group in ("all", "plain", "same words")]
    assert all(float(low) < 0 < float(high) for *_, low, high in centred)
    assert "each interval holds 0. So do those of centring." in PROSE


def test_the_directions_that_hold_90_percent():
    found = re.findall(
        r"(?m)^(.+?) +90 % of the variance: (\d+) directions, 99 %: \d+, of (\d+)$", shown("whitening")
    )
    at = {name: numbers for name, *numbers in found}
    said = "is in {} of raw BERT's {} directions, {} of SBERT's {} and {} of GloVe's {}."
    assert said.format(*at["BERT, mean"], *at["SBERT"], *at["GloVe, mean"]) in PROSE


def test_whitening_mends_the_height_and_not_the_order():
    found = differences("left")
    change = {group: both for (group, name), both in found.items() if name == "whitened minus BERT, mean"}
    assert list(change) == ["all", "plain", "same words"]
    ranks = [both[1] for both in change.values()]
    assert all(low.startswith("−") and not high.startswith("−") for _, low, high in ranks)
    said = "Spearman {} over all pairs, +{} on plain ones, +{} on pairs of the same words"
    assert said.format(*(gain for gain, *_ in ranks)) in PROSE and "each interval holds 0" in PROSE
    (plain, _), (overall, _) = change["plain"], change["all"]
    assert "gains {} on plain pairs ({} to {})".format(*plain) in PROSE and "−" not in plain[1]
    (agree,) = re.findall(r"after whitening, by rank: (\S+)", shown("left"))
    assert f"(before and after agree to {agree})" in PROSE
    assert "loses {} over all ({} to {})".format(overall[0].lstrip("−"), *overall[1:]) in PROSE
    assert overall[2].startswith("−")


def test_what_is_left_after_whitening():
    found = differences("left")
    plain, same = (found[group, "SBERT minus whitened"] for group in ("plain", "same words"))
    assert "still {} of Pearson ahead of whitened BERT on plain pairs ({} to {})".format(*plain[0]) in PROSE
    assert "and {} on pairs of the same words ({} to {})".format(*same[0]) in PROSE
    assert not any("−" in number for both in (plain, same) for numbers in both for number in numbers)


def test_the_threshold():
    found = re.findall(r"(?m)^(.+?) +above 0.5: +(\S+)% of unr.*?, +(\d+)% of", shown("threshold"))
    shares = {name: numbers for name, *numbers in found}
    raw, centred = shares["BERT, mean"][0], shares["centred"]
    assert f"raw BERT calls {raw} % of unrelated pairs similar, and centred {centred[0]} %;" in PROSE
    assert centred[1] == "75" and "misses a quarter of the pairs scored 4 to 5" in PROSE


def test_the_published_distance_and_ours():
    ours = [float(x) for x in re.findall(r"Pearson, 50 rows +(0\.\d{3}) \(p", shown("published"))]
    (raw, sbert, *rest) = ours
    assert (raw, sbert) == (0.321, 0.930) and len(rest) == 2
    assert f"{sbert - raw:.2f} between the published figures of fifty rows" in PROSE
    gap = differences("differences")["first 50", "SBERT minus BERT, mean"][0][0]
    assert f"{float(gap):.2f} between ours" in PROSE and f"{rest[1] - rest[0]:.2f}" == f"{float(gap):.2f}"


def test_what_the_solutions_say():
    prose = " ".join(" ".join(c.source.split()) for c in books.read(SOLUTION).cells)
    each = r"all (\S+), plain (\S+), same words (\S+)"
    (_, plain, same), (_, alone_plain, alone_same) = re.findall(each, books.shown("04", "words-alone", True))
    assert plain == alone_plain and f"{plain} on plain pairs both ways" in prose
    assert f"{alone_same} in place of {same} on pairs of the same words" in prose
    rows = re.findall(rf"unrelated (\S+); Pearson {each}", books.shown("04", "top", True))
    assert len(rows) == 5 and all(unrelated == "0.00" for unrelated, *_ in rows[1:])
    (_, _, plain, same), (_, _, plain3, same3), (_, _, plain10, same10) = rows[0], rows[3], rows[4]
    assert f"rises from {plain} to {plain3} with *k* = 3 and is back at {plain10} with *k* = 10" in prose
    assert f"it goes from {same} to {same3} and {same10}" in prose


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


def cosines_of_all(vectors):
    rows = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return rows @ rows.T


def cosines_of_tensor(vectors, dtype=None, rows=slice(None)):
    unit = torch.nn.functional.normalize(torch.tensor(vectors), dim=1).to(dtype)
    return unit[rows] @ unit.T


def of_tensor(table):
    """The mean of a table's cosines without the diagonal."""
    n = len(table)
    return ((table.sum(dtype=torch.float64) - n) / (n * (n - 1))).item()


def in_blocks(size, kind=None, library="numpy"):
    """A fair answer: the table's rows come and go, some at a time."""

    def mean_cosine(vectors):
        n, total = len(vectors), 0.0
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        unit = unit.astype(kind) if kind else unit
        unit = torch.from_numpy(unit) if library == "torch" else unit
        for start in range(0, n, size):
            total += float((unit[start : start + size] @ unit.T).sum())
        return (total - n) / (n * (n - 1))

    return mean_cosine


def with_a_mask(vectors):
    """A fair answer that takes out the diagonal of each block."""
    unit, kept = vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 0.0
    for start in range(0, len(unit), 1000):
        block = unit[start : start + 1000].astype(float) @ unit.T.astype(float)
        rows = np.arange(len(block))
        other = np.ones(block.shape, dtype=bool)
        other[rows, start + rows] = False
        kept += block[other].sum()
    return kept / len(unit) / (len(unit) - 1)


def broadcast_in_torch(vectors):
    """A fair answer: torch's own cosine_similarity, 1,000 rows at a time."""
    rows, total = torch.tensor(vectors), 0.0
    for start in range(0, len(rows), 1000):
        some = rows[start : start + 1000, None]
        total += torch.cosine_similarity(some, rows[None], dim=2).double().sum().item()
    return (total - len(rows)) / (len(rows) * (len(rows) - 1))


def row_by_row(vectors):
    rows = torch.nn.functional.normalize(torch.tensor(vectors, requires_grad=True), dim=1)
    total = sum((rows @ row).sum().item() for row in rows)
    return (total - len(rows)) / (len(rows) * (len(rows) - 1))


FAIR = {
    "blocks of 1,000 rows": in_blocks(1000),
    "blocks of 1,000 rows in float32": in_blocks(1000, "float32"),
    "blocks of 1,000 rows in float64": in_blocks(1000, "float64"),
    "blocks of 1,000 rows without their diagonal": with_a_mask,
    "blocks of 7 rows": in_blocks(7),
    "blocks of 1,000 rows in torch": in_blocks(1000, library="torch"),
    "blocks of 1,000 rows in torch, in float64": in_blocks(1000, "float64", "torch"),
    "torch's cosine_similarity": broadcast_in_torch,
    "row by row": row_by_row,
}


def principal(vectors, k, centre=True, last=False):
    x = vectors - vectors.mean(axis=0) if centre else vectors
    directions = np.linalg.svd(x, full_matrices=False)[2]
    return x, (directions[len(directions) - k :] if last else directions[:k])


def without(x, directions):
    return x - x @ directions.T @ directions


WRONG = {
    "mean_of_words": {
        "all tokens": pooling.mean_pool,
        "the mask not read": lambda t, m: t[:, 1:-1].mean(dim=1),
        "[SEP] left in": lambda t, m: pooling.mean_pool(t[:, 1:], m[:, 1:]),
        "[CLS] left in": lambda t, m: pooling.mean_pool(t[:, :-1], m[:, 1:]),
        "the last position taken for [SEP]": lambda t, m: pooling.mean_pool(t[:, 1:-1], m[:, 1:-1]),
        "divided by all tokens": lambda t, m: (
            (t[:, 1:-1] * m[:, 2:, None]).sum(dim=1) / m.sum(dim=1)[:, None]
        ),
        "a sum": lambda t, m: (t[:, 1:-1] * m[:, 2:, None]).sum(dim=1),
        "one row for all": lambda t, m: (t[:, 1:-1] * m[:, 2:, None]).sum(dim=(0, 1)) / m[:, 2:].sum(),
    },
    "mean_cosine": {
        "with itself": lambda v: np.linalg.norm((v / np.linalg.norm(v, axis=1)[:, None]).mean(axis=0)) ** 2,
        "dot products": lambda v: (v.sum(0) @ v.sum(0) - len(v)) / (len(v) * (len(v) - 1)),
        "the table": lambda v: cosines_of_all(v)[~np.eye(len(v), dtype=bool)].mean(),
        "the table's upper half": lambda v: cosines_of_all(v)[np.triu_indices(len(v), 1)].mean(),
        "the table in torch": lambda v: of_tensor(cosines_of_tensor(v)),
        "the table in torch, of float16": lambda v: of_tensor(cosines_of_tensor(v, torch.float16).float()),
        "the table in torch, without gradients": torch.inference_mode()(
            lambda v: of_tensor(cosines_of_tensor(v))
        ),
        "the table in torch, piece by piece": lambda v: of_tensor(
            torch.cat([cosines_of_tensor(v, rows=slice(i, i + 500)) for i in range(0, len(v), 500)])
        ),
        "half the table in torch": lambda v: (
            1 - torch.pdist(torch.nn.functional.normalize(torch.tensor(v), dim=1)).square_().mean().item() / 2
        ),
        "neighbours alone": lambda v: np.diag(cosines_of_all(v), 1).mean(),
        "cosine with the mean": lambda v: (
            (v @ v.mean(0)) / np.linalg.norm(v, axis=1) / np.linalg.norm(v.mean(0))
        ).mean(),
    },
    "without_top": {
        "k not read": lambda v, k: v - v.mean(axis=0),
        "one row": lambda v, k: v[:1],
        "as they came": lambda v, k: v,
        "not centred": lambda v, k: without(*principal(v, k, centre=False)),
        "the weakest": lambda v, k: without(*principal(v, k, last=True)),
        "one too many": lambda v, k: without(*principal(v, k + 1)),
        "only the k-th": lambda v, k: without(principal(v, k)[0], principal(v, k)[1][k - 1 : k]),
        "the mean added again": lambda v, k: without(*principal(v, k)) + v.mean(axis=0),
        "kept, not taken away": lambda v, k: v - v.mean(axis=0) - without(*principal(v, k)),
        "columns of most variance": lambda v, k: np.where(
            np.isin(np.arange(v.shape[1]), np.argsort(-v.var(axis=0))[:k]), 0, v - v.mean(axis=0)
        ),
        "scaled to length 1": lambda v, k: without(*principal(v, k)) / np.linalg.norm(v, axis=1)[:, None],
    },
}


@pytest.mark.parametrize(("name", "mistake"), [(name, mistake) for name in WRONG for mistake in WRONG[name]])
def test_the_usual_wrong_answers_are_told(name, mistake, capsys):
    getattr(lesson04, name)(WRONG[name][mistake])
    said = capsys.readouterr().out
    assert said.startswith(f"Not yet: {name} for") and said.count("\n") == 1, said


def test_a_table_of_all_cosines_is_told_what_it_holds(capsys):
    lesson04.mean_cosine(WRONG["mean_cosine"]["the table"])
    assert re.search(
        r"it held \d+ MB at once, as a table does; the vectors have 0.05 MB", capsys.readouterr().out
    )
    for name, numbers in {
        "the table in torch": "36,000,000",
        "half the table in torch": "17,997,000",
    }.items():
        lesson04.mean_cosine(WRONG["mean_cosine"][name])
        said = f"it made a tensor of {numbers} numbers; the vectors have 12,000, the table of all"
        assert said in capsys.readouterr().out


@pytest.mark.parametrize("name", FAIR)
def test_a_mean_cosine_without_the_table_is_right(name, capsys):
    lesson04.mean_cosine(FAIR[name])
    assert capsys.readouterr().out.startswith("Right: mean_cosine agrees")


@pytest.mark.parametrize(
    ("mistake", "cause"),
    [
        ("all tokens", "([CLS] and [SEP] are still in it)"),
        ("[SEP] left in", "([SEP] is still in it)"),
        ("[CLS] left in", "([CLS] is still in it)"),
        ("a sum", "]];"),
    ],
)
def test_the_mean_of_words_is_told_which_token_is_still_in_it(mistake, cause, capsys):
    lesson04.mean_of_words(WRONG["mean_of_words"][mistake])
    said = capsys.readouterr().out
    assert f"{cause}; it should be" in said or (cause == "]];" and f"{cause} it should be" in said), said
    assert said.count("still in it") == (cause != "]];")
