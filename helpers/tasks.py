"""Tasks of the course's own for the library mteb, one for each task type but STS and one more.

Lesson 11 writes the eighth, for STS, in a cell; these are built in the same way: a class of
mteb's, its metadata, and a `load_data` that takes the rows from a table of this course instead
of the network, or from the documentation of the libraries that the reader has.

    from helpers import tasks
    tasks.register(tasks.CourseRetrieval)       # then mteb.get_task("CourseRetrieval") knows it
    tasks.ALL                                   # the seven classes

This module imports mteb, which takes some seconds.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from datasets import Dataset, DatasetDict
from mteb import TaskMetadata
from mteb.abstasks import (
    AbsTask,
    AbsTaskBitextMining,
    AbsTaskClassification,
    AbsTaskClustering,
    AbsTaskPairClassification,
    AbsTaskRetrieval,
    AbsTaskSummarization,
)

from helpers import data, documentation

if TYPE_CHECKING:
    import numpy
    import pandas
    from sentence_transformers import SentenceTransformer

# What mteb 2.26 says about its own calls of sentence-transformers and torch; not a reader's concern.
warnings.filterwarnings("ignore", message=".*get_sentence_embedding_dimension.*")
warnings.filterwarnings("ignore", message="To copy construct from a tensor")

DOCUMENTATION = "documentation.pairs"  # in place of a table: helpers/documentation.py
PAIRS = 300  # of the documentation, in the retrieval, the reranking and the classification task
CANDIDATES = 20  # answers that a reranking task puts in order for each question


def metadata(name: str, kind: str, main_score: str, description: str, table: str, langs=None) -> TaskMetadata:
    """The metadata of a task on `shared_data/TABLE.tsv`, or on the pairs of the documentation.

    kind: mteb's name of the task type; main_score: the score that a leaderboard shows; langs: a
    list such as ["eng-Latn"] or, where the subsets are languages, a dict of lists.
    """
    return TaskMetadata(
        name=name,
        type=kind,
        main_score=main_score,
        description=description,
        category="t2t",
        dataset={"path": table if table == DOCUMENTATION else f"shared_data/{table}.tsv", "revision": "1"},
        license="cc-by-4.0",
        eval_splits=["test"],
        eval_langs=langs or ["eng-Latn"],
        sample_creation="created",
    )


def register(*classes: type[AbsTask]) -> None:
    """Let `mteb.get_task(name)` find these classes, as it finds mteb's own.

    mteb has no call for it: its tasks are those in its package, and a task from outside is
    passed to `mteb.evaluate` as an instance, which needs no registration.
    """
    for cls in classes:
        sys.modules["mteb.get_tasks"]._TASKS_REGISTRY[cls.metadata.name] = cls


def split(columns: dict[str, list], name: str = "test") -> DatasetDict:
    """One split of a data set from a dict of columns of equal length."""
    return DatasetDict({name: Dataset.from_dict(columns)})


def documentation_pairs() -> "pandas.DataFrame":
    """300 of lesson 6's test pairs: library, question (a first sentence), answer (the 36 words after it)."""
    pairs = documentation.pairs("test").sample(PAIRS, random_state=0)
    return pairs.reset_index(drop=True)


def questions_and_answers(pairs: "pandas.DataFrame | None" = None) -> dict:
    """Pairs as mteb wants them: corpus, queries, relevant_docs, top_ranked (None).

    pairs: columns question and answer; by default those of `documentation_pairs`. A text that stands in
    several rows is one passage or one query, and right for all that its rows say.
    """
    pairs = documentation_pairs() if pairs is None else pairs
    answers, queries, relevant = {}, {}, {}
    for i, (question, answer) in enumerate(zip(pairs["question"], pairs["answer"], strict=True)):
        passage, query = answers.setdefault(answer, f"a{i:04}"), queries.setdefault(question, f"q{i:04}")
        relevant.setdefault(query, {})[passage] = 1
    return {
        "corpus": Dataset.from_dict({"id": list(answers.values()), "text": list(answers)}),
        "queries": Dataset.from_dict({"id": list(queries.values()), "text": list(queries)}),
        "relevant_docs": relevant,
        "top_ranked": None,
    }


class CourseRetrieval(AbsTaskRetrieval):
    """Find what follows a first sentence of the documentation among what follows all of them."""

    metadata = metadata(
        "CourseRetrieval",
        "Retrieval",
        "ndcg_at_10",
        "300 first sentences, 300 texts that follow one, one right text each.",
        DOCUMENTATION,
    )

    def load_data(self, **kwargs):
        self.dataset = {"default": {"test": questions_and_answers()}}
        self.data_loaded = True


class CourseReranking(AbsTaskRetrieval):
    """Put in order the 20 answers that BM25 finds for a question, the right one among them.

    Where BM25 misses the right answer, it takes the place of the last of the twenty.
    """

    metadata = metadata(
        "CourseReranking",
        "Reranking",
        "map_at_1000",
        "300 first sentences, 20 texts each, found by BM25.",
        DOCUMENTATION,
    )

    def load_data(self, **kwargs):
        rows = questions_and_answers()
        found = bm25(list(rows["corpus"]["text"]), list(rows["queries"]["text"]), CANDIDATES)
        ids, top = list(rows["corpus"]["id"]), {}
        for i, (question, places) in enumerate(zip(rows["queries"]["id"], found, strict=True)):
            kept = places if i in places else [*places[:-1], i]
            top[question] = sorted(ids[j] for j in kept)  # in the order of ids: BM25's is not told
        self.dataset = {"default": {"test": rows | {"top_ranked": top}}}
        self.data_loaded = True


def bm25(texts: list[str], queries: list[str], k: int) -> list[list[int]]:
    """The numbers of the k texts with the highest BM25 score for each query, best first."""
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)
    words = bm25s.tokenize(queries, stopwords="en", show_progress=False, return_ids=False)
    return index.retrieve(words, k=k, show_progress=False).documents.tolist()


class CourseClassification(AbsTaskClassification):
    """Which library does a text document? A logistic regression on 8 texts of each of five, ten times."""

    metadata = metadata(
        "CourseClassification",
        "Classification",
        "accuracy",
        "Documentation of five libraries: 150 texts to learn from, 150 to judge.",
        DOCUMENTATION,
    )

    def load_data(self, **kwargs):
        pairs = documentation_pairs()
        self.dataset = halves(list(pairs["answer"]), list(pairs["library"]))
        self.data_loaded = True


class ReviewClassification(AbsTaskClassification):
    """Liked or disliked? `labels` names the column of reviews.tsv that is to be told from the text."""

    metadata = metadata(
        "ReviewClassification",
        "Classification",
        "accuracy",
        "Reviews, liked or disliked: 60 to learn from, 100 to judge.",
        "reviews",
    )
    labels = "verdict"

    def load_data(self, **kwargs):
        table = data.reviews()
        self.dataset = halves(list(table["review"]), list(table[self.labels]), learn=60)
        self.data_loaded = True


def halves(texts: list[str], names: list[str], learn: int | None = None) -> DatasetDict:
    """The first texts to learn from (half of them, or `learn`), the others to judge; names are numbered."""
    known = sorted(set(names))
    rows = Dataset.from_dict({"text": texts, "label": [known.index(name) for name in names]})
    learn = learn or len(rows) // 2
    parts = {"train": range(learn), "test": range(learn, len(rows))}
    return DatasetDict({part: rows.select(places) for part, places in parts.items()})


class CourseClustering(AbsTaskClustering):
    """Reviews in groups: does k-means find the eight subjects?

    mteb draws as many reviews as there are, with replacement, and clusters them: a hundred times here.
    """

    metadata = metadata(
        "CourseClustering", "Clustering", "v_measure", "160 reviews of eight subjects.", "reviews"
    )
    max_fraction_of_documents_to_embed = None
    max_documents_per_cluster = 160
    n_clusters = 100  # draws, in spite of its name; the clusters are as many as the labels
    labels = "subject"

    def load_data(self, **kwargs):
        table = data.reviews()
        self.dataset = split({"sentences": list(table["review"]), "labels": list(table[self.labels])})
        self.data_loaded = True


class CoursePairClassification(AbsTaskPairClassification):
    """Two sentences with the same word: is it used in the same sense?"""

    metadata = metadata(
        "CoursePairClassification",
        "PairClassification",
        "cosine_ap",
        "238 pairs of sentences with a word of two or three senses.",
        "word_senses",
    )

    def load_data(self, **kwargs):
        columns = {"sentence1": [], "sentence2": [], "labels": []}
        for _, rows in data.word_senses().groupby("word", sort=False):
            senses = [list(s["sentence"]) for _, s in rows.groupby("sense", sort=False)]
            for here, there in zip(senses, senses[1:] + senses[:1], strict=True):
                half = len(here) // 2
                for first, second, label in zip(
                    here[:half] * 2, here[half:] + there[half:], [1] * half + [0] * half, strict=True
                ):
                    for column, value in zip(columns, (first, second, label), strict=True):
                        columns[column].append(value)
        self.dataset = split(columns)
        self.data_loaded = True


class CourseBitextMining(AbsTaskBitextMining):
    """Find the German translation of an English sentence among sixty."""

    metadata = metadata(
        "CourseBitextMining",
        "BitextMining",
        "accuracy",
        "60 English sentences and their German translations.",
        "translations",
        ["eng-Latn", "deu-Latn"],
    )

    def load_data(self, **kwargs):
        table = data.translations()
        self.dataset = split({"sentence1": list(table["english"]), "sentence2": list(table["german"])})
        self.data_loaded = True


class CourseSummarization(AbsTaskSummarization):
    """Does the cosine with a good summary put four others in the order of their scores?"""

    metadata = metadata(
        "CourseSummarization",
        "Summarization",
        "cosine_spearman",
        "12 news items, a reference and four scored summaries each.",
        "summaries",
    )
    min_score, max_score = 0, 5

    def load_data(self, **kwargs):
        texts = data.summaries().groupby(["text", "reference"], sort=False)
        columns = {"text": [], "human_summaries": [], "machine_summaries": [], "relevance": []}
        for (text, reference), rows in texts:
            row = (text, [reference], list(rows["summary"]), list(rows["score"]))
            for column, value in zip(columns, row, strict=True):
                columns[column].append(value)
        self.dataset = split(columns)
        self.data_loaded = True


ALL = (
    CourseRetrieval,
    CourseReranking,
    CourseClassification,
    CourseClustering,
    CoursePairClassification,
    CourseBitextMining,
    CourseSummarization,
)


def remember(model: "SentenceTransformer") -> "SentenceTransformer":
    """Make a model compute each text's vector once, prompt by prompt, and return it.

    Several tasks ask for the same texts; the second time the vector comes from memory.
    """
    import numpy as np

    compute, known = model.encode, {}

    def encode(inputs, *args, prompt_name=None, prompt=None, **options):
        if args:
            raise TypeError("a model that remembers takes its texts by place and all else by name")
        alone = isinstance(inputs, str)
        texts = [inputs] if alone else list(inputs)
        if prompt is None and prompt_name is not None:
            prompt = model.prompts.get(prompt_name)
        prompt = prompt or ""
        new = list(dict.fromkeys(text for text in texts if (prompt, text) not in known))
        if new:
            options |= {"convert_to_tensor": False, "convert_to_numpy": True}
            vectors = compute(new, prompt=prompt, **options)
            known.update(zip([(prompt, text) for text in new], vectors, strict=True))
        found = np.array([known[prompt, text] for text in texts])
        return found[0] if alone else found

    model.encode = encode
    return model


def items(folder: Path) -> dict[str, tuple["numpy.ndarray", "numpy.ndarray"]]:
    """What a model predicted on the course's tasks, item by item: task type -> (right, values).

    folder: the `prediction_folder` of an `mteb.evaluate` of CourseSTS and the seven tasks above
    on one model. `right` and `values` have the same length, one entry an item: for STS and
    PairClassification the scores or labels and the cosines; for the others nothing (zeros) and
    the item's own score, whose mean is the task's. Clustering is not in it: mteb writes down
    groups, not the reviews that it drew.
    """
    import numpy as np
    import pytrec_eval
    from scipy.stats import spearmanr

    def read(kind: str):
        text = (Path(folder) / f"Course{kind}_predictions.json").read_text(encoding="utf-8")
        return json.loads(text)["default"]["test"]

    pairs = CoursePairClassification()
    pairs.load_data()
    found = {
        "STS": (data.sts(quiet=True)["score"], read("STS")["cosine_scores"]),
        "PairClassification": (pairs.dataset["test"]["labels"], read("PairClassification")["cosine_scores"]),
    }

    qrels = questions_and_answers()["relevant_docs"]
    judge = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10", "map"})
    judged = CourseClassification()
    judged.load_data()
    votes = np.array(read("Classification")) == np.array(judged.dataset["test"]["label"])
    nearest = [first["corpus_id"] for first in read("BitextMining")["sentence1-sentence2"]]
    texts = read("Summarization")
    alone = {
        "Retrieval": [q["ndcg_cut_10"] for q in judge.evaluate(read("Retrieval")).values()],
        "Reranking": [q["map"] for q in judge.evaluate(read("Reranking")).values()],
        "Classification": votes.mean(axis=0),  # the share of the ten classifiers that were right
        "BitextMining": np.array(nearest) == np.arange(len(nearest)),
        "Summarization": [
            spearmanr(*text).statistic
            for text in zip(texts["human_scores"], texts["cosine_scores"], strict=True)
        ],
    }
    found |= {kind: (np.zeros(len(values)), values) for kind, values in alone.items()}
    return {
        kind: (np.array(right, float), np.array(values, float)) for kind, (right, values) in found.items()
    }
