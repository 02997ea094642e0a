"""docs/grading.md with nbgrader itself: release, fetch, submit, collect, autograde, export.

Lesson 11, whose set-up needs nothing but numpy. Skipped where nbgrader is not installed.
"""

import csv
import os
import shutil
import subprocess
import sys

import books
import nbformat
import pytest

BIN = books.ROOT / ".scratch" / "grading" / ("Scripts" if sys.platform == "win32" else "bin")
NBGRADER = shutil.which("nbgrader", path=str(BIN)) or shutil.which("nbgrader")
LESSON, BOOK = "lesson11", books.path("11").name
LIMIT = 30  # seconds; the set-up cell imports numpy on a busy machine

pytestmark = [
    pytest.mark.skipif(
        not NBGRADER, reason="nbgrader is not installed; docs/grading.md says how, in .scratch/grading"
    ),
    pytest.mark.skipif(sys.platform == "win32", reason="nbgrader's exchange is not made for Windows"),
]


def answers(folder, **wanted: str) -> None:
    """Write answers into a fetched or released notebook: answers(folder, **{"1": "def f(): ..."})."""
    book = nbformat.read(folder / BOOK, as_version=4)
    for cell in book.cells:
        if cell.metadata.nbgrader.solution and cell.id.split("-")[1] in wanted:
            cell.source = wanted[cell.id.split("-")[1]]
    nbformat.write(book, folder / BOOK)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A class whose five students have been graded."""
    top = tmp_path_factory.mktemp("class")
    room, student, exchange = top / "class", top / "student", top / "exchange"
    for folder in (student, exchange, top / "home"):
        folder.mkdir()
    exchange.chmod(0o777)
    home = {"HOME": str(top / "home"), "JUPYTER_CONFIG_DIR": str(top / "home"), "OMP_NUM_THREADS": "1"}

    def command(*words, cwd=room):
        done = subprocess.run(
            [*map(str, words)],
            cwd=cwd,
            env={**os.environ, **home},
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=900,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stderr

    def nbgrader(*words, cwd=room):
        options = [f"--Exchange.root={exchange}", f"--Exchange.cache={top / 'cache'}"]
        return command(NBGRADER, *words, *(options if words[0] in EXCHANGE else []), cwd=cwd)

    command(sys.executable, "scripts/make_assignments.py", "--out", room, "11", cwd=books.ROOT)
    nbgrader("generate_assignment", LESSON)
    nbgrader("db", "assignment", "add", LESSON, "--duedate=2100-01-01 12:00:00 UTC")
    nbgrader("release_assignment", LESSON)
    source = nbformat.read(room / "source" / LESSON / BOOK, as_version=4)
    worked = {cell.id.split("-")[1]: cell.source for cell in source.cells if cell.metadata.nbgrader.solution}
    for name, given in {"right": worked, "wrong": {}}.items():  # wrong: the starting code as it stands
        shutil.rmtree(student / LESSON, ignore_errors=True)
        nbgrader("fetch_assignment", LESSON, "--course=embedding-models", cwd=student)
        answers(student / LESSON, **given)
        who = f"--CourseDirectory.student_id={name}"
        nbgrader("submit", LESSON, "--course=embedding-models", who, cwd=student)
    nbgrader("collect", LESSON, "--ExchangeCollect.check_owner=False")  # all by one user here
    # handed in as files: an endless loop, a check that was changed, and one that came too late
    loop = "def average_precision(run, grades):\n    while True:\n        pass"
    for name, given in {"loop": worked | {"2": loop}, "tamper": {}, "late": worked}.items():
        folder = room / "submitted" / name / LESSON
        shutil.copytree(room / "release" / LESSON, folder)
        answers(folder, **given)
    book = nbformat.read(room / "submitted" / "tamper" / LESSON / BOOK, as_version=4)
    for cell in book.cells:
        if cell.id == "exercise-1-check":
            cell.source = "pass"
    book.cells = [cell for cell in book.cells if cell.id != "exercise-2-check"]
    nbformat.write(book, room / "submitted" / "tamper" / LESSON / BOOK)
    late = room / "submitted" / "late" / LESSON / "timestamp.txt"
    late.write_text("2100-01-01 13:00:00 UTC", encoding="utf-8")
    zero = "--LateSubmissionPlugin.penalty_method=zero"
    said = nbgrader("autograde", LESSON, f"--Execute.timeout={LIMIT}", zero)
    nbgrader("export", "--to=grades.csv")
    with (room / "grades.csv").open(encoding="utf-8", newline="") as file:
        grades = {row["student_id"]: row for row in csv.DictReader(file)}
    return room, grades, said


EXCHANGE = ("release_assignment", "fetch_assignment", "submit", "collect")


def graded(room, student: str) -> dict[str, list]:
    book = nbformat.read(room / "autograded" / student / LESSON / BOOK, as_version=4)
    return {cell.metadata.nbgrader.grade_id: cell.get("outputs", []) for cell in book.cells}


def test_the_release_holds_the_starting_code_and_no_answer(place):
    release = nbformat.read(place[0] / "release" / LESSON / BOOK, as_version=4)
    lesson = "\n".join(cell.source for cell in books.read(books.path("11")).cells)
    found = [cell for cell in release.cells if cell.metadata.nbgrader.solution]
    assert len(found) == 3
    for cell in found:
        assert cell.source.strip() in lesson and "..." in cell.source
    assert "SOLUTION" not in "".join(cell.source for cell in release.cells)
    assert all(not c.metadata.editable for c in release.cells if not c.metadata.nbgrader.solution)


def test_the_right_answer_gets_all_points_and_the_starting_code_none(place):
    _, grades, _ = place
    assert set(grades) == {"right", "wrong", "loop", "tamper", "late"}
    assert float(grades["right"]["score"]) == float(grades["right"]["max_score"]) == 30
    assert float(grades["wrong"]["score"]) == 0 and float(grades["wrong"]["max_score"]) == 30


def test_the_student_is_told_what_is_wrong(place):
    (error,) = graded(place[0], "wrong")["exercise-2-check"]
    assert error.ename == "AssertionError" and error.evalue.startswith("Not yet written: average_precision")
    (said,) = graded(place[0], "right")["exercise-2-check"]
    assert said.text.startswith("Right: average_precision")


def test_an_endless_loop_is_stopped_and_costs_its_own_points_alone(place):
    room, grades, said = place
    assert float(grades["loop"]["score"]) == 20
    assert f"Timeout waiting for execute reply ({LIMIT}s)" in said
    names = {output.ename for output in graded(room, "loop")["exercise-2-check"] if "ename" in output}
    assert "CellTimeoutError" in names


def test_a_check_that_was_changed_or_deleted_comes_back(place):
    room, grades, _ = place
    assert float(grades["tamper"]["score"]) == 0
    for name in ("exercise-1-check", "exercise-2-check"):
        assert graded(room, "tamper")[name][0].ename == "AssertionError"


def test_a_late_answer_gets_no_points_where_the_class_says_so(place):
    late = place[1]["late"]
    assert [float(late[name]) for name in ("raw_score", "late_submission_penalty", "score")] == [30, 30, 0]


def test_the_cells_ran_in_the_course_s_environment(place):
    kernel = (place[0] / "jupyter" / "kernels" / "embedding-models-course" / "kernel.json").read_text("utf-8")
    assert sys.executable in kernel
    assert not graded(place[0], "right")["setup-1"]  # numpy and helpers were found
