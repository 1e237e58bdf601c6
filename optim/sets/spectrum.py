"""Parameters as matrices, and their singular values, whatever the entries are.

A parameter of more than two dimensions is its first dimension by all others; a vector of n entries is n x 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from optim.sets.precision import double, l2_norm, or_one, wide, zero_or_nan


def sides(shape: Sequence[int]) -> tuple[int, int]:
    """The rows and columns of a parameter of `shape` as a matrix."""
    first = shape[0] if shape else 1
    return first, math.prod(shape) // first


def matrix(x: Tensor) -> Tensor:
    """x as a matrix: its first dimension by all others."""
    return x.reshape(sides(x.shape))


def valid(m: Tensor) -> tuple[Tensor, Tensor]:
    """m without NaN and infinities, which a decomposition refuses, and what to add to a result instead: 0, or NaN.

    Without a branch, so that under vmap the other matrices of a stack are decomposed all the same.
    """
    return m.nan_to_num(0.0, 0.0, 0.0), zero_or_nan(m)


def singular_values(x: Tensor) -> Tensor:
    """The singular values of x as a matrix, downwards; NaN if x is not finite."""
    m, invalid = valid(matrix(x))
    return torch.linalg.svdvals(m) + invalid


def with_values(x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """x as a matrix with f(s) for its singular values s, in double precision; NaN where x is not finite."""
    m, invalid = valid(matrix(double(x)))
    u, s, vt = torch.linalg.svd(m, full_matrices=False)
    return ((u * f(s)) @ vt + invalid).view_as(x).to(x.dtype)


def decomposed(m: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """U, s, V^T of a finite m, with 0 for those singular values that rounding may have made.

    An oracle takes singular vectors at full length, however small their value: noise would fill a gradient's null
    space, as that of a softmax layer, whose rows add up to 0. Two bounds on noise:

    - max(rows, columns) units in the last place of s_1, in the precision that m is computed in, are what the
      decomposition and the sums that made the gradient may lose (NumPy's rule for a rank);
    - `eps` is that of the type that m came in, where its entries were rounded: each by up to half of it, together by a
      matrix of norm eps / 2 ||m||_F at most, so that no singular value is further off (Weyl). For a type that m is not
      computed in this is the larger bound: the first rule with bfloat16's 1/128 would drop all of a matrix of 128 rows.
    """
    u, s, vt = torch.linalg.svd(m, full_matrices=False)
    fine = torch.finfo(m.dtype).eps
    noise = fine * max(m.shape) * s[0]
    if eps > fine:
        noise = torch.maximum(noise, eps / 2 * l2_norm(s))
    return u, s * (s > noise), vt


def effective_rank(x: Tensor) -> Tensor:
    """exp of the entropy of the singular values as shares of their sum (Roy, Vetterli 2007): 1 for rank one, 0-d."""
    return rank_of(singular_values(wide(x)))


def rank_of(s: Tensor) -> Tensor:
    """The effective rank from singular values."""
    return torch.special.entr(s / or_one(s.sum())).sum().exp()
