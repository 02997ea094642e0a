"""A million vectors: how long an index takes to build, to answer, and how often it is right.

    python models/recipes/vector_search.py                        # a million of 384 dimensions
    python models/recipes/vector_search.py --number 20000         # a small one, in half a minute
    python models/recipes/vector_search.py --number 100000 --dimensions 128 --seed 1 --out FILE

One line for each index and setting: seconds to train and fill it, recall@10 against exact search,
median milliseconds of one query at a time, bytes a vector as the index would lie on disk. Lines of
the same number, dimensions, seed, index and setting in the file are replaced.

The vectors are made from real ones. MiniLM embeds the first sentences of some thousand documented
objects (helpers.documentation); every new vector starts at one of them, goes a part of the way to one of
its 20 nearest neighbours, adds noise that is a random mixture of the steps to those 20, and is
scaled to length 1. The queries are real embeddings of sentences that nothing was made from.
A million of 384 dimensions needs about 4 GB of memory.
"""

import argparse
import hashlib
import pathlib
import time

import numpy as np
import pandas as pd
from filelock import FileLock

from helpers import cache, documentation, files, models

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
KEYS = ["number", "dimensions", "seed", "index", "setting"]


def sentences() -> list[str]:
    """The first sentence of every documented object, each once, 4 to 40 words, in a fixed order."""
    first = (
        documentation.corpus()["text"].str.split("\n").str[0].str.split(r"(?<=[.!?])\s", regex=True).str[0]
    )
    first = first.drop_duplicates()
    return list(first[first.str.split().str.len().between(4, 40)].sample(frac=1, random_state=0))


def real(number: int) -> np.ndarray:
    """MiniLM's embeddings of `number` sentences, (number, 384), length 1; kept in the cache."""
    place, texts = cache() / "vector_search", sentences()[:number]
    place.mkdir(exist_ok=True)
    file = place / f"minilm-{hashlib.sha256(repr(texts).encode()).hexdigest()[:12]}.npy"
    with FileLock(file.with_suffix(".lock")):
        if not file.exists():
            from sentence_transformers import SentenceTransformer

            model = SentenceTransformer(str(models.path(MINILM, quiet=True)), device="cpu")
            rows = []
            for start in range(0, number, 500):
                rows.append(model.encode(texts[start : start + 500], normalize_embeddings=True))
                print(f"embedded {start + len(rows[-1]):,} of {number:,} sentences", flush=True)
            with files.put_whole(file) as part:
                np.save(part, np.vstack(rows))
    return np.load(file)


def more_like(real: np.ndarray, number: int, seed: int = 0, near: int = 20) -> np.ndarray:
    """`number` new vectors with the neighbourhoods of the real ones, (number, dimensions), length 1.

    real: (n, dimensions), rows of length 1, more than `near` of them (else ValueError).
    """
    import faiss

    if len(real) <= near:
        raise ValueError(f"{len(real)} real vectors are too few: more than {near} are needed")
    draw = np.random.default_rng(seed)
    neighbours = faiss.knn(real, real, near + 1, metric=faiss.METRIC_INNER_PRODUCT)[1][:, 1:]
    parent = draw.integers(len(real), size=number)
    order = np.argsort(parent, kind="stable")
    new = np.empty((number, real.shape[1]), "float32")
    for i, rows in zip(
        range(len(real)), np.split(order, np.cumsum(np.bincount(parent, minlength=len(real)))), strict=False
    ):
        steps = draw.standard_normal((len(rows), near), dtype="float32") / near**0.5
        towards = draw.integers(near, size=len(rows))
        steps[np.arange(len(rows)), towards] += draw.random(len(rows), dtype="float32") / 2
        new[rows] = real[i] + steps @ (real[neighbours[i]] - real[i])
    new /= np.linalg.norm(new, axis=1, keepdims=True)
    return new


def lists(number: int) -> int:
    """How many cells: the power of two nearest to twice the square root of the number."""
    return 2 ** round(np.log2(2 * number**0.5))


def indexes(number: int, dimensions: int) -> dict[str, list[dict]]:
    """What is built, in faiss's own words, and the settings it is asked with."""
    return {
        "Flat": [{}],
        f"IVF{lists(number)},PQ{dimensions // 4}x4fs,RFlat": [
            {"nprobe": n, "k_factor": k} for n, k in [(16, 10), (32, 20), (64, 40), (96, 60)]
        ],
    }


def size(index) -> int:
    """Bytes of the index as faiss writes it, counted without keeping them."""
    import faiss

    written = [0]
    writer = faiss.PyCallbackIOWriter(lambda block: written.__setitem__(0, written[0] + len(block)))
    faiss.write_index(index, writer)
    return written[0]


def ask(index, queries: np.ndarray) -> tuple[np.ndarray, float]:
    """The ten nearest to each query, asked one at a time, and the median milliseconds."""
    found, times = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(index.search(query[None], 10)[1][0])
        times.append(time.perf_counter() - start)
    return np.array(found), 1000 * float(np.median(times))


def measure(vectors: np.ndarray, queries: np.ndarray, seed: int):
    """Build each index and ask it; yields one line for each setting."""
    import faiss

    exact = None
    for name, settings in indexes(*vectors.shape).items():
        print(f"building {name}", flush=True)
        start = time.perf_counter()
        index = faiss.index_factory(vectors.shape[1], name, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors[: 100 * lists(len(vectors))])  # a hundred for each cell are enough
        index.add(vectors)
        seconds = time.perf_counter() - start
        each = size(index) / len(vectors)
        for setting in settings:
            if setting:
                faiss.extract_index_ivf(index).nprobe = setting["nprobe"]
                index.k_factor = setting["k_factor"]
            found, ms = ask(index, queries if exact is not None else queries[:100])
            if exact is None:
                exact = index.search(queries, 10)[1]
            right = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, exact, strict=False)])
            yield {
                "number": len(vectors),
                "dimensions": vectors.shape[1],
                "seed": seed,
                "index": name,
                "setting": " ".join(f"{k}={v}" for k, v in setting.items()) or "-",
                "build seconds": f"{seconds:.1f}",
                "recall@10": f"{right:.4f}",
                "median ms": f"{ms:.3f}",
                "bytes a vector": f"{each:.0f}",
            }
        del index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--number", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=384, help="at most 384, a multiple of 4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).with_suffix(".tsv"))
    args = parser.parse_args()
    if args.number < 1_000 or args.dimensions % 4 or not 4 <= args.dimensions <= 384:
        parser.error("at least 1,000 vectors, of 4 to 384 dimensions, a multiple of 4")
    sample = min(4_000, args.number // 20)
    rows = real(sample + sample // 4)
    if args.dimensions < 384:
        from sklearn.decomposition import PCA

        rows = PCA(args.dimensions, random_state=0).fit_transform(rows).astype("float32")
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    import faiss

    faiss.omp_set_num_threads(args.threads)
    start = time.perf_counter()
    vectors = more_like(rows[:sample], args.number, args.seed)
    print(
        f"made {args.number:,} vectors from {sample:,} in {time.perf_counter() - start:.0f} s",
        flush=True,
    )
    lines = []
    for line in measure(vectors, rows[sample:], args.seed):
        lines.append(line)
        print("  ".join(f"{k} {v}" for k, v in line.items() if k not in KEYS[:3]), flush=True)
    table = pd.DataFrame(lines).astype(str)
    if args.out.exists():
        table = pd.concat([pd.read_csv(args.out, sep="\t", dtype=str), table])
        table = table.drop_duplicates(KEYS, keep="last")
    table.to_csv(args.out, sep="\t", index=False)


if __name__ == "__main__":
    main()
