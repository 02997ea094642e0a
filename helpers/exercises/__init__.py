"""The check cells of the exercises: each says what is wrong, not only that something is.

A module a lesson, a function an exercise. A function that still holds `...` is told what it
should give. Answers are compared with a trusted library wherever there is one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def judge(
    answer: Callable, wanted: dict, name: str, same: Callable | None = None, says: Callable = repr
) -> None:
    """Print the first case that is wrong, or that all are right.

    answer(case) is what the reader's code gives, wanted[case] what it should give, name the
    reader's function; same(got, expected) decides whether the two agree (default ==), and
    says(value) is how a value is shown.
    """
    for case, expected in wanted.items():
        try:
            got = answer(case)
        except Exception as e:  # whatever the reader's own code raises is the message
            print(f"Not yet: {name} for {case} stopped with {type(e).__name__}: {e}")
            return
        if got is None or got is ...:
            print(f"Not yet written: {name} for {case} should give {says(expected)}; it gives {got}.")
            return
        try:
            right = bool(same(got, expected) if same else got == expected)
        except Exception as e:  # another type or shape than can be compared
            print(
                f"Not yet: {name} for {case} gives a {type(got).__name__} that cannot be compared "
                f"with {says(expected)} ({e})."
            )
            return
        if not right:
            print(f"Not yet: {name} for {case} gives {says(got)}; it should be {says(expected)}.")
            return
    print(f"Right: {name} agrees with the library in all {len(wanted)} cases.")


def close(got: object, expected: float) -> bool:
    """Whether a number is the expected one, to four decimals or four digits."""
    return abs(float(got) - expected) <= 1e-4 * max(1.0, abs(expected))


def say_number(value: object) -> str:
    return f"{float(value):.4f}"


def array(value: object) -> "np.ndarray":
    """A list, an array or a tensor as an array of float64."""
    import numpy as np

    return np.asarray(value.detach() if hasattr(value, "detach") else value, dtype=float)


def same_table(got: object, expected: object) -> bool:
    """Whether two tables hold the same numbers; ValueError for another shape."""
    import numpy as np

    got, expected = array(got), array(expected)
    if got.shape != expected.shape:
        raise ValueError(f"its shape is {got.shape}, not {expected.shape}")
    return np.allclose(got, expected, atol=1e-5)


def say_table(value: object) -> str:
    """A table's first three rows, or a row, its numbers to four digits."""
    value = array(value)
    if value.ndim < 2:
        return "[" + ", ".join(f"{x:.4g}" for x in value.reshape(-1)) + "]"
    return "[" + ", ".join(map(say_table, value[:3])) + (", ...]" if len(value) > 3 else "]")
