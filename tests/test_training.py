"""Training a pair of towers: the measures against scikit-learn and scipy, faults, checkpoints."""

import signal
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import cosine_similarity

from helpers import data, encoders, ranking, training

SMALL = {"width": 32, "layers": 1, "heads": 2, "out": 16, "dropout": 0.0}
TINY_BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


def small():
    return encoders.Encoder(**SMALL)


def pair(build=small):
    torch.manual_seed(0)
    return build(), build()


PAIRS = data.qa_pairs(part="train")[:16]


def test_padding_and_order_change_no_vector():
    encoder = small().eval()
    texts = [*PAIRS["question"], *PAIRS["answer"]]
    together = encoders.embed(encoder, texts)
    alone = torch.cat([encoders.embed(encoder, [text]) for text in texts])
    assert torch.allclose(together, alone, atol=1e-5)


def test_an_empty_text_is_named():
    with pytest.raises(ValueError, match="text 2 of 3 is empty"):
        encoders.embed(small(), ["one", " ", "three"])


def test_training_learns_its_pairs_and_one_seed_gives_one_result():
    towers = pair()
    losses = training.train(*towers, PAIRS, epochs=50, batch=16, lr=5e-3, scale=20, progress=False)
    assert losses[-1] < 0.5 < losses[0]
    assert ranking.score_pair(*towers, PAIRS)["recall@1"] == 1
    assert losses == training.train(*pair(), PAIRS, epochs=50, batch=16, lr=5e-3, scale=20, progress=False)


def test_sparse_updates_touch_the_rows_in_use_only():
    encoder, other = pair()
    before = encoder.tokens.weight.detach().clone()
    training.train(encoder, other, PAIRS, epochs=1, batch=16, lr=1e-3, progress=False)
    moved = (encoder.tokens.weight != before).any(dim=1).nonzero()[:, 0].tolist()
    used = {piece for row in encoders.tokenise(PAIRS["question"]) for piece in row}
    assert set(moved) <= used and len(moved) > 0.9 * len(used)


def test_the_loss_is_lesson_fives_and_echoes_are_extra_columns():
    towers = [e.eval() for e in pair()]
    rows = encoders.tokenise(PAIRS["question"]), encoders.tokenise(PAIRS["answer"])
    q, a, e = (
        encoders.embed(encoder, PAIRS[name])
        for encoder, name in [(towers[0], "question"), (towers[1], "answer"), (towers[1], "question")]
    )
    plain = training.batch_loss(*towers, *rows)
    assert plain.item() == pytest.approx(training.contrastive_loss(q @ a.T).item(), rel=1e-4)
    echoes = training.batch_loss(*towers, *rows, scale=20, echo=True)
    cosines = cosine_similarity(q[:, None], torch.cat([a, e])[None], dim=2)
    assert echoes.item() == pytest.approx(training.contrastive_loss(20 * cosines).item(), rel=1e-4)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_rate_rises_to_one_and_falls_to_nothing(warmup):
    shares = [training.rate(step, 100, warmup) for step in range(100)]
    assert max(shares) == pytest.approx(1, abs=0.02) and min(shares) > 0
    if warmup:
        peak = int(np.argmax(shares))
        assert shares[:peak] == sorted(shares[:peak])
        assert shares[peak:] == sorted(shares[peak:], reverse=True)
        assert shares[-1] < 0.03 and shares[0] <= 0.1


def test_one_number_more_leaves_the_rest_alone():
    torch.manual_seed(0)
    encoder, other = (encoders.TopicAndForm(start=s, config=TINY_BERT, layer=2) for s in (1.0, 0.0))
    topic = encoders.Pretrained(frozen=0, config=TINY_BERT)
    topic.bert = encoder.bert
    texts = list(PAIRS["question"])
    vectors = encoders.embed(encoder, texts)
    plain = torch.nn.functional.normalize(encoders.embed(topic, texts), dim=1)
    assert vectors.shape == (16, 17)
    assert torch.allclose(vectors[:, :16], plain, atol=1e-5)
    assert torch.equal(vectors[:, 16], torch.ones(16))
    weights = {name for name, w in encoder.named_parameters() if w.requires_grad}
    assert weights == {"form.weight", "form.bias"}
    before = {name: w.clone() for name, w in encoder.state_dict().items()}
    training.train(other, encoder, PAIRS, epochs=1, batch=16, lr=1e-2, scale=20, echo=True, progress=False)
    assert all(torch.equal(w, before[name]) for name, w in encoder.state_dict().items()), (
        "at the edge it stays"
    )
    before = {name: w.clone() for name, w in other.state_dict().items()}
    training.train(encoder, other, PAIRS, epochs=1, batch=16, lr=1e-2, scale=20, echo=True, progress=False)
    changed = {name for name, w in other.state_dict().items() if not torch.equal(w, before[name])}
    assert changed and changed <= weights


# --- any table ---------------------------------------------------------------------------------

HEADER = "questions\tanswers\n"
GOOD = "".join(f"what is {i}\tit is number {i}\n" for i in range(40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question\tanswers\nq\ta\n", "line 1: no column 'questions'"),
        (HEADER + "q\t\n" + GOOD, "line 2: column 'answers' is empty"),
        (HEADER + "q\n" + GOOD, "line 2: 1 columns where the first line has 2"),
        (HEADER, "has a header and no rows"),
        (HEADER + GOOD[:200], "are fewer than one batch of 32"),
        (HEADER.encode() + "wo wächst der Pfeffer\tin Indien\n".encode("latin-1"), "not UTF-8 text"),
        (HEADER + "q\t" + "a" * 2_000_000 + "\n" + GOOD, "2,000,000 characters"),
    ],
)
def test_a_bad_table_is_named_in_one_sentence_and_nothing_is_trained(tmp_path, text, message):
    file = tmp_path / "mine.tsv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    towers = pair()
    before = towers[0].project.weight.clone()
    with pytest.raises(ValueError) as caught:
        training.train(*towers, file, progress=False)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert torch.equal(towers[0].project.weight, before)


def test_someone_elses_table_trains(tmp_path):
    file = tmp_path / "mine.tsv"
    file.write_text(
        "id\tquestions\tanswers\n" + "".join(f"{i}\t{row}\n" for i, row in enumerate(GOOD.splitlines())),
        encoding="utf-8",
    )
    assert len(training.train(*pair(), file, epochs=1, batch=8, progress=False)) == 5
    frame = pd.DataFrame({"questions": ["a b"] * 8, "answers": ["c d"] * 8})
    assert len(training.train(*pair(), frame, epochs=1, batch=8, progress=False)) == 1
    with pytest.raises(ValueError, match="no column 'answer'"):
        training.train(*pair(), frame[["questions"]], progress=False)


def test_nothing_held_out_is_trained_on():
    train, test = data.qa_pairs(part="train"), data.qa_pairs(part="test")
    assert len(train) == 700 and len(test) == 300
    for column in ("question", "answer"):
        words = [
            {" ".join(encoders.tokenizer().tokenize(text)) for text in part[column]} for part in (train, test)
        ]
        assert not words[0] & words[1]


# --- stopping ----------------------------------------------------------------------------------


def test_the_keyboard_stops_at_the_end_of_a_step(capsys):
    towers, seen = pair(), []

    def interrupt(losses):
        seen.append(len(losses))
        if len(losses) == 2:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    losses = training.train(*towers, PAIRS, epochs=500, batch=16, progress=False, each_epoch=interrupt)
    assert 2 <= len(losses) < 10
    assert f"stopped after {len(losses)} of 500 steps" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGINT) is before
    assert not towers[0].training
    same = pair()
    training.train(*same, PAIRS, epochs=len(losses), batch=16, progress=False)
    for one, other in zip(towers, same, strict=True):
        assert torch.equal(encoders.embed(one, ["a word"]), encoders.embed(other, ["a word"]))


def test_it_trains_outside_the_main_thread_too():
    found = []
    thread = threading.Thread(
        target=lambda: found.append(training.train(*pair(), PAIRS, epochs=1, batch=16, progress=False))
    )
    thread.start()
    thread.join()
    assert len(found[0]) == 1


def test_bfloat16_is_seen_by_the_encoders_alone_and_the_loss_stays_near():
    seen = []
    towers = pair()
    towers[0].project.register_forward_hook(lambda module, given, found: seen.append(found.dtype))
    rows = encoders.tokenise(PAIRS["question"]), encoders.tokenise(PAIRS["answer"])
    whole, short = (training.batch_loss(*towers, *rows, scale=20, bfloat16=b) for b in (False, True))
    assert seen == [torch.float32, torch.bfloat16] and short.dtype == torch.float32
    assert short.item() != whole.item() and short.item() == pytest.approx(whole.item(), rel=0.02)
    training.train(*towers, PAIRS, epochs=1, batch=16, bfloat16=True, progress=False)
    assert {w.dtype for e in towers for w in e.parameters()} == {torch.float32}


def test_one_encoder_given_twice_is_trained_once():
    """Its weights go to Adam once, and it ends where torch's own step takes it."""
    torch.manual_seed(0)
    encoder = small()
    adam = training.optimizers(encoder, encoder, lr=1e-3)[0]
    given = [id(w) for group in adam.param_groups for w in group["params"]]
    assert len(given) == len(set(given)) == sum(1 for _ in encoder.parameters()) - 1  # but the sparse table
    before = encoder.project.weight.detach().clone()
    losses = training.train(encoder, encoder, PAIRS, batch=8, epochs=1, lr=1e-3, scale=20, progress=False)
    assert len(losses) == 2 and not torch.equal(before, encoder.project.weight)


def test_steps_end_the_loop_whatever_the_epochs():
    for steps in (1, 3, 5):  # an epoch has two
        losses = training.train(*pair(), PAIRS, batch=8, epochs=1, steps=steps, progress=False)
        assert len(losses) == steps


def test_steps_and_negatives_that_cannot_be_are_refused_before_any_step():
    towers = pair()
    before = towers[0].project.weight.detach().clone()
    for wrong, says in (
        ({"steps": 0}, "steps=0 trains nothing"),
        ({"steps": -3}, "steps=-3 trains nothing"),
        ({"epochs": 0}, "epochs=0 trains nothing"),
        ({"negatives": [[1]] * 15}, "15 rows for 16 pairs"),
        ({"seed": -1}, "seed=-1 is no seed"),
        ({"seed": "first"}, "seed='first' is no seed"),
        ({"seed": 2**32}, "is no seed; give a whole number from 0 to 4294967295"),
    ):
        with pytest.raises(ValueError, match=says):
            training.train(*towers, PAIRS, batch=8, progress=False, **wrong)
    assert torch.equal(before, towers[0].project.weight)


def test_negatives_are_wrong_answers_of_every_question_of_the_batch():
    questions, answers = (encoders.tokenise(PAIRS[name][:4]) for name in ("question", "answer"))
    more = encoders.tokenise(PAIRS["answer"][8:10])
    towers = [encoder.eval() for encoder in pair()]
    found = training.batch_loss(*towers, questions, answers, scale=20, negatives=more)
    q = encoders.embed(towers[0], PAIRS["question"][:4])
    p = encoders.embed(towers[1], [*PAIRS["answer"][:4], *PAIRS["answer"][8:10]])
    scores = 20 * cosine_similarity(q[:, None], p[None], dim=2)
    assert scores.shape == (4, 6)
    wanted = -scores.log_softmax(dim=1).diagonal().mean()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-4)
    plain = training.train(*pair(), PAIRS, batch=8, epochs=1, progress=False)
    mined = training.train(
        *pair(), PAIRS, batch=8, epochs=1, progress=False, negatives=[[(i + 1) % 16] for i in range(16)]
    )
    assert mined[0] > plain[0]  # one more passage a question to tell apart
