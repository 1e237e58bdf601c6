"""Recurrent networks: the simple one (Elman 1990), GRU (Cho et al. 2014) and LSTM (Hochreiter & Schmidhuber 1997).

Series are read as they are; an image is a sequence of its rows, from the top.

Run: ``python -m trainer data=sine model=lstm``, ``python -m trainer data=digits model=gru``

Shapes: B batch, T steps, D features of a step, H units, K outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from models.layers import activation as make_activation
from models.layers import check_probability, check_sizes, check_widths, output_layer

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


class Recurrent(nn.Module):
    """Recurrent layers over the steps, the last step or the mean of all, dense layers, outputs.

    Args:
        input_shape: (T, D), or an image (C, rows, columns): T = rows, D = C * columns.
        num_outputs: K, or a mapping head -> K.
        cell: the kind of layer: simple (``rnn``), ``gru`` or ``lstm``.
        hidden_size: H, the units of a layer, at least 1.
        layers: recurrent layers, one on top of the other, at least 1.
        nonlinearity: of the simple cell.
        bidirectional: also reads from the end; the last step is then that of each direction.
        pooling: what the outputs see: the ``last`` step, or the ``mean`` over the steps.
        dropout: probability of a unit's zeroing between recurrent layers, in [0, 1).
        widths: units of dense layers before the outputs.
        activation: of these dense layers, such as relu, elu or tanh (:data:`models.layers.ACTIVATIONS`).

    Raises:
        ValueError: the input is a vector, or a number is out of range.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int | dict[str, int],
        *,
        cell: Literal["rnn", "gru", "lstm"],
        hidden_size: int,
        layers: int = 1,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        bidirectional: bool = False,
        pooling: Literal["last", "mean"] = "last",
        dropout: float = 0.0,
        widths: Sequence[int] = (),
        activation: str = "relu",
    ):
        super().__init__()
        if len(input_shape) not in (2, 3):
            raise ValueError(
                f"input_shape={tuple(input_shape)}: a recurrent network takes series (steps, features) or images"
            )
        check_sizes(hidden_size=hidden_size, layers=layers)
        check_probability("dropout", dropout)
        check_widths("widths", list(widths))
        if dropout and layers == 1:
            raise ValueError(f"dropout={dropout}: is between recurrent layers, and layers=1 is one")
        d_in = input_shape[1] if len(input_shape) == 2 else input_shape[0] * input_shape[2]
        more = {"nonlinearity": nonlinearity} if cell == "rnn" else {}
        self.recurrent = CELLS[cell](
            d_in, hidden_size, layers, batch_first=True, dropout=dropout, bidirectional=bidirectional, **more
        )
        self.pooling, self.directions = pooling, 2 if bidirectional else 1
        d_out, dense = hidden_size * self.directions, []
        for width in widths:
            dense += [nn.Linear(d_out, width), *make_activation(activation, width)]
            d_out = width
        self.head = nn.Sequential(*dense, output_layer(d_out, num_outputs))

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, T, D) or (B, C, rows, columns) -> (B, K), or a mapping head -> (B, K)"""
        if x.ndim == 4:
            x = x.transpose(1, 2).flatten(2)
        steps_BTH, state = self.recurrent(x)
        if self.pooling == "mean":
            return self.head(steps_BTH.mean(1))
        last = (
            state[0] if isinstance(state, tuple) else state
        )  # LSTM: hidden and cell state; (layers * directions, B, H)
        return self.head(last[-self.directions :].transpose(0, 1).flatten(1))
