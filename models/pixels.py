"""A picture as a model: its parameters are the pixels.

Run: ``python -m trainer experiment=style_transfer``
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Pixels(nn.Module):
    """The picture, whatever the input.

    Args:
        input_shape: (channels, height, width).
        num_outputs: not used.
        mean, deviation: of the normal distribution of the first pixels, as inputs are trained on.
    """

    def __init__(
        self, input_shape: tuple[int, ...], num_outputs: int | dict[str, int], *, mean: float, deviation: float
    ):
        super().__init__()
        if deviation < 0:
            raise ValueError(f"deviation={deviation}: must be at least 0")
        self.pixels = nn.Parameter(mean + deviation * torch.randn(1, *input_shape))

    def forward(self, x: Tensor) -> Tensor:
        """(B, *input_shape) -> (B, *input_shape), B times the same"""
        return self.pixels.expand(len(x), *self.pixels.shape[1:])
