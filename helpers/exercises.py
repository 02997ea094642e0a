"""The check cells of the exercises: each says what is wrong, not only that something is.

A function that still holds `...` is told what it should give. Answers are compared with a
trusted library wherever there is one.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gensim.models import KeyedVectors


def lesson01_nearest(nearest: Callable, vectors: "KeyedVectors") -> None:
    """nearest(vector) -> word; the judge is gensim's similar_by_vector."""
    king, man, woman = (vectors.get_vector(w, norm=True) for w in ("king", "man", "woman"))
    short = _short_word(vectors)
    cases = {
        "vectors['ocean']": vectors["ocean"],
        f"vectors[{short!r}] (compare cosines, not dot products)": vectors[short],
        "10 * vectors['tv'] (length must not matter)": 10 * vectors["tv"],
        "king - man + woman": king - man + woman,
        "-vectors['the']": -vectors["the"],
    }
    wanted = {name: vectors.similar_by_vector(v, topn=1)[0][0] for name, v in cases.items()}
    _judge(lambda name: nearest(cases[name]), wanted, "nearest")


def lesson01_odd_one_out(odd_one_out: Callable, vectors: "KeyedVectors") -> None:
    """odd_one_out(words) -> word; the judge is gensim's doesnt_match."""
    lists = ["king queen prince ocean", "tv radio newspaper mountain", "breakfast lunch dinner cloud",
             "red green blue throne", "walk run swim queen"]  # fmt: skip
    wanted = {words: vectors.doesnt_match(words.split()) for words in lists}
    _judge(lambda words: odd_one_out(words.split()), wanted, "odd_one_out")


def lesson01_multiply(multiply: Callable, vectors: "KeyedVectors") -> None:
    """multiply(a, b, c) -> word; the judge is gensim's most_similar_cosmul."""
    questions = ["man king woman", "walk walked play", "good better bad", "uncle aunt boy"]

    def judge(question):
        a, b, c = question.split()
        return vectors.most_similar_cosmul(positive=[b, c], negative=[a], topn=1)[0][0]

    wanted = {question: judge(question) for question in questions}
    _judge(lambda question: multiply(*question.split()), wanted, "multiply")


def _short_word(vectors: "KeyedVectors") -> str:
    """A word whose dot product with some longer vector is larger than with itself."""
    rows = slice(len(vectors) // 2, len(vectors) // 2 + 200)
    best = (vectors.vectors[rows] @ vectors.vectors.T).argmax(axis=1)
    other = [i for i, j in zip(range(len(vectors))[rows], best, strict=True) if i != j]
    return vectors.index_to_key[other[0]] if other else "king"


def _judge(answer: Callable, wanted: dict, name: str) -> None:
    """Print the first case that is wrong, or that all are right."""
    for case, expected in wanted.items():
        try:
            got = answer(case)
        except Exception as e:  # whatever the reader's own code raises is the message
            print(f"Not yet: {name} for {case} stopped with {type(e).__name__}: {e}")
            return
        if got is None or got is ...:
            print(f"Not yet written: {name} for {case} should give {expected!r}; it gives {got}.")
            return
        if got != expected:
            print(f"Not yet: {name} for {case} gives {got!r}; it should be {expected!r}.")
            return
    print(f"Right: {name} agrees with the library in all {len(wanted)} cases.")
