"""Checks of lesson 17; the judges are pytrec_eval's definition, the interval's formula, and plain cases."""

import math
from collections.abc import Callable

from helpers.exercises import judge

RANKINGS = {
    "an answer at the first place": (["a", "b"], {"a": 2, "b": 0}),
    "a helpful passage before the answer": (["a", "b", "c"], {"a": 1, "b": 0, "c": 2}),
    "passages that nobody has judged": (["x", "y", "z", "a"], {"a": 2}),
    "two answers": (["x", "b", "a"], {"a": 2, "b": 2}),
    "no answer among them": (["a", "b"], {"a": 1, "c": 2}),
    "an empty list": ([], {"a": 2}),
}


def reciprocal(reciprocal: Callable) -> None:
    """reciprocal(names, grades) -> 1 / place of the first id with grade 2, else 0."""
    wanted = {}
    for case, (names, grades) in RANKINGS.items():
        places = [place for place, name in enumerate(names, 1) if grades.get(name) == 2]
        wanted[case] = 1 / places[0] if places else 0.0

    def answer(case):
        names, grades = RANKINGS[case]
        return reciprocal(list(names), dict(grades))

    judge(answer, wanted, "reciprocal", same=_close, says=_number)


GAPS = {
    "a small and uneven gain": [0.3, -0.2, 0.1, 0.0, 0.25, -0.15, 0.05, 0.1],
    "the same as a loss": [-0.3, 0.2, -0.1, 0.0, -0.25, 0.15, -0.05, -0.1],
    "an even gain": [0.1, 0.11, 0.09, 0.1, 0.1],
    "two questions": [0.5, -0.1],
    "no difference in the mean": [0.2, -0.2, 0.1, -0.1],
}


def enough(enough: Callable) -> None:
    """enough(gaps) -> how many questions bring half the interval's width down to the mean."""
    import statistics

    wanted = {}
    for case, gaps in GAPS.items():
        mean = abs(sum(gaps) / len(gaps))
        wanted[case] = math.ceil((1.96 * statistics.stdev(gaps) / mean) ** 2) if mean > 1e-12 else "None"

    def answer(case):
        got = enough(list(GAPS[case]))
        return "None" if got is None and case.startswith("no difference") else got

    judge(answer, wanted, "enough", same=lambda got, right: type(got) is not bool and got == right)


PAIRS = {
    "six passages, one question each": ([(f"q{i}", f"p{i}") for i in range(1, 7)], 3),
    "two questions a passage": (
        [("q1", "a"), ("q2", "b"), ("q3", "a"), ("q4", "c"), ("q5", "b"), ("q6", "d")],
        2,
    ),
    "a passage that comes back at the end": (
        [("q1", "a"), ("q2", "b"), ("q3", "c"), ("q4", "d"), ("q5", "a")],
        3,
    ),
    "passages not in the order of the alphabet": (
        [("q1", "z"), ("q2", "a"), ("q3", "m"), ("q4", "b"), ("q5", "z")],
        2,
    ),
    "one passage for all": ([("q1", "a"), ("q2", "a"), ("q3", "a")], 2),
    "more held out than passages": ([("q1", "a"), ("q2", "b")], 9),
}


def split(split: Callable) -> None:
    """split(pairs, share) -> the pairs to train on, the pairs to hold out."""
    wanted = {}
    for case, (pairs, share) in PAIRS.items():
        held = set(list(dict.fromkeys(passage for _, passage in pairs))[::share])
        wanted[case] = (
            [pair for pair in pairs if pair[1] not in held],
            [pair for pair in pairs if pair[1] in held],
        )

    def answer(case):
        pairs, share = PAIRS[case]
        got = split(list(pairs), share)
        if got is None or got is ...:
            return got
        train, held = got
        return [tuple(pair) for pair in train], [tuple(pair) for pair in held]

    judge(answer, wanted, "split")


def _close(got: object, expected: float) -> bool:
    return not isinstance(got, bool) and abs(float(got) - expected) < 1e-6


def _number(value: object) -> str:
    return f"{float(value):.3f}"
