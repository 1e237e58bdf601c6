"""Wide residual networks for small images (Zagoruyko & Komodakis 2016): WRN-d-k has d layers, k times the channels.

Run: ``python -m trainer data=cifar10 model=wrn model.depth=16 model.width=4``

Shapes: B batch, C channels, H height, W width, K outputs.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.layers import check_image, check_probability, check_sizes, output_layer
from models.resnet import small_convolution, stages


class WRN(nn.Module):
    """3 x 3 convolution to 16 channels, three stages of n pre-activation blocks (16 k, 32 k, 64 k), pool, dense layer.

    Args:
        input_shape: (C, H, W).
        num_outputs: K, or a mapping head -> K.
        depth: 6 n + 4 layers, such as 16 or 28.
        width: k, how many times the channels of a plain network.
        dropout: probability of a unit's zeroing between the convolutions of a block, in [0, 1).

    Raises:
        ValueError: the input is not an image, or the depth is not 6 n + 4.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int | dict[str, int],
        *,
        depth: int,
        width: int,
        dropout: float = 0.0,
    ):
        super().__init__()
        channels, *_ = check_image(input_shape, "wide ResNet")
        check_probability("dropout", dropout)
        n, rest = divmod(depth - 4, 6)
        if rest or n < 1:
            raise ValueError(f"depth={depth}: must be 6 n + 4, such as 10, 16, 22, 28 or 40")
        check_sizes(width=width)
        self.stem = small_convolution(channels, 16)
        self.stages = stages(16, [16 * width, 32 * width, 64 * width], [n] * 3, bottleneck=False, dropout=dropout)
        d_out = 64 * width
        self.end = nn.Sequential(nn.BatchNorm2d(d_out), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = output_layer(d_out, num_outputs)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, C, H, W) -> (B, K), or a mapping head -> (B, K)"""
        return self.fc(self.end(self.stages(self.stem(x))))
