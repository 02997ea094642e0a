"""Embed passages on several workers into one LanceDB table that everybody reads, and index the table.

    pip install -e ".[cluster]"
    python scripts/ingest_with_ray.py --store my_store --passages my_passages.tsv --workers 2
    python scripts/ingest_with_ray.py --store s3://bucket/store --passages s3://bucket/passages --workers 16 \\
        --env AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_REGION
    python scripts/ingest_with_ray.py --store s3://bucket/store --index --workers 16

The passages have the columns `id` and `text`; every other column is kept as it is. A folder of Parquet
files, one Parquet file or a Lance dataset (NAME.lance), on disk or at an address, is read by the workers,
however large it is; a TSV, CSV or JSON lines file is read here, whole. An id is a text: 1 and "1" are one id.

Ray Data reads and embeds, each worker with a model of its own; lance-ray lets the workers write the
rows themselves, and this process only says which of the files belong to the table. It says so once a
part: a part is as many of the input's files (or Lance fragments) as make --rows-a-commit rows. A part is
in the table whole or not at all. Start the same command again after any interruption: each worker asks
the table for the ids of its batch, and embeds only what is missing. A passage whose text has changed is
embedded again and takes the place of the old one. Two starts at once may bring different passages to one
table, and not the same.

What is ours, and why: lance-ray can go on after a number of rows (`resume_rows`), but only in a mode that
brings all rows to this process, commits each batch, and needs the rows in the same order. So the ids decide.

Without RAY_ADDRESS the workers are processes of this machine; with it, they are where Ray puts
them on the cluster of that address. `ray job submit` sets it.
"""

import argparse
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator

os.environ.setdefault("LANCEDB_LOG", "error")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # today's default, without its remark
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent to anyone

import lancedb
import numpy as np
import pandas as pd
import pyarrow as pa

from helpers import models, tables, texts

warnings.filterwarnings("ignore", ".*fork")  # Ray's own processes start another program at once

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
ROWS_A_FILE = 2**18  # of the table: about half a gigabyte, so a thousand million rows are 4,000 files
LADDER = [(16, 10), (32, 20), (64, 40), (96, 60)]  # nprobes and refine_factor, as in lesson 12


# ------------------------------------------------------------------ what comes in


def read(path: str) -> pd.DataFrame:
    """A text table's passages, ids as texts. Raises as `tables.read` does, and ValueError for an id given twice."""
    rows = tables.read(path, ["id", "text"], numbers=["id"], rest=True)
    if rows["id"].duplicated().any():
        double = rows["id"][rows["id"].duplicated()].iloc[0]
        raise ValueError(f"{path}: the id {double!r} stands in more than one row")
    return rows


def parts(address: str, rows: int, block: int) -> tuple[pa.Schema, list[tuple[int, list]], Callable]:
    """The input cut into parts of at least `rows` rows: its columns, the parts, and how they are read.

    A part is (number of rows, pieces); reading(part, columns) gives a Ray Dataset of it, in blocks of about
    `block` rows: what a worker gets at once, and does again after a death. Of a Parquet file only the
    footer is read here. Raises as `read` does, and ValueError for columns that cannot be used.
    """
    import ray.data
    from pyarrow import dataset, fs

    if "://" in address:
        system, path = fs.FileSystem.from_uri(address)
    else:
        system, path = fs.LocalFileSystem(), os.path.abspath(address)
    path = path.rstrip("/")
    kind = system.get_file_info(path).type
    if path.endswith(".lance"):
        import lance
        import lance_ray

        whole = lance.dataset(address)
        pieces = [(piece.count_rows(), piece.fragment_id) for piece in whole.get_fragments()]

        def read_pieces(ids, columns, blocks):
            return lance_ray.read_lance(
                address, columns=columns, fragment_ids=ids, override_num_blocks=blocks
            )
    elif kind == fs.FileType.Directory or (kind == fs.FileType.File and path.endswith(".parquet")):
        whole = dataset.dataset(path, filesystem=system, format="parquet")
        pieces = [(piece.count_rows(), piece.path) for piece in whole.get_fragments()]

        def read_pieces(files, columns, blocks):
            return ray.data.read_parquet(
                files, filesystem=system, columns=columns, partitioning=None, override_num_blocks=blocks
            )
    else:
        whole = pa.Table.from_pandas(read(address), preserve_index=False)
        slices = [whole[i : i + rows] for i in range(0, len(whole), rows)]
        pieces = [(len(piece), piece) for piece in slices]

        def read_pieces(tables, columns, blocks):
            whole = pa.concat_tables(tables)
            return ray.data.from_arrow(
                whole.select(columns or whole.column_names), override_num_blocks=blocks
            )

    for column in ("id", "text"):
        if column not in whole.schema.names:
            raise ValueError(f"{address}: no column {column!r}; it has {', '.join(whole.schema.names)}")
    if "vector" in whole.schema.names:
        raise ValueError(f"{address}: the column 'vector' is what this script makes; rename yours")
    cut = [(0, [])]
    for number, piece in pieces:
        if cut[-1][0] >= rows:
            cut.append((0, []))
        cut[-1] = (cut[-1][0] + number, [*cut[-1][1], piece])
    if not sum(number for number, _ in cut):
        raise ValueError(f"{address} has no rows")

    def reading(part, columns=None):
        return read_pieces(part[1], columns, max(len(part[1]), -(-part[0] // block)))

    return whole.schema, cut, reading


def clean(batch: pa.Table) -> pa.Table:
    """Ids and texts as texts, without the space around them. Raises ValueError with the id for an unfit one."""
    for column in {"id", "text"} & set(batch.column_names):
        values = batch[column].to_pylist()
        for place, value in enumerate(values):
            if column == "id" and isinstance(value, int | float) and not isinstance(value, bool):
                value = str(value)
            values[place] = value = value.strip() if isinstance(value, str) else value
            if wrong := texts.fault(value):
                whose = "" if column == "id" else f" of the id {batch['id'][place].as_py()!r}"
                raise ValueError(f"the column {column!r}{whose} {wrong}")
        at = batch.column_names.index(column)
        batch = batch.set_column(at, column, pa.array(values, pa.string()))
    return batch


def given_twice(ids) -> str | None:
    """An id that stands in more than one row of a Ray Dataset with the column `id`, or None."""
    counted = ids.map_batches(clean, batch_format="pyarrow").groupby("id", num_partitions=8).count()
    twice = counted.filter(lambda row: row["count()"] > 1).take(1)
    return twice[0]["id"] if twice else None


# ------------------------------------------------------------------ the table


def opened(db: lancedb.DBConnection, name: str) -> lancedb.table.Table | None:
    """The store's table, or None where it has none of this name."""
    return db.open_table(name) if name in db.list_tables(limit=10**6).tables else None


def columns_of(given: pa.Schema) -> pa.Schema:
    """The columns of a new table: those of the input, ids and texts as texts, and the vector."""
    fields = [pa.field(f.name, pa.string()) if f.name in ("id", "text") else f for f in given]
    return pa.schema([*fields, pa.field("vector", pa.list_(pa.float32(), 384))])


def check_columns(held: pa.Schema, given: pa.Schema) -> None:
    """Raise ValueError where the store's table cannot take the rows: other columns, or of another kind."""
    if "vector" not in held.names or getattr(held.field("vector").type, "list_size", 0) != 384:
        raise ValueError("the store's table has no vectors of MiniLM (384 numbers); name another --table")
    wanted = columns_of(given)
    if odd := [
        column
        for column in [*wanted.names, *held.names]
        if column not in held.names or column not in wanted.names
    ]:
        whose = (
            "in the passages and not in the store's table"
            if odd[0] in wanted.names
            else "in the store's table and not in the passages"
        )
        raise ValueError(f"the column {odd[0]!r} is {whose}; make them alike, or name another --table")
    for field in wanted:
        kind = held.field(field.name).type
        if field.type != kind and not {str(field.type), str(kind)} <= {"string", "large_string"}:
            raise ValueError(
                f"the column {field.name!r} holds {field.type} in the passages and {kind} in the store's table; "
                "name another --table"
            )


def standing(table: lancedb.table.Table, batch: pa.Table) -> np.ndarray:
    """For each passage of a cleaned batch: "new", "changed" (held with another text) or "there".

    One query, which the index on `id` answers once there is one.
    """
    ids = batch["id"].to_pylist()
    listed = ", ".join("'" + one.replace("'", "''") + "'" for one in ids)
    found = table.search().where(f"id IN ({listed})").select(["id", "text"]).limit(2 * len(ids)).to_arrow()
    held = dict(zip(found["id"].to_pylist(), found["text"].to_pylist(), strict=True))
    return np.array(
        [
            "new" if one not in held else "there" if held[one] == text else "changed"
            for one, text in zip(ids, batch["text"].to_pylist(), strict=True)
        ]
    )


def counted(batch: pa.Table, store: str, name: str) -> pa.Table:
    """One row: how many passages of the batch are new, and how many changed."""
    found = standing(lancedb.connect(store).open_table(name), clean(batch))
    return pa.table({"new": [int((found == "new").sum())], "changed": [int((found == "changed").sum())]})


class Embedder:
    """One worker: a model that is loaded once, and turns passages into rows of the table."""

    def __init__(self, store: str, name: str, wanted: str, threads: int, length: int, tally):
        """wanted: "new" or "changed", and only those of each batch; "all" asks the table for nothing."""
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(threads)
        self.model = SentenceTransformer(str(models.path(MINILM, quiet=True)))
        self.model.max_seq_length = length
        self.table, self.wanted, self.tally = lancedb.connect(store).open_table(name), wanted, tally

    def __call__(self, batch: pa.Table) -> pa.Table:
        batch = clean(batch)
        if self.wanted != "all":
            batch = batch.filter(pa.array(standing(self.table, batch) == self.wanted))
        if not len(batch):
            return self.table.schema.empty_table()
        passages = batch["text"].to_pylist()
        vectors = self.model.encode(passages, normalize_embeddings=True, show_progress_bar=False)
        pieces = self.model.tokenizer(passages, truncation=False, verbose=False)["input_ids"]
        self.tally.add.remote(sum(len(text) > self.model.max_seq_length for text in pieces))
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 384)
        return batch.append_column("vector", column).select(self.table.schema.names).cast(self.table.schema)


class Tally:
    """How many texts were longer than what is read of them; a batch embedded twice, after a worker's death, counts twice."""

    def __init__(self):
        self.cut = 0

    def add(self, cut: int) -> None:
        self.cut += cut

    def total(self) -> int:
        return self.cut


# ------------------------------------------------------------------ the indexes


def cells(rows: int) -> int:
    """How many cells: the power of two nearest to twice the square root of the number (lesson 12)."""
    return 2 ** round(np.log2(2 * rows**0.5))


def index_ids(table: lancedb.table.Table) -> None:
    """The index that finds a row by its id, made with the first rows and brought up to date with later ones.

    The ids that pandas writes are `large_string`, which can have no such index; they become `string`.
    """
    import lance_ray

    if any(index.columns == ["id"] for index in table.list_indices()):
        lance_ray.optimize_indices(table.uri, indices=["id_idx"])
    elif table.count_rows():
        if table.schema.field("id").type == pa.large_string():
            table.alter_columns({"path": "id", "data_type": pa.string()})
        table.create_index("id", config=lancedb.index.BTree())


def build_indexes(address: str, rows: int, workers: int) -> None:
    """The vector index and the text index of a table of at least 10,000 rows, each worker a share of its files.

    Vectors: cells, and in them 96 codes of 4 bits (lesson 12), 48 bytes a vector. The cells' centres are
    found here, from a hundred vectors a cell, or fewer where there are no more.
    """
    import lance_ray

    lance_ray.create_index(
        address,
        "vector",
        "IVF_PQ",
        metric="cosine",
        num_partitions=cells(rows),
        num_sub_vectors=96,
        num_bits=4,
        sample_rate=min(100, rows // cells(rows)),
        num_workers=workers,
    )
    lance_ray.create_scalar_index(address, column="text", index_type="INVERTED", num_workers=workers)


def settings(
    table: lancedb.table.Table, number: int = 20, k: int = 10
) -> Iterator[tuple[int, int, float, float]]:
    """(nprobes, refine_factor, recall@k against reading everything, median milliseconds) for each setting of LADDER.

    The questions are the vectors of `number` rows of the table, each row left out of its own answers. The
    first line, with nprobes 0, is reading everything.
    """
    rows = table.search().select(["id", "vector"]).limit(number).to_arrow()

    def ask(nprobes: int, refine: int) -> tuple[list[set], float]:
        found, times = [], []
        for own, vector in zip(rows["id"].to_pylist(), rows["vector"].to_pylist(), strict=True):
            query = table.search(vector).distance_type("cosine").select(["id"]).limit(k + 1)
            query = query.nprobes(nprobes).refine_factor(refine) if nprobes else query.bypass_vector_index()
            begin = time.perf_counter()
            answer = query.to_arrow()["id"].to_pylist()
            times.append(time.perf_counter() - begin)
            found.append(set([one for one in answer if one != own][:k]))
        return found, 1000 * float(np.median(times))

    exact, ms = ask(0, 0)
    yield 0, 0, 1.0, ms
    for nprobes, refine in LADDER:
        found, ms = ask(nprobes, refine)
        yield nprobes, refine, float(np.mean([len(a & b) / k for a, b in zip(found, exact, strict=True)])), ms


# ------------------------------------------------------------------ the work


def ingest(
    args: argparse.Namespace, db: lancedb.DBConnection, given: pa.Schema, cut: list, reading: Callable
) -> None:
    """Embed what is missing or changed. given, cut, reading: what `parts` returned."""
    import lance_ray
    import ray

    table = opened(db, args.table)
    total = sum(rows for rows, _ in cut)
    everything = total, [piece for _, pieces in cut for piece in pieces]
    if not isinstance(cut[0][1][0], pa.Table) and (double := given_twice(reading(everything, ["id"]))):
        raise ValueError(f"{args.passages}: the id {double!r} stands in more than one row")
    new, changed, held = total, 0, table is not None and table.count_rows() > 0
    if held:
        sums = (
            reading(everything, ["id", "text"])
            .map_batches(counted, fn_args=[args.store, args.table], batch_size=4096, batch_format="pyarrow")
            .sum(["new", "changed"])
        )
        new, changed = int(sums["sum(new)"]), int(sums["sum(changed)"])
    there = f"{total - new:,} of them in the store already"
    print(f"{total:,} passages, {there}" + f", {changed:,} with another text" * (changed > 0), flush=True)
    if not new + changed:
        return

    table = table or db.create_table(args.table, schema=columns_of(given), exist_ok=True)
    tally = ray.remote(num_cpus=0)(Tally).remote()

    def embedded(part: tuple[int, list], wanted: str):
        return reading(part).map_batches(
            Embedder,
            fn_constructor_args=[args.store, args.table, wanted, args.threads, args.length, tally],
            batch_size=args.batch,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=args.workers),
            num_cpus=args.threads,
            num_gpus=args.gpus,
        )

    begin = time.perf_counter()
    for number, part in enumerate(cut, 1) if new else []:
        lance_ray.write_lance(
            embedded(part, "new" if held else "all"),
            table.uri,
            mode="append",
            schema=table.schema,
            min_rows_per_file=ROWS_A_FILE,
        )
        table.checkout_latest()
        index_ids(table)
        print(f"part {number} of {len(cut)} ({part[0]:,} passages) is in the store", flush=True)
    if changed:  # few, so they come through this process, in one commit
        batches = embedded(everything, "changed").iter_batches(batch_size=args.batch, batch_format="pyarrow")
        stream = (record for batch in batches for record in batch.to_batches())
        reader = pa.RecordBatchReader.from_batches(table.schema, stream)
        table.merge_insert("id").when_matched_update_all().execute(reader)
    seconds = time.perf_counter() - begin
    table.checkout_latest()
    print(
        f"{new + changed:,} embedded by {args.workers} workers, {(new + changed) / seconds:,.0f} a second; "
        f"{table.count_rows():,} rows in {args.store}"
    )
    if long := ray.get(tally.total.remote()):
        print(
            f"{long:,} of them are longer than {args.length} pieces, and the rest of each was not read; see --length"
        )


def index(args: argparse.Namespace, db: lancedb.DBConnection) -> None:
    """Build the indexes and say how often, and how fast, each setting is right."""
    table = opened(db, args.table)
    rows = table.count_rows() if table is not None else 0
    if rows < 10_000:
        raise ValueError(f"{rows:,} rows need no index: below 10,000, reading them all is quick")
    begin = time.perf_counter()
    index_ids(table)
    build_indexes(table.uri, rows, args.workers)
    seconds = time.perf_counter() - begin
    print(f"{rows:,} rows indexed in {cells(rows):,} cells, and their words, in {seconds:,.0f} s")
    table.checkout_latest()
    for nprobes, refine, recall, ms in settings(table, args.questions):
        how = f"nprobes {nprobes}, refine_factor {refine}" if nprobes else "reading everything"
        print(f"{how}: recall@10 {recall:.3f}, {ms:.1f} ms a question")


def at_least(least: int):
    """A type for argparse: a whole number that is not below `least`."""

    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text} is too few; give at least {least}")
        return int(text)

    return number


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--store", required=True, help="a folder or an address such as s3://bucket/store")
    parser.add_argument("--table", default="passages")
    parser.add_argument("--passages", help="with `id` and `text`: Parquet, NAME.lance, or a text table")
    parser.add_argument("--index", action="store_true", help="build the vector index and the text index")
    parser.add_argument("--questions", type=at_least(1), default=20, help="how many measure the index")
    parser.add_argument("--workers", type=at_least(1), default=2)
    parser.add_argument("--threads", type=at_least(1), default=1, help="processor cores of each worker")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of each worker")
    parser.add_argument(
        "--batch", type=at_least(1), default=1024, help="passages that a worker takes at once"
    )
    parser.add_argument("--length", type=at_least(3), default=256, help="pieces of a text that are read")
    parser.add_argument("--rows-a-commit", type=at_least(1), default=1_000_000, help="passages of a part")
    parser.add_argument(
        "--env", nargs="+", default=[], metavar="NAME", help="variables that the workers get from here"
    )
    args = parser.parse_args()
    if args.length > 512:
        parser.error("--length: MiniLM reads at most 512 pieces")
    if args.gpus < 0:
        parser.error("--gpus: a worker has none or some")
    if not args.passages and not args.index:
        parser.error("nothing to do: name --passages, or --index, or both")
    if lacking := [name for name in args.env if name not in os.environ]:
        parser.error(f"--env: {lacking[0]} is not set here")
    if "://" not in args.store:
        args.store = os.path.abspath(args.store)
    return args


def sentence(error: BaseException) -> str:
    """The first line of what went wrong where it went wrong, also inside a worker."""
    while deeper := getattr(error, "cause", None) or error.__cause__:
        error = deeper
    return str(error).strip().splitlines()[0]


def main() -> None:
    args = arguments()
    try:
        import lance_ray  # noqa: F401
        import ray
    except ImportError:
        sys.exit('This script needs Ray and lance-ray, which come with:  pip install -e ".[cluster]"')
    try:
        db = lancedb.connect(args.store)
        table = opened(db, args.table)
    except (OSError, RuntimeError, ValueError) as e:
        why = getattr(e, "strerror", None) or str(e).splitlines()[0]
        sys.exit(f"the store {args.store} cannot be opened ({why}); name a folder of your own")
    try:
        given = parts(args.passages, args.rows_a_commit, 8 * args.batch) if args.passages else None
        if given and table is not None:
            check_columns(table.schema, given[0])
    except (OSError, ValueError) as e:
        sys.exit(sentence(e))
    passed_on = {name: os.environ[name] for name in args.env}

    def take_over() -> (
        None
    ):  # Ray writes a runtime_env's env_vars into its logs, and not what a function holds
        os.environ.update(passed_on)

    here = {"worker_process_setup_hook": take_over} if passed_on else {}
    if "RAY_ADDRESS" in os.environ:
        ray.init(logging_level="error", runtime_env=here)
    else:
        ray.init(
            "local",
            num_cpus=args.workers * args.threads + 1,  # one reads and writes
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            logging_level="error",
            runtime_env=here,
        )
    logging.getLogger("ray.data").setLevel("WARNING")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = sys.stderr.isatty()
    context.print_on_execution_start = False
    context.use_datasource_v2 = False  # the newer one needs aiohttp as soon as two files are read at once
    try:
        if given:
            ingest(args, db, *given)
        if args.index:
            index(args, db)
    except KeyboardInterrupt:
        sys.exit("stopped; what the store has taken stays there, and the same command goes on from it")
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as e:
        sys.exit(sentence(e))
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
