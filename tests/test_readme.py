"""The README's table "Figures you will see" shows what the lessons' saved outputs show.

Who changes a lesson's figures changes the row of the README, and here the cell and the pattern that
finds them in what it shows, in the README's order (a group's matches first, then the next group's).
"""

import re
import statistics

import books
import pytest

FIGURES = {  # lesson: (tag of a cell, pattern) or (tag, pattern, what to make of its matches)
    "01": [("published", r"queen, (\S+)")],
    "02": [("published", r"cosine of the two +(\S+)")],
    "03": [("published", r"(?:Paris|Berlin|Madrid) +(\S+) +(\S+)")],
    "04": [("published", r"(?:raw BERT, mean|SBERT): Pearson, 50 rows +(\S+)")],
    "05": [("published", r"(?:loss|diagonal \S+ \d\.\d, rest \S+ \d\.\d\d) +(\S+)")],
    "06": [("seeds", r"(?m) \d +\d\.\d+ +(\S+) +\d\.\d+ +\d\.\d+$", lambda x: statistics.mean(x[-3:]))],
    "07": [("published", r"DPR: (?:echo|Everest sentence) +(\S+) +(\S+)")],
}


def rows() -> dict[str, list[str]]:
    """The table's two columns of figures, by lesson."""
    page = (books.ROOT / "README.md").read_text(encoding="utf-8")
    table = page.partition("## Figures you will see")[2].partition("\n\n## ")[0]
    found = re.findall(r"^\| (\d+) \| (.*) \| (.*) \|$", table, re.M)
    return {number.zfill(2): columns for number, *columns in found}


def figures(text: str) -> list[tuple[str, float, float]]:
    """Decimals and percentages of a text: as they are written, as numbers, and half of their last digit."""
    found = []
    for digits, sign in re.findall(r"(?<![\d.])(\d+\.\d+|\d+(?= %))( %)?", text):
        last = len(digits.partition(".")[2]) + 2 * bool(sign)
        found.append((digits + sign, float(digits) / (100 if sign else 1), 0.5 * 10**-last))
    return found


def shown(lesson: str) -> list[float]:
    values = []
    for tag, pattern, *make in FIGURES[lesson]:
        matches = [m.groups() for m in re.finditer(pattern, books.shown(lesson, tag))]
        columns = [float(x) for group in zip(*matches, strict=True) for x in group]
        values += [make[0](columns)] if make else columns
    return values


def test_every_row_has_its_cells():
    assert sorted(rows()) == sorted(FIGURES)


@pytest.mark.parametrize("lesson", FIGURES)
def test_the_row_is_what_the_lesson_shows(lesson):
    published, ours = rows()[lesson]
    wanted = figures(published) + figures(published if ours.startswith("the same") else ours)
    found = shown(lesson)
    assert len(found) == len(wanted) > 0, f"the row has {[w for w, *_ in wanted]}, the lesson {found}"
    for (written, value, half), number in zip(wanted, found, strict=True):
        assert abs(number - value) <= half + 1e-9, f"README: {written}; lesson {lesson}: {number}"
