"""The two scripts, fed what people really have: a sentence before the work, never a traceback, nothing overwritten."""

import errno
import subprocess
import sys

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
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


def test_an_interrupt_while_it_judges_is_one_line(tmp_path, monkeypatch, capsys):
    import train_retriever

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    (tmp_path / "mine.tsv").write_text(TABLE, encoding="utf-8")
    given = [
        "--pairs",
        tmp_path / "mine.tsv",
        "--start",
        "scratch",
        "--batch",
        "4",
        "--out",
        tmp_path / "pair",
    ]
    monkeypatch.setattr(sys, "argv", ["train_retriever.py", *map(str, given)])
    monkeypatch.setattr(train_retriever.ranking, "reciprocal_ranks", interrupted)
    with pytest.raises(SystemExit) as stopped:
        train_retriever.main()
    assert stopped.value.code == 130 and "stopped; nothing was saved" in capsys.readouterr().err
    assert not (tmp_path / "pair").exists()


@pytest.fixture
def ingest(monkeypatch):
    import ingest_with_ray

    return ingest_with_ray


ROWS = pa.table({"id": ["1", "2"], "text": ["A lamp stands on the sill.", "The boat is blue."]})


def held(db, rows=ROWS, name="passages"):
    """A table of the store with these rows and some vectors."""
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(384 * len(rows), dtype=np.float32)), 384)
    return db.create_table(name, rows.append_column("vector", vectors))


def test_one_and_1_are_one_id_and_a_changed_text_is_found(ingest, tmp_path):
    table = held(lancedb.connect(tmp_path))
    later = pa.table(
        {"id": [2, 3, 1], "text": ["The boat is red.", "A bell rings.", " " + ROWS["text"][0].as_py()]}
    )
    assert ingest.standing(table, ingest.clean(later)).tolist() == ["changed", "new", "there"]
    quoted = ingest.clean(pa.table({"id": ["it's' OR '1' = '1"], "text": ["a"]}))
    assert ingest.standing(table, quoted).tolist() == ["new"]
    table.add(
        pa.table({"id": quoted["id"], "text": quoted["text"], "vector": [[0.0] * 384]}, schema=table.schema)
    )
    assert ingest.standing(table, quoted).tolist() == ["there"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": "1", "text": " "}, "the column 'text' of the id '1' is empty"),
        ({"id": "1", "text": None}, "the column 'text' of the id '1' is missing"),
        ({"id": None, "text": "a"}, "the column 'id' is missing"),
        ({"id": True, "text": "a"}, "the column 'id' is True, not a text"),
    ],
)
def test_a_row_that_cannot_be_embedded(ingest, row, said):
    with pytest.raises(ValueError, match=said):
        ingest.clean(pa.Table.from_pylist([row]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda rows: rows.append_column("source", [["attic"] * 2]),
            "the column 'source' is in the passages and not in the store's",
        ),
        (
            lambda rows: rows.set_column(2, "kind", [[1, 1]]),
            "the column 'kind' holds int64 in the passages and",
        ),
        (
            lambda rows: rows.drop_columns("kind"),
            "the column 'kind' is in the store's table and not in the passages",
        ),
    ],
)
def test_columns_are_compared_before_anything_is_embedded(ingest, tmp_path, change, said):
    rows = ROWS.append_column("kind", [["a", "a"]])
    table = held(lancedb.connect(tmp_path), rows)
    ingest.check_columns(table.schema, rows.schema)
    with pytest.raises(ValueError, match=said):
        ingest.check_columns(table.schema, change(rows).schema)


def test_a_table_of_other_vectors_and_the_eleventh_table(ingest, tmp_path):
    db = lancedb.connect(tmp_path)
    for number in range(12):
        db.create_table(f"other{number:02}", ROWS.append_column("vector", [[[0.0]] * 2]))
    assert ingest.opened(db, "passages") is None
    with pytest.raises(ValueError, match="no vectors of MiniLM"):
        ingest.check_columns(ingest.opened(db, "other11").schema, ROWS.schema)


def test_parts_are_whole_files_of_enough_rows(ingest, tmp_path):
    pytest.importorskip(
        "lance_ray", reason='Ray is not installed; it comes with: pip install -e ".[cluster]"'
    )
    for number in range(5):
        pq.write_table(ROWS, tmp_path / f"{number}.parquet")
    schema, cut, _ = ingest.parts(str(tmp_path), 3, 10)
    assert schema.names == ["id", "text"] and [(rows, len(files)) for rows, files in cut] == [
        (4, 2),
        (4, 2),
        (2, 1),
    ]
    fragments = held(lancedb.connect(tmp_path / "store"))
    fragments.add(ROWS.append_column("vector", [[[0.0] * 384] * 2]).cast(fragments.schema))
    fragments.drop_columns(["vector"])
    assert ingest.parts(fragments.uri, 2, 10)[1] == [(2, [0]), (2, [1])]
    pq.write_table(ROWS.append_column("vector", [[0, 0]]), tmp_path / "v.parquet")
    with pytest.raises(ValueError, match="the column 'vector' is what this script makes"):
        ingest.parts(str(tmp_path / "v.parquet"), 3, 10)
    pq.write_table(ROWS.drop_columns("text"), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="no column 'text'; it has id"):
        ingest.parts(str(tmp_path / "t.parquet"), 3, 10)
    pq.write_table(ROWS[:0], tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="has no rows"):
        ingest.parts(str(tmp_path / "none.parquet"), 3, 10)


def test_a_file_in_the_place_of_a_store(tmp_path):
    pytest.importorskip(
        "lance_ray", reason='Ray is not installed; it comes with: pip install -e ".[cluster]"'
    )
    (tmp_path / "mine.tsv").write_text("id\ttext\n1\ta lamp\n", encoding="utf-8")
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
    [
        ["--workers", "0"],
        ["--batch", "0"],
        ["--threads", "-1"],
        ["--length", "600"],
        ["--gpus", "-1"],
        ["--rows-a-commit", "0"],
        ["--env", "NOBODY_HAS_SET_THIS"],
    ],
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
