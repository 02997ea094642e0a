"""Texts as functions take them: a list of strings, none of them empty, or one sentence that says what is wrong.

from helpers import texts
texts.as_list(["a lamp", "a boat"])     # a Series, an array, a generator do as well
texts.fault("\\u200b")                   # "is empty (it holds invisible characters only)"
"""

import math
import unicodedata
from collections.abc import Iterable, Mapping

FILLERS = "\u115f\u1160\u2800\u3164\uffa0"  # letters and a symbol, by their category, that show nothing


def as_list(texts: Iterable[str], what: str = "text") -> list[str]:
    """The texts as a list of strings, in their order.

    texts: any sequence or iterator of strings: a list, a pandas Series, an array, a generator.
    what: the name of one of them in a message. Raises TypeError for one text in place of several, for what
    has no order or no texts at all, and for an item that is no text; ValueError for no texts and for an
    item that is empty or broken. A message names the place, counted from 1.
    """
    if isinstance(texts, str):
        raise TypeError(f"one {what} was given where a list of {what}s belongs; write [{what}]")
    if hasattr(texts, "columns"):
        raise TypeError(f"a table was given where a list of {what}s belongs; give one of its columns")
    if isinstance(texts, bytes | Mapping | set | frozenset):
        raise TypeError(f"a {type(texts).__name__} was given where a list of {what}s belongs")
    try:
        texts = list(texts)
    except TypeError:
        raise TypeError(f"{_kind(texts)} was given where a list of {what}s belongs") from None
    if not texts:
        raise ValueError(f"there are no {what}s; give at least one")
    for place, text in enumerate(texts, 1):
        if wrong := fault(text):
            error = ValueError if isinstance(text, str) else TypeError
            raise error(f"{what} {place} of {len(texts)} {wrong}")
    return texts


def fault(text: object) -> str:
    """What is wrong with one text, as the end of a sentence; "" where nothing is."""
    if not isinstance(text, str):
        return "is missing" if _missing(text) else f"is {_kind(text)}, not a text"
    if not text.strip():
        return "is empty"
    for place, sign in enumerate(text, 1):
        if "\ud800" <= sign <= "\udfff":
            return f"holds half a character at place {place} (U+{ord(sign):04X}); write it anew"
    if not any(_shows(sign) for sign in text):
        return "is empty (it holds invisible characters only)"
    return ""


def _shows(sign: str) -> bool:
    """Whether a character leaves ink: no space, control, format, unassigned or combining one, no filler."""
    category = unicodedata.category(sign)
    return category[0] not in "CZ" and category not in ("Mn", "Me") and sign not in FILLERS


def _missing(value: object) -> bool:
    """None, NaN, and what pandas has in their place."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or type(value).__name__ in ("NAType", "NaTType")
    )


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return f"{value}"
    if isinstance(value, int | float) or hasattr(value, "dtype"):
        return (
            f"a number ({value})"
            if getattr(value, "ndim", 0) == 0
            else f"an array of {value.ndim} dimensions"
        )
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
