"""A writer that is killed while it works, and what must be in the store afterwards.

    python tests/store_writer.py write ADDRESS SEED WORK FIRST COUNT
    python tests/store_writer.py read ADDRESS SEED HOW

`write` says "ready", waits for a line on standard input, and then works through `plan(WORK)`: it
says "start N KIND BATCH" before each operation and "done N KIND BATCH" once the store has returned
from it. The second line is the acknowledgement: what it names must outlive a kill. A batch is made
of the seed and its number alone, so whoever reads the lines knows every row.

`read` answers each line "B" on standard input with the number of rows that it finds exact of the
batches 0 to B - 1. HOW is "reopen" or "follow" (one open table that looks for new versions).
"""

import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

os.environ["LANCEDB_LOG"] = "error"  # no remarks about coming versions
os.environ["LANCE_INCLUDE_VECTOR_CENTROIDS"] = "false"

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import HnswSq

NAME, WIDTH, ROWS, FIRST_BATCHES = "passages", 384, 50, 8
WORKS = ("add", "index", "optimize", "update", "delete")
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("vector", pa.list_(pa.float32(), WIDTH)),
        ("text", pa.string()),
        ("kind", pa.string()),
    ]
)


def batch(seed: int, number: int, kind: str = "new") -> pa.Table:
    """The rows of one batch; ids number * ROWS to number * ROWS + ROWS - 1."""
    ids = np.arange(number * ROWS, (number + 1) * ROWS)
    vectors = np.random.default_rng([seed, number]).standard_normal((ROWS, WIDTH), dtype=np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), WIDTH)
    return pa.table([ids, column, [f"passage {i}" for i in ids], [kind] * ROWS], schema=SCHEMA)


def plan(work: str, first: int = 0) -> Iterator[tuple[str, int]]:
    """The writer's operations in order, without end: (kind, batch)."""
    for number in range(first, first + FIRST_BATCHES):
        yield "add", number
    if work == "optimize":
        yield "index", -1
    for number in itertools.count(first + FIRST_BATCHES):
        yield "add", number
        if work in ("index", "optimize"):
            yield work, -1
        elif work != "add":
            yield work, number - FIRST_BATCHES


def do(table: lancedb.table.Table, kind: str, number: int, seed: int) -> None:
    """One operation of the plan."""
    where = f"id >= {number * ROWS} AND id < {(number + 1) * ROWS}"
    if kind == "add":
        table.add(batch(seed, number))
    elif kind == "update":
        table.update(where=where, values={"kind": "seen"})
    elif kind == "delete":
        table.delete(where)
    elif kind == "index":
        table.create_index("vector", config=HnswSq(num_partitions=1, ef_construction=50))
    else:
        table.optimize()


def write(address: str, seed: int, work: str, first: int, count: int) -> None:
    table = lancedb.connect(address).create_table(NAME, schema=SCHEMA, exist_ok=True)
    print("ready", flush=True)
    sys.stdin.readline()
    for step, (kind, number) in enumerate(itertools.islice(plan(work, first), count)):
        print("start", step, kind, number, flush=True)
        do(table, kind, number, seed)
        print("done", step, kind, number, flush=True)


def read(address: str, seed: int, how: str) -> None:
    def opened():
        return lancedb.connect(address, read_consistency_interval=timedelta(0)).open_table(NAME)

    table = opened()
    print("ready", flush=True)
    for line in sys.stdin:
        table = opened() if how == "reopen" else table
        batches = int(line)
        wanted = pa.concat_tables(batch(seed, number) for number in range(batches))
        print(len(wanted) - differing(table, wanted, f"id < {batches * ROWS}"), flush=True)


# ------------------------------------------------------------------ on the side of the test


@dataclass
class Killed:
    """One killed writer: what it said, and what the store held when it was opened again."""

    work: str
    log: list[tuple[str, str, int]]  # ("start" or "done", kind, batch)
    code: int
    hit: str = ""  # the kind of operation that was under way; "" for a child that was idle
    unfinished: str = ""  # of a batch under way: "whole", "absent" or "torn"
    checked: int = 0  # acknowledged rows compared
    lost: int = 0  # of these missing, changed or double; and rows that should be gone
    found: bool = False  # search gives a row's own vector back first, before and after more writes
    reopened: list[float] = field(default_factory=list)  # seconds: after the kill, after a close


def start(*arguments: object, **environment: str) -> subprocess.Popen:
    """A child of this module that has imported everything and opened the store."""
    child = subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)],
        encoding="utf-8",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | environment,
    )
    assert child.stdout.readline() == "ready\n"
    return child


def tell(child: subprocess.Popen, line: str = "go") -> None:
    child.stdin.write(line + "\n")
    child.stdin.flush()


def end(child: subprocess.Popen) -> int:
    """Let a child finish; its exit status."""
    child.stdin.close()
    child.stdout.read()
    child.stdout.close()
    return child.wait(timeout=60)


def parsed(line: str) -> tuple[str, str, int]:
    word, _, kind, number = line.split()
    return word, kind, int(number)


def kill(address: str, seed: int, work: str, **environment: str) -> Killed:
    """Start a writer and kill it (SIGKILL) in the middle of an operation of the kind `work`.

    It is shot in the second to fifth operation of that kind, after a random part of the time
    that the one before took.
    """
    rng, log, began, took = random.Random(seed), [], 0.0, 0.0
    nth = rng.randint(2, 5) + (FIRST_BATCHES if work == "add" else 0)
    child = start("write", address, seed, work, 0, 10_000, **environment)
    try:
        tell(child)
        for line in child.stdout:
            log.append(parsed(line))
            word, kind, _ = log[-1]
            if kind == work and word == "start":
                began, nth = time.perf_counter(), nth - 1
                if nth == 0:
                    time.sleep(rng.random() * 0.8 * took)
                    break
            elif kind == work:
                took = time.perf_counter() - began
    finally:
        child.kill()
        log += [parsed(line) for line in child.stdout]
        code = child.wait()
        child.stdin.close()
        child.stdout.close()
    return Killed(work, log, code, hit=log[-1][1] if log and log[-1][0] == "start" else "")


def state(operations: list[tuple[str, int]]) -> dict[int, str]:
    """The batches that these operations leave in the store, and the kind of their rows."""
    held: dict[int, str] = {}
    for kind, number in operations:
        if kind == "add":
            held[number] = "new"
        elif kind == "update":
            held[number] = "seen"
        elif kind == "delete":
            del held[number]
    return held


def differing(table: lancedb.table.Table, wanted: pa.Table, only: str | None = None) -> int:
    """Rows that are wanted and not there exactly once and exactly so, plus rows too many.

    only: compare the rows under this filter.
    """
    search = table.search().where(only) if only else table.search()
    held = search.select(SCHEMA.names).limit(10**7).to_arrow().combine_chunks()
    if held.sort_by("id").equals(wanted.sort_by("id").combine_chunks()):
        return 0
    want, have = ({r["id"]: r for r in t.to_pylist()} for t in (wanted, held))
    wrong = sum(have.get(i) != row for i, row in want.items())
    return wrong + len(held) - len(have) + len(have.keys() - want.keys())


def check(killed: Killed, address: str, seed: int) -> Killed:
    """Open the store again and fill in what is there."""

    def timed():
        begin = time.perf_counter()
        table = lancedb.connect(address).open_table(NAME)
        table.count_rows()
        killed.reopened.append(time.perf_counter() - begin)
        return table

    def wanted(held):
        return pa.concat_tables([SCHEMA.empty_table()] + [batch(seed, n, k) for n, k in held.items()])

    table = timed()
    timed()
    done = [(kind, number) for word, kind, number in killed.log if word == "done"]
    before = state(done)
    _, kind, number = killed.log[-1]
    under_way = number if killed.hit in ("add", "update", "delete") else None
    others = {n: k for n, k in before.items() if n != under_way}
    apart = None
    if under_way is not None:
        inside = f"id >= {number * ROWS} AND id < {(number + 1) * ROWS}"
        apart = f"NOT ({inside})"
        after = state([*done, (kind, number)])
        options = [{n: k for n, k in s.items() if n == number} for s in (after, before)]
        fits = [differing(table, wanted(o), inside) == 0 for o in options]
        killed.unfinished = "whole" if fits[0] else "absent" if fits[1] else "torn"
    killed.checked = len(others) * ROWS
    killed.lost = differing(table, wanted(others), apart)

    # the store goes on: search, the operation that was broken off, one more batch, search again
    some = [random.Random(seed).choice(sorted(others)), 10**6]
    first = own(table, seed, some[0])
    do(table, "add", some[1], seed)
    if killed.hit in ("index", "optimize"):
        do(table, killed.hit, -1, seed)
    killed.found = first and all(own(table, seed, n) for n in some)
    return killed


def own(table: lancedb.table.Table, seed: int, number: int) -> bool:
    """Whether the vector of a row finds that row first, by comparing all rows and by the index."""
    row = batch(seed, number).to_pylist()[seed % ROWS]
    exact = table.search(row["vector"]).bypass_vector_index()
    quick = table.search(row["vector"]).ef(200).refine_factor(10)
    return all(q.limit(1).to_list()[0]["id"] == row["id"] for q in (exact, quick))


def until_every_kind(address, seeds: Iterator[int], kills: int, **environment: str) -> list[Killed]:
    """`kills` killed and checked writers, the kinds of work in turn, each with a store of its own.

    Where no kill has landed in some kind of operation, up to ten more aim at it.
    address: a function from a number to the address of an empty store.
    """
    done: list[Killed] = []
    for nth in range(kills + 10):
        missing = [w for w in WORKS if w not in {k.hit for k in done}]
        if nth >= kills and not missing:
            break
        work, seed = WORKS[nth % len(WORKS)] if nth < kills else missing[0], next(seeds)
        place = address(nth)
        done.append(check(kill(place, seed, work, **environment), place, seed))
    return done


def report(done: list[Killed]) -> str:
    hits = {w: sum(k.hit == w for k in done) for w in WORKS}
    ratio = np.median([k.reopened[0] / k.reopened[1] for k in done])
    ends = {e: sum(k.unfinished == e for k in done) for e in ("whole", "absent", "torn")}
    return (
        f"{len(done)} kills, {sum(hits.values())} in the middle of an operation {hits}; "
        f"{sum(k.checked for k in done)} acknowledged rows checked, {sum(k.lost for k in done)} lost; "
        f"batches under way {ends}; opening after a kill takes {ratio:.1f} times a second opening"
    )


def hold(done: list[Killed], kills: int) -> None:
    """What must be true of killed writers."""
    assert len(done) >= kills
    assert all(k.code == -9 for k in done), "a writer had ended before it was killed"
    assert sum(bool(k.hit) for k in done) >= 0.8 * len(done), "most kills hit an idle writer"
    assert {k.hit for k in done} >= set(WORKS), "some kind of operation was never hit"
    assert sum(k.checked for k in done) >= 300 * len(done)
    assert sum(k.lost for k in done) == 0
    assert not any(k.unfinished == "torn" for k in done)
    assert all(k.found for k in done)


if __name__ == "__main__":
    what, where, seed_, *rest = sys.argv[1:]
    if what == "write":
        write(where, int(seed_), rest[0], int(rest[1]), int(rest[2]))
    else:
        read(where, int(seed_), rest[0])
