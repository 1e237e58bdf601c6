"""Metrics of classification from counts and scores: occurrences, macro F1, area under the ROC curve."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def occurrences(numbers: Tensor, K: int, which: Tensor | None = None) -> Tensor:
    """How often each of 0 ... K - 1 is among `numbers` (B,), or among those that `which` (B,) marks: (K,).

    torch.bincount would wait for the device.
    """
    counted = torch.ones_like(numbers) if which is None else which.to(numbers.dtype)
    return torch.zeros(K, dtype=numbers.dtype, device=numbers.device).scatter_add_(0, numbers, counted)


def macro_f1(right: np.ndarray, of_class: np.ndarray, chosen: np.ndarray) -> float:
    """The mean of the classes' F1 = 2 right / (of_class + chosen), of those that are present or predicted."""
    total = of_class + chosen
    return float((2 * right[total > 0] / total[total > 0]).mean())


def area_under_roc(y: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve; NaN if there is only one class, or a score is NaN."""
    from sklearn.metrics import roc_auc_score  # the import takes 1.5 s: only if needed

    if len(np.unique(y)) < 2 or not np.isfinite(scores).all():
        return math.nan
    return float(roc_auc_score(y, scores))
