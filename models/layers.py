"""What the families share: activations and initial weights by name, output layers, and the checks of their arguments.

Shapes: B batch, D features, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

Norm = Literal["none", "batch", "layer"]


class Sin(nn.Module):
    """sin x, elementwise."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sin()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "sin": Sin,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


def check_activation(name: str) -> None:
    """Raises ValueError unless `name` is an activation's."""
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise ValueError(f"activation={name}: must be one of {', '.join(ACTIVATIONS)}")


def activation(names: str | list[str], units: int, *, slope: float = 0.01, prelu: str = "shared") -> list[nn.Module]:
    """The activation called `names`, or several, one after the other.

    Args:
        units: features or channels of what it acts on.
        slope: of ``leaky_relu`` where the input is negative.
        prelu: ``shared``: one slope for all; ``unit``: one for each of `units`.

    Raises:
        ValueError: no activation has that name.
    """
    if not isinstance(slope, int | float) or isinstance(slope, bool) or not math.isfinite(slope):
        raise ValueError(f"slope={slope}: must be a finite number")
    if prelu not in ("shared", "unit"):
        raise ValueError(f"prelu={prelu}: must be shared or unit")
    layers: list[nn.Module] = []
    for name in names if isinstance(names, list) else [names]:
        check_activation(name)
        if name == "leaky_relu":
            layers.append(nn.LeakyReLU(slope))
        elif name == "prelu":
            layers.append(nn.PReLU(1 if prelu == "shared" else units))
        else:
            layers.append(ACTIVATIONS[name]())
    return layers


def scaled(weight: Tensor, scale: float, mode: str, distribution: str) -> None:
    """Keras's VarianceScaling: variance scale / fan, with `mode` fan_in or fan_avg, from a uniform or a normal
    distribution; the normal one is cut off at two deviations, and widened so that the variance is right."""
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(weight)
    std = math.sqrt(scale / (fan_in if mode == "fan_in" else (fan_in + fan_out) / 2))
    if distribution == "uniform":
        nn.init.uniform_(weight, -math.sqrt(3) * std, math.sqrt(3) * std)
    else:
        std /= 0.87962566103423978  # the deviation of a standard normal distribution cut off at -2 and 2
        nn.init.trunc_normal_(weight, 0.0, std, -2 * std, 2 * std)


INITS: dict[str, Callable[[Tensor], Any]] = {
    "he_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
    "he_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
    "xavier_normal": nn.init.xavier_normal_,
    "xavier_uniform": nn.init.xavier_uniform_,
    "lecun_normal": partial(nn.init.kaiming_normal_, nonlinearity="linear"),
    "orthogonal": nn.init.orthogonal_,
    "zeros": nn.init.zeros_,
    "keras_he_normal": partial(scaled, scale=2.0, mode="fan_in", distribution="normal"),
    "keras_he_uniform": partial(scaled, scale=2.0, mode="fan_in", distribution="uniform"),
    "keras_xavier_normal": partial(scaled, scale=1.0, mode="fan_avg", distribution="normal"),
    "keras_xavier_uniform": partial(scaled, scale=1.0, mode="fan_avg", distribution="uniform"),
    "keras_lecun_normal": partial(scaled, scale=1.0, mode="fan_in", distribution="normal"),
    "keras_lecun_uniform": partial(scaled, scale=1.0, mode="fan_in", distribution="uniform"),
}


@torch.no_grad()
def initialize(network: nn.Module, init: str) -> None:
    """Draws the weights of all dense and convolutional layers anew and sets their biases to 0.

    Args:
        init: ``default`` leaves torch's own (uniform, biases too); he (He et al. 2015), xavier (Glorot & Bengio 2010)
            and lecun (LeCun et al. 1998) by fan-in and fan-out; ``orthogonal`` (Saxe et al. 2014); ``zeros``. What
            begins with ``keras_`` is as Keras has it: its normal distributions are truncated.

    Raises:
        ValueError: no initialization has that name.
    """
    if init == "default":
        return
    if init not in INITS:
        raise ValueError(f"init={init}: must be one of default, {', '.join(INITS)}")
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            INITS[init](layer.weight)
            if layer.bias is not None:
                layer.bias.zero_()


class Heads(nn.ModuleList):
    """One affine map for each head: (B, D) -> a mapping head -> (B, K of the head)."""

    def __init__(self, d_in: int, sizes: dict[str, int]):
        super().__init__(nn.Linear(d_in, size) for size in sizes.values())
        self.names = tuple(sizes)  # any text, such as a column's name; a module's name could not be

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: head(x) for name, head in zip(self.names, self, strict=True)}


def output_layer(d_in: int, num_outputs: int | dict[str, int]) -> nn.Module:
    """The affine map from `d_in` features to the outputs, or to each head's."""
    return Heads(d_in, num_outputs) if isinstance(num_outputs, dict) else nn.Linear(d_in, num_outputs)


def check_sizes(**sizes: int) -> None:
    """Raises ValueError for the first size that is below 1."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")


def check_image(input_shape: tuple[int, ...], family: str) -> tuple[int, int, int]:
    """(C, H, W) of the input.

    Raises:
        ValueError: it is not an image.
    """
    if len(input_shape) != 3:
        raise ValueError(f"input_shape={tuple(input_shape)}: the {family} takes images, (channels, height, width)")
    return input_shape


def check_widths(name: str, values: list[int], *, at_least: int = 0) -> None:
    """Raises ValueError unless `values` are positive and there are `at_least` so many."""
    if len(values) < at_least or any(v < 1 for v in values):
        need = f"a list of {at_least} or more numbers" if at_least else "a list of numbers"
        raise ValueError(f"{name}={values}: must be {need}, each at least 1")


def check_probability(name: str, p: float) -> None:
    """Raises ValueError unless `p` is a probability below 1."""
    if not isinstance(p, int | float) or isinstance(p, bool) or not 0 <= p < 1:
        raise ValueError(f"{name}={p}: must be in [0, 1)")
