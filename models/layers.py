"""What the families share: activations by name, and the checks of their arguments."""

from __future__ import annotations

from torch import nn

ACTIVATIONS = {
    "identity": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
}


def activation(name: str) -> nn.Module:
    """The activation layer called `name`.

    Raises:
        ValueError: no activation has that name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name}: must be one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def one_head(num_outputs: int | dict[str, int], family: str) -> int:
    """The number of outputs of a network with one head.

    Raises:
        ValueError: several heads are asked for.
    """
    if isinstance(num_outputs, dict):
        raise ValueError(f"num_outputs={num_outputs}: the {family} has one head, so one number of outputs")
    return num_outputs


def check_widths(name: str, values: list[int], *, at_least: int = 0) -> None:
    """Raises ValueError unless `values` are positive and there are `at_least` so many."""
    if len(values) < at_least or any(v < 1 for v in values):
        need = f"{at_least} or more numbers" if at_least else "a list of numbers"
        raise ValueError(f"{name}={values}: must be {need}, each at least 1")


def check_dropout(p: float) -> None:
    """Raises ValueError unless `p` is a probability below 1."""
    if not 0 <= p < 1:
        raise ValueError(f"dropout={p}: must be in [0, 1)")
