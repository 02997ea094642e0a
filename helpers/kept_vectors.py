"""MiniLM's vectors of lesson 13's passages, which are kept with the course.

    from helpers import documentation, kept_vectors
    texts = documentation.passages()["text"]
    vectors, found = kept_vectors.lookup(texts)    # what is not found has to be embedded

Embedding some thousand passages takes minutes on a laptop, so the vectors of the lesson's own
passages are committed: shared_data/docs_vectors.npz, made by models/recipes/docs_vectors.py. Each
is 384 whole numbers from -127 to 127 and one scale, under a hash of the passage's text. Passages
of other versions of the libraries, or cut in another way, have another hash and are not found.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from helpers import ROOT, files
from helpers.texts import as_list

if TYPE_CHECKING:
    import numpy as np

FILE = ROOT / "shared_data" / "docs_vectors.npz"
ADAPTED = FILE.with_name("docs_vectors_adapted.npz")  # lesson 17's: the same passages by the adapted MiniLM


def key(text: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a text: its name in the store."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def lookup(texts: Sequence[str], path: str | Path | None = None) -> "tuple[np.ndarray, np.ndarray]":
    """The kept vectors of n texts: (n, 384) float32 of length 1, and (n,) True where one was found.

    Rows that were not found are zeros. path: another file that `save` wrote. Raises as `texts.as_list`
    does, and ValueError for a file that `save` did not write.
    """
    import numpy as np

    file = Path(path or FILE)
    try:
        with np.load(file) as kept:
            keys, scales, whole = kept["keys"], kept["scales"], kept["vectors"]
        if not (whole.ndim == 2 and len(keys) == len(scales) == len(whole) > 0):
            raise ValueError("keys, scales and vectors of different number")
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as e:
        raise ValueError(f"{file.name} does not hold passages' vectors ({type(e).__name__})") from e
    wanted = np.array([int(key(t), 16) for t in as_list(texts)], dtype=np.uint64)
    places = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    found = keys[places] == wanted
    vectors = np.zeros((len(wanted), whole.shape[1]), dtype=np.float32)
    vectors[found] = whole[places[found]] * scales[places[found], None]
    vectors[found] /= np.linalg.norm(vectors[found], axis=1, keepdims=True)
    return vectors, found


def save(texts: Sequence[str], vectors: "np.ndarray", path: str | Path | None = None) -> Path:
    """Write the vectors (n, dim) of n texts, a text once, in the form that `lookup` reads.

    path: a name that ends in .npz. Raises ValueError where there are not as many vectors as texts.
    """
    import numpy as np

    texts = as_list(texts)
    if np.ndim(vectors) != 2 or len(vectors) != len(texts):
        raise ValueError(f"vectors of shape {np.shape(vectors)} are not one for each of {len(texts)} texts")
    keys = np.array([int(key(t), 16) for t in texts], dtype=np.uint64)
    keys, first = np.unique(keys, return_index=True)
    vectors = np.asarray(vectors, dtype=np.float32)[first]
    scales = np.abs(vectors).max(axis=1) / 127
    whole = np.rint(vectors / scales[:, None]).astype(np.int8)
    file = Path(path or FILE)
    with files.put_whole(file) as part:
        np.savez_compressed(part, keys=keys, scales=scales.astype(np.float32), vectors=whole)
    return file
