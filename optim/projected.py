"""Optimizers of the whole space; with a constraint set, each step is followed by the Euclidean projection onto it.

torch's own where torch has them, in fused kernels where there are: with momentum, SGD's step on the CPU takes about
half to two thirds of the time of the loop over tensors (``bench/RESULTS.md``).
Run: ``python -m trainer optim=sgd constraint=linf constraint.radius=0.1``
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from optim.checks import check_range
from optim.constrained import Constrained
from optim.lean import Lean, lean_step
from optim.sets import Constraint, ConstraintSet
from optim.unconstrained import Lion, MomentumAdagrad, Muon


class Projected(Constrained):
    """Beside an optimizer of the whole space: projects what has a gradient and a set after each of its steps.

    As a hook, since torch runs a user's own hooks around every class's step: around two, twice.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.register_step_post_hook(project)

    def accept(self, C: ConstraintSet | None) -> None:
        if C is not None and not C.projectable():
            raise ValueError(C.no_projection())

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy, or of a loaded state: torch keeps no hooks with either."""
        super().__setstate__(state)
        if project not in self._optimizer_step_post_hooks.values():
            self.register_step_post_hook(project)


@torch.no_grad()
def project(optimizer: Projected, args: Any, kwargs: Any) -> None:
    """After each step: onto its set what has a gradient and a set."""
    for group, C in zip(optimizer.param_groups, optimizer.constraints, strict=True):
        for x in group["params"]:
            if C is not None and x.grad is not None:
                x.copy_(C.project(x))


class SGD(Lean, torch.optim.SGD):
    """``torch.optim.SGD`` without its compiler."""

    step = lean_step(torch.optim.SGD)


class Adam(Lean, torch.optim.Adam):
    """``torch.optim.Adam`` without its compiler."""

    step = lean_step(torch.optim.Adam)


class AdamW(Lean, torch.optim.AdamW):
    """``torch.optim.AdamW`` without its compiler."""

    step = lean_step(torch.optim.AdamW)


class RMSprop(Lean, torch.optim.RMSprop):
    """``torch.optim.RMSprop`` without its compiler."""

    step = lean_step(torch.optim.RMSprop)


class Adagrad(Lean, torch.optim.Adagrad):
    """``torch.optim.Adagrad`` without its compiler."""

    step = lean_step(torch.optim.Adagrad)


class ProjectedSGD(Projected, SGD):
    """``torch.optim.SGD`` on constraint sets."""


class ProjectedAdam(Projected, Adam):
    """``torch.optim.Adam`` on constraint sets."""


class ProjectedAdamW(Projected, AdamW):
    """``torch.optim.AdamW`` on constraint sets."""


class ProjectedRMSprop(Projected, RMSprop):
    """``torch.optim.RMSprop`` on constraint sets."""


class ProjectedAdagrad(Projected, Adagrad):
    """``torch.optim.Adagrad`` on constraint sets."""


class ProjectedMomentumAdagrad(Projected, MomentumAdagrad):
    """AdaGrad with momentum on constraint sets."""


class ProjectedLion(Projected, Lion):
    """Lion on constraint sets."""


class ProjectedMuon(Projected, Muon):
    """Muon on constraint sets."""


def sgd(
    params: ParamsT,
    constraint: Constraint | None = None,
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
    check_common(lr, weight_decay, momentum)
    if nesterov and momentum == 0:
        raise ValueError("nesterov=true: needs momentum > 0")
    options = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "fused": True}
    return over(SGD, ProjectedSGD, params, constraint, options)


def adam(
    params: ParamsT,
    constraint: Constraint | None = None,
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
    check_common(lr, weight_decay, eps=eps, betas=betas)
    options = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "fused": True}
    return over(Adam, ProjectedAdam, params, constraint, options)


def adamw(
    params: ParamsT,
    constraint: Constraint | None = None,
    *,
    lr: float,
    betas: list[float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> torch.optim.AdamW:
    """``torch.optim.AdamW`` (Loshchilov & Hutter 2019), projected onto `constraint` if there is one.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`.
    """
    check_common(lr, weight_decay, eps=eps, betas=betas)
    options = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "fused": True}
    return over(AdamW, ProjectedAdamW, params, constraint, options)


def rmsprop(
    params: ParamsT,
    constraint: Constraint | None = None,
    *,
    lr: float,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    weight_decay: float = 0.0,
) -> torch.optim.RMSprop:
    """``torch.optim.RMSprop`` (Tieleman & Hinton 2012), projected onto `constraint` if there is one.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`.
    """
    check_common(lr, weight_decay, momentum, eps=eps)
    check_range("alpha", alpha, 0, 1, open_above=True)
    options = {"lr": lr, "alpha": alpha, "eps": eps, "momentum": momentum, "centered": centered}
    options["weight_decay"] = weight_decay
    return over(RMSprop, ProjectedRMSprop, params, constraint, options)


def adagrad(
    params: ParamsT,
    constraint: Constraint | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """``torch.optim.Adagrad`` (Duchi, Hazan, Singer 2011), or ours with momentum; projected if there is a `constraint`.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`.
    """
    check_common(lr, weight_decay, momentum, eps=eps)
    options: dict[str, Any] = {"lr": lr, "eps": eps, "weight_decay": weight_decay}
    options |= {"momentum": momentum} if momentum else {}  # not fused: torch 2.11 has that on the CPU only
    if momentum:
        return over(MomentumAdagrad, ProjectedMomentumAdagrad, params, constraint, options)
    return over(Adagrad, ProjectedAdagrad, params, constraint, options)


def lion(
    params: ParamsT,
    constraint: Constraint | None = None,
    *,
    lr: float,
    betas: list[float] = (0.9, 0.99),
    weight_decay: float = 0.0,
) -> Lion:
    """:class:`optim.unconstrained.Lion`, projected onto `constraint` if there is one.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`.
    """
    check_common(lr, weight_decay, betas=betas)
    options = {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay}
    return over(Lion, ProjectedLion, params, constraint, options)


def muon(
    params: ParamsT,
    constraint: Constraint | None = None,
    *,
    lr: float,
    momentum: float = 0.95,
    nesterov: bool = True,
    weight_decay: float = 0.0,
    match_rms_adamw: bool = False,
    adamw_lr: float = 1e-3,
    betas: list[float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> Muon:
    """:class:`optim.unconstrained.Muon`, projected onto `constraint` if there is one.

    Args:
        lr, momentum, nesterov: of the matrices and convolutions.
        match_rms_adamw: scale their steps by 0.2 sqrt(max(rows, columns)), so that AdamW's rates fit (Liu et al. 2025),
            instead of sqrt(max(1, rows / columns)).
        adamw_lr, betas, eps: of the other parameters.
        weight_decay: of both, decoupled.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`.
    """
    check_common(lr, weight_decay, momentum, eps=eps, betas=betas)
    check_range("adamw_lr", adamw_lr, 0)
    options = {"lr": lr, "momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay, "eps": eps}
    options |= {"match_rms_adamw": match_rms_adamw, "adamw_lr": adamw_lr, "betas": tuple(betas)}
    return over(Muon, ProjectedMuon, params, constraint, options)


def over(
    plain: type, projected: type, params: ParamsT, constraint: Constraint | None, options: dict[str, Any]
) -> torch.optim.Optimizer:
    """The optimizer of the whole space, or the projected one if there is a constraint."""
    return plain(params, **options) if constraint is None else projected(params, constraint, **options)


def check_common(
    lr: float, weight_decay: float, momentum: float = 0.0, *, eps: float = 0.0, betas: list[float] | tuple = (0.0, 0.0)
) -> None:
    """Raises ValueError for a value outside its range."""
    check_range("lr", lr, 0)
    check_range("momentum", momentum, 0, 1, open_above=True)
    check_range("weight_decay", weight_decay, 0)
    check_range("eps", eps, 0)
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas={list(betas)}: must be two numbers in [0, 1)")
