"""The bootstrap against draws made by hand and against the formulas of statistics."""

import numpy as np
import pytest
from scipy.stats import norm, pearsonr

from helpers import intervals

DRAW = np.random.default_rng(0)
VALUES = DRAW.normal(0.1, 0.5, 300)


def by_hand(statistic, *columns, draws=4_000):
    rows = np.random.default_rng(9).integers(len(columns[0]), size=(draws, len(columns[0])))
    return np.percentile([statistic(*(c[r] for c in columns)) for r in rows], [2.5, 97.5])


def test_of_a_mean_it_is_the_draws_by_hand_and_near_the_normal_curve():
    low, high = intervals.interval(VALUES)
    assert (low, high) == pytest.approx(by_hand(np.mean, VALUES), abs=0.006)
    width = 2 * norm.ppf(0.975) * VALUES.std() / np.sqrt(300)
    assert high - low == pytest.approx(width, rel=0.03) and low < VALUES.mean() < high


def test_columns_are_drawn_together():
    x, y = VALUES, VALUES + DRAW.normal(0, 0.5, 300)
    correlation = lambda a, b: pearsonr(a, b).statistic
    at_once = lambda a, b, axis: pearsonr(a, b, axis=axis).statistic
    found = intervals.interval(x, y, statistic=at_once)
    assert found == pytest.approx(by_hand(correlation, x, y), abs=0.01)
    one_by_one = intervals.interval(x, y, statistic=correlation, draws=500)
    assert one_by_one == pytest.approx(intervals.interval(x, y, statistic=at_once, draws=500))
    assert found[0] > 0.5, "apart from one another they would have nothing in common"


def test_two_models_have_the_same_draws():
    """The same scores plus 0.1 differ by 0.1 on every draw; those of another seed do not."""
    one, other = intervals.drawn(VALUES, draws=50), intervals.drawn(VALUES + 0.1, draws=50)
    assert np.allclose(other - one, 0.1) and one.shape == (50,)
    assert not np.allclose(intervals.drawn(VALUES, draws=50, seed=1), one, atol=1e-3)
    assert intervals.interval(VALUES) == intervals.interval(list(VALUES))


def test_truth_values_and_no_difference():
    low, high = intervals.interval(VALUES > 0)
    assert 0 < low < (VALUES > 0).mean() < high < 1
    assert intervals.interval(np.zeros(20)) == (0, 0)


def test_the_middle():
    assert intervals.middle(np.arange(1001)) == (25, 975)


def test_a_difference_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="1 of 3 differences are no number"):
        intervals.verdict(np.array([1.0, np.nan, 0.0]), np.zeros(3))


@pytest.mark.parametrize("values", [[], [1.0]])
def test_fewer_than_two_items_have_no_interval(values):
    with pytest.raises(ValueError, match=f"at least two items to draw from, not {len(values)}"):
        intervals.interval(np.array(values))
