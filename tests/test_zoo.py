"""Every architecture of lesson 14's table goes through the loader: tiny random models, laid out as
the hub lays out the originals, against the libraries' own way of encoding."""

import json
import shutil

import books
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_originals_in_place import tiny_dpr
from torch.nn.functional import normalize
from transformers import AutoTokenizer, BertConfig, BertModel

from helpers import models, zoo

SETTINGS = books.settings()
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
QUESTIONS = ["Who wrote Emma?", "When do the swallows leave, and why?"]
PASSAGES = [
    "Jane Austen wrote it (in 1815).",
    "In September.",
    "Brass is made of copper and zinc: two metals.",
]
VOCABULARY = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


@pytest.mark.parametrize(
    ("pooling", "compare", "sentence"),
    [
        ("max", "cosine", "there is no pooling='max'"),
        ("mean", "euclid", "there is no compare='euclid'"),
        ("none", "cosine", "pooling='none' and compare='maxsim' go together"),
    ],
)
def test_a_setting_that_is_none_is_refused(pooling, compare, sentence):
    with pytest.raises(ValueError, match=sentence):
        zoo.load([MINILM], ["", ""], pooling, compare, quiet=True)


def bert_files(place, files=VOCABULARY):
    minilm = models.path(MINILM, quiet=True)
    for file in files:
        if (minilm / file).exists():
            shutil.copy(minilm / file, place / file)
        else:
            (place / file).write_text("{}", encoding="utf-8")


def bert(folder, name, seed=0, files=VOCABULARY):
    torch.manual_seed(seed)
    BertModel(BertConfig(**SMALL)).save_pretrained(folder / name)
    bert_files(folder / name, files)
    return folder / name


def modules(place, width, dense=False):
    """The files by which sentence-transformers knows what stands behind the network."""
    listed = [("", "Transformer"), ("1_Pooling", "Pooling")] + [("2_Dense", "Dense")] * dense
    listed += [(f"{len(listed)}_Normalize", "Normalize")]
    (place / "modules.json").write_text(
        json.dumps(
            [
                {"idx": k, "name": str(k), "path": path, "type": f"sentence_transformers.models.{kind}"}
                for k, (path, kind) in enumerate(listed)
            ]
        ),
        encoding="utf-8",
    )
    (place / "1_Pooling").mkdir(exist_ok=True)
    (place / "1_Pooling" / "config.json").write_text(
        json.dumps(
            {
                "word_embedding_dimension": width,
                "pooling_mode_cls_token": False,
                "pooling_mode_mean_tokens": True,
                "pooling_mode_max_tokens": False,
            }
        ),
        encoding="utf-8",
    )
    (place / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 256}), encoding="utf-8")


def make_sentence_bert(folder, name):
    modules(bert(folder, name), SMALL["hidden_size"])


def make_dpr(folder):
    tiny_dpr(folder)


def make_dragon(folder):
    for k, tower in enumerate(SETTINGS["DRAGON"][0]):
        bert(folder, tower, seed=k, files=("vocab.txt",))
        (folder / tower / "tokenizer_config.json").write_text(
            '{"do_lower_case": true, "tokenizer_class": "BertTokenizer"}', encoding="utf-8"
        )


def make_colbert(folder):
    place = bert(folder, "colbert-ir/colbertv2.0")
    weights = {f"bert.{k}": v for k, v in load_file(place / "model.safetensors").items()}
    weights["linear.weight"] = torch.randn(128, SMALL["hidden_size"])
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((place / "config.json").read_text(encoding="utf-8")) | {
        "architectures": ["HF_ColBERT"]
    }
    (place / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (place / "artifact.metadata").write_text(
        json.dumps(
            {
                "query_token_id": "[unused0]",
                "doc_token_id": "[unused1]",
                "query_token": "[Q]",
                "doc_token": "[D]",
                "dim": 128,
                "similarity": "cosine",
                "query_maxlen": 32,
                "doc_maxlen": 180,
                "mask_punctuation": True,
                "attend_to_mask_tokens": False,
            }
        ),
        encoding="utf-8",
    )


def make_sentence_t5(folder):
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    place = folder / "sentence-transformers/sentence-t5-base"
    words = sorted({w for text in QUESTIONS + PASSAGES for w in text.split()})
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *[("▁" + w, -3.0) for w in words]]
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(vocabulary), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    T5EncoderModel(config).half().save_pretrained(place)  # the original is in float16 too
    T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(place)
    (place / "special_tokens_map.json").write_text("{}", encoding="utf-8")
    modules(place, 32, dense=True)
    (place / "2_Dense").mkdir()
    (place / "2_Dense" / "config.json").write_text(
        json.dumps(
            {
                "in_features": 32,
                "out_features": 24,
                "bias": False,
                "activation_function": "torch.nn.modules.linear.Identity",
            }
        ),
        encoding="utf-8",
    )
    save_file({"linear.weight": torch.randn(24, 32)}, place / "2_Dense" / "model.safetensors")


def make_clip(folder):
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    place = folder / "openai/clip-vit-base-patch32"
    letters = [chr(c) for c in range(33, 127)]
    pieces = [*letters, *[c + "</w>" for c in letters], "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: n for n, piece in enumerate(pieces)}
    torch.manual_seed(0)
    side = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config=side
        | {
            "vocab_size": len(vocabulary),
            "bos_token_id": len(vocabulary) - 2,
            "eos_token_id": len(vocabulary) - 1,
            "pad_token_id": len(vocabulary) - 1,
        },
        vision_config=side | {"image_size": 32, "patch_size": 8},
        projection_dim=20,
    )
    CLIPModel(config).save_pretrained(place)
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(place)
    (place / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (place / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (place / "special_tokens_map.json").write_text("{}", encoding="utf-8")
    (place / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "feature_extractor_type": "CLIPFeatureExtractor",
                "do_resize": True,
                "size": 32,
                "resample": 3,
                "do_center_crop": True,
                "crop_size": 32,
                "do_normalize": True,
                "image_mean": [0.48145466, 0.4578275, 0.40821073],
                "image_std": [0.26862954, 0.26130258, 0.27577711],
            }
        ),
        encoding="utf-8",
    )


MAKE = {
    "SBERT": lambda folder: make_sentence_bert(folder, "sentence-transformers/bert-base-nli-mean-tokens"),
    "DPR": make_dpr,
    "ColBERT": make_colbert,
    "CLIP": make_clip,
    "Sentence-T5": make_sentence_t5,
    "E5": lambda folder: make_sentence_bert(folder, "intfloat/e5-base-v2"),
    "DRAGON": make_dragon,
}


@pytest.fixture
def originals(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_MODELS", "original")
    monkeypatch.setenv("COURSE_MODELS_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def tiny(request, originals):
    """(name, loaded model, folders of its towers) of a model made for this test."""
    MAKE[request.param](originals)
    folders = [originals / tower for tower in SETTINGS[request.param][0]]
    return request.param, zoo.load(*SETTINGS[request.param], quiet=True), folders


def test_every_model_of_the_table_is_made_here():
    assert set(MAKE) | {"MiniLM", "BGE"} == set(SETTINGS)  # these two the course ships
    named = {tower for towers, *_ in SETTINGS.values() for tower in towers}
    assert named <= set(models.register())


@pytest.mark.parametrize("tiny", ["SBERT", "E5", "Sentence-T5"], indirect=True)
def test_one_tower_agrees_with_sentence_transformers(tiny):
    from sentence_transformers import SentenceTransformer

    name, model, (folder,) = tiny
    library = SentenceTransformer(str(folder), device="cpu", local_files_only=True).float()
    before = SETTINGS[name][1]
    for texts, prefix, encode in [
        (QUESTIONS, before[0], model.encode_queries),
        (PASSAGES, before[1], model.encode_passages),
    ]:
        wanted = library.encode(
            [prefix + t for t in texts], convert_to_tensor=True, normalize_embeddings=True
        )
        got = encode(texts)
        assert got.shape == wanted.shape and got.dtype == torch.float32
        assert torch.allclose(got, wanted, atol=2e-3 if name == "Sentence-T5" else 1e-5)


@pytest.mark.parametrize("tiny", ["E5"], indirect=True)
def test_the_prefix_makes_two_sides_of_one_tower(tiny):
    _, model, _ = tiny
    assert not torch.allclose(model.encode_queries(QUESTIONS), model.encode_passages(QUESTIONS), atol=1e-3)


@pytest.mark.parametrize("tiny", ["DPR"], indirect=True)
def test_dpr_agrees_with_transformers(tiny):
    from transformers import DPRContextEncoder, DPRQuestionEncoder

    _, model, folders = tiny
    sides = [
        (DPRQuestionEncoder, QUESTIONS, model.encode_queries),
        (DPRContextEncoder, PASSAGES, model.encode_passages),
    ]
    for folder, (kind, texts, encode) in zip(folders, sides, strict=True):
        batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
        with torch.no_grad():
            wanted = kind.from_pretrained(folder).eval()(**batch).pooler_output
        assert torch.allclose(encode(texts), normalize(wanted, dim=1), atol=1e-5)


@pytest.mark.parametrize("tiny", ["DRAGON"], indirect=True)
def test_dragon_is_two_berts_their_cls_and_a_dot_product(tiny):
    _, model, folders = tiny
    found = []
    for folder, texts in zip(folders, (QUESTIONS, PASSAGES), strict=True):
        batch = AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
        assert batch["input_ids"].max() > 1000  # the whole vocabulary is there
        with torch.no_grad():
            found.append(BertModel.from_pretrained(folder).eval()(**batch).last_hidden_state[:, 0])
    got = model.scores(model.encode_queries(QUESTIONS), model.encode_passages(PASSAGES))
    assert torch.allclose(got, found[0] @ found[1].T, atol=1e-4)


@pytest.mark.parametrize("tiny", ["ColBERT"], indirect=True)
def test_colbert_is_maxsim_over_projected_tokens(tiny):
    _, model, (folder,) = tiny
    tokenizer, network = AutoTokenizer.from_pretrained(folder), BertModel.from_pretrained(folder).eval()
    linear = load_file(folder / "model.safetensors")["linear.weight"]

    def vectors(ids, attention):
        with torch.no_grad():
            states = network(input_ids=torch.tensor([ids]), attention_mask=torch.tensor([attention]))
        return normalize(states.last_hidden_state[0] @ linear.T, dim=1)

    mark = tokenizer.convert_tokens_to_ids(["[unused0]", "[unused1]"])
    wanted = torch.zeros(len(QUESTIONS), len(PASSAGES))
    for i, question in enumerate(QUESTIONS):
        ids = tokenizer(question).input_ids
        ids = [ids[0], mark[0], *ids[1:]]
        fill = 32 - len(ids)
        q = vectors(ids + [tokenizer.mask_token_id] * fill, [1] * len(ids) + [0] * fill)
        for j, passage in enumerate(PASSAGES):
            ids = tokenizer(passage).input_ids
            ids = [ids[0], mark[1], *ids[1:]]
            words = np.array(
                [
                    p not in list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
                    for p in tokenizer.convert_ids_to_tokens(ids)
                ]
            )
            wanted[i, j] = (q @ vectors(ids, [1] * len(ids))[torch.from_numpy(words)].T).max(1).values.sum()
    got = model.scores(model.encode_queries(QUESTIONS), model.encode_passages(PASSAGES))
    assert torch.allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("tiny", ["CLIP"], indirect=True)
def test_clip_agrees_with_its_own_logits(tiny):
    from PIL import Image
    from transformers import CLIPImageProcessorPil, CLIPModel

    _, model, (folder,) = tiny
    draw = np.random.default_rng(0)
    images = [Image.fromarray(draw.integers(0, 255, (40, 50, 3), dtype=np.uint8)) for _ in range(3)]
    batch = AutoTokenizer.from_pretrained(folder)(QUESTIONS, padding=True, return_tensors="pt")
    batch |= CLIPImageProcessorPil.from_pretrained(folder)(images=images, return_tensors="pt")
    with torch.no_grad():
        whole = CLIPModel.from_pretrained(folder).eval()
        wanted = whole(**batch).logits_per_text / whole.logit_scale.exp()
    got = model.scores(model.encode_queries(QUESTIONS), model.encode_images(images))
    assert got.shape == (2, 3) and torch.allclose(got, wanted, atol=1e-5)


def test_minilm_agrees_with_sentence_transformers(monkeypatch):
    from sentence_transformers import SentenceTransformer

    model = zoo.load(*SETTINGS["MiniLM"], quiet=True)
    library = SentenceTransformer(str(models.path(MINILM, quiet=True)), device="cpu")
    wanted = library.encode(PASSAGES, convert_to_tensor=True, normalize_embeddings=True)
    assert torch.allclose(model.encode_passages(PASSAGES), wanted, atol=1e-5)


def test_bge_agrees_with_sentence_transformers_and_its_prompt():
    from sentence_transformers import SentenceTransformer

    model = zoo.load(*SETTINGS["BGE"], quiet=True)
    library = SentenceTransformer(str(models.path("BAAI/bge-small-en-v1.5", quiet=True)), device="cpu")
    for texts, mine, theirs in [
        (QUESTIONS, model.encode_queries, library.encode_query),
        (PASSAGES, model.encode_passages, library.encode_document),
    ]:
        wanted = theirs(texts, convert_to_tensor=True, normalize_embeddings=True)
        assert torch.allclose(mine(texts), wanted, atol=1e-5)
    unprompted = library.encode(QUESTIONS, convert_to_tensor=True, normalize_embeddings=True)
    assert not torch.allclose(model.encode_queries(QUESTIONS), unprompted, atol=1e-2)


@pytest.mark.parametrize("tiny", ["ColBERT"], indirect=True)
def test_without_masks_the_rows_of_a_questions_own_tokens_are_left(tiny):
    _, model, (folder,) = tiny
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [*QUESTIONS, "why " * 50]
    whole = model.encode_queries(texts)
    cut = model.without_masks(whole, texts)
    for text, before, after in zip(texts, whole, cut, strict=True):
        tokens = ["[CLS]", "[unused0]", *tokenizer.tokenize(text), "[SEP]"]
        assert len(before) == 32 and torch.equal(after, before[: len(tokens)])
        assert len(after) == min(len(tokens), 32)


def test_glove_is_the_mean_of_known_words_and_zeros_without_one():
    model = zoo.GloVe()
    found = model.encode_passages(["The brass king!", "xqzv wqxx", "?!"])
    wanted = np.mean(
        [v / np.linalg.norm(v) for v in (model.table[w] for w in ("the", "brass", "king"))], axis=0
    )
    assert np.allclose(found[0], wanted / np.linalg.norm(wanted), atol=1e-5)
    assert torch.equal(found[1:], torch.zeros(2, 100))
    assert model.scores(found, found)[0].tolist() == pytest.approx([1, 0, 0], abs=1e-5)
    with pytest.raises(ValueError, match="text 1 of 1 is empty"):
        model.encode_queries([" "])


def test_bm25_is_the_librarys_and_no_shared_word_is_no_score():
    import bm25s

    model = zoo.BM25()
    scores = model.scores(
        model.encode_queries(["brass or zinc?", "Who is it?"]), model.encode_passages(PASSAGES)
    )
    index = bm25s.BM25()
    index.index(bm25s.tokenize(PASSAGES, stopwords="en", show_progress=False), show_progress=False)
    assert scores.shape == (2, 3) and scores[0].tolist() == pytest.approx(
        list(index.get_scores(["brass", "zinc"]))
    )
    assert scores[0].argmax() == 2 and scores[0, 2] > 0 and scores[1].tolist() == [0, 0, 0]
    assert model.parameters() == 0
    assert model.scores(model.encode_queries(["of the", "?"]), index).tolist() == [[0, 0, 0]] * 2
    with pytest.raises(ValueError, match="no text has a word that BM25 looks for"):
        model.encode_passages(["of the", "?"])


@pytest.mark.parametrize("tiny", list(MAKE), indirect=True)
def test_order_is_kept_and_parameters_are_counted(tiny):
    _, model, _ = tiny
    both, alone = model.encode_passages(PASSAGES), [model.encode_passages([p])[0] for p in PASSAGES]
    for one, other in zip(both, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    assert model.parameters() > 10_000
    assert model.scores(model.encode_queries(QUESTIONS), both).shape == (2, 3)


@pytest.mark.parametrize("tiny", ["E5", "ColBERT", "CLIP"], indirect=True)
def test_an_empty_text_is_refused_in_one_sentence(tiny):
    _, model, _ = tiny
    with pytest.raises(ValueError, match="text 2 of 2 is empty"):
        model.encode_queries(["who?", " "])
    with pytest.raises(TypeError, match="a list of texts"):
        model.encode_passages("who?")


def test_what_is_not_there_is_named(originals):
    assert zoo.missing(SETTINGS["DRAGON"][0]) == SETTINGS["DRAGON"][0]
    assert zoo.missing(SETTINGS["MiniLM"][0]) == []
    with pytest.raises(FileNotFoundError, match="download intfloat/e5-base-v2"):
        zoo.load(*SETTINGS["E5"], quiet=True)
