"""Scion: conditional gradients over layer-wise norms, constrained or not.

    d_t = rho d_{t-1} + (1 - rho) g_t          d starts at 0
    x_{t+1} = (1 - gamma) x_t + gamma lmo(d_t)     constrained
    x_{t+1} = x_t + gamma lmo(d_t)                 unconstrained

Source: Pethick et al. 2025, arXiv 2502.07529, Algorithms 1 and 2 (there alpha is 1 - rho). The sets are those of
:mod:`optim.sets.layerwise`. Run: ``python -m trainer model=cnn optim=scion``
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from optim.conditional import Averaging
from optim.constrained import Group
from optim.options import below_1, option
from optim.sets import ConstraintSet


class Scion(Averaging):
    """Scion's two methods; :class:`optim.ScionNorms` is the paper's constraint.

    Args:
        lr: gamma, the share of the way to the vertex, in [0, 1]; a step size of at least 0 if not constrained.
        momentum: rho = 1 - alpha, the weight of the past in the mean of gradients.
        constrained: whether parameters stay in the sets; False: the sets give directions and lengths of steps only.
        at_boundary: whether parameters of two or more dimensions start at lmo(-x), the vertex in the direction of their
            initial x, as in the paper's code: spectral, an orthogonal matrix times the radius; sign, random signs.
    """

    momentum: float = option(default=0.9, check=below_1)
    constrained: bool = True
    at_boundary: bool = False

    def start(self, options: dict[str, Any]) -> None:
        self.at_boundary = options.pop("at_boundary")
        super().start(options)

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"at_boundary": self.at_boundary}

    @torch.no_grad()
    def hold(self, x: Tensor, name: str, C: ConstraintSet | None, remark: str, stays: bool) -> None:
        if self.at_boundary and C is not None and x.ndim >= 2 and x.requires_grad:
            x.copy_(C.lmo(-x))
        super().hold(x, name, C, remark, stays)

    def takes_share(self, group: Group) -> bool:
        return group["constrained"]

    def stays(self, group: Group) -> bool:
        return group["constrained"]

    def takes_whole(self, group: Group) -> bool:
        return group["constrained"] and not self.at_boundary

    def direction(self, x: Tensor, g: Tensor, group: Group) -> Tensor:
        state = self.state[x]
        if group["momentum"] and group["momentum_power"] is None and "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(g)
        return self.mean(x, g, group)  # d = rho d + (1 - rho) g, from 0

    def move(self, x: Tensor, g: Tensor, C: ConstraintSet, group: Group) -> None:
        if group["constrained"]:
            super().move(x, g, C, group)  # x + gamma (lmo(d) - x)
        else:
            y = x.clone().add_(C.lmo(self.direction(x, g, group)) * group["lr"])  # x + gamma lmo(d)
            self.put(x, y, g, C)
