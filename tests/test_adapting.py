"""Adapting a collection: the adapter is what was trained, nothing old is touched before the new is whole, and
no gain means no change."""

import http.server
import json
import shutil
import subprocess
import sys
import threading

import books
import filelock
import numpy as np
import pandas as pd
import pytest
import torch

from helpers import adapting, collection, encoders, judging, models, training

FOLDER, PAIRS = (books.ROOT / "shared_data" / name for name in ("allotments", "allotments_pairs.tsv"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    store = tmp_path_factory.mktemp("adapting") / "own"
    collection.index(FOLDER, store)
    return store


@pytest.fixture
def own(kept, tmp_path):
    return collection.load(shutil.copytree(kept, tmp_path / "own"))


def test_what_is_kept_is_what_was_trained(tmp_path):
    """A change of low rank comes back as it was, to 16 bits; a change of full rank as its largest part."""
    minilm = models.path(collection.MINILM, quiet=True)
    texts = ["A kettle boils.", "The ferry leaves at nine, dogs free."]

    def vectors(one):
        return torch.nn.functional.normalize(encoders.embed(one, texts), dim=1).numpy()

    one = encoders.Pretrained(minilm, frozen=2).eval()
    plain, draw = vectors(one), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in one.bert.named_parameters():
            if weight.ndim == 2 and "layer." in name and weight.requires_grad:
                left, right = (torch.randn(n, 8, generator=draw) for n in weight.shape)
                weight += 0.004 * left @ right.T
    adapting.save(one, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert str(minilm) not in (tmp_path / "adapter_config.json").read_text("utf-8")
    again = collection.encoder(tmp_path).encode(texts, normalize_embeddings=True)
    assert np.abs(again - vectors(one)).max() < 0.003 < 0.03 < np.abs(again - plain).max()
    config = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    assert config["layers_to_transform"] == [2, 3, 4, 5]


def test_the_course_s_adapter_is_small():
    files = list((books.ROOT / "models" / "adapters" / "documentation").iterdir())
    assert 0 < sum(file.stat().st_size for file in files) < 4e6


def test_wrong_passages_may_be_texts_or_rows_and_give_the_same_loss():
    rows = pd.DataFrame(
        {"question": [f"question {w}" for w in "abcd"], "answer": [f"answer {w}" for w in "abcd"]}
    )
    losses = []
    for wrong in ([[1], [2], [3], [0]], [["answer b"], ["answer c"], ["answer d"], ["answer a"]]):
        torch.manual_seed(0)
        one = encoders.Encoder(width=32, layers=1, heads=2, out=16, dropout=0)
        losses.append(
            training.train(one, one, rows, batch=2, epochs=1, negatives=wrong, bfloat16=False, progress=False)
        )
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


# the pairs ----------------------------------------------------------------------------------


def test_a_pair_s_passage_is_the_one_with_its_words(own):
    found, left_out = adapting.pairs(own, PAIRS)
    given = pd.read_csv(PAIRS, sep="\t", quoting=3)
    assert left_out == [] and len(found) == len(given) == 60
    for row, text in zip(found.itertuples(), given["text"], strict=True):
        assert judging.words(text) in judging.words(row.text.partition("\n")[2])


def test_a_pair_with_a_source_alone_takes_its_nearest_passage(own, tmp_path):
    file = tmp_path / "p.csv"
    file.write_text("question,source\nHow deep may a pond be?,rules.md\nWhat now?,nowhere.md\n", "utf-8")
    found, left_out = adapting.pairs(own, file)
    assert "Ponds" in found["text"].iloc[0] and left_out == ["line 3: no document 'nowhere.md'"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("question\nWhat?\n", "no column 'source' and none 'text'"),
        ("question\ttext\nWhat?\tno such words stand anywhere here\n", "no question has a passage"),
        ("q\ttext\na\tb\n", "no column 'question'"),
    ],
)
def test_a_table_of_pairs_that_is_none(own, tmp_path, text, sentence):
    (tmp_path / "p.tsv").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=sentence):
        adapting.pairs(own, tmp_path / "p.tsv")


def test_no_passage_is_on_both_sides():
    pairs = pd.DataFrame({"id": [f"p{i % 40}" for i in range(100)], "question": range(100)})
    asked, held = adapting.parts(pairs)
    assert len(asked) + len(held) == 100 and not set(asked["id"]) & set(held["id"]) and 5 < len(held) < 45


def test_the_documents_own_pairs(own):
    found = adapting.from_the_documents(own)
    assert len(found) > 60 and found["question"].is_unique
    passages = own.passages().set_index("id")["text"]
    for row in found.itertuples():
        assert row.text in passages[row.id] and row.text != row.question


def test_wrong_passages_are_near_and_neither_right_nor_as_right():
    vectors = np.eye(6, dtype=np.float32)
    vectors[1] = [0.99, np.sqrt(1 - 0.99**2), 0, 0, 0, 0]  # nearly the right one
    vectors[2] = [0.5, 0, np.sqrt(0.75), 0, 0, 0]
    (wrong,) = adapting.wrong_passages(vectors[:1], np.array([0]), vectors)
    assert wrong[0] == 2 and set(wrong) == {2, 3, 4, 5}


# a language model on this machine -------------------------------------------------------------


class Server(http.server.BaseHTTPRequestHandler):
    reply, asked = "", []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Server.asked.append((self.path, body, self.headers.get("Authorization")))
        content = json.dumps({"choices": [{"message": {"content": Server.reply}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    running = http.server.HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    Server.asked = []
    yield f"http://127.0.0.1:{running.server_port}/v1"
    running.shutdown()


def test_questions_of_a_model_pass_a_round_trip(own, server):
    Server.reply = "1. How deep may a pond be?\n- Who won the cup final in 1966?\n\nOk\n"
    found = adapting.written_by(adapting.server(server, "tiny", "secret"), own, count=12, seed=0)
    path, body, key = Server.asked[0]
    assert path == "/v1/chat/completions" and body["model"] == "tiny" and key == "Bearer secret"
    assert len(Server.asked) == 12
    for row in found.itertuples():
        assert row.id in set(own.ask(row.question, 3)["id"]) and not row.question.startswith(("1", "-"))
    pond = own.ask("How deep may a pond be?", 1)["id"][0]
    every = adapting.written_by(adapting.server(server), own, count=len(own), seed=0)
    assert pond in set(every["id"]) and (every["question"] == "How deep may a pond be?").sum() == 3


@pytest.mark.parametrize("url", ["http://example.org/v1", "https://10.0.0.7:11434/v1", "nonsense"])
def test_passages_are_sent_nowhere_else(url):
    with pytest.raises(ValueError, match="is not this machine"):
        adapting.server(url)


def test_an_address_without_http_is_completed():
    with pytest.raises(ValueError, match="write http://localhost:11434/v1"):
        adapting.server("localhost:11434/v1")


def test_a_server_that_does_not_answer_has_one_sentence(server):
    Server.reply = None
    with pytest.raises(RuntimeError, match="answered with no text"):
        adapting.server(server)("x")
    with pytest.raises(RuntimeError, match="no answer from the language model"):
        adapting.server("http://127.0.0.1:9/v1", timeout=2)("x")


# the whole ------------------------------------------------------------------------------------


def test_without_a_gain_nothing_changes(own):
    pairs, _ = adapting.pairs(own, PAIRS)
    before = own.settings, sorted(own.passages()["id"])
    report = adapting.adapt(own, pairs, steps=1, lr=1e-9)
    assert not report.switched and "no gain was seen" in report.said[-1]
    again = collection.load(own.folder)
    assert (again.settings, sorted(again.passages()["id"])) == before
    names = {path.name for path in own.folder.iterdir()}
    assert names == {"README.md", "settings.json", "lock", "index-1"}


def test_with_force_the_new_model_asks_and_an_index_goes_on(own):
    pairs, _ = adapting.pairs(own, PAIRS)
    report = adapting.adapt(own, pairs, steps=2, lr=1e-2, force=True)
    assert report.switched and report.own.settings["index"] == "index-2"
    rows = report.own.table.search().to_pandas()
    fresh = report.own.model.encode(list(rows["text"][:5]), normalize_embeddings=True)
    assert np.allclose(np.stack(list(rows["vector"][:5])), fresh, atol=1e-4)
    assert not (own.folder / "index-1").exists()
    assert "adapted: trained on" in (own.folder / "README.md").read_text("utf-8")
    assert collection.index(FOLDER, own.folder).changed["read"] == 0
    with pytest.raises(ValueError, match="was adapted before"):
        adapting.adapt(report.own, pairs)


def test_a_gain_switches_and_drops_what_was_chosen_before(own, monkeypatch):
    pairs, _ = adapting.pairs(own, PAIRS)
    collection.choose(own, stage="vectors", threshold=0.4, how="by hand")
    scores = iter([pd.Series([0.0] * 17), pd.Series([1.0] * 17)])
    monkeypatch.setattr(adapting, "places", lambda *_: next(scores))
    report = adapting.adapt(own, pairs, steps=1)
    assert report.switched and "the collection uses the adapted model now" in report.said
    assert "run tune again" in report.said[-1] and "chosen" not in report.own.settings
    assert report.own.chosen == collection.CHOSEN
    with pytest.raises(ValueError, match="was adapted meanwhile"):
        collection.choose(own, stage="BM25")


def test_an_interrupted_training_changes_nothing(own, monkeypatch):
    pairs, _ = adapting.pairs(own, PAIRS)
    monkeypatch.setattr(
        training, "train", lambda *_, **__: [0.1]
    )  # as it returns after the keyboard's interrupt
    with pytest.raises(KeyboardInterrupt):
        adapting.adapt(own, pairs, force=True)
    names = {path.name for path in own.folder.iterdir()}
    assert names == {"README.md", "settings.json", "lock", "index-1"}
    assert collection.load(own.folder).settings == own.settings


def test_what_another_process_does_while_it_trains_is_not_lost(own, tmp_path, monkeypatch):
    papers = shutil.copytree(FOLDER, tmp_path / "papers")
    collection._put_json(own.folder / "settings.json", own.settings | {"documents": str(papers)})
    pairs, _ = adapting.pairs(own, PAIRS)
    train, reembed = adapting.train, collection.reembed

    def meanwhile(*given, **how):
        (papers / "new.md").write_text("# New\n\nThe greenhouse came from Norway in October.", "utf-8")
        collection.index(papers, own.folder)
        return train(*given, **how)

    def locked(*given):
        with pytest.raises(filelock.Timeout):
            filelock.FileLock(own.folder / "lock").acquire(timeout=0)
        reembed(*given)

    monkeypatch.setattr(adapting, "train", meanwhile)
    monkeypatch.setattr(collection, "reembed", locked)
    now = adapting.adapt(own, pairs, steps=1, force=True).own
    assert "new.md" in collection.own_files(now) and now.settings["index"] == "index-2"
    assert now.ask("greenhouse from Norway", 1)["source"].tolist() == ["new.md"]


def test_a_passage_of_the_pairs_that_goes_while_it_trains(own, tmp_path, monkeypatch):
    papers = shutil.copytree(FOLDER, tmp_path / "papers")
    collection._put_json(own.folder / "settings.json", own.settings | {"documents": str(papers)})
    pairs, _ = adapting.pairs(own, PAIRS)

    def train(*_, **__):
        (papers / "rules.md").unlink()
        collection.index(papers, own.folder)

    monkeypatch.setattr(adapting, "train", train)
    with pytest.raises(ValueError, match=r"passages of the pairs are not in own any more"):
        adapting.adapt(own, pairs, force=True)
    assert collection.load(own.folder).settings["index"] == "index-1"


def test_killed_while_it_embeds_the_old_index_stays(own):
    code = (
        "import os, sys; from helpers import adapting, collection\n"
        "own = collection.load(sys.argv[1]); pairs, _ = adapting.pairs(own, sys.argv[2])\n"
        "collection._add_all = lambda *a: os.kill(os.getpid(), 9)\n"
        "adapting.adapt(own, pairs, steps=1, force=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, own.folder, PAIRS], cwd=books.ROOT, capture_output=True
    )
    assert done.returncode == -9
    again = collection.load(own.folder)
    assert again.settings == own.settings and len(again.ask("pond", 3)) == 3
    pairs, _ = adapting.pairs(again, PAIRS)
    assert adapting.adapt(again, pairs, steps=1, force=True).switched  # and it can be done after all


def test_too_few_pairs_have_their_sentence(own):
    pairs, _ = adapting.pairs(own, PAIRS)
    with pytest.raises(ValueError, match="5 pairs are too few: at least 20"):
        adapting.adapt(own, pairs[:5])
    with pytest.raises(ValueError, match="no column 'id'"):
        adapting.adapt(own, pairs.drop(columns="id"))
    with pytest.raises(ValueError, match="negatives=-1 is no number of wrong passages"):
        adapting.adapt(own, pairs, negatives=-1)
    with pytest.raises(ValueError, match="ask for no question"):
        adapting.written_by(lambda prompt: "", own, count=0)
