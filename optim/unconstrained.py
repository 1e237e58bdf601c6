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

from optim.stepping import Stepping


class Simple(Stepping):
    """A base for steps that treat each parameter on its own."""

    def advance(self) -> None:
        for group in self.param_groups:
            for x in group["params"]:
                if x.grad is not None:
                    self.move(x, x.grad, self.state[x], group)

    def move(self, x: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        """Moves x, in place, given its gradient."""
        raise NotImplementedError


class MomentumAdagrad(Simple):
    """AdaGrad (Duchi, Hazan, Singer 2011) with heavy-ball momentum over its steps.

    s = s + g^2; b = rho b + g / (sqrt(s) + eps); x = x - lr b
    """

    def __init__(self, params: ParamsT, *, lr: float, momentum: float, eps: float, weight_decay: float):
        super().__init__(params, {"lr": lr, "momentum": momentum, "eps": eps, "weight_decay": weight_decay})

    def move(self, x: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state |= {"sum": torch.zeros_like(x), "momentum_buffer": torch.zeros_like(x)}
        g = g.add(x, alpha=group["weight_decay"])
        state["sum"].addcmul_(g, g)
        b = state["momentum_buffer"].mul_(group["momentum"]).add_(g / (state["sum"].sqrt() + group["eps"]))
        x.sub_(group["lr"] * b)


class Lion(Simple):
    """Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2).

    c = beta1 m + (1 - beta1) g; x = x - lr (sign(c) + lambda x); m = beta2 m + (1 - beta2) g. With lambda > 0 and equal
    betas this is stochastic Frank-Wolfe over the hypercube of radius 1 / lambda, with step lr lambda and a momentum
    from 0 (arXiv 2310.05898, 2506.04192).
    """

    def __init__(self, params: ParamsT, *, lr: float, betas: tuple[float, float], weight_decay: float):
        super().__init__(params, {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay})

    def move(self, x: Tensor, g: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            state["momentum_buffer"] = torch.zeros_like(x)
        m, lr, (beta1, beta2) = state["momentum_buffer"], group["lr"], group["betas"]
        c = m.lerp(g, 1 - beta1)
        x.mul_(1 - lr * group["weight_decay"]).sub_(lr * c.sign_())
        m.lerp_(g, 1 - beta2)


class Muon(Stepping):
    """Muon (Jordan et al. 2024) for parameters of two or more dimensions, AdamW for the others.

    A convolution is a matrix of its filters. A network's groups are divided in two, Muon's first.
    """

    recordable = False  # the rate is a number here, which a recording would keep

    def __init__(self, params: ParamsT, *, lr: float, adamw_lr: float, **options: Any):
        self.adamw_lr = adamw_lr
        super().__init__(params, {"lr": lr, "adamw": False, **options})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group, as for any optimizer, divided by the parameters' dimensions."""
        given = param_group["params"]
        given = [given] if isinstance(given, Tensor) else list(given)
        xs = [x[1] if isinstance(x, tuple) else x for x in given]
        flat = [x.ndim < 2 or x.numel() == 0 for x in xs]  # of no entries nothing can be orthogonal
        for adamw in (False, True):
            members = [x for x, is_flat in zip(given, flat, strict=True) if is_flat == adamw]
            if members or (adamw and not given):  # torch keeps an empty group, too
                own = {"adamw": True, "fused": True, "lr": self.adamw_lr} if adamw else {}
                super().add_param_group({**param_group, **own, "params": members})

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"adamw_lr": self.adamw_lr}

    def advance(self) -> None:
        for group in self.param_groups:
            xs = [x for x in group["params"] if x.grad is not None]
            (self._adamw if group["adamw"] else self._muon)(xs, group)

    def _muon(self, xs: list[Tensor], group: dict[str, Any]) -> None:
        """m = rho m + (1 - rho) g; d = rho m + (1 - rho) g, or m; x = (1 - lr lambda) x - lr s O(d)."""
        lr, rho = float(group["lr"]), group["momentum"]
        for x in xs:
            w, g, state = matrix(x), matrix(x.grad), self.state[x]  # views, except of tensors in another order
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(w, memory_format=torch.contiguous_format)
            m = state["momentum_buffer"].lerp_(g, 1 - rho)
            d = g.lerp(m, rho) if group["nesterov"] else m
            rows, columns = w.shape
            s = 0.2 * math.sqrt(max(w.shape)) if group["match_rms_adamw"] else math.sqrt(max(1, rows / columns))
            w.mul_(1 - lr * group["weight_decay"]).add_(nearly_orthogonal(d), alpha=-lr * s)
            if w.data_ptr() != x.data_ptr():
                x.copy_(w.view(x.shape))

    def _adamw(self, xs: list[Tensor], group: dict[str, Any]) -> None:
        for x in xs:
            if not self.state[x]:
                self.state[x] |= {"step": torch.zeros((), device=x.device)}
                self.state[x] |= {"exp_avg": torch.zeros_like(x), "exp_avg_sq": torch.zeros_like(x)}
        states = [self.state[x] for x in xs]
        adamw_step(
            xs,
            [x.grad for x in xs],
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
