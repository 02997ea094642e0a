"""Lesson 16's small decoder: one network, two masks, two readings of each: models/recipes/decoder.tsv.

    OMP_NUM_THREADS=1 python models/recipes/decoder.py --work WORK               # as it was made: half an hour
    python models/recipes/decoder.py --work WORK --minutes 7                     # stops after seven, goes on next time

One line for each run and question: 1 / rank of what follows a first sentence of the documentation, among 300 texts
(`documentation.pairs("test").sample(300, random_state=0)`, as in lesson 14). The network is the course's stand-in for
bert-base-uncased. A run names where its weights come from, which mask it has, and how its token vectors become one:

    as shipped          trained on masked words, sees both sides
    next words          then 100 steps of 16 texts on the next word, under a causal mask: a decoder
    masked next word    then 50 steps without the mask: a hidden word is told from the place before it (LLM2Vec's second step)

and "+ pairs" is 40 steps of 32 pairs of `documentation.pairs("train")` with lesson 5's loss. Seed 0; the token table
is trained too. No library of the training pairs is in the test.
"""

import argparse
import pathlib
import sys
import time

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy, normalize
from tqdm.auto import tqdm
from transformers import AutoTokenizer, BertLMHeadModel, BertModel

from helpers import documentation, models, pooling, training

NETWORK = "bert-base-uncased"
STARTS = ["as shipped", "next words", "masked next word"]
READINGS = [("causal", "last"), ("causal", "mean"), ("both sides", "mean"), ("both sides", "last")]
RUNS = [
    *(("as shipped", *reading, pairs) for pairs in ("", "+ pairs") for reading in READINGS),
    *(("next words", *reading, pairs) for pairs in ("", "+ pairs") for reading in READINGS),
    ("masked next word", "both sides", "mean", ""),
    ("masked next word", "both sides", "mean", "+ pairs"),
]
STEPS, PAIRS, LR, SCALE = 40, 32, 1e-4, 20  # of the training on pairs
LONGEST = 48
OUT = pathlib.Path(__file__).with_suffix(".tsv")


def last_token(states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The vector of each row's last real token, padding behind it: (batch, dim)."""
    return states[torch.arange(len(mask)), mask.sum(dim=1) - 1]


def vectors(network: BertModel, tokenizer, texts: list[str], pool: str) -> torch.Tensor:
    """One vector of length 1 a text."""
    batch = tokenizer(texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")
    states, mask = network(**batch).last_hidden_state, batch["attention_mask"]
    return normalize(last_token(states, mask) if pool == "last" else pooling.mean_pool(states, mask), dim=1)


def network(mask: str, weights: dict | None = None) -> BertModel:
    """The stand-in, or other weights in it, under the mask "causal" or "both sides"."""
    folder = models.path(NETWORK, quiet=True)
    made = BertModel.from_pretrained(folder, is_decoder=mask == "causal", add_pooling_layer=False)
    if weights is not None:
        made.load_state_dict(weights)
    return made


@torch.no_grad()
def reciprocal_ranks(encoder: BertModel, tokenizer, pool: str, test: pd.DataFrame) -> np.ndarray:
    """1 / rank of each question's own text among all; a tie counts against it."""
    encoder.eval()
    sides = []
    for texts in (list(test["question"]), list(test["answer"])):
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        parts = [[texts[i] for i in order[at : at + 50]] for at in range(0, len(texts), 50)]
        found = torch.cat([vectors(encoder, tokenizer, part, pool) for part in parts])
        sides.append(found[torch.tensor(order).argsort()])
    scores = sides[0] @ sides[1].T
    return (1 / (scores >= scores.diagonal()[:, None]).sum(dim=1)).numpy()


def on_pairs(encoder: BertModel, tokenizer, pool: str, train: pd.DataFrame, seed: int = 0) -> None:
    """Train in place, with lesson 5's loss in one direction."""
    torch.manual_seed(seed)
    rng, adam = np.random.default_rng(seed), torch.optim.AdamW(encoder.parameters(), lr=LR)
    encoder.train()
    for step in tqdm(range(STEPS), desc="pairs", disable=None):
        rows = train.iloc[rng.choice(len(train), PAIRS, replace=False)]
        adam.param_groups[0]["lr"] = LR * min(1, (step + 1) / 5)
        asked = vectors(encoder, tokenizer, list(rows["question"]), pool)
        told = vectors(encoder, tokenizer, list(rows["answer"]), pool)
        loss = training.contrastive_loss(SCALE * asked @ told.T)
        adam.zero_grad()
        loss.backward()
        adam.step()


def on_words(
    weights: dict | None, tokenizer, texts: list[str], causal: bool, steps: int
) -> tuple[dict, list[float]]:
    """Train to tell a word from the place before it; returns the encoder's weights and the losses.

    causal: every next word, under the causal mask; else a fifth of the words is hidden and nothing masked off.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = BertLMHeadModel.from_pretrained(models.path(NETWORK, quiet=True), is_decoder=causal)
    if weights is not None:
        model.load_state_dict(weights, strict=False)
    adam, losses = torch.optim.AdamW(model.parameters(), lr=2e-4), []
    model.train()
    for step in tqdm(range(steps), desc="words", disable=None):
        adam.param_groups[0]["lr"] = 2e-4 * min(1, (step + 1) / 10) * (1 - step / steps)
        part = [texts[i] for i in rng.choice(len(texts), 16, replace=False)]
        batch = tokenizer(part, padding=True, truncation=True, max_length=48, return_tensors="pt")
        wanted = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        if not causal:
            hidden = torch.rand(wanted.shape) < 0.2
            batch["input_ids"] = batch["input_ids"].masked_fill(hidden, tokenizer.mask_token_id)
            wanted = wanted.masked_fill(~hidden, -100)
        logits = model(**batch).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), wanted[:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return {name: value.detach() for name, value in model.state_dict().items()}, losses


def start(name: str, tokenizer, texts: list[str], work: pathlib.Path) -> dict | None:
    """The weights of a start (of the whole language model), made once and kept in `work`."""
    if name == "as shipped":
        return None
    file = work / f"{name}.pt"
    if not file.exists():
        before = None if name == "next words" else start("next words", tokenizer, texts, work)
        causal = name == "next words"
        weights, losses = on_words(before, tokenizer, texts, causal, steps=100 if causal else 50)
        print(
            f"{name}: loss {losses[0]:.2f} at first, {np.mean(losses[-10:]):.2f} over the last ten",
            flush=True,
        )
        torch.save(weights, file)
    return torch.load(file, weights_only=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=1e6, help="begin no further run after so many")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="a folder for weights on the way")
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    given.work.mkdir(exist_ok=True, parents=True)
    tokenizer = AutoTokenizer.from_pretrained(models.path(NETWORK, quiet=True))
    test = documentation.pairs("test").sample(300, random_state=0)
    train = documentation.pairs("train")
    texts = list(train["question"] + " " + train["answer"])
    done = pd.read_csv(given.out, sep="\t", dtype=str) if given.out.exists() else pd.DataFrame()
    for source, mask, pool, pairs in RUNS:
        name = f"{source} {pairs}".strip()
        if (
            len(done)
            and ((done["weights"] == name) & (done["mask"] == mask) & (done["pooling"] == pool)).any()
        ):
            continue
        if time.monotonic() > end:
            print("not all runs yet; run the same command again")
            return 3
        weights = start(source, tokenizer, texts, given.work)
        if weights is not None:
            inside = {k.removeprefix("bert."): v for k, v in weights.items() if k.startswith("bert.")}
            weights = {k: v for k, v in inside.items() if not k.startswith("pooler")}
        encoder = network(mask, weights)
        if pairs:
            on_pairs(encoder, tokenizer, pool, train)
        found = reciprocal_ranks(encoder, tokenizer, pool, test)
        print(f"{name:28} {mask:10} {pool:5} MRR {found.mean():.3f}", flush=True)
        rows = pd.DataFrame({"weights": name, "mask": mask, "pooling": pool, "question": range(len(found))})
        done = pd.concat([done, rows.assign(rr=[str(round(x, 4)) for x in found.tolist()])])
        done.to_csv(given.out, sep="\t", index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
