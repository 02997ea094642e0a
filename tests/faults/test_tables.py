"""Tables that people really have: each is read right, or refused in one sentence that says where and why."""

import csv
import gzip
import io
import json
import string

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import ROOT, data, tables

PAIR = ["questions", "answers"]
HEAD = "questions\tanswers\n"


def read(tmp_path, content, name="mine.tsv", columns=PAIR, **options):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return tables.read(tmp_path / name, columns, **options)


RIGHT = {
    "a mark that opens an answer": (
        HEAD + 'q1\t"All aboard, he said\nq2\ta2\n',
        [["q1", '"All aboard, he said'], ["q2", "a2"]],
    ),
    "a quoted title": (HEAD + '"The Heron" is what?\ta poem\n', [['"The Heron" is what?', "a poem"]]),
    "a quotation": (HEAD + '"To be"\tHamlet\n', [['"To be"', "Hamlet"]]),
    "as pandas writes it": (
        HEAD + 'q1\t"He said ""in""."\nq2\t"two\nlines"\n',
        [["q1", 'He said "in".'], ["q2", "two\nlines"]],
    ),
    "a tab inside marks": (HEAD + 'q1\t"a\tb"\n', [["q1", "a\tb"]]),
    "marks around everything": ('"questions"\t"answers"\n"q1"\t"a1"\n', [["q1", "a1"]]),
    "marks around the texts": ('"questions"\t"answers"\n"q1"\t7\n', [["q1", "7"]]),
    "an inch": (HEAD + 'how long is 5"\tso long\n', [['how long is 5"', "so long"]]),
    "blank lines at the end": (HEAD + "q1\ta1\n\n \t\n\n", [["q1", "a1"]]),
    "no line end at the end": (HEAD + "q1\ta1", [["q1", "a1"]]),
    "a byte-order mark": (b"\xef\xbb\xbf" + HEAD.encode() + b"q1\ta1\n", [["q1", "a1"]]),
    "Windows line ends": ("questions\tanswers\r\nq1\ta1\r\n", [["q1", "a1"]]),
    "old Mac line ends": ("questions\tanswers\rq1\ta1\r", [["q1", "a1"]]),
    "a line separator in a text": (HEAD + "q1\ta\u2028b\x0bc\x85d\n", [["q1", "a\u2028b\x0bc\x85d"]]),
    "words that pandas drops": (HEAD + "null\tNA\nNone\tnan\n", [["null", "NA"], ["None", "nan"]]),
    "another order, more columns": ("n\tanswers\tquestions\n1\ta1\tq1\n", [["q1", "a1"]]),
    "tabs at the end of all lines": ("questions\tanswers\t\nq1\ta1\t\n", [["q1", "a1"]]),
    "space around names and cells": (" questions \tanswers\n q1 \t a1\n", [["q1", "a1"]]),
    "an emoji": (
        HEAD + "q \U0001f469\u200d\U0001f680\ta \u2764\ufe0f\n",
        [["q \U0001f469\u200d\U0001f680", "a \u2764\ufe0f"]],
    ),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_read_right(tmp_path, kind):
    content, wanted = RIGHT[kind]
    assert read(tmp_path, content).to_numpy().tolist() == wanted


WRONG = {
    "nothing": (b"", "mine.tsv is empty"),
    "only a byte-order mark": (b"\xef\xbb\xbf", "mine.tsv is empty"),
    "a header alone": (HEAD + "\n", "mine.tsv has a header and no rows"),
    "no header": ("q1\ta1\n", "line 1: no column 'questions'"),
    "a column too many": (HEAD + "q1\ta1\nq2\ta\tb\n", "line 3: 3 columns where the first line has 2"),
    "a tab at the end of a row": (
        HEAD + "q1\ta1\t\n",
        "line 2: 3 columns where the first line has 2 (the line ends with",
    ),
    "a short row": (HEAD + "q1\n", "line 2: 1 columns where the first line has 2"),
    "an empty cell": (HEAD + "q1\ta1\nq2\t \n", "line 3: column 'answers' is empty"),
    "an invisible cell": (
        HEAD + "\u200b\ufeff\ta1\n",
        "line 2: column 'questions' is empty (it holds invisible",
    ),
    "a blank line within": (HEAD + "q1\ta1\n\nq2\ta2\n", "line 3 is blank"),
    "the header again": (HEAD + "q1\ta1\n" + HEAD + "q2\ta2\n", "line 3 names the columns once more"),
    "two columns of one name": ("questions\tanswers\tanswers\nq\ta\tb\n", "two columns are named 'answers'"),
    "another encoding": (HEAD.encode() + "q1\tcaf\u00e9\n".encode("cp1252"), "line 2: not UTF-8 text"),
    "another encoding, old Mac": (b"questions\tanswers\rq1\tcaf\xe9\r", "line 2: not UTF-8 text"),
    "UTF-16": ((HEAD + "q1\ta1\n").encode("utf-16"), "line 1: not UTF-8 text"),
    "UTF-16 without its mark": ((HEAD + "q1\ta1\n").encode("utf-16-le"), "line 1: not UTF-8 text"),
    "UTF-32": ((HEAD + "q1\ta1\n").encode("utf-32"), "not UTF-8 text"),
    "cannot be told": (
        HEAD + 'q1\t"a"\nq2\t"b ""c"""\n',
        "line 2: the quotation marks around a text may belong",
    ),
    "a mark that closes in another row": (
        HEAD + 'q0\ta0\nq1\t"All aboard\nq2\tOff we go"\n',
        "line 3: the quotation marks around a text may belong",
    ),
    "a mark and a short row": (HEAD + 'q1\t"a\nq2\n', "line 3: 1 columns"),
    "no line ends": (HEAD + "q1\t" + "a" * 1_000_001, "1,000,001 characters"),
    "packed": (gzip.compress(HEAD.encode()), "mine.tsv is packed with gzip; unpack it first"),
    "Excel": (b"PK\x03\x04rest", "mine.tsv is an Excel or a zip file; save the table as CSV"),
    "half a Parquet file": (b"PAR1rest", "mine.tsv is no whole Parquet file"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_refused_in_one_sentence(tmp_path, kind):
    content, said = WRONG[kind]
    with pytest.raises(ValueError) as caught:
        read(tmp_path, content)
    assert said in str(caught.value) and "mine.tsv" in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250


def test_a_folder_and_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file none.tsv"):
        tables.read(tmp_path / "none.tsv", PAIR)
    with pytest.raises(FileNotFoundError, match="is a folder; name the table in it"):
        tables.read(tmp_path, PAIR)


def test_the_reader_may_say_whose_the_marks_are(tmp_path):
    content = HEAD + 'q1\t"a"\nq2\t"b ""c"""\n'
    assert read(tmp_path, content, quoting=True)["answers"].tolist() == ["a", 'b "c"']
    assert read(tmp_path, content, quoting=False)["answers"].tolist() == ['"a"', '"b ""c"""']


@pytest.mark.parametrize("sign", [",", ";"])
def test_commas_and_semicolons(tmp_path, sign):
    content = f'questions{sign}answers\n"a{sign} b"{sign}"c"\nd{sign}e\n'
    assert read(tmp_path, content, "mine.csv").to_numpy().tolist() == [[f"a{sign} b", "c"], ["d", "e"]]
    with pytest.raises(ValueError, match="line 2: 3 columns"):
        read(tmp_path, f"questions{sign}answers\na{sign} b{sign}c\n", "mine.csv")


def test_json_lines(tmp_path):
    rows = [{"id": 1, "text": 'a "b"\tc\nd'}, {"id": "2", "text": "null", "more": None}]
    content = "\n".join(map(json.dumps, rows)) + "\n\n"
    found = read(tmp_path, content, "mine.jsonl", ["id", "text"], numbers=["id"])
    assert found.to_numpy().tolist() == [["1", 'a "b"\tc\nd'], ["2", "null"]]
    for wrong, said in (
        ('{"id": "1", "text": null}', "line 1: column 'text' is missing"),
        ('{"id": "1"}', "no column 'text'"),
        ('{"id": "1", "text": "a"}\n{"id": "2"}', "line 2: column 'text' is missing"),
        ('{"id": "1", "text": 3}', "line 1: column 'text' is a number \\(3\\), not a text"),
        ('{"id": "1", "text": ["a"]}', "line 1: column 'text' is a list, not a text"),
        ('{"id": "1", "text": true}', "line 1: column 'text' is True, not a text"),
        ('{"id": "1", "text": "a\\ud83d"}', "line 1: column 'text' holds half a character at place 2"),
        ('{"id": "1", "text": "a"}\n{"id": ', "line 2: no JSON object"),
        ('[{"id": "1", "text": "a"}]', "line 1: no JSON object"),
    ):
        with pytest.raises(ValueError, match=said):
            read(tmp_path, wrong, "mine.jsonl", ["id", "text"], numbers=["id"])


def test_parquet(tmp_path):
    file = tmp_path / "mine.parquet"
    frame = pd.DataFrame({"id": [1, 2], "text": ["a", " b"], "size": pd.array([3, None], dtype="Int64")})
    frame.to_parquet(file)
    found = tables.read(file, ["id", "text"], numbers=["id"], rest=True)
    assert found["id"].tolist() == ["1", "2"] and found["text"].tolist() == ["a", "b"]
    assert list(found) == ["id", "text", "size"] and str(found["size"].dtype) == "int64[pyarrow]"
    for text, said in ((None, "is missing"), (float("nan"), "is missing"), ("", "is empty")):
        pd.DataFrame({"id": ["1", "2"], "text": ["a", text]}).to_parquet(file)
        with pytest.raises(ValueError, match=f"mine.parquet, row 2: column 'text' {said}"):
            tables.read(file, ["id", "text"])
    pd.DataFrame({"id": [1.5], "text": [2.5]}).to_parquet(file)
    with pytest.raises(ValueError, match=r"row 1: column 'text' is a number \(2.5\), not a text"):
        tables.read(file, ["id", "text"], numbers=["id"])


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1).filter(
    lambda cell: cell.strip() and any(sign in string.ascii_letters for sign in cell)
)
ROWS = st.lists(st.tuples(CELL, CELL), min_size=1, max_size=6)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, sign=st.sampled_from("\t,;"), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_what_a_csv_writer_wrote_comes_back_or_is_refused(tmp_path_factory, rows, sign, quoting):
    """Every row as it was written, or a sentence; never fewer rows, never another text."""
    written = io.StringIO()
    csv.writer(written, delimiter=sign, quoting=quoting, lineterminator="\n").writerows([PAIR, *rows])
    try:
        found = read(
            tmp_path_factory.mktemp("csv"), written.getvalue(), "mine" + (".tsv" if sign == "\t" else ".csv")
        )
    except ValueError as e:
        assert sign == "\t" and quoting == csv.QUOTE_MINIMAL and "may belong to it or to the file" in str(e)
        return
    assert found.to_numpy().tolist() == [[cell.strip() for cell in row] for row in rows]


@settings(max_examples=200, deadline=None)
@given(rows=ROWS)
def test_what_stands_in_plain_lines_comes_back_or_is_refused(tmp_path_factory, rows):
    plain = [[cell.replace("\t", " ").replace("\n", " ") for cell in row] for row in rows]
    content = HEAD + "".join("\t".join(row) + "\n" for row in plain)
    try:
        found = read(tmp_path_factory.mktemp("tsv"), content)
    except ValueError as e:
        assert "may belong to it or to the file" in str(e)
        return
    marked = [cell for row in plain for cell in row if cell.startswith('"')]
    if not marked or any('""' not in cell[1:-1] for cell in marked):
        assert found.to_numpy().tolist() == [[cell.strip() for cell in row] for row in plain]


def test_the_tables_of_the_course_are_read_as_they_stand():
    """One was written with marks around cells that need them, the others without any."""
    marked = 0
    for file in sorted((ROOT / "shared_data").glob("*.tsv")):
        content = file.read_text(encoding="utf-8")
        header, *rows = (line.split("\t") for line in content.splitlines())
        if file.name == "docs_questions.tsv":
            header, *rows = csv.reader(io.StringIO(content), delimiter="\t", strict=True)
        rows = pd.DataFrame(rows, columns=header)
        full = [column for column in rows if (rows[column] != "").all()]
        found = tables.read(file, full, rest=True)
        assert found.to_numpy().tolist() == rows[list(found)].to_numpy().tolist(), file.name
        assert set(found) == set(rows) and full
        marked += found.map(lambda cell: cell.startswith('"')).to_numpy().sum()
    assert marked >= 7, "premises that begin with a quotation"


def test_a_question_with_several_answers_is_in_one_part(tmp_path):
    rows = [f"q{i % 7}\ta{i}" for i in range(20)]
    (tmp_path / "mine.tsv").write_text(HEAD + "\n".join(rows), encoding="utf-8")
    train, test = (data.qa_pairs(tmp_path / "mine.tsv", part) for part in ("train", "test"))
    assert set(train["question"]) == {f"q{i}" for i in range(5)} and set(test["question"]) == {"q5", "q6"}
    assert len(train) + len(test) == 20


def test_tales_of_ones_own(tmp_path):
    file = tmp_path / "mine.txt"
    file.write_bytes(b"\xef\xbb\xbf# A title\r\nOne line.\r\n\r\nAnother\xe2\x80\xa8line.\r\n")
    assert data.tales(file) == ["One line.", "Another\u2028line."]
    file.write_bytes(b"# A title\ncaf\xe9\n")
    with pytest.raises(ValueError, match="mine.txt, line 2: not UTF-8 text"):
        data.tales(file)
    with pytest.raises(FileNotFoundError, match="there is no file none.txt"):
        data.tales(tmp_path / "none.txt")
