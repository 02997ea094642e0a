"""Numbers that make no sense get one sentence before anything is trained; a loss that is no number stops at once."""

import pytest
import torch
from test_training import PAIRS, pair

from helpers import encoders, training

SENSELESS = {
    "batch 0": ({"batch": 0}, "batch=0 leaves no wrong answers"),
    "batch 1": ({"batch": 1}, "batch=1 leaves no wrong answers"),
    "batch below nothing": ({"batch": -4}, "batch=-4 leaves"),
    "a batch of more than all": ({"batch": 17}, "16 pairs are fewer than one batch of 17"),
    "rate 0": ({"lr": 0}, "lr=0 trains nothing"),
    "rate below nothing": ({"lr": -1e-4}, "lr=-0.0001 trains nothing"),
    "rate NaN": ({"lr": float("nan")}, "lr=nan trains nothing"),
    "rate without end": ({"lr": float("inf")}, "lr=inf trains nothing"),
    "warm-up of all": ({"warmup": 1.0}, "warmup=1.0 is no share"),
    "warm-up below nothing": ({"warmup": -0.1}, "warmup=-0.1 is no share"),
    "scale 0": ({"scale": 0}, "scale=0 makes no score"),
    "length of nothing": ({"length": 2}, "length=2 is outside 3 to 512"),
    "length beyond BERT": ({"length": 513}, "length=513 is outside 3 to 512"),
    "no epoch": ({"epochs": 0}, "epochs=0 trains nothing"),
    "no step": ({"steps": 0}, "steps=0 trains nothing"),
}


@pytest.mark.parametrize("kind", SENSELESS)
def test_senseless_numbers_are_refused_before_a_step(kind):
    options, said = SENSELESS[kind]
    towers = pair()
    before = [tower.project.weight.clone() for tower in towers]
    with pytest.raises(ValueError, match=said):
        training.train(*towers, PAIRS, **{"batch": 8, "progress": False} | options)
    assert all(torch.equal(w, tower.project.weight) for w, tower in zip(before, towers, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_with_the_weights_before_it(monkeypatch, value):
    towers, real, seen = pair(), training.batch_loss, []

    def third_is_broken(*args):
        seen.append(towers[0].project.weight.detach().clone())
        return real(*args) * (value if len(seen) == 3 else 1)

    monkeypatch.setattr(training, "batch_loss", third_is_broken)
    with pytest.raises(FloatingPointError, match=f"the loss of step 3 is {value}.*smaller learning rate"):
        training.train(*towers, PAIRS, batch=8, epochs=4, progress=False)
    assert len(seen) == 3 and torch.equal(seen[2], towers[0].project.weight)
    assert not torch.equal(seen[1], seen[2])


def test_what_is_cut_off_is_said(capsys):
    """Two answers of 16 lose their end; with a greater length none does, and the losses differ."""
    long = PAIRS.copy()
    for row, colour in ((2, "red"), (9, "blue")):
        long.loc[row, "answer"] = "a very long way to say that " * 20 + colour
    assert encoders.said_of_cut(long, 64) == "cut off after 64 pieces: 2 of 16 answers; length=143 reads more"
    assert encoders.said_of_cut(long, 143) == "" == encoders.said_of_cut(PAIRS, 64)
    short = training.train(*pair(), long, batch=8, steps=1, progress=False)
    assert "cut off after 64 pieces: 2 of 16 answers" in capsys.readouterr().out
    whole = training.train(*pair(), long, batch=8, steps=1, length=200, progress=False)
    assert "cut off" not in capsys.readouterr().out and short != whole
