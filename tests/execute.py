"""Run notebooks from the top and save their outputs: python tests/execute.py [NOTEBOOK...]

Without names, every lesson and solution. A notebook that fails is left as it was. The figure of
a cell tagged `picture` is also saved for the README, in notebooks/pictures/. Prints how long each
notebook took, and its slowest cell.
"""

import base64
import sys
import time
from datetime import datetime
from pathlib import Path

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def run(path: Path) -> nbformat.NotebookNode:
    """The notebook with fresh outputs and the times of its cells, run in its own folder."""
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    return book


def tidy(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Leave out what differs from run to run and is no output: times, widget ids, versions."""
    book.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not is_progress_bar(o)]
            for output in cell.outputs:
                output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return book


def is_progress_bar(output: nbformat.NotebookNode) -> bool:
    return "it/s]" in output.get("data", {}).get("text/plain", "")


def save_picture(book: nbformat.NotebookNode, path: Path) -> None:
    for cell in book.cells:
        if "picture" in cell.metadata.get("tags", []):
            png = next(o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {}))
            folder = NOTEBOOKS / "pictures"
            folder.mkdir(exist_ok=True)
            (folder / f"{path.stem[:2]}.png").write_bytes(base64.b64decode(png))


def slowest(book: nbformat.NotebookNode) -> str:
    """The cell that ran longest, from the times that the client noted."""
    took = {}
    for cell in book.cells:
        times = cell.metadata.get("execution", {})
        if "iopub.execute_input" in times and "shell.execute_reply" in times:
            start, end = (
                datetime.fromisoformat(times[k].replace("Z", "+00:00"))
                for k in ("iopub.execute_input", "shell.execute_reply")
            )
            took[(end - start).total_seconds()] = cell.source.strip().splitlines()[0]
    seconds = max(took, default=0)
    return f"slowest cell {seconds:.0f} s: {took.get(seconds, '')[:50]}"


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
            print(f"{path.relative_to(NOTEBOOKS)}: FAILED\n{e}", file=sys.stderr)
            failed = 1
            continue
        took, longest = time.time() - start, slowest(book)
        if path.parent == NOTEBOOKS:
            save_picture(book, path)
        nbformat.write(tidy(book), path)
        print(f"{path.relative_to(NOTEBOOKS)}: {took:.0f} s; {longest}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
