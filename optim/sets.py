"""Compact convex sets with their linear minimization oracles.

One sign, everywhere: ``lmo(g)`` is a point of C that minimizes <g, v>. Oracles are pure tensor functions: no host
synchronization, no Python branch on a tensor's value. Sources: Jaggi 2013; Pokutta, Spiegel, Zimmer 2020
(arXiv 2010.07243).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class ConstraintSet:
    """The contract of every set. A set holds its scalars (a radius, …), not shapes: it works on any parameter."""

    def lmo(self, g: Tensor) -> Tensor:
        """argmin over C of <g, v>: a point of C of g's shape. At ties, and at g = 0, a fixed feasible one."""
        raise NotImplementedError

    def project(self, x: Tensor) -> Tensor:
        """The point of C nearest to x in the Euclidean norm, of x's shape."""
        raise NotImplementedError

    def shift_inside(self, x: Tensor) -> Tensor:
        """A point of C near x; x itself if it is in C."""
        return self.project(x)

    def contains(self, x: Tensor, tolerance: float = 0.0) -> Tensor:
        """Whether x is in C, or outside by at most `tolerance` relative to the set's size: a 0-d bool tensor."""
        raise NotImplementedError

    def diameter(self, shape: Sequence[int]) -> float:
        """The largest Euclidean distance between two points of C, for a parameter of `shape`."""
        raise NotImplementedError

    def gap(self, g: Tensor, x: Tensor) -> Tensor:
        """The Frank-Wolfe gap max over C of <g, x - v> = <g, x - lmo(g)>: 0-d, never negative for x in C."""
        return torch.sum(g * (x - self.lmo(g)))


@dataclass(frozen=True)
class LInf(ConstraintSet):
    """The hypercube {x : |x_i| <= radius}.

    Args:
        radius: half the edge, > 0; as the tensors' precision rounds it (0.1 is 0.10009765625 in bfloat16).

    Raises:
        ValueError: the radius is not a positive, finite number.
    """

    radius: float

    def __post_init__(self) -> None:
        if not 0 < self.radius < math.inf:
            raise ValueError(f"radius={self.radius}: must be a number > 0")

    def lmo(self, g: Tensor) -> Tensor:
        return g.sign().mul_(-self.radius)  # where g_i = 0 every v_i minimizes; sign(0) = 0 takes the centre

    def project(self, x: Tensor) -> Tensor:
        return x.clamp(-self.radius, self.radius)

    def contains(self, x: Tensor, tolerance: float = 0.0) -> Tensor:
        return (x.abs() <= self.radius * (1 + tolerance)).all()

    def diameter(self, shape: Sequence[int]) -> float:
        return 2 * self.radius * math.sqrt(math.prod(shape))

    def gap(self, g: Tensor, x: Tensor) -> Tensor:
        return torch.sum(g * x) + self.radius * g.abs().sum()  # <g, x - v> with v = -radius sign(g)


@torch.no_grad()
def shift_all_inside(parameters: Iterable[Tensor], constraint: ConstraintSet) -> list[int]:
    """Moves every parameter into the set, in place, and says which (by position) were outside.

    A conditional gradient step is a convex combination: it keeps x inside only if x started there.
    """
    outside = []
    for i, x in enumerate(parameters):
        if not constraint.contains(x):  # waits for the device; once, before the training
            x.copy_(constraint.shift_inside(x))
            outside.append(i)
    return outside
