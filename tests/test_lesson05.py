"""Lesson 5: the losses against torch and sentence-transformers, and what its prose says of them."""

import re

import books
import pytest
import torch
import torch.nn.functional as F
from originals.test_originals import EYE, SCORES, TABLE

from helpers.exercises import lesson05

LESSON, SOLUTIONS = books.path("05"), books.path("05", solutions=True)


@pytest.fixture(scope="module")
def lesson():
    return books.definitions(
        LESSON, "contrastive_loss", "symmetric_loss", "margin_loss", "triplet_loss", "gradient"
    )


@pytest.fixture
def cosines():
    torch.manual_seed(0)
    a, b = (F.normalize(torch.randn(6, 16, dtype=torch.float64), dim=1) for _ in range(2))
    return a @ b.T


def test_published_losses_to_the_last_digits(lesson):
    for (up, down), wanted in zip(
        [(0, 0), (0.5, 0.02), (1.0, 0.04)], TABLE["contrastive_losses"]["value"], strict=True
    ):
        loss = lesson["contrastive_loss"](SCORES + up * EYE - down * (1 - EYE)).item()
        assert abs(loss - wanted) < 1e-7


def test_extra_columns_are_extra_wrong_answers(lesson, cosines):
    wide = torch.cat([cosines, cosines[:, :2]], dim=1)
    assert torch.allclose(lesson["contrastive_loss"](wide), F.cross_entropy(wide, torch.arange(6)))


@pytest.mark.parametrize("shape", [(3, 2), (0, 4), (4,), (1, 1)])
def test_a_table_that_cannot_be_right_is_refused(lesson, shape):
    with pytest.raises(ValueError, match="a row for each question"):
        lesson["contrastive_loss"](torch.zeros(shape))


def test_symmetric_loss_is_the_mean_of_both_directions(lesson, cosines):
    target = torch.arange(6)
    wanted = (F.cross_entropy(cosines, target) + F.cross_entropy(cosines.T, target)) / 2
    assert torch.allclose(lesson["symmetric_loss"](cosines), wanted)
    with pytest.raises(ValueError, match="as many questions as answers"):
        lesson["symmetric_loss"](cosines[:, :3])


def test_the_gradient_is_softmax_less_identity(lesson, cosines):
    slope = lesson["gradient"](lesson["contrastive_loss"], cosines)
    assert torch.allclose(slope, (cosines.softmax(1) - torch.eye(6)) / 6)


def test_triplet_loss_is_torchs(lesson, cosines):
    i, j = (~torch.eye(6, dtype=torch.bool)).nonzero().T
    distances = 1 - cosines  # torch asks for distances: the right answer's and the wrong one's
    wanted = F.margin_ranking_loss(distances[i, j], distances[i, i], torch.ones(30), margin=0.2)
    assert torch.allclose(lesson["triplet_loss"](cosines.float()), wanted.float())


def test_margin_loss_is_the_published_formula_cell_by_cell(lesson, cosines):
    cells = [
        (1 - s) ** 2 if i == j else max(0, s - 0.5) ** 2
        for i, row in enumerate(cosines.tolist())
        for j, s in enumerate(row)
    ]
    assert lesson["margin_loss"](cosines).item() == pytest.approx(sum(cells) / 36)


def test_only_the_margin_loss_sees_the_height_of_a_cosine(lesson, cosines):
    assert torch.allclose(lesson["triplet_loss"](cosines + 0.3), lesson["triplet_loss"](cosines))
    assert not torch.allclose(lesson["margin_loss"](cosines + 0.3), lesson["margin_loss"](cosines))


def test_the_worked_answers_are_right_and_the_blanks_are_not(capsys):
    names = ("by_hand", "symmetric_gradient", "without_twins")
    books.judge_exercises(lesson05, SOLUTIONS, capsys, *names, wrong=torch.tensor(0.0))


def test_what_the_prose_says_of_the_batch_of_eight():
    """Its sentences against the outputs that stand in the notebook."""
    import inspect

    from sentence_transformers.sentence_transformer.losses import ContrastiveLoss

    cells = books.read(LESSON).cells
    prose = " ".join(" ".join(c.source.split()) for c in cells if c.cell_type == "markdown")

    def numbers(tag, line):
        return [float(x) for x in re.search(line, books.shown("05", tag)).groups()]

    assert inspect.signature(ContrastiveLoss.__init__).parameters["margin"].default == 0.5
    assert "(0.5 here, as in the library's `ContrastiveLoss`)" in prose
    right, many = numbers("right_first", r"right answer first for (\d+) of (256) questions")
    assert "with one in thirty" in prose and round(many / (many - right)) in range(26, 35)
    assert "a quarter of which are wrong" in prose
    assert numbers("eight_pairs", r"right answer first for (\d+) of (8)") == [6, 8]
    eight, all_of_them = (numbers("best_temperature", rf"{n} pairs: .* at T = (\S+)")[0] for n in (8, 256))
    assert 0.05 < all_of_them * 2 < eight < 0.5, "the lowest point lies higher for the eight"
    pushes = {
        name: numbers("pushes", rf"{name} .*pushes +(\d+) of 56 wrong answers, and (\d) of the 2 that win")
        for name in ("margin", "triplet", "cross-entropy")
    }
    assert pushes["margin"] == [1, 1] and pushes["triplet"][1] == pushes["cross-entropy"][1] == 2
    before, after = numbers("higher", r"margin +(\S+), every cosine 0.2 higher: (\S+)")
    assert after < before, "the margin loss is pleased"
    for name in ("triplet", "cross-entropy"):
        before, after = numbers("higher", rf"{name} +(\S+), every cosine 0.2 higher: (\S+)")
        assert after == before
