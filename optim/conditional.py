"""Stochastic conditional gradients (Frank-Wolfe): plain, with momentum, with rescaled steps.

With a gradient g_t of the loss at x_t, a set C, a step gamma in [0, 1] and a momentum rho in [0, 1)::

    m_t = rho m_{t-1} + (1 - rho) g_t        m starts at the first gradient
    v_t = argmin_{v in C} <m_t, v>
    x_{t+1} = x_t + gamma (v_t - x_t)

Sources: Jaggi 2013 (rho = 0); Pokutta, Spiegel, Zimmer 2020, arXiv 2010.07243, Algorithm 1 (momentum, rescaling);
Zimmer, Spiegel, Pokutta 2022, arXiv 2205.11921 (fast gradient rescaling).
Run: ``python -m trainer model=cnn optim=cgd``, ``python -m trainer model=cnn optim=sfw constraint=l2``
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optim.checks import check_range
from optim.constrained import Constrained
from optim.measure import Measurements
from optim.sets import Constraint, ConstraintSet
from optim.stepping import Stepping
from optim.vertex import Scratch, Vertex, norm

TINY = 1e-30  # a distance that is as good as none
Group = dict[str, Any]


class ConditionalGradient(Stepping, Constrained):
    """The base of the conditional gradient methods: one step for each parameter, with the set that holds it.

    A subclass says in :meth:`move` how x moves. Free parameters take steps of SGD with momentum, as torch does.

    Args:
        params: parameters, named parameters or groups, as for any ``torch.optim.Optimizer``.
        constraint: the set C, or what assigns one to each parameter.
        options: of the method, kept in each group: at least ``lr`` and ``weight_decay``.
        free_lr, free_momentum: of the parameters that no set holds.
        gap_every: measure at the first of every so many steps since the last :meth:`pop_measurements`; 0: never. By
            default 20, or 100 if the oracle of a set decomposes matrices: a gap mostly takes an oracle call of its own.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`, or no constraint set.
    """

    def __init__(
        self,
        params: ParamsT,
        constraint: Constraint,
        options: Group,
        *,
        free_lr: float,
        free_momentum: float,
        gap_every: int | None,
    ):
        check_range("free_lr", free_lr, 0)
        check_range("gap_every", gap_every or 0, 0)
        self.free_options, self.scratch = {"lr": free_lr}, Scratch()
        super().__init__(params, constraint, options | {"free_momentum": free_momentum})
        self.gap_every = (100 if self.of_matrices else 20) if gap_every is None else gap_every

    @property
    def device(self) -> torch.device:
        """Where the parameters are; the CPU if there are none."""
        xs = (x for group in self.param_groups for x in group["params"])
        return next((x.device for x in xs), torch.device("cpu"))

    @property
    def of_matrices(self) -> bool:
        """Whether there is a set of matrices."""
        return any(C is not None and C.of_matrices for C in self.constraints)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of what is measured."""
        names = ("fw_gap", "boundary", "sparsity", "step_norm") if self.gap_every else ("boundary", "sparsity")
        return (*names, "effective_rank") if self.of_matrices else names

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As for any optimizer.

        Raises:
            ValueError: the state is of another set, of another size of it, or of a method without one of the options.
        """
        for i, group in enumerate(state_dict["param_groups"]):
            if missing := self.defaults.keys() - group.keys():
                names = ", ".join(sorted(missing))
                raise ValueError(f"state_dict: its group {i} has no {names}: not a state of {type(self).__name__}")
        super().load_state_dict(state_dict)
        Measurements.to(self, self.device)

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group, as for any optimizer; its parameters are shifted inside their sets.

        Raises:
            ValueError: an option outside its range.
        """
        self.check({"constraint": self.constraint} | self.defaults | param_group)
        super().add_param_group(param_group)

    def check(self, group: Group) -> None:
        """Raises ValueError for an option of a group that is outside its range."""
        share = group["constraint"] is not None and self.takes_share(group)
        why = "a conditional gradient step goes a share of the way to the vertex"
        check_range("lr", group["lr"], 0, *([1, why] if share else []))
        check_range("weight_decay", group["weight_decay"], 0)
        check_range("free_momentum", group["free_momentum"], 0, 1, open_above=True)
        if "momentum" in group:
            check_range("momentum", group["momentum"], 0, 1, open_above=True)

    def takes_share(self, group: Group) -> bool:
        """Whether lr is the share of the way to the vertex, and must be in [0, 1]."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        own = {"free_options": self.free_options, "gap_every": self.gap_every, "scratch": Scratch()}
        return super().__getstate__() | own

    def advance(self) -> None:
        """The step itself, from the gradients that are there."""
        measured = Measurements.due(self)
        with torch.autocast(self.device.type, enabled=False):  # an oracle's matrix products are in full precision
            for group, C in zip(self.param_groups, self.constraints, strict=True):
                for x in group["params"]:
                    if x.grad is None:
                        continue
                    g = x.grad if group["weight_decay"] == 0 else x.grad.add(x, alpha=group["weight_decay"])
                    if C is None:
                        self.free_move(x, g, group)
                    else:
                        self.move(x, g, C, group, measured)
        measured.count(self)

    def move(self, x: Tensor, g: Tensor, C: ConstraintSet, group: Group, measured: Measurements) -> None:
        """Moves x, in place, given its gradient g, and has it measured."""
        raise NotImplementedError

    def toward(self, v: Vertex, gamma: float | Tensor, g: Tensor, C: ConstraintSet, measured: Measurements) -> None:
        """x = x + gamma (v - x), measured: the Frank-Wolfe gap of g, and the step's length.

        gamma is at most 1, whatever a scheduler has made of it: the set would be left otherwise.
        """
        gamma = gamma.clamp(max=1) if isinstance(gamma, Tensor) else min(gamma, 1.0)
        measured.toward(v, gamma, g, C)
        v.pull(gamma)

    def free_move(self, x: Tensor, g: Tensor, group: Group) -> None:
        """b = rho b + g; x = x - lr b: torch.optim.SGD's step."""
        state, rho = self.state[x], group["free_momentum"]
        if rho:
            if "momentum_buffer" in state:
                state["momentum_buffer"].mul_(rho).add_(g)
            else:
                state["momentum_buffer"] = g.clone()
            g = state["momentum_buffer"]
        if isinstance(group["lr"], Tensor):
            x.sub_(group["lr"] * g)
        else:
            x.add_(g, alpha=-group["lr"])

    def momentum(self, x: Tensor, g: Tensor, rho: float) -> Tensor:
        """m = rho m + (1 - rho) g, started at the first gradient."""
        if rho == 0:
            return g
        state = self.state[x]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = g.clone()
            return state["momentum_buffer"]
        return state["momentum_buffer"].lerp_(g, 1 - rho)

    @property
    def measures_next(self) -> bool:
        """Whether the next step is one that is measured."""
        return Measurements.due(self).is_due

    def replayed(self) -> None:
        """Counts a step that was none of :meth:`step`'s, as of a CUDA graph: what it did is not measured."""
        Measurements(False, {}).count(self)

    def pop_measurements(self) -> dict[str, Tensor]:
        """Means over the steps measured since the last call, and what can be read from the parameters as they are.

        0-d tensors, on the device; NaN where nothing was measured. :meth:`pop_group_measurements` has them by parameter
        too, and also starts anew.
        """
        return self.pop_group_measurements()[0]

    def pop_group_measurements(self) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
        """As :meth:`pop_measurements`, and a row of the same for each parameter that a set holds."""
        return Measurements.pop(self)


class CGD(ConditionalGradient):
    """Conditional gradient descent, with or without momentum.

    Args:
        params, constraint, free_lr, free_momentum, gap_every: as for :class:`ConditionalGradient`.
        lr: gamma, the share of the way to the vertex, in [0, 1].
        momentum: rho in [0, 1); 0 keeps no buffer.
        weight_decay: lambda >= 0, adds lambda x to the gradient.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`, or no constraint set.
    """

    def __init__(
        self,
        params: ParamsT,
        constraint: Constraint,
        *,
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        free_lr: float = 0.05,
        free_momentum: float = 0.9,
        gap_every: int | None = None,
    ):
        options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, constraint, options, free_lr=free_lr, free_momentum=free_momentum, gap_every=gap_every)

    def move(self, x: Tensor, g: Tensor, C: ConstraintSet, group: Group, measured: Measurements) -> None:
        m = self.momentum(x, g, group["momentum"])
        v = Vertex(C, m, x, self.scratch)  # argmin_{v in C} <m, v>
        self.toward(v, group["lr"], g, C, measured)  # x + gamma (v - x)


class SFW(ConditionalGradient):
    """Stochastic Frank-Wolfe with momentum and rescaled steps: gamma = min(lr f, 1).

    Args:
        params, constraint, free_lr, free_momentum, gap_every: as for :class:`ConditionalGradient`.
        lr: in [0, 1] without rescaling, else at least 0.
        momentum: rho in [0, 1).
        rescale: f. ``none``: 1; ``diameter``: 1 / diameter(C); ``gradient``: ||m|| / ||x - v||, so that the step is as
            long as one of gradient descent; ``fast_gradient``: ||m|| / (diameter(C) / 2), without the second norm.
        weight_decay: lambda >= 0, adds lambda x to the gradient.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`, or no constraint set.
    """

    def __init__(
        self,
        params: ParamsT,
        constraint: Constraint,
        *,
        lr: float,
        momentum: float = 0.9,
        rescale: Literal["none", "diameter", "gradient", "fast_gradient"] = "none",
        weight_decay: float = 0.0,
        free_lr: float = 0.05,
        free_momentum: float = 0.9,
        gap_every: int | None = None,
    ):
        options = {"lr": lr, "momentum": momentum, "rescale": rescale, "weight_decay": weight_decay}
        super().__init__(params, constraint, options, free_lr=free_lr, free_momentum=free_momentum, gap_every=gap_every)

    def check(self, group: Group) -> None:
        if group["rescale"] not in ("none", "diameter", "gradient", "fast_gradient"):
            raise ValueError(f"rescale={group['rescale']}: must be none, diameter, gradient or fast_gradient")
        super().check(group)

    def takes_share(self, group: Group) -> bool:
        return group["rescale"] == "none"

    def move(self, x: Tensor, g: Tensor, C: ConstraintSet, group: Group, measured: Measurements) -> None:
        m = self.momentum(x, g, group["momentum"])
        v = Vertex(C, m, x, self.scratch)  # argmin_{v in C} <m, v>
        self.toward(v, self.rate(x, m, v, C, group), g, C, measured)  # x + gamma (v - x)

    def rate(self, x: Tensor, m: Tensor, v: Vertex, C: ConstraintSet, group: Group) -> float | Tensor:
        """gamma = min(lr f, 1)."""
        lr, rescale = group["lr"], group["rescale"]
        if rescale == "none":
            return lr
        if rescale == "diameter":
            return quotient(lr, C.diameter(x.shape), x)
        return quotient(lr * norm(m), norm(v.to_go()) if rescale == "gradient" else C.diameter(x.shape) / 2, x)


def quotient(a: float | Tensor, b: float | Tensor, x: Tensor) -> float | Tensor:
    """a / b, at most 1, and 0 where a is; a tensor is of x's kind, 0-d."""
    b = b.clamp(min=TINY) if isinstance(b, Tensor) else max(b, TINY)
    gamma = a / b
    return gamma.clamp(max=1).to(x.dtype) if isinstance(gamma, Tensor) else min(gamma, 1.0)
