"""Lesson 13's stages on all its questions: models/recipes/docs_retrieval.tsv.

    for cut in 50-10 200-40 100-0; do
        python models/recipes/docs_vectors.py --size ${cut%-*} --overlap ${cut#*-} --bfloat16 --out $cut.npz; done
    python models/recipes/docs_vectors.py --untitled --out untitled.npz
    python models/recipes/docs_vectors.py --whole --bfloat16 --out whole.npz
    OMP_NUM_THREADS=1 python models/recipes/docs_retrieval.py --bfloat16 \\
        --cuts untitled.npz 50-10.npz 200-40.npz 100-0.npz whole.npz            # as it was made
    python models/recipes/docs_retrieval.py --minutes 2         # stops after two, goes on next time
    python models/recipes/docs_retrieval.py --questions FILE --out FILE         # other judgements
    python models/recipes/docs_retrieval.py --only-cuts --cuts 300-60.npz       # and another cut

One line for each question and stage: nDCG@10 and recall@100 of objects (an object counts by its best
passage), and the milliseconds of processor time of that stage alone (on one core: OMP_NUM_THREADS=1). The
cross-encoder reads the first 20, then 50, then 100 passages of the list fused by rank; "reranked 50" is its
order, "blended 50, 0.3" the order by its score (weight 0.3) and the fused score together; with 20 read, more
weights are tried. Its scores are kept in --work, so that a stopped run goes on. A further cut takes its vectors
from a file that docs_vectors.py made and its name from that file's: words-overlap; "untitled" for the lesson's
own cut without names; "whole" for the lesson's own cut of the text with code and types. A run replaces the lines
of the stages that it measures; all others stay.
"""

import argparse
import pathlib
import sys
import tempfile
import time

import lancedb
import numpy as np
import pandas as pd
import pytrec_eval
import torch
from lancedb.index import FTS
from sentence_transformers import CrossEncoder, SentenceTransformer
from tqdm.auto import tqdm

from helpers import data, documentation, kept_vectors, models
from helpers.collection import weighted

CANDIDATES = 100
DEPTHS = [20, 50, 100]  # so many of the fused list the cross-encoder reads
LONGEST = 128  # tokens of question and passage together that it reads
WEIGHT = 0.6  # of the vectors, where scores are fused
READ = [0.1, 0.2, 0.3, 0.5, 0.7]  # weights of the cross-encoder, where its score is one of three
CHOSEN = 0.3  # the best of them on every other question, with the first 20 read
OUT = pathlib.Path(__file__).with_suffix(".tsv")


class Stages:
    """The passages in a store of their own, and the stages of the lesson over them."""

    def __init__(self, passages: pd.DataFrame, vectors: np.ndarray, folder: str):
        rows = passages.assign(id=[kept_vectors.key(t) for t in passages["text"]], vector=list(vectors))
        self.table = lancedb.connect(folder).create_table("passages", rows)
        self.table.create_index("text", config=FTS())
        self.table.optimize()
        path = models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
        self.minilm = SentenceTransformer(str(path), device="cpu")

    def _rows(self, query, score: str) -> pd.DataFrame:
        found = query.limit(CANDIDATES).select(["id", "object", "text", score]).to_arrow().to_pandas()
        return found.rename(columns={score: "score"}).set_index("id")

    def vectors(self, question: str) -> pd.DataFrame:
        vector = self.minilm.encode(question, normalize_embeddings=True)
        rows = self._rows(self.table.search(vector).distance_type("cosine"), "_distance")
        return rows.assign(score=1 - rows["score"])

    def bm25(self, question: str) -> pd.DataFrame:
        return self._rows(self.table.search(question, query_type="fts"), "_score")


def best_first(lists: list[pd.DataFrame], scores: pd.Series) -> pd.DataFrame:
    rows = pd.concat(lists)
    rows = rows[~rows.index.duplicated()]
    return rows.assign(score=scores).sort_values("score", ascending=False, kind="stable")


def rrf(*lists: pd.DataFrame, k: int = 60) -> pd.DataFrame:
    """Reciprocal rank fusion: 1 / (k + place), summed over the lists."""
    points = pd.concat([pd.Series(1 / (k + np.arange(1, len(x) + 1)), x.index) for x in lists])
    return best_first(list(lists), points.groupby(level=0).sum())


def blend(read: pd.DataFrame, fused: pd.DataFrame, weight: float) -> pd.DataFrame:
    """The passages that the cross-encoder has read, by its score and the fused score together."""
    return weighted(read, fused[fused.index.isin(read.index)], weight)


def measure(found: dict[str, pd.DataFrame], grades: dict[str, dict[str, int]]) -> pd.DataFrame:
    """nDCG@10 and recall@100 of objects, a row a question."""
    judge = pytrec_eval.RelevanceEvaluator(grades, {"ndcg_cut.10", "recall.100"})
    names = {q: rows["object"].drop_duplicates() for q, rows in found.items()}
    runs = {q: dict(zip(n, 1 / np.arange(1, len(n) + 1), strict=True)) for q, n in names.items()}
    scores = pd.DataFrame.from_dict(judge.evaluate(runs), orient="index").reindex(found).fillna(0)
    return scores.rename(columns={"ndcg_cut_10": "ndcg", "recall_100": "recall"})


def timed(function, *given):
    """What function(*given) returns, and the milliseconds of processor time that it took."""
    start = time.process_time()  # what else the machine is doing does not count
    return function(*given), 1000 * (time.process_time() - start)


def cut_as(name: str) -> pd.DataFrame:
    """The passages of a cut: "untitled", "whole", or words-overlap, "50-10"."""
    if name == "untitled":
        return documentation.passages(titled=False)
    return (
        documentation.passages(whole=True)
        if name == "whole"
        else documentation.passages(*map(int, name.split("-")))
    )


class Reader:
    """The cross-encoder, its scores kept in a file: question and passage -> score and milliseconds."""

    def __init__(self, work: pathlib.Path, bfloat16: bool = False):
        self.work, self.known, self.model, self.bfloat16 = work, {}, None, bfloat16
        if work.exists():
            kept = pd.read_csv(work, sep="\t")
            self.known = dict(zip(kept["pair"], zip(kept["score"], kept["ms"], strict=True), strict=True))

    def __call__(self, question: str, texts: list[str]) -> tuple[np.ndarray, float]:
        """The scores of n passages, and the time of reading them."""
        keys = [kept_vectors.key(f"{question}\t{text}") for text in texts]
        new = [i for i, k in enumerate(keys) if k not in self.known]
        if new:
            if self.model is None:
                path = models.path("cross-encoder/ms-marco-MiniLM-L-12-v2", quiet=True)
                self.model = CrossEncoder(
                    str(path), device="cpu", max_length=LONGEST, activation_fn=torch.nn.Sigmoid()
                )
                heads = [n for n, _ in self.model.named_modules() if n.endswith("classifier")]
                self.model.set_keep_in_fp32_modules(heads)  # no ties between scores
            pairs = [(question, texts[i]) for i in new]
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bfloat16):
                scores, ms = timed(lambda: self.model.predict(pairs, show_progress_bar=False))
            self.known |= {keys[i]: (float(s), ms / len(new)) for i, s in zip(new, scores, strict=True)}
        return np.array([self.known[k][0] for k in keys]), sum(self.known[k][1] for k in keys)

    def save(self) -> None:
        rows = [(k, f"{s:.7g}", f"{ms:.4g}") for k, (s, ms) in self.known.items()]
        pd.DataFrame(rows, columns=["pair", "score", "ms"]).to_csv(self.work, sep="\t", index=False)


def lines(stage: str, scores: pd.DataFrame, ms: dict[str, float]) -> list[dict]:
    return [
        {
            "question_id": q,
            "stage": stage,
            "ndcg": f"{row.ndcg:.4f}",
            "recall": f"{row.recall:.4f}",
            "ms": f"{ms[q]:.1f}",
        }
        for q, row in zip(scores.index, scores.itertuples(), strict=True)
    ]


def options(parser: argparse.ArgumentParser, out: pathlib.Path):
    """What the recipes that read with the cross-encoder share: the options, its kept scores, when to stop."""
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many")
    parser.add_argument("--work", type=pathlib.Path, help="where the cross-encoder's scores are kept")
    parser.add_argument("--bfloat16", action="store_true", help="read with fewer digits, faster")
    parser.add_argument("--out", type=pathlib.Path, default=out)
    given = parser.parse_args()
    reader = Reader(given.work or given.out.with_name(f".work-{given.out.name}"), given.bfloat16)
    return given, reader, time.monotonic() + 60 * given.minutes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--questions", type=pathlib.Path, help="a table of judgements")
    parser.add_argument("--vectors", type=pathlib.Path, help="another docs_vectors.npz")
    parser.add_argument("--cuts", nargs="+", type=pathlib.Path, default=[], metavar="FILE")
    parser.add_argument("--only-cuts", action="store_true", help="leave the lesson's own cut out")
    given, reader, end = options(parser, OUT)

    judged = data.docs_questions(given.questions)
    asked = judged.drop_duplicates("question_id").set_index("question_id")["question"].to_dict()
    grades = {
        q: {o: int(g) for o, g in zip(rows["object"], rows["grade"], strict=True)}
        for q, rows in judged.groupby("question_id")
    }
    asked = {q: text for q, text in asked.items() if max(grades[q].values()) > 0}

    table, read = [], {}
    cuts = [] if given.only_cuts else [("", given.vectors)]
    for name, file in [*cuts, *((f", {file.stem}", file) for file in given.cuts)]:
        passages = cut_as(file.stem) if name else documentation.passages()
        vectors, found = kept_vectors.lookup(passages["text"], file)
        if not found.all():
            raise SystemExit(f"{(~found).sum():,} passages have no vector; run docs_vectors.py first")
        with tempfile.TemporaryDirectory() as folder:
            stages = Stages(passages, vectors, folder)
            stages.vectors("a first call warms up"), stages.bm25("a first call warms up")
            stage, ms = {}, {}
            for label, search in (("vectors", stages.vectors), ("BM25", stages.bm25)):
                both = {q: timed(search, text) for q, text in asked.items()}
                stage[label] = {q: x[0] for q, x in both.items()}
                ms[label] = {q: x[1] for q, x in both.items()}
        both = {q: timed(rrf, stage["vectors"][q], stage["BM25"][q]) for q in asked}
        stage["fused by rank"], ms["fused by rank"] = ({q: x[i] for q, x in both.items()} for i in (0, 1))
        if not name:
            both = {q: timed(weighted, stage["vectors"][q], stage["BM25"][q], WEIGHT) for q in asked}
            stage["fused by score"], ms["fused by score"] = (
                {q: x[i] for q, x in both.items()} for i in (0, 1)
            )
        for label in stage:
            table += lines(label + name, measure(stage[label], grades), ms[label])
        if name:
            continue
        first = stage["fused by rank"]
        for depth in DEPTHS:
            for q, text in tqdm(asked.items(), desc=f"first {depth}", disable=not sys.stderr.isatty()):
                if time.monotonic() > end:
                    break
                rows = first[q][:depth]
                scores, ms = reader(text, list(rows["text"]))
                read[q, depth] = best_first([rows], pd.Series(scores, rows.index)), ms
            reader.save()
            if (q, depth) not in read:  # the time was over
                print(
                    f"first {depth}: {sum(d == depth for _, d in read)} of {len(asked)} questions; run again"
                )
                break
            found = {q: read[q, depth][0] for q in asked}
            ms = {q: read[q, depth][1] for q in asked}
            table += lines(f"reranked {depth}", measure(found, grades), ms)
            for weight in READ if depth == DEPTHS[0] else [CHOSEN]:
                blended = {q: blend(found[q], stage["fused by score"][q], weight) for q in asked}
                table += lines(f"blended {depth}, {weight}", measure(blended, grades), ms)
    table = pd.DataFrame(table, dtype=str)
    if given.out.exists():
        before = pd.read_csv(given.out, sep="\t", dtype=str)
        table = pd.concat([before[~before["stage"].isin(table["stage"])], table])
    table.to_csv(given.out, sep="\t", index=False)
    print(
        table.astype({"ndcg": float, "recall": float, "ms": float})
        .groupby("stage", sort=False)[["ndcg", "recall", "ms"]]
        .mean()
        .round(3)
    )
    return 0 if given.only_cuts or (q, DEPTHS[-1]) in read else 3


if __name__ == "__main__":
    sys.exit(main())
