"""Measure a raw BERT beside SBERT (all-MiniLM-L6-v2), on data neither recipe trained on.

    python models/recipes/bert_report.py FOLDER --sts FILE

FOLDER is one that BertForMaskedLM opens; FILE holds sentence pairs (CSV: sentence, sentence,
score). Prints one line a figure:

- sense: share of word_senses.tsv whose nearest other sentence (cosine of the word's vector,
  last layer) has the same sense; the mean over senses, leaving one sentence out
- bat: mean cosine of "bat" with "bat" within each sense and across the two, with the spread
- mask: everyday sentences of masked_sentences.tsv with an accepted word among the top five
- sts: Pearson of mean-pooled cosine and human score
- unrelated: median cosine between the eleven messages of lesson 4 that share no subject
"""

import argparse
import csv
import pathlib

import numpy as np
import torch
from scipy.stats import pearsonr
from transformers import AutoModel, AutoTokenizer, BertForMaskedLM

from helpers import data, models

GROUPS = [
    ["I like my phone", "My phone is not good.", "Your cellphone looks great."],
    ["Will it snow tomorrow?", "Recently a lot of hurricanes have hit the US", "Global warming is real"],
    [
        "An apple a day, keeps the doctors away",
        "Eating strawberries is healthy",
        "Is paleo better than keto?",
    ],
    ["How old are you?", "what is your age?"],
]


@torch.no_grad()
def states(model, tokenizer, sentences):
    """(last hidden states, attention mask, tokens) of all sentences, in batches of 64."""
    for k in range(0, len(sentences), 64):
        batch = tokenizer(list(sentences[k : k + 64]), padding=True, return_tensors="pt")
        out = model(batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
        yield from zip(out, batch.attention_mask, batch.input_ids, strict=True)


def mean_pooled(model, tokenizer, sentences):
    rows = [(h * m[:, None]).sum(0) / m.sum() for h, m, _ in states(model, tokenizer, sentences)]
    return torch.nn.functional.normalize(torch.stack(rows), dim=1).numpy()


def word_vectors(model, tokenizer, table):
    """The mean of the word's pieces in each sentence, length 1: (rows, dim)."""
    rows = []
    for (h, _, ids), word in zip(states(model, tokenizer, table["sentence"]), table["word"], strict=True):
        pieces = tokenizer(word, add_special_tokens=False).input_ids
        ids = ids.tolist()
        at = next(i for i in range(len(ids)) if ids[i : i + len(pieces)] == pieces)
        rows.append(h[at : at + len(pieces)].mean(0))
    return torch.nn.functional.normalize(torch.stack(rows), dim=1).numpy()


def sense_accuracy(vectors, table):
    """Nearest other sentence with the same word has the same sense; mean over the senses."""
    right = []
    for word, rows in table.groupby("word").indices.items():
        cosines = vectors[rows] @ vectors[rows].T
        np.fill_diagonal(cosines, -1)
        senses = table["sense"].to_numpy()[rows]
        for sense in np.unique(senses):
            right.append((senses[cosines.argmax(1)] == senses)[senses == sense].mean())
        assert len(rows) > 1, word
    return float(np.mean(right))


def report(name, folder, sts_file, masks=False):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    table = data.word_senses()
    vectors = word_vectors(model, tokenizer, table)
    print(f"{name}: sense {sense_accuracy(vectors, table):.3f}")
    bat = table["word"] == "bat"
    cosines = vectors[bat] @ vectors[bat].T
    same = table["sense"][bat].to_numpy()[:, None] == table["sense"][bat].to_numpy()[None]
    pairs = np.triu(np.ones_like(same), 1).astype(bool)
    within, across = cosines[same & pairs], cosines[~same & pairs]
    print(
        f"{name}: bat within a sense {within.mean():.3f} (sd {within.std():.3f}), "
        f"across {across.mean():.3f} (sd {across.std():.3f})"
    )
    rows = list(csv.reader(sts_file.read_text(encoding="utf-8").splitlines()))
    a, b = (mean_pooled(model, tokenizer, [r[k] for r in rows]) for k in (0, 1))
    print(f"{name}: sts {pearsonr((a * b).sum(1), [float(r[2]) for r in rows]).statistic:.3f}")
    messages = [m for g in GROUPS for m in g]
    group = np.repeat(range(len(GROUPS)), [len(g) for g in GROUPS])
    points = mean_pooled(model, tokenizer, messages)
    unrelated = (points @ points.T)[np.triu(group[:, None] != group[None], 1)]
    print(f"{name}: unrelated {np.median(unrelated):.3f}")
    if masks:
        head, right = BertForMaskedLM.from_pretrained(folder).eval(), 0
        file = pathlib.Path(__file__).parent / "masked_sentences.tsv"
        for line in file.read_text(encoding="utf-8").splitlines()[1:]:
            sentence, accepted = line.split("\t")
            batch = tokenizer(sentence, return_tensors="pt")
            with torch.no_grad():
                scores = head(**batch).logits[0, batch.input_ids[0] == tokenizer.mask_token_id][0]
            top = tokenizer.convert_ids_to_tokens(scores.topk(5).indices)
            right += bool(set(top) & set(accepted.split()))
            print(f"    {sentence}  {', '.join(top)}")
        print(f"{name}: mask {right} of 20")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--sts", type=pathlib.Path, required=True)
    args = parser.parse_args()
    minilm = models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
    report("SBERT", minilm, args.sts)
    report("raw BERT", args.folder, args.sts, masks=True)


if __name__ == "__main__":
    main()
