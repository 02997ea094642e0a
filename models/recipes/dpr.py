"""Train the DPR stand-ins: a question and an answer tower, low-rank adapters on all-MiniLM-L6-v2.

    python models/recipes/dpr.py --pairs FILE --work DIR --out DIR

After Karpukhin and colleagues, "Dense Passage Retrieval" (2020): the [CLS] vectors of two BERTs,
in-batch negatives and hard negatives. The score is the cosine times 20. A batch is made of groups
of neighbouring rows, so that it holds several sentences of one article, and of near misses by BM25
and MiniLM; a part of the target is MiniLM's own opinion of them, so that what it knows of the world
outside these questions is not unlearnt. In one thing it goes further: passages that are no
sentences have a place of their own. A question of the batch gets, as a passage, a third of the
cosine that MiniLM gives it, so that a question does not retrieve its own echo; a few bare words out
of an answer get seven tenths of it. Runs on a CPU or a GPU as found; stop it with the keyboard and
start it again, and it goes on after the last saved step.
"""

import argparse
import pathlib
import time

import numpy as np
import questions
import torch
from bert import cast
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from questions import FUNCTION_WORDS, MINILM, export
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import AutoTokenizer, BertModel

from helpers import models

TOWERS = ("question", "ctx")


def build(rank):
    base = BertModel.from_pretrained(
        models.path(MINILM, quiet=True), add_pooling_layer=False, dtype=torch.float32
    )
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=["query", "key", "value", "dense"]
    )
    return get_peft_model(base, config)


def encode(model, tokenizer, texts, device):
    """Unit [CLS] vectors: (n, 384)."""
    batch = tokenizer(texts, padding=True, truncation=True, max_length=96, return_tensors="pt").to(device)
    return torch.nn.functional.normalize(model(**batch).last_hidden_state[:, 0].float(), dim=1)


@torch.no_grad()
def encode_all(model, tokenizer, texts, device, size=64):
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = torch.empty(len(texts), 384)
    for k in range(0, len(order), size):
        part = order[k : k + size]
        out[part] = encode(model, tokenizer, [texts[i] for i in part], device).cpu()
    return out


def held_out(towers, tokenizer, blocks, device):
    """(recall@1, MRR, share of questions whose echo beats the answer), over all held-out sentences.

    The echo is not among the passages for the first two figures.
    """
    for tower in towers.values():
        tower.eval()
    rows = [row for block in blocks for row in block]
    passages = questions.unique(answer for _, answer in rows)
    own = torch.tensor([passages.index(answer) for _, answer in rows])
    asked = [q for q, _ in rows]
    q = encode_all(towers["question"], tokenizer, asked, device)
    p = encode_all(towers["ctx"], tokenizer, passages, device)
    echo = encode_all(towers["ctx"], tokenizer, asked, device)
    for tower in towers.values():
        tower.train()
    s = q @ p.T
    right = s.gather(1, own[:, None])
    ranks = (s > right).sum(1) + 1
    loud = (q * echo).sum(1) > right[:, 0]
    return tuple(float(x.float().mean()) for x in (ranks == 1, 1 / ranks, loud))


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


def loss_of(q, answers, hard, wanted, same, scale):
    """Cross-entropy of each question over the answers and near misses of the batch.

    q (n, dim), answers (n, dim), hard (m, dim): unit vectors. wanted, same: `questions.targets`.
    """
    s = scale * q @ torch.cat([answers, hard]).T
    return torch.nn.functional.cross_entropy(s.masked_fill(same, -1e4), wanted)


def displaced(q, others, wanted):
    """How far passages that are no sentences are from the cosines that they should have: a loss.

    q (n, dim) and others (2n, dim), the questions and bare words of their answers as passages: unit
    vectors. wanted: (n, 2n) cosines. Mean squares over the own echoes, over the words of the own
    answers, and over all, added. It pulls as well as it pushes: a loss that only pushes echoes away
    goes on to bury all that is like them.
    """
    n = len(q)
    off = (q @ others.T - wanted).square()
    return off[:, :n].diagonal().mean() + off[:, n:].diagonal().mean() + off.mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rank", type=int, default=40)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--group", type=int, default=4, help="neighbouring rows taken together")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--scale", type=float, default=20.0)
    parser.add_argument(
        "--echo",
        type=float,
        default=0.35,
        help="cosine of a question with its echo; with other questions, as a part of MiniLM's",
    )
    parser.add_argument(
        "--words", type=float, default=0.7, help="cosine of a question with bare words, as a part of MiniLM's"
    )
    parser.add_argument("--keep", type=float, default=5.0, help="weight of these two")
    parser.add_argument("--minilm", type=float, default=0.3, help="MiniLM's part of the target")
    parser.add_argument("--bfloat16", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kind = torch.bfloat16 if args.bfloat16 else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(models.path(MINILM, quiet=True))
    parts = questions.split(args.pairs)
    rows = parts["train"] + questions.course_rows()
    passages, misses = questions.near_misses(rows, args.work / "near_misses.json")
    known = dict(
        zip((q for q, _ in rows), questions.kept(args.work / "asked.npy", [q for q, _ in rows]), strict=True)
    )
    known |= zip(passages, questions.kept(args.work / "passages.npy", passages), strict=True)
    towers = {name: build(args.rank).to(device).train() for name in TOWERS}
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
        found = held_out(towers, tokenizer, parts["dev"], device)
        with log.open("a") as out:
            out.write(
                "\t".join([str(step), f"{spent:.0f}", f"{running or 0:.4f}", *(f"{x:.4f}" for x in found)])
                + "\n"
            )
        bar.set_postfix(dev_mrr=f"{found[1]:.3f}")
        for name, tower in towers.items():
            export(tower, args.out / f"dpr-{name}_encoder-multiset-base")

    bar = tqdm(total=args.steps, initial=step)
    while step < args.steps:
        begin = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 100) * (1 - step / args.steps)
        asked, own, hard = next(stream)
        n, words = len(asked), [bare(text, rng) for text in own]
        with cast(device, kind):
            q = encode(towers["question"], tokenizer, asked, device)
            p = encode(towers["ctx"], tokenizer, own + hard, device)
            others = encode(towers["ctx"], tokenizer, asked + words, device)
        by_minilm = torch.from_numpy(np.stack([known[text] for text in asked + own + hard]))
        wanted, same = questions.targets(by_minilm[:n], by_minilm[n:], own, own + hard, args.minilm)
        bare_vectors = torch.from_numpy(questions.vectors(words, quiet=True))
        places = by_minilm[:n] @ torch.cat([args.echo * by_minilm[:n], args.words * bare_vectors]).T
        loss = loss_of(q, p[:n], p[n:], wanted.to(device), same.to(device), args.scale)
        loss = loss + args.keep * displaced(q, others, places.to(device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        step, spent = step + 1, spent + time.perf_counter() - begin
        bar.update()
        if step % 150 == 0 or step == args.steps:
            save()


if __name__ == "__main__":
    main()
