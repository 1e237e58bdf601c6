"""A dataset in memory: its splits as raw tensors on the device, its facts, its device-side transform.

Shapes: N samples, B batch; images (C, H, W), tables (features,), series (T, features).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Facts:
    """What a model, an objective and a reader of the run need to know of a dataset.

    ``mean`` and ``std`` broadcast against one sample of ``input_shape``; they come from the training split.
    """

    name: str
    task: str  # classification | binary | multilabel | multitask | regression
    input_shape: tuple[int, ...]
    num_outputs: int | dict[str, int]  # binary: 1; multitask: a mapping head -> size
    class_names: tuple[str, ...] | None
    column_names: tuple[str, ...] | None
    sizes: dict[str, int]  # samples in each split
    mean: Tensor
    std: Tensor

    def plain(self) -> dict[str, object]:
        """Tensors and plain data only, so that a checkpoint can hold it."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


class Dataset:
    """Splits of raw-dtype tensors; a batch is taken by index and normalized on the device.

    Args:
        splits: name (``train``, ``val``, ``test``) -> (inputs (N, *input_shape), targets (N, ...)).
        facts: see :class:`Facts`.
        batch_size: samples in a training batch; the last batch of an epoch may be smaller.
    """

    def __init__(self, splits: dict[str, tuple[Tensor, Tensor]], facts: Facts, batch_size: int):
        self.splits, self.facts, self.batch_size = splits, facts, batch_size
        self._mean, self._scale = facts.mean, 1.0 / facts.std

    def to(self, device: torch.device) -> Dataset:
        """Moves splits and statistics to `device`, in place."""
        self.splits = {k: (x.to(device), y.to(device)) for k, (x, y) in self.splits.items()}
        self._mean, self._scale = self._mean.to(device), self._scale.to(device)
        return self

    def batch(
        self, split: str, index: Tensor | slice, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The samples at `index` (B,), ready for a model.

        With a `generator` the batch is meant for training, and random augmentation may draw from it.
        """
        x, y = self.splits[split]
        if isinstance(index, slice):
            return self.transform((x[index], y[index]), generator)
        # x[index] is several times slower: it plans for indices of any rank.
        return self.transform((x.index_select(0, index), y.index_select(0, index)), generator)

    def transform(
        self, batch: tuple[Tensor, Tensor], generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Raw (inputs, targets) -> normalized float32 inputs and targets, on the device they are on."""
        x, y = batch
        return torch.sub(x, self._mean).mul_(self._scale), y


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The permutation (n,) of one epoch, a function of (seed, epoch) alone, the same on every device."""
    draw = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    generator = torch.Generator().manual_seed(int(draw) >> 1)  # manual_seed takes 63 bits
    return torch.randperm(n, generator=generator)
