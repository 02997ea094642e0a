"""The text that everyone has: prose of the installed libraries, the same wherever it is made."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from helpers import ROOT, documentation


def test_what_is_public_is_taken_and_named():
    source = b'''"""Module."""
class Box:
    """Class."""
    def open(self):
        """Method."""
    def _shut(self):
        """Private."""
    class Lid:
        """Inner."""
class _Hidden:
    """Private."""
    def open(self):
        """Private."""
try:
    def safe():
        """Under a condition."""
except ImportError:
    pass
async def later():
    """Function."""
def number():
    3
add_docstr(torch.abs, r"""From {outside}.""" + r""" And on.""".format(outside="x"))
add_newdoc("numpy.linalg", "solve", "A solver.")
add_newdoc("numpy", "ndarray", ("shape", "A tuple."))
'''
    assert list(documentation.strings(source, "box/things/__init__.py")) == [
        ("box.things", "module", "Module."),
        ("box.things.Box", "class", "Class."),
        ("box.things.Box.open", "method", "Method."),
        ("box.things.Box.Lid", "class", "Inner."),
        ("box.things.safe", "function", "Under a condition."),
        ("box.things.later", "function", "Function."),
        ("torch.abs", "function", "From {outside}. And on."),
        ("numpy.linalg.solve", "function", "A solver."),
        ("numpy.ndarray", "function", "A tuple."),
    ]
    assert list(documentation.strings(b"def broken(", "box/broken.py")) == []


@pytest.fixture(scope="module")
def corpus():
    return documentation.corpus()


def test_there_is_about_a_million_words_of_it(corpus):
    assert list(corpus.columns) == ["library", "object", "kind", "text"]
    words = corpus.text.str.split().str.len()
    assert 800_000 < words.sum() < 2_000_000
    assert words.min() >= documentation.SHORTEST
    assert (words.groupby(corpus.library).sum() > 5_000).sum() >= 8
    assert set(corpus.kind) == {"module", "class", "function", "method"}


def test_it_is_in_order_and_nothing_stands_twice(corpus):
    assert not corpus.duplicated(["library", "object"]).any()
    names = list(zip(corpus.library, corpus.object, strict=True))
    assert names == sorted(names)
    paragraphs = corpus.text.str.split("\n").explode().str.lower()
    assert not paragraphs.duplicated().any() and paragraphs.str.len().min() > 0


def test_it_is_prose_and_not_code(corpus):
    paragraphs = corpus.text.str.split("\n").explode()
    assert not paragraphs.str.contains(r">>>|```|https?://|:math:|\.\. \w+::|`|\x00").any()
    signs = paragraphs.str.contains(r"[=<>{}\[\]|\\^@$~#*]|\(\)|::")
    assert signs.mean() < 0.06
    words = corpus.text.str.findall(r"\S+").explode()
    assert words.str.fullmatch(r"[(\"']*[A-Za-zÀ-ž'’./-]+[)\"'.,;:!?]*").mean() > 0.90
    assert not paragraphs.str.contains(r"^(?:Parameters|Returns|Examples|Args|Notes):?$").any()


def test_no_tests_nor_copies_of_other_projects(corpus):
    assert not corpus.object.str.contains(r"\.tests?\.|externals|_vendored|\.models\.bert").any()


def test_well_known_objects_are_there(corpus):
    text = corpus.set_index("object").text
    assert "principal component analysis" in text["sklearn.decomposition._pca.PCA"].lower()
    assert "solve" in text["numpy.linalg._linalg.solve"].lower()
    assert "absolute value" in text["torch.abs"].lower()


def test_the_whole_text_holds_the_prose_and_the_code_of_the_same_objects(corpus):
    whole = documentation.whole_texts()
    prose = corpus[corpus["library"].isin(documentation.SEARCHED)].reset_index(drop=True)
    pd.testing.assert_frame_equal(whole[["library", "object", "kind"]], prose[["library", "object", "kind"]])
    words, words_of_prose = (table["text"].str.split().str.len().sum() for table in (whole, prose))
    assert 1.9 < words / words_of_prose < 2.1
    paragraphs = whole["text"].str.split("\n").explode().str.lower()
    assert not paragraphs[paragraphs != ""].duplicated().any()
    text = whole.set_index("object")["text"]["pandas.core.frame.DataFrame.drop_duplicates"]
    assert "subset : column label" in text and ">>> df.drop_duplicates()" in text and "`" not in text


def test_passages_of_the_whole_text_are_cut_as_the_others():
    whole, text = documentation.passages(whole=True), documentation.whole_texts().set_index("object")["text"]
    for name, rows in list(whole.groupby("object"))[::500]:
        head = f"{documentation.title(name)}: "
        assert rows["text"].tolist() == [head + piece for piece in documentation.cut(text[name])]


def child(code, place, **variables):
    environment = os.environ | {"COURSE_CACHE": str(place)} | variables
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


# Few libraries, so that a cold start is quick.
SMALL = "from helpers import documentation; documentation.LIBRARIES = {'joblib': 'joblib', 'seaborn': 'seaborn'}\n"


def test_the_libraries_are_read_and_not_imported(tmp_path):
    code = SMALL.replace("'seaborn'}", "'seaborn', 'torch': 'torch', 'sklearn': 'scikit-learn'}")
    code += (
        "import sys; rows = documentation._extract(); assert len(rows) > 1000, len(rows)\n"
        "heavy = {'torch', 'joblib', 'seaborn', 'sklearn', 'matplotlib', 'numpy', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out, said = child(code, tmp_path).communicate()
    assert out.strip() == "[]", out + said


def test_two_notebooks_at_once_make_it_once(tmp_path):
    code = SMALL + (
        "made = []; make = documentation._extract\n"
        "documentation._extract = lambda: made.append(1) or make()\n"
        "import hashlib; text = documentation.corpus().to_csv()\n"
        "print(len(made), hashlib.sha256(text.encode()).hexdigest())"
    )
    both = [child(code, tmp_path), child(code, tmp_path)]
    said = [process.communicate() for process in both]
    assert [p.returncode for p in both] == [0, 0], said
    made, text = zip(*(out.split() for out, _ in said), strict=True)
    assert sorted(made) == ["0", "1"] and text[0] == text[1]
    assert not list((tmp_path / "docs").glob(".part-*"))


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(documentation, "LIBRARIES", {"joblib": "joblib"})
    return lambda: next((tmp_path / "docs").glob("*/corpus.parquet"))


def test_read_from_the_cache_it_is_the_same(small, monkeypatch):
    first = documentation.corpus()
    monkeypatch.setattr(documentation, "_extract", lambda: pytest.fail("made a second time"))
    pd.testing.assert_frame_equal(documentation.corpus(), first)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: data[:2000] + bytes(b ^ 0xFF for b in data[2000:2100]) + data[2100:],
    ],
    ids=["half written", "empty", "bytes turned over"],
)
def test_a_damaged_file_is_made_again(small, damage):
    first = documentation.corpus()
    whole = small().read_bytes()
    small().write_bytes(damage(whole))
    pd.testing.assert_frame_equal(documentation.corpus(), first)
    assert small().read_bytes() == whole


def test_another_version_is_another_file(small, monkeypatch, tmp_path):
    key = documentation._key()
    changed = tmp_path / "prose.py"
    changed.write_bytes(Path(documentation.cleaning.__file__).read_bytes() + b"# another way to clean\n")
    with monkeypatch.context() as patch:
        patch.setattr(documentation.cleaning, "__file__", str(changed))
        assert documentation._key() != key
    monkeypatch.setattr(documentation.metadata, "version", lambda name: "9.9+cu130")
    cuda = documentation._key()
    monkeypatch.setattr(documentation.metadata, "version", lambda name: "9.9+cpu")
    assert documentation._key() == cuda != key


def test_a_full_disk_is_said_in_one_sentence_and_leaves_nothing(small, monkeypatch, tmp_path):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OSError, match="no room on the disk for the documentation text") as e:
        documentation.corpus()
    assert e.value.errno == errno.ENOSPC
    assert not [f for f in (tmp_path / "docs").iterdir() if f.suffix != ".lock"]


def test_a_library_that_is_missing_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setattr(documentation, "LIBRARIES", {"nowhere": "no-such-library"})
    with pytest.raises(FileNotFoundError, match="no-such-library is missing; run: .* make setup"):
        documentation.corpus()


def test_importing_it_is_light():
    assert not re.search(
        r"^(import|from) (pandas|pyarrow|numpy|tqdm)",
        (ROOT / "helpers" / "documentation.py").read_text(encoding="utf-8"),
        re.M,
    )


# lesson 6's pairs ---------------------------------------------------------------------------


def test_no_text_of_the_pairs_is_in_two_parts(corpus):
    parts = {name: documentation.pairs(name) for name in documentation.PARTS}
    everything = documentation.pairs()
    assert sum(map(len, parts.values())) == len(everything) == len(set(everything["question"]))
    assert len(set(everything["answer"])) == len(everything)
    assert all(
        len(parts[name]) > least for name, least in (("train", 5_000), ("dev", 1_000), ("test", 3_000))
    )
    libraries = [set(part["library"]) for part in parts.values()]
    assert set.union(*libraries) == set(documentation.LIBRARIES) and sum(map(len, libraries)) == 15
    assert libraries[2] == set(documentation.SEARCHED)
    with pytest.raises(ValueError, match="no part 'training'.*name one of train, dev, test"):
        documentation.pairs("training")


def test_a_pair_is_a_first_sentence_and_what_follows(corpus):
    pairs = documentation.pairs("test")
    texts = corpus.set_index(["library", "object"])["text"]
    for row in pairs.sample(200, random_state=0).itertuples():
        text = " ".join(texts[row.library, row.object].split())
        assert text.startswith(f"{row.question} {row.answer}")
        assert row.question[-1] in ".!?" and not re.search(r"[.!?] ", row.question)
        assert len(row.question.split()) >= 4 and 12 <= len(row.answer.split()) <= 36
