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
    python -m helpers.models clean              remove what the course can make again, and broken downloads

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
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import ROOT, files, hub, made, stand_ins

if TYPE_CHECKING:
    import numpy as np
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
    (its first use writes 100 to 140 MB to the cache), PermissionError where there is no place to.
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
    note = _not_used(name, entry) if mode != "bundled" else ""
    get_it += note
    if "package" in entry:  # the original's own files, carried by a package on PyPI
        return _packaged(name, entry), ": the original."
    if "kept" in entry:  # the original, in the course's own compact files
        return _unpacked(name, entry), f": the original, {entry['kept']}.{note}"
    if "instead" in entry and mode != "original":
        folder, line = _find(entry["instead"])
        return folder, f" is not on this machine; in its place {entry['instead']}{line} For {name} {get_it}"
    if mode == "original" or not _has_stand_in(name, entry):
        raise FileNotFoundError(
            f"{name} is not on this machine. To get it ({_size(entry)}), run:  "
            f"python -m helpers.models download {name}{note}"
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
    import zlib

    try:
        if "news" in file.name or ".bin" in file.suffixes:
            from gensim.models import KeyedVectors

            vectors = KeyedVectors.load_word2vec_format(file, binary=True, limit=limit)
        else:
            vectors = _read_text_vectors(file, limit)
        if not vectors.vector_size or not len(vectors):
            raise ValueError("no numbers in its first line")
        return vectors
    except (EOFError, OSError, ValueError, TypeError, IndexError, zlib.error) as e:
        raise ValueError(
            f"{file.name} is cut off or is no table of word vectors ({e}). Delete it and run:  "
            f"python -m helpers.models download {file.parent.name}"
        ) from e


def _read_text_vectors(file: Path, limit: int | None) -> "KeyedVectors":
    """Rows of a word and its numbers, with or without word2vec's first line.

    A word may hold spaces, as 37 of GloVe's 840B do, on which gensim's own reader stops: the numbers
    are counted from the end of the row. A word that comes a second time is left out, as gensim does.
    """
    import gzip
    from array import array

    import numpy as np
    from gensim.models import KeyedVectors

    opener = gzip.open if file.suffix == ".gz" else open
    words, numbers, width, announced, rows = {}, array("f"), 0, None, 0
    with opener(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")  # a byte-order mark
                if len(head := line.split()) == 2 and all(part.isdigit() for part in head):
                    announced, width = map(int, head)
                    continue
            if not line.strip():
                continue  # the last line of some files
            if rows == limit:
                break
            line = line.rstrip(b"\r\n ")
            width = width or line.count(b" ")
            word, *row = line.rsplit(b" ", width)
            row = _numbers(row)
            # the commonest word has no spaces: a first row of other length speaks against the header
            if not word or len(row) != width or not width or (rows == 0 and line.count(b" ") != width):
                raise ValueError(f"line {number} is not a word and {width} numbers")
            rows += 1
            if words.setdefault(word.decode("utf-8"), len(words)) == len(numbers) // width:
                numbers.frombytes(row.tobytes())
    if announced is not None and rows != announced and rows != limit:
        raise ValueError(f"its first line announces {announced:,} words and it holds {rows:,}")
    if not words:
        raise ValueError("it holds no words")
    vectors = KeyedVectors(width)
    vectors.add_vectors(list(words), np.frombuffer(numbers, dtype="float32").reshape(-1, width))
    return vectors


def _numbers(row: list[bytes]) -> "np.ndarray":
    """float32 of what is written; none where one of them is no number."""
    import numpy as np

    try:
        with np.errstate(over="ignore"):
            numbers = np.array(row, dtype="float32")
    except ValueError:
        return np.array([])
    return numbers if np.isfinite(numbers).all() else np.array([])


def download(name: str) -> Path:
    """Fetch an original from its publisher, with progress; return its folder.

    Resumed after a break, checked against the publisher's hashes, put in place only when
    whole. The commit and the hashes are recorded in models/lock.toml, and later downloads
    must agree with them; so is that of a file that was converted here. Raises KeyError (name),
    ConnectionError, FileNotFoundError, OSError (no room), PermissionError (another user's folder),
    ValueError (damaged, or not the file known from before, or a network that is not set up right).
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
    """Read every file on disk: originals, what was converted, what is shipped, what is in the cache.

    Returns one sentence for each that is not as recorded.
    """
    wrong = []
    for name, entry in register().items():
        try:
            if "package" in entry:
                _packaged(name, entry)
            if "bundled" in entry:
                _checked(BUNDLED / name, tuple(entry["bundled"].items()))
        except (ValueError, FileNotFoundError) as e:
            wrong.append(str(e))
        known = _known(name, entry)
        for file in hub.expected_files(entry) if "files" in entry else []:
            target = originals() / name / file
            if target.exists() and file in known and files.sha256(target) != known[file]:
                wrong.append(f"{name}/{file} is damaged: delete it and download {name} again.")
        if lacking := _lacking(name, entry):
            wrong.append(f"{name} lacks {', '.join(lacking)}: download {name} again.")
    return wrong + made.verify()


def clean() -> tuple[int, list[str]]:
    """Remove what the course can make again, and what broken downloads left.

    From the cache the folders of unpacked models and the documentation text, of this and of earlier
    versions, and the remains of runs that were killed; from the folder of originals what had not
    arrived whole. Returns the bytes freed, and a sentence for each thing that was left because it is
    not the course's. What a lesson or a download is writing at this moment is left.
    """
    freed, left = made.clean(register())
    freed += sum(made.remove(path) for path in made.strays(originals()))
    partial = originals() / ".partial"
    for name in register():
        lock, rests = partial / f"{hub.stem(name)}.lock", f"{hub.stem(name)}@*"
        if not (lock.exists() or any(partial.glob(rests))):
            continue
        with made.held(lock) as alone:
            if alone:
                hub.put_back(partial, name, originals() / name)
                freed += sum(made.remove(path) for path in partial.glob(rests))
            else:
                left.append(f"{partial} is left: a download of {name} is going on, or is another user's.")
        if alone:
            made.remove(lock)
    return freed, left


def _known(name: str, entry: dict) -> dict[str, str]:
    """The known hashes of a model's files as they lie on disk; the register's count most."""
    record = _lock().get(name, {})
    return record.get("sha256", {}) | record.get("converted", {}) | entry.get("sha256", {})


def _has_stand_in(name: str, entry: dict) -> bool:
    return "stand_in" in entry and (BUNDLED / name).exists()


def originals() -> Path:
    """The folder that originals lie in. Raises ValueError for a ~ without a home."""
    named = os.environ.get("COURSE_MODELS_DIR")
    return files.place(named, "COURSE_MODELS_DIR") if named else ROOT / "models"


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
    if "files" not in entry:
        return None
    if hub.is_whole(originals() / name, entry):
        return originals() / name
    return next((folder for folder, whole in _hub_copies(name, entry) if whole), None)


def _hub_copies(name: str, entry: dict) -> Iterator[tuple[Path, bool]]:
    """The copies in the Hugging Face cache, the pinned commit first, and whether each is the original.

    It is where every file has the known hash; at the pinned commit the hash by which the hub knows a
    file, which is the name that the cache keeps it under, does for one whose hash is not recorded.
    """
    if "repo" not in entry:
        return
    from huggingface_hub import try_to_load_from_cache

    expected, known = hub.expected_files(entry), _known(name, entry)
    pinned = entry.get("revision") or _lock().get(name, {}).get("revision")
    for repo in dict.fromkeys((entry["repo"], name)):
        for revision in filter(None, (pinned, "main")):
            try:
                found = [
                    try_to_load_from_cache(repo, f, revision=revision, repo_type=entry.get("kind", "model"))
                    for f in expected
                ]
                if not all(isinstance(f, str) for f in found):
                    continue
                folder = Path(found[0]).parents[expected[0].count("/")]
                hashes = [
                    known.get(f) or (Path(path).resolve().name if folder.name == pinned else "")
                    for f, path in zip(expected, found, strict=True)
                ]
                yield folder, all(_has_hash(Path(f), h) for f, h in zip(found, hashes, strict=True))
            except OSError:  # another user's cache
                continue


def _has_hash(file: Path, hash_: str) -> bool:
    if len(hash_) == 64:
        return files.sha256_once(file) == hash_
    return len(hash_) == 40 and hub.digest(file)["blob"] == hash_


def _lacking(name: str, entry: dict) -> list[str]:
    """The files that the folder of an original lacks, or has empty, while others are there."""
    lacking = hub.lacking(originals() / name, entry) if "files" in entry else []
    return lacking if len(lacking) < len(entry.get("files", [])) else []


def _not_used(name: str, entry: dict) -> str:
    """What a message adds where something under this name is on disk that cannot be taken."""
    if lacking := _lacking(name, entry):
        return f" (the folder {originals() / name} is not used: it lacks {', '.join(lacking)})"
    if any(not whole for _, whole in _hub_copies(name, entry)):
        return " (the copy in the Hugging Face cache is not used: its hashes are not those known here)"
    return ""


@functools.cache
def _package_folder(package: str, hashes: tuple[tuple[str, str], ...]) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise FileNotFoundError(
            f"the package {package} is missing; run:  make setup   (without make: the pip "
            "commands of README.md)"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    for file, found in _others(folder, hashes):
        raise ValueError(
            f"{file} of the package {package} is not the published one (sha256 {found}); run:  "
            f"pip install --force-reinstall --no-deps {package.replace('_', '-')}"
        )
    return folder


def _others(folder: Path, hashes: tuple[tuple[str, str], ...]) -> Iterator[tuple[str, str]]:
    """The files that have another hash than the known one, and that hash, or "missing"."""
    for file, sha256 in hashes:
        found = files.sha256_once(folder / file) if (folder / file).is_file() else "missing"
        if found != sha256:
            yield file, found


def _packaged(name: str, entry: dict) -> Path:
    return _package_folder(entry["package"], tuple(entry["sha256"].items()))


@functools.cache
def _checked(folder: Path, hashes: tuple[tuple[str, str], ...]) -> None:
    for file, found in _others(folder, hashes):
        raise ValueError(
            f"{file} in models/bundled/{folder.relative_to(BUNDLED)} is not the one this course "
            f"shipped (sha256 {found}); run:  git checkout -- models/bundled"
        )


def _unpacked(name: str, entry: dict) -> Path:
    """What is shipped under this name as a folder that `from_pretrained` opens."""
    _checked(BUNDLED / name, tuple(entry["bundled"].items()))
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
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except PermissionError as e:
        raise PermissionError(e.errno, f"{file} cannot be read: {files.whose(file)}") from e
    except ValueError as e:
        raise ValueError(f"{file} cannot be read ({e}); correct it, or delete it and download again") from e


def _write_lock(name: str, record: dict) -> None:
    import tomli_w

    file = originals() / "lock.toml"
    with files.locked(originals() / ".partial" / "lock.toml.lock", needed=True):
        records = dict(sorted((_lock() | {name: record}).items()))
        with files.put_whole(file) as part:
            part.write_text(HEAD + tomli_w.dumps(records), encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        print("\nstopped; what has arrived is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except (KeyError, OSError, ValueError) as e:
        print(files.sentence(e), file=sys.stderr)
        return 1


def _main(arguments: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m helpers.models", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("table", help="what is on disk (the default)")
    commands.add_parser("verify", help="check the hash of every file on disk")
    commands.add_parser("clean", help="remove what the course can make again, and broken downloads")
    get = commands.add_parser("download", help="fetch originals from their publishers")
    get.add_argument("names", nargs="*", metavar="NAME")
    get.add_argument("--core", action="store_true", help="the originals of lessons 1 to 7")
    get.add_argument("--all", action="store_true", help="every original that can be downloaded")
    asked = parser.parse_args(arguments)
    if asked.command == "verify":
        wrong = verify()
        print("\n".join(wrong) or "every file with a known hash is as published")
        return 1 if wrong else 0
    if asked.command == "clean":
        freed, left = clean()
        print("\n".join([*left, f"{freed / 1e6:,.0f} MB freed"]))
        return 0
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
            print(f"{name}: {files.sentence(e)}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
