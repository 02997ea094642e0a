"""The lessons hold where a reader has the originals: tiny models of the originals' formats and
architectures stand in their place, and every cell runs.
"""

import gzip
import os

import books
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

from helpers import models

GLOVE = "glove-wiki-gigaword-100"


def tiny_glove(folder):
    """The publisher's file layout, with 12,000 words and vectors that mean nothing."""
    words = models.word_vectors(GLOVE, limit=12_000, quiet=True).index_to_key
    numbers = np.random.default_rng(0).normal(size=(len(words), 100)).astype("f").round(4)
    lines = [f"{len(words)} 100"]
    lines += [f"{w} " + " ".join(map(str, v)) for w, v in zip(words, numbers, strict=True)]
    (folder / GLOVE).mkdir(parents=True)
    with gzip.open(folder / GLOVE / f"{GLOVE}.gz", "wt", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")


ORIGINALS = {"01": tiny_glove}


@pytest.mark.parametrize("number", ORIGINALS)
def test_lesson_runs_on_tiny_originals(number, tmp_path, monkeypatch):
    ORIGINALS[number](tmp_path)
    path = next(p for p in books.LESSONS if p.name.startswith(number))
    book = books.read(path)
    monkeypatch.setitem(os.environ, "COURSE_MODELS", "original")
    monkeypatch.setitem(os.environ, "COURSE_MODELS_DIR", str(tmp_path))
    place = {"metadata": {"path": str(path.parent)}}
    NotebookClient(book, timeout=300, kernel_name="python3", resources=place).execute()
    said = "".join(books.text(c) for c in books.code(book))
    assert "the original." in said and "stand-in" not in said
    assert isinstance(book, nbformat.NotebookNode)
