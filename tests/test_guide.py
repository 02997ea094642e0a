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


# the figures of a Then: decimals, thousands, shares, factors; and what must stand there word by word
SAID = re.compile(r"(?<![\w.])(?:\d{1,3}(?:,\d{3})+|\d*\.\d+)(?!\w)|\b\d+(?= %| times\b)")
PHRASES = re.compile(r"from passage \d+ on|\d+ passages a second")
QUOTED = {  # a Then that quotes an earlier section of its lesson -> that section
    ("05", "What each score is told: the gradient"): "A batch of four",
    ("05", "Temperature"): "A real batch",
    ("09", "A small BERT from nothing · 1"): "The line to beat",
    ("10", "4 · Multiple negatives ranking"): "3 · Triplet loss",
}


def figures(text):
    """All numbers of a text, thousands with or without their comma."""
    return {float(n.replace(",", "")) for n in re.findall(r"(?<![\w.])(?:\d+(?:,\d{3})*\.?\d*|\.\d+)", text)}


def strangers(number, text):
    """(entry, figure) for each figure after **Then** that its section of the lesson and the next do not have."""
    parts = guide.sections(books.read(books.path(number)))
    names, found = list(parts), []
    shown = {
        name: "\n".join(books.said(cell) if cell.cell_type == "code" else part for part, cell in cells)
        for name, cells in parts.items()
    }
    for entry in re.split(r"(?m)^### ", text.split("## Before each prediction")[1].split("\n## ")[0])[1:]:
        head, then = entry.splitlines()[0], entry.split("**Then**")[1]
        at = next(i for i, name in enumerate(names) if head.startswith(name))
        read = [*names[at : at + 2], QUOTED.get((number, head))]
        text_read = "\n".join(shown[name] for name in read if name)
        has = figures(text_read)
        found += [(head, n) for n in SAID.findall(then) if float(n.replace(",", "")) not in has]
        found += [(head, phrase) for phrase in PHRASES.findall(then) if phrase not in text_read]
    return found


@pytest.mark.parametrize("number", NUMBERS)
def test_every_figure_after_a_prediction_stands_in_its_section(number):
    """In what its cells printed or its prose says; the section after it counts too, and those of QUOTED."""
    assert strangers(number, page(number)) == []


def test_a_figure_of_another_section_or_an_old_one_is_found():
    for number, was, now in (
        ("03", "from passage 1 on", "from passage 2 on"),
        ("04", "3.4 times", "3.5 times"),
        ("06", "The gain is 0.032", "The gain is 0.031"),
        ("13", "41 passages a second", "30 passages a second"),
        ("13", "67,228", "91,516"),
    ):
        text = page(number)
        assert was in text and len(strangers(number, text.replace(was, now))) == 1, (number, now)


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
        for saved in re.findall(r"The exercises as homework save (\d+) more", page(number)):
            assert re.search(rf"(?m)^\| Exercises \|.*\| {saved} \|$", page(number)), (
                f"{number}: {saved} minutes"
            )


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
