"""Lesson 11's run: what training on near copies of a test does to the score on that test.

    python models/recipes/contamination.py                      # all runs, into contamination.tsv
    python models/recipes/contamination.py --seeds 0 --only "near copies"

MiniLM is trained for 27 steps of 32 documentation pairs by lesson 6's loop, its lower four layers left as
they are: once on near copies of the 300 test pairs of lesson 11 (a fifth of the words dropped), once on
pairs of libraries that are not in the test. A line of the table is one run and seed: nDCG@10 on the test
pairs and on 300 fresh pairs of the same libraries, whose copies nobody saw, and its gain over the untouched
model with a paired 95 % bootstrap interval. About two CPU minutes a line. Lines that are in the file already
are not computed again.
"""

import argparse
import pathlib

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from helpers import documentation, encoders, files, models, ranking, training
from helpers.intervals import interval

SETTINGS = {"steps": 27, "batch": 32, "lr": 1e-4, "scale": 20, "warmup": 0.1}
RUNS = ["near copies", "other libraries"]
QUESTIONS = 300
DROPPED = 0.2  # of the words of a text, in a near copy


def beds() -> dict[str, pd.DataFrame]:
    """test: the pairs of lesson 11's retrieval task; fresh: as many others of the same libraries."""
    everything = documentation.pairs("test")
    test = everything.sample(QUESTIONS, random_state=0)
    return {"test": test, "fresh": everything.drop(test.index).sample(QUESTIONS, random_state=1)}


def near_copies(pairs: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The pairs with a fifth of the words of each question and answer left out, at random."""
    draw = np.random.default_rng(seed)

    def thinned(text: str) -> str:
        words = text.split()
        kept = np.sort(draw.permutation(len(words))[: max(1, round(len(words) * (1 - DROPPED)))])
        return " ".join(words[i] for i in kept)

    return pd.DataFrame({side: [thinned(text) for text in pairs[side]] for side in ("question", "answer")})


def ndcg(encoder: torch.nn.Module, pairs: pd.DataFrame) -> np.ndarray:
    """nDCG@10 of each question, whose one right answer is its own: (questions,)."""
    sides = (normalize(encoders.embed(encoder, pairs[side]), dim=1) for side in ("question", "answer"))
    places = ranking.ranks(*sides).numpy()
    return np.where(places <= 10, 1 / np.log2(places + 1), 0.0)


def untouched() -> encoders.Pretrained:
    return encoders.Pretrained(models.path(encoders.MINILM, quiet=True), frozen=4).eval()


def trained(run: str, seed: int) -> encoders.Pretrained:
    """MiniLM after a run; run as in RUNS."""
    pairs = near_copies(beds()["test"], seed) if run == "near copies" else documentation.pairs("train")
    encoder = untouched()
    training.train(encoder, encoder, pairs, **SETTINGS, seed=seed)
    return encoder


def line(run: str, seed: int, encoder: torch.nn.Module, before: dict[str, np.ndarray]) -> dict:
    found = {"run": run, "seed": seed}
    for bed, pairs in beds().items():
        after = ndcg(encoder, pairs)
        found[bed] = after.mean()
        if bed in before:
            found[f"{bed} gain"] = (after - before[bed]).mean()
            found |= dict(zip((f"{bed} low", f"{bed} high"), interval(after - before[bed]), strict=True))
    return {key: f"{value:.4f}" if isinstance(value, float) else value for key, value in found.items()}


def main() -> None:
    here = pathlib.Path(__file__)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=here.with_suffix(".tsv"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--only", nargs="*", choices=RUNS, default=RUNS)
    args = parser.parse_args()
    start = untouched()
    before = {bed: ndcg(start, pairs) for bed, pairs in beds().items()}
    lines = pd.read_csv(args.out, sep="\t", dtype=str) if args.out.exists() else pd.DataFrame()
    if not len(lines):
        lines = pd.DataFrame([line("untouched", 0, start, {})]).astype(str)
    for seed in args.seeds:
        for run in args.only:
            if ((lines["run"] == run) & (lines["seed"] == str(seed))).any():
                continue
            new = line(run, seed, trained(run, seed), before)
            print(new, flush=True)
            lines = pd.concat([lines, pd.DataFrame([new]).astype(str)])
            with files.put_whole(args.out) as out:
                lines.to_csv(out, sep="\t", index=False)


if __name__ == "__main__":
    main()
