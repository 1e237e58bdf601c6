"""What every dataset shares: its settings, and the way from raw arrays to a :class:`data.Dataset`.

A dataset subclasses :class:`Source`, adds its own settings as fields and reads its arrays::

    @dataclass(kw_only=True)
    class Digits(Source):
        def read(self) -> Raw: ...
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from data.dataset import Dataset, Facts
from data.splits import split_indices

Normalize = Literal["none", "scale", "global", "channel", "pixel"]


@dataclass
class Raw:
    """A dataset as it was read.

    ``x`` (N, *input_shape) in its raw dtype, ``y`` (N,) class numbers or (N, ...) targets; ``value_range`` is what
    ``normalize=scale`` maps to 0..1.
    """

    name: str
    task: str
    x: np.ndarray
    y: np.ndarray
    num_outputs: int | dict[str, int]
    value_range: tuple[float, float]
    class_names: tuple[str, ...] | None = None
    column_names: tuple[str, ...] | None = None


@dataclass(kw_only=True)
class Source:
    """Settings that every dataset understands.

    Args:
        root: folder of the datasets' files; those that ship inside a package do not look at it.
        batch_size: samples in a training batch.
        test_fraction: share of all samples that become the test split, in [0, 1).
        val_fraction: share of the samples outside the test split that become the validation split, in [0, 1).
        split_seed: fixes the splits.
        normalize: ``none``; ``scale``: to 0..1; mean 0 and standard deviation 1 of the training split over all
            values (``global``), each channel or each entry of the input (``channel``, ``pixel``).

    Raises:
        ValueError: `name=value: what would be right`.
    """

    root: str
    batch_size: int
    test_fraction: float
    val_fraction: float
    split_seed: int
    normalize: Normalize

    def __post_init__(self) -> None:
        if not 1 <= self.batch_size < 2**31:
            raise ValueError(f"batch_size={self.batch_size}: must be at least 1 and less than 2**31")
        if self.split_seed < 0:
            raise ValueError(f"split_seed={self.split_seed}: must be at least 0")
        for name in ("test_fraction", "val_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be in [0, 1)")

    def read(self) -> Raw:
        """The dataset's arrays, as they are on disk."""
        raise NotImplementedError

    def load(self) -> Dataset:
        """Reads, splits (stratified for classes) and measures the training split."""
        raw = self.read()
        labels = raw.y if raw.task in ("classification", "binary") else None
        index = split_indices(
            len(raw.x),
            labels,
            test_fraction=self.test_fraction,
            val_fraction=self.val_fraction,
            seed=self.split_seed,
            class_names=raw.class_names,
        )
        x, y = torch.from_numpy(raw.x), torch.from_numpy(raw.y)
        splits = {name: (x[i], y[i]) for name, i in index.items()}
        mean, std = statistics(splits["train"][0], self.normalize, raw.value_range)
        facts = Facts(
            name=raw.name,
            task=raw.task,
            input_shape=tuple(raw.x.shape[1:]),
            num_outputs=raw.num_outputs,
            class_names=raw.class_names,
            column_names=raw.column_names,
            sizes={name: len(i) for name, i in index.items()},
            mean=mean,
            std=std,
        )
        return Dataset(splits, facts, self.batch_size)


def statistics(x: Tensor, how: Normalize, value_range: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the samples `x` (N, ...), broadcastable against one of them.

    Entries that never change get the deviation 1, so that they become 0 and not NaN.
    """
    if how in ("none", "scale"):
        low, high = value_range if how == "scale" else (0.0, 1.0)
        return torch.tensor(float(low)), torch.tensor(float(high - low))
    over = {
        "global": tuple(range(x.ndim)),
        "channel": (0, *range(2, x.ndim)) if x.ndim > 2 else (0,),
        "pixel": (0,),
    }[how]
    # Sums of squares in float64, 4,096 samples at a time: the whole split as float64 would be eight times its size.
    count = math.prod(x.shape[d] for d in over)
    total = sum(part.double().sum(over, keepdim=True) for part in x.split(4096))
    mean = total / count
    squares = sum((part.double() - mean).square().sum(over, keepdim=True) for part in x.split(4096))
    std = (squares / count).sqrt()
    std = torch.where(std > 0, std, 1.0)
    return mean[0].float(), std[0].float()
