"""Penalties lambda R(x) as proximal steps: what an optimizer does after its own step instead of a projection.

prox(x, t) = argmin over y of ||y - x||^2 / 2 + t R(y), so that weights become exactly 0. R is the dual side of a set:
for each lambda there is a radius with which minimizing over {x : R(x) <= radius} has the same solution.
Source: Parikh, Boyd 2014, Proximal Algorithms, section 6.5.
Run: ``python -m trainer optim=sgd optim.penalty=l1 optim.penalty_factor=1e-3``
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from optim.sets.groups import GroupL1
from optim.sets.precision import or_one
from optim.sets.spectrum import with_values

KINDS = ("l1", "group", "nuclear")


@dataclass(frozen=True)
class Penalty:
    """R: ``l1``, the sum of |x_i|; ``group``, of the filters' (rows') l2 norms; ``nuclear``, of the singular values."""

    kind: str

    def prox(self, x: Tensor, t: float | Tensor) -> Tensor:
        """The soft threshold by t >= 0 of entries, groups or singular values, of x's shape."""
        if self.kind == "l1":
            return x.sign() * (x.abs() - t).clamp(min=0)
        if self.kind == "group":
            rows = GroupL1(groups="filters")
            norms = rows.norms(x)
            return rows.scaled(x, (norms - t).clamp(min=0) / or_one(norms))
        return with_values(x, lambda s: (s - t).clamp(min=0))


def known_penalty(name: str, value: str) -> None:
    """Raises ValueError unless `value` is a penalty."""
    if value not in KINDS:
        raise ValueError(f"{name}={value}: must be {', '.join(KINDS[:-1])} or {KINDS[-1]}")
