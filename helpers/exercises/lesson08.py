"""Checks of lesson 8; the judges are the models of the library tokenizers."""

from collections.abc import Callable
from math import isclose
from typing import TYPE_CHECKING

from helpers.exercises import judge

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def fertility(fertility: Callable, tokenizer: "Tokenizer") -> None:
    """fertility(tokenizer, texts) -> pieces per word; the judge is tokenizer.encode_batch."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    letters = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    letters.pre_tokenizer = pre_tokenizers.Split(Regex(r"\S"), "removed", invert=True)
    texts = {
        "one text of common words": ["we love training deep networks"],
        "one text with a rare word": ["backpropagation works"],
        "two texts of different lengths (divide once, at the end)": [
            "a long text about the sea and the ships that sail on it",
            "hyperparameterisation",
        ],
        "a text with two spaces between words": ["deep  learning"],
    }
    cases = {name: (tokenizer, some) for name, some in texts.items()}
    cases["a tokenizer whose pieces are letters"] = letters, ["deep learning", "works"]
    wanted = {}
    for name, (cutter, some) in cases.items():
        cut = cutter.encode_batch(some, add_special_tokens=False)
        wanted[name] = sum(len(c.ids) for c in cut) / sum(len(t.split()) for t in some)
    judge(
        lambda name: fertility(cases[name][0], list(cases[name][1])),
        wanted,
        "fertility",
        same=lambda got, right: isclose(got, right, rel_tol=1e-6),
        says=lambda v: f"{v:.3f}" if isinstance(v, float) else repr(v),
    )


def cut_bpe(cut_bpe: Callable, merges: list[tuple[str, str]]) -> None:
    """cut_bpe(word, merges) -> pieces; the judge is tokenizers.models.BPE."""
    from tokenizers.models import BPE

    words = ["the", "learning", "in", "backpropagation", "interesting", "x", "mississippi"]
    cases = {word: (word, merges) for word in words}
    cases["abc, with the merges a + b, b + c"] = "abc", [("a", "b"), ("b", "c")]
    cases["abc, with the merges b + c, a + b"] = "abc", [("b", "c"), ("a", "b")]
    cases["aaaaa, with the merge a + a"] = "aaaaa", [("a", "a")]

    def library(word, merges):
        pieces = [*word, *(letter for a, b in merges for letter in a + b), *(a + b for a, b in merges)]
        model = BPE({piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, list(merges))
        return [token.value for token in model.tokenize(word)]

    judge(
        lambda case: _listed(cut_bpe(cases[case][0], list(cases[case][1]))),
        {case: library(*given) for case, given in cases.items()},
        "cut_bpe",
    )


def cut_wordpiece(cut_wordpiece: Callable, tokenizer: "Tokenizer") -> None:
    """cut_wordpiece(word, vocabulary) -> pieces; the judge is tokenizers.models.WordPiece."""
    from tokenizers.models import WordPiece

    vocabulary = tokenizer.get_vocab()
    words = ["playing", "embeddings", "tokenization", "a", "flibbertigibbet", "🐉", "dragon🐉"]
    cases = {word: (word, vocabulary) for word in words}
    few = dict.fromkeys(["[UNK]", "p", "pl", "play", "##ay", "##in", "##g"], 0)
    cases["playing, from a vocabulary of seven pieces"] = "playing", few
    cases["ingplay, from the same seven (no word begins with ing)"] = "ingplay", few
    cases["abc, from a, ab and ##bc (the longest beginning leads nowhere)"] = (
        "abc",
        dict.fromkeys(["[UNK]", "a", "ab", "##bc"], 0),
    )
    wanted = {
        case: [token.value for token in WordPiece(known, unk_token="[UNK]").tokenize(word)]
        for case, (word, known) in cases.items()
    }
    judge(lambda case: _listed(cut_wordpiece(*cases[case])), wanted, "cut_wordpiece")


def cut_unigram(cut_unigram: Callable, scores: dict[str, float]) -> None:
    """cut_unigram(word, scores) -> pieces; the judge is tokenizers.models.Unigram."""
    from tokenizers.models import Unigram

    words = ["learning", "unlearnable", "a", "tokenization", "backpropagation", "mississippi"]
    cases = {word: (word, scores) for word in words if set(word) <= set(scores)}
    one, other = {"a": -1.0, "b": -1.0, "ab": -1.5}, {"a": -1.0, "b": -1.0, "ab": -3.0}
    cases["ab, where a and b cost 1 each and ab 1.5"] = "ab", one
    cases["ab, where a and b cost 1 each and ab 3"] = "ab", other
    cases["abc, where a alone is no piece"] = "abc", {"ab": -2.0, "b": -1.0, "c": -1.0, "bc": -1.0}
    # whoever takes the longest, the likeliest or the fewest pieces, from the left or from the right, errs here
    apart = {"a": -2.0, "b": -2.0, "c": -3.0, "d": -3.0, "x": -1.0, "abcd": -9.0, "dcba": -9.0}
    apart |= {"ab": -1.0, "cd": -4.0, "bcd": -1.0, "ba": -1.0, "dc": -4.0, "dcb": -1.0}
    cases["abcdxdcba, where a|bcd is better than ab|cd, and dcb|a than dc|ba"] = "abcdxdcba", apart
    cases["a word of 24 letters a (23 seams, 8 million cuts)"] = (
        "a" * 24,
        {"a": -1.0, "aa": -2.5, "aaa": -2.9},
    )

    def library(word, scores):
        known = [(piece, score) for piece, score in scores.items() if piece != "[UNK]"]
        return [token.value for token in Unigram([("[UNK]", 0.0), *known], 0).tokenize(word)]

    def answer(case):
        word, known = cases[case]
        most = (200 * (len(word) + 1) + len(known)) * (len(word) + 1)  # each piece at each place, and more
        got = _listed(cut_unigram(word, _Counted(known, most)))
        return got if got is None or got is ... else (case, got)

    def same(got: tuple, right: tuple) -> bool:
        """Equal, or another cut of the same word that is just as probable."""
        (case, got), (_, right) = got, right
        word, scores = cases[case]
        if got == right:
            return True
        known = "".join(got) == word and all(piece in scores for piece in got)
        return known and isclose(sum(map(scores.get, got)), sum(map(scores.get, right)))

    wanted = {case: (case, library(*given)) for case, given in cases.items()}
    judge(answer, wanted, "cut_unigram", same, lambda value: repr(value[1]))


class _Counted(dict):
    """Scores that may be looked up so many times and no more."""

    def __init__(self, scores: dict[str, float], most: int):
        super().__init__(scores)
        self.left = self.most = most

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError(
                f"it has looked up {self.most:,} pieces; keep one cut for each place, not all cuts"
            )

    def __contains__(self, piece: object) -> bool:
        self._count()
        return super().__contains__(piece)

    def __getitem__(self, piece: str) -> float:
        self._count()
        return super().__getitem__(piece)

    def get(self, piece: str, other: object = None) -> object:
        self._count()
        return super().get(piece, other)


def _listed(answer: object) -> object:
    """A tuple or a generator of pieces as a list; anything else as it is."""
    return answer if answer is None or answer is ... or isinstance(answer, str) else list(answer)
