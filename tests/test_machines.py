"""The course on machines that are not ours: Windows above all, and each Python that the README names."""

import ast
import re
from importlib import metadata

import books
import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

FILES = [
    file
    for folder in ("helpers", "jupyter", "models/recipes", "scripts", "tests")
    for file in sorted((books.ROOT / folder).rglob("*.py"))
]
STARTS_A_PROGRAM = {"run", "Popen", "call", "check_call", "check_output"}


def without_encoding(source: str) -> list[str]:
    """Calls that read or write text as the machine is used to, which on Windows is not UTF-8.

    ruff's PLW1514 finds the calls on what it knows to be a path; here every call of that name counts.
    """
    found = []
    for call in ast.walk(ast.parse(source)):
        if not isinstance(call, ast.Call):
            continue
        name = getattr(call.func, "attr", None) or getattr(call.func, "id", None)
        named = {word.arg for word in call.keywords}
        words = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        in_text_mode = any(re.fullmatch(r"[rwax]\+?t?\+?", word) for word in words)
        no_mode = len(call.args) == (1 if isinstance(call.func, ast.Name) else 0)
        texts = {
            "read_text": not call.args,
            "write_text": len(call.args) < 2,
            "open": in_text_mode or no_mode,
        }
        text = texts.get(name, name in STARTS_A_PROGRAM and bool(named & {"text", "universal_newlines"}))
        if text and "encoding" not in named:
            found.append(f"line {call.lineno}: {ast.unparse(call)[:80]}")
    return found


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("f(x).read_text()", True),
        ("f(x).write_text('ä')", True),
        ("open(x, 'a')", True),
        ("open('x')", True),
        ("x.open('w+')", True),
        ("x.open()", True),
        ("Image.open(x)", False),
        ("subprocess.run(x, text=True)", True),
        ("f(x).read_text(encoding='utf-8')", False),
        ("x.read_text('utf-8')", False),
        ("open(x, 'rb')", False),
        ("subprocess.run(x, capture_output=True)", False),
        ("subprocess.Popen(x, encoding='utf-8')", False),
    ],
)
def test_text_without_an_encoding_is_seen(source, found):
    assert bool(without_encoding(source)) is found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(books.ROOT).as_posix())
def test_text_is_utf_8_everywhere(file):
    assert without_encoding(file.read_text(encoding="utf-8")) == []


def test_what_is_pinned_takes_every_python_that_the_course_takes():
    """The first 3.11 too: Debian 12 has 3.11.2."""
    lines = (books.ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    looked_at = []
    for package in metadata.distributions():
        if pins.get(canonicalize_name(package.name)) == package.version:
            takes = SpecifierSet(package.metadata["Requires-Python"] or "")
            looked_at.append(package.name)
            assert all(takes.contains(python) for python in ("3.11.0", "3.12.0", "3.13.0")), package.name
    assert len(looked_at) > 150
