"""Write each lesson's questions into its notebook: python site/quiz.py [03 ...]

The questions are in shared_data/quiz/NN.toml. They become one Markdown cell with the tag `quiz`, so that
they read alike in JupyterLab, on the site and in a text view, and need no kernel: each option opens with
a click, or with the Enter key, and says what it confuses.
"""

import hashlib
import sys
import tomllib
from pathlib import Path

import lessons
import nbformat
from markdown_it import MarkdownIt

ROOT = lessons.ROOT
BEFORE = ("## Exercises", "## What you saw")  # the first of these that a lesson has
INTRO = "Choose first, then open your choice: it says whether it is right and, if not, what it confuses."
inline = MarkdownIt("commonmark").renderInline


def questions(number: str) -> list[dict]:
    """A lesson's questions: asks, right, because, cell and shows (its evidence), wrong.

    Raises FileNotFoundError, and ValueError where the file is no TOML or a field is missing.
    """
    file = ROOT / "shared_data" / "quiz" / f"{number}.toml"
    try:
        found = tomllib.loads(file.read_text(encoding="utf-8"))["question"]
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise ValueError(f"{file.name}: {error}") from None
    for place, question in enumerate(found, 1):
        missing = {"asks", "right", "because", "cell", "shows", "wrong"} - set(question)
        if missing:
            raise ValueError(f"{file.name}, question {place}: no {', '.join(sorted(missing))}")
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in question["wrong"]):
            raise ValueError(f"{file.name}, question {place}: give each wrong answer with what it confuses")
    return found


def scattered(items: list, seed: str) -> list:
    """Items in an order that the seed decides, the same everywhere."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed} {item}".encode()).digest())


def options(number: str) -> list[list[tuple[str, str, bool]]]:
    """For each question of a lesson its options: (what it says, its explanation, whether it is right).

    The right one stands at each place about equally often in a lesson; the wrong ones follow by their wording.
    """
    asked = questions(number)
    places = scattered([f"{(i + 2 * int(number)) % 4}{'abcdef'[i]}" for i in range(len(asked))], number)
    found = []
    for question, place in zip(asked, places, strict=True):
        every = [(says, why, False) for says, why in scattered(question["wrong"], question["asks"])]
        every.insert(int(place[0]) % (len(every) + 1), (question["right"], question["because"], True))
        found.append(every)
    return found


def rendered(number: str) -> str:
    """The Markdown of the cell."""
    lines = ["## Questions", "", INTRO]
    for place, (question, every) in enumerate(zip(questions(number), options(number), strict=True), 1):
        lines += ["", f"{'<br>' * (place > 1)}**{place}.** {question['asks']}"]
        for letter, (says, why, right) in zip("ABCD", every, strict=False):
            lines += ["", f"<details><summary>{letter}. {inline(says)}</summary>", ""]
            lines += [f"**{'✓ Right.' if right else '✗ No.'}** {why}", "", "</details>"]
    return "\n".join(lines)


def write(path: Path) -> bool:
    """Put the questions into a lesson's notebook, before its exercises. Returns whether it changed."""
    book = nbformat.read(path, as_version=4)
    text = rendered(path.name[:2])
    for cell in book.cells:
        if "quiz" in cell.metadata.get("tags", []):
            changed, cell.source = cell.source != text, text
            break
    else:
        heads = [next((i for i, c in enumerate(book.cells) if c.source.startswith(h)), None) for h in BEFORE]
        place = next(i for i in heads if i is not None)
        cell = nbformat.v4.new_markdown_cell(text, id="questions", metadata={"tags": ["quiz"]})
        book.cells.insert(place, cell)
        changed = True
    if changed:
        nbformat.write(book, path)
    return changed


if __name__ == "__main__":
    try:
        for path in lessons.named(sys.argv[1:]):
            print(f"{path.stem}: {'written' if write(path) else 'as it was'}")
    except (ValueError, OSError) as error:
        sys.exit(str(error))
