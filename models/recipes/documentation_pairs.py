"""Lesson 6's runs in full: what each change of the training brings, chosen on the development part.

    python models/recipes/documentation_pairs.py                     # all runs, into documentation_pairs.tsv
    python models/recipes/documentation_pairs.py --only base --seeds 0

MiniLM is trained on documentation pairs (helpers.documentation.pairs), 1,200 of them in each run but for
"twice as long"; one encoder serves both sides, but for "two encoders". A line of the table is one run and seed: recall@1 and MRR on 500 pairs of the development
libraries, and the MRR minus that of the untouched model with its paired 95 % bootstrap interval. The lines of
the runs in TESTED also have the same on 500 pairs of the test libraries, on the course's 300 held-out
questions (recall@1 over their answers), and Pearson on the course's 300 pairs of sentences; "averaged" is
halfway between the trained and the untouched weights. About two CPU minutes a line on a processor with bfloat16.
Lines that are in the file already are not computed again.
"""

import argparse
import pathlib
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import mse_loss, normalize

from helpers import cache, data, documentation, encoders, files, machine, models, ranking, training
from helpers.intervals import interval

CROSS_ENCODER = "cross-encoder/ms-marco-MiniLM-L-12-v2"
BASE = {"steps": 25, "batch": 48, "lr": 1e-4, "scale": 20, "warmup": 0.1}
RUNS: dict[str, dict] = {
    "base": {},
    "batch of 12": {"batch": 12, "steps": 100},
    "batch of 24": {"batch": 24, "steps": 50},
    "batch of 96": {"batch": 96, "steps": 12},
    "scale 5": {"scale": 5},
    "scale 50": {"scale": 50},
    "nearest wrong answer": {"mined": 0},
    "20th nearest wrong answer": {"mined": 19},
    "cross-encoder as teacher": {"teacher": True},
    "two encoders": {"two": True},
    "by the library": {"library": True},
    "ten times the rate": {"lr": 1e-3},
    "twice as long": {"steps": 50},
    "twice as long, by the library": {"library": True, "steps": 50},
}
TESTED = ["base", "twice as long", "ten times the rate"]
SEVERAL_SEEDS = ["base", "twice as long"]
FROZEN = 2


def untouched() -> encoders.Pretrained:
    return encoders.Pretrained(models.path(encoders.MINILM, quiet=True), frozen=FROZEN)


def vectors(encoder: torch.nn.Module, texts: Sequence[str]) -> torch.Tensor:
    return normalize(encoders.embed(encoder, texts), dim=1)


def pearson_on_sts(encoder: torch.nn.Module) -> float:
    table = data.sts(quiet=True)
    first, second = (vectors(encoder, table[side]) for side in ("sentence1", "sentence2"))
    return float(np.corrcoef((first * second).sum(dim=1).numpy(), table["score"])[0, 1])


def mined(train: pd.DataFrame, place: int) -> list[list[int]]:
    """For each question the wrong answer that untouched MiniLM puts at this place, 0 for the nearest."""
    questions, answers = (vectors(untouched().eval(), train[side]) for side in ("question", "answer"))
    scores = questions @ answers.T
    scores.fill_diagonal_(-1)
    return scores.topk(place + 1, dim=1).indices[:, place:].tolist()


def taught(encoder: torch.nn.Module, train: pd.DataFrame, seed: int) -> None:
    """Train by MarginMSE: the student's difference of two scores shall be the cross-encoder's.

    Source: S. Hofstätter and others, Improving Efficient Neural Ranking Models with Cross-Architecture
    Knowledge Distillation, 2020. The wrong answer is the 20th nearest.
    """
    from sentence_transformers import CrossEncoder

    settings = BASE
    teacher = CrossEncoder(str(models.path(CROSS_ENCODER, quiet=True)), activation_fn=torch.nn.Identity())
    chosen = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    chosen = chosen[: settings["steps"] * settings["batch"]].tolist()
    wrong = mined(train, 19)
    questions, answers = train["question"].tolist(), train["answer"].tolist()
    asked = [(questions[i], answers[j]) for i in chosen for j in (i, wrong[i][0])]
    scores = torch.tensor(teacher.predict(asked, show_progress_bar=True)).view(-1, 2)
    margins = scores[:, 0] - scores[:, 1]
    rows = [encoders.tokenise(texts) for texts in (questions, answers)]
    adam = training.optimizers(encoder, lr=settings["lr"])
    encoder.train()
    for step in range(settings["steps"]):
        at = slice(step * settings["batch"], (step + 1) * settings["batch"])
        three = ([rows[0][i] for i in chosen[at]], [rows[1][i] for i in chosen[at]])
        three += ([rows[1][wrong[i][0]] for i in chosen[at]],)
        with torch.autocast("cpu", torch.bfloat16, enabled=machine.bfloat16_pays()):
            q, right, other = (encoder(*encoders.pad(part)) for part in three)
        q, right, other = (normalize(part.float(), dim=1) for part in (q, right, other))
        margin = settings["scale"] * ((q * right).sum(dim=1) - (q * other).sum(dim=1))
        loss = mse_loss(margin, margins[at])
        for optimizer in adam:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = settings["lr"] * training.rate(step, settings["steps"], settings["warmup"])
        loss.backward()
        for optimizer in adam:
            optimizer.step()
    encoder.eval()


def by_the_library(train: pd.DataFrame, seed: int, settings: dict, **more) -> torch.nn.Module:
    """A run by sentence-transformers' own trainer and loss; more: further arguments."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    model = SentenceTransformer(
        str(models.path(encoders.MINILM, quiet=True)),
        device="cpu",
        config_kwargs={"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    )
    model.max_seq_length = 64
    bert = model[0].auto_model
    for part in [bert.embeddings, *bert.encoder.layer[:FROZEN]]:
        part.requires_grad_(False)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(cache() / "lesson06-trainer"),
        max_steps=settings["steps"],
        per_device_train_batch_size=settings["batch"],
        learning_rate=settings["lr"],
        warmup_steps=settings["warmup"],  # a share of all steps
        seed=seed,
        bf16=machine.bfloat16_pays(),
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        **more,
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_pandas(train[["question", "answer"]], preserve_index=False),
        loss=MultipleNegativesRankingLoss(model, scale=settings["scale"]),
    )
    trainer.train()
    encoder = untouched().eval()
    encoder.bert.load_state_dict(
        bert.state_dict(), strict=False
    )  # all but the pooler, which has no part in it
    return encoder


def trained(name: str, seed: int, train: pd.DataFrame) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The encoder of questions and that of answers after a run, most often one and the same; name as in RUNS."""
    settings = BASE | RUNS[name]
    if settings.pop("library", False):
        return (by_the_library(train, seed, settings),) * 2
    torch.manual_seed(seed)
    encoder = untouched()
    if settings.pop("teacher", False):
        taught(encoder, train, seed)
        return encoder, encoder
    other = untouched() if settings.pop("two", False) else encoder
    place = settings.pop("mined", None)
    negatives = None if place is None else mined(train, place)
    training.train(encoder, other, train, **settings, seed=seed, negatives=negatives)
    return encoder, other


def halfway(encoder: torch.nn.Module) -> torch.nn.Module:
    """The mean of the trained and the untouched weights (Wortsman and others, 2021)."""
    mean = untouched().eval()
    with torch.no_grad():
        for ours, theirs in zip(mean.parameters(), encoder.parameters(), strict=True):
            ours.copy_((ours + theirs) / 2)
    return mean


def line(name: str, seed: int, pair: tuple, parts: dict, before: dict, tested: bool) -> dict:
    found = {"run": name, "seed": seed}
    for part in ("dev", "test") if tested else ("dev",):
        after = ranking.reciprocal_ranks(*pair, parts[part])
        found |= {f"{part} recall@1": (after == 1).mean(), f"{part} MRR": after.mean()}
        if part in before:
            found |= {f"{part} gain": (after - before[part]).mean()}
            found |= dict(zip((f"{part} low", f"{part} high"), interval(after - before[part]), strict=True))
    if tested:
        found["course recall@1"] = (ranking.reciprocal_ranks(*pair, data.qa_pairs(part="test")) == 1).mean()
        found["sts Pearson"] = pearson_on_sts(pair[0])
    return {key: f"{value:.4f}" if isinstance(value, float) else value for key, value in found.items()}


def main() -> None:
    here = pathlib.Path(__file__)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=here.with_suffix(".tsv"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", choices=["untouched", *RUNS], default=["untouched", *RUNS])
    args = parser.parse_args()
    train = documentation.pairs("train")
    parts = {name: documentation.pairs(name).sample(500, random_state=0) for name in ("dev", "test")}
    done = pd.read_csv(args.out, sep="\t", dtype=str) if args.out.exists() else pd.DataFrame()
    start = (untouched().eval(),) * 2
    before = {name: ranking.reciprocal_ranks(*start, part) for name, part in parts.items()}
    for name in args.only:
        for seed in args.seeds if name in SEVERAL_SEEDS else [0]:
            if len(done) and ((done["run"] == name) & (done["seed"] == str(seed))).any():
                continue
            tested = name in ("untouched", *TESTED)
            pair = start if name == "untouched" else trained(name, seed, train)
            lines = [line(name, seed, pair, parts, {} if name == "untouched" else before, tested)]
            if name in TESTED:
                lines.append(line(f"{name}, averaged", seed, (halfway(pair[0]),) * 2, parts, before, tested))
            print(pd.DataFrame(lines).to_string(), flush=True)
            done = pd.concat([done, pd.DataFrame(lines).astype(str)])
            with files.put_whole(args.out) as out:
                done.to_csv(out, sep="\t", index=False)


if __name__ == "__main__":
    main()
