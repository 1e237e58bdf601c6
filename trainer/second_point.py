"""Gradients at other parameters, for optimizers that compare two points on the same batch (``optim.two_point``)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from data import Batch, augment_seed

if TYPE_CHECKING:
    from trainer.training import Training

Gradients = Callable[[Sequence[Tensor]], Sequence[Tensor | None]]


class SecondPoint:
    """Evaluates a run's objective anew: with the same random numbers, and buffers and random state left as they were.

    The parameters are exchanged in place, so that an objective may use the model in any way.
    """

    def __init__(self, t: Training):
        self.t = t
        self.xs = [x for group in t.optimizer.param_groups for x in group["params"]]

    def remember(self) -> None:
        """Before the first evaluation of a batch: the second one shall draw the same random numbers."""
        self.before = random_state(self.t.device)

    def gradients(self, batch: Batch) -> Gradients:
        """What gives the gradients of the batch's loss at given points."""

        def at(points: Sequence[Tensor]) -> Sequence[Tensor | None]:
            with self.aside(), self.moved_to(points):
                set_random_state(self.before, self.t.device)
                return self.gradients_here(batch)

        return at

    def full_gradient(self, order: Tensor) -> Gradients:
        """What gives the mean gradient over the batches of the epoch under way, augmented as they will be."""
        t = self.t

        def at(points: Sequence[Tensor]) -> Sequence[Tensor | None]:
            total: list[Tensor | None] = [None] * len(self.xs)
            parts = order.split(t.dataset.batch_size)
            with self.aside(), self.moved_to(points):
                for batch in t.dataset.batches("train", parts, augment_seed(t.seed, t.progress.epoch), 0):
                    share = len(batch[1]) / len(order)
                    for i, g in enumerate(self.gradients_here(batch)):
                        if g is not None:
                            total[i] = g * share if total[i] is None else total[i].add_(g, alpha=share)
                    t.stop.check()
            return total

        return at

    def gradients_here(self, batch: Batch) -> Sequence[Tensor | None]:
        """Of the batch's loss, at the parameters as they are; their ``grad`` stays."""
        loss, _ = self.t.objective(self.t.model, batch)
        return torch.autograd.grad(loss, self.xs, allow_unused=True)

    @contextlib.contextmanager
    def moved_to(self, points: Sequence[Tensor]) -> Iterator[None]:
        """The model with its parameters at `points`."""
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
        """Afterwards buffers (running averages) and the random state are what they were."""
        buffers = [(b, b.clone()) for b in self.t.model.buffers()]
        state = random_state(self.t.device)
        try:
            yield
        finally:
            set_random_state(state, self.t.device)
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)


def random_state(device: torch.device) -> dict[str, Any]:
    """Of the generators that training draws from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Takes the generators back to it."""
    torch.set_rng_state(state["cpu"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    if "mps" in state:
        torch.mps.set_rng_state(state["mps"])
