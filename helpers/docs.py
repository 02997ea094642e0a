"""A text that every reader has: the documentation strings of the libraries of this course.

    from helpers import docs
    docs.corpus()     # a DataFrame: library, object, kind, text

The libraries are read as text, never imported: their files are parsed, the documentation strings
are taken and cleaned to prose (headings, types of parameters, code, tables, markup, formulas and
addresses are left out, and a paragraph that stands in several places is kept at the first). The
pinned versions give the same text on every machine and every Python. It is made once, in about
ten seconds, and lies in the course's cache afterwards.
"""

import ast
import contextlib
import errno
import hashlib
import inspect
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import cache

if TYPE_CHECKING:
    import pandas

VERSION = 1  # of the code below: a change that changes the text makes a new file in the cache
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
    Raises FileNotFoundError where a library is missing, OSError (ENOSPC) where the disk is full.
    """
    from filelock import FileLock

    place = cache() / "docs"
    place.mkdir(exist_ok=True)
    file = place / f"corpus-{_key()}.parquet"
    with FileLock(file.with_suffix(".lock")):  # a second notebook waits, then finds it made
        table = _read(file)
        if table is None:
            table = _table(_extract())
            _write(table, file)
    return table


def _key() -> str:
    """A short hash of what decides the text: the libraries' versions and that of this code."""
    try:
        known = {d: metadata.version(d).partition("+")[0] for d in LIBRARIES.values()}
    except metadata.PackageNotFoundError as e:
        raise FileNotFoundError(
            f"the library {e.name} is missing; run:  make setup   (or: pip install -r "
            "requirements.txt -c constraints.txt)"
        ) from None
    return hashlib.sha256(repr((VERSION, sorted(known.items()))).encode()).hexdigest()[:12]


def _read(file: Path) -> "pandas.DataFrame | None":
    """The table of a file in the cache; None where there is none, or a damaged one."""
    if not file.exists():
        return None
    import pyarrow.parquet

    try:
        found = pyarrow.parquet.read_table(file, page_checksum_verification=True)
    except (OSError, ValueError, pyarrow.ArrowException):
        return None
    return found.to_pandas() if found.column_names == COLUMNS and len(found) else None


def _write(table: "pandas.DataFrame", file: Path) -> None:
    """Put the table in its place in one step, or leave nothing behind."""
    import pyarrow.parquet

    handle, name = tempfile.mkstemp(prefix=".part-", dir=file.parent)
    os.close(handle)
    part = Path(name)
    try:
        arrow = pyarrow.Table.from_pandas(table, preserve_index=False)
        pyarrow.parquet.write_table(arrow, part, compression="zstd", write_page_checksum=True)
        part.chmod(0o644)
        part.replace(file)
    except Exception as e:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        if (isinstance(e, OSError) and e.errno == errno.ENOSPC) or "No space left" in str(e):
            raise OSError(
                errno.ENOSPC,
                f"no room on the disk for the documentation text (about 5 MB in "
                f"{file.parent.parent.name}/); make room and run the cell again",
            ) from e
        raise


def _table(rows: list[tuple[str, str, str, str]]) -> "pandas.DataFrame":
    import pandas

    return pandas.DataFrame(rows, columns=COLUMNS).astype("str")


def _extract() -> list[tuple[str, str, str, str]]:
    """Every row of the corpus, sorted, each paragraph once."""
    from tqdm.auto import tqdm

    files = []
    for library, distribution in LIBRARIES.items():
        folder = Path(str(metadata.distribution(distribution).locate_file(library)))
        names = [(p.relative_to(folder.parent).as_posix(), p) for p in folder.rglob("*.py")]
        files += [(library, name, p) for name, p in sorted(names) if not SKIP.search(name)]
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for library, name, p in tqdm(files, desc="reading documentation"):
        for object_, kind, raw in strings(p.read_bytes(), name):
            found.setdefault((library, object_), (kind, raw))
    rows, seen = [], set()
    for (library, object_), (kind, raw) in tqdm(sorted(found.items()), desc="cleaning it"):
        kept = []
        for paragraph in prose(raw).split("\n"):
            if paragraph.lower() not in seen:
                seen.add(paragraph.lower())
                kept.append(paragraph)
        text = "\n".join(kept)
        if len(text.split()) >= SHORTEST:
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


# ------------------------------------------------------------------------- from markup to prose

UNDERLINE = re.compile(r"^\s*([=\-~^\"#*+])\1{2,}\s*$")
TABLE = re.compile(r"^\s*([=\-]{2,}(\s+[=\-]{2,})+|\+[-=+]+\+?|\|.*)\s*$")
BULLET = re.compile(r"^\s*([-*+•]|\(?[0-9a-z]{1,2}[.)]|#\.)\s+")
DIRECTIVE = re.compile(r"^(\s*)\.\.\s*([\w:-]+?)::\s*(.*)$")
GOOGLE = re.compile(
    r"^\s*(Args?|Arguments?|Parameters?|Params?|Keyword Args|Keyword Arguments|Kwargs|Returns?|Return|"
    r"Yields?|Raises?|Attributes?|Inputs?|Outputs?|Shape|Variables|Methods?|Notes?|Warnings?|"
    r"Examples?|Usage|References?|See Also|Tips?)\s*:{1,2}\s*$",
    re.I,
)
NAMED = re.compile(  # `name (type, *optional*): `, `*args: `, `- **name** (type) -- `
    r"^\s*(?:[-*]\s+)?[`*\"'\[]*[A-Za-z_][\w.\[\]]*[`*\"'\]]*(?:\s*[,/|]\s*[`*\"']*\w+[`*\"']*)*"
    r"\s*(?:\([^()]*(?:\([^()]*(?:\([^()]*\)[^()]*)*\)[^()]*)*\))?\s*(?::|--)(?:\s+|$)"
)
TYPED = re.compile(r"[\w*]+(?:, [\w*]+)* : \S")  # `name : type`, its description below
NO_NAME = re.compile(r"\s*([-*]\s+)?(Note|Default|Warning|Example):")
FIELD = re.compile(r"^\s*:(\w+)(?:\s+[^:]*)?:\s*")
ITEMS = {
    "parameters",
    "other parameters",
    "returns",
    "return",
    "yields",
    "receives",
    "raises",
    "warns",
    "attributes",
    "methods",
    "arguments",
    "args",
    "arg",
    "params",
    "param",
    "parameter",
    "keyword args",
    "keyword arguments",
    "kwargs",
    "attribute",
    "raise",
    "yield",
    "inputs",
    "input",
    "outputs",
    "output",
    "shape",
    "variables",
    "class attributes",
    "properties",
    "argument",
    "method",
}
LEFT_OUT = {"references", "reference", "see also", "shape", "bibliography"}
KEPT_DIRECTIVES = {
    "note",
    "warning",
    "tip",
    "important",
    "attention",
    "caution",
    "hint",
    "danger",
    "admonition",
    "topic",
    "rubric",
}
HOLE = "\x00"  # stands for what cannot be said in words; a sentence with a hole is left out


def prose(raw: str) -> str:
    """The sentences of a documentation string, a paragraph a line.

    >>> prose('''Add two numbers.
    ...
    ...     Parameters
    ...     ----------
    ...     a : int
    ...         The first of the two numbers.''')
    'Add two numbers.\\nThe first of the two numbers.'
    """
    paragraphs: list[list[str]] = [[]]
    for line in _lines(inspect.cleandoc(raw.expandtabs(8)).split("\n")):
        if line:
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    texts = (_sentences(_inline(" ".join(lines))) for lines in paragraphs)
    return "\n".join(text for text in texts if text)


def _lines(lines: list[str]) -> Iterator[str]:
    """The lines that hold prose, stripped; "" where a paragraph ends."""
    section, numpydoc, base = "", False, 0  # of the section: its name, its style, its indent
    drop_over = None  # leave out lines indented deeper than this
    fence = doctest = table = False
    for i, line in enumerate(lines):
        bare, indent = line.strip(), len(line) - len(line.lstrip())
        following = lines[i + 1] if i + 1 < len(lines) else ""
        if fence or re.match(r"^(```|~~~)", bare):
            fence ^= bool(re.match(r"^(```|~~~)", bare)) and not re.match(r"^```.+```$", bare)
            yield ""
            continue
        if not bare:
            doctest = table = False
            yield ""
            continue
        if drop_over is not None:
            if indent > drop_over:
                continue
            drop_over = None
        if doctest or bare.startswith((">>>", "In [", "Out[", "$ ")):
            doctest = True
            yield ""
            continue
        if table or TABLE.match(line):
            table = True
            yield ""
            continue
        if UNDERLINE.match(line):
            yield ""
            continue
        if UNDERLINE.match(following) and len(bare) < 60 and not bare.endswith("."):
            section, numpydoc, base = bare.rstrip(":").lower(), True, indent
            yield ""
            continue
        if heading := GOOGLE.match(line):
            section, numpydoc, base = heading.group(1).lower(), False, indent
            if bare.endswith("::"):
                drop_over = indent
            yield ""
            continue
        if bare.startswith("#") or re.match(r"^</?\w[^>]*>$|^\[\[.*\]\]$|^@|^\{[%{]", bare):
            yield ""  # a heading of Markdown, a tag, a template's line
            continue
        if bare.startswith(".. ") or bare == "..":
            directive = DIRECTIVE.match(line)
            yield ""
            if directive and directive.group(2) in KEPT_DIRECTIVES:
                yield directive.group(3).strip()
            else:
                drop_over = indent
            continue
        if section in LEFT_OUT:
            if numpydoc or indent > base:
                continue
            section = ""
        if section in ITEMS and numpydoc and indent <= base:
            yield ""  # the name and the type of a parameter
            continue
        deeper = len(following) - len(following.lstrip()) > indent
        if TYPED.match(bare) and deeper:
            yield ""
            continue
        if field := FIELD.match(line):
            yield ""
            if field.group(1) in ("type", "rtype", "vartype"):
                drop_over = indent
                continue
            line = line[field.end() :]
        elif BULLET.match(line) or (section in ITEMS and not numpydoc):
            if not numpydoc and indent <= base and section:
                section = ""
            if (name := NAMED.match(line)) and not NO_NAME.match(line):
                yield ""
                line = line[name.end() :]
            elif bullet := BULLET.match(line):
                yield ""
                line = line[bullet.end() :]
        bare = line.strip()
        if bare.endswith("::"):
            drop_over = indent
            bare = bare[:-1] if len(bare) > 2 else ""
        yield bare


def _inline(text: str) -> str:
    """Markup inside a paragraph taken off; `HOLE` for a formula, an address or a placeholder."""
    text = re.sub(r":math:`[^`]*`|\$\$?[^$]{1,200}\$\$?|\\[(\[].*?\\[)\]]", _formula, text)
    text = re.sub(r"!?\[([^\]\[]*)\]\((?:[^()]|\([^()]*\))*\)", r"\1", text)  # [text](address)
    text = re.sub(r":[\w:+-]+:`([^`]*)`", lambda m: _target(m.group(1)), text)
    text = re.sub(r"\[(`[^`]*`)\]", r"\1", text)  # [`Trainer`], as transformers links
    text = re.sub(r"``(.+?)``", r"\1", text)
    text = re.sub(r"`([^`]*)`_{0,2}", lambda m: _target(m.group(1)), text)
    text = re.sub(r"\s?\[[\w.*#-]+\]_", "", text)  # [1]_
    text = re.sub(r"(?<![\w*])\*\*?([^\s*](?:[^*]*[^\s*])?)\*\*?(?![\w*])", r"\1", text)
    text = re.sub(r"<?\b(?:https?|ftp)://\S+|\bwww\.\S+", HOLE, text)
    text = re.sub(r"</?[a-z]\w*(?:\s[^<>]*)?/?>", "", text)
    text = re.sub(r"%\(\w+\)s|\{\{?\w*\}?\}|\|\w+\||<[A-Z_]+>", HOLE, text)
    text = re.sub(r"\s\(\s*\)", "", text)
    text = re.sub(r"(\w)__?(?=[\s.,;)])", r"\1", text)
    return " ".join(text.replace("\\", "").replace("`", "").split())


def _formula(match: re.Match) -> str:
    inside = re.sub(r"^:math:`|[`$]", "", match.group())
    return inside if re.fullmatch(r"[A-Za-z0-9]{1,3}", inside) else HOLE


def _target(inside: str) -> str:
    """What a reader sees of a cross-reference: the text before <...>, the end of ~a.b.c."""
    inside = re.sub(r"\s*<[^>]*>$", "", inside).lstrip("!.")
    return inside[1:].split(".")[-1] if inside.startswith("~") else inside


WORD = re.compile(r"[(\"'“‘]*[A-Za-zÀ-ž]+(?:['’.\-/][A-Za-zÀ-ž]+)*[)\"'”’]*[.,;:!?)\"'”’]*")

END = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<!cf\.)\s+(?=[A-Z(\"'])")
SIGN = re.compile(r"[=<>\[\]#*]|\(\)|::")
CODE = re.compile(r"[=!<>]=|[-=]>|[{}|\\^@$~]|\s[=*]\s|__|://|:math:|\.\. \w+:")  # never in prose


def _sentences(paragraph: str) -> str:
    """The sentences of a paragraph that are prose: most of their pieces are words."""
    kept = []
    for sentence in END.split(paragraph):
        pieces = sentence.split()
        words = sum(bool(WORD.fullmatch(p)) for p in pieces)
        signs = len(SIGN.findall(sentence)) <= len(pieces) / 10 and not CODE.search(sentence)
        if HOLE not in sentence and signs and words >= max(3, 0.75 * len(pieces)):
            kept.append(sentence)
    return " ".join(kept)
