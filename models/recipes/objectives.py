"""Lesson 10's objectives in full: three seeds, and the score while training goes on.

    python models/recipes/objectives.py                                # all runs, into objectives.tsv
    python models/recipes/objectives.py --only softmax "multiple negatives" --seeds 0
    python models/recipes/objectives.py --changes                      # one change at a time, into objectives_changes.tsv
    python models/recipes/objectives.py --nli FILE --sts FILE --out FILE      # other tables

One line for each objective, seed and number of examples: Pearson of the cosine with the held-out
STS scores before and after, the gain with its paired 95 % bootstrap interval, and the share of the
held-out premises whose entailment is nearer than their contradiction. An example is a row of the
objective's own table (a pair, a triplet, a sentence), counted each time it is used. Lines that are
in the file already are not computed again. The second table changes one thing at a time (CHANGES)
and adds the Spearman correlation, Pearson on the gold pairs, which softmax, multiple negatives and
the teacher's vectors never see (`dev`: what is chosen is chosen there), and how often softmax's
classifier is right on the held-out premises' sentences. On one core a run of 32 steps takes about half a minute.
"""

import argparse
import pathlib
import random

import bm25s
import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from scipy.stats import spearmanr
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
from sentence_transformers.util import pairwise_cos_sim
from tqdm.auto import tqdm
from transformers import PrinterCallback, TrainerCallback, set_seed

from helpers import cache, data, files, models
from helpers.intervals import interval

RAW = "bert-base-uncased"
L12 = "cross-encoder/ms-marco-MiniLM-L-12-v2"
MINILM, BGE = "sentence-transformers/all-MiniLM-L6-v2", "BAAI/bge-small-en-v1.5"
BATCH, STEPS, LENGTH, TRAINED, RATE = 32, 32, 32, 2, 2e-4
PREMISES = 500  # rows of nli_sample.tsv to train on; the rest are held out
SILVER = 600  # pairs that the cross-encoder of Augmented SBERT scores
# The grader's, from the L-12: chosen by its Pearson on every third gold pair when trained on the others:
# .567 for the rate 2e-5 and .587 for 2e-4 (upper 3 layers, 24 steps), .709 for 5e-5 (all 12), .755 for these
# (.743 after 16 steps, and the lesson has little time).
GRADER_STEPS, GRADER_RATE, GRADER_TRAINED = 16, 1e-4, 6
SIZES = {"softmax": [8, 32, 64, 192], "multiple negatives": [8, 16, 32, 64]}  # steps; else [STEPS]
GRADERS = {}  # those of this run: (start, seed) -> cross-encoder
KINDS = ["entailment", "neutral", "contradiction"]
KEYS = ["objective", "seed", "examples"]


# --- the start, and the loop ---------------------------------------------------------------------


def freeze(bert, trained=TRAINED):
    """Leave the token table and all but the upper `trained` layers as they are."""
    layers = bert.encoder.layer
    for part in [bert.embeddings, *layers[: len(layers) - trained]]:
        part.requires_grad_(False)


def raw_bert(trained=TRAINED):
    model = SentenceTransformer(str(models.path(RAW, quiet=True)), device="cpu")
    model.max_seq_length = LENGTH
    model.model_card_data.widget = [{}]  # no sample sentences for a model card; we publish none
    freeze(model.transformers_model, trained)
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


def settings(kind, steps, seed, rate=RATE, warm_up=4, rates=None):
    """rates: {regular expression of names: their own rate}, for a classifier that starts from nothing."""
    return kind(
        output_dir=str(cache() / "lesson10"),
        max_steps=steps,
        per_device_train_batch_size=BATCH,
        learning_rate=rate,
        lr_scheduler_type="constant_with_warmup",
        learning_rate_mapping=rates or {},
        warmup_steps=warm_up,
        seed=seed,
        use_cpu=True,
        dataloader_pin_memory=False,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )


def train(model, loss, rows, steps=STEPS, seed=0, progress=None, **changed):
    trainer = SentenceTransformerTrainer(
        model=model,
        args=settings(SentenceTransformerTrainingArguments, steps, seed, **changed),
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


def neighbours(nli):
    """For each premise the number of the other one that shares most of its rare words (BM25)."""
    index = bm25s.BM25()
    index.index(bm25s.tokenize(list(nli["premise"]), show_progress=False), show_progress=False)
    words = bm25s.tokenize(list(nli["premise"]), return_ids=False, show_progress=False)
    near = index.retrieve(words, k=2, show_progress=False).documents
    return [next(j for j in found if j != i) for i, found in enumerate(near)]


def unscored(nli):
    """SILVER pairs nobody scored: a premise with one of its sentences, or with BM25's best other one."""
    pairs = []
    for i, (row, other) in enumerate(zip(nli.to_dict("records"), neighbours(nli), strict=True)):
        pairs += [(row["premise"], row[KINDS[i % 3]]), (row["premise"], nli["premise"][other])]
    order = np.random.default_rng(0).permutation(len(pairs))[:SILVER]
    return pd.DataFrame([pairs[i] for i in order], columns=["sentence1", "sentence2"])


def untouched_grader(gold, seed):
    return CrossEncoder(
        str(models.path(L12, quiet=True)),
        max_length=2 * LENGTH,
        activation_fn=torch.nn.Sigmoid(),
        device="cpu",
    )


def raw_grader(gold, seed):
    """What the lesson had before: the raw BERT with a head that starts from random numbers."""
    return train_grader(gold, seed, RAW, steps=32, rate=RATE, trained=3)


def train_grader(gold, seed, start=L12, steps=GRADER_STEPS, rate=GRADER_RATE, trained=GRADER_TRAINED):
    """A cross-encoder trained on the gold pairs, from one that scores answers; or from the raw BERT."""
    if (start, seed) in GRADERS:
        return GRADERS[start, seed]
    set_seed(seed)
    grader = CrossEncoder(
        str(models.path(start, quiet=True)),
        num_labels=1,
        max_length=2 * LENGTH,
        activation_fn=torch.nn.Sigmoid(),
        device="cpu",
    )
    freeze(grader.model.bert, trained)
    trainer = CrossEncoderTrainer(
        model=grader,
        args=settings(CrossEncoderTrainingArguments, steps, seed, rate),
        train_dataset=scored(gold),
        loss=BinaryCrossEntropyLoss(grader),
        callbacks=[Progress()],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    GRADERS[start, seed] = grader.eval()
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


# --- one change at a time ------------------------------------------------------------------------


def softmax_on(**features):
    """A softmax that reads other features than (u, v, |u - v|)."""
    return lambda model: losses.SoftmaxLoss(model, model.get_embedding_dimension(), num_labels=3, **features)


def first(premises):
    """Triplets from the first of the premises alone."""
    return lambda nli, gold, seed: triplets(nli[:premises], gold, seed)


def with_questions(nli, gold, seed):
    """The triplets, and the 700 training pairs of lesson 6: question and answer."""
    asked = data.qa_pairs(part="train")
    pairs = {"anchor": list(asked["question"]), "positive": list(asked["answer"])}
    return DatasetDict({"nli": triplets(nli, gold, seed), "questions": Dataset.from_dict(pairs)})


def taught_vectors(premises):
    """The sentences of the first premises with their vectors by bge-small, which the student imitates."""

    def rows(nli, gold, seed):
        texts = [text for row in nli[["premise", *KINDS]][:premises].to_numpy() for text in row]
        teacher = SentenceTransformer(str(models.path(BGE, quiet=True)), device="cpu")
        teacher.max_seq_length = LENGTH
        return Dataset.from_dict({"text": texts, "label": teacher.encode(texts, normalize_embeddings=True)})

    return rows


def taught_margins(nli, gold, seed, negative=None):
    """Triplets with the grader's score of the positive minus that of the negative, 0 to 1 as cosines are.

    The negative is the contradiction, or what `negative` gives for the premises.
    """
    grader, rows = train_grader(gold, seed), nli[["premise", "entailment"]].copy()
    rows["negative"] = nli["contradiction"] if negative is None else negative(nli)
    near, far = (
        grader.predict(rows[["premise", name]].to_numpy().tolist(), show_progress_bar=False)
        for name in ("entailment", "negative")
    )
    rows["label"] = (near - far).astype(float)
    return Dataset.from_pandas(rows, preserve_index=False)


def margins_of_neighbours(nli, gold, seed):
    return taught_margins(nli, gold, seed, lambda nli: list(nli["premise"][neighbours(nli)]))


def margin_loss(model):
    return losses.MarginMSELoss(model, similarity_fct=pairwise_cos_sim)


# (objective, what is changed): what differs from OBJECTIVES and from the settings of `train`.
CHANGES = {
    ("softmax", "nothing"): {},
    ("softmax", "(u, v) alone"): {"loss": softmax_on(concatenation_sent_difference=False)},
    ("softmax", "|u - v| alone"): {"loss": softmax_on(concatenation_sent_rep=False)},
    ("softmax", "encoder at a tenth of the rate"): {"rate": RATE / 10, "rates": {"classifier": RATE}},
    ("softmax", "classifier at 50 times the rate"): {"rates": {"classifier": 50 * RATE}},
    ("softmax", "no warm-up"): {"warm_up": 0},
    ("softmax", "warm-up over all steps"): {"warm_up": STEPS},
    ("softmax", "all layers trained"): {"trained": 6},
    ("softmax", "six times the steps"): {"at": [96, 6 * STEPS]},
    ("softmax", "|u - v| alone, classifier at 50 times"): {
        "loss": softmax_on(concatenation_sent_rep=False),
        "rates": {"classifier": 50 * RATE},
    },
    ("multiple negatives", "62 premises"): {"rows": first(62), "at": [4]},
    ("multiple negatives", "125 premises"): {"rows": first(125), "at": [8]},
    ("multiple negatives", "250 premises"): {"rows": first(250), "at": [16]},
    ("multiple negatives", "500 premises"): {"at": [32]},
    ("multiple negatives", "500 premises, 700 questions"): {"rows": with_questions, "at": [75]},
    ("untouched", "raw BERT"): {"model": RAW},
    ("untouched", "all-MiniLM-L6-v2"): {"model": MINILM},
    ("untouched", "bge-small-en-v1.5"): {"model": BGE},
    ("grader", "the L-12 as it comes"): {"grader": untouched_grader},
    ("grader", "from the L-12"): {"grader": train_grader},
    ("grader", "from the raw BERT"): {"grader": raw_grader},
    ("cosine", "three times the steps"): {"at": [3 * STEPS]},
    ("Augmented SBERT", "three times the steps"): {"at": [3 * STEPS]},
    ("teacher's vectors", "256 sentences"): {
        "rows": taught_vectors(64),
        "loss": losses.EmbedDistillLoss,
        "at": [16],
    },
    ("teacher's vectors", "1,000 sentences"): {
        "rows": taught_vectors(250),
        "loss": losses.EmbedDistillLoss,
        "at": [32, 64],
    },
    ("teacher's margins", "contradictions"): {"rows": taught_margins, "loss": margin_loss},
    ("teacher's margins", "other premises"): {"rows": margins_of_neighbours, "loss": margin_loss},
}


def seeds_of(name, what):
    """Softmax's changes move the score by as little as another seed does, so they have two; else 0 alone."""
    return (0, 1) if name == "softmax" and "at" not in CHANGES[name, what] else (0,)


def change(name, what, seed, nli, sts, at=None):
    """The lines of one objective, one change and one seed."""
    changed = dict(CHANGES[name, what])
    if name == "untouched":
        return [untouched_line(what, seed, nli, sts, changed["model"])]
    if name == "grader":
        return [grader_line(what, seed, sts, changed["grader"])]
    build, make_loss = OBJECTIVES.get(name, (None, None))
    build, make_loss = changed.pop("rows", build), changed.pop("loss", make_loss)
    at, trained = at or changed.pop("at", [STEPS]), changed.pop("trained", TRAINED)
    changed.pop("at", None)
    known, unseen = nli[:PREMISES], nli[PREMISES:]
    gold, held = split_sts(sts)
    rows = build(known, gold, seed)
    set_seed(seed)
    model, lines = raw_bert(trained), []
    loss, before = make_loss(model), cosines(model, held["sentence1"], held["sentence2"])

    def measure(step):
        model.eval()
        after = cosines(model, held["sentence1"], held["sentence2"])
        low, high = interval(before, after, held["score"].to_numpy(), statistic=gain, draws=2_000)
        dev = pearson(cosines(model, gold["sentence1"], gold["sentence2"]), gold["score"].to_numpy())
        sees_gold = name in ("teacher's margins", "Augmented SBERT", "cosine")  # or their grader does
        near, right = on_inference(model, unseen, loss)
        lines.append(
            {
                "objective": name,
                "change": what,
                "seed": seed,
                "examples": step * BATCH,
                "dev": "" if sees_gold else f"{dev:.4f}",
                "STS before": f"{pearson(before, held['score'].to_numpy()):.4f}",
                "STS after": f"{pearson(after, held['score'].to_numpy()):.4f}",
                "Spearman": f"{spearmanr(after, held['score']).statistic:.4f}",
                "gain low": f"{low:.4f}",
                "gain high": f"{high:.4f}",
                "entailment nearer": f"{near:.4f}",
                "inference right": "" if np.isnan(right) else f"{right:.4f}",
            }
        )
        model.train()
        print(lines[-1], flush=True)

    train(model, loss, rows, max(at), seed, Progress(at, measure), **changed)
    return lines


def untouched_line(what, seed, nli, sts, publisher):
    """What a model of the course has on the same rulers as it comes."""
    model = SentenceTransformer(str(models.path(publisher, quiet=True)), device="cpu")
    model.max_seq_length = LENGTH
    line = {"objective": "untouched", "change": what, "seed": seed}
    for pairs, column in zip(split_sts(sts), ("dev", "STS after"), strict=True):
        cosine = cosines(model, pairs["sentence1"], pairs["sentence2"])
        line[column] = f"{pearson(cosine, pairs['score'].to_numpy()):.4f}"
    line["Spearman"] = f"{spearmanr(cosine, pairs['score']).statistic:.4f}"
    line["entailment nearer"] = f"{on_inference(model, nli[PREMISES:])[0]:.4f}"
    print(line, flush=True)
    return line


def grader_line(what, seed, sts, train_it):
    """A cross-encoder's line: how its scores of the held-out pairs go with people's; no cosine, no gain."""
    gold, held = split_sts(sts)
    pairs = list(zip(held["sentence1"], held["sentence2"], strict=True))
    scores = train_it(gold, seed).predict(pairs, show_progress_bar=False)
    line = {"objective": "grader", "change": what, "seed": seed}
    line["STS after"] = f"{pearson(scores, held['score'].to_numpy()):.4f}"
    line["Spearman"] = f"{spearmanr(scores, held['score']).statistic:.4f}"
    print(line, flush=True)
    return line


def on_inference(model, nli, loss=None):
    """How often the entailment is nearer than the contradiction, and how often softmax's classifier
    names the kind of a pair that it has not seen (not a number for another loss)."""
    u, *others = (model.encode(list(nli[column]), convert_to_tensor=True) for column in ("premise", *KINDS))
    cosine = [pairwise_cos_sim(u, v) for v in others]
    near = (cosine[0] > cosine[2]).float().mean().item()
    if not isinstance(loss, losses.SoftmaxLoss):
        return near, np.nan
    right = []
    for label, v in enumerate(others):
        parts = [u, v] * loss.concatenation_sent_rep + [(u - v).abs()] * loss.concatenation_sent_difference
        right.append((loss.classifier(torch.cat(parts, 1)).argmax(1) == label).float().mean().item())
    return near, np.mean(right)


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
    parser.add_argument("--changes", action="store_true", help="one change at a time (see CHANGES)")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="the changes: 0 1")
    parser.add_argument("--only", nargs="*", choices=dict.fromkeys([*OBJECTIVES, *(n for n, _ in CHANGES)]))
    args = parser.parse_args()
    nli, sts = data.nli(args.nli), data.sts(args.sts)
    runs = CHANGES if args.changes else [(name,) for name in OBJECTIVES]
    compute, columns = (change, ["objective", "change"]) if args.changes else (run, ["objective"])
    out = args.out or (here.with_name("objectives_changes.tsv") if args.changes else here.with_suffix(".tsv"))
    done = pd.read_csv(out, sep="\t", dtype=str) if out.exists() else pd.DataFrame()
    for seed in args.seeds:
        for what in runs:
            if args.only and what[0] not in args.only:
                continue
            if args.changes and seed not in seeds_of(*what):
                continue
            keys = dict(zip([*columns, "seed"], [*what, str(seed)], strict=True))
            if len(done) and (done[list(keys)] == pd.Series(keys)).all(axis=1).any():
                continue
            done = pd.concat([done, pd.DataFrame(compute(*what, seed, nli, sts)).fillna("").astype(str)])
            with files.put_whole(out) as part:
                done.to_csv(part, sep="\t", index=False)


if __name__ == "__main__":
    main()
