"""The teacher's guide: a page for each lesson, with its predictions, minutes and figures."""

import csv
import re

import books
import guide
import lessons
import pytest

NUMBERS = [p.name[:2] for p in books.LESSONS]
HEADINGS = [
    "What the class will be able to do",
    "Minutes",
    "Before each prediction",
    "Where it breaks",
    "To discuss",
    "An exam question",
]


def page(number):
    return (guide.GUIDE / f"{number}.md").read_text(encoding="utf-8")


def predictions(number):
    """The heading of the section of each Predict first, in order."""
    heading, found = None, []
    for cell in books.read(books.path(number)).cells:
        if cell.cell_type == "markdown":
            for part in re.split(r"(?m)^(?=## )|(?=\*\*Predict first)", cell.source):
                if part.startswith("## "):
                    heading = part.splitlines()[0][3:].strip()
                if part.startswith("**Predict first"):
                    found.append(heading)
    return found


@pytest.mark.parametrize("number", NUMBERS)
def test_a_page_speaks_of_every_prediction(number):
    text = page(number)
    assert re.findall(r"(?m)^## (.*)$", text) == HEADINGS
    part = text.split("## Before each prediction")[1].split("## Where it breaks")[0]
    heads = re.findall(r"(?m)^### (.*)$", part)
    wanted = predictions(number)
    assert len(heads) == len(wanted), (heads, wanted)
    assert all(head.startswith(section) for head, section in zip(heads, wanted, strict=True)), (heads, wanted)
    for entry in re.split(r"(?m)^### ", part)[1:]:
        assert all(word in entry for word in ("**Say**", "**Expect**", "**Then**")), entry[:60]
    points = re.findall(r"(?m)^- (?:\([a-z]\) )?(\d+)(?: points?\b|:)", text.split("**Marking**")[1])
    assert sum(map(int, points)) == 10, points


@pytest.mark.parametrize("number", NUMBERS)
def test_every_figure_of_a_page_stands_in_its_lesson(number):
    book = books.read(books.path(number))
    shown = "\n".join([*(c.source for c in book.cells), *map(books.said, books.code(book))])
    decimals = lambda text: {n.lstrip("0") for n in re.findall(r"(?<![\w.])\d*\.\d+(?!\w)", text)}
    assert decimals(page(number).split("## An exam question")[0]) - decimals(shown) == set()


def test_the_minutes_are_those_of_the_notebooks_and_of_the_measured_cells():
    """The tables follow from docs/guide/seconds.tsv and the prose; a section that is new was never measured."""
    with guide.SECONDS.open(encoding="utf-8", newline="") as file:
        measured = {(row["lesson"], row["section"]) for row in csv.DictReader(file, delimiter="\t")}
    seconds = guide.kept()
    for path in books.LESSONS:
        number = path.name[:2]
        for section in guide.sections(books.read(path)):
            assert (number, section) in measured, (
                f"run: python site/guide.py --measure {number} ({section} is new)"
            )
        assert guide.table(path, seconds).strip() in page(number), f"run: make guide ({number})"


def test_every_section_is_measured_once_and_the_sum_is_the_sum():
    path = books.path("03")
    parts = guide.sections(books.read(path))
    text = "".join(cell_text for cells in parts.values() for cell_text, _ in cells)
    for cell in books.read(path).cells:
        assert cell.source.split("## References")[0].strip()[:200] in text or "## References" in cell.source
    rows = [line.split("|")[1:-1] for line in guide.table(path, {}).splitlines() if line.startswith("| ")][1:]
    total = int(rows[-1][-1].strip(" *"))
    assert abs(total - sum(int(row[-1].strip(" *")) for row in rows[:-2])) <= len(rows) / 2


def test_the_plans_fit_their_time():
    """A day has at most 360 minutes of teaching; what a plan names exists."""
    text = (guide.GUIDE / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (guide.GUIDE / link).resolve().exists(), link
    day = text.split("## A day")[1].split("## A week")[0]
    minutes = [int(n) for n in re.findall(r"(?m)^\|[^|]*\|\s*(\d+)\s*\|", day)]
    assert not minutes or sum(minutes) <= 2 * 360


def test_a_lesson_that_is_not_there_is_one_sentence():
    for wrong in (["42"], ["03", "3"], ["all"]):
        with pytest.raises(ValueError, match="no lesson (42|3|all): give two digits each, from 00 to 17"):
            lessons.named(wrong)
    assert [p.name[:2] for p in lessons.named(["07", "03"])] == ["03", "07"]
    assert (
        lessons.named([]) == books.LESSONS
        and [lessons.solution(p) for p in books.LESSONS[1:]] == books.SOLUTIONS
    )
