"""A text that every reader has: the documentation strings of the libraries of this course.

    from helpers import documentation
    documentation.corpus()     # a DataFrame: library, object, kind, text
    documentation.passages()   # lesson 13's: library, kind, object, chunk, text; whole=True: code and types too
    documentation.pairs("dev")  # lesson 6's: library, object, question (a first sentence), answer (what follows)

The libraries are read as text, never imported: their files are parsed, the documentation strings
are taken and cleaned to prose (helpers/prose.py; a paragraph that stands in several places is kept
at the first). The
pinned versions give the same text on every machine and every Python. It is made once, in about
ten seconds, and lies in the course's cache afterwards.
"""

import ast
import hashlib
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import made
from helpers import prose as cleaning
from helpers.prose import plain, prose

if TYPE_CHECKING:
    import pandas

_SENTENCE_END = re.compile(r"(?<=[.!?]) ")
COLUMNS = ["library", "object", "kind", "text"]
SHORTEST = 8  # words; a shorter text says nothing

# package -> distribution. All of them stand in requirements.txt or are required by torch.
LIBRARIES = {
    "datasets": "datasets",
    "gensim": "gensim",
    "huggingface_hub": "huggingface_hub",
    "joblib": "joblib",
    "matplotlib": "matplotlib",
    "networkx": "networkx",
    "numpy": "numpy",
    "pandas": "pandas",
    "scipy": "scipy",
    "seaborn": "seaborn",
    "sentence_transformers": "sentence-transformers",
    "sklearn": "scikit-learn",
    "tokenizers": "tokenizers",
    "torch": "torch",
    "transformers": "transformers",
}

SEARCHED = ["numpy", "pandas", "sklearn", "gensim", "sentence_transformers"]  # by lesson 13

# Lesson 6 trains on the first eight, chooses on two, and looks once at five that nothing was trained on,
# which are those that lesson 13 searches: what lesson 6 trains has read none of lesson 13's text.
PARTS = {
    "train": [
        "datasets",
        "joblib",
        "matplotlib",
        "scipy",
        "seaborn",
        "tokenizers",
        "torch",
        "transformers",
    ],
    "dev": ["huggingface_hub", "networkx"],
    "test": SEARCHED,
}

# Tests, copies of other projects, old names kept for compatibility, machinery that nobody calls.
SKIP = re.compile(
    r"(^|/)(tests?|testing|_testing|conftest|externals?|extern|_?vendor(ed)?|_?compat|_lib"
    r"|array_api_\w+|_pyinstaller|_?version|__config__|dummy_\w+|setup|deprecated)(\.py|/|$)"
    r"|^numpy/(core|distutils|f2py|typing|_build_utils)/|^numpy/matlib"
    r"|^torch/(_[^/]+/|onnx/_internal/|ao/|fx/|jit/|package/|csrc/|include/|share/|utils/hipify)"
    r"|^torch/(.+/)?_(tensor_docs|meta_registrations|lowering)\.py|^torch/distributed/.*/_"
    r"|^transformers/(models/|kernels/|cli/|conversion_mapping)"
)


def corpus() -> "pandas.DataFrame":
    """The prose of the libraries' documentation, one row a documented object.

    Columns: library (the name that `import` takes), object (its dotted name where it is defined),
    kind (module, class, function or method), text (a paragraph a line); sorted by library and
    object. The first call makes it and shows its progress; later ones read it from the cache.
    Raises FileNotFoundError where a library is missing, else as `made.folder` does.
    """
    import pandas

    def make(part: Path) -> None:
        _table(_extract()).to_parquet(part / "corpus.parquet", compression="zstd", index=False)

    place = made.folder(
        "docs", f"corpus-{_key()}", make, "the documentation text (about 5 MB in the course's cache)"
    )
    return pandas.read_parquet(place / "corpus.parquet")


def whole_texts() -> "pandas.DataFrame":
    """The documentation strings of the libraries in `SEARCHED` as they stand, with code, types and tables.

    The objects are those of `corpus`, in its order and with its columns; a paragraph that stands in
    several places is kept at the first. Made and kept as `corpus` is, and raises as it does.
    """
    import pandas

    def make(part: Path) -> None:
        rows = _extract(SEARCHED, plain, objects=set(corpus()["object"]))
        _table(rows).to_parquet(part / "whole.parquet", compression="zstd", index=False)

    place = made.folder(
        "docs", f"whole-{_key()}", make, "the whole documentation strings (about 3 MB in the course's cache)"
    )
    return pandas.read_parquet(place / "whole.parquet")


def passages(
    size: int = 100, overlap: int = 20, titled: bool = True, whole: bool = False
) -> "pandas.DataFrame":
    """Every passage of the libraries in `SEARCHED`: columns library, kind, object, chunk (from 0), text.

    A text begins with its object's name in words, if `titled`; `whole`: the text with code, types and
    tables, not the prose alone. Raises as `cut` and `corpus`.
    """
    import pandas

    table = whole_texts() if whole else corpus()
    rows = []
    for row in table[table["library"].isin(SEARCHED)].itertuples():
        head = f"{title(row.object)}: " if titled else ""
        for chunk, piece in enumerate(cut(row.text, size, overlap)):
            rows.append((row.library, row.kind, row.object, chunk, head + piece))
    return pandas.DataFrame(rows, columns=["library", "kind", "object", "chunk", "text"])


def pairs(part: str | None = None) -> "pandas.DataFrame":
    """The first sentence of a text as a question, the 36 words after it as its answer.

    Columns library, object, question, answer; part: "train", "dev" or "test" (see `PARTS`), or all.
    A first sentence has at least 4 words and an answer 12; a sentence or an answer that comes a second
    time is left out, so that no text is in two parts. Raises ValueError for another part, else as `corpus`.
    """
    import pandas

    if part is not None and part not in PARTS:
        raise ValueError(
            f"there is no part {part!r} of the documentation's pairs; name one of {', '.join(PARTS)}"
        )
    rows = []
    for row in corpus().itertuples():
        first, _, rest = _SENTENCE_END.sub("\n", " ".join(row.text.split()), count=1).partition("\n")
        words = rest.split()
        if len(first.split()) >= 4 and len(words) >= 12:
            rows.append((row.library, row.object, first, " ".join(words[:36])))
    table = pandas.DataFrame(rows, columns=["library", "object", "question", "answer"])
    table = table[~(table["question"].duplicated() | table["answer"].duplicated())]
    if part is not None:
        table = table[table["library"].isin(PARTS[part])]
    return table.reset_index(drop=True)


def cut(text: str, size: int = 100, overlap: int = 20) -> list[str]:
    """Pieces of at most `size` words; each begins with the last `overlap` words of the one before.

    >>> cut("a b c d e f g", size=4, overlap=1)
    ['a b c d', 'd e f g']

    Raises ValueError for an overlap that is not from 0 to below the size.
    """
    if not 0 <= overlap < size:
        raise ValueError(f"the overlap must be from 0 to {size - 1} words, not {overlap}")
    words = text.split()
    starts = range(0, max(len(words) - overlap, 1), size - overlap)
    return [" ".join(words[i : i + size]) for i in starts]


def title(name: str) -> str:
    """The name of an object in words: "pandas.core.frame.DataFrame" -> "pandas core frame DataFrame"."""
    return re.sub(r"[._]+", " ", name).strip()


def _key() -> str:
    """A short hash of what decides the text: the libraries' versions, this module and prose.py."""
    try:
        known = {d: metadata.version(d).partition("+")[0] for d in LIBRARIES.values()}
    except metadata.PackageNotFoundError as e:
        raise FileNotFoundError(
            f"the library {e.name} is missing; run:  make setup   (without make: the pip "
            "commands of README.md)"
        ) from None
    code = b"".join(Path(module).read_bytes() for module in (__file__, cleaning.__file__))
    return hashlib.sha256(repr(sorted(known.items())).encode() + code).hexdigest()[:12]


def _table(rows: list[tuple[str, str, str, str]]) -> "pandas.DataFrame":
    import pandas

    return pandas.DataFrame(rows, columns=COLUMNS).astype("str")


def _extract(
    libraries: Iterable[str] | None = None,
    clean: Callable[[str], str] = prose,
    objects: set[str] | None = None,
) -> list[tuple[str, str, str, str]]:
    """Every row of the corpus, sorted, each paragraph once; a text too short to say anything is left out.

    libraries: by default all; clean: from a string to its paragraphs, one a line; objects: these alone,
    the short ones too.
    """
    from tqdm.auto import tqdm

    files = []
    for library in libraries or LIBRARIES:
        folder = Path(str(metadata.distribution(LIBRARIES[library]).locate_file(library)))
        names = [(p.relative_to(folder.parent).as_posix(), p) for p in folder.rglob("*.py")]
        files += [(library, name, p) for name, p in sorted(names) if not SKIP.search(name)]
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for library, name, p in tqdm(files, desc="reading documentation"):
        for object_, kind, raw in strings(p.read_bytes(), name):
            if objects is None or object_ in objects:
                found.setdefault((library, object_), (kind, raw))
    rows, seen = [], set()
    for (library, object_), (kind, raw) in tqdm(sorted(found.items()), desc="cleaning it"):
        kept = []
        for paragraph in clean(raw).split("\n"):
            if paragraph.lower() not in seen:
                seen.add(paragraph.lower())
                kept.append(paragraph)
        text = "\n".join(kept)
        if objects or len(text.split()) >= SHORTEST:
            rows.append((library, object_, kind, text))
    return rows


def strings(source: bytes, name: str) -> Iterator[tuple[str, str, str]]:
    """The documentation strings of one file, as they stand: (object, kind, string).

    name: the file's path from the folder of the packages, "numpy/linalg/_linalg.py". Modules,
    public classes, public functions and public methods, and what a library documents from
    outside by `add_docstr(torch.abs, ...)` or `add_newdoc("numpy.linalg", "solve", ...)`.
    A file that does not parse has none.
    """
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries' own stray backslashes
            tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    if raw := _docstring(tree):
        yield module, "module", raw
    yield from _members(tree.body, module, "function")


def _members(body: list[ast.stmt], inside: str, kind: str) -> Iterator[tuple[str, str, str]]:
    for node in body:
        if isinstance(node, ast.If | ast.Try | ast.With):  # definitions under a condition
            yield from _members(node.body, inside, kind)
            yield from _members(getattr(node, "orelse", []), inside, kind)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield from _from_outside(node.value)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("_"):
                continue
            name = f"{inside}.{node.name}"
            if raw := _docstring(node):
                yield name, "class" if isinstance(node, ast.ClassDef) else kind, raw
            if isinstance(node, ast.ClassDef):
                yield from _members(node.body, name, "method")


def _docstring(node: ast.AST) -> str:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return first.value.value if isinstance(first.value.value, str) else ""
    return ""


def _from_outside(call: ast.Call) -> Iterator[tuple[str, str, str]]:
    does, arguments = ast.unparse(call.func).split(".")[-1], list(call.args)
    if does not in ("add_docstr", "add_newdoc") or len(arguments) < 2:
        return
    text = arguments[-1]
    if isinstance(text, ast.Tuple) and text.elts:
        text = text.elts[-1]
    raw = _constant(text)
    if does == "add_docstr":
        name = ast.unparse(arguments[0])
    else:
        if not all(isinstance(a, ast.Constant) for a in arguments[:-1]):
            return
        name = ".".join(str(a.value) for a in arguments[:-1])
        if len(arguments) == 2:  # scipy.special's own
            name = f"scipy.special.{name}"
    if raw and not name.split(".")[-1].startswith("_"):
        yield name, "function", raw


def _constant(node: ast.expr) -> str:
    """The string that an expression writes out: of r"a".format(...) + r"b", a and b."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _constant(node.left) + _constant(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return _constant(node.func.value)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
