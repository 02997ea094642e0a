"""Every cell of lessons 0 to 4 runs again after all the others, last to first."""

import books
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


@pytest.mark.parametrize("number", ["00", "01", "02", "03", "04"])
def test_each_cell_runs_again_after_all_the_others(number):
    path = books.path(number)
    book = books.read(path)
    client = NotebookClient(
        book, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    with client.setup_kernel():
        places = [i for i, cell in enumerate(book.cells) if cell.cell_type == "code"]
        for i in [*places, *reversed(places)]:
            try:
                client.execute_cell(book.cells[i], i)
            except CellExecutionError as error:
                pytest.fail(f"{path.name}, cell {book.cells[i].id} after the others: {str(error)[-600:]}")
