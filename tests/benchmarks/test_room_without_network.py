"""The course installs from a folder of wheels with the network off. Minutes; not in `make test`."""

import shutil
import subprocess

import pytest

from helpers import ROOT


def run(*command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]


@pytest.mark.skipif(
    shutil.which("unshare") is None or subprocess.run(["unshare", "-n", "true"]).returncode != 0,
    reason="needs `unshare -n`, which takes the network away",
)
def test_setup_from_wheels_without_a_network(tmp_path):
    run("git", "clone", "-q", ROOT, tmp_path / "course", cwd=tmp_path)
    wheels = ROOT / "wheels"
    if not wheels.exists():
        run("make", "wheels", cwd=ROOT)
    run("unshare", "-n", "make", "setup", f"WHEELS={wheels}", cwd=tmp_path / "course")
    check = "import torch, helpers; from helpers import models; print(models.path('bert-base-uncased'))"
    run("unshare", "-n", ".venv/bin/python", "-c", check, cwd=tmp_path / "course")
