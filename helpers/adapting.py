"""Train a collection's encoder on questions whose passages are known: lesson 17's step that makes it better.

    from helpers import adapting
    pairs, left_out = adapting.pairs(own, "my_pairs.tsv")     # question, id, text: the passage that is right
    report = adapting.adapt(own, pairs)                       # trains, measures, re-embeds, switches
    print(*report.said, sep="\\n")

The loop and what is trained are lesson 6's: MiniLM but for its token table and two lowest layers. What is kept is a
low-rank adapter, the largest part of how its matrices changed. Nothing of the old index is touched
until the new one is whole, and where no gain is seen on pairs held out nothing is switched.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import collection, files, judging, tables
from helpers.collection import Collection

if TYPE_CHECKING:
    import numpy as np
    import pandas

FEWEST = 20  # pairs to train on; fewer are no training
RANK, RATE, EPOCHS, BATCH, SCALE, LENGTH, FROZEN = 48, 5e-5, 2, 32, 20, 128, 2
FIRST, LAST = 0, 30  # of the wrong passages that MiniLM puts highest, those that negatives are drawn from
ALIKE = 0.85  # cosine with the right passage from which a wrong one may be as right


def pairs(own: Collection, path: str | Path) -> "tuple[pandas.DataFrame, list[str]]":
    """Questions and the passage that is right for each: columns question, id, source, text.

    path: a table with `question` and `source`, or `text` (the passage, or some words of it), or both. With a
    source alone the right passage is the one of its passages nearest to the question. The second list has a
    sentence for each row that no passage was found for. Raises as `tables.read`; ValueError where none is left.
    """
    import numpy as np
    import pandas

    path = Path(path)
    given = tables.read(path, ["question"], optional=["source", "text"])
    if "source" not in given and "text" not in given:
        raise ValueError(
            f"{path.name}: no column 'source' and none 'text'; one of them says where the answer is"
        )
    there = own.passages()
    vectors = dict(zip(there["id"], vectors_of(own, there["id"]), strict=True))
    asked = collection.embed(own.model, given["question"], "embedding questions")
    by_source = dict(list(there.groupby("source")))
    rows, left_out = [], []
    for at, (row, vector) in enumerate(zip(given.to_dict("records"), asked, strict=True), 2):
        some = by_source.get(row["source"]) if "source" in given else there
        if some is None:
            left_out.append(f"line {at}: no document {row['source']!r}")
            continue
        if "text" in given:
            words = judging.words(row["text"])
            some = some[[judging.same(words, judging.words(t.partition("\n")[2])) for t in some["text"]]]
            if some.empty:
                left_out.append(f"line {at}: no passage with these words: {row['text'][:60]!r}")
                continue
        right = some.iloc[int(np.argmax([vectors[name] @ vector for name in some["id"]]))]
        rows.append((row["question"], right["id"], right["source"], right["text"]))
    if not rows:
        raise ValueError(f"{path.name}: no question has a passage in {own.folder.name}; {left_out[0]}")
    found = pandas.DataFrame(rows, columns=["question", "id", "source", "text"])
    return found.drop_duplicates(["question", "id"]).reset_index(drop=True), left_out


def from_the_documents(own: Collection) -> "pandas.DataFrame":
    """Pairs that the documents hold themselves: the last heading, and the first sentence, each as a question.

    A heading that stands over several passages belongs to the first; a sentence is taken out of its passage.
    """
    import pandas

    rows, seen = [], set()
    for row in own.passages().itertuples():
        heading = row.section.rpartition(" › ")[2]
        body = row.text.partition("\n")[2]
        if len(heading.split()) >= 2 and (row.source, row.section) not in seen:
            rows.append((heading, row.id, row.source, body))
        seen.add((row.source, row.section))
        first, *rest = collection.sentences(row.text)
        if len(first.split()) >= 4 and " | " not in first and len(" ".join(rest).split()) >= 12:
            rows.append((first, row.id, row.source, " ".join(rest)))
    found = pandas.DataFrame(rows, columns=["question", "id", "source", "text"])
    return found[~found["question"].duplicated(keep=False)].reset_index(drop=True)


PROMPT = """Read the passage. Write {n} questions that somebody might ask who has not read it and whom it answers.
Use everyday words, not the passage's own. One question on each line, nothing else.

Passage:
{passage}
"""


def written_by(
    ask: Callable[[str], str], own: Collection, count: int = 100, each: int = 2, first: int = 3, seed: int = 0
) -> "pandas.DataFrame":
    """Questions that a language model writes for passages drawn by chance, filtered by a round trip.

    ask(prompt) gives the model's reply, as `server` makes it. Kept is a question whose own passage is among
    the `first` that the collection finds for it today. Columns question, id, source, text.
    """
    import pandas
    from tqdm.auto import tqdm

    if count < 1 or each < 1:
        raise ValueError(f"count={count}, each={each} ask for no question; give at least 1")
    there = own.passages()
    drawn = there.sample(min(count, len(there)), random_state=seed)
    rows = []
    for row in tqdm(drawn.itertuples(), total=len(drawn), desc="writing questions", leave=False):
        reply = ask(PROMPT.format(n=each, passage=row.text.partition("\n")[2]))
        for line in reply.split("\n")[: 2 * each]:
            question = re.sub(r"^\s*(?:[-*•]|\d+[.)])\s*", "", line).strip()
            if len(question.split()) >= 3 and row.id in set(own.ask(question, first)["id"]):
                rows.append((question, row.id, row.source, row.text))
    return pandas.DataFrame(rows, columns=["question", "id", "source", "text"])


def server(url: str, model: str = "default", key: str = "", timeout: float = 120) -> Callable[[str], str]:
    """A function that sends a prompt to an OpenAI-compatible server on this machine and returns its reply.

    url: such as http://localhost:11434/v1. Raises ValueError for another machine's address (passages stay here)
    and for one without http://.
    What it returns raises RuntimeError in one sentence where the server does not answer.
    """
    import urllib.parse
    import urllib.request

    host = urllib.parse.urlsplit(url if "://" in url else f"//{url}").hostname
    if host not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError(f"{host or url} is not this machine; your passages would leave it")
    if "://" not in url:
        raise ValueError(f"{url} is no whole address; write http://{url}")
    address = url.rstrip("/") + "/chat/completions"
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})

    def ask(prompt: str) -> str:
        body = {"model": model, "temperature": 0.7, "messages": [{"role": "user", "content": prompt}]}
        try:
            request = urllib.request.Request(address, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=timeout) as reply:
                said = json.load(reply)["choices"][0]["message"]["content"]
        except (OSError, ValueError, LookupError, TypeError) as e:
            raise RuntimeError(f"no answer from the language model at {address}: {e}") from None
        if not isinstance(said, str):
            raise RuntimeError(f"the language model at {address} answered with no text")
        return said

    return ask


# ---------------------------------------------------------------- training


def parts(found: "pandas.DataFrame", share: int = 5) -> "tuple[pandas.DataFrame, pandas.DataFrame]":
    """Pairs to train on and pairs held out: one passage in `share`, with all its questions, by a hash of its name."""
    held = found["id"].map(lambda name: int(hashlib.sha256(name.encode()).hexdigest(), 16) % share == 0)
    return found[~held].reset_index(drop=True), found[held].reset_index(drop=True)


def vectors_of(own: Collection, ids: Sequence[str]) -> "np.ndarray":
    """The vectors of passages by their ids, (n, 384)."""
    import numpy as np

    there = own.table.search().select(["id", "vector"]).to_arrow()
    places = dict(zip(there["id"].to_pylist(), range(len(there)), strict=True))
    flat = there["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, 384)[np.array([places[name] for name in ids], dtype=int)]


def wrong_passages(
    questions: "np.ndarray", right: "np.ndarray", vectors: "np.ndarray", first: int = FIRST, last: int = LAST
) -> "list[np.ndarray]":
    """For each question the rows of passages that come high and are wrong: hard negatives (lesson 6).

    questions (n, dim), right (n,): row of the right passage; vectors (passages, dim), all of length 1. Passages
    nearly equal to the right one (cosine from ALIKE on) are left out: they may be as right.
    """
    import numpy as np

    found = []
    for question, row in zip(questions, right, strict=True):
        order = np.argsort(-(vectors @ question), kind="stable")[: last + 100]
        alike = vectors[order] @ vectors[row]
        found.append(order[alike < ALIKE][first:last])
    return found


def train(
    asked: "pandas.DataFrame",
    passages: "pandas.DataFrame",
    vectors: "np.ndarray",
    questions: "np.ndarray",
    negatives: int = 2,
    epochs: int = EPOCHS,
    batch: int = BATCH,
    lr: float = RATE,
    seed: int = 0,
    steps: int | None = None,
    progress: bool = True,
):
    """An `encoders.Pretrained` trained on the pairs `asked` (question, id, text), with negatives of `passages` (id, text).

    vectors: of the passages, questions: of the questions, both by the encoder that is to be adapted.
    The keyboard's interrupt is a KeyboardInterrupt: half a training is none.
    """
    import numpy as np
    import torch

    from helpers import encoders, models, training

    if negatives < 0:
        raise ValueError(f"negatives={negatives} is no number of wrong passages; give 0 or more")
    row_of = dict(zip(passages["id"], range(len(passages)), strict=True))
    right = np.array([row_of[name] for name in asked["id"]])
    mined = wrong_passages(questions, right, vectors)
    draw = np.random.default_rng(training.of_seed(seed))
    texts = passages["text"].to_numpy()
    chosen = [list(texts[draw.permutation(rows)[:negatives]]) for rows in mined] if negatives else None
    torch.manual_seed(seed)
    encoder = encoders.Pretrained(models.path(collection.MINILM, quiet=True), frozen=FROZEN)
    batch = min(batch, max(8, len(asked) // 3))  # a small table in at least three batches an epoch
    losses = training.train(
        encoder,
        encoder,
        asked.rename(columns={"question": "questions", "text": "answers"}),
        epochs=epochs,
        batch=batch,
        lr=lr,
        warmup=0.1,
        scale=SCALE,
        length=LENGTH,
        seed=seed,
        negatives=chosen,
        bfloat16=False,
        steps=steps,
        progress=progress,
    )
    if len(losses) < (steps or epochs * (len(asked) // batch)):
        raise KeyboardInterrupt
    return encoder


def save(encoder, folder: Path, rank: int = RANK) -> None:
    """Keep how a trained MiniLM differs from MiniLM: a low-rank adapter in the library peft's format, 2.6 MB.

    Of each matrix's change the `rank` largest singular directions are kept (the best that a rank allows, by Eckart
    and Young), in 16 bits; changes of biases and layer norms are left out. `collection.encoder(folder)` opens it.
    """
    import torch
    from peft import LoraConfig
    from safetensors.torch import save_file

    from helpers import encoders, models

    before = dict(encoders.Pretrained(models.path(collection.MINILM, quiet=True)).bert.named_parameters())
    kept, layers = {}, set()
    for name, weight in encoder.bert.named_parameters():
        change = weight.detach().float().cpu() - before[name].detach()
        if change.ndim != 2 or "layer." not in name or not change.any():
            continue
        left, sizes, right = torch.linalg.svd(change, full_matrices=False)
        root = sizes[:rank].sqrt()
        module = f"base_model.model.{name.removesuffix('.weight')}"
        kept[f"{module}.lora_A.weight"] = (root[:, None] * right[:rank]).half().contiguous()
        kept[f"{module}.lora_B.weight"] = (left[:, :rank] * root).half().contiguous()
        layers.add(int(name.split("layer.")[1].split(".")[0]))
    config = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=["query", "key", "value", "dense"],
        layers_to_transform=sorted(layers),
        layers_pattern="layer",
        base_model_name_or_path=collection.MINILM,
        inference_mode=True,
    )
    config.save_pretrained(folder)
    save_file(kept, Path(folder) / "adapter_model.safetensors", metadata={"format": "pt"})


def places(questions: "np.ndarray", right: Sequence[str], vectors: "np.ndarray", names: Sequence[str]):
    """1 / the place of the right passage among the first ten by cosine, else 0; a Series of n (its mean: MRR@10)."""
    import numpy as np
    import pandas

    names = np.asarray(names)
    found = []
    for question, name in zip(questions, right, strict=True):
        top = list(dict.fromkeys(names[np.argsort(-(vectors @ question), kind="stable")[:100]]))[:10]
        found.append(1 / (top.index(name) + 1) if name in top else 0.0)
    return pandas.Series(found)


@dataclass
class Report:
    """What `adapt` did: said, sentences; before and after, 1 / place of each held-out question; switched; own,
    the collection as it is now."""

    said: list[str]
    before: "pandas.Series"
    after: "pandas.Series"
    switched: bool
    own: Collection


def adapt(own: Collection, found: "pandas.DataFrame", seed: int = 0, force: bool = False, **how) -> Report:
    """Train on pairs (`pairs`), measure on those held out, re-embed, and switch where there is a gain.

    how: as `train` takes it. force: switch whatever is measured. What was indexed while it trained is embedded
    too. After a switch nothing is chosen any more: `judging.tune` chooses with the new vectors. Raises ValueError
    for fewer than 20 pairs, for pairs all of one passage, and where a passage of the pairs is gone.
    """
    if lacking := [column for column in ("question", "id", "text") if column not in found]:
        raise ValueError(f"the pairs have no column {lacking[0]!r}; make them with adapting.pairs")
    asked, held = parts(found)
    if len(asked) < FEWEST or len(held) < 5:
        raise ValueError(
            f"{len(found)} pairs are too few: at least {FEWEST} to train on and five to hold out. A hundred move "
            "a little, a thousand more"
        )
    if own.settings["model"]:
        raise ValueError(
            "this collection's model was adapted before; index into a new folder and adapt there"
        )
    passages, before_vectors = _with_vectors(own, found)
    of_asked, of_held = (collection.embed(own.model, some["question"], "questions") for some in (asked, held))
    encoder = train(asked, passages, before_vectors, of_asked, seed=seed, **how)
    with collection.writing(own.folder):
        own = collection.load(own.folder)  # as other processes have left it since
        if own.settings["model"]:
            raise ValueError(
                "another process has adapted this collection meanwhile; it stays as that left it"
            )
        passages, before_vectors = _with_vectors(own, found)
        number = int(own.settings["index"].rpartition("-")[2]) + 1
        adapter, new_index = f"model-{number}", f"index-{number}"
        collection.remove(own, adapter, new_index)  # what a run that was stopped has left
        with files.put_whole(own.folder / adapter, "the model", folder=True) as part:
            save(encoder, part)
        model = collection.encoder(own.folder / adapter)
        collection.reembed(own, model, new_index)
        adapted = Collection(own.folder, own.settings | {"index": new_index, "model": adapter})
        before = places(of_held, held["id"], before_vectors, passages["id"])
        after_questions = collection.embed(model, held["question"], "questions")
        after = places(after_questions, held["id"], vectors_of(adapted, passages["id"]), passages["id"])
        said = [
            f"trained on {len(asked)} questions, {len(held)} held out",
            f"held out: MRR@10 {before.mean():.3f} before, {after.mean():.3f} after: {judging.compared(after, before)}",
        ]
        judged = judging.grades(own.folder / "grades.tsv")
        if len(judged):
            said.append(_on_judged(own, adapted, judged))
        gain = ", a gain" in said[1]
        if gain or force:
            tuned = "chosen" in own.settings
            own = collection.switch(own, new_index, adapter, said)
            said.append("the collection uses the adapted model now" + ("" if gain else ", as you asked"))
            if tuned:
                said.append("run tune again: its numbers were chosen with the model before, and are dropped")
        else:
            collection.remove(own, new_index, adapter)
            said.append("no gain was seen, so the collection stays as it was")
    return Report(said, before, after, gain or force, own)


def _with_vectors(own: Collection, found: "pandas.DataFrame"):
    """The passages, and their vectors. Raises ValueError where a passage of the pairs is not among them."""
    passages = own.passages()
    if gone := len(set(found["id"]) - set(passages["id"])):
        raise ValueError(
            f"{gone} passages of the pairs are not in {own.folder.name} any more; make the pairs again, then adapt"
        )
    return passages, vectors_of(own, passages["id"])


def _on_judged(own: Collection, adapted: Collection, judged) -> str:
    import pandas

    known = judging.relevance(own.passages(), judged)
    asked = [q for q, of in known.items() if max(of.values(), default=0) > 0]
    if len(asked) < 2:
        return "no judged questions to compare on"
    before, after = (
        pandas.Series([judging.ndcg(list(collection.vectors(one, q).index), known[q]) for q in asked])
        for one in (own, adapted)
    )
    return (
        f"{len(asked)} judged questions, vectors alone: nDCG@10 {before.mean():.3f} before, {after.mean():.3f} after: "
        f"{judging.compared(after, before)}; what nobody has judged counts as wrong"
    )
