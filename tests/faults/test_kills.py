"""A kill at any step of a writer leaves the old or the new, whole; and the next write goes through.

Each writer runs in a child that ends at once, as a kill does, before or after its n-th step on the disk, for
every n; the parent then looks at what is there. (The downloader's kills are in test_hub_answers.py, the
vector store's in tests/test_store.py.)
"""

import os
import subprocess
import sys

import pytest

from helpers import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

INJECTOR = """
import builtins, os, shutil, sys
from pathlib import Path

import numpy, safetensors.torch, torch

from helpers import checkpoints, encoders, files, kept_vectors, made

place = Path(sys.argv[1])
os.environ["COURSE_CACHE"] = str(place / "cache")


def small(fill):
    encoder = encoders.Encoder(vocabulary=50, width=8, layers=1, heads=2, out=4)
    torch.nn.init.constant_(encoder.project.bias, fill)
    return encoder


def fill(part, value):
    for name in ("a", "b"):
        (part / name).write_text(value, encoding="utf-8")


def one_file(value):
    with files.put_whole(place / "table.txt") as part:
        part.write_text(value, encoding="utf-8")


def made_folder(value):
    made.folder("models", "m-0123456789ab", lambda part: fill(part, value), "a folder")


WRITERS = {
    "checkpoint": (
        lambda value: checkpoints.save(place / "pair", small(float(value)), small(0.0), value=value),
        lambda: str(int(checkpoints.load(place / "pair")[0].project.bias[0])),
    ),
    "vectors": (
        lambda value: kept_vectors.save(["x"], numpy.eye(1, 4, int(value)), place / "kept.npz"),
        lambda: (place / "kept.npz").exists() and kept_vectors.lookup(["x"], place / "kept.npz")[0][0].argmax(),
    ),
    "file": (one_file, lambda: (place / "table.txt").read_text(encoding="utf-8")),
    "folder": (made_folder, lambda: (place / "cache/models/m-0123456789ab/b").read_text(encoding="utf-8")),
}
write, read = WRITERS[sys.argv[2]]
STEPS = [(Path, n) for n in ("rename", "replace", "mkdir", "unlink", "write_text", "rmdir", "chmod")]
STEPS += [(shutil, "rmtree"), (safetensors.torch, "save_file"), (numpy, "savez_compressed"), (os, "rename")]


def in_a_child(value, at):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left = at

    def counted(call):
        def step(*arguments, **options):
            nonlocal left
            for before in (True, False):
                left -= 1
                if left == 0:
                    os._exit(137)
                if before:
                    done = call(*arguments, **options)
            return done

        return step

    for owner, name in STEPS:
        setattr(owner, name, counted(getattr(owner, name)))
    try:
        write(value)
    except BaseException as e:
        print("broke off:", repr(e))
        os._exit(1)
    os._exit(0)


def there():
    try:
        return str(read() or "") or None
    except FileNotFoundError:
        return None


for first in (True, False):  # nothing was there before; an old one was
    at, code = 0, 137
    while code == 137:
        at += 1
        shutil.rmtree(place)
        place.mkdir()
        if not first:
            write("1")
        code = in_a_child("2", at)
        assert code in (0, 137), f"step {at}: {code}"
        found = there()
        old = None if first else "1"
        assert found in (old, "2"), f"step {at}: {found!r}"
        assert found == "2" or code or sys.argv[2] == "folder", "it was written"
        write("3")
        assert there() in ("3",) + (("1", "2") if sys.argv[2] == "folder" else ()), f"step {at}, then: {there()!r}"
    print("kills", at - 1)
"""


@pytest.mark.parametrize(("writer", "least"), [("checkpoint", 8), ("vectors", 4), ("file", 4), ("folder", 6)])
def test_a_kill_at_any_step_leaves_the_old_or_the_new(tmp_path, writer, least):
    (tmp_path / "place").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", INJECTOR, tmp_path / "place", writer],
        capture_output=True,
        encoding="utf-8",
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr[-1500:]
    kills = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("kills")]
    assert len(kills) == 2 and kills[0] >= least, kills
    assert kills[1] >= least or writer == "folder", "a folder that is there is not made again"
