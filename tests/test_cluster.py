"""The cluster path of docs/beyond_one_machine.md, run for real on one machine.

A Ray head with two workers, moto's S3 server on loopback, 20,000 short passages through the encoder. A
worker is killed in the middle, then the process that started the work; nothing may be lost and nothing be
there twice. The indexes are built on a folder: moto reads a whole object for each range that is asked of it.

The Ray processes know nothing of the S3 server: what they need comes to them by name, with `--env`.
"""

import logging
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
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers import ROOT, data, models

pytest.importorskip("lance_ray", reason='Ray is not installed; it comes with: pip install -e ".[cluster]"')
moto_server = pytest.importorskip("moto.server", reason="moto[server] is not installed")

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PAGE = (ROOT / "docs" / "beyond_one_machine.md").read_text(encoding="utf-8")
PASSAGES, MADE, FILES = 20_000, 20_000, 8
STORAGE = {
    "AWS_ALLOW_HTTP": "true",
    "AWS_REGION": "us-east-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "course",
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-course",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


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
    import boto3

    logging.getLogger("werkzeug").setLevel("ERROR")  # or a line a request
    s3 = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    s3.start()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            STORAGE | {"AWS_ENDPOINT_URL": "http://{}:{}".format(*s3.get_host_and_port())}
        ).items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="course")
        yield "s3://course"
    s3.stop()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    """The address and the process of a Ray head that has three cores to give: two workers, and one to read and write."""
    small = tmp_path_factory.mktemp("small")
    # Ray starts five processes at once and gives them 15 seconds; each imports jsonschema, and that, where it
    # is there, a grammar of addresses that alone takes three of them
    (small / "rfc3987_syntax.py").write_text("raise ImportError('left out')\n", encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if k not in {*STORAGE, "AWS_ENDPOINT_URL"}}
    settings = {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_niceness": "0",
        "RAY_raylet_start_wait_time_s": "60",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(small), str(ROOT)]),
        "PYTHONWARNINGS": "ignore",
    }
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


def script(head, *words) -> subprocess.Popen:
    """The script, started; what it says goes into a pipe."""
    names = [*STORAGE, "AWS_ENDPOINT_URL"]
    return subprocess.Popen(
        [sys.executable, "-u", "scripts/ingest_with_ray.py", *map(str, words), "--env", *names],
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
    assert logs and not [f for f in logs if STORAGE["AWS_SECRET_ACCESS_KEY"].encode() in f.read_bytes()]


def test_the_indexes_find_what_reading_everything_finds(bucket, head, tmp_path):
    """On a folder, where a read costs nothing: both indexes by two workers, and the one on id."""
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((400, 384))[draw.integers(400, size=MADE)]
    vectors = (vectors + draw.standard_normal((MADE, 384)) / 2).astype("float32")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"made-{i}" for i in range(MADE)]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 384)
    table = lancedb.connect(tmp_path / "store").create_table(
        "passages", pa.table({"id": names, "text": names, "vector": column})
    )
    table.create_index("id", config=lancedb.index.BTree())
    indexed = ended(script(head, "--store", tmp_path / "store", "--index", "--workers", 2))
    assert f"{MADE:,} rows indexed in 256 cells, and their words" in indexed
    lines = re.findall(r"(.*): recall@10 ([\d.]+), [\d.]+ ms a question", indexed)
    assert [line[0] for line in lines][::4] == ["reading everything", "nprobes 96, refine_factor 60"]
    shares = [float(line[1]) for line in lines]
    assert shares[0] == 1 and shares[-1] >= max(0.9, shares[1])
    table = lancedb.connect(tmp_path / "store").open_table("passages")
    stats = [table.index_stats(i.name) for i in table.list_indices()]
    assert {i.index_type for i in stats} == {"BTREE", "IVF_PQ", "FTS"}
    assert [i.num_unindexed_rows for i in stats] == [0, 0, 0]
    space = {}
    code = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    exec(next(c for c in code if "def search" in c and "nprobes" in c), space)
    assert space["words"](table, "made-17")[0]["id"] == "made-17"
