"""Which folder a lesson gets, and what it is told."""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from gensim.models import KeyedVectors

from helpers import ROOT, models

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
GLOVE = "glove-wiki-gigaword-100"
BERT = "bert-base-uncased"


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """An empty folder for originals and an empty Hugging Face cache."""
    from huggingface_hub import constants

    monkeypatch.setenv("COURSE_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path


def put(folder, files, content=b"x"):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)


def test_stand_in_where_there_is_no_original(disk, capsys):
    models.path(BERT)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "the course's stand-in" in said
    assert f"python -m helpers.models download {BERT}" in said


@pytest.mark.parametrize("mode", ["auto", "bundled", "original"])
def test_what_the_course_keeps_of_an_original_is_called_so(disk, monkeypatch, capsys, mode):
    monkeypatch.setenv("COURSE_MODELS", mode)
    assert models.path(GLOVE) == models.BUNDLED / GLOVE
    assert capsys.readouterr().out == f"{GLOVE}: the original, 40,000 of its commonest words.\n"


def test_a_changed_file_is_not_called_the_original(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(models, "BUNDLED", tmp_path)
    shutil.copytree(ROOT / "models" / "bundled" / GLOVE, tmp_path / GLOVE)
    words = tmp_path / GLOVE / "words.txt"
    words.write_bytes(words.read_bytes().replace(b"queen", b"quean"))
    with pytest.raises(ValueError, match=r"words\.txt in models/bundled/glove.* git checkout"):
        models.path(GLOVE)
    assert "the original" not in capsys.readouterr().out
    assert any("words.txt" in line for line in models.verify())
    words.unlink()
    models._checked.cache_clear()
    with pytest.raises(ValueError, match="missing"):
        models.path(GLOVE)


@pytest.mark.parametrize("mode", ["auto", "original"])
def test_original_on_disk_wins(disk, monkeypatch, capsys, mode):
    monkeypatch.setenv("COURSE_MODELS", mode)
    put(disk / "models" / GLOVE, models.register()[GLOVE]["files"])
    assert models.path(GLOVE) == disk / "models" / GLOVE
    assert capsys.readouterr().out == f"{GLOVE}: the original.\n"


def test_bundled_even_where_the_original_is_on_disk(disk, monkeypatch):
    put(disk / "models" / GLOVE, models.register()[GLOVE]["files"])
    monkeypatch.setenv("COURSE_MODELS", "bundled")
    assert models.path(GLOVE, quiet=True) == models.BUNDLED / GLOVE


def test_half_an_original_is_none(disk, monkeypatch):
    monkeypatch.setenv("COURSE_MODELS", "original")
    put(disk / "models" / "bert-base-uncased", ["config.json", "vocab.txt"])
    with pytest.raises(FileNotFoundError, match="download bert-base-uncased"):
        models.path("bert-base-uncased")


def test_original_in_the_hub_cache_is_found(disk, monkeypatch):
    monkeypatch.setenv("COURSE_MODELS", "original")
    entry = models.register()["bert-base-uncased"]
    monkeypatch.setitem(entry, "sha256", dict.fromkeys(entry["files"], hashlib.sha256(b"x").hexdigest()))
    repo = disk / "cache" / "models--google-bert--bert-base-uncased"
    snapshot = repo / "snapshots" / entry["revision"]
    put(snapshot, entry["files"])
    put(repo / "refs", ["main"], entry["revision"].encode())
    assert models.path("bert-base-uncased", quiet=True) == snapshot


def test_minilm_comes_from_its_package_and_its_hash_is_checked(monkeypatch, tmp_path):
    folder = models.path(MINILM, quiet=True)
    assert (folder / "model.safetensors").stat().st_size == 90_868_376
    fake = tmp_path / "fake_minilm"
    put(fake, ["__init__.py"], b"")
    put(fake / "model", ["model.safetensors"])
    monkeypatch.syspath_prepend(tmp_path)
    entry = models.register()[MINILM] | {"package": "fake_minilm"}
    with pytest.raises(ValueError, match="is not the published one"):
        models._packaged(MINILM, entry)
    with pytest.raises(FileNotFoundError, match="make setup"):
        models._packaged(MINILM, entry | {"package": "no_such_package_at_all"})


def test_unknown_name_and_unknown_mode(monkeypatch):
    with pytest.raises(KeyError, match="no model 'bert-bass'"):
        models.path("bert-bass")
    monkeypatch.setenv("COURSE_MODELS", "orginal")
    with pytest.raises(ValueError, match="must be auto, bundled or original"):
        models.path(GLOVE)


def command(*arguments, **env):
    return subprocess.run(
        [sys.executable, "-m", "helpers.models", *arguments],
        encoding="utf-8",
        capture_output=True,
        env=os.environ | env,
        cwd=ROOT,
    )


def test_original_without_one_names_the_command_and_loads_no_library(tmp_path):
    code = (
        f"import sys; from helpers import models\ntry:\n    models.path({BERT!r})\n"
        "except FileNotFoundError as e: print(e)\n"
        "print(sorted({'torch', 'transformers', 'gensim', 'httpx'} & set(sys.modules)))"
    )
    env = {
        "COURSE_MODELS": "original",
        "COURSE_MODELS_DIR": str(tmp_path),
        "HF_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], encoding="utf-8", capture_output=True, env=os.environ | env, cwd=ROOT
    )
    message, loaded = done.stdout.splitlines()
    assert f"python -m helpers.models download {BERT}" in message and loaded == "[]"


def test_command_line(tmp_path):
    shown = command().stdout
    assert MINILM in shown and "stand-in" in shown and "CC BY-NC 4.0" in shown
    assert "every file with a known hash is as published" in command("verify").stdout
    wrong = command("download", "no-such-model")
    assert wrong.returncode == 1 and "no model 'no-such-model'" in wrong.stderr
    assert command("download").returncode == 2
    tf = command("download", "google/universal-sentence-encoder/4")
    assert tf.returncode == 1 and "TensorFlow SavedModel" in tf.stderr


def test_the_register_is_whole():
    for name, entry in models.register().items():
        assert entry["lessons"] and entry["licence"], name
        assert {"files", "package", "note"} & set(entry), name
        assert all(len(h) == 64 for h in entry.get("sha256", {}).values()), name
        if "kept" in entry:
            there = (f for f in (models.BUNDLED / name).rglob("*") if f.is_file())
            assert {f.relative_to(models.BUNDLED / name).as_posix() for f in there} == set(entry["bundled"])
            assert {"package", "file", "sha256", "member", "member_sha256"} == set(entry["carried"]), name
        assert len(entry.get("revision", "0" * 40)) == 40, name
        if any(f.endswith((".bin", ".pt", ".pkl")) for f in entry.get("files", [])):
            assert entry.get("convert"), f"{name} would be unpickled"


def test_committed_weights_stay_small():
    assert sum(f.stat().st_size for f in models.BUNDLED.rglob("*") if f.is_file()) < 140e6


# word vectors ---------------------------------------------------------------------------


def test_bundled_word_vectors():
    vectors = models.word_vectors(GLOVE, quiet=True)
    assert vectors.vectors.shape == (40_000, 100)
    assert vectors.vectors.dtype == np.float32 and np.isfinite(vectors.vectors).all()
    needed = "king princess monarch throne crown mountain ocean tv rainbow cloud queen bat"
    assert all(word in vectors for word in needed.split())
    folder = models.BUNDLED / GLOVE
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 14e6
    assert {f.suffix for f in folder.iterdir()} <= {".safetensors", ".txt"}
    assert len(models.word_vectors(GLOVE, limit=10, quiet=True)) == 10


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("headed", [True, False])
def test_original_text_formats(disk, monkeypatch, zipped, headed):
    monkeypatch.setenv("COURSE_MODELS", "original")
    small = KeyedVectors(3)
    small.add_vectors(["king", "queen"], np.array([[1, 2, 3], [4, 5, 6.5]], dtype="f"))
    text = disk / "v.txt"
    small.save_word2vec_format(text, write_header=headed)
    name = "glove-wiki-gigaword-100.gz" if zipped else "glove-wiki-gigaword-100.txt"
    monkeypatch.setitem(models.register()[GLOVE], "files", [name])
    content = text.read_bytes()
    put(disk / "models" / GLOVE, [name], gzip.compress(content) if zipped else content)
    read = models.word_vectors(GLOVE, quiet=True)
    assert read.index_to_key == ["king", "queen"] and np.allclose(read["queen"], [4, 5, 6.5])


def test_word2vec_binary_format(disk, monkeypatch):
    monkeypatch.setenv("COURSE_MODELS", "original")
    small = KeyedVectors(3)
    small.add_vectors(["king", "queen"], np.array([[1, 2, 3], [4, 5, 6.5]], dtype="f"))
    small.save_word2vec_format(disk / "v.bin", binary=True)
    name = "word2vec-google-news-300"
    put(disk / "models" / name, [f"{name}.gz"], gzip.compress((disk / "v.bin").read_bytes()))
    assert np.allclose(models.word_vectors(name, quiet=True)["king"], [1, 2, 3])
    assert len(models.word_vectors(name, limit=1, quiet=True)) == 1


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b""),
        gzip.compress(b"400000 100\nking 1 2 3\n")[:-9],
        gzip.compress(b"<html>404</html>"),
        b"no gzip",
    ],
    ids=["empty", "cut off", "a web page", "no gzip"],  # gzip writes the second into its bytes
)
def test_half_a_vector_file_is_one_sentence(disk, monkeypatch, content):
    monkeypatch.setenv("COURSE_MODELS", "original")
    put(disk / "models" / GLOVE, ["glove-wiki-gigaword-100.gz"], content)
    with pytest.raises(ValueError, match=f"cut off or is no table.*download {GLOVE}"):
        models.word_vectors(GLOVE, quiet=True)
