"""Lesson 7: its measures against scikit-learn and scipy, its index, its search, its checks, and
what its prose says of the stand-in for DPR."""

import functools
import json
import re

import books
import dual_encoder
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize

from helpers import ROOT, data, encoders, models, ranking, training
from helpers.exercises import lesson07

LESSON, SOLUTIONS = books.path("07"), books.path("07", solutions=True)
TOWERS = ("facebook/dpr-question_encoder-multiset-base", "facebook/dpr-ctx_encoder-multiset-base")
QUESTION = "What is the tallest mountain in the world?"


@functools.cache
def towers():
    """The stand-ins: question encoder, its tokenizer, passage encoder, its tokenizer."""
    from transformers import (
        DPRContextEncoder,
        DPRContextEncoderTokenizer,
        DPRQuestionEncoder,
        DPRQuestionEncoderTokenizer,
    )

    found = []
    for name, model, tokenizer in [
        (TOWERS[0], DPRQuestionEncoder, DPRQuestionEncoderTokenizer),
        (TOWERS[1], DPRContextEncoder, DPRContextEncoderTokenizer),
    ]:
        folder = models.path(name, quiet=True)
        found += [model.from_pretrained(folder).eval(), tokenizer.from_pretrained(folder)]
    return found


@pytest.fixture(scope="module")
def lesson():
    space = books.definitions(
        LESSON,
        "encode_questions",
        "in_batches",
        "ingest",
        "search",
        "ask",
        "ranks",
        "bm25_scores",
        "first",
        "end_with_stop",
    )
    names = ("question_encoder", "question_tokenizer", "context_encoder", "context_tokenizer")
    space |= dict(zip(names, towers(), strict=True)) | {"longest": 512, "tqdm": lambda x, **_: x}
    space |= {"settings": {"stopwords": "en", "show_progress": False}}
    return space


@pytest.fixture
def library(lesson, tmp_path):
    texts = [
        "The barometer was invented by Torricelli.",
        "Rice boils for 12 minutes.",
        QUESTION,
        "The tallest mountain in the world is Mount Everest.",
    ]
    file = tmp_path / "library.safetensors"
    lesson["ingest"](texts, file)
    return texts, file


@pytest.fixture
def scores():
    table = np.random.default_rng(0).normal(size=(60, 80)).round(1)  # rounded: ties occur
    return table, np.arange(60) + 20


def test_ranks_and_measures_are_scikit_learns(lesson, scores):
    from sklearn.metrics import label_ranking_average_precision_score, top_k_accuracy_score

    table, right = scores
    found = lesson["measures"](table, right)
    relevant = np.zeros_like(table)
    relevant[np.arange(60), right] = 1
    assert found["MRR"] == pytest.approx(label_ranking_average_precision_score(relevant, table))
    for k in (1, 10):
        untied = table + 1e-6 * np.arange(80)[None]  # no ties: scikit-learn breaks them by place
        wanted = top_k_accuracy_score(right, untied, k=k, labels=np.arange(80))
        assert lesson["measures"](untied, right)[f"recall@{k}"] == pytest.approx(wanted)


def test_a_model_that_knows_nothing_gets_nothing(lesson):
    flat = lesson["measures"](np.ones((30, 50)), np.arange(30), np.arange(30) + 10)
    assert flat["recall@1"] == flat["recall@10"] == flat["echo rate"] == 0
    assert flat["MRR"] == pytest.approx(1 / 50)


def test_measures_agree_with_those_of_lesson_6(lesson):
    from helpers import ranking

    torch.manual_seed(0)
    questions, passages = torch.randn(40, 8), torch.randn(90, 8)
    theirs = ranking.measures(ranking.ranks(questions, passages))
    ours = lesson["measures"]((questions @ passages.T).numpy(), np.arange(40))
    assert all(ours[name] == pytest.approx(theirs[name]) for name in theirs)


def test_batches_change_nothing(lesson):
    texts = [*data.qa_pairs(part="test")["question"][:20], "a", "a longer one, " * 20]
    alone = torch.cat([lesson["encode_passages"]([text]) for text in texts])
    together = lesson["in_batches"](lesson["encode_passages"], texts, size=4)
    assert torch.allclose(alone, together, atol=1e-5)
    with pytest.raises(ValueError, match="text 2 of 3 is empty"):
        lesson["in_batches"](lesson["encode_passages"], ["a", " ", "b"])


def test_pooler_output_is_the_cls_vector():
    for encoder, tokenizer in (towers()[:2], towers()[2:]):
        batch = tokenizer(QUESTION, return_tensors="pt")
        with torch.no_grad():
            out = encoder(**batch, output_hidden_states=True)
        assert torch.allclose(out.pooler_output, out.hidden_states[-1][:, 0], atol=1e-6)


def test_the_search_is_the_librarys(lesson, library):
    from sentence_transformers.util import semantic_search

    texts, file = library
    vectors = lesson["encode_passages"](texts)
    for question in (QUESTION, "Who invented the barometer?", "how long do I boil rice"):
        hits = semantic_search(lesson["encode_questions"]([question]), vectors, top_k=4)[0]
        found = lesson["search"](question, 4, file)
        assert [text for _, text in found] == [texts[hit["corpus_id"]] for hit in hits]
        assert [x for x, _ in found] == pytest.approx([hit["score"] for hit in hits], abs=1e-4)


def test_the_index_is_not_touched_by_an_ingest_that_fails(lesson, library):
    texts, file = library
    with pytest.raises(ValueError, match="empty"):
        lesson["ingest"]([*texts, ""], file)
    assert lesson["load_index"](file)[1] == texts


@pytest.mark.parametrize(
    ("question", "k", "said"),
    [
        ("", 3, "the question is empty"),
        ("\n ", 3, "the question is empty"),
        (None, 3, "the question is empty"),
        ("why " * 600, 3, "has 602 pieces; the encoder takes at most 512"),
        (QUESTION, 0, "k is 0; it must be from 1 to 4"),
        (QUESTION, 5, "k is 5; it must be from 1 to 4"),
    ],
)
def test_what_cannot_be_searched_is_said(lesson, library, question, k, said):
    with pytest.raises(ValueError, match=said):
        lesson["search"](question, k, library[1])


def test_an_index_that_is_not_there_or_is_another_models(lesson, tmp_path):
    file = tmp_path / "other.safetensors"
    with pytest.raises(FileNotFoundError, match="run the ingest step first"):
        lesson["search"](QUESTION, 1, file)
    save_file({"vectors": torch.ones(2, 768)}, file, metadata={"texts": json.dumps(["a", "b"])})
    with pytest.raises(ValueError, match="vectors of 768 numbers, the question encoder makes 384"):
        lesson["search"](QUESTION, 1, file)


def test_bm25_counts_shared_words(lesson):
    table = lesson["bm25_scores"](["a blue whale", "red squirrels", "blue"], ["blue whale", "zebra"])
    assert table.shape == (2, 3) and table[0, 0] > table[0, 2] > table[0, 1] == 0
    assert not table[1].any()  # no word is known: the answer then ranks last, not first


# --- what the prose says ----------------------------------------------------------------------


def test_one_encoder_cannot_rank_anything_above_the_echo():
    from sentence_transformers import SentenceTransformer

    minilm = str(models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True))
    texts = list(data.qa_pairs(part="test")["question"][:30])
    vectors = SentenceTransformer(minilm, device="cpu").encode(texts, normalize_embeddings=True)
    assert np.allclose((vectors * vectors).sum(1), 1, atol=1e-5)
    assert (vectors @ vectors.T).max() < 1 + 1e-5


def test_answers_end_with_a_full_stop_and_questions_do_not(lesson):
    table = data.qa_pairs()
    assert table["answer"].str.endswith(".").mean() > 0.99
    assert not any(text.endswith(".") for text in table["question"])
    assert lesson["end_with_stop"]("why is it? ") == "why is it."
    assert lesson["end_with_stop"]("first name for meccano") == "first name for meccano."


def test_the_end_of_the_sentence_counts_for_much_with_the_stand_in(lesson):
    said = "The tallest mountain in the world is Mount Everest"
    texts = [said + ".", said + "?", QUESTION]
    right, marked, echo = (lesson["encode_questions"]([QUESTION]) @ lesson["encode_passages"](texts).T)[
        0
    ].tolist()
    assert right - echo > 0.05 and right - marked > 0.3


def test_the_stand_in_keeps_the_published_order(lesson):
    candidates = {}
    exec(books.cell("07", "five_candidates").source, candidates)
    assert candidates["question"] == QUESTION
    ours = lesson["encode_questions"]([QUESTION]) @ lesson["encode_passages"](candidates["five"]).T
    ours = ours[0].numpy()
    published = np.array([0.6253, 0.7472, 0.5506, 0.3687, 0.25])
    assert ours.argsort().tolist() == published.argsort().tolist() and ours[1] > ours[0] + 0.3
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"| 7 | DPR: echo 0.625, Everest 0.747 | {ours[0]:.3f}, {ours[1]:.3f} |" in readme


def test_the_same_text_has_two_vectors(lesson):
    texts = [QUESTION, *data.qa_pairs(part="test")["question"][:20]]
    same = (lesson["encode_questions"](texts) * lesson["encode_passages"](texts)).sum(1)
    assert same.median() == pytest.approx(0.3, abs=0.05) and same.max() < 0.7


def test_no_answer_tells_why_apples_turn_brown():
    for text in data.qa_pairs()["answer"].str.lower():
        assert not ("apple" in text and "brown" in text), text


def test_nearly_every_answer_repeats_a_word_of_its_question(lesson):
    import bm25s

    def words(texts):
        found = bm25s.tokenize(list(texts), return_ids=False, **lesson["settings"])
        return [set(tokens) for tokens in found]

    table = data.qa_pairs()
    shared = [
        len(q & a) / len(q) for q, a in zip(words(table["question"]), words(table["answer"]), strict=True)
    ]
    assert round(1 / np.mean(np.array(shared) == 0)) in range(17, 24) and 0.35 < np.mean(shared) < 0.45
    prose = " ".join(
        " ".join(c.source for c in books.read(LESSON).cells if c.cell_type == "markdown").split()
    )
    assert "repeats two in five of the question's words that BM25 counts" in prose
    assert "only one answer in twenty repeats none" in prose


def test_the_held_out_rows_are_the_last_ones():
    table, held_out = data.qa_pairs(), data.qa_pairs(part="test")
    assert list(table["question"])[-len(held_out) :] == list(held_out["question"])


PAGE = " ".join(" ".join(c.source.split()) for c in books.read(LESSON).cells if c.cell_type == "markdown")


def test_the_lessons_pair_is_the_helpers():
    """TopicAndForm of the lesson and of helpers, trained alike, with the same losses and vectors."""
    theirs = books.definitions(LESSON, "TopicAndForm")
    theirs |= {"encoders": encoders, "normalize": normalize}
    theirs["TopicAndForm"].__init__.__globals__.update(encoders=encoders, normalize=normalize)
    folder, pairs = models.path(encoders.MINILM, quiet=True), data.qa_pairs(part="train")[:32]
    shared, found = encoders.Pretrained(folder).bert, []
    for kind, start in ((theirs["TopicAndForm"], shared), (encoders.TopicAndForm, folder)):
        torch.manual_seed(0)
        towers = kind(start, start=1.0), kind(start)
        settings = dual_encoder.ONE_NUMBER | {"batch": 16, "progress": False}
        losses = training.train(*towers, pairs, **settings)
        found.append((losses, encoders.embed(towers[1], [QUESTION, "It is Everest."])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5) and found[0][0][-1] < found[0][0][0]
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5)


def test_the_recipe_trains_the_pair_as_the_lesson_does():
    source = " ".join(books.cell("07", "our_pair").source.split())
    for name, value in dual_encoder.ONE_NUMBER.items():
        assert f"{name}={value}" in source or f"{name}=1e-2" in source, name


def test_one_row_of_the_table_computed_again():
    """The pair trained here: recall to one question in a hundred, losses to 2 %."""
    table = pd.read_csv(ROOT / "models" / "recipes" / "dual_encoder.tsv", sep="\t")
    torch.manual_seed(0)
    folder = models.path(encoders.MINILM, quiet=True)
    towers = encoders.TopicAndForm(folder, start=1.0), encoders.TopicAndForm(folder)
    losses = training.train(*towers, data.qa_pairs(part="train"), **dual_encoder.ONE_NUMBER, progress=False)
    found = ranking.score_pair(*towers, data.qa_pairs(part="test"))
    row = table[(table["run"] == "one number more") & (table["seed"] == 0) & (table["epochs"] == 2)].iloc[0]
    for name in ("recall@1", "MRR", "recall@1 with echoes", "echo first"):
        assert found[name] == pytest.approx(row[name], abs=0.01), name
    assert np.mean(losses[-9:]) == pytest.approx(row["last losses"], rel=0.02)


def test_what_the_prose_says_of_two_minilms_trained_on_echoes():
    table = pd.read_csv(ROOT / "models" / "recipes" / "dual_encoder.tsv", sep="\t")
    mean = table.groupby(["run", "epochs"]).mean(numeric_only=True)
    start, plain = mean.loc[("MiniLM", 0)], mean.loc[("MiniLM", 2)]
    two, four = mean.loc[("MiniLM, echoes", 2)], mean.loc[("MiniLM, echoes, longer", 4)]
    assert f"for {two['echo first']:.0%}".replace("%", " %") + " of the questions instead of all" in PAGE
    assert f"after twice the steps for {four['echo first']:.0%}".replace("%", " %") in PAGE
    assert start["echo first"] == 1 and start["recall@1 with echoes"] == 0
    assert (
        f"{two['recall@1']:.2f}" == f"{four['recall@1']:.2f}" == "0.85"
        and "for 0.85 of the questions" in PAGE
    )
    assert f"where MiniLM had {start['recall@1']:.2f}" in PAGE
    assert f"Training without echoes costs nothing ({plain['recall@1']:.3f})" in PAGE
    assert abs(plain["recall@1"] - start["recall@1"]) < 0.003
    shown = books.shown("07", "towers")
    for value in (two["recall@1"], four["echo first"], plain["recall@1"]):
        assert f"{value:.3f}" in shown


def test_without_division_the_dot_product_goes_by_length():
    """What the prose says: short texts have longer vectors, and for most answers the question is ahead of the copy."""
    encoder = encoders.Pretrained(models.path(encoders.MINILM, quiet=True)).eval()
    pairs = data.qa_pairs(part="test")[:100]
    asks, tells = (encoders.embed(encoder, pairs[side]) for side in ("question", "answer"))
    assert asks.norm(dim=1).mean() > 1.3 * tells.norm(dim=1).mean()
    ahead = (asks * tells).sum(1) > (tells * tells).sum(1)
    assert f"is ahead of the answer's own copy for {int(ahead.sum())} of 100." in PAGE
    assert f"copy:  {int(ahead.sum())} of 100" in books.shown("07", "lengths")
    assert ((asks * asks).sum(1) > (asks * tells).sum(1)).all(), (
        "asked with the question the echo stays ahead"
    )


def test_bm25_among_the_held_out_answers_alone(lesson):
    pairs = data.qa_pairs(part="test")
    found = lesson["measures"](
        lesson["bm25_scores"](list(pairs["answer"]), list(pairs["question"])), np.arange(300)
    )
    assert f"its recall@1 is {found['recall@1']:.3f} and its MRR {found['MRR']:.3f}" in PAGE
    theirs = re.search(r"(?m)^BM25 +first (\S+),", books.shown("13", "home"))[1]
    ours = re.search(r"(?m)^BM25 +(\S+)", books.shown("07", "without_echoes"))[1]
    assert f"has {theirs} on these questions and answers where ours has {ours}" in PAGE


def test_two_encoders_bring_nothing_where_there_are_no_echoes():
    table = pd.read_csv(ROOT / "models" / "recipes" / "documentation_pairs.tsv", sep="\t")
    one = table[table["run"] == "base"].sort_values("seed")["dev gain"].tolist()
    two = table[(table["run"] == "two encoders") & (table["seed"] == 0)]["dev gain"].item()
    says = "gain {:.3f} on dev, one encoder {:.3f}, and other seeds of the one gain {:.3f} and {:.3f}."
    assert says.format(two, *one) in PAGE and min(one) < two < max(one)
    assert f"{two:.3f}" in books.shown("07", "two")


def test_the_rule_of_one_line_does_as_well_on_this_table():
    table = books.shown("07", "retrievers")
    rule = [float(x) for x in re.search(r"full stops only +(\S+) +(\S+) +(\S+) +(\S+)", table).groups()]
    dpr = [float(x) for x in re.search(r"DPR +(\S+) +(\S+) +(\S+) +(\S+)", table).groups()]
    assert rule[0] > dpr[0] and rule[3] == 0
    assert f"It has recall@1 {rule[0]:.3f} and no echoes at all" in PAGE


def test_what_the_prose_says_of_the_pair_is_what_was_shown():
    shown = books.shown("07", "length")
    cut, rule = re.search(r"(\d+)% of the answers cut", shown)[1], re.search(r"recall@1 (\S+)", shown)[1]
    assert f"with a full stop it takes {cut} % for questions" in PAGE and f"has a recall@1 of {rule}." in PAGE
    probe = books.shown("07", "probe")
    first, bare = (re.search(rf"{name} +(\S+)", probe)[1] for name in ("as written", "bare lower case"))
    assert first == "1.000" and f"without the last sign ({bare};" in PAGE
    share = re.search(r"fewer than 12 words: (\d+)% of the questions, 0%", probe)[1]
    assert f"fewer than twelve words: {share} % of the questions and none of the answers" in PAGE
    yoga = re.search(r"yoga class +(\S+) +\S+ +-(\S+)", books.shown("07", "our_five")).groups()
    assert f"has −{yoga[1]}, ({yoga[0]} − 1) / 2" in PAGE and (float(yoga[0]) - 1) / 2 == -float(yoga[1])


# --- exercises --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worked():
    space = books.definitions(SOLUTIONS, "encode", "ingest", "top_k", "exchanged", "add")
    names = ("question_encoder", "question_tokenizer", "context_encoder", "context_tokenizer")
    space |= dict(zip(names, towers(), strict=True))
    return space


def says(check, capsys, *arguments):
    check(*arguments)
    return capsys.readouterr().out


def test_check_of_top_k(worked, capsys):
    def dots(question, passages, k):  # the vectors' lengths forgotten
        best = (passages @ question).topk(k)
        return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))

    def worst(question, passages, k):
        return worked["top_k"](question, -passages, k)

    assert says(lesson07.top_k, capsys, worked["top_k"]).startswith("Right:")
    assert "Not yet written" in says(lesson07.top_k, capsys, lambda *_: ...)
    assert "a long vector off the way" in says(lesson07.top_k, capsys, dots)
    assert "Not yet" in says(lesson07.top_k, capsys, worst)
    assert "cannot be compared" in says(lesson07.top_k, capsys, lambda *_: 3)


def test_check_of_exchanged(worked, lesson, capsys):
    encoders = [towers()[i] for i in (0, 2, 1, 3)]

    def usual(question, passages):
        return (lesson["encode_questions"]([question]) @ lesson["encode_passages"](passages).T)[0]

    def same_twice(question, passages):
        vectors = normalize(lesson["encode_passages"]([question, *passages]), dim=1)
        return vectors[0] @ vectors[1:].T

    assert says(lesson07.exchanged, capsys, worked["exchanged"], *encoders).startswith("Right:")
    assert "Not yet written" in says(lesson07.exchanged, capsys, lambda *_: ..., *encoders)
    assert "usual places" in says(lesson07.exchanged, capsys, usual, *encoders)
    assert "it should be" in says(lesson07.exchanged, capsys, same_twice, *encoders)
    assert "not 4" in says(lesson07.exchanged, capsys, lambda *_: [0.1, 0.2], *encoders)


def test_check_of_add(worked, lesson, capsys):
    load, save = worked["load_index"], worked["save_index"]

    def again(texts, file):  # everything through the encoder once more
        texts = list(dict.fromkeys([*load(file)[1], *texts]))
        worked["ingest"](texts, file)

    def twins(texts, file):
        vectors, known = load(file)
        save(torch.cat([vectors, worked["encode_passages"](texts)]), known + texts, file)

    def wrong_tower(texts, file):
        vectors, known = load(file)
        new = [text for text in dict.fromkeys(texts) if text not in known]
        save(torch.cat([vectors, worked["encode_questions"](new)]), known + new, file)

    def only_texts(texts, file):
        vectors, known = load(file)
        save(vectors, list(dict.fromkeys(known + texts)), file)

    def never_nothing(texts, file):  # encodes what is new, even where nothing is
        vectors, known = load(file)
        new = [text for text in dict.fromkeys(texts) if text not in known]
        save(torch.cat([vectors, lesson["in_batches"](worked["encode_passages"], new)]), known + new, file)

    def emptied(texts, file):
        vectors, known = load(file)
        if set(texts) <= set(known):
            save(vectors[:0].clone(), [], file)
        else:
            worked["add"](texts, file)

    def turned(texts, file):
        vectors, known = load(file)
        if set(texts) <= set(known):
            save(-vectors, known, file)
        else:
            worked["add"](texts, file)

    def check(add):
        return says(lesson07.add, capsys, add, worked["ingest"], load)

    assert check(worked["add"]).startswith("Right:")
    assert check(lambda *_: ...).startswith("Not yet written:")
    assert "encoded again" in check(again)
    assert "each new one once" in check(twins)
    assert "not the passage encoder's" in check(wrong_tower)
    assert "one row a text" in check(only_texts)
    assert "stopped with ZeroDivisionError" in check(lambda *_: 1 / 0)
    told = check(never_nothing)
    assert told.startswith("Not yet: adding what is there already stopped with ") and told.count("\n") == 1
    assert "Not yet: adding what is there already made an index of 5 passages one of 0" in check(emptied)
    assert "Not yet: adding what is there already changed the vectors" in check(turned)


def test_the_worked_add_keeps_what_is_there(worked, library):
    texts, file = library
    before = file.read_bytes()
    worked["add"](texts[:2], file)
    assert file.read_bytes() == before
