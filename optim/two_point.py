"""Variance-reduced conditional gradients: methods that need the gradient of a batch at a second point.

Their ``step(closure)`` finds the gradient at x in ``x.grad``, as usual, and calls ``closure(points)`` for the gradient
of the same batch, with the same random numbers and without moving buffers such as batch normalization's averages, at
`points`: tensors that require a gradient, one for each parameter in the order of ``param_groups``. It returns the
gradients in that order, None if missing.

Sources: Hazan, Luo 2016 (arXiv 1602.02101, Algorithm 1, SVRF); Xie et al. 2020 (AAAI 34, ORGFW).
Run: ``python -m trainer model=cnn optim=orgfw``, ``python -m trainer model=cnn optim=svrf``
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from optim.conditional import Averaging, ConditionalGradient
from optim.constrained import Group
from optim.options import below_1, option
from optim.vertex import Vertex

Gradients = Callable[[Sequence[Tensor]], Sequence[Tensor | None]]


class TwoPoint(ConditionalGradient):
    """The base of both: asks the closure for the gradients at the second points."""

    second_point: ClassVar[str]  # its name in a parameter's state

    @torch.no_grad()
    def step(self, closure: Gradients | None = None) -> None:  # type: ignore[override]  # its closure takes points
        """One step for every parameter that has a gradient.

        Args:
            closure: the gradients of the same batch at other points, as this module says.

        Raises:
            TypeError: no closure.
        """
        closure = self.needed(closure)
        xs = self.parameters()
        points = [self.state[x].get(self.second_point) for x in xs]
        self.second: dict[Tensor, tuple[Tensor, Tensor]] = {}  # parameter -> its second point, and the gradient there
        if any(point is not None for point in points):
            at = [x if point is None else point for x, point in zip(xs, points, strict=True)]
            with torch.enable_grad():
                gradients = closure([point.detach().requires_grad_() for point in at])
            triples = zip(xs, points, gradients, strict=True)
            self.second = {x: (point, h) for x, point, h in triples if point is not None and h is not None}
        self.prepare(xs)
        self.advance()
        del self.second

    def needed(self, closure: Gradients | None) -> Gradients:
        """The closure; TypeError if there is none."""
        if closure is None:
            name = type(self).__name__
            raise TypeError(f"{name}.step needs closure(points): its batch's gradients at a second point")
        return closure

    def prepare(self, xs: list[Tensor]) -> None:
        """Between the second gradients and the step."""

    def parameters(self) -> list[Tensor]:
        """Of all groups, in their order."""
        return [x for group in self.param_groups for x in group["params"]]


class ORGFW(TwoPoint, Averaging):
    """The one-sample recursive gradient method: d = g(x_t) + (1 - rho) (d - g(x_{t-1})), started at the first gradient.

    Args:
        momentum: 1 - rho, the weight of the past.
        momentum_power: p in [0, 1]: rho is t^-p in a parameter's t-th step instead; the paper has 2/3.
    """

    momentum: float = option(default=0.9, check=below_1)

    second_point = "previous"

    def prepare(self, xs: list[Tensor]) -> None:
        for x in xs:  # the free ones too: the other gradient is of the whole network as it was
            self.state[x]["previous"] = x.clone()

    def direction(self, x: Tensor, g: Tensor, group: Group) -> Tensor:
        state, past = self.state[x], self.rho(x, group)
        if x in self.second and "estimate" in state:
            previous, h = self.second[x]
            h = h.add(previous, alpha=group["weight_decay"])
            state["estimate"].sub_(h).mul_(past).add_(g)  # d = g + (1 - rho) (d - h)
        else:
            state["estimate"] = g.clone()
        return state["estimate"]


class SVRF(TwoPoint):
    """Stochastic variance-reduced Frank-Wolfe: d = g(x) - g(w) + G(w), with the full gradient G at a snapshot w.

    Call :meth:`snapshot` before the first step, and now and then after it; the runner does at the start of every epoch.
    A step without one is a RuntimeError.

    Args:
        lr: gamma in [0, 1]; with `restarts`, gamma = lr 2 / (k + 1) in the k-th step after a snapshot, k from 1, which
            is the paper's rule at lr = 1.
        restarts: whether the steps start anew with each snapshot.
    """

    restarts: bool = False

    second_point = "snapshot"

    @torch.no_grad()
    def snapshot(self, full_closure: Gradients) -> None:
        """Keeps the parameters as they are, and the full gradient there.

        Args:
            full_closure: as ``step``'s closure, of the whole training data instead of a batch.
        """
        xs = self.parameters()
        with torch.enable_grad():
            gradients = full_closure([x.detach().requires_grad_() for x in xs]) if xs else []
        for x, G in zip(xs, gradients, strict=True):
            if G is not None:
                self.state[x] |= {"snapshot": x.clone(), "full_gradient": G.clone()}
        self.state["since"] = 0

    def prepare(self, xs: list[Tensor]) -> None:
        if "since" not in self.state:
            raise RuntimeError("SVRF.step: call snapshot(full_closure) before the first step")
        self.state["since"] += 1

    def direction(self, x: Tensor, g: Tensor, group: Group) -> Tensor:
        if x not in self.second:
            return g
        _, h = self.second[x]
        return g - h + self.state[x]["full_gradient"]  # a decay of w would cancel

    def rate(self, v: Vertex, group: Group) -> float | Tensor:
        return group["lr"] * 2 / (self.state["since"] + 1) if group["restarts"] else group["lr"]
