"""The map of the house is what the code says, and arrows point one way."""

import books
import house


def test_the_map_in_contributing_is_drawn_from_the_code():
    page = house.PAGE.read_text(encoding="utf-8")
    drawn = page.partition(house.BEGIN)[2].partition(house.END)[0].strip()
    assert drawn == house.drawing(), "the map is old: run  python tests/house.py"


def test_helpers_import_no_recipe_notebook_or_test_and_not_in_circles():
    house.graph()
    for name, path in house.MODULES.items():
        text = house.source(path)
        assert "recipes import" not in text and "import books" not in text, name


def test_every_module_says_its_idea():
    for name, path in house.MODULES.items():
        assert len(house.idea(path)) > 20, f"helpers/{name}.py: its docstring's first line says nothing"


def test_imports_are_found_wherever_they_are(tmp_path):
    file = tmp_path / "some.py"
    file.write_text(
        "import helpers.models\nfrom helpers import data, figures as f\n"
        "def g():\n    from helpers.pooling import mean_pool\n",
        encoding="utf-8",
    )
    assert house.imports(file) == {"models", "data", "figures", "pooling"}
    assert "models" in house.imports(books.path("03"))
