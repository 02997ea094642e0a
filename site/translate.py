"""Lessons in other languages: python site/translate.py {update,build,status} LANG [03 ...]

The prose of a lesson is a gettext file, `translations/LANG/NN_name.po`, one entry a paragraph; code and
outputs are the English lesson's own. `update` writes the file or brings it up to date: a paragraph that
changed keeps its old translation, marked fuzzy, beside the old text, until somebody reads it again.
`build` writes notebooks/LANG/, `status` says what is missing. A paragraph without a translation, or with
a fuzzy one, stands in English.
"""

import argparse
import re
import sys
from pathlib import Path

import lessons
import nbformat
import polib

ROOT = lessons.ROOT
FOLDER = ROOT / "translations"
FENCE = re.compile(r"(?ms)^(```.*?^```|\$\$.*?\$\$)[ \t]*$")
BLANK = re.compile(r"\n[ \t]*\n+")


def paragraphs(text: str) -> list[str]:
    """A cell's paragraphs; a block of code or a formula between blank lines stays whole."""
    kept = FENCE.sub(lambda found: found[0].replace("\n\n", "\n\0\n"), text)
    return [part.replace("\n\0\n", "\n\n") for part in BLANK.split(kept) if part.strip()]


def entries(path: Path) -> dict[str, list[str]]:
    """The paragraphs of a lesson's prose, each with the ids of its cells, in reading order."""
    found: dict[str, list[str]] = {}
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            for part in paragraphs(cell.source):
                found.setdefault(part, []).append(cell.id)
    return found


def po_path(path: Path, language: str) -> Path:
    return FOLDER / language / f"{path.stem}.po"


def opened(path: Path, language: str) -> polib.POFile:
    """The translation of a lesson. Raises FileNotFoundError, ValueError where it is no gettext file."""
    file = po_path(path, language)
    if not file.exists():
        raise FileNotFoundError(
            f"{file.relative_to(ROOT)} is not there: `python site/translate.py update {language} "
            f"{path.name[:2]}` makes it"
        )
    try:
        return polib.pofile(str(file), wrapwidth=100, check_for_duplicates=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"{file.relative_to(ROOT)} cannot be read: {error}") from None


def update(path: Path, language: str) -> polib.POFile:
    """Write the file of a lesson anew from its English; what was translated stays."""
    now = entries(path)
    template = polib.POFile(wrapwidth=100)
    for text, cells in now.items():
        template.append(polib.POEntry(msgid=text, comment=" ".join(cells)))
    file = po_path(path, language)
    if file.exists():
        old = opened(path, language)
        gone = [e for e in old if e.msgid not in now and e.msgstr]
        known = {e.msgid: e for e in old}
        for entry in template:
            before = known.get(entry.msgid) or closest(entry, gone, now)
            if before is not None:
                entry.msgstr = before.msgstr
                if before.msgid != entry.msgid:
                    entry.flags, entry.previous_msgid = ["fuzzy"], before.msgid
                else:
                    entry.flags, entry.previous_msgid = before.flags, before.previous_msgid
    template.metadata = {"Language": language, "Content-Type": "text/plain; charset=UTF-8"}
    file.parent.mkdir(parents=True, exist_ok=True)
    template.save(str(file))
    return template


def closest(entry: polib.POEntry, gone: list, now: dict) -> polib.POEntry | None:
    """The translated paragraph that this one was before: of the same cell and alike."""
    from difflib import SequenceMatcher

    alike = [
        (SequenceMatcher(None, e.msgid, entry.msgid).ratio(), e)
        for e in gone
        if set(e.comment.split()) & set(entry.comment.split())
    ]
    best = max(alike, key=lambda pair: pair[0], default=(0, None))
    return best[1] if best[0] > 0.5 else None


def stale(path: Path, language: str) -> list[str]:
    """One line for each paragraph whose translation is missing, old, or of a text that is gone."""
    now, known = entries(path), {e.msgid: e for e in opened(path, language)}
    lines = []
    for text, cells in now.items():
        entry = known.get(text)
        if entry is None:
            said = "is new or has changed since"
        elif not entry.msgstr:
            said = "has no translation"
        elif entry.fuzzy:
            said = "has changed since: its translation is of an older text"
        else:
            continue
        lines.append(f"{path.stem}, cell {cells[0]}: “{text[:60]}…” {said}")
    lines += [f"{path.stem}: “{text[:60]}…” is no longer there" for text in known if text not in now]
    return lines


def translated(path: Path, language: str) -> nbformat.NotebookNode:
    """The lesson with its prose in another language; code and outputs are as they are."""
    known = {e.msgid: e.msgstr for e in opened(path, language) if e.msgstr and not e.fuzzy}
    book = nbformat.read(path, as_version=4)
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = "\n\n".join(known.get(part, part) for part in paragraphs(cell.source))
    return book


def from_one_deeper(book: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Links of a notebook that lies one folder deeper than the lesson it was made from."""
    for cell in book.cells:
        if cell.cell_type == "markdown":
            cell.source = re.sub(r"(?<=\]\()(?!https?:|#|mailto:)(?=[^)]+\))", "../", cell.source)
    return book


def languages() -> dict[str, list[Path]]:
    """For each language the lessons that have a file."""
    return {
        folder.name: [lessons.one(p.name[:2]) for p in sorted(folder.glob("*.po"))]
        for folder in sorted(FOLDER.glob("*"))
        if folder.is_dir()
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["update", "build", "status"])
    parser.add_argument("language", help="its code, for example de")
    parser.add_argument("lessons", nargs="*", help="two digits each; none means those that have a file")
    given = parser.parse_args(arguments)
    if not re.fullmatch(r"[a-z]{2,3}(_[A-Z]{2})?", given.language):
        raise ValueError(f"{given.language} is no code of a language: give de, fr, pt_BR, …")
    chosen = (lessons.named(given.lessons) if given.lessons else []) or languages().get(given.language, [])
    if not chosen:
        raise ValueError(
            f"no lesson in {given.language} yet: name one, for example `update {given.language} 00`"
        )
    for path in chosen:
        if given.what == "update":
            file = update(path, given.language)
            print(f"{path.stem}: {file.percent_translated()} % of {len(file)} paragraphs")
        elif given.what == "status":
            lines = stale(path, given.language)
            print("\n".join(lines) or f"{path.stem}: all paragraphs are translated")
        else:
            target = ROOT / "notebooks" / given.language / path.name
            target.parent.mkdir(exist_ok=True)
            nbformat.write(from_one_deeper(translated(path, given.language)), target)
            print(f"{target.relative_to(ROOT)}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(str(error))
