"""Scion: conditional gradients over layer-wise norms, constrained or not.

    d_t = rho d_{t-1} + (1 - rho) g_t          d starts at 0
    x_{t+1} = (1 - gamma) x_t + gamma lmo(d_t)     constrained
    x_{t+1} = x_t + gamma lmo(d_t)                 unconstrained

Source: Pethick et al. 2025, arXiv 2502.07529, Algorithms 1 and 2 (there alpha is 1 - rho). The sets are those of
:mod:`optim.sets.layerwise`. Run: ``python -m trainer model=cnn optim=scion``
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optim.conditional import ConditionalGradient, Group
from optim.measure import Measurements
from optim.sets import Constraint, ConstraintSet
from optim.vertex import Vertex


class Scion(ConditionalGradient):
    """Scion's two methods.

    Args:
        params, constraint, free_lr, free_momentum, gap_every: as for :class:`optim.conditional.ConditionalGradient`;
            :class:`optim.ScionNorms` is the paper's constraint.
        lr: gamma; in [0, 1] if constrained.
        momentum: rho = 1 - alpha in [0, 1).
        constrained: False: the sets give directions and lengths of steps only, and parameters may leave them.
        weight_decay: lambda >= 0, adds lambda x to the gradient.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`, or no constraint.
    """

    def __init__(
        self,
        params: ParamsT,
        constraint: Constraint,
        *,
        lr: float,
        momentum: float = 0.9,
        constrained: bool = True,
        weight_decay: float = 0.0,
        free_lr: float = 0.05,
        free_momentum: float = 0.9,
        gap_every: int | None = None,
    ):
        options = {"lr": lr, "momentum": momentum, "constrained": constrained, "weight_decay": weight_decay}
        super().__init__(params, constraint, options, free_lr=free_lr, free_momentum=free_momentum, gap_every=gap_every)

    def takes_share(self, group: Group) -> bool:
        return group["constrained"]

    def stays(self, group: Group) -> bool:
        return group["constrained"]

    def move(self, x: Tensor, g: Tensor, C: ConstraintSet, group: Group, measured: Measurements) -> None:
        state, rho = self.state[x], group["momentum"]
        if rho:
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(g)
            d = state["momentum_buffer"].lerp_(g, 1 - rho)
        else:
            d = g
        if group["constrained"]:
            self.toward(Vertex(C, d, x, self.scratch), group["lr"], g, C, measured)  # x + gamma (v - x)
        else:
            before = x.clone()
            x.add_(C.lmo(d) * group["lr"])
            measured.moved(x, before, g, C)
