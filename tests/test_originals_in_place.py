"""The lessons hold where a reader has the originals: with tiny models of the originals' formats and
architectures in their place every cell runs, first to last and, in lessons 0 to 5, last to first.
"""

import gzip
import os
import shutil

import books
import numpy as np
import pytest
from test_lessons_backwards import run_all

from helpers import data, models

GLOVE = "glove-wiki-gigaword-100"


def tiny_glove(folder):
    """The publisher's file layout, with the course's words and vectors that mean nothing."""
    words = models.word_vectors(GLOVE, quiet=True).index_to_key
    numbers = np.random.default_rng(0).normal(size=(len(words), 100)).astype("f").round(4)
    lines = [f"{len(words)} 100"]
    lines += [f"{w} " + " ".join(map(str, v)) for w, v in zip(words, numbers, strict=True)]
    (folder / GLOVE).mkdir(parents=True)
    with gzip.open(folder / GLOVE / f"{GLOVE}.gz", "wt", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")


def tiny_bert(folder, name="bert-base-uncased"):
    """The publisher's files and names of weights: both heads of the pre-training, LayerNorms with
    gamma and beta; 3 random layers of 48, the vocabulary of bert-base-uncased."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(0)
    config = BertConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96)
    place = folder / name
    BertForPreTraining(config).save_pretrained(place)
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    weights = load_file(place / "model.safetensors")
    for new, published in old.items():
        weights = {key.replace(new, published): value for key, value in weights.items()}
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    config.architectures = ["BertForMaskedLM"]
    config.save_pretrained(place)
    minilm = models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(minilm / file, place / file)


def tiny_cross_encoder(folder, name="cross-encoder/ms-marco-MiniLM-L-6-v2"):
    """The publisher's files: a classifier with one output and its tokenizer; 3 random layers of
    48, the vocabulary of bert-base-uncased."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96, num_labels=1
    )
    place = folder / name
    BertForSequenceClassification(config).save_pretrained(place)
    minilm = models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(minilm / file, place / file)


def tiny_dpr(folder):
    """The publisher's files, as they lie after the download: safetensors in place of the pickle,
    with the pooler and the position numbers that old checkpoints carry; the passage encoder
    comes without tokenizer_config.json. 3 random layers of 48, the vocabulary of BERT."""
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import DPRConfig, DPRContextEncoder, DPRQuestionEncoder

    minilm = models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
    for tower, model in (("question", DPRQuestionEncoder), ("ctx", DPRContextEncoder)):
        torch.manual_seed(0)
        config = DPRConfig(hidden_size=48, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96)
        place = folder / f"facebook/dpr-{tower}_encoder-multiset-base"
        model(config).save_pretrained(place)
        bert = f"{tower}_encoder.bert_model"
        weights = load_file(place / "model.safetensors") | {
            f"{bert}.embeddings.position_ids": torch.arange(512)[None],
            f"{bert}.pooler.dense.weight": torch.zeros(48, 48),
            f"{bert}.pooler.dense.bias": torch.zeros(48),
        }
        save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
        for file in ("tokenizer.json", "vocab.txt"):
            shutil.copy(minilm / file, place / file)
        if tower == "question":
            (place / "tokenizer_config.json").write_text('{"do_lower_case": true}', encoding="utf-8")


def tiny_sts(folder):
    """The publisher's file of test rows, without the column kind; 80 of the course's pairs."""
    rows = data.sts(data.SHARED / "sts_sample.tsv")[:80].drop(columns="kind")
    place = folder / "mteb" / "stsbenchmark-sts"
    place.mkdir(parents=True)
    lines = rows.to_json(orient="records", lines=True, force_ascii=False)
    (place / "test.jsonl.gz").write_bytes(gzip.compress(lines.encode()))


# lesson -> what its originals are made by; each is called with the folder of originals
ORIGINALS = {
    "01": [tiny_glove],
    "02": [tiny_glove, tiny_bert],
    "03": [tiny_cross_encoder],
    "04": [tiny_glove, tiny_bert, tiny_sts],
    "05": [tiny_bert, tiny_sts],
    "07": [tiny_dpr],
}


@pytest.mark.parametrize("number", ORIGINALS)
def test_lesson_runs_on_tiny_originals(number, tmp_path, monkeypatch):
    for make in ORIGINALS[number]:
        make(tmp_path)
    monkeypatch.setitem(os.environ, "COURSE_MODELS", "original")
    monkeypatch.setitem(os.environ, "COURSE_MODELS_DIR", str(tmp_path))
    monkeypatch.setitem(os.environ, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    book = run_all(books.path(number), backwards_too=number <= "05")
    said = "".join(books.text(c) for c in books.code(book))
    assert "the original." in said and "stand-in" not in said
