"""Checks of lesson 4; the judges are sentence-transformers and scikit-learn."""

from collections.abc import Callable

from helpers.exercises import array, close, judge, same_table, say_number, say_table


def mean_of_words(mean_of_words: Callable) -> None:
    """mean_of_words(token_vectors, mask) -> (batch, dim); the judge is the module Pooling on
    each row, cut by hand to its words."""
    import torch
    from sentence_transformers.sentence_transformer.modules import Pooling

    draw = torch.Generator().manual_seed(0)
    tokens = torch.randint(-9, 10, (3, 6, 2), generator=draw).float()
    cases = {
        "one row of [CLS], two words, [SEP]": (tokens[:1, :4], [4]),
        "two rows without padding": (tokens[:2], [6, 6]),
        "rows of 6, 4 and 3 real tokens": (tokens, [6, 4, 3]),
    }
    pooling = Pooling(2, pooling_mode="mean")

    def library(vectors, lengths, first=1, after_last=-1):
        rows = [row[None, first : n + after_last] for row, n in zip(vectors, lengths, strict=True)]
        features = [{"token_embeddings": r, "attention_mask": torch.ones(r.shape[:2])} for r in rows]
        return torch.cat([pooling(f)["sentence_embedding"] for f in features])

    def answer(name):
        vectors, lengths = cases[name]
        mask = (torch.arange(vectors.shape[1])[None] < torch.tensor(lengths)[:, None]).long()
        return mean_of_words(vectors.clone(), mask)

    wanted = {name: library(*case) for name, case in cases.items()}
    mistakes = {"[CLS] and [SEP] are still in it": (0, 0), "[SEP] is still in it": (1, 0)}
    mistakes["[CLS] is still in it"] = (0, -1)
    causes = [(library(*case, *cut), why) for why, cut in mistakes.items() for case in cases.values()]

    def say_cause(value):
        """The table, and what is wrong with it where that can be told."""
        shape = array(value).shape
        why = [why for table, why in causes if shape == table.shape and same_table(value, table)]
        return say_table(value) + (f" ({why[0]})" if why else "")

    judge(answer, wanted, "mean_of_words", same_table, say_cause)


def mean_cosine(mean_cosine: Callable) -> None:
    """mean_cosine(vectors) -> number; the judge is scikit-learn's cosine_similarity, and for what is
    held at once Python's tracemalloc, and the size of torch's tensors, which that does not see."""
    import tracemalloc

    import numpy as np
    from sklearn.metrics.pairwise import cosine_similarity

    draw = np.random.default_rng(0)
    many = "6,000 rows of float32, without the table of all their cosines"
    cases = {
        "[[1, 0], [1, 0], [0, 1]]": np.array([[1.0, 0], [1, 0], [0, 1]]),
        "[[1, 0], [0, 5]] (length must not matter)": np.array([[1.0, 0], [0, 5]]),
        "two opposite rows": np.array([[1.0, 2], [-1, -2]]),
        "50 rows in a narrow cone": draw.normal(size=(50, 8)) + 2,
        many: (draw.normal(size=(6_000, 2)) + 1).astype("f"),
    }

    def library(vectors):
        n = len(vectors)
        rows = (cosine_similarity(vectors[i : i + 500], vectors) for i in range(0, n, 500))
        return (sum(block.sum(dtype=float) for block in rows) - n) / (n * (n - 1))

    def answer(name):
        vectors, tensors = cases[name].copy(), _tensors()
        tracemalloc.start()
        try:
            with tensors:
                found = mean_cosine(vectors)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        if name != many or found is None:
            return found
        cells = len(vectors) ** 2
        if most > 3 * cells:  # bytes; a table of float32 has 4 * cells
            raise MemoryError(
                f"it held {most / 1e6:,.0f} MB at once, as a table does; the vectors have "
                f"{vectors.nbytes / 1e6:.2f} MB"
            )
        if tensors.largest > 0.4 * cells:  # half a table is too much
            raise MemoryError(
                f"it made a tensor of {tensors.largest:,} numbers; the vectors have {vectors.size:,}, "
                f"the table of all cosines {cells:,}"
            )
        return found

    wanted = {name: library(vectors) for name, vectors in cases.items()}
    judge(answer, wanted, "mean_cosine", close, say_number)


def _tensors():
    """A context that keeps how many numbers the largest tensor has that torch makes in it."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Tensors(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            for tensor in made if isinstance(made, tuple | list) else [made]:
                if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided:
                    # what lies in memory: a view has more numbers than that, or fewer
                    numbers = tensor.untyped_storage().nbytes() // tensor.element_size()
                    self.largest = max(self.largest, numbers)
            return made

    return Tensors()


def without_top(without_top: Callable) -> None:
    """without_top(vectors, k) -> array of the same shape; the judge is scikit-learn's PCA."""
    import numpy as np
    from sklearn.decomposition import PCA

    vectors = np.random.default_rng(0).normal(size=(40, 6)) * [9, 5, 3, 2, 1, 1] + 4
    line = np.array([[0.0, 1], [2, 1], [4, 4]])
    cases = {
        "[[0, 1], [2, 1], [4, 4]], k = 0": (line, 0),
        "[[0, 1], [2, 1], [4, 4]], k = 1": (line, 1),
        "40 vectors of 6 numbers, k = 2": (vectors, 2),
        "40 vectors of 6 numbers, k = 5": (vectors, 5),
    }

    def library(vectors, k):
        if k == 0:
            return vectors - vectors.mean(axis=0)
        top = PCA(n_components=k).fit(vectors)
        return vectors - top.inverse_transform(top.transform(vectors))

    wanted = {name: library(*case) for name, case in cases.items()}
    judge(
        lambda name: without_top(cases[name][0].copy(), cases[name][1]),
        wanted,
        "without_top",
        same_table,
        say_table,
    )
