"""Objectives of regression.

Run: ``python -m trainer data=diabetes objective=huber``

Shapes: B batch, K targets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from data import Facts
from trainer.training.objectives.objective import Reduction, Sums, Supervised, in_full


class Regression(Supervised):
    """Base of regression objectives. The loss is a mean over samples and outputs, of targets as they are trained on.

    The other metrics are in the targets' units: ``mae``, ``rmse``, both over all outputs at once, and ``r2``, the
    mean over the outputs.
    """

    task = "regression"
    metrics = ("loss", "mae", "rmse")
    evaluated = ("r2",)
    higher_is_better = ("r2",)
    _units: tuple[Tensor, Tensor] | None = None

    def count(self, outputs_BK: Tensor, y_BK: Tensor) -> Sums:
        error_BK = (outputs_BK - y_BK) * self._on(y_BK)[1]
        return {"mae": error_BK.abs().mean(1).sum(), "rmse": error_BK.square().mean(1).sum()}

    def keep(self, outputs_BK: Tensor, y_BK: Tensor) -> dict[str, Tensor]:
        return {"outputs": outputs_BK, "y": y_BK}

    def finish(self, sums: Mapping[str, Any], kept: Mapping[str, np.ndarray] | None = None) -> dict[str, float]:
        metrics = super().finish(sums, kept)
        metrics["rmse"] = math.sqrt(metrics["rmse"])
        if kept:
            metrics["r2"] = r_squared(kept["y"], kept["outputs"])
        return metrics

    def why_undefined(self, metric: str, y: Tensor) -> str | None:
        if metric != "r2":
            return None
        if len(y) == 1:
            return "has one sample"
        y_NK = y.reshape(len(y), -1)
        same = (y_NK == y_NK[0]).all(0).tolist()
        names = [name for name, is_same in zip(self.facts.output_names[""], same, strict=True) if is_same]
        return f"has one value only of {', '.join(names)}" if names else None

    def chance(self, y: Tensor) -> float | None:
        trained = (y - self.facts.target_mean.to(y.device)) / self.facts.target_std.to(y.device)
        return float(self.compare(self.constant(trained).expand(trained.shape), trained, "mean"))

    def constant(self, y_BK: Tensor) -> Tensor:
        """A constant output (K,) of small loss."""
        return y_BK.median(0).values

    def predict(self, model: nn.Module, x: Tensor) -> Tensor:
        """Values (B, K) in the targets' units."""
        return self.truth(in_full(model(x)))

    def truth(self, y: Tensor) -> Tensor:
        """Normalized values (B, K) -> in the targets' units."""
        mean, std = self._on(y)
        return y * std + mean

    def _on(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the targets' normalization, on the device of `like`."""
        if self._units is None or self._units[0].device != like.device:
            self._units = self.facts.target_mean.to(like.device), self.facts.target_std.to(like.device)
        return self._units


class MeanSquaredError(Regression):
    """The mean of (output - target)^2."""

    def compare(self, outputs_BK: Tensor, y_BK: Tensor, reduction: Reduction) -> Tensor:
        return F.mse_loss(outputs_BK, y_BK, reduction=reduction)

    def constant(self, y_BK: Tensor) -> Tensor:
        return y_BK.mean(0)


class MeanAbsoluteError(Regression):
    """The mean of |output - target|."""

    def compare(self, outputs_BK: Tensor, y_BK: Tensor, reduction: Reduction) -> Tensor:
        return F.l1_loss(outputs_BK, y_BK, reduction=reduction)


class Huber(Regression):
    """The mean of e^2 / 2 for errors e of at most `delta`, of delta (|e| - delta / 2) for larger ones.

    Source: Huber 1964, equation 2.1 of "Robust estimation of a location parameter".

    Args:
        facts: of the dataset; its task must be ``regression``.
        delta: the largest small error, > 0, in the units of the targets as trained on.
        l2, l1: see :class:`Objective`.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    def __init__(self, facts: Facts, *, delta: float = 1.0, l2: float = 0.0, l1: float = 0.0):
        super().__init__(facts, l2=l2, l1=l1)
        if not 0 < delta < math.inf:
            raise ValueError(f"delta={delta}: must be greater than 0, and finite")
        self.delta = delta

    def compare(self, outputs_BK: Tensor, y_BK: Tensor, reduction: Reduction) -> Tensor:
        return F.huber_loss(outputs_BK, y_BK, delta=self.delta, reduction=reduction)


def r_squared(y: np.ndarray, outputs: np.ndarray) -> float:
    """Coefficient of determination, the mean over outputs; NaN if a target is constant, or outputs are NaN.

    For a constant target R^2 is undefined; scikit-learn would return 0 or 1.
    """
    from sklearn.metrics import r2_score

    if (y == y[:1]).all(0).any() or not np.isfinite(outputs).all():
        return math.nan
    with np.errstate(over="ignore", invalid="ignore"):  # of a diverging run
        return float(r2_score(y, outputs))
