"""Parallel coordinates: an axis for each key in which runs differ and one for a metric, a line for each run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator

from trainer.plot import look
from trainer.plot.frame import PLAIN, Frame
from trainer.plot.scale import FEW, Scale, labels
from trainer.plot.values import higher_is_better, metric_value, setting, unfinished, words
from trainer.rundir.records import RunRecord

DIVERGED = -0.13  # place of lines without a value, below the metric's axis
MANY = 24  # with so many runs, those that share a value are spread around it
STRIP = 0.06  # width of the colour bar at the metric's axis, in distances of axes


def parallel_figure(
    records: Sequence[RunRecord],
    keys: Sequence[str],
    metric: str,
    frame: Frame = PLAIN,
) -> Figure:
    """Lines of finished runs, coloured by the metric, the best on top; diverged runs dashed and grey."""
    shown = [r for r in records if r.status == "diverged" or math.isfinite(finished_value(r, metric))]
    values = [finished_value(record, metric) for record in shown]
    better = higher_is_better(records, metric)
    finite = [v for v in values if math.isfinite(v)]
    norm, shades = look.colour_range(finite), look.colour_map(reverse=not better)
    scales = [Scale.of(key, {setting(record, key) for record in shown}) for key in keys]
    figure = frame.figure(max(3.6, 1.25 * len(keys) + 1.5), 3.1)
    axis = figure.subplots()
    order = sorted(range(len(shown)), key=lambda i: (math.isfinite(values[i]), values[i] if better else -values[i]))
    alpha = 0.9 if len(shown) <= 60 else 0.65
    heights = [heights_of(scale, [setting(shown[i], scale.key) for i in order]) for scale in scales]
    lines = np.column_stack([*heights, np.full(len(order), DIVERGED)])
    places = np.broadcast_to(np.arange(len(keys) + 1.0), lines.shape)
    lost = len(shown) - len(finite)
    shares = np.asarray(norm([values[i] for i in order[lost:]])) if finite else np.zeros(0)
    lines[lost:, -1] = shares if better else 1 - shares
    points = np.stack((places, lines), axis=-1)
    dashed: dict[str, Any] = {"colors": look.GREY, "alpha": 0.5, "linewidths": 0.9, "linestyles": [(0, (3, 2))]}
    axis.add_collection(LineCollection([*points[:lost]], joinstyle="round", zorder=2, **dashed))
    solid: dict[str, Any] = {"colors": shades(shares), "alpha": alpha, "linewidths": 1.2, "capstyle": "projecting"}
    axis.add_collection(LineCollection([*points[lost:]], joinstyle="round", zorder=2, **solid))
    for place, scale in enumerate(scales):
        marks, texts = scale.ticks()
        draw_axis(axis, place, texts, [height(scale, mark, placed=True) for mark in marks])
    draw_metric(axis, len(keys), norm, better, finite)
    if lost:
        axis.text(len(keys) + 0.06, DIVERGED, f"diverged ({lost})", va="center", color="0.35", fontsize=8)
    name_axes(figure, axis, [*keys, words(metric)], DIVERGED if lost else -0.05)
    ended = f"dashed: {lost} diverged" if lost else ""
    remarks = (f"{len(finite)} runs, the best on top", ended, at_best(metric), unfinished(records))
    return frame.finish(figure, remarks)


def finished_value(record: RunRecord, metric: str) -> float:
    """The metric of a finished run; NaN for another."""
    return metric_value(record, metric) if record.status == "finished" else math.nan


def at_best(metric: str) -> str:
    """The epoch of a metric that changes from epoch to epoch, for the caption."""
    return f"{words(metric)} at the best epoch" if metric.startswith(("train/", "val/", "optim/", "time/")) else ""


def heights_of(scale: Scale, values: Sequence[Any]) -> list[float]:
    """The heights of lines on an axis; many that share a value are spread around it, so that all are visible."""
    of_value = {value: height(scale, value) for value in scale.values}
    found = [of_value[value] for value in values]
    if len(found) < MANY or len(scale.values) > FEW:
        return found
    reach = min(0.05, 0.3 / len(scale.values))
    for value in set(values):
        equal = [i for i, v in enumerate(values) if v == value]
        for i, offset in zip(equal, np.linspace(-reach, reach, len(equal)) if len(equal) > 1 else [0.0], strict=True):
            found[i] += offset
    return found


def height(scale: Scale, value: Any, placed: bool = False) -> float:
    """The height of a value on its axis, from 0 to 1; `placed`: the value is a place already."""
    places = [scale.place(v) for v in scale.values]
    low, high = min(places), max(places)
    place = float(value) if placed else scale.place(value)
    return 0.5 if high == low else (place - low) / (high - low)


def draw_axis(axis: Axes, place: int, texts: Sequence[str], heights: Sequence[float]) -> None:
    """Draws a vertical axis with ticks and labels on top of the lines."""
    axis.plot([place, place], [-0.05, 1.05], color="0.25", linewidth=1, zorder=4)
    step = max(1, math.ceil(len(texts) / (2 * FEW)))
    for text, y in list(zip(texts, heights, strict=True))[::step]:
        axis.plot([place - 0.02, place], [y, y], color="0.25", linewidth=1, zorder=4)
        halo = [withStroke(linewidth=2.5, foreground="white")]
        axis.text(place - 0.04, y, text, ha="right", va="center", fontsize=8, zorder=5, path_effects=halo)


def draw_metric(axis: Axes, place: int, norm: Normalize, better: bool, values: Sequence[float]) -> None:
    """Draws the metric's axis with the colours of the lines; better is up."""
    heights = np.linspace(0, 1, 256)
    strip = look.colour_map()(heights)[:, None]
    axis.imshow(strip, extent=(place, place + STRIP, 0, 1), origin="lower", aspect="auto", zorder=4)
    if not values:
        return
    assert norm.vmin is not None  # look.colour_range gives
    assert norm.vmax is not None  # both
    locator = LogLocator(subs=(1, 2, 5)) if isinstance(norm, LogNorm) else MaxNLocator(6)
    marks = [float(f"{v:.10g}") for v in locator.tick_values(norm.vmin, norm.vmax) if norm.vmin <= v <= norm.vmax]
    for value, text in zip(marks, labels(marks), strict=True):
        y = float(norm(value)) if better else 1 - float(norm(value))
        axis.plot([place + STRIP, place + STRIP + 0.02], [y, y], color="0.25", linewidth=1, zorder=4)
        axis.text(place + STRIP + 0.04, y, text, ha="left", va="center", fontsize=8)


def name_axes(figure: Figure, axis: Axes, names: Sequence[str], bottom: float) -> None:
    """Draws names above the axes, long ones in two lines."""
    axis.set(xlim=(-0.45, len(names) - 1 + 0.45), ylim=(bottom - 0.03, 1.0 + 0.06), xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    distance = figure.get_figwidth() * 72 / (len(names) + 0.5)  # points between two axes
    folded = [name if 5.6 * len(name) < distance else name.replace(".", ".\n").replace(" ", "\n") for name in names]
    lengths = [5.6 * max(map(len, text.split("\n"))) for text in folded]
    touch = any((a + b) / 2 > distance for a, b in pairwise(lengths))
    for place, text in enumerate(folded):
        raised = 24 if touch and place % 2 else 0  # in two heights
        axis.annotate(
            text, (place, 1.05), (0, 6 + raised), textcoords="offset points", ha="center", va="bottom", fontsize=9,
            annotation_clip=False, linespacing=1,
        )  # fmt: skip
