"""The coefficients of a linear model in the units of its data, such as euros for each square metre, after every epoch.

Run: ``python -m trainer data=apartments model=linear && python -m trainer plot outputs --y coefficient/size_sqm``

An affine model has a method ``affine()`` that returns its weight (K, D) and bias (K,).

Shapes: D inputs, K targets.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from data import Facts

MOST = 8  # coefficients of a model that are logged
PREFIX = "coefficient/"


@runtime_checkable
class Affine(Protocol):
    """A model that is an affine map."""

    def affine(self) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,)."""


def columns(model: nn.Module, facts: Facts) -> list[str]:
    """``coefficient/INPUT`` for each input and ``coefficient/intercept``; with several targets, those of each.

    [] for a model that is no affine map or has many inputs, and for other tasks than regression.
    """
    if not isinstance(model, Affine) or facts.task != "regression" or len(facts.input_shape) != 1:
        return []
    inputs, targets = input_names(facts), facts.output_names[""]
    if len(targets) * (len(inputs) + 1) > MOST:
        return []
    names = [*inputs, "intercept" if "intercept" not in inputs else "the intercept"]
    return [PREFIX + (f"{target}/{name}" if len(targets) > 1 else name) for target in targets for name in names]


def input_names(facts: Facts) -> tuple[str, ...]:
    """The names of the columns of a table."""
    return facts.column_names or tuple(f"x{i}" for i in range(facts.input_shape[0]))


def values(model: nn.Module, facts: Facts) -> dict[str, float]:
    """The value of each of the :func:`columns`."""
    names = columns(model, facts)
    if not names or not isinstance(model, Affine):
        return {}
    weight_KD, bias_K = model.affine()
    both = torch.cat([weight_KD.detach(), bias_K.detach()[:, None]], 1).cpu()  # one wait for the device
    table = in_own_units(both[:, :-1], both[:, -1], facts)
    return dict(zip(names, table.flatten().tolist(), strict=True))


def in_own_units(weight_KD: Tensor, bias_K: Tensor, facts: Facts) -> np.ndarray:
    """(K, D + 1) coefficients, the intercept last: the map with the normalization of inputs and targets undone.

    With (y - m_y) / s_y = W (x - m) / s + b, the slopes are s_y W / s, and the intercept is m_y + s_y b - slopes m.
    """
    (K, D), double = weight_KD.shape, np.float64
    m, s = (np.broadcast_to(np.asarray(v, double), D) for v in (facts.mean, facts.std))
    m_y, s_y = (np.broadcast_to(np.asarray(v, double), K) for v in (facts.target_mean, facts.target_std))
    slopes_KD = s_y[:, None] * np.asarray(weight_KD, double) / s
    intercepts_K = m_y + s_y * np.asarray(bias_K, double) - slopes_KD @ m
    return np.column_stack([slopes_KD, intercepts_K])


def least_squares(x_ND: np.ndarray, y_NK: np.ndarray, weights_N: np.ndarray | None = None) -> np.ndarray | None:
    """(K, D + 1) coefficients that minimize the (weighted) sum of squared errors; None if they are not unique."""
    root_N1 = np.ones((len(x_ND), 1)) if weights_N is None else np.sqrt(weights_N)[:, None]
    inputs = root_N1 * np.column_stack([x_ND, np.ones(len(x_ND))])
    solution, _, rank, _ = np.linalg.lstsq(inputs, root_N1 * y_NK, rcond=None)
    return solution.T if rank == inputs.shape[1] else None
