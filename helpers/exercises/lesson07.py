"""Checks of lesson 7; the judges are sentence-transformers and transformers."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.exercises import judge

if TYPE_CHECKING:
    from transformers import (
        DPRContextEncoder,
        DPRContextEncoderTokenizer,
        DPRQuestionEncoder,
        DPRQuestionEncoderTokenizer,
    )

QUESTIONS = ["Who built the first steam engine?", "what is steam"]
PASSAGES = [
    "Thomas Newcomen set up an engine at a coal mine in 1712.",
    "Who built the first steam engine?",
    "Steam is water that has become a gas.",
    "The cat sleeps on the boiler.",
]
OLD = PASSAGES[:3]
NEW = [PASSAGES[3], "Coal was carried by canal.", PASSAGES[0], "Coal was carried by canal."]
GROWN = [*PASSAGES, "Coal was carried by canal."]


def top_k(top_k: Callable) -> None:
    """top_k(question_vector, passage_vectors, k) -> [(row, cosine), ...], best first; the judge
    is sentence_transformers.util.semantic_search."""
    import torch
    from sentence_transformers.util import semantic_search

    torch.manual_seed(0)
    east, north = [1.0, 0.0], [0.0, 1.0]
    cases = {
        "question [1, 0], passages [[0, 1], [1, 0]], k=1": (
            torch.tensor(east),
            torch.tensor([north, east]),
            1,
        ),
        "a long vector off the way, a short one on it, k=2": (
            torch.tensor(east),
            torch.tensor([[9.0, 9.0], [0.1, 0.0], [-1.0, 0.0]]),
            2,
        ),
        "20 random passages, k=5": (3 * torch.randn(8), torch.randn(20, 8) * torch.rand(20, 1), 5),
        "20 random passages, k=20": (torch.randn(8), torch.randn(20, 8), 20),
    }
    wanted = {}
    for name, (question, passages, k) in cases.items():
        hits = semantic_search(question[None], passages, top_k=k)[0]
        wanted[name] = [(hit["corpus_id"], hit["score"]) for hit in hits]
    judge(lambda name: top_k(*_copies(cases[name])), wanted, "top_k", _same_hits, _hits)


def exchanged(
    exchanged: Callable,
    question_encoder: "DPRQuestionEncoder",
    context_encoder: "DPRContextEncoder",
    question_tokenizer: "DPRQuestionEncoderTokenizer",
    context_tokenizer: "DPRContextEncoderTokenizer",
) -> None:
    """exchanged(question, passages) -> cosines, the question through the passage encoder and the
    passages through the question encoder; the judge is transformers, one text at a time."""
    import torch

    asks, tells = (question_encoder, question_tokenizer), (context_encoder, context_tokenizer)

    def cosines(question, first, second):
        texts = [(first, question), *((second, text) for text in PASSAGES)]
        with torch.no_grad():
            q, *p = (
                encoder(**tokenizer(text, return_tensors="pt")).pooler_output
                for (encoder, tokenizer), text in texts
            )
        return torch.cosine_similarity(q, torch.cat(p), dim=1)

    try:
        got, usual = _row(exchanged(QUESTIONS[0], PASSAGES)), cosines(QUESTIONS[0], asks, tells)
        if got.shape == usual.shape and torch.allclose(got, usual, atol=1e-3):
            print("Not yet: exchanged gives the cosines of the encoders in their usual places.")
            return
    except Exception:
        pass  # judge says what is wrong
    wanted = {question: cosines(question, tells, asks) for question in QUESTIONS}
    judge(lambda question: exchanged(question, list(PASSAGES)), wanted, "exchanged", _same_row, _numbers)


def add(add: Callable, ingest: Callable, load_index: Callable) -> None:
    """add(texts, file) appends passages to a saved index. The judge is the index that `ingest`
    makes of all passages at once; the rows that were there must stay as they are, bit for bit, and
    so must the index when the same passages are added again."""
    import torch

    with tempfile.TemporaryDirectory() as place:
        file, whole = Path(place) / "index.safetensors", Path(place) / "whole.safetensors"
        ingest(OLD, file)
        marked = _mark(file, load_index)
        before = file.read_bytes()
        try:
            add(list(NEW), file)
            vectors, texts = load_index(file)
        except Exception as e:
            print(
                f"Not yet: add of {len(NEW)} passages to an index of {len(OLD)} stopped with "
                f"{type(e).__name__}: {e}"
            )
            return
        if file.read_bytes() == before:
            print(
                f"Not yet written: add should make an index of {len(OLD)} passages one of {len(GROWN)}; "
                "the file is as it was."
            )
            return
        vectors = vectors.clone()  # not the file's own memory, which may be written to again
        again = _added_again(add, file, load_index, vectors, texts)
        ingest(GROWN, whole)
        wanted, _ = load_index(whole)
    if texts != GROWN:
        print(
            f"Not yet: after add the index holds {len(texts)} texts, {texts}; it should hold "
            f"{len(GROWN)}: the old ones, then each new one once."
        )
    elif tuple(vectors.shape) != tuple(wanted.shape):
        print(
            f"Not yet: the index holds vectors of shape {tuple(vectors.shape)}; it should be "
            f"{tuple(wanted.shape)}, one row a text."
        )
    elif not torch.equal(vectors[: len(OLD)], marked):
        print("Not yet: the rows that were there have changed; they should be kept, not encoded again.")
    elif not torch.allclose(vectors[len(OLD) :], wanted[len(OLD) :], atol=1e-4):
        print("Not yet: the new rows are not the passage encoder's vectors of the new texts, in order.")
    elif again:
        print(f"Not yet: adding what is there already {again}.")
    else:
        print(f"Right: add made an index of {len(OLD)} passages one of {len(GROWN)}, as ingest does at once.")


def _mark(file, load_index):
    """Turn the saved vectors round, so that a row that is encoded again shows; give them back."""
    import json

    from safetensors.torch import save_file

    vectors, texts = load_index(file)
    marked = -vectors
    save_file({"vectors": marked}, file, metadata={"texts": json.dumps(texts)})
    return marked


def _added_again(add, file, load_index, vectors, texts):
    """What is wrong with the index after an add that has nothing new, or None."""
    import torch

    try:
        add(list(NEW), file)
        after, known = load_index(file)
    except Exception as e:  # whatever the reader's own code raises is the message
        return f"stopped with {type(e).__name__}: {e}"
    if known != texts:
        return f"made an index of {len(texts)} passages one of {len(known)}, {known}; it should stay as it is"
    if not torch.equal(after, vectors):
        return "changed the vectors; they should stay as they are"
    return None


def _copies(case):
    return tuple(part.clone() if hasattr(part, "clone") else part for part in case)


def _same_hits(got: object, expected: list) -> bool:
    got = [(int(row), float(cosine)) for row, cosine in got]
    return [row for row, _ in got] == [row for row, _ in expected] and all(
        abs(a - b) < 1e-4 for (_, a), (_, b) in zip(got, expected, strict=True)
    )


def _hits(value: object) -> str:
    try:
        return "[" + ", ".join(f"({int(row)}, {float(cosine):.3f})" for row, cosine in value) + "]"
    except (TypeError, ValueError):
        return repr(value)


def _row(value: object):
    import torch

    return torch.as_tensor(value, dtype=torch.float32).detach().flatten()


def _same_row(got: object, expected: object) -> bool:
    import torch

    got = _row(got)
    if got.shape != expected.shape:
        raise ValueError(f"it has {len(got)} numbers, not {len(expected)}")
    return torch.allclose(got, expected, atol=1e-3)


def _numbers(value: object) -> str:
    return "[" + ", ".join(f"{x:.3f}" for x in _row(value).tolist()) + "]"
