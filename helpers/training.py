"""Train two encoders to find answers: lesson 6's loop, for whoever needs it again.

    from helpers import data, encoders, training
    questions, answers = encoders.Encoder(), encoders.Encoder()
    losses = training.train(questions, answers, data.qa_pairs(part="train"), lr=1e-4, scale=20)

`train` is the lesson's own; a test proves the two the same. This module adds what the lesson need not
show: hard negatives, echoes (lesson 7), several processes (scripts/train_retriever.py), and a stop from the
keyboard at the end of a step.
"""

import math
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import cross_entropy, normalize

from helpers import data, encoders, machine, processes

if TYPE_CHECKING:
    import pandas


def contrastive_loss(scores: torch.Tensor, first: int = 0) -> torch.Tensor:
    """Lesson 5's loss: cross-entropy, the right passage of row i in column first + i.

    scores: (questions, passages).
    """
    return cross_entropy(scores, torch.arange(len(scores), device=scores.device) + first)


def batch_loss(
    question_encoder, answer_encoder, questions, answers, scale=None, echo=False, bfloat16=False, negatives=()
) -> torch.Tensor:
    """The loss of one batch of tokenised questions and answers.

    scale: None for plain dot products, else vectors of length 1 and cosines times scale.
    echo: every question of the batch is also among the passages.
    negatives: tokenised passages that are wrong for every question of the batch.
    bfloat16: the encoders multiply in bfloat16; scores and loss stay in float32.
    A passage that is right for a question by its text, though it stands in another row (one answer to two
    questions, two answers to one), is not among that question's wrong ones.
    Under torchrun the passages of all processes stand in each one's list, with gradients.
    """
    device = next(question_encoder.parameters()).device
    listed = [answers] + ([questions] if echo else []) + ([negatives] if negatives else [])
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        q = question_encoder(*encoders.pad(questions, device))
        passages = [answer_encoder(*encoders.pad(part, device)) for part in listed]
    q, p = q.float(), torch.cat([processes.gather(part.float()) for part in passages])
    if scale:
        q, p = normalize(q, dim=1), normalize(p, dim=1) * scale
    first = processes.rank() * len(q)
    right = right_elsewhere(questions, listed, first, device)
    return contrastive_loss((q @ p.T).masked_fill(right, -torch.inf), first)


def right_elsewhere(questions, listed, first: int, device) -> torch.Tensor:
    """Which passages are right for a question besides its own answer: (questions, passages), True or False.

    questions: tokenised texts; listed: lists of tokenised passages, the answers first. All are this
    process's; the passages are those of all processes, list after list, this one's answers from column
    `first` on.
    """
    asked, told, *more = (
        processes.gather(torch.tensor([hash(tuple(row)) for row in rows], dtype=torch.int64, device=device))
        for rows in (questions, *listed)
    )  # equal texts have equal pieces, and those equal hashes
    rows = torch.arange(len(questions))
    same_question = asked[first + rows].unsqueeze(1) == asked  # (questions, all questions)
    same_answer = told.unsqueeze(1) == torch.cat([told, *more])  # (all answers, passages)
    right = same_question.float() @ same_answer.float() > 0
    right[rows, first + rows] = False
    return right


def of_seed(seed: int) -> int:
    """The seed, where every library here takes it; else ValueError."""
    if not isinstance(seed, Integral) or not 0 <= seed < 2**32:
        raise ValueError(f"seed={seed!r} is no seed; give a whole number from 0 to {2**32 - 1}")
    return seed


def optimizers(*encoders: torch.nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Adam for all that is trained; for a table with sparse gradients, Adam on the rows in use."""
    encoders = dict.fromkeys(encoders)  # one encoder may be both
    tables = [
        m.weight
        for e in encoders
        for m in e.modules()
        if isinstance(m, torch.nn.Embedding) and m.sparse and m.weight.requires_grad
    ]
    sparse = {id(t) for t in tables}
    rest = [p for e in encoders for p in e.parameters() if p.requires_grad and id(p) not in sparse]
    found = [torch.optim.Adam(rest, lr=lr, fused=True)]
    return found + ([torch.optim.SparseAdam(tables, lr=lr)] if tables else [])


def rate(step: int, steps: int, warmup: float) -> float:
    """Share of the learning rate at a step: all of it without warm-up; with it, a rise over the
    first `warmup` of the steps and a fall to nothing at the end."""
    if not warmup:
        return 1.0
    return min(1.0, (step + 1) / (warmup * steps), (steps - step) / (steps - warmup * steps))


def train(
    question_encoder: torch.nn.Module,
    answer_encoder: torch.nn.Module,
    pairs: "pandas.DataFrame | str | Path",
    epochs: int = 2,
    batch: int = 32,
    lr: float = 1e-5,
    warmup: float = 0.0,
    scale: float | None = None,
    echo: bool = False,
    length: int = 64,
    seed: int = 0,
    bfloat16: bool | None = None,
    progress: bool = True,
    each_epoch: Callable[[list[float]], None] | None = None,
    steps: int | None = None,
    negatives: Sequence[Sequence[int | str]] | None = None,
) -> list[float]:
    """Train both encoders in place; return the loss of every step.

    The two may be one encoder, given twice.
    pairs: a table with the columns `questions` and `answers`, or a DataFrame as `data.qa_pairs`
    gives. batch: of all processes together. warmup, scale, echo, bfloat16: see `rate`,
    `batch_loss`; bfloat16 as None is `machine.bfloat16_pays`.
    steps: stop after so many, in place of `epochs`. negatives: for each pair the rows of further
    answers that are wrong for it, or texts that are; those of a batch are wrong for all its questions.
    An epoch is len(pairs) // batch whole batches in random order; after each one `each_epoch` is
    called with the losses so far. The keyboard's interrupt stops after the step that is running;
    the encoders are then as that step left them.
    Runs on the device that the encoders are on. Raises ValueError in one sentence for pairs
    that cannot be read (see `tables.read`) or that are fewer than a batch, and for numbers that train
    nothing; FloatingPointError where a loss is no number. One printed line says how many texts are cut.
    """
    from tqdm.auto import tqdm

    pairs = data.as_pairs(pairs)
    if steps is None and epochs < 1:
        raise ValueError(f"epochs={epochs} trains nothing; give at least 1, or steps")
    if steps is not None and steps < 1:
        raise ValueError(f"steps={steps} trains nothing; give at least 1, or epochs")
    if not 0 < lr < float("inf"):
        raise ValueError(f"lr={lr} trains nothing; give a number above 0, such as 1e-4")
    if batch < 2:
        raise ValueError(f"batch={batch} leaves no wrong answers to learn from; give at least 2")
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup={warmup} is no share of the steps; give 0 or more, below 1")
    if scale is not None and not 0 < scale < float("inf"):
        raise ValueError(f"scale={scale} makes no score; give a number above 0, or None")
    of_seed(seed)
    if len(pairs) < batch:
        raise ValueError(
            f"{len(pairs)} pairs are fewer than one batch of {batch}; give more pairs or a smaller batch"
        )
    if negatives is not None and len(negatives) != len(pairs):
        raise ValueError(
            f"negatives has {len(negatives)} rows for {len(pairs)} pairs; give one list for each pair"
        )
    if batch % processes.world():
        raise ValueError(f"a batch of {batch} cannot be shared by {processes.world()} processes evenly")
    questions, answers = (encoders.tokenise(pairs[name], length) for name in ("question", "answer"))
    if processes.rank() == 0 and (cut := encoders.said_of_cut(pairs, length)):
        print(cut)
    further = sorted({text for row in negatives or () for text in row if isinstance(text, str)})
    told = dict(zip(further, encoders.tokenise(further, length) if further else (), strict=True))
    if bfloat16 is None:
        bfloat16 = machine.bfloat16_pays(next(question_encoder.parameters()).device)
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    found = optimizers(question_encoder, answer_encoder, lr=lr)
    steps, losses, mine = steps or epochs * (len(pairs) // batch), [], batch // processes.world()
    question_encoder.train()
    answer_encoder.train()
    bar = tqdm(total=steps, desc="steps", disable=not progress or processes.rank() > 0)
    with bar, _stop_at_the_end_of_a_step() as stop:
        while len(losses) < steps and not stop.is_set():
            rows = torch.randperm(len(pairs), generator=order)
            for chosen in rows[: len(pairs) // batch * batch].split(batch):
                chosen = chosen[processes.rank() * mine : (processes.rank() + 1) * mine].tolist()
                for optimizer in found:
                    optimizer.zero_grad()
                    for group in optimizer.param_groups:
                        group["lr"] = lr * rate(len(losses), steps, warmup)
                loss = batch_loss(
                    question_encoder,
                    answer_encoder,
                    [questions[i] for i in chosen],
                    [answers[i] for i in chosen],
                    scale,
                    echo,
                    bfloat16,
                    [
                        told[i] if isinstance(i, str) else answers[i]
                        for row in chosen
                        for i in (negatives[row] if negatives is not None else ())
                    ],
                )
                value = processes.mean(loss.detach().clone())
                if not math.isfinite(value):
                    raise FloatingPointError(
                        f"the loss of step {len(losses) + 1} is {value}, so training stopped; the encoders are "
                        "as the step before left them. Try a smaller learning rate"
                    )
                (loss / processes.world()).backward()
                processes.add_up_gradients(found)
                for optimizer in found:
                    optimizer.step()
                losses.append(value)
                bar.update()
                bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
                if stop.is_set() or len(losses) == steps:
                    break
            if each_epoch:
                each_epoch(losses)
    if len(losses) < steps:
        print(f"stopped after {len(losses)} of {steps} steps; the encoders are as they were then")
    for optimizer in found:
        optimizer.zero_grad()  # the last step's gradients are as large as what was trained
    question_encoder.eval()
    answer_encoder.eval()
    return losses


@contextmanager
def _stop_at_the_end_of_a_step():
    """An event that the keyboard's interrupt sets, instead of breaking into a step."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread only
        return
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
