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

import operator
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from optim.constrained import Constrained, Group, check_constraint, with_gradients
from optim.lean import Stepping
from optim.measure import KEY, NOTHING, Sample, Sums, counted, due, due_within, loaded, row, totals
from optim.options import at_least_0, below_1, check_range, option, share
from optim.sets import Constraint, ConstraintSet, Whole, flat, put_back
from optim.sets.precision import double
from optim.vertex import Scratch, Vertex, norm

TINY = 1e-30  # the least divisor


class ConditionalGradient(Constrained, Stepping):
    """The base of the conditional gradient methods: one step for each parameter, with the set that holds it.

    A subclass gives a :meth:`direction`, and perhaps a :meth:`rate`; this class asks the oracle, measures, and moves x
    towards the vertex. A method whose step does not go towards one vertex overrides :meth:`move`. Free parameters take
    torch's steps of SGD with momentum.

    Args:
        params, constraint: as for :class:`optim.constrained.Constrained`.
        lr: gamma, the share of the way to the vertex, in [0, 1].
        weight_decay: lambda; adds lambda x to the gradient.
        free_lr: learning rate of SGD for the parameters that no set holds.
        free_momentum: momentum of SGD for the parameters that no set holds.
        gap_every: steps between two measurements, such as the Frank-Wolfe gap; 0: never; None: 20, or 100 for sets of
            matrices, since a gap mostly takes an oracle call of its own. Each parameter counts its own steps, those
            with a gradient; its first step after :meth:`pop_measurements` is measured.
    """

    later: ClassVar[Group] = {}  # options that states of earlier versions lack, with what those did

    constraint: Constraint = option(kw_only=False)
    lr: float = option()  # its range depends on the group: see `accept`
    free_lr: float = option(default=0.05, check=at_least_0)
    free_momentum: float = option(default=0.9, check=below_1)
    gap_every: int | None = option(default=None, check=at_least_0)

    def start(self, options: dict[str, Any]) -> None:
        check_constraint(type(self).__name__, options["constraint"])
        self.free_lr, gap_every, self.scratch = options.pop("free_lr"), options.pop("gap_every"), Scratch()
        self.sample: Sample | None = None  # of the step under way, if it is measured
        super().start(options)
        self.gap_every = (100 if self.of_matrices else 20) if gap_every is None else gap_every

    def free_options(self) -> Group:
        return {"lr": self.free_lr}

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
            ValueError: the state is of another set or size, or lacks an option of this method.
        """
        groups = [
            {**group, **{k: v for k, v in self.later.items() if k not in group}} for group in state_dict["param_groups"]
        ]
        state_dict = state_dict | {"param_groups": groups}  # the keys keep their order
        for i, group in enumerate(state_dict["param_groups"]):
            if missing := self.defaults.keys() - group.keys():
                names = ", ".join(sorted(missing))
                raise ValueError(f"state_dict: its group {i} has no {names}: not a state of {type(self).__name__}")
        super().load_state_dict(state_dict)
        self.state[KEY] = loaded(self.state.get(KEY, NOTHING), self.device, len(self.place))

    def accept(self, C: ConstraintSet | None, options: Group) -> None:
        if C is not None and not C.convex:
            raise ValueError(
                f"constraint={type(C).__name__}: a conditional gradient step would leave this surface; use optim=sgd "
                "or adam, or a ball"
            )
        if isinstance(C, Whole) and not self.takes_whole(options):
            name = type(C.of).__name__
            raise ValueError(f"constraint={name}: scope=network is not for {type(self).__name__}; use optim=cgd or sfw")
        if C is not None and self.takes_share(options):
            why = "a conditional gradient step goes a share of the way to the vertex"
            check_range("lr", options["lr"], 0, 1, why)
        else:
            at_least_0("lr", options["lr"])

    def takes_share(self, group: Group) -> bool:
        """Whether lr is the share of the way to the vertex, and must be in [0, 1]."""
        return True

    def takes_whole(self, group: Group) -> bool:
        """Whether a set of several parameters is possible: the step goes a way towards one vertex."""
        return True

    def __getstate__(self) -> dict[str, Any]:
        own = {"free_lr": self.free_lr, "gap_every": self.gap_every, "scratch": Scratch()}
        return super().__getstate__() | own

    def advance(self) -> None:
        """The step itself, from the gradients that are there."""
        moving = self.moving()
        self.sample = self.next_sample()
        with torch.autocast(self.device.type, enabled=False):  # an oracle's matrix products are in full precision
            for x, g, C, group in moving:
                if group["weight_decay"] != 0:
                    g = g.add(x, alpha=group["weight_decay"])
                if C is None:
                    self.free_move(x, g, group)
                elif not isinstance(C, Whole):
                    self.move(x, g, C, group)
            for group, C in zip(self.param_groups, self.constraints, strict=True):
                if isinstance(C, Whole) and with_gradients(group):
                    self.move_whole(group["params"], C, group)
        self.count([x for x, _, C, _ in moving if C is not None], self.sample)

    def direction(self, x: Tensor, g: Tensor, group: Group) -> Tensor:
        """d, whose vertex argmin_{v in C} <d, v> the step goes to, given the gradient g at x."""
        raise NotImplementedError

    def rate(self, v: Vertex, group: Group) -> float | Tensor:
        """gamma. Above 1, x would leave the set, so :meth:`move` clips it there."""
        return group["lr"]

    def move(self, x: Tensor, g: Tensor, C: ConstraintSet, group: Group) -> None:
        """x = x + gamma (v - x), in place."""
        v = Vertex(C, self.direction(x, g, group), x, self.scratch)
        gamma = self.rate(v, group)
        gamma = gamma.clamp(max=1) if isinstance(gamma, Tensor) else min(gamma, 1.0)
        if self.sample:
            self.sample.toward(self.place[x], v, gamma, g)
        v.pull(gamma)

    def move_whole(self, xs: list[Tensor], C: Whole, group: Group) -> None:
        """The same for the vector of all entries of xs; without a gradient, its part is 0."""
        gs = [torch.zeros_like(x) if x.grad is None else x.grad for x in xs]
        if group["weight_decay"] != 0:
            gs = [g.add(x, alpha=group["weight_decay"]) for x, g in zip(xs, gs, strict=True)]
        ds = [self.direction(x, g, group) for x, g in zip(xs, gs, strict=True)]
        g = flat(gs)
        v = Vertex(C, g if all(map(operator.is_, ds, gs)) else flat(ds), flat(xs), self.scratch)
        gamma = self.rate(v, group)
        gamma = gamma.clamp(max=1) if isinstance(gamma, Tensor) else min(gamma, 1.0)
        if self.sample:
            self.sample.toward_parts([self.place[x] for x in xs], [x.numel() for x in xs], v, gamma, g)
        v.pull(gamma)
        put_back(v.x, xs)

    def put(self, x: Tensor, y: Tensor, g: Tensor, C: ConstraintSet) -> None:
        """x = y, in place, for a :meth:`move` that finds the next point y by itself."""
        if self.sample:
            self.sample.to(self.place[x], x, y, g, C)
        x.copy_(y)

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

    @property
    def sums(self) -> Sums:
        """What was measured since the last call of :meth:`pop_measurements`."""
        return self.state.get(KEY, NOTHING)

    def next_sample(self) -> Sample | None:
        """What the next step measures; None if nothing."""
        if not self.gap_every:
            return None  # the state is not even read, for which torch would compile each step anew
        which = due(self.sums, self.gap_every, len(self.place))
        return Sample(which) if any(which) else None

    def measures_within(self, steps: int) -> bool:
        """Whether one of the next steps of a parameter is one that is measured."""
        every = self.gap_every
        return due_within(steps, self.sums, every) if every else False

    def count(self, xs: Iterable[Tensor], sample: Sample | None = None) -> None:
        """Counts a step of the parameters xs, each for itself, with what was measured in it."""
        if self.gap_every != 0:
            self.state[KEY] = counted(self.sums, [self.place[x] for x in xs], sample, len(self.place))

    def replayed(self, xs: Iterable[Tensor]) -> None:
        """Counts a step of the parameters xs that a recording, such as a CUDA graph, has taken; it is not measured."""
        if self.gap_every != 0:
            steps = self.sums[0]  # those without a gradient have none
            self.count(x for x in xs if self.place[x] < len(steps) and steps[self.place[x]])

    def pop_measurements(self) -> dict[str, Tensor]:
        """Means over the steps measured since the last call, and what can be read from the parameters as they are.

        0-d tensors, on the device; NaN where nothing was measured. :meth:`pop_group_measurements` has them by parameter
        too, and also starts anew.
        """
        return self.pop_group_measurements()[0]

    @torch.no_grad()
    def pop_group_measurements(self) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
        """As :meth:`pop_measurements`, and a row of the same for each parameter that a set holds."""
        sums = self.sums
        self.state[KEY] = NOTHING
        places = ((x, self.place[x]) for group in self.param_groups for x in group["params"])
        held = [(x, i) for x, i in places if self.held[i].constraint is not None]
        rows = [row(x, self.held[i], self.measures, i, sums) for x, i in held]
        total = totals(self.measures, rows, [x.numel() for x, _ in held])
        C = self.held[held[0][1]].constraint if held else None
        if isinstance(C, Whole) and sum(x.numel() for x, _ in held) == C.entries:
            total["boundary"] = C.boundary(flat([x for x, _ in held]))  # what they use of it together
        return total, rows


class Averaging(ConditionalGradient):
    """A base of methods with a mean of gradients, whose weight of the past is constant or grows.

    Args:
        momentum: rho, the weight of the past in the mean m of gradients; 0 keeps no buffer.
        momentum_power: p in [0, 1]: in a parameter's t-th step rho is 1 - t^-p instead. With 2/3 the noise of
            m vanishes (Mokhtari, Hassani, Karbasi 2020, arXiv 1804.09554); with 1, m is the mean of all gradients.
    """

    later: ClassVar[Group] = {"momentum_power": None}

    momentum: float = option(default=0.0, check=below_1)
    momentum_power: float | None = option(default=None, check=share)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        for x in self.place:
            if "step" in self.state.get(x, ()):  # which torch leaves where it was saved
                self.state[x]["step"] = self.state[x]["step"].to(x.device)

    def rho(self, x: Tensor, group: Group) -> float | Tensor:
        """The weight of the past in this step, which it counts if that depends on it: once a step."""
        if group["momentum_power"] is None:
            return group["momentum"]
        state = self.state[x]
        if "step" not in state:
            state["step"] = torch.zeros((), device=x.device)  # a tensor: a recording of the step counts, too
        t = state["step"].add_(1)
        return (1 - double(t) ** -group["momentum_power"]).to(x.dtype)

    def mean(self, x: Tensor, g: Tensor, group: Group) -> Tensor:
        """m = rho m + (1 - rho) g, started at the first gradient."""
        rho, state = self.rho(x, group), self.state[x]
        if not isinstance(rho, Tensor) and rho == 0:
            return g
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = g.clone()
            return state["momentum_buffer"]
        return state["momentum_buffer"].lerp_(g, 1 - rho)


class CGD(Averaging):
    """Conditional gradient descent, with or without momentum."""

    def direction(self, x: Tensor, g: Tensor, group: Group) -> Tensor:
        return self.mean(x, g, group)  # m = rho m + (1 - rho) g


FACTORS = ("none", "diameter", "gradient", "fast_gradient")


def known_factor(name: str, value: str) -> None:
    """Raises ValueError unless `value` is a way to rescale."""
    if value not in FACTORS:
        raise ValueError(f"{name}={value}: must be {', '.join(FACTORS[:-1])} or {FACTORS[-1]}")


class SFW(Averaging):
    """Stochastic Frank-Wolfe with momentum and rescaled steps: gamma = min(lr f, 1).

    Args:
        lr: at least 0, times the factor f; in [0, 1] without rescaling.
        rescale: the factor f; ``none``: 1; ``diameter``: 1 / diameter(C); ``gradient``: ||m|| / ||x - v||, so that the
            step is as long as one of gradient descent; ``fast_gradient``: ||m|| / (diameter(C) / 2), without the second
            norm.
    """

    momentum: float = option(default=0.9, check=below_1)
    rescale: Literal["none", "diameter", "gradient", "fast_gradient"] = option(default="none", check=known_factor)

    def takes_share(self, group: Group) -> bool:
        return group["rescale"] == "none"

    def direction(self, x: Tensor, g: Tensor, group: Group) -> Tensor:
        return self.mean(x, g, group)  # m = rho m + (1 - rho) g

    def rate(self, v: Vertex, group: Group) -> float | Tensor:
        """gamma = lr f."""
        lr, rescale = group["lr"], group["rescale"]
        if rescale == "none":
            return lr
        if rescale == "gradient":
            return quotient(lr * norm(v.m), norm(v.to_go()), v.x)
        diameter = v.C.diameter(v.x.shape)
        return quotient(lr, diameter, v.x) if rescale == "diameter" else quotient(lr * norm(v.m), diameter / 2, v.x)


def quotient(a: float | Tensor, b: float | Tensor, x: Tensor) -> float | Tensor:
    """a / b, and 0 where a is; a tensor is of x's kind, 0-d."""
    gamma = a / (b.clamp(min=TINY) if isinstance(b, Tensor) else max(b, TINY))
    return gamma.to(x.dtype) if isinstance(gamma, Tensor) else gamma
