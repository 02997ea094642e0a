"""No check of an exercise says "Right" to a usual wrong answer, and none breaks off.

Every check of lessons 4 to 14 that needs no large model is given its worked answer, and that answer
spoilt in all the ways below. What a single lesson's readers get wrong is in that lesson's own tests.
"""

import copy
import functools
import importlib
import json

import books
import numpy as np
import pytest
import torch

from helpers import data, models

CHECKS = {
    "04": ["mean_of_words", "mean_cosine", "without_top"],
    "05": ["by_hand", "symmetric_gradient", "without_twins"],
    "06": ["chance_loss", "split", "hard_negatives"],
    "07": ["top_k"],
    "08": ["fertility", "cut_bpe", "cut_wordpiece", "cut_unigram"],
    "09": ["left_only_mask", "unigram_loss", "whole_words", "count_weights"],
    "10": ["features", "multiple_negatives", "cosent"],
    "11": ["recall", "reciprocal_rank", "average_precision", "interval"],
    "12": ["hnsw_bytes", "ivf_search", "filtered"],
    "13": ["pack", "standard", "cheapest"],
    "14": ["maxsim_all", "last_pool", "ensemble"],
}
NAMES = [(number, name) for number, names in CHECKS.items() for name in names]
ALSO = {"04": ["unit"], "08": ["join"], "11": ["best_first"]}  # what worked answers call
# arguments that are the same in all cases of a check, so that nobody can tell whether they are read
ALWAYS_THE_SAME = {"ivf_search": {1, 2, 3}, "filtered": {0, 1, 4}}


@functools.cache
def needs(name: str) -> tuple:
    """What a check is given beside the reader's function, in the lesson."""
    import tokenizers
    from tokenizers import Tokenizer, pre_tokenizers, trainers
    from transformers import BertTokenizer

    def trained(model, trainer, **options):
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainer(vocab_size=400, show_progress=False, **options)
        tokenizer.train_from_iterator(data.tales()[:40], trainer)
        return json.loads(tokenizer.to_str())["model"]

    if name in ("fertility", "cut_wordpiece"):
        folder = models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
        bert = Tokenizer.from_file(str(folder / "tokenizer.json"))
        bert.no_padding()
        bert.no_truncation()
        return (bert,)
    if name == "cut_bpe":
        return ([tuple(m) for m in trained(tokenizers.models.BPE(), trainers.BpeTrainer)["merges"]],)
    if name == "cut_unigram":
        unknown = {"special_tokens": ["[UNK]"], "unk_token": "[UNK]"}
        return (dict(trained(tokenizers.models.Unigram(), trainers.UnigramTrainer, **unknown)["vocab"]),)
    if name == "whole_words":
        return (BertTokenizer.from_pretrained(models.path("bert-base-uncased", quiet=True)),)
    return ()


def each(change, value):
    """A list, tuple, dictionary or table with every number or text in it changed."""
    if isinstance(value, dict):
        return {key: each(change, one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(each(change, one) for one in value)
    return change(value)


def filled(value, number):
    if isinstance(value, torch.Tensor):
        return torch.full_like(value.double(), number)
    return np.full(np.shape(value), number) if isinstance(value, np.ndarray) else number


def spoilt(right) -> dict:
    """The usual wrong answers, from a right one."""
    found = {
        "nothing": lambda *given: None,
        "0": lambda *given: 0,
        "True": lambda *given: True,
        "nan": lambda *given: float("nan"),
        "an empty list": lambda *given: [],
        "a text": lambda *given: "three",
        "an object": lambda *given: object(),
        "a table of another shape": lambda *given: torch.zeros(2, 9, 9),
        "an empty table": lambda *given: torch.zeros(0),
        "an error": lambda *given: 1 / 0,
    }
    for name, change in {
        "zeros in its place": lambda v: filled(v, 0.0),
        "nan in its place": lambda v: filled(v, float("nan")),
        "inf in its place": lambda v: filled(v, float("inf")),
        "the wrong sign": lambda v: v[::-1] if isinstance(v, str) else -v,
        "a little too large": lambda v: v.upper() if isinstance(v, str) else v * 1.05 + 0.1,
    }.items():
        found[name] = lambda *given, change=change: each(change, right(*given))
    for place in range(5):
        found[f"argument {place + 1} as it came"] = lambda *given, place=place: given[place]
        kept = []

        def ignoring(*given, place=place, kept=kept):
            if place in ALWAYS_THE_SAME.get(right.__name__, ()):
                raise ValueError("nobody can tell")
            kept.append(copy.deepcopy(given[place]))
            return right(*given[:place], kept[0], *given[place + 1 :])

        found[f"argument {place + 1} not read but once"] = ignoring
    first = []

    def always(*given):
        first.append(right(*given))
        return first[0]

    found["the first case's answer, always"] = always
    found["the last element missing"] = lambda *given: right(*given)[:-1]
    found["a list around it"] = lambda *given: [right(*given)]
    return found


@pytest.mark.parametrize(("number", "name"), NAMES, ids=[f"{number}-{name}" for number, name in NAMES])
def test_only_the_right_answer_is_called_right(number, name, capsys):
    check = getattr(importlib.import_module(f"helpers.exercises.lesson{number}"), name)
    right = books.definitions(books.path(number, True), *CHECKS[number], *ALSO.get(number, []))[name]
    check(right, *needs(name))
    assert capsys.readouterr().out.startswith("Right: ")
    passed = {}
    for mistake, wrong in spoilt(right).items():
        check(wrong, *needs(name))
        said = capsys.readouterr().out
        if not said.startswith("Not yet") or said.count("Not yet") > 1 or "Right" in said:
            passed[mistake] = said
    assert not passed


def test_a_split_that_another_call_does_not_repeat_is_told(capsys):
    from helpers.exercises import lesson06

    split = books.definitions(books.path("06", True), "split")["split"]
    calls = iter(range(1000))
    lesson06.split(lambda questions, answers, share, seed: split(questions, answers, share, next(calls)))
    assert "is another one when the same seed, 0, is given again" in capsys.readouterr().out


def test_an_interval_that_holds_90_percent_is_told(capsys):
    from helpers.exercises import lesson11

    def interval(share, draws, seed=0):
        def percentiles(first, second):
            rows = np.random.default_rng(seed).integers(len(first), size=(draws, len(first)))
            edges = [50 - share / 2, 50 + share / 2]
            return np.percentile((first[rows] - second[rows]).mean(axis=1), edges)

        return percentiles

    lesson11.interval(interval(90, 5000))
    assert capsys.readouterr().out.startswith("Not yet: interval for ")
    for seed in range(5):
        lesson11.interval(interval(95, 1000, seed))
        assert capsys.readouterr().out.startswith("Right: "), "as few draws as the exercise asks for"


def test_a_pack_that_fills_the_first_piece_alone_is_told(capsys):
    from helpers.exercises import lesson13

    def pack(sentences, size):
        pieces = []
        for sentence in sentences:
            if pieces and len(f"{pieces[-1]} {sentence}".split()) <= size:
                pieces[0] += f" {sentence}"
            else:
                pieces.append(sentence)
        return pieces

    lesson13.pack(pack)
    assert "two sentences in every piece" in capsys.readouterr().out


def test_weights_of_another_number_of_positions_are_counted(capsys):
    from helpers.exercises import lesson09

    count = books.definitions(books.path("09", True), "count_weights")["count_weights"]
    lesson09.count_weights(lambda layers, width, pieces, *_: count(layers, width, pieces))
    assert "for (2, 128, 2000, 64, 1) gives" in capsys.readouterr().out
