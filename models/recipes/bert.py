"""Train a raw BERT on masked words, from scratch or from MiniLM's weights.

Raw means: masked words (Devlin and colleagues, 2018) are the last thing it was trained on,
not pairs of sentences that mean the same. Two ways lead there:

    --start minilm    6 layers x 384 of all-MiniLM-L6-v2, token embeddings frozen, trained on
                      masked words until its sentence training has worn off
    --start scratch   a new network of --layers x --width, all of it trained

    python models/recipes/bert.py --text DIR --work DIR --out DIR --start minilm --minutes 60

The text folder holds *.txt or *.txt.xz, one paragraph a line. 15 % of the pieces (--share) are
chosen; of these 80 % become [MASK], 10 % another piece, 10 % stay. The learning rate falls to zero at
the end of --minutes or --steps, whichever comes first. Runs on a CPU or a GPU as found, in
bfloat16 only where there are instructions for it; stop it with the keyboard and start it
again, and it goes on.
"""

import argparse
import contextlib
import lzma
import pathlib
import time

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from helpers import files, machine, models

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
HELD_OUT = 500_000  # pieces


def sources(folder):
    """The *.txt and *.txt.xz files of a folder, in the order of their names."""
    found = sorted(folder.glob("*.txt")) + sorted(folder.glob("*.txt.xz"))
    if not found:
        raise FileNotFoundError(f"{folder} holds no *.txt or *.txt.xz file.")
    return found


def paragraphs(file):
    """The lines of one source, with progress shown."""
    opener = lzma.open if file.suffix == ".xz" else open
    with opener(file, "rt", encoding="utf-8") as lines:
        yield from tqdm(lines, desc=file.name, unit=" lines", leave=False)


def pieces(folder, tokenizer, file, often):
    """All text as one row of piece ids, [SEP] after each paragraph; kept in `file`.

    Paragraphs are shuffled; the last 500,000 pieces are for measuring. Of the rest, the sources
    named in `often` (short everyday sentences, rare beside encyclopaedias) stand six times.
    """
    if not file.exists():
        parts, again = [], []
        for source in sources(folder):
            lines = list(paragraphs(source))
            for k in range(0, len(lines), 4096):
                ids = tokenizer(lines[k : k + 4096], add_special_tokens=False).input_ids
                parts += [np.array([*row, tokenizer.sep_token_id], dtype=np.uint16) for row in ids]
            again += [source.name.split(".")[0] in often] * (len(parts) - len(again))
        order = np.random.default_rng(0).permutation(len(parts))
        held_out = len(parts) - np.cumsum([len(parts[i]) for i in order[::-1]]).searchsorted(HELD_OUT) - 1
        train = [i for i in order[:held_out] for _ in range(6 if again[i] else 1)]
        np.random.default_rng(1).shuffle(train)
        with files.put_whole(file) as part:
            np.save(part, np.concatenate([parts[i] for i in [*train, *order[held_out:]]]))
    return np.load(file, mmap_mode="r")


def masked_batch(ids, size, length, tokenizer, rng, share=0.15):
    """(input_ids, labels), each (size, length): pieces of text, [CLS] in front.

    `share` of the pieces are chosen; labels is -100 where nothing is asked.
    """
    starts = rng.integers(0, len(ids) - length, size)
    rows = np.stack([ids[s : s + length - 1] for s in starts]).astype(np.int64)
    rows = np.concatenate([np.full((size, 1), tokenizer.cls_token_id), rows], axis=1)
    labels = np.full_like(rows, -100)
    plain = ~np.isin(rows, tokenizer.all_special_ids)
    chosen = (rng.random(rows.shape) < share) & plain
    labels[chosen] = rows[chosen]
    dice = rng.random(rows.shape)
    inputs = rows.copy()
    inputs[chosen & (dice < 0.8)] = tokenizer.mask_token_id
    other = chosen & (dice >= 0.8) & (dice < 0.9)
    inputs[other] = rng.integers(1000, tokenizer.vocab_size, other.sum())
    return torch.from_numpy(inputs), torch.from_numpy(labels)


def build(start, layers, width, tokenizer):
    """The network before its first step."""
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=max(4, width // 32),
        intermediate_size=4 * width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    if start == "scratch":
        return BertForMaskedLM(config)
    folder = models.path(MINILM, quiet=True)
    model = BertForMaskedLM.from_pretrained(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model.bert.embeddings.word_embeddings.weight.requires_grad_(False)
    torch.nn.init.eye_(model.cls.predictions.transform.dense.weight)
    return model


def masked_loss(model, inputs, labels):
    """Cross-entropy at the chosen places; the head runs only there."""
    states = model.bert(input_ids=inputs).last_hidden_state
    asked = labels != -100
    return torch.nn.functional.cross_entropy(model.cls(states[asked]), labels[asked])


def cast(device, kind):
    return torch.autocast(device, kind) if kind != torch.float32 else contextlib.nullcontext()


def held_out_loss(model, ids, tokenizer, length, device):
    """Mean loss on 20 batches of text that is never trained on, always the same ones."""
    rng, losses = np.random.default_rng(7), []
    model.eval()
    with torch.no_grad():
        for _ in range(20):
            batch = (t.to(device) for t in masked_batch(ids, 16, length, tokenizer, rng))
            losses.append(masked_loss(model, *batch).item())
    model.train()
    return float(np.mean(losses))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--start", choices=["minilm", "scratch"], required=True)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=96)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--share", type=float, default=0.15, help="of the pieces chosen")
    parser.add_argument("--often", nargs="*", default=[], metavar="SOURCE")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(models.path(MINILM, quiet=True))
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    ids = pieces(args.text, tokenizer, args.work / "pieces.npy", args.often)
    train_ids, test_ids = ids[:-HELD_OUT], ids[-HELD_OUT:]
    print(f"{len(ids):,} pieces; {device}", flush=True)

    model = build(args.start, args.layers, args.width, tokenizer).to(device).train()
    state_file, log = args.work / f"{args.start}.safetensors", args.work / f"{args.start}.tsv"
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01)
    step, spent = 0, 0.0
    if state_file.exists():
        saved = load_file(state_file)
        step, spent = int(saved.pop("step")), float(saved.pop("spent"))
        moments = torch.load(args.work / f"{args.start}.adam", weights_only=True)
        optimizer.load_state_dict(moments)
        model.load_state_dict(saved, strict=False)
        print(f"going on after step {step}")
    rng = np.random.default_rng((args.seed, step))

    def batch():
        pair = masked_batch(train_ids, args.batch, args.length, tokenizer, rng, args.share)
        return [t.to(device) for t in pair]

    kind = torch.bfloat16 if machine.bfloat16_pays(device) else torch.float32
    budget = 60 * args.minutes
    bar = tqdm(total=int(budget), initial=int(spent), unit=" s", desc=args.start)
    running = None

    def save():
        whole = {k: v.contiguous().cpu() for k, v in model.state_dict().items() if "decoder." not in k}
        whole |= {"step": torch.tensor(step), "spent": torch.tensor(spent)}
        with files.put_whole(args.work / f"{args.start}.adam") as adam, files.put_whole(state_file) as part:
            torch.save(optimizer.state_dict(), adam)
            save_file(whole, part)
        with log.open("a", encoding="utf-8") as out:
            loss = held_out_loss(model, test_ids, tokenizer, args.length, device)
            out.write(f"{step}\t{step * args.batch * args.length}\t{spent:.0f}\t{running:.4f}\t{loss:.4f}\n")
        bar.set_postfix(held_out=f"{loss:.3f}")

    since = 0
    while spent < budget and step < args.steps:
        begin = time.perf_counter()
        done = max(spent / budget, step / args.steps)
        lr = args.lr * min(1, (step + 1) / 300) * (1 - done)
        for group in optimizer.param_groups:
            group["lr"] = lr
        with cast(device, kind):
            loss = masked_loss(model, *batch())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        running = loss.item() if running is None else 0.99 * running + 0.01 * loss.item()
        step, took = step + 1, time.perf_counter() - begin
        spent, since = spent + took, since + took
        bar.update(int(spent) - bar.n)
        if since > 240:
            save()
            since = 0
    save()
    export(model, args.out, args.start, tokenizer)


def export(model, out, start, tokenizer):
    """A folder that BertForMaskedLM.from_pretrained opens, or the part of it to be merged.

    From MiniLM: everything but the frozen token embeddings, in float16; helpers.models adds
    these from the package that carries them. From scratch: the whole model.
    """
    out.mkdir(parents=True, exist_ok=True)
    if start == "scratch":
        model.half().save_pretrained(out)
        tokenizer.save_pretrained(out)
        return
    skip = ("decoder.", "word_embeddings.", "position_ids", "pooler")
    weights = {
        k: v.half().contiguous().cpu() for k, v in model.state_dict().items() if not any(s in k for s in skip)
    }
    save_file(weights, out / "without_embeddings.safetensors")
    model.config.architectures = ["BertForMaskedLM"]
    model.config.save_pretrained(out)


if __name__ == "__main__":
    main()
