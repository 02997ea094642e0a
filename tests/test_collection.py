"""A search that is kept in a folder: read again only where something changed, whole after a kill, and one sentence
for whatever is wrong."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import books
import numpy as np
import pandas as pd
import pytest

from helpers import collection, documents, files, judging

TEXTS = {
    "tea.md": "# Tea\n\n## Black\n\nBoil the water. Black tea steeps for four minutes.\n\n## Green\n\nGreen tea wants water of eighty degrees.",
    "sub/boats.txt": "Boats\n=====\n\nThe ferry leaves at nine. Dogs travel free of charge.",
    "prices.csv": "thing,price,note\ncup,3,made of clay\nboat,900,leaks a little\n",
}


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "my papers"
    for name, text in TEXTS.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text, "utf-8")
    return place


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """The course's folder, indexed once; tests that write take a copy."""
    store = tmp_path_factory.mktemp("kept") / "own"
    own = collection.index(books.ROOT / "shared_data" / "allotments", store)
    judging.add(own, books.ROOT / "shared_data" / "allotments_questions.tsv")
    return store


@pytest.fixture
def own(kept, tmp_path):
    return collection.load(shutil.copytree(kept, tmp_path / "own"))


# filling ------------------------------------------------------------------------------------


def test_a_second_run_reads_what_has_changed_alone(folder, tmp_path):
    store = tmp_path / "own"
    first = collection.index(folder, store)
    assert first.changed == {"documents": 3, "read": 3, "gone": 0, "passages": 5, "embedded": 5, "kept": 0}
    assert collection.index(folder, store).changed["read"] == 0
    os.utime(folder / "tea.md", (1, 1))  # another time, the same content
    assert collection.index(folder, store).changed["read"] == 0
    (folder / "tea.md").write_text(TEXTS["tea.md"].replace("eighty", "seventy"), "utf-8")
    (folder / "new.md").write_text("A new page about the harbour bell.", "utf-8")
    (folder / "prices.csv").unlink()
    again = collection.index(folder, store)
    assert again.changed == {"documents": 3, "read": 2, "gone": 1, "passages": 4, "embedded": 2, "kept": 1}
    texts = " ".join(collection.load(store).passages()["text"])
    assert "seventy" in texts and "eighty" not in texts and "clay" not in texts and "harbour bell" in texts
    assert again.ask("harbour bell", 1)["source"].tolist() == ["new.md"]


def test_the_vectors_are_the_encoder_s(folder, tmp_path):
    own = collection.index(folder, tmp_path / "own")
    rows = own.table.search().to_pandas()
    fresh = own.model.encode(list(rows["text"]), normalize_embeddings=True)
    assert np.allclose(np.stack(list(rows["vector"])), fresh, atol=1e-5)


def test_a_file_that_can_no_longer_be_read_keeps_its_passages(folder, tmp_path):
    store = tmp_path / "own"
    collection.index(folder, store)
    (folder / "tea.md").write_bytes(b"\0\0\0")
    again = collection.index(folder, store)
    assert list(again.failed) == ["tea.md"] and "no text" in again.failed["tea.md"]
    assert "steeps" in " ".join(again.passages()["text"])
    (folder / "tea.md").write_text("# Tea\n\nOnly water now.", "utf-8")
    assert "steeps" not in " ".join(collection.index(folder, store).passages()["text"])


def test_another_size_cuts_everything_again(folder, tmp_path):
    (folder / "long.md").write_text("One sentence of seven words stands here. " * 60, "utf-8")
    first = collection.index(folder, tmp_path / "own")
    second = collection.index(folder, tmp_path / "own", size=256)
    assert second.changed["read"] == 4 and len(second) < first.changed["passages"]
    assert collection.index(folder, tmp_path / "own").changed["read"] == 0  # and it stays so


def test_another_size_while_a_file_goes(folder, tmp_path):
    collection.index(folder, tmp_path / "own")
    (folder / "prices.csv").unlink()
    own = collection.index(folder, tmp_path / "own", size=100)
    assert own.changed["gone"] == 1 and "prices.csv" not in set(own.passages()["source"])


def test_a_store_of_other_documents_is_not_emptied(folder, tmp_path, own):
    with pytest.raises(
        ValueError, match=r"own holds the documents of .*allotments; index my papers into a store of its own"
    ):
        collection.index(folder, own.folder)
    assert len(collection.load(own.folder)) == 215


def test_a_run_that_was_stopped_says_so(folder, tmp_path):
    own = collection.index(folder, tmp_path / "own")
    own.table.drop_index("text_idx")
    with pytest.raises(ValueError, match="own is not finished; run index again"):
        collection.load(own.folder).ask("tea")


def test_a_document_of_headings_alone_is_named(folder, tmp_path):
    (folder / "empty.md").write_text("# One\n\n## Two\n", "utf-8")
    assert collection.index(folder, tmp_path / "own").failed == {
        "empty.md": "empty.md has headings and no text"
    }


def test_what_lies_in_a_folder_that_is_shut_stays(folder, tmp_path, monkeypatch):
    collection.index(folder, tmp_path / "own")
    real = documents.listed

    def listed(place):
        known, others, _ = real(place)
        return [path for path in known if path.parent.name != "sub"], others, [folder / "sub"]

    monkeypatch.setattr(documents, "listed", listed)
    again = collection.index(folder, tmp_path / "own")
    assert again.failed == {"sub": "the folder sub may not be read"} and again.changed["gone"] == 0
    assert "sub/boats.txt" in set(again.passages()["source"])
    smaller = collection.index(folder, tmp_path / "own", size=100)
    assert smaller.changed["gone"] == 0 and "sub/boats.txt" in set(smaller.passages()["source"])
    monkeypatch.undo()
    assert collection.index(folder, tmp_path / "own").changed["read"] == 1  # cut in the new size at last


def test_settings_that_another_process_writes_are_kept(folder, tmp_path, monkeypatch):
    store = tmp_path / "own"
    own, writing = collection.index(folder, store), collection.writing

    @contextlib.contextmanager
    def late(place):  # another process has the lock first
        with writing(place):
            settings = json.loads((store / "settings.json").read_text("utf-8"))
            collection._put_json(store / "settings.json", settings | {"chosen": {"weight": 0.3}})
            yield

    monkeypatch.setattr(collection, "writing", late)
    collection.index(folder, store)
    assert collection.load(store).chosen["weight"] == 0.3
    collection.choose(own, stage="vectors")
    assert (chosen := collection.load(store).chosen)["weight"] == 0.3 and chosen["stage"] == "vectors"


def test_passages_that_are_missing_are_said_and_read_again(folder, tmp_path):
    store = tmp_path / "own"
    collection.index(folder, store)
    shutil.rmtree(store / "index-1" / "passages.lance")
    with pytest.raises(FileNotFoundError, match="passages in own/index-1 are missing; index the documents"):
        collection.load(store).ask("tea")
    assert not (store / "index-1" / "passages.lance").exists()
    assert collection.index(folder, store).changed["passages"] == 5


def test_one_document_is_no_folder(tmp_path):
    (tmp_path / "one.md").write_text("# One\n\nA page, and no folder.", "utf-8")
    with pytest.raises(ValueError, match="one.md is one document; name the folder it lies in"):
        collection.index(tmp_path / "one.md", tmp_path / "own")
    assert not (tmp_path / "own").exists()


def test_a_name_that_is_no_text_is_left_out(folder, tmp_path):
    try:
        open(os.fsencode(folder) + b"/caf\xe9.md", "wb").close()
    except OSError:
        pytest.skip("this disk takes names in UTF-8 alone")
    own = collection.index(folder, tmp_path / "own")
    assert own.failed == {"caf\\udce9.md": "caf\\udce9.md is no name in UTF-8; rename it"}
    assert own.changed["documents"] == 3


def test_a_file_that_goes_while_it_is_read_is_named(folder, tmp_path, monkeypatch):
    real = documents.listed

    def listed(place):
        known, others, shut = real(place)
        return sorted({*known, folder / "gone.md", folder / "tea.md"}), others, shut

    monkeypatch.setattr(documents, "listed", listed)
    own = collection.index(folder, tmp_path / "own")
    assert list(own.failed) == ["gone.md"] and "No such file" in own.failed["gone.md"]
    (folder / "tea.md").unlink()
    own = collection.index(folder, tmp_path / "own")
    assert set(own.failed) == {"gone.md", "tea.md"} and "tea.md" in set(own.passages()["source"])
    assert set(collection.own_files(own)) == set(TEXTS)


@pytest.mark.parametrize(
    ("size", "sentence"), [(300, "size=300 is more than the encoder reads"), (0, "size=0 leaves no room")]
)
def test_sizes_that_are_none(folder, tmp_path, size, sentence):
    with pytest.raises(ValueError, match=sentence):
        collection.index(folder, tmp_path / "own", size)
    assert not (tmp_path / "own").exists()


def test_names_with_quotation_marks(folder, tmp_path):
    name = "the captain's 'log' %.md"
    (folder / name).write_text("Fog all day.", "utf-8")
    own = collection.index(folder, tmp_path / "own")
    assert own.ask("fog", 1)["source"].tolist() == [name]
    (folder / name).unlink()
    assert collection.index(folder, tmp_path / "own").changed["gone"] == 1


def test_a_table_of_passages_is_taken_as_it_is(tmp_path):
    file = tmp_path / "mine.tsv"
    file.write_text("source\ttext\npandas\tIt drops rows.\nnumpy\tIt sorts arrays.\n", "utf-8")
    own = collection.index(file, tmp_path / "own")
    assert own.ask("sort an array", 1)["source"].tolist() == ["numpy"]
    file.write_text("source\ttext\npandas\tIt drops rows.\n", "utf-8")
    assert len(collection.index(file, tmp_path / "own")) == 1


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda f, t: (f, f / "store"), ValueError, "lies in the folder that is read"),
        (
            lambda f, t: (
                f,
                (t / "other").mkdir() or ((t / "other" / "a").write_text("x", "utf-8") and t / "other"),
            ),
            ValueError,
            "other things",
        ),
        (lambda f, t: (t / "nowhere", t / "own"), FileNotFoundError, "there is no folder"),
        (lambda f, t: (f, f / "tea.md" / "own"), (PermissionError, ValueError), "cannot be made|lies in"),
    ],
    ids=["inside", "other things", "no folder", "below a file"],
)
def test_a_place_that_is_none(folder, tmp_path, make, error, sentence):
    with pytest.raises(error, match=sentence):
        collection.index(*make(folder, tmp_path))


def test_a_store_that_is_none(tmp_path, own):
    with pytest.raises(FileNotFoundError, match="there is no search kept"):
        collection.load(tmp_path / "none")
    (own.folder / "settings.json").write_text("{}", "utf-8")
    with pytest.raises(ValueError, match="settings.json is not what `index` writes"):
        collection.load(own.folder)


def test_a_damaged_index_has_its_sentence(own):
    shutil.rmtree(own.folder / "index-1")
    with pytest.raises(FileNotFoundError, match="index-1 is missing; index the documents again"):
        collection.load(own.folder)


def test_a_run_that_was_killed_goes_on(folder, tmp_path):
    """Killed between two writes: what is there is whole, and the next run ends at the same passages."""
    for n in range(30):
        (folder / f"page {n}.md").write_text(f"# Page {n}\n\n" + f"Sentence about thing {n}. " * 20, "utf-8")
    store = tmp_path / "own"
    code = (
        "import sys, time; from helpers import collection; collection.AT_ONCE = 8\n"
        "merge = collection._merge\n"
        "def slow(*a): merge(*a); print('wrote', flush=True); time.sleep(0.5)\n"
        "collection._merge = slow; collection.index(sys.argv[1], sys.argv[2])"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), str(store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=books.ROOT,
    )
    assert running.stdout.readline() == b"wrote\n" and running.stdout.readline() == b"wrote\n"
    running.send_signal(signal.SIGKILL)
    running.wait()
    half = len(collection.load(store))
    assert 0 < half < 60
    own = collection.index(folder, store)
    assert own.changed["kept"] >= 16 and own.passages()["id"].is_unique
    fresh = collection.index(folder, tmp_path / "fresh")
    assert sorted(own.passages()["id"]) == sorted(fresh.passages()["id"])


def test_two_writers_at_one_moment_lose_nothing(folder, tmp_path):
    command = [
        sys.executable,
        "scripts/search_folder.py",
        "index",
        str(folder),
        "--store",
        str(tmp_path / "own"),
    ]
    both = [
        subprocess.Popen(command, cwd=books.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for _ in "ab"
    ]
    for one in both:
        assert one.wait(timeout=180) == 0, one.stderr.read().decode()
    rows = collection.load(tmp_path / "own").passages()
    assert len(rows) == 5 and rows["id"].is_unique


def test_whoever_waits_for_another_writer_says_so(folder, tmp_path, capsys):
    store = tmp_path / "own"
    collection.index(folder, store)
    assert "waits" not in capsys.readouterr().err
    lock = files.locked(store / "lock")
    with lock:
        waiting = threading.Thread(target=collection.index, args=(folder, store))
        waiting.start()
        deadline = time.monotonic() + 60
        while not (said := capsys.readouterr().err) and time.monotonic() < deadline:
            time.sleep(0.1)
    waiting.join(60)
    assert said == "another program is writing to own; this one waits until it has finished\n"
    assert not waiting.is_alive()


def test_many_files(tmp_path):
    """Two thousand small files: read, embedded, and read again in a moment."""
    (tmp_path / "many").mkdir()
    for n in range(2000):
        (tmp_path / "many" / f"{n}.txt").write_text("same words" if n % 20 else f"thing number {n}", "utf-8")
    own = collection.index(tmp_path / "many", tmp_path / "own")
    assert own.changed["documents"] == 2000
    start = time.monotonic()
    assert collection.index(tmp_path / "many", tmp_path / "own").changed["read"] == 0
    assert time.monotonic() - start < 60


# asking -------------------------------------------------------------------------------------


def test_what_is_asked_is_checked(own):
    for wrong, error in (
        ("", ValueError),
        ("  ", ValueError),
        (None, TypeError),
        (3, TypeError),
        (["a"], TypeError),
    ):
        for asking in (own.ask, own.answer, lambda question: collection.nearest(own, question)):
            with pytest.raises(error, match="question"):
                asking(wrong)
    with pytest.raises(ValueError, match="k=0 shows nothing"):
        own.ask("tea", 0)
    with pytest.raises(ValueError, match="there is no stage 'magic'"):
        own.ask("tea", stage="magic")
    with pytest.raises(ValueError, match="there is no stage 'magic'"):
        own.stages("tea", ["vectors", "magic"])


@pytest.mark.parametrize(
    "question", ["'; DROP TABLE --", '"water butt"', "£66?", "日本", "a" * 5000, "AND OR NOT", "(:"]
)
def test_every_sign_goes_through(own, question):
    assert len(own.ask(question, 3)) == 3


def test_the_result_says_where_it_stands(own):
    rows = own.ask("What should I do with bee stings?", 5)
    assert list(rows)[:6] == ["rank", "source", "section", "page", "score", "text"]
    assert rows["rank"].tolist() == [1, 2, 3, 4, 5] and rows["score"].is_monotonic_decreasing
    assert (rows.loc[rows["source"].str.endswith(".pdf"), "page"] > 0).all()


def test_the_fusion_is_the_lesson_s_with_bm25_from_zero(own):
    weighted = books.definitions(books.path("13"), "best_first", "weighted")["weighted"]
    found = own.stages("When is the café open?", ["vectors", "BM25", "fused"])
    nothing = found["BM25"][:1].rename(index=lambda _: "no word in common").assign(score=0.0)
    theirs = weighted(found["vectors"], pd.concat([found["BM25"], nothing]), 0.6).drop("no word in common")
    assert found["fused"].index.tolist() == theirs.index.tolist()
    assert np.allclose(found["fused"]["score"], theirs["score"])


def test_a_word_that_one_passage_alone_has_is_found(folder, tmp_path):
    for n in range(12):
        (folder / f"{n}.md").write_text(
            f"# Page {n}\n\nSomething about the harbour, the sea and day {n}.", "utf-8"
        )
    (folder / "codes.md").write_text("# Table\n\nThe code XQ77 means low oil.", "utf-8")
    own = collection.index(folder, tmp_path / "own")
    for question in ("XQ77", "What about XQ77 on the sea?"):
        assert own.ask(question, 1)["source"].tolist() == ["codes.md"]


def test_an_answer_stands_in_its_source(own):
    told = own.answer("What does a jar of honey cost?")
    assert (
        told["answer"] in " ".join(own.passages()["text"].str.replace("\n", " ")) and "£6" in told["answer"]
    )
    collection.choose(own, threshold=0.99)
    assert collection.load(own.folder).answer("What does a jar of honey cost?")["answer"] == ""


def test_a_question_that_leaves_no_room_for_a_passage_is_cut(own, capsys):
    long = "where is the garden fence and who paints it " * 40
    assert len(own.ask(long, 3, "reranked")) == 3
    assert "the cross-encoder reads 128 of the 360 pieces" in capsys.readouterr().err
    assert collection._beginning(own, long) == long[: 14 * 44 + 8]  # 14 * 9 words and two
    short = long[:500]
    assert collection._beginning(own, short) is short


def test_nothing_is_found_and_that_is_no_error(own, tmp_path):
    assert own.answer("xylophone quartz", "BM25")["answer"] == ""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.md").write_text("# One\n\n## Two\n", "utf-8")
    empty = collection.index(tmp_path / "empty", tmp_path / "nothing")
    assert empty.answer("tea", "vectors") == {
        "answer": "",
        "source": "",
        "section": "",
        "page": 0,
        "nearness": 0.0,
    }


def test_more_passages_than_the_searches_bring_by_default(own):
    assert len(own.ask("the plot", 150, "vectors")) == 150


def test_a_search_without_a_passage_says_so(tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "one.txt").write_text("", "utf-8")
    own = collection.index(scans, tmp_path / "own")
    assert list(own.failed) == ["one.txt"] and len(own) == 0
    with pytest.raises(ValueError, match="own holds no passage; index documents with text"):
        own.ask("tea")


def test_words_in_common_are_found_by_their_stems():
    assert collection.matched("How do I light bonfires?", "Lighting a bonfire is allowed") == [
        "Lighting",
        "bonfire",
    ]
    assert collection.matched("the of and", "the of and") == []


# judging ------------------------------------------------------------------------------------


def test_a_grade_is_on_the_disk_at_once_and_the_last_one_counts(own):
    row = own.ask("Is there a wheelchair bed?", 1).iloc[0]
    judging.grade(own, "Is there a wheelchair bed?", row["source"], row["text"], 1)
    judging.grade(own, "Is there a wheelchair bed?", row["source"], row["text"], 2)
    known = judging.relevance(own.passages(), judging.grades(own.folder / "grades.tsv"))
    assert known["Is there a wheelchair bed?"][row["id"]] == 2
    for wrong in (3, -1, "x", None, True):
        with pytest.raises(ValueError, match="is no grade"):
            judging.grade(own, "q", "s", "t", wrong)


def test_a_line_that_was_not_finished_does_not_spoil_the_next(own):
    place = own.folder / "grades.tsv"
    place.write_bytes(place.read_bytes().rstrip(b"\n"))
    before = len(judging.grades(place))
    judging.grade(own, "a question", "rules.md", "some words", 2)
    assert len(judging.grades(place)) == before + 1


def test_every_judgement_of_the_course_has_its_passage(own):
    known = judging.relevance(own.passages(), judging.grades(own.folder / "grades.tsv"))
    assert len(known) == 50 and all(max(of.values()) == 2 for of in known.values())


def test_grades_survive_another_cut(own, tmp_path):
    rows = own.ask("How deep may a pond be?", 3)
    for row in rows.itertuples():
        judging.grade(own, "How deep may a pond be?", row.source, row.text, 2 if row.rank == 1 else 0)
    other = collection.index(books.ROOT / "shared_data" / "allotments", tmp_path / "other", size=80)
    known = judging.relevance(other.passages(), judging.grades(own.folder / "grades.tsv"))[
        "How deep may a pond be?"
    ]
    assert sorted(set(known.values())) == [0, 2]


def test_a_file_with_another_name_keeps_its_judgements_and_its_vectors(folder, tmp_path):
    own = collection.index(folder, tmp_path / "own")
    row = own.ask("How warm is the water for tea?", 1).iloc[0]
    assert row["source"] == "tea.md"
    judging.grade(own, "How warm is the water?", row["source"], row["text"], 2)
    judging.grade(own, "How warm is the water?", "never.md", "words that no document has", 2)
    judging.grade(own, "Is it cold?", "gone.md", "the", 2)  # stands in many a passage
    (folder / "drinks").mkdir()
    (folder / "tea.md").rename(folder / "drinks" / "tea.md")
    own = collection.index(folder, tmp_path / "own")
    assert own.changed["gone"] == 1 and own.changed["embedded"] == 0
    known = judging.relevance(own.passages(), judging.grades(own.folder / "grades.tsv"))
    rows = own.passages().set_index("id")
    (moved,) = known["How warm is the water?"]
    assert rows.loc[moved, "source"] == "drinks/tea.md" and rows.loc[moved, "text"] == row["text"]
    assert known["Is it cold?"] == {}
    assert not set(judging.pool(own, ["How warm is the water?"], 1)["id"]) & {moved}


def test_the_same_passage_graded_by_keyboard_and_in_a_table_is_one(own, tmp_path):
    asked = "How deep may a pond be?"
    row = own.ask(asked, 1).iloc[0]
    judging.grade(own, asked, row["source"], row["text"], 2)
    table = pd.DataFrame([{"question": asked, "source": row["source"], "grade": 0, "text": row["text"]}])
    judging.write(table.assign(text=row["text"].partition("\n")[2]), tmp_path / "g.tsv")
    assert judging.add(own, tmp_path / "g.tsv") == 0
    known = judging.relevance(own.passages(), judging.grades(own.folder / "grades.tsv"))
    assert known[asked][row["id"]] == 0


def test_a_question_keeps_its_name_through_tables(own, tmp_path):
    """With quotation marks of its own, a spreadsheet's around it, and with other spaces."""
    place = own.folder / "grades.tsv"
    asked = 'What is a "butt"?'
    row = judging.pool(own, [asked], 1).iloc[:1].assign(grade=2)
    judging.write(row, tmp_path / "g.tsv")
    assert asked in (tmp_path / "g.tsv").read_text("utf-8")
    judging.add(own, tmp_path / "g.tsv")
    assert asked in set(judging.grades(place)["question"])
    (tmp_path / "x.tsv").write_text(
        'question\tsource\tgrade\ttext\n"Well, is it ""open""?"\trules.md\t2\t"Not now, later."\n'
        '"Well, when?"\trules.md\t2\tsoon\n',
        "utf-8",
    )
    judging.add(own, tmp_path / "x.tsv")
    assert {'Well, is it "open"?', "Well, when?"} <= set(judging.grades(place)["question"])
    (tmp_path / "q.txt").write_text("Où est\u00a0le  puits ?\n", "utf-8")
    (spaced,) = judging.questions(tmp_path / "q.txt")
    todo = judging.pool(own, ["Où est\u00a0le  puits ?"], 1)
    assert spaced == "Où est le puits ?" and set(todo["question"]) == {spaced}
    judging.in_terminal(own, todo, lambda _: "1", lambda _: None)
    assert judging.pool(own, [spaced], 1).empty
    judging.grade(own, spaced, "two  spaces.md", "words", 1)
    assert "two  spaces.md" in set(judging.grades(place)["source"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("q.json", '{"question": "Who?"}\n{"question": "When?"}\n'),
        ("q.ndjson", '{"question": "Who?"}\n{"question": "When?"}\n'),
        ("q.txt", "id\tquestion\n1\tWho?\n2\tWhen?\n"),
        ("q.md", "question\nWho?\nWhen?\n"),
    ],
)
def test_files_of_questions(tmp_path, name, text):
    (tmp_path / name).write_text(text, "utf-8")
    assert judging.questions(tmp_path / name) == ["Who?", "When?"]


def test_the_pool_is_blind_and_leaves_out_what_is_judged(own):
    asked = ["How deep may a pond be?", "when can I light a bonfire"]
    todo = judging.pool(own, asked, 3)
    assert set(todo["question"]) == set(asked) and not todo.duplicated(["question", "id"]).any()
    known = judging.relevance(own.passages(), judging.grades(own.folder / "grades.tsv"))
    of_bonfire = todo[todo["question"] == asked[1]]
    assert not set(of_bonfire["id"]) & set(known[asked[1]])
    first = todo[todo["question"] == asked[0]]["id"].tolist()
    assert first != list(own.stages(asked[0], ["vectors"])["vectors"].index[: len(first)])
    said, keys = [], iter(["2", "x", "0", "s", "q"])
    assert judging.in_terminal(own, todo, lambda _: next(keys), said.append) == 2
    assert "one of 2, 1, 0, s, q" in said
    assert len(judging.pool(own, asked, 3)) <= len(todo) - 2


def test_the_buttons_grade(own):
    todo = judging.pool(own, ["How deep may a pond be?"], 2)
    box = judging.widget(own, todo)
    answers, *_, skip = box.children[2].children
    before = len(judging.grades(own.folder / "grades.tsv"))
    answers.click(), skip.click()
    assert len(judging.grades(own.folder / "grades.tsv")) == before + 1
    for _ in range(10):
        skip.click()
    assert "All are judged" in box.children[1].value


def test_measures_by_hand_and_by_another_library():
    """pytrec_eval counts; scikit-learn and cases small enough for a hand say the same."""
    from sklearn.metrics import ndcg_score

    assert judging.ndcg(["x", "a"], {"a": 2}) == pytest.approx(1 / np.log2(3))
    assert judging.ndcg([], {"a": 2}) == judging.ndcg(["a"], {"a": 0}) == judging.ndcg(["a"], {}) == 0.0
    rng = np.random.default_rng(0)
    for _ in range(50):
        names = [f"d{i}" for i in rng.permutation(20)]
        known = {f"d{i}": int(g) for i, g in enumerate(rng.integers(0, 3, 15))}
        gold = [[known.get(name, 0) for name in names]]
        theirs = ndcg_score(gold, [list(range(20, 0, -1))], k=10)
        assert judging.ndcg(names, known) == pytest.approx(theirs)
    assert judging.reciprocal_rank(["a", "b"], {"b": 2, "a": 1}) == 0.5
    assert judging.reciprocal_rank(["a"], {}) == 0.0


def test_scores_of_other_questions_are_not_compared():
    one, two = pd.Series([1.0, 0.5]), pd.Series([0.5])
    with pytest.raises(ValueError, match="2 scores and 1 are not of the same questions"):
        judging.compared(one, two)
    with pytest.raises(ValueError, match="2 questions have a score on one side alone"):
        judging.compared(one, one.set_axis([1, 2]))
    with pytest.raises(ValueError, match="1 question says nothing of the others"):
        judging.needed(two, two)


@pytest.mark.parametrize(
    ("question", "source", "text"), [("", "a", "b"), ("q", " ", "b"), ("q", "a", ""), (None, "a", "b")]
)
def test_an_empty_judgement_does_not_spoil_the_others(own, question, source, text):
    before = (own.folder / "grades.tsv").read_bytes()
    with pytest.raises((ValueError, TypeError), match="is empty|is missing"):
        judging.grade(own, question, source, text, 2)
    assert (own.folder / "grades.tsv").read_bytes() == before


@pytest.mark.parametrize("make", [lambda t: t / "nowhere", lambda t: t], ids=["no folder", "nothing to read"])
def test_an_index_that_cannot_be_leaves_nothing_behind(tmp_path, make):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises((FileNotFoundError, ValueError)):
        collection.index(make(tmp_path), tmp_path.with_name(tmp_path.name + "-store"))
    assert not tmp_path.with_name(tmp_path.name + "-store").exists()
    with pytest.raises(ValueError, match="size=10 leaves no room"):
        collection.index(books.ROOT / "shared_data" / "allotments", tmp_path / "s", size=10)
    assert not (tmp_path / "s").exists()


def test_numbers_and_places_that_are_none(own, tmp_path):
    for k in (2.5, "3", None):
        with pytest.raises(TypeError, match="is no number of passages"):
            own.ask("pond", k)
    with pytest.raises(ValueError, match="k=0 pools nothing"):
        judging.pool(own, ["pond"], 0)
    with pytest.raises(FileNotFoundError, match="there is no adapter in none/"):
        collection.encoder(tmp_path / "none")
    assert documents.near_copies(documents.passages([])).empty


def test_how_many_questions_would_settle_it():
    """With as many as it says, the interval's nearer end is about 0."""
    gap = pd.Series(np.random.default_rng(1).normal(0.02, 0.2, 40))
    n = judging.needed(gap, gap * 0)
    assert gap.mean() - 1.96 * gap.std() / np.sqrt(n) == pytest.approx(0, abs=1e-3)
    assert judging.needed(gap * 0, gap * 0) is None


def test_tune_chooses_on_one_half_and_reports_on_the_other(own, monkeypatch):
    """Of a stage that is right on the choosing half alone, nothing is left in the report."""
    judged = judging.grades(own.folder / "grades.tsv")
    asked = sorted(set(judged["question"]), key=judging._hash)
    first = set(asked[::2])
    right = judging.relevance(own.passages(), judged)
    real = collection.bm25

    def oracle(one, question, k=100):
        rows = real(one, question, k)
        if question not in first:
            return rows[::-1].assign(score=rows["score"].to_numpy())
        best = [name for name, grade in right[question].items() if grade == 2]
        passages = one.passages().set_index("id").loc[best]
        return passages.assign(score=100.0)[["source", "title", "section", "page", "text", "score"]]

    monkeypatch.setattr(collection, "bm25", oracle)
    own.__dict__["cross"] = Cross()
    found = judging.tune(own)
    row = found.table.set_index("stage").loc["BM25"]
    assert row["chosen on"] > 0.8 and row["nDCG@10"] < 0.3
    assert list(found.scores.index) == asked[1::2]
    assert collection.load(own.folder).chosen["stage"] == found.chosen["stage"]


class Cross:
    """A cross-encoder that has no opinion."""

    def predict(self, pairs, **_):
        return np.zeros(len(pairs))


def test_one_absent_question_is_too_few(own):
    with pytest.raises(ValueError, match="one question without an answer .* give at least two"):
        judging.tune(own, ["Who designed the gate?"])
    with pytest.raises(ValueError, match="2 questions with an answer and 1 without are too few"):
        judging.threshold(own, {"a": 0.5, "b": 0.6}, ["Who designed the gate?"])


def test_too_few_judgements_have_their_sentence(own):
    (own.folder / "grades.tsv").unlink()
    with pytest.raises(ValueError, match="0 judged questions .* judge at least 8"):
        judging.tune(own)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("question\tsource\tgrade\ttext\nq\ts\t5\tt\n", "line 2: the grade '5' is none of 0, 1 and 2"),
        ("question\tsource\ttext\nq\ts\tt\n", "no column 'grade'"),
        ("question\tgrade\ttext\nq\t1\tt\n", "no column 'source'"),
    ],
)
def test_a_wrong_table_of_grades_takes_nothing(own, tmp_path, text, sentence):
    before = (own.folder / "grades.tsv").read_bytes()
    (tmp_path / "g.tsv").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=sentence):
        judging.add(own, tmp_path / "g.tsv")
    assert (own.folder / "grades.tsv").read_bytes() == before


# the commands -------------------------------------------------------------------------------


def command(*given, stdin=""):
    done = subprocess.run(
        [sys.executable, "scripts/search_folder.py", *map(str, given)],
        cwd=books.ROOT,
        capture_output=True,
        encoding="utf-8",
        input=stdin,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_commands_from_index_to_result(folder, tmp_path):
    store = tmp_path / "own"
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    done = command("index", folder, "--store", store)
    assert (
        done.returncode == 0
        and "left out: broken.pdf" in done.stderr
        and "3 documents, 5 passages" in done.stdout
    )
    done = command("ask", "how long does black tea steep", "--store", store, "--k", 2)
    assert done.returncode == 0 and "tea.md · Black" in done.stdout
    rows = json.loads(command("ask", "ferry", "--store", store, "--json", "--k", 1).stdout)
    assert rows[0]["source"] == "sub/boats.txt" and rows[0]["rank"] == 1
    asked = ["When does the ferry leave?", 'What does a "cup" cost?']
    (tmp_path / "q.txt").write_text("\n\n".join(asked), "utf-8")
    done = command(
        "ask", "--questions", tmp_path / "q.txt", "--store", store, "--k", 3, "--out", tmp_path / "r.tsv"
    )
    table = pd.read_csv(tmp_path / "r.tsv", sep="\t")
    assert (
        list(table) == ["question", "rank", "source", "section", "page", "score", "text"] and len(table) == 6
    )
    done = command("judge", "--questions", tmp_path / "q.txt", "--store", store, stdin="2\nq\n")
    assert "1 of" in done.stdout and len(judging.grades(store / "grades.tsv")) == 1
    done = command(
        "judge", "--questions", tmp_path / "q.txt", "--store", store, "--out", tmp_path / "todo.tsv"
    )
    todo = pd.read_csv(tmp_path / "todo.tsv", sep="\t", dtype=str)
    assert set(todo["question"]) == set(asked)
    todo.assign(grade=["2"] + [""] * (len(todo) - 1)).to_csv(tmp_path / "todo.tsv", sep="\t", index=False)
    assert "1 new judgements" in command("judge", "--graded", tmp_path / "todo.tsv", "--store", store).stdout
    done = command("tune", "--store", store)
    assert done.returncode == 1 and "judge at least 8" in done.stderr


def test_no_question_is_lost_and_a_place_that_is_none_is_said_first(own, tmp_path):
    (tmp_path / "q.txt").write_text("xylophone quartz\nbonfire\n", "utf-8")
    asked = ["ask", "--questions", tmp_path / "q.txt", "--stage", "BM25", "--k", "1", "--store", own.folder]
    assert command(*asked, "--out", tmp_path / "r.tsv").returncode == 0
    table = pd.read_csv(tmp_path / "r.tsv", sep="\t", dtype=str, keep_default_na=False)
    assert set(table["question"][table["source"] == ""]) == {"xylophone quartz"} and len(table) == 2
    done = command("ask", "xylophone quartz", "--stage", "BM25", "--store", own.folder)
    assert done.returncode == 0 and done.stdout.strip() == "nothing found"
    far, near = (collection.nearest(own, question) for question in ("xylophone quartz", "bonfire"))
    assert far < near
    collection.choose(own, threshold=(far + near) / 2)
    done = command(*asked, "--json")
    assert done.returncode == 0 and {row["question"] for row in json.loads(done.stdout)} == {"bonfire"}
    assert ": 1 of 2 questions (xylophone quartz)" in done.stderr and "below cosine 0." in done.stderr
    assert "below cosine" not in command("ask", "bonfire", "--json", "--store", own.folder).stderr
    done = command(*asked, "--out", tmp_path / "no" / "r.tsv")
    assert done.returncode == 1 and f"there is no folder {tmp_path / 'no'}" in done.stderr
    done = command("judge", "--questions", tmp_path / "q.txt", "--store", own.folder, "--out", tmp_path)
    assert done.returncode == 1 and "is a folder; name a file in it" in done.stderr


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["ask", "x"], "there is no search kept"),
        (["ask"], "give one question, or a file"),
        (["tune"], "there is no search kept"),
        (["index", "/nowhere"], "there is no folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_that_cannot_be_has_one_sentence(tmp_path, given, sentence):
    done = command(*given, "--store", tmp_path / "none")
    assert done.returncode == 1 and sentence in done.stderr and len(done.stderr.strip().split("\n")) == 1
