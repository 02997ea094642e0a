"""A pytest plugin beside nbval, for what nbval does not look at: pytest -p tests.twice --nbval ...

Readers run a cell again, so every cell that took less than --again-within seconds runs twice, and
must give its saved output both times. The figures that differ between machines (training losses,
neighbours in a table trained live) stay within tests/expected/NN.toml. After a notebook's last cell
its kernel must have stayed small enough for thirty of them on a school's server.
"""

import copy
import importlib.util
import re
import time
import tomllib
from pathlib import Path

import pytest

CUDA = 512 if importlib.util.find_spec("nvidia") else 0  # torch's CUDA build loads its libraries, GPU or not
LARGEST_KERNEL = 1536 + CUDA  # MiB
LARGER = {"06_dual_encoder_training": 2048 + CUDA}  # two published encoders, Adam's two moments of each
LONGEST = ["06", "10", "13", "09", "14", "12", "11", "07"]  # first, so that two workers end together


def pytest_addoption(parser):
    parser.addoption(
        "--again-within",
        type=float,
        default=float("inf"),
        metavar="SECONDS",
        help="run a notebook's cell a second time if the first took less than this (default: always)",
    )


def pytest_collection_modifyitems(items):
    place = {number: at for at, number in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem[:2], len(LONGEST)))  # else the order stays


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


def hold_figures(item) -> None:
    tags = item.cell.metadata.get("tags", [])
    shown = (out.get("text") or out.get("data", {}).get("text/plain", "") for out in item.test_outputs)
    text = "".join(shown)
    for check in expected(item.path):
        if check["tag"] in tags:
            hold(check, text)


def peak(kernel) -> int:
    """The most memory that a kernel has held so far, in MiB; 0 where the system does not tell."""
    status = Path(f"/proc/{kernel.km.provisioner.pid}/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    return int(found[1]) // 1024 if found else 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    if item.path.suffix != ".ipynb":
        return (yield)
    saved = copy.deepcopy(item.cell.outputs)  # nbval joins the streams of a cell's saved outputs in place
    began = time.monotonic()
    result = yield
    hold_figures(item)
    if time.monotonic() - began < item.config.option.again_within:
        item.cell.outputs = saved
        item.runtest()
        hold_figures(item)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    if item.path.suffix != ".ipynb" or (nextitem and nextitem.parent is item.parent):
        return (yield)
    held = peak(item.parent.kernel)
    result = yield  # the kernel ends in any case, or the next notebook could not begin
    lesson = item.path.parent.name != "solutions"
    largest = LARGER.get(item.path.stem, LARGEST_KERNEL) if lesson else LARGEST_KERNEL
    assert held < largest, f"the kernel of {item.path.name} held {held} MiB; it may hold {largest}"
    return result
