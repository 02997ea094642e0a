"""The course's tables, and the public originals where they are on disk.

    from helpers import data
    data.qa_pairs()      # question, answer            (shared_data/nq_sample.tsv)
    data.sts()           # sentence1, sentence2, score, kind (shared_data/sts_sample.tsv)
    data.word_senses()   # word, sense, sentence       (shared_data/word_senses.tsv)
    data.reviews()       # subject, verdict, review    (shared_data/reviews.tsv)
    data.translations()  # english, german             (shared_data/translations.tsv)
    data.summaries()     # text, reference, summary, score  (shared_data/summaries.tsv)
    data.transfer("tags")   # part, words, tags        (shared_data/transfer_tags.tsv; see there)
    data.docs_questions()  # question_id, question, object, grade (shared_data/docs_questions.tsv)
    data.documentation_questions()  # object, style, part, question (shared_data/documentation_questions.tsv)
    data.pronouns()      # documents, questions        (shared_data/pronouns.tsv, pronouns_questions.tsv)
    data.tales()         # the text of shared_data/tales.txt, a list of paragraphs

Every reader takes the path of a file of your own instead: TSV, CSV, JSON lines or Parquet, as
`tables.read` takes them. What the tables hold and how they were made is written in shared_data/README.md.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from helpers import ROOT, tables, texts

if TYPE_CHECKING:
    import pandas

SHARED = ROOT / "shared_data"
TRAIN_SHARE = 0.7  # nq_sample.tsv: rows 1-700 are for training, 701-1,000 are held out


def qa_pairs(path: str | Path | None = None, part: str | None = None) -> "pandas.DataFrame":
    """Question-answer pairs, columns question and answer.

    path: a table with the columns `questions` and `answers`.
    part: None for all rows, "train" for the rows of the first 70 % of the questions, "test" for the
    held-out rest. A question that stands in several rows, with an answer each, is in one part.
    Raises FileNotFoundError, or ValueError that names file, line and column.
    """
    if part not in (None, "train", "test"):
        raise ValueError(f'part is {part!r}; it must be None, "train" or "test"')
    table = tables.read(path or SHARED / "nq_sample.tsv", ["questions", "answers"])
    table.columns = ["question", "answer"]
    if part:
        number = table["question"].factorize()[0]  # of each row's question, in the order of first rows
        early = number < round((number.max() + 1) * TRAIN_SHARE)
        table = table[early if part == "train" else ~early].reset_index(drop=True)
    return table


def as_pairs(pairs: "pandas.DataFrame | str | Path") -> "pandas.DataFrame":
    """Columns question and answer, from a table's path or a DataFrame (there `questions` and
    `answers` will do too). Raises as `qa_pairs` does; of a DataFrame it names row and column."""
    if isinstance(pairs, str | Path):
        return qa_pairs(pairs)
    pairs = pairs.rename(columns={"questions": "question", "answers": "answer"})
    for column in ("question", "answer"):
        if column not in pairs:
            raise ValueError(f"the pairs have no column {column!r}; they have {list(pairs)}")
        for place, text in enumerate(pairs[column]):
            if wrong := texts.fault(text):
                raise ValueError(f"row {place}: column {column!r} {wrong}")
    return pairs[["question", "answer"]].reset_index(drop=True)


def sts(path: str | Path | None = None, quiet: bool = False) -> "pandas.DataFrame":
    """Sentence pairs with a similarity, columns sentence1, sentence2, score (0 to 5).

    path: a table with these columns. Without it, the test rows of the STS Benchmark
    (mteb/stsbenchmark-sts) where they are on disk, else the course's 300 pairs; one printed
    line says which (not if `quiet`). A file's column kind, as the course's pairs have it (what
    makes a pair hard), is a fourth column. Raises as `qa_pairs` does.
    """
    from helpers import models

    if path is None:
        try:
            folder = models.path("mteb/stsbenchmark-sts", quiet=True)
        except FileNotFoundError:
            folder = None
        if folder:
            models._say(quiet, "STS Benchmark, test rows: the original.")
            return _stsbenchmark(folder)
        models._say(
            quiet,
            "STS: the course's own 300 pairs. For the STS Benchmark: "
            "python -m helpers.models download mteb/stsbenchmark-sts",
        )
    columns = ["sentence1", "sentence2", "score"]
    table = tables.read(path or SHARED / "sts_sample.tsv", columns, optional=["kind"], numbers=["score"])
    return _scored(table, path or "sts_sample.tsv")


def word_senses(path: str | Path | None = None) -> "pandas.DataFrame":
    """Sentences with an ambiguous word, columns word, sense, sentence. Raises as `qa_pairs`."""
    return tables.read(path or SHARED / "word_senses.tsv", ["word", "sense", "sentence"])


def nli(path: str | Path | None = None) -> "pandas.DataFrame":
    """Premises, each with a sentence that follows, one that may be, and one that cannot be.

    Columns premise, entailment, neutral, contradiction. Raises as `qa_pairs`.
    """
    columns = ["premise", "entailment", "neutral", "contradiction"]
    return tables.read(path or SHARED / "nli_sample.tsv", columns)


def reviews(path: str | Path | None = None) -> "pandas.DataFrame":
    """Short reviews, columns subject, verdict (liked, disliked), review. Raises as `qa_pairs`."""
    return tables.read(path or SHARED / "reviews.tsv", ["subject", "verdict", "review"])


def translations(path: str | Path | None = None) -> "pandas.DataFrame":
    """Sentences and their translations, columns english, german. Raises as `qa_pairs`."""
    return tables.read(path or SHARED / "translations.tsv", ["english", "german"])


def summaries(path: str | Path | None = None) -> "pandas.DataFrame":
    """Summaries with a score, columns text, reference, summary, score (0 to 5): a row a summary.

    A text stands with its reference in as many rows as it has summaries. Raises as `qa_pairs`.
    """
    columns = ["text", "reference", "summary", "score"]
    return _scored(
        tables.read(path or SHARED / "summaries.tsv", columns, numbers=["score"]), path or "summaries.tsv"
    )


def docs_questions(path: str | Path | None = None) -> "pandas.DataFrame":
    """Questions to the libraries' documentation, a row a judgement.

    Columns question_id, question, object (as in `helpers.documentation.corpus()`), grade: 2 where the
    object's text answers the question, 1 where it helps, 0 where it does not. Raises as `qa_pairs`;
    also for another grade, for a question that changes under one question_id, and for an object
    judged twice for one question.
    """
    path = Path(path or SHARED / "docs_questions.tsv")
    table = tables.read(
        path, ["question_id", "question", "object", "grade"], numbers=["question_id", "grade"]
    )
    asked, judged = {}, set()
    for line, row in enumerate(table.itertuples(), 2):
        wrong = ""
        if row.grade not in ("0", "1", "2"):
            wrong = f"grade is {row.grade!r}; it must be 0, 1 or 2"
        elif asked.setdefault(row.question_id, row.question) != row.question:
            wrong = f"question_id {row.question_id!r} stands for another question further up"
        elif (row.question_id, row.object) in judged:
            wrong = f"{row.object!r} is judged twice for question_id {row.question_id!r}"
        if wrong:
            raise ValueError(f"{path.name}, row {line}: {wrong}")
        judged.add((row.question_id, row.object))
    return table.astype({"grade": int})


TRANSFER = {
    "classify": ["part", "sentence", "label"],
    "tags": ["part", "words", "tags"],
    "answers": ["part", "question", "passage", "answer"],
}


def documentation_questions(path: str | Path | None = None) -> "pandas.DataFrame":
    """Questions to train on, in people's own words, a row a question; none is judged in `docs_questions`.

    Columns object (the one that answers it), style ("title": as typed into a search box; "need": told in other
    words), part ("train" or "dev", by object), question. Raises as `qa_pairs`; also for another style or part.
    """
    path = Path(path or SHARED / "documentation_questions.tsv")
    table = tables.read(path, ["object", "style", "part", "question"])
    for column, known in (("style", ("title", "need")), ("part", ("train", "dev"))):
        if len(wrong := table[~table[column].isin(known)]):
            row = wrong.index[0]
            raise ValueError(
                f"{path.name}, row {row + 2}: {column} is {wrong[column][row]!r}; it must be {' or '.join(known)}"
            )
    return table


def transfer(task: str, path: str | Path | None = None) -> "pandas.DataFrame":
    """A small labelled table to fine-tune on; column part is "train" or "test".

    task: "classify" (sentence, label), "tags" (words and tags, as many of one as of the other,
    separated by spaces) or "answers" (question, passage, answer; the answer stands in the passage
    once). Raises ValueError for another task, and as `qa_pairs`; also for a part that is neither,
    for words and tags of different number, and for an answer that does not stand there once.
    """
    if task not in TRANSFER:
        raise ValueError(f"task is {task!r}; it must be one of {', '.join(TRANSFER)}")
    path = Path(path or SHARED / f"transfer_{task}.tsv")
    table = tables.read(path, TRANSFER[task])
    for line, row in enumerate(table.itertuples(), 2):
        wrong = ""
        if row.part not in ("train", "test"):
            wrong = f'part is {row.part!r}; it must be "train" or "test"'
        elif task == "tags" and len(row.words.split()) != len(row.tags.split()):
            wrong = f"{len(row.words.split())} words and {len(row.tags.split())} tags"
        elif task == "answers" and row.passage.count(row.answer) != 1:
            times = row.passage.count(row.answer)
            wrong = f"the answer {row.answer!r} stands in the passage {times} times; it must be once"
        if wrong:
            raise ValueError(f"{path.name}, row {line}: {wrong}")
    return table


def pronouns(
    path: str | Path | None = None, questions: str | Path | None = None
) -> "tuple[pandas.DataFrame, pandas.DataFrame]":
    """Short documents of which only the first sentence names the subject, and questions that name it.

    Returns (sentences, questions): columns document, title, sentence (from 1), text; and document,
    sentence (the one that answers), question. Raises as `qa_pairs` does; also where the sentences of a
    document are not numbered 1, 2, 3, ... and for a question whose sentence is not there.
    """
    path, questions = (
        Path(path or SHARED / "pronouns.tsv"),
        Path(questions or SHARED / "pronouns_questions.tsv"),
    )
    numbers = ["document", "sentence"]
    told = tables.read(path, ["document", "title", "sentence", "text"], numbers=numbers)
    asked = tables.read(questions, ["document", "sentence", "question"], numbers=numbers)
    there: dict[str, int] = {}
    for line, row in enumerate(told.itertuples(), 2):
        there[row.document] = there.get(row.document, 0) + 1
        if row.sentence != str(there[row.document]):
            raise ValueError(
                f"{path.name}, row {line}: sentence is {row.sentence!r}; the next of document "
                f"{row.document} is {there[row.document]}"
            )
    for line, row in enumerate(asked.itertuples(), 2):
        if not (row.sentence.isdigit() and 1 <= int(row.sentence) <= there.get(row.document, 0)):
            raise ValueError(
                f"{questions.name}, row {line}: there is no sentence {row.sentence} of document {row.document}"
            )
    return told.astype({"document": int, "sentence": int}), asked.astype({"document": int, "sentence": int})


def tales(path: str | Path | None = None) -> list[str]:
    """The paragraphs of twelve fairy tales written for this course, titles left out.

    path: a text file of your own, a paragraph a line, titles after a #. Raises as `tables.text`.
    """
    lines = tables.text(path or SHARED / "tales.txt").split("\n")
    return [line for line in lines if line.strip() and not line.startswith("#")]


def _stsbenchmark(folder: Path) -> "pandas.DataFrame":
    import datasets

    datasets.disable_progress_bars()
    table = datasets.load_dataset(str(folder), split="test").to_pandas()
    return table[["sentence1", "sentence2", "score"]].astype({"score": float})


def _scored(table: "pandas.DataFrame", path: str | Path) -> "pandas.DataFrame":
    """The table with its column score as numbers; ValueError for one outside 0 to 5."""
    for line, score in enumerate(table["score"], 2):
        try:
            inside = 0 <= float(score) <= 5
        except ValueError:
            inside = False
        if not inside:
            name = Path(path).name
            raise ValueError(f"{name}, row {line}: score is {score!r}; it must be a number, 0 to 5")
    return table.astype({"score": float})
