"""`make setup` finds a Python that fits; the Pythons here are small scripts that answer as one would."""

import shutil
import subprocess
import sys

import books
import pytest

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or not shutil.which("make"), reason="no make on this machine"
)
PYTHON = """#!/bin/sh
echo "$(basename "$0") $*" >> {log}
case "$*" in
    "-c "*version_info*) exec {python} -c 'import sys; sys.version_info = {version}; exec(sys.argv[1])' "$2" ;;
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
esac
"""
UV = """#!/bin/sh
echo "uv $*" >> {log}
mkdir -p .venv/bin && cp {bin}/made_by_uv .venv/bin/python
"""


@pytest.fixture
def make(tmp_path):
    """make(names and versions of Pythons..., *arguments): the status, what was said, what was run."""
    course, bin, log = tmp_path / "course", tmp_path / "bin", tmp_path / "log"
    course.mkdir()
    for file in ("Makefile", "requirements.txt", "requirements.lock", "pyproject.toml"):
        shutil.copy(books.ROOT / file, course)

    def run(pythons, *arguments, uv=False):
        shutil.rmtree(bin, ignore_errors=True)
        bin.mkdir()
        log.write_text("", encoding="utf-8")
        for tool in ("sh", "touch", "mkdir", "cp", "basename", "git", "grep"):
            if found := shutil.which(tool):
                (bin / tool).symlink_to(found)
        scripts = {n: PYTHON.format(log=log, python=sys.executable, version=v) for n, v in pythons.items()}
        if uv:
            scripts["made_by_uv"] = PYTHON.format(log=log, python=sys.executable, version=(3, 12))
            scripts["uv"] = UV.format(log=log, bin=bin)
        for name, script in scripts.items():
            (bin / name).write_text(script, encoding="utf-8")
            (bin / name).chmod(0o755)
        done = subprocess.run(
            [shutil.which("make"), "setup", *arguments],
            cwd=course,
            env={"PATH": str(bin), "HOME": str(tmp_path)},
            capture_output=True,
            encoding="utf-8",
        )
        made = [line for line in log.read_text(encoding="utf-8").splitlines() if line.split()[1] != "-c"]
        return done.returncode, done.stderr, made

    return run


@pytest.mark.parametrize(
    ("pythons", "wanted"),
    [
        ({"python3": (3, 11)}, "python3"),
        ({"python3": (3, 12), "python3.13": (3, 13)}, "python3"),
        ({"python3": (3, 14), "python3.13": (3, 13), "python3.11": (3, 11)}, "python3.13"),
        ({"python3": (3, 10), "python3.12": (3, 12)}, "python3.12"),
        ({"python3": (3, 14), "python3.14": (3, 14), "python3.11": (3, 11)}, "python3.11"),
        ({"python3.12": (3, 12)}, "python3.12"),
    ],
)
def test_the_first_python_that_fits_is_taken(make, pythons, wanted):
    status, said, made = make(pythons, uv=True)
    assert status == 0, said
    assert made[0] == f"{wanted} -m venv .venv"
    assert [line for line in made[1:] if " install " in line] == [
        "python -m pip --disable-pip-version-check install --no-deps --require-hashes -r requirements.lock",
        "python -m pip --disable-pip-version-check install --no-build-isolation torch==2.13.0 -e .",
    ]


@pytest.mark.parametrize("pythons", [{"python3": (3, 14)}, {"python3": (3, 9)}, {}])
def test_where_none_fits_uv_brings_one_with_pip_in_it(make, pythons):
    status, said, made = make(pythons, uv=True)
    assert status == 0, said
    assert made[0] == "uv venv --python 3.12 --seed --allow-existing .venv"
    assert made[1].startswith("python -m pip ") and made[1].endswith("-r requirements.lock")


@pytest.mark.parametrize("pythons", [{"python3": (3, 14)}, {"python3": (3, 10)}, {}])
def test_where_there_is_nothing_one_sentence_says_what_to_do(make, pythons):
    status, said, made = make(pythons)
    sentence, *rest = said.splitlines()
    assert status and not made
    assert sentence.startswith("This course needs Python 3.11, 3.12 or 3.13, and this machine has none")
    assert "install uv" in sentence and all(line.startswith("make: ***") for line in rest)


def test_a_python_that_is_named_is_taken_and_no_other(make):
    pythons = {"python3": (3, 13), "python3.12": (3, 12), "python3.14": (3, 14)}
    status, said, made = make(pythons, "PYTHON=python3.12")
    assert status == 0 and made[0] == "python3.12 -m venv .venv", said
    for wrong in ("python3.14", "python3.15"):  # too new; not there
        status, said, made = make(pythons, f"PYTHON={wrong}", "--always-make", uv=True)
        assert status and not made and f"and {wrong} is none of them: install" in said


def test_an_environment_that_is_there_keeps_its_python(make):
    make({"python3.12": (3, 12)}, "PYTHON=python3.12")
    status, said, made = make({"python3": (3, 13)}, "--always-make")
    assert status == 0 and not [line for line in made if "venv" in line], said
    assert make({"python3": (3, 13)})[2] == []  # nothing changed: nothing runs


def test_pytorch_s_index_is_asked_for_torch_alone(make):
    index = "https://download.pytorch.org/whl/cpu"
    everything, torch = make({"python3": (3, 12)}, f"TORCH_INDEX={index}")[2][1:3]
    assert "index" not in everything
    assert torch.endswith(f"install --index-url {index} --no-build-isolation torch==2.13.0 -e .")


def test_from_a_folder_no_index_is_asked(make):
    made = make({"python3": (3, 12)}, "WHEELS=wheels", "TORCH_INDEX=https://download.pytorch.org/whl/cpu")[2]
    assert len(made) == 3 and all("install --no-index --find-links wheels --no-" in line for line in made[1:])
    assert "index-url" not in "".join(made)


def test_wheels_are_fetched_by_their_hashes_and_torch_from_its_own_index():
    index = "https://download.pytorch.org/whl/cpu"
    said = subprocess.run(
        ["make", "-n", "-o", ".venv/.ready", "wheels", f"TORCH_INDEX={index}"],
        cwd=books.ROOT,
        capture_output=True,
        encoding="utf-8",
    ).stdout
    fetched = [line.partition(" download ")[2] for line in said.splitlines() if " download " in line]
    assert fetched == [
        "-d wheels --no-deps --require-hashes -r requirements.lock",
        "-d wheels --no-deps --require-hashes -r requirements-site.lock",
        f"-d wheels --no-deps --index-url {index} -r .venv/torch.txt",
    ]
