"""Whole-file writing: one step, nothing left behind, a full disk in one sentence."""

import errno
import os
import re

import pytest
import torch
from safetensors import SafetensorError

from helpers import files


def test_a_file_is_there_whole_or_as_it_was(tmp_path):
    place = tmp_path / "table.tsv"
    for text in ("first", "second"):
        with files.put_whole(place) as part:
            part.write_text(text, encoding="utf-8")
            assert part.suffix == ".tsv" and part.parent == tmp_path
            assert place.exists() == (text == "second"), "not before the end"
        assert place.read_text(encoding="utf-8") == text
    with pytest.raises(KeyboardInterrupt), files.put_whole(place) as part:
        part.write_text("third, half", encoding="utf-8")
        raise KeyboardInterrupt
    assert place.read_text(encoding="utf-8") == "second" and list(tmp_path.iterdir()) == [place]


def test_torch_writes_to_it_whatever_the_ending(tmp_path):
    for name in ("adam", "adam.pt", "base.adam"):
        with files.put_whole(tmp_path / name) as part:
            torch.save({"step": torch.tensor(3)}, part)
        assert torch.load(tmp_path / name, weights_only=True)["step"] == 3


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    place = tmp_path / "model"
    with pytest.raises(ZeroDivisionError), files.put_whole(place, folder=True) as part:
        (part / "config.json").write_text("{}", encoding="utf-8")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with files.put_whole(place, folder=True) as part:
        (part / "config.json").write_text("{}", encoding="utf-8")
    assert [f.name for f in place.iterdir()] == ["config.json"]


def test_others_may_read_what_was_written(tmp_path):
    before = os.umask(0o022)
    try:
        for name, folder, mode in (("file", False, 0o644), ("folder", True, 0o755)):
            with files.put_whole(tmp_path / name, folder=folder) as part:
                folder or part.write_text("x", encoding="utf-8")
            if os.name == "posix":
                assert (tmp_path / name).stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    "error",
    [
        *(OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)),
        SafetensorError(f"I/O error: {os.strerror(errno.ENOSPC)} (os error 28)"),
    ],
    ids=str,
)
def test_a_full_disk_is_one_sentence(tmp_path, error):
    with pytest.raises(OSError) as caught, files.put_whole(tmp_path / "a.npz"):
        raise error
    assert caught.value.errno == errno.ENOSPC
    why = {
        errno.EDQUOT: " (your quota is used up)",
        errno.EFBIG: " (no file may be that large here: ulimit -f)",
    }
    why = "no room on the disk" + why.get(getattr(error, "errno", None), "")
    assert caught.value.strerror == f"{why} for a.npz in {tmp_path.name}/; make room and try again"
    pair = files.put_whole(tmp_path / "a.npz", "the pair")
    with pytest.raises(OSError, match=f"{re.escape(why)} for the pair; make room"), pair as part:
        part.write_bytes(b"some")
        raise error
    assert not list(tmp_path.iterdir())


def test_another_error_keeps_its_name(tmp_path):
    with pytest.raises(PermissionError, match="not yours"), files.put_whole(tmp_path / "a"):
        raise PermissionError(errno.EACCES, "not yours")


def test_an_error_of_the_system_says_which_file():
    error = PermissionError(errno.EACCES, "Permission denied", "/far/away")
    assert files.sentence(error) == "/far/away: Permission denied"
    assert files.sentence(OSError(errno.ENOSPC, "no room")) == "no room"
    assert files.sentence(KeyError("there is no model x")) == "there is no model x"
