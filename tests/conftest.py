"""Every test runs on the bundled models, whatever else is on this machine.

`make test` runs two workers side by side, each on one thread. A file's tests stay on one worker,
in their order, and share its fixtures; a lesson's run in test_lessons.py is a unit of its own,
together with its solutions, which use the same files. The long lessons begin first.
"""

import os
import re

os.environ["COURSE_MODELS"] = "bundled"

LONG = ["06", "10", "09", "13", "14", "12", "11"]


def lesson(nodeid):
    """The number of the lesson that a test of test_lessons.py runs, or ""."""
    found = re.search(r"test_lessons\.py::\w+\[(?:solutions/)?(\d\d)_", nodeid)
    return found[1] if found else ""


def pytest_collection_modifyitems(items):
    place = {number: at for at, number in enumerate(LONG)}
    items.sort(key=lambda item: place.get(lesson(item.nodeid), len(LONG)))  # else the order stays


def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class ByFileAndLesson(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return f"{nodeid.split('::')[0]} {lesson(nodeid)}"

    return ByFileAndLesson(config, log)
