"""Documents of every kind become text with their headings and pages; passages keep whole sentences and their places."""

import json
import os
import re
import time
import zipfile

import books
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import documents, encoders

FOLDER = books.ROOT / "shared_data" / "allotments"


@pytest.fixture(scope="module")
def read():
    return documents.read(FOLDER)


@pytest.fixture(scope="module")
def table(read):
    return documents.passages(read[0])


def test_every_kind_is_in_the_course_s_folder_and_all_is_read(read):
    found, failed = read
    assert failed == {} and len(found) == 16
    kinds = {os.path.splitext(one.source)[1] for one in found}
    assert kinds == {".md", ".html", ".txt", ".pdf", ".docx", ".ipynb", ".csv"}
    assert all(one.title and len(one.text) > 1000 for one in found)


def test_titles_are_the_documents_own(read):
    titles = {one.source: one.title for one in read[0]}
    assert titles["welcome.html"] == "Welcome to Harrow Lane"
    assert titles["minutes/2025-09-16 annual meeting.docx"] == "Annual meeting 2025"
    assert titles["risk assessment.pdf"] == "Risk assessment 2026"
    assert titles["plots and fees 2026.csv"] == "plots and fees 2026"


def test_what_a_page_repeats_is_not_read(read):
    for one in read[0]:
        if one.source.endswith(".html"):
            assert "function" not in one.text and "font-family" not in one.text
            assert "rules.md" not in one.text  # the bar of links
        if one.source.endswith(".pdf"):
            assert len(one.pages) >= 3
            assert "Page 2" not in one.text.replace("page 2", "Page 2")


def test_hyphens_at_a_line_s_end_are_joined(read):
    text = next(one.text for one in read[0] if one.source == "water system.pdf")
    assert "automatically" in text and "-\n" not in text


def test_a_passage_stands_where_it_says_and_under_its_headings(read, table):
    texts = {one.source: one.text for one in read[0]}
    for row in table.itertuples():
        head, _, body = row.text.partition("\n")
        told = documents.plain(texts[row.source][row.start : row.end])
        assert body.endswith(told)
        columns = body.removesuffix(told).strip(" |")  # of a table that goes on
        assert columns in documents.plain(texts[row.source][: row.start])
        assert head.startswith(row.title[:20])
    rules = table[table["source"] == "rules.md"]
    assert "Plots and money › Sizes and yearly fees" in set(rules["section"])


def test_no_passage_is_longer_than_it_may_be_and_none_is_lost(read, table):
    lengths = [len(ids) for ids in encoders.tokenizer()(list(table["text"]), verbose=False)["input_ids"]]
    assert max(lengths) <= documents.SIZE + 4  # a mark taken off may join two pieces anew
    for one in read[0]:
        rows = table[table["source"] == one.source].sort_values("start")
        assert (rows["start"].iloc[1:].to_numpy() >= rows["end"].iloc[:-1].to_numpy()).all()
        words = sum(len(t.partition("\n")[2].split()) for t in rows["text"])
        assert words > 0.85 * len(documents.plain(one.text).split())


ROWS = "".join(f"<tr><td>No. {n}</td><td>Bed {n}. Sunny</td></tr>" for n in range(90))


def _html_table(head: str) -> str:
    return f"<h1>Beds</h1><p>Each has one row.</p><table>{head}{ROWS}</table><p>Ask at the shed.</p>"


@pytest.mark.parametrize(
    "head",
    ["<tr><th>Plot</th><th>Bed</th></tr>", "<tr><td>Plot</td><td>Bed</td></tr>"],
    ids=["a head", "a first row"],
)
def test_a_table_that_goes_on_begins_with_its_head_again_and_no_row_is_cut(tmp_path, head):
    (tmp_path / "a.html").write_text(_html_table(head), "utf-8")
    rows = documents.passages([documents.document(tmp_path / "a.html")])
    bodies = [text.partition("\n")[2] for text in rows["text"]]
    assert len(bodies) > 5 and bodies[0].startswith("Each has one row. | Plot | Bed |")
    assert all(body.startswith("Plot | Bed | No. ") for body in bodies[1:]), bodies
    assert all(body.count("Plot | Bed |") == 1 for body in bodies)
    kept = re.findall(r"No\. (\d+) \| Bed (\d+)\. Sunny", " ".join(bodies))
    assert kept == [(str(n), str(n)) for n in range(90)]
    assert bodies[-1].endswith("Ask at the shed.")
    lengths = [len(ids) for ids in encoders.tokenizer()(list(rows["text"]))["input_ids"]]
    assert max(lengths) <= documents.SIZE + 4


def test_rows_without_a_line_below_the_first_have_no_head():
    text = "| one | two |\n|  |  |\n" + "".join(f"| row {n} | Sunny |\n" for n in range(90))
    rows = documents.passages([documents.Document("a.md", "a", text)])
    assert len(rows) > 3 and sum("one | two" in body for body in rows["text"]) == 1


def test_a_head_that_would_take_half_of_each_passage_is_left_out(tmp_path):
    wide = " | ".join(f"column number {n}" for n in range(30))
    text = f"| {wide} |\n|{' --- |' * 30}\n" + "".join(f"| row {n} | {'x | ' * 28}\n" for n in range(20))
    rows = documents.passages([documents.Document("a.md", "a", text)])
    assert not any("column number 0" in body and "row 9" in body for body in rows["text"])
    assert sum("row 9" in body for body in rows["text"]) == 1


def test_pages_are_the_pdf_s(table):
    rows = table[table["source"] == "water system.pdf"]
    assert set(rows["page"]) == {1, 2, 3, 4} and rows["page"].is_monotonic_increasing
    assert set(table[table["source"] == "rules.md"]["page"]) == {0}


def test_near_copies_are_found(table):
    found = documents.near_copies(table)
    pairs = {frozenset(table["source"].iloc[[row.first, row.second]]) for row in found.itertuples()}
    assert pairs == {frozenset({"rules.md", "welcome.html"})}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "Tea is hot. ",
                "# Head\n\n",
                "## Sub\n\n",
                "- item\n",
                "word " * 30,
                "```\n# no\n```\n",
                "\n\n",
                "| a | b |\n",
                "| - | - |\n",
            ]
        ),
        max_size=12,
    )
)
def test_sections_and_passages_lose_no_letter_and_never_cross_a_heading(parts):
    text = "".join(parts)
    sections = documents.sections(text)
    ends = [end for _, _, end in sections]
    assert ends == sorted(ends) and all(begin < end <= len(text) for _, begin, end in sections)
    if any(sign.isalnum() for sign in text):
        rows = documents.passages([documents.Document("a.md", "a", text)])
        for row in rows.itertuples():
            assert any(begin <= row.start and row.end <= end for _, begin, end in sections)


@pytest.mark.parametrize(
    ("text", "longest"),
    [("word " * 3000, 700), ("x" * 20_000, 20_000), ("漢字" * 2000, 400), ("a.b.c." * 2000, 2000)],
    ids=["no full stop", "one word", "no spaces", "dots"],
)
def test_a_sentence_that_is_too_long_is_cut(text, longest):
    rows = documents.passages([documents.Document("a.txt", "a", text)])
    assert len(rows) > 1 or text[0] == "x"
    assert sum(len(t.partition("\n")[2].replace(" ", "")) for t in rows["text"]) == len(text.replace(" ", ""))


def test_a_size_without_room_is_refused():
    with pytest.raises(ValueError, match="size=50 leaves no room"):
        documents.passages([], 50)


# ------------------------------------------------------------------ what people have


def broken(name):
    def make(folder):
        (folder / name).write_bytes(b"\x00\x01 not what the name says \xff" * 20)

    return make


def docx_without_a_body(folder):
    with zipfile.ZipFile(folder / "a.docx", "w") as file:
        file.writestr("nothing.xml", "<x/>")


def locked_pdf(folder):
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(200, 200)
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(folder / "a.pdf")


def scanned_pdf(folder):
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(200, 200)
    writer.write(folder / "a.pdf")


def half_pdf(folder):
    whole = (FOLDER / "water system.pdf").read_bytes()
    (folder / "a.pdf").write_bytes(whole[: len(whole) // 3])


BAD = {
    "broken pdf": (broken("a.pdf"), "a.pdf is broken"),
    "half a pdf": (half_pdf, "a.pdf is broken|no text"),
    "locked pdf": (locked_pdf, "locked with a password|is broken"),
    "scanned pdf": (scanned_pdf, "no text on its 1 pages; a scan needs text recognition"),
    "broken docx": (broken("a.docx"), "a.docx is broken"),
    "empty docx": (docx_without_a_body, "a.docx is broken"),
    "broken notebook": (lambda f: (f / "a.ipynb").write_text('{"cells": [', "utf-8"), "a.ipynb"),
    "notebook of another kind": (
        lambda f: (f / "a.ipynb").write_text(json.dumps({"a": 1}), "utf-8"),
        "a.ipynb",
    ),
    "zero bytes": (broken("a.txt"), "a.txt"),
    "empty file": (lambda f: (f / "a.md").write_text("", "utf-8"), "a.md holds no text"),
    "spaces": (lambda f: (f / "a.md").write_text(" \n\t\n", "utf-8"), "a.md holds no text"),
    "empty html": (
        lambda f: (f / "a.html").write_text("<html><script>x=1</script>", "utf-8"),
        "a.html holds no text",
    ),
    "ragged csv": (
        lambda f: (f / "a.csv").write_text('a,b\n1,"2\n2"\n1,2,3,4\n', "utf-8"),
        "a.csv, line 4: 4 columns where the first line has 2",
    ),
    "a first row that is longer": (
        lambda f: (f / "a.csv").write_text("a,b\n1,2,3\n4,5\n", "utf-8"),
        "a.csv, line 2: 3 columns where the first line has 2",
    ),
    "an open quotation mark": (
        lambda f: (f / "a.csv").write_text('a,b\n1,2\n3,"4\n5,6\n', "utf-8"),
        "a.csv, line 3: a quotation mark opens a text and is never closed",
    ),
    "only separators": (lambda f: (f / "a.csv").write_text(",,\n,,\n", "utf-8"), "a.csv holds no text"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_read(tmp_path, case):
    make, sentence = BAD[case]
    make(tmp_path)
    (tmp_path / "good.md").write_text("# Good\n\nThis one is read.", "utf-8")
    found, failed = documents.read(tmp_path)
    assert [one.source for one in found] == ["good.md"]
    (name, said), *more = failed.items()
    assert not more and name.startswith("a.") and re.search(sentence, said)
    assert "\n" not in said and len(said) < 250 and said.startswith("a.")


def test_names_and_encodings_that_people_have(tmp_path):
    (tmp_path / "été à la mer").mkdir()
    (tmp_path / "été à la mer" / "l'œuvre no 1.txt").write_bytes(
        "Le café est fermé. Déjà vu là-bas.".encode("cp1252")
    )
    (tmp_path / "BOM.MD").write_bytes("﻿# Title\r\n\r\nWindows lines.\r\n".encode())
    (tmp_path / ".hidden.md").write_text("# No", "utf-8")
    (tmp_path / "picture.png").write_bytes(b"x")
    found, failed = documents.read(tmp_path)
    assert failed == {} and {one.source for one in found} == {"été à la mer/l'œuvre no 1.txt", "BOM.MD"}
    by = {one.source: one for one in found}
    assert "café est fermé" in by["été à la mer/l'œuvre no 1.txt"].text and by["BOM.MD"].title == "Title"


def test_a_text_file_s_headings_are_its_underlined_lines(tmp_path):
    (tmp_path / "a.rst").write_text(
        "Guide\n=====\n\nFirst.\n\nRun it\n------\n\n::\n\n    # clean up here\n    def go():\n        ...\n\n"
        "Done so.\n\nDeep\n~~~~\n\nLast words.\n",
        "utf-8",
    )
    one = documents.document(tmp_path / "a.rst")
    sections = [row.section for row in documents.passages([one]).itertuples()]
    assert one.title == "Guide" and sections == ["", "Run it", "Run it › Deep"]


def test_titles_come_from_front_matter_and_not_from_code(tmp_path):
    (tmp_path / "a.md").write_text("---\ntitle: 'Our app'\n---\n# Start\n\nText.\n", "utf-8")
    (tmp_path / "b.md").write_text("Text.\n\n```\n# install\n```\n", "utf-8")
    assert [documents.document(tmp_path / name).title for name in ("a.md", "b.md")] == ["Our app", "b"]


def test_a_few_accents_are_western(tmp_path):
    (tmp_path / "a.txt").write_bytes("Café über “alles” and quite some more words".encode("cp1252"))
    assert "Café über “alles”" in documents.document(tmp_path / "a.txt").text


def told(folder, name, content):
    """What is told of one file: section and body of its passages."""
    (folder / name).write_bytes(
        content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    )
    rows = documents.passages([documents.document(folder / name)])
    return [(row.section, row.text.partition("\n")[2]) for row in rows.itertuples()]


def notebook(*cells):
    """A notebook of (kind, source) and (kind, source, what it prints)."""
    made = []
    for n, (kind, source, *printed) in enumerate(cells):
        cell = {"cell_type": kind, "id": f"c{n}", "metadata": {}, "source": source}
        if kind == "code":
            outputs = [{"output_type": "stream", "name": "stderr", "text": text} for text in printed]
            cell |= {"execution_count": 1, "outputs": outputs}
        made.append(cell)
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": made})


def pdf(*pages):
    """A PDF whose pages hold these lines; one that is in capitals is in larger type."""
    import io

    from pypdf import PdfWriter
    from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

    writer = PdfWriter()
    font = {
        "/Type": "/Font",
        "/Subtype": "/Type1",
        "/BaseFont": "/Helvetica",
        "/Encoding": "/WinAnsiEncoding",
    }
    font = DictionaryObject({NameObject(key): NameObject(value) for key, value in font.items()})
    for lines in pages:
        page, stream = writer.add_blank_page(600, 800), DecodedStreamObject()
        shown = " ".join(f"/F1 {18 if line.isupper() else 12} Tf ({line}) Tj T*" for line in lines)
        stream.set_data(f"BT 24 TL 50 750 Td {shown} ET".encode())
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        page[NameObject("/Contents")] = writer._add_object(stream)
    file = io.BytesIO()
    writer.write(file)
    return file.getvalue()


def test_a_progress_bar_in_a_notebook_moves_no_section(tmp_path):
    bar = "".join(f"\r{n}0%|#| {n}/10" for n in range(11))
    content = notebook(
        ("markdown", "# Notes"),
        ("code", "for i in tqdm(x): pass", bar),
        ("markdown", "## Results\r\rNinety percent."),
        ("markdown", "## End\r\n\r\nBuy more."),
    )
    rows = told(tmp_path, "a.ipynb", content)
    assert rows[-2:] == [("Results", "Ninety percent."), ("End", "Buy more.")]
    assert "\r" not in documents.document(tmp_path / "a.ipynb").text


def test_sections_count_lines_as_markdown_does():
    for end in ("\n", "\r\n", "\r"):
        text = f"one{end}two{end}{end}# X{end}{end}three"
        (_, a, b), (above, c, d) = documents.sections(text)
        assert (text[a:b].split(), above, text[c:d].strip()) == (["one", "two"], ["X"], "three")


def test_half_a_character_is_a_question_mark(tmp_path):
    content = notebook(("markdown", "# A \ud83d title\n\nA cut emoji \ud83d here."))
    assert told(tmp_path, "a.ipynb", content) == [("", "A cut emoji ? here.")]
    assert documents.document(tmp_path / "a.ipynb").title == "A ? title"


LONG = "The pump in the cellar must be replaced before winter, said the board of the house."


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", f"{LONG}\n-- \n= 5\n=\nJohn"),
        ("a.html", f"<p>{LONG}<br>-- <br>= 5<br>=<br>John</p>"),
        ("a.html", f"<p>{LONG}<br><span>--</span><br>= 5\n=\nJohn</p>"),
        ("a.pdf", pdf([LONG, "--", "= 5", "=", "John"])),
        ("a.pdf", pdf([f"{LONG}\\r--\\r= 5\\r=\\rJohn"])),
        ("a.csv", f'name,note\n1,"{LONG}\n-- \n= 5\n=\nJohn"\n'),
    ],
    ids=["text", "html", "html in pieces", "pdf", "pdf with carriage returns", "csv"],
)
def test_a_line_of_signs_makes_no_heading_of_what_stands_above(tmp_path, name, content):
    ((_, body),) = told(tmp_path, name, content)
    assert body.removeprefix("note: ") == f"{LONG} -- = 5 = John"


@pytest.mark.parametrize("mark", ["# 5 is full", "<!-- five", "```", "~~~", "<script> is a word"])
@pytest.mark.parametrize("name", ["a.txt", "a.html", "a.pdf", "a.docx"])
def test_a_mark_of_markdown_in_other_texts_is_a_text(tmp_path, name, mark):
    safe = mark.replace("<", "&lt;")
    content = {
        "a.txt": f"LAST\n\n{LONG}\n{mark}\n\nNEXT\n\nOpen.",
        "a.html": f"<h1>LAST</h1><p>{LONG}</p><p>{safe}</p><h2>NEXT</h2><p>Open.</p>",
        "a.docx": docx(("Heading1", "LAST"), ("", LONG), ("", safe), ("Heading1", "NEXT"), ("", "Open.")),
        "a.pdf": pdf([LONG, mark, "NEXT", "Open."]),
    }[name]
    rows = told(tmp_path, name, content)
    words = [re.findall(r"\w+", body) for _, body in rows]
    assert words == [re.findall(r"\w+", f"{LONG} {mark}"), ["Open"]] and rows[1][0].endswith("NEXT")
    if mark[0] in "#<":
        assert mark in rows[0][1]


def docx(*paragraphs):
    """A Word file of (style, text)."""
    import io

    main = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    body = "".join(
        f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>'
        for style, text in paragraphs
    )
    style = '<w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>'
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as parts:
        parts.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{package}/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>',
        )
        for place, kind, target in (
            ("_rels/.rels", "officeDocument", "word/document.xml"),
            ("word/_rels/document.xml.rels", "styles", "styles.xml"),
        ):
            link = f'<Relationship Id="r1" Type="{office}/{kind}" Target="{target}"/>'
            parts.writestr(place, f'<Relationships xmlns="{package}/relationships">{link}</Relationships>')
        parts.writestr(
            "word/document.xml", f'<w:document xmlns:w="{main}"><w:body>{body}</w:body></w:document>'
        )
        parts.writestr("word/styles.xml", f'<w:styles xmlns:w="{main}">{style}</w:styles>')
    return file.getvalue()


@pytest.mark.parametrize(
    ("page", "body"),
    [
        (
            "<title>Blog</title><article><p>Roses in March.</p></article><article><p>Tulips in April.</p></article>",
            "Roses in March. Tulips in April.",
        ),
        ("<body><p>Ads.</p><article><p>Roses in March.</p></article></body>", "Roses in March."),
        (
            "<body><form id=aspnetForm><p>Open at ten.</p><input value=x><button>Send</button>"
            "<select><option>one</option></select><textarea>old</textarea></form></body>",
            "Open at ten.",
        ),
    ],
    ids=["two articles", "one article", "a form around the page"],
)
def test_the_whole_of_a_page_is_read(tmp_path, page, body):
    assert told(tmp_path, "a.html", page) == [("", body)]


def test_a_rule_at_the_beginning_is_no_front_matter(tmp_path):
    text = "---\n\n# House\n\nNo smoking: never.\n\n---\n\n## Guests\n\nThree nights.\n"
    assert told(tmp_path, "a.md", text) == [("", "No smoking: never."), ("Guests", "Three nights.")]


def test_rows_that_end_with_a_separator_keep_their_columns(tmp_path):
    rows = told(tmp_path, "a.csv", "name,phone,room\nAnna,123,4,\n\nBert,456,5\nCarl,789\n")
    assert rows == [
        ("name Anna", "phone: 123; room: 4"),
        ("name Bert", "phone: 456; room: 5"),
        ("name Carl", "phone: 789"),
    ]


def test_a_long_text_in_the_first_column_is_told_whole(tmp_path):
    words = " ".join(f"w{n}" for n in range(200)) + "."
    rows = told(tmp_path, "a.csv", f"text,author\n{words},Smith\nshort,Jones\n")
    bodies = "".join(body for section, body in rows if section != "text short")
    assert bodies.replace(" ", "") == f"text: {words}; author: Smith".replace(" ", "")
    assert all(len(section) < 70 for section, _ in rows) and rows[-1] == ("text short", "author: Jones")


def test_a_table_of_one_column_is_read(tmp_path):
    rows = told(tmp_path, "a.csv", "remark\nThe lamp is broken.\nThe door, too.\n")
    assert [body for _, body in rows] == ["remark: The lamp is broken.", "remark: The door, too."]


@pytest.mark.parametrize(
    ("name", "content", "body"),
    [
        (
            "a.html",
            "<meta charset='iso-8859-2'><p>Książka leży na półce.".encode("iso-8859-2"),
            "Książka leży na półce.",
        ),
        ("a.html", "<meta charset='iso-8859-1'><p>Nur “drei” Bücher".encode("cp1252"), "Nur “drei” Bücher"),
        ("a.html", "<meta charset='iso-8859-2'><p>Książka".encode(), "Książka"),
        (
            "a.html",
            "<meta charset='utf-8'><p>Nur drei große Bücher stehen da".encode("cp1252"),
            "Nur drei große Bücher stehen da",
        ),
        (
            "a.html",
            "<meta charset='no-such'><p>Nur drei große Bücher stehen da".encode("cp1252"),
            "Nur drei große Bücher stehen da",
        ),
        (
            "a.html",
            "<meta charset='rot13'><p>Nur drei große Bücher stehen da".encode("cp1252"),
            "Nur drei große Bücher stehen da",
        ),
        ("a.txt", "The red bicycle – rouge.".encode("utf-16"), "The red bicycle – rouge."),
        ("a.txt", b"\xfe\xff" + "The red bicycle.".encode("utf-16-be"), "The red bicycle."),
    ],
    ids=[
        "declared",
        "web Latin-1",
        "declared wrongly",
        "UTF-8 that is none",
        "unknown",
        "no text's",
        "UTF-16",
        "UTF-16 BE",
    ],
)
def test_encodings_that_a_file_names(tmp_path, name, content, body):
    assert told(tmp_path, name, content) == [("", body)]


def test_a_block_of_code_ends_where_it_ends(tmp_path):
    source = "p = (\n```json\n{}\n```\n)\n# a comment\nprint(p)"
    content = notebook(
        ("markdown", "Prompting"), ("code", source, "```\n# shown"), ("markdown", "## Results\n\nNinety.")
    )
    rows = told(tmp_path, "a.ipynb", content)
    assert [section for section, _ in rows] == ["", "Results"] and rows[1][1] == "Ninety."
    assert "a comment print(p)" in rows[0][1] and documents.document(tmp_path / "a.ipynb").title == "a"
    page = "<h1>Fences</h1><pre>\n```\n# a comment\n</pre><h2>Results</h2><p>Ninety.</p>"
    assert told(tmp_path, "a.html", page) == [("", "a comment"), ("Results", "Ninety.")]


def test_a_sentence_about_a_file_with_a_long_name_is_whole(tmp_path):
    for name, content in ((f"{'x' * 200}.md", b""), (f"{'y' * 200}.txt", b"a\0")):
        (tmp_path / name).write_bytes(content)
    for name, sentence in documents.read(tmp_path)[1].items():
        assert re.fullmatch(rf"{name} (holds no text|is no text \(it holds zero bytes\))", sentence)


def test_a_title_is_one_line(tmp_path):
    page = "<title>My\n blog</title><body><p>Roses.</p></body>"
    assert told(tmp_path, "a.html", page) == [("", "Roses.")]
    assert documents.document(tmp_path / "a.html").title == "My blog"
    file = tmp_path / "mine.jsonl"
    row = {"source": "b", "text": "Tea.\r\rHot.", "title": "My\n book", "section": "On\n tea"}
    file.write_text(json.dumps(row), encoding="utf-8")
    (one,) = documents.from_table(file)
    assert one.title == "My book" and one.text == "# On tea\n\nTea.\n\nHot."


def test_long_runs_of_spaces_take_no_time():
    began = time.perf_counter()
    for run in (" ", "\n", "\n ", " |", "-"):
        documents.plain(f"a\n{run * 100_000}b")
    assert time.perf_counter() - began < 5


@settings(max_examples=300, deadline=None)
@given(st.text("-|: \n\ta*#\u00a0`", max_size=14))
def test_rules_are_found_as_before(text):
    def rules(pattern):
        return re.sub(pattern, "", text, flags=re.M)

    assert rules(r"^[\s:|-]+$") == rules(r"^\s*\|?[\s:|-]+\|?\s*$")


def test_a_file_that_goes_away_or_is_shut_while_the_folder_is_read_is_named(tmp_path, monkeypatch):
    from pathlib import Path

    real, asked = Path.stat, []

    def stat(path, **how):
        if path.name == "shut.md":
            raise PermissionError(13, "Permission denied")
        if path.name == "gone.md":
            asked.append(path)
            if len(asked) > 2:  # it was there when the folder was listed, and when it was looked for
                raise FileNotFoundError(2, "No such file or directory")
        return real(path, **how)

    for name in ("gone", "good", "shut"):
        (tmp_path / f"{name}.md").write_text("Read me.", "utf-8")
    monkeypatch.setattr(Path, "stat", stat)
    found, failed = documents.read(tmp_path)
    assert [one.source for one in found] == ["good.md"]
    assert failed == {
        "gone.md": f"there is no file gone.md in {tmp_path.name}/",
        "shut.md": "shut.md: Permission denied",
    }


def test_semicolons_and_quotation_marks_in_a_table(tmp_path):
    (tmp_path / "a.csv").write_text('plot;note\n1;"dry; sunny"\n2;\n', "utf-8")
    rows = documents.passages([documents.document(tmp_path / "a.csv")])
    assert [t.partition("\n")[2] for t in rows["text"]] == ["note: dry; sunny"]
    assert rows["section"].tolist() == ["plot 1"]


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda p: p / "none", FileNotFoundError, "there is no folder"),
        (
            lambda p: (p / "f.md").write_text("x", "utf-8") and p / "f.md",
            ValueError,
            "f.md is one document; name the folder",
        ),
        (lambda p: p, ValueError, "there is no file to read in"),
    ],
    ids=["not there", "a file", "empty"],
)
def test_a_folder_that_is_none(tmp_path, make, error, sentence):
    with pytest.raises(error, match=sentence):
        documents.read(make(tmp_path))


def test_a_table_of_passages_has_a_contract(tmp_path):
    file = tmp_path / "mine.tsv"
    file.write_text("source\ttext\tsection\tpage\nbook\tTea is hot.\tDrinks\t12\n", "utf-8")
    row = documents.passages(documents.from_table(file)).iloc[0]
    assert (row["source"], row["section"], row["page"]) == ("book", "Drinks", 12)
    assert row["text"] == "book › Drinks\nTea is hot."
    file.write_text("name\ttext\nbook\tTea\n", "utf-8")
    with pytest.raises(ValueError, match="no column 'source'"):
        documents.from_table(file)
    with pytest.raises(ValueError, match="no column 'source'"):
        documents.read(file)
    file.write_text("source\ttext\nbook\tTea is hot.\n", "utf-8")
    assert documents.read(file) == (documents.from_table(file), {}) and len(documents.from_table(file)) == 1


def test_a_table_of_passages_tells_what_it_knows(tmp_path):
    import pandas

    file = tmp_path / "mine.tsv"
    file.write_text(
        "source\ttitle\ttext\tsection\tpage\n"
        "a.pdf\tApples\tAn apple a day.\tFruit\t3.0\n"
        "web\t\tAnother text.\t\t\n"
        "b.pdf\tPears\tA pear.\t\tiv\n",
        "utf-8",
    )
    known = [
        ("Apples", "# Fruit\n\nAn apple a day.", ((0, 3),)),
        ("web", "Another text.", ()),
        ("Pears", "A pear.", ()),
    ]
    assert [(one.title, one.text, one.pages) for one in documents.from_table(file)] == known
    table = pandas.read_csv(file, sep="\t")
    table["page"] = [3, None, None]
    table.to_parquet(tmp_path / "mine.parquet")
    table.to_json(tmp_path / "mine.jsonl", orient="records", lines=True)
    for name in ("mine.parquet", "mine.jsonl"):
        assert [(one.title, one.text, one.pages) for one in documents.from_table(tmp_path / name)] == known
