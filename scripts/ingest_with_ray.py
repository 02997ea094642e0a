"""Embed a table of passages on several workers and put it into a LanceDB store.

    pip install -e ".[cluster]"
    python scripts/ingest_with_ray.py --passages my_passages.tsv --store my_store --workers 2
    ray job submit --working-dir scripts -- python ingest_with_ray.py --workers 16 \\
        --passages s3://bucket/passages.parquet --store s3://bucket/store

The table (TSV, CSV, JSON lines or Parquet) has the columns `id` and `text`; every other column is
kept as it is, and the store's table has the same columns from its first rows on. An id is a text: 1 and
"1" are one id. Each worker is a Ray actor with a model of its own; the batches come back in the order in
which they are ready, and this process alone writes them. A batch that the store has taken stays
taken: start the same command again after any interruption, and it embeds only what is missing. A passage
whose text has changed is embedded again and takes the place of the old one.

Without RAY_ADDRESS the workers are processes of this machine; with it, they are where Ray puts
them on the cluster of that address. `ray job submit` sets it.
"""

import argparse
import os
import sys
import warnings

os.environ.setdefault("LANCEDB_LOG", "error")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # today's default, without its remark
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anyone

import lancedb
import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm.auto import tqdm

from helpers import models, tables

warnings.filterwarnings("ignore", "lancedb fork support")  # Ray's own processes start another program at once

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def read(path: str) -> pd.DataFrame:
    """The passages, ids as texts. Raises as `tables.read` does, and ValueError for an id given twice."""
    rows = tables.read(path, ["id", "text"], numbers=["id"], rest=True)
    if "vector" in rows:
        raise ValueError(f"{path}: the column 'vector' is what this script makes; rename yours")
    if rows["id"].duplicated().any():
        double = rows["id"][rows["id"].duplicated()].iloc[0]
        raise ValueError(f"{path}: the id {double!r} stands in more than one row")
    return rows


class Embedder:
    """One worker: a model that is loaded once and embeds batch after batch."""

    def __init__(self, threads: int, length: int = 256):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.model = SentenceTransformer(str(models.path(MINILM, quiet=True)))
        self.model.max_seq_length = length

    def embed(self, number: int, texts: list[str]) -> tuple[int, np.ndarray, int]:
        """The batch's number, its vectors, (texts, 384) of length 1, and how many texts were cut off."""
        vectors = self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        pieces = self.model.tokenizer(texts, truncation=False, verbose=False)["input_ids"]
        return number, vectors, sum(len(text) > self.model.max_seq_length for text in pieces)


def opened(db: lancedb.DBConnection, name: str) -> lancedb.table.Table | None:
    """The store's table, or None where it has none of this name."""
    return db.open_table(name) if name in db.list_tables(limit=10**6).tables else None


def check_columns(table: lancedb.table.Table, rows: pd.DataFrame) -> None:
    """Raise ValueError where the store's table cannot take the rows: other columns, or of another kind."""
    held, given = [n for n in table.schema.names if n != "vector"], list(rows)
    if (
        "vector" not in table.schema.names
        or getattr(table.schema.field("vector").type, "list_size", 0) != 384
    ):
        raise ValueError("the store's table has no vectors of MiniLM (384 numbers); name another --table")
    if odd := [column for column in [*given, *held] if column not in held or column not in given]:
        whose = (
            "in the passages and not in the store's table"
            if odd[0] in given
            else "in the store's table and not in the passages"
        )
        raise ValueError(f"the column {odd[0]!r} is {whose}; make them alike, or name another --table")
    for field in pa.Schema.from_pandas(rows, preserve_index=False):
        kind = table.schema.field(field.name).type
        if field.type != kind and not {str(field.type), str(kind)} <= {"string", "large_string"}:
            raise ValueError(
                f"the column {field.name!r} holds {field.type} in the passages and {kind} in the store's table; "
                "name another --table"
            )


def missing(db: lancedb.DBConnection, name: str, rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows whose id the store does not hold yet, and those that it holds with another text."""
    if (table := opened(db, name)) is None:
        return rows, rows[:0]
    check_columns(table, rows)
    texts, there, other = dict(zip(rows["id"], rows["text"], strict=True)), set(), set()
    for batch in table.search().select(["id", "text"]).limit(2**31).to_batches():
        for one, text in zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True):
            there.add(one)
            if texts.get(one, text) != text:
                other.add(one)
    return rows[~rows["id"].isin(there)], rows[rows["id"].isin(other)]


def write(
    db: lancedb.DBConnection, name: str, rows: pd.DataFrame, vectors: np.ndarray, replace: bool = False
) -> None:
    """Add one batch, and with the first one the table; replace: put it in the place of rows of its ids."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    batch = pa.Table.from_pandas(rows, preserve_index=False).append_column("vector", column)
    table = db.create_table(name, schema=batch.schema, exist_ok=True)  # two may come first
    if replace:
        table.merge_insert("id").when_matched_update_all().execute(batch)
    else:
        table.add(batch)


def at_least(least: int):
    """A type for argparse: a whole number that is not below `least`."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is too few; give at least {least}")
        return int(text)

    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--passages", required=True, help="a table with `id` and `text`")
    parser.add_argument("--store", required=True, help="a folder or an address such as s3://bucket/store")
    parser.add_argument("--table", default="passages")
    parser.add_argument("--workers", type=at_least(1), default=2)
    parser.add_argument("--threads", type=at_least(1), default=1, help="processor cores of each worker")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each worker")
    parser.add_argument("--batch", type=at_least(1), default=1024, help="passages that one message carries")
    parser.add_argument("--length", type=at_least(3), default=256, help="pieces of a text that are read")
    args = parser.parse_args()
    if args.length > 512:
        parser.error("--length: MiniLM reads at most 512 pieces")
    if args.gpus < 0:
        parser.error("--gpus: a worker has none or some")
    try:
        import ray
    except ImportError:
        sys.exit('This script needs Ray, which comes with:  pip install -e ".[cluster]"')
    try:
        rows = read(args.passages)
    except (OSError, ValueError) as e:
        sys.exit(str(e))
    try:
        db = lancedb.connect(args.store)
        new, changed = missing(db, args.table, rows)
    except ValueError as e:
        sys.exit(str(e))
    except (OSError, RuntimeError) as e:
        why = getattr(e, "strerror", None) or str(e).splitlines()[0]
        sys.exit(f"the store {args.store} cannot be opened ({why}); name a folder of your own")
    there = f"{len(rows) - len(new):,} of them in the store already"
    print(f"{len(rows):,} passages, {there}" + f", {len(changed):,} with another text" * (len(changed) > 0))
    if new.empty and changed.empty:
        return

    batches = [part[i : i + args.batch] for part in (new, changed) for i in range(0, len(part), args.batch)]
    first_changed = -(-len(new) // args.batch)  # the batches from here on replace rows
    todo, cut = len(new) + len(changed), 0
    workers = min(args.workers, len(batches))
    if "RAY_ADDRESS" in os.environ:
        ray.init(logging_level="error")
    else:
        ray.init(
            "local",
            num_cpus=workers * args.threads,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            logging_level="error",
        )
    try:
        actor = ray.remote(num_cpus=args.threads, num_gpus=args.gpus, max_restarts=3, max_task_retries=3)(
            Embedder
        )
        free = [actor.remote(args.threads, args.length) for _ in range(workers)]
        queue, busy = list(range(len(batches)))[::-1], {}
        with tqdm(total=todo, desc="embedding", unit="passage") as bar:
            while queue or busy:
                while queue and free:
                    worker, number = free.pop(), queue.pop()
                    busy[worker.embed.remote(number, list(batches[number]["text"]))] = worker
                for ready in ray.wait(list(busy))[0]:
                    free.append(busy.pop(ready))
                    number, vectors, longer = ray.get(ready)
                    write(db, args.table, batches[number], vectors, replace=number >= first_changed)
                    cut += longer
                    bar.update(len(vectors))
    except KeyboardInterrupt:
        sys.exit("stopped; what the store has taken stays there, and the same command goes on from it")
    finally:
        ray.shutdown()
    table = db.open_table(args.table)
    table.optimize()
    print(f"{todo:,} embedded by {workers} workers; {table.count_rows():,} rows in {args.store}")
    if cut:
        print(
            f"{cut:,} of them are longer than {args.length} pieces, and the rest of each was not read; see --length"
        )


if __name__ == "__main__":
    main()
