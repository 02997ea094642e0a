"""How fast the course's word vectors open, as a ratio within one run. Not part of `make test`."""

import time

from gensim.models import KeyedVectors

from helpers import models

GLOVE = "glove-wiki-gigaword-100"


def test_opening_the_table_against_the_publishers_text_format(tmp_path):
    models.word_vectors(GLOVE, limit=10, quiet=True)  # imports, once
    start = time.perf_counter()
    vectors = models.word_vectors(GLOVE, quiet=True)
    ours = time.perf_counter() - start
    vectors.save_word2vec_format(tmp_path / "vectors.txt")
    start = time.perf_counter()
    KeyedVectors.load_word2vec_format(tmp_path / "vectors.txt")
    text = time.perf_counter() - start
    print(f"\nthe course's form {ours:.2f} s, the same table as text {text:.2f} s: {text / ours:.0f} times")
    assert text > 3 * ours
