"""Optimizers that torch lacks: AdaGrad with momentum, Lion, and Muon for whole networks.

Run: ``python -m trainer optim=lion``, ``python -m trainer model=cnn optim=muon``
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw as adamw_step
from torch.optim.optimizer import ParamsT

from optim.constrained import Group, entries, tensor, with_gradients
from optim.lean import Stepping
from optim.options import at_least_0, below_1, option
from optim.projected import Adagrad, Projected, two_shares
from optim.sets import Constraint


class Simple(Projected, Stepping):
    """A base for methods that move each parameter by itself: subclasses give :meth:`move`."""

    def advance(self) -> None:
        self.to_tangents()
        for x, g, _, group in self.moving():
            self.move(x, g, self.state[x], group)
        self.project()

    def move(self, x: Tensor, g: Tensor, state: dict[str, Any], group: Group) -> None:
        """Moves x, in place, given its gradient."""
        raise NotImplementedError


class MomentumAdagrad(Simple):
    """AdaGrad (Duchi, Hazan, Singer 2011) with heavy-ball momentum over its steps.

    s = s + g^2; b = rho b + g / (sqrt(s) + eps); x = x - lr b

    Args:
        momentum: rho of the buffer of steps.
        eps: added to the root of the sum of squares.
    """

    momentum: float = option(default=0.9, check=below_1)
    eps: float = option(default=1e-10, check=at_least_0)

    def move(self, x: Tensor, g: Tensor, state: dict[str, Any], group: Group) -> None:
        if not state:
            state |= {"sum": torch.zeros_like(x), "momentum_buffer": torch.zeros_like(x)}
        g = g.add(x, alpha=group["weight_decay"])
        state["sum"].addcmul_(g, g)
        b = state["momentum_buffer"].mul_(group["momentum"]).add_(g / (state["sum"].sqrt() + group["eps"]))
        x.sub_(group["lr"] * b)


def adagrad(
    params: ParamsT,
    constraint: Constraint | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """torch's AdaGrad, or ours with momentum; projected onto `constraint` if there is one.

    Args:
        params, constraint, lr, weight_decay: as for :class:`optim.projected.Projected`.
        momentum, eps: as for :class:`MomentumAdagrad`.
    """
    options = {"lr": lr, "eps": eps, "weight_decay": weight_decay}
    if momentum:
        return MomentumAdagrad(params, constraint, momentum=momentum, **options)
    return Adagrad(params, constraint, **options)


class Lion(Simple):
    """Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2), projected onto `constraint` if there is one.

    c = beta1 m + (1 - beta1) g; x = x - lr (sign(c) + lambda x); m = beta2 m + (1 - beta2) g. With lambda > 0 and equal
    betas this is stochastic Frank-Wolfe over the hypercube of radius 1 / lambda, with step lr lambda and a momentum
    from 0 (arXiv 2310.05898, 2506.04192).

    Args:
        betas: beta1, of the mean whose sign is the step, and beta2, of the momentum.
        weight_decay: lambda, decoupled; a step first multiplies x by 1 - lr lambda.
    """

    betas: list[float] = option(default=(0.9, 0.99), check=two_shares)

    def move(self, x: Tensor, g: Tensor, state: dict[str, Any], group: Group) -> None:
        if not state:
            state["momentum_buffer"] = torch.zeros_like(x)
        m, lr, (beta1, beta2) = state["momentum_buffer"], group["lr"], group["betas"]
        c = m.lerp(g, 1 - beta1)
        x.mul_(1 - lr * group["weight_decay"]).sub_(lr * c.sign_())
        m.lerp_(g, 1 - beta2)


class Muon(Projected, Stepping):
    """Muon (Jordan et al. 2024) for parameters of two or more dimensions, AdamW for the others.

    A convolution is a matrix of its filters. A network's groups are divided in two, Muon's first. Projected onto
    `constraint` if there is one.

    Args:
        lr: learning rate of the matrices and convolutions.
        momentum: rho of the mean m of their gradients.
        nesterov: whether their direction is rho m + (1 - rho) g instead of m.
        match_rms_adamw: scales their steps by 0.2 sqrt(max(rows, columns)), so that AdamW's rates fit (Liu et al.
            2025), instead of sqrt(max(1, rows / columns)).
        adamw_lr: learning rate of AdamW for the other parameters.
        betas: AdamW's decay rates of the means of gradients and of their squares.
        eps: AdamW's number added to the root of the mean of squares.
        weight_decay: lambda, decoupled; a step first multiplies x by 1 - lr lambda.
    """

    momentum: float = option(default=0.95, check=below_1)
    nesterov: bool = True
    match_rms_adamw: bool = False
    adamw_lr: float = option(default=1e-3, check=at_least_0)
    betas: list[float] = option(default=(0.9, 0.999), check=two_shares)
    eps: float = option(default=1e-8, check=at_least_0)

    recordable = False  # the rate is a number here, which a recording would keep

    def start(self, options: dict[str, Any]) -> None:
        self.adamw_lr = options.pop("adamw_lr")
        super().start(options | {"adamw": False})

    def parts(self, group: Group) -> list[Group]:
        given = entries(group)
        flat = [x.ndim < 2 or x.numel() == 0 for x in map(tensor, given)]  # of no entries nothing can be orthogonal
        divided = []
        for adamw in (False, True):
            members = [x for x, is_flat in zip(given, flat, strict=True) if is_flat == adamw]
            if members or (adamw and not given):  # torch keeps an empty group, too
                own = {"adamw": True, "fused": True, "lr": self.adamw_lr} if adamw else {}
                divided.append({**group, **own, "params": members})
        return divided

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"adamw_lr": self.adamw_lr}

    def advance(self) -> None:
        self.to_tangents()
        for group in self.param_groups:
            (self._adamw if group["adamw"] else self._muon)(with_gradients(group), group)
        self.project()

    def _muon(self, pairs: list[tuple[Tensor, Tensor]], group: Group) -> None:
        """m = rho m + (1 - rho) g; d = rho m + (1 - rho) g, or m; x = (1 - lr lambda) x - lr s O(d)."""
        lr, rho = float(group["lr"]), group["momentum"]
        for x, gradient in pairs:
            w, g, state = matrix(x), matrix(gradient), self.state[x]  # views, except of tensors in another order
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(w, memory_format=torch.contiguous_format)
            m = state["momentum_buffer"].lerp_(g, 1 - rho)
            d = g.lerp(m, rho) if group["nesterov"] else m
            rows, columns = w.shape
            s = 0.2 * math.sqrt(max(w.shape)) if group["match_rms_adamw"] else math.sqrt(max(1, rows / columns))
            w.mul_(1 - lr * group["weight_decay"]).add_(nearly_orthogonal(d), alpha=-lr * s)
            if w.data_ptr() != x.data_ptr():
                x.copy_(w.view(x.shape))

    def _adamw(self, pairs: list[tuple[Tensor, Tensor]], group: Group) -> None:
        xs = [x for x, _ in pairs]
        for x in xs:
            if not self.state[x]:
                self.state[x] |= {"step": torch.zeros((), device=x.device)}
                self.state[x] |= {"exp_avg": torch.zeros_like(x), "exp_avg_sq": torch.zeros_like(x)}
        states = [self.state[x] for x in xs]
        adamw_step(
            xs,
            [g for _, g in pairs],
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            [s["step"] for s in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def matrix(x: Tensor) -> Tensor:
    """x as its first dimension by all others; a copy where its order in memory is not the plain one."""
    return x.detach().reshape(len(x), -1)


def nearly_orthogonal(d: Tensor) -> Tensor:
    """O(d): d = U S V^T with its singular values moved near 1 by five Newton-Schulz steps in bfloat16.

    Leaves d alone; torch's own function, of ``torch.optim.Muon``, divides a d in bfloat16 in place: its momentum.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    o = d.bfloat16()
    o = o.mT if len(d) > d.shape[1] else o
    o = o / o.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = o @ o.mT
        o = torch.addmm(o, torch.addmm(gram, gram, gram, beta=b, alpha=c), o, beta=a)  # (a + b o o^T + c (o o^T)^2) o
    return o.mT if len(d) > d.shape[1] else o


lion, muon = Lion, Muon  # by the names that configurations say
