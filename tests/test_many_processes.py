"""Embedding on several processes: the same vectors as on one, by both ways of the page
docs/beyond_one_machine.md, and nothing embedded twice after an interruption."""

import os
import re
import subprocess
import sys
import tempfile

import lancedb
import numpy as np
import pandas as pd
import pytest
from sentence_transformers import SentenceTransformer

from helpers import ROOT, data, models

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SCRIPT = [sys.executable, "scripts/ingest_with_ray.py"]

PAGE = (ROOT / "docs" / "beyond_one_machine.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def texts():
    return list(data.qa_pairs(part="test")["answer"][:64])


@pytest.fixture(scope="module")
def alone(texts):
    """The vectors of one process."""
    model = SentenceTransformer(str(models.path(MINILM, quiet=True)), device="cpu")
    return model.encode(texts)


def run(*command, cwd=ROOT, **environment):
    return subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | environment,
    )


def test_two_processes_give_the_vectors_of_one(alone, table, tmp_path):
    """The page's own file, on a table in the reader's folder."""
    source = next(
        c for c in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "start_multi_process_pool" in c
    )
    (tmp_path / "embed.py").write_text(source.replace("chunk_size=1000", "chunk_size=16"), encoding="utf-8")
    done = run(sys.executable, "embed.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert np.abs(np.load(tmp_path / "vectors.npy") - alone).max() < 1e-5


@pytest.fixture
def ray_files():
    """A short path for Ray's own files, whose sockets allow no long one; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        yield folder


@pytest.fixture
def table(texts, tmp_path):
    rows = pd.DataFrame(
        {"id": [f"answer-{i}" for i in range(64)], "text": texts, "kind": ["ab"[i % 2] for i in range(64)]}
    )
    rows.to_csv(tmp_path / "my_passages.tsv", sep="\t", index=False, quoting=3)
    return rows


def test_two_ray_workers_go_on_where_the_store_ends(alone, table, tmp_path, ray_files):
    """40 of 64 passages are in the store, marked, one with another text; 24 and that one are embedded."""
    pytest.importorskip(
        "lance_ray", reason='Ray is not installed; it comes with: pip install -e ".[cluster]"'
    )
    held = table[:40].assign(kind="there", vector=list(alone[:40]))
    held.loc[7, "text"] = "an older text"
    lancedb.connect(tmp_path / "store").create_table("passages", held)
    command = [*SCRIPT, "--passages", tmp_path / "my_passages.tsv", "--store", tmp_path / "store"]
    command += ["--workers", "2", "--batch", "8"]
    done = run(*command, RAY_TMPDIR=ray_files)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "64 passages, 40 of them in the store already, 1 with another text" in done.stdout
    assert re.search(r"25 embedded by 2 workers, \d+ a second; 64 rows", done.stdout)

    rows = lancedb.connect(tmp_path / "store").open_table("passages").to_pandas()
    rows = rows.set_index("id").loc[table["id"]]
    assert len(rows) == 64 and list(rows["text"]) == list(table["text"])
    assert [i for i in range(64) if rows["kind"].iloc[i] == "there"] == [i for i in range(40) if i != 7]
    assert list(rows["kind"][40:]) == list(table["kind"][40:])
    assert np.abs(np.stack(rows["vector"]) - alone).max() < 1e-5  # MiniLM's vectors have length 1

    again = run(*command, RAY_TMPDIR=ray_files)
    assert again.stdout == "64 passages, 64 of them in the store already\n"


def test_without_ray_the_script_says_how_to_get_it(table, tmp_path):
    hidden = tmp_path / "hidden" / "ray"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('not here')", encoding="utf-8")
    done = run(
        *SCRIPT,
        "--passages",
        tmp_path / "my_passages.tsv",
        "--store",
        tmp_path / "store",
        PYTHONPATH=os.pathsep.join([str(hidden.parent), str(ROOT)]),
    )
    assert done.returncode == 1 and not done.stdout
    assert (
        done.stderr == 'This script needs Ray and lance-ray, which come with:  pip install -e ".[cluster]"\n'
    )
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    "text, said",
    [
        ("number\ttext\n1\ta\n", "line 1: no column 'id'; the first line must name"),
        ("id\ttext\n1\ta\n1\tb\n", "the id '1' stands in more than one row"),
    ],
)
def test_a_table_that_cannot_be_used(text, said, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import ingest_with_ray

    (tmp_path / "mine.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        ingest_with_ray.read(str(tmp_path / "mine.tsv"))
