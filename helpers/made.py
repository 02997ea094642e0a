"""Folders of the course's cache: made once, checked whenever they are opened, removed on demand.

from helpers import made
made.folder("models", "bert-0123456789ab", make, "the folder of BERT")    # make(part) fills an empty folder

A folder holds made.json, the size and the hash of each of its files. One whose files are others is
made again. A folder in a shared cache that can only be read is used where it is whole.
"""

import contextlib
import errno
import json
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from helpers import cache, caches, files

LIST = "made.json"
ROOMS = ("models", "docs")  # the rooms of the cache in which the course makes folders
OLD = {"docs": r"corpus-[0-9a-f]{12}\.(parquet|lock)"}  # and what earlier versions left there
HOUR = 3600


def folder(room: str, name: str, make: Callable[[Path], None], what: str) -> Path:
    """The folder `name` in a room of the cache, whole; made now if it is not there or not as it was made.

    make: fills an empty folder; what: how a message calls it. It is put in place in one step and made
    once, even when two notebooks ask at the same moment. Raises OSError (ENOSPC) where the disk is
    full, PermissionError where there is no place to write to; one sentence each.
    """
    for place in caches(room):
        if wrong(place / name) is None:
            return place / name
    place = cache(room)
    target = place / name
    with files.locked(place / f"{name}.lock"):
        why = wrong(target)
        if why is None:  # another notebook made it while this one waited
            return target
        if os.path.lexists(target):
            print(f"{what} is damaged ({why}) and is made again", file=sys.stderr)
            _discard(target)
        try:
            with files.put_whole(target, what, folder=True) as part:
                make(part)
                _list(part)
        except OSError as e:
            if e.errno not in (errno.ENOTEMPTY, errno.EEXIST) or wrong(target) is not None:
                raise
    return target


def wrong(target: Path) -> str | None:
    """None for a folder that is as it was made, else what is wrong with it.

    Every file is read once a process, and again when its size or time has changed.
    """
    if not os.path.isdir(target):
        return "it is not there"
    try:
        listed = json.loads((target / LIST).read_text(encoding="utf-8"))
        for name, (size, sha256) in listed.items():
            file = target / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != size or files.sha256_once(file) != sha256:
                return f"{name} is not what was written"
    except OSError as e:
        return f"{Path(e.filename or LIST).name} cannot be read: {e.strerror}"
    except (ValueError, TypeError, AttributeError):
        return f"{LIST} is not what was written"
    return None


def verify() -> list[str]:
    """One sentence for each folder of the cache that is not as it was made."""
    found = [f for room in ROOMS for place in caches(room) for f in _folders(place)]
    return [
        f"{f.name} in {f.parent} is damaged ({why}): it is made again when a lesson asks for it."
        for f in found
        if (f / LIST).exists() and (why := wrong(f))
    ]


def clean(names: Iterable[str]) -> tuple[int, list[str]]:
    """Remove what the course made in its cache; return the bytes freed, and what is left there and why.

    names: the models, whose folders earlier versions made without a list. What a lesson is making at
    this moment is left, and so is all that the course did not make here: trained models, indexes, notes.
    """
    known = "|".join(re.escape(name.replace("/", "--")) for name in names)
    freed, left = 0, []
    for place in [place for place in caches() if place.is_dir() and os.access(place, os.W_OK)]:
        for room in ROOMS:
            old = OLD.get(room, rf"({known})-[0-9a-f]{{12}}(\.lock)?")
            freed += _clean_room(place / room, old, left)
        freed += sum(remove(path) for path in strays(place))
        left += [path for path in _inside(place) if path.name not in ROOMS]
    return freed, [f"{path} is left: the course does not know it as its own." for path in left]


def _clean_room(room: Path, old: str, left: list[Path]) -> int:
    paths = _inside(room)  # before the locks: whoever makes one of these holds a lock that is there already
    ours = [p for p in paths if is_part(p) or re.fullmatch(old, p.name) or (p / LIST).is_file()]
    ours = [p for p in ours if not p.is_symlink()]
    locks = [p for p in _inside(room) if p.suffix == ".lock"]
    left += [p for p in paths if p not in ours and p not in locks]
    with contextlib.ExitStack() as stack:
        alone = [stack.enter_context(held(lock)) for lock in locks]
        if not all(alone):
            print(f"{room} is left: a lesson is at work in it, or another user.", file=sys.stderr)
            return 0
        freed = sum(remove(path) for path in ours if path not in locks)
    return freed + sum(remove(path) for path in locks)


def strays(folder: Path) -> list[Path]:
    """What a run that was killed had begun to write in a folder: nothing was written there for an hour."""
    return [path for path in _inside(folder) if is_part(path) and _untouched(path)]


def is_part(path: Path) -> bool:
    """Whether a path is what `files.put_whole` had not finished."""
    return bool(re.fullmatch(re.escape(files.PART) + r"[0-9a-f]{12}\..+", path.name))


def remove(path: Path) -> int:
    """Delete a file or a folder, if one may; return the bytes freed."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
    size = sum(f.lstat().st_size for f in inside if not f.is_dir())
    try:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    except OSError as e:
        print(f"{path} cannot be removed: {e.strerror}", file=sys.stderr)
        return 0
    return size


@contextlib.contextmanager
def held(file: Path) -> Iterator[bool]:
    """Whether the lock `file` could be had at once; it is held in the block if so."""
    from filelock import FileLock, Timeout

    lock = FileLock(file, mode=0o666, timeout=0)
    try:
        lock.acquire()
    except (Timeout, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _folders(room: Path) -> list[Path]:
    return [path for path in _inside(room) if path.is_dir() and not is_part(path)]


def _inside(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _untouched(path: Path) -> bool:
    """Whether nothing was written there for an hour: whoever began it has ended."""
    inside = path.rglob("*") if path.is_dir() else []
    return max(f.stat().st_mtime for f in (path, *inside)) < time.time() - HOUR


def _list(part: Path) -> None:
    inside = sorted(f for f in part.rglob("*") if f.is_file())
    listed = {f.relative_to(part).as_posix(): (f.stat().st_size, files.sha256(f)) for f in inside}
    (part / LIST).write_text(json.dumps(listed, indent=1) + "\n", encoding="utf-8")


def _discard(target: Path) -> None:
    """Take a damaged folder out of its place, and away. Raises PermissionError of one sentence."""
    aside = target.with_name(f"{files.PART}{secrets.token_hex(6)}.old")
    try:
        target.rename(aside)
    except OSError as e:
        raise PermissionError(
            e.errno,
            f"{target} is damaged and cannot be removed ({files.whose(target)}): have it removed, or set "
            "COURSE_CACHE to a folder of your own",
        ) from e
    shutil.rmtree(aside, ignore_errors=True)
