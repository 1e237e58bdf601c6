"""The multilayer perceptron: dense layers with an activation between them, over the flattened input.

Run: ``python -m trainer model=mlp 'model.widths=[300,100]'``, ``python -m trainer data=apartments model=linear``

Shapes: B batch, D features, K outputs.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, nn

from models.layers import Norm, activation, check_probability, check_widths, initialize, output_layer


class Linear(nn.Module):
    """Flatten, then an affine map.

    Args:
        input_shape: of one sample, any number of axes.
        num_outputs: K, or a mapping head -> K.
        init: how weights are drawn, such as he_normal; default: torch's own (:func:`models.layers.initialize`).
    """

    def __init__(self, input_shape: tuple[int, ...], num_outputs: int | dict[str, int], *, init: str = "default"):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), output_layer(math.prod(input_shape), num_outputs))
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, *input_shape) -> (B, K), or a mapping head -> (B, K)"""
        return self.net(x)

    def affine(self) -> tuple[Tensor, Tensor]:
        """The map of a model without heads: weight (K, D) and bias (K,)."""
        layer = self.net[1]
        assert isinstance(layer, nn.Linear)
        return layer.weight, layer.bias


class MLP(nn.Module):
    """Flatten, then dense layers of `widths`, then a dense layer to the outputs.

    A hidden layer is dense - [norm] - activation - dropout, or dense - activation - [norm] - dropout.

    Args:
        input_shape: of one sample, any number of axes.
        num_outputs: K, or a mapping head -> K.
        widths: units of each hidden layer.
        activation: of the hidden layers, such as relu, elu or tanh (:data:`models.layers.ACTIVATIONS`); a list is
            applied in its order.
        slope: of ``leaky_relu``.
        prelu: one slope for all units (``shared``), or for each ``unit``.
        norm: ``batch`` (Ioffe & Szegedy 2015) or ``layer`` (Ba et al. 2016) normalization in the hidden layers.
        norm_position: of the normalization, ``before`` or ``after`` the activation.
        dropout: probability of a hidden unit's zeroing, in [0, 1).
        input_dropout: probability of an input's zeroing, in [0, 1).
        init: how weights are drawn, such as he_normal; default: torch's own (:func:`models.layers.initialize`).

    Raises:
        ValueError: `name=value: what would be right`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int | dict[str, int],
        *,
        widths: list[int],
        activation: str | list[str] = "relu",
        slope: float = 0.01,
        prelu: Literal["shared", "unit"] = "shared",
        norm: Norm = "none",
        norm_position: Literal["before", "after"] = "before",
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        init: str = "default",
    ):
        super().__init__()
        check_widths("widths", widths, at_least=1)
        check_probability("dropout", dropout)
        check_probability("input_dropout", input_dropout)
        layers: list[nn.Module] = [nn.Flatten()]
        if input_dropout:
            layers.append(nn.Dropout(input_dropout))
        d_in = math.prod(input_shape)
        for d_out in widths:
            layers.append(nn.Linear(d_in, d_out))
            layers += hidden(d_out, activation, slope, prelu, norm, norm_position, dropout)
            d_in = d_out
        self.net = nn.Sequential(*layers, output_layer(d_in, num_outputs))
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, *input_shape) -> (B, K), or a mapping head -> (B, K)"""
        return self.net(x)


def hidden(
    units: int, names: str | list[str], slope: float, prelu: str, norm: Norm, norm_position: str, dropout: float
) -> list[nn.Module]:
    """What follows the affine map of a hidden layer: norm and activation in their order, and dropout."""
    layers = activation(names, units, slope=slope, prelu=prelu)
    if norm != "none":
        normalization = {"batch": nn.BatchNorm1d, "layer": nn.LayerNorm}[norm](units)
        layers = [normalization, *layers] if norm_position == "before" else [*layers, normalization]
    return [*layers, nn.Dropout(dropout)] if dropout else layers
