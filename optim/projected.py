"""torch's own optimizers; with a constraint set, each step is followed by the Euclidean projection onto it.

Fused kernels: with momentum, SGD's step on the CPU takes about half to two thirds of the time of the loop over tensors
(``bench/RESULTS.md``).
Run: ``python -m trainer optim=sgd constraint=linf constraint.radius=0.1``
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optim.checks import check_range
from optim.constrained import Constrained
from optim.sets import ConstraintSet


class Projected(Constrained):
    """Beside one of torch's optimizers: projects what has a gradient onto the set after each of its steps."""

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """torch's step, then the projection; returns the closure's loss, if one is given."""
        loss = super().step(closure)
        with torch.no_grad():
            for group in self.param_groups:
                for x in group["params"]:
                    if x.grad is not None:
                        x.copy_(self.constraint.project(x))
        return loss


class ProjectedSGD(Projected, torch.optim.SGD):
    """``torch.optim.SGD`` on a constraint set."""


class ProjectedAdam(Projected, torch.optim.Adam):
    """``torch.optim.Adam`` on a constraint set."""


def sgd(
    params: ParamsT,
    constraint: ConstraintSet | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> torch.optim.SGD:
    """``torch.optim.SGD``, projected onto `constraint` if there is one.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`.
    """
    check_range("lr", lr, 0)
    check_range("momentum", momentum, 0, 1, open_above=True)
    check_range("weight_decay", weight_decay, 0)
    if nesterov and momentum == 0:
        raise ValueError("nesterov=true: needs momentum > 0")
    options = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "fused": True}
    return torch.optim.SGD(params, **options) if constraint is None else ProjectedSGD(params, constraint, **options)


def adam(
    params: ParamsT,
    constraint: ConstraintSet | None = None,
    *,
    lr: float,
    betas: list[float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.Adam:
    """``torch.optim.Adam`` (Kingma & Ba 2015), projected onto `constraint` if there is one.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`.
    """
    check_range("lr", lr, 0)
    check_range("eps", eps, 0)
    check_range("weight_decay", weight_decay, 0)
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas={list(betas)}: must be two numbers in [0, 1)")
    options = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "fused": True}
    return torch.optim.Adam(params, **options) if constraint is None else ProjectedAdam(params, constraint, **options)
