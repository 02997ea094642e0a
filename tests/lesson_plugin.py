"""The pytest plugin of the lessons, beside nbval, for what nbval does not look at.

Readers run a cell again, so every cell that took less than --again-within seconds runs twice, and
must give its saved output both times. The figures that differ between machines (training losses,
neighbours in a table trained live) stay within tests/expected/NN.toml. After a notebook's last cell
its kernel must have stayed small enough for thirty of them on a school's server.

--lessons "03 07" keeps to these lessons: their notebooks, tests/test_lessonNN.py and the form of both.
What fails says how to look at it and how to mend it.
"""

import copy
import importlib.util
import os
import re
import sys
import time
import tomllib
import warnings
from pathlib import Path

import nbval.kernel
import pytest

from tests import books

CUDA = 512 if importlib.util.find_spec("nvidia") else 0  # torch's CUDA build loads its libraries, GPU or not
# MiB; a quarter and more above what was seen, since processors differ in what torch keeps for them
LARGEST_KERNEL = 1792 + CUDA
LARGER = {
    "06_dual_encoder_training": 3072 + CUDA,  # two published encoders, and a loop of the library beside ours
    "10_training_objectives": 2304
    + CUDA,  # five objectives train in turn, one of them beside a cross-encoder
    "13_retrieve_and_rerank": 2304 + CUDA,  # two corpora, MiniLM and a cross-encoder
    "15_small_and_cheap": 3456 + CUDA,  # encoders of five sizes, three engines, a cross-encoder twice
    "16_the_field_today": 2304 + CUDA,  # a BERT trains, under a decoder's mask
    "17_your_own_documents": 3328
    + CUDA,  # an encoder that trains, twice, beside two others and a cross-encoder
}
# first among notebooks and first among tests, so that two workers end together
LONGEST = "06 15 17 10 14 16 09 11 13 07 12 03 05 08 01".split()
LONGEST += "cluster site originals_in_place collection many_processes adapting lessons_backwards".split()


def pytest_addoption(parser):
    parser.addoption(
        "--again-within",
        type=float,
        default=float("inf"),
        metavar="SECONDS",
        help="run a notebook's cell a second time if the first took less than this (default: always)",
    )
    parser.addoption("--lessons", default="", metavar="'03 07'", help="only what belongs to these lessons")


def wanted(config) -> set[str]:
    """The numbers that --lessons names, {"03", "07"}; empty: everything is wanted."""
    return {number.zfill(2) for number in config.option.lessons.split()}


def lesson_of(path: Path) -> str | None:
    """The number of the lesson that a notebook or a test file belongs to; None for all others."""
    found = re.match(r"(?:test_lesson)?(\d\d)", path.name)
    return found[1] if found else None


def pytest_configure(config):
    there = {lesson_of(path) for path in books.LESSONS}
    for number in sorted(wanted(config) - there):
        raise pytest.UsageError(f"no lesson {number}: name lessons by their two digits, --lessons '03 07'")
    nbval.kernel.start_new_kernel = started_again


start_new_kernel = nbval.kernel.start_new_kernel


def started_again(*args, **kwargs):
    """nbval's kernel, started once more if it died before it answered.

    jupyter_client chooses free ports, lets go of them, and the kernel takes them: what comes between,
    a kernel beside it for one, is that kernel's death.
    """
    try:
        return start_new_kernel(*args, **kwargs)
    except RuntimeError as error:
        warnings.warn(f"a kernel is started once more: {error}", stacklevel=1)
        return start_new_kernel(*args, **kwargs)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    """The documentation's text is there before a lesson asks for it: made for the first time, in a fresh
    clone, it shows its progress, which no saved output has."""
    config = session.config
    asked = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    lessons = config.option.nbval and any(path.is_relative_to(books.NOTEBOOKS) for path in asked)
    if lessons and not hasattr(config, "workerinput"):
        from helpers import documentation

        documentation.corpus()


def pytest_ignore_collect(collection_path, config):
    if wanted(config) and collection_path.is_file() and collection_path.name != "test_form.py":
        return lesson_of(collection_path) not in wanted(config) or None
    return None


def pytest_collection_modifyitems(config, items):
    """Leave out the form of other lessons; notebooks before tests, of both the longest first."""
    if wanted(config):
        about = [getattr(item, "callspec", None) and item.callspec.params.get("path") for item in items]
        items[:] = [i for i, p in zip(items, about, strict=True) if not p or lesson_of(p) in wanted(config)]
    place = {name: at for at, name in enumerate(LONGEST)}

    def turn(item) -> tuple[bool, int]:
        name = lesson_of(item.path) if item.path.suffix == ".ipynb" else item.path.stem.removeprefix("test_")
        return item.path.suffix != ".ipynb", place.get(name, len(LONGEST))

    items.sort(key=turn)


def advice(item, call) -> str:
    """The command that shows or mends a failure, in a notebook or in a test of one; "" for other tests.

    What fails as a notebook is put away, a kernel that grew, says itself what is wrong.
    """
    if call.when == "teardown":
        return ""
    params = item.callspec.params if hasattr(item, "callspec") else {}
    number = lesson_of(params.get("path", item.path))
    if number is None:
        return ""
    accept = f"make lessons LESSONS={number} saves what it shows now, git diff tells what is new"
    if item.path.suffix != ".ipynb":
        return f"run lesson {number} again: {accept}\nthis test alone: {os.path.relpath(sys.executable)} -m pytest {item.nodeid}"
    error = call.excinfo.value
    if isinstance(error, AssertionError):
        return f"the bounds of what lesson {number} shows are in tests/expected/{number}.toml"
    if "outputs differ" not in str(error):
        return f"try the cell in JupyterLab (make lab), then: make test LESSONS={number}"
    if item.second_run:
        return (
            "run a second time, the cell shows something else: it changes what it uses; give it a fresh copy"
        )
    return f"outputs differ from the saved ones: {accept}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and (said := advice(item, call)):
        report.sections.append(("what to do", said))
    return report


def expected(notebook: Path) -> list[dict]:
    """The bounds for a lesson's figures: [] for solutions and for lessons that have none."""
    file = Path(__file__).with_name("expected") / f"{notebook.stem[:2]}.toml"
    if notebook.parent.name == "solutions" or not file.exists():
        return []
    return tomllib.loads(file.read_text(encoding="utf-8"))["check"]


def hold(check: dict, text: str) -> None:
    """One check of tests/expected/NN.toml against all that a cell showed as plain text."""
    match = re.search(check["line"], text)
    assert match, f"{check['line']} not in:\n{text}"
    for value, (low, high) in zip(match.groups(), check.get("between", []), strict=False):
        assert low <= float(value) <= high, match.group(0)
    words = set(re.findall(r"[\w']+", match.group(1)))
    assert not check.get("any") or words & set(check["any"]), match.group(0)
    assert not words & set(check.get("none", [])), match.group(0)


def hold_figures(path: Path, tags: list[str], outputs: list[dict]) -> None:
    """All that tests/expected/NN.toml says of a cell with these tags, against its outputs."""
    text = "".join(out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs)
    for check in expected(path):
        if check["tag"] in tags:
            hold(check, text)


def peak(kernel) -> int:
    """The most memory that a kernel has held so far, in MiB; 0 where the system does not tell."""
    status = Path(f"/proc/{kernel.km.provisioner.pid}/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8")) if status.exists() else None
    return int(found[1]) // 1024 if found else 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    if item.path.suffix != ".ipynb":
        return (yield)
    saved = copy.deepcopy(item.cell.outputs)  # nbval joins the streams of a cell's saved outputs in place
    began, item.second_run = time.monotonic(), False
    result = yield
    tags = item.cell.metadata.get("tags", [])
    hold_figures(item.path, tags, item.test_outputs)
    if time.monotonic() - began < item.config.option.again_within:
        item.cell.outputs, item.second_run = saved, True
        item.runtest()
        hold_figures(item.path, tags, item.test_outputs)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    if item.path.suffix != ".ipynb" or (nextitem and nextitem.parent is item.parent):
        return (yield)
    held = peak(item.parent.kernel) if item.parent.kernel else 0  # none: it never answered
    result = yield  # the kernel ends in any case, or the next notebook could not begin
    lesson = item.path.parent.name != "solutions"
    largest = LARGER.get(item.path.stem, LARGEST_KERNEL) if lesson else LARGEST_KERNEL
    assert held < largest, f"the kernel of {item.path.name} held {held} MiB; it may hold {largest}"
    return result
