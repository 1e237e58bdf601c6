"""Gradients at other parameters, for optimizers that compare two points on the same batch (``optim.two_point``)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from data import Batch
from trainer.training.device import random_state, set_random_state
from trainer.training.evaluation import added
from trainer.training.objectives import Sums
from trainer.training.state import Training
from trainer.training.step import PlainSteps, loss_of, put_together, share

Gradients = Callable[[Sequence[Tensor]], Sequence[Tensor | None]]


class SecondPoint:
    """Evaluates a run's objective again with the same random numbers; buffers and random state do not change.

    The parameters are exchanged in place, so an objective may use the model in any way.
    """

    def __init__(self, t: Training):
        self.t = t
        self.optimizer: Any = t.optimizer  # unlike torch's, its step takes gradients
        self.xs = [x for group in t.optimizer.param_groups for x in group["params"]]

    def remember(self) -> None:
        """Called before the first evaluation of a batch, so that the second one draws the same random numbers."""
        self.before = random_state(self.t.device)

    def step(self, batches: Sequence[Batch]) -> None:
        """Takes the optimizer's step on the batches."""
        self.optimizer.step(self.gradients(batches))

    def gradients(self, batches: Sequence[Batch]) -> Gradients:
        """A function from points to the gradients of the loss of a step's batches."""

        def at(points: Sequence[Tensor]) -> Sequence[Tensor | None]:
            with self.aside(), self.moved_to(points):
                set_random_state(self.before, self.t.device)
                return self.gradients_here(batches, alone=len(batches) == 1 and self.t.world.size == 1)

        return at

    def full_gradient(self, parts: Sequence[Tensor]) -> Gradients:
        """A function that returns the mean gradient over the batches of the current epoch, with their augmentation."""
        t = self.t

        def at(points: Sequence[Tensor]) -> Sequence[Tensor | None]:
            with self.aside(), self.moved_to(points):
                return self.gradients_here(t.batches(parts, 0), alone=False)

        return at

    def gradients_here(self, batches: Iterable[Batch], *, alone: bool) -> Sequence[Tensor | None]:
        """The gradients of the mean loss over `batches` at the current parameters; ``grad`` does not change.

        Args:
            alone: whether there is only one batch, in one process.
        """
        t, sums = self.t, Sums()
        total: list[Tensor | None] = [None] * len(self.xs)
        for batch in batches:
            loss, new = loss_of(t, batch, None)
            gradients = torch.autograd.grad(loss if alone else loss * share(t, new), self.xs, allow_unused=True)
            total = [h if g is None else g if h is None else h.add_(g) for g, h in zip(gradients, total, strict=True)]
            sums = added(sums, new)
            t.check()
        if not alone:
            put_together(t, [g for g in total if g is not None], sums)
        return total

    @contextlib.contextmanager
    def moved_to(self, points: Sequence[Tensor]) -> Iterator[None]:
        """Inside, the model's parameters are at `points`."""
        here = [x.data for x in self.xs]
        for x, point in zip(self.xs, points, strict=True):
            x.data = point.data
        try:
            yield
        finally:
            for x, data in zip(self.xs, here, strict=True):
                x.data = data

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Restores buffers (running averages) and the random state afterwards."""
        buffers = [(b, b.clone()) for b in self.t.model.buffers()]
        state = random_state(self.t.device)
        try:
            yield
        finally:
            set_random_state(state, self.t.device)
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


class TwoPointSteps(PlainSteps):
    """Steps of an optimizer that compares gradients at two points; a ``Stepper``."""

    again: SecondPoint

    def __init__(self, t: Training):
        super().__init__(t)
        self.again = SecondPoint(t)

    def inputs(self, parts: list[Tensor], start: int) -> Iterator[Batch]:
        """The batches of the current epoch; gives an optimizer with `snapshot` its full gradient first."""
        if start == 0 and hasattr(self.t.optimizer, "snapshot"):
            self.t.optimizer.snapshot(self.again.full_gradient(parts))
        return super().inputs(parts, start)
