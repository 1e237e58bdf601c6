"""Metrics of a run's model after a change of its weights or inputs, for ``robustness``.

If the data have a pixel range, sizes of noise and attacks are in its units: 0.1 is a tenth of it, and changed inputs
are clipped to it. A model gets (raw - mean) / std with a mean and std of the image, of each channel or of each pixel,
so a ball of pixels is no ball of these inputs; attacks work on pixels, u in [0, 1]. For other data (tables, series)
sizes are in units of the model's inputs.

Shapes: B batch, the rest that of a sample.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from data import Batch, Facts
from trainer.analysis import compression
from trainer.analysis.finetune import Finetuner
from trainer.analysis.load import Run
from trainer.training import attacks
from trainer.training.adversary import Units, attacked_loss
from trainer.training.device import drawing
from trainer.training.evaluation import added, evaluation_batches, to_numbers
from trainer.training.objectives import MAIN, Objective, Sums
from trainer.training.objectives.adversarial import Adversarial

TUNED = "_finetuned"  # the end of a test's name: the compressed network is trained before it is measured
ATTACKS: dict[str, Callable[..., Tensor]] = {"fgsm": attacks.fgsm, "pgd": attacks.pgd, "fw": attacks.frank_wolfe}


@dataclass
class Subject:
    """A run's model with the samples for the tests."""

    model: nn.Module
    objective: Objective
    batches: list[Batch]
    units: Units
    cast: Callable[[], contextlib.AbstractContextManager]
    seed: int
    finetune: Finetuner | None = None
    part: str = ""  # the submodule that is compressed; "" is the whole model

    @property
    def samples(self) -> int:
        return sum(len(x) for x, *_ in self.batches)


def subject(run: Run, split: str, limit: int, seed: int) -> Subject:
    """The run's model with `limit` samples of a split, drawn by `seed`, or with all if there are no more."""
    n, size = run.facts.sizes[split], evaluation_batches(run.dataset, split)[0].stop
    generator = torch.Generator().manual_seed(seed)
    index = torch.arange(n) if n <= limit else torch.randperm(n, generator=generator)[:limit].sort().values
    batches = list(run.dataset.batches(split, index.to(run.device).split(size)))
    units = Units.of(run.facts, run.device)
    part = part_of(run.objective) or ""
    return Subject(run.model.requires_grad_(False), run.objective, batches, units, run.cast, seed, part=part)


def part_of(objective: Objective) -> str | None:
    """The part of a model that is compressed alone: a GAN's generator, if there is a judge of its images."""
    return "generator" if isinstance(objective, Adversarial) and objective.judge is not None else None


def metric_of(objective: Objective) -> str:
    """The measured metric: accuracy, the rmse in the targets' units, or a judge's distance."""
    return "frechet" if part_of(objective) else next(name for name in MAIN if name in objective.metrics)


def unit_of(facts: Facts) -> str:
    """The unit of noise and attacks."""
    return "of the normalized inputs" if facts.value_range is None else "of the pixel range"


def curve(s: Subject, test: str, norm: str, levels: Sequence[float]) -> Iterator[float]:
    """The metric at each level of one test; nothing if the model has nothing that the test could change."""
    generator = torch.Generator().manual_seed(s.seed)
    kind, part = test.removesuffix(TUNED), s.model.get_submodule(s.part)
    if kind == "prune":
        models = compression.pruned(part, levels, generator)
    elif kind == "filters":
        model: Any = s.model
        x = s.batches[0][0][:1]
        models = compression.without_filters(part, levels, x.new_zeros(1, model.latent) if s.part else x)
    elif kind == "low_rank":
        models = compression.low_rank(part, levels)
    else:
        for level in levels:
            yield score(s, s.model, changed(s, test, norm, level) if level else s.batches)
        return
    for level, small in zip(levels, models, strict=False):  # there may be no models
        model = with_part(s.model, s.part, small)
        finite = True
        if kind != test:
            assert s.finetune is not None
            keep = compression.keep_rank(level) if kind == "low_rank" else compression.keep_zeros(model)
            finite = s.finetune(model, keep)
        yield score(s, model, s.batches) if finite else math.nan


def with_part(model: nn.Module, part: str, other: nn.Module) -> nn.Module:
    """The model with another submodule in the place of `part`; "" is the other one itself."""
    if not part:
        return other
    changed = copy.copy(model)
    changed._modules = {**model._modules, part: other}
    return changed


def score(s: Subject, model: nn.Module, batches: Iterable[Batch]) -> float:
    """The metric over the batches, which may be made on demand."""
    totals: Sums = {}
    kept: dict[str, list[Tensor]] = {}
    for number, batch in enumerate(batches):
        with torch.no_grad():
            with s.cast(), drawing(batch[0].device, s.seed, number):  # the same numbers at every level
                sums, keep = s.objective.evaluate(model, batch)
            totals = added(totals, sums)
            for name in keep if s.part else ():  # which a distance needs
                kept.setdefault(name, []).append(keep[name])
    whole = {name: torch.cat(parts).cpu().numpy() for name, parts in kept.items()}
    return s.objective.finish(to_numbers(totals), whole)[metric_of(s.objective)]


def changed(s: Subject, test: str, norm: str, level: float) -> Iterator[Batch]:
    """The batches with noise of deviation `level`, or attacked within a ball of that radius."""
    generator = torch.Generator().manual_seed(s.seed)  # the same numbers at every level and in every order of tests
    for x, y, *weights in s.batches:
        u0, loss = s.units.enter(x), loss_of(s, y)
        if test == "noise":
            u = u0 + level * torch.randn(u0.shape, generator=generator).to(u0)
            u = attacks.within(u, s.units.box)
        else:
            ball = attacks.BALLS[norm](radius=level)
            start = {"start": attacks.anywhere(ball, u0, s.units.box, generator)} if test == "pgd" else {}
            u = ATTACKS[test](loss, u0, ball, s.units.box, **start)
        yield s.units.leave(u), y, *weights


def loss_of(s: Subject, y: Tensor) -> attacks.Loss:
    """The objective's loss, summed over samples, as a function of inputs u."""
    return attacked_loss(s.objective, s.model, y, s.units, s.cast)


def without_direction(s: Subject) -> int:
    """The number of samples without a gradient, as of a saturated softmax, where attacks fail for no good reason."""
    found = [attacks.gradient(loss_of(s, y), s.units.enter(x)) for x, y, *_ in s.batches]
    return sum(int((g.flatten(1) == 0).all(1).sum()) for g in found)
