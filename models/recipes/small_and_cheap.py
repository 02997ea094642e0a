"""Lesson 15's smaller encoders and second stages on lesson 13's judged questions: small_and_cheap.tsv.

    OMP_NUM_THREADS=1 python models/recipes/small_and_cheap.py       # as it was made: half an hour
    python models/recipes/small_and_cheap.py --only "2 layers, taught" static    # these alone; the others' lines stay

One line for each question and row of lesson 15's table: nDCG@10 of objects among the 2,023 passages of lesson 14's
bed (docs_models.py). What is trained learns from a thousand pairs of documentation out of eight libraries, none of
which is searched: the two-layer student from MiniLM's vectors of their 2,000 texts, the Matryoshka MiniLM from
which text follows which. A second stage reads the passages that MiniLM ranks first, or BM25. The heads by which its layers
are left early are fitted on every other question, and judged on those between.
"""

import argparse
import copy
import pathlib
import sys
import time
import warnings

import docs_models
import numpy as np
import pandas as pd
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder, util
from sklearn.linear_model import Ridge
from torch.nn.functional import cross_entropy, normalize
from tqdm.auto import tqdm

from helpers import data, documentation, kept_vectors, models, zoo

OUT = pathlib.Path(__file__).with_suffix(".tsv")
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PAIRS, WIDTHS = 1_000, (384, 192, 96, 48)
DEEPEST, EXITS = 20, (4, 6, 8, 10)  # passages that the second stage reads at most; layers it may stop after
SECOND = "cross-encoder"
NAMES = [
    "MiniLM",
    "3 layers",
    "2 layers",
    "2 layers, taught",
    "Matryoshka",
    "static",
    "int8 (ONNX)",
    "SPLADE",
    SECOND,
]


def minilm(length: int = 256) -> SentenceTransformer:
    model = SentenceTransformer(str(models.path(MINILM, quiet=True)), device="cpu")
    model.max_seq_length = length
    return model


def with_layers(model: SentenceTransformer, keep: list[int]) -> SentenceTransformer:
    """A copy of the model that has only the layers `keep` of its BERT."""
    smaller = copy.deepcopy(model)
    encoder = smaller[0].auto_model.encoder
    encoder.layer = torch.nn.ModuleList([encoder.layer[i] for i in keep])
    return smaller


def encode(model, texts: list[str]) -> np.ndarray:
    """(texts, width), float32, length 1."""
    return model.encode(texts, normalize_embeddings=True, show_progress_bar=len(texts) > 200)


def steps_of(model: SentenceTransformer, texts: int, steps: int, batch: int, lr: float):
    """For each step the rows of its batch; the caller computes a loss and calls backward, the rest is here."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    model.train()
    draw = torch.Generator().manual_seed(0)
    epochs = 1 + steps * batch // texts
    order = torch.cat([torch.randperm(texts, generator=draw) for _ in range(epochs)]).split(batch)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    for step in tqdm(range(steps), desc="training"):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 10) * (1 - step / steps)
        optimizer.zero_grad()
        yield order[step].tolist()
        optimizer.step()
    model.eval()


def student(pairs: pd.DataFrame) -> SentenceTransformer:
    """MiniLM's first and last layer, taught to give MiniLM's vectors of both sides of the pairs."""
    texts = [*pairs["question"], *pairs["answer"]]
    wanted = torch.from_numpy(encode(minilm(), texts))
    taught = with_layers(minilm(64), [0, 5])
    for rows in steps_of(taught, len(texts), steps=40, batch=64, lr=1e-3):
        found = taught(taught.preprocess([texts[i] for i in rows]))["sentence_embedding"]
        (1 - (normalize(found, dim=1) * wanted[rows]).sum(dim=1)).mean().backward()
    taught.max_seq_length = 256
    return taught


def matryoshka(pairs: pd.DataFrame) -> SentenceTransformer:
    """MiniLM trained so that the first numbers of its vectors are a vector too (arXiv 2205.13147)."""
    model = minilm(64)
    questions, answers = list(pairs["question"]), list(pairs["answer"])
    for rows in steps_of(model, len(pairs), steps=60, batch=32, lr=5e-5):
        texts = [questions[i] for i in rows] + [answers[i] for i in rows]
        found = model(model.preprocess(texts))["sentence_embedding"]
        loss = 0
        for width in WIDTHS:
            q, a = normalize(found[:, :width], dim=1).split(len(rows))
            loss = loss + cross_entropy(20 * q @ a.T, torch.arange(len(rows)))
        loss.backward()
    model.max_seq_length = 256
    return model


def onnx_int8(folder: pathlib.Path):
    """MiniLM with whole-number weights of 8 bits in ONNX Runtime: a function from texts to vectors of length 1."""
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = minilm()
    batch = model.tokenizer(["a text", "one more text"], padding=True, return_tensors="pt")
    names = ["input_ids", "attention_mask"]
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    bert = model[0].auto_model.eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            bert,
            kwargs={name: batch[name] for name in names},
            f=folder / "minilm.onnx",
            dynamic_shapes=dict.fromkeys(names, free),
            verbose=False,
        )
    # without a sign: sums of signed products overflow on processors without the newest instructions
    quantize_dynamic(folder / "minilm.onnx", folder / "minilm_int8.onnx", weight_type=QuantType.QUInt8)
    session = onnxruntime.InferenceSession(folder / "minilm_int8.onnx")

    def encode(texts: list[str]) -> np.ndarray:
        found = []
        for at in range(0, len(texts), 32):
            batch = model.tokenizer(texts[at : at + 32], padding=True, truncation=True, return_tensors="np")
            states = session.run(None, {name: batch[name] for name in names})[0]
            mask = batch["attention_mask"][:, :, None]
            found.append((states * mask).sum(axis=1) / mask.sum(axis=1))
        found = np.concatenate(found)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    return encode


def read_pairs(questions: list[str], passages: list[str], best: np.ndarray) -> dict[str, np.ndarray]:
    """What the cross-encoder makes of each question with its passages best[question], (questions, deep).

    Returns its scores, (questions, deep), those of its whole-number form for the first ten, (questions, 10), and
    the states at [CLS] after each layer, (questions, layers, deep, width).
    """
    folder = str(models.path("cross-encoder/ms-marco-MiniLM-L-12-v2", quiet=True))
    model = CrossEncoder(folder, device="cpu", activation_fn=torch.nn.Identity(), max_length=256)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that this is to move to another package
        small = torch.ao.quantization.quantize_dynamic(
            copy.deepcopy(model), {torch.nn.Linear}, dtype=torch.qint8
        )
    states, scores, int8 = [], [], []
    for question, row in zip(tqdm(questions, desc="reading pairs"), best, strict=True):
        texts = [(question, passages[i]) for i in row]
        batch = model.tokenizer(
            *map(list, zip(*texts, strict=True)),
            padding=True,
            truncation="only_second",
            max_length=256,
            return_tensors="pt",
        )
        with torch.no_grad():
            out = model.model.bert(**batch, output_hidden_states=True)
            scores.append(model.model.classifier(out.pooler_output)[:, 0].numpy())
        states.append(np.stack([state[:, 0].numpy() for state in out.hidden_states[1:]]))
        int8.append(small.predict(texts[:10]))
    return {"scores": np.array(scores), "int8": np.array(int8), "states": np.array(states)}


def left_early(states: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The scores of a head behind one layer, (questions, deep): a ridge regression from the states there,
    (questions, deep, width), to the scores of all layers, fitted on every other question for those between."""
    found = np.empty_like(scores)
    for half in (0, 1):
        head = Ridge(alpha=10.0).fit(
            states[1 - half :: 2].reshape(-1, states.shape[-1]), scores[1 - half :: 2].ravel()
        )
        found[half::2] = head.predict(states[half::2].reshape(-1, states.shape[-1])).reshape(
            found[half::2].shape
        )
    return found


def reranked(first: np.ndarray, best: np.ndarray, scores: np.ndarray, deep: int) -> np.ndarray:
    """The first stage's scores, (questions, passages), with its `deep` best on top, ordered by the second's."""
    table = first.astype(np.float64) - 1e6
    np.put_along_axis(table, best[:, :deep], scores[:, :deep].astype(np.float64), axis=1)
    return table


def second_stage(
    name: str, questions, passages, first: np.ndarray, kept: pathlib.Path
) -> dict[str, np.ndarray]:
    """The scores after a second stage, {row of the table, beginning with `name`: (questions, passages)}.

    first: the scores of the first stage; kept: a file for what was read, so that a change behind it reads nothing.
    """
    best = np.argsort(-first, axis=1, kind="stable")[:, :DEEPEST]
    if not kept.exists():
        np.savez(kept, best=best, **read_pairs(questions, passages, best))
    with np.load(kept) as file:
        read = dict(file)
    if not np.array_equal(read["best"], best):
        raise SystemExit(f"{kept} was made from other passages; remove it")
    rows = {f"{name}, {deep} passages": (read["scores"], deep) for deep in (5, 10, 20)}
    rows[f"{name} int8, 10 passages"] = (read["int8"], 10)
    for layer in EXITS:
        early = left_early(read["states"][:, layer - 1], read["scores"])
        rows[f"{name} to layer {layer}, 10 passages"] = (early, 10)
    return {row: reranked(first, best, scores, deep) for row, (scores, deep) in rows.items()}


def rows_of(name: str, questions, passages, work: pathlib.Path) -> dict[str, np.ndarray]:
    """The scores of one of NAMES: {row of the table: (questions, passages)}."""
    pairs = documentation.pairs("train").sample(PAIRS, random_state=0)
    kept = kept_vectors.lookup(passages)[0]
    if name == "MiniLM":
        return {name: encode(minilm(), questions) @ kept.T}
    if name == SECOND:
        by_words = zoo.BM25()
        counted = by_words.scores(
            by_words.encode_queries(questions), by_words.encode_passages(passages)
        ).numpy()
        first = encode(minilm(), questions) @ kept.T
        return {
            **second_stage(name, questions, passages, first, work / "pairs.npz"),
            **second_stage(f"BM25, {name}", questions, passages, counted, work / "pairs_bm25.npz"),
        }
    if name == "SPLADE":
        model = SparseEncoder(str(models.path("rasyosef/splade-tiny", quiet=True)), device="cpu")
        asked = model.encode_query(questions)
        told = model.encode_document(passages, show_progress_bar=True)
        return {name: util.dot_score(asked, told).to_dense().numpy()}
    if name == "Matryoshka":
        model = matryoshka(pairs)
        asked, told = (torch.from_numpy(encode(model, texts)) for texts in (questions, passages))
        return {
            f"{name}, {width} numbers": (
                normalize(asked[:, :width], dim=1) @ normalize(told[:, :width], dim=1).T
            ).numpy()
            for width in WIDTHS
        }
    if name == "static":
        from model2vec.distill import distill

        model = distill(
            str(models.path(MINILM, quiet=True)), device="cpu", pca_dims=256, quantize_to="float32"
        )

        def vectors(texts):
            return normalize(torch.from_numpy(model.encode(texts)), dim=1).numpy()
    elif name == "int8 (ONNX)":
        vectors = onnx_int8(work)
    else:
        small = (
            student(pairs)
            if name.endswith("taught")
            else with_layers(minilm(), {"3": [0, 3, 5], "2": [0, 5]}[name[0]])
        )

        def vectors(texts):
            return encode(small, texts)

    return {name: vectors(questions) @ vectors(passages).T}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--work", type=pathlib.Path, default=OUT.with_name(".work-small_and_cheap"))
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    given = parser.parse_args()
    given.work.mkdir(exist_ok=True)
    judged = data.docs_questions()
    passages = docs_models.searched(judged)
    questions = list(judged.drop_duplicates("question_id")["question"])
    for name in given.only:
        begin = time.monotonic()
        scores = rows_of(name, questions, list(passages["text"]), given.work)
        rows = pd.concat(
            docs_models.ndcg(found, passages, judged).reset_index().assign(model=row)
            for row, found in scores.items()
        )
        rows = rows.assign(ndcg=rows["ndcg"].map("{:.4f}".format))[["question_id", "model", "ndcg"]]
        if given.out.exists():
            before = pd.read_csv(given.out, sep="\t", dtype=str)
            rows = pd.concat([before[~before["model"].isin(rows["model"])], rows])
        rows.to_csv(given.out, sep="\t", index=False)
        means = (
            rows[rows["model"].isin(list(scores))]
            .astype({"ndcg": float})
            .groupby("model", sort=False)["ndcg"]
        )
        print(f"{name}: {time.monotonic() - begin:.0f} s\n{means.mean().round(3).to_string()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
