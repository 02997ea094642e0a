"""What `make setup` installs is known to the last byte: the lock files, the bill of materials, the licences."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from hashlib import sha256
from importlib import metadata

import books
import locks
import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((books.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = [Requirement(r) for rs in PROJECT["project"]["optional-dependencies"].values() for r in rs]
ASKED_FOR = locks.read("requirements.txt")
LOCK, *FURTHER = (locks.read(name) for name in locks.FILES)
MORE = {name: pin for lock in FURTHER for name, pin in lock.items()}
BOTH = MORE | LOCK
HERE = {canonicalize_name(package.name): package.version for package in metadata.distributions()}
made_from_the_lock = pytest.mark.skipif(
    any(HERE.get(name, "").partition("+")[0] != pin.version for name, pin in ASKED_FOR.items()),
    reason="this environment holds other versions than requirements.txt; make setup brings those",
)
LINUX = {
    "sys_platform": "linux",
    "platform_system": "Linux",
    "os_name": "posix",
    "platform_machine": "x86_64",
}
MAC = LINUX | {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64"}
WINDOWS = {
    "sys_platform": "win32",
    "platform_system": "Windows",
    "os_name": "nt",
    "platform_machine": "AMD64",
}


def tree(names: list[str], machine: dict[str, str]) -> set[str]:
    """The packages that those need on that machine, as the installed ones say; torch's CUDA packages left out."""
    found, ahead = set(), [(name, "") for name in names]
    while ahead:
        name, extra = ahead.pop()
        if (name, extra) in found or (locks.GPU.match(name) and name != "torch"):
            continue
        found.add((name, extra))
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            if not need.marker or need.marker.evaluate(default_environment() | machine | {"extra": extra}):
                ahead += [(canonicalize_name(need.name), extra) for extra in ("", *need.extras)]
    return {name for name, _ in found}


@made_from_the_lock
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("machine", [LINUX, MAC, WINDOWS], ids=lambda machine: machine["sys_platform"])
def test_the_lock_is_the_whole_tree_on_every_machine_of_the_course(machine, python):
    machine = machine | {"python_version": python, "python_full_version": python + ".2"}
    machine |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    here = {
        n for n, pin in LOCK.items() if not pin.marker or pin.marker.evaluate(default_environment() | machine)
    }
    needed = tree(list(ASKED_FOR), machine) - {"torch"}
    assert needed - here == set(), "run: make lock"
    assert len(needed) > 190


@made_from_the_lock
def test_what_is_installed_here_is_what_is_locked():
    names = tree(list(ASKED_FOR), default_environment()) - {"torch"}
    assert {name: HERE.get(name) for name in names} == {name: LOCK[name].version for name in names}


def test_what_is_asked_for_is_locked_in_that_version():
    assert {n: LOCK[n].version for n in ASKED_FOR if n != "torch"} == {
        n: pin.version for n, pin in ASKED_FOR.items() if n != "torch"
    }
    for extra in EXTRAS:
        assert str(extra.specifier) == f"=={MORE[canonicalize_name(extra.name)].version}"
    assert {n: (MORE[n].version, MORE[n].hashes) for n in MORE.keys() & LOCK.keys()} == {
        n: (LOCK[n].version, LOCK[n].hashes) for n in MORE.keys() & LOCK.keys()
    }


@pytest.mark.parametrize("name", locks.FILES)
def test_every_package_has_hashes_and_torch_is_in_no_lock(name):
    lock = locks.read(name)
    bad = {
        n: p.hashes
        for n, p in lock.items()
        if not all(re.fullmatch("sha256:[0-9a-f]{64}", h) for h in p.hashes)
    }
    assert not bad and all(pin.hashes for pin in lock.values())
    assert [n for n in lock if locks.GPU.match(n)] == []
    text = (books.ROOT / name).read_text(encoding="utf-8")
    assert not re.search(
        r"https?:|^-", text, re.M
    )  # the index is the reader's own; nothing but names and hashes


def test_what_builds_the_course_is_locked_too():
    assert PROJECT["build-system"]["requires"] == [f"setuptools=={LOCK['setuptools'].version}"]


def test_torch_has_one_version_wherever_it_is_named():
    files = ("README.md", ".github/workflows/test.yml", "docs/beyond_one_machine.md", "requirements.txt")
    for file in files:
        named = re.findall(r"torch==([\d.]+\d)", (books.ROOT / file).read_text(encoding="utf-8"))
        assert set(named) == {ASKED_FOR["torch"].version}, file


def test_no_second_index_stands_beside_the_first():
    """With two, a package of the same name in the other one may be taken."""
    places = ["Makefile", "README.md", "CONTRIBUTING.md", "pyproject.toml", "requirements.txt", *locks.FILES]
    files = [books.ROOT / place for place in places]
    for folder in (".ci", ".github", "docs", "helpers", "scripts", "models/recipes", "notebooks"):
        files += [
            f for f in (books.ROOT / folder).rglob("*") if f.suffix in ("", ".py", ".md", ".yml", ".ipynb")
        ]
    second = re.compile("extra.index", re.I)
    assert [f for f in files if f.is_file() and second.search(f.read_text(encoding="utf-8"))] == []


def wheel(folder, code: str) -> str:
    """A wheel of the package six in the locked version; returns its sha256."""
    version = LOCK["six"].version
    file, info = folder / f"six-{version}-py2.py3-none-any.whl", f"six-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as z:
        z.writestr("six.py", code)
        z.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: six\nVersion: {version}\n")
        z.writestr(
            f"{info}/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py2-none-any\nTag: py3-none-any\n",
        )
        z.writestr(f"{info}/RECORD", "")
    return sha256(file.read_bytes()).hexdigest()


@pytest.mark.skipif(sys.platform == "win32" or not shutil.which("make"), reason="no make on this machine")
def test_a_wheel_with_another_hash_is_refused(tmp_path):
    """By the very command of `make setup`, from a folder as a room without network has one."""
    said = subprocess.run(
        ["make", "-n", "--always-make", "setup", f"WHEELS={tmp_path}"],
        cwd=books.ROOT,
        capture_output=True,
        encoding="utf-8",
    ).stdout
    (line,) = [line for line in said.splitlines() if "requirements.lock" in line]
    command = [sys.executable, *line.split()[1:], "--target", str(tmp_path / "installed")]
    true = wheel(tmp_path, "said = 'from the publisher'\n")
    pins = {"published": LOCK["six"].hashes[0].partition(":")[2], "ours": true}
    for name, hash in pins.items():
        text = f"six=={LOCK['six'].version} \\\n    --hash=sha256:{hash}\n"
        (tmp_path / name).write_text(text, encoding="utf-8")

    def install(lock):
        words = [str(tmp_path / lock) if word == "requirements.lock" else word for word in command]
        return subprocess.run(words, capture_output=True, encoding="utf-8", cwd=tmp_path)

    refused = install("published")
    assert refused.returncode and "DO NOT MATCH THE HASHES" in refused.stderr
    (tmp_path / "none").write_text(f"six=={LOCK['six'].version}\n", encoding="utf-8")
    unnamed = install("none")
    assert unnamed.returncode and "Hashes are required" in unnamed.stderr
    assert not (tmp_path / "installed").exists()
    done = install("ours")
    assert done.returncode == 0, done.stderr
    wheel(tmp_path, "said = 'from somebody else'\n")
    assert install("ours").returncode
    assert (tmp_path / "installed" / "six.py").read_text(encoding="utf-8") == "said = 'from the publisher'\n"


def test_the_bill_of_materials_names_what_is_locked_and_nothing_of_the_machine_that_wrote_it():
    text = (books.ROOT / "docs" / "sbom.json").read_text(encoding="utf-8")
    bill = json.loads(text)
    listed = {canonicalize_name(part["name"]): part["version"] for part in bill["components"]}
    wanted = {name: pin.version for name, pin in BOTH.items()} | {"torch": ASKED_FOR["torch"].version}
    assert listed == wanted, "run: make bom"
    assert (
        bill["bomFormat"] == "CycloneDX"
        and bill["metadata"]["component"]["name"] == PROJECT["project"]["name"]
    )
    assert "serialNumber" not in bill and "timestamp" not in bill["metadata"]
    assert not re.search(r"file://|/home/|/root/|/work/|/tmp/|[A-Z]:\\\\", text)


def test_the_page_of_licences_names_every_package_and_a_licence():
    page = (books.ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if "|" in line
    ][2:]
    wanted = {name: pin.version for name, pin in BOTH.items()} | {"torch": ASKED_FOR["torch"].version}
    assert {canonicalize_name(name): version for name, version, _ in rows} == wanted, "run: make bom"
    unknown = [name for name, _, licence in rows if licence in ("", "UNKNOWN")]
    prose = page.partition("\n|")[0]
    assert all(f" {name}" in prose for name in unknown), (
        f"read the licences of {unknown}, and say in prose what they are"
    )
