"""Lesson 10's objectives in full: three seeds, and the score while training goes on.

    python models/recipes/objectives.py                                # all runs, into objectives.tsv
    python models/recipes/objectives.py --only softmax "multiple negatives" --seeds 0
    python models/recipes/objectives.py --nli FILE --sts FILE --out FILE      # other tables

One line for each objective, seed and number of examples: Pearson of the cosine with the held-out
STS scores before and after, the gain with its paired 95 % bootstrap interval, and the share of the
held-out premises whose entailment is nearer than their contradiction. An example is a row of the
objective's own table (a pair, a triplet, a sentence), counted each time it is used. Lines that are
in the file already are not computed again. On one core a run of 32 steps takes about half a minute.
"""

import argparse
import pathlib
import random

import bm25s
import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.cross_encoder import (
    CrossEncoder,
    CrossEncoderTrainer,
    CrossEncoderTrainingArguments,
)
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.sentence_transformer import losses
from tqdm.auto import tqdm
from transformers import PrinterCallback, TrainerCallback, set_seed

from helpers import cache, data, files, models
from helpers.intervals import interval

RAW = "bert-base-uncased"
BATCH, STEPS, LENGTH, TRAINED, RATE = 32, 32, 32, 2, 2e-4
PREMISES = 500  # rows of nli_sample.tsv to train on; the rest are held out
SILVER = 600  # pairs that the cross-encoder of Augmented SBERT scores
GRADER_STEPS = 32
SIZES = {"softmax": [8, 32, 64, 192], "multiple negatives": [8, 16, 32, 64]}  # steps; else [STEPS]
KINDS = ["entailment", "neutral", "contradiction"]
KEYS = ["objective", "seed", "examples"]


# --- the start, and the loop ---------------------------------------------------------------------


def freeze(bert, trained=TRAINED):
    """Leave the token table and all but the upper `trained` layers as they are."""
    layers = bert.encoder.layer
    for part in [bert.embeddings, *layers[: len(layers) - trained]]:
        part.requires_grad_(False)


def raw_bert():
    model = SentenceTransformer(str(models.path(RAW, quiet=True)), device="cpu")
    model.max_seq_length = LENGTH
    model.model_card_data.widget = [{}]  # no sample sentences for a model card; we publish none
    freeze(model.transformers_model)
    return model


class Progress(TrainerCallback):
    """A bar over the examples, with the time left; `at` calls `measure` after those steps."""

    def __init__(self, at=(), measure=None):
        self.at, self.measure = at, measure

    def on_train_begin(self, args, state, control, **kwargs):
        size = args.per_device_train_batch_size
        self.bar = tqdm(total=state.max_steps * size, desc="examples")

    def on_step_end(self, args, state, control, **kwargs):
        self.bar.update(args.per_device_train_batch_size)
        if state.global_step in self.at:
            self.measure(state.global_step)

    def on_train_end(self, args, state, control, **kwargs):
        self.bar.close()


def settings(kind, steps, seed, rate=RATE):
    return kind(
        output_dir=str(cache() / "lesson10"),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=rate,
        lr_scheduler_type="constant_with_warmup",
        warmup_steps=4,
        seed=seed,
        use_cpu=True,
        dataloader_pin_memory=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )


def train(model, loss, rows, steps=STEPS, seed=0, progress=None):
    trainer = SentenceTransformerTrainer(
        model=model,
        args=settings(SentenceTransformerTrainingArguments, steps, seed),
        train_dataset=rows,
        loss=loss,
        callbacks=[progress or Progress()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model.eval()


# --- the ruler -----------------------------------------------------------------------------------


def split_sts(table):
    """Every other row to train on (gold), the others held out."""
    return table[::2].reset_index(drop=True), table[1::2].reset_index(drop=True)


def cosines(model, first, second):
    a, b = (model.encode(list(texts), normalize_embeddings=True) for texts in (first, second))
    return (a * b).sum(axis=1)


def pearson(x, y, axis=-1):
    """For (n,), or along the axis for many draws at once, (draws, n)."""
    x, y = (v - v.mean(axis, keepdims=True) for v in (np.float64(x), np.float64(y)))
    return (x * y).sum(axis) / np.sqrt((x**2).sum(axis) * (y**2).sum(axis))


def gain(before, after, scores, axis=-1):
    """How much Pearson with the scores rose."""
    return pearson(after, scores, axis) - pearson(before, scores, axis)


def nearer(model, nli):
    """Share of premises whose entailment has a higher cosine than their contradiction."""
    follows = cosines(model, nli["premise"], nli["entailment"])
    return (follows > cosines(model, nli["premise"], nli["contradiction"])).mean()


# --- the objectives' rows and losses -------------------------------------------------------------


def nli_rows(nli, gold, seed):
    rows = [(r["premise"], r[c], label) for _, r in nli.iterrows() for label, c in enumerate(KINDS)]
    first, second, label = map(list, zip(*rows, strict=True))
    return Dataset.from_dict({"sentence1": first, "sentence2": second, "label": label})


def triplets(nli, gold, seed):
    names = {"anchor": "premise", "positive": "entailment", "negative": "contradiction"}
    return Dataset.from_dict({name: list(nli[column]) for name, column in names.items()})


def scored(pairs):
    return Dataset.from_dict(
        {
            "sentence1": list(pairs["sentence1"]),
            "sentence2": list(pairs["sentence2"]),
            "label": list(pairs["score"] / 5),
        }
    )


def gold_rows(nli, gold, seed):
    return scored(gold)


def unscored(nli):
    """SILVER pairs nobody scored: a premise with one of its sentences, or with BM25's best other one."""
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(nli["premise"]), show_progress=False), show_progress=False)
    words = bm25s.tokenize(list(nli["premise"]), return_ids=False, show_progress=False)
    near = index.retrieve(words, k=2, show_progress=False).documents
    pairs = []
    for i, row in enumerate(nli.to_dict("records")):
        other = next(j for j in near[i] if j != i)
        pairs += [(row["premise"], row[KINDS[i % 3]]), (row["premise"], nli["premise"][other])]
    order = np.random.default_rng(0).permutation(len(pairs))[:SILVER]
    return pd.DataFrame([pairs[i] for i in order], columns=["sentence1", "sentence2"])


def train_grader(gold, seed):
    """A cross-encoder from the same raw BERT, trained on the gold pairs."""
    set_seed(seed)
    grader = CrossEncoder(
        str(models.path(RAW, quiet=True)),
        num_labels=1,
        max_length=2 * LENGTH,
        activation_fn=torch.nn.Sigmoid(),
        device="cpu",
    )
    freeze(grader.model.bert, trained=3)
    trainer = CrossEncoderTrainer(
        model=grader,
        args=settings(CrossEncoderTrainingArguments, GRADER_STEPS, seed),
        train_dataset=scored(gold),
        loss=BinaryCrossEntropyLoss(grader),
        callbacks=[Progress()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    grader.eval()
    return grader


def silver_rows(nli, gold, seed):
    grader, silver = train_grader(gold, seed), unscored(nli)
    pairs = silver.values.tolist()
    silver["score"] = 5 * grader.predict(pairs, show_progress_bar=False)
    return scored(pd.concat([gold, silver], ignore_index=True))


def delete_words(text, rng, keep=0.4):
    words = text.split()
    kept = [word for word in words if rng.random() < keep]
    return " ".join(kept or [rng.choice(words)])


def noisy_rows(nli, gold, seed):
    rng = random.Random(0)
    texts = [text for kind in KINDS for text in nli[kind]]
    return Dataset.from_dict({"noisy": [delete_words(t, rng) for t in texts], "text": texts})


def softmax_loss(model):
    return losses.SoftmaxLoss(model, model.get_embedding_dimension(), num_labels=3)


def triplet_loss(model):
    return losses.TripletLoss(model, losses.TripletDistanceMetric.COSINE, triplet_margin=0.3)


def tsdae_loss(model):
    loss = losses.DenoisingAutoEncoderLoss(model, tie_encoder_decoder=True)
    freeze(model.transformers_model)  # the decoder brought weights of its own, and shares them
    return loss


OBJECTIVES = {
    "softmax": (nli_rows, softmax_loss),
    "cosine": (gold_rows, losses.CosineSimilarityLoss),
    "triplet": (triplets, triplet_loss),
    "multiple negatives": (triplets, losses.MultipleNegativesRankingLoss),
    "Augmented SBERT": (silver_rows, losses.CosineSimilarityLoss),
    "TSDAE": (noisy_rows, tsdae_loss),
}


def run(name, seed, nli, sts, steps=None):
    """The lines of one objective and seed."""
    build, make_loss = OBJECTIVES[name]
    known, unseen = nli[:PREMISES], nli[PREMISES:]
    gold, held = split_sts(sts)
    rows = build(known, gold, seed)
    set_seed(seed)
    model, scores, lines = raw_bert(), held["score"].to_numpy(), []
    pairs = held["sentence1"], held["sentence2"]
    before = cosines(model, *pairs)
    at = steps or SIZES.get(name, [STEPS])

    def measure(step):
        model.eval()
        after = cosines(model, *pairs)
        low, high = interval(before, after, scores, statistic=gain, draws=2_000)
        lines.append(
            {
                "objective": name,
                "seed": seed,
                "examples": step * BATCH,
                "STS before": f"{pearson(before, scores):.4f}",
                "STS after": f"{pearson(after, scores):.4f}",
                "gain low": f"{low:.4f}",
                "gain high": f"{high:.4f}",
                "entailment nearer": f"{nearer(model, unseen):.4f}",
            }
        )
        model.train()
        print(lines[-1], flush=True)

    train(model, make_loss(model), rows, max(at), seed, Progress(at, measure))
    return lines


def main():
    here = pathlib.Path(__file__)
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--nli", type=pathlib.Path, help="TSV: premise, entailment, neutral, contradiction")
    parser.add_argument(
        "--sts",
        type=pathlib.Path,
        default=data.SHARED / "sts_sample.tsv",
        help="TSV: sentence1, sentence2, score",
    )
    parser.add_argument("--out", type=pathlib.Path, default=here.with_suffix(".tsv"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--only", nargs="*", choices=OBJECTIVES, default=list(OBJECTIVES))
    args = parser.parse_args()
    nli, sts = data.nli(args.nli), data.sts(args.sts)
    done = pd.read_csv(args.out, sep="\t", dtype=str) if args.out.exists() else pd.DataFrame()
    for seed in args.seeds:
        for name in args.only:
            if len(done) and ((done["objective"] == name) & (done["seed"] == str(seed))).any():
                continue
            lines = pd.DataFrame(run(name, seed, nli, sts)).astype(str)
            done = pd.concat([done, lines])
            with files.put_whole(args.out) as part:
                done.to_csv(part, sep="\t", index=False)


if __name__ == "__main__":
    main()
