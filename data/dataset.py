"""A dataset ready for training: its splits on the device, its facts, its device-side transform.

Shapes: N samples, B batch; images (C, H, W), tables (features,), series (T, features).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeGuard

import numpy as np
import torch
from torch import Tensor

from data.augment import Augment
from data.storage import nfc
from data.targets import Outputs, class_count

Batch = tuple[Tensor, ...]  # inputs, targets, and optionally a weight for each sample
Index = Tensor | slice  # the samples of a batch
Kind = Literal["number", "boolean", "text"]  # of a table's column

AUGMENTED = 2**19  # input numbers that are augmented at once


@dataclass(frozen=True)
class Facts:
    """The facts of a dataset that a model, an objective and a reader of the run need.

    ``mean`` and ``std`` broadcast against one sample of ``input_shape``, ``target_mean`` and ``target_std`` against
    its target; all four come from the training split, and undo the normalization.
    """

    name: str
    task: str  # classification | binary | multilabel | multitask | regression | sequence
    input_shape: tuple[int, ...]
    num_outputs: Outputs  # binary: 1; multitask: a mapping head -> size
    class_names: tuple[str, ...] | None
    column_names: tuple[str, ...] | None
    sizes: dict[str, int]  # samples in each split
    mean: Tensor
    std: Tensor
    target_names: tuple[str, ...] | None = None
    target_mean: Tensor = field(default_factory=lambda: torch.tensor(0.0))
    target_std: Tensor = field(default_factory=lambda: torch.tensor(1.0))
    class_counts: tuple[int, ...] | None = None  # training samples of each class, for classification and binary
    value_range: tuple[float, float] | None = None  # of raw pixels; None for other inputs
    encoders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # one-hot columns: column -> categories
    # Of windows of one series: split -> the first step that it predicts, and the step after the last.
    # Samples beyond these steps are padding; None for other data.
    steps: Mapping[str, tuple[int, int]] | None = None
    kinds: Mapping[str, Kind] | None = None  # of the columns of a table
    units: Mapping[str, str] | None = None  # column of numbers of a table -> its unit, "" if none
    fill: Tensor | None = None  # of input_shape: values for missing ones, if these are filled in
    # Of tokens, whole numbers that are never normalized: the words of the inputs; those of the targets are class_names.
    vocabulary: tuple[str, ...] | None = None
    pad: int = 0  # fills a sequence up
    start: int = 1  # comes before the first token of a target,
    end: int = 2  # and this after the last
    between: str = " "  # between the words of a text
    target_shape: tuple[int, ...] = ()  # of one sample's target: (T,) tokens; else ()
    fingerprint: Mapping[str, object] | None = None  # of the samples, see data.fingerprint; {} of generated data
    notes: tuple[str, ...] = ()  # notes about loading

    def __post_init__(self) -> None:
        """Brings names of earlier versions to the Unicode form in which files are read."""
        for name in ("class_names", "column_names", "target_names", "vocabulary"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else tuple(map(nfc, value)))
        encoders = {nfc(column): tuple(map(nfc, texts)) for column, texts in self.encoders.items()}
        object.__setattr__(self, "encoders", encoders)
        for name in ("kinds", "units"):
            value = getattr(self, name)
            object.__setattr__(self, name, None if value is None else {nfc(k): nfc(v) for k, v in value.items()})

    @property
    def num_classes(self) -> int:
        """The number of classes, labels or targets, without heads."""
        return class_count(self.task, self.num_outputs)

    @property
    def heads(self) -> dict[str, int]:
        """Head -> number of classes, for multitask; else empty."""
        return self.num_outputs if isinstance(self.num_outputs, dict) else {}

    @property
    def output_names(self) -> dict[str, tuple[str, ...]]:
        """Head -> names of its classes; without heads one entry "": the names of classes, labels or targets."""
        if self.task == "multitask":
            return {head: self.encoders.get(nfc(head), tuple(map(str, range(n)))) for head, n in self.heads.items()}
        names = self.target_names if self.task == "regression" else self.class_names
        kind = {"regression": "target ", "multilabel": "label "}.get(self.task, "")
        return {"": names or tuple(f"{kind}{k}" for k in range(self.num_classes))}

    def plain(self) -> dict[str, object]:
        """The facts as tensors and plain data, for a checkpoint."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}


class Dataset:
    """Splits of raw-dtype tensors; a batch is selected by index and prepared on the device.

    If `streamed`, the inputs in `splits` are indices into `files`.

    Args:
        splits: name (``train``, ``val``, ``test``) -> (inputs (N, *input_shape), targets (N, ...)), and optionally the
            weight of each sample in the loss, (N,) float32.
        facts: see :class:`Facts`.
        batch_size: samples in a training batch; the last batch of an epoch may be smaller.
        augment: random changes of training images.
    """

    streamed = False
    names: Mapping[str, Sequence[str]] = MappingProxyType({})  # split -> name of each sample's file, if it has one

    def __init__(self, splits: dict[str, Batch], facts: Facts, batch_size: int, augment: Augment | None = None):
        self.splits, self.facts, self.batch_size = splits, facts, batch_size
        self.augment = augment or Augment()
        self._mean, self._scale = facts.mean, 1.0 / facts.std
        self._scales_targets = bool((facts.target_std != 1).any() or (facts.target_mean != 0).any())
        self._target_mean, self._target_scale = facts.target_mean, 1.0 / facts.target_std
        self._generator: torch.Generator | None = None
        self._dtype: torch.dtype | None = None
        self.device = torch.device("cpu")
        self._layout: torch.memory_format | None = None
        self.takes_index = not self.augment.active  # whether batch() is only torch operations on an index
        self.share = (0, 1)  # (rank, number of processes); each process takes its share of every batch

    def to(self, device: torch.device, dtype: torch.dtype | None = None, *, channels_last: bool = False) -> Dataset:
        """Moves splits and statistics to `device`, in place.

        Args:
            dtype: of inputs in batches, and of targets and weights that are no integers; None: float32.
            channels_last: whether images are stored pixel by pixel, which is faster on GPUs.
        """
        self.splits = {k: tuple(part.to(device) for part in parts) for k, parts in self.splits.items()}
        self._mean, self._scale = self._mean.to(device, dtype), self._scale.to(device, dtype)
        self._target_mean = self._target_mean.to(device, dtype)
        self._target_scale = self._target_scale.to(device, dtype)
        self._dtype, self._generator, self.device = dtype, None, device
        self._layout = torch.channels_last if channels_last and len(self.facts.input_shape) == 3 else None
        return self

    def batches(self, split: str, indices: Sequence[Index], seed: int | None = None, start: int = 0) -> Iterator[Batch]:
        """The samples at each of `indices`, from number `start` on, prepared for a model.

        With a `seed` the batches are for training, and may be augmented; the random numbers of a batch are a function
        of the seed and the batch's number, so that an epoch can be resumed.
        """
        if self.augment.active and seed is not None:
            assert are_tensors(indices)  # slices are for evaluations
            yield from self._augmented(split, indices, seed, start)
        else:
            for index in indices[start:]:
                yield self.batch(split, self._shared(index))

    def _augmented(self, split: str, indices: Sequence[Tensor], seed: int, start: int) -> Iterator[Batch]:
        """Training batches; several small ones are augmented at once, since the overhead dominates."""
        x, *rest = self.splits[split]
        rank, size = self.share
        together = max(1, AUGMENTED // (self.batch_size * math.prod(self.facts.input_shape)))
        for first in range(start - start % together, len(indices), together):
            group = indices[first : first + together]
            draws = torch.cat([self._draws(seed, first + i, len(index)) for i, index in enumerate(group)], 1)
            shares = [index.tensor_split(size)[rank] for index in group]
            index, ends = torch.cat(shares), [len(share) for share in shares]
            parts = (self._made(x.index_select(0, index), draws), *(part.index_select(0, index) for part in rest))
            for number, batch in enumerate(zip(*(part.split(ends) for part in parts), strict=True), first):
                if number >= start:
                    yield self._blended(*batch)

    def batch(self, split: str, index: Index, generator: torch.Generator | None = None) -> Batch:
        """The samples at `index` (B,), prepared for a model; augmented with a `generator`."""
        parts = self.splits[split]
        if isinstance(index, slice):
            return self.transform(tuple(part[index] for part in parts), generator)
        # part[index] is several times slower.
        return self.transform(tuple(part.index_select(0, index) for part in parts), generator)

    def transform(self, batch: Batch, generator: torch.Generator | None = None) -> Batch:
        """Raw (inputs, targets) -> augmented (with a `generator`) and normalized float32, on the same device.

        Numeric targets are normalized, too, if the facts say so; class numbers become probabilities (B, K) if
        augmentation mixes them.
        """
        x, *rest = batch
        if not self.augment.active or generator is None:
            return self._made(x, None), *self._scaled(*rest)
        return self._blended(self._made(x, self.augment.draw(len(x), generator)), *rest)

    def _shared(self, index: Index) -> Index:
        """This process's share of a batch."""
        rank, size = self.share
        if size == 1:
            return index
        if isinstance(index, Tensor):
            return index.tensor_split(size)[rank]
        first, last = share_of(index.stop - index.start, rank, size)
        return slice(index.start + first, index.start + last)

    def inputs(self, x: Tensor) -> Tensor:
        """Any raw inputs (B, *input_shape), normalized like those of the splits."""
        return self._made(x, None)

    def _draws(self, seed: int, number: int, size: int) -> Tensor:
        """The random numbers for this process's share of a training batch of `size` samples."""
        if self._generator is None:
            self._generator = torch.Generator(self._mean.device)
        draws = self.augment.draw(size, self._generator.manual_seed(seed + number))
        return draws[:, slice(*share_of(size, *self.share))]

    def _made(self, x: Tensor, draws: Tensor | None) -> Tensor:
        """Raw inputs -> inputs of a model, each changed by its column of `draws`."""
        if self.facts.vocabulary is not None:
            return x.long()
        if draws is not None:
            x = self.augment.move(x, draws)
        if self._dtype is not None:
            x = x.to(self._dtype)
        x = normalized(x, self._mean, self._scale)
        x = x if draws is None else self.augment.erased(x, draws)
        return x if self._layout is None else x.contiguous(memory_format=self._layout)

    def _blended(self, x: Tensor, y: Tensor, *weights: Tensor) -> Batch:
        y, *scaled = self._scaled(y, *weights)
        if self.augment.mixes:
            x, y = self.augment.blend(x, y, self.facts.num_classes)
        return x, y, *scaled

    def _scaled(self, y: Tensor, *weights: Tensor) -> Batch:
        if self._scales_targets:
            y = (y - self._target_mean) * self._target_scale
        if self._dtype is None:
            return y, *weights
        return tuple(part.to(self._dtype) if part.is_floating_point() else part for part in (y, *weights))


def are_tensors(indices: Sequence[Index]) -> TypeGuard[Sequence[Tensor]]:
    """Whether every batch is a tensor of indices."""
    return all(isinstance(index, Tensor) for index in indices)


def normalized(x: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Normalized inputs (B, *input_shape) for a model; `mean` and `scale` broadcast against one sample."""
    return torch.sub(x, mean).mul_(scale)


def share_of(n: int, rank: int, size: int) -> tuple[int, int]:
    """First and last (exclusive) of the `n` samples of process `rank` of `size`, as in ``tensor_split``."""
    each, more = divmod(n, size)
    return rank * each + min(rank, more), (rank + 1) * each + min(rank + 1, more)


def epoch_order(n: int, seed: int, epoch: int) -> Tensor:
    """The permutation (n,) of one epoch, a function of (seed, epoch), the same on every device."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(_mixed(seed, epoch)))


def augment_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch's augmentation."""
    return _mixed(seed, epoch, 1) >> 1  # room for the number of a batch


def _mixed(*numbers: int) -> int:
    """63 bits, as many as a generator takes."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]) >> 1
