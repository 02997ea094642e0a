"""Embed a table of passages on several workers and put it into a LanceDB store.

    pip install -e ".[cluster]"
    python scripts/ingest_with_ray.py --passages my_passages.tsv --store my_store --workers 2
    ray job submit --working-dir scripts -- python ingest_with_ray.py --workers 16 \\
        --passages s3://bucket/passages.parquet --store s3://bucket/store

The table is a TSV or Parquet file with the columns `id` and `text`; every other column is kept as
it is. Each worker is a Ray actor with a model of its own; the batches come back in the order in
which they are ready, and this process alone writes them. A batch that the store has taken stays
taken: start the same command again after any interruption, and it embeds only what is missing.

Without RAY_ADDRESS the workers are processes of this machine; with it, they are where Ray puts
them on the cluster of that address. `ray job submit` sets it.
"""

import argparse
import os
import sys

os.environ.setdefault("LANCEDB_LOG", "error")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # today's default, without its remark
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anyone

import lancedb
import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm.auto import tqdm

from helpers import models

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def read(path: str) -> pd.DataFrame:
    """The passages. Raises ValueError for a table that cannot be used."""
    if path.endswith(".parquet"):
        rows = pd.read_parquet(path)
    else:
        rows = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=3)
    for column in ("id", "text"):
        if column not in rows:
            raise ValueError(f"{path}: no column {column!r}; it has {', '.join(rows.columns)}")
    if "vector" in rows:
        raise ValueError(f"{path}: the column 'vector' is what this script makes; rename yours")
    if rows["id"].duplicated().any():
        double = rows["id"][rows["id"].duplicated()].iloc[0]
        raise ValueError(f"{path}: the id {double!r} stands in more than one row")
    return rows


class Embedder:
    """One worker: a model that is loaded once and embeds batch after batch."""

    def __init__(self, threads: int):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.model = SentenceTransformer(str(models.path(MINILM, quiet=True)))

    def embed(self, number: int, texts: list[str]) -> tuple[int, np.ndarray]:
        """The batch's number and its vectors, (texts, 384) of length 1."""
        vectors = self.model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return number, vectors


def missing(db: lancedb.DBConnection, name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose id the store does not hold yet."""
    if name not in db.list_tables().tables:
        return rows
    there = db.open_table(name).search().select(["id"]).limit(2**31).to_arrow()["id"]
    return rows[~rows["id"].isin(there.to_pylist())]


def write(db: lancedb.DBConnection, name: str, rows: pd.DataFrame, vectors: np.ndarray) -> None:
    """Add one batch, and with the first one the table."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    batch = pa.Table.from_pandas(rows, preserve_index=False).append_column("vector", column)
    if name in db.list_tables().tables:
        db.open_table(name).add(batch)
    else:
        db.create_table(name, batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--passages", required=True, help="TSV or Parquet with `id` and `text`")
    parser.add_argument("--store", required=True, help="a folder or an address such as s3://bucket/store")
    parser.add_argument("--table", default="passages")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="processor cores of each worker")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each worker")
    parser.add_argument("--batch", type=int, default=1024, help="passages that one message carries")
    args = parser.parse_args()
    try:
        import ray
    except ImportError:
        sys.exit('This script needs Ray, which comes with:  pip install -e ".[cluster]"')
    try:
        rows = read(args.passages)
    except (OSError, ValueError) as e:
        sys.exit(str(e))
    db = lancedb.connect(args.store)
    todo = missing(db, args.table, rows)
    print(f"{len(rows):,} passages, {len(rows) - len(todo):,} of them in the store already")
    if todo.empty:
        return

    batches = [todo[i : i + args.batch] for i in range(0, len(todo), args.batch)]
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
        free = [actor.remote(args.threads) for _ in range(workers)]
        queue, busy = list(range(len(batches)))[::-1], {}
        with tqdm(total=len(todo), desc="embedding", unit="passage") as bar:
            while queue or busy:
                while queue and free:
                    worker, number = free.pop(), queue.pop()
                    busy[worker.embed.remote(number, list(batches[number]["text"]))] = worker
                for ready in ray.wait(list(busy))[0]:
                    free.append(busy.pop(ready))
                    number, vectors = ray.get(ready)
                    write(db, args.table, batches[number], vectors)
                    bar.update(len(vectors))
    finally:
        ray.shutdown()
    table = db.open_table(args.table)
    table.optimize()
    print(f"{len(todo):,} embedded by {workers} workers; {table.count_rows():,} rows in {args.store}")


if __name__ == "__main__":
    main()
