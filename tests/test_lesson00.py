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
    shown = books.shown("00", "margins")
    assert (
        shown.startswith("8 of 9 are nearer") and "{clear} of 9" in books.cell("00", "map-of-points").source
    )
    assert "the closest call is milk: 0.2062 to its own subject, 0.2058 to another" in shown
    assert "Eight sentences are clearly nearest" in PROSE and "by a hair, 0.2062 against 0.2058" in PROSE
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
    assert "[0.438 0.419]" in shown and "came second, with 0.419. The first, 0.438" in PROSE
    assert books.cell("00", "rag").source.count('.",\n') == 6  # rules


def test_lesson_3s_model_puts_the_fines_first():
    from sentence_transformers import CrossEncoder

    from helpers import models

    rules = re.findall(r'"(.+\.)",', books.cell("00", "rag").source)
    question = books.shown("00", "rag").partition("Question: ")[2].strip()
    folder = models.path("cross-encoder/ms-marco-MiniLM-L-12-v2", quiet=True)
    best = CrossEncoder(str(folder), device="cpu").rank(question, rules)[0]["corpus_id"]
    assert len(rules) == 6 and rules[best].startswith("Fines") and "puts the rule on fines first" in PROSE


def test_something_is_always_found():
    shown = books.shown("00", "unanswered")
    assert re.findall(r"  (0\.\d\d)  (\w+)", shown) == [("0.13", "Fines"), ("0.30", "The")]
    assert "umbrellas (0.13)" in PROSE and "swimming pool (0.30)" in PROSE and "0.30 is not far" in PROSE
