"""Lessons in other languages: the prose of each paragraph is up to date, code and outputs are the lesson's own."""

import re

import books
import nbformat
import pytest

polib = pytest.importorskip("polib", reason="the site's tools are not installed: make site brings them")
translate = pytest.importorskip("translate")

ALL = [(language, path) for language, paths in translate.languages().items() for path in paths]
NAMES = [f"{language}-{path.stem}" for language, path in ALL]
MARKS = re.compile(r"\]\([^)]*\)|`[^`]*`|<[^>]+>|^#+ |\$[^$]+\$", re.M)


@pytest.mark.parametrize(("language", "path"), ALL, ids=NAMES)
def test_which_paragraphs_have_changed_since_they_were_translated(language, path):
    lines = translate.stale(path, language)
    assert not lines, "\n".join([*lines, f"run: python site/translate.py update {language} {path.name[:2]}"])


@pytest.mark.parametrize(("language", "path"), ALL, ids=NAMES)
def test_a_translation_keeps_links_code_and_outputs(language, path):
    for entry in translate.opened(path, language):
        assert sorted(MARKS.findall(entry.msgstr)) == sorted(MARKS.findall(entry.msgid)), entry.msgid
    before, after = books.read(path), translate.translated(path, language)
    nbformat.validate(after)
    assert [c.outputs for c in books.code(before)] == [c.outputs for c in books.code(after)]
    assert [c.source for c in books.code(before)] == [c.source for c in books.code(after)]
    changed = [c.id for c, d in zip(before.cells, after.cells, strict=True) if c.source != d.source]
    assert len(changed) == sum(c.cell_type == "markdown" for c in before.cells)


@pytest.fixture
def one(tmp_path, monkeypatch):
    """A lesson of three paragraphs, of which two are translated."""
    monkeypatch.setattr(translate, "ROOT", tmp_path)
    monkeypatch.setattr(translate.lessons, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(translate, "FOLDER", tmp_path / "translations")
    (tmp_path / "notebooks").mkdir()
    path = tmp_path / "notebooks" / "00_one.ipynb"

    def write(*cells):
        book = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell(t, id=f"c{n}") for n, t in enumerate(cells)]
        )
        nbformat.write(book, path)

    write("# Title\n\nA cat sat on the mat all day.", "Last words, [a link](../README.md).")
    file = translate.update(path, "de")
    for entry, german in zip(
        file, ["# Titel", "Eine Katze saß den ganzen Tag auf der Matte.", ""], strict=True
    ):
        entry.msgstr = german
    file.save(str(translate.po_path(path, "de")))
    return path, write


def test_a_paragraph_without_a_translation_stands_in_english(one):
    path, _ = one
    text = [c.source for c in translate.translated(path, "de").cells]
    assert text == [
        "# Titel\n\nEine Katze saß den ganzen Tag auf der Matte.",
        "Last words, [a link](../README.md).",
    ]
    assert [line.split("”")[1] for line in translate.stale(path, "de")] == [" has no translation"]
    translate.main(["build", "de"])
    built = nbformat.read(path.parent / "de" / path.name, as_version=4)
    assert built.cells[1].source == "Last words, [a link](../../README.md)."


def test_a_changed_paragraph_is_named_and_keeps_its_old_translation_beside_it(one):
    path, write = one
    write("# Title\n\nA cat sat on the mat all night.", "Last words, [a link](../README.md).")
    assert any("all night" in line and "has changed since" in line for line in translate.stale(path, "de"))
    file = translate.update(path, "de")
    entry = next(e for e in file if "night" in e.msgid)
    assert entry.fuzzy and "Matte" in entry.msgstr and "all day" in entry.previous_msgid
    assert "all night" in translate.translated(path, "de").cells[0].source  # the old one is not shown
    assert any("its translation is of an older text" in line for line in translate.stale(path, "de"))
    assert len(polib.pofile(str(translate.po_path(path, "de")))) == 3  # nothing is left of the old entry
    again = translate.update(path, "de")
    assert [(e.msgid, e.msgstr, e.flags) for e in again] == [(e.msgid, e.msgstr, e.flags) for e in file]


def test_code_and_formulas_stay_one_paragraph():
    text = "One.\n\n```\na\n\nb\n```\n\n$$\nx\n\ny\n$$\n\nTwo."
    assert translate.paragraphs(text) == ["One.", "```\na\n\nb\n```", "$$\nx\n\ny\n$$", "Two."]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status", "de", "99"], "no lesson 99: give two digits"),
        (["update", "German", "00"], "no code of a language"),
        (["status", "fr"], "no lesson in fr yet"),
        (["build", "fr", "00"], "translations/fr/00_one.po is not there"),
    ],
)
def test_bad_arguments_are_one_sentence(one, arguments, says):
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        translate.main(arguments)


def test_a_broken_file_is_one_sentence(one):
    path, _ = one
    translate.po_path(path, "de").write_text('msgid "a\nmsgstr', encoding="utf-8")
    with pytest.raises(ValueError, match="cannot be read"):
        translate.stale(path, "de")
