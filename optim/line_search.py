"""Conditional gradients whose step size comes from the function along the way to the vertex, not from a schedule.

With d = v - x over all parameters that a set holds, and h(gamma) = <grad f(x + gamma d), d>, which is -gap at 0:

- ``short``: gamma = clip(gap / c, 0, 1) with the curvature c = (h(t) - h(0)) / t, t the last step's share of the way:
  the smoothness that the rule needs is estimated anew in each step. The exact line search of a quadratic.
- ``backtracking``: gamma = min(gap / (M ||d||^2), 1). M begins at 0.9 of the last one and is doubled until
  h(gamma) <= 0 (Pedregosa, Negiar, Askari, Jaggi 2020, arXiv 1806.05123, with the test of Pokutta 2023, arXiv
  2311.05313, which needs gradients only). A convex f never increases.

Both ask ``closure(points)`` for gradients of the same batch, as :mod:`optim.two_point` says.
Run: ``python -m trainer optim=line_search optim.rule=short``
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from optim.constrained import Group
from optim.options import option
from optim.sets.precision import double, or_one
from optim.two_point import Gradients, TwoPoint

RULES = ("short", "backtracking")
# The share of the way at which curvature is measured: in the first step, and in others at least.
FIRST, LEAST = 0.1, 1e-3
SHRINK, GROW, TRIALS, SLACK = 0.9, 2.0, 40, 1e-6  # of M; and what of the gap rounding may leave


def known_rule(name: str, value: str) -> None:
    """Raises ValueError unless `value` is a rule."""
    if value not in RULES:
        raise ValueError(f"{name}={value}: must be {' or '.join(RULES)}")


class LineSearch(TwoPoint):
    """Conditional gradient descent with a step size for all held parameters together, from gradients along the way.

    Args:
        lr: in [0, 1], times the rule's step; 1 is the rule.
        rule: ``short``: one more gradient a step; ``backtracking``: one or a few, and it waits for the device.
    """

    rule: Literal["short", "backtracking"] = option(default="short", check=known_rule)

    second_point = "trial"

    def start(self, options: dict[str, Any]) -> None:
        self.rule = options.pop("rule")
        super().start(options)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"rule": self.rule}

    def takes_whole(self, group: Group) -> bool:
        return False

    @torch.no_grad()
    def step(self, closure: Gradients | None = None) -> None:  # type: ignore[override]  # its closure takes points
        self.closure = self.needed(closure)
        self.advance()
        del self.closure

    def advance(self) -> None:
        moving = [
            (x, g.add(x, alpha=group["weight_decay"]) if group["weight_decay"] else g, C, group)
            for x, g, C, group in self.moving()
        ]
        self.sample = self.next_sample()
        self.way: dict[Tensor, Tensor] = {}  # parameter -> d
        with torch.autocast(self.device.type, enabled=False):
            self.way = {x: C.lmo(g) - x for x, g, C, _ in moving if C is not None}
        self.decay = {x: group["weight_decay"] for x, _, _, group in moving}
        if self.way:
            slopes = [torch.sum(double(g) * double(self.way[x])) for x, g, _, _ in moving if x in self.way]
            gap = -torch.stack(slopes).sum()
            gamma = self.short(gap) if self.rule == "short" else self.backtracked(gap)
        with torch.autocast(self.device.type, enabled=False):
            for x, g, C, group in moving:
                if C is None:
                    self.free_move(x, g, group)
                else:
                    self.put(x, x + (group["lr"] * gamma).clamp(max=1).to(x.dtype) * self.way[x], g, C)
        self.count(self.way, self.sample)
        del self.way, self.decay

    def slope(self, gamma: Tensor) -> Tensor:
        """h(gamma), 0-d."""
        points = [x + gamma.to(x.dtype) * self.way[x] if x in self.way else x.clone() for x in self.parameters()]
        with torch.enable_grad():
            gradients = self.closure([point.detach().requires_grad_() for point in points])
        total = torch.zeros_like(gamma)
        for x, point, h in zip(self.parameters(), points, gradients, strict=True):
            if x in self.way and h is not None:
                total += torch.sum(double(h.add(point, alpha=self.decay[x])) * double(self.way[x]))
        return total

    def short(self, gap: Tensor) -> Tensor:
        """gap / c, in [0, 1]."""
        t = self.state.get("rate", torch.full_like(gap, FIRST)).to(gap)
        c = (self.slope(t) + gap) / t
        gamma = torch.where(gap > c, 1.0, (gap / or_one(c)).clamp(0, 1)) * (gap > 0)  # 1 also where c <= 0
        self.state["rate"] = gamma.clamp(LEAST, 1)
        return gamma

    def backtracked(self, gap: Tensor) -> Tensor:
        """gap / (M ||d||^2), at most 1, for the first M of the trials with h <= 0."""
        square = torch.stack([torch.sum(double(d) ** 2) for d in self.way.values()]).sum()
        if not gap > 0:  # also where it is NaN
            return 0 * gap
        if "smoothness" not in self.state:
            t = torch.full_like(gap, FIRST)
            self.state["smoothness"] = ((self.slope(t) + gap) / t).clamp(min=gap) / square
        M = self.state["smoothness"].to(gap) * SHRINK
        for _ in range(TRIALS):
            gamma = (gap / (M * square)).clamp(max=1)
            if not self.slope(gamma) > SLACK * gap:  # waits for the device
                break
            M = M * GROW
        self.state["smoothness"] = M
        return gamma
