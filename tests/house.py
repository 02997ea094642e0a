"""The map in CONTRIBUTING.md, drawn from the code: python tests/house.py

Reads the imports of every module of `helpers`, of the notebooks, recipes and scripts, and writes two
things between the marks in CONTRIBUTING.md: a picture (Mermaid) of which module imports which, and a
table with each module's idea, which is the first line of its docstring, and the lessons that use it.
`tests/test_house.py` fails where the map is not what the code says.
"""

import ast
import graphlib
import sys
from pathlib import Path

import books

MODULES = {p.stem: p for p in sorted((books.ROOT / "helpers").glob("*.py")) if p.stem != "__init__"}
PAGE = books.ROOT / "CONTRIBUTING.md"
BEGIN, END = "<!-- drawn by tests/house.py -->", "<!-- end of the drawing -->"


def source(path: Path) -> str:
    if path.suffix == ".ipynb":
        return "\n".join(cell.source for cell in books.code(books.read(path)))
    return path.read_text(encoding="utf-8")


def imports(path: Path) -> set[str]:
    """The modules of `helpers` that a file imports, wherever in it: {"models", "data"}."""
    found = set()
    for node in ast.walk(ast.parse(source(path))):
        if isinstance(node, ast.ImportFrom) and node.module == "helpers":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("helpers.")}
    return found & {*MODULES, "exercises"}


def graph() -> dict[str, set[str]]:
    """Which module imports which. Raises graphlib.CycleError where they import one another in a circle."""
    found = {name: imports(path) for name, path in MODULES.items()}
    graphlib.TopologicalSorter(found).prepare()
    return found


def users(pattern: str) -> dict[str, set[str]]:
    """File name -> modules, for the files of a pattern such as "scripts/*.py"."""
    return {path.stem: imports(path) for path in sorted(books.ROOT.glob(pattern))}


def idea(path: Path) -> str:
    return (ast.get_docstring(ast.parse(source(path))) or "").split("\n")[0].rstrip(".:")


def drawing() -> str:
    """The text between the marks."""
    edges = graph()
    rooms = {
        "notebooks": users("notebooks/*.ipynb"),
        "recipes": users("models/recipes/*.py"),
        "scripts": users("scripts/*.py"),
    }
    lines = ["```mermaid", "flowchart LR", "  subgraph helpers"]
    lines += [f"    {name}" for name in MODULES]
    lines += [f"    {name} --> {other}" for name in MODULES for other in sorted(edges[name])]
    lines += ["  end", "  notebooks & scripts & recipes --> helpers"]
    lines += ["  tests --> notebooks & scripts & recipes & helpers", "  helpers --> weights[(models/)]"]
    lines += ["  helpers --> tables[(shared_data/)]", "```", ""]
    lines += ["| module | its idea | lessons | recipes and scripts |", "|---|---|---|---|"]
    for name, path in MODULES.items():
        lessons = ", ".join(book[:2] for book, used in rooms["notebooks"].items() if name in used)
        others = [f for room in ("recipes", "scripts") for f, used in rooms[room].items() if name in used]
        lines.append(f"| `{name}` | {idea(path)} | {lessons} | {', '.join(others)} |")
    return "\n".join(lines)


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        sys.exit(f"{PAGE.name} has no marks for the drawing: {BEGIN} and {END}")
    PAGE.write_text(f"{before}{BEGIN}\n{drawing()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
