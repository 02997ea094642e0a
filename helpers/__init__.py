"""What the lessons of this course share: models and data on disk, figures, exercise checks.

Importing `helpers` is quick. A module imports torch, gensim or matplotlib only in the function
that needs it; those that are about networks (encoders, training, checkpoints, processes, zoo) import
torch at the top.
"""

import contextlib
import os
import secrets
import stat
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_SAID: set[str] = set()


def cache(room: str = "") -> Path:
    """A folder for what is made once and can be made again; it exists and can be written.

    COURSE_CACHE where it is set, else .cache/ of the course; where that can only be read, a folder in
    the reader's home. room: a folder in it. Raises PermissionError or NotADirectoryError of one
    sentence where there is no such place, OSError where the disk is full.
    """
    from helpers import files

    place = caches(room)[-1]
    top = place.parent if room else place
    if not _can_write(place):
        raise PermissionError(
            f"the course has no place to write to: {files.whose(_nearest(caches(room)[0]))}, and "
            f"{files.whose(_nearest(place))}. Set COURSE_CACHE to a folder of your own"
        )
    if os.environ.get("COURSE_CACHE") and len(caches(room)) > 1 and str(place) not in _SAID:
        _SAID.add(str(place))
        shared = _nearest(caches(room)[0])
        print(f"{files.whose(shared)}; what is not in it is made in {place}", file=sys.stderr)
    try:
        top.mkdir(parents=True, exist_ok=True)
        if not place.exists():  # who may write in one may in the other, from its first moment on
            part = top / f"{files.PART}{secrets.token_hex(6)}.room"
            part.mkdir()
            with contextlib.suppress(OSError):  # a disk without rights
                part.chmod(stat.S_IMODE(top.stat().st_mode) & 0o3777)
            try:
                part.rename(place)
            except OSError:  # another process was first
                part.rmdir()
    except OSError as e:
        if files.is_full(e):
            raise files.full(e, f"the folder {place}", _nearest(place)) from e
        raise NotADirectoryError(
            f"the folder {place} cannot be made ({e.strerror}); set COURSE_CACHE to a folder of your own"
        ) from e
    return place


def caches(room: str = "") -> list[Path]:
    """Where made things may lie: the place of `cache`, last, and before it one that can only be read.

    Raises PermissionError or NotADirectoryError where COURSE_CACHE names a place that cannot be.
    """
    from helpers import files

    named = os.environ.get("COURSE_CACHE")
    first = files.place(named, "COURSE_CACHE") if named else ROOT / ".cache"
    if named and not os.path.isdir(first):
        near = _nearest(first)
        if not near.is_dir():
            raise NotADirectoryError(f"COURSE_CACHE is {first}, but {near} is a file; name a folder")
        if not _can_write(first):
            raise PermissionError(
                f"COURSE_CACHE is {first}, which cannot be made: {files.whose(near)}. "
                "Set it to a folder of your own"
            )
    if _can_write(first / room):
        return [first / room]
    return [first / room, _home() / ".cache" / "embedding-models-course" / room]


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # a user without a home, and without HOME
        return Path(os.sep, "nonexistent")


def _nearest(folder: Path) -> Path:
    """The folder itself, or the first of those around it that is there."""
    return next(f for f in (folder, *folder.parents) if os.path.exists(f))  # False where one may not look


def _can_write(folder: Path) -> bool:
    near = _nearest(folder)
    return near.is_dir() and os.access(near, os.W_OK | os.X_OK)


if "MTEB_CACHE" not in os.environ and not _can_write(_home() / ".cache" / "mteb"):
    import tempfile  # `import mteb` makes a folder in the home, or fails

    with contextlib.suppress(OSError, ValueError, AttributeError):
        place, other = caches()[0] / "mteb", Path(tempfile.gettempdir()) / f"mteb-{os.getuid()}"
        os.environ["MTEB_CACHE"] = str(place if _can_write(place) else other)
