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
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from helpers.files import is_full

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
    Returns {"revision": ..., "sha256": {file: hash}}.
    Raises ConnectionError (no answer, or an answer that makes no sense), FileNotFoundError
    (the source has no such repository or file), OSError with ENOSPC (no room), ValueError
    (what arrived is not what was published). After any of them `folder / name` is as before.
    """
    from filelock import FileLock

    partial = folder / ".partial"
    partial.mkdir(parents=True, exist_ok=True)
    with FileLock(partial / f"{name.replace('/', '--')}.lock"):
        if all((folder / name / f).exists() for f in expected_files(entry)):
            return known  # a second process did it while this one waited
        with clear_errors(name):
            revision, files = listing(entry, known)
            room = shutil.disk_usage(folder).free
            stage = partial / f"{name.replace('/', '--')}@{revision[:12]}"
            have = sum(f.stat().st_size for f in stage.rglob("*") if f.is_file())
            need = sum(f["size"] or 0 for f in files) - have
            if need > room:
                raise no_room(name, need, room)
            hashes = {f["name"]: get(f, stage / f["name"], name) for f in files}
        agree(name, hashes, known.get("sha256", {}) | entry.get("sha256", {}))
        if entry.get("convert"):
            for binary in stage.rglob("pytorch_model.bin"):
                convert(name, binary)
        put_in_place(stage, folder / name)
    return {"revision": revision, "sha256": hashes}


def expected_files(entry: dict) -> list[str]:
    """The files that a whole copy on disk has: safetensors in the place of a pickled file."""
    files = entry["files"]
    if entry.get("convert"):
        files = [f.replace("pytorch_model.bin", "model.safetensors") for f in files]
    return files


def listing(entry: dict, known: dict) -> tuple[str, list[dict]]:
    """The commit, and for each file its name, url, size in bytes (or None) and hash."""
    if "url" in entry:  # one plain file
        name = entry["files"][0]
        size, digest = entry.get("bytes"), entry.get("sha256", {}).get(name)
        file = {"name": name, "url": entry["url"], "size": size, "sha256": digest}
        return "published", [file | {"md5": entry.get("md5")}]
    from huggingface_hub import HfApi, hf_hub_url

    kind = entry.get("kind", "model")
    api = HfApi(endpoint=endpoint())
    ask = api.dataset_info if kind == "dataset" else api.model_info
    wanted = entry.get("revision") or known.get("revision") or None
    info = ask(entry["repo"], revision=wanted, files_metadata=True, timeout=30)
    there = {s.rfilename: s for s in info.siblings}
    files = []
    for f in entry["files"]:
        if f not in there:
            raise FileNotFoundError(f"{entry['repo']} at {info.sha} has no file {f}.")
        sha256 = there[f].lfs.sha256 if there[f].lfs else None
        url = hf_hub_url(entry["repo"], f, revision=info.sha, repo_type=kind, endpoint=endpoint())
        files.append(
            {
                "name": f,
                "url": url,
                "size": there[f].size,
                "sha256": sha256,
                "blob": None if sha256 else there[f].blob_id,
            }
        )
    return info.sha, files


def get(file: dict, target: Path, name: str) -> str:
    """Bring one file to `target`, going on where an earlier try broke off; return its sha256."""
    from huggingface_hub.file_download import http_get

    target.parent.mkdir(parents=True, exist_ok=True)
    coming = target.with_name(target.name + ".incomplete")
    if not target.exists():
        if coming.exists() and coming.stat().st_size > (file["size"] or float("inf")):
            coming.unlink()  # longer than the file can be: begin again
        with open(coming, "ab") as out:
            http_get(
                file["url"],
                out,
                resume_size=out.tell(),
                expected_size=file["size"],
                displayed_filename=f"{name}/{file['name']}",
            )
        coming.rename(target)
    digests = digest(target)
    for kind in ("sha256", "md5", "blob"):
        if file.get(kind) and digests[kind] != file[kind]:
            target.unlink()
            raise ValueError(
                f"{file['name']} of {name} arrived damaged (its {kind} differs from the published "
                "one) and was thrown away; run the same command again."
            )
    return digests["sha256"]


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


def convert(name: str, binary: Path) -> None:
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
    part.rename(target)
    binary.unlink()


def put_in_place(stage: Path, target: Path) -> None:
    """Rename a whole staged folder to `target`; files that only the old folder had are kept."""
    for leftover in stage.rglob("*.incomplete"):
        leftover.unlink()
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        old = stage.with_name(stage.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        for file in [f for f in old.rglob("*") if f.is_file()]:
            keep = stage / file.relative_to(old)
            if not keep.exists():
                keep.parent.mkdir(parents=True, exist_ok=True)
                file.rename(keep)
        shutil.rmtree(old)
    stage.rename(target)


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def no_room(name: str, need: int, room: int) -> OSError:
    return OSError(
        errno.ENOSPC,
        f"{name} needs {need / 1e6:,.0f} MB more and the disk has {room / 1e6:,.0f} MB free; make "
        "room and run the same command again. What has arrived is kept",
    )


@contextlib.contextmanager
def clear_errors(name: str):
    """Turn the network's many errors into one sentence each, and let the hub be asked."""
    from huggingface_hub import constants, errors

    before = constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_PROGRESS_BARS
    constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_PROGRESS_BARS = False, False
    try:
        yield
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
    except OSError as e:
        if is_full(e):
            raise OSError(
                errno.ENOSPC,
                f"no room left on the disk while {name} was arriving; make room and run the same "
                "command again. What has arrived is kept",
            ) from e
        if isinstance(e, FileNotFoundError | PermissionError | ConnectionError):
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


def host() -> str:
    return endpoint().split("//")[-1]
