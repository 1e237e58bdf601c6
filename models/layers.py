"""What the families share: activations by name, and the checks of their arguments."""

from __future__ import annotations

from torch import Tensor, nn

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


def check_widths(name: str, values: list[int], *, at_least: int = 0) -> None:
    """Raises ValueError unless `values` are positive and there are `at_least` so many."""
    if len(values) < at_least or any(v < 1 for v in values):
        need = f"{at_least} or more numbers" if at_least else "a list of numbers"
        raise ValueError(f"{name}={values}: must be {need}, each at least 1")


def check_dropout(p: float) -> None:
    """Raises ValueError unless `p` is a probability below 1."""
    if not 0 <= p < 1:
        raise ValueError(f"dropout={p}: must be in [0, 1)")
