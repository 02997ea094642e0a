"""Run notebooks from the top and save their outputs: python tests/execute.py [NOTEBOOK...]

Without names, every lesson and solution. A notebook that fails is left as it was.
"""

import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def run(path: Path) -> nbformat.NotebookNode:
    """The notebook with fresh outputs, run in its own folder."""
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    return tidy(book)


def tidy(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leave out what differs from run to run and is no output: times, widget ids, versions."""
    book.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop("application/vnd.jupyter.widget-view+json", None)
    return book


def main(names: list[str]) -> int:
    paths = [Path(n).resolve() for n in names] or sorted(NOTEBOOKS.rglob("[0-9]*.ipynb"))
    failed = 0
    for path in paths:
        if ".ipynb_checkpoints" in path.parts:
            continue
        start = time.time()
        try:
            book = run(path)
        except Exception as e:
            print(f"{path.name}: FAILED\n{e}", file=sys.stderr)
            failed = 1
            continue
        nbformat.write(book, path)
        print(f"{path.name}: {time.time() - start:.0f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
