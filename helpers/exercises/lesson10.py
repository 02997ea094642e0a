"""Checks of lesson 10; the judges are sentence-transformers' own losses."""

from collections.abc import Callable

from helpers.exercises import close, judge, same_table, say_number, say_table


def features(features: Callable) -> None:
    """features(u, v) -> (batch, 3 * dim); the judge is what SoftmaxLoss gives its classifier."""
    cases = {
        "u = [[1, 2]], v = [[3, -1]]": _tables([[1.0, 2.0]], [[3.0, -1.0]]),
        "three pairs of four numbers": _random(3, 4, 2),
        "the same vectors twice (their difference is 0)": [*_random(2, 3, 1)] * 2,
    }
    wanted = {name: _softmax_input(u, v) for name, (u, v) in cases.items()}
    judge(lambda name: features(*_copies(cases[name])), wanted, "features", same_table, say_table)


def multiple_negatives(multiple_negatives: Callable) -> None:
    """multiple_negatives(anchors, positives, negatives, scale) -> loss; the judge is
    MultipleNegativesRankingLoss."""
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    cases = {
        "two anchors, right ones near": (
            _tables([[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.2, 0.8]], [[-1.0, 0.0], [0.5, -1.0]]),
            1.0,
        ),
        "two anchors, scale 20": (
            _tables([[1.0, 0.0], [0.0, 1.0]], [[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.6], [0.6, 0.7]]),
            20.0,
        ),
        "five of six numbers (lengths differ: take cosines)": (_random(5, 6, 3), 20.0),
        "five of six numbers, scale 5": (_random(5, 6, 3), 5.0),
    }

    def library(tables, scale):
        return (
            MultipleNegativesRankingLoss(None, scale=scale).compute_loss_from_embeddings(tables, None).item()
        )

    wanted = {name: library(*case) for name, case in cases.items()}
    judge(
        lambda name: multiple_negatives(*_copies(cases[name][0]), cases[name][1]),
        wanted,
        "multiple_negatives",
        close,
        say_number,
    )


def cosent(cosent: Callable) -> None:
    """cosent(cosines, scores) -> loss; the judge is CoSENTLoss (scale 20)."""
    import torch
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    cases = {
        "cosines [0.9, 0.1], scores [5, 0] (the right order)": _tables([0.9, 0.1], [5.0, 0.0]),
        "cosines [0.1, 0.9], scores [5, 0] (the wrong order)": _tables([0.1, 0.9], [5.0, 0.0]),
        "cosines [0.3, 0.8, 0.5], scores [2, 2, 4] (a tie asks for nothing)": _tables(
            [0.3, 0.8, 0.5], [2.0, 2.0, 4.0]
        ),
        "six pairs": _tables([0.2, 0.9, 0.4, 0.6, -0.1, 0.5], [1.0, 4.5, 3.0, 2.5, 0.0, 3.0]),
        "cosines [0.5, 0.5], scores [3, 3] (nothing to order)": _tables([0.5, 0.5], [3.0, 3.0]),
    }

    def library(cosines, scores):
        loss = CoSENTLoss(None, similarity_fct=lambda a, b: a[:, 0])  # the cosines are given
        return loss.compute_loss_from_embeddings(
            [cosines[:, None], torch.zeros(len(cosines), 1)], scores
        ).item()

    wanted = {name: library(*case) for name, case in cases.items()}
    judge(lambda name: cosent(*_copies(cases[name])), wanted, "cosent", close, say_number)


def _softmax_input(u, v):
    """What SoftmaxLoss's classifier reads for the vectors u and v."""
    import torch
    from sentence_transformers.sentence_transformer.losses import SoftmaxLoss

    class Given(torch.nn.Module):
        """Gives the vectors it was given, as an encoder would."""

        device = torch.device("cpu")

        def forward(self, columns):
            return {"sentence_embedding": columns["vectors"]}

    loss, read = SoftmaxLoss(Given(), u.shape[1], num_labels=3), []
    loss.classifier.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    loss([{"vectors": u}, {"vectors": v}], torch.zeros(len(u), dtype=torch.long))
    return read[0]


def _tables(*rows):
    import torch

    return [torch.tensor(table) for table in rows]


def _random(n: int, dim: int, tables: int):
    import torch

    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, dim, generator=generator) for _ in range(tables)]


def _copies(tables):
    return [table.clone() for table in tables]
