"""Stochastic conditional gradients (Frank-Wolfe), with momentum.

With a gradient g_t of the loss at x_t, a set C, a step gamma in [0, 1] and a momentum rho in [0, 1)::

    m_t = rho m_{t-1} + (1 - rho) g_t        m starts at the first gradient
    v_t = argmin_{v in C} <m_t, v>
    x_{t+1} = x_t + gamma (v_t - x_t)

Sources: Jaggi 2013 (rho = 0); Pokutta, Spiegel, Zimmer 2020, arXiv 2010.07243, Algorithm 1 (momentum).
Run: ``python -m trainer model=cnn optim=cgd``
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optim.checks import check_range
from optim.constrained import Constrained
from optim.sets import ConstraintSet


class CGD(Constrained):
    """The conditional gradient method over one set for all parameters.

    Parameters outside the set are shifted inside at construction; ``shifted`` lists their positions.

    Args:
        params: parameters, named parameters or groups, as for any ``torch.optim.Optimizer``.
        constraint: the set C.
        lr: gamma, the share of the way to the vertex, in [0, 1].
        momentum: rho in [0, 1); 0 keeps no buffer.
        weight_decay: lambda >= 0, adds lambda x to the gradient.
        gap_every: measure the Frank-Wolfe gap <g, x - lmo(g)> of the stochastic gradient at the first of every so many
            steps since the last :meth:`pop_measurements`, 0: never. Default: at every step without momentum (the
            step's own oracle call serves), else at every tenth.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`, or no constraint set.
    """

    measures = ("fw_gap",)  # what pop_measurements() returns

    def __init__(
        self,
        params: ParamsT,
        constraint: ConstraintSet,
        *,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        gap_every: int | None = None,
    ):
        if gap_every is None:
            gap_every = 1 if momentum == 0 else 10
        check_range("gap_every", gap_every, 0)
        self.gap_every = gap_every
        super().__init__(params, constraint, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def add_param_group(self, param_group: dict) -> None:
        """Adds a group, as for any optimizer; its parameters are shifted inside the set."""
        group = self.defaults | param_group
        check_range("lr", group["lr"], 0, 1, "a conditional gradient step goes a share of the way to the vertex")
        check_range("momentum", group["momentum"], 0, 1, open_above=True)
        check_range("weight_decay", group["weight_decay"], 0)
        super().add_param_group(param_group)

    def __getstate__(self) -> dict:
        return super().__getstate__() | {"gap_every": self.gap_every}

    @torch.no_grad()
    def step(self, closure=None):
        """One step for every parameter that has a gradient; returns the closure's loss, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        steps, count, total = self.state.get("measured", (0, 0, 0.0))
        measure = self.gap_every > 0 and steps % self.gap_every == 0
        gap: Tensor | float = 0.0
        for group in self.param_groups:
            gamma, rho, decay = group["lr"], group["momentum"], group["weight_decay"]
            for x in group["params"]:
                if x.grad is None:
                    continue
                g = x.grad if decay == 0 else x.grad.add(x, alpha=decay)  # g + lambda x
                m = self._momentum(x, g, rho)
                v = self.constraint.lmo(m)  # argmin_{v in C} <m, v>
                if measure:
                    gap += torch.sum(g * (x - v)) if m is g else self.constraint.gap(g, x)
                x.lerp_(v, gamma)  # x + gamma (v - x)
        # In `state`, so that a state dict carries it; a new tuple, so that a saved state dict does not change.
        self.state["measured"] = (steps + 1, count + measure, total + gap)
        return loss

    def _momentum(self, x: Tensor, g: Tensor, rho: float) -> Tensor:
        """m = rho m + (1 - rho) g, started at the first gradient."""
        if rho == 0:
            return g
        state = self.state[x]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = g.clone()
            return state["momentum_buffer"]
        return state["momentum_buffer"].lerp_(g, 1 - rho)

    def pop_measurements(self) -> dict[str, Tensor]:
        """The mean gap over the steps measured since the last call (0-d, on the device; NaN if there were none)."""
        _, count, total = self.state.get("measured", (0, 0, 0.0))
        self.state["measured"] = (0, 0, 0.0)
        return {"fw_gap": total / count if count else torch.tensor(torch.nan)}
