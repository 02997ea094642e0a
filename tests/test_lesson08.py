"""Lesson 8's own definitions against the library tokenizers; its checks and errors."""

import contextlib
import json
import re
from collections import Counter
from itertools import pairwise

import books
import pytest
import tokenizers
from tokenizers import Tokenizer, pre_tokenizers, trainers

from helpers import data, documentation, models
from helpers.exercises import lesson08

LESSON, SOLUTION = books.path("08"), books.path("08", solutions=True)
PROSE = " ".join(" ".join(c.source.split()) for c in books.read(LESSON).cells if c.cell_type == "markdown")


def said(sentence):
    return " ".join(sentence.split()) in PROSE


@pytest.fixture(scope="module")
def lesson():
    return books.definitions(
        LESSON, "words_of", "join", "train_bpe", "all_cuts", "inside_word", "what_bert_reads"
    )


@pytest.fixture(scope="module")
def bert():
    folder = models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
    bert = Tokenizer.from_file(str(folder / "tokenizer.json"))
    bert.no_padding()
    bert.no_truncation()
    return bert


def library(model, trainer, text):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator([text], trainer)
    return json.loads(tokenizer.to_str())["model"]


@pytest.fixture(scope="module")
def unigram():
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["[UNK]"], unk_token="[UNK]", show_progress=False
    )
    return dict(library(tokenizers.models.Unigram(), trainer, " ".join(data.tales()))["vocab"])


@pytest.mark.parametrize("n", [60, 300])
def test_the_hand_written_bpe_makes_the_librarys_merges(lesson, n):
    text = " ".join(data.tales()[:60])
    merges, pieces = lesson["train_bpe"](text, n)
    size = len(set("".join(pieces))) + len({a + b for a, b in merges})
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False)
    theirs = library(tokenizers.models.BPE(), trainer, text)["merges"]
    assert [tuple(m) for m in theirs] == merges and len(merges) == n
    model = tokenizers.models.BPE(
        {p: i for i, p in enumerate(dict.fromkeys([*"".join(pieces), *(a + b for a, b in merges)]))},
        merges,
    )
    for word, parts in pieces.items():
        assert [t.value for t in model.tokenize(word)] == parts


def test_it_is_short_enough_to_read():
    assert len(books.cell("08", "train_bpe").source.splitlines()) <= 25


def test_words_are_cut_as_the_library_cuts_them(lesson):
    for text in [*data.tales()[:50], "it's 3.5 %, isn't_it?", "naïve — привет"]:
        pieces = [p for p, _ in pre_tokenizers.Whitespace().pre_tokenize_str(text)]
        assert lesson["words_of"](text) == pieces


def test_the_most_probable_of_all_cuts_is_the_librarys(lesson, unigram):
    lesson["scores"] = unigram
    model = tokenizers.models.Unigram(
        [("[UNK]", 0.0), *((p, s) for p, s in unigram.items() if p != "[UNK]")], 0
    )
    for word in ["princess", "kingdom", "unlearnable"]:
        cuts = list(lesson["all_cuts"](word))
        best = max(sum(unigram[p] for p in cut) for cut in cuts)
        found = [t.value for t in model.tokenize(word)]
        assert found in cuts and sum(unigram[p] for p in found) == pytest.approx(best)


def test_a_word_that_is_part_of_no_other_is_no_candidate_of_unigrams():
    def pieces(more):
        trainer = trainers.UnigramTrainer(
            vocab_size=400, special_tokens=["[UNK]"], unk_token="[UNK]", show_progress=False
        )
        text = " ".join(data.tales()) + more
        return dict(library(tokenizers.models.Unigram(), trainer, text)["vocab"])

    assert not any("zyg" in piece for piece in pieces(" zygomorph" * 500))
    assert "zygomorph" in pieces(" zygomorph zygomorphs" * 500)


def test_which_pieces_go_on_inside_a_word(lesson):
    inside = lesson["inside_word"]
    assert inside(["We", "lo", "ve", "deep", "."], "We love deep.") == [
        False,
        False,
        True,
        False,
        False,
    ]
    assert inside(["we", "l", "##ove", "it", "##s"], "We love its") == [
        False,
        False,
        True,
        False,
        True,
    ]
    assert inside(["▁We", "▁", "lo", "ve"], "We love") == [False, False, False, True]


def test_your_own_sentence_gets_one_sentence_where_it_cannot_be_read(lesson, bert, capsys):
    lesson["bert"] = bert
    for text in ("", "  ", None):
        with pytest.raises(ValueError, match="this one is empty"):
            lesson["what_bert_reads"](text)
    with pytest.raises(ValueError, match="BERT reads at most 512"):
        lesson["what_bert_reads"]("word " * 600)
    lesson["what_bert_reads"]("deep learning 🐉")
    assert "3 words, 3 pieces, 1 unknown" in capsys.readouterr().out


def test_the_worked_answers_are_right_and_the_blanks_are_not(bert, unigram, capsys):
    space = books.definitions(SOLUTION, "fertility", "join", "cut_bpe", "cut_wordpiece", "cut_unigram")
    trainer = trainers.BpeTrainer(vocab_size=300, show_progress=False)
    merges = library(tokenizers.models.BPE(), trainer, " ".join(data.tales()))["merges"]
    needs = {
        "fertility": bert,
        "cut_bpe": [tuple(m) for m in merges],
        "cut_wordpiece": bert,
        "cut_unigram": unigram,
    }
    wrong = {
        "fertility": lambda tokenizer, texts: len(tokenizer.encode(texts[0]).ids) / len(texts[0].split()),
        "cut_bpe": lambda word, merges: [word],
        "cut_wordpiece": lambda word, vocabulary: list(word),
        "cut_unigram": lambda word, scores: [word],
    }
    for name, need in needs.items():
        check = getattr(lesson08, name)
        check(space[name], need)
        assert capsys.readouterr().out.startswith("Right:"), name
        check(lambda *_: ..., need)
        assert capsys.readouterr().out.startswith("Not yet written:"), name
        check(wrong[name], need)
        assert capsys.readouterr().out.startswith("Not yet:"), name


# what the prose says of the printed figures -----------------------------------------------


def test_the_first_join_of_the_toy(lesson):
    space = dict(lesson)
    exec(books.cell("08", "toy").source, space)
    toy = space["toy"]
    pairs = Counter(pair for word in toy.split() for pair in pairwise(word))
    (first, most), (_, second) = pairs.most_common(2)
    assert "".join(first) == "in" and (most, second) == (5, 3)
    _, pieces = lesson["train_bpe"](toy, 12)
    assert {"deep", "learn", "train"} <= {parts[0] for parts in pieces.values()}
    whole = lesson["train_bpe"](
        toy, 1_000
    )  # more than there is to join: it stops where each word is one piece
    assert {len(parts) for parts in whole[1].values()} == {1} and len(whole[0]) < 30


def test_what_a_larger_vocabulary_buys():
    tables, printed = {}, books.shown("08", "sizes")
    for name in ("held-out documentation", "fairy tales"):
        found = re.search(rf"^{name}, pieces per word.*pieces: (\S+)\)\n.*\n((?:   \w.*\n)+)", printed, re.M)
        rows = {line.split()[0]: [float(v) for v in line.split()[1:]] for line in found[2].splitlines()}
        assert set(rows) == {"BPE", "WordPiece", "Unigram"} and {len(v) for v in rows.values()} == {6}
        tables[name] = rows | {"BERT": float(found[1])}
    docs, tales = tables.values()
    for kind in ("BPE", "WordPiece", "Unigram"):
        gains = [a - b for a, b in pairwise(docs[kind])]
        assert all(a > b for a, b in pairwise(gains)) and gains[-1] < 0.1
        assert all(t > d for d, t in zip(docs[kind][1:], tales[kind][1:], strict=True))
        assert docs[kind][0] - docs[kind][-1] > tales[kind][0] - tales[kind][-1]
    assert tales["BPE"][0] < docs["BPE"][0] and tales["BERT"] < docs["BERT"]


def test_berts_own_floor(bert):
    """BERT cuts every sign singly, so where no word is cut it has more pieces than the dotted line."""
    held_out = [p for text in documentation.corpus()["text"] for p in text.split("\n")][5::50]
    floor, has = {}, {}
    for name, texts in (("tales", data.tales()), ("docs", held_out)):
        n = sum(len(text.split()) for text in texts)
        uncut = [bert.pre_tokenizer.pre_tokenize_str(bert.normalizer.normalize_str(text)) for text in texts]
        floor[name] = sum(map(len, uncut)) / n
        has[name] = sum(len(one.ids) for one in bert.encode_batch(texts, add_special_tokens=False)) / n
    assert said(
        f"a little higher, {floor['tales']:.2f} on the tales and {floor['docs']:.2f} on the documentation."
    )
    assert said(f"It stands {has['tales'] - floor['tales']:.2f} above it on the tales".replace("0.", ".", 1))


def test_who_keeps_which_word_whole():
    printed = books.shown("08", "five_vocabularies")
    found = re.findall(r"^(\S.*): \d+ pieces\n((?:   .*\n)+)", printed, re.M)
    cut = {name: pieces.replace("▁", "").split() for name, pieces in found}
    ours = [pieces for name, pieces in cut.items() if name != "BERT"]
    assert len(ours) == 4 and 2 <= sum("hyperparameters" in pieces for pieces in ours) < 4
    assert not any({"dragon", "orchard"} & set(pieces) for pieces in ours)
    assert {"dragon", "orchard", "hyper", "##para", "##meter", "##s"} <= set(cut["BERT"])


def test_the_words_of_the_tales_are_short():
    def length(texts):
        words = [word for text in texts for word in text.split()]
        return sum(map(len, words)) / len(words)

    corpus = documentation.corpus()
    held_out = [p for text in corpus["text"] for p in text.split("\n")][5::50]
    assert length(data.tales()) < length(held_out) - 1


def test_what_was_never_seen():
    unharmed, printed = books.shown("08", "unharmed"), books.shown("08", "unseen")
    kept = {name: int(n) for name, n in re.findall(r"^(\S.*?) +(\d) of 6 come back", unharmed, re.M)}
    assert kept["byte-level BPE"] == kept["SentencePiece"] == 6 > kept["BERT"] > kept["WordPiece"]
    assert "naive     comes back as naive" in printed
    for text in ("привет", "こんにちは", "🐉"):
        cut = re.search(rf"^{text}\n.*\n.*\n +byte-level BPE +(\S+)", printed, re.M)[1].split("|")
        assert len(cut) == len(text.encode())


def test_the_merges_the_vocabulary_and_the_spaces():
    assert "the same 200 merges in the same order: True" in books.shown("08", "same_merges")
    assert "the same vocabulary: True" in books.shown("08", "same_vocabulary")
    spaces = books.shown("08", "spaces")
    assert "joined again: True" in spaces
    assert re.search(r"two spaces: .*\| ▁ \| ▁learning", spaces)


def test_questions_are_dearer_without_their_signs():
    said = books.shown("08", "fertilities", solutions=True)
    tales, asked = re.findall(r": (\S+) pieces of BERT's per word, (\S+) without signs", said)
    assert float(tales[0]) > float(asked[0]) and float(tales[1]) < float(asked[1])


def test_words_and_letters_are_counted_as_the_prose_says():
    shown = books.shown("08", "counted")
    once, strange = re.search(r"; (\d+)% of them", shown)[1], re.search(r"without a row: (\S+)%", shown)[1]
    letters = re.search(r"signs in the training text: (\d+)", shown)[1]
    assert said(f"{once} % of the table would be words seen once") and said(
        f"still {strange} % of a new text's words"
    )
    assert said(f"Letters need {letters} rows") and said("becomes 39 pieces long in place of 6")
    sentence = "We love training deep learning networks"
    assert (len(sentence), len(sentence.split())) == (39, 6)
    other = re.search(r"long words, (\d+)% are cut differently", books.shown("08", "same_vocabulary"))[1]
    assert said(f"still {other} % of the long words are cut differently")


def test_four_algorithms_cut_one_word_in_four_ways():
    shown = books.shown("08", "one_word")
    cuts = dict(re.findall(r"(?m)^(\w+) +(\S.*)$", shown.split("\n\n")[0]))
    assert cuts == {
        "BPE": "de | mand",
        "WordPiece": "dem | ##and",
        "Unigram": "demand",
        "SentencePiece": "▁de | man | d",
    }
    de, mand = map(int, re.search(r"de is number (\d+), mand number (\d+)", shown).groups())
    assert said(f"as merge {de},") and de < mand
    assert shown.rstrip().endswith("begins with: d, de, dem")
    assert said("the longest piece that the word begins with, *dem*, and must go on with *##and*.")


def test_what_decode_gives_back():
    shown = books.shown("08", "auto")
    line = dict(re.findall(r"(?m)^([\w ]+): +(\S.*)$", shown))
    written, back = line["written"], line["skip_special_tokens"]
    assert (
        "Zoë's  café isn't" in written
        and "zoe ' s cafe isn ' t" in back
        and line["decode"].startswith("[CLS] zoe")
    )
    assert line["by their places"].split(" | ")[0] == "Zoë" and "café" in line["by their places"].split(" | ")
    assert shown.startswith("BertTokenizer") and "a space on each side of an apostrophe" in PROSE


def test_what_is_never_read():
    found = re.findall(
        r"by its first sentence (\d+) of 30, by its last (\d+) of 30", books.shown("08", "truncation")
    )
    (first, last), (first_cut, last_cut) = found
    assert said(
        f"by their last sentence, {last} of the 30 documents come first; by their first sentence, {first}."
    )
    assert said(f"it is {last_cut} of 30 by the last sentence and {first_cut} by the first.")
    assert int(last) + 5 < int(last_cut)
    assert "without its last sentence: cosine 1.000000" in books.shown("08", "truncation")
    pieces = re.search(
        r"(\d+) to (\d+) pieces, of which MiniLM reads (\d+)", books.shown("08", "documents")
    ).groups()
    assert said("when {} to {} pieces became {},".format(*pieces)) and int(pieces[0]) > 2 * int(pieces[2])


def test_a_large_tokenizer_beside_berts():
    page = books.cell("08", "today_beside").outputs[-1].data["text/html"]
    rows = re.findall(r"<th>(\w+)</th>\s+" + r"<td>(\w+)</td>\s+" * 7, page)
    at = {name: cells for name, *cells in rows}
    assert list(at) == ["code", "numbers", "English", "German", "Russian", "Japanese"]
    assert {cells[3] for cells in at.values()} == {"False"} and {cells[6] for cells in at.values()} == {
        "True"
    }
    assert {cells[5] for cells in at.values()} == {"0"}
    assert said(
        f"which also makes `[UNK]` of {at['Japanese'][2]} of its {at['Japanese'][1]} pieces of the Japanese sentence."
    )
    assert said(f"{at['code'][4]} pieces, BERT {at['code'][1]}, though BERT drops")
    russian, japanese = at["Russian"], at["Japanese"]
    assert said(
        f"{russian[4]} for the Russian sentence and {japanese[4]} for the Japanese one, where BERT has"
    )
    assert said(f"where BERT has {russian[1]} and {japanese[1]}.")
    space: dict = {}
    source = books.cell("08", "today_beside").source
    exec(source[: source.index("beside = []")], space)
    for name in ("Russian", "Japanese"):
        assert len(space["samples"][name].encode()) == int(at[name][4])
    assert (
        said(f"{at['English'][4]} pieces both, its eleven words and the full stop.")
        and at["English"][1] == at["English"][4]
    )
    ours = books.shown("08", "today_pieces")
    assert "123 | ##45 | ##6 | ##7" in ours and "123 | 456 | 7" in ours and "| ĠĠĠĠĠĠĠ |" in ours
    assert said("seven spaces are one piece, `ĠĠĠĠĠĠĠ`") and "50,000 pieces" in books.shown("08", "today")


def test_what_the_curves_say_in_numbers():
    shown = books.shown("08", "sizes")
    docs, tales = ([float(x) for x in line.split()] for line in re.findall(r"   BPE +(\S.*)", shown))
    assert said(
        f"BPE gains {docs[0] - docs[1]:.2f} pieces a word from the first and {docs[-2] - docs[-1]:.2f} from the last."
    )
    assert said(
        f"the last still gains {tales[-2] - tales[-1]:.2f}, and the end is higher, {tales[-1]} in place of {docs[-1]},"
    )
    assert said(
        f"BPE saves {docs[0] - docs[-1]:.2f} pieces a word on the documentation and {tales[0] - tales[-1]:.2f} on"
    )
    uncut = re.findall(r"if no word were cut: (\S+)", shown)
    assert set(uncut) == {"1.22"} and said(f"there are {uncut[0]} pieces a word, in both texts")
    assert float(uncut[0]) < min(docs + tales)
    on_docs, on_tales = re.findall(r"30,522 pieces: (\S+)\)", shown)
    assert said(f"{on_tales} on the tales, {on_docs} on the documentation.")
    kept = books.shown("08", "five_vocabularies")
    whole = [
        name
        for name, cut in re.findall(r"(?m)^(\S.*): \d+ pieces\n((?:   .*\n)+)", kept)
        if re.search(r"(^| |▁)hyperparameters\s", cut)
    ]
    assert whole == ["BPE (ours)", "SentencePiece (ours)"]
    assert said("one piece for our BPE and SentencePiece and four for BERT")


# answers of exercise 4 that are not the most probable cut --------------------------------------


def from_the_left(key):
    def cut(word, scores):
        pieces = []
        while word:
            pieces.append(
                max(
                    (word[:i] for i in range(1, len(word) + 1) if word[:i] in scores),
                    key=lambda p: key(p, scores),
                )
            )
            word = word[len(pieces[-1]) :]
        return pieces

    return cut


def from_the_right(key):
    def cut(word, scores):
        pieces = []
        while word:
            pieces.insert(
                0,
                max((word[i:] for i in range(len(word)) if word[i:] in scores), key=lambda p: key(p, scores)),
            )
            word = word[: -len(pieces[0])]
        return pieces

    return cut


def by_joining(word, scores):
    pieces = list(word)
    while ways := [
        (scores[a + b] - scores[a] - scores[b], -i)
        for i, (a, b) in enumerate(pairwise(pieces))
        if a + b in scores and a in scores and b in scores
    ]:
        gain, i = max(ways)
        if gain <= 0:
            break
        pieces[-i : -i + 2] = [pieces[-i] + pieces[-i + 1]]
    return pieces


def of_fewest_pieces(word, scores):
    best = {0: (0, 0.0, [])}
    for end in range(1, len(word) + 1):
        ways = [
            (best[i][0] - 1, best[i][1] + scores[word[i:end]], [*best[i][2], word[i:end]])
            for i in range(end)
            if i in best and word[i:end] in scores
        ]
        if ways:
            best[end] = max(ways)
    return best[len(word)][2]


GREEDY = {
    "the longest, from the left": from_the_left(lambda p, scores: len(p)),
    "the likeliest, from the left": from_the_left(lambda p, scores: scores[p]),
    "the likeliest a letter, from the left": from_the_left(lambda p, scores: scores[p] / len(p)),
    "the longest, from the right": from_the_right(lambda p, scores: len(p)),
    "the likeliest a letter, from the right": from_the_right(lambda p, scores: scores[p] / len(p)),
    "joining what gains most": by_joining,
    "fewest pieces": of_fewest_pieces,
}


def best_of_greedy(word, scores):
    """The most probable of all greedy cuts."""
    found = []
    for cut in GREEDY.values():
        with contextlib.suppress(KeyError, ValueError):
            found.append(cut(word, dict(scores)))
    return max((c for c in found if all(p in scores for p in c)), key=lambda c: sum(scores[p] for p in c))


def all_of_them(word, scores):
    def cuts(rest):
        if not rest:
            yield 0.0, []
        for i in range(1, len(rest) + 1):
            if rest[:i] in scores:
                for score, more in cuts(rest[i:]):
                    yield score + scores[rest[:i]], [rest[:i], *more]

    return max(cuts(word))[1]


@pytest.mark.parametrize("name", [*GREEDY, "the best of them"])
def test_a_greedy_cut_is_not_taken_for_the_most_probable(name, unigram, capsys):
    lesson08.cut_unigram((GREEDY | {"the best of them": best_of_greedy})[name], unigram)
    told = capsys.readouterr().out
    assert told.startswith("Not yet: cut_unigram for") and "it should be" in told, told


def piece_by_piece(word, scores):
    """Viterbi that tries each piece at each place, and reads its score before it looks whether it fits."""
    best = {0: (0.0, [])}
    for end in range(1, len(word) + 1):
        for piece in scores:
            score, start = scores[piece], end - len(piece)
            if start in best and word[:end].endswith(piece):
                found = best[start][0] + score, [*best[start][1], piece]
                best[end] = max(best.get(end, found), found, key=lambda cut: cut[0])
    return best[len(word)][1]


def test_a_viterbi_that_goes_through_the_vocabulary_is_right(unigram, capsys):
    lesson08.cut_unigram(piece_by_piece, unigram)
    assert capsys.readouterr().out.startswith("Right: cut_unigram")


def with_steps_back(word, vocabulary, begin=True):
    """Longest pieces first, and shorter ones where the longest leads nowhere."""
    for end in range(len(word), 0, -1):
        if (piece := word[:end] if begin else "##" + word[:end]) in vocabulary:
            rest = with_steps_back(word[end:], vocabulary, False) if word[end:] else []
            if rest != ["[UNK]"]:
                return [piece, *rest]
    return ["[UNK]"]


def test_a_longest_first_cut_takes_no_step_back(bert, capsys):
    lesson08.cut_wordpiece(with_steps_back, bert)
    assert capsys.readouterr().out.startswith("Not yet: cut_wordpiece for abc")


def test_trying_all_cuts_is_stopped(unigram, capsys):
    lesson08.cut_unigram(all_of_them, unigram)
    told = capsys.readouterr().out
    assert "stopped with RuntimeError: it has looked up" in told and "keep one cut for each place" in told
