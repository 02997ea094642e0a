"""The course's models never ask a network; a reader's own model is fetched in the same kernel."""

import os
import subprocess
import sys
import textwrap

import pytest
from small_hub import Hub

from helpers import ROOT, models


@pytest.fixture
def hub(tmp_path):
    """A hub on loopback that has one small BERT, `their/model`, with a head that BertModel leaves over."""
    from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

    place = tmp_path / "their"
    config = BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=30522
    )
    BertForMaskedLM(config).save_pretrained(place)
    folder = models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
    AutoTokenizer.from_pretrained(folder).save_pretrained(place)
    hub = Hub({"their/model": {f.name: f.read_bytes() for f in place.iterdir() if f.is_file()}})
    yield hub
    hub.close()


def run(code, hub, tmp_path):
    """The lines that `code` printed, and its stderr, in a process whose hub is `hub`."""
    told = {k: v for k, v in os.environ.items() if "OFFLINE" not in k and k != "TRANSFORMERS_VERBOSITY"}
    env = told | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "COURSE_MODELS": "bundled"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        encoding="utf-8",
        capture_output=True,
        env=env,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


OURS = """
    from helpers import models
    import sys
    from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer, SparseEncoder
    from transformers import AutoTokenizer, BertForMaskedLM, BertModel, DPRQuestionEncoder

    def place(name):
        return str(models.path(name, quiet=True))

    bert = place("bert-base-uncased")
    SentenceTransformer(place("sentence-transformers/all-MiniLM-L6-v2"), device="cpu").encode(["a word"])
    SentenceTransformer(place("BAAI/bge-small-en-v1.5"), device="cpu").encode_query(["a word"])
    SentenceTransformer(bert, device="cpu")
    CrossEncoder(place("cross-encoder/ms-marco-MiniLM-L-12-v2"), device="cpu")
    SparseEncoder(place("rasyosef/splade-tiny"), device="cpu")
    MultiVectorEncoder(place("colbert-ir/colbertv2.0"), device="cpu")
    DPRQuestionEncoder.from_pretrained(place("facebook/dpr-question_encoder-multiset-base"))
    AutoTokenizer.from_pretrained(bert), BertModel.from_pretrained(bert), BertForMaskedLM.from_pretrained(bert)
    models.word_vectors("glove-wiki-gigaword-100", limit=10, quiet=True)
"""
THEIRS = """
    import os, urllib.request
    print("ours are open", file=sys.stderr)
    try:  # so that the hub knows how far this process is
        urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/ours-are-open")
    except OSError:
        pass
    tokenizer = AutoTokenizer.from_pretrained("their/model")
    theirs = BertModel.from_pretrained("their/model")
    print(tokenizer.tokenize("a word"), theirs.config.hidden_size)
"""


def test_the_courses_models_ask_nobody_and_a_readers_own_is_fetched_in_the_same_kernel(hub, tmp_path):
    said, errors = run(OURS + THEIRS, hub, tmp_path)
    asked = [path for _, path, _ in hub.asked]
    assert asked[0] == "/ours-are-open"
    assert said == ["['a', 'word'] 16"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {p.rsplit("/", 1)[1] for p in asked[1:]}
    # transformers' word on the weights of their model is theirs to read; that on ours is not shown
    ours, theirs = errors.split("ours are open")
    assert ours.strip() == ""
    assert theirs.count("LOAD REPORT") == 1 and "from: their/model" in theirs


def test_a_reader_who_is_offline_by_choice_stays_so(hub, tmp_path):
    code = """
        import os
        os.environ["HF_HUB_OFFLINE"] = "1"
        from helpers import models
        from transformers import AutoTokenizer
        try:
            AutoTokenizer.from_pretrained("their/model")
        except OSError as e:
            print("refused")
    """
    said, _ = run(code, hub, tmp_path)
    assert said == ["refused"] and hub.asked == []
