"""The downloader against a hub that misbehaves.

After each fault: either the whole right model is there, or nothing that looks like it, and
one clear sentence; and the same call, made again, mends it.
"""

import hashlib
import io
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from small_hub import COMMIT, Hub, ask_here

from helpers import models

NAME, REPO = "lab/small-bert", "lab/small-bert"
WEIGHTS = bytes(range(256)) * 4000  # one megabyte
FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": WEIGHTS}
ENTRY = {"lessons": [2], "licence": "MIT", "repo": REPO, "files": list(FILES), "bytes": 1_000_000}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = Hub({REPO: dict(FILES)})
    ask_here(server, monkeypatch, tmp_path / "models", {NAME: ENTRY})
    yield server
    server.close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / NAME


def assert_whole(folder: Path, files=FILES):
    assert sorted(str(f.relative_to(folder)) for f in folder.rglob("*")) == sorted(files)
    assert all((folder / f).read_bytes() == content for f, content in files.items())
    assert models.path(NAME, quiet=True) == folder


def assert_absent(folder: Path):
    assert not folder.exists()
    with pytest.raises(FileNotFoundError, match="python -m helpers.models download lab/small-bert"):
        models.path(NAME)


def asked_for_weights(hub):
    return [a for a in hub.asked if a[1].endswith("model.safetensors") and a[0] == "GET"]


def test_whole(hub, target):
    assert models.download(NAME) == target
    assert_whole(target)
    lock = (target.parents[1] / "lock.toml").read_text(encoding="utf-8")
    assert COMMIT in lock and lock.count("sha256") == 1 and "model.safetensors" in lock


def test_a_second_download_asks_for_nothing(hub, target):
    models.download(NAME)
    before = len(hub.asked)
    models.download(NAME)
    assert len(hub.asked) == before


def test_broken_off_then_resumed_within_one_call(hub, target):
    hub.faults["model.safetensors"] = "break"
    models.download(NAME)
    assert_whole(target)
    first, second = (a[2] for a in asked_for_weights(hub))
    assert first is None and int(second.removeprefix("bytes=").rstrip("-")) >= len(WEIGHTS) // 3


def test_broken_off_then_resumed_by_the_next_call(hub, target, monkeypatch):
    from huggingface_hub import file_download

    monkeypatch.setattr(file_download.time, "sleep", lambda s: None)
    hub.faults["model.safetensors"] = "always break"
    with pytest.raises(ConnectionError, match="run the same command again"):
        models.download(NAME)
    assert_absent(target)
    del hub.faults["model.safetensors"]
    hub.asked.clear()
    models.download(NAME)
    assert_whole(target)
    assert int(asked_for_weights(hub)[0][2].removeprefix("bytes=").rstrip("-")) > len(WEIGHTS) // 3


def test_corrupt_byte(hub, target):
    hub.faults["model.safetensors"] = "corrupt"
    with pytest.raises(ValueError, match="model.safetensors of lab/small-bert arrived damaged"):
        models.download(NAME)
    assert_absent(target)
    models.download(NAME)
    assert_whole(target)


def test_corrupt_small_file_without_sha256(hub, target):
    hub.faults["config.json"] = "corrupt"
    with pytest.raises(ValueError, match="config.json of lab/small-bert arrived damaged"):
        models.download(NAME)
    assert_absent(target)


@pytest.mark.parametrize("fault", ["short", "long"])
def test_wrong_size(hub, target, fault):
    hub.faults["model.safetensors"] = fault
    with pytest.raises((ConnectionError, ValueError), match="again"):
        models.download(NAME)
    assert_absent(target)
    models.download(NAME)
    assert_whole(target)


def test_file_not_found(hub, target):
    hub.faults["model.safetensors"] = "404"
    with pytest.raises(FileNotFoundError, match="lab/small-bert was not found"):
        models.download(NAME)
    assert_absent(target)


def test_repository_not_found(hub, target):
    hub.repos.clear()
    with pytest.raises(FileNotFoundError, match="moved or withdrawn"):
        models.download(NAME)
    assert_absent(target)


def test_429_then_success(hub, target):
    hub.faults["model.safetensors"] = "429"
    models.download(NAME)
    assert_whole(target)


def test_429_for_good(hub, target, monkeypatch):
    import huggingface_hub.utils._http as http

    monkeypatch.setattr(http.time, "sleep", lambda s: None)
    hub.faults["model.safetensors"] = "always 429"
    with pytest.raises(ConnectionError, match="wait some minutes"):
        models.download(NAME)
    assert_absent(target)


def test_slow_drip_arrives(hub, target):
    hub.faults["model.safetensors"] = "drip"  # slower than the time-out in all, never silent
    models.download(NAME)
    assert_whole(target)


def test_stalled_then_resumed(hub, target):
    hub.faults["model.safetensors"] = "stall"
    models.download(NAME)
    assert_whole(target)


def test_nonsense_answer(hub, target):
    hub.faults["info"] = "nonsense"
    with pytest.raises(ConnectionError, match="makes no sense"):
        models.download(NAME)
    assert_absent(target)


def test_nobody_there(hub, target, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="could not be reached"):
        models.download(NAME)
    assert_absent(target)


def test_too_little_room_is_seen_before_anything_is_fetched(hub, target, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda p: type("U", (), {"free": 1000})())
    with pytest.raises(OSError, match="make room and run the same command again") as error:
        models.download(NAME)
    assert error.value.errno == 28 and not asked_for_weights(hub)
    assert_absent(target)


def run_download(tmp_path, hub, extra="", register=None):
    """A download in a process of its own, as on the command line."""
    code = f"""
import os, sys
from huggingface_hub import constants
from helpers import models
constants.DOWNLOAD_CHUNK_SIZE = 50_000
models.register = lambda: {register or {NAME: ENTRY}!r}
{extra}
sys.exit(models.main(["download", {NAME!r}]))
"""
    env = os.environ | {"HF_ENDPOINT": hub.url, "COURSE_MODELS_DIR": str(tmp_path / "models")}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=env,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="the limit that plays the full disk is Unix's")
def test_disk_full_in_the_middle(hub, tmp_path, target):
    full = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))\nimport signal\n"
    full += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)"
    process = run_download(tmp_path, hub, full)
    assert process.wait(60) == 1
    said = process.stderr.read()
    assert "no room on the disk (no file may be that large here: ulimit -f) while lab/small-bert" in said
    assert_absent(target)
    models.download(NAME)
    assert_whole(target)


def test_killed_in_the_middle(hub, tmp_path, target):
    hub.faults["model.safetensors"] = "stall"
    process = run_download(tmp_path, hub)
    for _ in range(600):
        coming = list((tmp_path / "models").rglob("model.safetensors.incomplete"))
        if coming and coming[0].stat().st_size >= len(WEIGHTS) // 4:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert_absent(target)
    models.download(NAME)
    assert_whole(target)


def test_two_downloads_at_once(hub, tmp_path, target):
    hub.faults["model.safetensors"] = "drip"
    processes = [run_download(tmp_path, hub) for _ in range(2)]
    assert [p.wait(60) for p in processes] == [0, 0]
    assert len(asked_for_weights(hub)) == 1
    assert_whole(target)


def test_a_changed_original_is_refused(hub, target):
    models.download(NAME)
    for file in target.iterdir():
        file.unlink()
    hub.repos[REPO]["model.safetensors"] = WEIGHTS[::-1]
    with pytest.raises(ValueError, match="is not the file this course knows"):
        models.download(NAME)
    assert not any(target.iterdir())


# --- what is pinned ------------------------------------------------------------------------------


def pinned(monkeypatch, **more):
    monkeypatch.setattr(models, "register", lambda: {NAME: ENTRY | more})


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_is_not_the_pinned_one_is_refused(hub, target, monkeypatch, file):
    """The hub's own hash fits what it sends; the register knows better."""
    pinned(monkeypatch, sha256={f: sha256(content) for f, content in FILES.items()})
    hub.repos[REPO][file] = FILES[file][::-1]
    with pytest.raises(ValueError, match=f"{file} of lab/small-bert is not the file this course knows"):
        models.download(NAME)
    assert_absent(target)
    assert not (target.parents[1] / "lock.toml").exists(), "and what was refused is not recorded as known"


def test_the_pinned_file_is_taken(hub, target, monkeypatch):
    pinned(monkeypatch, sha256={f: sha256(content) for f, content in FILES.items()})
    models.download(NAME)
    assert_whole(target)


def test_the_registers_hash_counts_more_than_the_recorded_one(hub, target, monkeypatch):
    models.download(NAME)
    for file in target.iterdir():
        file.unlink()
    pinned(monkeypatch, sha256={"model.safetensors": sha256(WEIGHTS[::-1])})
    with pytest.raises(ValueError, match=f"expected {sha256(WEIGHTS[::-1])}"):
        models.download(NAME)
    assert not any(target.iterdir())


OLDER = "f" * 40
OLD_FILES = {"config.json": b'{"model_type": "older"}', "model.safetensors": WEIGHTS[::-1]}


def test_the_pinned_revision_is_fetched_and_no_newer_one(hub, target, monkeypatch):
    hub.commits[OLDER] = {REPO: OLD_FILES}
    pinned(monkeypatch, revision=OLDER)
    models.download(NAME)
    assert_whole(target, OLD_FILES)
    assert f'revision = "{OLDER}"' in (target.parents[1] / "lock.toml").read_text(encoding="utf-8")


def test_without_a_pin_the_newest_and_then_always_the_same_revision(hub, target):
    models.download(NAME)
    hub.commits[COMMIT] = {REPO: FILES}
    hub.repos[REPO] = dict(OLD_FILES)
    hub.newest = "e" * 40
    for file in target.iterdir():
        file.unlink()
    models.download(NAME)
    assert_whole(target)
    assert COMMIT in (target.parents[1] / "lock.toml").read_text(encoding="utf-8")


def test_a_pinned_revision_that_is_gone_is_said(hub, target, monkeypatch):
    pinned(monkeypatch, revision=OLDER)
    with pytest.raises(FileNotFoundError, match="lab/small-bert was not found"):
        models.download(NAME)
    assert_absent(target)


def test_one_plain_file_is_held_to_its_pinned_hash(hub, target, monkeypatch):
    hub.repos[REPO] = {"vectors.gz": WEIGHTS}
    entry = {"lessons": [1], "licence": "PDDL 1.0", "files": ["vectors.gz"], "bytes": len(WEIGHTS)}
    entry |= {"url": f"{hub.url}/{REPO}/resolve/main/vectors.gz", "sha256": {"vectors.gz": "0" * 64}}
    monkeypatch.setattr(models, "register", lambda: {NAME: entry})
    with pytest.raises(ValueError, match="vectors.gz of lab/small-bert"):
        models.download(NAME)
    assert_absent(target)


def pickled(tensors) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def test_bin_only_repository_becomes_safetensors(hub, target, monkeypatch):
    import torch
    from safetensors.torch import load_file

    weight = torch.arange(600.0).reshape(20, 30)
    hub.repos[REPO] = {
        "config.json": b"{}",
        "pytorch_model.bin": pickled({"w": weight, "tied": weight}),
    }
    entry = ENTRY | {"files": ["config.json", "pytorch_model.bin"], "convert": True}
    monkeypatch.setattr(models, "register", lambda: {NAME: entry})
    models.download(NAME)
    assert sorted(f.name for f in target.iterdir()) == ["config.json", "model.safetensors"]
    saved = load_file(target / "model.safetensors")
    assert torch.equal(saved["w"], weight) and torch.equal(saved["tied"], weight)
    assert models.path(NAME, quiet=True) == target


def test_bin_that_would_run_code_is_refused(hub, tmp_path, target, monkeypatch):
    mark = tmp_path / "code_ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (mark,))

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        import pickle

        z.writestr("archive/data.pkl", pickle.dumps(Evil(), protocol=2))
        z.writestr("archive/version", "3\n")
    hub.repos[REPO] = {"config.json": b"{}", "pytorch_model.bin": buffer.getvalue()}
    entry = ENTRY | {"files": ["config.json", "pytorch_model.bin"], "convert": True}
    monkeypatch.setattr(models, "register", lambda: {NAME: entry})
    with pytest.raises(ValueError, match="could not be read as plain weights"):
        models.download(NAME)
    assert_absent(target)
    assert not mark.exists()


def test_plain_address_with_md5(hub, target, monkeypatch):
    url = f"{hub.url}/{REPO}/resolve/main/vectors.gz"
    hub.repos[REPO] = {"vectors.gz": WEIGHTS}
    entry = {
        "lessons": [1],
        "licence": "PDDL 1.0",
        "url": url,
        "files": ["vectors.gz"],
        "bytes": len(WEIGHTS),
        "md5": hashlib.md5(WEIGHTS).hexdigest(),
    }
    monkeypatch.setattr(models, "register", lambda: {NAME: entry})
    hub.faults["vectors.gz"] = "corrupt"
    with pytest.raises(ValueError, match="arrived damaged"):
        models.download(NAME)
    assert_absent(target)
    models.download(NAME)
    assert_whole(target, {"vectors.gz": WEIGHTS})


def test_files_of_the_reader_in_the_folder_are_kept(hub, target):
    target.mkdir(parents=True)
    (target / "notes.txt").write_text("mine", encoding="utf-8")
    models.download(NAME)
    assert_whole(target, FILES | {"notes.txt": b"mine"})


def test_verify_finds_a_damaged_file(hub, target):
    models.download(NAME)
    assert models.verify() == []
    (target / "model.safetensors").write_bytes(b"x" + WEIGHTS[1:])
    assert "lab/small-bert/model.safetensors is damaged" in models.verify()[0]
