"""The lock files, read: what `make setup` installs, the extras of lesson 12 and of the cluster, what the site needs."""

import re
from typing import NamedTuple

import books
from packaging.markers import Marker
from packaging.utils import canonicalize_name

GPU = re.compile(r"torch|triton|cuda-|nvidia-")  # not locked: torch, and what only its CUDA build needs
FILES = ("requirements.lock", "requirements-extras.lock", "requirements-site.lock")


class Pin(NamedTuple):
    version: str
    marker: Marker | None  # the machines it is for; None: all
    hashes: list[str]


def read(name: str) -> dict[str, Pin]:
    """The packages of a file of requirements, by their normalised names."""
    text = (books.ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    found = {}
    for line in re.sub(r"\s*#.*", "", text).splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        if "==" in requirement:
            pin, _, marker = requirement.partition(" ; ")
            package, version = pin.split("==")
            found[canonicalize_name(package)] = Pin(version, Marker(marker) if marker else None, hashes)
    return found
