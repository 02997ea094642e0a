"""Lesson 17: its table is the recipe's, its adapter and vectors belong together, its sentences hold against its outputs."""

import re

import books
import numpy as np
import pandas as pd
import pytest

from helpers import collection, data, documentation, documents, judging, kept_vectors
from helpers.exercises import lesson17
from helpers.intervals import interval

LESSON, SOLUTION = books.path("17"), books.path("17", solutions=True)
TABLE = books.ROOT / "models" / "recipes" / "own_questions.tsv"
ADAPTER = books.ROOT / "models" / "adapters" / "documentation"


@pytest.fixture(scope="module")
def lines():
    return pd.read_csv(TABLE, sep="\t")


@pytest.fixture(scope="module")
def prose():
    return "\n".join(c.source for c in books.read(LESSON).cells if c.cell_type == "markdown")


# nothing is judged on what it was trained on -----------------------------------------------------


def test_no_training_question_asks_for_what_is_judged():
    asked, judged = data.documentation_questions(), data.docs_questions()
    right = set(judged[judged["grade"] > 0]["object"])
    assert not right & set(asked["object"])
    assert not set(judged["question"]) & set(asked["question"])
    parts = asked.groupby("object")["part"].nunique()
    assert (parts == 1).all()
    assert asked["question"].is_unique and set(asked["object"]) <= set(documentation.passages()["object"])


def test_no_training_question_of_the_folder_quotes_what_is_judged():
    judged, pairs = (
        pd.read_csv(books.ROOT / "shared_data" / f"allotments_{name}.tsv", sep="\t", quoting=3)
        for name in ("questions", "pairs")
    )
    assert not set(judged["question"]) & set(pairs["question"])
    assert not set(judged["text"]) & set(pairs["text"])
    absent = judging.questions(books.ROOT / "shared_data" / "allotments_absent.tsv")
    assert len(absent) == 24 and not set(absent) & (set(judged["question"]) | set(pairs["question"]))


# the adapter and the table -----------------------------------------------------------------------


def test_the_kept_vectors_are_the_adapter_s():
    texts = documentation.passages()["text"]
    vectors, found = kept_vectors.lookup(texts, kept_vectors.ADAPTED)
    assert found.all()
    rows = np.random.default_rng(0).choice(len(texts), 12, replace=False)
    fresh = collection.encoder(ADAPTER).encode(list(texts.iloc[rows]), normalize_embeddings=True)
    assert ((fresh * vectors[rows]).sum(axis=1) > 0.998).all()


def test_the_lesson_s_live_row_is_the_table_s(lines):
    of = lines[(lines["bed"] == "judged") & (lines["stage"] == "vectors") & (lines["seed"] == 0)]
    shown = books.shown("17", "adapted")
    for run, name in (("MiniLM", "MiniLM"), ("all", "adapted")):
        said = float(re.search(rf"^{name}: nDCG@10 (\S+)", shown, re.M)[1])
        assert said == pytest.approx(of[of["run"] == run]["score"].mean(), abs=0.004)


def test_the_table_s_untouched_row_is_lesson_13_s(lines):
    theirs = pd.read_csv(books.ROOT / "models" / "recipes" / "docs_retrieval.tsv", sep="\t")
    theirs = theirs[theirs["stage"] == "vectors"].set_index("question_id")["ndcg"]
    ours = lines[(lines["run"] == "MiniLM") & (lines["stage"] == "vectors") & (lines["bed"] == "judged")]
    ours = ours.set_index("question")["score"]
    assert (ours - theirs[ours.index]).abs().mean() < 0.002


def test_every_run_has_every_question(lines):
    for (_, bed), rows in lines.groupby(["run", "bed"]):
        counts = rows.groupby(["seed", "stage"])["question"].nunique()
        wanted = {"judged": 126, "dev": (203, 102)}.get(bed)
        for (_, stage), n in counts.items():
            if bed == "judged":
                assert n == wanted
            elif bed == "dev":
                assert n == (102 if stage.startswith(("reranked", "blended")) else 203)


def test_what_is_said_of_dev(lines, prose):
    of = lines[(lines["bed"] == "dev") & (lines["stage"] == "vectors") & (lines["seed"] == 0)]
    before, after = (of[of["run"] == run]["score"].mean() for run in ("MiniLM", "all"))
    assert f"rises from {before:.3f} to {after:.3f}" in " ".join(prose.split())


def test_training_pays_with_all_questions_for_each_seed(lines):
    of = lines[(lines["bed"] == "judged") & (lines["stage"] == "vectors")]
    before = of[of["run"] == "MiniLM"].set_index("question")["score"]
    for _, rows in of[of["run"] == "all"].groupby("seed"):
        low, _ = interval(rows.set_index("question")["score"] - before)
        assert low > 0


def test_the_telling_words_of_a_question_do_not_occur_in_the_papers(prose):
    found, failed = documents.read(books.ROOT / "shared_data" / "allotments")
    papers = " ".join(one.text for one in found).casefold()
    assert not failed and "shed" in papers and "*grill* and *sausages*, do not occur in the papers" in prose
    assert "grill" not in papers and "sausage" not in papers


def test_the_blend_is_ahead_where_it_was_chosen_and_behind_elsewhere(prose):
    of = dict(re.findall(r"(?m)^\d +(\w+) +\S+ +(\d\.\d+ +\d\.\d+)", books.shown("17", "tuned")))
    (chose, judged), (chose_alone, judged_alone) = (
        map(float, of[s].split()) for s in ("blended", "reranked")
    )
    assert (round(chose - chose_alone, 3), round(judged_alone - judged, 3)) == (0.005, 0.005)
    assert "ahead of it by 0.005 where it was chosen, and is behind by 0.005 here" in " ".join(prose.split())
    assert f"fusion alone has {of['fused'].split()[1]}" in prose


# sentences ---------------------------------------------------------------------------------------

# What a cell shows, and how the prose says it.
SAID = {
    "tuned": [
        ("0.734", "0.734"),
        ("0.586", "0.586"),
        ("+0.148 [+0.023, +0.278]", "+0.148, interval 0.023 to 0.278"),
        (
            "blended, weight of the vectors 0.6, of the cross-encoder 0.7",
            "seven tenths of it the cross-encoder's",
        ),
        ("cosine 0.39", "cosine of 0.39"),
        ("32%", "32 %"),
        ("17%", "17 %"),
    ],
    "curve": [
        (
            "0.032  0.013  0.052",
            "bring +0.032, +0.038 and +0.038 (the lowest with an interval from 0.013 to 0.052)",
        ),
        ("0.347  0.038  0.018  0.059", "each with three seeds"),
        ("0.054  0.027  0.082", "three hundred 0.048 to 0.054"),
        ("0.048  0.023  0.074", "three hundred 0.048 to 0.054"),
        ("0.054  0.019  0.090", "all 981 0.054 to 0.064"),
        ("0.064  0.028  0.100", "all 981 0.054 to 0.064"),
        (
            "300 minus 100, means of the seeds: +0.015 [+0.003, +0.027], a gain",
            "+0.015, interval 0.003 to 0.027",
        ),
        (
            "981 minus 300, means of the seeds: +0.009 [-0.010, +0.028], no diff",
            "+0.009, interval −0.010 to 0.028",
        ),
    ],
    "library": [
        ("+0.023 [-0.004, +0.049]", "+0.023, interval −0.004 to 0.049"),
        ("no difference beyond luck", "No difference is seen"),
    ],
    "steps": [
        ("0.373", "the adapted encoder has 0.373"),
        ("0.074  +0.040 to +0.109", "0.383 (+0.074, interval 0.040 to 0.109)"),
        ("+0.010 [-0.010, +0.030], no difference", "is not settled (+0.010, interval −0.010 to 0.030)"),
        ("0.015", "fusion alone brings MiniLM 0.015"),
        ("0.015  +0.003 to +0.030", "(Its interval, 0.003 to 0.030, leaves out 0"),
        ("0.015  +0.003 to +0.030", "126 saw a small one of fusion (0.003 to 0.030)"),
        ("0.370", "its own order (0.370)"),
    ],
    "second": [
        ("+0.049 [-0.020, +0.124]", "+0.049, interval −0.020 to 0.124"),
        ("-0.005 [-0.019, +0.008], no difference", "behind by 0.005 here"),
        ("about 56 questions", "With about 56 that chose"),
    ],
    "nearest": [("0.57  which potato variety resists blight best", "the potatoes come to 0.57")],
    "misses": [("42 of 50", "Forty-two of fifty")],
    "live": [
        ("+0.038 [+0.005, +0.073]", "0.038 (interval 0.005 to 0.073)"),
        ("0.569", "MRR@10 on dev rises"),
    ],
    "forgot": [("0.649", "Pearson is 0.649 before and after"), ("0.970", "0.970 instead of 0.963")],
    "folder": [
        ("-0.039 [-0.127, +0.029]", "−0.039"),
        ("+0.034 [-0.027, +0.092]", "+0.034"),
        ("43 questions", "Forty-three"),
    ],
}


@pytest.mark.parametrize("tag", SAID)
def test_the_sentences_say_what_the_cells_show(tag, prose):
    shown, told = books.shown("17", tag), " ".join(prose.split())
    for output, sentence in SAID[tag]:
        assert output in shown, (tag, output)
        assert sentence in told, (tag, sentence)


def test_what_other_seeds_and_another_lesson_say(lines, prose):
    told = " ".join(prose.split())
    fused = lines[
        (lines["bed"] == "judged") & lines["stage"].str.startswith("fused") & (lines["run"] == "all")
    ]
    of_seed = fused.groupby("seed")["score"].mean()
    assert f"has {of_seed[0]:.3f} ({of_seed[1]:.3f} and {of_seed[2]:.3f} with the other two seeds)" in told
    gains = re.findall(r"(?m)^\d +(?:300|981) +\d +\S+ +(\S+)", books.shown("17", "curve"))
    assert f"by {min(gains)} to {max(gains)};" in told
    n = re.search(
        r"fused by score minus vectors alone: .*no difference seen in (\d+)", books.shown("13", "verdicts")
    )[1]
    assert f"Lesson 13 had {n} for it and saw no gain" in told
    assert f"documentation {n} questions saw no gain over the vectors" in told


def test_the_adapter_s_card_has_the_figures_of_every_seed(lines):
    card = (
        (books.ROOT / "models" / "README.md")
        .read_text(encoding="utf-8")
        .split("## adapters/documentation")[1]
    )
    of = lines[lines["bed"] == "judged"].pivot(
        index="question", columns=["run", "seed", "stage"], values="score"
    )
    before = of["MiniLM", 0, "vectors"]

    def cells(*columns):
        gaps = [of[column] - before for column in columns]
        said = [f"+{gap.mean():.3f} [+{interval(gap)[0]:.3f}, +{interval(gap)[1]:.3f}]" for gap in gaps]
        return f"| {', '.join(f'{of[column].mean():.3f}' for column in columns)} | {', '.join(said)} |"

    for columns in (
        [("100", 0, "vectors")],
        [("100", 1, "vectors"), ("100", 2, "vectors")],
        [("300", 0, "vectors")],
        [("300", 1, "vectors"), ("300", 2, "vectors")],
        [("all", 1, "vectors"), ("all", 2, "vectors")],
        [("all", 1, "fused 0.8"), ("all", 2, "fused 0.9")],
    ):
        assert cells(*columns) in card, columns


def test_the_table_of_the_curve_is_the_recipe_s(lines):
    """Each row of the lesson's curve from the recipe's lines."""
    shown = books.shown("17", "curve")
    of = lines[(lines["bed"] == "judged") & (lines["stage"] == "vectors")]
    before = of[of["run"] == "MiniLM"].set_index("question")["score"]
    for (run, seed), rows in of[of["run"].isin(["100", "300", "all"])].groupby(["run", "seed"]):
        gap = rows.set_index("question")["score"] - before
        low, high = interval(gap)
        size = 981 if run == "all" else int(run)
        numbers = [f"{x:.3f}" for x in (rows["score"].mean(), gap.mean(), low, high)]
        found = [
            line.split()[1:] for line in shown.splitlines() if line.split()[1:3] == [str(size), str(seed)]
        ]
        assert found and found[0][2:] == numbers, (run, seed)


# the exercises -----------------------------------------------------------------------------------


def test_exercises(capsys):
    books.judge_exercises(
        lesson17,
        SOLUTION,
        capsys,
        "reciprocal",
        "enough",
        "split",
    )


WRONG = {
    "reciprocal": {
        "any grade counts": lambda n, g: next((1 / p for p, x in enumerate(n, 1) if g.get(x, 0) > 0), 0.0),
        "places from 0": lambda n, g: next((1 / (p + 1) for p, x in enumerate(n, 1) if g.get(x) == 2), 0.0),
        "the place itself": lambda n, g: next((p for p, x in enumerate(n, 1) if g.get(x) == 2), 0.0),
        "the last answer": lambda n, g: max(
            (
                1 / p
                for p, x in reversed(list(enumerate(n, 1)))
                if g.get(x) == 2 and p == max(q for q, y in enumerate(n, 1) if g.get(y) == 2)
            ),
            default=0.0,
        ),
        "a constant": lambda n, g: 1.0,
        "only what is judged counts": lambda n, g: next(
            (1 / p for p, x in enumerate([x for x in n if x in g], 1) if g.get(x) == 2), 0.0
        ),
        "nan": lambda n, g: float("nan"),
        "True": lambda n, g: True,
    },
    "enough": {
        "n without n - 1": lambda g: _enough(g, ddof=0),
        "the width, not half": lambda g: _enough(g, factor=2 * 1.96),
        "rounded down": lambda g: _enough(g, up=False),
        "two deviations": lambda g: _enough(g, factor=2.0),
        "no size of the mean": lambda g: _enough(g) if sum(g) > 0 else -1,
        "never None": lambda g: _enough(g) or 0,
        "a constant": lambda g: 30,
        "the number at hand": len,
    },
    "split": {
        "by question": lambda p, s: ([x for i, x in enumerate(p) if i % s], p[::s]),
        "the two exchanged": lambda p, s: _split(p, s)[::-1],
        "all": lambda p, s: (p, p),
        "holds out one too late": lambda p, s: _split(p, s, first=1),
        "in another order": lambda p, s: tuple(x[::-1] for x in _split(p, s)),
        "nothing held out": lambda p, s: (p, []),
        "passages in sorted order": lambda p, s: _split(p, s, order=sorted),
    },
}


def _enough(gaps, ddof=1, factor=1.96, up=True):
    mean = abs(np.mean(gaps))
    if mean < 1e-12:
        return None
    n = (factor * np.std(gaps, ddof=ddof) / mean) ** 2
    return int(np.ceil(n)) if up else int(n)


def _split(pairs, share, first=0, order=list):
    held = set(order(dict.fromkeys(p for _, p in pairs))[first::share])
    return [x for x in pairs if x[1] not in held], [x for x in pairs if x[1] in held]


@pytest.mark.parametrize(("name", "how"), [(n, h) for n, of in WRONG.items() for h in of])
def test_a_wrong_answer_is_refused(capsys, name, how):
    getattr(lesson17, name)(WRONG[name][how])
    assert capsys.readouterr().out.startswith("Not yet"), how
