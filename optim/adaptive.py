"""Frank-Wolfe with adaptive gradients: a few Frank-Wolfe steps on AdaGrad's proximal problem, instead of a projection.

With s the sum of squared gradients and H = diag(sqrt(s) + delta), K inner steps from y = x on

    Q(y) = <g, y - x> + ||y - x||_H^2 / (2 lr)

with the exact step, clipped: gamma = clip(lr <grad Q(y), y - v> / ||y - v||_H^2, 0, 1).

With momentum, the mean m of gradients stands for g throughout, as in the reference code.

Source: Combettes, Spiegel, Pokutta 2020, arXiv 2009.14114 (AdaSFW).
Run: ``python -m trainer model=cnn optim=adagrad_sfw constraint=linf``
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from optim.conditional import Averaging
from optim.constrained import Group
from optim.options import at_least_1, option
from optim.sets import ConstraintSet
from optim.sets.precision import or_one


def whole(name: str, value: float) -> None:
    """Raises ValueError unless `value` is a whole number, at least 1."""
    at_least_1(name, value)
    if value != int(value):
        raise ValueError(f"{name}={value}: must be a whole number")


def positive(name: str, value: float) -> None:
    """Raises ValueError unless `value` is greater than 0, and finite."""
    if not 0 < value < math.inf:
        raise ValueError(f"{name}={value}: must be a number > 0")


class AdaGradSFW(Averaging):
    """Stochastic Frank-Wolfe with AdaGrad's metric.

    Args:
        lr: step size of the proximal problem, at least 0; no share of the way.
        inner_steps: K, the Frank-Wolfe steps on the proximal problem.
        delta: added to the roots of the sums of squares.
    """

    later: ClassVar[Group] = {"momentum": 0.0, **Averaging.later}

    inner_steps: int = option(default=2, check=whole)
    delta: float = option(default=1e-8, check=positive)

    def takes_share(self, group: Group) -> bool:
        return False

    def takes_whole(self, group: Group) -> bool:
        return False

    def move(self, x: Tensor, g: Tensor, C: ConstraintSet, group: Group) -> None:
        state, lr, y, m = self.state[x], group["lr"], x.clone(), self.mean(x, g, group)
        state["sum"] = m.square() if "sum" not in state else state["sum"].addcmul_(m, m)
        H = state["sum"].sqrt().add_(group["delta"])
        for _ in range(group["inner_steps"]):
            # lr times the gradient of Q, so that lr = 0 needs no division; its vertex is the same
            q = lr * m + H * (y - x)
            d = y - C.lmo(q)
            gamma = torch.sum(q * d) / or_one(torch.sum(H * d * d))
            y.sub_(gamma.clamp(0, 1) * d)
        self.put(x, y, g, C)
