"""Checks of lesson 1; the judge is gensim."""

from collections.abc import Callable
from numbers import Integral
from typing import TYPE_CHECKING

from helpers.exercises import judge

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

# Adding answers each of these otherwise (dog: cat), and so does leaving out the move to 0..1, the division,
# or the rule that the three given words are no answer.
MULTIPLIED = [
    "man king woman",
    "dream dreams dog",
    "possible possibly most",
    "go goes slow",
    "cheap cheaper cold",
    "lubbock texas spokane",
]


def say_word(value: object, given: str = "") -> str:
    """An answer as a check shows it, with a hint where it is a row's number or one of the given words."""
    if isinstance(value, Integral):
        return f"{value} (return the word, not its row)"
    if isinstance(value, str) and value in given.split():
        return f"{value!r} (the given words must be excluded)"
    return repr(value)


def nearest(nearest: Callable, vectors: "KeyedVectors") -> None:
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
    judge(lambda name: nearest(cases[name]), wanted, "nearest", says=say_word)


def odd_one_out(odd_one_out: Callable, vectors: "KeyedVectors") -> None:
    """odd_one_out(words) -> word; the judge is gensim's doesnt_match."""
    lists = [
        "king queen prince ocean",
        "king queen prince ocean sea",  # the best cosine of each with another says queen
        "tv mountain radio newspaper",
        "cloud breakfast lunch dinner",
        "red green throne blue",
        "walk run queen swim jump",
        "otter badger president ferret",  # rare words are short: a dot product says ferret
        "insect subfamily fungus puddle",  # a long vector: distances without scaling say subfamily
    ]
    wanted = {words: vectors.doesnt_match(words.split()) for words in lists}
    judge(lambda words: odd_one_out(words.split()), wanted, "odd_one_out", says=say_word)


def multiply(multiply: Callable, vectors: "KeyedVectors") -> None:
    """multiply(a, b, c) -> word; the judge is gensim's most_similar_cosmul."""
    questions = [q for q in MULTIPLIED if all(word in vectors for word in q.split())]

    def library(question):
        a, b, c = question.split()
        return vectors.most_similar_cosmul(positive=[b, c], negative=[a], topn=1)[0][0]

    wanted = {question: library(question) for question in questions}
    asked = ""

    def answer(question):
        nonlocal asked
        asked = question
        return multiply(*question.split())

    judge(answer, wanted, "multiply", says=lambda value: say_word(value, given=asked))


def _short_word(vectors: "KeyedVectors") -> str:
    """A word whose dot product with some longer vector is larger than with itself."""
    rows = slice(len(vectors) // 2, len(vectors) // 2 + 200)
    best = (vectors.vectors[rows] @ vectors.vectors.T).argmax(axis=1)
    other = [i for i, j in zip(range(len(vectors))[rows], best, strict=True) if i != j]
    return vectors.index_to_key[other[0]] if other else "king"
