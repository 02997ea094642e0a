"""Small things: imports stay light, figures carry their text, exercises judge fairly."""

import re
import subprocess
import sys

import numpy as np
import pytest

from helpers import ROOT, figures, models, tables
from helpers.exercises import lesson01


def test_importing_helpers_loads_nothing_heavy():
    code = (
        "import sys\nimport helpers, helpers.models, helpers.data, helpers.figures\n"
        "import helpers.exercises.lesson01, helpers.hub, helpers.stand_ins, helpers.documentation\n"
        "import helpers.pooling, helpers.intervals, helpers.ranking, helpers.machine, helpers.kept_vectors, helpers.tables\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'gensim', 'matplotlib',\n"
        "         'seaborn', 'pandas', 'sklearn', 'datasets', 'scipy', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_helpers_do_not_import_in_circles_nor_what_stands_above_them():
    order = [
        "files",
        "__init__",  # the cache's place, which all may ask for
        "made",
        "texts",
        "tables",
        "intervals",
        "hub",
        "stand_ins",
        "models",
        "data",
        "prose",
        "documentation",
        "kept_vectors",
        "tasks",
        "figures",
        "pooling",
        "machine",
        "processes",
        "encoders",
        "ranking",
        "checkpoints",
        "training",
        "zoo",
        "documents",
        "collection",
        "judging",
        "adapting",
        "exercises",
    ]
    modules = {
        f.relative_to(ROOT / "helpers").parts[0].removesuffix(".py"): []
        for f in (ROOT / "helpers").rglob("*.py")
        if f.parent != ROOT / "helpers" or f.stem != "__init__"
    }
    assert set(modules) <= set(order), "place the new module in `order`, after what it imports"
    for file in (ROOT / "helpers").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "recipes" not in text.replace("models/recipes", "") and "import tests" not in text
        own = file.relative_to(ROOT / "helpers").parts[0].removesuffix(".py")
        for later in order[order.index(own) + 1 :]:
            assert not re.search(rf"helpers import .*\b{later}\b|helpers\.{later} import", text), file


def test_show_displays_a_png_with_alt_text(monkeypatch):
    import IPython.display
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    seen = {}
    monkeypatch.setattr(
        IPython.display,
        "display",
        lambda bundle, metadata, raw: seen.update(bundle=bundle, metadata=metadata),
    )
    fig, _ = plt.subplots()
    figures.show(fig, 'A line that rises, "fast"')
    assert seen["metadata"]["image/png"]["alt"] == 'A line that rises, "fast"'
    assert "&quot;fast&quot;" in seen["bundle"]["text/html"]
    assert not plt.get_fignums()
    fig, ax = plt.subplots()
    with pytest.raises(ValueError, match="what the figure shows"):
        figures.show(fig, "  ")
    figures.heatmap(ax, np.eye(3), ["one", "two", "three"])
    figures.label_points(ax, np.zeros((2, 2)), ["a", "b"])
    plt.close(fig)


def test_a_label_keeps_off_the_places_it_is_told_to_avoid():
    """Points are laid where the label goes by itself; told of them, it covers none."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    def box_of_the_label(avoid=None):
        fig, ax = plt.subplots()
        ax.set(xlim=(0, 1), ylim=(0, 1))
        figures.label_points(ax, np.array([[0.4, 0.4]]), ["a label"], avoid=avoid)
        (text,) = (t for t in ax.texts if t.get_text() == "a label")
        box = text.get_window_extent().transformed(ax.transData.inverted())
        plt.close(fig)
        return box

    box = box_of_the_label()
    across, up = np.linspace(box.x0, box.x1, 6)[1:-1], np.linspace(box.y0, box.y1, 4)[1:-1]
    places = np.array([(x, y) for x in across for y in up])
    assert box.count_contains(places) == len(places) == 8
    assert box_of_the_label(avoid=places).count_contains(places) == 0


def test_a_table_is_read_without_the_space_around_its_cells(tmp_path):
    file = tmp_path / "mine.tsv"
    file.write_text("word\tmeaning\n bat \t  an animal, or a club \n", encoding="utf-8")
    (row,) = tables.read(file, ["word", "meaning"]).to_dict("records")
    assert row == {"word": "bat", "meaning": "an animal, or a club"}
    file.write_text("word\tmeaning\nbat\t  \n", encoding="utf-8")
    with pytest.raises(ValueError, match="mine.tsv, line 2: column 'meaning' is empty"):
        tables.read(file, ["word", "meaning"])


@pytest.fixture(scope="module")
def vectors():
    return models.word_vectors("glove-wiki-gigaword-100", quiet=True)


def test_exercise_checks_accept_right_answers(vectors, capsys):
    lesson01.nearest(lambda v: vectors.similar_by_vector(v, topn=1)[0][0], vectors)
    lesson01.odd_one_out(vectors.doesnt_match, vectors)
    lesson01.multiply(
        lambda a, b, c: vectors.most_similar_cosmul(positive=[b, c], negative=[a])[0][0], vectors
    )
    assert capsys.readouterr().out.count("Right:") == 3


def test_exercise_checks_say_what_is_wrong(vectors, capsys):
    lesson01.nearest(lambda v: ..., vectors)
    lesson01.nearest(lambda v: vectors.index_to_key[(vectors.vectors @ v).argmax()], vectors)
    lesson01.odd_one_out(lambda words: words[0], vectors)
    lesson01.multiply(lambda a, b, c: 1 / 0, vectors)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Not yet written: nearest for vectors['ocean'] should give 'ocean'")
    assert "it should be" in said[1] and "it should be 'ocean'" in said[2]
    assert "ZeroDivisionError" in said[3]
