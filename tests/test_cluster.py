"""The cluster path of docs/beyond_one_machine.md, run for real on one machine.

A Ray head with two workers, moto's S3 server on loopback, 20,000 short passages through the encoder and
200,000 ready-made vectors behind them. A worker is killed in the middle, then the process that started the
work; nothing may be lost and nothing be there twice. Then both indexes, and two readers at once.

The Ray processes know nothing of the S3 server: what they need comes to them by name, with `--env`.
"""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import timedelta

import lancedb
import loopback_s3
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import vector_search

from helpers import ROOT, data, models

pytest.importorskip("lance_ray", reason='Ray is not installed; it comes with: pip install -e ".[cluster]"')

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PAGE = (ROOT / "docs" / "beyond_one_machine.md").read_text(encoding="utf-8")
PASSAGES, MADE, FILES = 20_000, 200_000, 8
NAMES = [*loopback_s3.KEYS, "AWS_ENDPOINT_URL"]

READ = """
import json, sys
address, questions = sys.argv[1], json.loads(sys.argv[2])
table = lancedb.connect(address).open_table("passages")
print(json.dumps([[search(table, q)[0]["id"], words(table, q)[0]["id"]] for q in questions]))
"""


def texts() -> list[str]:
    """Short passages, no two alike: five words and a number."""
    words = sorted(
        {w for answer in data.qa_pairs(part="test")["answer"] for w in re.findall("[a-z]{4,}", answer)}
    )
    draw = random.Random(0)
    return [" ".join([*draw.choices(words, k=5), str(i)]) for i in range(PASSAGES)]


@pytest.fixture(scope="module")
def bucket():
    """The address of an empty bucket; the environment of this process says how to reach it."""
    with loopback_s3.serving() as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield "s3://course"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def started(small: pathlib.Path, **more: str):
    """The settings, with its address, the process and the folder of a Ray head that has three cores to give."""
    # Ray starts five processes at once and gives them 15 seconds; each imports jsonschema, and that, where it
    # is there, a grammar of addresses that alone takes three of them
    (small / "rfc3987_syntax.py").write_text("raise ImportError('left out')\n", encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if k not in NAMES}
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_niceness": "0",
        "RAY_raylet_start_wait_time_s": "60",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(small), str(ROOT)]),
        "PYTHONWARNINGS": "ignore",
    } | more
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # a short path: sockets allow no long one
        for _ in range(3):  # Ray gives up where the machine is busy
            port = free_port()
            options = ["--num-cpus=3", "--include-dashboard=false", f"--port={port}", f"--temp-dir={folder}"]
            process = subprocess.Popen(
                [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *options],
                env=clean | settings,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
            )
            said = ""
            for line in process.stdout:
                said += line
                if "Ray runtime started" in line:
                    break
            else:
                process.wait()
                continue
            break
        else:
            pytest.fail(said[-2000:])
        yield settings | {"RAY_ADDRESS": f"127.0.0.1:{port}"}, psutil.Process(process.pid), folder
        family = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        for child in psutil.wait_procs(family, timeout=5)[1]:
            child.kill()
        process.stdout.close()
        process.wait(60)


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """A Ray head for two workers, and one core to read and write."""
    with started(tmp_path_factory.mktemp("small"), RAY_AUTH_MODE="disabled") as running:
        yield running


def script(head, *words) -> subprocess.Popen:
    """The script, started; what it says goes into a pipe."""
    return subprocess.Popen(
        [sys.executable, "-u", "scripts/ingest_with_ray.py", *map(str, words), "--env", *NAMES],
        cwd=ROOT,
        env=os.environ | head[0],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def until(started: subprocess.Popen, what: str) -> str:
    """What the script says up to the line with `what`."""
    said = ""
    for line in started.stdout:
        said += line
        if what in line:
            return said
    raise AssertionError(f"it never said {what!r}: {said[-3000:]}")


def ended(started: subprocess.Popen) -> str:
    said = started.stdout.read()
    assert started.wait(60) == 0, said[-3000:]
    return said


def embedding(head, number: int, seconds: float) -> list[psutil.Process]:
    """The Ray workers, once `number` of them have computed for so many seconds beyond their start."""
    began, deadline = {}, time.monotonic() + 120
    while time.monotonic() < deadline:
        busy = []
        for process in head[1].children(recursive=True):
            try:
                if "Embedder" in "".join(process.cmdline()) and "MapWorker" in "".join(process.cmdline()):
                    spent = process.cpu_times().user
                    if spent - began.setdefault(process.pid, spent) >= seconds:
                        busy.append(process)
            except psutil.Error:
                continue
        if len(busy) >= number:
            return busy
        time.sleep(0.1)
    raise AssertionError(f"no {number} workers embedded")


def test_two_kills_lose_nothing_and_double_nothing(bucket, head, capsys):
    passages = texts()
    s3, _ = pa.fs.FileSystem.from_uri(bucket)
    for n in range(FILES):
        ids = range(n * PASSAGES // FILES, (n + 1) * PASSAGES // FILES)
        part = pa.table(
            {"id": list(ids), "text": [f" {passages[i]}" for i in ids], "half": [n % 2] * len(ids)}
        )
        pq.write_table(part, f"course/passages/{n}.parquet", filesystem=s3)
    store = f"{bucket}/store"
    command = ["--store", store, "--passages", f"{bucket}/passages", "--workers", 2]
    command += ["--batch", 256, "--rows-a-commit", PASSAGES // 2]

    # a worker dies in the first part, the process that started all of it in the second
    first = script(head, *command)
    until(first, f"{PASSAGES:,} passages, 0 of them in the store already")
    victim = embedding(head, 2, 3)[0]
    victim.send_signal(signal.SIGKILL)
    until(first, f"part 1 of 2 ({PASSAGES // 2:,} passages) is in the store")
    table = lancedb.connect(store, read_consistency_interval=timedelta(0)).open_table("passages")
    assert table.count_rows() == PASSAGES // 2
    embedding(head, 2, 2)
    first.kill()
    first.wait()
    first.stdout.close()
    assert table.count_rows() == PASSAGES // 2  # the second part is there whole or not at all
    again = ended(script(head, *command))
    assert f"{PASSAGES:,} passages, {PASSAGES // 2:,} of them in the store already\n" in again
    assert f"{PASSAGES // 2:,} embedded by 2 workers" in again and f"{PASSAGES:,} rows in {store}" in again

    # nothing is lost, nothing there twice, and a row is what one process makes of it
    rows = table.search().select(["id", "text", "half", "vector"]).limit(10**6).to_arrow().sort_by("id")
    held = dict(zip(rows["id"].to_pylist(), rows["text"].to_pylist(), strict=True))
    assert len(rows) == len(held) == PASSAGES
    assert held == {str(i): text for i, text in enumerate(passages)}
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(models.path(MINILM, quiet=True)), device="cpu")
    some = rows.take(list(range(0, PASSAGES, 100)))
    alone = model.encode(some["text"].to_pylist(), normalize_embeddings=True)
    vectors = np.stack(some["vector"].to_numpy(zero_copy_only=False))
    assert np.abs(vectors - alone).max() < 1e-5
    commits = len(table.list_versions())
    with capsys.disabled():
        print(f"\n{len(rows):,} rows and {commits} versions after the kills")
    assert commits <= 6  # made; two parts; the index on id, made and brought up to date

    # what was passed on by name stands in none of Ray's own files
    logs = [f for f in pathlib.Path(head[2]).rglob("*") if f.is_file() and not f.is_symlink()]
    assert logs and not [
        f for f in logs if loopback_s3.KEYS["AWS_SECRET_ACCESS_KEY"].encode() in f.read_bytes()
    ]


def test_the_indexes_and_two_readers_at_once(bucket, head, tmp_path, capsys):
    """On the table of the test before, which must have run."""
    passages, store, report = texts(), f"{bucket}/store", []
    table = lancedb.connect(store, read_consistency_interval=timedelta(0)).open_table("passages")
    rows = table.search().select(["id", "vector"]).limit(4000).to_arrow()

    # 200,000 ready-made vectors behind them, and the indexes
    made = vector_search.more_like(np.stack(rows["vector"].to_numpy(zero_copy_only=False)), MADE)
    for block in np.split(np.arange(MADE), 4):
        column = pa.FixedSizeListArray.from_arrays(pa.array(made[block].ravel()), 384)
        names = [f"made-{i}" for i in block]
        table.add(pa.table({"id": names, "text": names, "half": [0] * len(block), "vector": column}))
    indexed = ended(script(head, "--store", store, "--index", "--questions", 10, "--workers", 2))
    assert f"{PASSAGES + MADE:,} rows indexed in 1,024 cells, and their words" in indexed
    lines = re.findall(r"(.*): recall@10 ([\d.]+), ([\d.]+) ms a question", indexed)
    report += [": recall@10 ".join(line[:2]) + f", {line[2]} ms" for line in lines]
    assert [line[0] for line in lines][::4] == ["reading everything", "nprobes 96, refine_factor 60"]
    assert float(lines[-1][1]) >= 0.95  # moto's milliseconds are shown below, and prove nothing
    stats = [table.index_stats(i.name) for i in table.list_indices()]
    assert {i.index_type for i in stats} == {"BTREE", "IVF_PQ", "FTS"}
    assert [i.num_unindexed_rows for i in stats] == [0, 0, 0]

    # two readers at once, with the page's own function
    reader = next(
        c for c in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "def search" in c and "nprobes" in c
    )
    (tmp_path / "reader.py").write_text(reader + READ, encoding="utf-8")
    wanted = [int(i) for i in np.linspace(0, PASSAGES - 1, 40)]
    readers = [
        subprocess.Popen(
            [
                sys.executable,
                "-W",
                "ignore",
                "reader.py",
                store,
                json.dumps([passages[i] for i in wanted[n::2]]),
            ],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "LANCEDB_LOG": "error"},
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        for n in range(2)
    ]
    for n, process in enumerate(readers):
        answers = json.loads(process.communicate(timeout=120)[0].splitlines()[-1])
        assert answers == [[str(i), str(i)] for i in wanted[n::2]]  # by meaning, and by words

    # one worker with two threads, and two with one
    for workers, threads in ((1, 2), (2, 1)):
        words = ["--store", store, "--table", f"rate{workers}", "--passages", f"{bucket}/passages/0.parquet"]
        said = ended(script(head, *words, "--batch", 256, "--workers", workers, "--threads", threads))
        rate = re.search(r"embedded by \d workers?, ([\d,]+) a second", said).group(1)
        report.append(
            f"{workers} workers of {threads} threads: {rate} rows a second, their start and the commit included"
        )
    with capsys.disabled():
        print("\n" + "\n".join(report))


def test_who_is_let_in_by_a_head(tmp_path):
    """As the page says: with the mode `token` and with a token's file alone who has it; without either, anybody."""
    assert "`ray get-auth-token --generate`" in PAGE and "`RAY_AUTH_MODE=token`" in PAGE
    home, stranger = tmp_path / "home", tmp_path / "stranger"
    for folder in (home, stranger):
        folder.mkdir()
    make = [sys.executable, "-m", "ray.scripts.scripts", "get-auth-token", "--generate"]
    subprocess.run(make, env=os.environ | {"HOME": str(home)}, check=True)
    assert (home / ".ray" / "auth_token").stat().st_size >= 32

    def joins(settings: dict[str, str]) -> bool:
        code = "import ray; ray.init(); print('let in', ray.cluster_resources()['CPU'])"
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | settings,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        return "let in 3.0" in done.stdout

    alone = "import ray; ray.init('local', num_cpus=1, include_dashboard=False)"  # as the script begins a run alone
    third = tmp_path / "third"
    third.mkdir()
    bare = {k: v for k, v in os.environ.items() if k != "RAY_AUTH_MODE"}
    subprocess.run([sys.executable, "-c", alone], env=bare | {"HOME": str(third)}, check=True, timeout=120)
    assert (third / ".ray" / "auth_token").exists()
    with started(tmp_path, RAY_AUTH_MODE="token", HOME=str(home)) as (settings, _, _):
        assert joins(settings) and not joins(settings | {"HOME": str(stranger)})
    with started(tmp_path, HOME=str(home)) as (settings, _, _):
        assert not joins(settings | {"HOME": str(stranger)})
    with started(tmp_path, HOME=str(stranger)) as (settings, _, _):
        assert joins(settings)
