"""The vector store as lessons 12 and 13 use it: LanceDB in a folder.

Killed in the middle of a write, it loses nothing that it acknowledged; filters, full text and
hybrid search are right; two processes may write at once. What a kill cannot show, a power cut
that takes what the operating system had not yet put on the disk, is not tested here.
"""

import itertools
import os
import shutil
import threading
import time
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest
import store_writer
from lancedb.index import FTS, BTree, HnswSq, IvfPq
from lancedb.rerankers import RRFReranker
from store_writer import NAME, ROWS, batch


def test_ten_kills_lose_nothing(tmp_path, capsys):
    done = store_writer.until_every_kind(lambda n: tmp_path / str(n), itertools.count(0), kills=10)
    with capsys.disabled():
        print(f"\n{store_writer.report(done)}")
    store_writer.hold(done, kills=10)


class TestTheCheckItself:
    """The kill test would notice: each fault is put into a store by hand."""

    @pytest.fixture
    def store(self, tmp_path):
        """A writer's log of ten batches, and the store that it speaks of."""
        log = [(word, "add", n) for n in range(10) for word in ("start", "done")]
        table = lancedb.connect(tmp_path).create_table(NAME, schema=store_writer.SCHEMA)
        table.add(pa.concat_tables(batch(0, n) for n in range(10)))
        return tmp_path, table, log

    def checked(self, address, log, hit=""):
        return store_writer.check(store_writer.Killed("add", log, -9, hit), address, seed=0)

    def test_a_whole_store(self, store):
        address, _, log = store
        assert (k := self.checked(address, log)).lost == 0 and k.found and k.checked == 500

    def test_a_lost_row(self, store):
        address, table, log = store
        table.delete("id = 77")
        assert self.checked(address, log).lost == 1

    def test_a_changed_vector(self, store):
        address, table, log = store
        table.update(where="id = 77", values={"vector": batch(0, 1)["vector"][0].as_py()})
        assert self.checked(address, log).lost == 1

    def test_a_row_that_is_there_twice(self, store):
        address, table, log = store
        table.add(batch(0, 3)[:1])
        assert self.checked(address, log).lost == 1

    def test_rows_that_come_back(self, store):
        address, _, log = store
        assert self.checked(address, [*log, ("start", "delete", 4), ("done", "delete", 4)]).lost == ROWS

    def test_half_a_batch(self, store):
        address, table, log = store
        table.add(batch(0, 10)[:20])
        k = self.checked(address, [*log, ("start", "add", 10)], hit="add")
        assert k.unfinished == "torn" and k.lost == 0

    @pytest.mark.parametrize("there", [True, False])
    def test_a_batch_under_way_may_be_whole_or_absent(self, store, there):
        address, table, log = store
        if there:
            table.add(batch(0, 10))
        k = self.checked(address, [*log, ("start", "add", 10)], hit="add")
        assert k.unfinished == ("whole" if there else "absent") and k.lost == 0

    def test_a_writer_that_was_idle(self, tmp_path):
        """Killed after its last batch: no lost row, and yet no test of anything."""
        child = store_writer.start("write", tmp_path, 0, "add", 0, 10)
        store_writer.tell(child)
        log = [store_writer.parsed(child.stdout.readline()) for _ in range(20)]
        code = store_writer.end(child)
        k = store_writer.check(store_writer.Killed("add", log, -9), tmp_path, seed=0)
        assert code == 0 and k.lost == 0 and not k.hit
        with pytest.raises(AssertionError, match="idle"):
            store_writer.hold([k] * 10, kills=10)


def write_together(folder, batches=40):
    """Two processes write, one adds, one also updates; how often their rows take turns in the table."""
    lancedb.connect(folder).create_table(NAME, schema=store_writer.SCHEMA)
    work = {0: "add", 1000: "update"}
    children = [store_writer.start("write", folder, 5, w, first, batches) for first, w in work.items()]
    for child in children:
        store_writer.tell(child)
    assert [store_writer.end(child) for child in children] == [0, 0]
    held = {}
    for first, w in work.items():
        held |= store_writer.state(list(itertools.islice(store_writer.plan(w, first), batches)))
    table = lancedb.connect(folder).open_table(NAME)
    assert store_writer.differing(table, pa.concat_tables(batch(5, n, k) for n, k in held.items())) == 0
    by_second = table.search().select(["id"]).limit(10**6).to_arrow()["id"].to_numpy() >= 1000 * ROWS
    return np.count_nonzero(np.diff(by_second))


def test_two_processes_write_at_once(tmp_path):
    """Every row of both is there, exact and once. On a busy machine one may end before the other
    begins, which would test nothing: then they write again."""
    turns = (write_together(tmp_path / str(attempt)) for attempt in range(5))
    assert any(n >= 2 for n in turns), "the two did not write at the same time"


def test_update_and_delete_after_reopening(tmp_path):
    table = lancedb.connect(tmp_path).create_table(NAME, pa.concat_tables(batch(1, n) for n in range(10)))
    table.create_index("vector", config=HnswSq(distance_type="cosine", num_partitions=1, ef_construction=50))
    asked, other = (batch(1, n)["vector"][0].as_py() for n in (2, 6))
    table.update(where=f"id = {2 * ROWS}", values={"kind": "seen", "text": "changed", "vector": other})
    table.delete(f"id = {6 * ROWS}")
    del table

    table = lancedb.connect(tmp_path).open_table(NAME)
    assert table.count_rows() == 10 * ROWS - 1 and table.count_rows("kind = 'seen'") == 1
    found = table.search(other).distance_type("cosine").refine_factor(5).limit(10).to_list()
    assert (found[0]["id"], found[0]["text"]) == (2 * ROWS, "changed")  # no longer the deleted row
    found = table.search(asked).distance_type("cosine").refine_factor(5).limit(10).to_list()
    assert all(row["_distance"] > 0.1 for row in found)  # the old vector is nowhere
    table.optimize()
    table = lancedb.connect(tmp_path).open_table(NAME)
    assert table.search(other).distance_type("cosine").limit(1).to_list()[0]["id"] == 2 * ROWS


# ------------------------------------------- what docs/beyond_one_machine.md says of a shared table


def test_a_file_of_no_version_is_deleted_once_it_is_seven_days_old(tmp_path):
    table = lancedb.connect(tmp_path).create_table(NAME, pa.concat_tables(batch(1, n) for n in range(3)))
    kept = {path.name for path in (Path(tmp_path) / f"{NAME}.lance" / "data").iterdir()}
    some = next((Path(tmp_path) / f"{NAME}.lance" / "data").glob("*.lance"))
    old, young = some.with_name("0" * 36 + ".lance"), some.with_name("1" * 36 + ".lance")
    for stray, days in ((old, 7.1), (young, 6.9)):
        shutil.copy(some, stray)
        then = time.time() - days * 24 * 3600
        os.utime(stray, (then, then))
    table.optimize()
    assert not old.exists() and young.exists() and table.count_rows() == 3 * ROWS
    assert kept <= {path.name for path in some.parent.iterdir()}


def test_searches_go_on_while_the_indexes_are_built_anew(many, tmp_path):
    """Whoever has the table open gets ten rows from every search, before, during and after."""
    rows, query = many[0].search().limit(20_000).to_arrow(), many[2][0]
    table = lancedb.connect(tmp_path).create_table("shared", rows)
    table.create_index("vector", config=IvfPq(distance_type="cosine", num_partitions=8))
    reader = lancedb.connect(tmp_path).open_table("shared")
    building, done, found = threading.Event(), threading.Event(), []

    def search():
        while not done.is_set():
            during, answer = building.is_set(), None
            try:
                answer = reader.search(query).distance_type("cosine").limit(10).to_list()
            finally:
                found.append((during, answer and len(answer)))

    asking = threading.Thread(target=search)
    asking.start()
    building.set()
    table.create_index("vector", config=IvfPq(distance_type="cosine", num_partitions=64))
    building.clear()
    done.set()
    asking.join()
    assert {answer for _, answer in found} == {10} and sum(during for during, _ in found) >= 3
    assert [index.name for index in table.list_indices()] == ["vector_idx"]


# ------------------------------------------------------------------------------- filters


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """20,000 vectors around 200 centres, an index, 30 queries of the same making, and what filters use."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, 384), dtype=np.float32)

    def around(number):
        kind = rng.integers(0, len(centres), number)
        vectors = centres[kind] + 0.7 * rng.standard_normal((number, 384), dtype=np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), kind

    (vectors, kind), (queries, _) = around(20_000), around(30)
    share = rng.random(20_000)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 384)
    rows = pa.table({"id": np.arange(20_000), "vector": column, "share": share, "kind": kind})
    table = lancedb.connect(tmp_path_factory.mktemp("many")).create_table("many", rows)
    table.create_index(
        "vector", config=HnswSq(distance_type="cosine", num_partitions=1, m=16, ef_construction=100)
    )
    table.create_index("share", config=BTree())
    return table, vectors, queries, share, kind


def recall(many, where, passes, **how):
    """recall@10 of the store's filtered search against exact search over the rows that pass."""
    table, vectors, queries, *_ = many
    ids = np.flatnonzero(passes)
    found = []
    for query in queries:
        true = ids[np.argsort(-(vectors[ids] @ query))[:10]]
        hits = table.search(query).distance_type("cosine").refine_factor(5).limit(10).where(where, **how)
        found.append(np.isin(true, hits.to_arrow()["id"].to_numpy()).mean())
    return np.mean(found)


@pytest.mark.parametrize("part", [0.5, 0.01, 0.001])
def test_filtered_search_is_right(many, part, capsys):
    share = many[3]
    found = recall(many, f"share < {part}", share < part)
    with capsys.disabled():
        print(f"\nfilter that keeps {part:.1%}: recall@10 {found:.3f}")
    assert found >= 0.95


def test_a_filter_that_goes_with_the_meaning(many):
    """The rows of two centres, 1 %, most of them far from the queries."""
    assert recall(many, "kind < 2", many[4] < 2) >= 0.95


def test_the_measure_sees_a_filter_applied_afterwards(many):
    assert recall(many, "share < 0.01", many[3] < 0.01, prefilter=False) < 0.5


# ------------------------------------------------------------------------------- full text

TEXTS = [
    "the kettle boils on the stove",
    "a kettle and a kettle again",
    "the cat sleeps on the warm stove all day while the rain falls outside",
    "rain falls on the roof",
    "the cat drinks milk",
    "trains run late when rain falls and the signal fails",
]


@pytest.fixture
def texts(tmp_path):
    vectors = np.eye(6, 8, dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 8)
    table = lancedb.connect(tmp_path).create_table(
        "texts", pa.table({"id": range(6), "text": TEXTS, "vector": column})
    )
    table.create_index("text", config=FTS(stem=False, remove_stop_words=False))
    return table


def bm25(question, k1=1.2, b=0.75):
    """Scores of TEXTS by the formula of Robertson and Zaragoza (2009), with Lucene's idf."""
    documents = [t.split() for t in TEXTS]
    mean = np.mean([len(d) for d in documents])
    scores = np.zeros(len(documents))
    for word in question.split():
        having = sum(word in d for d in documents)
        idf = np.log(1 + (len(documents) - having + 0.5) / (having + 0.5))
        for i, d in enumerate(documents):
            tf = d.count(word)
            scores[i] += idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(d) / mean))
    return scores


@pytest.mark.parametrize("question", ["kettle stove", "rain", "cat", "the rain falls", "signal milk"])
def test_full_text_search_is_bm25(texts, question):
    true = bm25(question)
    found = texts.search(question, query_type="fts").limit(6).to_list()
    assert {row["id"] for row in found} == set(np.flatnonzero(true))
    assert [row["_score"] for row in found] == pytest.approx([true[row["id"]] for row in found], rel=1e-3)
    assert [row["_score"] for row in found] == sorted((row["_score"] for row in found), reverse=True)


def test_full_text_search_with_a_filter_and_new_rows(texts, tmp_path):
    found = texts.search("rain", query_type="fts").where("id > 3").limit(6).to_list()
    assert [row["id"] for row in found] == [5]
    texts.add([{"id": 6, "text": "rain rain", "vector": [0.0] * 8}])
    texts.delete("id = 3")
    found = lancedb.connect(tmp_path).open_table("texts").search("rain", query_type="fts").limit(6).to_list()
    assert found[0]["id"] == 6 and {row["id"] for row in found} == {2, 5, 6}


def test_hybrid_search_is_reciprocal_rank_fusion(texts):
    """The store's own fusion against 1 / (60 + rank) over its two lists."""
    question, vector = "kettle stove", np.array([0.1, 0.2, 0.3, 0.9, 0.8, 0.7, 0, 0], dtype=np.float32)
    lists = [
        texts.search(vector).limit(6).to_list(),
        texts.search(question, query_type="fts").limit(6).to_list(),
    ]
    fused = {}
    for found in lists:
        for rank, row in enumerate(found, 1):
            fused[row["id"]] = fused.get(row["id"], 0) + 1 / (60 + rank)
    hybrid = (
        texts.search(query_type="hybrid")
        .vector(vector)
        .text(question)
        .rerank(RRFReranker())
        .limit(6)
        .to_list()
    )
    assert {row["id"]: row["_relevance_score"] for row in hybrid} == pytest.approx(fused, rel=0.02)
    order = sorted(fused, key=lambda i: -fused[i])
    assert [row["id"] for row in hybrid][:3] == order[:3]
    assert order[0] != lists[0][0]["id"] or order[0] != lists[1][0]["id"]  # the two lists disagree


def test_opening_again_costs_little(tmp_path):
    """A store of a hundred small adds opens in a fraction of the time that filling it took."""
    begin = time.perf_counter()
    table = lancedb.connect(tmp_path).create_table(NAME, schema=store_writer.SCHEMA)
    for n in range(100):
        table.add(batch(2, n))
    filled = time.perf_counter() - begin
    begin = time.perf_counter()
    assert lancedb.connect(tmp_path).open_table(NAME).count_rows() == 100 * ROWS
    assert time.perf_counter() - begin < filled / 5
