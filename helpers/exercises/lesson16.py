"""Checks of lesson 16; the judges are torch, sentence-transformers and scipy."""

from collections.abc import Callable

from helpers.exercises import array, judge, same_table, say_table


def may_see(may_see: Callable) -> None:
    """may_see(mask) -> (batch, tokens, tokens) of True and False; the judge is torch's tril."""
    import torch

    masks = {
        "no padding": [[1, 1, 1]],
        "padding behind the text": [[1, 1, 0, 0], [1, 1, 1, 1]],
        "padding before the text": [[0, 1, 1]],
    }
    wanted = {}
    for name, mask in masks.items():
        real = torch.tensor(mask).bool()
        wanted[name] = torch.ones(*real.shape, real.shape[1], dtype=torch.bool).tril() & real[:, None, :]

    def same(got: object, expected: object) -> bool:
        """Whether the tables agree where a row is a token's: what a padded row sees is nobody's affair."""
        rows = expected.diagonal(dim1=1, dim2=2)  # a token sees itself, and padding is seen by none
        got, expected = array(got), array(expected)
        if got.shape != expected.shape:
            raise ValueError(f"its shape is {got.shape}, not {expected.shape}")
        kept = rows.numpy()
        return bool((got[kept] == expected[kept]).all())

    def says(value: object) -> str:
        return str(array(value).astype(int).tolist())

    judge(lambda name: may_see(torch.tensor(masks[name])), wanted, "may_see", same, says)


def pool_spans(pool_spans: Callable) -> None:
    """pool_spans(states, spans) -> (spans, width); the judge is sentence-transformers' Pooling."""
    import torch
    from sentence_transformers.sentence_transformer.modules import Pooling
    from torch.nn.functional import normalize

    draw = torch.Generator().manual_seed(0)
    pooling = Pooling(4, pooling_mode="mean")
    cases = {
        "one span of all": (torch.randn(5, 4, generator=draw), [(0, 5)]),
        "three spans, marks between them": (torch.randn(9, 4, generator=draw), [(1, 3), (4, 5), (5, 8)]),
        "a span of one token": (torch.randn(3, 4, generator=draw), [(2, 3)]),
    }

    def library(states: torch.Tensor, spans: list[tuple[int, int]]) -> torch.Tensor:
        places = torch.arange(len(states))
        masks = torch.stack([(places >= start) & (places < end) for start, end in spans]).long()
        batch = {"token_embeddings": states.expand(len(spans), -1, -1), "attention_mask": masks}
        return normalize(pooling(batch)["sentence_embedding"], dim=1)

    wanted = {name: library(*case) for name, case in cases.items()}
    judge(
        lambda name: pool_spans(cases[name][0].clone(), list(cases[name][1])),
        wanted,
        "pool_spans",
        same_table,
        say_table,
    )


def rotation(rotation: Callable) -> None:
    """rotation(a, b) -> (width, width); the judge is scipy's orthogonal_procrustes."""
    import numpy as np
    from scipy.linalg import orthogonal_procrustes

    draw = np.random.default_rng(0)
    turn = np.linalg.qr(draw.normal(size=(3, 3)))[0]
    exact = draw.normal(size=(6, 3))
    cases = {
        "a table and the same one turned": (exact, exact @ turn),
        "a table and another": (draw.normal(size=(8, 3)), draw.normal(size=(8, 3))),
        "two tables of different lengths of rows (a rotation stretches nothing)": (exact, 5 * exact @ turn),
    }
    wanted = {name: orthogonal_procrustes(a, b)[0] for name, (a, b) in cases.items()}
    judge(
        lambda name: rotation(*(table.copy() for table in cases[name])),
        wanted,
        "rotation",
        same_table,
        say_table,
    )
