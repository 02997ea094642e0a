"""Checks of lesson 5; the judge is torch."""

from collections.abc import Callable

from helpers.exercises import close, judge, same_table, say_number, say_table

FOUR = [[4.3, 1.2, 0.05, 1.07], [0.18, 3.2, 0.09, 0.05], [0.85, 0.27, 2.2, 1.03], [0.23, 0.57, 0.12, 5.1]]
TWO = [[2.0, 1.0], [0.0, 3.0]]


def by_hand(by_hand: Callable) -> None:
    """by_hand(scores) -> loss; the judge is torch's cross_entropy with target arange(N)."""
    import torch

    table = torch.tensor(FOUR)
    cases = {
        "scores [[2, 1], [0, 3]]": torch.tensor(TWO),
        "the lesson's four by four scores": table,
        "the same without its last row (four answers, three questions)": table[:3],
        "its rows upside down (the right answer is rarely first)": table.flip(0),
        "two hundred times the scores (exp is too large for a float32)": 200 * table,
        "two hundred times the scores, upside down (some probabilities are too small for a float32)": (
            200 * table.flip(0)
        ),
    }
    wanted = {
        name: torch.nn.functional.cross_entropy(s, torch.arange(len(s))).item() for name, s in cases.items()
    }
    judge(lambda name: by_hand(cases[name].clone()), wanted, "by_hand", close, say_number)


def symmetric_gradient(symmetric_gradient: Callable) -> None:
    """symmetric_gradient(scores) -> (N, N); the judge is torch's own differentiation."""
    import torch

    table = torch.tensor(FOUR)
    cases = {
        "scores [[2, 1], [0, 3]]": torch.tensor(TWO),
        "the lesson's scores": table,
        "the lesson's scores upside down": table.flip(0),
    }

    def library(scores):
        scores, target = scores.clone().requires_grad_(), torch.arange(len(scores))
        loss = torch.nn.functional.cross_entropy
        ((loss(scores, target) + loss(scores.T, target)) / 2).backward()
        return scores.grad

    wanted = {name: library(scores) for name, scores in cases.items()}
    judge(
        lambda name: symmetric_gradient(cases[name].clone()),
        wanted,
        "symmetric_gradient",
        same_table,
        say_table,
    )


def without_twins(without_twins: Callable) -> None:
    """without_twins(scores, answers) -> loss; the judge is torch's cross_entropy, row by row,
    over the columns that remain."""
    import torch

    table = torch.tensor(FOUR)
    cases = {
        "scores [[2, 1], [0, 3]] with the answers a, a": (torch.tensor(TWO), ["a", "a"]),
        "the lesson's scores with four different answers": (table, ["a", "b", "c", "d"]),
        "the lesson's scores with the answers a, b, a, d": (table, ["a", "b", "a", "d"]),
        "the lesson's scores with the answers a, b, b, b": (table, ["a", "b", "b", "b"]),
    }

    def library(scores, answers):
        costs = []
        for i, row in enumerate(scores):
            kept = [j for j, text in enumerate(answers) if j == i or text != answers[i]]
            own = torch.tensor(kept.index(i))
            costs.append(torch.nn.functional.cross_entropy(row[kept], own))
        return torch.stack(costs).mean().item()

    wanted = {name: library(*case) for name, case in cases.items()}
    judge(
        lambda name: without_twins(cases[name][0].clone(), list(cases[name][1])),
        wanted,
        "without_twins",
        close,
        say_number,
    )
