"""Small things: imports stay light, figures carry their text, exercises judge fairly."""

import subprocess
import sys

import numpy as np
import pytest

from helpers import ROOT, exercises, figures, models


def test_importing_helpers_loads_nothing_heavy():
    code = (
        "import sys\nimport helpers, helpers.models, helpers.data, helpers.figures\n"
        "import helpers.exercises, helpers.hub\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'gensim', 'matplotlib',\n"
        "         'seaborn', 'pandas', 'sklearn', 'datasets', 'scipy', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_helpers_do_not_import_in_circles_nor_what_stands_above_them():
    for file in (ROOT / "helpers").glob("*.py"):
        text = file.read_text()
        assert "recipes" not in text.replace("models/recipes", "") and "import tests" not in text
    order = ["__init__", "hub", "models", "data", "figures", "exercises"]
    for place, name in enumerate(order):
        text = (ROOT / "helpers" / f"{name}.py").read_text()
        for later in order[place + 1 :]:
            assert f"import {later}" not in text and f"helpers.{later} import" not in text


def test_show_displays_a_png_with_alt_text(monkeypatch):
    import IPython.display
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    seen = {}
    monkeypatch.setattr(IPython.display, "display",
                        lambda bundle, metadata, raw: seen.update(bundle=bundle, metadata=metadata))  # fmt: skip
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


@pytest.fixture(scope="module")
def vectors():
    return models.word_vectors("glove-wiki-gigaword-100", quiet=True)


def test_exercise_checks_accept_right_answers(vectors, capsys):
    exercises.lesson01_nearest(lambda v: vectors.similar_by_vector(v, topn=1)[0][0], vectors)
    exercises.lesson01_odd_one_out(vectors.doesnt_match, vectors)
    exercises.lesson01_multiply(
        lambda a, b, c: vectors.most_similar_cosmul(positive=[b, c], negative=[a])[0][0], vectors
    )
    assert capsys.readouterr().out.count("Right:") == 3


def test_exercise_checks_say_what_is_wrong(vectors, capsys):
    exercises.lesson01_nearest(lambda v: ..., vectors)
    exercises.lesson01_nearest(
        lambda v: vectors.index_to_key[(vectors.vectors @ v).argmax()], vectors
    )
    exercises.lesson01_odd_one_out(lambda words: words[0], vectors)
    exercises.lesson01_multiply(lambda a, b, c: 1 / 0, vectors)
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Not yet written: nearest for vectors['ocean'] should give 'ocean'")
    assert "it should be" in said[1] and "it should be 'ocean'" in said[2]
    assert "ZeroDivisionError" in said[3]
