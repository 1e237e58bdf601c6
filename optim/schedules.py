"""Learning rate schedules: a factor on every group's `lr`, stepped once after each optimizer step.

Run: ``python -m trainer optim=cgd schedule=cosine schedule.warmup_epochs=2``
"""

from __future__ import annotations

import math

import torch
from torch.optim.lr_scheduler import LambdaLR

from optim.checks import check_range


def refresh_rates(schedule: LambdaLR) -> None:
    """Sets the rates to what the schedule gives at its step: after a state of a run of another length was loaded."""
    groups = schedule.optimizer.param_groups
    for group, base, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = base * factor(schedule.last_epoch)


def constant(optimizer: torch.optim.Optimizer, *, epochs: int, steps_per_epoch: int) -> None:
    """The rate stays as it is: nothing to step."""


def cosine(
    optimizer: torch.optim.Optimizer,
    *,
    epochs: int,
    steps_per_epoch: int,
    floor: float = 0.0,
    warmup_epochs: int = 0,
) -> LambdaLR:
    """From lr down to floor * lr along half a cosine, after a linear warm-up (Loshchilov & Hutter 2017, eq. 5).

    With T steps of which W warm up, step t has the factor (t + 1) / (W + 1) for t < W, and from there
    floor + (1 - floor) (1 + cos(pi (t - W) / (T - W))) / 2.

    Raises:
        ValueError: a floor outside [0, 1], or a warm-up as long as the run.
    """
    check_range("floor", floor, 0, 1)
    check_range("warmup_epochs", warmup_epochs, 0, epochs, "fewer than train.epochs", open_above=True)
    total, warmup = epochs * steps_per_epoch, warmup_epochs * steps_per_epoch

    def factor(t: int) -> float:
        if t < warmup:
            return (t + 1) / (warmup + 1)
        return floor + (1 - floor) * (1 + math.cos(math.pi * (t - warmup) / (total - warmup))) / 2

    return LambdaLR(optimizer, factor)
