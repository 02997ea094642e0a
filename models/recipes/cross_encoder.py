"""Train the cross-encoder stand-in: a low-rank adapter and a head on all-MiniLM-L6-v2.

    python models/recipes/cross_encoder.py --pairs FILE --work DIR --out DIR

A question stands beside its answer and seven passages that do not answer it: near misses by
BM25 and by MiniLM, other sentences of the same article, a sentence drawn at random, the question
itself, and facts of more than forty kinds in which one thing is exchanged
(exchange_kinds.tsv, exchange_facts.tsv). Some questions are cut down to the words that one types
into a search box. Two losses are added: cross-entropy over the eight passages of a question (rank
the answer first; a part of the target is MiniLM's own opinion of the eight, so that what MiniLM
knows of the world outside these questions is not unlearnt) and binary cross-entropy over all
passages (so that the sigmoid of a score means something by itself). After Hu and colleagues, "LoRA" (2021), with
the library peft. Runs on a CPU or a GPU as found; stop it with the keyboard and start it again,
and it goes on after the last saved step.
"""

import argparse
import pathlib
import time

import numpy as np
import questions
import torch
from bert import cast
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import AutoTokenizer, BertForSequenceClassification

from helpers import models

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
NEGATIVES = 7
FUNCTION_WORDS = set(
    "what which who whom whose when where why how is are was were be been do does did has have had "
    "the a an of in on at to for by from that this it its there can could will would".split()
)


def as_typed(question, rng):
    """The question, or (three times in ten) what is left of it in a search box.

    >>> as_typed("what is the capital of peru?", np.random.default_rng(2))
    'capital peru'
    """
    if rng.random() > 0.3:
        return question
    words = [w for w in question.rstrip("?. ").split() if w.lower() not in FUNCTION_WORDS]
    return " ".join(words) if len(words) > 1 else question


def article_example(i, rows, passages, misses, rng):
    """(question, eight passages with the answer first, their numbers or -1 for the echo)."""
    question, answer = rows[i]
    by_words, by_meaning, beside = misses[i]
    wrong = []
    for pool, n in ((by_words, 2), (by_meaning, 2), (beside, 2)):
        wrong += [int(w) for w in rng.choice(pool, min(n, len(pool)), replace=False)]
    wrong = questions.unique(wrong)
    texts = [passages[w] for w in wrong]
    if rng.random() < 0.15:
        wrong, texts = [*wrong, -1], [*texts, question]
    while len(texts) < NEGATIVES:
        wrong.append(int(rng.integers(len(passages))))
        texts.append(passages[wrong[-1]])
    return as_typed(question, rng), [answer, *texts[:NEGATIVES]], wrong[:NEGATIVES]


def exchange_example(kinds, rng):
    """The same from a table of facts: the wrong passages speak of another subject, or are the
    right words with subject and object exchanged, or a fact of another kind."""
    kind = rng.choice(list(kinds))
    frames, facts = kinds[kind]
    (subject, thing), *others = [facts[k] for k in rng.permutation(len(facts))[:7]]
    asked = frames[rng.integers(len(frames))][0].format(s=subject, o=thing)

    def say(s, o):
        return frames[rng.integers(len(frames))][1].format(s=s, o=o)

    wrong = [say(*other) for other in others[:5]]
    wrong.append(say(thing, subject) if rng.random() < 0.5 else say(others[5][0], thing))
    other = rng.choice([k for k in kinds if k != kind])
    frame, fact = kinds[other][0][0], kinds[other][1][rng.integers(len(kinds[other][1]))]
    wrong.append(frame[1].format(s=fact[0], o=fact[1]))
    return asked, [say(subject, thing), *wrong]


def batches(groups, rows, passages, misses, kinds, size, rng):
    """Endless lists of `size` examples (question, eight passages, row, their numbers).

    groups: [(share, numbers of rows), ...]; what the shares leave of 1 is for the table of facts,
    whose examples have None for the last two.
    """
    orders = [iter(()) for _ in groups]

    def one():
        dice = rng.random()
        for k, (share, members) in enumerate(groups):
            if dice < share:
                i = next(orders[k], None)
                if i is None:
                    orders[k] = iter(rng.permutation(members))
                    i = next(orders[k])
                asked, texts, wrong = article_example(i, rows, passages, misses, rng)
                return asked, texts, i, wrong
            dice -= share
        return *exchange_example(kinds, rng), None, None

    while True:
        yield [one() for _ in range(size)]


def targets(batch, asked, answered, part):
    """What the softmax over eight passages should be: (n, 8), each row adding up to 1.

    1 for the answer, less `part`, which is shared out as MiniLM would (softmax of 20 x cosine;
    an echo gets nothing). asked: unit vectors of the rows' questions; answered: of the rows'
    answers in `own`, and of all passages in `all`.
    """
    wanted = torch.zeros(len(batch), 1 + NEGATIVES)
    wanted[:, 0] = 1
    for row, (_, _, i, wrong) in zip(wanted, batch, strict=True):
        if i is not None:
            numbers = [answered["own"][i], *wrong]
            cosines = torch.from_numpy(answered["all"][numbers] @ asked[i])
            cosines[torch.tensor(numbers) < 0] = -9
            row.mul_(1 - part).add_(part * (20 * cosines).softmax(0))
    return wanted


def build(rank):
    base = BertForSequenceClassification.from_pretrained(
        models.path(MINILM, quiet=True), num_labels=1, dtype=torch.float32
    )
    config = LoraConfig(
        task_type="SEQ_CLS",
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        target_modules=["query", "key", "value", "dense"],
        modules_to_save=["classifier"],
    )
    return get_peft_model(base, config)


def scores(model, tokenizer, pairs, device, parts=4):
    """Raw scores (logits) of (question, passage) pairs: (n,).

    Pairs of like length go through the network together, so that little of it is padding.
    """
    coded = tokenizer([q for q, _ in pairs], [p for _, p in pairs], truncation=True, max_length=96)
    order = sorted(range(len(pairs)), key=lambda i: len(coded.input_ids[i]))
    found = []
    for part in np.array_split(order, min(parts, len(order))):
        batch = {key: [coded[key][i] for i in part] for key in coded}
        batch = tokenizer.pad(batch, return_tensors="pt").to(device)
        found.append(model(**batch).logits[:, 0].float())
    return torch.cat(found)[torch.tensor(order, device=device).argsort()]


def mrr(model, tokenizer, blocks, device):
    """Mean reciprocal rank of the answer among itself and nine others by BM25, same block."""
    model.eval()
    ranks = []
    for rows in blocks:
        passages = questions.unique(answer for _, answer in rows)
        near = questions.bm25_near([q for q, _ in rows], passages, 10)
        for k in range(0, len(rows), 16):
            tens = []
            for (question, answer), line in zip(rows[k : k + 16], near[k : k + 16], strict=True):
                others = [passages[n] for n in line if passages[n] != answer][:9]
                tens += [(question, p) for p in (answer, *others)]
            with torch.no_grad():
                s = scores(model, tokenizer, tens, device).view(-1, 10)
            ranks += (1 + (s[:, 1:] >= s[:, :1]).sum(1)).tolist()
    model.train()
    return float((1 / np.array(ranks)).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--rank", type=int, default=40)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=8, help="questions a step")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--facts", type=float, default=0.15, help="share of exchanged facts")
    parser.add_argument("--course", type=float, default=0.2, help="share of the course's own rows")
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
    print(f"{len(rows):,} training questions, {len(passages):,} passages; {device}", flush=True)
    first = len(parts["train"])  # the course's rows stand behind; its last hundred are for measuring
    groups = [
        (1 - args.course - args.facts, np.arange(first)),
        (args.course, np.arange(first, len(rows) - 100)),
    ]
    blocks = {"dev": parts["dev"], "course": [rows[-100:]]}
    asked = questions.kept(args.work / "asked.npy", [q for q, _ in rows])
    number = {p: n for n, p in enumerate(passages)}
    answered = {
        "own": [number[a] for _, a in rows],
        "all": questions.kept(args.work / "passages.npy", passages),
    }

    model = build(args.rank).to(device).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=0.01)
    state, log, step, spent = args.work / "adapter.safetensors", args.work / "log.tsv", 0, 0.0
    if state.exists():
        saved = load_file(state)
        step, spent = int(saved.pop("step")), float(saved.pop("spent"))
        set_peft_model_state_dict(model, saved)
        optimizer.load_state_dict(torch.load(args.work / "adam", weights_only=True))
        print(f"going on after step {step}")
    stream = batches(
        groups,
        rows,
        passages,
        misses,
        questions.exchanges(),
        args.batch,
        np.random.default_rng((args.seed, step)),
    )
    running = None

    def save():
        weights = {k: v.contiguous().cpu() for k, v in get_peft_model_state_dict(model).items()}
        save_file(weights | {"step": torch.tensor(step), "spent": torch.tensor(spent)}, state)
        torch.save(optimizer.state_dict(), args.work / "adam")
        found = {name: f"{mrr(model, tokenizer, b, device):.4f}" for name, b in blocks.items()}
        with log.open("a") as out:
            out.write("\t".join([str(step), f"{spent:.0f}", f"{running:.4f}", *found.values()]) + "\n")
        bar.set_postfix(found)
        export(model, args.out)

    bar = tqdm(total=args.steps, initial=step)
    while step < args.steps:
        begin = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 100) * (1 - step / args.steps)
        batch = next(stream)
        with cast(device, kind):
            pairs = [(q, p) for q, texts, _, _ in batch for p in texts]
            s = scores(model, tokenizer, pairs, device).view(-1, 1 + NEGATIVES)
        wanted = targets(batch, asked, answered, args.minilm).to(device)
        right = torch.zeros_like(s)
        right[:, 0] = 1
        loss = torch.nn.functional.cross_entropy(s, wanted)
        loss = loss + 0.5 * torch.nn.functional.binary_cross_entropy_with_logits(
            s, right, pos_weight=torch.tensor(3.0, device=device)
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        running = loss.item() if running is None else 0.99 * running + 0.01 * loss.item()
        step, spent = step + 1, spent + time.perf_counter() - begin
        bar.update()
        if step % 250 == 0 or step == args.steps:
            save()


def export(model, out):
    """The adapter in float16, as `peft` opens it; nothing of the machine in its config."""
    model.peft_config["default"].base_model_name_or_path = MINILM
    model.peft_config["default"].inference_mode = True
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    file = out / "adapter_model.safetensors"
    save_file({k: v.half() for k, v in load_file(file).items()}, file, metadata={"format": "pt"})


if __name__ == "__main__":
    main()
