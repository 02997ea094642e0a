"""Make what the course ships into folders that the libraries open.

An original is shipped in 8 or 16 bits; a stand-in as what distinguishes it from all-MiniLM-L6-v2: a
low-rank adapter (the library peft's format; ColBERT's projection lies beside it), or everything but
the token embeddings. `helpers.models.path` calls `whole` here at first use; the result lies in the
course's cache, as helpers/made.py keeps it there.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import files, made

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BertModel, PreTrainedModel

TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def whole(name: str, kind: str, shipped: Path, minilm: Path) -> Path:
    """The folder of a shipped model that `from_pretrained` opens; made now if it is not there yet.

    kind: a key of `MAKERS`; shipped: the model's folder in models/bundled; minilm: the folder
    of all-MiniLM-L6-v2. The folder's name holds a hash of all that decides what is in it: the shipped
    files, MiniLM's, this module, and the versions of the libraries that merge an adapter. Raises as
    `made.folder` does, and FileNotFoundError where a file of MiniLM's tokenizer is missing.
    """
    digest = hashlib.sha256(kind.encode() + Path(__file__).read_bytes())
    of_minilm = [minilm / file for file in ("config.json", "model.safetensors", *TOKENIZER)]
    if missing := [file.name for file in of_minilm if not file.is_file()]:
        raise FileNotFoundError(f"{', '.join(missing)} of all-MiniLM-L6-v2 is not in {minilm}")
    for file in sorted(f for f in shipped.rglob("*") if f.is_file()) + of_minilm:
        within = file.relative_to(shipped if file.is_relative_to(shipped) else minilm)
        digest.update(within.as_posix().encode() + files.sha256_once(file).encode())
    if kind in MERGED:
        digest.update(repr([metadata.version(library) for library in ("peft", "transformers")]).encode())

    def make(part: Path) -> None:
        MAKERS[kind](shipped, minilm, part)
        for file in TOKENIZER:
            if not (part / file).exists():
                shutil.copy(minilm / file, part / file)

    folder = f"{name.replace('/', '--')}-{digest.hexdigest()[:12]}"
    return made.folder("models", folder, make, f"the folder of {name} (up to 140 MB in the course's cache)")


def raw_bert(shipped: Path, minilm: Path, out: Path) -> None:
    """BertForMaskedLM: the shipped weights, and from MiniLM what masked words did not train, the
    token embeddings (frozen) and the pooler (not used)."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    weights = load_file(shipped / "without_embeddings.safetensors")
    weights = {key: value.astype(np.float32) for key, value in weights.items()}
    for key, value in load_file(minilm / "model.safetensors").items():
        if "word_embeddings" in key or "pooler" in key:
            weights[f"bert.{key}"] = value.astype(np.float32)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(shipped / "config.json", out / "config.json")


def restored(shipped: Path, minilm: Path, out: Path) -> None:
    """A published network in float32, from numbers of 8 or 16 bits and the files beside them.

    A tensor with a scale holds whole numbers: (whole number - zero point) * scale is its value.
    """
    import numpy as np
    from safetensors.numpy import load_file, save_file

    held = load_file(shipped / "compact.safetensors")
    weights = {}
    for key, value in held.items():
        if key.endswith((".scale", ".zero_point")):
            continue
        weights[key] = value.astype(np.float32)
        if f"{key}.scale" in held:
            zero = held[f"{key}.zero_point"].astype(np.float32)
            weights[key] = (weights[key] - zero) * held[f"{key}.scale"]
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    shutil.copytree(shipped, out, ignore=shutil.ignore_patterns("compact.safetensors"), dirs_exist_ok=True)


def dpr(tower: str) -> Callable[[Path, Path, Path], None]:
    """A maker of DPRQuestionEncoder ("question") or DPRContextEncoder ("ctx") folders."""

    def make(shipped: Path, minilm: Path, out: Path) -> None:
        from transformers import BertModel, DPRConfig, DPRContextEncoder, DPRQuestionEncoder

        bert = BertModel.from_pretrained(minilm, add_pooling_layer=False, dtype="float32")
        equal_lengths(bert, json.loads((shipped / "vectors.json").read_text("utf-8"))["length"])
        bert = merged(bert, shipped)
        sizes = (
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "vocab_size",
            "type_vocab_size",
        )
        config = DPRConfig(**{size: getattr(bert.config, size) for size in sizes})
        kind = DPRQuestionEncoder if tower == "question" else DPRContextEncoder
        model = kind(config)
        getattr(model, f"{tower}_encoder").bert_model.load_state_dict(bert.state_dict())
        model.save_pretrained(out)

    return make


def unread(bert: "BertModel") -> "Tensor":
    """The dimensions that the last layer norm multiplies by 0: MiniLM has three, in which it keeps
    large numbers that nothing reads."""
    return (bert.encoder.layer[-1].output.LayerNorm.weight.abs() < 1e-6).nonzero().flatten()


def equal_lengths(bert: "BertModel", length: float) -> None:
    """Give every vector of the last layer this length: its layer norm gets one gain, and no bias.

    A layer norm divides by the spread of the numbers, so a vector of n numbers leaves it with the
    length sqrt(n) times the gain; dot product and cosine then rank alike. What is `unread` would
    now be read, and would be most of every vector, so the last layer is made to keep nothing there.
    """
    import torch

    layer, silent = bert.encoder.layer[-1], unread(bert)
    norms = layer.attention.output.LayerNorm, layer.output.LayerNorm
    with torch.no_grad():
        for weight in (norms[0].weight, norms[0].bias, layer.output.dense.weight, layer.output.dense.bias):
            weight[silent] = 0
        norms[1].weight.fill_(length / norms[1].weight.numel() ** 0.5)
        norms[1].bias.zero_()


def colbert(shipped: Path, minilm: Path, out: Path) -> None:
    """A checkpoint as ColBERT's own code writes it: the encoder under `bert.`, the projection as
    `linear.weight` (128, width), HF_ColBERT in config.json, settings in artifact.metadata."""
    from safetensors.torch import load_file, save_file
    from transformers import BertModel

    bert = BertModel.from_pretrained(minilm, add_pooling_layer=False, dtype="float32")
    bert = merged(bert, shipped)
    weights = {f"bert.{key}": value.contiguous() for key, value in bert.state_dict().items()}
    weights["linear.weight"] = load_file(shipped / "linear.safetensors")["linear.weight"].float()
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    config = bert.config.to_diff_dict() | {"architectures": ["HF_ColBERT"], "model_type": "bert"}
    for key in ("_name_or_path", "dtype"):
        config.pop(key, None)
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    shutil.copy(shipped / "artifact.metadata", out / "artifact.metadata")


def merged(base: "PreTrainedModel", adapter: Path) -> "PreTrainedModel":
    """`base` with a low-rank adapter added into its weights: W + scale * B A."""
    import warnings

    from peft import PeftModel

    with warnings.catch_warnings():  # peft asks transformers by a name that it is about to drop
        warnings.simplefilter("ignore", FutureWarning)
        return PeftModel.from_pretrained(base, adapter).merge_and_unload()


MAKERS = {
    "raw-bert": raw_bert,
    "restored": restored,
    "dpr-question": dpr("question"),
    "dpr-ctx": dpr("ctx"),
    "colbert": colbert,
}
MERGED = {"dpr-question", "dpr-ctx", "colbert"}  # by libraries whose versions may decide the last digits
