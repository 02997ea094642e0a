"""The two scripts, fed what people really have: a sentence before the work, never a traceback, nothing overwritten."""

import errno
import subprocess
import sys

import lancedb
import numpy as np
import pandas as pd
import pytest

from helpers import ROOT, checkpoints

TABLE = "questions\tanswers\n" + "".join(f"what is {i}\tit is number {i}\n" for i in range(20))


def train(tmp_path, *options, table=TABLE):
    (tmp_path / "mine.tsv").write_text(table, encoding="utf-8")
    command = ["scripts/train_retriever.py", "--pairs", tmp_path / "mine.tsv", "--start", "scratch", *options]
    return subprocess.run(
        [sys.executable, *command], capture_output=True, encoding="utf-8", cwd=ROOT, timeout=300
    )


def test_a_folder_of_the_readers_is_refused_before_training(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    done = train(tmp_path, "--batch", "4", "--out", tmp_path / "model")
    assert done.returncode == 1 and "holds files that are no checkpoint of this course" in done.stderr
    assert "steps" not in done.stderr and done.stderr.count("\n") == 1
    assert (tmp_path / "model" / "config.json").read_text(encoding="utf-8") == '{"model_type": "bert"}'


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--lr", "0"], "lr=0.0 trains nothing"),
        (["--batch", "0"], "batch=0 leaves no wrong answers"),
        (["--scale", "-1"], "scale=-1.0 makes no score"),
        (["--length", "900"], "length=900 is outside 3 to 512"),
    ],
)
def test_senseless_numbers(tmp_path, options, said):
    done = train(tmp_path, "--batch", "4", *options, "--out", tmp_path / "pair")
    assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "pair").exists()


def test_a_shared_answer_is_said_and_found(tmp_path):
    table = TABLE + "what comes first\tit is number 0\n"
    done = train(tmp_path, "--batch", "4", "--steps", "1", "--out", tmp_path / "pair", table=table)
    assert done.returncode == 0, done.stderr[-800:]
    assert "1 of 6 answers that judge are among those trained on" in done.stdout


def test_a_result_that_cannot_be_saved_in_its_place_is_saved_in_another(tmp_path, monkeypatch, capsys):
    import train_retriever
    from test_training import pair

    real, asked = checkpoints.save, []

    def full(path, *towers, **about):
        asked.append(path)
        if len(asked) < 3:
            raise OSError(errno.ENOSPC, "no room on the disk for the pair")
        return real(path, *towers, **about)

    monkeypatch.setattr(checkpoints, "save", full)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    saved = train_retriever.keep(tmp_path / "out" / "pair", *pair(), note="mine")
    assert asked[0] == tmp_path / "out" / "pair" and asked[1].parent == tmp_path / "out" and saved == asked[2]
    assert checkpoints.about(saved) == {"note": "mine"} and saved.parent == tmp_path / "temporary"
    assert capsys.readouterr().err.count("no room on the disk") == 2
    asked.clear()
    monkeypatch.setattr(
        checkpoints, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full"))
    )
    with pytest.raises(OSError, match="full"):
        train_retriever.keep(tmp_path / "out" / "pair", *pair())


@pytest.fixture
def ingest(monkeypatch):
    import ingest_with_ray

    return ingest_with_ray


ROWS = pd.DataFrame({"id": ["1", "2"], "text": ["A lamp stands on the sill.", "The boat is blue."]})
VECTORS = np.eye(2, 384, dtype=np.float32)


def test_one_and_1_are_one_id_and_a_changed_text_is_found(ingest, tmp_path):
    db = lancedb.connect(tmp_path)
    ingest.write(db, "passages", ROWS, VECTORS)
    later = pd.DataFrame({"id": [2, 3, 1], "text": ["The boat is red.", "A bell rings.", ROWS["text"][0]]})
    later.to_parquet(tmp_path / "later.parquet")
    new, changed = ingest.missing(db, "passages", ingest.read(str(tmp_path / "later.parquet")))
    assert new["id"].tolist() == ["3"] and changed["text"].tolist() == ["The boat is red."]
    ingest.write(db, "passages", new, VECTORS[:1])
    ingest.write(db, "passages", changed, VECTORS[:1] * 2, replace=True)
    found = db.open_table("passages").to_pandas().set_index("id")
    assert found["text"].to_dict() == {"1": ROWS["text"][0], "2": "The boat is red.", "3": "A bell rings."}
    assert found.loc["2", "vector"][0] == 2
    assert [
        part.empty for part in ingest.missing(db, "passages", ingest.read(str(tmp_path / "later.parquet")))
    ] == [
        True,
        True,
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda rows: rows.assign(source="attic"),
            "the column 'source' is in the passages and not in the store's",
        ),
        (lambda rows: rows.assign(kind=1), "the column 'kind' holds int64 in the passages and"),
        (
            lambda rows: rows.drop(columns="kind"),
            "the column 'kind' is in the store's table and not in the passages",
        ),
    ],
)
def test_columns_are_compared_before_anything_is_embedded(ingest, tmp_path, change, said):
    db = lancedb.connect(tmp_path)
    rows = ROWS.assign(kind="a")
    ingest.write(db, "passages", rows, VECTORS)
    assert ingest.missing(db, "passages", rows)[0].empty
    with pytest.raises(ValueError, match=said):
        ingest.missing(db, "passages", change(rows))


def test_a_table_of_other_vectors_and_the_eleventh_table(ingest, tmp_path):
    db = lancedb.connect(tmp_path)
    for number in range(12):
        db.create_table(f"other{number:02}", ROWS.assign(vector=[[0.0]] * 2))
    ingest.write(db, "passages", ROWS, VECTORS)
    assert ingest.missing(db, "passages", ROWS)[0].empty
    with pytest.raises(ValueError, match="no vectors of MiniLM"):
        ingest.missing(db, "other11", ROWS)


WRITER = """
import sys, lancedb, numpy as np, pandas as pd, ingest_with_ray
number = int(sys.argv[2])
rows = pd.DataFrame({"id": [f"{number}-{i}" for i in range(50)], "text": ["a lamp"] * 50})
sys.stdin.readline()
ingest_with_ray.write(lancedb.connect(sys.argv[1]), "passages", rows, np.ones((50, 384), dtype=np.float32))
"""


def test_four_first_writers_at_one_moment_lose_nothing(tmp_path):
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path / "store", str(n)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            cwd=ROOT / "scripts",
        )
        for n in range(4)
    ]
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        assert process.wait(120) == 0, process.stderr.read()[-800:]
    ids = lancedb.connect(tmp_path / "store").open_table("passages").to_arrow()["id"].to_pylist()
    assert len(ids) == len(set(ids)) == 200


def test_a_file_in_the_place_of_a_store(tmp_path):
    pytest.importorskip("ray", reason='Ray is not installed; it comes with: pip install -e ".[cluster]"')
    ROWS.to_csv(tmp_path / "mine.tsv", sep="\t", index=False)
    (tmp_path / "store").write_text("mine", encoding="utf-8")
    command = [
        "scripts/ingest_with_ray.py",
        "--passages",
        tmp_path / "mine.tsv",
        "--store",
        tmp_path / "store",
    ]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, encoding="utf-8", cwd=ROOT, timeout=120
    )
    assert done.returncode == 1 and "store cannot be opened (File exists)" in done.stderr
    assert (tmp_path / "store").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "options",
    [["--workers", "0"], ["--batch", "0"], ["--threads", "-1"], ["--length", "600"], ["--gpus", "-1"]],
)
def test_senseless_numbers_of_the_ingest(tmp_path, options):
    command = [
        "scripts/ingest_with_ray.py",
        "--passages",
        "none.tsv",
        "--store",
        tmp_path / "store",
        *options,
    ]
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, encoding="utf-8", cwd=ROOT, timeout=120
    )
    assert done.returncode == 2 and options[0] in done.stderr.splitlines()[-1]
    assert not (tmp_path / "store").exists()
