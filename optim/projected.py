"""torch's own optimizers; with a constraint set, each step is followed by the Euclidean projection onto it.

Fused kernels: with momentum, SGD's step on the CPU takes about half the time of the loop over tensors.
Run: ``python -m trainer optim=sgd constraint=linf constraint.radius=0.1``
"""

from __future__ import annotations

import torch
from torch.optim.optimizer import ParamsT

from optim.checks import check_range
from optim.sets import ConstraintSet, shift_all_inside


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
    optimizer = torch.optim.SGD(
        params, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, fused=True
    )
    return project_after_step(optimizer, constraint)


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
    optimizer = torch.optim.Adam(params, lr=lr, betas=tuple(betas), eps=eps, weight_decay=weight_decay, fused=True)
    return project_after_step(optimizer, constraint)


def project_after_step(optimizer: torch.optim.Optimizer, constraint: ConstraintSet | None) -> torch.optim.Optimizer:
    """Makes `optimizer` keep its parameters in the set: now, and after every step. None changes nothing.

    ``optimizer.shifted`` lists the positions of the parameters that were outside now.
    """
    optimizer.shifted = []
    if constraint is None:
        return optimizer
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.shifted = shift_all_inside(parameters, constraint)

    @torch.no_grad()
    def project(*_) -> None:
        for x in parameters:
            if x.grad is not None:
                x.copy_(constraint.project(x))

    optimizer.register_step_post_hook(project)
    return optimizer
