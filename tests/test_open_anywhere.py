"""The configurations with which the course opens on services: what can be checked without them."""

import json
import os
import re
import shutil
import subprocess
import tomllib

import books
import pytest

BINDER = books.ROOT / ".binder"
CONTAINER = json.loads((books.ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
PYTHONS = re.compile(r"3\.1[123]\b")  # those of pyproject.toml


def test_the_pythons_are_the_course_s():
    asked = tomllib.loads((books.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "requires-python"
    ]
    assert asked == ">=3.11,<3.14"
    assert PYTHONS.search((BINDER / "runtime.txt").read_text(encoding="utf-8"))
    assert PYTHONS.search(CONTAINER["image"])


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_binder_s_scripts_can_be_read_and_name_files_that_are_there(name):
    script = BINDER / name
    assert os.access(script, os.X_OK) or os.name == "nt"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    for file in re.findall(r"\S+\.(?:lock|txt)", script.read_text(encoding="utf-8")):
        assert (books.ROOT / file).exists(), file


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_binder_installs_what_make_setup_installs(tmp_path):
    """The script, run with a pip that writes down what it is asked for."""
    log = tmp_path / "log"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {log}\n', encoding="utf-8")
    python.chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    assert subprocess.run(["bash", BINDER / "postBuild"], cwd=books.ROOT, env=env).returncode == 0
    lock, torch, course = log.read_text(encoding="utf-8").splitlines()
    assert "--require-hashes -r requirements.lock" in lock and course.endswith("-e .")
    version = re.search(r"(?m)^torch==\S+", (books.ROOT / "requirements.txt").read_text(encoding="utf-8"))[0]
    assert torch.endswith(version) and "whl/cpu" in torch


def test_a_session_starts_with_the_course_s_own_models():
    assert "export COURSE_MODELS=bundled" in (BINDER / "start").read_text(encoding="utf-8")
    assert CONTAINER["containerEnv"] == {"COURSE_MODELS": "bundled"}


def test_the_container_s_fields_are_those_of_its_schema():
    """devContainer.base.schema.json of the specification: names and the form of sizes."""
    known = {
        "name",
        "image",
        "hostRequirements",
        "containerEnv",
        "postCreateCommand",
        "forwardPorts",
        "customizations",
    }
    assert set(CONTAINER) <= known
    for size in ("memory", "storage"):
        assert re.fullmatch(r"\d+([tgmk]b)?", CONTAINER["hostRequirements"][size])
    make, target, *_ = CONTAINER["postCreateCommand"].split()
    assert make == "make" and re.search(
        rf"(?m)^{target}:", (books.ROOT / "Makefile").read_text(encoding="utf-8")
    )
    for file in CONTAINER["customizations"]["codespaces"]["openFiles"]:
        assert (books.ROOT / file).exists()
