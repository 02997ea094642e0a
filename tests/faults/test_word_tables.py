"""Word vectors as they are found: words with spaces, a header that is wrong, marks and blank lines."""

import gzip

import numpy as np
import pytest

from helpers import models

KING, QUEEN, DOTS = [1, 2, 3], [4, 5, 6.5], [7, 8, 9]
READ = {
    "plain": (b"king 1 2 3\nqueen 4 5 6.5\n", {"king": KING, "queen": QUEEN}),
    "headed": (b"2 3\nking 1 2 3\nqueen 4 5 6.5\n", {"king": KING, "queen": QUEEN}),
    "no last line's end": (b"king 1 2 3\nqueen 4 5 6.5", {"king": KING, "queen": QUEEN}),
    "spaces at the ends": (b"king 1 2 3 \nqueen 4 5 6.5 \n", {"king": KING, "queen": QUEEN}),
    "Windows' lines": (b"king 1 2 3\r\nqueen 4 5 6.5\r\n", {"king": KING, "queen": QUEEN}),
    "a blank last line": (b"king 1 2 3\nqueen 4 5 6.5\n\n", {"king": KING, "queen": QUEEN}),
    "headed, a blank last line": (b"2 3\nking 1 2 3\nqueen 4 5 6.5\n \n", {"king": KING, "queen": QUEEN}),
    "a byte-order mark": (b"\xef\xbb\xbfking 1 2 3\nqueen 4 5 6.5\n", {"king": KING, "queen": QUEEN}),
    "a mark before the header": (b"\xef\xbb\xbf1 3\nking 1 2 3\n", {"king": KING}),
    "a word with spaces": (b"king 1 2 3\n. . . 7 8 9\n", {"king": KING, ". . .": DOTS}),
    "a number as a word": (b"king 1 2 3\n2 7 8 9\n", {"king": KING, "2": DOTS}),
    "a word and a number": (b"king 1 2 3\nat 2 7 8 9\n", {"king": KING, "at 2": DOTS}),
    "a space that is none": ("king 1 2 3\n\u00a0 7 8 9\n".encode(), {"king": KING, "\u00a0": DOTS}),
    "a line's end that is none": ("king 1 2 3\na\u0085b 7 8 9\n".encode(), {"king": KING, "a\u0085b": DOTS}),
    "twice the same word": (b"king 1 2 3\nking 7 8 9\nqueen 4 5 6.5\n", {"king": KING, "queen": QUEEN}),
}
WRONG = {
    "empty": (b"", "it holds no words"),
    "nothing but lines": (b"\n\n", "it holds no words"),
    "nothing but a header": (b"2 3\n", "announces 2 words and it holds 0"),
    "fewer rows than announced": (b"3 3\nking 1 2 3\nqueen 4 5 6.5\n", "announces 3 words and it holds 2"),
    "more rows than announced": (b"1 3\nking 1 2 3\nqueen 4 5 6.5\n", "announces 1 words and it holds 2"),
    "more numbers than announced": (b"1 2\nking 1 2 3\n", "line 2 is not a word and 2 numbers"),
    "fewer numbers than announced": (b"1 4\nking 1 2 3\n", "line 2 is not a word and 4 numbers"),
    "cut off in a row": (b"king 1 2 3\nqueen 4 5", "line 2 is not a word and 3 numbers"),
    "no word": (b"king 1 2 3\n 4 5 6\n", "line 2 is not a word and 3 numbers"),
    "no number": (b"king 1 2 3\nqueen 4 five 6\n", "line 2 is not a word and 3 numbers"),
    "not a number": (b"king 1 2 3\nqueen 4 nan 6\n", "line 2 is not a word and 3 numbers"),
    "too large": (b"king 1 2 3\nqueen 4 1e99 6\n", "line 2 is not a word and 3 numbers"),
    "a web page": (b"<html>\n<body>404</body>\n</html>\n", "line 1 is not a word and 0 numbers"),
    "not UTF-8": (b"king 1 2 3\n\xff\xfe 4 5 6\n", "codec can't decode"),
}


def written(tmp_path, content, zipped):
    file = tmp_path / ("v.txt.gz" if zipped else "v.txt")
    file.write_bytes(gzip.compress(content) if zipped else content)
    return file


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(("content", "words"), READ.values(), ids=READ)
def test_read_as_it_is_meant(tmp_path, content, words, zipped):
    found = models._read_vectors(written(tmp_path, content, zipped), None)
    assert found.index_to_key == list(words) and found.vectors.dtype == np.float32
    assert all(found[word].tolist() == numbers for word, numbers in words.items())
    first = models._read_vectors(written(tmp_path, content, zipped), 1)
    assert first.index_to_key == list(words)[:1]


@pytest.mark.parametrize(("content", "sentence"), WRONG.values(), ids=WRONG)
def test_what_is_no_table_is_one_sentence(tmp_path, content, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        models._read_vectors(written(tmp_path, content, False), None)
    assert str(error.value).startswith("v.txt is cut off or is no table of word vectors (")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("damage", ["cut off", "turned over"])
def test_a_damaged_gzip_is_one_sentence(tmp_path, at, damage):
    rows = np.random.default_rng(0).normal(size=(2000, 3))
    text = "2000 3\n" + "".join(f"w{i} {a:.5f} {b:.5f} {c:.5f}\n" for i, (a, b, c) in enumerate(rows))
    whole = gzip.compress(text.encode())
    k = int(len(whole) * at)
    file = tmp_path / "v.txt.gz"
    file.write_bytes(
        whole[:k] if damage == "cut off" else whole[:k] + bytes([whole[k] ^ 0xFF]) + whole[k + 1 :]
    )
    with pytest.raises(ValueError, match="is cut off or is no table of word vectors"):
        models._read_vectors(file, None)
