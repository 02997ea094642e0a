"""Keep a trained pair of encoders on disk.

from helpers import checkpoints
checkpoints.save("my_pair", question_encoder, answer_encoder, note="first try")
question_encoder, answer_encoder = checkpoints.load("my_pair")
checkpoints.about("my_pair")              # {"note": "first try"}
"""

import contextlib
import json
import re
import secrets
import tempfile
from pathlib import Path

import torch

from helpers import encoders, files

WEIGHTS = re.compile(r"pair-[0-9a-f]{12}\.safetensors")


def save(path: str | Path, question_encoder, answer_encoder, **about: object) -> Path:
    """Write both encoders to the folder `path`: pair-NAME.safetensors and config.json.

    The two may be one encoder, given twice; it is then kept once, and `load` gives it twice.

    about: anything JSON can hold, kept beside them (see `about`). The weights are written under
    a name of their own and config.json, which names them, is put in place last and in one step:
    a break at any moment leaves the checkpoint before or the new one, never half of each.
    Raises as `ready` does, and OSError with one sentence where the disk is full.
    """
    from safetensors.torch import save_file

    path = ready(path)
    path.mkdir(parents=True, exist_ok=True)
    sides = {"question": question_encoder, "answer": answer_encoder}
    if answer_encoder is question_encoder:
        del sides["answer"]
    weights = {
        f"{side}.{name}": value.detach().cpu().contiguous()
        for side, encoder in sides.items()
        for name, value in encoder.state_dict().items()
    }
    name = f"pair-{secrets.token_hex(6)}.safetensors"
    with files.put_whole(path / name, f"the pair in {path.name}/") as part:
        save_file(weights, part)
        digest = files.sha256(part)
    config = {
        "format": 1,
        "weights": name,
        "sha256": digest,
        "about": about,
    }
    config |= {"answer": "question"} | {side: _recipe(encoder) for side, encoder in sides.items()}
    with files.put_whole(path / "config.json", f"the pair in {path.name}/") as part:
        part.write_text(json.dumps(config, indent=1), encoding="utf-8")
    for old in path.iterdir():
        if WEIGHTS.fullmatch(old.name) and old.name != name:
            with contextlib.suppress(PermissionError):  # Windows keeps a file that someone has open
                old.unlink(missing_ok=True)
    return path


def ready(path: str | Path) -> Path:
    """The folder `path`, there or not, into which `save` can write; nothing is made.

    Raises FileExistsError where it is a file, or a folder with other things in it than a checkpoint of
    this course: `save` would write over them. OSError where it cannot be made or written to.
    """
    path = Path(path).expanduser()
    there = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not there.is_dir():
        raise FileExistsError(f"{there.name} is a file; name a folder for the checkpoint")
    try:
        with tempfile.TemporaryFile(dir=there):
            names = sorted(entry.name for entry in path.iterdir()) if there == path else []
    except OSError as e:
        raise type(e)(e.errno, f"{there}/ cannot be written to ({e.strerror}); name another folder") from e
    names = [name for name in names if not name.startswith(".part-")]
    made_here = all(name == "config.json" or WEIGHTS.fullmatch(name) for name in names)
    try:
        ours = WEIGHTS.fullmatch(_config(path)["weights"]) is not None
    except FileNotFoundError:
        ours = made_here  # empty, or a first save that was broken off
    except (ValueError, KeyError, TypeError):
        ours = made_here and any(WEIGHTS.fullmatch(name) for name in names)
    if not ours:
        raise FileExistsError(
            f"{path.name}/ holds files that are no checkpoint of this course ({names[0]}); name another folder"
        )
    return path


def load(path: str | Path) -> tuple[torch.nn.Module, torch.nn.Module]:
    """The question encoder and the answer encoder that `save` wrote, on the CPU, ready to embed.

    Raises FileNotFoundError where there is no checkpoint, ValueError where it is damaged; one
    sentence each.
    """
    from safetensors.torch import load_file

    path = Path(path).expanduser()
    config = _config(path)
    try:
        weights = path / config["weights"]
        if not weights.is_file():
            raise ValueError(f"{weights.name} is missing")
        if files.sha256(weights) != config["sha256"]:
            raise ValueError(f"{weights.name} is not whole")
        values, pair = load_file(weights), []
        for side in ("question", "answer"):
            if config[side] == "question":  # one encoder for both sides
                continue
            encoder = _built(config[side])
            start = f"{side}."
            encoder.load_state_dict(
                {k.removeprefix(start): v for k, v in values.items() if k.startswith(start)}
            )
            pair.append(encoder.eval())
    except Exception as e:
        why = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise ValueError(f"the checkpoint in {path.name}/ is damaged ({why}); save it again") from e
    return pair[0], pair[-1]


def about(path: str | Path) -> dict:
    """What `save` was told to keep beside the encoders. Raises as `load` does."""
    return _config(Path(path).expanduser()).get("about", {})


def _config(path: Path) -> dict:
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"there is no checkpoint in {path.name}/ (no config.json)")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("no JSON object")
    except ValueError as e:
        raise ValueError(
            f"the checkpoint in {path.name}/ is damaged (config.json cannot be read); save it again"
        ) from e
    return config


def _recipe(encoder: torch.nn.Module) -> dict:
    if hasattr(encoder, "form"):
        return {"kind": "TopicAndForm", "layer": encoder.layer, "config": encoder.bert.config.to_diff_dict()}
    if hasattr(encoder, "bert"):
        return {
            "kind": "Pretrained",
            "frozen": getattr(encoder, "frozen", 0),
            "config": encoder.bert.config.to_diff_dict(),
        }
    table, layers = encoder.tokens.weight, encoder.transformer.layers
    sizes = {
        "vocabulary": table.shape[0],
        "width": table.shape[1],
        "layers": len(layers),
        "heads": layers[0].self_attn.num_heads,
        "out": encoder.project.out_features,
        "dropout": layers[0].dropout.p,
    }
    return {"kind": "Encoder", "sizes": sizes}


def _built(recipe: dict) -> torch.nn.Module:
    if recipe["kind"] == "TopicAndForm":
        return encoders.TopicAndForm(layer=recipe["layer"], config=recipe["config"])
    if recipe["kind"] == "Pretrained":
        return encoders.Pretrained(frozen=recipe["frozen"], config=recipe["config"])
    return encoders.Encoder(**recipe["sizes"])
