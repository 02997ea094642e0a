"""Checks of lesson 15; the judges are numpy, torch and scipy."""

from collections.abc import Callable

from helpers.exercises import close, judge, same_table, say_number, say_table


def hamming(hamming: Callable) -> None:
    """hamming(a, b) -> (n, m) differing bits; the judge is numpy's unpackbits."""
    import numpy as np

    draw = np.random.default_rng(0)

    def bits(rows: int, width: int = 6) -> np.ndarray:
        return draw.integers(256, size=(rows, width), dtype=np.uint8)

    one = bits(1)
    cases = {
        "a vector with itself and with its opposite": (one, np.concatenate([one, ~one])),
        "two vectors and three": (bits(2), bits(3)),
        "bytes that differ in one bit (count bits, not bytes)": (
            np.zeros((1, 2), dtype=np.uint8),
            np.array([[1, 0], [128, 3]], dtype=np.uint8),
        ),
        "vectors of 48 bytes, all of whose bits differ (a byte cannot count to 384)": (
            np.zeros((1, 48), dtype=np.uint8),
            np.full((2, 48), 255, dtype=np.uint8),
        ),
    }
    wanted = {
        name: (np.unpackbits(a, axis=1)[:, None] != np.unpackbits(b, axis=1)[None]).sum(axis=2)
        for name, (a, b) in cases.items()
    }
    judge(
        lambda name: hamming(*(side.copy() for side in cases[name])), wanted, "hamming", same_table, say_table
    )


def matryoshka_loss(matryoshka_loss: Callable) -> None:
    """matryoshka_loss(q, a, widths, weights) -> a number; the judge is torch's cross_entropy."""
    import torch
    from torch.nn.functional import cosine_similarity, cross_entropy

    draw = torch.Generator().manual_seed(0)

    def batch(rows: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
        q = torch.randn(rows, 8, generator=draw)
        return q, q + torch.randn(rows, 8, generator=draw)

    cases = {
        "the whole width alone": (*batch(), [8], [1.0]),
        "the first two numbers alone (bring them to length 1 after the cut)": (*batch(), [2], [1.0]),
        "widths 8, 4 and 2, weights of 1": (*batch(), [8, 4, 2], [1.0, 1.0, 1.0]),
        "widths 8 and 2, weights 1 and 0.25": (*batch(3), [8, 2], [1.0, 0.25]),
    }

    def summed(q: torch.Tensor, a: torch.Tensor, widths: list[int], weights: list[float]) -> float:
        total = 0.0
        for width, weight in zip(widths, weights, strict=True):
            scores = 20 * cosine_similarity(q[:, None, :width], a[None, :, :width], dim=2)
            total += weight * cross_entropy(scores, torch.arange(len(q))).item()
        return total

    def answer(name: str):
        q, a, widths, weights = cases[name]
        found = matryoshka_loss(q.clone(), a.clone(), list(widths), list(weights))
        return found.detach() if isinstance(found, torch.Tensor) else found

    wanted = {name: summed(*case) for name, case in cases.items()}
    judge(answer, wanted, "matryoshka_loss", close, say_number)


def good_enough(good_enough: Callable) -> None:
    """good_enough(own, base, loss) -> bool; the judge is the interval of helpers.intervals."""
    import numpy as np

    from helpers.intervals import interval

    draw = np.random.default_rng(0)
    base = draw.random(200)
    near, far = base + draw.normal(-0.005, 0.02, 200), base + draw.normal(-0.06, 0.05, 200)
    vague = base + draw.normal(0, 0.4, 200)
    better = base + draw.normal(0.08, 0.05, 200)
    cases = {
        "a loss of .005 that is sure, where .02 is allowed": (near, base, 0.02),
        "a loss of .06 that is sure, where .02 is allowed": (far, base, 0.02),
        "a loss of .06 that is sure, where .1 is allowed": (far, base, 0.1),
        "no difference that could be shown, and an interval wider than the loss": (vague, base, 0.04),
        "the same mean by less spread, not question by question (take the differences)": (
            base.mean() + (base - base.mean()) / 2,
            base,
            0.015,
        ),
        "a gain of .08": (better, base, 0.02),
        "twelve questions, nearly no loss on average": (vague[:12], base[:12], 0.05),
    }
    wanted = {name: bool(interval(own - base)[0] > -loss) for name, (own, base, loss) in cases.items()}

    def answer(name: str):
        own, base, loss = cases[name]
        found = good_enough(own.copy(), base.copy(), loss)
        return bool(found) if isinstance(found, np.bool_) else found

    judge(answer, wanted, "good_enough", lambda got, expected: type(got) is bool and got is expected)
