"""The runs of lessons 6 and 7 in full: three seeds, more epochs than a lesson has time for.

    python models/recipes/dual_encoder.py                  # all runs, into dual_encoder.tsv
    python models/recipes/dual_encoder.py --only published "one number more" --seeds 0
    python models/recipes/dual_encoder.py --pairs FILE --out FILE     # other questions and answers

One line for each run, seed and number of epochs: mean loss of the first and the last nine steps,
recall@1, recall@10 and MRR on the held-out pairs; the same with every held-out question's echo
among the passages; how often the echo scores above the answer; and, with the echoes, recall@1 minus
that of untouched MiniLM without them ("less MiniLM"), with its paired 95 % bootstrap interval. Lines that are in
the file already are not computed again. Runs on a GPU where there is one.
"""

import argparse
import pathlib

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import normalize

from helpers import data, encoders, files, machine, models, ranking, training
from helpers.intervals import interval

RAW, MINILM = "bert-base-uncased", encoders.MINILM
KEYS = ["run", "seed", "epochs"]


def raw(side):
    return encoders.Pretrained(models.path(RAW, quiet=True))


def minilm(side):
    return encoders.Pretrained(models.path(MINILM, quiet=True))


def one_number_more(side):
    start = 1.0 if side == "question" else 0.0
    return encoders.TopicAndForm(models.path(MINILM, quiet=True), start=start)


def from_scratch(side):
    return encoders.Encoder()


SCHEDULE = {"lr": 3e-4, "warmup": 0.1}
COSINE = SCHEDULE | {"scale": 20}
FINE = {"lr": 2e-4, "warmup": 0.1, "scale": 20}
ONE_NUMBER = {"epochs": 2, "batch": 32, "lr": 1e-2, "warmup": 0.1, "scale": 20, "echo": True}  # lesson 7's
RUNS = {  # how an encoder is built, the rows it trains on, epochs to report, settings
    "published": (from_scratch, 300, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], {"lr": 1e-5}),
    "rate and warm-up": (from_scratch, None, [2], SCHEDULE),
    "rate and warm-up, longer": (from_scratch, None, [5], SCHEDULE),
    "cosine and temperature": (from_scratch, None, [2], COSINE),
    "cosine and temperature, longer": (from_scratch, None, [5], COSINE),
    "raw BERT": (raw, None, [0, 2], FINE),
    "raw BERT, batch of 128": (raw, None, [2], FINE | {"batch": 128}),
    "raw BERT, batch of 128, longer": (raw, None, [4], FINE | {"batch": 128}),
    "MiniLM": (minilm, None, [0, 2], FINE | {"lr": 2e-5}),
    "MiniLM, echoes": (minilm, None, [2], FINE | {"echo": True}),
    "MiniLM, echoes, longer": (minilm, None, [4], FINE | {"echo": True}),
    "one number more": (one_number_more, None, [0, 2], ONE_NUMBER),
}


def first_places(question_encoder, answer_encoder, test, echoes):
    """1 where a held-out question's answer is first, else 0: (questions,)."""
    questions = normalize(encoders.embed(question_encoder, test["question"]), dim=1)
    texts = [*test["answer"], *(test["question"] if echoes else [])]
    passages = normalize(encoders.embed(answer_encoder, texts), dim=1)
    return (ranking.ranks(questions, passages) == 1).double().numpy()


def run(name, seed, train, test, untouched):
    """The lines of one run and seed."""
    build, rows, report, settings = RUNS[name]
    torch.manual_seed(seed)
    pair = [build(side).to(machine.device()) for side in ("question", "answer")]
    lines = []

    def measure(losses):
        epochs = len(losses) // max(1, len(train[:rows]) // settings.get("batch", 32))
        if epochs not in report:
            return
        first = first_places(*pair, test, echoes=True)
        low, high = interval(first - untouched)
        begin, end = [f"{np.mean(part):.3f}" if part else "" for part in (losses[:9], losses[-9:])]
        found = {
            "run": name,
            "seed": seed,
            "epochs": epochs,
            "steps": len(losses),
            "first losses": begin,
            "last losses": end,
            **{k: f"{v:.4f}" for k, v in ranking.score_pair(*pair, test).items()},
            "less MiniLM": f"{(first - untouched).mean():.4f}",
            "low": f"{low:.4f}",
            "high": f"{high:.4f}",
        }
        lines.append(found)
        print(found, flush=True)

    if 0 in report:
        measure([])
    if max(report):
        settings = settings | {"epochs": max(report), "seed": seed}
        training.train(*pair, train[:rows], **settings, each_epoch=measure)
    return lines


def main():
    here = pathlib.Path(__file__)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=pathlib.Path, help="TSV: questions, answers")
    parser.add_argument("--out", type=pathlib.Path, default=here.with_suffix(".tsv"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", choices=RUNS, default=list(RUNS))
    args = parser.parse_args()
    train, test = (data.qa_pairs(args.pairs, part) for part in ("train", "test"))
    model = minilm("both")
    untouched = first_places(model, model, test, echoes=False)
    done = pd.read_csv(args.out, sep="\t", dtype=str) if args.out.exists() else pd.DataFrame()
    for name in args.only:
        for seed in args.seeds:
            if len(done) and ((done["run"] == name) & (done["seed"] == str(seed))).any():
                continue
            lines = pd.DataFrame(run(name, seed, train, test, untouched)).astype(str)
            done = pd.concat([done, lines])
            with files.put_whole(args.out) as part:
                done.to_csv(part, sep="\t", index=False)


if __name__ == "__main__":
    main()
