"""Checks of lesson 12. Each takes the reader's function and prints one line."""

from collections.abc import Callable

from helpers.exercises import judge


def hnsw_bytes(hnsw_bytes: Callable) -> None:
    """hnsw_bytes(dimensions, M) -> bytes a vector; the judge is the index as faiss writes it."""
    import faiss
    import numpy as np

    def weigh(dimensions, M):
        index = faiss.IndexHNSWFlat(dimensions, M)
        index.hnsw.efConstruction = 8  # its links may be poor: they are only weighed
        index.add(np.random.default_rng(0).random((4_000, dimensions), dtype="float32"))
        return len(faiss.serialize_index(index)) / 4_000

    wanted = {case: weigh(*case) for case in [(100, 16), (16, 4), (64, 32), (8, 8)]}
    judge(
        lambda case: hnsw_bytes(*case),
        wanted,
        "hnsw_bytes",
        same=lambda got, expected: abs(got / expected - 1) < 0.006,
        says=lambda value: f"{value:.1f}" if isinstance(value, int | float) else repr(value),
    )


def ivf_search(ivf_search: Callable) -> None:
    """ivf_search(query, vectors, centres, cells, nprobe) -> (10,); the judge is faiss."""
    import faiss
    import numpy as np

    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((2_000, 16), dtype="float32")
    # centres and rows of many lengths: the largest cosine or the smallest distance is not the largest product
    vectors *= draw.uniform(0.3, 2, (2_000, 1)).astype("float32")
    centres = (
        draw.standard_normal((16, 16), dtype="float32") * np.linspace(0.6, 1.4, 16, dtype="float32")[:, None]
    )
    quantizer = faiss.IndexFlatIP(16)
    quantizer.add(centres)
    index = faiss.IndexIVFFlat(quantizer, 16, 16, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)  # the centres are there; it keeps them
    index.add(vectors)
    home = index.quantizer.search(vectors, 1)[1][:, 0]
    cells = [np.flatnonzero(home == c) for c in range(16)]
    queries = draw.standard_normal((6, 16), dtype="float32")

    def library(number, nprobe):
        index.nprobe = nprobe
        return index.search(queries[number : number + 1], 10)[1][0].tolist()

    def says(value):
        if not hasattr(value, "__len__"):
            return repr(value)
        value = np.asarray(value)
        whole = value.dtype.kind == "i"
        return str(value.tolist()) + ("" if whole else " (row numbers are whole numbers, integers)")

    cases = {f"query {i}, nprobe {n}": (i, n) for i in range(6) for n in (1, 4, 16)}
    judge(
        lambda case: ivf_search(queries[cases[case][0]], vectors, centres, cells, cases[case][1]),
        {case: library(*both) for case, both in cases.items()},
        "ivf_search",
        same=lambda got, expected: np.asarray(got).dtype.kind == "i" and np.asarray(got).tolist() == expected,
        says=says,
    )


def filtered(filtered: Callable) -> None:
    """filtered(search, query, allowed, k, number) -> list; the judge is exact search of the allowed."""
    import faiss
    import numpy as np

    number = 2_000
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((number, 16), dtype="float32")
    query = draw.standard_normal(16, dtype="float32")
    index = faiss.IndexFlatIP(16)
    index.add(vectors)
    fetched = []

    def search(query, k):
        if not 0 < k <= number:
            raise ValueError(f"asked for {k:,} rows of a table of {number:,}")
        if len(fetched) > 3_000:
            raise RuntimeError("it asks again and again; stop when the whole table was fetched")
        fetched.append(k)
        return index.search(np.reshape(query, (1, -1)), int(k))[1][0].tolist()

    sizes = {"half of the rows": 1_000, "one row in a hundred": 20, "three rows in all": 3}
    rows = {case: sorted(draw.choice(number, n, replace=False).tolist()) for case, n in sizes.items()}
    order = index.search(query[None], number)[1][0].tolist()
    rows["two rows, one of them the farthest of all"] = sorted([order[4], order[-1]])
    cases = {case: (allowed, 10) for case, allowed in rows.items()}
    cases["half of the rows, four wanted"] = rows["half of the rows"], 4
    wanted = {}
    for case, (allowed, k) in cases.items():
        best = faiss.knn(
            query[None], vectors[allowed], min(k, len(allowed)), metric=faiss.METRIC_INNER_PRODUCT
        )
        wanted[case] = [allowed[i] for i in best[1][0]]

    def answer(case):
        allowed, k = cases[case]
        fetched.clear()
        found = filtered(search, query, set(allowed), k, number)
        if len(allowed) == number / 2 and found is not None and sum(fetched) > number / 2:
            raise RuntimeError(
                f"it fetched {sum(fetched):,} rows where a few dozen hold {k} allowed ones; begin with few"
            )
        if found is not None and sum(fetched) > 4 * number:
            raise RuntimeError(
                f"it fetched {sum(fetched):,} rows in {len(fetched):,} calls, of a table of {number:,}; "
                "ask for twice as many each time"
            )
        return found

    judge(answer, wanted, "filtered", same=lambda got, expected: list(got) == expected)
