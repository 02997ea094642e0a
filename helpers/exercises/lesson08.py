"""Checks of lesson 8; the judges are the models of the library tokenizers."""

from collections.abc import Callable
from math import isclose
from typing import TYPE_CHECKING

from helpers.exercises import judge

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def fertility(fertility: Callable, tokenizer: "Tokenizer") -> None:
    """fertility(tokenizer, texts) -> pieces per word; the judge is tokenizer.encode_batch."""
    cases = {
        "one text of common words": ["we love training deep networks"],
        "one text with a rare word": ["backpropagation works"],
        "two texts of different lengths (divide once, at the end)": [
            "a long text about the sea and the ships that sail on it",
            "hyperparameterisation",
        ],
        "a text with two spaces between words": ["deep  learning"],
    }
    wanted = {}
    for name, texts in cases.items():
        cut = tokenizer.encode_batch(texts, add_special_tokens=False)
        wanted[name] = sum(len(c.ids) for c in cut) / sum(len(t.split()) for t in texts)
    judge(
        lambda name: fertility(tokenizer, cases[name]),
        wanted,
        "fertility",
        same=lambda got, right: isclose(got, right, rel_tol=1e-6),
        says=lambda v: f"{v:.3f}" if isinstance(v, float) else repr(v),
    )


def cut_bpe(cut_bpe: Callable, merges: list[tuple[str, str]]) -> None:
    """cut_bpe(word, merges) -> pieces; the judge is tokenizers.models.BPE."""
    from tokenizers.models import BPE

    words = ["the", "learning", "in", "backpropagation", "interesting", "x", "mississippi"]
    pieces = sorted({c for w in words for c in w} | {c for a, b in merges for c in a + b})
    pieces += [a + b for a, b in merges]
    model = BPE({piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, list(merges))
    wanted = {word: [token.value for token in model.tokenize(word)] for word in words}
    judge(lambda word: _listed(cut_bpe(word, merges)), wanted, "cut_bpe")


def cut_wordpiece(cut_wordpiece: Callable, tokenizer: "Tokenizer") -> None:
    """cut_wordpiece(word, vocabulary) -> pieces; the judge is tokenizers.models.WordPiece."""
    from tokenizers.models import WordPiece

    vocabulary = tokenizer.get_vocab()
    model = WordPiece(vocabulary, unk_token="[UNK]")
    words = ["playing", "embeddings", "tokenization", "a", "flibbertigibbet", "🐉", "dragon🐉"]
    wanted = {word: [token.value for token in model.tokenize(word)] for word in words}
    judge(lambda word: _listed(cut_wordpiece(word, vocabulary)), wanted, "cut_wordpiece")


def cut_unigram(cut_unigram: Callable, scores: dict[str, float]) -> None:
    """cut_unigram(word, scores) -> pieces; the judge is tokenizers.models.Unigram."""
    from tokenizers.models import Unigram

    known = [(piece, score) for piece, score in scores.items() if piece != "[UNK]"]
    model = Unigram([("[UNK]", 0.0), *known], 0)
    words = ["learning", "unlearnable", "a", "tokenization", "backpropagation", "mississippi"]
    words = [word for word in words if set(word) <= set(scores)]
    wanted = {word: [token.value for token in model.tokenize(word)] for word in words}

    def same(got: list[str], right: list[str]) -> bool:
        """Equal, or another cut of the same word that is just as probable."""
        if got == right:
            return True
        known = "".join(got) == "".join(right) and all(piece in scores for piece in got)
        return known and isclose(sum(map(scores.get, got)), sum(map(scores.get, right)))

    judge(lambda word: _listed(cut_unigram(word, scores)), wanted, "cut_unigram", same)


def _listed(answer: object) -> object:
    """A tuple or a generator of pieces as a list; anything else as it is."""
    return answer if answer is None or answer is ... or isinstance(answer, str) else list(answer)
