"""Ten readers on one server, all at once: a real hub with the configuration of deploy/. Not in `make test`.

    .venv/bin/python -m venv .scratch/hub
    .scratch/hub/bin/python -m pip install --no-deps -r deploy/requirements.txt
    npm ci --prefix deploy
    .venv/bin/python -m pytest tests/classroom -s

The first three install JupyterHub, in an environment of its own, and its proxy; the test installs nothing.
A reader logs in by the form, waits for their server, opens lesson 3 from their own copy and runs its code
cells, as JupyterLab does: one alone, then ten together. Then the hub is restarted under them. Prints the
memory of each and the seconds of each against one alone. About 7 GB and ten minutes on two cores;
CLASS_TEST_READERS=3 for a smaller class. Servers run as plain processes of one user: what systemd holds
on a server, the memory limit and the read-only folders, is set here and not held.
"""

import json
import os
import statistics
import tempfile
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

classroom_server = pytest.importorskip("classroom_server", reason="accounts as Linux and macOS have them")

from classroom_server import LESSON, Reader, Server, answers, at_once, wait_for  # noqa: E402

READERS = int(os.environ.get("CLASS_TEST_READERS", 10))
MEMORY = 4 * 2**30  # CLASS_MEMORY, where nothing else is set

pytestmark = pytest.mark.skipif(
    classroom_server.missing() is not None, reason=classroom_server.missing() or "all is there"
)


def snapshot(server):
    """Size and time of every file that all readers share; Python's own cache is another matter."""
    files = [file for folder in (server.course, server.cache) for file in folder.rglob("*")]
    return {
        str(file): (file.lstat().st_size, file.lstat().st_mtime_ns)
        for file in files
        if file.is_file() and "__pycache__" not in file.parts
    }


@pytest.fixture(scope="module")
def server():
    with tempfile.TemporaryDirectory(prefix="class-", ignore_cleanup_errors=True) as room:
        there = Server(Path(room).resolve())
        try:
            there.start("proxy")
            there.start("hub")
            there.wait()
            yield there
        finally:
            there.close()


@pytest.fixture(scope="module")
def lesson(server):
    """One reader alone, then all of them; what was shared before and after."""

    found = SimpleNamespace(first=Reader(server, "first"), alone=Reader(server, "alone"))
    found.readers = [Reader(server, f"reader{n}") for n in range(READERS)]
    at_once([found.first])  # what the lesson unpacks is in the cache from here on
    found.before = snapshot(server)
    for together in ([found.alone], found.readers):
        with classroom_server.Peaks(together) as most:
            at_once(together)
        for reader in together:
            reader.most = most.get(reader.name, 0)
    found.after = snapshot(server)
    return found


def test_none_failed(lesson):
    everyone = [lesson.first, lesson.alone, *lesson.readers]
    assert [error for reader in everyone for error in reader.errors] == []
    assert all(reader.seconds > reader.to_open > 0 for reader in everyone)


def test_every_reader_worked_in_their_own_copy(lesson):
    for reader in lesson.readers:
        copy = reader.home / "embedding-models" / LESSON
        assert json.loads(copy.read_text(encoding="utf-8"))["metadata"]["reader"] == reader.name
        [said] = reader.run("import os; print(os.getcwd())")
        assert Path(said["content"]["text"].strip()) == copy.parent


def test_nothing_that_is_shared_was_written_to(lesson):
    changed = {file for file, what in lesson.after.items() if lesson.before.get(file) != what}
    assert (changed, lesson.before.keys() - lesson.after.keys()) == (set(), set())


def test_the_kernels_are_the_courses_own_and_know_the_limit(server, lesson):
    asked = (
        "import importlib.util, os, sys\n"
        "print(sys.prefix, os.environ['COURSE_MODELS'], os.environ['MEM_LIMIT'],"
        " importlib.util.find_spec('jupyterhub'))"
    )
    for reader in lesson.readers:
        [said] = reader.run(asked)
        assert said["content"]["text"].split() == [
            str(server.course / ".venv"),
            "bundled",
            str(MEMORY),
            "None",
        ]


def test_the_figures(lesson):
    """What docs/classroom_server.md says of memory and of time."""
    most = [reader.most for reader in lesson.readers]
    ratios = [reader.seconds / lesson.alone.seconds for reader in lesson.readers]
    cores = [reader.cpu for reader in lesson.readers]
    machine = f"{psutil.cpu_count()} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"
    print(
        f"\n{machine}; lesson 3, {READERS} readers at once and one alone"
        f"\nmemory each:  {min(most) / 2**20:.0f} to {max(most) / 2**20:.0f} MiB, together "
        f"{sum(most) / 2**30:.1f} GiB; alone {lesson.alone.most / 2**20:.0f} MiB"
        f"\nseconds each: {min(ratios):.1f} to {max(ratios):.1f} times those of one alone, median "
        f"{statistics.median(ratios):.1f} (alone: {lesson.alone.to_open:.0f} s to the open lesson, "
        f"{lesson.alone.seconds:.0f} s to its last cell; the last of all: "
        f"{max(r.to_open for r in lesson.readers):.0f} and {max(r.seconds for r in lesson.readers):.0f} s)"
        f"\nseconds of a core each: {min(cores):.0f} to {max(cores):.0f}; alone {lesson.alone.cpu:.0f}"
        f"\nconnected again: {sum(reader.again for reader in lesson.readers)} times"
    )
    assert max(most) < MEMORY
    assert 30 * statistics.mean(most) < 32 * 2**30, "thirty readers of lesson 3 do not fit 32 GiB"


def test_a_restart_of_the_hub_loses_nothing(server, lesson):
    for reader in lesson.readers:
        reader.run("kept = 'before the restart'")
        reader.connect()
        reader.again = 0
    before = {reader.name: reader.alive() for reader in lesson.readers}
    server.stop("hub")
    hears = [reader.run("print(kept)") for reader in lesson.readers]  # over the websocket that is open
    assert sum(reader.again for reader in lesson.readers) == 0, "a connection was lost with the hub"
    server.start("hub")
    server.wait()
    assert [said["content"]["text"] for [said] in hears] == ["before the restart\n"] * READERS
    for reader in lesson.readers:
        wait_for(lambda r=reader: answers(f"{r.url}/api/status", r.web), 30, f"{reader.name} lost the server")
        known = reader.web.get(f"{server.url}/hub/api/users/{reader.name}").json()["servers"][""]
        assert known["ready"] and before[reader.name] <= reader.alive()
        reader.connect()
        [said] = reader.run("print(kept)")
        assert said["content"]["text"] == "before the restart\n"
    late = Reader(server, "late")
    late.log_in()
    late.start_server()
