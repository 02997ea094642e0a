"""The minutes in the teacher's guide: python site/guide.py [--measure] [03 ...]

`--measure` runs the lessons and writes what their sections took to docs/guide/seconds.tsv (as long as the
lessons take, and on a machine that does nothing else). Without it, the tables in docs/guide/NN.md are
written again from that file and from the notebooks' prose; running it twice changes nothing.
"""

import argparse
import csv
import re
import sys
from datetime import datetime
from pathlib import Path

import lessons
import nbformat

ROOT = lessons.ROOT
GUIDE = ROOT / "docs" / "guide"
SECONDS = GUIDE / "seconds.tsv"
WORDS_A_MINUTE = 200  # of prose read with care, aloud or alone
LINES_A_MINUTE = 30  # of code
OUTPUT_SECONDS = 10  # to look at a printed result
FIGURE_SECONDS = 30
PREDICTION_SECONDS = 60  # to think, write the guess down and compare
EXERCISE_MINUTES = 6  # a warm-up takes less, a graded one more
QUESTION_SECONDS = 60
TABLE = re.compile(r"(?s)(?<=<!-- minutes -->\n).*?(?=<!-- end of minutes -->)")


def sections(book: nbformat.NotebookNode) -> dict[str, list[tuple[str, nbformat.NotebookNode]]]:
    """A lesson's sections by heading, each a list of (text, cell): a Markdown cell is parted at its headings."""
    found: dict[str, list] = {"Opening": []}
    heading = "Opening"
    for cell in book.cells:
        parts = re.split(r"(?m)^(?=## )", cell.source) if cell.cell_type == "markdown" else [cell.source]
        for part in parts:
            if cell.cell_type == "markdown" and part.startswith("## "):
                heading = part.splitlines()[0][3:].strip()
                found.setdefault(heading, [])
            if part.strip():
                found[heading].append((part, cell))
    return {name: cells for name, cells in found.items() if cells and name != "References"}


def reading_seconds(name: str, cells: list) -> float:
    """What a section takes to read, to predict and to look at, without its cells' running."""
    if name == "Questions":
        return QUESTION_SECONDS * len(re.findall(r"(?m)^(?:<br>)?\*\*\d+\.\*\*", cells[0][0]))
    total = 0.0
    for text, cell in cells:
        if cell.cell_type == "markdown":
            total += 60 * len(text.split()) / WORDS_A_MINUTE
            total += PREDICTION_SECONDS * text.count("**Predict first")
            if name == "Exercises":
                total += 60 * EXERCISE_MINUTES * len(re.findall(r"(?m)^\*\*\d+ · ", text))
        elif name != "Exercises":
            total += 60 * len(text.splitlines()) / LINES_A_MINUTE
            for output in cell.outputs:
                total += FIGURE_SECONDS if "image/png" in output.get("data", {}) else OUTPUT_SECONDS
    return total


def measure(path: Path) -> dict[str, float]:
    """Run a lesson; the seconds that the cells of each section took."""
    sys.path.insert(0, str(ROOT / "tests"))
    import execute

    return seconds_of(execute.run(path))


def seconds_of(book: nbformat.NotebookNode) -> dict[str, float]:
    """The seconds that the cells of each section took, from a notebook that was run with its times kept."""
    took: dict[str, float] = {}
    for name, cells in sections(book).items():
        took[name] = 0.0
        for _, cell in cells:
            times = cell.metadata.get("execution", {})
            if "shell.execute_reply" in times and "iopub.execute_input" in times:
                begin, end = (
                    datetime.fromisoformat(times[key].replace("Z", "+00:00"))
                    for key in ("iopub.execute_input", "shell.execute_reply")
                )
                took[name] += (end - begin).total_seconds()
    return took


def kept() -> dict[tuple[str, str], float]:
    """(lesson, section) -> seconds, from docs/guide/seconds.tsv."""
    with SECONDS.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {(row["lesson"], row["section"]): float(row["seconds"]) for row in rows}


def keep(seconds: dict[tuple[str, str], float]) -> None:
    lines = [f"{lesson}\t{section}\t{took:.0f}" for (lesson, section), took in sorted(seconds.items())]
    SECONDS.write_text("\n".join(["lesson\tsection\tseconds", *lines]) + "\n", encoding="utf-8")


def table(path: Path, seconds: dict[tuple[str, str], float]) -> str:
    """The table of a lesson's minutes as Markdown."""
    number = path.name[:2]
    lines = ["", "| section | reading, predicting, trying | cells run | minutes |", "|---|---|---|---|"]
    read_all = run_all = 0.0
    for name, cells in sections(nbformat.read(path, as_version=4)).items():
        read, run = reading_seconds(name, cells), seconds.get((number, name), 0.0)
        read_all, run_all = read_all + read, run_all + run
        lines.append(f"| {name} | {read / 60:.0f} | {span(run)} | {max(1, round((read + run) / 60))} |")
    total = round((read_all + run_all) / 60)
    lines.append(f"| **all** | {read_all / 60:.0f} | {span(run_all)} | **{total}** |")
    return "\n".join(lines) + "\n\n"


def span(seconds: float) -> str:
    """Seconds as the guide says them: at once, under a minute, or minutes."""
    if seconds < 5:
        return "at once"
    return f"{5 * round(seconds / 5)} s" if seconds < 55 else f"{seconds / 60:.0f} min"


def write(path: Path, seconds: dict[tuple[str, str], float]) -> bool:
    """Put the table into a lesson's page. Returns whether the page changed."""
    page = GUIDE / f"{path.name[:2]}.md"
    before = page.read_text(encoding="utf-8")
    after = TABLE.sub(lambda _: table(path, seconds), before)
    if after == before:
        return False
    page.write_text(after, encoding="utf-8")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="run the lessons first")
    parser.add_argument("lessons", nargs="*", help="two digits each; none means all")
    given = parser.parse_args()
    seconds = kept() if SECONDS.exists() else {}
    for path in lessons.named(given.lessons):
        if given.measure:
            number = path.name[:2]
            took = measure(path)
            seconds = {key: value for key, value in seconds.items() if key[0] != number}
            seconds |= {(number, section): value for section, value in took.items()}
            keep(seconds)
            print(f"{path.stem}: {sum(took.values()):.0f} s", flush=True)
        if write(path, seconds):
            print(f"docs/guide/{path.name[:2]}.md: written")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(str(error))
