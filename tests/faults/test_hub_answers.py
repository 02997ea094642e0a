"""A hub that answers wrongly or with intent, a network that is set up wrongly, a kill at each step.

After each: one sentence, nothing outside the model's own folder, nothing of a reader's lost, and the
same call, made again, ends well.
"""

import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from small_hub import COMMIT, Hub, ask_here

from helpers import ROOT, files, models
from helpers import hub as downloader

NAME = "lab/small-bert"
WEIGHTS = bytes(range(256)) * 4000
FILES = {"config.json": b'{"model_type": "bert"}', "vocab.txt": b"a\nb\n", "model.safetensors": WEIGHTS}
ENTRY = {"lessons": [2], "licence": "MIT", "repo": NAME, "files": list(FILES), "bytes": 1_000_000}


class Lying(Hub):
    """A hub whose `info` is changed by `lie` before it is sent, and whose files are those of `sent`."""

    lie = staticmethod(lambda info: info)

    def info(self, repo, files, commit):
        return self.lie(super().info(repo, files, commit))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    server = Lying({NAME: dict(FILES)})
    ask_here(server, monkeypatch, tmp_path / "models", {NAME: ENTRY})
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    yield server
    server.close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "models" / NAME


def assert_whole(target, more=()):
    there = {f.relative_to(target).as_posix() for f in target.rglob("*") if f.is_file()}
    assert there == {*FILES, *more}
    assert all((target / f).read_bytes() == content for f, content in FILES.items())
    assert models.path(NAME, quiet=True) == target


def assert_mended(hub, target):
    hub.lie = lambda info: info
    models.download(NAME)
    assert_whole(target)
    assert not [f for f in (target.parents[1] / ".partial").iterdir() if f.suffix != ".lock"]


def changed(info, file=None, **values):
    if file is None:
        return info | values
    siblings = [s | (values if s["rfilename"] == file else {}) for s in info["siblings"]]
    return info | {"siblings": [{k: v for k, v in s.items() if v != "gone"} for s in siblings]}


OTHER = "f" * 40
LIES = {
    "another commit than the pinned one": (lambda i: changed(i, sha=OTHER), "the pinned one is"),
    "no commit": (lambda i: changed(i, sha=None), "that is no commit"),
    "a path as the commit": (lambda i: changed(i, sha="../../../mine"), "that is no commit"),
    "a branch as the commit": (lambda i: changed(i, sha="main"), "that is no commit"),
    "a commit in capitals": (lambda i: changed(i, sha=COMMIT.upper()), "that is no commit"),
    "no size": (lambda i: changed(i, "model.safetensors", size="gone"), "no size of model.safetensors"),
    "a size below zero": (lambda i: changed(i, "model.safetensors", size=-1), "no size of model.safetensors"),
    "no hash of a large file": (
        lambda i: changed(i, "model.safetensors", lfs="gone", blobId="gone"),
        "no hash of model.safetensors",
    ),
    "a hash that is none": (
        lambda i: changed(i, "model.safetensors", lfs={"sha256": "abc", "size": 9, "pointerSize": 1}),
        "no hash of model.safetensors",
    ),
    "no hash of a small file": (
        lambda i: changed(i, "config.json", blobId="gone"),
        "no hash of config.json",
    ),
}


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize(("lie", "sentence"), LIES.values(), ids=LIES)
def test_an_answer_that_cannot_be_trusted_fetches_nothing(hub, target, monkeypatch, lie, sentence, pinned):
    if pinned:
        monkeypatch.setattr(models, "register", lambda: {NAME: ENTRY | {"revision": COMMIT}})
    elif "pinned" in sentence:  # the commit of the first download is one, too
        models.download(NAME)
        shutil.rmtree(target)
    beside = target.parents[2] / "mine" / "notes.incomplete"
    beside.parent.mkdir()
    beside.write_text("mine", encoding="utf-8")
    hub.asked.clear()
    hub.lie = lie
    with pytest.raises(ValueError, match=sentence) as error:
        models.download(NAME)
    assert "\n" not in str(error.value) and not target.exists()
    assert not [path for method, path, _ in hub.asked if "/resolve/" in path]
    assert beside.read_text(encoding="utf-8") == "mine"
    assert_mended(hub, target)


def test_no_more_bytes_are_written_than_were_announced(hub, target, monkeypatch):
    largest = []
    write = downloader.Capped.write

    def watched(self, data):
        done = write(self, data)
        largest.append(self.file.tell())
        return done

    monkeypatch.setattr(downloader.Capped, "write", watched)
    hub.repos[NAME]["model.safetensors"] = WEIGHTS * 3
    announced = {"size": len(WEIGHTS), "lfs": {"sha256": "0" * 64, "size": len(WEIGHTS), "pointerSize": 1}}
    hub.lie = lambda info: changed(info, "model.safetensors", **announced)
    with pytest.raises(ValueError, match="more bytes of lab/small-bert came than .* had announced"):
        models.download(NAME)
    assert max(largest) <= len(WEIGHTS) and not target.exists()
    hub.repos[NAME]["model.safetensors"] = WEIGHTS
    assert_mended(hub, target)


# the network's settings --------------------------------------------------------------------------

SETTINGS = {
    "a SOCKS proxy": ({"ALL_PROXY": "socks5://127.0.0.1:9"}, "ValueError", "pip install socksio"),
    "a proxy of no known kind": ({"ALL_PROXY": "gopher://127.0.0.1:9"}, "ValueError", "proxy"),
    "certificates that are not there": (
        {"SSL_CERT_FILE": "/no/such.pem"},
        "FileNotFoundError",
        "SSL_CERT_FILE is /no/such.pem, and there is nothing: correct it, or unset SSL_CERT_FILE",
    ),
    "a folder of certificates that is not there": (
        {"SSL_CERT_DIR": "/no/such"},
        "FileNotFoundError",
        "SSL_CERT_DIR is /no/such, and there is nothing",
    ),
}


@pytest.mark.parametrize(("settings", "kind", "sentence"), SETTINGS.values(), ids=SETTINGS)
def test_a_network_that_is_set_up_wrongly_is_one_sentence(hub, tmp_path, settings, kind, sentence):
    if "ALL_PROXY" in settings:
        try:
            import socksio  # noqa: F401

            pytest.skip("socksio is installed: SOCKS proxies work")
        except ImportError:
            pass
    code = (
        f"import sys; from helpers import models\nmodels.register = lambda: {{{NAME!r}: {ENTRY!r}}}\n"
        f"try:\n    models.download({NAME!r})\n"
        "except Exception as e:\n    print(type(e).__name__, e)\n    sys.exit(3)"
    )
    without = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=without | settings, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith(kind) and sentence in done.stdout and done.stdout.count("\n") == 1


# stopped -----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent in another way there")
def test_ctrl_c_is_one_line_and_the_same_command_goes_on(hub, tmp_path, target):
    hub.faults["model.safetensors"] = "stall"
    code = (
        "import signal, sys; from helpers import models; from huggingface_hub import constants\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job has it ignored\n"
        f"constants.DOWNLOAD_CHUNK_SIZE = 50_000\nmodels.register = lambda: {{{NAME!r}: {ENTRY!r}}}\n"
        f"sys.exit(models.main(['download', {NAME!r}]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, encoding="utf-8"
    )
    for _ in range(600):
        coming = list((tmp_path / "models").rglob("model.safetensors.incomplete"))
        if coming and coming[0].stat().st_size >= len(WEIGHTS) // 4:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in said
    said = [line for line in re.split(r"[\r\n]+", said) if line and "B/s" not in line]
    assert said == ["stopped; what has arrived is kept, and the same command goes on from there"]
    assert not target.exists()
    hub.asked.clear()
    models.download(NAME)
    assert_whole(target)
    assert [r for _, path, r in hub.asked if path.endswith("model.safetensors")] != [None], "it went on"


KILL = """
import os, sys
from pathlib import Path
from helpers import hub, models
models.register = lambda: {NAME: ENTRY}
steps = 0
def counted(call):
    def step(*arguments, **options):
        global steps
        steps += 1
        if steps == AT:
            os._exit(137)  # at once, as a kill does
        return call(*arguments, **options)
    return step
whole = hub.put_in_place
def watched(*arguments):
    for kind in ("rename", "replace", "mkdir", "unlink"):
        setattr(Path, kind, counted(getattr(Path, kind)))
    hub.shutil.rmtree = counted(hub.shutil.rmtree)
    whole(*arguments)
    os._exit(steps)
hub.put_in_place = watched
models.download(NAME)
"""


def killed(at):
    code = f"NAME, ENTRY, AT = {NAME!r}, {ENTRY!r}, {at}\n{KILL}"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True).returncode


@pytest.mark.parametrize("before", [(), ("notes.txt",), ("notes.txt", "config.json")], ids=len)
def test_a_kill_at_any_step_of_putting_in_place_loses_nothing(hub, tmp_path, target, before):
    at, done = 1, False
    while not done:
        shutil.rmtree(tmp_path / "models", ignore_errors=True)
        for file in before:
            target.mkdir(parents=True, exist_ok=True)
            (target / file).write_text("mine", encoding="utf-8")
        code = killed(at)
        done, at = code != 137, at + 1
        for file in {"notes.txt"} & set(before):
            assert (target / file).read_text(encoding="utf-8") == "mine", f"gone after step {at - 1}"
        if downloader.is_whole(target, ENTRY):
            assert (target / "config.json").read_bytes() == FILES["config.json"], "old and new, mixed"
        models.download(NAME)
        assert_whole(target, {"notes.txt"} & set(before))
    assert at > 2 or not before


@pytest.mark.parametrize("there", [True, False])
def test_what_an_earlier_version_had_set_aside_comes_back(hub, target, there):
    old = target.parents[1] / ".partial" / f"lab--small-bert@{COMMIT[:12]}.old"
    old.mkdir(parents=True)
    (old / "notes.txt").write_text("mine", encoding="utf-8")
    if there:
        target.mkdir(parents=True)
        (target / "config.json").write_bytes(b"{}")
    models.download(NAME)
    assert_whole(target, ["notes.txt"])
    assert (target / "notes.txt").read_text(encoding="utf-8") == "mine" and not old.exists()


# links -------------------------------------------------------------------------------------------


links = pytest.mark.skipif(sys.platform == "win32", reason="links need a right of their own there")


@links
def test_a_model_folder_that_is_a_link_stays_one(hub, tmp_path, target):
    (tmp_path / "big-disk").mkdir()
    (tmp_path / "big-disk" / "notes.txt").write_text("mine", encoding="utf-8")
    target.parent.mkdir(parents=True)
    target.symlink_to(tmp_path / "big-disk")
    models.download(NAME)
    assert target.is_symlink()
    assert_whole(target, ["notes.txt"])


@links
def test_a_link_to_another_disk(hub, tmp_path, target, monkeypatch):
    (tmp_path / "big-disk").mkdir()
    target.parent.mkdir(parents=True)
    target.symlink_to(tmp_path / "big-disk")
    replace = files.Path.replace

    def across(self, other):
        if ".partial" in self.parts and "big-disk" in files.Path(other).resolve().parts:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(self, other)

    monkeypatch.setattr(files.Path, "replace", across)
    models.download(NAME)
    assert_whole(target)


@links
@pytest.mark.parametrize("what", ["a link to nothing", "a file"])
def test_a_model_folder_that_is_none_is_said(hub, tmp_path, target, what):
    target.parent.mkdir(parents=True)
    target.symlink_to(tmp_path / "gone") if "link" in what else target.write_text("mine", encoding="utf-8")
    with pytest.raises(NotADirectoryError, match=f"{NAME} is a file, or a link to nothing; move it away"):
        models.download(NAME)
    assert os.path.lexists(target)
    target.unlink()
    models.download(NAME)
    assert_whole(target)


# the Hugging Face cache --------------------------------------------------------------------------


def cached(tmp_path, commit, content, main=True):
    """A copy as the hub's own library keeps it: blobs under their hash, links to them from a commit."""
    repo = tmp_path / "hf" / "models--lab--small-bert"
    for name, data in content.items():
        sha1 = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        blob = repo / "blobs" / (hashlib.sha256(data).hexdigest() if len(data) > 1000 else sha1)
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        (repo / "snapshots" / commit).mkdir(parents=True, exist_ok=True)
        (repo / "snapshots" / commit / name).symlink_to(blob)
    if main:
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(commit, encoding="utf-8")
    return repo / "snapshots" / commit


KNOWN = {"sha256": {f: hashlib.sha256(content).hexdigest() for f, content in FILES.items()}}
SOME = {"sha256": {"model.safetensors": KNOWN["sha256"]["model.safetensors"]}}
PIN = {"revision": COMMIT}
FORGED = FILES | {"vocab.txt": b"b\na\n"}
COPIES = {
    # what the register knows, the commit in the cache, what it holds -> is it the original?
    "every hash is known, at any commit": (KNOWN, OTHER, FILES, True),
    "every hash is known, one differs": (KNOWN | PIN, COMMIT, FORGED, False),
    "the pinned commit": (PIN, COMMIT, FILES, True),
    "the pinned commit and a hash": (SOME | PIN, COMMIT, FILES, True),
    "another commit than the pinned one": (SOME | PIN, OTHER, FILES, False),
    "another commit with other weights": (SOME, OTHER, FILES | {"model.safetensors": WEIGHTS[::-1]}, False),
    "nothing is known": ({}, COMMIT, FILES, False),
}


@links
@pytest.mark.parametrize(("known", "commit", "content", "original"), COPIES.values(), ids=COPIES)
def test_a_copy_in_the_hugging_face_cache_is_the_original_only_by_its_hashes(
    hub, tmp_path, monkeypatch, capsys, known, commit, content, original
):
    monkeypatch.setattr(models, "register", lambda: {NAME: ENTRY | known})
    folder = cached(tmp_path, commit, content)
    if original:
        assert models.path(NAME) == folder
        assert capsys.readouterr().out == f"{NAME}: the original.\n"
        return
    with pytest.raises(FileNotFoundError, match="the copy in the Hugging Face cache is not used"):
        models.path(NAME)


@links
def test_a_damaged_file_in_the_hugging_face_cache_is_not_the_original(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "register", lambda: {NAME: ENTRY | PIN})
    blob = (cached(tmp_path, COMMIT, FILES) / "vocab.txt").resolve()
    blob.write_bytes(b"b\na\n")
    with pytest.raises(FileNotFoundError, match="the copy in the Hugging Face cache is not used"):
        models.path(NAME)


@links
def test_the_recorded_hashes_count_as_known(hub, tmp_path, monkeypatch, target):
    models.download(NAME)
    shutil.rmtree(target)
    folder = cached(tmp_path, OTHER, FILES)
    assert models.path(NAME, quiet=True) == folder


@links
def test_the_pinned_commit_is_found_where_main_is_another(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(models, "register", lambda: {NAME: ENTRY | PIN})
    folder = cached(tmp_path, COMMIT, FILES, main=False)
    cached(tmp_path, OTHER, FORGED)
    assert models.path(NAME, quiet=True) == folder


def test_a_table_in_a_folder_of_its_own_is_found(hub, tmp_path, monkeypatch):
    table = {"data/train.parquet": WEIGHTS}
    entry = ENTRY | PIN | {"files": list(table)}
    monkeypatch.setattr(models, "register", lambda: {NAME: entry})
    snapshot = tmp_path / "hf" / "models--lab--small-bert" / "snapshots" / COMMIT
    (snapshot / "data").mkdir(parents=True)
    monkeypatch.setitem(entry, "sha256", {"data/train.parquet": hashlib.sha256(WEIGHTS).hexdigest()})
    (snapshot / "data" / "train.parquet").write_bytes(WEIGHTS)
    assert models.path(NAME, quiet=True) == snapshot


# what is whole -----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "a folder"])
def test_a_folder_that_lacks_a_file_is_not_given_out_and_that_is_said(hub, target, file, damage):
    models.download(NAME)
    (target / file).unlink()
    if damage != "missing":
        (target / file).touch() if damage == "empty" else (target / file).mkdir()
    with pytest.raises(FileNotFoundError, match=f"{NAME} is not used: it lacks {file}"):
        models.path(NAME)
    if damage != "a folder":
        models.download(NAME)
        assert_whole(target)


def test_a_converted_file_is_verified(hub, tmp_path, target, monkeypatch):
    import io

    import torch

    buffer = io.BytesIO()
    torch.save({"w": torch.arange(600.0)}, buffer)
    hub.repos[NAME] = {"config.json": b"{}", "pytorch_model.bin": buffer.getvalue()}
    entry = ENTRY | {"files": ["config.json", "pytorch_model.bin"], "convert": True}
    monkeypatch.setattr(models, "register", lambda: {NAME: entry})
    models.download(NAME)
    weights = target / "model.safetensors"
    assert (
        models.verify() == []
        and weights.stat().st_mode & 0o044 == (target / "config.json").stat().st_mode & 0o044
    )
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + b"x")
    assert models.verify() == [f"{NAME}/model.safetensors is damaged: delete it and download {NAME} again."]


def test_a_lock_file_that_cannot_be_read_is_one_sentence(hub, target):
    target.parents[1].mkdir(parents=True)
    (target.parents[1] / "lock.toml").write_text("half = [", encoding="utf-8")
    with pytest.raises(ValueError, match=r"lock\.toml cannot be read \(.*delete it and download again"):
        models.download(NAME)
