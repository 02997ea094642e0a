"""The tables are what their cards say, and a bad file gets one sentence."""

import re
from collections import Counter

import pytest

from helpers import ROOT, data

PUBLISHED_INPUTS = [
    "capital of france",
    "capital of germany",
    "capital of spain",
    "mount everest",
    "tallest mountain",
    "donald duck",
    "mount shasta",
    "hike in the mountains",
    "yoga",
    "i like my phone",
    "my phone is not good",
    "your cellphone looks great",
    "will it snow tomorrow",
    "a lot of hurricanes have hit the us",
    "global warming is real",
    "an apple a day",
    "eating strawberries",
    "paleo better than keto",
    "how old are you",
    "what is your age",
    "out of the cave at night",
    "swung the bat and hit",
]


def test_qa_pairs():
    table = data.qa_pairs()
    assert table.shape == (1000, 2) and list(table) == ["question", "answer"]
    assert table["question"].str.lower().str.strip("?").is_unique and table["answer"].is_unique
    train, test = data.qa_pairs(part="train"), data.qa_pairs(part="test")
    assert (len(train), len(test)) == (700, 300)
    assert not set(train["question"]) & set(test["question"])
    assert not set(train["answer"]) & set(test["answer"])
    assert table["answer"].str.split().str.len().between(8, 60).all()
    assert table["question"].str.split().str[0].str.lower().value_counts().iloc[0] <= 250


def test_qa_pairs_are_not_stamped_out_of_a_frame():
    frames = Counter(" ".join(q.lower().split()[:4]) for q in data.qa_pairs()["question"])
    assert frames.most_common(1)[0][1] <= 12, frames.most_common(3)


def test_sts():
    table = data.sts(quiet=True)
    assert list(table) == ["sentence1", "sentence2", "score", "kind"]
    assert len(table) == 300 and table["score"].between(0, 5).all()
    bands = table["score"].round().value_counts()
    assert bands.min() >= 35 and len(bands) == 6
    pairs = {frozenset(p) for p in zip(table["sentence1"], table["sentence2"], strict=True)}
    assert len(pairs) == 300
    card = (ROOT / "shared_data" / "README.md").read_text(encoding="utf-8")
    said = next(line for line in card.splitlines() if line.startswith("`kind` says"))
    assert {k: int(n) for k, n in re.findall(r"`(\w+)` (\d+)", said)} == Counter(table["kind"])


def test_a_table_of_scored_pairs_needs_no_kinds(tmp_path):
    file = tmp_path / "mine.tsv"
    file.write_text("note\tsentence1\tscore\tsentence2\nx\ta\t3\tb\n", encoding="utf-8")
    assert data.sts(file).to_dict("records") == [{"sentence1": "a", "sentence2": "b", "score": 3.0}]


def test_word_senses():
    table = data.word_senses()
    assert table["word"].nunique() == 8 and not table["sentence"].duplicated().any()
    senses = table.groupby("word")["sense"].nunique()
    assert senses.between(2, 3).all()
    assert table.groupby(["word", "sense"]).size().min() >= 8
    for word, sentence in zip(table["word"], table["sentence"], strict=True):
        assert len(re.findall(rf"\b{word}\b", sentence.lower())) == 1, sentence


def test_nli():
    table = data.nli()
    columns = ["premise", "entailment", "neutral", "contradiction"]
    assert table.shape == (600, 4) and list(table) == columns
    assert not table.stack().str.lower().duplicated().any()
    words = table.map(lambda text: len(text.split()))
    assert words["premise"].between(8, 25).all() and words.iloc[:, 1:].max(axis=None) <= 15
    assert words.mean().iloc[1:].max() - words.mean().iloc[1:].min() < 1, "length tells nothing"


def test_only_the_first_sentence_of_a_document_names_its_subject():
    told, asked = data.pronouns()
    assert (told["document"].nunique(), len(told), len(asked)) == (40, 239, 119)
    card = (ROOT / "shared_data" / "README.md").read_text(encoding="utf-8")
    assert (
        "40 short documents of five or six sentences, 239 sentences in all" in card
        and "and 119 questions" in card
    )
    assert told["text"].is_unique and asked["question"].is_unique
    for document, rows in told.groupby("document"):
        name = re.findall(r"[A-Z]\w{3,}", rows["title"].iloc[0]) or [rows["title"].iloc[0]]
        sentences, questions = list(rows["text"]), asked[asked["document"] == document]
        assert rows["title"].nunique() == 1 and 5 <= len(sentences) <= 6
        assert any(word.lower() in sentences[0].lower() for word in name)
        for word in name:
            assert not any(re.search(rf"\b{word}\b", text, re.I) for text in sentences[1:]), (word, sentences)
        assert 2 <= len(questions) <= 3 and (questions["sentence"] > 1).all()
        assert questions["sentence"].is_unique
        for question in questions["question"]:
            assert any(word.lower() in question.lower() for word in name), question


def test_a_bad_table_of_pronouns_gets_one_sentence(tmp_path):
    told, asked = tmp_path / "told.tsv", tmp_path / "asked.tsv"
    heads = "document\ttitle\tsentence\ttext\n", "document\tsentence\tquestion\n"
    asked.write_text(heads[1] + "1\t2\tWho is he?\n", encoding="utf-8")
    told.write_text(heads[0] + "1\tBob\t1\tBob sits.\n1\tBob\t3\tHe reads.\n", encoding="utf-8")
    with pytest.raises(ValueError, match="told.tsv, row 3: sentence is '3'; the next of document 1 is 2"):
        data.pronouns(told, asked)
    told.write_text(heads[0] + "1\tBob\t1\tBob sits.\n", encoding="utf-8")
    with pytest.raises(ValueError, match="asked.tsv, row 2: there is no sentence 2 of document 1"):
        data.pronouns(told, asked)


def test_tales():
    assert len(" ".join(data.tales()).split()) > 10_000


def test_published_test_inputs_stand_in_no_training_text():
    training = " ".join(data.qa_pairs()["question"]) + " ".join(data.qa_pairs()["answer"])
    training += " ".join(data.nli().stack()) + (ROOT / "shared_data" / "horses.tsv").read_text(
        encoding="utf-8"
    )
    training += " ".join(data.tales()) + (ROOT / "shared_data" / "sts_sample.tsv").read_text(encoding="utf-8")
    for words in PUBLISHED_INPUTS:
        assert words not in training.lower(), words
    for name in ("france", "germany", "spain", "paris", "berlin", "madrid"):
        assert not re.search(rf"\b{name}\b", training.lower()), name


GOOD = "questions\tanswers\nq1\ta1\nq2\ta2\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"question\tanswers\nq\ta\n", "line 1: no column 'questions'"),
        (b"", "mine.tsv is empty"),
        (b"questions\tanswers\n", "has a header and no rows"),
        (b"questions\tanswers\nq1\ta1\nq2\t\n", "line 3: column 'answers' is empty"),
        (b"questions\tanswers\nq1\ta1\nq2\n", "line 3: 1 columns where the first line has 2"),
        (b"questions\tanswers\nq1\ta\tb\n", "line 2: 3 columns"),
        ("questions\tanswers\nq1\tcaf\u00e9\n".encode("latin-1"), "line 2: not UTF-8"),
        (b"questions\tanswers\nq1\t" + b"a" * 2_000_000 + b"\n", "2,000,000 characters"),
    ],
)
def test_a_bad_table_gets_one_sentence(tmp_path, content, message):
    file = tmp_path / "mine.tsv"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        data.qa_pairs(file)
    assert "mine.tsv" in str(error.value) and "\n" not in str(error.value)


def test_another_table_in_its_place(tmp_path):
    file = tmp_path / "mine.tsv"
    file.write_text(
        "id\tquestions\tanswers\n" + "".join(f"{i}\tq{i}\ta {i}\n" for i in range(10)), encoding="utf-8"
    )
    assert list(data.qa_pairs(file)["question"][:2]) == ["q0", "q1"]
    assert (len(data.qa_pairs(file, "train")), len(data.qa_pairs(file, "test"))) == (7, 3)
    with pytest.raises(ValueError, match='must be None, "train" or "test"'):
        data.qa_pairs(file, "dev")
    with pytest.raises(FileNotFoundError, match=r"no file none.tsv"):
        data.qa_pairs(tmp_path / "none.tsv")


@pytest.mark.parametrize("score", ["high", "5.5", "-1", "nan"])
def test_a_score_off_the_scale(tmp_path, score):
    file = tmp_path / "mine.tsv"
    file.write_text(f"sentence1\tsentence2\tscore\na\tb\t3\na\tb\t{score}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine.tsv, row 3: score is"):
        data.sts(file)


def test_the_public_sts_benchmark_where_it_is_on_disk(tmp_path, monkeypatch):
    import gzip

    monkeypatch.setenv("COURSE_MODELS", "auto")
    monkeypatch.setenv("COURSE_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "mteb" / "stsbenchmark-sts"
    folder.mkdir(parents=True)
    row = '{"sentence1": "A girl is styling her hair.", "sentence2": "She brushes it.", "score": 2.5}\n'
    (folder / "test.jsonl.gz").write_bytes(gzip.compress(row.encode()))
    table = data.sts(quiet=True)
    assert table.to_dict("records") == [
        {"sentence1": "A girl is styling her hair.", "sentence2": "She brushes it.", "score": 2.5}
    ]
