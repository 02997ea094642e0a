"""Train the DPR stand-ins: a question and an answer tower, low-rank adapters on all-MiniLM-L6-v2.

    python models/recipes/dpr.py --pairs FILE --work DIR --out DIR

After Karpukhin and colleagues, "Dense Passage Retrieval" (2020): the [CLS] vectors of two BERTs,
in-batch negatives and hard negatives, and the dot product as the score. The last layer norm of
both towers has one gain for all dimensions and no bias, so that every vector has the same length
and the dot product is 20 times the cosine. A batch is made of groups of neighbouring rows, so that
it holds several sentences of one article, and of near misses by BM25 and MiniLM. What MiniLM knows
of the world outside these questions is kept in two ways: a part of the target is its own opinion
of the passages, and the vectors of whole sentences are drawn to its vectors, less and less.

In one thing it goes further: passages that are no sentences have a place of their own. A question
of the batch gets, as a passage, a part of the cosine that MiniLM gives it, and always less than the
answer has, so that a question does not retrieve its own echo; a few bare words out of an answer get
another part. Runs on a CPU or a GPU as found; stop it with the keyboard and start it again, and it
goes on after the last saved step.
"""

import argparse
import json
import pathlib
import time

import numpy as np
import questions
import torch
from bert import cast
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from questions import FUNCTION_WORDS, MINILM, as_typed, export
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import BertModel

from helpers import models, stand_ins

TOWERS = ("question", "ctx")
SCALE = 20  # the dot product of two vectors is 20 times their cosine
LENGTH = SCALE**0.5


def build(rank):
    base = BertModel.from_pretrained(
        models.path(MINILM, quiet=True), add_pooling_layer=False, dtype=torch.float32
    )
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=["query", "key", "value", "dense"]
    )
    return get_peft_model(base, config)


def new_tower(rank, start=None):
    """`build`, with vectors of one length; `start`: the folder of an adapter to go on from."""
    model = build(rank)
    base = model.get_base_model()
    unread = stand_ins.unread(base)
    stand_ins.equal_lengths(base, LENGTH)
    if start:
        set_peft_model_state_dict(model, load_file(start / "adapter_model.safetensors"))
        with torch.no_grad():  # an adapter made without `equal_lengths` may write there
            base.encoder.layer[-1].output.dense.lora_B["default"].weight[unread] = 0
    return model


def encode(model, tokenizer, texts, device, size=48):
    """[CLS] vectors: (n, 384). Texts of like length go through the model together."""
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = []
    for k in range(0, len(order), size):
        part = [texts[i] for i in order[k : k + size]]
        batch = tokenizer(part, padding=True, truncation=True, max_length=96, return_tensors="pt")
        found.append(model(**batch.to(device)).last_hidden_state[:, 0].float())
    return torch.cat(found)[torch.tensor(order).argsort().to(device)]


@torch.no_grad()
def score_pair(towers, tokenizer, blocks, device):
    """`questions.measures` of the two towers on blocks of held-out rows, over all their sentences."""
    for tower in towers.values():
        tower.eval()
    rows = [row for block in blocks for row in block]
    passages = questions.unique(answer for _, answer in rows)
    own = torch.tensor([passages.index(answer) for _, answer in rows])
    asked = [q for q, _ in rows]
    q = encode(towers["question"], tokenizer, asked, device).cpu()
    p = encode(towers["ctx"], tokenizer, passages, device).cpu()
    echo = encode(towers["ctx"], tokenizer, asked, device).cpu()
    for tower in towers.values():
        tower.train()
    return questions.measures(q @ p.T, own, (q * echo).sum(1))


def batches(rows, passages, misses, size, group, rng):
    """Endless (questions, answers, near misses), `size` of each, no sentence twice among answers."""
    own = [answer for _, answer in rows]
    while True:
        starts = rng.permutation(np.arange(0, len(rows) - group, group)) + rng.integers(group)
        for chosen in np.array_split(starts, max(1, len(starts) * group // size)):
            ids, seen = [], set()
            for i in (i for s in chosen for i in range(s, min(s + group, len(rows)))):
                if own[i] not in seen:
                    seen.add(own[i])
                    ids.append(i)
            hard = []
            for i in ids:
                by_words, by_meaning, beside = misses[i]
                pool = [by_words, by_meaning, beside][rng.integers(3)] or by_meaning
                hard.append(passages[pool[rng.integers(min(8, len(pool)))]])
            yield [rows[i][0] for i in ids], [own[i] for i in ids], hard


def bare(text, rng):
    """One to four neighbouring words of a sentence, as a name or a heading would stand alone.

    >>> bare("the nile is the longest river of africa.", np.random.default_rng(5))
    'longest river'
    """
    words = text.strip(" .").split()
    n = min(len(words), int(rng.integers(1, 5)))
    start = int(rng.integers(len(words) - n + 1))
    found = words[start : start + n]
    while len(found) > 1 and found[0].lower() in FUNCTION_WORDS:
        found = found[1:]
    while len(found) > 1 and found[-1].lower() in FUNCTION_WORDS:
        found = found[:-1]
    return " ".join(found).strip(" ,;:()\"'") or text


def loss_of(q, answers, hard, wanted, same):
    """Cross-entropy of each question over the answers and near misses of the batch.

    q (n, dim), answers (n, dim), hard (m, dim): vectors whose dot product is the score. wanted,
    same: `questions.targets`.
    """
    s = q @ torch.cat([answers, hard]).T
    return torch.nn.functional.cross_entropy(s.masked_fill(same, -1e4), wanted)


def displaced(cosines, wanted):
    """How far passages that are no sentences are from the cosines that they should have: a loss.

    cosines and wanted (n, 2n): of n questions with the n questions and with bare words of their n
    answers, as passages. Mean squares over the own echoes, over the words of the own answers, and
    over all, added. It pulls as well as it pushes: a loss that only pushes echoes away goes on to
    bury all that is like them.
    """
    n = len(cosines)
    off = (cosines - wanted).square()
    return off[:, :n].diagonal().mean() + off[:, n:].diagonal().mean() + off.mean()


def places(q, words, echo, part):
    """The cosines that passages which are no sentences should have: (n, 2n), see `displaced`.

    q, words: MiniLM's unit vectors of n questions and of bare words out of their answers. A question
    gets `echo` of MiniLM's cosine, words get `part` of it.
    """
    return q @ torch.cat([echo * q, part * words]).T


def below(wanted, answers, margin):
    """`wanted`, with each own echo at least `margin` below its answer. wanted (n, 2n), answers (n,).

    >>> below(torch.tensor([[0.4, 0.0, 0.2, 0.1], [0.0, 0.4, 0.1, 0.3]]), torch.tensor([0.5, 0.8]), 0.2)
    tensor([[0.3000, 0.0000, 0.2000, 0.1000],
            [0.0000, 0.4000, 0.1000, 0.3000]])
    """
    wanted = wanted.clone()
    own = wanted.diagonal()
    own.copy_(torch.minimum(own, answers - margin))
    return wanted


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument(
        "--start", type=pathlib.Path, help="adapters to go on from, in folders as --out has them"
    )
    parser.add_argument("--rank", type=int, default=40)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--group", type=int, default=4, help="neighbouring rows taken together")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--warmup", type=int, default=100, help="steps until the full learning rate")
    parser.add_argument(
        "--echo", type=float, default=0.35, help="cosine of an echo, as a part of MiniLM's (which is 1)"
    )
    parser.add_argument("--margin", type=float, default=0.2, help="the echo is this far below its answer")
    parser.add_argument(
        "--words", type=float, default=0.5, help="cosine of bare words, as a part of MiniLM's"
    )
    parser.add_argument("--keep", type=float, default=10.0, help="weight of these")
    parser.add_argument("--follow", type=float, default=1.0, help="weight of MiniLM's vectors at first")
    parser.add_argument("--minilm", type=float, default=0.3, help="MiniLM's part of the target")
    parser.add_argument("--every", type=int, default=100, help="steps from one saving to the next")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    device, kind, tokenizer = questions.start(args)
    parts = questions.split(args.pairs)
    rows, passages, misses, asked, told = questions.training_rows(parts, args.work)
    known = asked | told
    folders = {name: f"dpr-{name}_encoder-multiset-base" for name in TOWERS}
    towers = {
        name: new_tower(args.rank, args.start and args.start / folder).to(device).train()
        for name, folder in folders.items()
    }
    trained = [p for t in towers.values() for p in t.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=0.01)
    state, log, step, spent = args.work / "towers.safetensors", args.work / "log.tsv", 0, 0.0
    if state.exists():
        saved = load_file(state)
        step, spent = int(saved.pop("step")), float(saved.pop("spent"))
        for name, tower in towers.items():
            own = {k.split("|")[1]: v for k, v in saved.items() if k.startswith(name + "|")}
            set_peft_model_state_dict(tower, own)
        optimizer.load_state_dict(torch.load(args.work / "adam", weights_only=True))
        print(f"going on after step {step}")
    rng = np.random.default_rng((args.seed, step))
    stream = batches(rows, passages, misses, args.batch, args.group, rng)
    running = None

    def save():
        whole = {
            f"{name}|{k}": v.contiguous().cpu()
            for name, tower in towers.items()
            for k, v in get_peft_model_state_dict(tower).items()
        }
        save_file(whole | {"step": torch.tensor(step), "spent": torch.tensor(spent)}, state)
        torch.save(optimizer.state_dict(), args.work / "adam")
        with cast(device, kind):
            found = score_pair(towers, tokenizer, parts["dev"], device)
        with log.open("a", encoding="utf-8") as out:
            out.write(
                "\t".join([str(step), f"{spent:.0f}", f"{running or 0:.4f}", *(f"{x:.4f}" for x in found)])
                + "\n"
            )
        bar.set_postfix(dev_mrr=f"{found[1]:.3f}")
        for name, tower in towers.items():
            export(tower, args.out / folders[name])
            (args.out / folders[name] / "vectors.json").write_text(
                json.dumps({"length": LENGTH}) + "\n", "utf-8"
            )

    bar = tqdm(total=args.steps, initial=step)
    while step < args.steps:
        begin = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / args.warmup) * (1 - step / args.steps)
        full, own, hard = next(stream)
        asked, words = [as_typed(text, rng) for text in full], [bare(text, rng) for text in own]
        n = len(asked)
        with cast(device, kind):
            q = encode(towers["question"], tokenizer, asked, device)
            p = encode(towers["ctx"], tokenizer, own + hard, device)
            others = encode(towers["ctx"], tokenizer, asked + words, device)
        by_minilm = torch.from_numpy(np.stack([known[text] for text in full + own + hard]))
        bare_vectors = torch.from_numpy(questions.vectors(words, quiet=True))
        wanted, same = questions.targets(by_minilm[:n], by_minilm[n:], own, own + hard, args.minilm)
        loss = loss_of(q, p[:n], p[n:], wanted.to(device), same.to(device))
        there = places(by_minilm[:n], bare_vectors, args.echo, args.words).to(device)
        there = below(there, (q * p[:n]).sum(1).detach() / SCALE, args.margin)
        loss = loss + args.keep * displaced(q @ others.T / SCALE, there)
        apart = 1 - (torch.cat([q, p]) * by_minilm.to(device)).sum(1) / LENGTH
        loss = loss + args.follow * (1 - step / args.steps) * apart.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        step, spent = step + 1, spent + time.perf_counter() - begin
        bar.update()
        if step % args.every == 0 or step == args.steps:
            save()


if __name__ == "__main__":
    main()
