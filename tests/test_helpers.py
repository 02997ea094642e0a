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


def test_every_word_of_a_figure_can_be_read_on_white():
    """Coloured words are darkened to WCAG's 4.5; black, white on a dark field and all lines stay."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import to_hex

    assert figures.contrast("black") == pytest.approx(21) and figures.contrast("white") == pytest.approx(1)
    assert figures.contrast("#777777") == pytest.approx(4.48, abs=0.01)  # the example of WebAIM's checker
    fig, ax = plt.subplots()
    ax.plot([0, 1], color=figures.PINK)
    ax.set_title("a title", color=figures.ORANGE)
    ax.set_xlabel("an axis", color=figures.AMBER)
    every = [*figures.PALETTE, figures.GREY, "white"]
    words = [ax.text(0, 0, "word", color=colour) for colour in every]
    figures.darken_text(fig)
    now = {before: to_hex(text.get_color()) for before, text in zip(every, words, strict=True)}
    assert (
        now["white"] == "#ffffff"
        and now[figures.BLACK] == "#000000"
        and now[figures.BLUE] == figures.BLUE.lower()
    )
    for text in [*words[:-1], ax.title, ax.xaxis.label]:
        assert figures.contrast(text.get_color()) >= 4.5, text.get_color()
    assert ax.lines[0].get_color() == figures.PINK
    plt.close(fig)


def test_words_on_a_coloured_field_can_be_read():
    for colour in [*figures.PALETTE, figures.GREY, "white"]:
        words = figures.words_on(colour)
        assert figures.contrast(words, colour) >= 4.5, (words, colour)
    assert figures.words_on(figures.BLUE) == "white" and figures.words_on(figures.ORANGE) == "black"


# what a colour becomes for who lacks one kind of cone: Machado, Oliveira and Fernandes, 2009, severity 1
SEEN_BY = {
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "tritanope": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}


def lab(colour, eye):
    """CIE L*a*b* (D65) of an sRGB colour as an eye sees it; eye: (3, 3), on linear light."""
    channels = np.array(colour)
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(eye) @ linear, 0, 1)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ linear / [0.9505, 1, 1.089]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("eye", SEEN_BY)
def test_colours_that_stand_side_by_side_can_be_told_apart(eye):
    """CIE76 differences of the four colours, black and grey; about 2 is the least that is seen."""
    from itertools import combinations

    from matplotlib.colors import to_rgb

    colours = {c: lab(to_rgb(c), SEEN_BY[eye]) for c in [*figures.PALETTE[:4], figures.BLACK, figures.GREY]}
    for one, other in combinations(colours, 2):
        assert np.linalg.norm(colours[one] - colours[other]) > 10, (one, other)
