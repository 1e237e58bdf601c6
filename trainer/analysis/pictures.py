"""Figures of predictions and truth: confusion matrices, images, residuals, series.

Shapes: N samples, K classes or labels or targets; images (C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from trainer.plot.figures import rendered
from trainer.plot.look import CATEGORIES, GREY
from trainer.training.objectives import Objective
from trainer.training.predictions import MEASURES, Mistake, Rows, confusion, heads, percent

MOST_CLASSES = 1000  # in a confusion matrix
COUNTED = 20  # with at most so many classes, cells show counts
TICKS = 100  # names of classes on an axis
LONGEST = 22  # characters of a name
LABELS = 30  # in a bar chart
TARGETS = 6  # in a picture
POINTS = 10_000  # of a scatter plot
CLOSE_UP = 200  # of the windows of a series
ACROSS = 5  # images beside each other

Panel = tuple[str, Sequence[str], np.ndarray]  # title, names of the classes, counts (K, K)


def png(draw: Callable[..., Figure], *args: object) -> bytes:
    """The figure of ``draw(*args)`` as a PNG."""
    return rendered(draw, *args)


def confusion_picture(title: str, objective: Objective, predictions: Any, truth: np.ndarray) -> bytes | None:
    """The confusion matrix of each head as a PNG; None without classes, or with too many.

    Predictions and truth are those of ``trainer.training.evaluation.predict_split``.
    """
    choices = [head for head in heads(objective, predictions, truth) if len(head.classes) <= MOST_CLASSES]
    panels = [(head.name, head.classes, confusion(head)) for head in choices]
    return png(confusion_matrices, title, panels) if panels else None


def confusion_matrices(title: str, panels: Sequence[Panel]) -> Figure:
    """Truth against prediction, for each head; the colour is the share of the true class on a square-root scale.

    So rare classes are legible and rare confusions are visible.
    """
    across = min(3, len(panels))
    down = math.ceil(len(panels) / across)
    side = max(_side(len(names)) for _, names, _ in panels)
    named = max(len(shorten(name)) for _, names, _ in panels for name in names) * 0.055
    figure = Figure(
        figsize=(across * (side + named + 0.7) + 0.8, down * (side + named + 0.9) + 0.5), layout="constrained"
    )
    norm = PowerNorm(0.5, 0, 1)
    for axis, (name, names, counts) in zip(figure.subplots(down, across, squeeze=False).flat, panels, strict=False):
        shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        image = axis.imshow(shares, cmap="Blues", norm=norm, interpolation="nearest")
        _name_classes(axis, names, side)
        axis.set(xlabel="prediction", ylabel="truth", title=name)
        if len(names) <= COUNTED:
            longest = max(len(f"{n:,}") for n in counts.flat)
            size = min(11.0, 72 * side / len(names) / max(2.0, 0.68 * longest))
            for i, j in zip(*counts.nonzero(), strict=True):
                dark = norm(shares[i, j]) > 0.6
                axis.text(
                    j, i, f"{counts[i, j]:,}", ha="center", va="center", fontsize=size, color="w" if dark else "k"
                )
    for axis in figure.axes[len(panels) :]:
        axis.axis("off")
    bar = figure.colorbar(image, ax=figure.axes, label="share of the class", shrink=0.8, aspect=30, pad=0.02)
    bar.set_ticks(
        [0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 1], labels=["0", "1%", "5%", "10%", "25%", "50%", "75%", "100%"]
    )
    figure.suptitle(title)
    return figure


def _side(classes: int) -> float:
    """Inches of a matrix."""
    return min(10.0, max(2.4, 0.42 * classes)) if classes <= COUNTED else min(11.0, max(8.0, 0.11 * classes))


def _name_classes(axis: Axes, names: Sequence[str], side: float) -> None:
    step = math.ceil(len(names) / TICKS)
    places = range(0, len(names), step)
    shown = [shorten(names[k]) for k in places]
    size = min(10.0, 0.8 * 72 * side / len(shown))
    flat = max(map(len, shown)) * size * 0.65 < 72 * side / len(shown)  # if they fit side by side
    axis.set_xticks(places, shown, fontsize=size, rotation=0 if flat else 90)
    axis.set_yticks(places, shown, fontsize=size)
    axis.tick_params(length=2 if len(names) > COUNTED else 0)


def shorten(name: str) -> str:
    """A name of bounded length with its beginning and end, where names often differ."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST // 2]}…{name[1 - LONGEST // 2 :]}"


def label_bars(title: str, rows: Rows) -> Figure:
    """Precision, recall and F1 of each label; of many, those with the lowest F1."""
    shown = sorted(rows, key=lambda row: row["f1"])[:LABELS] if len(rows) > LABELS else rows
    figure = Figure(figsize=(7, 1.4 + 0.5 * len(shown)), layout="constrained")
    axis, height = figure.subplots(), 0.26
    for i, (measure, colour) in enumerate(zip(MEASURES, (CATEGORIES[0], CATEGORIES[1], GREY), strict=True)):
        places = np.arange(len(shown)) + (i - 1) * height
        bars = axis.barh(places, [row[measure] for row in shown], height, label=measure, color=colour)
        axis.bar_label(bars, fmt="%.2f", fontsize=7, padding=2)
    named = [f"{shorten(row['label'])}  ({row['samples']:,})" for row in shown]
    axis.set_yticks(range(len(shown)), named)
    axis.set(xlim=(0, 1.08), xlabel="of each label (samples that have it)")
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    fewer = f"\nthe {LABELS} of {len(rows):,} labels with the lowest F1" if len(shown) < len(rows) else ""
    figure.suptitle(title + fewer)
    return figure


def mistaken_images(
    title: str,
    images: np.ndarray,
    mistakes: Sequence[Mistake],
    value_range: tuple[float, float],
    names: Sequence[str],
) -> Figure:
    """Raw images (N, C, H, W), each with its name, its truth, its prediction and the probability of the prediction."""
    across = min(ACROSS, len(mistakes))
    down = math.ceil(len(mistakes) / across)
    height, width = images.shape[2:]
    side, tall = 2.0, min(3.2, max(0.5, 2.0 * height / width))  # inches of an image
    between, around, head = 0.62, 0.15, 1.1
    size = (max(across * (side + around) + around, 5.0), down * (tall + between) - between + head + 0.35)
    figure = Figure(figsize=size)  # laid out by hand: a constrained layout takes a second for so many axes
    edges = {"left": around / size[0], "right": (across * (side + around)) / size[0]}
    edges |= {"bottom": 0.35 / size[1], "top": 1 - head / size[1], "wspace": around / side, "hspace": between / tall}
    axes = figure.subplots(down, across, squeeze=False, gridspec_kw=edges).flat
    low, high = value_range
    for axis, image, mistake, name in zip(axes, images, mistakes, names, strict=False):
        shown = np.clip((image.astype(np.float64) - low) / ((high - low) or 1), 0, 1).transpose(1, 2, 0)
        axis.imshow(shown.squeeze(-1) if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=1)
        said = f"{shorten(mistake.prediction)}, {percent(mistake.probability)}"
        axis.set_title(f"truth: {shorten(mistake.truth)}\nsaid: {said}", fontsize=8, loc="left")
        axis.set_xlabel(shorten(name), fontsize=7, color="0.4", labelpad=2)
        axis.set(xticks=[], yticks=[])
    for axis in figure.axes[len(mistakes) :]:
        axis.axis("off")
    figure.suptitle(title, y=1 - 0.15 / size[1], va="top")
    return figure


def image_rows(title: str, rows: Mapping[str, np.ndarray], value_range: tuple[float, float]) -> Figure:
    """Rows of images (N, C, H, W), as many in each, on one scale; the name of each row is at its left."""
    across = max(map(len, rows.values()))
    low, high = value_range
    figure = Figure(figsize=(0.8 * across + 0.8, 0.8 * len(rows) + 0.9), layout="constrained")
    for axes, (name, images) in zip(figure.subplots(len(rows), across, squeeze=False), rows.items(), strict=True):
        for axis, image in zip(axes, images, strict=False):
            shown = np.clip((image.astype(np.float64) - low) / ((high - low) or 1), 0, 1).transpose(1, 2, 0)
            axis.imshow(shown.squeeze(-1) if shown.shape[2] == 1 else shown, cmap="gray", vmin=0, vmax=1)
        for axis in axes:
            axis.set(xticks=[], yticks=[])
        axes[0].set_ylabel(name, fontsize=8)
    figure.suptitle(title, fontsize=9)
    return figure


def residuals(title: str, names: Sequence[str], predictions_NK: np.ndarray, truth_NK: np.ndarray) -> Figure:
    """For each target: predictions against the truth, and below the residuals."""
    shown = names[:TARGETS]
    figure = Figure(figsize=(max(5.5, 3.8 * len(shown)), 7), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False, height_ratios=(3, 2))
    index = np.unique(np.linspace(0, len(truth_NK) - 1, min(len(truth_NK), POINTS)).astype(int))
    look = {"s": 20, "alpha": 0.6 if len(index) < 1000 else 0.2, "linewidths": 0}
    for k, name in enumerate(shown):
        truth, said = truth_NK[index, k], predictions_NK[index, k]
        above, below = axes[:, k]
        ends = [min(truth.min(), said.min()), max(truth.max(), said.max())]
        above.plot(ends, ends, color="0.5", linewidth=1, label="prediction = truth")
        above.scatter(truth, said, **look)
        above.set(xlabel=f"truth: {shorten(name)}", ylabel="prediction")
        above.legend(fontsize=8, frameon=False)
        below.axhline(0, color="0.5", linewidth=1)
        below.scatter(said, said - truth, **look, color=CATEGORIES[1])
        below.set(xlabel="prediction", ylabel="prediction - truth")
    notes = [f"the first {TARGETS} of {len(names):,} targets"] if len(names) > len(shown) else []
    notes += [f"{len(index):,} of {len(truth_NK):,} samples"] if len(index) < len(truth_NK) else []
    figure.suptitle("\n".join([title, *notes]))
    return figure


def series(title: str, names: Sequence[str], predictions_NK: np.ndarray, truth_NK: np.ndarray) -> Figure:
    """For each target: prediction and truth over time; of a long series also the beginning, enlarged."""
    shown, N = names[:TARGETS], len(truth_NK)
    spans = [N] if N <= 2 * CLOSE_UP else [N, CLOSE_UP]
    figure = Figure(figsize=(11, 0.9 + 2.9 * len(shown) * len(spans)), layout="constrained")
    axes = iter(figure.subplots(len(shown) * len(spans), 1, squeeze=False).flat)
    for k, name in enumerate(shown):
        for span in spans:
            axis = next(axes)
            axis.plot(truth_NK[:span, k], label="truth", color="0.7", linewidth=2.5)
            axis.plot(predictions_NK[:span, k], label="prediction", color=CATEGORIES[1], linewidth=1.1)
            which = "window" if span == N else f"window, the first {span}"
            axis.set(xlabel=which, ylabel=shorten(name), xlim=(0, max(span - 1, 1)))
            axis.margins(y=0.1)
            if span == N:
                axis.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, frameon=False)
    fewer = f"\nthe first {TARGETS} of {len(names):,} targets" if len(names) > len(shown) else ""
    figure.suptitle(title + fewer)
    return figure
