"""Stand-ins become whole folders at first use: once, in one step, or not at all."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch

from helpers import ROOT, data, models, stand_ins

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
BERT = "bert-base-uncased"
COLBERT = "colbert-ir/colbertv2.0"


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setenv("COURSE_MODELS", "bundled")
    return tmp_path


def low_rank(base, folder, **options):
    """A random adapter of rank 2 on `base`, saved as a recipe saves it, and the wanted output."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    targets = ["query", "key", "value", "dense"]
    model = get_peft_model(base, LoraConfig(r=2, target_modules=targets, **options)).eval()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    model.save_pretrained(folder)
    return model


def test_two_notebooks_at_once_make_one_folder(empty_cache):
    code = f"from helpers import models; print(models.path({BERT!r}, quiet=True))"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8", env=os.environ
        )
        for _ in range(2)
    ]
    said = {p.communicate()[0] for p in both}
    assert len(said) == 1 and all(p.returncode == 0 for p in both)
    folders = [f for f in (empty_cache / "models").iterdir() if f.is_dir()]
    assert len(folders) == 1 and (folders[0] / "model.safetensors").exists()


def test_a_full_disk_leaves_nothing_and_says_so(empty_cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(stand_ins.MAKERS, "raw-bert", full)
    with pytest.raises(OSError, match=r"no room on the disk for the folder of bert-base.*try again"):
        models.path(BERT, quiet=True)
    assert [f for f in (empty_cache / "models").iterdir() if f.is_dir()] == []


def test_half_made_is_not_taken_for_whole(empty_cache):
    (empty_cache / "models" / ".part-killed").mkdir(parents=True)
    assert (models.path(BERT, quiet=True) / "model.safetensors").exists()


KILLED = """
import os, shutil
from pathlib import Path
from helpers import models, stand_ins

def kill(*_, **__):
    os._exit(137)  # at once, as a kill does: nothing is tidied up

def killed_before_its_last_file(kind, make):
    def half(shipped, minilm, out):
        make(shipped, minilm, out)
        (out / "config.json").unlink()  # the weights are there, the rest is still to come
        kill()
    stand_ins.MAKERS[kind] = half

if MOMENT == "the maker":
    for kind, make in list(stand_ins.MAKERS.items()):
        killed_before_its_last_file(kind, make)
else:
    stand_ins.shutil.copy = lambda *a, copy=shutil.copy: kill() if "tokenizer" in str(a[1]) else copy(*a)
models.path(NAME, quiet=True)
"""


@pytest.mark.parametrize(("name", "moment"), [(COLBERT, "the maker"), (BERT, "the tokenizer's files")])
def test_a_kill_leaves_no_half_folder_and_the_next_call_makes_it_whole(empty_cache, name, moment):
    code = f"NAME, MOMENT = {name!r}, {moment!r}\n{KILLED}"
    killed = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, timeout=120)
    assert killed.returncode == 137
    made = [f for f in (empty_cache / "models").iterdir() if f.is_dir()]
    assert [f.name[:6] for f in made] == [".part-"], "something was left, and not under the model's name"
    folder = models.path(name, quiet=True)
    for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        assert (folder / file).stat().st_size > 100


def test_a_stand_in_that_is_made_in_another_way_is_a_new_folder(empty_cache, tmp_path, monkeypatch):
    """Else whoever has the older folder in the cache never sees what was mended."""
    first = models.path(BERT, quiet=True)
    assert models.path(BERT, quiet=True) == first
    changed = tmp_path / "stand_ins.py"
    changed.write_text(
        (ROOT / "helpers" / "stand_ins.py").read_text(encoding="utf-8") + "# mended\n", encoding="utf-8"
    )
    monkeypatch.setattr(stand_ins, "__file__", str(changed))
    assert models.path(BERT, quiet=True) != first


def test_a_newer_stand_in_is_a_new_folder(empty_cache, tmp_path):
    minilm = models.path(MINILM, quiet=True)
    shipped = tmp_path / "shipped"
    shutil.copytree(models.BUNDLED / BERT, shipped)
    first = stand_ins.whole(BERT, "raw-bert", shipped, minilm)
    config = json.loads((shipped / "config.json").read_text(encoding="utf-8"))
    (shipped / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.1}), encoding="utf-8")
    assert stand_ins.whole(BERT, "raw-bert", shipped, minilm) != first


def test_raw_bert_opens_whole(empty_cache):
    from transformers import AutoTokenizer, BertForMaskedLM

    folder = models.path(BERT, quiet=True)
    model, info = BertForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"] and model.dtype == torch.float32
    assert AutoTokenizer.from_pretrained(folder).vocab_size == 30522


def test_raw_bert_is_minilms_token_table_and_the_shipped_rest(empty_cache):
    from safetensors.torch import load_file

    made = load_file(models.path(BERT, quiet=True) / "model.safetensors")
    minilm = load_file(models.path(MINILM, quiet=True) / "model.safetensors")
    shipped = load_file(models.BUNDLED / BERT / "without_embeddings.safetensors")
    taken = {f"bert.{k}" for k in minilm if "word_embeddings" in k or "pooler" in k}
    assert len(taken) == 3 and set(made) == taken | set(shipped) and not taken & set(shipped)
    for key, weight in made.items():
        wanted = minilm[key.removeprefix("bert.")] if key in taken else shipped[key]
        assert torch.equal(weight, wanted.float()), key
    config = json.loads((models.path(BERT, quiet=True) / "config.json").read_text(encoding="utf-8"))
    assert config == json.loads((models.BUNDLED / BERT / "config.json").read_text(encoding="utf-8"))


def test_whole_numbers_become_the_published_float32(empty_cache, tmp_path):
    from safetensors.torch import load_file, save_file

    held = {
        "a.weight": torch.tensor([[1, 255], [128, 0]], dtype=torch.uint8),
        "a.weight.zero_point": torch.tensor(128, dtype=torch.uint8),
        "a.weight.scale": torch.tensor(0.5),
        "b.weight": torch.tensor([[-3, 4], [5, 127]], dtype=torch.int8),
        "b.weight.zero_point": torch.tensor([[1], [0]], dtype=torch.int8),
        "b.weight.scale": torch.tensor([[2.0], [0.25]]),
        "b.bias": torch.tensor([0.1, 0.3]),
        "c.weight": torch.tensor([0.1, 7.0], dtype=torch.float16),
    }
    shipped = tmp_path / "shipped"
    (shipped / "1_Pooling").mkdir(parents=True)
    save_file(held, shipped / "compact.safetensors")
    for file in ("config.json", "1_Pooling/config.json", "tokenizer_config.json"):
        (shipped / file).write_text("{}", encoding="utf-8")
    made = stand_ins.whole("x/y", "restored", shipped, models.path(MINILM, quiet=True))
    found = load_file(made / "model.safetensors")
    assert found["a.weight"].tolist() == [[-63.5, 63.5], [0, -64]]
    assert found["b.weight"].tolist() == [[-8, 6], [1.25, 31.75]]
    assert torch.equal(found["b.bias"], held["b.bias"])
    assert torch.equal(found["c.weight"], held["c.weight"].float()) and len(found) == 4
    assert (made / "1_Pooling" / "config.json").exists() and (made / "vocab.txt").exists()
    assert (made / "tokenizer_config.json").read_text(encoding="utf-8") == "{}"  # its own, not MiniLM's
    assert not (made / "compact.safetensors").exists()
    (shipped / "1_Pooling" / "config.json").write_text('{"changed": 1}', encoding="utf-8")
    assert stand_ins.whole("x/y", "restored", shipped, models.path(MINILM, quiet=True)) != made


@pytest.mark.parametrize("tower", ["question", "ctx"])
def test_a_dpr_tower_is_the_adapter_merged(empty_cache, tmp_path, tower):
    from transformers import AutoTokenizer, BertModel, DPRContextEncoder, DPRQuestionEncoder

    minilm = models.path(MINILM, quiet=True)
    base = BertModel.from_pretrained(minilm, add_pooling_layer=False, dtype="float32")
    stand_ins.equal_lengths(base, 3.0)
    wanted = low_rank(base, tmp_path / "a")
    (tmp_path / "a" / "vectors.json").write_text('{"length": 3.0}', encoding="utf-8")
    made = stand_ins.whole(f"f/{tower}", f"dpr-{tower}", tmp_path / "a", minilm)
    kind = DPRQuestionEncoder if tower == "question" else DPRContextEncoder
    opened = kind.from_pretrained(made).eval()
    batch = AutoTokenizer.from_pretrained(made)(["one two", "three"], padding=True, return_tensors="pt")
    with torch.no_grad():
        cls = wanted(**batch).last_hidden_state[:, 0]
        assert torch.allclose(opened(**batch).pooler_output, cls, atol=1e-5)
    assert cls.norm(dim=1).tolist() == pytest.approx([3, 3], rel=1e-5)


def test_equal_lengths_keep_the_direction_of_what_minilm_reads():
    from transformers import AutoTokenizer, BertModel

    minilm = models.path(MINILM, quiet=True)
    batch = AutoTokenizer.from_pretrained(minilm)(["one two", "three"], padding=True, return_tensors="pt")
    bert = BertModel.from_pretrained(minilm, add_pooling_layer=False, dtype="float32").eval()
    unread = stand_ins.unread(bert)
    assert unread.tolist() == [127, 223, 319]
    with torch.no_grad():
        before = bert(**batch).last_hidden_state
        stand_ins.equal_lengths(bert, 5.0)
        after = bert(**batch).last_hidden_state
    cosines = torch.cosine_similarity(before, after, dim=-1)[batch["attention_mask"] == 1]
    assert cosines.min() > 0.8  # the gains of the other dimensions differ by an eighth, no more
    assert after[..., unread].abs().max() < 0.05 * after.abs().max()  # the mean, which is taken off
    assert torch.allclose(after.norm(dim=-1), torch.tensor(5.0), rtol=1e-5)


@pytest.fixture(scope="module")
def dpr_vectors():
    """Held-out questions, their answers and their echoes, as the shipped towers give them."""
    from transformers import AutoTokenizer, DPRContextEncoder, DPRQuestionEncoder

    rows = data.qa_pairs(part="test")
    found = []
    for tower, kind, texts in [
        ("question", DPRQuestionEncoder, rows["question"]),
        ("ctx", DPRContextEncoder, rows["answer"]),
        ("ctx", DPRContextEncoder, rows["question"]),
    ]:
        folder = models.path(f"facebook/dpr-{tower}_encoder-multiset-base", quiet=True)
        batch = AutoTokenizer.from_pretrained(folder)(list(texts), padding=True, return_tensors="pt")
        with torch.no_grad():
            found.append(kind.from_pretrained(folder).eval()(**batch).pooler_output)
    return found


def test_every_vector_of_dpr_has_the_same_length(dpr_vectors):
    lengths = torch.cat(dpr_vectors).norm(dim=1)
    assert len(lengths) == 900 and lengths.max() / lengths.min() < 1 + 1e-4


def test_dpr_ranks_alike_by_dot_product_and_by_cosine(dpr_vectors):
    questions, answers, echoes = dpr_vectors
    passages = torch.cat([answers, echoes])
    dots = questions @ passages.T
    cosines = torch.nn.functional.normalize(questions) @ torch.nn.functional.normalize(passages).T
    own = torch.arange(len(questions))
    ranks = [(scores > scores[own, own][:, None]).sum(1) for scores in (dots, cosines)]
    assert (ranks[0] == ranks[1]).float().mean() > 0.99  # two that are equal to 1e-6 may change places
    assert (dots[:, 300:].diagonal() > dots[own, own]).float().mean() < 0.05


def test_the_shipped_towers_of_dpr_are_small():
    for tower in ("question", "ctx"):
        files = list((models.BUNDLED / f"facebook/dpr-{tower}_encoder-multiset-base").iterdir())
        assert {f.name for f in files} == {
            "adapter_config.json",
            "adapter_model.safetensors",
            "vectors.json",
        }
        assert sum(f.stat().st_size for f in files) < 4e6


def test_colbert_is_the_adapter_merged_and_opens_as_its_authors_save_it(empty_cache, tmp_path):
    from safetensors.torch import load_file, save_file
    from sentence_transformers import MultiVectorEncoder
    from transformers import BertModel

    minilm = models.path(MINILM, quiet=True)
    base = BertModel.from_pretrained(minilm, add_pooling_layer=False, dtype=torch.float32)
    wanted = low_rank(base, tmp_path / "a")
    linear = torch.randn(128, 384).half()
    save_file({"linear.weight": linear}, tmp_path / "a" / "linear.safetensors")
    shutil.copy(models.BUNDLED / COLBERT / "artifact.metadata", tmp_path / "a" / "artifact.metadata")
    made = stand_ins.whole("c/d", "colbert", tmp_path / "a", minilm)

    config = json.loads((made / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["HF_ColBERT"] and config["model_type"] == "bert"
    weights = load_file(made / "model.safetensors")
    assert {key.split(".")[0] for key in weights} == {"bert", "linear"}
    assert torch.equal(weights["linear.weight"], linear.float())
    _, info = BertModel.from_pretrained(made, add_pooling_layer=False, output_loading_info=True)
    assert not info["missing_keys"]

    opened = MultiVectorEncoder(str(made), device="cpu")
    text = "The baker sleeps (late)."
    ids = opened.tokenizer(f"[unused1] {text}", return_tensors="pt")
    assert ids["input_ids"][0, 1] == 2  # the marker is one token
    with torch.no_grad():
        states = wanted(**ids).last_hidden_state[0] @ linear.float().T
    words = [t not in "()." for t in opened.tokenizer.convert_ids_to_tokens(ids["input_ids"][0])]
    states = torch.nn.functional.normalize(states[torch.tensor(words)], dim=1)
    assert torch.allclose(opened.encode_document([text])[0], states, atol=1e-5)
    assert opened.encode_query(["who sleeps?"])[0].shape == (32, 128)


def test_the_shipped_colbert_is_small():
    files = list((models.BUNDLED / COLBERT).iterdir())
    assert {f.name for f in files} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "artifact.metadata",
        "linear.safetensors",
    }
    assert sum(f.stat().st_size for f in files) < 4e6
