"""`make lessons` on an unchanged lesson changes nothing (tests/execute.py)."""

import base64
import io
import itertools

import adjustText
import books
import execute
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from helpers import figures

SLOW_PRINT = "import time\nprint('one', flush=True)\ntime.sleep(0.3)\nprint('two')"
FIGURE = (
    "import matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt\n"
    "from helpers import figures\nfig, ax = plt.subplots()\nax.plot([1, 2])\nfigures.show(fig, 'a line')"
)
CLOCK = "took = time.perf_counter_ns()\nprint(f'{took} nanoseconds')"
CLOCK_DRAWN = "fig, ax = plt.subplots()\nax.plot([0, took])\nfigures.show(fig, f'{took} nanoseconds')"


def trial(folder, *cells):
    """A notebook of these cells, each (source, tag), in a file that was never run."""
    book = new_notebook()
    for source, tag in cells:
        cell = new_markdown_cell(source) if tag == "prose" else new_code_cell(source)
        cell.metadata["tags"] = [tag] if tag else []
        book.cells.append(cell)
    path = folder / "77_trial.ipynb"
    nbformat.write(book, path)
    return path


def edited(path, place, source):
    book = books.read(path)
    book.cells[place].source = source
    nbformat.write(book, path)


def test_a_second_run_leaves_the_file_and_a_new_sentence_changes_one_line(tmp_path, capsys):
    timings = (CLOCK, "timing"), (CLOCK_DRAWN, "timing")
    path = trial(tmp_path, ("A sentence.", "prose"), (SLOW_PRINT, ""), (FIGURE, ""), *timings)
    assert execute.main([str(path)]) == 0
    first = path.read_text(encoding="utf-8")
    book = books.read(path)
    assert [o.text for o in book.cells[1].outputs] == ["one\ntwo\n"]
    assert "changed cells: 4" in capsys.readouterr().out

    edited(path, 0, "Another sentence.")
    assert execute.main([str(path)]) == 0
    assert "nothing changed" in capsys.readouterr().out
    assert path.read_text(encoding="utf-8") == first.replace('"A sentence."', '"Another sentence."')

    edited(path, 1, "import time\nprint('three')")
    assert execute.main([str(path)]) == 0
    assert "changed cells: 1" in capsys.readouterr().out
    assert books.read(path).cells[1].outputs[0].text == "three\n"
    assert books.read(path).cells[3].outputs != book.cells[3].outputs  # one run, one notebook


def test_a_notebook_that_fails_is_left_as_it_was(tmp_path, capsys):
    path = trial(tmp_path, ("1 / 0", ""))
    before = path.read_bytes()
    assert execute.main([str(path)]) == 1
    assert path.read_bytes() == before and "ZeroDivisionError" in capsys.readouterr().err


def test_a_picture_of_the_same_pixels_keeps_its_bytes(tmp_path):
    path = trial(tmp_path, (FIGURE, ""))
    execute.main([str(path)])
    saved = books.read(path)
    picture = Image.open(io.BytesIO(base64.b64decode(saved.cells[0].outputs[0].data["image/png"])))
    for level, same in ((0, True), (9, False)):
        other, buffer = books.read(path), io.BytesIO()
        if not same:
            picture.putpixel((3, 3), (255, 0, 0, 255))
        picture.save(buffer, "png", compress_level=level)
        png = base64.b64encode(buffer.getvalue()).decode()
        data = other.cells[0].outputs[0].data
        data["image/png"], data["text/html"] = png, execute.PICTURE.sub(png, data["text/html"])
        assert bool(execute.settle(saved, other)) is not same
        assert (other.cells[0].outputs == saved.cells[0].outputs) is same


def test_a_timing_keeps_its_numbers_but_not_its_words():
    def shows(text):
        cell = new_code_cell("", execution_count=1, outputs=[new_output("stream", name="stdout", text=text)])
        cell.metadata["tags"] = ["timing", "nbval-ignore-output"]
        return new_notebook(cells=[cell])

    saved, faster, reworded = (
        shows("a pair:  12.3 ms\n"),
        shows("a pair:   9.1 ms\n"),
        shows("pair: 9.1 ms\n"),
    )
    assert execute.settle(saved, faster) == [] and faster.cells[0].outputs == saved.cells[0].outputs
    assert execute.settle(saved, reworded) == reworded.cells


def test_labels_fall_in_the_same_places_however_slow_the_machine(monkeypatch):
    def places():
        fig, ax = plt.subplots()
        points = np.random.default_rng(3).normal(size=(12, 2)) / 8  # crowded: it never settles
        ax.scatter(*points.T)
        figures.label_points(ax, points, [f"word {n}" for n in range(12)])
        plt.close(fig)
        return [text.get_position() for text in ax.texts]

    quick, clock = places(), itertools.count(0, 0.3)
    monkeypatch.setattr(adjustText, "timer", lambda: next(clock))
    assert places() == quick


def test_lessons_are_named_by_their_number_or_their_file():
    lesson, solutions = books.path("03"), books.path("03", solutions=True)
    assert execute.named(["03"]) == execute.named(["3"]) == [lesson, solutions]
    assert execute.named(["00", str(solutions)]) == [books.path("00"), solutions]
    assert execute.named([]) == books.BOOKS
    with pytest.raises(SystemExit, match="no lesson 99: name it by its two digits"):
        execute.named(["99"])


@pytest.mark.parametrize("path", [books.path("00"), books.path("01", solutions=True)], ids=books.name)
def test_two_runs_of_a_lesson_show_the_same(path):
    one, two = (execute.tidy(execute.run(path)) for _ in range(2))
    for first, second in zip(books.code(one), books.code(two), strict=True):
        execute.keep_pictures(first.outputs, second.outputs)
        assert first.outputs == second.outputs or execute.UNSTEADY & set(books.tags(first)), first.source
