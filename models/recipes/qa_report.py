"""Measure the cross-encoder and the stand-ins of DPR and ColBERT beside MiniLM's cosine.

    python models/recipes/qa_report.py --pairs FILE [--part dev]

On 1,000 questions in four blocks of FILE whose articles no recipe saw (questions.py), or with
`--part dev` on the 500 of the two development blocks:

- rerank: each answer among itself and nine others of its block that BM25 puts first; MRR and the
  share of answers ranked first
- retrieve: each question against all held-out sentences; recall@1, recall@10, MRR; and the share
  of questions whose own echo, put among the passages, scores above the answer; the differences in
  MRR with a paired bootstrap over the questions (10,000 draws, 95 %)

- course: the 300 held-out questions of nq_sample.tsv against its 1,000 answers, without and with the
  300 echoes among them: recall@1
- kinds: what a question gives its echo, its answer, another name of the same sort, a remark and a
  sentence about something else (dpr_kinds.tsv, ours; no recipe was trained on it)

and on the inputs of lessons 3 and 7, which no recipe saw either. What DPR gives is measured by the
dot product, its own score, and by the cosine.
"""

import argparse
import itertools
import pathlib

import numpy as np
import questions
import torch
from dpr import encode
from sentence_transformers import CrossEncoder, MultiVectorEncoder
from transformers import AutoTokenizer, DPRContextEncoder, DPRQuestionEncoder

from helpers import data, models, tables
from helpers.intervals import interval

CROSS = "cross-encoder/ms-marco-MiniLM-L-12-v2"
DPR = "facebook/dpr-{}_encoder-multiset-base"
COLBERT = "colbert-ir/colbertv2.0"
KINDS = ["question", "answer", "name", "remark", "other"]
CAPITAL = "Where is the capital of France?"
CAPITALS = [
    "Paris is the capital of France.",
    "Berlin is the capital of Germany.",
    "Madrid is the capital of Spain.",
]
MOUNTAIN = "What is the tallest mountain in the world?"
MOUNTAINS = [
    MOUNTAIN,
    "The tallest mountain in the world is Mount Everest.",
    "Mount Shasta",
    "I like my hike in the mountains",
    "I am going to a yoga class",
]


def rerank(name, blocks, score):
    """score(question, [passages]) -> scores; prints MRR and accuracy among ten."""
    ranks = []
    for rows in blocks:
        passages = questions.unique(answer for _, answer in rows)
        near = questions.bm25_near([q for q, _ in rows], passages, 10)
        for (question, answer), line in zip(rows, near, strict=True):
            others = [passages[n] for n in line if passages[n] != answer][:9]
            s = np.asarray(score(question, [answer, *others]))
            ranks.append(1 + (s[1:] >= s[0]).sum())
    ranks = np.array(ranks)
    print(f"rerank ten, {name}: MRR {np.mean(1 / ranks):.3f}, first {np.mean(ranks == 1):.3f}")


def retrieve(name, blocks, score, echo):
    """score(questions, passages) -> (n, m); echo(questions) -> (n,) score of each with itself.

    Returns 1 / rank of the answer for each question: (n,).
    """
    rows = [row for block in blocks for row in block]
    passages = questions.unique(answer for _, answer in rows)
    s = np.asarray(score([q for q, _ in rows], passages))
    right = s[np.arange(len(rows)), [passages.index(answer) for _, answer in rows]]
    ranks = 1 + (s > right[:, None]).sum(1)
    loud = np.mean(np.asarray(echo([q for q, _ in rows])) > right)
    print(
        f"retrieve {len(passages)}, {name}: recall@1 {np.mean(ranks == 1):.3f}, recall@10 "
        f"{np.mean(ranks <= 10):.3f}, MRR {np.mean(1 / ranks):.3f}, echo above {loud:.1%}"
    )
    return 1 / ranks


def compare(name, found, other):
    """The difference in MRR of two lists of reciprocal ranks of the same questions."""
    gap = found - other
    low, high = interval(gap)
    print(f"MRR, {name}: {gap.mean():+.3f} [{low:+.3f} {high:+.3f}]")


def kinds(name, of_questions, of_passages):
    """Mean cosine of the questions of dpr_kinds.tsv with each kind of passage, and in how many of
    its rows a kind stands above the next in the list."""
    table = tables.read(questions.HERE / "dpr_kinds.tsv", KINDS)
    q = of_questions(list(table["question"]))
    s = {kind: (q * of_passages(list(table[kind]))).sum(1) for kind in KINDS}
    above = {
        f"{a} above {b}": (s[a] > s[b]).sum()
        for a, b in itertools.pairwise(["answer", "question", "name", "remark", "other"])
    }
    print(f"kinds, {name}:", ", ".join(f"{kind} {values.mean():.3f}" for kind, values in s.items()))
    print(f"  of {len(table)}:", ", ".join(f"{what} {n}" for what, n in above.items()))


def course(name, score):
    """recall@1 of the course's held-out questions over all its answers, and with every echo too."""
    asked = list(data.qa_pairs(part="test")["question"])
    passages = list(data.qa_pairs()["answer"])
    s = np.asarray(score(asked, passages + asked))
    right = s[np.arange(len(asked)), len(passages) - len(asked) + np.arange(len(asked))]
    alone = np.mean((s[:, : len(passages)] > right[:, None]).sum(1) == 0)
    beside = np.mean((s > right[:, None]).sum(1) == 0)
    print(f"course, {name}: recall@1 {alone:.3f}, with the echoes {beside:.3f}")


class Tokens:
    """ColBERT, with and without the [MASK] tokens that fill a question up."""

    def __init__(self, folder):
        self.model = MultiVectorEncoder(str(folder), device="cpu")

    def __call__(self, asked, passages, masks=True):
        q = self.model.encode_query(asked)
        if not masks:
            length = [len(self.model.tokenizer(text)["input_ids"]) + 1 for text in asked]
            q = [rows[:n] for rows, n in zip(q, length, strict=True)]
        return self.model.similarity(q, self.model.encode_document(passages)).numpy()

    def echo(self, asked, masks=True):
        return self(asked, asked, masks).diagonal()


class CLS:
    """A DPR tower: texts -> vectors (n, dim), as numpy."""

    def __init__(self, folder, kind):
        tower = kind.from_pretrained(folder).eval()
        self.bert = getattr(tower, tower.base_model_prefix).bert_model
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    @torch.no_grad()
    def __call__(self, texts):
        return encode(self.bert, self.tokenizer, texts, "cpu").numpy()


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=pathlib.Path, required=True)
    parser.add_argument("--part", choices=["dev", "test"], default="test")
    args = parser.parse_args()
    blocks = questions.split(args.pairs)[args.part]
    near = questions.vectors

    rerank("MiniLM", blocks, lambda q, ps: near(ps, quiet=True) @ near([q], quiet=True)[0])
    folder = models.path(CROSS, quiet=True)
    model = CrossEncoder(str(folder), activation_fn=torch.nn.Sigmoid(), device="cpu")
    rerank("cross-encoder", blocks, lambda q, ps: model.predict([(q, p) for p in ps]))
    print("capitals, cross-encoder:", model.predict([(CAPITAL, c) for c in CAPITALS]).round(3))

    minilm = retrieve(
        "MiniLM", blocks, lambda a, p: near(a, quiet=True) @ near(p, quiet=True).T, lambda a: np.ones(len(a))
    )
    q = CLS(models.path(DPR.format("question"), quiet=True), DPRQuestionEncoder)
    p = CLS(models.path(DPR.format("ctx"), quiet=True), DPRContextEncoder)
    dpr = retrieve("DPR, dot product", blocks, lambda a, b: q(a) @ p(b).T, lambda a: (q(a) * p(a)).sum(1))
    retrieve(
        "DPR, cosine",
        blocks,
        lambda a, b: unit(q(a)) @ unit(p(b)).T,
        lambda a: (unit(q(a)) * unit(p(a))).sum(1),
    )
    tokens = Tokens(models.path(COLBERT, quiet=True))
    colbert = retrieve("ColBERT", blocks, tokens, tokens.echo)
    retrieve(
        "ColBERT without [MASK]",
        blocks,
        lambda a, b: tokens(a, b, masks=False),
        lambda a: tokens.echo(a, masks=False),
    )
    compare("DPR less MiniLM", dpr, minilm)
    compare("ColBERT less MiniLM", colbert, minilm)
    compare("ColBERT less DPR", colbert, dpr)
    kinds("MiniLM", lambda a: near(a, quiet=True), lambda a: near(a, quiet=True))
    kinds("DPR", lambda a: unit(q(a)), lambda a: unit(p(a)))
    course("MiniLM", lambda a, b: near(a, quiet=True) @ near(b, quiet=True).T)
    course("DPR, dot product", lambda a, b: q(a) @ p(b).T)
    course("DPR, cosine", lambda a, b: unit(q(a)) @ unit(p(b)).T)
    print("mountains, MiniLM:", (near(MOUNTAINS, quiet=True) @ near([MOUNTAIN], quiet=True)[0]).round(3))
    print("mountains, DPR, dot product:", (p(MOUNTAINS) @ q([MOUNTAIN])[0]).round(2))
    print("mountains, DPR, cosine:", (unit(p(MOUNTAINS)) @ unit(q([MOUNTAIN]))[0]).round(3))
    print("mountains, ColBERT:", tokens([MOUNTAIN], MOUNTAINS)[0].round(2))


if __name__ == "__main__":
    main()
