"""A search over a folder of documents: filled, asked, kept in one folder and opened again in one line.

    from helpers import collection
    own = collection.index("my papers", "my search")     # read, cut, embed; again: only what has changed
    own.ask("When is the shed open?", k=5)                # rank, source, section, page, score, text
    own = collection.load("my search")                   # tomorrow

The folder "my search" holds `settings.json` (which index, which model, which numbers), the index (LanceDB:
passages, vectors, words; `files.json`: what was read when), `grades.tsv` (judgements, see helpers/judging.py)
and, once it was adapted, the model. Every write is whole or not there; a run that was stopped goes on.
"""

import contextlib
import functools
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import documents, files, models, texts

if TYPE_CHECKING:
    import numpy as np
    import pandas

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
CROSS = "cross-encoder/ms-marco-MiniLM-L-12-v2"
FORMAT = 1
AT_ONCE = 128  # passages embedded between two writes
DEPTH = 100  # candidates of each of the two searches; more where more are asked for
READ = 10  # of these, what the cross-encoder reads
LONGEST = 256  # pieces of a text that the encoder and the cross-encoder read
ASKED = 128  # pieces of a question that the cross-encoder reads, so that there is room for a passage
STAGES = ["vectors", "BM25", "fused", "reranked", "blended"]
COLUMNS = ["id", "source", "title", "section", "page", "text"]
CHOSEN = {"stage": "fused", "weight": 0.6, "read": 0.5, "threshold": None}  # until `tune` has chosen


@dataclass
class Collection:
    """What `index` and `load` return. folder: where it is kept; settings: as in settings.json; changed: what
    the last `index` did, in numbers; failed: {source: why it could not be read}."""

    folder: Path
    settings: dict
    changed: dict = field(default_factory=dict)
    failed: dict = field(default_factory=dict)

    @functools.cached_property
    def table(self):
        """The LanceDB table: id, source, title, section, page, start, end, text, vector."""
        return _opened(self.folder / self.settings["index"])

    @functools.cached_property
    def model(self):
        """The encoder: MiniLM, or MiniLM with this collection's adapter."""
        return encoder(self.folder / self.settings["model"] if self.settings["model"] else None)

    @functools.cached_property
    def cross(self):
        """Lesson 3's cross-encoder, which reads question and passage together."""
        import torch
        from sentence_transformers import CrossEncoder

        return CrossEncoder(
            str(models.path(CROSS, quiet=True)),
            device="cpu",
            max_length=LONGEST,
            activation_fn=torch.nn.Sigmoid(),
        )

    @property
    def chosen(self) -> dict:
        return CHOSEN | self.settings.get("chosen", {})

    def __len__(self) -> int:
        return self.table.count_rows()

    def passages(self) -> "pandas.DataFrame":
        """Every passage, by source and place: id, source, title, section, page, start, end, text."""
        wanted = [*COLUMNS, "start", "end"]
        rows = self.table.search().select(wanted).to_arrow().to_pandas()
        return rows.sort_values(["source", "start"]).reset_index(drop=True)

    def stages(
        self, question: str, wanted: Sequence[str] = ("vectors", "BM25", "fused")
    ) -> "dict[str, pandas.DataFrame]":
        """What each stage finds for a question: tables of id, source, ..., text and score, best first.

        wanted: of `STAGES`; ValueError for another name."""
        return found_by(self, question, wanted)

    def ask(self, question: str, k: int = 10, stage: str | None = None) -> "pandas.DataFrame":
        """The k best passages: rank, source, section, page, score, text. `stage`: one of `STAGES` (default: the
        chosen one); "reranked" and "blended" read READ passages and have no more, "BM25" has those alone that share
        a word. Raises TypeError and ValueError in one sentence for what is no question and no number."""
        stage = stage or self.chosen["stage"]
        if not isinstance(k, int):
            raise TypeError(f"k={k!r} is no number of passages; give a whole number")
        if k < 1:
            raise ValueError(f"k={k} shows nothing; give at least 1")
        rows = found_by(self, question, [stage], max(DEPTH, k))[stage][:k].reset_index()
        rows.insert(0, "rank", range(1, len(rows) + 1))
        return rows[["rank", "source", "section", "page", "score", "text", "id", "title"]]

    def answer(self, question: str, stage: str | None = None) -> dict:
        """A sentence of the best passages with its source, or a refusal below the chosen threshold.

        stage: as for `ask`. Returns answer, source, section, page, nearness (the best cosine, 0 without passages);
        answer is "" for a refusal, and where the stage finds nothing.
        """
        nearness = nearest(self, question)
        threshold = self.chosen["threshold"]
        refusal = {"answer": "", "source": "", "section": "", "page": 0, "nearness": nearness}
        if threshold is not None and nearness < threshold:
            return refusal
        rows = self.ask(question, 3, stage)
        if rows.empty:
            return refusal
        told = [(sentence, row) for row in rows.itertuples() for sentence in sentences(row.text)]
        scores = self.cross.predict([(question, s) for s, _ in told], show_progress_bar=False)
        sentence, row = told[int(scores.argmax())]
        return refusal | {"answer": sentence, "source": row.source, "section": row.section, "page": row.page}


# ---------------------------------------------------------------- filling


def index(folder: str | Path, store: str | Path, size: int | None = None) -> Collection:
    """Read a folder, or a table of passages, into the collection at `store`; again: only what has changed.

    A file that has changed replaces its passages, one that has gone takes them with it, one that can no
    longer be read keeps those it had and is named in `failed`. Vectors of a passage whose text stays are kept,
    under another name of its file too, and so are judgements (helpers/judging.py).
    size: of a passage, in pieces, at most LONGEST (default: what the collection has, or documents.SIZE).
    Raises as `documents.read`; ValueError for a store that is none, OSError where there is no room.
    """
    folder, store = Path(folder).expanduser(), Path(store).expanduser()
    if store.resolve() == folder.resolve() or store.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the store {store.name} lies in the folder that is read; choose one beside it")
    settings = _settings(store, new=True)
    size = settings["size"] if size is None else size
    documents_of = settings.get("documents", "")
    if documents_of and documents_of != str(folder.resolve()) and Path(documents_of).exists():
        raise ValueError(
            f"{store.name} holds the documents of {documents_of}; index {folder.name} into a store of its own"
        )
    if size < 2 * documents.HEAD:
        documents.passages([], size)  # says so
    if size > LONGEST:
        raise ValueError(f"size={size} is more than the encoder reads of a passage; give at most {LONGEST}")
    of_table = documents.from_table(folder) if folder.is_file() else []
    if not folder.is_file() and not documents.listed(folder)[0]:
        documents.read(folder)  # says so, before anything is made
    with writing(store):
        settings = _settings(store, new=True)  # as other processes have left it
        own = Collection(store, settings)
        own.table = _opened(store / settings["index"], new=True)
        before = own_files(own) if len(own) else {}
        # another size: all is read again, now or as soon as it can be
        known = before if size == settings["size"] else {source: {} for source in before}
        if folder.is_file():
            found, failed, states = of_table, {}, None
        else:
            found, failed, states = _changed(folder, known)
        rows = documents.passages(found, size)
        rows.insert(0, "id", _ids(rows))
        there = set(rows["source"]) if states is None else set(states)
        gone = [source for source in before if source not in there]
        if not (store / "settings.json").exists():
            _put_json(store / "settings.json", settings)  # a run that is stopped is found again
        for source in {one.source for one in found} - set(rows["source"]):
            failed[source] = f"{Path(source).name} has headings and no text"
        added, kept = _write(own, rows, [one.source for one in found if one.source not in failed], gone)
        if states is None:
            states = {source: {} for source in rows["source"].unique()}
        new = {source: state for source, state in states.items() if source not in failed}
        for source in failed:  # what it had stays
            if source in before:
                new[source] = known[source]
        _put_json(store / settings["index"] / "files.json", new)
        settings |= {"size": size, "documents": str(folder.resolve())}
        _put_json(store / "settings.json", settings)
        write_card(own)
    own.changed = {
        "documents": len(new),
        "read": len(found),
        "gone": len(gone),
        "passages": len(own),
        "embedded": added,
        "kept": kept,
    }
    own.failed = failed
    return own


def load(store: str | Path) -> Collection:
    """The collection that is kept at `store`. Raises FileNotFoundError and ValueError in one sentence."""
    store = Path(store).expanduser()
    own = Collection(store, _settings(store))
    if not (store / own.settings["index"]).is_dir():
        raise FileNotFoundError(f"{store.name}/{own.settings['index']} is missing; index the documents again")
    return own


def own_files(own: Collection) -> dict:
    """What was read, and the state that it had: {source: {"size", "time", "sha256"}}."""
    place = own.folder / own.settings["index"] / "files.json"
    return json.loads(place.read_text("utf-8")) if place.exists() else {}


def encoder(adapter: Path | None = None):
    """MiniLM as a SentenceTransformer; with an adapter (peft's format) merged into its weights."""
    from sentence_transformers import SentenceTransformer

    from helpers import stand_ins

    model = SentenceTransformer(str(models.path(MINILM, quiet=True)), device="cpu")
    if adapter and not (Path(adapter) / "adapter_config.json").is_file():
        raise FileNotFoundError(f"there is no adapter in {Path(adapter).name}/; adapt the search again")
    if adapter:
        model[0].auto_model = stand_ins.merged(model[0].auto_model, adapter)
    return model


def embed(model, given: Sequence[str], what: str = "embedding") -> "np.ndarray":
    """Vectors of length 1, (n, 384). Shows its progress where it takes longer than a moment; what: the words
    before the bar, "" for no bar."""
    import numpy as np
    from tqdm.auto import tqdm

    given = texts.as_list(given)
    order = sorted(range(len(given)), key=lambda i: len(given[i]))  # like lengths together: less padding
    vectors = np.zeros((len(given), model.get_embedding_dimension()), np.float32)
    for i in tqdm(range(0, len(order), 32), desc=what, disable=not what or len(order) <= 64, leave=False):
        part = order[i : i + 32]
        vectors[part] = model.encode(
            [given[j] for j in part], normalize_embeddings=True, show_progress_bar=False
        )
    return vectors


def reembed(own: Collection, model, index_name: str) -> None:
    """Write every passage anew, with another model's vectors, to the index `index_name` of the store.

    Whoever calls it holds the lock `writing`, and has loaded `own` under it."""
    rows = own.passages()
    place = own.folder / index_name
    vectors = embed(model, rows["text"])
    with files.put_whole(place, f"the index of {own.folder.name}", folder=True) as part:
        _add_all(_opened(part, new=True), rows, vectors)
        _put_json(part / "files.json", own_files(own))


def switch(own: Collection, index_name: str, model_name: str, said: Sequence[str] = ()) -> Collection:
    """Let the collection use another index and model, in one step; the index before is removed.

    said: sentences on the model, for the card. What was chosen is dropped: it was chosen with other vectors.
    Whoever calls it holds the lock `writing`."""
    import shutil

    settings = _settings(own.folder)
    before = settings["index"]
    settings |= {"index": index_name, "model": model_name, "adapted": list(said)}
    settings.pop("chosen", None)
    _put_json(own.folder / "settings.json", settings)
    if before != index_name:
        shutil.rmtree(own.folder / before, ignore_errors=True)
    now = load(own.folder)
    write_card(now)
    return now


def remove(own: Collection, *names: str) -> None:
    """Remove an index or a model that the collection does not use."""
    import shutil

    for name in names:
        if name not in (own.settings["index"], own.settings["model"]):
            shutil.rmtree(own.folder / name, ignore_errors=True)


def choose(own: Collection, **chosen) -> None:
    """Keep numbers that were chosen: stage, weight, read, threshold, and how they were found.

    Raises ValueError where the collection has another model by now."""
    with writing(own.folder):
        settings = _settings(own.folder)  # as other processes have left it
        if settings["model"] != own.settings["model"]:
            raise ValueError(f"{own.folder.name} was adapted meanwhile; load it again, and choose again")
        settings["chosen"] = own.settings["chosen"] = settings.get("chosen", {}) | chosen
        _put_json(own.folder / "settings.json", settings)
        write_card(Collection(own.folder, settings))


def write_card(own: Collection) -> None:
    """README.md of the collection: what is in it, by which model, with which numbers, and how to use it."""
    settings, chosen = own.settings, own.chosen
    adapted = f"{settings['model']}/ (a low-rank adapter on {MINILM})" if settings["model"] else MINILM
    said = settings.get("adapted", [])
    lines = [
        "# A search over documents",
        "",
        f"- documents: {len(own_files(own))} of `{Path(settings.get('documents', '')).name}`, {len(own):,} passages "
        f"of at most {settings['size']} pieces",
        f"- encoder: {adapted}",
        f"- stage: {chosen['stage']}, weight of the vectors {chosen['weight']}, of the cross-encoder {chosen['read']}"
        + (
            f", an answer from cosine {chosen['threshold']:.2f} on" if chosen["threshold"] is not None else ""
        ),
        *(
            [f"- how it was chosen: {chosen['how']}"]
            if "how" in chosen
            else ["- nothing was chosen yet: the defaults"]
        ),
        *[f"- adapted: {sentence}" for sentence in said],
        "- judgements: `grades.tsv`; index: LanceDB; settings: `settings.json`",
        "",
        "```python",
        "from helpers import collection",
        f'own = collection.load("{own.folder.name}")',
        'own.ask("…")',
        "```",
        "",
    ]
    with files.put_whole(own.folder / "README.md") as part:
        part.write_text("\n".join(lines), "utf-8")


def _changed(folder: Path, known: dict):
    """The documents that are new or other than they were; what failed; the state of every file that is there."""
    listed, _, shut = documents.listed(folder)
    states, wanted, failed = {}, [], {}
    for place in shut:  # what was read of it before stays
        name = place.relative_to(folder).as_posix()
        failed[name] = f"the folder {name} may not be read"
        states |= {source: state for source, state in known.items() if source.startswith(f"{name}/")}
    for path in listed:
        source = path.relative_to(folder).as_posix()
        shown = source.encode("utf-8", "backslashreplace").decode()
        if shown != source:
            failed[shown] = f"{shown} is no name in UTF-8; rename it"
            continue
        before = known.get(source, {})
        try:
            seen = path.stat()
        except OSError as e:  # it has gone since it was listed
            states[source], failed[source] = before, files.sentence(e)
            continue
        state = {"size": seen.st_size, "time": seen.st_mtime_ns}
        if {key: before.get(key) for key in state} == state:
            states[source] = before
            continue
        try:
            state["sha256"] = files.sha256(path)
        except OSError:
            state["sha256"] = ""
        states[source] = state
        if not state["sha256"] or state["sha256"] != before.get("sha256"):
            wanted.append((path, source))
    found = []
    from tqdm.auto import tqdm

    for path, source in tqdm(wanted, desc="reading", disable=len(wanted) < 3, leave=False):
        try:
            found.append(documents.document(path, source))
        except (ValueError, OSError) as e:
            failed[source] = files.sentence(e)
    return found, failed, states


def _write(own: Collection, rows: "pandas.DataFrame", sources: list[str], gone: list[str]) -> tuple[int, int]:
    """Put the passages of these sources in place of those they had; (embedded, vectors kept)."""
    import numpy as np
    from tqdm.auto import tqdm

    table = own.table
    old = {}
    if table.count_rows() and len(rows):
        for part in _parts([*sources, *gone], 200):  # of gone ones too: a file may have another name now
            where = f"source IN ({_quoted(part)})"
            there = table.search().where(where).select(["text", "vector"]).to_arrow().to_pandas()
            old |= dict(zip(there["text"], there["vector"], strict=True))
    added = kept = 0
    steps = range(0, len(rows), AT_ONCE)
    for i in tqdm(steps, desc="embedding", disable=len(rows) <= AT_ONCE, leave=False):
        part = rows[i : i + AT_ONCE]
        vectors = np.zeros((len(part), 384), np.float32)
        new = [place for place, text in enumerate(part["text"]) if text not in old]
        for place, text in enumerate(part["text"]):
            if text in old:
                vectors[place] = old[text]
        if new:
            vectors[new] = embed(
                own.model, part["text"].iloc[new], "" if len(rows) > AT_ONCE else "embedding"
            )
        added, kept = added + len(new), kept + len(part) - len(new)
        _merge(table, part.assign(vector=list(vectors)))
    for part in _parts([*sources, *gone], 200):
        stay = rows[rows["source"].isin(part)]["id"]
        there = (
            table.search().where(f"source IN ({_quoted(part)})").select(["id"]).to_arrow()["id"].to_pylist()
        )
        for ids in _parts(sorted(set(there) - set(stay)), 500):
            table.delete(f"id IN ({_quoted(ids)})")
    if len(rows) or gone:
        _index_words(table)
    return added, kept


def _add_all(table, rows, vectors) -> None:
    for i in range(0, len(rows), 4096):
        table.add(_arrow(rows[i : i + 4096].assign(vector=list(vectors[i : i + 4096]))))
    _index_words(table)


def _merge(table, rows) -> None:
    table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(_arrow(rows))


def _index_words(table) -> None:
    from lancedb.index import FTS

    if not table.count_rows():
        return
    if not table.list_indices():
        table.create_index("text", config=FTS(with_position=True))
    table.optimize()


def _schema():
    import pyarrow as pa

    numbers = [("page", pa.int32()), ("start", pa.int64()), ("end", pa.int64())]
    names = [(name, pa.string()) for name in ("id", "source", "title", "section", "text")]
    return pa.schema([*names, *numbers, ("vector", pa.list_(pa.float32(), 384))])


def _arrow(rows):
    import pyarrow as pa

    return pa.Table.from_pandas(rows[_schema().names], schema=_schema(), preserve_index=False)


def _opened(place: Path, new: bool = False):
    os.environ.setdefault("LANCEDB_LOG", "error")  # no remarks on every new table
    import lancedb

    if not new and not (place / "passages.lance").is_dir():
        raise FileNotFoundError(
            f"the passages in {place.parent.name}/{place.name} are missing; index the documents again"
        )
    try:
        database = lancedb.connect(str(place))
        if not new:
            return database.open_table("passages")
        return database.create_table("passages", schema=_schema(), exist_ok=True)
    except (OSError, RuntimeError, ValueError) as e:
        if files.is_full(e):
            raise files.full(e, f"the index {place.name}", place.parent) from e
        said = " ".join(str(e).split())[:150]
        raise ValueError(
            f"the index {place.parent.name}/{place.name} cannot be opened ({said}); remove that folder and index again"
        ) from e


def _ids(rows: "pandas.DataFrame") -> list[str]:
    """A name for each passage: a hash of its source, its text, and how many equal ones come before it."""
    seen, ids = {}, []
    for source, text in zip(rows["source"], rows["text"], strict=True):
        n = seen[source, text] = seen.get((source, text), -1) + 1
        ids.append(hashlib.sha256(f"{source}\0{text}\0{n}".encode()).hexdigest()[:16])
    return ids


def _quoted(names: Sequence[str]) -> str:
    return ", ".join("'" + name.replace("'", "''") + "'" for name in names)


def _parts(items: Sequence, size: int) -> Iterator[Sequence]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _settings(store: Path, new: bool = False) -> dict:
    place = store / "settings.json"
    if not place.exists():
        if new and (not store.exists() or not any(p.name != "lock" for p in store.iterdir())):
            return {"format": FORMAT, "index": "index-1", "model": "", "size": documents.SIZE}
        if new:
            raise ValueError(
                f"{store.name} is a folder with other things in it; name one that is empty or new"
            )
        raise FileNotFoundError(f"there is no search kept at {store}; index a folder first")
    try:
        settings = json.loads(place.read_text("utf-8"))
        if settings["format"] != FORMAT:
            raise ValueError
        _ = settings["index"], settings["model"], settings["size"]
    except (ValueError, KeyError, TypeError) as e:
        raise ValueError(
            f"{store.name}/settings.json is not what `index` writes; index again into a new folder"
        ) from e
    return settings


@contextlib.contextmanager
def writing(store: Path) -> Iterator[None]:
    """One writer at a time."""
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        if files.is_full(e):
            raise files.full(e, store.name, store.parent) from e
        raise PermissionError(f"{store} cannot be made ({e.strerror}); choose a folder of your own") from e
    said = f"another program is writing to {store.name}; this one waits until it has finished"
    with files.locked(store / "lock", needed=True, waiting=said):
        yield


def _put_json(place: Path, content: dict) -> None:
    with files.put_whole(place) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False), "utf-8")


# ---------------------------------------------------------------- asking


def found_by(
    own: Collection, question: str, wanted: Sequence[str], k: int = DEPTH
) -> "dict[str, pandas.DataFrame]":
    """See `Collection.stages`; k: candidates of each of the two searches."""
    question = texts.as_list([question], "question")[0].strip()
    for stage in wanted:
        if stage not in STAGES:
            raise ValueError(f"there is no stage {stage!r}; name one of {', '.join(STAGES)}")
    found = {}

    def get(stage: str):
        if stage not in found:
            found[stage] = searches[stage]()
        return found[stage]

    def reranked():
        rows = get("fused")[:READ]
        if rows.empty:
            return rows
        asked = _beginning(own, question)
        pairs = [(asked, text) for text in rows["text"]]
        cut = {"text": {"truncation": "only_second"}}
        scores = own.cross.predict(pairs, batch_size=8, show_progress_bar=False, processing_kwargs=cut)
        return rows.assign(score=scores).sort_values("score", ascending=False, kind="stable")

    searches = {
        "vectors": lambda: vectors(own, question, k),
        "BM25": lambda: bm25(own, question, k),
        "fused": lambda: weighted(get("vectors"), get("BM25"), own.chosen["weight"], least=0),
        "reranked": reranked,
        "blended": lambda: weighted(get("reranked"), get("fused")[:READ], own.chosen["read"]),
    }
    return {stage: get(stage) for stage in wanted}


def _beginning(own: Collection, question: str) -> str:
    """The question; of one that leaves no room for a passage its first ASKED pieces, and a line says so."""
    if len(question) <= ASKED:
        return question
    cut = {"add_special_tokens": False, "return_offsets_mapping": True, "verbose": False}
    ends = own.model.tokenizer(question, truncation=False, **cut)["offset_mapping"]  # the cross-encoder's too
    if len(ends) <= ASKED:
        return question
    print(f"the cross-encoder reads {ASKED} of the {len(ends)} pieces of a long question", file=sys.stderr)
    return question[: ends[ASKED - 1][1]]


def vectors(own: Collection, question: str, k: int = DEPTH) -> "pandas.DataFrame":
    """The k passages with the nearest vectors; score: the cosine."""
    vector = own.model.encode(question, normalize_embeddings=True, show_progress_bar=False)
    rows = _rows(own.table.search(vector).distance_type("cosine"), "_distance", k)
    return rows.assign(score=1 - rows["score"])


def nearest(own: Collection, question: str) -> float:
    """The cosine of the question's nearest passage; 0 without passages. Raises as `Collection.ask`."""
    question = texts.as_list([question], "question")[0]
    return float(vectors(own, question, 1)["score"].max()) if len(own) else 0.0


def bm25(own: Collection, question: str, k: int = DEPTH) -> "pandas.DataFrame":
    """The k passages with the best BM25 (English stems); fewer where few share a word."""
    if not own.table.list_indices():
        why = (
            "is not finished; run index again" if len(own) else "holds no passage; index documents with text"
        )
        raise ValueError(f"{own.folder.name} {why}")
    return _rows(own.table.search(question, query_type="fts"), "_score", k)


def _rows(query, score: str, k: int) -> "pandas.DataFrame":
    rows = query.limit(k).select([*COLUMNS, score]).to_arrow().to_pandas()
    return rows.rename(columns={score: "score"}).set_index("id")


def weighted(
    first: "pandas.DataFrame", second: "pandas.DataFrame", weight: float, least: float | None = None
) -> "pandas.DataFrame":
    """weight * first + (1 - weight) * second, the scores of each list set to 0 ... 1 (lesson 13).

    least: what is 0 in the second list, by default its least score. For BM25 it is 0, the score of a passage
    without a word in common, so that a word that stands in one passage alone counts.
    """
    import pandas

    scaled = []
    for rows, low in ((first, None), (second, least)):
        low = rows["score"].min() if low is None else low
        scaled.append((rows["score"] - low) / (rows["score"].max() - low or 1))
    scores = (weight * scaled[0]).add((1 - weight) * scaled[1], fill_value=0)
    rows = pandas.concat([first, second])
    rows = rows[~rows.index.duplicated()]
    return rows.assign(score=scores).sort_values("score", ascending=False, kind="stable")


def sentences(text: str) -> list[str]:
    """The sentences of a passage, without its first line; one of fewer than four words goes with the next."""
    found, short = [], ""
    for sentence in re.split(r"(?<=[.!?])\s+", (text.partition("\n")[2] or text).strip()):
        sentence = f"{short} {sentence}".strip()
        short = sentence if len(sentence.split()) < 4 else ""
        if not short:
            found.append(sentence)
    return [*found, short] if short else found


def matched(question: str, text: str) -> list[str]:
    """The words of a passage that the question has too, by their English stems, in the passage's order."""
    import snowballstemmer

    question, text = texts.as_list([question, text])
    stem = snowballstemmer.stemmer("english").stemWord
    asked = {stem(word) for word in re.findall(r"\w+", question.casefold())} - FUNCTION_WORDS
    words = dict.fromkeys(re.findall(r"\w+", text))
    return [word for word in words if stem(word.casefold()) in asked]


FUNCTION_WORDS = frozenset(
    "a an the of to in on at by for with from and or but if as is are was were be been do doe did have has had "
    "i my me we our us you your he she it its they them their this that these those who whom what which when where "
    "why how can could may might must shall should will would there here not no so than then".split()
)
