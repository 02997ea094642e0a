"""The questions for the class: each has one right answer, which a cell of the lesson bears out."""

import re
from collections import Counter

import books
import pytest
import quiz

NUMBERS = [p.name[:2] for p in books.LESSONS]


@pytest.mark.parametrize("number", NUMBERS)
def test_each_question_has_one_right_answer_that_the_lesson_bears_out(number):
    cells = {c.id: c for c in books.read(books.path(number)).cells}
    asked = quiz.questions(number)
    assert 4 <= len(asked) <= 6
    for question, options in zip(asked, quiz.options(number), strict=True):
        place = f"lesson {number}: {question['asks'][:60]}"
        assert 2 <= len(question["wrong"]) <= 3, place
        assert sum(right for *_, right in options) == 1 and len({says for says, *_ in options}) == len(
            options
        ), place
        assert all(len(why) >= 30 for _, why, _ in options), place
        said = books.said(cells[question["cell"]])
        assert len(question["shows"]) >= 4 and question["shows"] in said, (
            f"{place}: no {question['shows']!r} in\n{said}"
        )


@pytest.mark.parametrize("number", NUMBERS)
def test_every_figure_of_an_explanation_stands_in_the_lesson(number):
    """A number with a decimal point that an explanation quotes was printed, or stands in its question."""
    book = books.read(books.path(number))
    lesson = "\n".join(c.source if "quiz" not in books.tags(c) else "" for c in book.cells)
    lesson += "\n".join(books.said(c) for c in books.code(book))
    decimals = lambda text: {n.strip("0") for n in re.findall(r"(?<![\w.])\d*\.\d+(?!\w)", text)}
    for question in quiz.questions(number):
        every = [
            question["because"],
            question["right"],
            *(part for pair in question["wrong"] for part in pair),
        ]
        made_up = decimals(
            question["asks"] + question["right"] + " ".join(says for says, _ in question["wrong"])
        )
        for text in every:
            missing = decimals(text) - decimals(lesson) - made_up
            assert not missing, f"lesson {number}: {sorted(missing)} in {text!r}"


def test_the_right_answer_has_no_usual_place_and_no_usual_length():
    places, longest, many = Counter(), 0, 0
    for number in NUMBERS:
        for question, options in zip(quiz.questions(number), quiz.options(number), strict=True):
            places[[right for *_, right in options].index(True)] += 1
            longest += len(question["right"]) == max(len(says) for says, *_ in options)
            many += 1
    assert many >= 72 and longest < 0.5 * many, (longest, many)
    assert all(0.18 * many < places[place] < 0.32 * many for place in range(4)), places


@pytest.mark.parametrize("number", NUMBERS)
def test_the_notebook_has_the_questions_as_they_are_in_the_file(number):
    cell = books.cell(number, "quiz")
    assert cell.source == quiz.rendered(number), f"run: python site/quiz.py {number}"
    assert cell.source.count("<details>") == cell.source.count("</details>") == cell.source.count("<summary>")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[question]\nasks = 1", "00.toml: "),
        ("title = 'x'", "00.toml: 'question'"),
        ("[[question]]\nasks = 'x'\nright = 'y'", "question 1: no because, cell, shows, wrong"),
        (
            "[[question]]\nasks = 'x'\nright = 'y'\nbecause = ''\ncell = ''\nshows = ''\nwrong = ['z']",
            "question 1: give each wrong answer with what it confuses",
        ),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path, monkeypatch, text, says):
    (tmp_path / "shared_data" / "quiz").mkdir(parents=True)
    (tmp_path / "shared_data" / "quiz" / "00.toml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(quiz, "ROOT", tmp_path)
    with pytest.raises(ValueError, match=re.escape(says)):
        quiz.questions("00")
