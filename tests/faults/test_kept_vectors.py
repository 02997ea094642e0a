"""A file of kept vectors that is damaged is one sentence, and never wrong vectors."""

import numpy as np
import pytest

from helpers import kept_vectors


@pytest.fixture
def file(tmp_path):
    draw = np.random.default_rng(0).normal(size=(500, 384)).astype("float32")
    return kept_vectors.save([f"text {i}" for i in range(500)], draw, tmp_path / "v.npz")


@pytest.mark.parametrize("at", np.linspace(0.01, 0.99, 25))
def test_a_byte_turned_over_is_said_or_changes_nothing(file, at):
    texts = [f"text {i}" for i in range(500)]
    whole, found = kept_vectors.lookup(texts, file)
    assert found.all()
    content = bytearray(file.read_bytes())
    content[int(len(content) * at)] ^= 0xFF
    file.write_bytes(content)
    try:
        again, _ = kept_vectors.lookup(texts, file)
    except ValueError as e:
        assert str(e).startswith("v.npz does not hold passages' vectors (")
    else:
        assert (again == whole).all()


@pytest.mark.parametrize("rows", [(0, 0, 0), (3, 2, 3), (3, 3, 2), (2, 3, 3)], ids=str)
def test_parts_that_do_not_fit_are_one_sentence(tmp_path, rows):
    keys, scales, vectors = rows
    parts = {"keys": np.arange(keys, dtype="uint64"), "scales": np.ones(scales, "float32")}
    np.savez(tmp_path / "v.npz", **parts, vectors=np.ones((vectors, 4), "int8"))
    with pytest.raises(ValueError, match=r"v\.npz does not hold passages' vectors \(ValueError\)"):
        kept_vectors.lookup(["a"], tmp_path / "v.npz")
