"""Lesson 0: what its sentences say of its outputs."""

import re

import books

PROSE = " ".join(
    " ".join(cell.source.split())
    for cell in books.read(books.path("00")).cells
    if cell.cell_type == "markdown"
)


def test_the_blocks_and_the_map():
    from sentence_transformers import SentenceTransformer

    from helpers import models

    model = SentenceTransformer(
        str(models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)), device="cpu"
    )
    sentences = re.findall(r'"([A-Z].+[.?])"', books.cell("00", "sentences").source)
    cosines = model.similarity(model.encode(sentences), model.encode(sentences)).numpy()
    subject = [i // 3 for i in range(9)]
    pairs = [(i, j) for i in range(9) for j in range(i)]
    within = [cosines[i, j] for i, j in pairs if subject[i] == subject[j]]
    across = [cosines[i, j] for i, j in pairs if subject[i] != subject[j]]
    assert round(sum(within) / len(within), 2) == 0.28 and round(sum(across) / len(across), 2) == 0.08
    assert "0.28 within a subject and 0.08 across" in PROSE
    assert round(cosines[1, 0], 2) == round(cosines[1, 5], 2) == 0.21 and "as to *kettle* (0.21)" in PROSE
    for i in range(9):
        nearest = max((j for j in range(9) if j != i), key=lambda j: cosines[i, j])
        assert subject[nearest] == subject[i], sentences[i]
    assert "{nearest_own} of 9 sentences" in books.cell("00", "map-of-points").source
    assert "keep 39% of the variance" in books.shown("00", "map-of-points") and "keeps 39 %" in PROSE


def test_the_suspect():
    scores = re.findall(r"(0\.\d\d)  (\w+ \w+)", books.shown("00", "odd-one-out"))
    assert scores[0] == ("0.05", "The boiler") and scores[1][0] == "0.16"
    assert "suspect, at 0.05; the next message has 0.16" in PROSE


def test_the_rules_that_were_found():
    shown = books.shown("00", "rag")
    found, question = re.findall(r"- (.+)", shown), shown.partition("Question: ")[2]
    assert "three weeks" in found[0] and "Fines are ten pence a day" in found[1] and len(found) == 2
    words = lambda text: set(re.findall("[a-z]+", text.lower()))
    assert words(found[1]) & words(question) == {"a"} and "no word with the question but *a*" in PROSE
    assert books.cell("00", "rag").source.count('.",\n') == 6  # rules
