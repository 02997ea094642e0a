"""Every public function that takes texts: a list, a Series, an array, a generator do; all else is one sentence."""

import inspect

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import encoders, kept_vectors, ranking, texts, training
from helpers.texts import as_list

GOOD = ["a lamp", "a boat"]
CARRIERS = {
    "a list": list,
    "a tuple": tuple,
    "a Series": pd.Series,
    "a Series with other numbers": lambda t: pd.Series(t, index=[7, 3]),
    "an array": np.array,
    "an array of objects": lambda t: np.array(t, dtype=object),
    "a generator": iter,
    "the keys of a dict": lambda t: dict.fromkeys(t).keys(),
}
BAD = {
    "one text": ("a lamp", TypeError, "one text was given where a list of texts belongs"),
    "bytes": (b"a lamp", TypeError, "a bytes was given"),
    "a dict": ({"a": "lamp"}, TypeError, "a dict was given"),
    "a set": ({"a lamp"}, TypeError, "a set was given"),
    "None": (None, TypeError, "a NoneType was given"),
    "a number": (3, TypeError, "a number \\(3\\) was given"),
    "a table": (pd.DataFrame({"text": GOOD}), TypeError, "a table was given.*give one of its columns"),
    "nothing": ([], ValueError, "there are no texts"),
    "an empty Series": (pd.Series([], dtype=object), ValueError, "there are no texts"),
    "None among them": (["a", None], TypeError, "text 2 of 2 is missing"),
    "NaN among them": (["a", float("nan")], TypeError, "text 2 of 2 is missing"),
    "pandas' NA": (pd.Series(["a", None, "b"], dtype="string"), TypeError, "text 2 of 3 is missing"),
    "a number among them": (["a", 3], TypeError, "text 2 of 2 is a number \\(3\\), not a text"),
    "numbers": (np.array([1.5, 2.5]), TypeError, "text 1 of 2 is a number \\(1.5\\), not a text"),
    "rows": (np.array([["a", "b"]]), TypeError, "text 1 of 1 is an array of 1 dimensions, not a text"),
    "a list among them": (["a", ["b"]], TypeError, "text 2 of 2 is a list, not a text"),
    "bytes among them": (["a", b"b"], TypeError, "text 2 of 2 is a bytes, not a text"),
    "an empty text": (["a", ""], ValueError, "text 2 of 2 is empty"),
    "spaces": (["a", " \t\n\u00a0\u3000"], ValueError, "text 2 of 2 is empty"),
    "a zero-width space": (["a", "\u200b"], ValueError, "text 2 of 2 is empty .it holds invisible"),
    "a lone accent": (["a", "\u0301"], ValueError, "text 2 of 2 is empty .it holds invisible"),
    "a blank that is a letter": (["a", "\u3164"], ValueError, "text 2 of 2 is empty .it holds invisible"),
    "half an emoji": (["a", "b\ud83d"], ValueError, "text 2 of 2 holds half a character at place 2"),
}
TAKERS = {
    "texts.as_list": as_list,
    "encoders.tokenise": encoders.tokenise,
    "encoders.embed": lambda t: encoders.embed(
        encoders.Encoder(vocabulary=30522, width=8, layers=1, heads=2, out=4), t
    ),
    "kept_vectors.lookup": kept_vectors.lookup,
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("taker", TAKERS)
def test_whatever_holds_texts_will_do(taker, carrier):
    found, wanted = TAKERS[taker](CARRIERS[carrier](GOOD)), TAKERS[taker](GOOD)
    assert len(found) == len(wanted) == 2


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("taker", TAKERS)
def test_what_is_no_list_of_texts_gets_one_sentence(taker, kind):
    given_, error, said = BAD[kind]
    with pytest.raises(error, match=said) as caught:
        TAKERS[taker](given_)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_a_text_without_fault_has_pieces(text):
    """What is not called empty has ink, and BERT's tokenizer makes at least one piece of it."""
    if not texts.fault(text):
        assert len(encoders.tokenise([text])[0]) > 2


VISIBLE = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "S"], exclude_characters=texts.FILLERS),
    min_size=1,
)


@given(st.lists(VISIBLE, min_size=1))
def test_visible_texts_are_taken_as_they_are(found):
    assert as_list(iter(found)) == found


def test_no_public_function_that_takes_texts_was_forgotten():
    """A parameter called texts, in any helper: it stands in TAKERS, or is a function of the course's own rows."""
    import importlib
    import pkgutil

    import helpers

    own_rows = {"tasks.bm25", "tasks.halves", "kept_vectors.save"}
    found = set()
    for module in pkgutil.iter_modules(helpers.__path__):
        if module.name in ("exercises", "texts"):
            continue
        for name, thing in vars(importlib.import_module(f"helpers.{module.name}")).items():
            here = getattr(thing, "__module__", "") == f"helpers.{module.name}"
            if here and inspect.isfunction(thing) and "texts" in inspect.signature(thing).parameters:
                found.add(f"{module.name}.{name}")
    assert found - own_rows - set(TAKERS) == set()


def test_pairs_name_row_and_column():
    good = pd.DataFrame({"question": GOOD, "answer": ["on the sill", "in the bay"]})
    towers = [encoders.Encoder(vocabulary=30522, width=8, layers=1, heads=2, out=4) for _ in range(2)]
    for value, said in ((None, "is missing"), (3, "is a number"), (" ", "is empty"), ("\u200b", "is empty")):
        wrong = good.astype(object)
        wrong.loc[1, "answer"] = value
        with pytest.raises(ValueError, match=f"row 1: column 'answer' {said}"):
            ranking.reciprocal_ranks(*towers, wrong)
        with pytest.raises(ValueError, match=f"row 1: column 'answer' {said}"):
            training.train(*towers, wrong, batch=2, steps=1, progress=False)
    assert isinstance(ranking.reciprocal_ranks(*towers, good), np.ndarray) and torch.is_tensor(
        encoders.embed(towers[0], good["answer"])
    )
