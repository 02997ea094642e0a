"""Checks of lesson 2; the judges are torch, scikit-learn and transformers' own pipeline."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from helpers.exercises import close, judge

if TYPE_CHECKING:
    import numpy
    import pandas
    from transformers import BertForMaskedLM, BertModel, BertTokenizer

LEAST = 4  # sentences a sense, for a word of the reader's own
NEW_SENTENCES = [
    ("bank", "The bank closed my account and sent back the cheque."),
    ("bank", "Ducks were asleep on the bank beside the river."),
    ("spring", "In spring the apple trees blossom."),
    ("palm", "A coconut fell from the palm on the beach."),
    ("crane", "The crane lifted the beam to the tenth floor."),
    ("seal", "The seal dived under the ice after a fish."),
    # two words of the table in one sentence: whoever does not look at the word gives both the same answer
    ("bat", "The bat flew along the bank of the river."),
    ("bank", "The bat flew along the bank of the river."),
    ("palm", "The palm gave no shade to the seal."),
    ("seal", "The palm gave no shade to the seal."),
    ("bat", "The owl chased a bat across the field."),  # the nearest sentence and the mean of a sense differ
    ("crane", "The hurricane uprooted every crane along the seafront."),  # of all rows a palm is nearest
    ("crane", "The crane turned slowly."),  # the nearest is a bird, three of the nearest five are machines
]
TWO_TIMES = [
    ("The bat in the attic never saw a baseball bat.", "bat"),
    ("Spring came, and the spring in the clock broke.", "spring"),
    ("A kingfisher is a bird; no Kingfisher fears water!", "kingfisher"),
]
MASKED = [
    ("The king sat on the [MASK].", "throne"),
    ("She drank a cup of [MASK].", "tea"),
    ("[MASK] is the capital of Italy.", "rome"),
]


def twice(twice: Callable, model: "BertModel", tokenizer: "BertTokenizer") -> None:
    """twice(sentence, word) -> cosine of its first and second vector; the judge is torch's."""
    import torch

    wanted = {}
    for sentence, word in TWO_TIMES:
        first, second = (_vector(model, tokenizer, sentence, word, k) for k in (0, 1))
        wanted[sentence, word] = torch.cosine_similarity(first, second, dim=0).item()
    judge(lambda case: twice(*case), wanted, "twice", same=close, says=_short)


def guess_sense(
    guess_sense: Callable,
    table: "pandas.DataFrame",
    vectors: "numpy.ndarray",
    model: "BertModel",
    tokenizer: "BertTokenizer",
) -> None:
    """guess_sense(word, sentence) -> sense; the judge is scikit-learn's nearest neighbour.

    table: word, sense, sentence; vectors: (rows of table, width), of any length.
    """
    from sklearn.neighbors import KNeighborsClassifier

    wanted = {}
    for word, sentence in NEW_SENTENCES:
        rows = (table["word"] == word).to_numpy()
        nearest = KNeighborsClassifier(n_neighbors=1, metric="cosine")
        nearest.fit(vectors[rows], table["sense"][rows])
        vector = _vector(model, tokenizer, sentence, word)
        wanted[word, sentence] = str(nearest.predict(vector[None].numpy())[0])
    judge(lambda case: guess_sense(*case), wanted, "guess_sense")


def chance_of(chance_of: Callable, masked: "BertForMaskedLM", tokenizer: "BertTokenizer") -> None:
    """chance_of(sentence, word) -> probability at [MASK]; the judge is the fill-mask pipeline."""
    from transformers import pipeline

    fill = pipeline("fill-mask", model=masked, tokenizer=tokenizer, device="cpu")
    wanted = {(sentence, word): fill(sentence, targets=[word])[0]["score"] for sentence, word in MASKED}
    judge(lambda case: chance_of(*case), wanted, "chance_of", same=_close_share, says=_share)


def own_word(word: str, rows: object, model: "BertModel", tokenizer: "BertTokenizer") -> None:
    """The reader's own word: rows of (sense, sentence), at least two senses with four each.

    Prints what is wrong with the list, or how often the nearest other sentence has the same
    sense, what guessing would have, and for which sentences it has not; the judge is
    scikit-learn's leave-one-out.
    """
    import numpy as np
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    if rows is None or rows is ...:
        print(
            f"Not yet written: my_sentences should be a list of pairs (sense, sentence), at least "
            f"two senses with {LEAST} sentences each."
        )
        return
    try:
        rows = [(str(sense), str(sentence)) for sense, sentence in rows]
    except (TypeError, ValueError):
        print('Not yet: my_sentences should be a list of pairs, each ("sense", "a sentence").')
        return
    if rows and all(_spans(sense, word) and not _spans(sentence, word) for sense, sentence in rows):
        print("Not yet: in each pair the sense comes first, then the sentence.")
        return
    senses = np.array([sense for sense, _ in rows])
    counts = {str(sense): int((senses == sense).sum()) for sense in np.unique(senses)}
    if len(counts) < 2:
        print(f"Not yet: there is {len(counts)} sense in the list; a word needs two to be ambiguous.")
        return
    if min(counts.values()) < LEAST:
        fewest = min(counts, key=counts.get)
        print(f"Not yet: the sense {fewest!r} has {counts[fewest]} of at least {LEAST} sentences.")
        return
    sentences = [sentence for _, sentence in rows]
    for sentence in sentences:
        if sentences.count(sentence) > 1:
            print(f"Not yet: {sentence!r} is in the list twice; it would be its own neighbour.")
            return
        if len(_spans(sentence, word)) != 1:
            times = len(_spans(sentence, word))
            print(f"Not yet: {word!r} should occur exactly once in {sentence!r}; it occurs {times} times.")
            return
        if len(tokenizer(sentence).input_ids) > model.config.max_position_embeddings:
            print(f"Not yet: {sentence[:60]!r}... is longer than the model takes.")
            return
    vectors = np.array([_vector(model, tokenizer, s, word).numpy() for s in sentences])
    nearest = KNeighborsClassifier(n_neighbors=1, metric="cosine")
    guessed = cross_val_predict(nearest, vectors, senses, cv=LeaveOneOut())
    # the lesson's guessing: the share of the other sentences that have the same sense
    guessing = sum(count * (count - 1) for count in counts.values()) / (len(rows) - 1)
    print(
        f"Right: {len(rows)} sentences with {word!r} in {len(counts)} senses. The nearest other "
        f"sentence has the same sense for {(guessed == senses).sum()} of them; "
        f"guessing would have {guessing:.1f}."
    )
    for sentence, sense, guess in zip(sentences, senses, guessed, strict=True):
        if sense != guess:
            print(f"   {sense} taken for {guess}: {sentence}")


def _spans(sentence: str, word: str) -> list[tuple[int, int]]:
    """Where the word is, in characters, whatever its capitals."""
    found = re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", sentence, re.IGNORECASE)
    return [match.span() for match in found] if word else []


def _vector(model, tokenizer, sentence, word, which=0):
    """The mean of the pieces that lie inside the word's characters, at the last layer."""
    import torch

    start, end = _spans(sentence, word)[which]
    batch = tokenizer(sentence, return_tensors="pt", return_offsets_mapping=True)
    offsets = batch.pop("offset_mapping")[0]
    inside = (offsets[:, 0] >= start) & (offsets[:, 1] <= end) & (offsets[:, 1] > offsets[:, 0])
    with torch.no_grad():
        return model(**batch).last_hidden_state[0, inside].mean(0)


def _close_share(got: object, expected: float) -> bool:
    return abs(float(got) - expected) <= 1e-3 * expected + 1e-7


def _short(value: object) -> str:
    return f"{float(value):.3f}"


def _share(value: object) -> str:
    return f"{float(value):.2g}"
