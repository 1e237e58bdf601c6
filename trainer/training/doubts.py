"""What looks like a mistake although the run trains: one line with a likely cause and a key.

Each is decided once: before the first step, or after a third of the epochs, from numbers that a run has anyway.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from trainer.cli.display import listed
from trainer.cli.signatures import show
from trainer.rundir import curves
from trainer.rundir.errors import Damaged
from trainer.training.state import Training, steps_per_epoch

SHRUNK = 0.01  # share of an initial norm below which nothing of the values is left
CLOSE, FAR = 0.99, 1.1  # shares of the loss at chance: from the first on a loss is no better, above the other worse
HEAVY = 0.1  # factor of a penalty that may outweigh a loss
STILL = 0.98  # a loss that falls below this share of itself is on its way


def before_training(t: Training) -> list[str]:
    """Doubts about a configuration: a batch larger than the data, a set too small for the initial weights."""
    lines, samples = [], t.dataset.facts.sizes["train"]
    if t.dataset.batch_size > samples:
        lines.append(
            f"data.batch_size={t.dataset.batch_size}: larger than the training split; "
            f"an epoch is one step on all {samples:,} samples"
        )
    shrunk = [h for h in getattr(t.optimizer, "held", ()) if len(h.shape) > 1 and h.kept < SHRUNK]
    if shrunk:
        left = 100 * max(h.kept for h in shrunk)
        lines.append(
            f"{size_of_set(t)}: too small a set for {listed([h.name for h in shrunk])}: moving inside left "
            f"{left:.1g} % of the initial norm at most, and steps stay inside; take a larger one"
        )
    return lines


def size_of_set(t: Training) -> str:
    """The keys that give the constraint its size, with their values."""
    config = t.config["constraint"]
    sizes = {k: config[k] for k in ("radius", "diameter", "init_factor", "low", "high") if config.get(k) is not None}
    if not sizes and "radius" in config:
        sizes = {"radius": 1}  # its default
    return " ".join(f"constraint.{k}={show(v)}" for k, v in sizes.items()) or "constraint"


def after_epoch(t: Training) -> str | None:
    """The doubt about a loss that is at chance, or worse, from the start until a third of the epochs is over."""
    per_epoch = steps_per_epoch(t.dataset, t.settings, t.objective)
    steps = t.settings.epochs * per_epoch
    planned = math.ceil(min(steps, t.settings.max_steps or steps) / per_epoch)
    third = math.ceil(planned / 3)
    if t.progress.epoch != third or third < 2 or not t.world.main:
        return None
    _, y, *weights = t.dataset.splits["train"]
    chance = None if weights else t.objective.chance(y.cpu())  # on a GPU, a median may give other bits each time
    columns = table(t)
    if chance is None or not columns:
        return None
    with torch.no_grad():
        penalty = float(t.objective.penalty(t.model))
    losses = columns["train/loss"] - penalty
    falls = losses[-1] < STILL * losses[(third - 1) // 2]
    if not min(losses) >= CLOSE * chance or (falls and losses[-1] > FAR * chance):
        return None
    return (
        f"after {third} of {planned} epochs the loss, {losses[-1] + penalty:.4g}, is no better than that of a constant "
        f"output, {chance + penalty:.4g}: {likely_cause(t, chance, losses)}"
    )


def table(t: Training) -> dict[str, np.ndarray]:
    """The columns of the run's table, also of the epochs before a resume; {} if it cannot be read."""
    try:
        return curves.numbers(curves.read(t.run) or b"")
    except Damaged:  # somebody else wrote into it; a doubt is no reason to end a run
        return {}


def likely_cause(t: Training, chance: float, losses: np.ndarray) -> str:
    """A key that may keep a loss at chance, with its value and what to try."""
    penalties = [(v, k) for k, v in t.config["objective"].items() if k in ("l1", "l2") and v]
    small = [h for h in getattr(t.optimizer, "held", ()) if h.constraint is not None and h.kept < 0.1]
    rate = t.config["optim"].get("lr")
    if t.objective.adversary is not None:
        return f"objective.adversary_radius={show(t.objective.adversary.ball.r)} may be too large"
    if penalties and max(penalties)[0] >= HEAVY:
        factor, name = max(penalties)
        return f"objective.{name}={show(factor)} may be too large"
    if small:
        return f"{size_of_set(t)} may be too small"
    if losses[-1] > FAR * chance:
        moves = abs(losses[-1] - losses[0]) > (1 - STILL) * losses[0]
        return f"optim.lr={show(rate)} may be too {'large' if moves else 'small'}"
    return f"optim.lr={show(rate)} may be too small or too large; try a tenth and ten times"
