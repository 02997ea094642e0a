"""Lead a lesson's terms to docs/glossary.md: the first time that each of them stands in its prose."""

import re
from pathlib import Path

import nbformat

PAGE = Path(__file__).resolve().parent.parent / "docs" / "glossary.md"
# what is no running prose: code, formulas, links, HTML, headings, table rows
PROTECTED = re.compile(
    r"(```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$|!?\[[^\]]*\]\([^)]*\)|<[^>\n]+>|^#.*?$|^\|.*?$)",
    re.M | re.S,
)


def terms() -> dict[str, tuple[str, list[str]]]:
    """heading -> (its anchor, all spellings), in the glossary's order."""
    found = {}
    for part in re.split(r"(?m)^## ", PAGE.read_text(encoding="utf-8"))[1:]:
        heading = part.splitlines()[0].strip()
        also = re.search(r"Also written: (.*?)\.?$", part, re.M)
        spellings = [heading, *(re.split(r",\s*", also[1]) if also else [])]
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found[heading] = (anchor, [s.strip("`* ") for s in spellings])
    return found


def spelling(words: str) -> str:
    """A pattern for words that a line may part."""
    return r"\s+".join(map(re.escape, words.split()))


def linked(text: str, open_terms: dict, page: str) -> str:
    """Text with a link at the first place of each open term, which is then closed."""
    parts = PROTECTED.split(text)
    for place in range(0, len(parts), 2):  # the odd ones are protected
        for heading, (anchor, spellings) in list(open_terms.items()):
            every = "|".join(spelling(s) for s in sorted(spellings, key=len, reverse=True))
            found = re.search(rf"(?<![\w@/-])(?:{every})(?:e?s)?(?![\w@/-])", parts[place], re.I)
            if found and "\0" not in found[0]:
                link = f"\0{len(open_terms)}\0"
                open_terms.pop(heading)
                parts[place] = parts[place][: found.start()] + link + parts[place][found.end() :]
                parts.append((link, f"[{found[0]}]({page}#{anchor})"))
    text = "".join(part for part in parts if isinstance(part, str))
    for link, full in (part for part in parts if not isinstance(part, str)):
        text = text.replace(link, full)
    return text


def link(book: nbformat.NotebookNode, page: str = "../docs/glossary.md") -> set[str]:
    """Link a lesson's terms in place, first use of each. Returns the headings that it links to."""
    open_terms = terms()
    every = set(open_terms)
    for cell in book.cells:
        if cell.cell_type == "markdown" and "quiz" not in cell.metadata.get("tags", []):
            prose, references = [*re.split(r"(?m)^(?=## References)", cell.source, maxsplit=1), ""][:2]
            cell.source = linked(prose, open_terms, page) + references
    return every - set(open_terms)
