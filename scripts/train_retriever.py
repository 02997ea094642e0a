"""Train a retriever on a table of questions and answers, on one process or several.

    python scripts/train_retriever.py --pairs my_pairs.tsv --out my_retriever
    torchrun --nproc-per-node 2 scripts/train_retriever.py --pairs my_pairs.tsv --out my_retriever

The table (TSV, CSV, JSON lines or Parquet) has the columns `questions` and `answers`. The first 70 % of its
questions are trained on; the rest judge, before and after, and a line says whether that was a gain. What is
judged is the text: an answer that several questions share is right for each of them. As in lesson 6, one
MiniLM serves both sides, and its token table and two lowest layers stay as they are. Under torchrun the
processes share each batch, and every question sees the answers of all processes as its wrong ones. Each
process takes its own GPU where there are any. With --echo the questions are wrong passages too, in
training and where it is judged. The result opens with helpers.checkpoints.load(OUT).
"""

import argparse
import os
import pathlib
import secrets
import sys
import tempfile

import torch
import torch.distributed as dist

from helpers import checkpoints, data, encoders, files, models, ranking, training
from helpers.intervals import verdict

# how the loop is set for each start: lesson 6's, then those of models/recipes/dual_encoder.py
SETTINGS = {
    "minilm": {"lr": 1e-4, "batch": 48},
    "two": {"lr": 1e-4, "batch": 48},
    "number": {"lr": 1e-2, "batch": 32, "echo": True},
    "raw": {"lr": 2e-4, "batch": 32},
    "scratch": {"lr": 3e-4, "batch": 32},
}


def build(start: str) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The encoder of questions and that of answers before the first step; start: as in --start."""
    if start == "scratch":
        return encoders.Encoder(), encoders.Encoder()
    if start == "raw":
        raw = models.path("bert-base-uncased", quiet=True)
        return encoders.Pretrained(raw), encoders.Pretrained(raw)
    folder = models.path(encoders.MINILM, quiet=True)
    if start == "number":
        return encoders.TopicAndForm(folder, start=1.0), encoders.TopicAndForm(folder)
    one = encoders.Pretrained(folder, frozen=2)
    return one, encoders.Pretrained(folder, frozen=2) if start == "two" else one


def place() -> str:
    """This process's device."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"


def keep(out: pathlib.Path, *pair: torch.nn.Module, **about: object) -> pathlib.Path:
    """Save the pair in `out`; where that fails by now, in a new folder beside it, or among temporary files."""
    beside = out.with_name(f"{out.name}-{secrets.token_hex(3)}")
    for folder in (out, beside, pathlib.Path(tempfile.gettempdir()) / beside.name):
        try:
            return checkpoints.save(folder, *pair, **about)
        except OSError as e:
            failed = e
            print(f"not saved in {folder}/: {e.strerror or e}", file=sys.stderr)
    raise failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=pathlib.Path, help="default: the course's own table")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the checkpoint")
    parser.add_argument(
        "--start",
        choices=SETTINGS,
        default="minilm",
        help="minilm: one MiniLM for both sides (lesson 6); two: one each; number: MiniLM left as it is and "
        "one trained number, which keeps the question itself away (lesson 7); raw: BERT; scratch: nothing",
    )
    how_long = parser.add_mutually_exclusive_group()
    how_long.add_argument("--steps", type=int, default=50)
    how_long.add_argument("--epochs", type=int, help="passes over the table, in place of --steps")
    parser.add_argument("--batch", type=int, help="of all processes together; default: the lesson's")
    parser.add_argument("--lr", type=float, help="default: the lesson's for the start")
    parser.add_argument("--scale", type=float, default=20)
    parser.add_argument("--echo", action=argparse.BooleanOptionalAction, help="questions as wrong passages")
    parser.add_argument("--length", type=int, default=64, help="pieces of a text that are read, at most 512")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = {"warmup": 0.1, "scale": args.scale, "seed": args.seed, "length": args.length} | SETTINGS[
        args.start
    ]
    settings |= {key: value for key in ("lr", "batch", "echo") if (value := vars(args)[key]) is not None}

    several = "RANK" in os.environ
    device = place()
    if several:
        dist.init_process_group("nccl" if device != "cpu" else "gloo")
    first = not several or dist.get_rank() == 0
    try:
        train, test = (data.qa_pairs(args.pairs, part) for part in ("train", "test"))
        asked = len({*train["question"], *test["question"]})
        if len(test) < 2:
            raise ValueError(
                f"{len(test)} of the table's rows would judge (different questions: {asked}); "
                "give at least seven, better a hundred"
            )
        if first:
            checkpoints.ready(args.out)
            if known := test["answer"].isin(set(train["answer"])).sum():
                print(f"{known} of {len(test)} answers that judge are among those trained on")
            if cut := encoders.said_of_cut(test, args.length):
                print(f"of the pairs that judge, {cut}")
        passes = {"steps": args.steps} if args.epochs is None else {"epochs": args.epochs}
        torch.manual_seed(args.seed)  # the same start on every process
        question_encoder, answer_encoder = build(args.start)
        pair = question_encoder.to(device), answer_encoder.to(device)
        judged = {"pairs": test, "echoes": bool(settings.get("echo")), "length": args.length}
        before = ranking.reciprocal_ranks(*pair, **judged) if first else None
        losses = training.train(*pair, train, **settings, **passes)
        if first:
            after = ranking.reciprocal_ranks(*pair, **judged)
            print(f"{len(train)} pairs trained on, {len(losses)} steps; {len(test)} pairs judge")
            print(f"MRR before {before.mean():.3f}, after {after.mean():.3f}: {verdict(after, before)}")
            held_out = {"MRR before": before.mean(), "MRR": after.mean(), "recall@1": (after == 1).mean()}
            saved = keep(args.out, *pair, start=args.start, losses=losses, held_out=held_out)
            print(f"saved in {saved}/")
        if several:
            dist.barrier()  # leave together: who leaves while others still talk may break off badly
    except KeyboardInterrupt:
        print("\nstopped; nothing was saved", file=sys.stderr)
        sys.exit(130)
    except (ValueError, OSError, FloatingPointError) as e:
        sys.exit(files.sentence(e))
    finally:
        if several:
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
