"""Documents of every kind become text with their headings and pages; passages keep whole sentences and their places."""

import json
import os
import re
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
    "ragged csv": (lambda f: (f / "a.csv").write_text("a,b\n1,2\n1,2,3,4\n", "utf-8"), "a.csv"),
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
            NotADirectoryError,
            "f.md is a file",
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
