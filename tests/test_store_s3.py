"""The same store on object storage that many machines share: an `s3://` address.

moto's server plays S3 on loopback (loopback_s3.py says what it does and what not).
"""

import itertools
import os
import subprocess
import sys
import time

import lancedb
import loopback_s3
import pyarrow as pa
import pytest
import store_writer
from books import definitions, path, stretch
from store_writer import NAME, ROWS, batch

LESSON = path("12")


@pytest.fixture(scope="module")
def server():
    with loopback_s3.serving() as environment:
        yield environment


@pytest.fixture
def bucket(server, monkeypatch):
    """The address of an empty bucket; the environment says how to reach it, as a reader's would."""
    import boto3

    for name, value in server.items():
        monkeypatch.setenv(name, value)
    yield "s3://course"
    boto3.resource("s3").Bucket("course").objects.all().delete()


def test_one_writer_and_two_readers(bucket):
    """Three processes: what the writer has acknowledged, both readers see, exact."""
    address = f"{bucket}/shared"
    lancedb.connect(address).create_table(NAME, schema=store_writer.SCHEMA)
    writer = store_writer.start("write", address, 9, "add", 0, 24)
    readers = [store_writer.start("read", address, 9, how) for how in ("reopen", "follow")]
    store_writer.tell(writer)
    done, seen = 0, []
    for line in writer.stdout:
        done += store_writer.parsed(line)[0] == "done"
        if line.startswith("done") and done % 6 == 0:
            for reader in readers:
                store_writer.tell(reader, str(done))
                seen.append((done, int(reader.stdout.readline())))
    assert seen == [(n, n * ROWS) for n in (6, 12, 18, 24) for _ in readers]
    assert [store_writer.end(p) for p in (writer, *readers)] == [0, 0, 0]


@pytest.mark.parametrize("work, seed", [("add", 0), ("index", 1), ("delete", 2)])
def test_a_killed_writer_loses_nothing(bucket, work, seed):
    for n in itertools.count(seed, 10):  # until it is hit where the test wants it
        address = f"{bucket}/{work}{n}"
        killed = store_writer.check(store_writer.kill(address, n, work), address, n)
        assert killed.code == -9 and killed.checked >= 300 and killed.lost == 0
        assert killed.unfinished != "torn" and killed.found
        if killed.hit == work:
            break
        assert n < 50


def test_two_writers_at_once(bucket):
    address = f"{bucket}/two"
    lancedb.connect(address).create_table(NAME, schema=store_writer.SCHEMA)
    children = [store_writer.start("write", address, 3, "add", first, 15) for first in (0, 1000)]
    for child in children:
        store_writer.tell(child)
    assert [store_writer.end(child) for child in children] == [0, 0]
    wanted = pa.concat_tables(batch(3, first + n) for first in (0, 1000) for n in range(15))
    assert store_writer.differing(lancedb.connect(address).open_table(NAME), wanted) == 0


def test_the_store_cells_of_lesson_12_run_unchanged(bucket, monkeypatch, capsys):
    """From the cell that connects to the killed writer, with nothing but COURSE_STORE set."""
    import faiss
    import numpy as np

    from helpers import models

    monkeypatch.setenv("COURSE_STORE", f"{bucket}/lesson12")
    words = models.word_vectors("glove-wiki-gigaword-100", limit=20_500, quiet=True)
    unit, order = words.get_normed_vectors(), np.random.default_rng(0).permutation(20_500)
    space = definitions(LESSON, "recall") | {
        "faiss": faiss,
        "np": np,
        "os": os,
        "subprocess": subprocess,
        "sys": sys,
        "time": time,
        "rows": order,
        "queries": unit[order[:500]],
        "vectors": unit[order[500:]],
        "names": np.array(words.index_to_key)[order],
    }
    for cell in stretch("12", "open_store", "killed"):
        exec(cell.source, space)
    assert space["address"] == f"{bucket}/lesson12"
    printed = capsys.readouterr().out
    assert "king: seen in lesson 1" in printed and "nearest to the held-out word: True" in printed
    assert "of these not whole: 0" in printed and "of these in part: 0" in printed
    assert len(space["acknowledged"]) >= 30 and space["lost"] == []


def test_the_store_cells_of_lesson_13_run_unchanged(bucket, monkeypatch, capsys):
    """Ingest, indexes, both searches and the filter, with nothing but COURSE_STORE set."""
    import tempfile
    import zlib

    import numpy as np
    import pandas as pd
    from tqdm import tqdm

    from helpers import kept_vectors

    def embed(texts):
        """One vector a text, near to that of a text with the same words: (texts, 384)."""
        found = np.zeros((len(texts), 384), dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            for word in text.lower().split():
                row += np.random.default_rng(zlib.crc32(word.encode())).normal(size=384)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    texts = [
        f"{library}.call{n}: how to get rid of {'rows' if n % 3 else 'columns'} that occur {n} times"
        for n in range(100)
        for library in ("pandas", "gensim", "numpy")
    ]
    passages = pd.DataFrame(
        {
            "id": [kept_vectors.key(text) for text in texts],
            "library": [text.split(".")[0] for text in texts],
            "kind": "function",
            "object": [text.split(":")[0] for text in texts],
            "chunk": 0,
            "text": texts,
        }
    )
    monkeypatch.setenv("COURSE_STORE", f"{bucket}/lesson13")
    space = {
        "tempfile": tempfile,
        "os": os,
        "lancedb": lancedb,
        "pa": pa,
        "np": np,
        "pd": pd,
        "tqdm": tqdm,
        "kept_vectors": kept_vectors,
        "embed": embed,
        "passages": passages,
    }
    for cell in stretch("13", "open_store", "filtered"):
        exec(cell.source, space)
    assert space["store"].uri.rstrip("/") == f"{bucket}/lesson13"
    printed = capsys.readouterr().out
    assert "first time: 300 passages added" in printed and "again:      0 added" in printed
    assert "in the store: 300 rows" in printed and "library_idx: Bitmap" in printed
    assert "filtered in the store, then searched: 100 passages" in printed
    assert "the nearest of the store's: gensim.call" in printed
