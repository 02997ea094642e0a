"""scripts/make_assignments.py: from the exercises to nbgrader's source assignments, without nbgrader."""

import ast
import contextlib
import io
import re
import shutil
import subprocess
import sys

import books
import make_assignments
import nbformat
import pytest

CELLS = {"grade", "grade_id", "locked", "schema_version", "solution", "task"}
WITH_EXERCISES = {path.name[:2]: path for path in books.LESSONS if path.name[:2] != "00"}


def run(*words, **options):
    return subprocess.run(
        [sys.executable, "scripts/make_assignments.py", *map(str, words)],
        cwd=books.ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        **options,
    )


def told(*words) -> str:
    """The one sentence with which the command refuses."""
    done = run(*words)
    assert done.returncode == 1 and not done.stdout, done.stdout
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every lesson's assignment: {"03": notebook}, and the folder."""
    folder = tmp_path_factory.mktemp("class") / "new"
    done = run("--out", folder)
    assert done.returncode == 0, done.stderr
    files = sorted((folder / "source").glob("*/*.ipynb"))
    return {file.name[:2]: nbformat.read(file, as_version=4) for file in files}, folder


def of(book, kind: str) -> list:
    return [cell for cell in book.cells if re.fullmatch(rf"exercise-\d+-{kind}", cell.id)]


def outside_and_inside(cell) -> tuple[str, str]:
    """What students see of an answer cell, and what is between the marks."""
    before, mark, rest = cell.source.partition(make_assignments.BEGIN)
    inside, end, after = rest.partition(make_assignments.END)
    assert mark and end and make_assignments.BEGIN not in after
    return before + after, inside


def test_every_lesson_with_exercises_has_an_assignment(made):
    books_made, folder = made
    assert list(books_made) == list(WITH_EXERCISES)
    for number, path in WITH_EXERCISES.items():
        assert (folder / "source" / f"lesson{number}" / path.name).exists()
    written = {str(f.relative_to(folder).parts[0]) for f in folder.rglob("*") if f.is_file()}
    assert written == {"source", "jupyter", "nbgrader_config.py"}


@pytest.mark.parametrize("number", WITH_EXERCISES)
def test_the_notebook_is_what_nbgrader_reads(made, number):
    book = made[0][number]
    nbformat.validate(book)
    assert book.metadata.kernelspec.name == "python3"
    ids = [cell.metadata.nbgrader.grade_id for cell in book.cells]  # every cell has one
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[\w-]+", one) for one in ids)
    for cell in book.cells:
        about = cell.metadata.nbgrader
        assert set(about) - {"points"} == CELLS and about.schema_version == 3
        assert about.locked != about.solution, "all is locked but the answers"
        assert not (about.grade and about.solution) and ("points" in about) == about.grade
        assert cell.cell_type == "code" or not (about.grade or about.solution)


@pytest.mark.parametrize("number", WITH_EXERCISES)
def test_every_exercise_has_its_statement_one_answer_and_one_check(made, number):
    book, lesson = made[0][number], books.read(WITH_EXERCISES[number])
    place = next(i for i, cell in enumerate(lesson.cells) if "## Exercises" in cell.source)
    asked = re.findall(r"^\*\*(\d+) · .+?\*\*", "\n".join(c.source for c in lesson.cells[place:]), re.M)
    assert asked == [str(i) for i in range(1, len(asked) + 1)] and len(asked) >= 2
    for kind in ("statement", "answer", "check"):
        assert [cell.id for cell in of(book, kind)] == [f"exercise-{i}-{kind}" for i in asked]
    order = [cell.id for cell in book.cells if not cell.id.endswith("-given")]
    for i in asked:
        at = order.index(f"exercise-{i}-statement")
        assert order[at + 1 : at + 3] == [f"exercise-{i}-answer", f"exercise-{i}-check"]
    assert all(cell.metadata.nbgrader.solution for cell in of(book, "answer"))
    assert all(cell.metadata.nbgrader.points == make_assignments.POINTS for cell in of(book, "check"))
    # every check of the lesson is asked, and stands in the lesson's own starting code
    checks = re.findall(rf"^lesson{number}\.(\w+)\(", "\n".join(c.source for c in lesson.cells), re.M)
    assert (
        re.findall(rf"lambda: lesson{number}\.(\w+)\(", "\n".join(c.source for c in of(book, "check")))
        == checks
    )
    begun = "\n".join(cell.source for cell in lesson.cells[place:])
    for cell in of(book, "answer"):
        assert outside_and_inside(cell)[0].strip() in begun


@pytest.mark.parametrize("number", WITH_EXERCISES)
def test_no_line_of_an_answer_stands_outside_the_marks(made, number):
    """But for what students are given: starting code, and the set-up, which holds no worked answer."""
    book, lesson = made[0][number], books.read(WITH_EXERCISES[number])
    place = next(i for i, cell in enumerate(lesson.cells) if "## Exercises" in cell.source)
    start = {line.strip() for cell in lesson.cells[place:] for line in cell.source.split("\n")}
    answers = [outside_and_inside(cell) for cell in of(book, "answer")]
    seen = "\n".join([cell.source for cell in book.cells if not cell.metadata.nbgrader.solution])
    seen += "\n".join(outside for outside, _ in answers)
    shown = {line.strip() for line in seen.split("\n")}
    for _, inside in answers:
        assert len(inside.strip()) > 20
        lines = {line.strip() for line in inside.split("\n") if len(line.strip()) > 15} - start
        common = ("import ", "from ", "with torch.no_grad()")  # as in any cell
        assert not {line for line in lines & shown if not line.startswith(common)}
    # a function that is asked for is defined nowhere else
    asked = {node.name for outside, _ in answers for node in ast.parse(outside).body if hasattr(node, "name")}
    for cell in book.cells:
        if cell.cell_type == "code" and not cell.metadata.nbgrader.solution:
            assert not asked & {node.name for node in ast.parse(cell.source).body if hasattr(node, "name")}


@pytest.mark.parametrize("number", WITH_EXERCISES)
def test_all_names_that_a_cell_reads_are_made_above_it(made, number):
    known: set = set()
    for cell in made[0][number].cells:
        if cell.cell_type == "code":
            binds, reads = make_assignments.names(cell.source)
            assert not reads - known, f"{cell.id} reads {reads - known}"
            known |= binds


def test_what_the_statement_promises_is_given(made):
    """`join` and `rows_of` are made in other cells of the lesson; `layers[-1]` has another name here."""
    eight = {cell.id: cell.source for cell in made[0]["08"].cells}
    assert "def join(" in eight["exercise-2-given"] and "def join(" not in eight["exercise-2-answer"]
    two = {cell.id: cell.source for cell in made[0]["02"].cells}
    assert "rows_of = " in two["exercise-2-given"]
    assert "`last` has one row" in two["exercise-2-statement"] and "layers" not in "".join(two.values())


def test_made_twice_gives_the_same_bytes(made, tmp_path):
    assert run("--out", tmp_path / "again").returncode == 0
    once = {f.relative_to(made[1]): f.read_bytes() for f in made[1].rglob("*") if f.is_file()}
    again = tmp_path / "again"
    assert once == {f.relative_to(again): f.read_bytes() for f in again.rglob("*") if f.is_file()}
    assert len(once) == len(WITH_EXERCISES) + 2


def checked(book, answers: dict[int, str]) -> dict[int, tuple[str, str]]:
    """Run an assignment with these answers: {exercise: (what the check raised, what it printed)}."""
    space: dict = {}
    found = {}
    for cell in book.cells:
        number = int(cell.id.split("-")[1]) if cell.id.startswith("exercise") else 0
        if cell.cell_type != "code":
            continue
        source = answers.get(number, "") if cell.metadata.nbgrader.solution else cell.source
        out, err, raised = io.StringIO(), io.StringIO(), ""
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                exec(source, space)
            except AssertionError as e:
                raised = str(e)
        if cell.metadata.nbgrader.grade:
            found[number] = raised, out.getvalue()
            assert not err.getvalue(), "nbgrader counts what is on stderr as a mistake"
    return found


def test_a_check_raises_what_it_would_print(made):
    book = made[0]["17"]
    starts = {i: outside_and_inside(cell)[0] for i, cell in enumerate(of(book, "answer"), 1)}
    right = {i: outside_and_inside(cell)[1] for i, cell in enumerate(of(book, "answer"), 1)}
    for raised, printed in checked(book, starts).values():
        assert raised.startswith("Not yet written: ") and not printed
    for raised, printed in checked(book, right).values():
        assert not raised and printed.startswith("Right: ")
    nothing = checked(book, {})[1][0]
    assert nothing == "Not yet: the check stopped with NameError: name 'reciprocal' is not defined"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("def reciprocal(names, grades):\n    return 2.0", "it should be"),
        ("def reciprocal(names, grades):\n    print('Right: reciprocal')", "Not yet written"),
        ("def reciprocal(names, grades):\n    print('Right: yes')\n    raise SystemExit", "SystemExit"),
        ("def reciprocal(names, grades):\n    raise KeyboardInterrupt", "KeyboardInterrupt"),
        (
            "reciprocal = None\nfrom helpers.exercises import lesson17\n"
            "lesson17.reciprocal = lambda *_: print('Right: reciprocal')",
            "TypeError",
        ),
        (
            "reciprocal = None\nimport helpers.exercises\nhelpers.exercises.judge = lambda *_, **__: None",
            "TypeError",
        ),
        ("reciprocal = None\nimport builtins\nprint = lambda *_: None", "TypeError"),
    ],
)
def test_a_wrong_answer_raises_whatever_it_prints_or_replaces(made, answer, said):
    raised, printed = checked(made[0]["17"], {1: answer})[1]
    assert said in raised and not printed.endswith("cases.\n")


def test_a_warning_of_a_right_answer_is_no_mistake(made):
    right = outside_and_inside(of(made[0]["17"], "answer")[0])[1]
    right = right.replace("    return", "    import sys\n    print('hm', file=sys.stderr)\n    return")
    raised, printed = checked(made[0]["17"], {1: right})[1]  # which looks at stderr too
    assert not raised and "hm\n" in printed and "Right: " in printed


def test_points(tmp_path):
    run("--out", tmp_path, "3", "--points", "4", "--points", "03.2=2.5")
    book = nbformat.read(next((tmp_path / "source").glob("*/*.ipynb")), as_version=4)
    assert [cell.metadata.nbgrader.points for cell in of(book, "check")] == [4, 2.5, 4]
    for wrong in ("0", "-1", "many", "3=2", "03.2=", "nan"):
        assert "give points above 0" in told("--out", tmp_path / "new", f"--points={wrong}")
    assert "lesson 3 has no exercise 9" in told("--out", tmp_path / "new", "3", "--points", "3.9=1")
    assert "names lesson 4" in told("--out", tmp_path / "new", "3", "--points", "4.1=1")
    assert not (tmp_path / "new").exists()


def test_what_is_there_is_not_written_over(tmp_path):
    assert run("--out", tmp_path, "3").returncode == 0
    file, config = next((tmp_path / "source").glob("*/*.ipynb")), tmp_path / "nbgrader_config.py"
    file.write_text("mine", encoding="utf-8")
    config.write_text("mine too", encoding="utf-8")
    assert "lesson03 is there already; --force" in told("--out", tmp_path, "03", "05")
    assert not (tmp_path / "source" / "lesson05").exists() and file.read_text(encoding="utf-8") == "mine"
    assert run("--out", tmp_path, "5").returncode == 0  # another lesson may join
    assert run("--out", tmp_path, "3", "--force").returncode == 0
    assert "BEGIN SOLUTION" in file.read_text(encoding="utf-8")
    assert config.read_text(encoding="utf-8") == "mine too"  # a teacher's settings stay


def test_bad_input_is_one_sentence(tmp_path):
    for name in ("99", "three", "-"):
        assert f"there is no lesson '{name}'" in told("--out", tmp_path / "new", "--", name)
    assert "lesson 0 has no exercises" in told("--out", tmp_path / "new", "0")
    (tmp_path / "a file").write_text("", encoding="utf-8")
    assert "a file" in told("--out", tmp_path / "a file", "3")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path, monkeypatch, capsys):
    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(make_assignments.pathlib.Path, "mkdir", refuse)
    monkeypatch.setattr(sys, "argv", ["make_assignments.py", "--out", str(tmp_path / "new"), "3"])
    with pytest.raises(SystemExit, match="cannot be written: Permission denied"):
        make_assignments.main()


def changed(tmp_path, change, solution: bool):
    """Lesson 3 and its solutions elsewhere, one of them changed."""
    path = WITH_EXERCISES["03"]
    (tmp_path / "solutions").mkdir()
    for one in (path, path.parent / "solutions" / path.name):
        shutil.copy(one, tmp_path / one.relative_to(path.parent))
    file = tmp_path / "solutions" / path.name if solution else tmp_path / path.name
    book = nbformat.read(file, as_version=4)
    book.cells = change(book.cells)
    nbformat.write(book, file)
    return told("--notebooks", tmp_path, "--out", tmp_path / "new")


def without(text):
    return lambda cells: [cell for cell in cells if text not in cell.source]


def replaced(old, new):
    def change(cells):
        assert any(old in cell.source for cell in cells)
        for cell in cells:
            cell.source = cell.source.replace(old, new)
        return cells

    return change


def repeated(cells):
    return [*cells, nbformat.v4.new_code_cell(cells[3].source)]


@pytest.mark.parametrize(
    ("solution", "change", "said"),
    [
        (True, without("def rerank"), "has 0 cells that call lesson03.rerank, the check of exercise 2"),
        (True, repeated, "has 2 cells that call lesson03.relevance"),
        (True, lambda cells: cells[::-1], "in another order than the exercises"),
        (True, replaced("minilm = ", "other = "), "exercise 2: its answer in"),
        (True, replaced("(rerank, cross, minilm)", "(rerank, cross)"), "is given other things in the lesson"),
        (False, without("def rerank"), "an exercise has no code cell of its own"),
        (False, without("def break_even"), "exercise 3 has no code cell below its statement"),
        (False, without("**2 · Rerank.**"), "no statement **2 · …** stands above code cell 2"),
        (
            False,
            replaced("lesson03.rerank(rerank, cross, minilm)", ""),
            "starting code, then calls of lesson03",
        ),
    ],
)
def test_an_exercise_without_its_match_is_named(tmp_path, solution, change, said):
    assert said in changed(tmp_path, change, solution)
    assert not (tmp_path / "new").exists()


def test_a_lesson_without_solutions_is_named(tmp_path):
    shutil.copy(WITH_EXERCISES["03"], tmp_path)
    assert "lesson 3 has exercises, but there is no" in told(
        "--notebooks", tmp_path, "--out", tmp_path / "new"
    )


def test_the_page_names_commands_and_options_that_there_are():
    page = (books.ROOT / "docs" / "grading.md").read_text(encoding="utf-8")
    script = (books.ROOT / "scripts" / "make_assignments.py").read_text(encoding="utf-8")
    for line in re.findall(r"^.*make_assignments\.py.*$", page, re.M):
        for option in re.findall(r"--\w+", line):
            assert f'"{option}"' in script, line
    for file in re.findall(r"\b(?:deploy|scripts|tests|notebooks)/[\w/]+\.\w+", page):
        assert (books.ROOT / file).exists(), file
    config = make_assignments.CONFIG.read_text(encoding="utf-8")
    for name in re.findall(r"`(c\.\w+\.\w+)", page):
        assert name in config, name
    assert make_assignments.KERNEL in config
    assert re.search(
        r"^nbgrader==\d", (make_assignments.CONFIG.parent / "requirements.txt").read_text("utf-8"), re.M
    )
