"""Polytopes that are not balls of norms: the simplexes, the box, the permutahedron and the Birkhoff polytope.

Sources: Jaggi 2013; Duchi et al. 2008 (projection onto the simplex); Lim, Wright 2016, and Blondel et al. 2020 (arXiv
2002.08871, projection onto the permutahedron by isotonic regression).
Run: ``python -m trainer optim=cgd constraint=box constraint.low=-0.5 constraint.high=0.5``
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from optim.sets.constraint_set import Ball, ConstraintSet, size
from optim.sets.precision import double, share, with_nan_of
from optim.sets.vectors import below_simplex, onto_simplex, place


@dataclass(frozen=True)
class UnitSimplex(Ball):
    """{x : x_i >= 0, sum of x_i <= radius}. lmo(g) = radius e_i for the most negative g_i, or 0 if none is negative.

    Projection: clamp at 0, then onto the face where the sum is the radius if it is more.
    """

    def lmo(self, g: Tensor) -> Tensor:
        flat = g.reshape(-1)
        i = flat.argmin(0, keepdim=True)
        return with_nan_of(place(flat, i, self.r * (-flat.gather(0, i).sign()).clamp(min=0)).view_as(g), g)

    def project(self, x: Tensor) -> Tensor:
        return with_nan_of(below_simplex(double(x).reshape(-1), self.r).view_as(x).to(x.dtype), x)

    def excess(self, x: Tensor) -> Tensor:
        y = double(x)
        return torch.maximum(-y.amin(), y.sum() - self.r) / self.r

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return math.sqrt(2) if size(shape) > 1 else 1

    def boundary(self, x: Tensor) -> Tensor:
        return (double(x).sum() / self.r).clamp(0, 1)


@dataclass(frozen=True)
class ProbabilitySimplex(Ball):
    """{x : x_i >= 0, sum of x_i = radius}. lmo(g) = radius e_i, i = argmin g_i. Projection: shift and clamp (sort)."""

    def lmo(self, g: Tensor) -> Tensor:
        flat = g.reshape(-1)
        i = flat.argmin(0, keepdim=True)
        return with_nan_of(place(flat, i, torch.full_like(flat[:1], self.r)).view_as(g), g)

    def project(self, x: Tensor) -> Tensor:
        return with_nan_of(onto_simplex(double(x).reshape(-1), self.r).view_as(x).to(x.dtype), x)

    def excess(self, x: Tensor) -> Tensor:
        y = double(x)
        return torch.maximum(-y.amin(), (y.sum() - self.r).abs()) / self.r

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return math.sqrt(2) if size(shape) > 1 else 0

    def boundary(self, x: Tensor) -> Tensor:
        """The share of entries at 0: all of the simplex has the same sum."""
        return share(x <= 1e-3 * self.r / x.numel())


@dataclass(frozen=True)
class Box(ConstraintSet):
    """{x : low <= x_i <= high}. lmo(g) = low where g_i > 0, high where g_i < 0, the middle at 0. Projection: clamp.

    Args:
        low: the least value of an entry.
        high: the largest value of an entry.

    Raises:
        ValueError: `low` is not less than `high`, or one is not finite.
    """

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low={self.low}: must be a number less than high={self.high}")

    def lmo(self, g: Tensor) -> Tensor:
        middle = torch.full_like(g, (self.low + self.high) / 2)
        return with_nan_of(torch.where(g > 0, self.low, torch.where(g < 0, self.high, middle)), g)

    def project(self, x: Tensor) -> Tensor:
        return with_nan_of(x.clamp(self.low, self.high), x)

    def excess(self, x: Tensor) -> Tensor:
        y = double(x)
        outside = torch.maximum(self.low - y.amin(), y.amax() - self.high)
        return outside / max(self.high - self.low, abs(self.low), abs(self.high))

    def diameter(self, shape: Sequence[int]) -> float:
        return (self.high - self.low) * math.sqrt(size(shape))

    def boundary(self, x: Tensor) -> Tensor:
        near = 5e-4 * (self.high - self.low)
        return share((x <= self.low + near) | (x >= self.high - near))


@dataclass(frozen=True)
class Permutahedron(Ball):
    """The convex hull of all orders of radius * linspace(-1, 1, n). lmo(g): the weights sorted against g.

    Projection: isotonic regression, in SciPy: it waits for the device.
    """

    def weights(self, n: int, like: Tensor) -> Tensor:
        """The weights, upwards."""
        return self.r * torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device)

    def lmo(self, g: Tensor) -> Tensor:
        flat = g.reshape(-1)
        order = flat.argsort(descending=True, stable=True)  # the largest g_i gets the smallest weight
        w = self.weights(len(flat), double(flat)).to(g.dtype)
        return with_nan_of(place(flat, order, w).view_as(g), g)

    def project(self, x: Tensor) -> Tensor:
        y, order = double(x).reshape(-1).sort(descending=True)
        # Only differences matter, and none beyond the weights' range: far from the set, digits would be lost.
        y = torch.cat([0 * y[:1], -(y[:-1] - y[1:]).clamp(max=2 * self.r).cumsum(0)])
        w = self.weights(len(y), y).flip(0)
        return with_nan_of(place(y, order, y - nonincreasing(y - w)).view_as(x).to(x.dtype), x)

    def excess(self, x: Tensor) -> Tensor:
        y = double(x).reshape(-1).sort(descending=True).values
        over = (y - self.weights(len(y), y).flip(0)).cumsum(0)  # x is majorized by w: no partial sum is larger, …
        return torch.maximum(over.amax(), over[-1].abs()) / (self.r * len(y))  # … and the total is the same

    def unit_diameter(self, shape: Sequence[int]) -> float:
        n = size(shape)
        return 2 * math.sqrt(n * (n + 1) / (3 * (n - 1))) if n > 1 else 0.0

    def boundary(self, x: Tensor) -> Tensor:
        """The share of the radius used: the largest ratio of partial sums of x and of the weights, sorted."""
        y = double(x).reshape(-1).sort(descending=True).values
        bounds = self.weights(len(y), y).flip(0).cumsum(0)[:-1]
        return (y.cumsum(0)[:-1] / bounds).amax().clamp(0, 1) if len(y) > 1 else y.new_ones(())


@dataclass(frozen=True)
class Birkhoff(ConstraintSet):
    """The doubly stochastic n x n matrices: entries >= 0, rows and columns that sum to 1. Its vertices: permutations.

    lmo(g) solves an assignment problem in SciPy, on the host: unlike all other oracles it waits for the device, and no
    CUDA graph can capture it. No projection has a closed form: x is shifted inside along the ray to the centre.
    """

    of_matrices = True

    def fitted(self, x: Tensor) -> ConstraintSet:
        if x.ndim != 2 or x.shape[0] != x.shape[1]:
            raise ValueError(
                f"apply_to={show(self.apply_to)}: Birkhoff needs square matrices, not {shown(x.shape)}; "
                "name only square ones"
            )
        return super().fitted(x)

    def lmo(self, g: Tensor) -> Tensor:
        return assignment(g)

    def excess(self, x: Tensor) -> Tensor:
        y = double(x)
        sums = torch.cat([y.sum(0), y.sum(1)])
        return torch.maximum(-y.amin(), (sums - 1).abs().amax())

    def diameter(self, shape: Sequence[int]) -> float:
        return math.sqrt(2 * shape[0]) if shape[0] > 1 else 0.0

    def boundary(self, x: Tensor) -> Tensor:
        """The share of entries at 0 or 1."""
        return share((x <= 1e-3 / len(x)) | (x >= 0.999))

    def shift_inside(self, x: Tensor) -> Tensor:
        y, n = double(x), len(x)
        for _ in range(2):  # the second time for what rounding has left of entries far outside
            y = y + (1 - y.sum(1, keepdim=True)) / n  # rows sum to 1,
            y = y + (1 - y.sum(0, keepdim=True)) / n  # and columns too: rows still do
        return (1 / n + (y - 1 / n) / (1 - n * y.amin()).clamp(min=1)).to(x.dtype)


@torch.library.custom_op("conga::assignment", mutates_args=())
def assignment(g: Tensor) -> Tensor:
    """The permutation matrix P of least <g, P>, for g (n, n) or a stack of them; all NaN where g is not finite."""
    from scipy.optimize import linear_sum_assignment

    costs = g.detach().cpu().double().numpy()
    result = np.full(costs.shape, np.nan)
    for cost, p in zip(costs.reshape(-1, *costs.shape[-2:]), result.reshape(-1, *costs.shape[-2:]), strict=True):
        if np.isfinite(cost).all():
            p[...] = 0
            p[linear_sum_assignment(cost)] = 1
    return torch.from_numpy(result).to(g)


@assignment.register_fake
def _(g: Tensor) -> Tensor:
    return torch.empty_like(g)


@assignment.register_vmap
def _(info: Any, in_dims: tuple[int, ...], g: Tensor) -> tuple[Tensor, int]:
    return assignment(g.movedim(in_dims[0], 0).contiguous()), 0


@torch.library.custom_op("conga::nonincreasing", mutates_args=())
def nonincreasing(y: Tensor) -> Tensor:
    """The nearest vector whose entries do not increase: isotonic regression, on the host."""
    from scipy.optimize import isotonic_regression

    return torch.from_numpy(isotonic_regression(y.cpu().numpy(), increasing=False).x.copy()).to(y)


@nonincreasing.register_fake
def _(y: Tensor) -> Tensor:
    return torch.empty_like(y)


def shown(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def show(apply_to: str | Sequence[str]) -> str:
    return apply_to if isinstance(apply_to, str) else ",".join(apply_to)
