"""The originals that the course ships open in their libraries and give the published figures."""

import numpy as np
import pytest
import torch
from safetensors import safe_open

from helpers import data, models

L12 = "cross-encoder/ms-marco-MiniLM-L-12-v2"
BGE = "BAAI/bge-small-en-v1.5"
SPLADE = "rasyosef/splade-tiny"
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


def test_bge_small_opens_with_its_pooling_its_length_and_its_prompt():
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer

    folder = models.path(BGE, quiet=True)
    model = SentenceTransformer(str(folder), device="cpu")
    text = "A café near the harbour serves breakfast."
    batch = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    bert, info = AutoModel.from_pretrained(folder, add_pooling_layer=False, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert set(sizes(folder).values()) == {"F32"}
    with torch.no_grad():
        first = torch.nn.functional.normalize(bert(**batch).last_hidden_state[:, 0], dim=1)
    assert np.allclose(model.encode([text]), first.numpy(), atol=1e-5)
    prompt = "Represent this sentence for searching relevant passages: "
    assert np.allclose(model.encode_query([text]), model.encode([prompt + text]), atol=1e-6)
    assert np.allclose(model.encode_document([text]), model.encode([text]), atol=1e-6)
    assert sum(p.numel() for p in model.parameters()) == 33_212_160 and model.max_seq_length == 512


def test_bge_small_on_the_courses_pairs():
    from sentence_transformers import SentenceTransformer

    table = data.sts(path=models.ROOT / "shared_data" / "sts_sample.tsv", quiet=True)
    model = SentenceTransformer(str(models.path(BGE, quiet=True)), device="cpu")
    cosines = (model.encode(list(table["sentence1"])) * model.encode(list(table["sentence2"]))).sum(1)
    assert abs(np.corrcoef(cosines, table["score"])[0, 1] - 0.7189) < 2e-3


def test_splade_opens_and_its_vectors_are_sparse_words():
    from sentence_transformers import SparseEncoder
    from transformers import AutoTokenizer, BertForMaskedLM

    folder = models.path(SPLADE, quiet=True)
    masked, info = BertForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert set(sizes(folder).values()) == {"F32"}
    model = SparseEncoder(str(folder), device="cpu")
    question = "What is the tallest mountain in the world?"
    vector = model.encode_query([question]).to_dense()[0]
    assert vector.shape == (30522,) and 5 <= (vector > 0).sum() <= 60
    with torch.no_grad():
        logits = masked(**AutoTokenizer.from_pretrained(folder)(question, return_tensors="pt")).logits[0]
    assert torch.allclose(vector, logits.relu().log1p().max(0).values, atol=1e-4)
    strongest = {word for word, _ in model.decode(model.encode_query([question])[0], top_k=3)}
    assert "mountain" in strongest


def test_splade_ranks_the_right_passage_first():
    from sentence_transformers import SparseEncoder

    model = SparseEncoder(str(models.path(SPLADE, quiet=True)), device="cpu")
    asked = {
        "What is the tallest mountain in the world?": "Mount Everest is the highest peak on Earth.",
        "who painted the mona lisa": "Leonardo da Vinci finished the portrait early in the sixteenth century.",
        "how do vaccines work": "An immunization teaches the immune system to recognise a virus.",
    }
    scores = model.similarity(model.encode_query(list(asked)), model.encode_document(list(asked.values())))
    assert scores.argmax(1).tolist() == [0, 1, 2]
