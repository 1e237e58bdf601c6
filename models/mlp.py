"""The multilayer perceptron: dense layers with an activation between them, over the flattened input.

Run: ``python -m trainer model=mlp 'model.widths=[300,100]'``

Shapes: B batch, D features, K outputs.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from models.layers import activation as make_activation
from models.layers import check_dropout, check_widths, output_layer


def dense_layers(d_in: int, widths: list[int], activation: str, dropout: float) -> list[nn.Module]:
    """Linear - activation - dropout for each of `widths`."""
    layers: list[nn.Module] = []
    for d_out in widths:
        layers += [nn.Linear(d_in, d_out), make_activation(activation)]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        d_in = d_out
    return layers


class MLP(nn.Module):
    """Flatten, then dense layers of `widths`, then a dense layer to the outputs.

    Args:
        input_shape: of one sample, any number of axes.
        num_outputs: K, or a mapping head -> K.
        widths: units of each hidden layer; empty is an affine map.
        activation: after each hidden layer, by name (:data:`models.layers.ACTIVATIONS`).
        dropout: probability of a hidden unit's zeroing, after each activation.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int | dict[str, int],
        *,
        widths: list[int],
        activation: str,
        dropout: float,
    ):
        super().__init__()
        check_widths("widths", widths)
        check_dropout(dropout)
        d_in = math.prod(input_shape)
        d_last = widths[-1] if widths else d_in
        self.net = nn.Sequential(
            nn.Flatten(),
            *dense_layers(d_in, widths, activation, dropout),
            output_layer(d_last, num_outputs),
        )

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, *input_shape) -> (B, K), or a mapping head -> (B, K)"""
        return self.net(x)
