"""The course on machines that are not ours: Windows above all, and each Python that the README names."""

import ast
import re
import shutil
import subprocess
from importlib import metadata

import books
import locks
import pytest
import yaml
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


@pytest.mark.parametrize("book", books.BOOKS, ids=books.name)
def test_a_lesson_reads_and_writes_utf_8(book):
    assert [found for cell in books.code(books.read(book)) for found in without_encoding(cell.source)] == []


def test_what_is_pinned_takes_every_python_that_the_course_takes():
    """The first 3.11 too: Debian 12 has 3.11.2."""
    pins = locks.read("requirements.lock")
    looked_at = []
    for package in metadata.distributions():
        pin = pins.get(canonicalize_name(package.name))
        if pin and pin.version == package.version:
            takes = SpecifierSet(package.metadata["Requires-Python"] or "")
            looked_at.append(package.name)
            assert all(takes.contains(python) for python in ("3.11.0", "3.12.0", "3.13.0")), package.name
    assert len(looked_at) > 150


WORKFLOWS = books.ROOT / ".github" / "workflows"


@pytest.fixture(scope="module")
def jobs():
    return yaml.safe_load((WORKFLOWS / "test.yml").read_text(encoding="utf-8"))["jobs"]


def commands(job: dict) -> list[str]:
    return [step["run"].strip() for step in job["steps"] if "run" in step]


def test_three_systems_run_the_commands_of_the_readme_on_the_oldest_and_the_newest_python(jobs):
    make, by_hand = jobs["make"], jobs["by-hand"]
    assert make["strategy"]["matrix"] == {
        "os": ["ubuntu-latest", "macos-latest"],
        "python": ["3.11", "3.13"],
    }
    assert by_hand["strategy"]["matrix"] == {"python": ["3.11", "3.13"]}
    assert by_hand["runs-on"] == "windows-latest"
    readme = (books.ROOT / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\w+)", readme, re.M)
    assert targets == ["lab", "test", "site", "slides"]  # the slides are part of the site
    assert {"make test", "make site"} <= set(commands(make))
    assert any(command.startswith("make lab >") for command in commands(make))
    typed = [line for line in readme.splitlines() if line.startswith(".venv\\Scripts\\")]
    assert len(typed) == 5
    for line in typed:
        if "jupyter" in line:  # where it runs until it is stopped, bash types it
            line = line.replace("\\", "/") + " --no-browser"
            assert any(command.startswith(line) for command in commands(by_hand)), line
        else:
            assert line in commands(by_hand), line


def test_actions_are_official_ones_of_a_named_version(jobs):
    site = yaml.safe_load((WORKFLOWS / "site.yml").read_text(encoding="utf-8"))["jobs"]
    used = [step["uses"] for job in (jobs | site).values() for step in job["steps"] if "uses" in step]
    assert len(used) >= len(jobs)
    assert [action for action in used if not re.fullmatch(r"actions/[\w-]+@v\d+", action)] == []


def test_each_week_the_newest_of_everything_is_installed(jobs):
    (command,) = re.findall(r"sed -E '(.*)' requirements.txt", "\n".join(commands(jobs["newest"])))
    _, pattern, by, _ = command.split("/")
    lines = (books.ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    left = [re.sub(pattern, by, line) for line in lines]
    assert not [line for line in left if "==" in line]
    names = [line.split("==")[0] for line in lines if "==" in line]
    assert len(names) > 30 and [line.split()[0] for line in left if line and line[0] not in "#-"] == names


@pytest.mark.skipif(not shutil.which("actionlint"), reason="actionlint is not on this machine")
def test_actionlint_finds_nothing():
    done = subprocess.run(
        ["actionlint", *map(str, WORKFLOWS.glob("*.yml"))], capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout
