"""Where the answers of held-out questions land in a ranking: lesson 6's ruler.

from helpers import ranking
places = ranking.ranks(questions, passages)     # vectors, the answers first; 1 for the best
ranking.measures(places)                        # recall@1, recall@10, MRR
ranking.reciprocal_ranks(question_encoder, answer_encoder, data.qa_pairs(part="test"))
ranking.score_pair(question_encoder, answer_encoder, data.qa_pairs(part="test"))
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    import pandas
    import torch


def ranks(questions: "torch.Tensor", passages: "torch.Tensor") -> "torch.Tensor":
    """The place of passage i in the list for question i, 1 for the best.

    questions: (n, dim); passages: (m, dim), m >= n, the answers first and in the questions' order.
    Of passages with the same score the answer counts as the last, so that an encoder that
    gives every text the same vector is not right by accident.
    """
    scores = questions @ passages.T
    own = scores.diagonal().unsqueeze(1)
    return (~(scores < own)).sum(dim=1)


def chance(n: int) -> dict[str, float]:
    """recall@1, recall@10 and MRR of a random order of n passages."""
    return {"recall@1": 1 / n, "recall@10": min(10, n) / n, "MRR": sum(1 / r for r in range(1, n + 1)) / n}


def measures(ranks: "torch.Tensor") -> dict[str, float]:
    """recall@1, recall@10 and mean reciprocal rank of the ranks."""
    ranks = ranks.double()
    return {
        "recall@1": (ranks == 1).double().mean().item(),
        "recall@10": (ranks <= 10).double().mean().item(),
        "MRR": (1 / ranks).mean().item(),
    }


def reciprocal_ranks(
    question_encoder, answer_encoder, pairs: "pandas.DataFrame", echoes: bool = False
) -> "numpy.ndarray":
    """1 over the place of each question's answer among all answers: (questions,); their mean is the MRR.

    pairs: as `data.as_pairs` takes them; raises as it does.
    echoes: the questions themselves also stand among the passages. Vectors are compared by cosine.
    """
    from torch.nn.functional import normalize

    from helpers.data import as_pairs
    from helpers.encoders import embed

    pairs = as_pairs(pairs)
    questions = normalize(embed(question_encoder, pairs["question"]), dim=1)
    texts = [*pairs["answer"], *(pairs["question"] if echoes else [])]
    places = ranks(questions, normalize(embed(answer_encoder, texts), dim=1))
    return (1 / places.double()).numpy()


def score_pair(question_encoder, answer_encoder, pairs: "pandas.DataFrame") -> dict[str, float]:
    """recall@1, recall@10, MRR over the pairs' answers, the same with every question's echo
    among the passages ("recall@1 with echoes", ...), and "echo first": how often the question's
    own echo scores above its answer. Vectors are compared by cosine."""
    import torch
    from torch.nn.functional import normalize

    from helpers.encoders import embed

    questions = normalize(embed(question_encoder, pairs["question"]), dim=1)
    answers = normalize(embed(answer_encoder, pairs["answer"]), dim=1)
    echoes = normalize(embed(answer_encoder, pairs["question"]), dim=1)
    with_echoes = measures(ranks(questions, torch.cat([answers, echoes])))
    ahead = (questions * echoes).sum(1) > (questions * answers).sum(1)
    return (
        measures(ranks(questions, answers))
        | {f"{name} with echoes": value for name, value in with_echoes.items()}
        | {"echo first": ahead.double().mean().item()}
    )
