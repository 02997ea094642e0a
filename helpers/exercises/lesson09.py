"""Checks of lesson 9; the judges are torch, tokenizers and transformers."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from helpers.exercises import judge

if TYPE_CHECKING:
    from transformers import BertTokenizer


def left_only_mask(left_only_mask: Callable) -> None:
    """left_only_mask(n) -> tensor (n, n); the judge is torch.nn.Transformer."""
    import torch

    def answer(n):
        got = left_only_mask(n)
        if hasattr(got, "dtype") and not isinstance(got, torch.Tensor):
            raise TypeError(f"it gives a {type(got).__name__}; make it a torch tensor")
        return got

    wanted = {n: torch.nn.Transformer.generate_square_subsequent_mask(n) for n in (1, 2, 4, 7)}
    judge(
        answer,
        wanted,
        "left_only_mask",
        same=lambda got, right: got.dtype.is_floating_point and torch.equal(got, right),
        says=lambda v: str(v.tolist()) if hasattr(v, "tolist") else repr(v),
    )


def unigram_loss(unigram_loss: Callable) -> None:
    """unigram_loss(counts, targets) -> number; the judge is torch's cross_entropy."""
    import torch
    from torch.nn.functional import cross_entropy

    cases = {
        "counts 1, 1 and target 0 (ln 2)": ([1, 1], [0]),
        "counts 6, 3, 1 and targets 0, 0, 1": ([6, 3, 1], [0, 0, 1]),
        "counts that are whole numbers in the millions": ([4_000_000, 1_000_000], [1]),
        "a target that stands there three times": ([2, 5, 9, 4], [3, 3, 3, 1]),
    }
    cases = {name: (torch.tensor(c), torch.tensor(t)) for name, (c, t) in cases.items()}
    wanted = {
        name: cross_entropy(c.double().log().expand(len(t), -1), t).item() for name, (c, t) in cases.items()
    }
    judge(
        lambda name: _number(unigram_loss(*cases[name])),
        wanted,
        "unigram_loss",
        same=lambda got, right: abs(got - right) < 1e-4,
        says=lambda v: f"{v:.4f}" if isinstance(v, float) else repr(v),
    )


def whole_words(whole_words: Callable, tokenizer: "BertTokenizer") -> None:
    """whole_words(pieces) -> lists of positions; the judge is the tokenizer's word_ids."""
    texts = [
        "The bat flew.",
        "Unhappiness!",
        "Backpropagation of overfitting networks",
        "it's state-of-the-art",
        "x[0] 🐉 is here",
    ]
    cases = {text: tokenizer(text) for text in texts}
    cases["Unhappiness! (with padding)"] = tokenizer("Unhappiness!", padding="max_length", max_length=12)
    pieces = {text: tokenizer.convert_ids_to_tokens(batch.input_ids) for text, batch in cases.items()}
    wanted = {}
    for text, batch in cases.items():
        groups: dict = {}
        for place, word in enumerate(batch.word_ids()):
            if word is not None:
                groups.setdefault(word, []).append(place)
        wanted[text] = list(groups.values())
    judge(lambda text: _lists(whole_words(list(pieces[text]))), wanted, "whole_words")


def count_weights(count_weights: Callable) -> None:
    """count_weights(layers, width, pieces, ...) -> int; the judge is transformers' BertModel."""
    import torch
    from transformers import BertConfig, BertModel

    wanted = {}
    for layers, width, pieces, *more in [
        (0, 4, 10),
        (1, 4, 10),
        (2, 128, 2_000),
        (12, 768, 30_522),
        (24, 1024, 30_522),
        (2, 128, 2_000, 64, 1),
    ]:
        positions, segments = more or (512, 2)
        config = BertConfig(
            vocab_size=pieces,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=1,
            intermediate_size=4 * width,
            max_position_embeddings=positions,
            type_vocab_size=segments,
        )
        with torch.device("meta"):
            wanted[layers, width, pieces, *more] = sum(p.numel() for p in BertModel(config).parameters())
    judge(
        lambda case: count_weights(*case),
        wanted,
        "count_weights",
        says=lambda v: f"{v:,}" if isinstance(v, int) else repr(v),
    )


def _number(value: object) -> object:
    """A tensor with one number as that number; anything else as it is."""
    return value.item() if hasattr(value, "item") else value


def _lists(value: object) -> object:
    """Groups of positions as a list of lists, however they were kept; anything else as it is."""
    if value is None or value is ... or isinstance(value, str):
        return value
    return [list(group) if hasattr(group, "__iter__") else group for group in value]
