"""Checks of lesson 14; the judges are sentence-transformers and torch."""

from collections.abc import Callable

from helpers.exercises import judge, same_table, say_table


def maxsim_all(maxsim_all: Callable) -> None:
    """maxsim_all(q, passages) -> (passages,); the judge is sentence-transformers' maxsim."""
    import torch
    from sentence_transformers.util import maxsim
    from torch.nn.functional import normalize

    draw = torch.Generator().manual_seed(0)

    def table(tokens: int) -> torch.Tensor:
        return normalize(torch.randn(tokens, 16, generator=draw), dim=1)

    cases = {
        "one passage": (table(3), [table(5)]),
        "three passages of different lengths": (table(4), [table(2), table(7), table(1)]),
        "only cosines below 0 (fill nothing up with zeros)": (table(1), []),
    }
    q = cases["only cosines below 0 (fill nothing up with zeros)"][0]
    cases["only cosines below 0 (fill nothing up with zeros)"] = (q, [-q, (-q).repeat(3, 1)])
    wanted = {name: maxsim([q], passages)[0] for name, (q, passages) in cases.items()}

    def answer(name: str):
        q, passages = cases[name]
        return maxsim_all(q.clone(), [p.clone() for p in passages])

    judge(answer, wanted, "maxsim_all", same_table, say_table)


def last_pool(last_pool: Callable) -> None:
    """last_pool(token_vectors, mask) -> (batch, dim); the judge is sentence-transformers' Pooling."""
    import torch
    from sentence_transformers.sentence_transformer.modules import Pooling

    pooling = Pooling(3, pooling_mode="lasttoken")
    draw = torch.Generator().manual_seed(0)
    masks = {
        "no padding": [[1, 1, 1, 1]],
        "padding behind the text": [[1, 1, 0, 0], [1, 1, 1, 1], [1, 0, 0, 0]],
        "padding before the text": [[0, 0, 1, 1], [1, 1, 1, 1]],
    }
    vectors = {name: torch.randn(len(m), 4, 3, generator=draw) for name, m in masks.items()}

    def library(name: str) -> torch.Tensor:
        batch = {"token_embeddings": vectors[name].clone(), "attention_mask": torch.tensor(masks[name])}
        return pooling(batch)["sentence_embedding"]

    wanted = {name: library(name) for name in masks}
    judge(
        lambda name: last_pool(vectors[name].clone(), torch.tensor(masks[name])),
        wanted,
        "last_pool",
        same_table,
        say_table,
    )


def ensemble(ensemble: Callable) -> None:
    """ensemble(captions) -> (classes, dim); the judge is torch's mean and normalize."""
    import torch
    from torch.nn.functional import normalize

    draw = torch.Generator().manual_seed(0)
    cases = {
        "one phrasing": normalize(torch.randn(3, 1, 4, generator=draw), dim=-1),
        "two classes, three phrasings": normalize(torch.randn(2, 3, 4, generator=draw), dim=-1),
        "phrasings that differ widely (bring the mean back to length 1)": torch.eye(4).view(2, 2, 4),
    }
    wanted = {name: normalize(captions.mean(dim=1), dim=-1) for name, captions in cases.items()}
    judge(lambda name: ensemble(cases[name].clone()), wanted, "ensemble", same_table, say_table)
