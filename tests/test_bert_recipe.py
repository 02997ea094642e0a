"""The recipe of the raw BERT: what is masked, what is held out, and the loss against the library's."""

import bert
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from helpers import models


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(models.path(bert.MINILM, quiet=True))


def test_a_source_read_often_never_reaches_the_held_out_text(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(bert, "HELD_OUT", 300)
    numbers = [f"number {i} stands here" for i in range(200)]
    (tmp_path / "often.txt").write_text("\n".join(numbers[:100]) + "\n", encoding="utf-8")
    (tmp_path / "seldom.txt").write_text("\n".join(numbers[100:]) + "\n", encoding="utf-8")
    ids = bert.pieces(tmp_path, tokenizer, tmp_path / "pieces.npy", ["often"])
    train, test = (tokenizer.decode(part).split("[SEP]") for part in (ids[:-300], ids[-300:]))
    train, test = ([x.strip() for x in part if x.strip()] for part in (train, test))
    whole = [x for x in test if x in numbers]
    assert len(whole) > 30 and not set(whole) & set(train)
    times = {x: train.count(x) for x in set(train) & set(numbers)}
    assert {times[x] for x in numbers[:100] if x in times} == {6}
    assert {times[x] for x in numbers[100:] if x in times} == {1}
    again = bert.pieces(tmp_path, tokenizer, tmp_path / "pieces.npy", ["often"])
    assert np.array_equal(ids, again)


@pytest.mark.parametrize("share", [0.15, 0.25])
def test_eighty_ten_ten(tokenizer, share):
    rng = np.random.default_rng(0)
    ids = rng.integers(1000, 30000, 5000).astype(np.uint16)
    ids[::20] = tokenizer.sep_token_id
    inputs, labels = bert.masked_batch(ids, 64, 96, tokenizer, rng, share)
    asked = labels != -100
    assert (inputs[:, 0] == tokenizer.cls_token_id).all() and not asked[:, 0].any()
    assert not (labels == tokenizer.sep_token_id).any()
    assert abs(asked.float().mean() / (0.95 * share) - 1) < 0.1
    kept = (inputs == labels)[asked].float().mean()
    masked = (inputs == tokenizer.mask_token_id)[asked].float().mean()
    assert abs(masked - 0.8) < 0.05 and abs(kept - 0.1) < 0.04


def test_the_loss_is_the_librarys(tokenizer):
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "vocab_size": len(tokenizer),
    }
    model = BertForMaskedLM(BertConfig(**sizes)).eval()
    ids = np.random.default_rng(1).integers(1000, 30000, 2000).astype(np.uint16)
    inputs, labels = bert.masked_batch(ids, 4, 24, tokenizer, np.random.default_rng(2))
    wanted = model(input_ids=inputs, labels=labels).loss
    assert torch.allclose(bert.masked_loss(model, inputs, labels), wanted, rtol=1e-5)


def test_training_on_from_minilm_leaves_its_token_embeddings_as_they_are(tokenizer):
    model = bert.build("minilm", 0, 0, tokenizer)
    assert not model.bert.embeddings.word_embeddings.weight.requires_grad
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight


def test_a_folder_without_text_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no \*.txt or \*.txt.xz file"):
        bert.sources(tmp_path)
