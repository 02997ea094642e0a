"""Ranks and measures against scikit-learn and scipy."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import rankdata
from sklearn.metrics import label_ranking_average_precision_score

from helpers import encoders, ranking


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


def test_measures_of_four_ranks():
    found = ranking.measures(torch.tensor([1, 2, 10, 11]))
    assert found == pytest.approx(
        {"recall@1": 1 / 4, "recall@10": 3 / 4, "MRR": (1 + 1 / 2 + 1 / 10 + 1 / 11) / 4}
    )
    assert {type(value) for value in found.values()} == {float}


def test_score_pair_is_what_cosines_counted_one_by_one_give(monkeypatch):
    """Vectors of many lengths in the place of the encoders': only their cosines count."""
    n, draw = 40, torch.Generator().manual_seed(0)
    pairs = pd.DataFrame({"question": [f"q{i}" for i in range(n)], "answer": [f"a{i}" for i in range(n)]})
    lengths = torch.logspace(-1, 1, 3 * n)[torch.randperm(3 * n, generator=draw)].split(n)
    topics = torch.randn(n, 8, generator=draw)
    asks, answers, echoes = (
        (topics + torch.randn(n, 8, generator=draw)) * length[:, None] for length in lengths
    )
    vectors = {("asks", f"q{i}"): asks[i] for i in range(n)}
    for i in range(n):
        vectors |= {("tells", f"a{i}"): answers[i], ("tells", f"q{i}"): echoes[i]}
    monkeypatch.setattr(
        encoders, "embed", lambda side, texts, length=64: torch.stack([vectors[side, t] for t in texts])
    )

    def places(passages):
        cosines = torch.cosine_similarity(asks[:, None], passages[None], dim=2)
        return torch.tensor([sum(row >= row[i]).item() for i, row in enumerate(cosines)])

    without, among = places(answers), places(torch.cat([answers, echoes]))
    near = [torch.cosine_similarity(asks, other) for other in (answers, echoes)]
    wanted = ranking.measures(without) | {"echo first": (near[1] > near[0]).double().mean().item()}
    wanted |= {f"{name} with echoes": value for name, value in ranking.measures(among).items()}
    assert ranking.score_pair("asks", "tells", pairs) == pytest.approx(wanted)
    assert 0.2 < wanted["echo first"] < 0.8 and len(set(wanted.values())) == 7, "each number tells something"


def test_chance_is_what_random_scores_give():
    torch.manual_seed(0)
    drawn = ranking.measures(ranking.ranks(torch.randn(4000, 2), torch.randn(4000, 2)))
    random_order = torch.randint(1, 4001, (200_000,))
    for n in (1, 3, 10, 25):  # every place once
        assert ranking.measures(torch.arange(1, n + 1)) == pytest.approx(ranking.chance(n))
    for name, value in ranking.chance(4000).items():
        assert ranking.measures(random_order)[name] == pytest.approx(value, rel=0.25, abs=2e-4)
        assert drawn[name] < 0.01


def test_reciprocal_ranks_are_those_of_score_pair_and_bad_pairs_are_named():
    torch.manual_seed(0)
    towers = [encoders.Encoder(width=16, layers=1, heads=2, out=8).eval() for _ in range(2)]
    pairs = pd.DataFrame({"question": ["a b", "c d", "e f", "g h"], "answer": ["b", "d c", "f", "x y"]})
    wanted = ranking.score_pair(*towers, pairs)
    assert ranking.reciprocal_ranks(*towers, pairs).mean() == pytest.approx(wanted["MRR"])
    with_echoes = ranking.reciprocal_ranks(*towers, pairs, echoes=True)
    assert with_echoes.mean() == pytest.approx(wanted["MRR with echoes"])
    for wrong, says in (
        (pairs.drop(columns="answer"), "no column 'answer'"),
        (pairs[:0], "there are no texts"),
        (pairs.replace("d c", " "), "row 1: column 'answer' is empty"),
    ):
        with pytest.raises(ValueError, match=says):
            ranking.reciprocal_ranks(*towers, wrong)
    with pytest.raises(TypeError, match="one text was given where a list"):
        encoders.embed(towers[0], "a b")
