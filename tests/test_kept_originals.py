"""The originals that the course ships open in their libraries and give the published figures."""

import numpy as np
import pytest
import torch
from safetensors import safe_open

from helpers import models

L12 = "cross-encoder/ms-marco-MiniLM-L-12-v2"
L6 = "cross-encoder/ms-marco-MiniLM-L-6-v2"


def sizes(folder):
    with safe_open(folder / "model.safetensors", "pt") as weights:
        return {key: weights.get_slice(key).get_dtype() for key in weights.keys()}  # noqa: SIM118


def test_the_cross_encoder_gives_its_figures(capsys):
    from sentence_transformers import CrossEncoder
    from transformers import BertForSequenceClassification

    folder = models.path(L12)
    assert capsys.readouterr().out == f"{L12}: the original, its weights in 8 bits.\n"
    _, info = BertForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert set(sizes(folder).values()) == {"F32"}
    passages = [
        "Paris is the capital of France.",
        "Berlin is the capital of Germany.",
        "Madrid is the capital of Spain.",
    ]
    pairs = [("Where is the capital of France?", p) for p in passages]
    model = CrossEncoder(str(folder), activation_fn=torch.nn.Sigmoid(), device="cpu")
    assert np.abs(model.predict(pairs) - [0.9998, 0.0553, 0.0918]).max() < 1e-4
    assert sum(p.numel() for p in model.model.parameters()) == 33_360_385
    raw = CrossEncoder(str(folder), device="cpu").predict(pairs)  # as published: no sigmoid of its own
    assert np.abs(raw - [8.655, -2.837, -2.292]).max() < 2e-3


def test_the_smaller_cross_encoder_has_the_larger_in_its_place_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_MODELS_DIR", str(tmp_path))
    assert models.path(L6) == models.path(L12, quiet=True)
    said = capsys.readouterr().out
    assert said.startswith(f"{L6} is not on this machine; in its place {L12}: the original")
    assert said.count("\n") == 1 and f"python -m helpers.models download {L6}" in said
    assert models.table().loc[L6, "on disk"] == "ms-marco-MiniLM-L-12-v2"
    monkeypatch.setenv("COURSE_MODELS", "original")
    with pytest.raises(FileNotFoundError, match=f"download {L6}"):
        models.path(L6)
    for file in models.register()[L6]["files"]:
        (tmp_path / L6).mkdir(parents=True, exist_ok=True)
        (tmp_path / L6 / file).write_bytes(b"x")
    assert models.path(L6) == tmp_path / L6
    assert capsys.readouterr().out == f"{L6}: the original.\n"
