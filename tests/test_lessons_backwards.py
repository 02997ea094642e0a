"""Every cell of lessons 0 to 5 and 8 runs again after all the others, last to first.

Here lessons 0 and 8; the others on small models (tests/test_originals_in_place.py), where it takes less time.
Lesson 14 does so too, on smaller beds (tests/test_lesson14.py).
"""

from pathlib import Path

import books
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode


def run_all(path: Path, backwards_too: bool = True) -> NotebookNode:
    """A notebook after all its cells have run in one kernel, first to last and then last to first."""
    book = books.read(path)
    client = books.client(book, path, timeout=600)
    with client.setup_kernel():
        places = [i for i, cell in enumerate(book.cells) if cell.cell_type == "code"]
        for i in [*places, *reversed(places if backwards_too else [])]:
            try:
                client.execute_cell(book.cells[i], i)
            except CellExecutionError as error:
                pytest.fail(f"{path.name}, cell {book.cells[i].id}: {str(error)[-600:]}")
    return book


@pytest.mark.parametrize("number", ["00", "08"])
def test_each_cell_runs_again_after_all_the_others(number):
    run_all(books.path(number))
