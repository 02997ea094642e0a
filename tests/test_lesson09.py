"""Lesson 9's own definitions against torch and transformers; its tables, checks and errors."""

import re
from collections import Counter

import books
import numpy as np
import pytest

from helpers import data, models
from helpers.exercises import lesson09

LESSON, SOLUTION = books.path("09"), books.path("09", solutions=True)


@pytest.fixture(scope="module")
def folder():
    return models.path("bert-base-uncased", quiet=True)


@pytest.fixture(scope="module")
def tokenizer(folder):
    from transformers import BertTokenizer

    return BertTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def lesson(tokenizer):
    space = books.definitions(
        LESSON,
        "make_lstm",
        "make_layer",
        "reach",
        "guesses",
        "attend",
        "seen_in_part",
        "Translator",
        "random_sentence",
        "sentences",
        "make_pairs",
        "mask_pieces",
        "place_of",
        "loss_of_rules",
        "two_exams",
        "threshold",
        "parts_of_the_loss",
        "best_span",
        "checked",
        "whole_letter",
        "tagged",
        "classify_batch",
        "tags_batch",
        "answers_batch",
        "translate",
    )
    return space | {"width": 64}


@pytest.fixture(scope="module")
def bind(lesson, tokenizer):
    """Give a lesson's function the names that other cells made."""

    def given(name, **names):
        lesson[name].__globals__.update(names)
        return lesson[name]

    return given


def test_a_left_only_mask_is_what_a_decoder_has(folder, tokenizer, bind):
    """The lesson's additive mask gives the numbers of the library's own is_decoder=True."""
    import torch
    import transformers
    from transformers import BertForMaskedLM

    transformers.utils.logging.set_verbosity_error()
    space = books.definitions(LESSON, "run")
    eager = {"attn_implementation": "eager"}
    space["tokenizer"] = tokenizer
    space["bert"] = BertForMaskedLM.from_pretrained(folder, **eager).eval()
    decoder = BertForMaskedLM.from_pretrained(folder, is_decoder=True, **eager).eval()
    text = "The dog that chased the cats barks."
    batch = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        for left_only, library in [(False, space["bert"]), (True, decoder)]:
            answer, pieces = space["run"](text, left_only)
            wanted = library(batch.input_ids, attention_mask=batch.attention_mask).logits
            torch.testing.assert_close(answer.logits, wanted, rtol=1e-4, atol=1e-4)
            seen = torch.stack(answer.attentions).triu(diagonal=1).sum().item()
            assert (seen == 0) == left_only
            assert len(pieces) == batch.input_ids.shape[1]


def test_both_networks_have_the_same_number_of_weights_to_a_percent(bind):
    make_lstm, make_layer = bind("make_lstm", width=64), bind("make_layer", width=64)
    lstm, layer = (sum(p.numel() for p in net.parameters()) for net in (make_lstm(), make_layer()))
    assert abs(lstm / layer - 1) < 0.01


def test_the_first_word_fades_in_the_lstm_and_not_in_the_layer(bind):
    import torch

    reach = bind("reach", width=256)  # the lesson's own width
    make_lstm, make_layer = bind("make_lstm", width=256), bind("make_layer", width=256)
    for seed in range(10, 13):
        torch.manual_seed(seed)
        lstm, ajar, wide = (reach(make_lstm(keep=keep)) for keep in (0.0, 1.0, 3.0))
        layer = reach(make_layer())
        assert lstm[0] < 1e-8 < ajar[0] < 0.01 and 0.3 < wide[0] < 5 and 0.5 < layer[0] < 2
        assert lstm[:-1].mean() == pytest.approx(1, rel=1e-4)


def test_the_gate_that_is_opened_is_the_one_that_keeps(bind):
    """One step by hand: with the forget gate open, the old cell state stays."""
    import torch

    lstm = bind("make_lstm", width=64)(keep=50.0)
    cell = torch.randn(1, 1, 64)
    with torch.no_grad():
        kept = lstm(torch.zeros(1, 1, 64), (torch.zeros(1, 1, 64), cell))[1][1]
        shut = bind("make_lstm", width=64)(keep=-50.0)
        lost = shut(torch.zeros(1, 1, 64), (torch.zeros(1, 1, 64), cell))[1][1]
    assert (kept - cell).abs().max() < 0.3  # what the input adds is small
    assert lost.abs().max() < 0.3 < cell.abs().max()


def test_a_random_sentence_is_aligned_word_by_word(lesson, bind):
    space = {}
    exec(books.cell("09", "small_language").source, space)
    random_sentence = bind("random_sentence", **space)
    for seed in range(50):
        english, french, places = random_sentence(np.random.default_rng(seed))
        assert [space["french_of"][english[i]] for i in places] == french
        assert sorted(places) == list(range(len(english)))
    translate = bind("translate", source_id={"": 0, "the": 1}, english=["the"])
    for bad in ([], ["the", "kangaroo"], ["the"] * 11):
        with pytest.raises(ValueError, match="use 1 to 10 of these words: the"):
            translate(bad)


def test_the_translators_decoder_sees_nothing_to_the_right(lesson):
    import torch

    torch.manual_seed(0)
    net = lesson["Translator"](20, 20)
    source, target = torch.randint(1, 20, (2, 7)), torch.randint(1, 20, (2, 6))
    changed = target.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 20
    with torch.no_grad():
        scores, weights = net(source, target)
        others, _ = net(source, changed)
    torch.testing.assert_close(scores[:, :-1], others[:, :-1])
    assert not torch.allclose(scores[:, -1], others[:, -1])
    assert weights.shape == (2, 6, 7) and torch.allclose(weights.sum(-1), torch.ones(2, 6))


@pytest.fixture(scope="module")
def small():
    class Small:
        mask_token_id = 4

        def __len__(self):
            return 500

    return Small()


def test_the_masking_keeps_its_rules(bind, small):
    import torch

    mask_pieces = bind("mask_pieces", n_special=5, small=small)
    ids = torch.randint(0, 500, (3_000, 64), generator=torch.Generator().manual_seed(0))
    hidden, labels = mask_pieces(ids, torch.Generator().manual_seed(1))
    chosen = labels >= 0
    assert torch.equal(labels[chosen], ids[chosen]) and torch.equal(hidden[~chosen], ids[~chosen])
    assert not (chosen & (ids < 5)).any() and (labels[~chosen] == -100).all()
    n, k = int((ids >= 5).sum()), int(chosen.sum())
    masked, same = int((hidden[chosen] == 4).sum()), int((hidden == ids)[chosen].sum())
    for count, of, share in [(k, n, 0.15), (masked, k, 0.8), (same, k, 0.1 + 0.1 / 495)]:
        assert abs(count - of * share) < 4 * (of * share * (1 - share)) ** 0.5
    random = hidden[chosen & (hidden != 4) & (hidden != ids)]
    assert random.min() >= 5 and len(random.unique()) > 480


def test_the_masking_is_short_enough_to_read():
    assert len(books.cell("09", "mask_pieces").source.splitlines()) <= 25


def test_half_of_the_second_sentences_follow(lesson):
    documents = [[f"{d} {i}" for i in range(8)] for d in range(400)]
    pairs = lesson["make_pairs"](documents, np.random.default_rng(0))
    assert len(pairs) == 400 * 7
    for first, second, label in pairs:
        (d, i), (e, j) = map(str.split, (first, second))
        follows = d == e and int(j) == int(i) + 1
        assert follows == (label == 0) and (d != e) == (label == 1)
    share = np.mean([label == 0 for *_, label in pairs])
    assert abs(share - 0.5) < 4 * 0.5 / len(pairs) ** 0.5


def test_the_two_parts_are_the_librarys_loss(lesson):
    import torch
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=12,
        hidden_dropout_prob=0,
        attention_probs_dropout_prob=0,
    )
    model = BertForPreTraining(config)
    ids = torch.randint(5, 60, (6, 12))
    ids[:, 9:] = 0
    batch = {
        "input_ids": ids,
        "attention_mask": (ids > 0).long(),
        "token_type_ids": torch.zeros_like(ids),
        "next_sentence_label": torch.randint(2, (6,)),
    }
    labels = torch.full_like(ids, -100)
    labels[:, 2:4] = ids[:, 2:4]
    mlm, nsp, right = lesson["parts_of_the_loss"](model, batch, ids, labels)
    wanted = model(**batch, labels=labels)
    assert (mlm + nsp).item() == pytest.approx(wanted.loss.item(), rel=1e-5)
    answers = wanted.seq_relationship_logits.argmax(1) == batch["next_sentence_label"]
    assert right.item() == pytest.approx(answers.float().mean().item())


def test_the_line_is_the_loss_of_the_counted_shares(bind, small, capsys):
    """The lesson's cell on made-up pieces: scipy's entropy of the shares, and their loss as torch has it."""
    import torch
    from scipy.stats import entropy

    mask_pieces = bind("mask_pieces", n_special=5, small=small)
    ids = torch.randint(0, 500, (1_400, 20), generator=torch.Generator().manual_seed(0)) ** 2 // 500
    space = {"torch": torch, "np": np, "n_special": 5, "small": small, "mask_pieces": mask_pieces}
    space["whole"] = {"input_ids": ids}
    exec(books.cell("09", "line_to_beat").source, space)
    counted = np.bincount(ids[1_000:].flatten(), minlength=500)[5:]
    assert space["entropy"] == pytest.approx(entropy(counted))
    shares = torch.tensor([0.0] * 5 + [float(n) for n in counted]) + 1
    wanted = torch.nn.functional.cross_entropy(
        shares.log().repeat(len(space["targets"]), 1), space["targets"]
    )
    assert space["line"] == pytest.approx(wanted.item(), rel=1e-5)


def test_attention_by_hand_is_torchs(bind):
    """Encoder, decoder, and queries of one text on keys of another, against torch's own."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    attend = bind("attend", torch=torch)
    generator = torch.Generator().manual_seed(1)
    for n, m, allowed in [
        (5, 5, torch.ones(5, 5)),
        (6, 6, torch.ones(6, 6).tril()),
        (3, 7, torch.ones(3, 7)),
    ]:
        Q, K = (torch.randn(rows, 4, generator=generator) for rows in (n, m))
        V = torch.randn(m, 3, generator=generator)
        ours, weights = attend(Q, K, V, allowed)
        wanted = scaled_dot_product_attention(Q, K, V, attn_mask=allowed.bool())
        torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-6)
        assert (weights[allowed == 0] == 0).all()
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(n))


def test_what_the_mask_does_in_the_toy():
    """A decoder's row is the encoder's, cut and made to add up to 1; first and last rows as the prose says."""
    import pandas as pd
    import torch

    masks = {"both_ways": np.ones((5, 5), int), "left_only": np.tril(np.ones((5, 5), int))}
    space = {"np": np, "pd": pd, "torch": torch, "toy_words": list("abcde")} | masks
    exec(books.cell("09", "attend").source, space)
    encoder, decoder = (
        space["attend"](space["Q"], space["K"], space["V"], torch.tensor(mask))[1].numpy()
        for mask in (masks["both_ways"], masks["left_only"])
    )
    cut = np.tril(encoder)
    np.testing.assert_allclose(decoder, cut / cut.sum(axis=1, keepdims=True), rtol=1e-5)
    assert decoder[0].tolist() == [1, 0, 0, 0, 0]
    np.testing.assert_allclose(decoder[-1], encoder[-1], rtol=1e-5)


@pytest.mark.parametrize("n", [5, 6, 13, 64])
def test_what_is_seen_of_a_sentence(bind, tokenizer, n):
    """Each row has the sentence's length and its gap; one side and half of each are as many pieces."""
    gap = tokenizer.mask_token_id
    ids = [101, *range(2_000, 2_000 + n - 2), 102]
    rows, place = bind("seen_in_part", tokenizer=tokenizer)(ids)
    for name, row in rows.items():
        assert len(row) == n and row[place] == gap and (row[0], row[-1]) == (101, 102), name
        assert all(new in (old, gap) for new, old in zip(row, ids, strict=True)), name
    left, right = (
        {i for i in range(1, n - 1) if rows[f"{side} side only"][i] != gap} for side in ("left", "right")
    )
    half = {i for i in range(1, n - 1) if rows["half of each side"][i] != gap}
    assert left == set(range(1, place)) and right == set(range(place + 1, n - 1))
    assert len(half) == 2 * (len(left) // 2) and half == {
        place + d for d in range(-len(half) // 2, len(half) // 2 + 1)
    } - {place}


def test_places_and_what_the_rules_lose(bind):
    """A pair by hand: nine places, and the loss of a table and of what stands elsewhere in the pair."""
    import torch

    class Small:
        cls_token_id, sep_token_id = 2, 3

    #                    [CLS]           [SEP]            [SEP] [PAD]
    ids = torch.tensor([[2, 7, 8, 9, 6, 5, 3, 7, 9, 8, 3, 0]])
    place_of = bind("place_of", torch=torch, small=Small())
    found = place_of(ids)[0]
    assert found[1:6].tolist() == [3 * a + b for a, b in [(0, 2), (1, 2), (2, 2), (2, 1), (2, 0)]]
    assert found[7:10].tolist() == [3 * a + b for a, b in [(0, 2), (1, 1), (2, 0)]]
    loss_of_rules = bind("loss_of_rules", n_special=5, place_of=place_of)
    by_place = torch.rand(9, 10, generator=torch.Generator().manual_seed(0)).double()
    hidden, labels = ids.clone(), torch.full_like(ids, -100)
    hidden[0, 1], labels[0, 1] = 4, 7  # 7 stands once more, among 7 pieces that can be seen
    hidden[0, 4] = 6
    plain, repeated = (loss_of_rules(ids, hidden, labels, by_place, share) for share in (0, 0.25))
    assert plain == pytest.approx(-np.log(by_place[2, 7].item()))
    assert repeated == pytest.approx(-np.log(0.75 * by_place[2, 7].item() + 0.25 / 7))


def test_the_two_exams_differ_in_the_wrong_sentences_alone(lesson, bind):
    documents = [[f"{d} {i}" for i in range(6)] for d in range(200)]
    pairs = lesson["make_pairs"](documents, np.random.default_rng(0))
    origins = [(document, i) for document in documents for i in range(len(document) - 1)]
    exams = bind("two_exams", pairs=pairs, origins=origins)(range(0, 1_000, 3), np.random.default_rng(1))
    for other, same in zip(exams["another document"], exams["the same document"], strict=True):
        assert other[0] == same[0] and other[2] == same[2]
        (d, i), (e, _), (f, k) = (map(int, text.split()) for text in (other[0], other[1], same[1]))
        assert f == d and (e == d) == (other[2] == 0)
        assert (k == i + 1) == (same[2] == 0) and k != i
    scores, follows = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    at = lesson["threshold"](scores, follows)
    assert ((scores >= at) == follows).mean() == 0.75


def shares(text):
    """The whole percentages of a text: "85 %", "+60%" and "[47%, 73%]"."""
    return {int(n) for n in re.findall(r"(\d+) ?%", text)}


def test_the_prose_says_what_the_cells_show():
    """The figures of four paragraphs stand in the saved outputs of the cells above them."""
    for prose, tag, pattern in [
        ("sides_prose", "sides", r"\d\.\d"),
        ("rules_prose", "rules_lines", r"\d\.\d\d"),
        ("nsp_prose", "next_sentence", r"(\d\d) %"),
        ("transfer_prose", "transfer", r"(\d+)(?= %| points| to |\))"),
    ]:
        text = books.cell("09", prose).source
        shown = books.shown("09", tag) + (books.shown("09", "line_to_beat") if tag == "rules_lines" else "")
        said = (
            set(re.findall(pattern, text)) - {"95"} - ({"50"} if tag == "next_sentence" else set())
        )  # guessing
        there = set(re.findall(r"\d+\.\d+|\d+(?=%)", shown))
        assert said and said <= there, f"{prose}: {sorted(said - there)}"


def test_the_best_span_is_the_best_of_all(lesson):
    import torch

    for seed in range(20):
        torch.manual_seed(seed)
        begin, end, inside = torch.randn(9), torch.randn(9), torch.rand(9) < 0.7
        inside[seed % 9] = True
        spans = [(a, b) for a in range(9) for b in range(a, min(9, a + 3)) if inside[a] and inside[b]]
        wanted = max(spans, key=lambda s: begin[s[0]] + end[s[1]])
        assert lesson["best_span"](begin, end, inside, longest=3) == wanted


def test_labels_land_on_their_pieces(bind, tokenizer):
    tags = ["O", "PERSON", "PLACE", "TIME"]
    rows = data.transfer("tags")
    batch = bind("tags_batch", tokenizer=tokenizer, TAGS=tags)(rows)
    for i, row in enumerate(rows.itertuples()):
        kept = [tags[x] for x in batch["labels"][i].tolist() if x >= 0]
        assert kept == row.tags.split()
    rows = data.transfer("answers")
    batch = bind("answers_batch", tokenizer=tokenizer)(rows)
    for i, answer in enumerate(rows["answer"]):
        a, b = batch["start_positions"][i], batch["end_positions"][i]
        assert batch["input_ids"][i, a : b + 1].tolist() == tokenizer(answer).input_ids[1:-1], answer
        assert batch["token_type_ids"][i, a] == 1 and b - a < 12


def test_tags_follow_the_letters(bind, tokenizer):
    """Signs that the tokenizer drops shift no label: a decomposed é, a selector, alone or behind an emoji."""
    import pandas as pd

    texts = {  # words and their tags -> the pieces that carry a label
        ("Jose\u0301 saw Zoe\u0308 in Lima .", "PERSON O PERSON O PLACE O"): "jose saw zoe in lima .",
        ("We \u2764\ufe0f Lima today .", "O O PLACE TIME O"): "we [UNK] lima today .",
        ("We \u2764 \ufe0f Lima today .", "O O O PLACE TIME O"): "we [UNK] lima today .",
        ("A \u0301 Lima !", "O O PLACE O"): "a lima !",
    }
    kinds = ["O", "PERSON", "PLACE", "TIME"]
    right = {"jose": "PERSON", "zoe": "PERSON", "lima": "PLACE", "today": "TIME"}
    words, tags = zip(*texts, strict=True)
    batch = bind("tags_batch", tokenizer=tokenizer, TAGS=kinds)(pd.DataFrame({"words": words, "tags": tags}))
    for ids, labels, wanted in zip(batch["input_ids"], batch["labels"], texts.values(), strict=True):
        asked = labels >= 0
        pieces = tokenizer.convert_ids_to_tokens(ids[asked])
        assert " ".join(pieces) == wanted
        assert [kinds[k] for k in labels[asked]] == [right.get(piece, "O") for piece in pieces]


def test_tags_are_written_behind_their_own_words(bind, tokenizer):
    """`tagged` on letters that the tokenizer drops, with a network that finds what the test tells it to."""
    import unicodedata
    from types import SimpleNamespace

    import torch

    wanted = {"jose": 1, "lima": 2, "cafe": 2, "today": 3}

    def network(input_ids, **_):
        found = [wanted.get(p, 0) for p in tokenizer.convert_ids_to_tokens(input_ids[0])]
        return SimpleNamespace(logits=torch.nn.functional.one_hot(torch.tensor([found]), 4).float())

    names = {"tokenizer": tokenizer, "TAGS": ["O", "PERSON", "PLACE", "TIME"], "unicodedata": unicodedata}
    for name in ("checked", "whole_letter"):
        names[name] = bind(name, tokenizer=tokenizer, unicodedata=unicodedata)
    tagged = bind("tagged", networks={"tags": network}, **names)
    assert tagged("Jose\u0301 left Lima today.") == "Jose\u0301[PERSON] left Lima[PLACE] today[TIME]."
    assert (
        tagged("At the Cafe\u0301, today \u2764\ufe0f.")
        == "At the Cafe\u0301[PLACE], today[TIME] \u2764\ufe0f."
    )
    assert tagged("Nobody left.") == "Nobody left."


def test_an_answer_may_end_in_an_accent_of_its_own(bind, tokenizer):
    import pandas as pd

    rows = pd.DataFrame(
        {
            "question": ["Where is it?"],
            "passage": ["It is in the Cafe\u0301 of Lima."],
            "answer": ["the Cafe\u0301"],
        }
    )
    batch = bind("answers_batch", tokenizer=tokenizer)(rows)
    a, b = batch["start_positions"][0], batch["end_positions"][0]
    assert tokenizer.convert_ids_to_tokens(batch["input_ids"][0, a : b + 1]) == ["the", "cafe"]


def test_the_rules_that_fine_tuning_is_compared_with():
    """The two cells of rules on the course's tables: what they get right stands in the prose of the lesson."""
    import pandas as pd

    tables = {task: data.transfer(task) for task in ("tags", "answers")}
    parts = {
        part: {task: table.query(f"part == '{part}'") for task, table in tables.items()}
        for part in ("train", "test")
    }
    said = shares(books.cell("09", "transfer_prose").source)
    for tag, task in (("tag_rules", "tags"), ("answer_rules", "answers")):
        space = {
            "pd": pd,
            "np": np,
            "re": re,
            "simple": {},
            "examples": parts["train"],
            "tests": parts["test"],
        }
        exec(books.cell("09", tag).source, space)
        assert round(100 * space["simple"][task, "rules"].mean()) in said
    answer = space["answer_by_rule"]
    assert answer("Who sat there?", "At noon Ada King sat there, asleep.") == "Ada King"
    assert answer("How many cats are there?", "There are twenty-two cats here.") == "twenty-two"


def test_the_tables_to_fine_tune_on():
    table = data.transfer("classify")
    assert table["sentence"].is_unique
    assert table.groupby(["part", "label"]).size().to_dict() == {
        (part, label): n
        for part, n in (("train", 20), ("test", 15))
        for label in ("cooking", "garden", "sport", "travel")
    }
    table = data.transfer("tags")
    assert table["words"].is_unique and Counter(table["part"]) == {"train": 80, "test": 60}
    named = {part: set() for part in ("train", "test")}
    for row in table.itertuples():
        tagged = zip(row.words.split(), row.tags.split(), strict=True)
        named[row.part] |= {word for word, tag in tagged if tag in ("PERSON", "PLACE")}
        assert set(row.tags.split()) <= {"O", "PERSON", "PLACE", "TIME"}
    assert not named["train"] & named["test"] and min(map(len, named.values())) > 40
    table = data.transfer("answers")
    parts = table.groupby("part")["passage"].unique()
    assert not set(parts["train"]) & set(parts["test"])
    assert (len(parts["train"]), len(parts["test"])) == (45, 30)
    assert Counter(table["part"]) == {"train": 90, "test": 60} and table["question"].is_unique


def test_a_bad_table_gets_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="task is 'sums'; it must be one of classify, tags, answers"):
        data.transfer("sums")
    file = tmp_path / "mine.tsv"
    file.write_text("part\twords\ttags\ntrain\ta b\tO\n", encoding="utf-8")
    with pytest.raises(ValueError, match="mine.tsv, row 2: 2 words and 1 tags"):
        data.transfer("tags", file)
    file.write_text("part\tquestion\tpassage\tanswer\ntrain\tWho?\ta cat saw a cat\tcat\n", encoding="utf-8")
    with pytest.raises(ValueError, match="row 2: the answer 'cat' stands in the passage 2 times"):
        data.transfer("answers", file)
    file.write_text("part\tsentence\tlabel\ndev\tHello there.\tsport\n", encoding="utf-8")
    with pytest.raises(ValueError, match="row 2: part is 'dev'"):
        data.transfer("classify", file)


def test_readers_get_one_sentence_for_bad_input(bind, tokenizer):
    checked = bind("checked", tokenizer=tokenizer)
    with pytest.raises(ValueError, match="the question is empty"):
        checked("  ", "question")
    with pytest.raises(ValueError, match="the sentence has 302 pieces; use at most 200"):
        checked("bat " * 300)
    assert checked("A bat.") == "A bat."
    guesses = bind("guesses", tokenizer=tokenizer)
    with pytest.raises(ValueError, match=r"write \[MASK\] once"):
        guesses("no mask")
    with pytest.raises(ValueError, match="at most 512"):
        guesses("[MASK] " + "bat " * 600)


def test_numbers_of_bert_in_the_prose():
    """12 · width² weights a layer; base and large as published, to what rounding allows."""
    import torch
    from transformers import BertConfig, BertForPreTraining, BertModel

    large = {
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    }
    for options, published in (({}, 110e6), (large, 340e6)):
        config = BertConfig(**options)
        with torch.device("meta"):
            bare, both = BertModel(config), BertForPreTraining(config)
        layer = sum(p.numel() for p in bare.encoder.layer[0].parameters())
        assert layer == pytest.approx(12 * config.hidden_size**2, rel=0.005)
        bare, both = (sum(p.numel() for p in m.parameters()) for m in (bare, both))
        assert both == pytest.approx(published, rel=0.015)
        assert abs(both - published) < abs(bare - published) or options == {}


ANSWERS = {
    "left_only_mask": (lambda f: lesson09.left_only_mask(f), "lambda n: torch.ones(n, n)", "for 1 gives"),
    "unigram_loss": (lambda f: lesson09.unigram_loss(f), "lambda c, t: 0.0", "ln 2"),
    "count_weights": (lambda f: lesson09.count_weights(f), "lambda l, w, p: 12 * l * w * w", "it should be"),
}


WRONG_MASKS = {
    "the other side": "lambda n: torch.full((n, n), -torch.inf).tril(diagonal=-1)",
    "without itself": "lambda n: torch.full((n, n), -torch.inf).triu()",
    "one too far": "lambda n: torch.full((n, n), -torch.inf).triu(diagonal=2)",
    "all may look": "lambda n: torch.zeros(n, n)",
    "nobody may look": "lambda n: torch.full((n, n), -torch.inf)",
    "ones": "lambda n: torch.ones(n, n)",
    "ones and zeros": "lambda n: torch.ones(n, n).tril()",
    "bool": "lambda n: torch.ones(n, n).tril().bool()",
    "whole numbers": "lambda n: torch.ones(n, n).long().triu(diagonal=1) * -(2**31)",
    "zeros and ones turned round": "lambda n: torch.ones(n, n).triu(diagonal=1)",
    "plus infinity": "lambda n: torch.full((n, n), torch.inf).triu(diagonal=1)",
    "a large number": "lambda n: torch.full((n, n), -1e9).triu(diagonal=1)",
    "not a number": "lambda n: torch.full((n, n), torch.nan).triu(diagonal=1)",
    "0 times infinity": "lambda n: torch.ones(n, n).triu(diagonal=1) * -torch.inf",
    "padding in the columns": "lambda n: torch.where(torch.arange(n) == n - 1, -torch.inf, 0.0).repeat(n, 1)",
    "padding in the rows": "lambda n: torch.where(torch.arange(n) == n - 1, -torch.inf, 0.0).repeat(n, 1).T",
    "one row": "lambda n: torch.full((n,), -torch.inf)",
    "a batch": "lambda n: torch.full((1, n, n), -torch.inf).triu(diagonal=1)",
    "one too wide": "lambda n: torch.full((n, n + 1), -torch.inf).triu(diagonal=1)",
    "always four": "lambda n: torch.full((4, 4), -torch.inf).triu(diagonal=1)",
    "an array": "lambda n: torch.full((n, n), -torch.inf).triu(diagonal=1).numpy()",
    "lists": "lambda n: torch.full((n, n), -torch.inf).triu(diagonal=1).tolist()",
    "a number": "lambda n: 0.0",
    "nothing": "lambda n: None",
}


@pytest.mark.parametrize("what", WRONG_MASKS)
def test_no_wrong_mask_is_called_right(what, capsys):
    import torch

    lesson09.left_only_mask(eval(WRONG_MASKS[what], {"torch": torch}))
    assert capsys.readouterr().out.startswith("Not yet")


def test_an_array_is_told_from_a_tensor(capsys):
    lesson09.left_only_mask(lambda n: np.triu(np.full((n, n), -np.inf), k=1))
    assert "it gives a ndarray; make it a torch tensor" in capsys.readouterr().out


def test_signs_in_brackets_are_told_from_the_tokenizers_own(tokenizer, capsys):
    def by_bracket(pieces):
        groups = []
        for place, piece in enumerate(pieces):
            if not piece.startswith("["):
                groups.append([place]) if not piece.startswith("##") else groups[-1].append(place)
        return groups

    lesson09.whole_words(by_bracket, tokenizer)
    assert capsys.readouterr().out.startswith("Not yet: whole_words for x[0]")


@pytest.mark.parametrize("name", [*ANSWERS, "whole_words"])
def test_checks_accept_the_solutions_and_explain_the_rest(name, tokenizer, capsys):
    import torch

    check, wrong, says = ANSWERS.get(
        name,
        (
            lambda f: lesson09.whole_words(f, tokenizer),
            "lambda p: [[i] for i in range(1, len(p) - 1)]",
            "Unhappiness",
        ),
    )
    check(books.definitions(SOLUTION, name)[name])
    assert capsys.readouterr().out.startswith(f"Right: {name}")
    check(eval(wrong, {"torch": torch}))
    said = capsys.readouterr().out
    assert said.startswith("Not yet: ") and says in said
    check(lambda *_: ...)
    assert capsys.readouterr().out.startswith("Not yet written: ")
    check(lambda *_: "text")
    assert capsys.readouterr().out.startswith("Not yet: ")


def test_what_the_prose_says_of_the_two_clocks_is_what_the_cell_has_saved():
    book = books.read(LESSON)
    shown = next(books.said(c) for c in books.code(book) if "time of LSTM / layer" in c.source)
    alone = [float(x) for x in re.search(r" 1 text\(s\) at once: (.*)", shown)[1].split()]
    assert len(alone) == 5 and max(alone) == alone[3] and min(alone) > 1
    prose = " ".join(" ".join(c.source.split()) for c in book.cells if c.cell_type == "markdown")
    assert f"grow up to 512 words ({alone[3]}) and fall a little at 1,024 ({alone[4]})" in prose


def test_how_the_questions_of_the_training_begin():
    rows = data.transfer("answers")
    asked = rows[rows["part"] == "train"]["question"]
    who, when = (asked.str.startswith(word).sum() for word in ("Who", "When"))
    prose = " ".join(
        " ".join(c.source.split()) for c in books.read(LESSON).cells if c.cell_type == "markdown"
    )
    assert (
        f"of the {len(asked)} questions of the training {who} begin with *Who* and {when} with *When*"
        in prose
    )


def test_most_held_out_pairs_share_a_sentence_with_another_pair():
    printed = next(c for c in books.code(books.read(LESSON)) if c.id == "shared-sentences")
    assert 0.5 < float(re.search(r"(\d+)%", books.text(printed)).group(1)) / 100 < 0.8  # "many of these"
