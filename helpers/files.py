"""Put a file or a folder in its place whole, or not at all.

from helpers import files
with files.put_whole(Path("table.npz")) as part:    # a path beside it
    numpy.savez(part, rows=rows)
# table.npz is there now, in one step; after an error inside, all is as it was
"""

import contextlib
import errno
import functools
import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room, no quota, larger than a file may be
PART = ".part-"  # how the name of what is not whole yet begins


@contextlib.contextmanager
def put_whole(path: Path, what: str = "", folder: bool = False) -> Iterator[Path]:
    """A path to write to, beside `path` and with its ending; renamed to `path` after the block.

    folder: the path is an empty folder, and `path` must not be there yet (else OSError). An error
    inside leaves `path` as it was and nothing beside it. What is written may be read by whom the
    umask allows, also where a library writes for its owner alone. A full disk, a used-up quota and a
    limit on a file's size are an OSError of one sentence, in which `what` says what had no room
    (default: the names of the file and its folder); a folder that cannot be written is a
    PermissionError that says whose it is.
    """
    part = path.with_name(f"{PART}{secrets.token_hex(6)}{path.suffix or '.part'}")  # torch wants an ending
    what = what or f"{path.name} in {path.parent.name}/"
    try:
        part.mkdir()
        mode = part.stat().st_mode & 0o666
        if not folder:
            part.rmdir()
        yield part
        for file in part.rglob("*") if folder else [part]:
            if file.is_file() and file.stat().st_mode & 0o666 != mode:
                with contextlib.suppress(OSError):  # a disk without rights
                    file.chmod(mode)
        part.replace(path)
    except BaseException as e:
        no_room = full(e, what, path.parent) if is_full(e) else None  # seen before anything is removed
        with contextlib.suppress(OSError):
            shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
        if no_room:
            raise no_room from e
        if forbidden(e, part, path, path.parent):
            there = path.exists() and os.access(path.parent, os.W_OK)
            raise PermissionError(
                errno.EACCES,
                f"{what} cannot be written: {whose(path if there else path.parent)}; "
                "choose a folder of your own",
            ) from e
        raise


@contextlib.contextmanager
def locked(file: Path, needed: bool = False, waiting: str = "") -> Iterator[None]:
    """Hold the lock `file`, which one process at a time can; any user may take it in turn.

    waiting: a line for stderr where another process holds it for longer than a second.

    A lock that another user made and keeps to themselves is passed over, unless `needed`: then, and
    where its folder cannot be written, PermissionError of one sentence. OSError where the disk is full.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file, mode=0o666)
    try:
        try:
            lock.acquire(timeout=1 if waiting else -1)
        except Timeout:
            print(waiting, file=sys.stderr)
            lock.acquire()
    except OSError as e:
        if is_full(e):
            raise full(e, f"{file.name} in {file.parent.name}/", file.parent) from e
        if not isinstance(e, PermissionError) or needed or not file.exists():
            raise PermissionError(
                errno.EACCES, f"{file} cannot be written: {whose(file if file.exists() else file.parent)}"
            ) from e
    try:
        yield
    finally:
        lock.release()


def sentence(error: Exception) -> str:
    """An error in one line; of one that the system raised, also which file it is about."""
    line = str(error.args[-1] if error.args else error)
    return f"{error.filename}: {error.strerror}" if getattr(error, "filename", None) else line


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError."""
    with open(file, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def sha256_once(file: Path) -> str:
    """`sha256`, computed once a process for a file of the same size and time."""
    seen = file.stat()
    return _sha256_of(str(file), seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns)


@functools.cache
def _sha256_of(file: str, *seen: int) -> str:
    return sha256(Path(file))


def place(named: str, variable: str) -> Path:
    """The folder that an environment variable names; ~ is the reader's home.

    Raises ValueError where ~ stands for a home that is not there.
    """
    try:
        return Path(named).expanduser()
    except RuntimeError as e:
        raise ValueError(
            f"{variable} is {named}, and there is no such home folder; name a folder in full"
        ) from e


def whose(path: Path) -> str:
    """What is said of a place that cannot be written: whose it is, and who is asking."""
    if not os.path.lexists(path):
        return f"there is no folder {path}"
    if os.name != "posix":
        return f"{path} can only be read"
    owner, asking = _user(path.stat().st_uid), _user(os.geteuid())
    if owner == asking:
        return f"{path} can only be read"
    return f"{path} belongs to {owner} and you are {asking}"


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:  # a user of a container, or of another machine
        return f"user {number}"


def forbidden(error: BaseException, *paths: Path) -> bool:
    """Whether an error says that one of these paths may not be written by whoever is asking."""
    denied = isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.EROFS
    here = {str(error.filename), str(error.filename2)} & {str(p) for p in paths} if denied else set()
    return denied and bool(here or any(p.is_dir() and not os.access(p, os.W_OK) for p in paths))


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, also in a library's own words for it."""
    return _full_number(error) is not None


def full(error: BaseException, what: str, folder: Path | None = None) -> OSError:
    """The error of one sentence for a full disk: what had no room, and which limit it met."""
    return OSError(errno.ENOSPC, f"{why_full(error, folder)} for {what}; make room and try again")


def why_full(error: BaseException, folder: Path | None = None) -> str:
    """No room on the disk: because of its size, the reader's quota, a file's size, or their number."""
    why = {errno.EDQUOT: "your quota is used up", errno.EFBIG: "no file may be that large here: ulimit -f"}
    limit = why.get(_full_number(error), "")
    if not limit and folder and hasattr(os, "statvfs"):
        with contextlib.suppress(OSError):
            disk = os.statvfs(folder)
            if disk.f_files and not disk.f_favail:
                limit = "it can hold no more files: its inodes are used up"
    return "no room on the disk" + (f" ({limit})" if limit else "")


def _full_number(error: BaseException) -> int | None:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in FULL else None
    return next((number for number in FULL if os.strerror(number) in str(error)), None)
