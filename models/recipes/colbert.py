"""Train the ColBERT stand-in: one encoder, a vector for every token, scores by MaxSim.

    python models/recipes/colbert.py --pairs FILE --work DIR --out DIR

After Khattab and Zaharia, "ColBERT" (2020): all-MiniLM-L6-v2 with a low-rank adapter encodes
questions and passages alike; a marker behind [CLS] ([unused0] or [unused1]) tells them apart; a
projection makes 128 numbers of each token's state, scaled to length 1. A question is filled up to
32 tokens with [MASK], which the other tokens do not look at but which have vectors of their own;
punctuation of a passage is left out. The score adds up, over the question's tokens, the largest
cosine with a token of the passage.

Cross-entropy over the batch: answers, one near miss a question (BM25, MiniLM, the same article)
and the questions themselves, as wrong passages. As in dpr.py a part of the target is
MiniLM's own opinion, and the course's own training rows stand in more often. The weights that are
best on the development part are kept. Runs on a CPU or a GPU as found; stop it with the keyboard
and start it again, and it goes on after the last saved step.
"""

import argparse
import json
import pathlib
import signal
import string
import time

import numpy as np
import questions
import torch
from bert import cast
from dpr import batches, build
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from questions import export as export_adapter
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from helpers import files

DIM, QUERY, LONGEST = 128, 32, 96
SETTINGS = {
    "query_token_id": "[unused0]",
    "doc_token_id": "[unused1]",
    "query_token": "[Q]",
    "doc_token": "[D]",
    "dim": DIM,
    "similarity": "cosine",
    "query_maxlen": QUERY,
    "doc_maxlen": 180,
    "mask_punctuation": True,
    "attend_to_mask_tokens": False,
}


def coded(tokenizer, texts, marker, length, fill=False):
    """(ids, attention, counted): [CLS] marker text [SEP], padded; with `fill`, to `length` by [MASK].

    attention is 1 for tokens that are looked at; counted is True for tokens whose vector counts.
    """
    rows = tokenizer(texts, truncation=True, max_length=length - 1).input_ids
    mark = tokenizer.convert_tokens_to_ids(marker)
    rows = [torch.tensor([row[0], mark, *row[1:]]) for row in rows]
    longest = length if fill else max(map(len, rows))
    ids = torch.full((len(rows), longest), tokenizer.mask_token_id if fill else tokenizer.pad_token_id)
    attention = torch.zeros_like(ids)
    for k, row in enumerate(rows):
        ids[k, : len(row)], attention[k, : len(row)] = row, 1
    if fill:
        return ids, attention, torch.ones_like(ids, dtype=torch.bool)
    marks = torch.tensor(tokenizer.convert_tokens_to_ids(list(string.punctuation)))
    return ids, attention, attention.bool() & ~torch.isin(ids, marks)


class ColBERT(torch.nn.Module):
    def __init__(self, rank):
        super().__init__()
        self.bert = build(rank)
        self.linear = torch.nn.Linear(self.bert.config.hidden_size, DIM, bias=False)

    def forward(self, ids, attention):
        """(batch, tokens, 128), each of length 1."""
        states = self.bert(input_ids=ids, attention_mask=attention).last_hidden_state
        return torch.nn.functional.normalize(self.linear(states).float(), dim=-1)

    @torch.no_grad()
    def start(self, tokenizer, texts):
        """The projection that keeps most of the length of the tokens' vectors, as they are now."""
        ids, attention, counted = coded(tokenizer, texts, "[unused1]", LONGEST)
        states = torch.nn.functional.normalize(
            self.bert(input_ids=ids, attention_mask=attention).last_hidden_state[counted], dim=-1
        )
        self.linear.weight.copy_(torch.linalg.eigh(states.T @ states).eigenvectors[:, -DIM:].T)


def queries(model, tokenizer, texts, device):
    ids, attention, _ = coded(tokenizer, texts, "[unused0]", QUERY, fill=True)
    return model(ids.to(device), attention.to(device))


def passages_of(model, tokenizer, texts, device):
    ids, attention, counted = coded(tokenizer, texts, "[unused1]", LONGEST)
    return model(ids.to(device), attention.to(device)), counted.to(device)


def maxsim(q, p, counted):
    """Scores (n, m) of q (n, tokens, dim) and p (m, tokens, dim), of which `counted` are looked at."""
    with torch.autocast(q.device.type, enabled=False):  # sums of bfloat16 are too coarse to rank by
        found = (q.flatten(0, 1) @ p.flatten(0, 1).T).view(*q.shape[:2], *p.shape[:2])
        return found.masked_fill(~counted, -1e4).amax(3).sum(1)


def passage_scores(model, tokenizer, q, texts, device, parts=6):
    """MaxSim of encoded questions q with passages: (n, m).

    Passages of like length go through the network together, so that little of it is padding.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = [
        maxsim(q, *passages_of(model, tokenizer, [texts[i] for i in part], device))
        for part in np.array_split(order, parts)
    ]
    return torch.cat(found, 1)[:, torch.tensor(order, device=q.device).argsort()]


@torch.no_grad()
def all_scores(model, tokenizer, asked, texts, device, size=64):
    """MaxSim of every question with every passage: (n, m)."""
    q = torch.cat(
        [queries(model, tokenizer, asked[k : k + size], device) for k in range(0, len(asked), size)]
    )
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = torch.empty(len(asked), len(texts))
    for k in range(0, len(order), size):
        part = order[k : k + size]
        p, counted = passages_of(model, tokenizer, [texts[i] for i in part], device)
        for a in range(0, len(asked), 32):
            out[a : a + 32, part] = maxsim(q[a : a + 32], p, counted).cpu()
    return out


def score(model, tokenizer, rows, device):
    """`questions.measures` of the model on held-out rows."""
    model.eval()
    asked = [q for q, _ in rows]
    texts = questions.unique(answer for _, answer in rows)
    own = torch.tensor([texts.index(answer) for _, answer in rows])
    scores = all_scores(model, tokenizer, asked, texts + asked, device)
    model.train()
    return questions.measures(scores[:, : len(texts)], own, scores[:, len(texts) :].diagonal())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rank", type=int, default=40)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--minutes", type=float, default=240, help="of training, where that is less")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--group", type=int, default=4, help="neighbouring rows taken together")
    parser.add_argument("--course", type=int, default=4, help="how often the course's rows stand")
    parser.add_argument("--minilm", type=float, default=0.3, help="MiniLM's part of the target")
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--warmup", type=int, default=50, help="steps")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    device, kind, tokenizer = questions.start(args)
    parts = questions.split(args.pairs)
    rows, passages, misses, asked_of, answer_of = questions.training_rows(parts, args.work)
    dev = {"dev": [row for block in parts["dev"] for row in block], "course": rows[-100:]}
    numbers = list(range(len(rows) - 100))  # the course's last hundred are for measuring
    numbers += list(range(len(parts["train"]), len(rows) - 100)) * (args.course - 1)
    rows, misses = [rows[i] for i in numbers], [misses[i] for i in numbers]
    print(f"{len(rows):,} training rows, {len(passages):,} passages; {device}", flush=True)

    model = ColBERT(args.rank).eval()
    state, log, step, spent, best = args.work / "adapter.safetensors", args.work / "log.tsv", 0, 0.0, 0.0
    if not state.exists():
        model.start(tokenizer, passages[:: len(passages) // 256])
    model.to(device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=0.01)
    if state.exists():
        saved = load_file(state)
        step, spent, best = (float(saved.pop(key)) for key in ("step", "spent", "best"))
        step = int(step)
        model.linear.weight.data.copy_(saved.pop("linear"))
        set_peft_model_state_dict(model.bert, saved)
        optimizer.load_state_dict(torch.load(args.work / "adam", weights_only=True))
        print(f"going on after step {step}")
    stream = batches(rows, passages, misses, args.batch, args.group, np.random.default_rng((args.seed, step)))
    running = None

    def keep():
        weights = {k: v.contiguous().cpu() for k, v in get_peft_model_state_dict(model.bert).items()}
        weights |= {
            "linear": model.linear.weight.data.cpu(),
            "step": torch.tensor(float(step)),
            "spent": torch.tensor(spent),
            "best": torch.tensor(best),
        }
        with files.put_whole(args.work / "adam") as adam, files.put_whole(state) as part:
            torch.save(optimizer.state_dict(), adam)
            save_file(weights, part)

    def measure():
        nonlocal best
        found = {name: score(model, tokenizer, part, device) for name, part in dev.items()}
        mean = sum(figures[1] for figures in found.values()) / len(found)  # of the two MRRs
        if mean > best:
            best = mean
            export(model, args.out)
        with log.open("a", encoding="utf-8") as out:
            cells = [f"{x:.4f}" for figures in found.values() for x in figures]
            out.write("\t".join([str(step), f"{spent:.0f}", f"{running or 0:.4f}", *cells]) + "\n")
        bar.set_postfix({name: f"{figures[1]:.3f}" for name, figures in found.items()})

    stopped = []
    for sign in (signal.SIGINT, signal.SIGTERM):  # a step that is running is finished and kept
        signal.signal(sign, lambda *_: stopped.append(True))
    bar = tqdm(total=args.steps, initial=step)
    if step == 0:
        measure()
    done = max(step / args.steps, spent / 60 / args.minutes)
    while done < 1 and not stopped:
        begin = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / args.warmup) * (1 - done)
        asked, own, hard = next(stream)
        with cast(device, kind):
            q = queries(model, tokenizer, asked, device)
            scores = passage_scores(model, tokenizer, q, own + hard + asked, device)
        wanted, same = questions.targets(
            torch.from_numpy(np.stack([asked_of[t] for t in asked])),
            torch.from_numpy(np.stack([answer_of[t] for t in own + hard])),
            own,
            own + hard,
            args.minilm,
        )
        n, echoes = len(own + hard), (0, len(asked))  # an echo is never wanted
        scores[:, :n] = scores[:, :n].masked_fill(same.to(device), -1e4)
        wanted = torch.nn.functional.pad(wanted, echoes).to(device)
        loss = torch.nn.functional.cross_entropy(scores, wanted)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        step, spent = step + 1, spent + time.perf_counter() - begin
        done = max(step / args.steps, spent / 60 / args.minutes)
        bar.update()
        if step % 150 == 0 or done >= 1:
            measure()
            keep()
    keep()


def export(model, out):
    """The adapter and the projection in float16, and the settings as the original's file has them."""
    export_adapter(model.bert, out)
    save_file({"linear.weight": model.linear.weight.data.half().cpu()}, out / "linear.safetensors")
    (out / "artifact.metadata").write_text(json.dumps(SETTINGS, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
