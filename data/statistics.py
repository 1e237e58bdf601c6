"""Mean and standard deviation of a training split, computed part by part."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Normalize = Literal["none", "scale", "global", "channel", "pixel", "standard"]

PART = 2048  # samples turned into float64 at a time,
PART_NUMBERS = 2**18  # or more if they are small


class Moments:
    """Count, mean, sum of squared deviations and range of every entry of the samples seen so far.

    Parts are merged by the update of Chan, Golub & LeVeque 1983, which loses no digits for large means.
    """

    def __init__(self) -> None:
        self.n, self.mean, self.squares = 0, torch.tensor(0.0), torch.tensor(0.0)
        self.low, self.high = torch.tensor(math.inf), torch.tensor(-math.inf)

    def add(self, x: Tensor) -> Moments:
        """Adds samples `x` (N, ...) of any dtype."""
        for part in x.split(max(PART, PART_NUMBERS // max(1, math.prod(x.shape[1:])))):
            # Both at once is twice as fast for floats, and seven times slower for bytes.
            low, high = part.aminmax(dim=0) if part.is_floating_point() else (part.amin(0), part.amax(0))
            self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
            part = part.double()
            mean, k = part.mean(0), len(part)
            squares, delta, n = (part - mean).square_().sum(0), mean - self.mean, self.n + k
            self.mean = self.mean + delta * (k / n)
            self.squares = self.squares + squares + delta.square() * (self.n * k / n)
            self.n = n
        return self

    def over(self, dims: tuple[int, ...], without: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation with the entries' `dims` pooled (kept, with size 1), float64.

        Entries of a table that `without` marks are not pooled.
        """
        if not dims:
            return self.mean, (self.squares / self.n).sqrt()
        means, squares = self.mean, self.squares
        if without is not None and not without.all():
            means, squares = means[~without], squares[~without]
        mean = means.mean(dims, keepdim=True)
        variance = squares / self.n + (means - mean).square()
        return mean, variance.mean(dims, keepdim=True).sqrt()


def normalization(
    moments: Moments, how: Normalize, value_range: tuple[float, float] | None, fixed: np.ndarray | None = None
) -> tuple[Tensor, Tensor]:
    """The shift and scale of a normalization: float32, broadcastable against one sample.

    Samples are images (C, H, W), series (T, features) or tables (features,).

    Args:
        how: ``none``; ``scale``: `value_range`, or else the range of each column, becomes 0..1; mean 0 and standard
            deviation 1 over everything (``global``), of each channel or column (``channel``, ``standard``) or of each
            entry (``pixel``).
        fixed: (features,) columns of a table that are not normalized.

    Constant entries get the deviation 1, so that they become 0 and not NaN.
    """
    sides, kept = moments.mean.ndim, None if fixed is None else torch.from_numpy(fixed)
    channel = {3: (1, 2), 2: (0,)}.get(sides, ())
    if how == "none":
        mean, std = torch.tensor(0.0), torch.tensor(1.0)
    elif how == "scale" and value_range is not None:
        mean, std = torch.tensor(float(value_range[0])), torch.tensor(float(value_range[1] - value_range[0]))
    elif how == "scale":
        low = moments.low.double().amin(channel, keepdim=True) if channel else moments.low.double()
        high = moments.high.double().amax(channel, keepdim=True) if channel else moments.high.double()
        mean, std = low, high - low
    else:
        mean, std = moments.over({"global": tuple(range(sides)), "pixel": ()}.get(how, channel), kept)
    # A constant may have a deviation by rounding.
    std = torch.where(std > 1e-12 * mean.abs(), std, 1.0)
    if kept is not None and how != "none":
        mean, std = torch.where(kept, 0.0, mean), torch.where(kept, 1.0, std)
    return mean.float(), std.float()
