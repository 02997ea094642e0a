"""Checks of lesson 3; the judges are sentence-transformers and plain counting."""

from collections.abc import Callable
from numbers import Real
from typing import TYPE_CHECKING

from helpers.exercises import close, judge, say_number

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

QUESTION = "Who looks after the bees?"
PASSAGES = [
    "Bees make honey from nectar.",
    "A beekeeper looks after the bees.",
    "Who looks after the bees?",
    "The hives stand behind the barn, and Ida tends them.",
    "The barn is red.",
    "Nobody looked after the keys.",
]


def plain(got: object, expected: float) -> bool:
    """Whether a plain number is the expected one; TypeError for a tensor, an array or a list."""
    if not isinstance(got, Real):
        raise TypeError("a plain number is wanted; .item() makes one of a tensor with one number")
    return close(got, expected)


def numbers(got: object, expected: list[int]) -> bool:
    """Whether the passages' numbers are the expected ones; TypeError for their texts."""
    if any(isinstance(item, str) for item in got):
        raise TypeError("return the passages' numbers, not their texts")
    return [int(item) for item in got] == expected


def say_numbers(got: object) -> str:
    return str([int(item) for item in got])


def relevance(relevance: Callable, cross: "CrossEncoder") -> None:
    """relevance(question, passage) -> number from 0 to 1; the judge is CrossEncoder.predict."""
    import torch

    cases = {
        "('Who looks after the bees?', 'A beekeeper looks after the bees.')": (
            QUESTION,
            PASSAGES[1],
        ),
        "the two the other way round (question first, segment id 0)": (PASSAGES[1], QUESTION),
        "a long passage": (QUESTION, " ".join(PASSAGES)),
        "'Why?' and 'Because.'": ("Why?", "Because."),
    }

    def library(case):
        return float(cross.predict([case], activation_fn=torch.nn.Sigmoid())[0])

    wanted = {name: library(case) for name, case in cases.items()}
    judge(lambda name: relevance(*cases[name]), wanted, "relevance", plain, say_number)


def rerank(rerank: Callable, cross: "CrossEncoder", minilm: "SentenceTransformer") -> None:
    """rerank(question, passages, k) -> numbers of all passages, best first; the judges are
    semantic_search and CrossEncoder.rank."""
    import torch
    from sentence_transformers.util import semantic_search

    cases = {
        "six passages, k = 3": (QUESTION, PASSAGES, 3),
        "six passages, k = 1 (nothing to rerank)": (QUESTION, PASSAGES, 1),
        "six passages, k = 6 (all reranked)": (QUESTION, PASSAGES, 6),
        "the six upside down, k = 4": (QUESTION, PASSAGES[::-1], 4),
        "two passages, k = 10 (fewer passages than k)": (QUESTION, PASSAGES[:2], 10),
    }

    def library(question, passages, k):
        found = semantic_search(minilm.encode([question]), minilm.encode(passages), top_k=len(passages))[0]
        near = [hit["corpus_id"] for hit in found]
        head = cross.rank(question, [passages[i] for i in near[:k]], activation_fn=torch.nn.Identity())
        return [near[hit["corpus_id"]] for hit in head] + near[k:]

    wanted = {name: library(*case) for name, case in cases.items()}

    def answer(name):
        question, passages, k = cases[name]
        return rerank(question, list(passages), k)

    judge(answer, wanted, "rerank", numbers, say_numbers)


def break_even(break_even: Callable) -> None:
    """break_even(n, pair, encode, ask, product) -> q or "never"; the judge counts upwards."""
    cases = [
        (1000, 0.010, 0.008, 0.012, 0.000001),
        (1000, 0.010, 0.035, 0.012, 0.000001),
        (100, 0.25, 0.49, 0.5, 0.0),  # equal after two questions exactly: three are less
        (1, 0.010, 0.008, 0.012, 0.000001),
        (2, 0.010, 0.300, 0.012, 0.000001),
        (3, 0.5, 1.0, 1.5, 0.0),  # each question costs the same both ways
        (1, 0.010, 5.000_05, 0.0099, 0.0),  # after 50,001 questions: more than one should count up to
        (100, 0.010, 0.0505, 0.1, 0.008),  # a dot product costs nearly as much as a pair
    ]
    wanted = {}
    for n, pair, encode, ask, product in cases:
        name = f"n={n}, pair={pair}, encode={encode}, ask={ask}, product={product:f}"
        wanted[name] = next(
            (q for q in range(1, 100_000) if n * encode + q * (ask + n * product) < q * n * pair), "never"
        )
    by_name = dict(zip(wanted, cases, strict=True))

    def answer(name):
        got = break_even(*by_name[name])
        return "None" if got is None and wanted[name] == "never" else got  # written, but not the word

    judge(answer, wanted, "break_even")
