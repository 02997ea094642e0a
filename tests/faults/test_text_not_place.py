"""What is judged and trained on is the text, not its row: a shared answer is right wherever it stands."""

import pandas as pd
import pytest
import torch
from test_training import pair
from torch.nn.functional import cosine_similarity

from helpers import encoders, ranking, tasks, training

FAQ = pd.DataFrame(
    {
        "question": [
            "opening hours",
            "when do you open",
            "is there parking",
            "may I bring a dog",
            "may I bring a dog",
        ],
        "answer": [
            "from nine to five",
            "from nine to five",
            "behind the house",
            "on a leash",
            "small ones only",
        ],
    }
)


def towers():
    torch.manual_seed(1)
    return [encoder.eval() for encoder in pair()]


def test_a_passage_is_right_for_every_question_that_has_its_text():
    passages = ["from nine to five", "behind the house", "on a leash", "small ones only", "never"]
    right = ranking.right_passages(FAQ["question"], FAQ["answer"], passages)
    wanted = [[1, 0, 0, 0, 0], [1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 0, 1, 1, 0]]
    assert right.int().tolist() == wanted


def test_an_encoder_that_finds_every_answer_has_recall_one(monkeypatch):
    """Each text is as near to its answers as can be; an encoder could do no better."""
    own = {
        text: torch.eye(3)[i]
        for texts, i in zip(
            (FAQ["question"][:2], FAQ["question"][2:3], FAQ["question"][3:]), range(3), strict=True
        )
        for text in texts
    }
    own |= {text: torch.eye(3)[i] for text, i in zip(FAQ["answer"], (0, 0, 1, 2, 2), strict=True)}
    monkeypatch.setattr(
        encoders, "embed", lambda side, texts, length=64: torch.stack([own[t] for t in texts])
    )
    assert ranking.reciprocal_ranks(None, None, FAQ).tolist() == [1] * 5
    assert ranking.score_pair(None, None, FAQ)["recall@1"] == 1


def test_a_ranking_of_several_right_ones_begins_at_the_best_of_them():
    questions = torch.tensor([[1.0, 0.0]])
    passages = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.8, 0.2], [0.1, 0.9]])
    for right, place in (([1, 0, 0, 1], 1), ([0, 1, 0, 1], 3), ([0, 0, 0, 1], 4), ([1, 1, 1, 1], 1)):
        assert ranking.ranks(questions, passages, torch.tensor([right]).bool()).tolist() == [place]
    tied = torch.tensor([[0.9, 0.1], [0.9, 0.1]])
    assert ranking.ranks(questions, tied, torch.tensor([[1, 0]]).bool()).tolist() == [2], (
        "a tie is no success"
    )
    assert ranking.ranks(questions, tied, torch.tensor([[1, 1]]).bool()).tolist() == [1]


@pytest.mark.parametrize("echo", [False, True])
def test_a_right_text_in_another_row_is_no_wrong_answer(echo):
    asks, tells = towers()
    rows = [encoders.tokenise(FAQ[side]) for side in ("question", "answer")]
    more = encoders.tokenise(["on a leash", "never"])
    found = training.batch_loss(asks, tells, *rows, scale=20, echo=echo, negatives=more)
    passages = [*FAQ["answer"], *(FAQ["question"] if echo else []), "on a leash", "never"]
    q, p = encoders.embed(asks, FAQ["question"]), encoders.embed(tells, passages)
    scores, losses = 20 * cosine_similarity(q[:, None], p[None], dim=2), []
    for row, question in enumerate(FAQ["question"]):
        answers = set(FAQ["answer"][FAQ["question"] == question])
        kept = [place for place, text in enumerate(passages) if place == row or text not in answers]
        losses.append(-scores[row, kept].log_softmax(0)[kept.index(row)])
    assert found.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)
    assert found.item() < training.contrastive_loss(scores).item() - 0.1, "the texts told twice would count"


def test_texts_told_once_have_lesson_fives_loss():
    asks, tells = towers()
    once = FAQ.drop_duplicates("question").drop_duplicates("answer")
    rows = [encoders.tokenise(once[side]) for side in ("question", "answer")]
    q, a = encoders.embed(asks, once["question"]), encoders.embed(tells, once["answer"])
    found = training.batch_loss(asks, tells, *rows)
    assert found.item() == pytest.approx(training.contrastive_loss(q @ a.T).item(), rel=1e-4)


def test_the_tasks_of_lesson_eleven_judge_by_text():
    rows = tasks.questions_and_answers(FAQ)
    corpus = {row["id"]: row["text"] for row in rows["corpus"]}
    queries = {row["id"]: row["text"] for row in rows["queries"]}
    assert sorted(corpus.values()) == sorted(set(FAQ["answer"])) and sorted(queries.values()) == sorted(
        set(FAQ["question"])
    )
    for number, judged in rows["relevant_docs"].items():
        answers = set(FAQ["answer"][FAQ["question"] == queries[number]])
        assert {corpus[passage] for passage, grade in judged.items() if grade} == answers
