"""tests/twice.py, which holds the lessons beside nbval: each thing that it must see, it sees."""

import os
import re
import subprocess
import sys

import books
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests import twice


def verdict(folder, *cells, name="notebooks/77_trial.ipynb", options=()):
    """Run a notebook of these (source, printed, tag) cells as `make test` runs the lessons."""
    book = new_notebook()
    for source, printed, tag in cells:
        outputs = [new_output("stream", name="stdout", text=printed)] if printed else []
        cell = new_code_cell(source, outputs=outputs, execution_count=1)
        cell.metadata["tags"] = [tag, "nbval-ignore-output"] if tag else []
        book.cells.append(cell)
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.twice", "-q"]
    command += ["--rootdir", str(folder), "--nbval", "--nbval-current-env", *options, str(path)]
    run = subprocess.run(
        command, cwd=books.ROOT, capture_output=True, text=True, env={**os.environ, "NO_COLOR": "1"}
    )
    return run.returncode, run.stdout


def test_a_cell_that_gives_the_same_twice_passes(tmp_path):
    code, printed = verdict(tmp_path, ("x = 1", "", ""), ("print(x + 1)", "2\n", ""))
    assert code == 0, printed


COUNTS = ("try:\n    n += 1\nexcept NameError:\n    n = 1\nprint(n)", "1\n", "")


def test_a_cell_that_changes_what_it_made_fails_the_second_time(tmp_path):
    code, printed = verdict(tmp_path, COUNTS)
    assert code == 1 and "Cell outputs differ" in printed, printed


def test_a_long_cell_may_run_once(tmp_path):
    code, printed = verdict(tmp_path, COUNTS, options=["--again-within", "0"])
    assert code == 0, printed


def test_a_kernel_that_grew_fails_and_the_next_notebook_runs(tmp_path):
    verdict(tmp_path, ("print(1)", "1\n", ""), name="notebooks/solutions/07_next.ipynb")
    grow = f"x = b'1' * ({twice.LARGEST_KERNEL + 100} << 20)\ndel x", "", ""
    name = "notebooks/solutions/06_dual_encoder_training.ipynb"
    code, printed = verdict(tmp_path, grow, name=name, options=[str(tmp_path / "notebooks")])
    if sys.platform == "linux":
        assert code == 1 and re.search(rf"held \d+ MiB; it may hold {twice.LARGEST_KERNEL}", printed), printed
        assert "2 passed, 1 error" in printed, printed


def test_a_figure_out_of_its_bounds_fails(tmp_path):
    line = "published recipe: recall@1 {}, MRR 0.02, with echoes 0.01,"
    check = twice.expected(books.NOTEBOOKS / "06_dual_encoder_training.ipynb")[0]
    twice.hold(check, line.format("0.01"))
    with pytest.raises(AssertionError):
        twice.hold(check, line.format("0.31"))
    with pytest.raises(AssertionError, match="not in"):
        twice.hold(check, "nothing of the kind")
    cell = f"print({line.format('0.31')!r})", "", check["tag"]
    code, printed = verdict(tmp_path, cell, name="06_dual_encoder_training.ipynb")
    assert code == 1 and "recall@1 0.31" in printed, printed


@pytest.mark.parametrize("path", books.LESSONS, ids=books.name)
def test_what_a_run_may_change_is_held_somewhere(path):
    """Each bound has its cell, and a cell whose output is ignored and prints numbers has a bound."""
    cells = books.code(books.read(path))
    bounds = {check["tag"] for check in twice.expected(path)}
    assert bounds <= {tag for cell in cells for tag in books.tags(cell)}
    for cell in cells:
        marks = set(books.tags(cell))
        printed = "".join(o.text for o in cell.outputs if o.output_type == "stream")
        if marks & {"nbval-ignore-output", "nbval-skip"} and re.search(r"\d", printed):
            assert marks & (bounds | {"machine"}), f"{path.name}: {cell.source[:80]}"
