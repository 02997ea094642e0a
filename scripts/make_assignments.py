"""Make nbgrader assignments of the exercises, for a class that is graded.

    python scripts/make_assignments.py --out DIR [LESSON ...] [--points 10] [--points 03.2=5] [--force]

An exercise is read from its lesson (statement, starting code, check) and its answer from
notebooks/solutions. DIR gets source/lessonNN/NN_….ipynb, with the answers between nbgrader's marks, and
what `nbgrader generate_assignment`, `autograde` and `export` need to run there: docs/grading.md.
"""

import argparse
import ast
import builtins
import json
import pathlib
import re
import shutil
import symtable
import sys
import textwrap
from dataclasses import dataclass

import nbformat

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = ROOT / "deploy" / "grading" / "nbgrader_config.py"
KERNEL = "embedding-models-course"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
MARKER = re.compile(r"^\*\*(\d+) · .+?\*\*", re.M)
POINTS = 10.0

CHECK = '''\
def _check_{number}():
    """Run the check of exercise {number}; an AssertionError says what is wrong with the answer."""
    import contextlib
    import importlib
    import sys
    from unittest import mock

    import helpers.exercises
    from helpers.exercises import {module}

    said = []
    with contextlib.ExitStack() as stack:
        for checks in (helpers.exercises, {module}):
            importlib.reload(checks)  # as it is on disk
            stack.enter_context(mock.patch.object(checks, "print", said.append, create=True))
        stack.enter_context(contextlib.redirect_stderr(sys.stdout))  # a warning is no mistake
        for check in (
{checks}
        ):
            said.clear()
            try:
                check()
            except BaseException as e:  # also exit() and the time limit
                said.append(f"Not yet: the check stopped with {{type(e).__name__}}: {{e}}")
            if not said or any(sentence.startswith("Not yet") for sentence in said):
                raise AssertionError(said[-1] if said else "Not yet: the check said nothing.") from None
            print(*said, sep="\\n")


_check_{number}()'''


@dataclass
class Exercise:
    """What a lesson says of one exercise."""

    number: int
    statement: str
    start: str  # the code that the reader finds
    checks: list[ast.Call]
    answer: str = ""
    given: str = ""  # definitions that the answer or the statement needs, beside the set-up


@dataclass
class Piece:
    """A statement of a cell, with the names that it binds and those that it reads from elsewhere."""

    source: str
    node: ast.stmt
    binds: set[str]
    reads: set[str]


def names(source: str) -> tuple[set[str], set[str]]:
    """The global names that a piece of code binds, and those that it only reads.

    >>> names("y = [f(x) for x in z]")
    ({'y'}, {'f', 'z'})
    """
    binds, reads = set(), set()

    def walk(table):
        for symbol in table.get_symbols():
            if table.get_type() == "module" and (symbol.is_assigned() or symbol.is_imported()):
                binds.add(symbol.get_name())
            elif symbol.is_referenced() and (table.get_type() == "module" or symbol.is_global()):
                reads.add(symbol.get_name())
        for child in table.get_children():
            walk(child)

    walk(symtable.symtable(source, "cell", "exec"))
    return binds, reads - binds - set(dir(builtins))


def pieces(source: str) -> list[Piece]:
    """The top-level statements of a cell, each with the comments that stand above it."""
    lines, found, start = source.split("\n"), [], 0
    for node in ast.parse(source).body:
        text = "\n".join(lines[start : node.end_lineno]).strip("\n")
        found.append(Piece(text, node, *names(text)))
        start = node.end_lineno
    return found


def alone(piece: Piece) -> list[Piece]:
    """An import of several names as one piece a name; any other piece as it is."""
    if not isinstance(piece.node, ast.Import | ast.ImportFrom):
        return [piece]
    found = []
    for alias in piece.node.names:
        if isinstance(piece.node, ast.Import):
            node = ast.Import([alias])
        else:
            node = ast.ImportFrom(piece.node.module, [alias], piece.node.level)
        found.append(Piece(ast.unparse(node), node, *names(ast.unparse(node))))
    return found


def joined(body: list[Piece]) -> str:
    """Pieces below one another, with two empty lines around a definition."""
    text = ""
    for before, piece in zip([None, *body], body, strict=False):
        apart = any(isinstance(p.node, ast.FunctionDef | ast.ClassDef) for p in (before, piece) if p)
        text += ("" if before is None else "\n\n\n" if apart else "\n") + piece.source
    return text


def is_check(node: ast.stmt, module: str) -> bool:
    """Whether a statement is a call such as lesson03.relevance(...)."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and isinstance(node.value.func.value, ast.Name)
        and node.value.func.value.id == module
    )


def is_import_of_checks(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "helpers.exercises"


def split(source: str, module: str) -> tuple[str, list[ast.Call], list[Piece]]:
    """A cell's code before its first check, the checks, and the statements after them."""
    body = pieces(source)
    places = [i for i, piece in enumerate(body) if is_check(piece.node, module)]
    if not places:
        return source, [], []
    lines = source.split("\n")
    end = body[places[0]].node.lineno - 1
    dropped = {
        line
        for piece in body[: places[0]]
        if is_import_of_checks(piece.node)
        for line in range(piece.node.lineno - 1, piece.node.end_lineno)
    }
    before = "\n".join(line for i, line in enumerate(lines[:end]) if i not in dropped).strip("\n")
    after = [piece for i, piece in enumerate(body) if i > places[0] and i not in places]
    return before, [body[i].node.value for i in places], after


def exercises(book: nbformat.NotebookNode, module: str, name: str) -> list[Exercise]:
    """The exercises of a lesson; none where it has no such section. ValueError for one that is not whole."""
    heads = [i for i, c in enumerate(book.cells) if re.search(r"^## Exercises$", c.source, re.M)]
    if not heads:
        return []
    section = [book.cells[heads[0]]]
    for cell in book.cells[heads[0] + 1 :]:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            break
        section.append(cell)
    found, statement = [], None
    for cell in section:
        if cell.cell_type == "markdown":
            marks = list(MARKER.finditer(cell.source))
            if len(marks) > 1 or (marks and statement is not None):
                raise ValueError(f"{name}: an exercise has no code cell of its own below its statement")
            if marks:
                statement = cell.source[marks[0].start() :].strip()
            continue
        number = len(found) + 1
        start, checks, after = split(cell.source, module)
        if statement is None or MARKER.match(statement)[1] != str(number):
            raise ValueError(f"{name}: no statement **{number} · …** stands above code cell {number}")
        if not checks or not start or after:
            raise ValueError(
                f"{name}, exercise {number}: the cell should hold starting code, then calls of {module}"
            )
        found.append(Exercise(number, statement, start, checks))
        statement = None
    if statement is not None or not found:
        raise ValueError(f"{name}: exercise {len(found) + 1} has no code cell below its statement")
    return found


def slice_back(wanted: set[str], body: list[Piece], known: set[str]) -> tuple[list[Piece], set[str]]:
    """The pieces that make the wanted names, with all they need, and the names that nothing makes."""
    wanted, kept, made = wanted - known, [], set()
    for piece in reversed(body):
        if piece.binds & wanted:
            kept.append(piece)
            made |= piece.binds
            wanted |= piece.reads - known
            if isinstance(piece.node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
                wanted -= piece.binds  # a definition before this one is not needed
    return kept[::-1], wanted - made


def spoken_of(statement: str) -> set[str]:
    """The names in a statement's code: `rows_of[word]` speaks of rows_of and word."""
    found = set()
    for span in re.findall(r"`([^`\n]+)`", statement):
        try:
            found |= {node.id for node in ast.walk(ast.parse(span)) if isinstance(node, ast.Name)}
        except SyntaxError:
            continue
    return found


def parameters(code: str) -> set[str]:
    return {node.arg for node in ast.walk(ast.parse(code)) if isinstance(node, ast.arg)}


def matched(lesson: nbformat.NotebookNode, solution: nbformat.NotebookNode, number: str, name: str) -> tuple:
    """A lesson's exercises with their answers, and the set-up cells' sources.

    Raises ValueError of one sentence where an exercise has no answer, or an answer needs what is nowhere.
    """
    module = f"lesson{number}"
    asked = exercises(lesson, module, name)
    cells = [cell.source for cell in solution.cells if cell.cell_type == "code"]
    parts = [split(source, module) for source in cells]
    called = [[call.func.attr for call in checks] for _, checks, _ in parts]
    places = []
    for one in asked:
        wanted = [call.func.attr for call in one.checks]
        if called.count(wanted) != 1:
            raise ValueError(
                f"notebooks/solutions/{name} has {called.count(wanted)} cells that call "
                f"{' and '.join(f'{module}.{w}' for w in wanted)}, the check of exercise {one.number} of "
                f"lesson {int(number)}; it should have one"
            )
        places.append(called.index(wanted))
    if places != sorted(places):
        raise ValueError(f"notebooks/solutions/{name}: the answers stand in another order than the exercises")
    setup = cells[: places[0]] if places else []
    known = set().union(*(names(source)[0] for source in setup), {module})
    taught = [
        piece
        for cell in lesson.cells
        if cell.cell_type == "code"
        for whole in pieces(re.sub(r"^[%!].*$", "", cell.source, flags=re.M))
        for piece in alone(whole)
        if isinstance(piece.node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom)
        and not is_import_of_checks(piece.node)
    ]
    own = set().union(*(names(one.start)[0] for one in asked))
    taught = [piece for piece in taught if not piece.binds & own]
    answered: set[str] = set()
    for one, place in zip(asked, places, strict=True):
        answer, checks, _ = parts[place]
        # the same check may be given the same thing under another name
        if [len(call.args) for call in checks] != [len(call.args) for call in one.checks]:
            raise ValueError(
                f"lesson {int(number)}, exercise {one.number}: its check is given other things in the lesson "
                f"than in notebooks/solutions/{name}"
            )
        for here, there in zip(one.checks, checks, strict=True):
            for old, new in zip(map(ast.unparse, here.args), map(ast.unparse, there.args), strict=True):
                one.statement = one.statement.replace(f"`{old}`", f"`{new}`")
        one.checks = checks

        between = [
            piece
            for i in range(places[0], place)
            for whole in (parts[i][2] if i in places else pieces(cells[i]))
            for piece in alone(whole)
            if not piece.reads & (answered | own) and not isinstance(piece.node, ast.Expr)
        ]
        kept: list[Piece] = []
        # what the statement speaks of, as far as it can be had: from the solution, else taught by the lesson
        speaks = spoken_of(one.statement) - parameters(one.start) - own - answered
        for spoken in sorted(speaks):
            for body in (between, taught):
                more, missing = slice_back({spoken}, body, known | answered)
                if more and not missing:
                    kept += more
                    known = known.union(*(piece.binds for piece in more))
                    break
        one.answer = joined(
            [
                piece
                for piece in pieces(answer)
                if not (isinstance(piece.node, ast.FunctionDef) and piece.binds <= known - own)
            ]
        )
        binds, reads = names(answer)
        reads |= names("\n".join(ast.unparse(call) for call in checks))[1] - binds
        for body in (between, taught):
            more, missing = slice_back(reads, body, known | answered)
            if not missing or body is between:
                kept += more
                known = known.union(*(piece.binds for piece in more))
            reads = missing
        if missing:
            raise ValueError(
                f"lesson {int(number)}, exercise {one.number}: its answer in notebooks/solutions/{name} "
                f"needs {', '.join(sorted(missing))}, which no cell before it makes"
            )
        one.given = joined(kept)
        answered |= binds
    return asked, setup


def cell(kind: str, name: str, source: str, **nbgrader) -> nbformat.NotebookNode:
    """A cell with nbgrader's metadata, version 3 of its schema; locked unless it is a solution."""
    about = {"grade": False, "grade_id": name, "locked": True, "schema_version": 3, "solution": False}
    about |= {"task": False} | nbgrader
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    return make(source, id=name, metadata={"nbgrader": about})


def assignment(path: pathlib.Path, points: dict[tuple[int, int], float], usual: float) -> str | None:
    """The source notebook of a lesson's assignment, as text; None for a lesson without exercises.

    points: {(lesson, exercise): points} where they are not the usual ones.
    """
    number, lesson = path.name[:2], nbformat.read(path, as_version=4)
    module = f"lesson{number}"
    if not exercises(lesson, module, path.name):
        return None
    answers = path.parent / "solutions" / path.name
    if not answers.exists():
        raise ValueError(
            f"lesson {int(number)} has exercises, but there is no notebooks/solutions/{path.name}"
        )
    asked, setup = matched(lesson, nbformat.read(answers, as_version=4), number, path.name)
    title = lesson.cells[0].source.split("\n")[0].lstrip("# ")
    cells = [
        cell(
            "markdown",
            "title",
            f"# {title}: exercises\n\nWrite each answer in place of its `...` and run the check below it. "
            "The check stops with a sentence while something is wrong. All other cells are locked: what is "
            "changed in them is put back before grading.",
        )
    ]
    cells += [cell("code", f"setup-{i}", source) for i, source in enumerate(setup, 1)]
    for one in asked:
        name = f"exercise-{one.number}"
        # a link to another lesson leads nowhere from here
        statement = re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\.ipynb[^)]*\)", r"\1", one.statement)
        cells.append(cell("markdown", f"{name}-statement", statement))
        if one.given:
            cells.append(cell("code", f"{name}-given", one.given))
        source = f"{one.start}\n\n{BEGIN}\n{one.answer}\n{END}"
        cells.append(cell("code", f"{name}-answer", source, locked=False, solution=True))
        calls = ",\n".join(f"lambda: {ast.unparse(call)}" for call in one.checks)
        source = CHECK.format(number=one.number, module=module, checks=textwrap.indent(f"{calls},", " " * 12))
        worth = points.get((int(number), one.number), usual)
        worth = int(worth) if worth.is_integer() else worth
        cells.append(cell("code", f"{name}-check", source, grade=True, points=worth))
    extra = {key[1] for key in points if key[0] == int(number)} - {one.number for one in asked}
    if extra:
        raise ValueError(f"lesson {int(number)} has no exercise {min(extra)}; it has 1 to {len(asked)}")
    metadata = {key: lesson.metadata[key] for key in ("kernelspec", "language_info")}
    book = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    nbformat.validate(book)
    return nbformat.writes(book) + "\n"


def chosen(wanted: list[str], folder: pathlib.Path) -> list[pathlib.Path]:
    """The lessons' notebooks: those that are named ("3" or "03"), or all. ValueError for an unknown one."""
    lessons = {int(path.name[:2]): path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    for name in wanted:
        if not re.fullmatch(r"[0-9]{1,2}", name) or int(name) not in lessons:
            raise ValueError(
                f"there is no lesson {name!r}; lessons are numbers from {min(lessons)} to {max(lessons)}"
            )
    return [lessons[n] for n in sorted({int(name) for name in wanted})] if wanted else list(lessons.values())


def worth(given: list[str]) -> tuple[float, dict[tuple[int, int], float]]:
    """The usual points and the exceptions, from ["10", "03.2=5"]. ValueError for anything else."""
    usual, exceptions = POINTS, {}
    for text in given:
        found = re.fullmatch(r"(?:(\d+)\.(\d+)=)?(\d+(?:\.\d+)?)", text)
        if not found or float(found[3]) <= 0:
            raise ValueError(
                f"--points {text}: give points above 0 for every exercise, as in --points 10, or for one of "
                "them, as in --points 03.2=5 for exercise 2 of lesson 3"
            )
        if found[1]:
            exceptions[int(found[1]), int(found[2])] = float(found[3])
        else:
            usual = float(found[3])
    return usual, exceptions


def put(path: pathlib.Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(path)


def make(args: argparse.Namespace) -> None:
    usual, exceptions = worth(args.points)
    paths = chosen(args.lessons, args.notebooks)
    made = {path: assignment(path, exceptions, usual) for path in paths}
    empty = [int(path.name[:2]) for path, text in made.items() if text is None]
    if args.lessons and empty:
        raise ValueError(f"lesson {empty[0]} has no exercises")
    made = {path: text for path, text in made.items() if text is not None}
    strange = {lesson for lesson, _ in exceptions} - {int(path.name[:2]) for path in made}
    if strange:
        raise ValueError(f"--points names lesson {min(strange)}, of which no assignment is made")
    places = {path: args.out / "source" / f"lesson{path.name[:2]}" / path.name for path in made}
    there = [place.parent for place in places.values() if place.parent.exists()]
    if there and not args.force:
        raise ValueError(f"{there[0]} is there already; --force makes it anew")
    kernel = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "Embedding models, the course's environment",
        "language": "python",
    }
    put(args.out / "jupyter" / "kernels" / KERNEL / "kernel.json", json.dumps(kernel, indent=1) + "\n")
    if not (args.out / CONFIG.name).exists():
        shutil.copyfile(CONFIG, args.out / CONFIG.name)
    for path, text in made.items():
        put(places[path], text)
        print(places[path])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("lessons", nargs="*", metavar="LESSON", help="numbers; default: all with exercises")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the folder of the class")
    parser.add_argument(
        "--points",
        action="append",
        default=[],
        help="10 for each exercise, or 03.2=5 for one; may be repeated",
    )
    parser.add_argument("--force", action="store_true", help="make assignments anew that are there already")
    parser.add_argument("--notebooks", type=pathlib.Path, default=ROOT / "notebooks", help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        make(args)
    except ValueError as e:
        sys.exit(str(e))
    except OSError as e:
        sys.exit(f"{e.filename or args.out} cannot be written: {e.strerror or e}")


if __name__ == "__main__":
    main()
