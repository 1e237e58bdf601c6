"""Learning rate schedules: a factor on every group's `lr`, stepped once after each optimizer step.

Each takes a linear warm-up first, over ``warmup_steps`` or ``warmup_epochs``: with W steps of it, step t < W has
(t + 1) / (W + 1) of the schedule's first factor. From there the schedule counts units u = 0, 1, … of U in all: steps,
or whole epochs where ``by`` is ``epoch``.
Run: ``python -m trainer optim=cgd schedule=cosine schedule.warmup_epochs=2``
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from optim.options import Options, at_least_0, at_least_1, check_range, option, share

By = Literal["step", "epoch"]
TIMES = ("epochs", "steps_per_epoch", "max_steps", "warmup_epochs", "warmup_steps")  # arguments of every schedule


def refresh_rates(schedule: LambdaLR) -> None:
    """Sets the rates to those of the schedule's step, after the state of a run of another length was loaded."""
    groups = schedule.optimizer.param_groups
    for group, base, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        rate = base * factor(schedule.last_epoch)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    schedule._last_lr = [group["lr"] for group in groups]  # what get_last_lr() says


class Schedule(Options, LambdaLR):
    """A base: a warm-up, then the factor that a subclass gives in :meth:`shape`.

    Args:
        epochs, steps_per_epoch: of the whole run.
        max_steps: the run's last step, if it comes before its last epoch's.
        warmup_epochs: epochs of a linear warm-up from 0, fewer than the run has.
        warmup_steps: steps of a linear warm-up, instead of `warmup_epochs`.
        by: whether the rate changes at each ``step`` or at each ``epoch``.

    Raises:
        ValueError: a value outside its range; a warm-up given twice, negative, or as long as the run.
    """

    optimizer: torch.optim.Optimizer = option(kw_only=False)
    epochs: int
    steps_per_epoch: int
    max_steps: int | None = None
    warmup_epochs: int = 0
    warmup_steps: int = 0

    def start(self, options: dict[str, Any]) -> None:
        epochs, steps_per_epoch, max_steps, warmup_epochs, warmup_steps = (options.pop(name) for name in TIMES)
        optimizer, by, own = options.pop("optimizer"), options.pop("by", "step"), options
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
            return rise * self.shape(max(t - warmup, 0) // unit, math.ceil((total - warmup) / unit), **own)

        super().__init__(optimizer, factor)

    def shape(self, u: int, U: int, *_: Any, **own: Any) -> float:
        """The factor of unit u of U; a subclass takes its own options by name."""
        raise NotImplementedError


class Constant(Schedule):
    """1."""

    def shape(self, u: int, U: int) -> float:
        return 1.0


def constant(
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    steps_per_epoch: int,
    max_steps: int | None = None,
    warmup_epochs: int = 0,
    warmup_steps: int = 0,
) -> LambdaLR | None:
    """The rate stays as it is: without a warm-up there is nothing to step, and no schedule.

    Args:
        optimizer, epochs, steps_per_epoch, max_steps, warmup_epochs, warmup_steps: as for :class:`Schedule`.
    """
    if not warmup_epochs and not warmup_steps:
        return None
    return Constant(
        optimizer,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        max_steps=max_steps,
        warmup_epochs=warmup_epochs,
        warmup_steps=warmup_steps,
    )


class Cosine(Schedule):
    """floor + (1 - floor) (1 + cos(pi u / U)) / 2 (Loshchilov & Hutter 2017, eq. 5).

    Args:
        floor: the last factor.
    """

    floor: float = option(default=0.0, check=share)
    by: By = "step"

    def shape(self, u: int, U: int, floor: float) -> float:
        return floor + (1 - floor) * (1 + math.cos(math.pi * min(u / U, 1))) / 2


class Linear(Schedule):
    """1 - (1 - floor) u / U: a line down to floor * lr.

    Args:
        floor: the last factor.
    """

    floor: float = option(default=0.0, check=share)
    by: By = "step"

    def shape(self, u: int, U: int, floor: float) -> float:
        return 1 - (1 - floor) * min(u / U, 1)


class Step(Schedule):
    """gamma^floor(u / every): a stair.

    Args:
        every: epochs, or steps, between two changes.
        gamma: what a change multiplies the rate by.
    """

    every: int = option(default=10, check=at_least_1)
    gamma: float = option(default=0.1, check=share)
    by: By = "epoch"

    def shape(self, u: int, U: int, every: int, gamma: float) -> float:
        return gamma ** (u // every)


class Exponential(Schedule):
    """gamma^u.

    Args:
        gamma: what each epoch, or step, multiplies the rate by.
    """

    gamma: float = option(default=0.95, check=share)
    by: By = "epoch"

    def shape(self, u: int, U: int, gamma: float) -> float:
        return gamma**u


class Agnostic(Schedule):
    """2 / (u + 2): the conditional gradient method's open-loop rule at lr 1 (Jaggi 2013, Algorithm 1)."""

    by: By = "step"

    def shape(self, u: int, U: int) -> float:
        return 2 / (u + 2)


class OneCycle(Schedule):
    """Up from lr / start_divisor to lr over the share `rise` of the run, down to lr / (start_divisor final_divisor).

    Both along half a cosine, as ``torch.optim.lr_scheduler.OneCycleLR`` (Smith & Topin 2018); momentum stays.

    Args:
        rise: the share of the run in which the rate rises.
        start_divisor: the first rate is lr / start_divisor.
        final_divisor: the last rate is the first one / final_divisor.
    """

    rise: float = option(default=0.3, check=share)
    start_divisor: float = option(default=25.0, check=at_least_1)
    final_divisor: float = option(default=1e4, check=at_least_1)
    by: By = "step"

    def shape(self, u: int, U: int, rise: float, start_divisor: float, final_divisor: float) -> float:
        start, end = 1 / start_divisor, 1 / start_divisor / final_divisor
        top, last = rise * U - 1, U - 1
        if u <= top:
            return between(start, 1, u / top) if top > 0 else 1.0
        return between(1, end, min((u - top) / (last - top), 1)) if last > top else end


def between(a: float, b: float, share: float) -> float:
    """Along half a cosine from a to b."""
    return b + (a - b) * (1 + math.cos(math.pi * share)) / 2


def inside(name: str, value: float) -> None:
    """Raises ValueError unless `value` is between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name}={value}: must be between 0 and 1")


class Plateau(Schedule):
    """Multiplies the rate by `factor` when an epoch's number has not improved for more than `patience` epochs.

    As ``torch.optim.lr_scheduler.ReduceLROnPlateau`` with a relative threshold. The runner calls :meth:`observe`.

    Args:
        factor: what a change multiplies the rate by.
        patience: epochs without improvement that pass before a change.
        threshold: what counts: better by more than this share of the best.
        floor: the least factor.
    """

    factor: float = option(default=0.1, check=inside)
    patience: int = option(default=5, check=at_least_0)
    threshold: float = option(default=1e-4, check=at_least_0)
    floor: float = option(default=0.0, check=share)

    def start(self, options: dict[str, Any]) -> None:
        self.factor, self.patience = options.pop("factor"), options.pop("patience")
        self.threshold, self.floor = options.pop("threshold"), options.pop("floor")
        self.reduced, self.best, self.waited = 1.0, math.inf, 0  # best: the least, of -value where more is better
        super().start(options)

    def shape(self, u: int, U: int) -> float:
        return self.reduced

    def observe(self, value: float, maximize: bool) -> None:
        """Takes an epoch's number, and lowers the rates if it is time."""
        score = -value if maximize else value
        if score < (self.best - self.threshold * abs(self.best) if math.isfinite(self.best) else self.best):
            self.best, self.waited = score, 0
        else:
            self.waited += 1
        if self.waited > self.patience:
            self.reduced, self.waited = max(self.reduced * self.factor, self.floor), 0
            refresh_rates(self)


# by the names that configurations say
cosine, linear, step, exponential, agnostic, one_cycle = Cosine, Linear, Step, Exponential, Agnostic, OneCycle
