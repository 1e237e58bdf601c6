"""Learning rate schedules: a factor on every group's `lr`, stepped once after each optimizer step.

Each takes a linear warm-up first, over ``warmup_steps`` or ``warmup_epochs``: with W steps of it, step t < W has
(t + 1) / (W + 1) of the schedule's first factor. From there the schedule counts units u = 0, 1, … of U in all: steps,
or whole epochs where ``by`` is ``epoch``.
Run: ``python -m trainer optim=cgd schedule=cosine schedule.warmup_epochs=2``
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from optim.checks import check_range

By = Literal["step", "epoch"]
Shape = Callable[[int, int], float]  # (u, U) -> factor


def refresh_rates(schedule: LambdaLR) -> None:
    """Sets the rates to what the schedule gives at its step: after a state of a run of another length was loaded."""
    groups = schedule.optimizer.param_groups
    for group, base, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        rate = base * factor(schedule.last_epoch)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    schedule._last_lr = [group["lr"] for group in groups]  # what get_last_lr() says


class Scheduled(LambdaLR):
    """A warm-up, then `shape`.

    Args:
        epochs, steps_per_epoch: of the whole run.
        max_steps: the run's last step, if it comes before its last epoch's.
        warmup_epochs, warmup_steps: of the warm-up; at most one of them.
        by: what u and U count: ``step`` or ``epoch``.

    Raises:
        ValueError: a warm-up given twice, negative, or as long as the run; another `by`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        shape: Shape,
        *,
        epochs: int,
        steps_per_epoch: int,
        warmup_epochs: int,
        warmup_steps: int,
        by: By,
        max_steps: int | None = None,
    ):
        check_range("warmup_epochs", warmup_epochs, 0, epochs, "fewer than train.epochs", open_above=True)
        total, unit = epochs * steps_per_epoch, steps_per_epoch if by == "epoch" else 1
        total = total if max_steps is None else min(total, max_steps)
        check_range("warmup_steps", warmup_steps, 0, total, "fewer than the run has", open_above=True)
        if warmup_steps and warmup_epochs:
            raise ValueError(f"warmup_steps={warmup_steps}: give it or warmup_epochs={warmup_epochs}, not both")
        if by not in ("step", "epoch"):
            raise ValueError(f"by={by}: must be step or epoch")
        warmup = warmup_steps or warmup_epochs * steps_per_epoch

        def factor(t: int) -> float:
            rise = (t + 1) / (warmup + 1) if t < warmup else 1.0
            return rise * shape(max(t - warmup, 0) // unit, math.ceil((total - warmup) / unit))

        super().__init__(optimizer, factor)


def schedule(by: By) -> Callable[[Callable[..., Shape]], Callable[..., LambdaLR]]:
    """Makes a function that returns a shape into a schedule: one of (optimizer, epochs, steps_per_epoch, …).

    It has the arguments of the shape and those of the warm-up, in its signature, too, which is what YAML is checked
    against; `by` is their default.
    """

    def decorate(make_shape: Callable[..., Shape]) -> Callable[..., LambdaLR]:
        def made(
            optimizer: torch.optim.Optimizer,
            *,
            epochs: int,
            steps_per_epoch: int,
            max_steps: int | None = None,
            warmup_epochs: int = 0,
            warmup_steps: int = 0,
            by: By = by,
            **shape: Any,
        ) -> LambdaLR:
            times = {"epochs": epochs, "steps_per_epoch": steps_per_epoch, "max_steps": max_steps, "by": by}
            warmup = {"warmup_epochs": warmup_epochs, "warmup_steps": warmup_steps}
            return Scheduled(optimizer, make_shape(**shape), **times, **warmup)

        common, own = inspect.signature(made), inspect.signature(make_shape)
        named = [p for p in common.parameters.values() if p.kind != p.VAR_KEYWORD]
        made.__signature__ = common.replace(parameters=[*named, *own.parameters.values()])
        made.__annotations__ = {**make_shape.__annotations__, **made.__annotations__}
        made.__name__ = made.__qualname__ = make_shape.__name__
        made.__doc__ = make_shape.__doc__
        return made

    return decorate


def constant(
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    steps_per_epoch: int,
    max_steps: int | None = None,
    warmup_epochs: int = 0,
    warmup_steps: int = 0,
) -> LambdaLR | None:
    """The rate stays as it is: without a warm-up there is nothing to step, and no schedule."""
    if not warmup_epochs and not warmup_steps:
        return None
    times = {"epochs": epochs, "steps_per_epoch": steps_per_epoch, "max_steps": max_steps, "by": "step"}
    return Scheduled(optimizer, lambda u, U: 1.0, **times, warmup_epochs=warmup_epochs, warmup_steps=warmup_steps)


@schedule(by="step")
def cosine(*, floor: float = 0.0) -> Shape:
    """floor + (1 - floor) (1 + cos(pi u / U)) / 2 (Loshchilov & Hutter 2017, eq. 5).

    Raises:
        ValueError: a floor outside [0, 1], or a warm-up as long as the run.
    """
    check_range("floor", floor, 0, 1)
    return lambda u, U: floor + (1 - floor) * (1 + math.cos(math.pi * min(u / U, 1))) / 2


@schedule(by="step")
def linear(*, floor: float = 0.0) -> Shape:
    """1 - (1 - floor) u / U: a line down to floor * lr.

    Raises:
        ValueError: a floor outside [0, 1], or a warm-up as long as the run.
    """
    check_range("floor", floor, 0, 1)
    return lambda u, U: 1 - (1 - floor) * min(u / U, 1)


@schedule(by="epoch")
def step(*, every: int = 10, gamma: float = 0.1) -> Shape:
    """gamma^floor(u / every): a stair.

    Raises:
        ValueError: every < 1, a gamma outside [0, 1], or a warm-up as long as the run.
    """
    check_range("every", every, 1)
    check_range("gamma", gamma, 0, 1)
    return lambda u, U: gamma ** (u // every)


@schedule(by="epoch")
def exponential(*, gamma: float = 0.95) -> Shape:
    """gamma^u.

    Raises:
        ValueError: a gamma outside [0, 1], or a warm-up as long as the run.
    """
    check_range("gamma", gamma, 0, 1)
    return lambda u, U: gamma**u


@schedule(by="step")
def agnostic() -> Shape:
    """2 / (u + 2): the conditional gradient method's open-loop rule at lr 1 (Jaggi 2013, Algorithm 1).

    Raises:
        ValueError: a warm-up as long as the run.
    """
    return lambda u, U: 2 / (u + 2)


@schedule(by="step")
def one_cycle(*, rise: float = 0.3, start_divisor: float = 25.0, final_divisor: float = 1e4) -> Shape:
    """Up from lr / start_divisor to lr over the share `rise` of the run, down to lr / (start_divisor final_divisor).

    Both along half a cosine, as ``torch.optim.lr_scheduler.OneCycleLR`` (Smith & Topin 2018); momentum stays.

    Raises:
        ValueError: a rise outside [0, 1], divisors below 1, or a warm-up as long as the run.
    """
    check_range("rise", rise, 0, 1)
    check_range("start_divisor", start_divisor, 1)
    check_range("final_divisor", final_divisor, 1)
    start, end = 1 / start_divisor, 1 / start_divisor / final_divisor

    def between(a: float, b: float, share: float) -> float:
        return b + (a - b) * (1 + math.cos(math.pi * share)) / 2

    def shape(u: int, U: int) -> float:
        top, last = rise * U - 1, U - 1
        if u <= top:
            return between(start, 1, u / top) if top > 0 else 1.0
        return between(1, end, min((u - top) / (last - top), 1)) if last > top else end

    return shape


class Plateau(Scheduled):
    """Multiplies the rate by `factor` when an epoch's number has not improved for more than `patience` epochs.

    As ``torch.optim.lr_scheduler.ReduceLROnPlateau`` with a relative threshold. The runner calls :meth:`observe`.

    Args:
        factor: in (0, 1).
        patience: epochs without improvement that pass, >= 0.
        threshold: what counts: better by more than this share of the best.
        floor: the least factor, in [0, 1].

    Raises:
        ValueError: a value outside its range, or a warm-up as long as the run.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        epochs: int,
        steps_per_epoch: int,
        max_steps: int | None = None,
        factor: float = 0.1,
        patience: int = 5,
        threshold: float = 1e-4,
        floor: float = 0.0,
        warmup_epochs: int = 0,
        warmup_steps: int = 0,
    ):
        if not 0 < factor < 1:
            raise ValueError(f"factor={factor}: must be between 0 and 1")
        check_range("patience", patience, 0)
        check_range("threshold", threshold, 0)
        check_range("floor", floor, 0, 1)
        self.factor, self.patience, self.threshold, self.floor = factor, patience, threshold, floor
        self.reduced, self.best, self.waited = 1.0, math.inf, 0  # best: the least, of -value where more is better
        times = {"epochs": epochs, "steps_per_epoch": steps_per_epoch, "max_steps": max_steps, "by": "epoch"}
        warmup = {"warmup_epochs": warmup_epochs, "warmup_steps": warmup_steps}
        super().__init__(optimizer, lambda u, U: self.reduced, **times, **warmup)

    def observe(self, value: float, maximize: bool) -> None:
        """Takes the number that an epoch ended with, and sets the rates that it calls for."""
        score = -value if maximize else value
        if score < (self.best - self.threshold * abs(self.best) if math.isfinite(self.best) else self.best):
            self.best, self.waited = score, 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.reduced, self.waited = max(self.reduced * self.factor, self.floor), 0
            refresh_rates(self)
