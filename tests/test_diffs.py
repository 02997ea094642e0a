"""`git diff` shows a notebook as prose, code and text, once `make diffs` was called in a clone."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import books
import nbformat
import pytest

LESSON = books.path("03")
NEEDED = [".gitattributes", ".gitconfig", "Makefile", "jupyter/as_text.py", f"notebooks/{LESSON.name}"]

pytestmark = pytest.mark.skipif(
    os.name == "nt" or not (shutil.which("git") and shutil.which("make")), reason="needs git and make"
)


def call(folder, *command, **environment):
    """What a command wrote, with no settings of git but those of the folder itself."""
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_PAGER": "cat"}
    from_outside = ("GIT_", "MAKE", "MFLAGS")  # under make, make says which folder it enters
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(from_outside)}
    run = subprocess.run(
        command, cwd=folder, env={**inherited, **alone, **environment}, capture_output=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stderr
    return run.stdout + run.stderr


def copy(folder):
    for name in NEEDED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(books.ROOT / name, folder / name)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture
def clone(tmp_path):
    """A repository with lesson 3 committed and one sentence, one tag and one picture changed since."""
    call(copy(tmp_path), "git", "init", "-q")
    call(tmp_path, "git", "add", *NEEDED)
    identity = ("-c", "user.name=reader", "-c", "user.email=reader@localhost")
    call(tmp_path, "git", *identity, "commit", "-qm", "lesson 3")
    path = tmp_path / "notebooks" / LESSON.name
    book = books.read(path)
    book.cells[0].source = book.cells[0].source.replace("Berlin is a capital", "Bern is a capital")
    next(c for c in book.cells if "picture" in books.tags(c)).metadata.tags = ["figure"]
    for output in next(c for c in book.cells if "<img" in str(c)).outputs:
        output.data["image/png"] = output.data["image/png"][::-1]
    nbformat.write(book, path)
    return tmp_path


def changes(diff):
    return [line for line in diff.splitlines() if re.match(r"[-+](?![-+])", line)]


def test_a_change_of_a_sentence_is_a_diff_of_a_few_lines(clone):
    call(clone, "make", "diffs")
    call(clone, "make", "diffs")  # twice is once
    assert call(clone, "git", "config", "--get-all", "include.path") == "../.gitconfig\n"
    for folder in (clone, clone / "notebooks"):
        diff = call(folder, "git", "diff")
        sentence, tag, picture = (changes(diff)[n : n + 2] for n in (0, 2, 4))
        assert len(changes(diff)) == 6, diff
        assert sentence[0].startswith("-Berlin is a") and sentence[1].startswith("+Bern is a"), diff
        picture, tag = sorted([tag, picture])
        assert tag == ["-```python picture", "+```python figure"], diff
        assert all(re.match(r"[-+]    Figure: .* \[picture [0-9a-f]{8}\]$", line) for line in picture), diff
        assert len(diff.splitlines()) < 40 and max(map(len, diff.splitlines())) < 500, diff
        assert "@@ ## " in re.sub(r"@@ -.*? @@", "@@", diff), "a hunk names its section"


def test_without_the_command_or_the_python_git_shows_the_file_itself(clone):
    plain = call(clone, "git", "diff")
    assert '+    "Bern is a capital' in plain.replace("\\", "")
    call(clone, "make", "diffs")
    assert call(clone, "git", "diff") != plain
    (clone / ".venv").unlink()
    assert changes(call(clone, "git", "diff")) == changes(plain)


def test_a_notebook_that_is_no_notebook_is_shown_as_it_is(clone):
    call(clone, "make", "diffs")
    (clone / "notebooks" / LESSON.name).write_text("<<<<<<< a conflict\n", encoding="utf-8")
    assert "+<<<<<<< a conflict" in call(clone, "git", "diff")


def test_outside_a_clone_and_without_git_nothing_happens(tmp_path):
    call(tmp_path, "git", "init", "-q")
    before = (tmp_path / ".git" / "config").read_text(encoding="utf-8")
    inner = copy(tmp_path / "unpacked")  # a tarball, unpacked inside somebody's repository
    assert call(inner, "make", "diffs") == ""
    assert (tmp_path / ".git" / "config").read_text(encoding="utf-8") == before
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("make", "sh"):
        (tools / tool).symlink_to(shutil.which(tool))
    (inner / ".git").mkdir()
    assert "not found" in call(inner, "make", "diffs", PATH=str(tools))


def test_setup_switches_it_on():
    said = call(books.ROOT, "make", "-n", "-B", "setup")
    assert "git config --local --replace-all include.path ../.gitconfig" in said


def test_a_cell_as_text():
    said = call(books.ROOT, sys.executable, "jupyter/as_text.py", str(LESSON))
    assert Path(LESSON).stat().st_size > 5 * len(said)
    for part in ("## What goes in", "cross.predict(", "    0.9998  Paris is", "nbval-ignore-output"):
        assert part in said
