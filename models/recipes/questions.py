"""Question-answer rows for the recipes of DPR and of ColBERT, split once, and what both do with them.

The file of pairs (columns question, answer) runs article by article, and several questions
share a sentence. So it is split by blocks of neighbouring rows, with a gap on either side that
is used nowhere: no article of a test block is ever trained on. Rows that come near the inputs
of the lessons (France, Germany, Spain and their capitals, the tallest mountain) are left out.
"""

import functools
import json
import pathlib
import re

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from helpers import data, files, models, tables

HERE = pathlib.Path(__file__).parent
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
BLOCK, GAP = 250, 120  # rows
TEST = (0.15, 0.38, 0.62, 0.85)  # where the four test blocks begin, as a share of the file
DEV = (0.27, 0.73)  # and the two development blocks
LEFT_OUT = re.compile(
    r"\b(france|french|germany|german|spain|spanish|paris|berlin|madrid|everest|shasta|yoga|"
    r"tallest mountain|highest mountain|donald duck)\b",
    re.I,
)
FUNCTION_WORDS = set(
    "what which who whom whose when where why how is are was were be been do does did has have had "
    "the a an of in on at to for by from that this it its there can could will would".split()
)


def split(file):
    """The rows of `file` by part: {"train": rows, "dev": [rows, ...], "test": [rows, ...]}.

    A row is (question, answer); dev and test are lists of blocks. No answer of a dev or test
    block stands in train.
    """
    table = tables.read(file, ["question", "answer"])
    rows = list(zip(table["question"], table["answer"], strict=True))
    parts, used = {"dev": [], "test": []}, np.zeros(len(rows), dtype=bool)
    for part, places in (("test", TEST), ("dev", DEV)):
        for place in places:
            start = int(place * len(rows))
            parts[part].append(rows[start : start + BLOCK])
            used[max(0, start - GAP) : start + BLOCK + GAP] = True
    held_out = {answer for blocks in parts.values() for block in blocks for _, answer in block}
    parts["train"] = [
        row
        for row, out in zip(rows, used, strict=True)
        if not out and row[1] not in held_out and not LEFT_OUT.search(" ".join(row))
    ]
    return parts


def course_rows():
    """The 700 training rows of the course's own table."""
    table = data.qa_pairs(part="train")
    return list(zip(table["question"], table["answer"], strict=True))


def unique(items):
    return list(dict.fromkeys(items))


def bm25_near(questions, passages, k):
    """For each question the numbers of its k best passages by BM25, best first: (n, k)."""
    import bm25s

    index = bm25s.BM25()
    index.index(bm25s.tokenize(passages, show_progress=False), show_progress=False)
    asked = bm25s.tokenize(questions, show_progress=False)
    return index.retrieve(asked, k=min(k, len(passages)), show_progress=False).documents


@functools.cache
def minilm():
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(models.path(MINILM, quiet=True)))


def vectors(texts, quiet=False):
    """MiniLM's unit vectors: (n, 384)."""
    return minilm().encode(texts, batch_size=64, normalize_embeddings=True, show_progress_bar=not quiet)


def kept(file, texts):
    """`vectors(texts)`, kept in `file`."""
    if not file.exists():
        with files.put_whole(file) as part:
            np.save(part, vectors(texts))
    return np.load(file)


def minilm_near(questions, passages, k):
    """For each question the numbers of its k nearest passages by MiniLM's cosine: (n, k)."""
    q, p = vectors(questions), vectors(passages)
    near = [(q[i : i + 512] @ p.T).argsort(axis=1)[:, : -k - 1 : -1] for i in range(0, len(q), 512)]
    return np.concatenate(near)


def near_misses(rows, file, k=12):
    """For each row the numbers of passages that look right and are not, and the passages.

    Returns (passages, misses): misses[i] has three lists for row i: by BM25, by MiniLM, and the
    other sentences within 12 rows, which mostly come from the same article. Kept in `file`.
    """
    if file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    passages = unique(answer for _, answer in rows)
    number = {p: n for n, p in enumerate(passages)}
    own = [number[answer] for _, answer in rows]
    questions = [q for q, _ in rows]
    found = []
    for near in (bm25_near(questions, passages, k + 1), minilm_near(questions, passages, k + 1)):
        found.append([[int(n) for n in line if n != o] for line, o in zip(near, own, strict=True)])
    beside = [[n for n in unique(own[max(0, i - 12) : i + 13]) if n != own[i]] for i in range(len(rows))]
    with files.put_whole(file) as part:
        part.write_text(json.dumps([passages, list(zip(*found, beside, strict=True))]), "utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


def start(args):
    """(device, kind of number, MiniLM's tokenizer) of a run with these options; its seed is set."""
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.bfloat16 if args.bfloat16 else torch.float32
    return device, kind, AutoTokenizer.from_pretrained(models.path(MINILM, quiet=True))


def training_rows(parts, work):
    """The rows to train on, those of the course last, and what MiniLM says of them, kept in `work`.

    parts: as `split` gives them. Returns (rows, passages, misses, asked, told): see `near_misses`;
    asked and told have MiniLM's unit vector of each question and of each passage.
    """
    rows = parts["train"] + course_rows()
    passages, misses = near_misses(rows, work / "near_misses.json")
    asked = [q for q, _ in rows]
    asked = dict(zip(asked, kept(work / "asked.npy", asked), strict=True))
    told = dict(zip(passages, kept(work / "passages.npy", passages), strict=True))
    return rows, passages, misses, asked, told


def measures(scores, own, echo):
    """(recall@1, MRR, share of questions whose echo beats the answer).

    scores (n, m): of n questions with m passages; own (n,): the number of each question's answer;
    echo (n,): the score of each question with itself, which is not among the passages.
    """
    right = scores.gather(1, own[:, None])
    ranks = (scores > right).sum(1) + 1
    return tuple(float(x.float().mean()) for x in (ranks == 1, 1 / ranks, echo > right[:, 0]))


def targets(q, p, own, texts, part):
    """What the softmax over the passages `texts` should be, and what must not count: (n, m) each.

    1 for the answer, less `part`, which is shared out as MiniLM would (softmax of 20 x cosine).
    Not to count: the own answer of a question where it stands a second time. The first n of
    `texts` are the answers `own`; q, p: MiniLM's unit vectors of the questions and of `texts`.
    """
    same = torch.tensor([[t == o for t in texts] for o in own])
    same[:, : len(own)] = False
    opinion = (20 * q @ p.T).masked_fill(same, -1e4).softmax(1)
    return torch.eye(len(own), len(texts)) * (1 - part) + part * opinion, same


def as_typed(question, rng):
    """The question, or (three times in ten) what is left of it in a search box.

    >>> as_typed("what is the capital of peru?", np.random.default_rng(2))
    'capital peru'
    """
    if rng.random() > 0.3:
        return question
    words = [w for w in question.rstrip("?. ").split() if w.lower() not in FUNCTION_WORDS]
    return " ".join(words) if len(words) > 1 else question


def export(model, out):
    """A low-rank adapter in float16, as `peft` opens it; nothing of the machine in its config."""
    model.peft_config["default"].base_model_name_or_path = MINILM
    model.peft_config["default"].inference_mode = True
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    file = out / "adapter_model.safetensors"
    save_file({k: v.half() for k, v in load_file(file).items()}, file, metadata={"format": "pt"})
