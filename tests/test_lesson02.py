"""Lesson 2's own definitions against the libraries', on a tiny random BERT; its checks and errors."""

import re
from collections import Counter
from itertools import pairwise

import books
import numpy as np
import pytest
import torch
from test_originals_in_place import tiny_bert
from transformers import BertForMaskedLM, BertModel, BertTokenizer, pipeline

from helpers import data, models
from helpers.exercises import lesson02
from helpers.exercises.lesson02 import MASKED, TWO_TIMES

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
    "in_front",
    "raises",
    "hidden_vectors",
)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """The lesson's definitions over a tiny BERT."""
    folder = tmp_path_factory.mktemp("models")
    tiny_bert(folder)
    folder = folder / "bert-base-uncased"
    masked = BertForMaskedLM.from_pretrained(folder).eval()
    space = books.definitions(LESSON, *NAMES)
    space |= {"masked": masked, "model": masked.bert, "longest": 512, "torch": torch}
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
        ("Two bats flew.", "bat", 1, "'bat' does not occur in: two bats flew ."),
        ("A batsman's battery.", "bat", 1, "'bat' does not occur in"),
        ("The kingfisher.", "king", 1, "'king' does not occur in"),
        ("The bat.", "bat", 2, "'bat' occurs in the sentence once; there is no which=2"),
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


def test_the_hidden_vector_is_the_one_at_the_mask(space):
    theirs = pipeline("feature-extraction", model=space["model"], tokenizer=space["tokenizer"])
    wanted = np.array(theirs("Batting averages: the [MASK] broke."))[0][
        space["tokenizer"]("Batting averages: the [MASK] broke.").tokens().index("[MASK]")
    ]
    found = space["hidden_vectors"](["A bat.", "Batting averages: the bat broke."], ["bat", "bat"])[1]
    assert np.allclose(found, wanted / np.linalg.norm(wanted), atol=1e-5)


def test_a_word_that_cannot_be_hidden_is_refused(space):
    for sentence in ("No such word.", "A bat and a bat.", ""):
        with pytest.raises(ValueError, match="must occur once in"):
            space["hidden_vectors"](["The bat flew.", sentence], ["bat", "bat"])


@pytest.mark.parametrize(
    ("sentence", "front"),
    [
        ("Batting: My new bat broke.", "new"),
        ("A 'bat'!", "a"),
        ("Bat and ball.", ""),
        ("He, the bat-man", "the"),
    ],
)
def test_the_word_in_front(space, sentence, front):
    assert space["in_front"](sentence, "bat") == front


def test_what_a_shared_label_raises(space):
    unit = np.array([[1.0, 0], [1, 0], [0.6, 0.8]])
    assert space["raises"](unit, np.array(list("aab"))) == pytest.approx(1 - 0.6)


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


def test_the_banks_of_the_heatmap_are_not_in_the_table():
    sentences = re.findall(r'"([A-Z][^"]+\.)"', books.cell("02", "banks").source)
    assert len(sentences) == 5 and not set(sentences) & set(data.word_senses()["sentence"])


# what the sentences say -------------------------------------------------------------------

PROSE = " ".join(
    " ".join(cell.source.split()) for cell in books.read(LESSON).cells if cell.cell_type == "markdown"
)


def share(number: str) -> str:
    """0.64 as the prose writes it: 64 %."""
    return f"{round(100 * float(number))} %"


def test_by_hand_as_the_library():
    assert "by hand the same as the model's input: True" in books.shown("02", "input")
    assert books.shown("02", "head").split("\n")[:2] == [
        "weights as the library's: True",
        "result as the library's:  True",
    ]
    assert "the first layer by hand: True" in books.shown("02", "layer")
    assert "atol=1e-5" in books.cell("02", "head").source  # the bound that the comparison names
    tables, attention, wide = re.findall(r"numbers, (\d+)%", books.shown("02", "layer"))
    assert int(tables) + int(attention) + int(wide) == 100
    assert f"more than half of all numbers, {tables} %, are in the tables" in PROSE


def test_the_head_of_the_picture(real):
    """What the prose says of the picture, computed again by the library alone."""
    sentence = "We fished from the bank of the river."
    model = BertModel.from_pretrained(real["folder"], attn_implementation="eager").eval()
    batch = real["tokenizer"](sentence, return_tensors="pt")
    with torch.no_grad():
        first = model(**batch, output_attentions=True).attentions[0][0]
    pieces = batch.tokens()
    most = first[:, pieces.index("bank"), pieces.index("river")].max().item()
    assert f"*Bank* takes {most:.0%} of".replace("%", " %") in PROSE
    assert f'"{sentence}"' in books.cell("02", "head").source


def test_two_banks():
    one, other = re.findall(r"BERT (\S+), GloVe 1\.00", books.shown("02", "two-banks"))
    assert f"{one} for two banks of one sense, {other} for two senses" in PROSE
    assert re.findall(r"layer +\d: (\S+)", books.shown("02", "depth")) == ["1.00", "0.72"]
    same, other = re.findall(r"mean cosine (\S+),", books.shown("02", "eight"))
    assert f"brighter than the other two: {same} on average against {other}" in PROSE


def test_each_of_eight_banks_is_nearest_to_its_own_sense(real):
    space = books.definitions(LESSON, "place_of", "word_vector", "cosine", "nearest_same")
    space |= real | {"longest": 512}
    given = {"lent": "The bank lent me the money.", "fishing": "We fished from the bank of the river."}
    given["account"] = "She opened an account at the bank."
    source = books.cell("02", "banks").source
    exec(source, space | given, space)
    assert space["nearest_same"](space["eight"], space["money_or_river"]).all()
    names = list(space["banks"])
    muddy = names.index("canoe, muddy")
    cosines = space["eight"] @ space["eight"].T
    assert [round(float(cosines[muddy, names.index(n)]), 2) for n in ("took the cheque", "fished from")] == [
        0.74
    ] * 2
    assert "as near to *took the cheque* (0.74) as to *fished from* (0.74)" in PROSE


def titles(real) -> str:
    """What the titles of the picture say, computed again: the share at layer 0 of two words."""
    space = books.definitions(LESSON, "place_of", "all_layers", "nearest_same")
    space |= real | {"longest": 512}
    said = []
    for word in ("bank", "bat"):
        part = real["table"][real["table"]["word"] == word]
        unit = space["all_layers"](list(part["sentence"]), list(part["word"]))[0]
        said.append(f"{word}, layer 0: {space['nearest_same'](unit, part['sense'].to_numpy()).mean():.0%}")
    return "; ".join(said)


def by_word():
    rows = re.findall(r"(?m)^(\w+) +" + r" +".join([r"(\d\.\d\d)"] * 6) + "$", books.shown("02", "by-word"))
    return {word: tuple(map(float, numbers)) for word, *numbers in rows}


def test_word_by_word():
    words = by_word()
    assert len(words) == 8 and next(iter(words)) == "bank" and list(words)[-1] == "bat"
    assert words["bank"][:3] == (1, 1, 1) and "in all 28 sentences" in PROSE
    assert words["match"][0] == words["seal"][0]
    assert f"*Bark* has {share(words['bark'][0])}, *match* and *seal* have {share(words['seal'][0])}" in PROSE
    right, low, high, guessing, _, across = words["bat"]
    assert low < guessing < high
    said = f"last with {share(right)}, and its interval, {share(low)} to {share(high)}, holds the {share(guessing)} of"
    assert said in PROSE
    assert across > words["bark"][4]
    assert (
        f"*bats* of different sense has {across} on average, more than a pair of *barks* of the same sense ({words['bark'][4]})"
        in PROSE
    )


def test_layer_by_layer(real):
    shown = books.shown("02", "layers")
    chance, first, last = map(
        int, re.search(r"guessing (\d+)%, layer 0 (\d+)%, last layer (\d+)%", shown).groups()
    )
    assert abs(first - chance) <= 3
    gain = re.search(r"layer 1 makes (\d+)%", shown)[1]
    assert (
        f"{gain} % of the gain from {first} % at the input, which is guessing, to {last} % at the end"
        in PROSE
    )
    gaps = [float(x) for x in re.search(r"layer by layer: (.+)", shown)[1].split()]
    assert f"grows from {abs(gaps[0]):.2f} to {gaps[-1]:.2f}, but not at every step" in PROSE
    assert max(gaps) == gaps[-1] and any(later <= earlier for earlier, later in pairwise(gaps))
    zero = dict(re.findall(r"(bank|bat), layer 0: (\d+)%", titles(real)))
    assert f"Its shares, {zero['bank']} % and {zero['bat']} %" in PROSE


def test_the_bags():
    shown = books.shown("02", "bags")
    plain, rare, pieces, later = re.findall(r"(\d+)%; BERT minus this: (\S+)% to (\S+)%", shown)
    bert = re.search(r"word itself +(\d+)%", shown)[1]
    assert 0 < float(rare[1]) < float(rare[2]) and float(plain[1]) > 0
    assert f"reach {plain[0]} %, and {rare[0]} % without the common ones. BERT's {bert} % is more" in PROSE
    assert f"{float(rare[1])} to {float(rare[2])} points over the better bag" in PROSE
    assert int(rare[0]) >= int(plain[0]) and float(pieces[1]) > 0
    by = re.search(r"add to the mean of the other pieces: \+(\S+)% to \+(\S+)%", shown)
    assert (
        f"They reach {pieces[0]} %. The layers raise the same mean to {later[0]} % (by {by[1]} to {by[2]}"
        in PROSE
    )
    assert f"the rest of the {int(bert) - int(pieces[0])} points" in PROSE and float(later[1]) > 0
    assert f"same sense for {bert} %, a bag of the other words for {rare[0]} %, guessing for 45 %" in PROSE


def test_what_was_inherited():
    """The table of the lesson is the card's."""
    card = (books.ROOT / "models" / "README.md").read_text(encoding="utf-8")
    row = re.search(
        r"\| sense of a word by its nearest neighbour.*?\| (\S+) \| (\S+) \| (\S+) \|", card
    ).groups()
    ours, random_start, minilm = map(share, row)
    assert f"same sense | {random_start} | {ours} | {minilm} |" in PROSE
    accepted = re.search(r"\| \[MASK\]: an accepted word.*?\| (\d+) \| (\d+) \|", card).groups()
    assert f"of 20 sentences | {accepted[1]} | {accepted[0]} | - |" in PROSE
    assert f"reached {random_start}" in PROSE
    assert f"it fills {accepted[0]} of 20, the random start {accepted[1]}." in PROSE
    shown = books.shown("02", "fill")
    assert re.search(r"credit \[MASK\].\n +card ", shown) and re.search(r"on the \[MASK\].\n +table ", shown)


def test_the_hard_case():
    assert "10 of 28 bats" in books.shown("02", "hard-pairs")
    pairs = books.shown("02", "hard-pairs")
    for words in (
        "the wing of a bat",
        "the blade of a bat",
        "bite of a wild bat",
        "an injured bat",
        "a cracked bat",
    ):
        assert words in pairs and words.removeprefix("the ") in PROSE
    ratios = re.findall(
        r"(\w+) +same sense \+(\S+), same word in front \+(\S+), ratio (\S+)",
        books.shown("02", "hard-frames"),
    )
    ratio = {word: float(x) for word, _, _, x in ratios}
    assert len(ratio) == 8 and max(ratio, key=ratio.get) == "bat"
    assert f"{ratio['bat']} times as much as the sense does, the most of all eight" in PROSE
    bank = next(row for row in ratios if row[0] == "bank")
    assert bank[1] == bank[2] and f"for *bank* both raise it by {bank[1]}" in PROSE


def test_the_hidden_bat():
    shown = books.shown("02", "hard-shares")
    rows = re.findall(r"(?m)^(\w+) +" + " +".join([r"(-?\d\.\d\d)"] * 5) + " *$", shown)
    table = {word: tuple(map(float, numbers)) for word, *numbers in rows}
    bag, seen, hidden, low, high = table["bat"]
    assert len(table) == 8 and 0 < low < high
    assert (
        f"nearest for {share(hidden)} of the *bats*, and a bag of the other words has {share(bag)}" in PROSE
    )
    assert (
        f"the word itself has {share(seen)}" in PROSE
        and f"The interval of the gain, {low} to {high}," in PROSE
    )
    assert all(
        row[3] <= 0 for word, row in table.items() if word != "bat"
    )  # beyond its interval: for no other
    assert table["palm"][2] < table["palm"][1] and table["bank"][2] < table["bank"][1]
    low, high = re.findall(r"hidden minus seen (-\S+)% to \+(\S+)%", shown)[-1]
    assert f"(−{low[1:]} to +{high} points)" in PROSE
    assert f"With *bat* hidden, {share(hidden)} come out right" in PROSE


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
    vector = answers["word_vector"]
    wrong = {
        "twice": [
            lambda s, w: 1.0,
            lambda s, w: "near",
            lambda s, w: 1 / 0,
            lambda s, w: float("nan"),
            lambda s, w: 1 - answers["twice"](s, w),  # the distance
            lambda s, w: answers["twice"](TWO_TIMES[0][0], "bat"),  # whatever is asked for
            lambda s, w: float(vector(s, w, 1) @ vector(s, w, 2)),  # the product, not divided by the lengths
        ],
        "guess_sense": [lambda w, s: "money", lambda w, s: 3],
        "chance_of": [
            lambda s, w: 0.5,
            lambda s, w: answers["chance_of"](s, "the"),
            lambda s, w: float("nan"),
            lambda s, w: answers["chance_of"](MASKED[0][0], w),  # whatever the sentence
            lambda s, w: np.log(answers["chance_of"](s, w)),
        ],
    }
    for name, functions in wrong.items():
        for function in functions:
            check(answers, name, function)
            assert capsys.readouterr().out.startswith(f"Not yet: {name} for"), name
        check(answers, name, lambda *case: ...)
        assert capsys.readouterr().out.startswith(f"Not yet written: {name}")


@pytest.fixture(scope="module")
def real():
    """The course's own copy, and the last layer of the table's sentences."""
    folder = models.path("bert-base-uncased", quiet=True)
    space = books.definitions(LESSON, "place_of", "all_layers")
    space |= {"longest": 512, "folder": folder, "model": BertModel.from_pretrained(folder).eval()}
    space["tokenizer"] = BertTokenizer.from_pretrained(folder)
    space["table"] = data.word_senses()
    space["last"] = space["all_layers"](list(space["table"]["sentence"]), list(space["table"]["word"]))[-1]
    return {k: space[k] for k in ("folder", "model", "tokenizer", "table", "last")}


def test_the_usual_wrong_ways_to_name_a_sense_are_refused(real, capsys):
    space = books.definitions(SOLUTION, "place_of", "word_vectors", "word_vector", "guess_sense")
    space |= real | {"rows_of": real["table"].groupby("word", sort=False).indices}
    right, vector, rows_of, last = (space[k] for k in ("guess_sense", "word_vector", "rows_of", "last"))
    sense = real["table"]["sense"].to_numpy()

    def states(sentence):
        with torch.no_grad():
            return (
                real["model"](**real["tokenizer"](sentence, return_tensors="pt")).last_hidden_state[0].numpy()
            )

    def words(sentence):
        return [w for w in re.findall("[a-z]+", sentence.lower()) if w in rows_of]

    def vote(number):
        def guess(word, sentence):
            near = np.argsort(-(last[rows_of[word]] @ vector(sentence, word)), kind="stable")[:number]
            return Counter(sense[rows_of[word]][near]).most_common(1)[0][0]

        return guess

    def nearest_mean(word, sentence):
        senses = list(dict.fromkeys(sense[rows_of[word]]))
        means = [last[rows_of[word]][sense[rows_of[word]] == s].mean(axis=0) for s in senses]
        return senses[int(np.argmax(np.array(means) @ vector(sentence, word)))]

    wrong = {
        "the first word of the table, not the one asked for": lambda w, s: right(words(s)[0], s),
        "the last word of the table": lambda w, s: right(words(s)[-1], s),
        "the sentence, not the word": lambda w, s: sense[
            rows_of[w][(last[rows_of[w]] @ states(s).mean(axis=0)).argmax()]
        ],
        "[CLS], not the word": lambda w, s: sense[rows_of[w][(last[rows_of[w]] @ states(s)[0]).argmax()]],
        "the farthest": lambda w, s: sense[rows_of[w][(last[rows_of[w]] @ vector(s, w)).argmin()]],
        "the row in the group taken for the row in the table": lambda w, s: sense[
            (last[rows_of[w]] @ vector(s, w)).argmax()
        ],
        "the first sense": lambda w, s: sense[rows_of[w][0]],
        "the nearest mean": nearest_mean,
        "a vote of the three nearest": vote(3),
        "a vote of the five nearest": vote(5),
        "a vote of the seven nearest": vote(7),
        "the row": lambda w, s: int(rows_of[w][0]),
        "the nearest of all words": lambda w, s: sense[(last @ vector(s, w)).argmax()],
    }
    args = (real["table"], last, real["model"], real["tokenizer"])
    lesson02.guess_sense(right, *args)
    assert capsys.readouterr().out.startswith("Right: guess_sense")
    for name, answer in wrong.items():
        lesson02.guess_sense(answer, *args)
        assert capsys.readouterr().out.startswith("Not yet: guess_sense for"), name


def test_what_the_solutions_say():
    assert "animal     The bat was made of ash." in books.shown("02", "new-sentences", solutions=True)
    cosines = re.findall(r"(?m)^(\d\.\d\d)  ", books.shown("02", "twice", solutions=True))
    assert cosines[2] < cosines[1] < cosines[0]


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
        (IRON + FINGER + FINGER[:1], "is in the list twice"),
        ([*IRON, *FINGER, ("iron", "A hammer.")], "should occur exactly once in 'A hammer.'; it occurs 0"),
        ([(text, sense) for sense, text in IRON + FINGER], "the sense comes first, then the sentence"),
        ([*IRON, *FINGER, ("iron", "Nail by nail.")], "it occurs 2 times"),
        ([*IRON, *FINGER, ("iron", "nail" + " on" * 600)], "longer than the model takes"),
        (IRON + FINGER, "Right: 8 sentences with 'nail' in 2 senses."),
    ],
)
def test_own_word(space, capsys, rows, message):
    lesson02.own_word("nail", rows, space["model"], space["tokenizer"])
    assert message in capsys.readouterr().out


def test_own_word_says_what_guessing_would_have(space, capsys):
    guessing = books.definitions(LESSON, "guessing")["guessing"]
    third = [
        ("letter", f"{name} wrote a nail to the press.") for name in ("Ada", "Bea", "Cleo", "Dora", "Eve")
    ]
    for rows in (IRON + FINGER, IRON + FINGER + third):
        lesson02.own_word("nail", rows, space["model"], space["tokenizer"])
        wanted = len(rows) * guessing(np.array([sense for sense, _ in rows]))
        assert capsys.readouterr().out.splitlines()[0].endswith(f"; guessing would have {wanted:.1f}.")


def test_own_word_names_the_sentences_that_were_mistaken(space, capsys):
    lesson02.own_word("nail", IRON + FINGER, space["model"], space["tokenizer"])
    first, *others = capsys.readouterr().out.splitlines()
    right = int(re.search(r"same sense for (\d) of them; guessing would have 3.4\.$", first).group(1))
    assert len(others) == 8 - right and all(" taken for " in line for line in others)
