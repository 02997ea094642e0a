"""From the vectors of a sentence's tokens to one vector, as lesson 4 explains it.

    >>> import torch
    >>> tokens = torch.tensor([[[1.0, 4.0], [3.0, 2.0], [9.0, 9.0]]])   # one sentence
    >>> mask = torch.tensor([[1, 1, 0]])                                # the third is padding
    >>> mean_pool(tokens, mask), cls_pool(tokens, mask), max_pool(tokens, mask)
    (tensor([[2., 3.]]), tensor([[1., 4.]]), tensor([[3., 4.]]))

Method: N. Reimers, I. Gurevych, Sentence-BERT, 2019 (arXiv 1908.10084), section 3.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def mean_pool(token_vectors: "Tensor", mask: "Tensor") -> "Tensor":
    """Average the vectors of real tokens, leaving padding out.

    token_vectors: (batch, tokens, dim); mask: (batch, tokens), 1 for a token, 0 for padding
    Returns (batch, dim). Raises ValueError for a row that is all padding.
    """
    real = _real(mask)
    return (token_vectors * real).sum(dim=1) / real.sum(dim=1)


def cls_pool(token_vectors: "Tensor", mask: "Tensor") -> "Tensor":
    """The vector of the first real token, which BERT's tokenizer makes [CLS].

    Shapes and errors as in `mean_pool`. Padding may stand on either side.
    """
    first = _real(mask).squeeze(-1).int().argmax(dim=1)
    return token_vectors[range(len(first)), first]


def max_pool(token_vectors: "Tensor", mask: "Tensor") -> "Tensor":
    """The largest value of each dimension over the real tokens.

    Shapes and errors as in `mean_pool`.
    """
    return token_vectors.masked_fill(~_real(mask), float("-inf")).amax(dim=1)


def _real(mask: "Tensor") -> "Tensor":
    """The mask as (batch, tokens, 1), True for a token."""
    real = mask.bool()
    if not bool(real.any(dim=1).all()):
        raise ValueError("a row is all padding: it has no token to pool")
    return real.unsqueeze(-1)
