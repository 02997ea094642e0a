"""Lesson 5: the losses against torch and sentence-transformers, and what its prose says of them."""

import inspect
import re

import books
import pytest
import torch
import torch.nn.functional as F
from originals.test_originals import EYE, SCORES, TABLE
from sentence_transformers.sentence_transformer.losses import ContrastiveLoss

from helpers import data
from helpers.exercises import lesson05

LESSON, SOLUTIONS = books.path("05"), books.path("05", solutions=True)
PROSE = " ".join(" ".join(c.source.split()) for c in books.read(LESSON).cells if c.cell_type == "markdown")


@pytest.fixture(scope="module")
def lesson():
    return books.definitions(
        LESSON,
        "contrastive_loss",
        "symmetric_loss",
        "margin_loss",
        "triplet_loss",
        "gradient",
        "floor",
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


def unshifted(scores):
    """The textbook formula, which overflows."""
    return -(scores.exp().diagonal() / scores.exp().sum(dim=1)).log().mean()


def left_out_of_all(scores, answers):
    """A twin's column is taken from every row, not from its own alone."""
    kept = [j for j, answer in enumerate(answers) if answers.index(answer) == j]
    return F.cross_entropy(scores[kept][:, kept], torch.arange(len(kept)))


def as_right_too(scores, answers):
    """A twin counts as a right answer, in place of being left out."""
    same = torch.tensor([[a == b for b in answers] for a in answers])
    return (scores.logsumexp(1) - scores.masked_fill(~same, -torch.inf).logsumexp(1)).mean()


def with_zeros(scores, answers):
    """A twin's score becomes 0, which is a score like another."""
    twin = torch.tensor([[a == b for b in answers] for a in answers]) & ~torch.eye(
        len(answers), dtype=torch.bool
    )
    return F.cross_entropy(scores.masked_fill(twin, 0), torch.arange(len(answers)))


def eye(scores):
    return torch.eye(len(scores))


WRONG = {
    "by_hand": {
        "overflow": unshifted,
        "the logarithm of a softmax, which underflows": lambda s: -s.softmax(dim=1).diagonal().log().mean(),
        "overflow called 1": lambda s: (
            -(s.exp().diagonal() / s.exp().sum(1)).nan_to_num(nan=1.0).log().mean()
        ),
        "underflow kept from 0": lambda s: -(s.softmax(dim=1).diagonal() + 1e-12).log().mean(),
        "a sum": lambda s: (s.logsumexp(1) - s.diagonal()).sum(),
        "the sign": lambda s: (s.diagonal() - s.logsumexp(1)).mean(),
        "columns": lambda s: F.cross_entropy(s.T[: len(s)], torch.arange(len(s))),
        "the largest score": lambda s: (s.logsumexp(1) - s.max(dim=1).values).mean(),
        "a loss a row": lambda s: s.logsumexp(1) - s.diagonal(),
        "NaN": lambda s: float("nan"),
    },
    "symmetric_gradient": {
        "rows alone": lambda s: (s.softmax(1) - eye(s)) / len(s),
        "columns alone": lambda s: (s.softmax(0) - eye(s)) / len(s),
        "not halved": lambda s: (s.softmax(1) + s.softmax(0) - 2 * eye(s)) / len(s),
        "not divided by N": lambda s: (s.softmax(1) + s.softmax(0) - 2 * eye(s)) / 2,
        "one identity": lambda s: (s.softmax(1) + s.softmax(0) - eye(s)) / (2 * len(s)),
        "the sign": lambda s: (2 * eye(s) - s.softmax(1) - s.softmax(0)) / (2 * len(s)),
        "a number": lambda s: 0.0,
    },
    "without_twins": {
        "answers not read": lambda s, answers: F.cross_entropy(s, torch.arange(len(s))),
        "left out of every row": left_out_of_all,
        "twins are right too": as_right_too,
        "a score of 0": with_zeros,
        "NaN": lambda s, answers: float("nan"),
    },
}


@pytest.mark.parametrize(("name", "mistake"), [(name, mistake) for name in WRONG for mistake in WRONG[name]])
def test_the_usual_wrong_answers_are_told(name, mistake, capsys):
    getattr(lesson05, name)(WRONG[name][mistake])
    told = capsys.readouterr().out
    assert told.startswith(f"Not yet: {name} for") and told.count("\n") == 1, told


# what the prose says, against the outputs that the notebook holds -----------------------------


def said(sentence: str) -> bool:
    return " ".join(sentence.split()) in PROSE


def numbers(tag, line):
    """What the groups of the line hold in the output of the tagged cell, as it is printed there."""
    found = re.search(line, books.shown("05", tag))
    assert found, f"{line} not in:\n{books.shown('05', tag)}"
    return found.groups()


def test_what_the_four_questions_cost():
    costs = [float(x) for x in re.findall(r"costs (\S+)", books.shown("05", "costs"))]
    chance, honey = numbers("costs", r"honey\? +right with (\S+), costs (\S+)")
    assert said(
        f"gets {float(chance):.2f} of the probability: {float(honey):.2f} of the {sum(costs):.2f} that"
    )
    assert float(honey) == max(costs) and len(costs) == 4
    (raised,), (plain,) = (
        numbers("changed", rf"{row} +loss (\S+),") for row in (r"first column \+ 10", "as they are")
    )
    assert said(f"is punished hard: {float(raised):.2f} in place of {float(plain):.2f}.")


def test_what_the_scores_are_told(lesson):
    slope = lesson["gradient"](lesson["contrastive_loss"], SCORES)
    assert said(
        f"lacks most and has −{-slope[2, 2]:.3f}; the swallows are settled and have −{-slope[3, 3]:.3f}."
    )
    assert slope.diagonal().argmin() == 2 and slope.diagonal().argmax() == 3
    assert said(f"is pushed harder (+{slope[2, 3]:.3f} and +{slope[2, 1]:.3f})")
    before, old = numbers("steps", r"step 0: loss (\S+), honey row \[\S+ \S+ +(\S+) ")
    after, new = numbers("steps", r"step 3: loss (\S+), honey row \[\S+ \S+ +(\S+) ")
    assert float(after) < float(before) / 2
    told = f"from {float(before):.3f} to {float(after):.3f}, and the honey answer's score has risen from"
    assert said(f"Three steps have more than halved the loss, {told} {float(old):.2f} to {new}.")


def test_where_the_three_pairs_end():
    line = r"after +{} steps: loss (\S+), (\d) of 3 right, own cosine (\S+), others' (\S+)"
    start, one, two, end = (numbers("vector_steps", line.format(step)) for step in (0, 1, 2, 100))
    loss = [f"{float(row[0]):.3f}" for row in (start, one, two, end)]
    assert said(
        f"One step lowers the loss from {loss[0]} to {loss[1]}, the second to {loss[2]}, and now all three"
    )
    assert [row[1] for row in (start, one, two, end)] == ["1", "1", "3", "3"]
    assert said("so that two of the three questions prefer a wrong answer")
    assert said(
        f"own cosine {end[2]}. The three pairs are a third of the circle apart, cosine {end[3].replace('-', '−')},"
    )
    assert float(end[3]) == -0.5 and said(f"the loss has stopped at {loss[3]}.")
    assert "equals the formula: True" in books.shown("05", "push_formula")


def test_no_vectors_get_below_the_floor(lesson):
    draw = torch.Generator().manual_seed(0)
    for n, dim, s in [(2, 1, 1.0), (3, 2, 1.0), (5, 3, 4.0), (8, 7, 1.0), (8, 20, 20.0)]:
        for _ in range(50):
            q, a = (
                F.normalize(torch.randn(n, dim, generator=draw, dtype=torch.float64), dim=1) for _ in "qa"
            )
            q = F.normalize(q + torch.rand(1, generator=draw) * 3 * a, dim=1)
            assert lesson["contrastive_loss"](s * q @ a.T) >= lesson["floor"](n, s) - 1e-12
        corners = F.normalize(torch.eye(n, dtype=torch.float64) - 1 / n, dim=1)
        assert lesson["contrastive_loss"](s * corners @ corners.T).item() == pytest.approx(
            lesson["floor"](n, s)
        )


def test_the_floor_and_what_mini_lm_has_to_gain(lesson):
    rows = re.findall(
        r"(\d+) pairs: knows nothing \S+, trained (\S+), floor (\S+); if opposites were possible (\S+); right first (\d+)",
        books.shown("05", "floors"),
    )
    assert all(n == right for n, *_, right in rows) and said("every question has its own answer first.")
    floors = {int(n): (float(trained), float(floor), opposite) for n, trained, floor, opposite, _ in rows}
    assert list(floors) == [3, 8, 32, 256]
    assert all(0 <= trained - floor < 0.0015 for trained, floor, _ in floors.values())
    assert said(
        f"within 0.001 of the floor, {floors[8][1]} for 8 pairs and {floors[256][1]} for 256, and none goes below."
    )
    assert said(f"Opposites would give {floors[8][2]} and {floors[256][2]}, but")
    eight, knows_eight = numbers("eight_pairs", r"as they are: (\S+) \(ln 8 = (\S+)\)")
    many, knows_many = numbers("eight_pairs", r"all 256 pairs: +(\S+) \(ln 256 = (\S+)\)")
    assert said(
        f"the losses, {eight} and {many}, are not far below those of knowing nothing, {knows_eight} and {knows_many}."
    )
    gains = float(eight) - floors[8][1], float(many) - floors[256][1]
    assert said(
        f"MiniLM's {eight} on eight pairs can lose at most {gains[0]:.2f} and its {many} on the 256 at most {gains[1]:.2f},"
    )
    assert said("With $s = 20$ the floor is 0.000 up to a thousand pairs.")
    drawn = torch.nn.functional.normalize(
        torch.randn(1000, 384, generator=torch.Generator().manual_seed(0)), dim=1
    )
    by_chance = lesson["contrastive_loss"](20 * drawn @ drawn.T).item()
    assert said(f"each question on its answer, have a loss of {by_chance:.6f}.")
    assert all(lesson["floor"](n, 20) < 0.0005 for n in range(2, 1001))


def test_what_the_prose_says_of_temperature():
    losses = dict(re.findall(r"(?m)^(\d\.\d\d) +(\S+) +6 ", books.shown("05", "temperatures")))
    assert len(losses) == 7 and min(losses.values(), key=float) == losses["0.10"]
    assert said(f"lowers the loss, from {losses['1.00']} to {losses['0.10']} at $T = 0.1$,")
    assert said(f"then it raises it, to {losses['0.01']} at 0.01,")
    (right, many), (first, eight) = (
        numbers("right_first", r"right answer first for (\d+) of (256) questions"),
        numbers("eight_pairs", r"right answer first for (\d+) of (8)"),
    )
    assert said(f"It is right for {right} of {many}.") and (first, eight) == ("6", "8")
    assert said("Six of eight questions rank their own answer first, among the 256 all but nine,")
    at = [numbers("best_temperature", rf"{n} pairs: .* at T = (\S+)")[0] for n in (8, 256)]
    assert int(many) - int(right) == 9
    assert said(
        f"at {at[0]} for the eight, a quarter of which are wrong, and at {at[1]} for the 256, of which 9 are."
    )
    share = dict(
        re.findall(r"T = (\S+) +the hardest of 7 wrong answers takes (\d+)%", books.shown("05", "hardest"))
    )
    (equal,) = set(re.findall(r"equal shares: (\d+)%", books.shown("05", "hardest")))
    assert said(
        f"takes {share['1']} % of its row's push at $T = 1$, little more than its equal share of {equal} %; at 0.05"
    )
    assert said(f"at 0.05 it takes {share['0.05']} %, at 0.01 {share['0.01']} %.")
    library, ours = re.findall(r": +(\S+)", books.shown("05", "library"))
    assert library == ours


def test_what_the_prose_says_of_margin_and_triplet():
    assert inspect.signature(ContrastiveLoss.__init__).parameters["margin"].default == 0.5
    assert said("(0.5 here, as in the library's `ContrastiveLoss`)")
    line = r"{} .*pushes +(\d+) of 56 wrong answers, and (\d) of the 2 that win"
    pushed = [numbers("pushes", line.format(name)) for name in ("margin", "triplet", "cross-entropy")]
    assert pushed == [("1", "1"), ("4", "2"), ("2", "2")]
    assert said("only if its cosine is above $m$: one of 56 here.")
    winner, own = numbers("eight_pairs", r"question 7 prefers answer 8 \((\S+)\) to its own \((\S+)\)")
    assert float(own) < float(winner) < 0.5 and said(
        f"Question 7's winner, at {winner} below $m$, goes unnoticed."
    )
    assert said("so it pushes both winners, and two more;") and said(
        "the two winners take 98.8 % of its push"
    )
    share, more = numbers("pushes", r"the winners take (\S+)% of the push; at T = 0.2 it counts (\d+) of 56")
    assert share == "98.8" and more == "56" and said("at $T = 0.2$ all 56 are pushed")
    before, after = numbers("higher", r"margin +(\S+), every cosine 0.2 higher: (\S+)")
    assert float(after) < float(before) and said(f"here it falls, from {before} to {after}:")
    for name in ("triplet", "cross-entropy"):
        before, after = numbers("higher", rf"{name} +(\S+), every cosine 0.2 higher: (\S+)")
        assert after == before


def test_what_each_direction_is_blind_to():
    line = r"(?m)^{} +(\S+) +(\S+) +\S+$"
    plain, column, row = (
        [float(x) for x in numbers("directions", line.format(name))]
        for name in ("the published scores", r"first column \+ 3", r"first row \+ 3")
    )
    assert column[1] == plain[1] and row[0] == plain[0]
    assert said(f"costs {column[0] - plain[0]:.2f} more along the rows and nothing along the columns;")
    assert said(f"costs {row[1] - plain[1]:.2f} more along the columns and nothing along the rows.")


def test_what_the_same_sentence_twice_gains():
    start, dropout, without = (
        numbers("simcse", rf"{name}: +Pearson \S+; Spearman \S+; unrelated pairs (\S+)")[0]
        for name in ("raw BERT, mean", r"16 steps, dropout 0\.1", "16 steps, no dropout")
    )
    assert said(f"the cosine of unrelated pairs falls from {start} to {dropout}.")
    assert said(f"Without it the same steps end at {without},")
    line = r"{}; Pearson (\S+) \[(\S+), (\S+)\]; Spearman (\S+) \[(\S+), (\S+)\]"
    gain, low, high, by_rank, low_rank, high_rank = numbers("simcse", line.format(r"dropout 0\.1, gain"))
    assert float(low) < 0 < float(high) and float(low_rank) < 0 < float(high_rank)
    told = f"Pearson {gain} ({low} to {float(high)}), Spearman {by_rank} ({low_rank} to {float(high_rank)})."
    assert said(told.replace("-", "−"))
    *_, low, high = map(float, numbers("simcse", line.format("no dropout, gain")))
    assert 0 < low < 0.005 and said(f"whose gain is just clear of 0 ({low} to {high})")
    more, low, high = (
        x.replace("-", "−").lstrip("+")
        for x in numbers("simcse", line.format("dropout minus no dropout"))[:3]
    )
    assert low.startswith("−") and not high.startswith("−")
    assert said(f"the difference in Pearson is {more} ({low} to {high}).")
    plain = (data.sts(data.SHARED / "sts_sample.tsv")["kind"] == "plain").sum()
    assert said(f"gains nothing in this minute that {plain} pairs can show")
    (floor,) = numbers("floors", r"  8 pairs: .* floor (\S+);")
    assert said(f"$\\ln(1 + (N-1)\\,e^{{-N/(N-1)}})$, {floor} for eight pairs.")
