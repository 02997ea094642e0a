"""Fetch one model or data set of the register, whole or not at all.

`helpers.models.download` is the door; this is the machinery behind it. Files arrive in
`.partial/NAME@COMMIT/`, where a later call finds them and goes on; a folder is renamed into
its place only when every file has the size and the hash that the source itself reports (and
those of the register and of `lock.toml`, where known). Nothing here imports torch: a
repository that has only a pickled `pytorch_model.bin` is converted to safetensors in a
separate process by `torch.load(weights_only=True)`.
"""

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from helpers import files

DIGITS = {"sha256": 64, "md5": 32, "blob": 40}  # hashes that a source may give, and their hexadecimal digits

CONVERT = """
import sys, torch
from safetensors.torch import save_file
weights = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
weights = {k: v.clone().contiguous() for k, v in weights.items() if isinstance(v, torch.Tensor)}
save_file(weights, sys.argv[2], metadata={"format": "pt"})
"""


def fetch(name: str, entry: dict, folder: Path, known: dict) -> dict:
    """Download `name` into `folder / name` and return its record for `lock.toml`.

    entry: the model's table in models.toml; known: its record in lock.toml, or {}.
    Returns {"revision": ..., "sha256": {file: hash}}, with "converted" where safetensors were made here.
    Raises ConnectionError (no answer, or an answer that makes no sense), FileNotFoundError
    (the source has no such repository or file), OSError with ENOSPC (no room), PermissionError (a
    folder that is another user's), NotADirectoryError (where a file is in its place), ValueError (what arrived is not what was published, or settings of
    the network that cannot be used). After any of them what was in `folder / name` is as before.
    """
    partial = folder / ".partial"
    with clear_errors(name, folder):
        partial.mkdir(parents=True, exist_ok=True)
    with files.locked(partial / f"{stem(name)}.lock", needed=True):
        put_back(partial, name, folder / name)
        if is_whole(folder / name, entry):
            return known  # a second process did it while this one waited
        if os.path.lexists(folder / name) and not os.path.isdir(folder / name):
            raise NotADirectoryError(f"{folder / name} is a file, or a link to nothing; move it away.")
        with clear_errors(name, folder):
            revision, wanted = listing(name, entry, known)
            room = shutil.disk_usage(folder).free
            stage = partial / f"{stem(name)}@{revision[:12]}"
            have = sum(f.stat().st_size for f in stage.rglob("*") if f.is_file())
            need = sum(f["size"] for f in wanted) - have
            if need > room:
                raise no_room(name, need, room)
            hashes = {f["name"]: get(f, stage / f["name"], name, folder / name) for f in wanted}
        agree(name, hashes, known.get("sha256", {}) | entry.get("sha256", {}))
        record = {"revision": revision, "sha256": hashes}
        with clear_errors(name, folder):
            for binary in stage.rglob("pytorch_model.bin") if entry.get("convert") else []:
                made = convert(name, binary)
                record.setdefault("converted", {})[made.relative_to(stage).as_posix()] = files.sha256(made)
            put_in_place(stage, folder / name)
    return record


def stem(name: str) -> str:
    """The name of a model as one part of a path."""
    return name.replace("/", "--")


def is_whole(folder: Path, entry: dict) -> bool:
    """Whether every file of a whole copy is there and none is empty."""
    return not lacking(folder, entry)


def lacking(folder: Path, entry: dict) -> list[str]:
    """The files of a whole copy that are not there, or empty, or may not be looked at."""
    wanted = expected_files(entry)
    return [f for f in wanted if not (os.path.isfile(folder / f) and os.path.getsize(folder / f))]


def expected_files(entry: dict) -> list[str]:
    """The files that a whole copy on disk has: safetensors in the place of a pickled file."""
    if entry.get("convert"):
        return [f.replace("pytorch_model.bin", "model.safetensors") for f in entry["files"]]
    return entry["files"]


def listing(name: str, entry: dict, known: dict) -> tuple[str, list[dict]]:
    """The commit, and for each file its name, url, size in bytes and a hash.

    Raises ValueError where the hub gives another commit than the one that was asked for, or no
    commit, size or hash at all: what cannot be checked is not fetched.
    """
    if "url" in entry:  # one plain file
        file = entry["files"][0]
        sha256 = entry.get("sha256", {}).get(file)
        found = {"name": file, "url": entry["url"], "size": entry.get("bytes"), "sha256": sha256}
        return "published", [checkable(name, found | {"md5": entry.get("md5")})]
    from huggingface_hub import HfApi, hf_hub_url

    kind = entry.get("kind", "model")
    api = HfApi(endpoint=endpoint())
    ask = api.dataset_info if kind == "dataset" else api.model_info
    wanted = entry.get("revision") or known.get("revision") or None
    info = ask(entry["repo"], revision=wanted, files_metadata=True, timeout=30)
    if not is_hex(info.sha, 40):
        raise ValueError(f"{host()} gave {str(info.sha)[:80]!r} as the commit of {name}: that is no commit.")
    if wanted and info.sha != wanted:
        raise ValueError(f"{host()} gave commit {info.sha} of {name}; the pinned one is {wanted}.")
    there = {s.rfilename: s for s in info.siblings}
    found = []
    for f in entry["files"]:
        if f not in there:
            raise FileNotFoundError(f"{entry['repo']} at {info.sha} has no file {f}.")
        large = there[f].lfs
        url = hf_hub_url(entry["repo"], f, revision=info.sha, repo_type=kind, endpoint=endpoint())
        file = {"name": f, "url": url, "size": there[f].size, "sha256": large.sha256 if large else None}
        found.append(checkable(name, file | {"blob": None if large else there[f].blob_id}))
    return info.sha, found


def checkable(name: str, file: dict) -> dict:
    """The file itself. Raises ValueError where its size is not known, or no hash of it is."""
    hashes = [kind for kind, digits in DIGITS.items() if is_hex(file.get(kind), digits)]
    if not hashes or type(file["size"]) is not int or file["size"] < 0:
        what = "size" if hashes else "hash"
        raise ValueError(f"{host()} gave no {what} of {file['name']} of {name}: it could not be checked.")
    return file


def is_hex(text: object, digits: int) -> bool:
    return isinstance(text, str) and bool(re.fullmatch(f"[0-9a-f]{{{digits}}}", text))


def get(file: dict, target: Path, name: str, place: Path) -> str:
    """Bring one file to `target`, going on where an earlier try broke off; return its sha256.

    place: the model's folder, where a break may have left the file already.
    """
    from huggingface_hub.file_download import http_get

    if not target.exists() and fits(file, place / file["name"]):
        return files.sha256(place / file["name"])
    target.parent.mkdir(parents=True, exist_ok=True)
    coming = target.with_name(target.name + ".incomplete")
    if not target.exists():
        if coming.exists() and coming.stat().st_size > file["size"]:
            coming.unlink()  # longer than the file can be: begin again
        with open(coming, "ab") as out:
            http_get(
                file["url"],
                Capped(out, file["size"]),
                resume_size=out.tell(),
                expected_size=file["size"],
                displayed_filename=f"{name}/{file['name']}",
            )
        coming.rename(target)
    if not fits(file, target):
        target.unlink()
        raise ValueError(
            f"{file['name']} of {name} arrived damaged (its hash differs from the published one) and was "
            "thrown away; run the same command again."
        )
    return files.sha256(target)


def fits(file: dict, path: Path) -> bool:
    """Whether a file on disk has the size and every hash of one in a `listing`."""
    if not path.is_file() or path.stat().st_size != file["size"]:
        return False
    digests = digest(path)
    return all(digests[kind] == file[kind] for kind in DIGITS if file.get(kind))


class Capped:
    """A file that takes no more than `most` bytes. Its `write` raises TooLong."""

    def __init__(self, file: BinaryIO, most: int):
        self.file, self.most = file, most

    def write(self, data: bytes) -> int:
        if self.file.tell() + len(data) > self.most:
            raise TooLong
        return self.file.write(data)

    def __getattr__(self, name: str):
        return getattr(self.file, name)


class TooLong(Exception):
    """More bytes came than were announced."""


def digest(path: Path) -> dict[str, str]:
    """sha256, md5 and git blob hash of a file, as hexadecimal strings."""
    sha256, md5, blob = hashlib.sha256(), hashlib.md5(), hashlib.sha1()
    blob.update(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as f:
        while block := f.read(1 << 22):
            for h in (sha256, md5, blob):
                h.update(block)
    return {"sha256": sha256.hexdigest(), "md5": md5.hexdigest(), "blob": blob.hexdigest()}


def agree(name: str, hashes: dict[str, str], known: dict[str, str]) -> None:
    """Raise ValueError where a file's hash is not the one known from before."""
    for file, value in hashes.items():
        if known.get(file, value) != value:
            raise ValueError(
                f"{file} of {name} is not the file this course knows: its sha256 is {value}, "
                f"expected {known[file]}. If you trust the new one, take {name} out of "
                "models/lock.toml and download it again."
            )


def convert(name: str, binary: Path) -> Path:
    """Write model.safetensors from pytorch_model.bin in a process of its own; remove the .bin."""
    part, target = binary.with_name("model.part"), binary.with_name("model.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", CONVERT, str(binary), str(part)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    if done.returncode:
        part.unlink(missing_ok=True)
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise ValueError(f"{binary.name} of {name} could not be read as plain weights: {reason}")
    part.chmod(binary.stat().st_mode)  # safetensors writes for its owner alone
    part.replace(target)
    binary.unlink()
    return target


def put_in_place(stage: Path, target: Path) -> None:
    """Bring a whole staged folder to `target`; what a reader keeps there stays, and a link stays a link.

    Where there is no folder, in one step. Else file by file, those that are missing last: until then
    the folder is no whole copy, and a later call goes on from there.
    """
    for leftover in stage.rglob("*.incomplete"):
        leftover.unlink()
    if not os.path.lexists(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        stage.rename(target)
        return
    names = [f.relative_to(stage) for f in stage.rglob("*") if f.is_file()]
    for file in sorted(names, key=lambda file: not (target / file).exists()):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        try:
            (stage / file).replace(target / file)
        except OSError as e:
            if e.errno != errno.EXDEV:
                raise
            with files.put_whole(target / file) as part:  # a link to another disk
                shutil.copyfile(stage / file, part)
    shutil.rmtree(stage)


def put_back(partial: Path, name: str, target: Path) -> None:
    """Return to a model's folder what an earlier version, killed at the wrong moment, had set aside."""
    for old in partial.glob(f"{glob.escape(stem(name))}@*.old"):
        if not os.path.lexists(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            old.rename(target)
            continue
        for file in [f for f in old.rglob("*") if f.is_file()]:
            place = target / file.relative_to(old)
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                file.rename(place)
        shutil.rmtree(old)


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def no_room(name: str, need: int, room: int) -> OSError:
    return OSError(
        errno.ENOSPC,
        f"{name} needs {need / 1e6:,.0f} MB more and the disk has {room / 1e6:,.0f} MB free; make "
        "room and run the same command again. What has arrived is kept",
    )


@contextlib.contextmanager
def clear_errors(name: str, folder: Path) -> Iterator[None]:
    """Turn the network's and the disk's many errors into one sentence each, and let the hub be asked."""
    from huggingface_hub import constants, errors

    before = constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_PROGRESS_BARS
    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_PROGRESS_BARS = False, False
    try:
        certificates()
        yield
    except TooLong:
        raise ValueError(
            f"more bytes of {name} came than {host()} had announced; run the same command again."
        ) from None
    except ImportError as e:
        if "socks" not in str(e).lower():
            raise
        raise ValueError(
            "the proxy of this network speaks SOCKS (see ALL_PROXY and HTTPS_PROXY), for which a package "
            "is missing; run:  pip install socksio   and the same command again."
        ) from e
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as e:
        raise FileNotFoundError(
            f"{name} was not found at {host()}: it was moved or withdrawn, or needs an account."
        ) from e
    except errors.HfHubHTTPError as e:
        status = getattr(e.response, "status_code", "no")
        if status == 404:
            raise FileNotFoundError(f"{name} was not found at its published address.") from e
        wait = "it asks for patience; wait some minutes and " if status == 429 else ""
        raise ConnectionError(
            f"{host()} answered with status {status} for {name}: {wait}run the same command again. "
            "What has arrived is kept."
        ) from e
    except ssl.SSLError as e:
        raise ConnectionError(f"the certificates for {host()} could not be used ({e.reason or e}).") from e
    except OSError as e:
        if files.is_full(e):
            raise OSError(
                errno.ENOSPC,
                f"{files.why_full(e, folder)} while {name} was arriving; make room and run the same "
                "command again. What has arrived is kept",
            ) from e
        if e.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise PermissionError(
                errno.EACCES,
                f"{name} cannot be put into {folder}: {files.whose(first_denied(e, folder))}. Set "
                "COURSE_MODELS_DIR to a folder of your own",
            ) from e
        if e.filename or isinstance(e, FileNotFoundError | ConnectionError):
            raise
        raise ConnectionError(
            f"{name} did not arrive whole; run the same command again, it goes on where it "
            f"stopped ({type(e).__name__})."
        ) from e
    except (json.JSONDecodeError, KeyError, TypeError) as e:
        raise ConnectionError(f"{host()} gave an answer about {name} that makes no sense.") from e
    except Exception as e:
        if not type(e).__module__.startswith("http"):
            raise
        raise ConnectionError(
            f"{host()} could not be reached or broke off ({type(e).__name__}); check the network "
            f"and run the same command again for {name}. What has arrived is kept."
        ) from e
    finally:
        constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_PROGRESS_BARS = before


def first_denied(error: OSError, folder: Path) -> Path:
    """The innermost folder that is there on the way to what could not be written."""
    wanted = Path(error.filename or folder)
    return next(p for p in (wanted, *wanted.parents) if p.exists())


def certificates() -> None:
    """Raise FileNotFoundError where a variable names a file of certificates that is not there."""
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        named = os.environ.get(variable)
        if named and not any(Path(part).exists() for part in named.split(os.pathsep)):
            raise FileNotFoundError(
                f"{variable} is {named}, and there is nothing: correct it, or unset {variable}."
            )


def host() -> str:
    return endpoint().split("//")[-1]
