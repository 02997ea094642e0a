"""The bootstrap: how far another draw of the same items would move a score.

    from helpers.intervals import interval
    low, high = interval(first - second)                       # of the mean of one value an item
    low, high = interval(cosines, gold, statistic=pearson)     # of items of two values, drawn together
    verdict(after, before)                      # "+0.039 [+0.024, +0.055], a gain"

The items are drawn again, with replacement, and the score is computed from each draw; the interval
is the middle 95 % of what comes out (lesson 4).
Method: B. Efron, Bootstrap Methods: Another Look at the Jackknife, 1979; the percentile interval.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

DRAWS = 10_000


def interval(
    *columns: "ArrayLike", statistic: Callable | None = None, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """The low and the high end of the 95 % interval of a statistic of n items.

    columns: one array of n numbers or several, whose items belong together. statistic(*columns)
    gives a number, by default the mean of the one column; if it takes `axis` it is given many draws
    at once, (some, n), which is quicker. One seed gives one interval, and the same draws of the same n.
    Raises ValueError for fewer than two items.
    """
    return middle(drawn(*columns, statistic=statistic, draws=draws, seed=seed))


def drawn(
    *columns: "ArrayLike", statistic: Callable | None = None, draws: int = DRAWS, seed: int = 0
) -> "np.ndarray":
    """The statistic of each draw, (draws,); see `interval`.

    Two models on the same items have the same draws, so that the difference of what this gives for
    each is the difference on each draw.
    """
    import numpy as np
    from scipy import stats

    items = min(np.size(column) for column in columns)
    if items < 2:
        raise ValueError(f"an interval needs at least two items to draw from, not {items}")
    found = stats.bootstrap(
        columns,
        statistic or np.mean,
        paired=True,
        n_resamples=draws,
        batch=1_000,
        method="percentile",
        rng=seed,
    )
    return found.bootstrap_distribution


def verdict(after: "np.ndarray", before: "np.ndarray") -> str:
    """The mean of the differences of n items, its interval, and in words what that says (lesson 6's `gain`).

    Raises ValueError for fewer than two items, and for a difference that is no number.
    """
    import numpy as np

    if wrong := int(np.isnan(np.asarray(after - before, float)).sum()):
        raise ValueError(f"{wrong} of {len(after)} differences are no number; leave those items out of both")
    low, high = interval(after - before)
    said = "a gain" if low > 0 else "a loss" if high < 0 else "no difference beyond luck"
    return f"{(after - before).mean():+.3f} [{low:+.3f}, {high:+.3f}], {said}"


def middle(values: "ArrayLike") -> tuple[float, float]:
    """Between which two numbers the middle 95 % of the values lie."""
    import numpy as np

    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
