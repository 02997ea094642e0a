"""Every notebook keeps the form of a lesson, and its saved outputs are fresh and clean."""

import ast
import json
import re

import books
import pytest

from tests import lesson_plugin

PARTS = ["**You will be able to**", "**Time**", "**Before this**", "## What you saw"]
LESSON_PARTS = ["**Predict first.**", "## Exercises", "## Published figures", "## References"]
CLOCK = re.compile(r"\b(perf_counter|monotonic|process_time|timeit|sleep)\b|\btime\.time\b|%%?time\b")
MACHINE_PATH = re.compile(r"(?<![\w.])/(work|root|tmp|home|Users|farm)/|[A-Z]:\\\\Users")


@pytest.fixture(params=books.BOOKS, ids=books.name)
def path(request):
    return request.param


def test_it_was_run_from_the_top(path):
    counts = [c.execution_count for c in books.code(books.read(path)) if c.source.strip()]
    assert counts == list(range(1, len(counts) + 1))


def test_no_errors_and_no_warnings(path):
    for cell in books.code(books.read(path)):
        for output in cell.outputs:
            allowed = "raises-exception" in books.tags(cell)
            assert output.output_type != "error" or allowed, cell.source
            assert output.get("name") != "stderr", output.text


def test_no_path_of_a_machine(path):
    for cell in books.code(books.read(path)):
        for output in cell.outputs:
            data = {k: v for k, v in output.get("data", {}).items() if k == "text/plain"}
            said = json.dumps([data, output.get("text", ""), cell.source])
            assert not MACHINE_PATH.search(said), said[:300]


def test_every_figure_has_alt_text(path):
    for cell in books.code(books.read(path)):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert len(output.metadata.get("image/png", {}).get("alt", "")) > 30, cell.source
                assert '<img alt="' in output.data["text/html"]


def test_cells_are_short(path):
    for cell in books.code(books.read(path)):
        lines = cell.source.splitlines()
        assert len(lines) <= 25, f"{len(lines)} lines: {lines[0]}"
        assert max(map(len, lines), default=0) <= 110, max(lines, key=len)
        assert not cell.source.rstrip().endswith(";"), lines[-1]


def test_words_of_the_house(path):
    prose = "\n".join(c.source for c in books.read(path).cells if c.cell_type == "markdown")
    for word in ("simply", "obviously", "just run", "color ", "center ", "TODO"):
        assert not re.search(rf"\b{word.strip()}\b", prose, re.I), word


def numbers_shown(cell):
    """Does a cell show a number, printed or as a value or table? A picture's alt text and a text that is
    written in the source, such as a slider's, are the same on every run."""
    shown = [
        o.get("text") or o.get("data", {}).get("text/plain", "")
        for o in cell.outputs
        if "image/png" not in o.get("data", {})
    ]
    return any(re.search(r"\d", text) for text in shown if text not in cell.source)


def test_a_time_is_tagged_as_one(path):
    """A cell that reads the clock, or waits, and shows a number is a timing, or its output is compared:
    then the number is no time."""
    for cell in books.code(books.read(path)):
        marks = set(books.tags(cell))
        if CLOCK.search(cell.source) and "nbval-ignore-output" in marks and numbers_shown(cell):
            assert "timing" in marks, f"{path.name}: {cell.source[:80]}"


@pytest.mark.parametrize("path", books.LESSONS, ids=books.name)
def test_what_a_run_may_change_is_held_somewhere(path):
    """Each bound has its cell, and a cell whose output is ignored and shows numbers has a bound."""
    cells = books.code(books.read(path))
    bounds = {check["tag"] for check in lesson_plugin.expected(path)}
    assert bounds <= {tag for cell in cells for tag in books.tags(cell)}
    for cell in cells:
        marks = set(books.tags(cell))
        if marks & {"nbval-ignore-output", "nbval-skip"} and numbers_shown(cell):
            assert marks & (bounds | {"machine"}), f"{path.name}: {cell.source[:80]}"


@pytest.mark.parametrize("path", books.LESSONS, ids=books.name)
def test_the_saved_outputs_lie_within_their_bounds(path):
    for cell in books.code(books.read(path)):
        lesson_plugin.hold_figures(path, books.tags(cell), cell.outputs)


class Names(ast.NodeVisitor):
    """The names that a cell sets, and those that it reads before it sets them; not inside functions."""

    def __init__(self):
        self.set, self.read, self.bound = set(), set(), []

    def visit_Name(self, node):
        if any(node.id in names for names in self.bound):
            return
        if isinstance(node.ctx, ast.Store):
            self.set.add(node.id)
        elif node.id not in self.set:
            self.read.add(node.id)

    def visit_Assign(self, node):  # what is read is read first
        for part in [node.value, *node.targets]:
            self.visit(part)

    def visit_AugAssign(self, node):
        self.visit(ast.Name(node.target.id, ast.Load()) if isinstance(node.target, ast.Name) else node.target)
        self.visit(node.value)

    def visit_FunctionDef(self, node):
        self.set.add(node.name)

    visit_ClassDef = visit_FunctionDef

    def visit_Lambda(self, node):
        pass

    def visit_alias(self, node):
        self.set.add((node.asname or node.name).split(".")[0])

    def visit_ListComp(self, node):
        targets = [part for one in node.generators for part in ast.walk(one.target)]
        self.bound.append({part.id for part in targets if isinstance(part, ast.Name)})
        self.generic_visit(node)
        self.bound.pop()

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp


MAY_CHANGE = {  # the same network, opened again with its head; the collection before and after it was adapted
    ("02_bert_contextual_embeddings.ipynb", "model"),
    ("17_your_own_documents.ipynb", "own"),
}


def names_of(source: str) -> Names:
    found = Names()
    found.visit(ast.parse(source))
    return found


def test_no_cell_reads_a_name_that_a_later_cell_sets_anew(path):
    """Else the cell, run again at the end, would show another thing, or fail."""
    cells = [
        (cell, names_of(re.sub(r"(?m)^[%!].*", "", cell.source))) for cell in books.code(books.read(path))
    ]
    for place, (cell, names) in enumerate(cells):
        later = {name: other.id for other, found in cells[place + 1 :] for name in found.set}
        clash = {n: later[n] for n in names.read & set(later) if (path.name, n) not in MAY_CHANGE}
        assert not clash, f"{cell.id} reads {clash}, set anew there: give one of the two another name"


def test_the_check_of_names_sees_what_is_read_before_it_is_set():
    found = names_of("a = b + 1\nfor i in c:\n    d = [e for e in i if e > f]\nprint(a, len)")
    assert found.read == {"b", "c", "f", "print", "len"} and found.set == {"a", "i", "d"}
    assert names_of("x += 1").read == {"x"} and names_of("def f():\n    return y").read == set()
    assert names_of("{k: v for k, v in z}").read == {"z"} and names_of("import a.b as c").set == {"c"}


def test_parts_of_a_lesson():
    for path in books.LESSONS:
        prose = "\n".join(c.source for c in books.read(path).cells if c.cell_type == "markdown")
        wanted = PARTS + ([] if path.name.startswith("00") else LESSON_PARTS)
        assert [p for p in wanted if p not in prose] == [], path.name
        assert re.search(r"about \d+ minutes", prose), path.name


def test_every_lesson_with_exercises_has_solutions():
    with_exercises = [p.name for p in books.LESSONS if not p.name.startswith("00")]
    assert [p.name for p in books.SOLUTIONS] == with_exercises


def test_links_between_notebooks_lead_somewhere():
    for path in books.BOOKS:
        for cell in books.read(path).cells:
            for link in re.findall(r"\]\(([^)#]+\.ipynb)\)", cell.source):
                assert (path.parent / link).exists(), f"{path.name}: {link}"
