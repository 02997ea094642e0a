"""What the course made once is not believed for ever: it is checked, made again, verified, removed."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from helpers import ROOT, cache, files, made, models, stand_ins

BERT = "bert-base-uncased"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COURSE_MODELS_DIR", str(tmp_path / "originals"))
    return tmp_path / "cache"


def make(part):
    (part / "deep").mkdir()
    (part / "weights.bin").write_bytes(bytes(1000))
    (part / "deep" / "vocab.txt").write_text("a\nb\n", encoding="utf-8")


def held(name="x"):
    return made.folder("models", name, make, "the folder of x")


def assert_whole(folder):
    assert (folder / "weights.bin").read_bytes() == bytes(1000)
    assert (folder / "deep" / "vocab.txt").read_text(encoding="utf-8") == "a\nb\n"
    assert made.wrong(folder) is None


DAMAGES = {
    "cut off": lambda f: (f / "weights.bin").write_bytes(bytes(500)),
    "empty": lambda f: (f / "weights.bin").write_bytes(b""),
    "one bit": lambda f: (f / "weights.bin").write_bytes(bytes(999) + b"\x01"),
    "a file gone": lambda f: (f / "deep" / "vocab.txt").unlink(),
    "a file that became a folder": lambda f: ((f / "weights.bin").unlink(), (f / "weights.bin").mkdir()),
    "no list": lambda f: (f / made.LIST).unlink(),
    "half a list": lambda f: (f / made.LIST).write_text('{"weights.bin": [1000,', encoding="utf-8"),
    "another list": lambda f: (f / made.LIST).write_text("[1, 2]", encoding="utf-8"),
    "empty folder": lambda f: (shutil.rmtree(f), f.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder_is_made_again_and_that_is_said(place, capsys, damage):
    folder = held()
    damage(folder)
    assert held() == folder
    assert_whole(folder)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("the folder of x is damaged (")
    assert [f.name for f in folder.parent.iterdir() if f.name != "x.lock"] == ["x"]
    assert held() == folder and capsys.readouterr().err == ""


def test_a_damage_of_the_same_size_and_time_is_seen_by_the_next_process(place):
    code = "import sys; from helpers import models; print(models.path(sys.argv[1], quiet=True))"
    folder = models.path(BERT, quiet=True)
    weights = folder / "model.safetensors"
    whole, seen = weights.read_bytes(), weights.stat()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    os.utime(weights, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    done = subprocess.run(
        [sys.executable, "-c", code, BERT], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == str(folder) and weights.read_bytes() == whole
    assert "the folder of bert-base-uncased" in done.stderr and "made again" in done.stderr


def test_two_processes_mend_a_damaged_folder_and_do_no_harm(place):
    code = (
        "import sys; sys.path.insert(0, 'tests/faults'); import test_caches\n"
        "folder = test_caches.held(); test_caches.assert_whole(folder)"
    )
    DAMAGES["cut off"](held())
    several = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, encoding="utf-8")
        for _ in range(4)
    ]
    said = [process.communicate()[1] for process in several]
    assert [p.returncode for p in several] == [0] * 4, said
    assert sum("is damaged" in line for line in said) == 1
    assert_whole(held())


# what a folder's name holds --------------------------------------------------------------------


def test_another_minilm_is_another_folder(place, tmp_path):
    minilm = tmp_path / "minilm"
    shutil.copytree(models.path(MINILM, quiet=True), minilm)
    first = stand_ins.whole(BERT, "raw-bert", models.BUNDLED / BERT, minilm)
    with open(minilm / "vocab.txt", "a", encoding="utf-8") as f:
        f.write("more\n")
    assert stand_ins.whole(BERT, "raw-bert", models.BUNDLED / BERT, minilm) != first


@pytest.mark.parametrize(("kind", "other"), [("raw-bert", False), ("restored", False), ("dpr-ctx", True)])
def test_a_library_that_merges_weights_is_in_the_name_where_it_does(place, monkeypatch, kind, other):
    monkeypatch.setitem(stand_ins.MAKERS, kind, lambda shipped, minilm, part: None)
    minilm = models.path(MINILM, quiet=True)
    first = stand_ins.whole("x", kind, models.BUNDLED / BERT, minilm)
    monkeypatch.setattr(stand_ins.metadata, "version", lambda library: "99")
    assert (stand_ins.whole("x", kind, models.BUNDLED / BERT, minilm) != first) == other


@pytest.mark.parametrize("file", ["vocab.txt", "tokenizer.json", "model.safetensors"])
def test_a_minilm_that_lacks_a_file_makes_no_folder(place, tmp_path, file):
    minilm = tmp_path / "minilm"
    shutil.copytree(models.path(MINILM, quiet=True), minilm)
    (minilm / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"{file} of all-MiniLM-L6-v2 is not in"):
        stand_ins.whole(BERT, "raw-bert", models.BUNDLED / BERT, minilm)
    assert not place.exists()


# verify ----------------------------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "BUNDLED", tmp_path / "bundled")
    shutil.copytree(ROOT / "models" / "bundled", tmp_path / "bundled")
    models._checked.cache_clear()
    yield tmp_path / "bundled"
    models._checked.cache_clear()


SHIPPED = [name for name, entry in models.register().items() if "bundled" in entry]


@pytest.mark.parametrize("name", SHIPPED)
def test_verify_and_path_see_a_changed_shipped_file(place, shipped, name):
    assert models.verify() == []
    models._checked.cache_clear()
    file = max((shipped / name).rglob("*"), key=lambda f: f.stat().st_size)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert [line for line in models.verify() if f"{file.name} in models/bundled/{name}" in line]
    with pytest.raises(ValueError, match="git checkout -- models/bundled"):
        models.path(name)


def test_every_shipped_file_has_its_hash_in_the_register():
    there = {f.relative_to(models.BUNDLED).as_posix() for f in models.BUNDLED.rglob("*") if f.is_file()}
    assert there == {f"{name}/{file}" for name in SHIPPED for file in models.register()[name]["bundled"]}


def test_verify_sees_a_damaged_folder_of_the_cache_and_the_command_says_so(place, capsys):
    folder = held()
    assert models.main(["verify"]) == 0
    DAMAGES["one bit"](folder)
    capsys.readouterr()
    assert models.main(["verify"]) == 1
    said = capsys.readouterr().out
    assert f"x in {place / 'models'} is damaged (weights.bin is not what was written)" in said


def test_verify_sees_an_original_that_lacks_a_file_or_has_an_empty_one(place, tmp_path):
    folder = tmp_path / "originals" / BERT
    for file in models.register()[BERT]["files"]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(b"")
    (folder / "config.json").write_bytes(b"{}")
    (folder / "vocab.txt").unlink()
    said = "\n".join(models.verify())
    assert f"{BERT} lacks tokenizer.json, tokenizer_config.json, vocab.txt, model.safetensors" in said


# clean -----------------------------------------------------------------------------------------


def put(file, size=1000):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size))
    return file


def aged(path):
    for f in (path, *path.rglob("*")):
        os.utime(f, (time.time() - 2 * made.HOUR,) * 2)


def test_clean_removes_what_can_be_made_again_and_nothing_of_a_readers(place, tmp_path, capsys):
    partial = tmp_path / "originals" / ".partial"
    mine = [
        put(place / "lesson06-retriever" / "pair.safetensors"),
        put(place / "lesson07_index.safetensors"),
        put(place / "models" / "my-bert" / "model.safetensors"),
        put(place / "models" / "my-notes.txt"),
        put(place / "docs" / "notes.parquet"),
        put(tmp_path / "originals" / BERT / "vocab.txt"),
        put(tmp_path / "originals" / "my--model" / "model.safetensors"),
        put(partial / "my-own@0123456789ab" / "model.safetensors"),
        put(tmp_path / "elsewhere" / "model.safetensors"),
    ]
    mine.append(place / "models" / f"{BERT}-aaaaaaaaaaaa")
    if sys.platform != "win32":
        mine[-1].symlink_to(tmp_path / "elsewhere")
    else:
        mine.pop()
    gone = [
        held("bert-0123456789ab"),
        put(place / "models" / f"{BERT}-0123456789ab" / "model.safetensors"),  # of an earlier version
        put(place / "models" / f"{BERT}-0123456789ab.lock", 0),
        put(place / "models" / ".part-0123456789ab.part" / "model.safetensors"),  # of a killed run
        put(place / "models" / ".part-0123456789ac.part" / "model.safetensors"),
        put(place / "docs" / "corpus-0123456789ab.parquet"),
        put(place / "docs" / "corpus-0123456789ab.lock", 0),
        put(place / ".part-0123456789ab.safetensors"),
        put(partial / f"{BERT}@0123456789ab" / "model.safetensors.incomplete"),
        put(partial / f"{BERT}.lock", 0),
        put(tmp_path / "originals" / ".part-0123456789ab.toml"),
    ]
    aged(place / ".part-0123456789ab.safetensors")
    aged(tmp_path / "originals" / ".part-0123456789ab.toml")
    fresh = put(place / ".part-0123456789ac.safetensors")  # someone may be writing it
    capsys.readouterr()
    assert models.main(["clean"]) == 0
    *left, line = capsys.readouterr().out.splitlines()
    assert not [f for f in gone if f.exists()]
    assert all(f.exists() for f in [*mine, fresh])
    assert line == "0 MB freed"
    named = "\n".join(left)
    assert all(name in named for name in ("lesson06-retriever", "my-notes.txt", "notes.parquet"))
    assert_whole(held("bert-0123456789ab"))


def test_clean_counts_what_it_freed(place, capsys):
    put(place / "models" / f"{BERT}-0123456789ab" / "model.safetensors", 3_000_000)
    put(place / "models" / ".part-0123456789ab.part" / "model.safetensors", 4_000_000)
    models.main(["clean"])
    assert capsys.readouterr().out == "7 MB freed\n"
    models.main(["clean"])
    assert capsys.readouterr().out == "0 MB freed\n"


def test_clean_leaves_what_is_being_made_at_this_moment(place, capsys):
    part = put(place / "models" / ".part-0123456789ab.part" / "model.safetensors")
    with files.locked(cache("models") / "x.lock"):
        child = subprocess.run(
            [sys.executable, "-m", "helpers.models", "clean"], cwd=ROOT, capture_output=True, encoding="utf-8"
        )
    assert child.returncode == 0 and part.exists()
    assert "models is left: a lesson is at work in it" in child.stderr
    assert child.stdout.splitlines()[-1] == "0 MB freed"
    models.main(["clean"])
    assert not part.exists()


def test_clean_leaves_a_download_that_is_going_on(place, tmp_path, capsys):
    coming = put(
        tmp_path / "originals" / ".partial" / f"{BERT}@0123456789ab" / "model.safetensors.incomplete"
    )
    with files.locked(coming.parents[1] / f"{BERT}.lock"):
        subprocess.run([sys.executable, "-m", "helpers.models", "clean"], cwd=ROOT, check=True)
    assert coming.exists()
    models.main(["clean"])
    assert not coming.exists()


def test_clean_gives_back_what_an_earlier_version_had_set_aside(place, tmp_path):
    note = put(tmp_path / "originals" / ".partial" / f"{BERT}@0123456789ab.old" / "notes.txt")
    models.main(["clean"])
    assert not note.exists() and (tmp_path / "originals" / BERT / "notes.txt").exists()


def test_the_list_names_every_file(place):
    assert set(json.loads((held() / made.LIST).read_text(encoding="utf-8"))) == {
        "weights.bin",
        "deep/vocab.txt",
    }
