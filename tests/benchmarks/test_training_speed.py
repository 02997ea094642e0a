"""Steps a second of the course's training loop against the published one, in one run.

Both train the published architecture on the same batches with the same seed. The published loop
tokenises each batch anew, pads it to its longest text, and gives all rows of the token table
to dense Adam. Ours tokenises once, updates the rows in use, and multiplies in bfloat16 where the
processor can; where it cannot, less is asked of the ratio. Not part of `make test`.
"""

import time

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer

from helpers import data, encoders, machine, models, training

STEPS, BATCH, LENGTH, RATE = 20, 32, 64, 1e-5


class PublishedEncoder(encoders.Encoder):
    """The same network, its table with dense gradients."""

    def __init__(self):
        super().__init__()
        self.tokens = torch.nn.Embedding.from_pretrained(self.tokens.weight.detach(), freeze=False)


def published_loop(pairs, batches):
    tokenizer = AutoTokenizer.from_pretrained(models.path(encoders.MINILM, quiet=True))
    torch.manual_seed(0)
    towers = PublishedEncoder(), PublishedEncoder()
    torch.manual_seed(0)
    optimizer = torch.optim.Adam([p for e in towers for p in e.parameters()], lr=RATE)
    losses, times = [], []
    for rows in batches:
        start = time.perf_counter()
        vectors = []
        for encoder, column in zip(towers, ("question", "answer"), strict=True):
            texts = list(pairs[column].iloc[rows])
            found = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
            vectors.append(encoder(found["input_ids"], found["attention_mask"].bool()))
        loss = cross_entropy(vectors[0] @ vectors[1].T, torch.arange(len(rows)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        times.append(time.perf_counter() - start)
    return losses, times


def course_loop(pairs):
    torch.manual_seed(0)
    towers = encoders.Encoder(), encoders.Encoder()
    times = [time.perf_counter()]
    losses = training.train(
        *towers,
        pairs,
        epochs=1,
        batch=BATCH,
        lr=RATE,
        progress=False,
        each_epoch=lambda _: times.append(time.perf_counter()),
    )
    return losses, times[1] - times[0]


def test_the_courses_loop_is_twice_as_fast_and_its_losses_are_the_same():
    pairs = data.qa_pairs(part="train")[: STEPS * BATCH]
    order = torch.Generator().manual_seed(0)
    batches = [rows.tolist() for rows in torch.randperm(len(pairs), generator=order).split(BATCH)]
    ratios, means = [], []
    for _ in range(2):
        losses, times = published_loop(pairs, batches)
        ours, took = course_loop(pairs)
        assert len(ours) == len(losses) == STEPS
        ratios.append(sum(times) / took)
        means.append((np.mean(losses), np.mean(ours)))
    print(f"\nthe course's loop makes {np.median(ratios):.1f} steps in the time of one published step")
    print(f"mean loss of {STEPS} steps: published {means[0][0]:.3f}, ours {means[0][1]:.3f}")
    print(f"bfloat16: {'yes' if machine.bfloat16_pays() else 'not on this processor'}")
    assert np.median(ratios) >= (2 if machine.bfloat16_pays() else 1.2)
    assert abs(means[0][1] / means[0][0] - 1) < 0.02
