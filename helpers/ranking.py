"""Where the answers of held-out questions land in a ranking: lesson 6's ruler.

from helpers import ranking
places = ranking.ranks(questions, passages)     # vectors; passage i is right for question i; 1 for the best
ranking.measures(places)                        # recall@1, recall@10, MRR
ranking.reciprocal_ranks(question_encoder, answer_encoder, data.qa_pairs(part="test"))
ranking.score_pair(question_encoder, answer_encoder, data.qa_pairs(part="test"))
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    import pandas
    import torch


def ranks(
    questions: "torch.Tensor", passages: "torch.Tensor", right: "torch.Tensor | None" = None
) -> "torch.Tensor":
    """The place of the first right passage in the list for each question, 1 for the best: (n,).

    questions: (n, dim); passages: (m, dim). right: (n, m), True where a passage is right for a question, at
    least one for each (see `right_passages`); None: passage i is right for question i and no other.
    Of passages with the same score the right one counts as the last, so that an encoder that
    gives every text the same vector is not right by accident.
    """
    import torch

    scores = questions @ passages.T
    if right is None:
        right = torch.eye(len(questions), len(passages), dtype=torch.bool, device=scores.device)
    best = scores.masked_fill(~right, -torch.inf).max(dim=1, keepdim=True).values
    return (~right & ~(scores < best)).sum(dim=1) + 1


def right_passages(
    questions: Sequence[str], answers: Sequence[str], passages: Sequence[str]
) -> "torch.Tensor":
    """Which passages are right for which question, by their texts: (questions, passages), True or False.

    questions, answers: a row a pair. A passage is right for a question if any row has its text as that
    question's answer: one answer may be right for several questions, and one question have several.
    """
    import torch

    place = {text: number for number, text in enumerate(passages)}
    asked: dict[str, list[int]] = {}
    for question, answer in zip(questions, answers, strict=True):
        asked.setdefault(question, []).append(place[answer])
    right = torch.zeros(len(questions), len(passages), dtype=torch.bool)
    for row, question in enumerate(questions):
        right[row, asked[question]] = True
    return right


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
    question_encoder, answer_encoder, pairs: "pandas.DataFrame", echoes: bool = False, length: int = 64
) -> "numpy.ndarray":
    """1 over the place of each question's answer among all answers: (questions,); their mean is the MRR.

    pairs: as `data.as_pairs` takes them; raises as it does. What is judged is the text, not the row: an
    answer that stands in several rows is one passage, right for the questions of all of them.
    echoes: the questions themselves also stand among the passages. length: in pieces, see
    `encoders.tokenise`. Vectors are compared by cosine.
    """
    return (1 / _places(question_encoder, answer_encoder, pairs, echoes, length).double()).numpy()


def score_pair(question_encoder, answer_encoder, pairs: "pandas.DataFrame") -> dict[str, float]:
    """recall@1, recall@10, MRR over the pairs' answers, the same with every question's echo
    among the passages ("recall@1 with echoes", ...), and "echo first": how often the question's
    own echo scores above its answer. Vectors are compared by cosine."""
    from torch.nn.functional import normalize

    from helpers.encoders import embed

    both = (question_encoder, answer_encoder, pairs)
    questions = normalize(embed(question_encoder, pairs["question"]), dim=1)
    answers, echoes = (normalize(embed(answer_encoder, pairs[c]), dim=1) for c in ("answer", "question"))
    ahead = (questions * echoes).sum(1) > (questions * answers).sum(1)
    return (
        measures(_places(*both, echoes=False))
        | {f"{name} with echoes": value for name, value in measures(_places(*both, echoes=True)).items()}
        | {"echo first": ahead.double().mean().item()}
    )


def _places(question_encoder, answer_encoder, pairs, echoes: bool, length: int = 64) -> "torch.Tensor":
    from torch.nn.functional import normalize

    from helpers.data import as_pairs
    from helpers.encoders import embed

    pairs = as_pairs(pairs)
    passages = list(dict.fromkeys([*pairs["answer"], *(pairs["question"] if echoes else [])]))
    questions = normalize(embed(question_encoder, pairs["question"], length), dim=1)
    right = right_passages(pairs["question"], pairs["answer"], passages)
    return ranks(questions, normalize(embed(answer_encoder, passages, length), dim=1), right)
