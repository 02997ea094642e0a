"""Checks of lesson 11; the judges are pytrec_eval and scipy."""

from collections.abc import Callable

from helpers.exercises import close, judge, say_number

# What a search gave, {document: score}, and what is relevant, {document: grade}.
RUNS = {
    "one relevant document, at place 3": ({"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.1}, {"c": 1}),
    "scores in no order": ({"a": 0.1, "b": 0.9, "c": 0.5}, {"c": 1, "a": 2}),
    "a relevant document that was not found": ({"a": 0.9, "b": 0.8, "c": 0.7}, {"b": 1, "x": 1}),
    "documents graded 0": ({"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}, {"a": 0, "b": 3, "c": 0, "d": 1}),
    "nothing relevant found": ({"a": 0.9, "b": 0.8}, {"x": 1}),
    "twelve documents": (
        {letter: 1 / place for place, letter in enumerate("abcdefghijkl", 1)},
        {"b": 1, "e": 2, "k": 1, "l": 1},
    ),
}

# For the reciprocal rank alone, which is not cut at place 10.
LATE = {
    "a first relevant document at place 11": (
        {letter: 1 / place for place, letter in enumerate("abcdefghijkl", 1)},
        {"k": 1, "l": 1},
    )
}


def _trec(measure: str, runs: dict = RUNS) -> dict[str, float]:
    import pytrec_eval

    name = measure.replace(".", "_")
    wanted = {}
    for case, (run, grades) in runs.items():
        judge_ = pytrec_eval.RelevanceEvaluator({"q": grades}, {measure})
        wanted[case] = judge_.evaluate({"q": run})["q"][name]
    return wanted


def recall(recall: Callable) -> None:
    """recall(run, grades, k) -> share; the judge is pytrec_eval's recall at 1, 3 and 10."""
    wanted = {(case, f"k = {k}"): value for k in (1, 3, 10) for case, value in _trec(f"recall.{k}").items()}

    def answer(case):
        run, grades = RUNS[case[0]]
        return recall(dict(run), dict(grades), int(case[1][4:]))

    cases = {f"{case}, {k}": (case, k) for case, k in wanted}
    judge(
        lambda name: answer(cases[name]),
        {name: wanted[key] for name, key in cases.items()},
        "recall",
        close,
        say_number,
    )


def reciprocal_rank(reciprocal_rank: Callable) -> None:
    """reciprocal_rank(run, grades) -> 1 / place; the judge is pytrec_eval's recip_rank."""
    runs = RUNS | LATE
    judge(
        lambda case: reciprocal_rank(*map(dict, runs[case])),
        _trec("recip_rank", runs),
        "reciprocal_rank",
        close,
        say_number,
    )


def average_precision(average_precision: Callable) -> None:
    """average_precision(run, grades) -> number; the judge is pytrec_eval's map."""
    judge(
        lambda case: average_precision(*map(dict, RUNS[case])),
        _trec("map"),
        "average_precision",
        close,
        say_number,
    )


def interval(interval: Callable) -> None:
    """interval(first, second) -> (low, high); the judge is scipy's bootstrap of the difference."""
    import numpy as np
    from scipy.stats import bootstrap

    draw = np.random.default_rng(0)
    hard = draw.random(200)
    noise = draw.normal(size=(2, 200)) / 20
    cases = {
        "the same scores twice": (hard, hard),
        "a second model that is better by 0.1 everywhere": (hard, hard + 0.1),
        "two models that find the same items hard (draw items, not scores)": (
            hard + noise[0],
            hard + noise[1],
        ),
        "two models with nothing in common": (draw.random(100), draw.random(100)),
    }

    def library(first, second):
        gap = first - second
        if np.ptp(gap) < 1e-9:
            return (gap.mean(), gap.mean())
        found = bootstrap((gap,), np.mean, n_resamples=20_000, batch=2000, method="percentile", rng=0)
        return tuple(found.confidence_interval)

    def same(got, expected):
        low, high = (float(x) for x in got)
        # a 90 % interval is 8 % of the width short at each end; 1,000 draws are rarely 7 % off
        tolerance = 0.07 * (expected[1] - expected[0]) + 1e-6
        return abs(low - expected[0]) <= tolerance and abs(high - expected[1]) <= tolerance

    def says(value):
        return "({:+.3f}, {:+.3f})".format(*(float(x) for x in value)) if len(value) == 2 else repr(value)

    wanted = {name: library(*case) for name, case in cases.items()}
    judge(lambda name: interval(*(x.copy() for x in cases[name])), wanted, "interval", same, says)
