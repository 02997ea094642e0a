"""Up to ten million vectors: how long an index takes to build, to answer, and how often it is right.

    python models/recipes/vector_search.py                        # a million of 384 dimensions
    python models/recipes/vector_search.py --number 10000000      # ten million, in blocks
    python models/recipes/vector_search.py --number 20000         # a small one, in half a minute
    python models/recipes/vector_search.py --number 100000 --rules          # nlist, M and k_factor, one at a time
    python models/recipes/vector_search.py --number 100000 --index HNSW32 --out FILE

One line for each index and setting: seconds to train and fill it, recall@10 against exact search,
median milliseconds of one query at a time, bytes a vector as the index would lie on disk, and the
most memory that the process has held, in GB. Lines of the same number, dimensions, seed, index and setting in
the file are replaced.

The vectors are made from real ones. MiniLM embeds the first sentences of some thousand documented
objects (helpers.documentation); every new vector starts at one of them, goes a part of the way to one of
its nearest neighbours, adds noise that is a random mixture of the steps to those neighbours, and is
scaled to length 1. The queries are real embeddings of sentences that nothing was made from. `--real`
measures the intrinsic dimension of the real ones, for comparison.

The vectors come in blocks, and no more than the training sample is held beside the index; the ten truly
nearest are found block by block. A million takes about 4 GB with the indexes that keep all their vectors.
"""

import argparse
import hashlib
import pathlib
import sys
import time

import numpy as np
import pandas as pd
from filelock import FileLock
from tqdm import tqdm

from helpers import cache, documentation, files, models

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
KEYS = ["number", "dimensions", "seed", "index", "setting"]
BLOCK = 250_000
NEAR = 14  # with so many neighbours the made vectors have the intrinsic dimension of real ones


def sentences() -> list[str]:
    """The first sentence of every documented object, each once, 4 to 40 words, in a fixed order."""
    first = (
        documentation.corpus()["text"].str.split("\n").str[0].str.split(r"(?<=[.!?])\s", regex=True).str[0]
    )
    first = first.drop_duplicates()
    return list(first[first.str.split().str.len().between(4, 40)].sample(frac=1, random_state=0))


def real(number: int) -> np.ndarray:
    """MiniLM's embeddings of `number` sentences, (number, 384), length 1; kept in the cache.

    Raises ValueError where the documentation has fewer sentences.
    """
    place, texts = cache() / "vector_search", sentences()[:number]
    if len(texts) < number:
        raise ValueError(f"the documentation has {len(texts):,} such sentences; ask for no more")
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


def more_like(real: np.ndarray, number: int, seed: int | list[int] = 0, near: int = 20) -> np.ndarray:
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


def blocks(real: np.ndarray, number: int, seed: int):
    """The `number` vectors that are made from the real ones, in arrays of at most BLOCK rows."""
    for first in range(0, number, BLOCK):
        yield more_like(real, min(BLOCK, number - first), [seed, first // BLOCK], NEAR)


def lists(number: int) -> int:
    """How many cells: the power of two nearest to twice the square root of the number."""
    return 2 ** round(np.log2(2 * number**0.5))


def settings(**choices) -> list[dict]:
    """One dictionary for each place of the lists: settings(nprobe=[1, 2]) -> [{nprobe: 1}, {nprobe: 2}]."""
    return [dict(zip(choices, values, strict=True)) for values in zip(*choices.values(), strict=True)]


def indexes(number: int, dimensions: int) -> dict[str, list[dict]]:
    """What is built, in faiss's own words, and the settings it is asked with.

    Up to a million: exact search, a graph, cells with codes, binary codes. Above: cells with codes
    alone, since the vectors themselves do not fit in 4 GB; the second look is at 336 main components of a
    byte each. The first look has 4 bits for each 4 numbers, as they are or turned at random so that all of
    them vary alike (PCAR), or 4 bits for each 2 of half as many main components, turned likewise.
    """
    cells, codes = f"IVF{lists(number)}", f"PQ{dimensions // 4}x4fs"
    asked = settings(nprobe=[16, 32, 64, 96], k_factor_rf=[10, 20, 40, 60])
    if number > 1_000_000:
        asked = settings(
            nprobe=[32, 64, 64, 64, 128, 128, 256, 512],
            k_factor_rf=[20, 20, 40, 80, 40, 80, 80, 200],
            quantizer_efSearch=[64, 96, 96, 96, 160, 160, 320, 640],
        )
        turned = ["", f"PCAR{dimensions},", f"PCAR{dimensions // 2},"]
        return {f"{first}{cells}_HNSW32,{codes},Refine(PCA336,SQ8)": asked for first in turned}
    found = {"Flat": [{}], f"{cells},{codes},RFlat": asked}
    if number >= 100_000:
        found |= {
            f"{cells},{codes},Refine(SQ6)": asked,
            "HNSW32": settings(efSearch=[32, 64, 128, 256]),
            "LSH,RFlat": settings(k_factor_rf=[4, 10, 40, 100]),
            "usearch i8, M 32": settings(expansion_search=[32, 64, 128, 256]),
        }
    return found


def rules(number: int, dimensions: int) -> dict[str, list[dict]]:
    """For each rule of thumb the indexes that differ in it alone: cells, links, and codes looked at twice."""
    codes, c = f"PQ{dimensions // 4}x4fs", lists(number)
    probes = [1, 2, 4, 8, 16, 32, 64, 128]
    found = {"Flat": [{}]}
    for cells, times in ((c // 4, 1), (c, 2), (4 * c, 8)):
        found[f"IVF{cells},Flat"] = settings(nprobe=[times * n for n in probes])
    for links in (8, 16, 32, 64):
        found[f"HNSW{links}"] = settings(efSearch=[16, 32, 64, 128, 256])
    found[f"IVF{c},{codes},RFlat"] = settings(nprobe=[128] * 7, k_factor_rf=[1, 2, 5, 10, 20, 40, 80])
    return found


class Usearch:
    """usearch behind the three calls of a faiss index that are used here; numbers as int8."""

    def __init__(self, dimensions: int, links: int = 32):
        from usearch.index import Index

        self.index = Index(ndim=dimensions, metric="ip", dtype="i8", connectivity=links, expansion_add=40)

    def train(self, vectors: np.ndarray) -> None:
        pass

    def add(self, vectors: np.ndarray) -> None:
        import faiss

        numbers = np.arange(len(self.index), len(self.index) + len(vectors))
        self.index.add(numbers, vectors, threads=faiss.omp_get_max_threads())

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        found = self.index.search(queries, k, threads=1)
        return found.distances.reshape(-1, k), found.keys.reshape(-1, k).astype(np.int64)


def built(name: str, dimensions: int):
    """An empty index of this name. Signs and main components are compared by distance, which on length 1
    gives the same order as the cosine and, unlike it, does not mind that the mean was taken off."""
    import faiss

    if name.startswith("usearch"):
        return Usearch(dimensions, int(name.split()[-1]))
    metric = faiss.METRIC_L2 if "LSH" in name or "PCA" in name else faiss.METRIC_INNER_PRODUCT
    return faiss.index_factory(dimensions, name, metric)


def make_room(index, number: int) -> None:
    """Take the memory for `number` codes of the second look at once: an array that grows is copied, and for a
    moment held twice."""
    import faiss

    second = faiss.downcast_index(faiss.downcast_index(index.refine_index).index)
    second.codes.resize(number * second.code_size)
    second.codes.resize(0)


def set_to(index, setting: dict) -> None:
    """Set what a search is set by: nprobe, k_factor_rf, quantizer_efSearch, efSearch, expansion_search."""
    import faiss

    if isinstance(index, Usearch):
        index.index.expansion_search = setting["expansion_search"]
    elif setting:
        text = ",".join(f"{name}={value}" for name, value in setting.items())
        faiss.ParameterSpace().set_index_parameters(index, text)


def size(index) -> int:
    """Bytes of the index as it is written, counted without keeping them."""
    import faiss

    if isinstance(index, Usearch):
        return index.index.serialized_length
    written = [0]
    writer = faiss.PyCallbackIOWriter(lambda block: written.__setitem__(0, written[0] + len(block)))
    faiss.write_index(index, writer)
    return written[0]


def most_memory() -> float:
    """GB that this process has held at most; not a number where the system does not tell."""
    try:
        import resource
    except ImportError:
        return float("nan")
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held / (1e9 if sys.platform == "darwin" else 1e6)


def ask(index, queries: np.ndarray) -> tuple[np.ndarray, float]:
    """The ten nearest to each query, asked one at a time on one core, and the median milliseconds."""
    import faiss

    cores = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    found, times = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(index.search(query[None], 10)[1][0])
        times.append(time.perf_counter() - start)
    faiss.omp_set_num_threads(cores)
    return np.array(found), 1000 * float(np.median(times))


def exactly(vectors, queries: np.ndarray, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and numbers of the k vectors nearest to each query, block by block; both (queries, k)."""
    import faiss

    heap, first = faiss.ResultHeap(len(queries), k, keep_max=True), 0
    for block in vectors:
        cosines, numbers = faiss.knn(queries, block, k, metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(cosines, numbers + first)
        first += len(block)
    heap.finalize()
    return heap.D, heap.I


def intrinsic_dimension(some: np.ndarray, vectors, k: int = 20) -> float:
    """Median over `some` of the estimate of Levina and Bickel (2004) from the k nearest; `some` are among
    the vectors."""
    cosines = exactly(vectors, some, k + 1)[0][:, 1:]
    r = np.sqrt(np.maximum(2 - 2 * cosines, 1e-12))
    return float(np.median((k - 2) / np.log(r[:, -1:] / r[:, :-1]).sum(axis=1)))


def measure(real: np.ndarray, number: int, queries: np.ndarray, seed: int, chosen: dict[str, list[dict]]):
    """Build each index of `chosen` over vectors made from the real ones and ask it; yields a line a setting."""
    made = lambda: tqdm(
        blocks(real, number, seed), desc="blocks", total=-(-number // BLOCK), disable=number <= BLOCK
    )
    first = next(blocks(real, number, seed))
    print("finding the truly nearest", flush=True)
    truth = exactly(made(), queries)[1]
    shape = {"number": number, "dimensions": real.shape[1], "seed": seed}
    dimension = intrinsic_dimension(first[:500], made())
    for name, asked in chosen.items():
        print(f"building {name}", flush=True)
        index, seconds = built(name, real.shape[1]), -time.perf_counter()
        index.train(first[: 40 * lists(number)] if number > 1_000_000 else first[: 100 * lists(number)])
        if number > 1_000_000:
            make_room(index, number)
        seconds += time.perf_counter()
        for block in made():
            seconds -= time.perf_counter()
            index.add(block)
            seconds += time.perf_counter()
        each, built_with = size(index) / number, most_memory()
        for setting in asked:
            set_to(index, setting)
            found, ms = ask(index, queries[:100] if name == "Flat" else queries)
            right = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found, truth, strict=False)])
            yield shape | {
                "index": name,
                "setting": " ".join(f"{k}={v}" for k, v in setting.items()) or "-",
                "build seconds": f"{seconds:.1f}",
                "recall@10": f"{right:.4f}",
                "median ms": f"{ms:.3f}",
                "bytes a vector": f"{each:.0f}",
                "most GB": f"{built_with:.2f}",
                "intrinsic dimension": f"{dimension:.1f}",
            }
        del index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--number", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=384, help="at most 384, a multiple of 4")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--index", action="append", metavar="NAME", help="only this one; may be given again")
    parser.add_argument("--rules", action="store_true", help="what the rules of thumb come from")
    parser.add_argument(
        "--real", action="store_true", help="only the intrinsic dimension of NUMBER real ones"
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).with_suffix(".tsv"))
    args = parser.parse_args()
    if args.number < 1_000 or args.dimensions % 4 or not 4 <= args.dimensions <= 384:
        parser.error("at least 1,000 vectors, of 4 to 384 dimensions, a multiple of 4")
    chosen = (rules if args.rules else indexes)(args.number, args.dimensions)
    if unknown := set(args.index or ()) - set(chosen):
        parser.error(f"--index {unknown.pop()}: here there are {'; '.join(chosen)}")
    if args.index:
        chosen = {name: asked for name, asked in chosen.items() if name in args.index}
    sample = min(4_000, args.number // 20)
    try:
        rows = real(args.number if args.real else sample + sample // 4)
    except ValueError as e:
        parser.error(str(e))
    if args.dimensions < 384:
        from sklearn.decomposition import PCA

        rows = PCA(args.dimensions, random_state=0).fit_transform(rows).astype("float32")
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)

    import faiss

    faiss.omp_set_num_threads(args.threads)
    lines = []
    if args.real:
        lines.append(
            dict.fromkeys(KEYS, "-") | {"number": len(rows), "dimensions": args.dimensions, "seed": 0}
        )
        lines[0] |= {
            "index": "real sentences",
            "intrinsic dimension": f"{intrinsic_dimension(rows[:500], [rows]):.1f}",
        }
        print(f"{len(rows):,} real ones: intrinsic dimension {lines[0]['intrinsic dimension']}")
    else:
        for line in measure(rows[:sample], args.number, rows[sample:], args.seed, chosen):
            lines.append(line)
            print("  ".join(f"{k} {v}" for k, v in line.items() if k not in KEYS[:3]), flush=True)
    table = pd.DataFrame(lines).astype(str)
    if args.out.exists():
        table = pd.concat([pd.read_csv(args.out, sep="\t", dtype=str), table])
        table = table.drop_duplicates(KEYS, keep="last")
    table.to_csv(args.out, sep="\t", index=False)


if __name__ == "__main__":
    main()
