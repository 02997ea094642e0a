"""Every lesson with every cell run twice, as readers do.

The second run of a cell gives what the first gave; the figures that differ between machines
(training losses, neighbours in a table trained live) stay within tests/expected/NN.toml; and
the kernel stays small enough for thirty of them on a school's server.
"""

import functools
import re
import tomllib
from pathlib import Path

import books
import nbformat
import pytest
from nbclient import NotebookClient

PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
LARGEST_KERNEL = 1536  # MiB
LARGER = {"06_dual_encoder_training": 2048}  # two published encoders and Adam's two moments of each
IGNORED = {"nbval-ignore-output", "nbval-skip"}


@functools.cache
def run_twice(path: Path) -> nbformat.NotebookNode:
    book = books.doubled(books.read(path))
    book.cells.append(nbformat.v4.new_code_cell(PEAK))
    place = {"metadata": {"path": str(path.parent)}}
    NotebookClient(book, timeout=900, kernel_name="python3", resources=place).execute()
    return book


@pytest.fixture(params=books.BOOKS, ids=books.name)
def path(request):
    return request.param


def test_a_cell_run_again_gives_the_same(path):
    cells = books.code(run_twice(path))[:-1]
    for first, again in zip(cells[::2], cells[1::2], strict=True):
        assert first.source == again.source
        if not IGNORED & set(books.tags(first)):
            assert books.comparable(first) == books.comparable(again), first.source


def test_the_kernel_stays_small(path):
    peak = int(books.text(books.code(run_twice(path))[-1]))
    assert peak < (LARGER.get(path.stem, LARGEST_KERNEL) if path in books.LESSONS else LARGEST_KERNEL)


def test_figures_that_differ_between_machines(path):
    file = books.ROOT / "tests" / "expected" / f"{path.stem[:2]}.toml"
    if path in books.SOLUTIONS or not file.exists():
        return
    cells = books.code(run_twice(path))[:-1]
    for check in tomllib.loads(file.read_text())["check"]:
        found = [c for c in cells if check["tag"] in books.tags(c)]
        assert found, f"no cell is tagged {check['tag']}"
        for cell in found:
            match = re.search(check["line"], books.text(cell))
            assert match, f"{check['line']} not in:\n{books.text(cell)}"
            for value, (low, high) in zip(match.groups(), check.get("between", []), strict=False):
                assert low <= float(value) <= high, match.group(0)
            words = set(re.findall(r"[\w']+", match.group(1)))
            assert not check.get("any") or words & set(check["any"]), match.group(0)
            assert not words & set(check.get("none", [])), match.group(0)


def test_every_ignored_figure_is_held_somewhere():
    """A cell whose output is ignored and prints numbers has a tag that an expected file names."""
    for path in books.LESSONS:
        file = books.ROOT / "tests" / "expected" / f"{path.stem[:2]}.toml"
        held = file.exists() and {c["tag"] for c in tomllib.loads(file.read_text())["check"]}
        for cell in books.code(books.read(path)):
            marks = set(books.tags(cell))
            printed = "".join(o.text for o in cell.outputs if o.output_type == "stream")
            if IGNORED & marks and re.search(r"\d", printed) and "machine" not in marks:
                assert held and held & marks, f"{path.name}: {cell.source[:80]}"
