"""A metric over one swept number, or over choices: means with their deviation, in training and test."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import blended_transform_factory

from trainer.plot import look
from trainer.plot.frame import PLAIN, Frame
from trainer.plot.heatmap import best_epoch
from trainer.plot.scale import Scale
from trainer.plot.values import Cell, cells, groups, higher_is_better, named, setting, spread, unfinished, words
from trainer.rundir.records import RunRecord

WIDE = 100.0  # a metric with such a range has a logarithmic axis


def over_figure(
    records: Sequence[RunRecord],
    key: str,
    categories: Sequence[str],
    metrics: Sequence[str],
    over: Sequence[str] = (),
    frame: Frame = PLAIN,
) -> Figure:
    """Metrics over a number: a line for each choice of the categories and each metric, with bands over `over`.

    With categories, colours are choices and dashes metrics; without, colours are metrics.
    """
    choices = list(groups(records, categories))
    found = {metric: cells(records, [*categories, key], metric) for metric in metrics}
    scale = Scale.of(key, {setting(record, key) for record in records})
    texts = [*(named(categories, c, choices) for c in choices if c), *map(words, metrics)]
    figure = frame.figure(4.2, 2.9, texts)
    axis, handles = figure.subplots(), []
    lost: dict[int, list[float]] = {}
    for i, choice in enumerate(choices):
        for j, metric in enumerate(metrics):
            colour = look.CATEGORIES[(i if categories else len(metrics) - 1 - j) % len(look.CATEGORIES)]
            dash = look.DASHES[len(metrics) - 1 - j]  # the last one, of test, is a full line
            points = {place[-1]: cell for place, cell in found[metric].items() if place[:-1] == choice}
            draw_points(axis, scale, points, colour, dash)
            own = i if categories else 0
            lost[own] = sorted({*lost.get(own, []), *(scale.place(v) for v, c in points.items() if c.diverged)})
    if categories:
        handles = [Line2D([], [], color=look.CATEGORIES[i], linewidth=1.8) for i in range(len(choices))]
    for j in range(len(metrics)):
        colour = "0.25" if categories else look.CATEGORIES[len(metrics) - 1 - j]
        style = {"color": colour, "linestyle": look.DASHES[len(metrics) - 1 - j], "linewidth": 1.8}
        handles.append(Line2D([], [], **style))
    set_axes(axis, found.values(), not higher_is_better(records, metrics[-1]))
    mark_diverged(axis, lost, bool(categories))
    if any(lost.values()):
        cross: dict[str, Any] = {"marker": "x", "linestyle": "none", "markersize": 6, "markeredgewidth": 1.6}
        handles.append(Line2D([], [], color=look.GREY, **cross))
        texts.append("diverged")
    look.ticks(axis.xaxis, scale)
    same = {metric.rpartition("/")[2] for metric in metrics}
    axis.set_ylabel(same.pop().replace("_", " ") if len(same) == 1 else "")
    axis.grid(True)
    counts = [cell.n for of_metric in found.values() for cell in of_metric.values() if cell.n]
    band = "band: ± 1 standard deviation" if max(counts, default=0) > 1 else ""
    return frame.finish(figure, (spread(over, counts), band, best_epoch(metrics), unfinished(records)), handles, texts)


def draw_points(axis: Axes, scale: Scale, points: dict[Any, Cell], colour: Any, dash: Any) -> None:
    """Draws one line: means of finished runs, with a band."""
    kept = sorted((scale.place(value), cell.mean, cell.sd) for value, cell in points.items() if cell.n)
    if not kept:
        return
    x, mean, sd = np.array(kept).T
    axis.plot(x, mean, color=colour, linestyle=dash, linewidth=1.6, marker="o", markersize=3.5, zorder=3)
    if np.isfinite(sd).any():
        axis.fill_between(x, mean - sd, mean + sd, color=colour, alpha=0.18, linewidth=0)


def set_axes(axis: Axes, found: Any, falls: bool) -> None:
    """Sets a logarithmic axis for a metric, such as a loss, that spans powers of ten."""
    means = [cell.mean for of_metric in found for cell in of_metric.values() if cell.n]
    if falls and means and min(means) > 0 and max(means) >= WIDE * min(means):
        look.log_axis(axis, "y")


def mark_diverged(axis: Axes, lost: dict[int, list[float]], coloured: bool) -> None:
    """Draws crosses at the lower edge for diverged runs, a row for each choice."""
    where = blended_transform_factory(axis.transData, axis.transAxes)
    rows = [i for i in lost if lost[i]]
    for row, i in enumerate(rows):
        colour = look.CATEGORIES[i % len(look.CATEGORIES)] if coloured else "0.35"
        axis.plot(
            lost[i], [0.04 + 0.055 * row] * len(lost[i]), color=colour, transform=where, clip_on=False, zorder=4,
            marker="x", linestyle="none", markersize=6, markeredgewidth=1.6,
        )  # fmt: skip


def dots_figure(
    records: Sequence[RunRecord],
    categories: Sequence[str],
    metrics: Sequence[str],
    over: Sequence[str] = (),
    frame: Frame = PLAIN,
) -> Figure:
    """A row for each choice: each run is a small dot, their mean a large one with its standard deviation."""
    choices = list(groups(records, categories))
    found = {metric: cells(records, categories, metric) for metric in metrics}
    names = [named(categories, choice, choices, keyed=len(categories) > 1) or "all runs" for choice in choices]
    wide, tall = 3.0 + 0.075 * max(map(len, names)), 1.0 + (0.18 + 0.09 * len(metrics)) * len(choices)
    figure = frame.figure(wide, tall, [*map(words, metrics)])
    axis = figure.subplots()
    for j, metric in enumerate(metrics):
        colour = look.CATEGORIES[len(metrics) - 1 - j]
        offset = 0.3 * (j - (len(metrics) - 1) / 2)
        label: str | None = words(metric)
        for i, choice in enumerate(choices):
            cell = found[metric].get(choice, Cell())
            if not cell.n:
                continue
            rows = np.full(cell.n, i + offset)
            if cell.n > 1:
                axis.plot(cell.values, rows, "o", color=colour, markersize=3, alpha=0.35, markeredgewidth=0)
            axis.errorbar(
                cell.mean, i + offset, xerr=cell.sd if cell.n > 1 else None, fmt="o", color=colour,
                markersize=5.5, linewidth=1.5, capsize=2.5, label=label,
            )  # fmt: skip
            label = None
    for i, choice in enumerate(choices):
        lost = found[metrics[-1]].get(choice, Cell()).diverged
        if lost:
            axis.text(1.01, i, f"{lost} diverged", transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    set_rows(axis, names, categories, metrics)
    axis.grid(True)
    counts = [cell.n for of_metric in found.values() for cell in of_metric.values() if cell.n]
    shown = "large: mean ± 1 standard deviation, small: each run" if max(counts, default=0) > 1 else ""
    remarks = (spread(over, counts), shown, best_epoch(metrics), unfinished(records))
    return frame.finish(figure, remarks, *axis.get_legend_handles_labels())


def set_rows(axis: Axes, names: Sequence[str], categories: Sequence[str], metrics: Sequence[str]) -> None:
    """Draws the names of the rows, the first at the top."""
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    same = {metric.rpartition("/")[2] for metric in metrics}
    axis.set_xlabel(same.pop().replace("_", " ") if len(same) == 1 else "")
    if len(categories) == 1:
        axis.set_ylabel(categories[0])
