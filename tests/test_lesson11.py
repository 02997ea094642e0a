"""Lesson 11: its nDCG is the libraries', its tasks are what the lesson says, and
mteb does with names what the lesson warns of."""

import re
from collections import Counter

import books
import contamination
import mteb
import numpy as np
import pandas as pd
import pytest
import pytrec_eval
from scipy.stats import spearmanr
from sklearn.cluster import MiniBatchKMeans
from sklearn.metrics import average_precision_score, ndcg_score, v_measure_score

from helpers import ROOT, data, intervals, tasks
from helpers.exercises import lesson11

pytestmark = pytest.mark.filterwarnings("ignore:To copy construct from a tensor")

LESSON, SOLUTION = books.path("11"), books.path("11", solutions=True)
KINDS = [
    "STS",
    "Retrieval",
    "Reranking",
    "Classification",
    "Clustering",
    "PairClassification",
    "BitextMining",
    "Summarization",
]


@pytest.fixture(scope="module")
def space():
    return books.definitions(
        LESSON,
        "ndcg",
        "named",
        "FromTexts",
        "random_vectors",
        "CourseSTS",
        "mean",
        "spearman",
        "compare",
    )


@pytest.fixture(scope="module")
def evaluated(space, tmp_path_factory):
    """All eight tasks on random vectors: (scores by kind, folder of predictions)."""
    folder = tmp_path_factory.mktemp("predictions")
    tasks.register(space["CourseSTS"], *tasks.ALL)
    course = mteb.get_tasks(tasks=[f"Course{kind}" for kind in KINDS])
    model = space["FromTexts"]("course/random", space["random_vectors"])
    found = mteb.evaluate(model, course, cache=None, prediction_folder=folder, show_progress_bar=False)
    return {r.task_type: r for r in found.task_results}, folder


# nDCG -------------------------------------------------------------------------------------


def cases(n=30):
    draw = np.random.default_rng(0)
    for _ in range(n):
        names = [f"d{i:02}" for i in range(25)]
        grades = {name: int(g) for name, g in zip(names, draw.integers(0, 4, 25), strict=True)}
        yield {name: float(x) for name, x in zip(names, draw.random(25), strict=True)}, grades


@pytest.mark.parametrize("k", [1, 3, 10])
def test_ndcg_is_that_of_both_libraries(space, k):
    for run, grades in cases():
        found = space["ndcg"](run, grades, k)
        theirs = ndcg_score([[grades[d] for d in run]], [list(run.values())], k=k)
        trec = pytrec_eval.RelevanceEvaluator({"q": grades}, {f"ndcg_cut.{k}"}).evaluate({"q": run})
        assert found == pytest.approx(theirs, rel=1e-5)
        assert found == pytest.approx(trec["q"][f"ndcg_cut_{k}"], rel=1e-5)


def test_ndcg_of_documents_missed_ungraded_or_tied(space):
    runs = [
        ({"a": 0.5, "z": 0.9}, {"a": 1, "b": 3}),
        ({"a": 0.5, "b": 0.5, "c": 0.5}, {"a": 2, "c": 1}),
        ({"z": 1.0}, {"a": 1}),
        ({}, {"a": 1}),
    ]
    for run, grades in runs:
        trec = pytrec_eval.RelevanceEvaluator({"q": grades}, {"ndcg_cut.10"}).evaluate({"q": run})
        assert space["ndcg"](run, grades) == pytest.approx(trec["q"]["ndcg_cut_10"] if run else 0)


def test_ndcg_of_one_relevant_document_is_the_discount_of_its_place(space):
    run = {f"d{i:02}": -i for i in range(1, 13)}
    found = [space["ndcg"](run, {f"d{i:02}": 1}) for i in range(1, 13)]
    assert found == pytest.approx([1 / np.log2(i + 1) for i in range(1, 11)] + [0, 0])
    assert [round(x, 2) for x in found[:3]] == [1, 0.63, 0.50]


@pytest.mark.parametrize("grades", [{}, {"a": 0}])
def test_ndcg_without_a_relevant_document_is_refused(space, grades):
    with pytest.raises(ValueError, match="no document is relevant to this question"):
        space["ndcg"]({"a": 1.0}, grades)


def test_ndcg_is_mtebs_for_the_same_run(space, evaluated):
    results, folder = evaluated
    found = tasks.json.loads((folder / "CourseRetrieval_predictions.json").read_text(encoding="utf-8"))[
        "default"
    ]["test"]
    qrels = tasks.questions_and_answers()["relevant_docs"]
    scores = results["Retrieval"].scores["test"][0]
    for k in (1, 3, 10, 100):
        ours = np.mean([space["ndcg"](found[q], qrels[q], k) for q in qrels])
        assert ours == pytest.approx(scores[f"ndcg_at_{k}"], abs=1e-5)


def test_the_lesson_prints_the_equalities():
    assert "ours 0.7700, scikit-learn 0.7700, pytrec_eval 0.7700" in books.shown("11", "libraries")
    ours, theirs = re.search(r"ours (0\.\d+), mteb (0\.\d+)", books.shown("11", "all_questions")).groups()
    assert ours == theirs and books.shown("11", "items").count("the same score as mteb's: True") == 7


# mteb, as the lesson tells of it ----------------------------------------------------------


def test_the_cache_mixes_up_models_of_one_name(space, tmp_path):
    cache = mteb.ResultCache(tmp_path)
    letters = lambda texts: np.array([[len(t), t.count("e"), t.count(" ")] for t in texts], "f")

    def score(name, function):
        found = mteb.evaluate(
            space["FromTexts"](name, function), space["CourseSTS"](), cache=cache, show_progress_bar=False
        )
        return found.task_results[0].get_score()

    first = score("a/model", letters)
    assert score("a/model", space["random_vectors"]) == pytest.approx(first, abs=1e-5)
    assert score("b/model", space["random_vectors"]) != pytest.approx(first, abs=1e-3)


def test_models_from_a_folder_have_one_name():
    assert books.shown("11", "names").count("no_model_name/available") == 2


@pytest.mark.parametrize("name", ["minilm", "a/b/c", "/b", "a/"])
def test_a_name_that_mteb_cannot_use_is_refused(space, name):
    with pytest.raises(ValueError, match="is no name for mteb: write maker/model"):
        space["named"](None, name)


def test_a_score_of_random_vectors_is_not_zero_everywhere(evaluated):
    scores = {kind: r.get_score() for kind, r in evaluated[0].items()}
    assert abs(scores["STS"]) < 0.1 and scores["Retrieval"] < 0.05
    assert abs(scores["Classification"] - 0.2) < 0.1 and abs(scores["PairClassification"] - 0.5) < 0.1
    draw = np.random.default_rng(0).integers(8, size=(2, 160))
    assert v_measure_score(*draw) > 0.05 and scores["Clustering"] > 0.1


def test_half_of_the_random_clustering_score_is_that_reviews_are_drawn_twice(space, evaluated):
    table = data.reviews()
    vectors = space["random_vectors"](list(table["review"]))
    once = np.mean(
        [
            v_measure_score(
                table["subject"], MiniBatchKMeans(8, n_init=1, random_state=seed).fit_predict(vectors)
            )
            for seed in range(40)
        ]
    )
    twice = evaluated[0]["Clustering"].get_score() - once
    assert round(once + twice, 2) == 0.19 and abs(once - 0.09) < 0.01 and abs(twice - 0.10) < 0.01
    prose = next(c.source for c in books.read(LESSON).cells if c.id == "cell-27")
    assert "they get 0.19" in prose and "0.09 here" in prose and "the other 0.10" in prose


def test_the_tasks_of_mteb_that_the_lesson_names_are_there_one_of_each_kind():
    lesson = {}
    exec(books.cell("11", "public").source, lesson)
    found = [mteb.get_task(name) for name in lesson["public"]]
    assert sorted(t.metadata.type for t in found) == sorted(KINDS)
    assert not any(t.superseded_by for t in found)
    assert "deu-eng" in mteb.get_task("Tatoeba").hf_subsets


# the course's tasks -----------------------------------------------------------------------


def test_every_item_scores_as_mteb_does(evaluated):
    results, folder = evaluated
    found = tasks.items(folder)
    assert sorted(found) == sorted(set(KINDS) - {"Clustering"})
    statistic = {"STS": lambda r, v: spearmanr(r, v).statistic, "PairClassification": average_precision_score}
    for kind, (right, values) in found.items():
        score = statistic.get(kind, lambda _, v: v.mean())(right, values)
        assert score == pytest.approx(results[kind].get_score(), abs=1e-4), kind


def test_main_scores_are_as_the_table_says(space):
    wanted = dict(
        zip(
            KINDS,
            [
                "cosine_spearman",
                "ndcg_at_10",
                "map_at_1000",
                "accuracy",
                "v_measure",
                "cosine_ap",
                "accuracy",
                "cosine_spearman",
            ],
            strict=True,
        )
    )
    assert {c.metadata.type: c.metadata.main_score for c in (space["CourseSTS"], *tasks.ALL)} == wanted
    assert (
        tasks.CourseClassification.samples_per_label == 8 and tasks.CourseClassification.n_experiments == 10
    )


def test_a_reranking_task_holds_the_right_answer_and_tells_nothing_by_its_order():
    task = tasks.CourseReranking()
    task.load_data()
    rows = task.dataset["default"]["test"]
    places = []
    for i, (question, candidates) in enumerate(rows["top_ranked"].items()):
        assert len(set(candidates)) == tasks.CANDIDATES and candidates == sorted(candidates)
        assert rows["relevant_docs"][question] == {f"a{i:04}": 1}
        places.append(candidates.index(f"a{i:04}"))
    assert len(places) == 300 and 5 < np.mean(places) < 14
    held_out = tasks.documentation_pairs()
    assert list(rows["queries"]["text"]) == list(held_out["question"])
    assert list(rows["corpus"]["text"]) == list(held_out["answer"])


def test_bm25_finds_the_text_with_the_words():
    texts = ["the cat sat on the mat", "dogs chase cats in parks", "a violin and a cello"]
    assert tasks.bm25(texts, ["who plays the cello"], 1) == [[2]]


def test_pairs_share_the_word_and_the_label_says_whether_the_sense():
    table = data.word_senses().set_index("sentence")
    task = tasks.CoursePairClassification()
    task.load_data()
    rows = task.dataset["test"]
    assert Counter(rows["labels"]) == {1: 119, 0: 119}
    for first, second, label in zip(rows["sentence1"], rows["sentence2"], rows["labels"], strict=True):
        one, other = table.loc[first], table.loc[second]
        assert one["word"] == other["word"] and (one["sense"] == other["sense"]) == bool(label)
        assert first != second


def test_reviews_are_split_without_overlap():
    task = tasks.ReviewClassification()
    task.load_data()
    train, test = (set(task.dataset[part]["text"]) for part in ("train", "test"))
    assert (len(train), len(test), len(train & test)) == (60, 100, 0)
    assert min(Counter(task.dataset["train"]["label"]).values()) >= 8


def test_texts_to_classify_are_split_without_overlap_and_each_library_has_eight_to_learn_from():
    task = tasks.CourseClassification()
    task.load_data()
    train, test = (set(task.dataset[part]["text"]) for part in ("train", "test"))
    assert (len(train), len(test), len(train & test)) == (150, 150, 0)
    assert (
        min(Counter(task.dataset["train"]["label"]).values()) >= tasks.CourseClassification.samples_per_label
    )


class Counting:
    """A model that counts the texts it was given: a vector is the lengths of prompt and text."""

    prompts = {"query": "ask: "}  # noqa: RUF012

    def __init__(self):
        self.asked = []

    def encode(self, inputs, prompt=None, **options):
        self.asked += inputs
        return np.array([[len(prompt or ""), len(text)] for text in inputs], "f")


def test_a_model_that_remembers_computes_a_text_once_for_each_prompt():
    model = Counting()
    assert tasks.remember(model) is model
    assert model.encode(["a", "bbb", "a"]).tolist() == [[0, 1], [0, 3], [0, 1]]
    assert model.encode("bbb", prompt="").tolist() == [0, 3]
    assert model.encode(["a"], prompt_name="query").tolist() == [[5, 1]]
    assert model.encode(["a"], prompt="ask: ").tolist() == [[5, 1]]
    assert model.asked == ["a", "bbb", "a"]


# training on the test ---------------------------------------------------------------------


def kept_runs():
    return pd.read_csv(ROOT / "models" / "recipes" / "contamination.tsv", sep="\t").set_index(["run", "seed"])


def test_the_run_on_copies_is_judged_on_the_lessons_pairs_and_on_fresh_ones():
    beds = contamination.beds()
    for side in ("question", "answer"):
        assert list(beds["test"][side]) == list(tasks.documentation_pairs()[side])
        assert not set(beds["test"][side]) & set(beds["fresh"][side])
    assert set(beds["fresh"]["library"]) == set(beds["test"]["library"]) and len(beds["fresh"]) == 300
    copies = contamination.near_copies(beds["test"], seed=0)
    for copy, whole in zip(copies["answer"], beds["test"]["answer"], strict=True):
        words = iter(whole.split())
        assert all(word in words for word in copy.split()) and len(copy.split()) <= 0.85 * len(whole.split())
    found = contamination.ndcg(contamination.untouched(), beds["test"]).mean()
    assert found == pytest.approx(kept_runs().loc[("untouched", 0), "test"], abs=0.003)


def test_copies_lift_the_test_more_than_fresh_pairs_and_more_than_other_libraries_do():
    runs = kept_runs()
    for seed in (0, 1):
        copies, others = (runs.loc[(run, seed)] for run in contamination.RUNS)
        assert copies["test low"] > max(copies["fresh high"], others["test high"])
        assert copies["fresh low"] > 0 and copies["test gain"] > 3 * copies["fresh gain"]
        for bed in ("test", "fresh"):
            assert 0.005 < others[f"{bed} gain"] < 0.025
            for row in (copies, others):
                gain = row[bed] - runs.loc[("untouched", 0), bed]
                assert row[f"{bed} gain"] == pytest.approx(gain, abs=2e-4)
    assert [runs.loc[("other libraries", 0), f"{bed} low"] < 0 for bed in ("test", "fresh")] == [True, True]
    assert [runs.loc[("other libraries", 1), f"{bed} low"] > 0 for bed in ("test", "fresh")] == [True, True]


def test_the_library_says_what_the_lesson_says_of_today():
    printed = books.shown("11", "known")
    assert "MTEB(eng, v1): 56 tasks" in printed and "MTEB(eng, v2): 41 tasks" in printed
    about = {v: mteb.get_benchmark(f"MTEB(eng, {v})").description for v in ("v1", "v2")}
    assert "prioritizing tasks not commonly used for fine-tuning" in about["v2"]
    assert (
        "scoring bug" in about["v1"] and "removes common fine-tuning datasets such as MSMARCO" in about["v1"]
    )


# the new tables ---------------------------------------------------------------------------


def test_reviews_are_balanced():
    table = data.reviews()
    assert set(Counter(zip(table["subject"], table["verdict"], strict=True)).values()) == {10}
    assert table["review"].is_unique and table["subject"].nunique() == 8


def test_translations_are_pairs():
    table = data.translations()
    assert len(table) == 60 and table["english"].is_unique and table["german"].is_unique
    assert not set(table["english"]) & set(table["german"])


def test_summaries_have_four_different_scores_in_no_order():
    groups = [rows for _, rows in data.summaries().groupby(["text", "reference"], sort=False)]
    assert len(groups) == 12
    for rows in groups:
        assert len(rows) == 4 and rows["score"].is_unique and (rows["score"] * 2 % 1 == 0).all()
    assert {int(rows["score"].argmax()) for rows in groups} == {0, 1, 2, 3}
    words = [len(rows["text"].iloc[0].split()) for rows in groups]
    assert 35 <= np.mean(words) <= 55


def test_a_bad_score_gets_one_sentence(tmp_path):
    file = tmp_path / "mine.tsv"
    file.write_text("text\treference\tsummary\tscore\na\tb\tc\t7\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine.tsv, row 2: score is '7'; it must be a number, 0 to 5"):
        data.summaries(file)


# the bootstrap ----------------------------------------------------------------------------


def test_two_models_are_compared_on_the_same_draws(space):
    draw = np.random.default_rng(1)
    right, values = np.zeros(80), draw.normal(size=80)
    a, b = (intervals.drawn(right, x, statistic=space["mean"], draws=1_000) for x in (values, values - 0.1))
    space["drawn"] = {"one": {"Retrieval": a}, "other": {"Retrieval": b}}
    assert space["compare"]("one", "other", "Retrieval")[2] == "ahead"
    assert space["compare"]("other", "one", "Retrieval")[2] == "behind"
    space["drawn"]["other"]["Retrieval"] = draw.permutation(a)
    assert space["compare"]("one", "other", "Retrieval")[2] == "not settled"


def test_a_comparison_on_the_same_questions_is_the_sharper_one():
    line = r"one score \+-(\S+), difference \+-(\S+), on other questions \+-(\S+)"
    lines = re.findall(line, books.shown("11", "sizes"))
    assert len(lines) == 6
    for _, paired, apart in lines:
        assert float(paired) <= float(apart)
    assert float(lines[0][1]) < float(lines[0][2])
    first, last = (float(lines[i][1]) for i in (0, 5))
    assert first / last == pytest.approx(np.sqrt(300 / 10), rel=0.25)


def test_what_the_prose_says_of_the_scores():
    """Twelve texts make the widest interval, and bge-small is settled ahead of MiniLM nowhere but on STS."""
    line = r"^(\w+) +MiniLM minus raw BERT: \S+ \((\S+) to (\S+)\)"
    shown = books.shown("11", "differences")
    ends = re.findall(line, shown, re.M)
    widths = {kind: float(high) - float(low) for kind, low, high in ends}
    assert len(widths) == 8 and max(widths, key=widths.get) == "Summarization"
    found = re.findall(r"^(\w+) +bge-small minus MiniLM: .*  (ahead|behind|not settled)$", shown, re.M)
    assert len(found) == 8 and [kind for kind, word in found if word == "ahead"] == ["STS"]


def test_the_first_bed_has_no_room_and_the_second_has():
    shown = books.shown("11", "beds")
    easy, room = map(
        float, re.search(r"MiniLM (\S+); a better model could gain (\S+) at most", shown).groups()
    )
    assert easy > 0.98 and easy + room == pytest.approx(1, abs=1e-3)
    line = r"the documentation, (\S+): (\S+) \((\S+) to (\S+)\)"
    found = {name: [float(x) for x in rest] for name, *rest in re.findall(line, shown)}
    assert 0.7 < found["MiniLM"][0] < 0.78 and found["difference"][1] > 0


# the checks of the exercises --------------------------------------------------------------

NAMES = ("recall", "reciprocal_rank", "average_precision", "interval")


def test_the_worked_answers_are_right_and_the_blanks_are_not(capsys):
    books.judge_exercises(lesson11, SOLUTION, capsys, *NAMES, also=("best_first",))


def test_the_checks_explain_wrong_answers(capsys):
    order = lambda run: sorted(run, key=run.get, reverse=True)

    def unpaired(first, second):
        a, b = np.random.default_rng(0).integers(len(first), size=(2, 2000, len(first)))
        return np.percentile(first[a].mean(axis=1) - second[b].mean(axis=1), [2.5, 97.5])

    wrong = {
        "recall": [
            lambda run, g, k: len(set(order(run)[:k]) & set(g)) / len(g),
            lambda run, g, k: len({d for d in order(run)[:k] if g.get(d)}) / k,
        ],
        "reciprocal_rank": [
            lambda run, g: next((1 / i for i, d in enumerate(run, 1) if g.get(d)), 0),
            lambda run, g: next(1 / i for i, d in enumerate(order(run), 1) if g.get(d)),
            lambda run, g: next((1 / i for i, d in enumerate(order(run)[:10], 1) if g.get(d)), 0),
        ],
        "average_precision": [
            lambda run, g: next((1 / i for i, d in enumerate(order(run), 1) if g.get(d)), 0)
        ],
        "interval": [unpaired, lambda a, b: (0, 0), lambda a, b: a - b],
    }
    for name, functions in wrong.items():
        for function in functions:
            getattr(lesson11, name)(function)
            assert capsys.readouterr().out.startswith(f"Not yet: {name} for"), name


def test_what_the_prose_says_of_the_letters_finds():
    book = books.read(LESSON)
    shown = "\n".join(map(books.said, books.code(book)))
    hits, letters, both = map(
        int, re.search(r"found: (\d+) of 60; letters find (\d+), .* both find (\d+);", shown).groups()
    )
    assert (hits, both) == (12, 6) and both < letters
    prose = " ".join(" ".join(c.source.split()) for c in book.cells if c.cell_type == "markdown")
    assert "Six of its twelve the letters find as well" in prose
