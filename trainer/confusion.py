"""The confusion matrix of a model, and its picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from data import Dataset
from trainer.evaluation import predict_split
from trainer.objectives import Objective

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import nn

MOST_CLASSES = 200  # more are no picture
COUNTS_UP_TO, NAMES_UP_TO = 20, 60  # classes for which counts and names can be read


@dataclass(frozen=True)
class Confusion:
    """How often each class was taken for each: K x K counts, a row for each true class."""

    split: str
    matrix: np.ndarray
    class_names: tuple[str, ...]


def split_to_show(dataset: Dataset) -> str | None:
    """The test split, or else the validation split; None where there is neither, or there are no or many classes."""
    facts = dataset.facts
    shown = facts.task == "binary" or (facts.task == "classification" and facts.num_outputs <= MOST_CLASSES)
    return next((s for s in ("test", "val") if s in dataset.splits), None) if shown else None


def confusion_of(
    model: nn.Module, objective: Objective, dataset: Dataset, split: str, *, check: Callable[[], None] = lambda: None
) -> Confusion:
    """How often the model takes each class for each, over a split.

    Args:
        check: called after each batch, and may raise.
    """
    probabilities_NK, truth_N = predict_split(model, objective, dataset, split, check=check)
    K = probabilities_NK.shape[1]
    places = truth_N.astype(int) * K + probabilities_NK.argmax(1)
    matrix = np.bincount(places, minlength=K * K).reshape(K, K)
    return Confusion(split, matrix, dataset.facts.class_names or tuple(map(str, range(K))))


def draw(confusion: Confusion) -> Figure:
    """The matrix as a picture: colours are shares of the true class, so that rare classes are seen, too."""
    from matplotlib.figure import Figure  # not pyplot, whose state is the whole process's

    matrix, names = confusion.matrix, confusion.class_names
    K = len(matrix)
    side = min(max(4.0, 0.45 * K), 12.0)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, label="share of the true class")
    accuracy = matrix.trace() / max(matrix.sum(), 1)
    axes.set(xlabel="predicted", ylabel="true", title=f"{confusion.split}: accuracy {accuracy:.4f}")
    if K <= NAMES_UP_TO:
        size = 9 if K <= COUNTS_UP_TO else 6
        axes.set_xticks(range(K), names, rotation=90 if max(map(len, names)) > 2 else 0, fontsize=size)
        axes.set_yticks(range(K), names, fontsize=size)
    if K <= COUNTS_UP_TO:
        for (i, j), count in np.ndenumerate(matrix):
            if count:
                axes.text(
                    j, i, f"{count:,}", ha="center", va="center", color="white" if shares[i, j] > 0.5 else "black"
                )
    return figure


def pixels(figure: Figure) -> np.ndarray:
    """The picture as an array, (H, W, 3) of bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
