"""A plain convolutional network: blocks of convolution, activation and pooling, then dense layers.

The default is the network of the digits experiments: 10 filters of 3 x 3, a 2 x 2 max pool, 50 dense units.
Run: ``python -m trainer model=cnn``

Shapes: B batch, C channels, H height, W width, K outputs.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.layers import activation as make_activation
from models.layers import check_dropout, check_widths, output_layer
from models.mlp import dense_layers


class CNN(nn.Module):
    """[conv 'same' - activation - 2 x 2 max pool] for each of `filters`, flatten, dense layers, outputs.

    Args:
        input_shape: (C, H, W) of one image.
        num_outputs: K, or a mapping head -> K.
        filters: output channels of each block.
        kernel_size: height and width of every convolution, odd or even; the image keeps its size.
        widths: units of each dense layer before the output.
        activation: by name (:data:`models.layers.ACTIVATIONS`).
        dropout: probability of a dense unit's zeroing.

    Raises:
        ValueError: the input is no image, or the pools would shrink it to nothing.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int | dict[str, int],
        *,
        filters: list[int],
        kernel_size: int,
        widths: list[int],
        activation: str,
        dropout: float,
    ):
        super().__init__()
        if len(input_shape) != 3:
            raise ValueError(f"input_shape={tuple(input_shape)}: the CNN takes images, (channels, height, width)")
        check_widths("filters", filters, at_least=1)
        if kernel_size < 1:
            raise ValueError(f"kernel_size={kernel_size}: must be at least 1")
        check_widths("widths", widths)
        check_dropout(dropout)
        c, h, w = input_shape
        if min(h, w) >> len(filters) == 0:
            raise ValueError(
                f"filters={filters}: {len(filters)} pools of 2 shrink an image of {h} x {w} to nothing; "
                f"at most {min(h, w).bit_length() - 1} fit"
            )
        blocks: list[nn.Module] = []
        for c_out in filters:
            blocks += [nn.Conv2d(c, c_out, kernel_size, padding="same"), make_activation(activation), nn.MaxPool2d(2)]
            c, h, w = c_out, h // 2, w // 2
        d_in = c * h * w
        self.features = nn.Sequential(*blocks)
        self.head = nn.Sequential(
            nn.Flatten(),
            *dense_layers(d_in, widths, activation, dropout),
            output_layer(widths[-1] if widths else d_in, num_outputs),
        )

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, C, H, W) -> (B, K), or a mapping head -> (B, K)"""
        return self.head(self.features(x))
