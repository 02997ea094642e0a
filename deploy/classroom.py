"""What jupyterhub_config.py stands on: its settings, read and checked, and the reader's own copy.

Needs nothing but Python, so that the tests read it without a hub.
"""

import asyncio
import os
import pwd
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = "embedding-models"  # the reader's own copy, in the reader's home
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
SMALLEST = 2**30  # bytes; a reader's server and one of the smaller lessons


@dataclass(frozen=True)
class Settings:
    """The settings of the classroom server; jupyterhub_config.py says what each one means."""

    course: Path
    cache: Path
    state: Path
    memory: int  # bytes
    cpus: float | None
    threads: int
    idle: int  # seconds; 0: never
    group: str
    teachers: frozenset[str]
    authenticator: str

    @property
    def python(self) -> Path:
        """The Python of the course's environment."""
        return self.course / ".venv" / "bin" / "python"


def settings(environ: Mapping[str, str]) -> Settings:
    """The settings that the environment names. Raises ValueError of one sentence."""
    course = _folder(environ, "CLASS_COURSE", HERE.parent)
    if not (course / "notebooks").is_dir():
        raise ValueError(f"CLASS_COURSE is {course}, which has no folder notebooks: name the course's folder")
    found = Settings(
        course=course,
        cache=_folder(environ, "COURSE_CACHE", course / ".cache"),
        state=_folder(environ, "CLASS_STATE", Path("/var/lib/classroom")),
        memory=_bytes(environ, "CLASS_MEMORY", "4G"),
        cpus=_number(environ, "CLASS_CPUS", 0) or None,
        threads=int(_number(environ, "CLASS_THREADS", 2)) or 1,
        idle=int(60 * _number(environ, "CLASS_IDLE_MINUTES", 60)),
        group=environ.get("CLASS_GROUP") or "readers",
        teachers=frozenset(re.split(r"[,\s]+", environ.get("CLASS_TEACHERS", ""))) - {""},
        authenticator=environ.get("CLASS_AUTHENTICATOR") or "pam",
    )
    if not os.access(found.state, os.W_OK):
        raise ValueError(f"CLASS_STATE is {found.state}, where this user may not write")
    if not environ.get("CONFIGPROXY_AUTH_TOKEN"):
        raise ValueError(
            "CONFIGPROXY_AUTH_TOKEN is not set: hub and proxy need one secret, the same for both"
        )
    _same_python(found)
    return found


def _folder(environ: Mapping[str, str], name: str, default: Path) -> Path:
    folder = Path(environ.get(name) or default)
    if not folder.is_absolute():
        raise ValueError(f"{name} is {folder}: give the whole path, from the root on")
    if not folder.is_dir():
        raise ValueError(f"{name} is {folder}, which is not a folder: make it, or name another")
    return folder


def _bytes(environ: Mapping[str, str], name: str, default: str) -> int:
    given = environ.get(name) or default
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT])", given)
    if match is None:
        raise ValueError(f"{name} is {given!r}: give a number and one of K, M, G, T, such as 4G")
    size = int(float(match[1]) * UNITS[match[2]])
    if size < SMALLEST:
        raise ValueError(f"{name} is {given}: a reader needs 1G at the least, and the larger lessons 4G")
    return size


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    given = environ.get(name) or str(default)
    if not re.fullmatch(r"\d+(\.\d+)?", given):
        raise ValueError(f"{name} is {given!r}: give a number, 0 or more")
    return float(given)


def _same_python(found: Settings) -> None:
    if not found.python.exists():
        raise ValueError(f"{found.python} is not there: run `make setup` in {found.course} first")
    made = (found.course / ".venv" / "pyvenv.cfg").read_text(encoding="utf-8")
    match = re.search(r"^version(?:_info)? = (\d+\.\d+)", made, re.M)
    ours = "{}.{}".format(*sys.version_info)
    if match and match[1] != ours:
        raise ValueError(
            f"the hub runs on Python {ours} and the course on {match[1]}: make the hub's environment "
            f"with {found.python}"
        )


def home(spawner) -> Path:
    """The home of a reader: of their account, or as the spawner says that works without accounts."""
    return Path(getattr(spawner, "home_dir", None) or pwd.getpwnam(spawner.user.name).pw_dir)


class NoCopy(Exception):
    """The reader's copy could not be made; the hub's page shows `jupyterhub_message`."""

    def __init__(self, sentence: str):
        super().__init__(sentence)
        self.jupyterhub_message = sentence


async def copy_lessons(spawner, found: Settings) -> None:
    """Bring the reader's own copy up to date, as that reader. Raises NoCopy of one sentence."""
    command = [found.python, HERE / "own_copy.py", found.course, home(spawner) / FOLDER]
    try:
        process = await asyncio.create_subprocess_exec(
            *map(str, command), stderr=asyncio.subprocess.PIPE, **_as_reader(spawner)
        )
    except PermissionError as e:
        raise NoCopy(
            f"{spawner.user.name} may not run {found.python}: the course and its Python must lie where every "
            "reader may read them."
        ) from e
    _, said = await process.communicate()
    if process.returncode:
        raise NoCopy(said.decode().strip().splitlines()[-1])


def _as_reader(spawner) -> dict:
    """What makes a process the reader's: nothing where the hub is not root, or the reader has no account."""
    if os.geteuid() != 0 or hasattr(spawner, "home_dir"):
        return {}
    account = pwd.getpwnam(spawner.user.name)
    groups = os.getgrouplist(account.pw_name, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": groups, "cwd": "/"}
