"""Lesson 13's stages on the course's own questions and answers: models/recipes/qa_retrieval.tsv.

    OMP_NUM_THREADS=1 python models/recipes/qa_retrieval.py --bfloat16          # as it was made
    python models/recipes/qa_retrieval.py --minutes 2           # stops after two, goes on next time

The 300 held-out questions are asked over all 1,000 answers. One line for each question and stage: at which
place among the first 100 its own answer stands (0: not among them). The cross-encoder reads the first 20 of
BM25's list, of the vectors', and of both fused by rank. Its scores are kept in --work, so that a stopped run
goes on.
"""

import argparse
import pathlib
import sys
import tempfile
import time

import pandas as pd
from docs_retrieval import Stages, best_first, options, rrf, weighted
from sentence_transformers import SentenceTransformer
from tqdm.auto import tqdm

from helpers import data, models

DEPTH = 20  # passages that the cross-encoder reads
WEIGHT = 0.6  # of the vectors, where scores are fused: the documentation's
OUT = pathlib.Path(__file__).with_suffix(".tsv")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    given, reader, end = options(parser, OUT)
    answers, asked = data.qa_pairs()["answer"].drop_duplicates().tolist(), data.qa_pairs(part="test")
    minilm = models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
    vectors = SentenceTransformer(str(minilm), device="cpu").encode(answers, normalize_embeddings=True)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stages = Stages(pd.DataFrame({"object": answers, "text": answers}), vectors, folder)
        for number, question, right in tqdm(list(asked.itertuples())):
            if time.monotonic() > end:
                print(f"{number} of {len(asked)} questions; run again")
                return 3
            found = {"BM25": stages.bm25(question), "vectors": stages.vectors(question)}
            found["fused by rank"] = rrf(found["vectors"], found["BM25"])
            found["fused by score"] = weighted(found["vectors"], found["BM25"], WEIGHT)
            for first in ("BM25", "vectors", "fused by rank"):
                few = found[first][:DEPTH]
                scores = pd.Series(reader(question, list(few["text"]))[0], few.index)
                found[f"{first}, reranked {DEPTH}"] = best_first([few], scores)
            for stage, table in found.items():
                texts = list(table["text"][:100])
                rows.append((number, stage, texts.index(right) + 1 if right in texts else 0))
            if number % 10 == 9:
                reader.save()
    pd.DataFrame(rows, columns=["question", "stage", "place"]).to_csv(given.out, sep="\t", index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
