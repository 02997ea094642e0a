"""Read the documents of a folder, each kind by a library made for it, and cut them into passages.

    from helpers import documents
    found, failed = documents.read("my papers")     # a list of Document; {file: what is wrong with it}
    table = documents.passages(found)               # source, title, section, page, start, end, text

Whatever the kind, a document becomes one text in Markdown, so that one cutter serves all. Whoever has
passages already brings a table instead: columns `source` and `text`, and `title`, `section`, `page` if known.
"""

import codecs
import os
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import files, tables

if TYPE_CHECKING:
    import pandas

SIZE = 128  # pieces of a passage, its heading with it: MiniLM was trained on texts of that length
HEAD = 40  # of these, the most that title and section may take
LONG = 60  # characters of a table's first cell that are still a name, not a text
COLUMNS = ["source", "title", "section", "page", "start", "end", "text"]

_UNDERLINE = re.compile(r"^([=\-~^*#\"'+`])\1{2,}$")
_TABLE = re.compile(  # its head, the line below it, its rows
    r"^[ \t]*(\|.*\|)[ \t]*\n[ \t]*\|[ \t:|-]*-[ \t:|-]*\|[ \t]*\n(?:[ \t]*\|.*(?:\n|\Z))+", re.M
)
_MARK = re.compile(r"^([ \t]*)(#|```|~~~|<|[-=](?=[-=]*[ \t]*$))", re.M)  # begins something in Markdown
_UNIT = re.compile(
    r"\n\s*\n+"  # a paragraph ends
    r"|\n(?=\s*(?:[-*+•]|\d{1,3}[.)])\s|\s*\|)"  # an item of a list, a row of a table
    r"|(?<=[.!?…])(?<!e\.g\.)(?<!i\.e\.)[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\W_a-z])"  # a sentence ends
    r"|(?<=[。！？])"
)


@dataclass(frozen=True)
class Document:
    """A document as one text. source: its path from the folder, with /; title: what it calls itself;
    text: Markdown; pages: (place in the text where it begins, number of the page), empty without pages."""

    source: str
    title: str
    text: str
    pages: tuple[tuple[int, int], ...] = ()


def listed(folder: str | Path) -> tuple[list[Path], list[Path], list[Path]]:
    """The files of a folder that have a reader, those that have none, and folders in it that may not be read.

    Hidden files and folders are in none of the three; links to folders are not followed. Sorted by their path.
    Raises FileNotFoundError, NotADirectoryError and PermissionError in one sentence.
    """
    folder = Path(folder).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder.name} is a file; name the folder that it lies in")
    try:
        next(folder.iterdir(), None)
    except PermissionError:
        raise PermissionError(
            f"the folder {folder} may not be read; ask for the right to, or copy it"
        ) from None
    there, shut = [], []
    for place, folders, names in os.walk(folder, onerror=lambda e: shut.append(Path(e.filename))):
        folders[:] = [name for name in folders if not name.startswith(".")]
        there += [Path(place) / name for name in names if not name.startswith(".")]
    there = sorted(path for path in there if _is_file(path))
    known = [path for path in there if path.suffix.lower() in READERS]
    return known, [path for path in there if path.suffix.lower() not in READERS], sorted(shut)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # it may not be asked for: whoever reads it says why
        return True


def read(folder: str | Path) -> tuple[list[Document], dict[str, str]]:
    """Every document of a folder, and what is wrong with the files that could not be read: {source: sentence}.

    A table in a folder's place is read by `from_table`. Shows its progress. Raises as `listed` and `from_table`;
    ValueError where there is no file of a known kind.
    """
    from tqdm.auto import tqdm

    if Path(folder).expanduser().is_file():
        return from_table(Path(folder).expanduser()), {}
    readable, others, shut = listed(folder)
    if not readable:
        kinds = ", ".join(READERS)
        also = f"; it has {len(others)} of other kinds" if others else ""
        raise ValueError(f"there is no file to read in {Path(folder).name}/ (kinds: {kinds}){also}")
    found = []
    failed = {
        place.relative_to(Path(folder).expanduser()).as_posix(): "the folder may not be read"
        for place in shut
    }
    for path in tqdm(readable, desc="reading", leave=False):
        source = path.relative_to(Path(folder).expanduser()).as_posix()
        try:
            found.append(document(path, source))
        except (ValueError, OSError) as e:
            failed[source] = files.sentence(e)
    return found, failed


def document(path: str | Path, source: str | None = None) -> Document:
    """One file as a document; source: the name that its passages carry (default: the file's).

    Raises ValueError in one sentence for a file that its library cannot read or that holds no text,
    and for a kind that has no reader; OSError as `open` does.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path.name}: no reader for this kind; known are {', '.join(READERS)}")
    try:
        if not path.is_file():
            raise FileNotFoundError
        if not path.stat().st_size:
            raise ValueError(f"{path.name} holds no text")
        title, text, *pages = reader(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path.name} in {path.parent.name or '.'}/") from None
    except Exception as e:  # whatever a library says of a broken file
        if isinstance(e, ValueError) and str(e).startswith(path.name):
            raise
        said = " ".join(str(e).split())[:120]
        if isinstance(e, ValueError):
            raise ValueError(f"{path.name}: {said}") from e
        if isinstance(e, OSError) and e.errno:
            raise OSError(e.errno, f"{path.name}: {e.strerror}") from e
        raise ValueError(f"{path.name} is broken ({type(e).__name__}{f': {said}' if said else ''})") from e
    if not any(sign.isalnum() for sign in text):
        raise ValueError(f"{path.name} holds no text")
    title = _line(title) or _line(path.stem)
    return Document(source or path.name, title, _clean(text), tuple(pages[0]) if pages else ())


def from_table(path: str | Path) -> list[Document]:
    """The rows of a table as documents: columns `source`, `text`, and `title`, `section`, `page` where known.

    A cell of these three may be empty; a page that is no whole number is not known. Raises as `tables.read`,
    and ValueError for a document that is no table.
    """
    import pandas

    path = Path(path)
    try:
        rows = tables.read(path, ["source", "text"], numbers=["source"], rest=True)
    except ValueError as e:
        if path.suffix.lower() in READERS and path.suffix.lower() not in (".csv", ".tsv"):
            raise ValueError(f"{path.name} is one document; name the folder it lies in") from e
        raise
    rows = rows[[name for name in ("source", "text", "title", "section", "page") if name in rows]]
    found = []
    for row in rows.to_dict("records"):
        known = {
            name: _line(str(cell))
            for name, cell in row.items()
            if pandas.api.types.is_scalar(cell) and not pandas.isna(cell)
        }
        head = f"# {known['section']}\n\n" if known.get("section") else ""
        page = re.fullmatch(r"(\d{1,9})(?:\.0+)?", known.get("page", ""))
        pages = ((0, int(page[1])),) if page else ()
        title = known.get("title") or known["source"]
        found.append(Document(row["source"], title, _clean(head + row["text"]), pages))
    return found


def _clean(text: str) -> str:
    """A text whose line ends are \\n, with a question mark for half a character, which no tokenizer takes."""
    return re.sub(r"\r\n?", "\n", text).encode("utf-8", "replace").decode()


def _line(text: str) -> str:
    return " ".join(_clean(text).split())


def _escaped(text: str) -> str:
    """Lines that are no Markdown, such that none begins or underlines a heading, a block of code or of HTML."""
    return _MARK.sub(r"\1\\\2", text)


def _fenced(code: str) -> str:
    """A block of code; what it holds does not end it."""
    fence = "`" * (max([2, *map(len, re.findall("`+", code))]) + 1)
    return f"{fence}\n{code}\n{fence}"


# ---------------------------------------------------------------- a reader for each kind


def _decoded(path: Path, declared: str | None = None) -> str:
    """A text file in whatever encoding, its line ends \\n. declared: its encoding, where it is not UTF-8."""
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = _in_another(path, content, declared)
    if "\0" in text:
        raise ValueError(f"{path.name} is no text (it holds zero bytes)")
    return _clean(text)


def _in_another(path: Path, content: bytes, declared: str | None) -> str:
    """What is not UTF-8, in the encoding that it declares, else in the likeliest."""
    try:
        named = codecs.lookup(declared or "").name
        if not named.startswith("utf"):
            web = "cp1252" if named in ("ascii", "iso8859-1") else named  # there both mean Western
            return content.decode(web, errors="replace")
    except LookupError:
        pass
    from charset_normalizer import from_bytes

    of_letters = sum(byte > 127 for byte in content) / len(content)
    best = None if of_letters < 0.1 else from_bytes(content[:200_000]).best()
    if best is None and b"\0" in content:
        raise ValueError(f"{path.name} is no text")
    return content.decode(best.encoding if best else "cp1252", errors="replace")  # Western, with few accents


def _markdown(path: Path):
    text = _decoded(path)
    head = re.match(r"\A---\n(?=[\w-]+\s*:)(.*?)\n---\n", text, re.S)  # what stands before it for machines
    text = text[head.end() :] if head else text
    named = re.search(r"^title:\s*[\"']?(.+?)[\"']?\s*$", head[1], re.M) if head else None
    return named[1] if named else _first_heading(text), text


def _first_heading(text: str) -> str:
    without_code = re.sub(r"^(`{3,}|~{3,}).*?^\1", "", text, flags=re.S | re.M)
    first = re.search(r"^#\s+(.+)$", without_code, re.M)
    return first[1].strip(" #") if first else ""


def _text(path: Path):
    """Plain text and reStructuredText: a line that is underlined, or in capitals on its own, is a heading.

    The level of an underline is that of its sign's first use, as in reStructuredText.
    """
    lines = _decoded(path).split("\n")
    found, title, signs = [], "", []
    for i, line in enumerate(lines):
        bare, following = line.strip(), lines[i + 1].rstrip() if i + 1 < len(lines) else ""
        before = lines[i - 1].strip() if i else ""
        sign = following[:1] if _UNDERLINE.match(following) and 2 * len(following) >= len(bare) else ""
        heading = bare if not line[:1].isspace() and 0 < len(bare) < 80 and not _UNDERLINE.match(bare) else ""
        if heading and sign:
            signs += [sign] if sign not in signs else []
            found.append(f"{'#' * min(2 + signs.index(sign), 6)} {bare}")
        elif heading and bare.isupper() and len(bare) > 3 and not following.strip() and not before:
            found.append(f"## {bare}")
        elif _UNDERLINE.match(line.rstrip()):
            found.append("")
            continue
        else:
            found.append(_escaped(line))
            continue
        title = title or bare
    return title.title() if title.isupper() else title, "\n".join(found)


def _from_html(html: str):
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    class Converter(MarkdownConverter):
        def escape(self, text, parent_tags):
            text = super().escape(text, parent_tags)
            return text if "_inline" in parent_tags else _escaped(text)

        def convert_pre(self, el, text, parent_tags):
            return "\n\n" + _fenced(text.strip("\n").rstrip()) + "\n\n" if text else ""

    page = BeautifulSoup(html, "html.parser")
    named = page.title.get_text(" ", strip=True) if page.title else ""
    repeated = ["title", "script", "style", "nav", "footer", "aside", "noscript", "template", "svg"]
    fields = ["input", "select", "button", "textarea"]  # a form itself may hold the whole page
    for part in page([*repeated, *fields]):
        part.decompose()
    articles = page.find_all("article")
    body = page.find("main") or (articles[0] if len(articles) == 1 else page.body or page)
    first = body.find("h1")
    title = first.get_text(" ", strip=True) if first else named
    # Word's tables name no head: their first row is taken for it, as a reader would.
    converter = Converter(heading_style="ATX", strip=["img", "a"], table_infer_header=True)
    return title, converter.convert_soup(body)


def _html(path: Path):
    from bs4.dammit import EncodingDetector

    declared = EncodingDetector.find_declared_encoding(path.read_bytes(), is_html=True)
    return _from_html(_decoded(path, declared))


def _word(path: Path):
    import mammoth

    with path.open("rb") as file:
        no_pictures = mammoth.images.img_element(lambda image: {"src": ""})
        html = mammoth.convert_to_html(
            file, style_map="p[style-name='Title'] => h1:fresh", convert_image=no_pictures
        ).value
    return _from_html(html)


def _pdf(path: Path):
    import logging

    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # its remarks on files that it reads all the same
    reader = PdfReader(path)
    if reader.is_encrypted and not reader.decrypt(""):
        raise ValueError(f"{path.name} is locked with a password; save a copy without one")
    lines = _without_running_heads(_lines_of(reader))
    text, pages = "", []
    for number, of_page in enumerate(lines, 1):
        pages.append((len(text), number))
        joined = re.sub(r"(?<=[a-zà-ž])-\n(?=[a-zà-ž])", "", "\n".join(of_page))  # hyphen- ated
        text += joined + "\n"
    if not any(sign.isalnum() for sign in text):
        raise ValueError(
            f"{path.name}: no text on its {len(lines)} pages; a scan needs text recognition first"
        )
    return (reader.metadata.title if reader.metadata else "") or "", text, pages


def _lines_of(reader) -> list[list[str]]:
    """The lines of each page; one in larger type than most of the text is a heading."""
    sizes, pages = {}, []

    def note(text, _, matrix, font, size):
        if text.strip():
            sizes[text.strip()] = round(abs(size * (matrix[3] or 1)), 1)

    for page in reader.pages:
        text = _clean(page.extract_text(visitor_text=note) or "")
        pages.append([line.strip() for line in text.strip().split("\n")])
    lines = [line for of_page in pages for line in of_page]
    letters = {}
    for line in lines:
        if size := sizes.get(line):
            letters[size] = letters.get(size, 0) + len(line)
    usual = max(letters, key=letters.get, default=0)
    larger = {line for line in lines if 0 < len(line) < 80 and sizes.get(line, 0) > 1.1 * usual > 0}
    return [[f"\n## {line}\n" if line in larger else _escaped(line) for line in of_page] for of_page in pages]


def _without_running_heads(pages: list[list[str]]) -> list[list[str]]:
    """The lines of each page without a first and a last line that stands on most pages, but for its number."""
    if len(pages) < 3:
        return pages

    def bare(line: str) -> str:
        return re.sub(r"\d+", "", line).strip()

    for place in (0, -1):
        ends = [bare(lines[place]) for lines in pages if lines]
        for end in set(ends):
            if ends.count(end) > len(pages) / 2:
                pages = [
                    lines[:place] + lines[place + 1 or len(lines) :]
                    if lines and bare(lines[place]) == end
                    else lines
                    for lines in pages
                ]
    return pages


def _notebook(path: Path):
    import nbformat

    book = nbformat.reads(_decoded(path), as_version=4)
    parts = []
    for cell in book.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
        elif cell.cell_type == "code" and cell.source.strip():
            parts.append(_fenced(cell.source))
            for output in cell.outputs:
                shown = output.get("text") or output.get("data", {}).get("text/plain", "")
                if shown and len(shown) < 2_000:
                    parts.append(_fenced(shown.strip()))
    text = "\n\n".join(parts)
    return _first_heading(text), text


def _rows(path: Path):
    """A table: each row is a section of its own, named by its first column.

    A first column that is a text, or the only one, is told below its name too.
    """
    import csv
    import io
    import textwrap

    content = _decoded(path)
    sign = max("\t;,", key=content.partition("\n")[0].count)
    csv.field_size_limit(1 << 30)
    reader = csv.reader([*io.StringIO(content), "end"], delimiter=sign)
    rows, line = [], 1  # each with the line that it begins on
    for row in reader:
        rows.append((line, row))
        line = reader.line_num + 1
    line, last = rows.pop()
    if last != ["end"]:
        raise ValueError(f"{path.name}, line {line}: a quotation mark opens a text and is never closed")
    (_, header), *rows = [(line, row) for line, row in rows if any(map(str.strip, row))] or [(1, [])]
    parts = []
    for line, row in rows:
        if any(map(str.strip, row[len(header) :])):
            raise ValueError(
                f"{path.name}, line {line}: {len(row)} columns where the first line has {len(header)}"
            )
        named = _line(row[0])
        short = textwrap.shorten(named, LONG, placeholder="…")
        told = list(zip(header, row, strict=False))[short == named and len(header) > 1 :]
        told = [f"{column}: {cell}".removeprefix(": ") for column, cell in told if cell.strip()]
        parts.append(f"## {_line(header[0])} {short}\n\n" + _escaped("; ".join(told)))
    return path.stem, "\n\n".join(parts)


READERS: dict[str, Callable] = {
    ".md": _markdown,
    ".markdown": _markdown,
    ".txt": _text,
    ".rst": _text,
    ".html": _html,
    ".htm": _html,
    ".pdf": _pdf,
    ".docx": _word,
    ".ipynb": _notebook,
    ".csv": _rows,
    ".tsv": _rows,
}


# ---------------------------------------------------------------- cutting


def passages(found: Sequence[Document], size: int = SIZE) -> "pandas.DataFrame":
    """The passages of documents, in order: columns source, title, section, page, start, end, text.

    A passage never crosses a heading and holds whole sentences, as many as fit into `size` pieces of
    MiniLM's tokenizer together with what stands before them: the title and the section. A sentence that
    is too long alone is cut where it must be. Where a table goes on in another passage, that one begins with
    the table's head too. text: title and section on a first line, then the sentences; section: the headings
    above it, joined by " › "; page: its number, 0 without pages; start, end: its place in the document's text.
    Raises ValueError for a size below 2 * HEAD.
    """
    import pandas

    if size < 2 * HEAD:
        raise ValueError(f"size={size} leaves no room beside title and section; give at least {2 * HEAD}")
    rows = [row for one in found for row in _passages(one, size)]
    table = pandas.DataFrame(rows, columns=COLUMNS)
    return table.astype({"page": "int32", "start": "int64", "end": "int64"})


def _passages(one: Document, size: int) -> list[tuple]:
    rows = []
    for headings, begin, end in sections(one.text):
        section = " › ".join(h for h in headings if h.casefold() != one.title.casefold())
        head = " › ".join([one.title, section] if section else [one.title])
        head = _first(head, HEAD)
        room = size - 2 - _lengths([head])[0]
        tables = _tables(one.text, begin, end, room)
        for first, last, columns in _packed(one.text, _units(one.text, begin, end, tables), room, tables):
            body = plain(one.text[first:last])
            if any(sign.isalnum() for sign in body):
                page = max((number for place, number in one.pages if place <= first), default=0)
                text = "\n".join([head, f"{columns} {body}".lstrip()])
                rows.append((one.source, one.title, section, page, first, last, text))
    return rows


def sections(text: str) -> list[tuple[list[str], int, int]]:
    """The sections of a Markdown text: (the headings above it, where it begins, where it ends).

    >>> sections("# Tea\\n\\nBoil.\\n\\n## Milk\\n\\nCold.")
    [(['Tea'], 6, 14), (['Tea', 'Milk'], 22, 29)]
    """
    from markdown_it import MarkdownIt

    starts = [0, *(end.end() for end in re.finditer(r"\r\n?|\n", text)), len(text)]
    tokens = MarkdownIt("commonmark").parse(text)
    found, above, begin = [], [], 0
    for token, inline in pairwise(tokens):
        if token.type == "heading_open" and token.level == 0:
            found.append(([h for _, h in above], begin, starts[token.map[0]]))
            level = int(token.tag[1])
            above = [(of, h) for of, h in above if of < level] + [(level, plain(inline.content))]
            begin = starts[token.map[1]]
    found.append(([h for _, h in above], begin, len(text)))
    return [(headings, begin, end) for headings, begin, end in found if text[begin:end].strip()]


def plain(markdown: str) -> str:
    """Markdown as a reader reads it: no marks of emphasis, links, tables or code; one line."""
    text = re.sub(r"!?\[([^\]\[]*)\]\([^()\s]*(?:\s\"[^\"]*\")?\)", r"\1", markdown)
    text = re.sub(r"^[\s:|-]+$", "", text, flags=re.M)  # the line below a table's head
    text = re.sub(r"[^\S\n]+", " ", text)
    text = re.sub(r"\s*\|\s*", " | ", text)
    text = re.sub(r"^\s*(```.*|~~~.*)$", "", text, flags=re.M)
    text = re.sub(r"(?<!\w)(\*{1,3}|_{1,3})(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", text)
    text = re.sub(r"^\s*(?:[-*+•]\s+|>\s?|#{1,6}\s+)", "", text, flags=re.M)
    text = re.sub(r"\\([\\`*_{}\[\]()#+.!|<>~=-])", r"\1", text)
    return " ".join(text.replace("`", "").split()).strip("| ")


@dataclass(frozen=True)
class _Table:
    """A table in a text: where it begins and ends; head: its first row as plain text, "" if it has none or
    one that would take half of a passage; pieces: the head's length."""

    begin: int
    end: int
    head: str
    pieces: int


def _tables(text: str, begin: int, end: int, room: int) -> list[_Table]:
    """The tables of a stretch of text, in order."""
    found = list(_TABLE.finditer(text, begin, end))
    heads = [f"{head} |" if (head := plain(match[1])) else "" for match in found]
    lengths = _lengths(heads) if heads else []
    return [
        _Table(match.start(), match.end(), *((head, length) if length <= room / 2 else ("", 0)))
        for match, head, length in zip(found, heads, lengths, strict=True)
    ]


def _around(tables: list[_Table], place: int) -> _Table | None:
    """The table that has begun before a place and goes on there."""
    at = bisect_left(tables, place, key=attrgetter("begin")) - 1
    return tables[at] if at >= 0 and place < tables[at].end else None


def _units(text: str, begin: int, end: int, tables: list[_Table]) -> list[tuple[int, int]]:
    """Where the sentences of a stretch of text, its items and rows, begin and end. A row is never two."""
    edges = [begin]
    for match in _UNIT.finditer(text, begin, end):
        if "\n" in match[0] or not _around(tables, match.end()):
            edges.append(match.end())
    edges.append(end)
    return [(a, b) for a, b in pairwise(edges) if text[a:b].strip()]


def _packed(
    text: str, units: list[tuple[int, int]], room: int, tables: list[_Table]
) -> list[tuple[int, int, str]]:
    """Units joined to stretches of at most `room` pieces, each with the head of the table that it goes on with.

    A unit that has more pieces is cut.
    """
    pieces = []
    for (first, last), length in zip(units, _lengths([text[a:b] for a, b in units]), strict=True):
        table = _around(tables, first)
        left = room - (table.pieces if table else 0)
        pieces += [(first, last, length)] if length <= left else _cut_anywhere(text, first, last, left)
    packed, filled = [], room + 1
    for first, last, length in pieces:
        if filled + length > room:
            table = _around(tables, first)
            packed.append([first, last, table.head if table else ""])
            filled = table.pieces if table else 0
        packed[-1][1] = last
        filled += length
    return [tuple(stretch) for stretch in packed]


def _cut_anywhere(text: str, first: int, last: int, room: int) -> list[tuple[int, int, int]]:
    offsets = _tokenizer()(
        text[first:last], add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    offsets = offsets["offset_mapping"]
    starts = [first + offsets[i][0] for i in range(0, len(offsets), room)]
    starts[0] = first
    lengths = [min(room, len(offsets) - i) for i in range(0, len(offsets), room)]
    return list(zip(starts, [*starts[1:], last], lengths, strict=True))


def _first(text: str, most: int) -> str:
    """The beginning of a text that has at most so many pieces."""
    offsets = _tokenizer()(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return text if len(offsets) <= most else text[: offsets[most - 1][1]] + "…"


def _lengths(units: list[str]) -> list[int]:
    return [len(ids) for ids in _tokenizer()(units, add_special_tokens=False, verbose=False)["input_ids"]]


def _tokenizer():
    from helpers import encoders

    return encoders.tokenizer()


def near_copies(table: "pandas.DataFrame", share: float = 0.7) -> "pandas.DataFrame":
    """Pairs of passages that say the same in nearly the same words: columns first, second, share.

    first, second: rows of the table; share: how many of the five-word runs of either stand in both
    (Jaccard's index). The first line of a text (title and section) does not count.
    """
    import numpy as np
    import pandas
    from sklearn.feature_extraction.text import HashingVectorizer

    if table.empty:
        return pandas.DataFrame(columns=["first", "second", "share"])
    words = HashingVectorizer(ngram_range=(5, 5), binary=True, norm=None, token_pattern=r"\w+")
    runs = words.transform([text.partition("\n")[2] for text in table["text"]])
    both = (runs @ runs.T).tocoo()
    of_each = np.asarray(runs.sum(axis=1)).ravel()
    pairs = [
        (first, second, n / (of_each[first] + of_each[second] - n))
        for first, second, n in zip(both.row, both.col, both.data, strict=True)
        if first < second
    ]
    found = pandas.DataFrame(pairs, columns=["first", "second", "share"])
    return found[found["share"] >= share].sort_values("share", ascending=False).reset_index(drop=True)
