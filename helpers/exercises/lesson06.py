"""Checks of lesson 6; the judges are torch and scipy."""

import math
from collections.abc import Callable

from helpers.exercises import judge


def chance_loss(chance_loss: Callable) -> None:
    """chance_loss(batch, negatives) -> loss; the judge is torch's cross_entropy of equal scores."""
    import torch

    cases = {
        f"batch={batch}, negatives={negatives}": (batch, negatives)
        for batch, negatives in [(2, 0), (32, 0), (32, 1), (48, 7)]
    }

    def library(batch, negatives):
        scores = torch.zeros(batch, batch + batch * negatives)
        return torch.nn.functional.cross_entropy(scores, torch.arange(batch)).item()

    wanted = {name: library(*case) for name, case in cases.items()}
    judge(
        lambda name: chance_loss(*cases[name]),
        wanted,
        "chance_loss",
        lambda got, expected: math.isclose(float(got), expected, rel_tol=1e-4),
        lambda value: f"{float(value):.4f}",
    )


# rows 2 and 3 belong together, and rows 0, 10 and 11: the last joins two groups that are there already
QUESTIONS = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "a"]
ANSWERS = ["1", "2", "3", "3", "4", "5", "6", "7", "8", "9", "10", "10"]


def split(split: Callable) -> None:
    """split(questions, answers, share, seed) -> (rows to train, rows to test); the judge of what
    must stay together is scipy's connected_components."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    def groups(questions, answers):
        n = len(questions)
        pairs = [
            (i, j)
            for i in range(n)
            for j in range(i)
            if questions[i] == questions[j] or answers[i] == answers[j]
        ]
        rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
        graph = coo_array(([1] * len(pairs), (rows, columns)), shape=(n, n))
        return connected_components(graph, directed=False)[1]

    def problem(train, test, questions, answers, share):
        """What is wrong with a split, or None."""
        rows = sorted([*train, *test])
        if rows != list(range(len(questions))):
            return "does not give every row once"
        sides = {}
        for side, part in (("train", train), ("test", test)):
            for row in part:
                sides.setdefault(groups(questions, answers)[row], set()).add(side)
        torn = [g for g, found in sides.items() if len(found) > 1]
        if torn:
            together = [i for i, g in enumerate(groups(questions, answers)) if g == torn[0]]
            return f"parts rows {together}, which share questions or answers"
        if abs(len(train) / len(questions) - share) > (0.1 if len(questions) > 20 else 0.25):
            return f"puts {len(train)} of {len(questions)} rows in training, where share is {share}"
        return None

    # of every three rows the last shares its question with the first and its answer with the second
    many = (
        [f"question {i - 2 * (i % 3 == 2)}" for i in range(60)],
        [f"answer {i - i % 3 // 2}" for i in range(60)],
    )
    cases = {
        "twelve rows, share 0.7": (QUESTIONS, ANSWERS, 0.7),
        "twelve rows, share 0.3": (QUESTIONS, ANSWERS, 0.3),
        "sixty rows, three and three together, share 0.7": (*many, 0.7),
    }
    for name, (questions, answers, share) in cases.items():
        found = []
        for seed in (0, 1, 2):
            try:
                got, again = (split(list(questions), list(answers), share, seed) for _ in range(2))
            except Exception as e:  # whatever the reader's own code raises is the message
                print(f"Not yet: split of {name} stopped with {type(e).__name__}: {e}")
                return
            if got is None or got is ...:
                print(
                    f"Not yet written: split of {name} should give two lists of row numbers; it gives {got}."
                )
                return
            try:
                train, test = ([int(row) for row in part] for part in got)
            except Exception:  # whatever was given instead
                print(f"Not yet: split of {name} should give two lists of row numbers; it gives {got!r}.")
                return
            wrong = problem(train, test, questions, answers, share)
            if wrong:
                print(f"Not yet: split of {name} {wrong}.")
                return
            found.append(sorted(test))
            if sorted(map(int, again[1])) != found[-1]:
                print(f"Not yet: split of {name} is another one when the same seed, {seed}, is given again.")
                return
        if found[0] == found[1] == found[2]:
            print(f"Not yet: split of {name} is the same for the seeds 0, 1 and 2.")
            return
    print(f"Right: nothing stands in both parts, in {len(cases)} tables and three seeds of each.")


def hard_negatives(hard_negatives: Callable) -> None:
    """hard_negatives(questions, answers, k) -> (questions, k) rows; the judge is torch's topk."""
    import torch

    torch.manual_seed(0)
    tables = {n: (torch.randn(n, 8), torch.randn(n, 8) * torch.rand(n, 1) * 5) for n in (3, 20)}
    cases = {"3 pairs, k=1": (3, 1), "3 pairs, k=2": (3, 2), "20 pairs, k=5": (20, 5)}

    def library(n, k):
        questions, answers = (torch.nn.functional.normalize(t, dim=1) for t in tables[n])
        return (questions @ answers.T).fill_diagonal_(-torch.inf).topk(k).indices

    wanted = {name: library(*case) for name, case in cases.items()}

    def answer(name):
        n, k = cases[name]
        return hard_negatives(*(t.clone() for t in tables[n]), k)

    judge(
        answer,
        wanted,
        "hard_negatives",
        lambda got, expected: torch.equal(torch.as_tensor(got).double(), expected.double()),
        lambda value: str(torch.as_tensor(value).tolist()),
    )
