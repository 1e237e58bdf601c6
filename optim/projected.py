"""Optimizers of the whole space; with a constraint set, each step is followed by the Euclidean projection onto it.

torch's own where torch has them, in fused kernels where there are: with momentum, SGD's step on the CPU takes about
half to two thirds of the time of the loop over tensors (``bench/RESULTS.md``).
Run: ``python -m trainer optim=sgd constraint=linf constraint.radius=0.1``
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from optim.constrained import Constrained, Group, check_constraint
from optim.options import at_least_0, below_1, option
from optim.sets import Constraint, ConstraintSet


class Projected(Constrained):
    """A base beside an optimizer of the whole space: after each step, it projects parameters with a gradient and a set.

    Args:
        constraint: None: the whole space; groups are then as torch has them.
    """

    constraint: Constraint | None = option(default=None, kw_only=False)

    def start(self, options: dict[str, Any]) -> None:
        check_constraint(type(self).__name__, options["constraint"], optional=True)
        if "betas" in options:
            options["betas"] = tuple(options["betas"])  # as torch has them in its groups
        super().start(options)

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group, as for any optimizer; without a set, it is torch's own group."""
        if self.constraint is not None or "constraint" in param_group:
            super().add_param_group(param_group)
            return
        self.check(self.defaults | param_group)
        for part in self.parts(param_group):
            super(Constrained, self).add_param_group(part)
            self.constraints.append(None)

    def accept(self, C: ConstraintSet | None, options: Group) -> None:
        if C is not None and not C.projectable():
            raise ValueError(C.no_projection())

    def to_tangents(self) -> None:
        """Replaces gradients by their parts in the tangent spaces of surfaces; called within a step, before it."""
        if all(C is None or C.convex for C in self.constraints):
            return
        for x, g, C, _ in self.moving():
            if C is not None and not C.convex:
                g.copy_(C.tangent(x, g))

    def project(self) -> None:
        """Projects each parameter that has a gradient and a set; called within a step, without gradients."""
        if all(C is None for C in self.constraints):  # a small network's step would feel the list
            return
        for x, _, C, _ in self.moving():
            if C is not None:
                x.copy_(C.project(x))


def two_shares(name: str, value: Any) -> None:
    """Raises ValueError unless `value` is two numbers in [0, 1)."""
    if len(value) != 2 or not all(0 <= beta < 1 for beta in value):
        raise ValueError(f"{name}={list(value)}: must be two numbers in [0, 1)")


def projected_step(torchs: type[torch.optim.Optimizer]) -> Callable[..., Any]:
    """The step of one of torch's optimizers without its wrapper (:mod:`optim.lean`), then the projection."""
    inside = inspect.unwrap(torchs.step)

    @torch.no_grad()
    def step(self: Projected, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.to_tangents()
        inside(self)
        self.project()
        return loss

    return step


class Fused(Projected):
    """A base beside one of torch's optimizers that has a fused kernel on every device."""

    def start(self, options: dict[str, Any]) -> None:
        super().start(options | {"fused": True})


class SGD(Fused, torch.optim.SGD):
    """``torch.optim.SGD``, projected onto `constraint` if there is one.

    Args:
        momentum: rho of the buffer b = rho b + g.
        nesterov: Nesterov's momentum; needs momentum > 0.
    """

    momentum: float = option(default=0.0, check=below_1)
    nesterov: bool = False

    step = projected_step(torch.optim.SGD)

    def check(self, options: Mapping[str, Any]) -> None:
        super().check(options)
        if options["nesterov"] and options["momentum"] == 0:
            raise ValueError("nesterov=true: needs momentum > 0")


class Adam(Fused, torch.optim.Adam):
    """``torch.optim.Adam`` (Kingma & Ba 2015), projected onto `constraint` if there is one.

    Args:
        betas: decay rates of the means of gradients and of their squares.
        eps: added to the root of the mean of squares.
    """

    betas: list[float] = option(default=(0.9, 0.999), check=two_shares)
    eps: float = option(default=1e-8, check=at_least_0)

    step = projected_step(torch.optim.Adam)


class AdamW(Fused, torch.optim.AdamW):
    """``torch.optim.AdamW`` (Loshchilov & Hutter 2019), projected onto `constraint` if there is one.

    Args:
        betas: decay rates of the means of gradients and of their squares.
        eps: added to the root of the mean of squares.
        weight_decay: lambda, decoupled; a step first multiplies x by 1 - lr lambda.
    """

    betas: list[float] = option(default=(0.9, 0.999), check=two_shares)
    eps: float = option(default=1e-8, check=at_least_0)
    weight_decay: float = option(default=0.01, check=at_least_0)

    step = projected_step(torch.optim.AdamW)


class RMSprop(Projected, torch.optim.RMSprop):
    """``torch.optim.RMSprop`` (Tieleman & Hinton 2012), projected onto `constraint` if there is one.

    Args:
        alpha: decay rate of the mean of squares.
        eps: added to the root of the mean of squares.
        momentum: rho of the buffer of steps.
        centered: divides by the deviation from the mean instead of the root of the mean of squares.
    """

    alpha: float = option(default=0.99, check=below_1)
    eps: float = option(default=1e-8, check=at_least_0)
    momentum: float = option(default=0.0, check=below_1)
    centered: bool = False

    step = projected_step(torch.optim.RMSprop)


class Adagrad(Projected, torch.optim.Adagrad):
    """``torch.optim.Adagrad`` (Duchi, Hazan, Singer 2011), projected onto `constraint` if there is one.

    Not fused: torch 2.11 has that on the CPU only.

    Args:
        eps: added to the root of the sum of squares.
    """

    eps: float = option(default=1e-10, check=at_least_0)

    step = projected_step(torch.optim.Adagrad)


sgd, adam, adamw, rmsprop = SGD, Adam, AdamW, RMSprop  # by the names that configurations say
