"""Read a table of texts that people really have: TSV, CSV, JSON lines or Parquet, whole or not at all.

    from helpers import tables
    tables.read("my_pairs.tsv", ["questions", "answers"])          # a DataFrame of texts
    tables.read("passages.parquet", ["id", "text"], numbers=["id"], rest=True)

No row is dropped, joined or cut: a table that cannot be read is one sentence with the file, the line, the
column and what to do.
"""

import codecs
import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import texts

if TYPE_CHECKING:
    import pandas

LONGEST = 1_000_000  # characters; a longer cell is a file that went wrong
SIGNS = {"\t": "tabs", ",": "commas", ";": "semicolons"}
OTHERS = {
    b"PK\x03\x04": "an Excel or a zip file; save the table as CSV (UTF-8)",
    b"\x1f\x8b": "packed with gzip; unpack it first",
    b"\xd0\xcf\x11\xe0": "an old Excel file; save the table as CSV (UTF-8)",
}


def read(
    path: str | Path,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    numbers: Sequence[str] = (),
    rest: bool = False,
    quoting: bool | None = None,
) -> "pandas.DataFrame":
    """The named columns of a table as texts, without the space around them.

    path: a file, or an address that pyarrow opens (s3://...). Parquet and JSON lines are known by their
    content and ending; everything else is text in UTF-8 whose first line names the columns, separated by
    tabs, commas or semicolons. Blank lines at the end are fine.
    optional: columns that are read where the table has them. numbers: columns in which whole numbers and
    decimals stand for their texts (a text file has nothing else). rest: all other columns are kept too, as
    they are, behind the named ones.
    quoting: whether quotation marks around a cell are the file's (True) or the text's (False). None finds
    it out: the reading in which every row has the header's columns. Where both do, marks are the file's in
    a file with commas or semicolons, where the header has them, or where each such cell needs them;
    they are the text's where no such cell does; and else the table is refused.
    Raises FileNotFoundError; ValueError in one sentence for anything that is not such a table.
    """
    import pandas

    name, content, typed = Path(str(path)).name, _content(path), None
    if not content.removeprefix(codecs.BOM_UTF8).strip():
        raise ValueError(f"{name} is empty")
    for start, what in OTHERS.items():
        if content.startswith(start):
            raise ValueError(f"{name} is {what}")
    if content.startswith(b"PAR1"):
        header, rows, where, typed = _parquet(name, content)
    elif name.lower().endswith((".jsonl", ".ndjson", ".json")):
        header, rows, where = _json_lines(name, _decoded(name, content))
    else:
        header, rows, where = _delimited(name, _decoded(name, content), columns, quoting)
    for column in columns:
        if column not in header:
            raise ValueError(f"{name}: no column {column!r}; it has {', '.join(map(str, header))}")
    columns = [*columns, *(column for column in optional if column in header)]
    others = [column for column in header if column not in columns] if rest else []
    for column in [*columns, *others]:
        if list(header).count(column) > 1:
            raise ValueError(f"{name}, line 1: two columns are named {column!r}; rename one")
    places = {column: list(header).index(column) for column in [*columns, *others]}
    for at, row in zip(where, rows, strict=True):
        for column in columns:
            row[places[column]] = _text(f"{name}, {at}", column, row[places[column]], column in numbers)
    if not rows:
        raise ValueError(f"{name} has a header and no rows")
    table = pandas.DataFrame({column: [row[place] for row in rows] for column, place in places.items()})
    if typed is not None:  # Parquet says of which kind the other columns are
        table[others] = typed[others]
    return table


def text(path: str | Path) -> str:
    """A text file's content, UTF-8 with or without a byte-order mark; line ends are \\n.

    Raises FileNotFoundError; ValueError with the line for anything else than UTF-8.
    """
    decoded = _decoded(Path(str(path)).name, _content(path))
    return decoded.replace("\r\n", "\n").replace("\r", "\n")


def _content(path: str | Path) -> bytes:
    if "://" in str(path):
        from pyarrow import fs

        system, place = fs.FileSystem.from_uri(str(path))
        with system.open_input_stream(place, compression=None) as file:
            return file.read()
    path = Path(path)
    if not path.is_file():
        if path.is_dir():
            raise FileNotFoundError(f"{path.name} is a folder; name the table in it")
        raise FileNotFoundError(f"there is no file {path.name} in {path.parent.name or '.'}/")
    return path.read_bytes()


def _decoded(name: str, content: bytes) -> str:
    try:
        decoded = content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = content[: e.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1
        raise ValueError(f"{name}, line {line}: not UTF-8 text; save the file as UTF-8") from None
    if "\0" in decoded:
        line = decoded[: decoded.index("\0")].count("\n") + 1
        raise ValueError(f"{name}, line {line}: not UTF-8 text (it holds zero bytes); save the file as UTF-8")
    return decoded


def _delimited(name: str, content: str, columns: Sequence[str], quoting: bool | None):
    """Header, rows, and where each row stands, of a text file with a delimiter."""
    csv.field_size_limit(1 << 30)
    signs = sorted(SIGNS, key=",;\t".index) if name.lower().endswith(".csv") else list(SIGNS)
    first = next(iter(io.StringIO(content, newline="")), "").rstrip("\r\n")
    headers = {
        sign: [cell.strip() for cell in next(csv.reader([first], delimiter=sign), [])] for sign in signs
    }
    sign = next((s for s in signs if set(columns) <= set(headers[s])), None)
    if sign is None:
        header = max(headers.values(), key=lambda h: (len(set(columns) & set(h)), len(h)))
        lacking = next(column for column in columns if column not in header)
        raise ValueError(
            f"{name}, line 1: no column {lacking!r}; the first line must name the columns "
            f"{', '.join(columns)}, separated by {SIGNS[signs[0]]}"
        )
    header = headers[sign]
    plain, quoted = (_Reading(content, sign, header, marks) for marks in (False, True))
    chosen = plain if not plain.marked else {True: quoted, False: plain, None: None}[quoting]
    if chosen is None:
        chosen = _choice(name, plain, quoted, sign, first.lstrip().startswith('"'))
    if chosen.wrong:
        also = chosen is plain and plain.marked and quoting is None and quoted.wrong
        nor = f" (and with quotation marks around its texts, {quoted.wrong})" if also else ""
        raise ValueError(f"{name}, {chosen.wrong}{nor}")
    return _named(name, header, chosen.rows), chosen.rows, [f"line {line}" for line in chosen.lines]


class _Reading:
    """A text file read in one of two ways: quotation marks around a cell are the file's, or the text's."""

    def __init__(self, content: str, sign: str, header: list[str], marks: bool):
        quoting = csv.QUOTE_MINIMAL if marks else csv.QUOTE_NONE
        reader = csv.reader(io.StringIO(content, newline=""), delimiter=sign, quoting=quoting, strict=True)
        self.rows, self.lines, self.wrong = [], [], ""
        line = 1
        try:
            for row in reader:
                self.rows.append(row)
                self.lines.append(line)
                line = reader.line_num + 1
        except csv.Error as e:
            end = "is never closed" if "end of data" in str(e) else "is closed in the middle of a text"
            self.wrong = f"line {line}: a quotation mark opens a text and {end}"
        self.marked = [cell for row in self.rows for cell in row if cell.startswith('"')]
        while len(self.rows) > 1 and not any(map(str.strip, self.rows[-1])):
            del self.rows[-1], self.lines[-1]
        del self.rows[:1], self.lines[:1]
        for at, row in zip(self.lines, self.rows, strict=True):
            if self.wrong:
                break
            if not any(map(str.strip, row)):
                self.wrong = f"line {at} is blank; delete it"
            elif len(row) != len(header):
                ends = " (the line ends with a separator)" if len(row) > len(header) and not row[-1] else ""
                self.wrong = f"line {at}: {len(row)} columns where the first line has {len(header)}{ends}"
            elif [cell.strip() for cell in row] == header:
                self.wrong = f"line {at} names the columns once more, as line 1 does; delete it"


def _choice(name: str, plain: _Reading, quoted: _Reading, sign: str, in_header: bool) -> _Reading:
    if plain.wrong or quoted.wrong:
        return quoted if not quoted.wrong or (plain.wrong and in_header) else plain
    if in_header:
        return quoted
    if sign != "\t":
        return quoted
    if len(plain.rows) == len(quoted.rows):
        needed = [cell == '""' or '""' in cell[1:-1] for cell in plain.marked]
        if all(needed):
            return quoted
        if not any(needed):
            return plain
    line = next(
        at for at, row in zip(plain.lines, plain.rows, strict=True) if any(c.startswith('"') for c in row)
    )
    raise ValueError(
        f"{name}, line {line}: the quotation marks around a text may belong to it or to the file; "
        "write the table with marks around every cell, or around none"
    )


def _named(name: str, header: list[str], rows: list[list]) -> list[str]:
    """The header without a last column that has no name and nothing in it (rows end with a separator)."""
    while "" in header:
        place = header.index("")
        if any(row[place].strip() for row in rows):
            raise ValueError(f"{name}, line 1: column {place + 1} has no name")
        header = header[:place] + header[place + 1 :]
        for row in rows:
            del row[place]
    return header


def _json_lines(name: str, content: str):
    objects = []
    for number, line in enumerate(content.rstrip().split("\n") if content.strip() else [], 1):
        try:
            found = json.loads(line)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ValueError(
                f'{name}, line {number}: no JSON object; each line must be one, such as {{"id": "1"}}'
            )
        objects.append(found)
    header = list(dict.fromkeys(key for found in objects for key in found))
    rows = [[found.get(column) for column in header] for found in objects]
    return header, rows, [f"line {number}" for number in range(1, len(rows) + 1)]


def _parquet(name: str, content: bytes):
    import pandas
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(io.BytesIO(content))
    except (OSError, pyarrow.ArrowException) as e:
        raise ValueError(f"{name} is no whole Parquet file ({str(e).splitlines()[0]})") from e
    rows = [list(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]
    typed = table.to_pandas(types_mapper=pandas.ArrowDtype)
    return table.column_names, rows, [f"row {number}" for number in range(1, len(rows) + 1)], typed


def _text(where: str, column: str, value: object, number: bool) -> str:
    if number and isinstance(value, int | float) and not isinstance(value, bool) and value == value:
        value = str(value)
    if isinstance(value, str):
        value = value.strip()
    if wrong := texts.fault(value):
        raise ValueError(f"{where}: column {column!r} {wrong}")
    if len(value) > LONGEST:
        raise ValueError(
            f"{where}: column {column!r} has {len(value):,} characters, more than {LONGEST:,}; "
            "line ends may be missing"
        )
    return value
