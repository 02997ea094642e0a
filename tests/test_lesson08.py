"""Lesson 8's own definitions against the library tokenizers; its checks and errors."""

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
