"""The vectors of lesson 13's passages, by all-MiniLM-L6-v2: shared_data/docs_vectors.npz.

    python models/recipes/docs_vectors.py                       # ten minutes on one core
    python models/recipes/docs_vectors.py --minutes 2           # stops after two, goes on next time
    python models/recipes/docs_vectors.py --size 50 --overlap 10 --bfloat16 --out FILE
    python models/recipes/docs_vectors.py --whole --bfloat16 --out FILE    # with code and types

What is embedded is kept beside --out (.work-NAME.npy) until all is there; into another file than the
course's, passages whose vectors the course keeps are copied. The passages come from the installed
libraries, in the versions of requirements.txt.
"""

import argparse
import pathlib
import sys
import time

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tqdm.auto import tqdm

from helpers import documentation, kept_vectors, models

BATCH = 256


def embed(
    texts: list[str], work: pathlib.Path, seconds: float, known: np.ndarray, bfloat16: bool = False
) -> np.ndarray | None:
    """The vectors (n, 384) of n texts; None where the time was over before all were done.

    work: where the vectors lie that are done; known: those that need not be embedded (in both, a text not
    done has the length 0).
    """
    vectors = np.load(work) if work.exists() else known
    if len(vectors) != len(texts):
        raise SystemExit(f"{work.name} holds {len(vectors):,} vectors of other passages; remove it")
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # like lengths, little padding
    todo = [i for i in order if not vectors[i].any()]
    path = models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
    minilm = SentenceTransformer(str(path), device="cpu") if todo else None
    end = time.monotonic() + seconds
    for start in tqdm(range(0, len(todo), BATCH), desc="embedding", disable=not sys.stderr.isatty()):
        ids = todo[start : start + BATCH]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            vectors[ids] = minilm.encode([texts[i] for i in ids], normalize_embeddings=True)
        if time.monotonic() > end:
            break
    np.save(work, vectors)
    return vectors if vectors.any(axis=1).all() else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, default=100, help="words of a passage")
    parser.add_argument("--overlap", type=int, default=20, help="words that two passages share")
    parser.add_argument("--untitled", action="store_true", help="leave out the object's name")
    parser.add_argument("--whole", action="store_true", help="the text with code and types")
    parser.add_argument("--bfloat16", action="store_true", help="compute with fewer digits, faster")
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many")
    parser.add_argument("--out", type=pathlib.Path, default=kept_vectors.FILE)
    given = parser.parse_args()
    passages = documentation.passages(given.size, given.overlap, not given.untitled, given.whole)
    texts = list(passages["text"])
    known = np.zeros((len(texts), 384), dtype=np.float32)
    if given.out.resolve() != kept_vectors.FILE:
        known = kept_vectors.lookup(texts)[0]
    work = given.out.with_name(f".work-{given.out.stem}.npy")
    vectors = embed(texts, work, 60 * given.minutes, known, given.bfloat16)
    if vectors is None:
        print("not all embedded yet; run the same command again")
        return 3
    file = kept_vectors.save(texts, vectors, given.out)
    work.unlink()
    print(f"{len(texts):,} passages, {file.stat().st_size / 1e6:.2f} MB in {file.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
