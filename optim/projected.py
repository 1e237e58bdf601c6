"""Optimizers of the whole space; with a constraint set, each step is followed by the Euclidean projection onto it.

torch's own where torch has them, in fused kernels where there are: with momentum, SGD's step on the CPU takes about
half to two thirds of the time of the loop over tensors (``bench/RESULTS.md``).
Run: ``python -m trainer optim=sgd constraint=linf constraint.radius=0.1``
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from optim.constrained import Constrained, Group, check_constraint, with_gradients
from optim.options import at_least_0, below_1, option
from optim.penalty import Penalty, known_penalty
from optim.sets import Constraint, ConstraintSet, Whole, flat, matching, put_back


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
        S = C.of if isinstance(C, Whole) else C
        if S is not None and not S.projectable():
            raise ValueError(S.no_projection())

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
            if C is not None and not isinstance(C, Whole):
                x.copy_(C.project(x))
        for group, C in zip(self.param_groups, self.constraints, strict=True):
            if isinstance(C, Whole) and with_gradients(group):
                put_back(C.project(flat(group["params"])), group["params"])


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
    """A base beside one of torch's optimizers that has a fused kernel on every device; it may have a penalty.

    Args:
        penalty: R, whose proximal step follows each step; ``l1``: the sum of |x_i|; ``group``: of filters' or rows'
            l2 norms; ``nuclear``: of singular values. Not with a constraint.
        penalty_factor: lambda >= 0, of the penalty lambda R(x).
        penalty_on: its parameters: ``all``, ``weights`` (of two or more dimensions; the default) or patterns of names.
    """

    penalty: Literal["l1", "group", "nuclear"] | None = option(default=None, check=known_penalty)
    penalty_factor: float | None = option(default=None, check=at_least_0)
    penalty_on: str | list[str] | None = None

    def start(self, options: dict[str, Any]) -> None:
        kind, factor, on = (options.pop(name) for name in ("penalty", "penalty_factor", "penalty_on"))
        if kind is not None and factor is None:
            raise ValueError(f"penalty={kind}: needs penalty_factor, such as 1e-3")
        for name, value in (("penalty_factor", factor), ("penalty_on", on)):
            if kind is None and value is not None:
                raise ValueError(f"{name}={value}: needs a penalty, such as l1")
        self.penalized_by, self.penalty_factor = None if kind is None else Penalty(kind), factor
        self.penalized_on: str | list[str] = "weights" if on is None else on
        self.penalized = set[Tensor]()
        super().start(options | {"fused": True})

    def __getstate__(self) -> dict[str, Any]:
        own = ("penalized_by", "penalty_factor", "penalized_on", "penalized")
        return super().__getstate__() | {name: getattr(self, name) for name in own}

    def add_param_group(self, param_group: Group) -> None:
        super().add_param_group(param_group)
        if self.penalized_by is None:
            return
        if any(C is not None for C in self.constraints):
            raise ValueError(f"penalty={self.penalized_by.kind}: give a penalty or a constraint, not both")
        groups = self.param_groups
        xs = [x for group in groups for x in group["params"]]
        names = [name for group in groups for name in group.get("param_names", [None] * len(group["params"]))]
        self.penalized = {
            x for x, on in zip(xs, matching("penalty_on", self.penalized_on, names, xs), strict=True) if on
        }

    def project(self) -> None:
        """Projects, or takes the proximal step of length lambda times that of the optimizer."""
        super().project()
        if self.penalized_by is None:
            return
        kept = 1 - getattr(self, "found_inf", 0)  # a step that a GradScaler skips is none
        for group in self.param_groups:
            # After many steps with the same g, the buffer of momentum is g / (1 - rho).
            t = group["lr"] * self.penalty_factor / (1 - group.get("momentum", 0)) * kept
            for x, _ in with_gradients(group):
                if x in self.penalized:
                    x.copy_(self.penalized_by.prox(x, t))


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
