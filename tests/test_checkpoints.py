"""A pair of encoders on disk: the same vectors, one sentence for what is missing, damaged or full."""

import errno
import json
import os

import pytest
import torch
from test_training import PAIRS, TINY_BERT, pair, small

from helpers import checkpoints, encoders

BUILDERS = {
    "Encoder": small,
    "Pretrained": lambda: encoders.Pretrained(frozen=2, config=TINY_BERT),
    "TopicAndForm": lambda: encoders.TopicAndForm(start=1.0, layer=3, config=TINY_BERT),
}


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_checkpoint_gives_the_same_vectors(tmp_path, kind):
    towers = [e.eval() for e in pair(BUILDERS[kind])]
    checkpoints.save(tmp_path / "pair", *towers, note="mine")
    again = checkpoints.load(tmp_path / "pair")
    assert [type(e).__name__ for e in again] == [kind, kind]
    for one, other in zip(towers, again, strict=True):
        assert torch.equal(encoders.embed(one, PAIRS["question"]), encoders.embed(other, PAIRS["question"]))
    assert checkpoints.about(tmp_path / "pair") == {"note": "mine"}


def test_one_encoder_for_both_sides_is_kept_once(tmp_path):
    encoder = small().eval()
    checkpoints.save(tmp_path / "one", encoder, encoder)
    checkpoints.save(tmp_path / "two", encoder, small())
    first, second = checkpoints.load(tmp_path / "one")
    assert first is second
    assert torch.equal(encoders.embed(first, ["a word"]), encoders.embed(encoder, ["a word"]))
    one, two = (next((tmp_path / name).glob("*.safetensors")).stat().st_size for name in ("one", "two"))
    assert one < 0.6 * two
    config = json.loads((tmp_path / "one" / "config.json").read_text(encoding="utf-8"))
    del config["answer"]
    (tmp_path / "one" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ValueError, match="damaged"):
        checkpoints.load(tmp_path / "one")


def test_a_second_save_replaces_the_first(tmp_path):
    for seed in (0, 1):
        torch.manual_seed(seed)
        last = small().eval(), small().eval()
        checkpoints.save(tmp_path, *last)
    assert len(list(tmp_path.glob("pair-*.safetensors"))) == 1
    assert torch.equal(encoders.embed(last[0], ["a"]), encoders.embed(checkpoints.load(tmp_path)[0], ["a"]))


def test_no_file_of_a_checkpoint_is_written_over(tmp_path):
    """A second name for each file of the first save still opens the first pair after the second:
    had one been written in place, a break in the middle would leave half of each."""
    first, second = ([e.eval() for e in pair()] for _ in range(2))
    torch.nn.init.ones_(second[0].project.weight)
    place, kept = tmp_path / "pair", tmp_path / "kept"
    checkpoints.save(place, *first, number=1)
    kept.mkdir()
    for file in place.iterdir():
        os.link(file, kept / file.name)
    checkpoints.save(place, *second, number=2)
    for folder, encoder, number in ((kept, first[0], 1), (place, second[0], 2)):
        assert checkpoints.about(folder) == {"number": number}
        opened = checkpoints.load(folder)[0]
        assert torch.equal(encoders.embed(opened, ["a"]), encoders.embed(encoder, ["a"]))


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    first = [e.eval() for e in pair()]
    checkpoints.save(tmp_path, *first)
    files = sorted(f.name for f in tmp_path.iterdir())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="no room on the disk for the pair"):
        checkpoints.save(tmp_path, small(), small())
    assert sorted(f.name for f in tmp_path.iterdir()) == files
    assert torch.equal(encoders.embed(first[0], ["a"]), encoders.embed(checkpoints.load(tmp_path)[0], ["a"]))


def test_what_the_course_did_not_make_is_never_written_over(tmp_path):
    towers = pair()
    foreign = {
        "model": {"config.json": '{"model_type": "bert"}', "model.safetensors": "weights"},
        "broken": {"config.json": "{"},
        "mixed": {"pair-mine.safetensors": "somebody's", "notes.txt": "kept"},
        "photos": {"a.png": "a picture"},
        "nearly": {"config.json": '{"weights": "pytorch_model.bin"}'},
    }
    for name, held in foreign.items():
        (tmp_path / name).mkdir()
        for file, text in held.items():
            (tmp_path / name / file).write_text(text, encoding="utf-8")
        with pytest.raises(FileExistsError, match=f"{name}/ holds files that are no checkpoint"):
            checkpoints.save(tmp_path / name, *towers)
        assert {f.name: f.read_text(encoding="utf-8") for f in (tmp_path / name).iterdir()} == held
    (tmp_path / "file").write_text("a file", encoding="utf-8")
    for place in (tmp_path / "file", tmp_path / "file" / "pair"):
        with pytest.raises(FileExistsError, match="file is a file; name a folder"):
            checkpoints.save(place, *towers)


def test_beside_a_checkpoint_other_files_stay_and_a_broken_one_is_made_anew(tmp_path):
    towers = pair()
    checkpoints.save(tmp_path / "pair", *towers)
    for name in ("notes.txt", "pair-of-mine.safetensors"):
        (tmp_path / "pair" / name).write_text("kept", encoding="utf-8")
    checkpoints.save(str(tmp_path / "pair"), *towers)
    assert len(list((tmp_path / "pair").iterdir())) == 4
    assert checkpoints.load(str(tmp_path / "pair")) and checkpoints.about(str(tmp_path / "pair")) == {}

    checkpoints.save(tmp_path / "broken", *towers)
    (tmp_path / "broken" / "config.json").write_text("{", encoding="utf-8")
    checkpoints.save(tmp_path / "broken", *towers)
    (tmp_path / "broken" / "config.json").unlink()  # as after a kill in the first save
    checkpoints.save(tmp_path / "broken", *towers)
    assert checkpoints.load(tmp_path / "broken")


def test_whether_a_folder_can_be_saved_in_is_known_before(tmp_path, monkeypatch):
    assert checkpoints.ready(tmp_path / "new" / "pair") == tmp_path / "new" / "pair"
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checkpoints.ready("~/pair") == tmp_path / "pair"

    def refused(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refused)
    with pytest.raises(PermissionError, match=r"cannot be written to \(Permission denied\)"):
        checkpoints.ready(tmp_path / "new")


def test_damaged_and_missing_checkpoints_say_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint in nowhere/"):
        checkpoints.load(tmp_path / "nowhere")
    checkpoints.save(tmp_path, *pair())
    weights = next(tmp_path.glob("pair-*.safetensors"))
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="is not whole"):
        checkpoints.load(tmp_path)
    weights.unlink()
    with pytest.raises(ValueError, match="is missing"):
        checkpoints.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps([1])[:-1], encoding="utf-8")
    with pytest.raises(ValueError, match="config.json cannot be read"):
        checkpoints.load(tmp_path)
