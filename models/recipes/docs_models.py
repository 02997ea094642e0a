"""The models of lesson 14 on lesson 13's judged questions: models/recipes/docs_models.tsv.

    OMP_NUM_THREADS=1 python models/recipes/docs_models.py              # as it was made: twenty minutes
    python models/recipes/docs_models.py --minutes 2                    # stops after two, goes on next time
    python models/recipes/docs_models.py --only BM25 GloVe              # these alone; the others' lines stay

One line for each question and model: nDCG@10 of objects (an object counts by its best passage) among some 2,000
of lesson 13's 8,210 passages: those of every object that has a grade above 0 for any question, and of 500 others,
drawn by chance. ColBERT is measured as it is, and with the vectors of its question's [MASK]s left out. MiniLM's
vectors are those that the course keeps. Scores are kept in --work, so that a stopped run goes on.
"""

import argparse
import pathlib
import sys
import time

import numpy as np
import pandas as pd

from helpers import data, documentation, judging, kept_vectors, zoo

BATCH = 256  # passages that are encoded, compared, and let go of
OTHERS = 500  # objects that answer no question
MODELS = {  # lesson 14's settings: towers, what is written before a text, pooling, comparison
    "MiniLM": (["sentence-transformers/all-MiniLM-L6-v2"], ["", ""], "mean", "cosine"),
    "BGE": (
        ["BAAI/bge-small-en-v1.5"],
        ["Represent this sentence for searching relevant passages: ", ""],
        "cls",
        "cosine",
    ),
    "DPR": (
        ["facebook/dpr-question_encoder-multiset-base", "facebook/dpr-ctx_encoder-multiset-base"],
        ["", ""],
        "cls",
        "cosine",
    ),
    "ColBERT": (["colbert-ir/colbertv2.0"], ["[unused0] ", "[unused1] "], "none", "maxsim"),
    "raw BERT": (["bert-base-uncased"], ["", ""], "mean", "cosine"),
}
NAMES = [*MODELS, "GloVe", "BM25"]
OUT = pathlib.Path(__file__).with_suffix(".tsv")


def searched(judged: pd.DataFrame) -> pd.DataFrame:
    """The passages that are searched, in lesson 13's order."""
    passages = documentation.passages()
    right = set(judged[judged["grade"] > 0]["object"])
    names = passages["object"].drop_duplicates()
    others = names[~names.isin(right)].sample(OTHERS, random_state=0)
    return passages[passages["object"].isin(right | set(others))].reset_index(drop=True)


def scored(name: str, questions: list[str], texts: list[str], work: pathlib.Path, end: float):
    """The scores of a model, {label: (questions, passages)}, or None where the time was over.

    work: the folder where the scores lie that are done (NaN where they are not).
    """
    model = zoo.GloVe() if name == "GloVe" else zoo.BM25() if name == "BM25" else zoo.load(*MODELS[name])
    asked = {name: model.encode_queries(questions)}
    if name == "ColBERT":
        asked[f"{name}, no masks"] = model.without_masks(asked[name], questions)
    if name == "BM25":  # the weight of a word depends on all passages
        return {name: np.asarray(model.scores(asked[name], model.encode_passages(texts)))}
    if name == "MiniLM":
        vectors, found = kept_vectors.lookup(texts)
        if not found.all():
            raise SystemExit(f"{(~found).sum():,} passages have no vector; run docs_vectors.py first")
        return {name: asked[name].numpy() @ vectors.T}
    table = {label: np.full((len(questions), len(texts)), np.nan, dtype=np.float32) for label in asked}
    for label in asked:
        if (work / f"{label}.npy").exists():
            table[label] = np.load(work / f"{label}.npy")
    starts = [i for i in range(0, len(texts), BATCH) if np.isnan(table[name][0, i])]
    for i in starts:
        if time.monotonic() > end:
            return None
        passages = model.encode_passages(texts[i : i + BATCH])
        for label, queries in asked.items():
            table[label][:, i : i + BATCH] = model.scores(queries, passages)
            np.save(work / f"{label}.npy", table[label])
    return table


def ndcg(scores: np.ndarray, passages: pd.DataFrame, judged: pd.DataFrame) -> pd.Series:
    """nDCG@10 of objects, an object by its best passage, by question; scores: (questions, passages)."""
    found = {}
    for (q, known), row in zip(judged.groupby("question_id", sort=False), scores, strict=True):
        best = passages["object"].iloc[np.argsort(-row, kind="stable")[:200]]
        found[q] = judging.ndcg(list(best), dict(zip(known["object"], known["grade"], strict=True)))
    return pd.Series(found, name="ndcg").rename_axis("question_id")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many")
    parser.add_argument("--work", type=pathlib.Path, default=OUT.with_name(".work-docs_models"))
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    given = parser.parse_args()
    end = time.monotonic() + 60 * given.minutes
    given.work.mkdir(exist_ok=True)
    judged = data.docs_questions()
    passages = searched(judged)
    questions = list(judged.drop_duplicates("question_id")["question"])
    for name in given.only:
        table = scored(name, questions, list(passages["text"]), given.work, end)
        if table is None:
            print(f"{name}: not all passages yet; run the same command again")
            return 3
        rows = pd.concat(
            ndcg(scores, passages, judged).reset_index().assign(model=m) for m, scores in table.items()
        )
        rows = rows.assign(ndcg=rows["ndcg"].map("{:.4f}".format))[["question_id", "model", "ndcg"]]
        if given.out.exists():
            before = pd.read_csv(given.out, sep="\t", dtype=str)
            rows = pd.concat([before[~before["model"].isin(rows["model"])], rows])
        rows.to_csv(given.out, sep="\t", index=False)
        print(rows.astype({"ndcg": float}).groupby("model", sort=False)["ndcg"].mean().round(3).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
