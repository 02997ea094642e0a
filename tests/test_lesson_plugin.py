"""tests/lesson_plugin.py, which holds the lessons beside nbval: each thing that it must see, it sees."""

import os
import re
import subprocess
import sys

import books
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests import lesson_plugin


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
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "tests.lesson_plugin", "-q"]
    command += ["-p", "no:langsmith_plugin", "-p", "no:anyio"]
    command += ["--rootdir", str(folder), "--nbval", "--nbval-current-env", *options, str(path)]
    run = subprocess.run(
        command, cwd=books.ROOT, capture_output=True, encoding="utf-8", env={**os.environ, "NO_COLOR": "1"}
    )
    return run.returncode, run.stdout


def test_a_cell_that_gives_the_same_twice_passes(tmp_path):
    code, printed = verdict(tmp_path, ("x = 1", "", ""), ("print(x + 1)", "2\n", ""))
    assert code == 0, printed


DIES = """
import os, pathlib, sys
deaths = pathlib.Path(__file__).with_name("deaths")
if "ipykernel_launcher" in sys.orig_argv and len(seen := deaths.read_text()) < {times}:
    deaths.write_text(seen + "x")
    os._exit(1)
"""


@pytest.mark.parametrize("times", [1, 9])
def test_a_kernel_that_dies_before_it_answers_is_started_once_more(tmp_path, monkeypatch, times):
    (tmp_path / "sitecustomize.py").write_text(DIES.format(times=times), encoding="utf-8")
    (tmp_path / "deaths").write_text("", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    code, printed = verdict(tmp_path, ("print(1)", "1\n", ""))
    assert "started once more: Kernel died" in printed, printed
    assert (code == 0) == (times == 1) and "AttributeError" not in printed, printed


COUNTS = ("try:\n    n += 1\nexcept NameError:\n    n = 1\nprint(n)", "1\n", "")


def test_a_cell_that_changes_what_it_made_fails_the_second_time(tmp_path):
    code, printed = verdict(tmp_path, COUNTS)
    assert code == 1 and "Cell outputs differ" in printed, printed
    assert "run a second time, the cell shows something else" in printed, printed


def test_what_fails_says_what_to_do(tmp_path):
    cells = ("print(1)", "2\n", ""), ("1 / 0", "", ""), ("print(3)", "3\n", "")
    code, printed = verdict(tmp_path, *cells, name="notebooks/03_cross_encoder_scoring.ipynb")
    assert code == 1 and "2 failed, 1 passed" in printed, printed
    differ, fails = re.findall("what to do -+\n(.*)\n", printed)
    assert differ.startswith("outputs differ from the saved ones: make lessons LESSONS=03 saves"), differ
    assert fails.endswith("make test LESSONS=03"), fails


def test_a_test_of_a_lesson_says_what_to_do_and_others_do_not(tmp_path):
    for name in ("test_lesson03.py", "test_other.py"):
        (tmp_path / name).write_text("def test_it():\n    assert False\n", encoding="utf-8")
    code, printed = verdict(tmp_path, options=[str(tmp_path)])
    assert code == 1 and "2 failed" in printed, printed
    (advice,) = re.findall("what to do -+\n(.*\n.*)\n", printed)
    assert "make lessons LESSONS=03" in advice and "-m pytest test_lesson03.py::test_it" in advice, advice


def chosen(lessons, *places):
    """What is collected for --lessons: {(file's name, its lesson or None)}."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "--nbval",
        "--lessons",
        lessons,
        *places,
    ]
    run = subprocess.run(command, cwd=books.ROOT, capture_output=True, encoding="utf-8")
    return run.returncode, run.stdout + run.stderr


def test_a_lesson_is_its_notebooks_its_tests_and_their_form():
    code, printed = chosen("5", "tests", "notebooks")
    assert code == 0, printed
    lesson, solutions = books.path("05"), books.path("05", solutions=True)
    files = [f"notebooks/{books.name(lesson)}", f"notebooks/{books.name(solutions)}"]
    files += ["tests/test_form.py", "tests/test_lesson05.py"]
    assert set(re.findall(r"^(\S+)::", printed, re.M)) == set(files), printed
    form = set(re.findall(r"test_form.py::\S+\[(.*)\]", printed))
    assert form == {books.name(lesson), books.name(solutions)}, printed
    code, printed = chosen("5 99", "tests")
    assert code == 4 and "no lesson 99: name lessons by their two digits" in printed, printed


def test_a_long_cell_may_run_once(tmp_path):
    code, printed = verdict(tmp_path, COUNTS, options=["--again-within", "0"])
    assert code == 0, printed


def test_a_kernel_that_grew_fails_and_the_next_notebook_runs(tmp_path):
    verdict(tmp_path, ("print(1)", "1\n", ""), name="notebooks/solutions/07_next.ipynb")
    grow = f"x = b'1' * ({lesson_plugin.LARGEST_KERNEL + 100} << 20)\ndel x", "", ""
    name = "notebooks/solutions/06_dual_encoder_training.ipynb"
    code, printed = verdict(tmp_path, grow, name=name, options=[str(tmp_path / "notebooks")])
    if sys.platform == "linux":
        assert code == 1 and re.search(
            rf"held \d+ MiB; it may hold {lesson_plugin.LARGEST_KERNEL}", printed
        ), printed
        assert "2 passed, 1 error" in printed, printed
        assert "what to do" not in printed, "no bound and no command mends a kernel's size"


def test_a_figure_out_of_its_bounds_fails(tmp_path):
    line = "published recipe         MRR 0.021 [0.016, 0.028]   recall@1 {}"
    check = lesson_plugin.expected(books.NOTEBOOKS / "06_dual_encoder_training.ipynb")[0]
    lesson_plugin.hold(check, line.format("0.01"))
    with pytest.raises(AssertionError):
        lesson_plugin.hold(check, line.format("0.31"))
    with pytest.raises(AssertionError, match="not in"):
        lesson_plugin.hold(check, "nothing of the kind")
    cell = f"print({line.format('0.31')!r})", "", check["tag"]
    code, printed = verdict(tmp_path, cell, name="06_dual_encoder_training.ipynb")
    assert code == 1 and "recall@1 0.31" in printed, printed
    assert "the bounds of what lesson 06 shows are in tests/expected/06.toml" in printed, printed
