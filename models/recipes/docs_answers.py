"""Lesson 13's last step on all its questions: models/recipes/docs_answers.tsv.

    OMP_NUM_THREADS=1 python models/recipes/docs_answers.py --bfloat16          # as it was made
    python models/recipes/docs_answers.py --minutes 2           # stops after two, goes on next time

One line for each question and each of the first ten passages that the lesson's `best_passages` finds among
20 candidates: its place, its object, the object's grade (empty: nobody judged it), and the score of its best
sentence for the cross-encoder. Its scores are kept in --work, so that a stopped run goes on.
"""

import argparse
import pathlib
import re
import sys
import tempfile
import time

import pandas as pd
from docs_retrieval import WEIGHT, Stages, best_first, blend, options, weighted
from tqdm.auto import tqdm

from helpers import data, documentation, kept_vectors

CANDIDATES = 20  # passages that the cross-encoder reads
KEPT = 10  # passages of each question
READ = 0.3  # its weight beside the fused score
OUT = pathlib.Path(__file__).with_suffix(".tsv")


def sentences(text: str) -> list[str]:
    """The sentences of a passage, without the name in front."""
    return re.split(r"(?<=[.?!])\s+", text.partition(": ")[2])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    given, reader, end = options(parser, OUT)
    judged = data.docs_questions()
    grades = judged.set_index(["question_id", "object"])["grade"]
    answerable = judged[judged["grade"] > 0]["question_id"]
    asked = judged[judged["question_id"].isin(answerable)].drop_duplicates("question_id")
    passages = documentation.passages()
    vectors, found = kept_vectors.lookup(passages["text"])
    if not found.all():
        raise SystemExit(f"{(~found).sum():,} passages have no vector; run docs_vectors.py first")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stages = Stages(passages, vectors, folder)
        for q, text in tqdm(list(zip(asked["question_id"], asked["question"], strict=True))):
            if time.monotonic() > end:
                break
            first = weighted(stages.vectors(text), stages.bm25(text), WEIGHT)[:CANDIDATES]
            read = pd.Series(reader(text, list(first["text"]))[0], first.index)
            for place, row in enumerate(blend(best_first([first], read), first, READ)[:KEPT].itertuples(), 1):
                best = max(reader(text, sentences(row.text))[0])
                grade = grades.get((q, row.object), "")
                rows.append((q, place, row.object, grade, f"{row.score:.4f}", f"{best:.5g}"))
            reader.save()
    if len(rows) < KEPT * len(asked):
        print(f"{len(rows) // KEPT} of {len(asked)} questions; run again")
        return 3
    columns = ["question_id", "place", "object", "grade", "passage", "sentence"]
    pd.DataFrame(rows, columns=columns).to_csv(given.out, sep="\t", index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
