"""From a documentation string to prose: headings, types, code, tables, formulas are left out.

    from helpers.prose import prose
    prose(numpy.linalg.solve.__doc__)     # its sentences, a paragraph a line
    plain(numpy.linalg.solve.__doc__)     # all of it, a paragraph a line; markup taken off

Understands what the libraries of this course write: reStructuredText, numpydoc, Google's style
and Markdown.
"""

import inspect
import re
from collections.abc import Iterator

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


def plain(raw: str) -> str:
    """The whole of a documentation string, a paragraph a line: code, types and tables stay.

    Taken off are the underlines of headings and the marks around names.

    >>> plain('''Add two numbers.
    ...
    ...     Parameters
    ...     ----------
    ...     a : int
    ...         The first of `a` and ``b``.''')
    'Add two numbers.\\nParameters a : int The first of a and b.'
    """
    lines = inspect.cleandoc(raw.expandtabs(8)).split("\n")
    text = "\n".join(line.rstrip() for line in lines if not UNDERLINE.match(line))
    text = re.sub(r":[\w:+-]+:`~?([^`]*)`", r"\1", text).replace("`", "")
    paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return "\n".join(paragraph for paragraph in paragraphs if paragraph)


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
