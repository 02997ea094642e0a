"""The published figures, computed again from the original weights where they are on disk.

Each function of this page computes one entry of figures.toml the way the published cells do.
"""

import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import models

TABLE = tomllib.loads((Path(__file__).parent / "figures.toml").read_text(encoding="utf-8"))
QUESTION = "What is the tallest mountain in the world?"
ANSWERS = [
    QUESTION,
    "The tallest mountain in the world is Mount Everest.",
    "Mount Shasta",
    "I like my hike in the mountains",
    "I am going to a yoga class",
]
SCORES = torch.tensor(
    [
        [4.3, 1.2, 0.05, 1.07],
        [0.18, 3.2, 0.09, 0.05],
        [0.85, 0.27, 2.2, 1.03],
        [0.23, 0.57, 0.12, 5.1],
    ],
    dtype=torch.float64,
)
EYE = torch.eye(4, dtype=torch.float64)


def glove_king():
    return models.word_vectors("glove-wiki-gigaword-100", quiet=True)["king"][:5]


def glove_queen():
    vectors = models.word_vectors("glove-wiki-gigaword-100", quiet=True)
    word, cosine = vectors.most_similar(positive=["king", "woman"], negative=["man"])[0]
    assert word == "queen"
    return [cosine]


def glove_bat():
    return models.word_vectors("glove-wiki-gigaword-100", quiet=True)["bat"][:5]


def bert(name="bert-base-uncased"):
    from transformers import BertModel, BertTokenizer

    folder = models.path(name, quiet=True)
    return BertTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder).eval()


def bat(sentence):
    tokenizer, model = bert()
    batch = tokenizer(sentence, return_tensors="pt")
    place = batch.input_ids[0].tolist().index(tokenizer.convert_tokens_to_ids("bat"))
    with torch.no_grad():
        return model(**batch).last_hidden_state[0, place]


def bert_bat_animal():
    return bat("The bat flew out of the cave at night.")[:5]


def bert_bat_club():
    return bat("He swung the bat and hit a home run.")[:5]


def bert_bat_cosine():
    a, b = (
        bat("The bat flew out of the cave at night."),
        bat("He swung the bat and hit a home run."),
    )
    return [torch.cosine_similarity(a, b, dim=0)]


def cross_encoder_capitals():
    from sentence_transformers import CrossEncoder

    folder = models.path("cross-encoder/ms-marco-MiniLM-L-6-v2", quiet=True)
    model = CrossEncoder(str(folder), activation_fn=torch.nn.Sigmoid(), device="cpu")
    passages = [
        "Paris is the capital of France.",
        "Berlin is the capital of Germany.",
        "Madrid is the capital of Spain.",
    ]
    return model.predict([("Where is the capital of France?", p) for p in passages])


def sts_rows(n=None):
    from helpers import data

    models.path("mteb/stsbenchmark-sts", quiet=True)  # skips where it is not on disk
    return data.sts(quiet=True)[:n]


def bert_cosines(n):
    tokenizer, model = bert()

    def mean(sentence):
        batch = tokenizer(sentence, return_tensors="pt")
        with torch.no_grad():
            return model(**batch).last_hidden_state[0].mean(0)

    rows = sts_rows(n)
    pairs = zip(rows["sentence1"], rows["sentence2"], strict=True)
    return np.array([torch.cosine_similarity(mean(a), mean(b), dim=0).item() for a, b in pairs]).round(4)


def minilm(sentences):
    from sentence_transformers import SentenceTransformer

    folder = models.path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
    return SentenceTransformer(str(folder), device="cpu").encode(sentences, normalize_embeddings=True)


def minilm_cosines(n):
    rows = sts_rows(n)
    a, b = minilm(list(rows["sentence1"])), minilm(list(rows["sentence2"]))
    return (a * b).sum(1).round(4)


def pearson(cosines):
    return [np.corrcoef(cosines, sts_rows(len(cosines))["score"] / 5)[0, 1]]


def sts_bert_pearson():
    return pearson(bert_cosines(50))


def sts_bert_first_ten():
    return bert_cosines(10)


def sts_minilm_pearson():
    return pearson(minilm_cosines(50))


def sts_minilm_all_rows():
    return pearson(minilm_cosines(None))


def sts_minilm_first_ten():
    return minilm_cosines(10)


def contrastive_losses():
    target = torch.arange(4)
    steps = [(0, 0), (0.5, 0.02), (1.0, 0.04)]
    return [
        torch.nn.functional.cross_entropy(SCORES + up * EYE - down * (1 - EYE), target).item()
        for up, down in steps
    ]


def contrastive_softmax():
    return SCORES.softmax(1).flatten()


def dpr_echo_minilm():
    vectors = minilm(ANSWERS)
    return vectors @ vectors[0]


def dpr(tower, texts):
    from transformers import AutoTokenizer, DPRContextEncoder, DPRQuestionEncoder

    folder = models.path(f"facebook/dpr-{tower}_encoder-multiset-base", quiet=True)
    kind = DPRQuestionEncoder if tower == "question" else DPRContextEncoder
    model, tokenizer = kind.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        return torch.cat([model(**tokenizer(t, return_tensors="pt")).pooler_output for t in texts])


def dpr_echo_dpr():
    return torch.cosine_similarity(dpr("question", [QUESTION]), dpr("ctx", ANSWERS))


def dpr_question():
    vector = dpr("question", [QUESTION])[0]
    assert len(vector) == 768
    return vector[:10]


@pytest.mark.parametrize("name", TABLE)
def test_published_figure(name, monkeypatch):
    entry = TABLE[name]
    monkeypatch.setenv("COURSE_MODELS", "original")
    for needed in (entry.get("model"), entry.get("data")):
        try:
            if needed:
                models.path(needed, quiet=True)
        except FileNotFoundError:
            pytest.skip(f"{needed} is not on this machine")
    ours = np.array(globals()[name](), dtype=float)
    assert np.abs(ours - entry["value"]).max() <= entry["tolerance"] + 1e-9, ours
