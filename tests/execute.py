"""Run lessons from the top and save their outputs: python tests/execute.py [03 | NOTEBOOK]...

A number names a lesson and its solutions; without names, every lesson and solution. A notebook
that fails is left as it was, and so is one whose outputs are equal but for the cells tagged `timing`
or `machine`. The figure of a cell tagged `picture` is also saved for the README, in
notebooks/pictures/. Prints how long each notebook took, its slowest cell, and what changed.
"""

import base64
import copy
import io
import json
import re
import sys
import time
from datetime import datetime
from pathlib import Path

import books
import nbformat
import numpy as np
from nbval.plugin import coalesce_streams
from PIL import Image

PICTURE = re.compile(r'(?<=src="data:image/png;base64,)[^"]*')
NUMBER = re.compile(r" *\d+([.,]\d+)*")  # with the spaces that line a column up
UNSTEADY = {"timing", "machine"}  # the numbers that such a cell shows may change from run to run


def run(path: Path) -> nbformat.NotebookNode:
    """The notebook with fresh outputs and the times of its cells, run in its own folder."""
    book = books.read(path)
    # without coalesce_streams a text is cut wherever it paused on its way here
    books.client(book, path, timeout=300, coalesce_streams=True).execute()
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


def pixels(png: str) -> np.ndarray:
    """The pixels of a picture as a notebook holds it, (height, width, 4)."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA"))


def keep_pictures(before: list, after: list) -> None:
    """Where a new output's picture has the old one's pixels, take the old one's bytes."""
    for old, new in zip(before, after, strict=False):
        was, now = (o.get("data", {}).get("image/png") for o in (old, new))
        if was and now and was != now and np.array_equal(pixels(was), pixels(now)):
            new.data["image/png"] = was
            if "text/html" in new.data:
                new.data["text/html"] = PICTURE.sub(was, new.data["text/html"])


def but_numbers(outputs: list) -> str:
    """What a cell showed, without its numbers and pictures: what a timing leaves from run to run."""
    bare = copy.deepcopy(outputs)
    for data in (output.get("data", {}) for output in bare):
        data.pop("image/png", None)
        data["text/html"] = PICTURE.sub("", data.get("text/html", ""))
    return NUMBER.sub("0", json.dumps(bare, sort_keys=True))


def changed(before: nbformat.NotebookNode, after: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The cells that show something else now; numbers and pictures in a timing do not count."""
    cells = []
    for old, new in zip(books.code(before), books.code(after), strict=True):
        was, now = old.outputs, new.outputs
        if UNSTEADY & set(books.tags(new)):
            was, now = but_numbers(was), but_numbers(now)
        if was != now or old.execution_count != new.execution_count:
            cells.append(new)
    return cells


def settle(before: nbformat.NotebookNode, after: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """Give a notebook that was run its saved outputs back, unless they changed; return the changed cells."""
    for old, new in zip(books.code(before), books.code(after), strict=True):
        old.outputs = coalesce_streams(old.outputs)
        keep_pictures(old.outputs, new.outputs)
    cells = changed(before, after)
    if not cells:
        for old, new in zip(books.code(before), books.code(after), strict=True):
            new.outputs = old.outputs
    return cells


def save_picture(book: nbformat.NotebookNode, path: Path) -> None:
    for cell in book.cells:
        if "picture" in books.tags(cell):
            png = next(o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {}))
            folder = books.NOTEBOOKS / "pictures"
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
            took[(end - start).total_seconds()] = first_line(cell)
    seconds = max(took, default=0)
    return f"slowest cell {seconds:.0f} s: {took.get(seconds, '')}"


def first_line(cell: nbformat.NotebookNode) -> str:
    return cell.source.strip().splitlines()[0][:50]


def named(words: list[str]) -> list[Path]:
    """The notebooks of "03", "notebooks/03_….ipynb" or nothing, which means all of them."""
    paths = []
    for word in words:
        found = (
            [p for p in books.BOOKS if p.name.startswith(f"{word.zfill(2)}_")]
            if word.isdigit()
            else [Path(word)]
        )
        if not found or not found[0].exists():
            sys.exit(f"no lesson {word}: name it by its two digits, 03, or by its file")
        paths += found
    return [p.resolve() for p in paths] or books.BOOKS


def main(words: list[str]) -> int:
    failed = 0
    for path in named(words):
        start, name = time.time(), f"{path.parent.name}/{path.name}"
        saved = books.read(path)
        try:
            book = run(path)
        except Exception as e:
            print(f"{name}: FAILED\n{e}", file=sys.stderr)
            failed = 1
            continue
        took, longest = time.time() - start, slowest(book)
        cells = settle(saved, tidy(book))
        if path in books.LESSONS:
            save_picture(book, path)
        nbformat.write(book, path)
        what = f"changed cells: {len(cells)}" if cells else "nothing changed"
        print(f"{name}: {took:.0f} s; {longest}; {what}", flush=True)
        for cell in cells:
            print(f"    [{cell.execution_count}] {first_line(cell)}")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
