"""Lesson 10: its rulers and its loop are the libraries' and the recipe's; its table, its prose."""

import random
import re

import books
import numpy as np
import objectives as recipe
import pandas as pd
import pytest
import torch

from helpers import ROOT, data, models, tables
from helpers.exercises import lesson10

LESSON, SOLUTIONS = books.path("10"), books.path("10", solutions=True)
TABLE = ROOT / "models" / "recipes" / "objectives.tsv"
CHANGES = TABLE.with_name("objectives_changes.tsv")
HORSES = tables.read(data.SHARED / "horses.tsv", ["part", "horse", "zebra", "thing"])


@pytest.fixture(scope="module")
def lesson():
    space = books.definitions(
        LESSON,
        "freeze",
        "raw_bert",
        "cosines",
        "pearson",
        "more",
        "Progress",
        "settings",
        "train",
        "scored_rows",
        "delete_words",
        "nearness",
        given={"STEPS": 32, "BATCH": 32},
    )
    space |= {"question": "What is a horse?"}
    space["tqdm"] = lambda **_: type("Bar", (), {"update": lambda *_: None, "close": lambda *_: None})()
    return space


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(TABLE, sep="\t")


@pytest.fixture(scope="module")
def changes():
    return pd.read_csv(CHANGES, sep="\t")


def test_pearson_of_many_draws_is_scipys(lesson):
    from scipy.stats import pearsonr

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 40)).astype("float32"), rng.normal(size=(3, 40))
    wanted = [pearsonr(a, b).statistic for a, b in zip(x, y, strict=True)]
    for pearson in (lesson["pearson"], recipe.pearson):
        assert pearson(x, y) == pytest.approx(wanted, rel=1e-5)
        assert pearson(x[0], y[0]) == pytest.approx(wanted[0], rel=1e-5)


def test_the_gain_is_the_difference_of_two_correlations():
    from scipy.stats import pearsonr

    rng = np.random.default_rng(0)
    before, after, scores = rng.normal(size=(3, 5, 40))
    wanted = [pearsonr(a, s)[0] - pearsonr(b, s)[0] for b, a, s in zip(before, after, scores, strict=True)]
    assert recipe.gain(before, after, scores) == pytest.approx(wanted)
    assert recipe.gain(before[0], after[0], scores[0]) == pytest.approx(wanted[0])


def test_no_sentence_of_the_gold_half_is_held_out():
    table = tables.read(data.SHARED / "sts_sample.tsv", ["sentence1", "sentence2"])
    gold, held = (set(table[start::2].to_numpy().ravel()) for start in (0, 1))
    assert not gold & held
    nli = data.nli()
    known, unseen = set(nli[:500].to_numpy().ravel()), set(nli[500:].to_numpy().ravel())
    assert not known & unseen and not (known | unseen) & held
    asked = set(data.qa_pairs(part="train").to_numpy().ravel())
    assert not asked & (held | unseen), "the recipe's further pairs are not judged on either"


def test_only_the_upper_two_layers_are_trained(lesson):
    bert = lesson["raw_bert"]().transformers_model
    moving = {
        name.split(".")[2]
        for name, p in bert.named_parameters()
        if p.requires_grad and "encoder.layer" in name
    }
    last = len(bert.encoder.layer)
    assert moving == {str(last - 2), str(last - 1)}
    assert not any(p.requires_grad for p in bert.embeddings.parameters())


def test_too_few_rows_and_bad_input_get_one_sentence(lesson):
    rows = lesson["scored_rows"](pd.DataFrame({"sentence1": ["a"], "sentence2": ["b"], "score": [5.0]}))
    with pytest.raises(ValueError, match="1 rows are fewer than one batch of 32"):
        lesson["train"](None, None, rows)
    with pytest.raises(ValueError, match="an empty sentence has no words"):
        lesson["delete_words"](" ", random.Random(0))
    for text in ("", "  ", None):
        with pytest.raises(ValueError, match="each text must describe an animal or a thing"):
            lesson["nearness"](None, ["a sentence", text])


def test_the_noise_deletes_six_words_in_ten_and_keeps_the_order(lesson):
    rng, text = random.Random(0), " ".join(map(str, range(1000)))
    kept = [int(word) for word in lesson["delete_words"](text, rng).split()]
    assert kept == sorted(kept) and 340 < len(kept) < 460
    assert lesson["delete_words"]("alone", rng) == "alone"
    assert lesson["delete_words"](text, random.Random(1)) == recipe.delete_words(text, random.Random(1))


# --- the recipe's table --------------------------------------------------------------------------


def test_the_table_has_three_seeds_of_every_objective(table):
    wanted = {
        (name, seed, recipe.BATCH * steps)
        for name in recipe.OBJECTIVES
        for seed in (0, 1, 2)
        for steps in recipe.SIZES.get(name, [recipe.STEPS])
    }
    assert set(table[recipe.KEYS].itertuples(index=False, name=None)) == wanted
    assert table["STS before"].nunique() == 1
    assert (table["STS after"] != table["STS before"]).all(), "every run takes its steps"


def test_what_the_prose_says_of_the_table(table):
    begin = table["STS before"].iloc[0]
    mean = table.groupby(["objective", "examples"])[["STS after", "entailment nearer"]].mean()
    ranking, softmax = (mean.loc[name]["STS after"] for name in ("multiple negatives", "softmax"))
    assert ranking.iloc[0] > begin + 0.03, "gains at once"
    assert begin < ranking.iloc[-1] < ranking.max() - 0.01, "and loses a part of it"
    longest = table[(table["objective"] == "softmax") & (table["examples"] == softmax.index[-1])]
    assert (longest["STS after"] < begin - 0.02).all(), "below, in each of the three seeds"
    assert softmax.max() < begin + 0.015, "next to nothing"
    augmented, cosine = (
        table[(table["objective"] == n) & (table["examples"] == 1024)]["STS after"].to_numpy()
        for n in ("Augmented SBERT", "cosine")
    )
    assert abs(augmented.mean() - cosine.mean()) < 0.01, "silver labels bring no gain on top of the gold"
    at_budget = mean.xs(1024, level="examples")
    near = at_budget["entailment nearer"].sort_values()
    assert list(near.index[-2:]) == ["multiple negatives", "triplet"], "two rulers"
    assert near.iloc[:-2].max() < 0.5, "for the others contradictions are nearer"
    assert at_budget["STS after"].idxmax() == "multiple negatives", "two orders"


def test_contradictions_share_more_words_with_the_premise():
    words = data.nli()[500:].map(lambda text: set(text.lower().strip(".").split()))
    shared = {
        kind: np.mean([len(a & b) / len(b) for a, b in zip(words["premise"], words[kind], strict=True)])
        for kind in ("entailment", "contradiction")
    }
    assert shared["contradiction"] > shared["entailment"] + 0.03, shared


def test_one_row_of_the_table_computed_again(table):
    """The first eight steps of multiple negatives: Pearson to one in a hundred."""
    found = recipe.run(
        "multiple negatives", 0, data.nli(), data.sts(data.SHARED / "sts_sample.tsv"), steps=[8]
    )
    row = table[
        (table["objective"] == "multiple negatives") & (table["seed"] == 0) & (table["examples"] == 256)
    ]
    for name in ("STS before", "STS after", "entailment nearer"):
        assert float(found[0][name]) == pytest.approx(row[name].item(), abs=0.02), name


def test_every_change_was_run(changes):
    wanted = {(*what, seed) for what in recipe.CHANGES for seed in recipe.seeds_of(*what)}
    assert set(changes[["objective", "change", "seed"]].itertuples(index=False, name=None)) == wanted
    sees_gold = changes["objective"].isin(["teacher's margins", "Augmented SBERT", "cosine", "grader"])
    assert changes.loc[sees_gold, "dev"].isna().all() and changes.loc[~sees_gold, "dev"].notna().all()


def test_what_the_prose_says_of_the_changes(table, changes):
    def value(objective, change, column="STS after", **more):
        wanted = {"objective": objective, "change": change} | more
        return changes[(changes[list(wanted)] == pd.Series(wanted)).all(axis=1)][column].mean()

    softmax = changes[(changes["objective"] == "softmax") & (changes["examples"] == 1024)]
    runs = softmax.groupby("change")
    assert runs["dev"].mean().idxmax() == "|u - v| alone", "chosen on the dev pairs"
    alone, nothing = (runs.get_group(name)["STS after"] for name in ("|u - v| alone", "nothing"))
    assert list(alone.round(3)) == [0.588, 0.583] and list(nothing.round(3)) == [0.545, 0.531]
    right = runs["inference right"].mean()
    assert round(right["nothing"], 3) == 0.342 and round(right["|u - v| alone"], 3) == 0.408
    for column in ("dev", "STS after"):
        assert runs[column].mean().idxmin() == "all layers trained"
    seeds = (runs["STS after"].max() - runs["STS after"].min()).drop("all layers trained").max()
    for name in ("encoder at a tenth of the rate", "classifier at 50 times the rate", "no warm-up"):
        assert abs(runs["STS after"].mean()[name] - nothing.mean()) < seeds, name
    assert round(value("grader", "the L-12 as it comes"), 3) == 0.495
    assert round(value("grader", "from the raw BERT"), 3) == 0.312
    assert value("grader", "from the L-12") > 0.7
    longer = [value(name, "three times the steps") for name in ("cosine", "Augmented SBERT")]
    assert [round(x, 3) for x in longer] == [0.626, 0.631]
    both = table[table["examples"] == 1024].groupby("objective")["STS after"].mean()
    assert [round(both[name], 3) for name in ("Augmented SBERT", "cosine")] == [0.632, 0.632]
    grown = [value("multiple negatives", f"{n} premises") for n in (62, 125, 250, 500)]
    minilm = value("untouched", "all-MiniLM-L6-v2")
    assert grown == sorted(grown) and grown[-1] < minilm
    slope, height = np.polyfit(np.log2([62, 125, 250, 500]), grown, 1)
    assert round(slope, 3) == 0.016 and 650 < 2 ** ((minilm - height) / slope) < 750
    questions = value("multiple negatives", "500 premises, 700 questions")
    assert [round(grown[-1], 3), round(questions, 3)] == [0.654, 0.63]
    taught = [value("teacher's vectors", "1,000 sentences", examples=n) for n in (1024, 2048)]
    assert [round(x, 3) for x in taught] == [0.657, 0.669] and taught[0] > both.max() and taught[1] > minilm
    margins = [value("teacher's margins", name) for name in ("other premises", "contradictions")]
    assert margins == pytest.approx([0.629, 0.464], abs=0.0006)
    assert round(value("untouched", "bge-small-en-v1.5"), 3) == 0.741 and round(minilm, 3) == 0.664
    for examples, score, right in [(3072, 0.402, 0.497), (6144, 0.497, 0.55)]:
        row = {"examples": examples}
        assert round(value("softmax", "six times the steps", **row), 3) == score
        assert round(value("softmax", "six times the steps", "inference right", **row), 3) == right


def test_one_change_computed_again(changes):
    """Four steps of multiple negatives, and MiniLM as it comes: Pearson to one in a hundred."""
    tables = data.nli(), data.sts(data.SHARED / "sts_sample.tsv")
    for what in [("multiple negatives", "62 premises"), ("untouched", "all-MiniLM-L6-v2")]:
        found = recipe.change(*what, 0, *tables)[0]
        row = changes[(changes[["objective", "change"]] == what).all(axis=1) & (changes["seed"] == 0)]
        for name in ("dev", "STS after", "Spearman", "entailment nearer"):
            assert float(found[name]) == pytest.approx(row[name].item(), abs=0.02), (what, name)


@pytest.mark.parametrize(
    "tag, objective, change, examples",
    [("softmax", "softmax", "nothing", 1024), ("teacher", "teacher's vectors", "256 sentences", 512)],
)
def test_a_run_in_the_lesson_is_a_row_of_the_table(changes, tag, objective, change, examples):
    live = float(re.search(r"Pearson (\S+), ", books.shown("10", tag))[1])
    wanted = {"objective": objective, "change": change, "seed": 0, "examples": examples}
    row = changes[(changes[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    assert live == pytest.approx(row["STS after"].item(), abs=0.02)


def test_published_figures_are_those_of_the_sources():
    """The repository's and the print's of Hands-On Large Language Models, and Sentence-BERT's table 1."""
    book = {
        "softmax": 0.371,
        "TSDAE": 0.699,
        "Augmented SBERT": 0.710,
        "cosine": 0.722,
        "multiple negatives": 0.807,
        "MiniLM, multiple negatives": 0.849,
        "MiniLM untouched": 0.870,
    }
    space: dict = {}
    exec(books.cell("10", "published").source.split("\n\n")[0], space)
    assert space["published"] == book
    shown = books.shown("10", "second_ruler_table")
    for name, value in book.items():
        assert re.search(rf"^{name} +book: validation, Pearson +{value:.4f}", shown, re.M), name
    assert re.search(r"^softmax, in print +book: validation, Pearson +0.5980", shown, re.M)
    for name, value in {
        "mean BERT": 0.4635,
        "mean GloVe": 0.5802,
        "softmax on SNLI and MNLI": 0.7703,
    }.items():
        assert re.search(rf"^{name} +paper: test, Spearman +{value}", shown, re.M), name


def test_the_lessons_loop_is_the_recipes(lesson):
    """Two steps of each from the same seed give the same weights."""
    gold, _ = recipe.split_sts(data.sts(data.SHARED / "sts_sample.tsv"))
    vectors = []
    for space in (lesson, vars(recipe)):
        recipe.set_seed(0)
        model = space["raw_bert"]()
        rows = (space.get("scored_rows") or space["scored"])(gold)
        space["train"](model, recipe.losses.CosineSimilarityLoss(model), rows, steps=2)
        vectors.append(model.eval().encode(["a sentence", "another"]))
    assert np.allclose(*vectors, atol=1e-5)


@pytest.fixture(scope="module")
def untouched(lesson):
    return lesson["raw_bert"]()


@pytest.mark.parametrize("tag", ["softmax", "cosine", "triplet", "multiple_negatives", "augmented", "tsdae"])
def test_every_objective_takes_its_steps(lesson, untouched, tag):
    """The lesson's own cells on few rows: the upper two layers move, no other does. Two steps, for
    the learning rate begins at 0."""
    nli, (gold, _) = data.nli()[:40], recipe.split_sts(data.sts(data.SHARED / "sts_sample.tsv")[:80])
    judged = []
    space = lesson | {
        "train": lambda model, loss, rows: lesson["train"](model, loss, rows, steps=2),
        "report": lambda name, model: judged.append(model),
        "nli_rows": recipe.nli_rows(nli, gold, 0),
        "triplets": recipe.triplets(nli, gold, 0),
        "gold": gold,
        "silver": gold,
        "known": nli,
        "kinds": recipe.KINDS,
        "results": dict(
            zip(["cosine", "Augmented SBERT"], np.random.default_rng(0).normal(size=(2, 40)), strict=True)
        ),
        "truth": np.random.default_rng(1).normal(size=40),
    }
    exec(books.cell("10", tag).source, space)
    before, after = (m.transformers_model.state_dict() for m in (untouched, *judged))
    layers = {name: name.split(".")[2] for name in before if name.startswith("encoder.layer.")}
    moved = {layers.get(name, name) for name, w in before.items() if not torch.equal(w, after[name])}
    assert moved == set(sorted(set(layers.values()), key=int)[-2:]), moved


# --- the exercises -------------------------------------------------------------------------------


def test_the_worked_answers_are_right_and_the_blanks_are_not(capsys):
    names = ("features", "multiple_negatives", "cosent")
    books.judge_exercises(lesson10, SOLUTIONS, capsys, *names, wrong=torch.tensor(0.5))


def one_number(*_):
    return torch.tensor(0.3)


WRONG = {
    "features": [
        lambda u, v: u,
        lambda u, v: torch.zeros(len(u), 3 * u.shape[1]),
        lambda u, v: torch.full((len(u), 3 * u.shape[1]), float("nan")),
        lambda u, v: torch.cat([u, v], dim=1),
        lambda u, v: torch.cat([u, v, (u + v).abs()], dim=1),
        lambda u, v: torch.cat([v, u, (u - v).abs()], dim=1),
        lambda u, v: torch.cat([u, u, torch.zeros_like(u)], dim=1),
    ],
    "multiple_negatives": [
        one_number,
        lambda a, p, n, scale: a,
        lambda a, p, n, scale: float("nan"),
        lambda a, p, n, scale: negatives_loss(a, p, n, 20.0),
        lambda a, p, n, scale: negatives_loss(a, p, p, scale),
        lambda a, p, n, scale: negatives_loss(a, n, p, scale),
        lambda a, p, n, scale: negatives_loss(a, p, n, scale) * len(a),
        lambda a, p, n, scale: torch.nn.functional.cross_entropy(
            scale * a @ torch.cat([p, n]).T, torch.arange(len(a))
        ),
    ],
    "cosent": [
        one_number,
        lambda c, s: c,
        lambda c, s: float("nan"),
        lambda c, s: ordered_loss(c, torch.arange(len(c))),
        lambda c, s: ordered_loss(s, s),
        lambda c, s: ordered_loss(-c, s),
        lambda c, s: ordered_loss(c, s).exp(),
        lambda c, s: ordered_loss(c / 20, s),
    ],
}


def negatives_loss(a, p, n, scale):
    F = torch.nn.functional
    candidates = F.normalize(torch.cat([p, n]), dim=1)
    return F.cross_entropy(scale * F.normalize(a, dim=1) @ candidates.T, torch.arange(len(a)))


def ordered_loss(c, s):
    worse = (20 * (c[None] - c[:, None]))[s[:, None] > s[None]]
    return torch.logsumexp(torch.cat([torch.zeros(1), worse]), dim=0)


@pytest.mark.parametrize("name", WRONG)
def test_usual_wrong_answers_are_refused(capsys, name):
    for number, answer in enumerate(WRONG[name]):
        getattr(lesson10, name)(answer)
        said = capsys.readouterr().out
        assert said.startswith("Not yet: "), (name, number, said)
    getattr(lesson10, name)(lambda *_: None)
    assert capsys.readouterr().out.startswith("Not yet written: ")


def test_likely_mistakes_are_told(capsys):
    F = torch.nn.functional

    def without_hard_ones(a, p, n, scale):
        return F.cross_entropy(scale * F.normalize(a, dim=1) @ F.normalize(p, dim=1).T, torch.arange(len(a)))

    lesson10.multiple_negatives(without_hard_ones)
    lesson10.features(lambda u, v: torch.cat([u, v, u - v], dim=1))
    lesson10.cosent(
        lambda c, s: torch.logsumexp(
            torch.cat([torch.zeros(1), (20 * (c[None] - c[:, None]))[s[:, None] >= s[None]]]), dim=0
        )
    )
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3 and all(line.startswith("Not yet: ") for line in said), said


# --- the horses ----------------------------------------------------------------------------------


def test_the_table_of_horses():
    assert HORSES["part"].value_counts().to_dict() == {"train": 16, "test": 12}
    texts = HORSES[["horse", "zebra", "thing"]]
    assert not texts.stack().duplicated().any()
    for kind, column in texts.items():
        for text in column:
            assert not any(word in text.lower() for word in ("horse", "zebra", "stallion")), text
            marked = any(
                word in text.lower() for word in ("stripe", "band", "line after dark line", "bars of")
            )
            assert marked == (kind == "zebra"), text
    lengths = texts.map(lambda text: len(text.split())).mean()
    assert lengths.max() - lengths.min() < 3.5, "length tells little"


def test_the_raw_bert_is_bundled():
    assert models.path("bert-base-uncased", quiet=True).is_dir()


def test_new_premises_and_the_same_ones_rise_alike():
    """What the figure of the growing lots and the sentences around it say, from the recipe's tables."""
    changes, table = (pd.read_csv(file, sep="\t") for file in (CHANGES, TABLE))
    grown = changes[(changes["objective"] == "multiple negatives") & (changes["examples"] < 2000)]
    grown = grown.set_index("examples")["STS after"]
    rows = table[(table["objective"] == "multiple negatives") & (table["seed"] == 0)]
    always = rows.set_index("examples")["STS after"]
    assert (grown - always).abs().dropna().max() < 0.01 and (grown - always).count() == 3
    prose = " ".join(
        cell.source for cell in books.read(books.path("10")).cells if cell.id in ("start-2", "softmax-2")
    ).replace("\n", " ")
    for n in (256, 1024, 2048):
        assert f"{always[n]:.3f}"[1:] in prose
    assert (
        always[2048] < always[1024]
        and f"to {changes.loc[changes['examples'] == 2400, 'STS after'].item():.3f}".replace("0.", ".")
        in prose
    )
    softmax = changes[changes["objective"] == "softmax"].groupby("change")["STS after"].mean()
    fast = softmax["classifier at 50 times the rate"], softmax["|u - v| alone, classifier at 50 times"]
    assert fast[0] > fast[1] and all(f"{value:.3f}"[1:] in prose for value in fast)


def test_the_seeds_and_the_draws_are_as_the_prose_says(table):
    """What the sentences say of three seeds, of the grey line, and of the school for zebras."""
    text = " ".join(" ".join(c.source.split()) for c in books.read(LESSON).cells if c.cell_type == "markdown")
    at = table[table["examples"] == 1024].set_index(["objective", "seed"])
    low, high = at.loc["softmax", "gain low"], at.loc["softmax", "gain high"]
    assert ((low < 0) & (high > 0)).sum() == 1 and (high < 0).sum() == 2
    assert "in the recipe's three seeds, further down, it spans 0 once and lies below 0 twice" in text.lower()
    seeds = at.loc["triplet", "entailment nearer"].map("{:.2f}".format).str.removeprefix("0")
    assert f"its three seeds have {seeds[0]}, {seeds[1]} and {seeds[2]}," in text
    live = re.search(r"triplet +\S+ +0(\S+)", books.shown("10", "second_ruler")).group(1)
    assert f"that {live} in this run" in text

    grown = dict(re.findall(r"(?m)^\d+ +(\d+)\.0 +\S+ +0(\.\d+)", books.shown("10", "start_grown")))
    drawn = dict(re.findall(r"([\d,]+) examples 0(\.\d+)", books.shown("10", "start_grown")))
    said = f"It has {drawn['256']} and {drawn['512']}, the blue line {grown['256']} and {grown['512']}, and at 1,024"
    assert said in text and drawn["1,024"] == grown["1024"]

    wordless = re.findall(
        r"(against \w+) +horse above zebra 0(\S+), without the word 0(\S+)", books.shown("10", "wordless")
    )
    (_, _, things), (_, twelve, four), _ = wordless
    assert f"in {four} of the pairs, where it had {twelve} on all twelve" in text
    assert f"has {things} for these four" in text
    horses = pd.read_csv(ROOT / "shared_data" / "horses.tsv", sep="\t")
    with_word = horses["zebra"].str.contains("strip").groupby(horses["part"])
    assert with_word.mean()["train"] == 1 and (~horses["zebra"].str.contains("strip")).sum() == 4
    assert not horses[["horse", "thing"]].stack().str.contains("strip").any()
