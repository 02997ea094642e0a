"""Every test runs on the bundled models, whatever else is on this machine.

`make test` runs two workers side by side, each on one thread. A file's tests stay on one worker,
in their order, and share its fixtures; a lesson's run in test_lessons.py is a unit of its own,
together with its solutions, which use the same files. The long lessons begin first.
"""

import os

import pytest

os.environ["COURSE_MODELS"] = "bundled"

LONG = ["06", "10", "09", "13", "14", "12", "11"]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items):
    items.sort(key=_place)  # a stable sort: the order inside a file stays
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))


def _lesson(item):
    path = getattr(item, "callspec", None) and item.callspec.params.get("path")
    return path.stem[:2] if path is not None and item.path.name == "test_lessons.py" else ""


def _group(item):
    return f"{item.path.stem} {_lesson(item)}".strip()


def _place(item):
    return LONG.index(_lesson(item)) if _lesson(item) in LONG else len(LONG)
