"""Ranks and measures against scikit-learn and scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from sklearn.metrics import label_ranking_average_precision_score

from helpers import ranking


@pytest.fixture(scope="module")
def scores():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(30, 12, generator=generator), torch.randn(50, 12, generator=generator)


def test_ranks_are_scipys(scores):
    questions, passages = scores
    wanted = [rankdata(-row, method="max")[i] for i, row in enumerate((questions @ passages.T).numpy())]
    assert ranking.ranks(questions, passages).tolist() == wanted


def test_an_encoder_that_gives_every_text_one_vector_is_never_right():
    same = torch.ones(5, 3)
    assert ranking.ranks(same, same).tolist() == [5] * 5
    assert ranking.ranks(same * torch.nan, same).tolist() == [5] * 5


def test_measures_are_scikit_learns(scores):
    questions, passages = scores
    found = ranking.measures(ranking.ranks(questions, passages))
    table = (questions @ passages.T).numpy()
    right = np.eye(*table.shape)
    assert found["MRR"] == pytest.approx(label_ranking_average_precision_score(right, table))
    top = (-table).argsort(axis=1)
    assert found["recall@1"] == np.mean(top[:, 0] == np.arange(30))
    assert found["recall@10"] == np.mean((top[:, :10] == np.arange(30)[:, None]).any(axis=1))


def test_chance_is_what_random_scores_give():
    torch.manual_seed(0)
    drawn = ranking.measures(ranking.ranks(torch.randn(4000, 2), torch.randn(4000, 2)))
    random_order = torch.randint(1, 4001, (200_000,))
    for name, value in ranking.chance(4000).items():
        assert ranking.measures(random_order)[name] == pytest.approx(value, rel=0.25, abs=2e-4)
        assert drawn[name] < 0.01
