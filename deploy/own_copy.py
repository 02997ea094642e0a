"""A reader's own copy of the lessons: made at the first login, completed and brought up to date at each.

    python deploy/own_copy.py COURSE FOLDER

It runs as the reader, never as root, so it can write nowhere that the reader could not. A file that the
reader does not have is copied. A file that is still as the course gave it is replaced when the course
has another. All else in the folder is the reader's: a changed lesson, a file of theirs, and whatever
lies behind a link, which is not followed. A reader who wants a lesson afresh deletes or renames theirs.
Needs nothing but Python.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

# the lessons, and what they open or link to beside themselves
PARTS = ("notebooks/**/*", "docs/*.md", "models/*.md", "models/recipes/*", "LICENSE")
GIVEN = ".given.json"  # the hash of each file as the course gave it


def lessons(course: Path) -> list[Path]:
    """The files of which every reader has a copy, as paths inside the course."""
    found = {path.relative_to(course) for part in PARTS for path in course.glob(part) if path.is_file()}
    return sorted(path for path in found if not any(name.startswith((".", "__")) for name in path.parts))


def bring(course: Path, folder: Path) -> Iterator[Path]:
    """Copy what the reader lacks, or has not touched and the course has anew; yield each file's path.

    Each file is put in its place whole. Raises OSError where the disk is full.
    """
    known = _given(folder)
    before = dict(known)
    try:
        for file in lessons(course):
            target, new = folder / file, _sha256(course / file)
            if not all(_is_folder_or_free(folder / parent) for parent in file.parents):
                continue  # a link, or a file of the reader's where the course has a folder
            if os.path.lexists(target):
                theirs = None if target.is_symlink() or not target.is_file() else _sha256(target)
                if theirs is None or theirs not in (new, known.get(file.as_posix())):
                    continue
                if theirs == new:
                    known[file.as_posix()] = new
                    continue
            _put_whole(target, (course / file).read_bytes())
            known[file.as_posix()] = new
            yield file
    finally:  # also of a copy that broke off; what is missing comes next time
        if known != before:
            _put_whole(folder / GIVEN, json.dumps(known, indent=1).encode())


def _given(folder: Path) -> dict[str, str]:
    try:
        known = json.loads((folder / GIVEN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _is_folder_or_free(path: Path) -> bool:
    return not os.path.lexists(path) or (path.is_dir() and not path.is_symlink())


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _put_whole(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part)
    part.unlink(missing_ok=True)  # of a copy that was killed; or a link, which is not followed
    try:
        with part.open("xb") as file:
            file.write(content)
        part.replace(target)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def main(course: str, folder: str) -> str | None:
    """Bring the lessons; None, or one sentence that says why not."""
    try:
        for _ in bring(Path(course), Path(folder)):
            pass
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return (
                f"There is no room on the disk for your copy of the lessons in {folder}: ask your teacher to "
                "make room, and start your server again."
            )
        return f"Your copy of the lessons in {folder} could not be made: {e.strerror} ({e.filename})."
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
