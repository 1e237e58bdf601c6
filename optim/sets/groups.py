"""Balls that keep or drop whole groups of entries: the filters of a convolution, the rows or columns of a matrix.

Sources: Yuan, Lin 2006 (the group lasso's norm); Rao, Dudik, Lozano 2017 (arXiv 1603.06846, the group K-support norm);
Zimmer, Spiegel, Pokutta 2022 (arXiv 2205.11921, filters).
Run: ``python -m trainer model=cnn optim=sfw constraint=group_l1 constraint.init_factor=10 constraint.apply_to=weights``
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from optim.sets.constraint_set import Counted, NormBall
from optim.sets.precision import or_one, sum_dtype
from optim.sets.vectors import below_simplex, k_support_norm

Groups = Literal["filters", "rows", "columns"]


@dataclass(frozen=True)
class GroupBall(NormBall):
    """A ball of a norm of the groups' l2 norms.

    Args:
        groups: ``filters`` and ``rows``: slices along the first dimension; ``columns``: along the second. A vector is a
            matrix of one column: its entries are its rows.
    """

    groups: Groups = "filters"

    def __post_init__(self, diameter: float | None) -> None:
        super().__post_init__(diameter)
        if self.groups not in ("filters", "rows", "columns"):
            raise ValueError(f"groups={self.groups}: must be filters, rows or columns")

    def count(self, shape: Sequence[int]) -> int:
        """Groups in a parameter of `shape`."""
        if self.groups == "columns":
            return shape[1] if len(shape) > 1 else 1
        return shape[0] if shape else 1

    def norms(self, x: Tensor) -> Tensor:
        """The l2 norm of each group, in double precision."""
        groups = x.transpose(0, 1) if self.groups == "columns" and x.ndim > 1 else x
        rows = groups.reshape(self.count(x.shape), -1)
        return torch.linalg.vector_norm(rows, dim=1, dtype=sum_dtype(x))

    def scaled(self, x: Tensor, factors: Tensor) -> Tensor:
        """x with each of its groups multiplied by one of `factors`."""
        along = 1 if self.groups == "columns" else 0
        return (x * factors.reshape([-1 if i == along else 1 for i in range(x.ndim)])).to(x.dtype)

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return 2


@dataclass(frozen=True)
class GroupL1(GroupBall):
    """{x : the groups' l2 norms sum to at most the radius}.

    lmo(g) = -radius g_G / ||g_G||_2 on the group of largest norm, else 0. Projection: group soft threshold.
    """

    def lmo(self, g: Tensor) -> Tensor:
        norms = self.norms(g)
        i = norms.argmax(0, keepdim=True)
        factor = -self.r / or_one(norms.gather(0, i))
        return self.scaled(g, torch.zeros_like(norms).scatter(0, i, factor))

    def project(self, x: Tensor) -> Tensor:
        norms = self.norms(x)
        return self.scaled(x, below_simplex(norms, self.r) / or_one(norms))

    def norm(self, x: Tensor) -> Tensor:
        return self.norms(x).sum()


@dataclass(frozen=True)
class GroupLInf(GroupBall):
    """{x : every group's l2 norm is at most the radius}. lmo(g) = -radius g_G / ||g_G||_2 on every group.

    Of rows, the bound of Srebro, Shraibman 2005 (max-norm) that dropout is used with. Projection: each group radially.
    """

    def lmo(self, g: Tensor) -> Tensor:
        return self.scaled(g, -self.r / or_one(self.norms(g)))

    def project(self, x: Tensor) -> Tensor:
        return self.scaled(x, (self.r / or_one(self.norms(x))).clamp(max=1))

    def norm(self, x: Tensor) -> Tensor:
        return self.norms(x).amax()

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return 2 * math.sqrt(self.count(shape))


@dataclass(frozen=True)
class GroupKSupport(GroupBall, Counted):
    """The convex hull of {x : ||x||_2 <= radius, at most K groups not 0}; `k` counts groups.

    lmo(g) = -radius g_K / ||g_K||_2 on the K groups of largest norm. Its projection has no closed form: x is shifted
    inside along the ray to 0.
    """

    things = "groups"

    def lmo(self, g: Tensor) -> Tensor:
        norms = self.norms(g)
        top = norms.topk(self.K(g.shape))
        factor = -self.r / or_one(torch.linalg.vector_norm(top.values))
        return self.scaled(g, torch.zeros_like(norms).scatter(0, top.indices, factor.expand(len(top.indices))))

    def norm(self, x: Tensor) -> Tensor:
        return k_support_norm(self.norms(x), self.K(x.shape))
