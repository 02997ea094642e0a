"""Put a file or a folder in its place whole, or not at all.

from helpers import files
with files.put_whole(Path("table.npz")) as part:    # a path beside it
    numpy.savez(part, rows=rows)
# table.npz is there now, in one step; after an error inside, all is as it was
"""

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room, no quota, larger than a file may be


@contextlib.contextmanager
def put_whole(path: Path, what: str = "", folder: bool = False) -> Iterator[Path]:
    """A path to write to, beside `path` and with its ending; renamed to `path` after the block.

    folder: the path is an empty folder, and `path` must not be there yet (else OSError). An error
    inside leaves `path` as it was and nothing beside it. A full disk is an OSError (ENOSPC) of one
    sentence, in which `what` says what had no room (default: the names of the file and its folder).
    """
    part = path.with_name(f".part-{secrets.token_hex(6)}{path.suffix or '.part'}")  # torch wants an ending
    try:
        if folder:
            part.mkdir()
        yield part
        part.replace(path)
    except BaseException as e:
        with contextlib.suppress(OSError):
            shutil.rmtree(part) if folder else part.unlink(missing_ok=True)
        if is_full(e):
            what = what or f"{path.name} in {path.parent.name}/"
            raise OSError(errno.ENOSPC, f"no room on the disk for {what}; make room and try again") from e
        raise


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, also in a library's own words for it."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    return any(os.strerror(number) in str(error) for number in FULL)
