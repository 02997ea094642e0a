"""Lessons write to tables of their own; whatever a keyboard has can be asked for in words."""

import re
import string

import books
import lancedb
import numpy as np
import pandas as pd
import pytest

TEXTS = [
    "He said hello world to the cat.",
    "hello again, the boat is blue, said the cat",
    "C++ and a+b: what is f(x)? It's 50% of #1 & more.",
    "Über den Dächern: caf\u00e9, na\u00efve, \u4e2d\u6587, \u2764\ufe0f",
]


def test_a_lesson_writes_to_tables_of_its_own():
    """In a store that COURSE_STORE names may stand a reader's own tables, and those of the cluster script."""
    seen = []
    for path in books.BOOKS:
        for cell in books.code(books.read(path)):
            for name in re.findall(r"(?:create|drop|open)_table\(\s*[\"'](.+?)[\"']", cell.source):
                if books.name(path).startswith("solutions/"):
                    continue  # theirs is a folder of the kernel's own
                seen.append(name)
                assert name.startswith(f"lesson{path.name[:2]}_"), f"{path.name}: {name}"
    assert {"lesson12_words", "lesson12_log", "lesson13_passages"} <= set(seen)


@pytest.fixture(scope="module")
def bm25(tmp_path_factory):
    """Lesson 13's search in a table of four texts, indexed as the lesson does it."""
    space = books.definitions(books.path("13"), "checked", "result", "bm25")
    space["COLUMNS"] = ["id", "object", "text"]
    rows = pd.DataFrame({"id": list("abcd"), "object": list("abcd"), "library": "mine", "text": TEXTS})
    store = lancedb.connect(tmp_path_factory.mktemp("store"))
    space["table"] = store.create_table(
        "lesson13_passages", rows.assign(vector=list(np.eye(4, 8, dtype="f")))
    )
    exec(books.cell("13", "indexes").source, space)
    return space["bm25"]


@pytest.mark.parametrize(
    "sign", [*string.punctuation, "\u2019", "\u201c", "\u20ac", "\U0001f469\u200d\U0001f680", "\t"]
)
def test_every_sign_goes_through(bm25, sign):
    for question in (
        sign,
        sign * 2,
        f"hello{sign}",
        f"{sign}hello",
        f"{sign}hello cat{sign}",
        f"hello {sign} cat",
    ):
        if question.strip():
            found = bm25(question)
            assert len(found) <= 4 and (
                "hello" not in question or sign == '"' or {"a", "b"} <= set(found.index)
            )


def test_marks_around_a_question_make_it_a_phrase(bm25):
    assert list(bm25('"hello world"').index) == ["a"] and bm25('"world hello"').empty
    assert set(bm25("world hello").index) == {"a", "b"} == set(bm25('said "hello" cat').index)
    assert set(bm25('what is "hello').index) >= {"a", "b"}, (
        "a mark that is never closed is a sign like others"
    )
