"""One step of a run: the gradient of its batches, then the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from data import Batch
from trainer.training.evaluation import added
from trainer.training.objectives import Sums
from trainer.training.state import Training


class Again(Protocol):
    """Evaluates the objective at a second point; see ``trainer.training.second_point``."""

    def remember(self) -> None:
        """Called before the first evaluation of a batch."""

    def step(self, batches: Sequence[Batch]) -> None:
        """Takes the optimizer's step on the batches, with gradients at two points."""


class PlainSteps:
    """Plain steps; a ``Stepper``."""

    again: Again | None = None

    def __init__(self, t: Training):
        self.t = t

    def inputs(self, parts: list[Tensor], start: int) -> Iterator[Batch]:
        """The batches of the current epoch."""
        return self.t.batches(parts, start)

    def step(self, given: Sequence[Batch], sums: Sums) -> Sums:
        """Takes a step on its batches."""
        return added(sums, take_step(self.t, given, self.again))


def take_step(t: Training, batches: Sequence[Batch], again: Again | None) -> Sums:
    """A step on its batches, with the checks of train.anomaly; returns the sums of their metrics."""
    if t.watch is not None:
        t.watch.step = t.progress.step + 1
    sums = move(t, batches, again)
    if t.watch is not None:
        t.watch.check_weights()
    if t.ema is not None:
        t.ema.update_parameters(t.model)
    return sums


def move(t: Training, batches: Sequence[Batch], again: Again | None) -> Sums:
    """Forward, backward and the optimizer's step; :mod:`trainer.training.compiled` records this."""
    optimizer, scaler = t.optimizer, t.scaler
    total: Sums = {}
    for turn, own in zip(t.objective.turns, dealt(t, batches), strict=True):
        if again:
            again.remember()
        optimizer.zero_grad()
        total = joined(total, differentiate(t, own, turn), fresh=t.objective.fresh)
        if scaler is not None:
            scaler.unscale_(optimizer)
        if t.watch is not None:
            t.watch.check_gradients()
        if t.settings.clip_norm is not None:
            nn.utils.clip_grad_norm_(t.parameters, t.settings.clip_norm)
        if scaler is not None:  # skips the step if a gradient overflowed
            scaler.step(optimizer)
            scaler.update()
        elif again:
            again.step(own)
        else:
            optimizer.step()
    return total


def dealt(t: Training, batches: Sequence[Batch]) -> list[Sequence[Batch]]:
    """The batches of each turn: all of them, or its own; if they are too few at an epoch's end, some come again."""
    turns, n = len(t.objective.turns), t.settings.accumulate
    if not t.objective.fresh:
        return [batches] * turns
    parts = [batches[i : i + n] for i in range(0, len(batches), n)]
    return [parts[i % len(parts)] for i in range(turns)]


def joined(total: Sums, sums: Sums, *, fresh: bool) -> Sums:
    """The sums of the turns of a step so far, with those of another one; of a turn that comes again, the last.

    If turns have batches of their own, each is scaled to all samples of the step, so that its means stay.
    """
    if not fresh or not total:
        return total | sums
    samples = total["samples"] + sums["samples"]
    before, now = ({k: v * (samples / part["samples"]) for k, v in part.items()} for part in (total, sums))
    return before | now | {"samples": samples}


def differentiate(t: Training, batches: Sequence[Batch], turn: str | None) -> Sums:
    """Puts the gradient of the mean loss over all of `batches` into the parameters' ``grad``.

    Every process has its share of each batch. A batch counts by the weight of its samples, so the gradient is that of
    one large batch, however it is divided.
    """
    of = None if turn is None else own_parameters(t, turn)
    alone = len(batches) == 1 and t.world.size == 1
    total: Sums = {}
    for batch in batches:
        loss, sums = loss_of(t, batch, turn)
        if t.watch is not None:
            t.watch.check_loss(loss)
        if not alone:
            loss = loss * share(t, sums)
        (loss if t.scaler is None else t.scaler.scale(loss)).backward(inputs=of)
        total = added(total, sums)
    if not alone:
        put_together(t, [p.grad for p in of or t.parameters if p.grad is not None], total)
    return total


def own_parameters(t: Training, turn: str) -> list[nn.Parameter]:
    """The parameters that a turn trains."""
    return [p for p in t.model.get_submodule(turn).parameters() if p.requires_grad]


def loss_of(t: Training, batch: Batch, turn: str | None) -> tuple[Tensor, Sums]:
    """The objective's loss and sums, in the run's precision, on inputs that its adversary changed if it has one."""
    if t.objective.adversary is not None:
        batch = t.objective.adversary.train(t.objective, t.model, batch, t.cast)
    with t.cast():
        loss: Callable[..., tuple[Tensor, Sums]] = t.objective  # with turns, it is told which
        return loss(t.model, batch) if turn is None else loss(t.model, batch, turn)


def share(t: Training, sums: Sums) -> Tensor | float:
    """The share of a batch in a full step, near 1 / number of batches, so that nothing overflows."""
    return sums["weight"] / (t.dataset.batch_size * t.settings.accumulate)


def put_together(t: Training, gradients: Sequence[Tensor], sums: Sums) -> None:
    """Sums gradients over the processes, and divides them by the total weight of the step."""
    weight, like = share(t, sums), gradients[0]
    # The device writes the number; copying it would wait.
    weight = weight.to(like.dtype) if isinstance(weight, Tensor) else like.new_full((), weight)
    t.world.add_up([*gradients, weight])
    torch._foreach_div_(list(gradients), weight.clamp_min(torch.finfo(weight.dtype).tiny))
