"""Lesson 6: its encoders and its loop are those of helpers; its table, its checks, its prose."""

import functools
import re

import books
import documentation_pairs
import dual_encoder
import numpy as np
import pandas as pd
import pytest
import torch

from helpers import ROOT, data, documentation, encoders, machine, models, ranking, training
from helpers.exercises import lesson06
from helpers.intervals import interval, verdict

LESSON, SOLUTIONS = books.path("06"), books.path("06", solutions=True)
PAIRS = data.qa_pairs(part="train")[:40]
SMALL = {"width": 32, "layers": 2, "heads": 2, "out": 8}
TABLE = ROOT / "models" / "recipes" / "dual_encoder.tsv"


@pytest.fixture(scope="module")
def lesson():
    space = books.definitions(
        LESSON,
        "Encoder",
        "tokenise",
        "pad",
        "batch_loss",
        "optimizers",
        "rate",
        "update",
        "batches",
        "train",
        "ranks",
        "chance",
        "embed",
        "cosines",
        "by_bm25",
        "by_glove",
        "report",
        "Pretrained",
        "gain",
        "halfway",
    )
    space |= {
        "tokenizer": encoders.tokenizer(),
        "results": {},
        "BFLOAT16": machine.bfloat16_pays(),
        "tqdm": lambda steps, **_: steps,
        "minilm": minilm(),
    }
    return space


def pair(build):
    torch.manual_seed(0)
    return build(), build()


def one(build):
    torch.manual_seed(0)
    return (build(),) * 2


@functools.cache
def minilm():
    return models.path(encoders.MINILM, quiet=True)


BUILDERS = {
    "Encoder": (pair, lambda space: lambda: space["Encoder"](**SMALL), {"lr": 1e-3, "steps": 4}),
    "Encoder, cosines": (
        pair,
        lambda space: lambda: space["Encoder"](**SMALL),
        {"lr": 1e-3, "warmup": 0.1, "scale": 20, "steps": 7},
    ),
    "one Pretrained for both": (
        one,
        lambda space: lambda: space["Pretrained"](minilm(), frozen=5),
        {"lr": 1e-4, "warmup": 0.1, "scale": 20, "steps": 3},
    ),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_the_lessons_encoder_and_loop_are_the_helpers(lesson, name):
    towers, build, settings = BUILDERS[name]
    ours, theirs = towers(build(lesson)), towers(build(vars(encoders)))
    torch.manual_seed(0)
    mine = lesson["train"](*ours, PAIRS, batch=16, **settings)
    wanted = training.train(*theirs, PAIRS, batch=16, progress=False, **settings)
    assert mine == pytest.approx(wanted, rel=1e-5) and len(mine) == settings["steps"]
    for our, their in zip(ours, theirs, strict=True):
        assert our.state_dict().keys() == their.state_dict().keys()
        texts = PAIRS["question"]
        assert torch.allclose(lesson["embed"](our, texts), encoders.embed(their, texts), rtol=1e-4, atol=1e-5)


def test_the_published_recipe_is_two_epochs_of_it(lesson):
    """The lesson's 18 steps are two passes over 300 pairs in batches of 32, each pair at most once a pass."""
    rows = [[number] for number in range(300)]
    seen = [row[0] for questions, _ in lesson["batches"](rows, rows, 32, 18) for row in questions]
    for one_pass in (seen[: 9 * 32], seen[9 * 32 :]):
        assert len(set(one_pass)) == 9 * 32
    assert "train(*published, train_pairs, steps=18)" in books.cell("06", "published").source


def test_the_lessons_ruler_is_the_helpers(lesson, capsys):
    towers = [e.eval() for e in pair(lambda: encoders.Encoder(**SMALL))]
    scores = lesson["cosines"](*towers, PAIRS)
    wanted = ranking.score_pair(*towers, PAIRS)
    lesson["report"]("a pair", scores)
    found = lesson["results"]["a pair"]
    assert found.mean() == pytest.approx(wanted["MRR"]) and (found == 1).mean() == wanted["recall@1"]
    low, high = interval(found)
    assert f"MRR {found.mean():.3f} [{low:.3f}, {high:.3f}]" in capsys.readouterr().out
    assert lesson["ranks"](torch.ones(5, 5)).tolist() == [5] * 5, "the same score for all is worth nothing"
    assert lesson["chance"](300) == ranking.chance(300)["MRR"]


def test_the_rivals_count_and_average_words(lesson):
    glove = models.word_vectors("glove-wiki-gigaword-100", quiet=True)
    lesson["by_glove"].__globals__["glove"] = glove
    questions, answers = ["the blue whale", "red squirrels"], ["A red squirrel.", "Whales are blue!"]
    mean = [
        np.mean([glove[w] for w in text], axis=0)
        for text in (["the", "blue", "whale"], ["whales", "are", "blue"])
    ]
    wanted = mean[0] @ mean[1] / np.linalg.norm(mean[0]) / np.linalg.norm(mean[1])
    assert lesson["by_glove"](questions, answers)[0, 1].item() == pytest.approx(wanted, abs=1e-5)
    counted = lesson["by_bm25"](questions, answers)
    assert (
        counted.shape == (2, 2) and counted[0, 1] > counted[0, 0] == 0 and counted[1, 0] > counted[1, 1] == 0
    )


def test_a_table_smaller_than_a_batch_and_an_empty_text_are_refused(lesson):
    towers = pair(lambda: encoders.Encoder(**SMALL))
    with pytest.raises(ValueError, match="40 pairs are fewer than one batch of 64"):
        lesson["train"](*towers, PAIRS, steps=1, batch=64)
    with pytest.raises(ValueError, match="text 2 of 2 is empty"):
        lesson["embed"](towers[0], ["a passage", " "])


def test_the_keyboard_stops_the_lessons_loop(lesson, capsys):
    def interrupted(steps, **_):
        for number, step in enumerate(steps):
            if number == 3:
                raise KeyboardInterrupt
            yield step

    towers = pair(lambda: encoders.Encoder(**SMALL))
    around = lesson["train"].__globals__  # the loop looks its progress bar up there
    kept = around["tqdm"]
    around["tqdm"] = interrupted
    try:
        assert len(lesson["train"](*towers, PAIRS, batch=16, steps=10)) == 3
    finally:
        around["tqdm"] = kept
    assert "stopped after 3 steps" in capsys.readouterr().out
    assert not towers[0].training


def test_a_gain_is_paired_and_said_plainly(lesson):
    rng = np.random.default_rng(1)
    before = rng.random(300)
    for shift, said in ((0.1, "a gain"), (-0.1, "a loss"), (0.0, "no difference beyond luck")):
        after = before + shift + rng.normal(0, 0.05, 300)
        low, high = interval(after - before)
        wanted = f"{(after - before).mean():+.3f} [{low:+.3f}, {high:+.3f}], {said}"
        assert lesson["gain"](after, before) == wanted == verdict(after, before)


def test_halfway_is_the_mean_of_the_weights(lesson):
    first, second = lesson["Pretrained"](minilm()), lesson["Pretrained"](minilm())
    with torch.no_grad():
        second.bert.encoder.layer[5].output.dense.bias += 1
    mean = lesson["halfway"](first, second).bert.encoder.layer[5].output.dense.bias
    assert torch.allclose(mean, first.bert.encoder.layer[5].output.dense.bias + 0.5)


# --- the recipe's table --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(TABLE, sep="\t")


def test_the_table_has_three_seeds_of_every_run(table):
    wanted = {
        (run, seed, epochs)
        for run, (_, _, report, _) in dual_encoder.RUNS.items()
        for seed in (0, 1, 2)
        for epochs in report
    }
    assert set(table[["run", "seed", "epochs"]].itertuples(index=False, name=None)) == wanted


def prose():
    cells = books.read(LESSON).cells
    return " ".join(" ".join(c.source.split()) for c in cells if c.cell_type == "markdown")


def test_what_the_prose_says_of_the_table(table):
    mean = table.groupby(["run", "epochs"]).mean(numeric_only=True)
    rise = mean.loc["published"]
    assert (rise["last losses"].dropna().diff().dropna() < 0).all(), "its loss falls"
    assert rise["MRR"].max() < 3 * ranking.chance(300)["MRR"], "and it stays at chance"
    sixth = table[(table["run"] == "published") & (table["epochs"] == 6)]["last losses"]
    assert (sixth < np.log(32)).all(), "from the sixth epoch on below ln 32"
    said = f"an MRR of {rise['MRR'][10]:.2f} where a random order has {ranking.chance(300)['MRR']:.2f}"
    assert said in prose() and f"has an MRR of {rise['MRR'][10]:.2f}, and chance" in prose()
    scratch = mean.loc[["rate and warm-up, longer", "cosine and temperature, longer"]]
    assert scratch["recall@1"].max() < 0.1 < mean.loc["raw BERT"]["recall@1"].min()
    raw, minilm = mean.loc["raw BERT"]["MRR"], mean.loc["MiniLM"]["MRR"]
    assert f"of {raw[0]:.3f} before its first step and {raw[2]:.3f} after two epochs" in prose()
    assert f"MiniLM, untouched, has an MRR of {minilm[0]:.2f}." in prose()
    shown = books.shown("06", "repairs")
    for value in (raw[0], raw[2]):
        assert f"{value:.3f}" in shown
    card = (ROOT / "shared_data" / "README.md").read_text(encoding="utf-8")
    first = mean.loc["MiniLM"]["recall@1"][0]
    assert f"for {first:.0%}".replace("%", " %") + " of the questions" in card


def test_wrong_partners_fall_most_of_the_way():
    """Of the saved run: both begin alike; with wrong partners the loss falls more than half as far."""
    printed = books.shown("06", "partners")
    start, end = (
        np.array(
            [
                float(x)
                for x in re.search(rf"{name} +right partners (\S+) +wrong partners (\S+)", printed).groups()
            ]
        )
        for name in ("untrained", "published recipe")
    )
    assert abs(start[0] - start[1]) < 0.15
    assert 0.5 < (start[1] - end[1]) / (start[0] - end[0]) <= 1


DOCUMENTATION = ROOT / "models" / "recipes" / "documentation_pairs.tsv"


def signed(value):
    return f"{value:.3f}".replace("-", "−")


def test_what_there_is_to_beat():
    assert "texts in two parts: 0" in books.shown("06", "parts")
    shown = books.shown("06", "rivals") + books.shown("06", "minilm")
    mrr = {
        name: re.search(rf"{name} +MRR (\S+)", shown)[1]
        for name in ("BM25", "BM25 without stems", "mean GloVe", "MiniLM, untouched")
    }
    low, high = re.search(r"minus BM25: \[(\S+), (\S+)\]", shown).groups()
    assert float(low) < 0 < float(high) and "do not tell BM25 and MiniLM apart" in prose()
    assert f"leave out, BM25 has {mrr['BM25 without stems']}" in prose()
    assert (
        "MiniLM has an MRR of {MiniLM, untouched}, BM25 {BM25}, mean GloVe {mean GloVe}.".format(**mrr)
        in prose()
    )
    assert "published encoder" in books.shown("06", "positions")
    cosine = re.findall(r"cosine (\S+)", books.shown("06", "positions"))
    assert cosine[0] == "1.00" and f"(MiniLM has them, and makes little of them here: {cosine[1]}." in prose()


def test_training_on_documentation_pays():
    """What the prose says of the second table's seeds, and that the lesson's run is one of them."""
    table = pd.read_csv(DOCUMENTATION, sep="\t")
    untouched = table[table["run"] == "untouched"].iloc[0]
    for run in ("base", "twice as long"):
        seeds = table[table["run"] == run].sort_values("seed")
        assert list(seeds["seed"]) == [0, 1, 2]
        assert (seeds["test low"] > 0).all() and (seeds["dev low"] > 0).all()
        assert (abs(seeds["course recall@1"] - untouched["course recall@1"]) < 0.0101).all()
        assert (seeds["sts Pearson"] >= untouched["sts Pearson"]).all()
    for run, says in (("base", "seeds of 25 steps gain"), ("twice as long", "and 50 steps gain")):
        seeds = table[table["run"] == run].sort_values("seed")["test gain"]
        assert says + " {:.3f}, {:.3f} and {:.3f}".format(*seeds) in prose()
    base = table[table["run"] == "base"].sort_values("seed")["dev gain"]
    assert "seeds of `base` gain {:.3f}, {:.3f} and {:.3f}:".format(*base) in prose()
    for run in ("two encoders", "by the library"):
        found = table[(table["run"] == run)].iloc[0]["dev gain"]
        assert base.min() < found < base.max(), run
    first = table[(table["run"] == "base") & (table["seed"] == 0)].iloc[0]
    assert f"from {untouched['dev MRR']:.2f} to {first['dev MRR']:.2f}" in prose()
    assert f"{first['test gain']:.2f} in MRR" in prose() and round(first["test gain"], 2) == 0.03
    more = 100 * (first["test recall@1"] - untouched["test recall@1"])
    assert round(more) == 3 and "three more of a hundred questions" in prose()
    settings, source = documentation_pairs.BASE, books.cell("06", "train").source
    for name in ("steps", "batch", "scale", "warmup"):
        assert f"{name}={settings[name]}" in source, name
    assert settings["lr"] == 1e-4 and "lr=1e-4" in source and f"frozen={documentation_pairs.FROZEN}" in source
    assert settings["steps"] * settings["batch"] == 1_200 and "25 steps see 1,200 of the 5,843" in prose()


def test_one_change_at_a_time():
    """Each figure that the prose gives of a run of one seed, and which runs keep no gain."""
    text = prose()
    table = pd.read_csv(DOCUMENTATION, sep="\t")
    one = table[table["seed"] == 0].set_index("run")
    assert set(documentation_pairs.RUNS) <= set(one.index)
    gain = {run: signed(value) for run, value in one["dev gain"].dropna().items()}
    of_batches = [gain[run] for run in ("batch of 12", "batch of 24", "base", "batch of 96")]
    assert "a batch gain {}, {}, {} and {}.".format(*of_batches) in text
    low, high = one.loc["scale 5", ["dev low", "dev high"]]
    assert f"({gain['scale 5']}, interval {signed(low)} to {high:.3f}); with 50" in text
    assert f"a temperature of 0.02, it is {gain['scale 50']}" in text
    assert one.loc["nearest wrong answer", "dev low"] < 0 < one.loc["20th nearest wrong answer", "dev low"]
    near, further = gain["nearest wrong answer"], gain["20th nearest wrong answer"]
    assert f"gains {near}, and the interval holds 0. The 20th nearest gains {further}" in text
    assert one.loc["nearest wrong answer", "dev gain"] < one.loc["base", "dev gain"] / 2
    taught = one.loc["cross-encoder as teacher", "dev gain"] / one.loc["base", "dev gain"]
    assert f"gains {gain['cross-encoder as teacher']}, half" in text and 0.45 < taught < 0.55
    both = (
        f"gain {gain['two encoders']}, **the library's trainer** {gain['by the library']}: within the seeds"
    )
    assert both in text
    longer, library = gain["twice as long"], gain["twice as long, by the library"]
    assert f"gain {longer}, by the library {library}" in text
    shown = books.shown("06", "changes")
    no_gain = set(one.index[(one["dev low"] <= 0) & ~one.index.str.contains("averaged")])
    assert no_gain == {"scale 5", "nearest wrong answer", "ten times the rate"}
    loss = set(one.index[(one["dev high"] < 0) & ~one.index.str.contains("averaged")])
    assert loss == {"ten times the rate"}
    assert (
        "Orange, below 0: ten times the rate. Grey, for they hold 0: scale 5, nearest wrong answer." in shown
    )
    assert all(run in shown for run in documentation_pairs.RUNS)
    seeds = table.loc[table["run"] == "base", "dev gain"]
    for run in (
        "nearest wrong answer",
        "cross-encoder as teacher",
    ):  # "no further from base's lowest than its seeds"
        assert 0 < seeds.min() - one["dev gain"][run] < seeds.max() - seeds.min()
    for run in ("scale 5", "ten times the rate"):
        assert seeds.min() - one["dev gain"][run] > seeds.max() - seeds.min()


def test_what_is_lost_at_ten_times_the_rate():
    text = prose()
    table = pd.read_csv(DOCUMENTATION, sep="\t")
    one = table[table["seed"] == 0].set_index("run")
    before, run, mean = (
        one.loc[name] for name in ("untouched", "ten times the rate", "ten times the rate, averaged")
    )
    assert f"{-run['dev gain']:.3f} on dev itself, {-run['test gain']:.3f} on test" in text
    assert run["dev high"] < 0 and run["test high"] < 0
    assert round(300 * (before["course recall@1"] - run["course recall@1"])) == 22 and "twenty-two of" in text
    assert f"(recall@1 {run['course recall@1']:.3f} instead of {before['course recall@1']:.3f})" in text
    assert f"falls from {before['sts Pearson']:.3f} to {run['sts Pearson']:.3f}" in text
    for column in ("course recall@1", "sts Pearson"):
        assert 0.3 < (mean[column] - run[column]) / (before[column] - run[column]) < 0.6, "about half-way"
    assert f"back at MiniLM on dev ({mean['dev MRR']:.3f})" in text and abs(mean["dev gain"]) < 0.005
    ends = f"(+{mean['test gain']:.3f}, interval {signed(mean['test low'])} to {mean['test high']:.3f})"
    assert f"on test {ends}" in text
    assert f"questions ({mean['course recall@1']:.3f}) and Pearson ({mean['sts Pearson']:.3f})" in text
    assert f"{run['course recall@1']:.3f}" in books.shown("06", "lost_table")


def test_what_the_prose_says_of_the_saved_run():
    """Two digits of what the reader's own machine gives anew: each is what the saved run showed."""
    answer = re.search(r"mountain in the world\?', (\S+) 'The tallest", books.shown("06", "keep"))[1]
    assert f"The answer is at {answer}, the question's own copy at 1.00" in prose()
    first, ten, last = re.findall(r"\d+ steps (\d\.\d+)", books.shown("06", "train"))
    assert f"from {float(first):.2f} to {float(last):.2f}" in prose()
    assert float(ten) - float(first) > 0.7 * (float(last) - float(first)), "most of it after ten steps"
    verdict_of_own = books.shown("06", "own")
    assert "no difference beyond luck" in verdict_of_own and "table nothing was gained" in prose()
    assert "[" in books.shown("06", "library") and "the difference of the two models holds 0" in prose()


def test_the_nearest_wrong_answers_that_are_right():
    shares = re.findall(r"for (\S+)% of the questions", books.shown("06", "nearest"))
    assert f"Here {shares[0]} % of the nearest wrong answers" in prose()
    assert f"of the twentieth nearest {shares[1]} %" in prose()


def test_the_second_tables_untouched_row_computed_again():
    part = documentation.pairs("dev").sample(500, random_state=0)
    encoder = documentation_pairs.untouched().eval()
    found = ranking.reciprocal_ranks(encoder, encoder, part)
    table = pd.read_csv(DOCUMENTATION, sep="\t")
    row = table[table["run"] == "untouched"].iloc[0]
    assert found.mean() == pytest.approx(row["dev MRR"], abs=0.002)
    assert (found == 1).mean() == pytest.approx(row["dev recall@1"], abs=0.003)


# --- exercises -----------------------------------------------------------------------------------


def test_solutions_are_right(capsys):
    solutions = books.definitions(SOLUTIONS, "chance_loss", "split", "hard_negatives")
    for name in ("chance_loss", "split", "hard_negatives"):
        getattr(lesson06, name)(solutions[name])
        assert capsys.readouterr().out.startswith("Right"), name


def cut(questions, answers, share, seed):
    n = round(share * len(questions))
    return list(range(n)), list(range(n, len(questions)))


def everything(questions, answers, share, seed):
    return list(range(len(questions))), []


def first_group_found(*columns):
    """The wrong answer that goes through the rows once: where a row joins two groups they are not merged."""

    def split(questions, answers, share, seed):
        first, groups = {"questions": {}, "answers": {}}, {}
        for row, (question, answer) in enumerate(zip(questions, answers, strict=True)):
            text = {"questions": question, "answers": answer}
            group = next((first[c][text[c]] for c in columns if text[c] in first[c]), row)
            for column in columns:
                first[column].setdefault(text[column], group)
            groups.setdefault(group, []).append(row)
        train, test = [], []
        for group in np.random.default_rng(seed).permutation(list(groups)):
            fits = len(train) + len(groups[group]) <= share * len(questions)
            (train if fits else test).extend(groups[group])
        return train, test

    return split


def half_of_the_groups(questions, answers, share, seed):
    """Nothing is torn, but share is ignored."""
    return books.definitions(SOLUTIONS, "split")["split"](questions, answers, 0.55, seed)


@pytest.mark.parametrize(
    ("check", "answer", "says"),
    [
        ("chance_loss", lambda batch, negatives: ..., "Not yet written"),
        ("chance_loss", lambda batch, negatives: np.log(batch), "for batch=32, negatives=1"),
        ("chance_loss", lambda batch, negatives: np.log(batch + negatives), "for batch=32, negatives=1"),
        ("chance_loss", lambda batch, negatives: np.log(batch * 2), "for batch=2, negatives=0"),
        ("chance_loss", lambda batch, negatives: float("nan"), "Not yet"),
        ("split", lambda *_: ..., "Not yet written"),
        ("split", lambda *_: 1 / 0, "stopped with ZeroDivisionError"),
        ("split", lambda *_: 5, "should give two lists"),
        ("split", lambda q, a, share, seed: ([0], [1]), "does not give every row once"),
        ("split", cut, "which share questions or answers"),
        ("split", first_group_found("questions", "answers"), "parts rows [0, 10, 11], which share"),
        ("split", first_group_found("answers", "questions"), "parts rows [0, 10, 11], which share"),
        ("split", first_group_found("questions"), "which share questions or answers"),
        ("split", first_group_found("answers"), "parts rows [0, 10, 11], which share"),
        ("split", everything, "in training, where share is"),
        ("split", half_of_the_groups, "of 60 rows in training, where share is 0.7"),
        ("hard_negatives", lambda q, a, k: ..., "Not yet written"),
        ("hard_negatives", lambda q, a, k: (q @ a.T).fill_diagonal_(-9e9).topk(k).indices, "Not yet"),
        ("hard_negatives", lambda q, a, k: [1], "Not yet"),
    ],
)
def test_wrong_answers_are_explained(capsys, check, answer, says):
    getattr(lesson06, check)(answer)
    assert says in capsys.readouterr().out


def test_one_split_for_every_seed_is_noticed(capsys):
    solution = books.definitions(SOLUTIONS, "split")["split"]
    lesson06.split(lambda q, a, share, seed: solution(q, a, share, 0))
    assert "is the same for the seeds" in capsys.readouterr().out
