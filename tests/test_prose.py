"""A documentation string becomes the sentences that it holds."""

from helpers.prose import plain, prose

RAW = """Scale every row to length one.

    Each row is divided by its norm, see :func:`~sklearn.preprocessing.normalize` and
    `the guide <https://example.org/guide>`_. Rows of zeros stay as they *are* [1]_.
    The details are at https://example.org/details and nowhere else.
    The result obeys :math:`\\\\lVert x \\\\rVert_2 = 1` for every row.

    .. versionadded:: 1.2
       Not to be read.

    .. note::
       Rows of a sparse matrix are scaled ``in place`` where that is possible.

    ======  =====
    norm    power
    ======  =====
    l1      one
    ======  =====

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        The rows that are to be scaled.
    copy : bool, default=True
        Whether the input is left as it was.

    Returns
    -------
    ndarray
        The scaled rows of the input.

    See Also
    --------
    normalize : The same as a function of its own.

    Examples
    --------
    A small matrix is enough to see it::

        import numpy

    >>> scale([[3, 4]])
    array([[0.6, 0.8]])

    ```python
    fenced = "code of another kind"
    ```
    After the code the story goes on.

    References
    ----------
    .. [1] A. Author, A Book That Nobody Should Find Here.
"""

CLEAN = [
    "Scale every row to length one.",
    "Each row is divided by its norm, see normalize and the guide. Rows of zeros stay as they are.",
    "Rows of a sparse matrix are scaled in place where that is possible.",
    "The rows that are to be scaled.",
    "Whether the input is left as it was.",
    "The scaled rows of the input.",
    "A small matrix is enough to see it:",
    "After the code the story goes on.",
]

GOOGLE = """Load a model from a folder.

    Args:
        name (`str`, *optional*, defaults to `"bert"`):
            The name of the model to load.
        *others: Further options that are handed on.
        :param strict: Whether a missing file is an error.

    Returns:
        `Model`: The loaded model in its folder.

    Example::

        load("bert")

    See [`Trainer`] for what comes next.
"""


def test_a_documentation_string_becomes_prose():
    assert prose(RAW).split("\n") == CLEAN


def test_both_manners_of_documenting_are_read():
    assert prose(GOOGLE).split("\n") == [
        "Load a model from a folder.",
        "The name of the model to load.",
        "Further options that are handed on.",
        "Whether a missing file is an error.",
        "The loaded model in its folder.",
        "See Trainer for what comes next.",
    ]


def test_plain_keeps_code_and_types_and_takes_the_markup_off():
    raw = """Give ``x`` to :func:`~numpy.mean`.

    Parameters
    ----------
    x : array_like
        Its numbers.

    >>> mean(`x`)
    1 | 2
    """
    assert plain(raw).split("\n") == [
        "Give x to numpy.mean.",
        "Parameters x : array_like Its numbers.",
        ">>> mean(x) 1 | 2",
    ]
    assert plain(" \n ") == ""
