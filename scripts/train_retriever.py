"""Train a retriever on a table of questions and answers, on one process or several.

    python scripts/train_retriever.py --pairs my_pairs.tsv --out my_pair
    torchrun --nproc-per-node 2 scripts/train_retriever.py --pairs my_pairs.tsv --out my_pair

The table is a TSV with the columns `questions` and `answers`. The first 70 % of its rows are
trained on; the rest judge, before and after. Under torchrun the processes share each batch, and
every question sees the passages of all processes as its wrong ones. Each process takes its own
GPU where there are any. The result opens with helpers.checkpoints.load(OUT).
"""

import argparse
import os
import pathlib
import sys

import torch
import torch.distributed as dist

from helpers import checkpoints, data, encoders, models, ranking, training


def build(start: str, side: str) -> torch.nn.Module:
    """An encoder before its first step. start: as in --start; side: "question" or "answer"."""
    if start == "scratch":
        return encoders.Encoder()
    if start == "raw":
        return encoders.Pretrained(models.path("bert-base-uncased", quiet=True))
    folder = models.path(encoders.MINILM, quiet=True)
    if start == "minilm":
        return encoders.Pretrained(folder)
    return encoders.TopicAndForm(folder, start=1.0 if side == "question" else 0.0)


def place() -> str:
    """This process's device."""
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=pathlib.Path, help="default: the course's own table")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the checkpoint")
    parser.add_argument(
        "--start",
        choices=["number", "minilm", "raw", "scratch"],
        default="number",
        help="number: MiniLM left as it is and one trained number (lesson 6)",
    )
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32, help="of all processes together")
    parser.add_argument("--lr", type=float, help="default: what lesson 6 uses for the start")
    parser.add_argument("--scale", type=float, default=20)
    parser.add_argument("--no-echo", action="store_true", help="leave the echoes out")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rates = {"number": 1e-2, "minilm": 2e-5, "raw": 2e-4, "scratch": 3e-4}

    several = "RANK" in os.environ
    device = place()
    if several:
        dist.init_process_group("nccl" if device != "cpu" else "gloo")
    first = not several or dist.get_rank() == 0
    try:
        train, test = (data.qa_pairs(args.pairs, part) for part in ("train", "test"))
        torch.manual_seed(args.seed)  # the same start on every process
        pair = [build(args.start, side).to(device) for side in ("question", "answer")]
        before = ranking.score_pair(*pair, test) if first else None
        losses = training.train(
            *pair,
            train,
            epochs=args.epochs,
            batch=args.batch,
            lr=args.lr or rates[args.start],
            warmup=0.1,
            scale=args.scale,
            echo=not args.no_echo,
            seed=args.seed,
        )
        if first:
            after = ranking.score_pair(*pair, test)
            for name, value in after.items():
                print(f"{name:24} before {before[name]:.3f}   after {value:.3f}")
            checkpoints.save(args.out, *pair, start=args.start, losses=losses, held_out=after)
            print(f"saved in {args.out}/")
        if several:
            dist.barrier()  # leave together: who leaves while others still talk may break off badly
    except (ValueError, FileNotFoundError) as e:
        sys.exit(str(e))
    finally:
        if several:
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
