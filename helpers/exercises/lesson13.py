"""Checks of lesson 13; the judges are scipy and scikit-learn, and for the cutting plain cases."""

import math
from collections.abc import Callable

from helpers.exercises import judge

# Sentences, how many words a piece may have, and the pieces.
PACKS = {
    "three short sentences that fit together": (
        ["One two.", "Three four.", "Five six."],
        6,
        ["One two. Three four. Five six."],
    ),
    "a sentence too many for the first piece": (
        ["One two three.", "Four five.", "Six seven."],
        5,
        ["One two three. Four five.", "Six seven."],
    ),
    "a sentence longer than the size": (
        ["One.", "Two three four five six.", "Seven."],
        3,
        ["One.", "Two three four five six.", "Seven."],
    ),
    "every sentence as long as the size": (["One two.", "Three four."], 2, ["One two.", "Three four."]),
    "one sentence": (["One two three."], 10, ["One two three."]),
    "no sentence": ([], 10, []),
    "two sentences in every piece": (
        ["One two.", "Three four.", "Five six.", "Seven eight."],
        4,
        ["One two. Three four.", "Five six. Seven eight."],
    ),
    "a long sentence first, then two that fit together": (
        ["One two three four.", "Five.", "Six."],
        3,
        ["One two three four.", "Five. Six."],
    ),
}


def pack(pack: Callable) -> None:
    """pack(sentences, size) -> pieces of whole sentences."""
    cases = {f"{name} (size {size})": (given, size, out) for name, (given, size, out) in PACKS.items()}

    def answer(case):
        sentences, size, _ = cases[case]
        return pack(list(sentences), size)

    judge(answer, {case: out for case, (_, _, out) in cases.items()}, "pack")


LISTS = {
    "the same two ids in both": ({"a": 0.9, "b": 0.1}, {"a": 3.0, "b": 7.0}, 0.8),
    "ids that one list does not have": ({"a": 0.9, "b": 0.5, "c": 0.4}, {"c": 12.0, "d": 7.0, "e": 2.0}, 0.5),
    "an extreme score": ({"a": 0.6, "b": 0.5, "c": 0.4}, {"a": 5.0, "b": 90.0, "d": 6.0, "e": 4.0}, 0.3),
    "all of the first": ({"a": 0.6, "b": 0.5}, {"b": 1.0, "c": 2.0, "d": 4.0}, 1.0),
    "equal scores in the first (numpy computes their standard deviation as 1e-17)": (
        {"a": 0.1, "b": 0.1, "c": 0.1},
        {"a": 5.0, "b": 90.0, "d": 6.0},
        0.6,
    ),
    "one entry in the second": ({"a": 0.6, "b": 0.5, "c": 0.1}, {"d": 4.0}, 0.6),
}


def standard(standard: Callable) -> None:
    """standard(first, second, weight) -> {id: score}; the judge is scipy's zscore.

    Where all scores of a list are equal, zscore has no number, and 0 is right.
    """
    import warnings

    import numpy as np
    from scipy.stats import zscore

    def scale(scores):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of equal scores
            return dict(zip(scores, np.nan_to_num(zscore(list(scores.values()))), strict=True))

    def library(first, second, weight):
        scaled = [scale(x) for x in (first, second)]
        low = [min(x.values()) for x in scaled]
        both = [*first, *(name for name in second if name not in first)]
        return {n: weight * scaled[0].get(n, low[0]) + (1 - weight) * scaled[1].get(n, low[1]) for n in both}

    def answer(case):
        first, second, weight = LISTS[case]
        return standard(dict(first), dict(second), weight)

    def same(got, expected):
        return got.keys() == expected.keys() and all(abs(got[n] - expected[n]) < 1e-6 for n in expected)

    judge(answer, {case: library(*given) for case, given in LISTS.items()}, "standard", same, _says)


def cheapest(cheapest: Callable) -> None:
    """cheapest(inside, outside, cost) -> threshold; the judge is scikit-learn's roc_curve.

    Any of the scores is right that costs as little as the best one.
    """
    import numpy as np
    from sklearn.metrics import roc_curve

    draw = np.random.default_rng(0)
    clouds = draw.normal(0.6, 0.1, 80).round(3), draw.normal(0.35, 0.12, 40).round(3)
    cases = {
        "two clouds that lie apart": (np.array([0.7, 0.8, 0.9]), np.array([0.1, 0.2]), 1),
        "two clouds that overlap": (*clouds, 1),
        "the same, a wrong answer costs ten times as much": (*clouds, 10),
        "the same, a wrong answer costs a tenth": (*clouds, 0.1),
        "wrong answers above all right ones": (np.array([0.3, 0.4]), np.array([0.5, 0.6, 0.7]), 10),
    }

    def library(inside, outside, cost):
        right = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
        false, true, thresholds = roc_curve(right, np.r_[inside, outside], drop_intermediate=False)
        costs = (1 - true + cost * false)[1:]  # the first threshold refuses everything
        return float(thresholds[1:][costs.argmin()])

    def price(case, threshold):
        inside, outside, cost = cases[case]
        return (inside < threshold).mean() + cost * (outside >= threshold).mean()

    wanted = {case: (case, library(*given)) for case, given in cases.items()}

    def answer(case):
        inside, outside, cost = cases[case]
        got = cheapest(inside.copy(), outside.copy(), cost)
        if got is None or got is ...:
            return got
        if math.isnan(got):
            raise ValueError("a threshold that is no number (nan) refuses nothing and answers nothing")
        return case, float(got)

    def is_score(case, threshold):
        return bool(np.isclose(np.r_[cases[case][:2]], threshold, rtol=0, atol=1e-6).any())

    def same(got, expected):
        return price(*got) <= price(*expected) + 1e-9 and is_score(*got)

    def says(value):
        if not isinstance(value, tuple):
            return repr(value)
        none = "" if is_score(*value) else ", which is none of the scores in inside and outside"
        return f"{value[1]:.3f} (mean cost {price(*value):.3f}){none}"

    judge(answer, wanted, "cheapest", same, says)


def _says(value: object) -> str:
    if not isinstance(value, dict):
        return repr(value)
    return "{" + ", ".join(f"{n}: {float(x):.3f}" for n, x in value.items()) + "}"
