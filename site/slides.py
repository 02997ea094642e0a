"""Make the slides of every lesson: python site/slides.py [--out DIR] [03 ...]

A deck is made from the notebook as it is saved: title, aims, for each *Predict first* the question under
the paragraph before it and then what its cell printed, the figures, what you saw, a question for the class. nbconvert writes it as reveal.js, whose files lie
beside it, so that a deck opens without a network. Two cell tags change the choice: `slide` gives a cell
a slide of its own, `no-slide` leaves it out.
"""

import argparse
import copy
import importlib.util
import re
import shutil
import sys
from pathlib import Path

import lessons
import nbformat
import quiz
from nbconvert import SlidesExporter
from traitlets.config import Config

ROOT = lessons.ROOT
OUT = ROOT / "site" / "_build" / "html" / "slides"
FEWEST, MOST = 12, 20  # slides a lesson
CODE_LINES = 12
LINES = 18  # of code and output together on one slide
LONG = 560  # signs of prose, a list's item as 70 more, from which a slide takes the smaller size
BEFORE = 560  # signs of the paragraph before a question, up to which it stands on the question's slide
NUMBER = re.compile(r"\d*\.\d+|\d{2,}")
SAYS_NOTHING = re.compile(r"(?i): the original|: a stand-in|\bseconds\b.*$|^<IPython")
NO_PREDICTION = ("Exercises", "Questions", "What you saw", "References")
PREDICT = "**Predict first"
markdown, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def is_figure(output) -> bool:
    return "image/png" in output.get("data", {})


def text_of(output) -> str:
    return output.get("text") or output.get("data", {}).get("text/plain", "")


def prose(text: str, look: str = "") -> nbformat.NotebookNode:
    """A slide's prose; much of it takes the smaller size. Links lead to the course's pages; a file that is none has none."""
    text = re.sub(r"\]\((?!https?:)(\w[^)]*)\.ipynb", r"](../notebooks/\1.html", text)
    text = re.sub(r"\]\(\.\./([^)]*)\.md", r"](../\1.html", text)
    text = re.sub(r"\[([^\]]*)\]\(\.\./(?![^)]*\.html)[^)]*\)", r"\1", text)
    look = "long" if look != "before" and len(text) + 70 * text.count("\n- ") > LONG else look
    return markdown(f'<div class="{look}">\n\n{text}\n\n</div>' if look else text)


def height(output) -> int:
    """How many lines a printed output or a table takes on a slide; a row of a table is taller."""
    table = output.get("data", {}).get("text/html", "")
    if "<table" in table:
        return round(1.35 * table.count("<tr"))
    return len(text_of(output).rstrip("\n").splitlines())


def shortened(output, lines: int):
    """An output cut to a number of lines; the last says that there is more."""
    table = output.get("data", {}).get("text/html", "")
    if "<table" in table:
        rows = re.findall(r"(?s)[ \t]*<tr.*?</tr>\n?", table)
        for row in rows[max(int(lines / 1.35) - 1, 2) :]:
            table = table.replace(row, "", 1)
        output.data["text/html"] = table + "<p>… the rest is in the lesson</p>"
        return output
    rows = text_of(output).splitlines()
    cut = "\n".join([*rows[: max(lines - 1, 1)], "… the rest is in the lesson"]) + "\n"
    return nbformat.v4.new_output("stream", name="stdout", text=cut)


def answers(cell) -> bool:
    """Does a cell print more than which model it opened or that it takes a while, or draw a figure?"""
    lines = [line for o in cell.outputs for line in (text_of(o) or "figure").splitlines()]
    return any(line.strip() and not SAYS_NOTHING.search(line) for line in lines)


def shown(outputs: list, lines: int) -> list:
    """A cell's printed outputs, cut to a number of lines; its figures have slides of their own."""
    kept = []
    for output in outputs:
        if is_figure(output) or not text_of(output).strip() or lines <= 0:
            continue
        tall = height(output)
        kept.append(shortened(copy.deepcopy(output), lines) if tall > lines else output)
        lines -= tall
    return kept


def result(heading: str, cell, seen: str) -> list:
    """The slide of one cell: its code where that is short, what it printed, and what is seen in it."""
    rows = len(cell.source.splitlines())
    outputs = shown(cell.outputs, LINES)
    short = rows <= CODE_LINES and rows + sum(height(o) for o in outputs) <= LINES
    body = code(cell.source, outputs=outputs, execution_count=cell.execution_count)
    slide = [markdown(f"## {heading}"), body]
    if not short:
        body.metadata["tags"] = ["remove-input"]
        if sum(height(o) for o in outputs) <= 8:  # alone on its slide, it is printed larger
            slide = [markdown(f'## {heading}\n\n<div class="alone"></div>'), body]
    room = LINES - rows * short - sum(height(o) for o in outputs)
    if len(seen) < 95 * (room - 1) * 0.75:
        slide.append(prose(seen, "seen"))
    return slide


def figure(cell) -> list:
    outputs = [o for o in cell.outputs if is_figure(o)]
    return [code("", outputs=outputs, execution_count=1, metadata={"tags": ["remove-input"]})]


def said_of(cell, outputs: list) -> str:
    """The first paragraph after a cell if it speaks of what the cell printed: if it names a number of it."""
    if cell.cell_type != "markdown" or cell.source.startswith(("#", "**Predict", "- ", "|")):
        return ""
    paragraph = first_paragraph(cell.source)
    numbers = set(NUMBER.findall(" ".join(map(text_of, outputs))))
    return paragraph if numbers & set(NUMBER.findall(paragraph)) else ""


def first_paragraph(text: str) -> str:
    return re.split(r"\n\s*\n", text.strip())[0]


def slides(number: str, book: nbformat.NotebookNode) -> list[list]:
    """The slides of a lesson, "03", each a list of cells; FEWEST to MOST of them."""
    opening = book.cells[0].source
    title, rest = opening.split("\n", 1)
    aims = re.search(r"(?s)\*\*You will be able to\*\*\s*(.*?)\n\s*\n", rest)[1]
    notes = said_by_the_guide(number)
    how = f"[The lesson](../notebooks/{lessons.one(number).stem}.html) · arrow keys turn the slides, S opens the notes"
    deck = [
        [
            1,
            [
                markdown(title),
                markdown(f'<div class="opening">\n\n{first_paragraph(rest)}\n\n</div>'),
                prose(how, "how"),
            ],
        ]
    ]
    deck.append([1, [prose("## You will be able to\n\n" + aims)]])
    heading, waits = "", False
    for cell, after in zip(book.cells[1:], [*book.cells[2:], markdown("")], strict=True):
        if "no-slide" in tags(cell):
            continue
        if cell.cell_type == "markdown":
            for part in re.split(r"(?m)^(?=## )", cell.source):
                if part.startswith("## "):
                    heading, waits = part.splitlines()[0][3:], False
                if heading in NO_PREDICTION:
                    if heading == "What you saw" and part.startswith("## "):
                        deck.append([1, [prose(part)]])
                    continue
                if found := prediction(part):
                    before, question = found
                    slide = [markdown(f"## {heading}"), prose(question, "guess under" if before else "guess")]
                    if before:
                        slide.insert(1, prose(before, "before"))
                    if notes:
                        slide.append(markdown(notes.pop(0), metadata={"notes": True}))
                    deck.append([1, slide])
                    waits = True
        elif heading not in NO_PREDICTION:
            pictures = any(is_figure(o) for o in cell.outputs)
            if (waits or "slide" in tags(cell)) and answers(cell) and shown(cell.outputs, LINES):
                deck.append([1, result(heading, cell, said_of(after, cell.outputs))])
            if pictures:
                first = waits or {"picture", "slide"} & set(tags(cell))
                deck.append([1 if first else 2, figure(cell)])
            waits = waits and not answers(cell)
    asked = questions(number, max(1, FEWEST - len(deck)))
    for rank, slide in reversed(deck):
        if len(deck) + len(asked) > MOST and rank > 1:
            deck.remove([rank, slide])
    return [slide for _, slide in deck] + asked


def said_by_the_guide(number: str) -> list[str]:
    """What the teacher's guide says before each prediction of a lesson, in order: for the speaker's notes."""
    page = ROOT / "docs" / "guide" / f"{number}.md"
    part = page.read_text(encoding="utf-8").split("## Before each prediction")[1].split("\n## ")[0]
    return [entry.split("\n", 1)[1].strip() for entry in re.split(r"(?m)^### ", part)[1:]]


def prediction(part: str) -> tuple[str, str] | None:
    """A prediction in a piece of a lesson: (what is said before it, its question with a list that follows).

    What is said before is the beginning of its own paragraph, or else the paragraph before, a list with
    the one that leads to it; "" where there is none, or where it is too long for a slide.
    """
    paragraphs = re.split(r"\n\s*\n", part.strip())
    at = next((i for i, text in enumerate(paragraphs) if PREDICT in text), None)
    if at is None:
        return None
    before, question = paragraphs[at].split(PREDICT, 1)
    if not before.strip() and at > 0:
        before = paragraphs[at - 1]
        if before.startswith("- ") and at > 1:
            before = paragraphs[at - 2] + "\n\n" + before
    question = PREDICT + question
    if len(paragraphs) > at + 1 and paragraphs[at + 1].startswith("- "):
        question += "\n\n" + paragraphs[at + 1]
    if before.startswith(("#", "|", "<", "!", "```", "$$")):
        before = ""
    seen = len(re.sub(r"\]\([^)]*\)", "]", before)) + 70 * before.count("\n- ")
    return (before.strip() if seen + max(0, len(question) - 300) <= BEFORE else ""), question


def questions(number: str, many: int) -> list[list]:
    """Slides with a lesson's questions for the class; the answer is in the speaker's notes (key S)."""
    made = []
    for question, options in list(zip(quiz.questions(number), quiz.options(number), strict=True))[:many]:
        letters = [f"**{letter}.** {says}\n" for letter, (says, *_) in zip("ABCD", options, strict=False)]
        right = "ABCD"[[is_right for *_, is_right in options].index(True)]
        notes = markdown(f"{right} is right. {question['because']}", metadata={"notes": True})
        text = "\n".join([f"{question['asks']}\n", *letters])
        made.append([markdown("## A question"), markdown(f'<div class="asked">\n\n{text}\n\n</div>'), notes])
    return made


def deck(path: Path) -> nbformat.NotebookNode:
    """The notebook of a lesson's slides."""
    cells = []
    for slide in slides(path.name[:2], nbformat.read(path, as_version=4)):
        for place, cell in enumerate(slide):
            kind = "notes" if cell.metadata.pop("notes", False) else "-" if place else "slide"
            cell.metadata["slideshow"] = {"slide_type": kind}
            cells.append(cell)
    for number, cell in enumerate(cells):
        cell["id"] = f"slide-{number:03}"
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    title = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]
    metadata["title"] = title.strip("# ").replace("*", "")
    metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def build(out: Path, numbers: list[str]) -> None:
    """Write a page of slides for each lesson to `out`. Raises ValueError for a lesson that is not there."""
    chosen = lessons.named(numbers)
    settings = Config()
    settings.TagRemovePreprocessor.enabled = True
    settings.TagRemovePreprocessor.remove_input_tags = {"remove-input"}
    exporter = SlidesExporter(
        config=settings,
        template_name="slides_template",
        extra_template_basedirs=[str(ROOT / "site")],
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        reveal_url_prefix="_static/reveal",
        reveal_theme="white",
    )
    files = out / "_static"
    package = Path(importlib.util.find_spec("sphinx_revealjs").origin).parent / "_static" / "revealjs"
    for part in ("dist", "plugin/notes"):
        shutil.copytree(package / part, files / "reveal" / part, dirs_exist_ok=True)
    shutil.copy(ROOT / "site" / "_static" / "slides.css", files)
    (files / "lab").mkdir(exist_ok=True)
    lab = next(Path(p) for p in exporter.template_paths if (Path(p) / "static" / "theme-light.css").exists())
    for name in ("index.css", "theme-light.css"):
        shutil.copy(lab / "static" / name, files / "lab")
    for path in chosen:
        page, _ = exporter.from_notebook_node(deck(path))
        (out / f"{path.stem}.html").write_text(page, encoding="utf-8")
    print(f"slides: open {out / chosen[0].stem}.html")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="where the pages go (site/_build/html/slides)")
    parser.add_argument("lessons", nargs="*", help="two digits each; none means all")
    given = parser.parse_args()
    try:
        build(given.out, given.lessons)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
