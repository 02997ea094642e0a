"""What the tests of the notebooks share."""

import ast
import functools
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.output_widget import OutputWidget

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
LESSONS = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("[0-9][0-9]_*.ipynb"))
BOOKS = LESSONS + SOLUTIONS


def name(path: Path) -> str:
    return str(path.relative_to(NOTEBOOKS))


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def tags(cell: nbformat.NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def code(book: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in book.cells if cell.cell_type == "code"]


def path(number: str, solutions: bool = False) -> Path:
    """The notebook of a lesson, "03", or its solutions."""
    found = [p for p in (SOLUTIONS if solutions else LESSONS) if p.name.startswith(f"{number}_")]
    assert len(found) == 1, f"no lesson {number} in {'notebooks/solutions' if solutions else 'notebooks'}/"
    return found[0]


def cell(number: str, tag: str, solutions: bool = False) -> nbformat.NotebookNode:
    """The one cell of a lesson that carries a tag: cell("03", "ranking")."""
    where = path(number, solutions)
    found = [c for c in read(where).cells if tag in tags(c)]
    assert len(found) == 1, (
        f"{name(where)}: {len(found)} cells carry the tag {tag!r}, where a test reads one; "
        "tag the cell that shows it (JupyterLab: property inspector, Cell Tags)"
    )
    return found[0]


def stretch(number: str, first: str, last: str) -> list[nbformat.NotebookNode]:
    """The code cells of a lesson from the one that carries the tag `first` to the one with `last`."""
    ids = [cell(number, tag).id for tag in (first, last)]
    cells = code(read(path(number)))
    begin, end = ([c.id for c in cells].index(i) for i in ids)
    return cells[begin : end + 1]


def shown(number: str, tag: str, solutions: bool = False) -> str:
    """What the cell with this tag printed or returned, as plain text."""
    return text(cell(number, tag, solutions))


@functools.cache
def settings() -> dict[str, tuple[list[str], list[str], str, str]]:
    """Lesson 14's table: name -> towers, what is written before a text, pooling, comparison."""
    space: dict = {}
    exec(cell("14", "settings").source, space)
    return space["settings"]


def text(cell: nbformat.NotebookNode) -> str:
    """All that a cell printed or returned as plain text."""
    parts = []
    for output in cell.get("outputs", []):
        parts.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
    return "".join(parts)


def said(cell: nbformat.NotebookNode) -> str:
    """What a cell printed, and the alt texts of its figures."""
    alts = (output.get("metadata", {}).get("image/png", {}).get("alt", "") for output in cell.outputs)
    return "\n".join([text(cell), *alts])


class KeptOutput(OutputWidget):
    """A widget's output area that keeps what is shown in it, as a browser does, and tells the kernel nothing.

    nbclient would write to the kernel while it waits for the kernel's reply, and now and then misses the
    reply: a second is lost, or the whole time limit (its issue 312).
    """

    def send(self, *args: object, **keys: object) -> None:
        pass


def client(book: nbformat.NotebookNode, path: Path, timeout: int, **options: object) -> NotebookClient:
    """A client that runs a notebook in its own folder."""
    options |= {"kernel_name": "python3", "resources": {"metadata": {"path": str(path.parent)}}}
    made = NotebookClient(book, timeout=timeout, **options)
    made.widget_registry = {"@jupyter-widgets/output": {"OutputModel": KeptOutput}}
    return made


def judge_exercises(checks, solutions: Path, capsys, *names: str, also: tuple[str, ...] = (), wrong="three"):
    """Each check says right of the worked answer, "not yet written" of a blank, "not yet" of `wrong`.

    checks: the module of checks; also: what the answers need that is defined beside them.
    """
    answers = definitions(solutions, *names, *also)
    for name in names:
        for answer, said in (
            (answers[name], f"Right: {name}"),
            (lambda *_: ..., f"Not yet written: {name}"),
            (lambda *_: wrong, f"Not yet: {name}"),
        ):
            getattr(checks, name)(answer)
            printed = capsys.readouterr().out
            assert printed.startswith(said), printed


def definitions(path: Path, *wanted: str, given: dict | None = None) -> dict:
    """Run only the cells of a notebook that define the wanted names; return the namespace.

    A cell counts if it holds `def name`, `class name` or an import on which it can stand.
    given: names that the definitions need while they are made, for example for a default.
    """
    space: dict = dict(given or {})
    for cell in code(read(path)):
        statements = ast.parse(cell.source).body
        kept = [x for x in statements if isinstance(x, ast.Import | ast.ImportFrom)]
        made = [x for x in statements if isinstance(x, ast.FunctionDef | ast.ClassDef)]
        if {x.name for x in made} & set(wanted):  # the definitions alone, not what the cell does with them
            kept += made
        exec(ast.unparse(ast.Module(kept, [])), space)
    missing = [w for w in wanted if w not in space]
    assert not missing, f"{path.name} no longer defines {missing}"
    return space
