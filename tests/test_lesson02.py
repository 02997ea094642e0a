"""Lesson 2's own definitions against the libraries', on a tiny random BERT; its checks and errors."""

import re

import books
import numpy as np
import pytest
import torch
from test_originals_in_place import tiny_bert
from transformers import BertForMaskedLM, BertTokenizer, pipeline

from helpers import data
from helpers.exercises import lesson02

LESSON = books.NOTEBOOKS / "02_bert_contextual_embeddings.ipynb"
SOLUTION = books.NOTEBOOKS / "solutions" / LESSON.name
NAMES = (
    "attend",
    "place_of",
    "word_vector",
    "cosine",
    "same_and_other",
    "compare",
    "all_layers",
    "nearest_same",
    "neighbours_only",
    "fill",
)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """The lesson's definitions over a tiny BERT."""
    folder = tmp_path_factory.mktemp("models")
    tiny_bert(folder)
    folder = folder / "bert-base-uncased"
    masked = BertForMaskedLM.from_pretrained(folder).eval()
    space = books.definitions(LESSON, *NAMES)
    space |= {"masked": masked, "model": masked.bert, "longest": 512}
    space["tokenizer"] = BertTokenizer.from_pretrained(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for a model this small, more of them only wait for one another
    yield space
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("sentence", "word", "which", "piece"),
    [
        ("The bat flew.", "bat", 1, "bat"),
        ("'A BAT!' she cried.", "Bat", 1, "bat"),
        ("Unhappiness, again.", "unhappiness", 1, "un ##ha ##pp ##iness"),
        ("The bat saw the boy's bat.", "bat", 2, "bat"),
        ("A bat-shaped hat.", "bat", 1, "bat"),
        ("Two bats, a batting average, one bat", "bat", 1, "bat"),
        ("A king, then a kingfisher.", "king", 1, "king"),
        ("A kingfisher, then a king.", "king", 1, "king"),
        ("At the café.", "cafe", 1, "cafe"),
        ("It was a home run.", "home run", 1, "home run"),
        ("The bat", "bat", 1, "bat"),
    ],
)
def test_place_of_finds_the_characters_of_the_word(space, sentence, word, which, piece):
    place = space["place_of"](sentence, word, which)
    batch = space["tokenizer"](sentence)
    assert batch.tokens()[place[0] : place[-1] + 1] == piece.split()
    pattern = rf"(?<!\w){word}(?!\w)".replace("cafe", "café")
    spans = [m.span() for m in re.finditer(pattern, sentence, re.I)]
    start, end = spans[which - 1]
    assert {batch.char_to_token(c) for c in range(start, end) if sentence[c] != " "} == set(place)


@pytest.mark.parametrize(
    ("sentence", "word", "which", "message"),
    [
        ("", "bat", 1, "the sentence is empty"),
        (" \n", "bat", 1, "the sentence is empty"),
        ("Two bats flew.", "bat", 1, "'bat' does not stand in: two bats flew ."),
        ("A batsman's battery.", "bat", 1, "'bat' does not stand in"),
        ("The kingfisher.", "king", 1, "'king' does not stand in"),
        ("The bat.", "bat", 2, "'bat' stands in the sentence once; there is no which=2"),
        ("The bat.", "bat", 0, "there is no which=0"),
        ("bat " * 511, "bat", 1, "the sentence has 513 pieces; this model takes at most 512"),
        ("The bat.", "", 1, "BERT has no pieces for ''"),
        ("The \u2603.", "\u2603", 1, "BERT has no pieces for '\u2603'"),
        ("The [MASK].", "[SEP]", 1, "BERT has no pieces for '[SEP]'"),
    ],
)
def test_bad_input_gets_one_sentence(space, sentence, word, which, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        space["word_vector"](sentence, word, which)
    if which == 1:
        assert space["compare"](word, sentence, sentence).startswith(f"not possible: {message}"[:40])


def test_word_vector_is_the_mean_of_the_pieces_that_the_pipeline_gives(space):
    features = pipeline("feature-extraction", model=space["model"], tokenizer=space["tokenizer"])
    sentence = "Great unhappiness " + "and so on " * 100 + "came over the bat."  # over 128 pieces
    theirs = np.array(features(sentence)[0])
    ours = space["word_vector"](sentence, "unhappiness")
    assert np.allclose(ours, theirs[2:6].mean(0), atol=1e-5)
    assert np.allclose(space["word_vector"](sentence, "bat"), theirs[-3], atol=1e-5)


def test_a_batch_gives_what_single_sentences_give(space):
    sentences = [
        "The bat.",
        "He swung the bat and hit a home run, in the very last inning.",
        "Bat!",
    ]
    layers = space["all_layers"](sentences * 2, ["bat"] * 6, size=4)
    assert layers.shape == (4, 6, 48)
    for depth in range(4):
        for i, sentence in enumerate(sentences * 2):
            single = space["word_vector"](sentence, "bat", layer=depth)
            assert np.allclose(layers[depth, i], single / np.linalg.norm(single), atol=1e-5)


def test_the_toy_is_attention():
    space = books.definitions(LESSON, "attend")
    draw = np.random.default_rng(0)
    space["toy"] = {word: draw.normal(size=2) for word in "abcd"}
    x = torch.tensor(np.array([space["toy"][word] for word in "abc"]))[None]
    theirs = torch.nn.functional.scaled_dot_product_attention(x, x, x, scale=1.0)[0].numpy()
    assert np.allclose(list(space["attend"]("abc").values()), theirs)


@pytest.fixture
def cloud():
    points = np.random.default_rng(0).normal(size=(30, 5))
    return points / np.linalg.norm(points, axis=1, keepdims=True), np.repeat(list("abc"), 10)


def test_nearest_same_is_scikit_learns_leave_one_out(space, cloud):
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    nearest = KNeighborsClassifier(n_neighbors=1, metric="cosine")
    theirs = cross_val_predict(nearest, *cloud, cv=LeaveOneOut()) == cloud[1]
    assert 0 < theirs.sum() < 30 and np.array_equal(space["nearest_same"](*cloud), theirs)


def test_nearest_same_shares_ties(space):
    unit = np.array([[1.0, 0], [1, 0], [1, 0], [0, 1], [0.6, 0.8]])
    assert space["nearest_same"](unit, np.array(list("aabbb"))).tolist() == [0.5, 0.5, 0, 1, 1]


def test_same_and_other_are_all_pairs_once(space, cloud):
    from sklearn.metrics.pairwise import cosine_similarity

    unit, senses = cloud
    theirs = {True: [], False: []}
    for i in range(30):
        for j in range(i):
            theirs[bool(senses[i] == senses[j])].append(cosine_similarity(unit[[i]], unit[[j]])[0, 0])
    for ours, pairs in zip(space["same_and_other"](unit, senses), theirs.values(), strict=True):
        assert np.allclose(np.sort(ours), np.sort(pairs))


def test_the_baseline_reads_the_other_words_only(space):
    from gensim.models import KeyedVectors

    space["glove"] = KeyedVectors(3)
    space["glove"].add_vectors(["bat", "cave", "the"], np.eye(3) * [[1], [2], [3]])
    mean = space["neighbours_only"]("The bat left the unknowncave; cave!", "bat")
    assert np.allclose(mean, [0, 1 / 3, 2 / 3])


def test_fill_is_the_pipeline(space):
    fill = pipeline("fill-mask", model=space["masked"], tokenizer=space["tokenizer"], top_k=7)
    sentence = "The [MASK] flew out of the cave at night."
    ours, theirs = space["fill"](sentence, topn=7), fill(sentence)
    assert [piece for piece, _ in ours] == [guess["token_str"] for guess in theirs]
    assert np.allclose([chance for _, chance in ours], [g["score"] for g in theirs], rtol=1e-4)


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        ("", "write [MASK] once"),
        ("The [mask] flew.", "write [MASK] once"),
        ("[MASK] and [MASK]", "write [MASK] once"),
        ("[MASK]" + " bat" * 600, "the sentence has 603 pieces; this model takes at most 512"),
    ],
)
def test_fill_says_what_is_wrong(space, sentence, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        space["fill"](sentence)


# what the prose says of the table ---------------------------------------------------------


def test_the_table_is_as_the_lesson_says():
    table = data.word_senses()
    assert len(table) == 238 and set(table.groupby(["word", "sense"]).size()) == {14}
    assert table["word"].nunique() == 8 and {"bat", "bank"} <= set(table["word"])
    assert set(table.groupby("word")["sense"].nunique()) == {2, 3}


def test_no_recipe_trains_on_the_senses():
    recipes = (books.ROOT / "models" / "recipes").glob("*.py")
    using = [f.name for f in recipes if re.search("word_senses", f.read_text(encoding="utf-8"))]
    assert all(name.endswith("_report.py") for name in using), using


def test_the_bats_of_the_heatmap_are_not_in_the_table():
    cell = next(c for c in books.code(books.read(LESSON)) if c.source.startswith("bats = {"))
    sentences = re.findall(r'"([A-Z][^"]+\.)"', cell.source)
    assert len(sentences) == 6 and not set(sentences) & set(data.word_senses()["sentence"])


# the checks of the exercises --------------------------------------------------------------


@pytest.fixture(scope="module")
def answers(space):
    """The worked answers over the tiny model, with a part of the table and its vectors."""
    answers = books.definitions(
        SOLUTION, "place_of", "word_vectors", "word_vector", "cosine", "twice", "guess_sense", "chance_of"
    )
    answers |= {k: space[k] for k in ("model", "masked", "tokenizer")}
    table = data.word_senses()[::3].reset_index(drop=True)
    answers |= {"table": table, "rows_of": table.groupby("word", sort=False).indices}
    last = answers["word_vectors"](table["sentence"], table["word"])
    answers["last"] = last / np.linalg.norm(last, axis=1, keepdims=True)
    return answers


def check(answers, name, function):
    model, masked, tokenizer = (answers[k] for k in ("model", "masked", "tokenizer"))
    extra = {"twice": (model, tokenizer), "chance_of": (masked, tokenizer)}
    extra["guess_sense"] = (answers["table"], answers["last"], model, tokenizer)
    getattr(lesson02, name)(function, *extra[name])


def test_the_checks_accept_the_worked_answers(answers, capsys):
    for name in ("twice", "guess_sense", "chance_of"):
        check(answers, name, answers[name])
        assert capsys.readouterr().out.startswith(f"Right: {name}"), name


def test_the_checks_explain_wrong_answers(answers, capsys):
    wrong = {
        "twice": [lambda s, w: 1.0, lambda s, w: "near", lambda s, w: 1 / 0],
        "guess_sense": [lambda w, s: "money", lambda w, s: 3],
        "chance_of": [lambda s, w: 0.5, lambda s, w: answers["chance_of"](s, "the")],
    }
    for name, functions in wrong.items():
        for function in functions:
            check(answers, name, function)
            assert capsys.readouterr().out.startswith(f"Not yet: {name} for"), name
        check(answers, name, lambda *case: ...)
        assert capsys.readouterr().out.startswith(f"Not yet written: {name}")


IRON = [("iron", f"A nail in the {place}.") for place in ("wall", "road", "board", "door")]
FINGER = [("finger", f"The nail of her {part} broke.") for part in ("thumb", "toe", "hand", "foot")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (..., "Not yet written: my_sentences"),
        (None, "Not yet written: my_sentences"),
        (7, "Not yet: my_sentences should be a list of pairs"),
        (["a sentence", "b"], "Not yet: my_sentences should be a list of pairs"),
        ([], "Not yet: there is 0 sense"),
        (IRON, "Not yet: there is 1 sense"),
        (IRON + FINGER[:2], "Not yet: the sense 'finger' has 2 of at least 4"),
        (IRON + FINGER + FINGER[:1], "stands twice in the list"),
        ([*IRON, *FINGER, ("iron", "A hammer.")], "should stand exactly once in 'A hammer.'; it stands 0"),
        ([*IRON, *FINGER, ("iron", "Nail by nail.")], "it stands 2 times"),
        ([*IRON, *FINGER, ("iron", "nail" + " on" * 600)], "longer than the model takes"),
        (IRON + FINGER, "Right: 8 sentences with 'nail' in 2 senses."),
    ],
)
def test_own_word(space, capsys, rows, message):
    lesson02.own_word("nail", rows, space["model"], space["tokenizer"])
    assert message in capsys.readouterr().out


def test_own_word_names_the_sentences_that_were_mistaken(space, capsys):
    lesson02.own_word("nail", IRON + FINGER, space["model"], space["tokenizer"])
    first, *others = capsys.readouterr().out.splitlines()
    right = int(re.search(r"same sense for (\d) of them", first).group(1))
    assert len(others) == 8 - right and all(" taken for " in line for line in others)
