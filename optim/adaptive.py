"""Frank-Wolfe with adaptive gradients: a few Frank-Wolfe steps on AdaGrad's proximal problem, instead of a projection.

With s the sum of squared gradients and H = diag(sqrt(s) + delta), K inner steps from y = x on

    Q(y) = <g, y - x> + ||y - x||_H^2 / (2 lr)

with the exact step, clipped: gamma = clip(lr <grad Q(y), y - v> / ||y - v||_H^2, 0, 1).

Source: Combettes, Spiegel, Pokutta 2020, arXiv 2009.14114 (AdaSFW).
Run: ``python -m trainer model=cnn optim=adagrad_sfw constraint=linf``
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optim.checks import check_range
from optim.conditional import ConditionalGradient, Group
from optim.measure import Measurements
from optim.sets import Constraint, ConstraintSet
from optim.sets.precision import or_one


class AdaGradSFW(ConditionalGradient):
    """Stochastic Frank-Wolfe with AdaGrad's metric.

    Args:
        params, constraint, free_lr, free_momentum, gap_every: as for :class:`optim.conditional.ConditionalGradient`.
        lr: of the proximal problem, at least 0; no share.
        inner_steps: K >= 1.
        delta: > 0, added to the roots of the sums.
        weight_decay: lambda >= 0, adds lambda x to the gradient.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`, or no constraint set.
    """

    def __init__(
        self,
        params: ParamsT,
        constraint: Constraint,
        *,
        lr: float,
        inner_steps: int = 2,
        delta: float = 1e-8,
        weight_decay: float = 0.0,
        free_lr: float = 0.05,
        free_momentum: float = 0.9,
        gap_every: int | None = None,
    ):
        options = {"lr": lr, "inner_steps": inner_steps, "delta": delta, "weight_decay": weight_decay}
        super().__init__(params, constraint, options, free_lr=free_lr, free_momentum=free_momentum, gap_every=gap_every)

    def check(self, group: Group) -> None:
        check_range("inner_steps", group["inner_steps"], 1)
        if group["inner_steps"] != int(group["inner_steps"]):
            raise ValueError(f"inner_steps={group['inner_steps']}: must be a whole number")
        if not 0 < group["delta"] < math.inf:
            raise ValueError(f"delta={group['delta']}: must be a number > 0")
        super().check(group)

    def takes_share(self, group: Group) -> bool:
        return False

    def move(self, x: Tensor, g: Tensor, C: ConstraintSet, group: Group, measured: Measurements) -> None:
        state, lr = self.state[x], group["lr"]
        state["sum"] = g.square() if "sum" not in state else state["sum"].addcmul_(g, g)
        H = state["sum"].sqrt().add_(group["delta"])
        start = x.clone()
        for _ in range(group["inner_steps"]):
            # lr times the gradient of Q, so that lr = 0 needs no division; its vertex is the same
            q = lr * g + H * (x - start)
            d = x - C.lmo(q)
            gamma = torch.sum(q * d) / or_one(torch.sum(H * d * d))
            x.sub_(gamma.clamp(0, 1) * d)
        measured.moved(x, start, g, C)
