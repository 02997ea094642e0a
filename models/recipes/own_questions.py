"""What questions in people's own words do for a search: models/recipes/own_questions.tsv and the adapter.

    python models/recipes/own_questions.py --work DIR                 # every run; stopped, it goes on where it was
    python models/recipes/own_questions.py --work DIR --runs all/0    # some of them, as NAME/SEED
    python models/recipes/own_questions.py --work DIR --keep all/0    # adapter and vectors of a run to where lessons read

MiniLM is trained (helpers/adapting.py: lesson 6's loop, two epochs; kept as a low-rank adapter) to questions of shared_data/documentation_questions.tsv, part
`train`: to all, to 300, 100 or 50 drawn by the seed, and to all but one library's. (The committed table has three
seeds of all, of 300 and of 100, and one of the run without a library; 50 was not run.) Each run embeds lesson 13's
passages again and is measured on two beds: nDCG@10 on lesson 13's judged questions, none of whose right objects
any training question has, and MRR@10 on the questions of part `dev`, on which everything was chosen.
For the run without a library its own questions are the second bed. One line a run, bed and question.
Beside the vectors alone stand, for the seeds of `all`: fused with BM25 (weight chosen on dev), and blended with the
cross-encoder's reading of the first twenty (weight chosen on half of dev). About ten minutes a run on two cores.
"""

import argparse
import pathlib
import shutil
import sys

import numpy as np
import pandas as pd
from docs_retrieval import Reader, measure, weighted
from tqdm.auto import tqdm

from helpers import ROOT, adapting, collection, data, documentation, files, kept_vectors

OUT = pathlib.Path(__file__).with_suffix(".tsv")
LEFT_OUT = "sklearn"  # the library of which one run sees no question
RUNS = [("all", seed) for seed in range(3)] + [
    (name, seed) for name in ("300", "100", "50") for seed in range(3)
]
RUNS += [(f"without {LEFT_OUT}", 0)]
WEIGHTS = [round(0.1 * i, 1) for i in range(11)]
READ = 20


class Bed:
    """The passages, the questions of both beds, and what does not change from run to run."""

    def __init__(self):
        self.passages = documentation.passages()
        self.passages["id"] = [kept_vectors.key(text) for text in self.passages["text"]]
        self.vectors, found = kept_vectors.lookup(self.passages["text"])
        if not found.all():
            raise SystemExit("some passages have no vector; run docs_vectors.py first")
        judged = data.docs_questions()
        self.grades = {
            q: {o: int(g) for o, g in zip(rows["object"], rows["grade"], strict=True)}
            for q, rows in judged.groupby("question_id")
        }
        self.grades = {q: of for q, of in self.grades.items() if max(of.values()) > 0}
        asked = judged.drop_duplicates("question_id").set_index("question_id")["question"]
        self.judged = asked[list(self.grades)]
        self.asked = data.documentation_questions()

    def pairs(self, name: str, seed: int) -> pd.DataFrame:
        """The training questions of a run, each with the passage of its object that is nearest to it."""
        some = self.asked[self.asked["part"] == "train"]
        if name.startswith("without"):
            some = some[~some["object"].str.startswith(LEFT_OUT)]
        elif name != "all":
            some = some.sample(int(name), random_state=seed)
        return self.right(some.reset_index(drop=True))

    def right(self, some: pd.DataFrame) -> pd.DataFrame:
        questions = collection.embed(collection.encoder(), some["question"], "questions")
        rows_of = self.passages.groupby("object").indices
        rows = [
            max(rows_of[name], key=lambda row: self.vectors[row] @ vector)
            for name, vector in zip(some["object"], questions, strict=True)
        ]
        found = self.passages.iloc[rows].reset_index(drop=True)
        return some.assign(id=found["id"], text=found["text"])

    def bm25(self, asked: pd.Series) -> dict[object, pd.DataFrame]:
        """Each question's hundred best passages by words: {question: scores by row}."""
        import tempfile

        import lancedb
        from lancedb.index import FTS

        with tempfile.TemporaryDirectory() as folder:
            rows = pd.DataFrame({"row": range(len(self.passages)), "text": self.passages["text"]})
            table = lancedb.connect(folder).create_table("passages", rows)
            table.create_index("text", config=FTS())
            table.optimize()
            found = {}
            for q, text in asked.items():
                hits = table.search(text, query_type="fts").limit(100).select(["row", "_score"]).to_arrow()
                found[q] = frame(hits["row"].to_pylist(), hits["_score"].to_pylist())
        return found

    def objects(self, found: dict) -> dict:
        names = self.passages["object"].to_numpy()
        return {q: rows.assign(object=names[list(rows.index)]) for q, rows in found.items()}

    def ndcg(self, found: dict) -> pd.Series:
        return measure(self.objects(found), self.grades)["ndcg"]

    def mrr(self, found: dict, right: pd.Series) -> pd.Series:
        """1 / the place of the right object among the first ten, else 0."""
        scores = {}
        for q, rows in self.objects(found).items():
            names = list(rows["object"].drop_duplicates()[:10])
            scores[q] = 1 / (names.index(right[q]) + 1) if right[q] in names else 0.0
        return pd.Series(scores)


def frame(rows, scores) -> pd.DataFrame:
    return pd.DataFrame({"score": np.asarray(scores, dtype=float)}, index=list(rows))


def nearest(asked: pd.Series, questions: np.ndarray, vectors: np.ndarray) -> dict[object, pd.DataFrame]:
    found = {}
    for q, scores in zip(asked.index, questions @ vectors.T, strict=True):
        top = np.argsort(-scores, kind="stable")[:100]
        found[q] = frame(top, scores[top])
    return found


def run(bed: Bed, name: str, seed: int, place: pathlib.Path) -> None:
    """Train, embed the passages again, keep adapter and vectors."""
    pairs = bed.pairs(name, seed)
    minilm = collection.encoder()
    asked = collection.embed(minilm, pairs["question"], "questions")
    encoder = adapting.train(pairs, bed.passages, bed.vectors, asked, seed=seed)
    with files.put_whole(place, folder=True) as part:
        adapting.save(encoder, part)
        model = collection.encoder(part)
        np.save(part / "vectors.npy", collection.embed(model, bed.passages["text"]))


def measured(bed: Bed, name: str, seed: int, place: pathlib.Path | None, words: dict, work) -> list[dict]:
    """The lines of one run (place None: MiniLM as it is)."""
    model = collection.encoder(place)
    vectors = np.load(place / "vectors.npy") if place else bed.vectors
    some = bed.asked[bed.asked["part"] == "dev"]
    if name.startswith("without"):
        some = bed.asked[bed.asked["object"].str.startswith(LEFT_OUT)]
    beds = {"judged": bed.judged, "dev": some["question"]}
    found = {key: nearest(asked, collection.embed(model, asked), vectors) for key, asked in beds.items()}
    score = {"judged": bed.ndcg, "dev": lambda lists: bed.mrr(lists, some["object"])}
    stages = {"vectors": found}
    if name in ("all", "MiniLM"):
        fused = {w: {k: both(found[k], words[k], w) for k in found} for w in WEIGHTS}
        weight = max(WEIGHTS, key=lambda w: score["dev"](fused[w]["dev"]).mean())
        stages[f"fused {weight}"] = fused[weight]
        if name == "all" and seed == 0:
            some_dev = beds["dev"][::2]
            asked = {"judged": beds["judged"], "dev": some_dev}
            read = {k: reading(bed, asked[k], fused[weight][k], work) for k in asked}
            blended = {
                r: {
                    k: {q: weighted(read[k][q], fused[weight][k][q][:READ], r) for q in read[k]} for k in read
                }
                for r in WEIGHTS
            }
            best = max(WEIGHTS, key=lambda r: score["dev"](blended[r]["dev"]).mean())
            stages["reranked 20"], stages[f"blended {best}"] = read, blended[best]
    lines = []
    for stage, lists in stages.items():
        for key, of in lists.items():
            named = f"{LEFT_OUT}'s" if key == "dev" and name.startswith("without") else key
            for q, value in score[key](of).items():
                lines.append(
                    {
                        "run": name,
                        "seed": seed,
                        "stage": stage,
                        "bed": named,
                        "question": q,
                        "score": f"{value:.4f}",
                    }
                )
    return lines


def both(first: dict, second: dict, weight: float) -> dict:
    return {q: weighted(rows, second[q], weight) for q, rows in first.items()}


def reading(bed: Bed, asked: pd.Series, fused: dict, work: pathlib.Path) -> dict:
    reader, texts, found = Reader(work), bed.passages["text"].to_numpy(), {}
    for q, text in tqdm(asked.items(), total=len(asked), desc="reading"):
        rows = fused[q][:READ]
        scores, _ = reader(text, list(texts[list(rows.index)]))
        found[q] = frame(rows.index, scores).sort_values("score", ascending=False, kind="stable")
    reader.save()
    return found


def keep(bed: Bed, place: pathlib.Path) -> None:
    """Put a run's adapter and vectors where the lessons look."""
    adapter = ROOT / "models" / "adapters" / "documentation"
    adapter.mkdir(parents=True, exist_ok=True)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(place / file, adapter / file)
    kept_vectors.save(bed.passages["text"], np.load(place / "vectors.npy"), kept_vectors.ADAPTED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=pathlib.Path, required=True, help="where runs are kept")
    parser.add_argument("--runs", nargs="*", default=[f"{name}/{seed}" for name, seed in RUNS])
    parser.add_argument("--keep", metavar="NAME/SEED")
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    bed = Bed()
    if args.keep:
        keep(bed, args.work / args.keep.replace("/", "-"))
        return
    for one in args.runs:
        name, _, seed = one.rpartition("/")
        place = args.work / one.replace("/", "-")
        if not place.exists():
            run(bed, name, int(seed), place)
        found = nearest(
            bed.judged,
            collection.embed(collection.encoder(place), bed.judged),
            np.load(place / "vectors.npy"),
        )
        print(one, "judged, vectors:", bed.ndcg(found).mean().round(3), flush=True)
    some = bed.asked[bed.asked["part"] == "dev"]
    words = {"judged": bed.bm25(bed.judged), "dev": bed.bm25(some["question"])}
    reads = args.work / "read.tsv"
    lines = measured(bed, "MiniLM", 0, None, words, reads)
    lines += [
        line | {"run": "MiniLM"}
        for line in measured(bed, f"without {LEFT_OUT}", 0, None, words, reads)
        if line["bed"] != "judged"
    ]
    for one in args.runs:
        name, _, seed = one.rpartition("/")
        place = args.work / one.replace("/", "-")
        lines += measured(bed, name, int(seed), place, words, reads)
        with files.put_whole(args.out) as part:
            pd.DataFrame(lines).to_csv(part, sep="\t", index=False)
        table = pd.DataFrame(lines).astype({"score": float})
        print(table.groupby(["run", "seed", "stage", "bed"], sort=False)["score"].mean().round(3).to_string())


if __name__ == "__main__":
    sys.exit(main())
