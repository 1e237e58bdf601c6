"""Pictures of a linear model's training: the line through the points, and the path of its coefficients.

Run: ``python -m trainer evaluate RUN``, of a run such as ``python -m trainer data=apartments model=linear``

Shapes: N samples, D inputs, K targets, E epochs that ended.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from data import Facts
from trainer.analysis.load import Run
from trainer.plot.figures import rendered
from trainer.plot.look import CATEGORIES, log_axis
from trainer.rundir import curves
from trainer.rundir.errors import Damaged
from trainer.rundir.records import find_runs
from trainer.training import coefficients
from trainer.training.evaluation import to_host

Splits = Mapping[str, tuple[np.ndarray, ...]]  # name -> inputs (N, D), targets (N, K), and perhaps weights (N,)

COLOURS = {"train": CATEGORIES[0], "val": CATEGORIES[1], "test": CATEGORIES[2]}
FITTED = "black"  # colour of the checkpoint
MOST_MARKED = 50  # with at most so many epochs, each has a dot
MARGIN = 0.15  # around the path, as a share of its extent


@dataclass
class Way:
    """The path of a model's coefficients.

    Args:
        epochs: (E,); from 0 on with ``train.eval_untrained``.
        columns: of ``metrics.csv``: name -> (E,) numbers at these epochs.
        checkpoint: the drawn checkpoint, such as ``best``.
        epoch: of the checkpoint.
        fit: its coefficients, by column.
        least: those of least squares, by column; empty if not unique.
    """

    epochs: np.ndarray
    columns: dict[str, np.ndarray]
    checkpoint: str
    epoch: int
    fit: dict[str, float]
    least: dict[str, float]


def pictures(run: Run, checkpoint: str) -> Iterator[tuple[str, bytes]]:
    """``line.png`` of a model of one input and one target, else ``coefficients.png``; nothing for other models."""
    fit = coefficients.values(run.model, run.facts)
    found = recorded(run, list(fit)) if fit else None
    if found is None:
        return
    splits = {name: tuple(map(to_host, parts)) for name, parts in run.dataset.splits.items()}
    least = coefficients.least_squares(*splits["train"])
    best = {} if least is None else dict(zip(fit, least.flatten().tolist(), strict=True))
    way = Way(*found, checkpoint, run.epoch, fit, best)
    title = f"{run.facts.name}; {checkpoint} checkpoint, {run.moment}"
    if len(fit) == 2:
        yield "line.png", rendered(line, title, run.facts, splits, way)
    else:
        yield "coefficients.png", rendered(paths, title, way)


def recorded(run: Run, names: list[str]) -> tuple[np.ndarray, dict[str, np.ndarray]] | None:
    """Epochs with their measurements; None if no epoch has ended, or none has coefficients."""
    try:
        found = curves.numbers(curves.read(run.path) or b"")
    except Damaged:  # the model is whole, and is needed
        return None
    if any(name not in found for name in names):
        return None
    losses = [name for name in ("train/loss", "val/loss") if np.isfinite(found[name]).any()]
    epochs, columns = found["epoch"], {name: found[name] for name in [*names, *losses]}
    [record] = find_runs([run.path])
    untrained = record.summary.get("untrained")
    if untrained:
        epochs = np.append(0, epochs)
        start = {name: np.array(untrained.get(name), float) for name in columns}  # null becomes NaN
        columns = {name: np.append(start[name], column) for name, column in columns.items()}
    return epochs, columns


def line(title: str, facts: Facts, splits: Splits, way: Way) -> Figure:
    """Points with the fitted line; the loss; both coefficients by epoch, and their path over the error's contours."""
    figure = Figure(figsize=(11.5, 8.5), layout="constrained")
    cells: list[Any] = [["line", "slope"], ["line", "intercept"], ["loss", "plane"], ["loss", "plane"]]
    axes = figure.subplot_mosaic(cells, width_ratios=(1.1, 1))
    (x_name,), (y_name,) = coefficients.input_names(facts), facts.output_names[""]
    draw_points(axes["line"], splits, tuple(way.fit.values()), x_name, y_name)
    draw_losses(axes["loss"], way)
    for part, column in zip(("slope", "intercept"), way.fit, strict=True):
        draw_coefficient(axes[part], way, column)
        axes[part].set_ylabel(part)
    axes["slope"].sharex(axes["intercept"])
    axes["slope"].tick_params(labelbottom=False)
    axes["slope"].set_xlabel("")
    draw_plane(axes["plane"], way, splits["train"])
    axes["plane"].set(xlabel=f"slope ({y_name} / {x_name})", ylabel=f"intercept ({y_name})")
    for part in ("line", "loss", "slope", "intercept"):
        axes[part].spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    return figure


def paths(title: str, way: Way) -> Figure:
    """Each coefficient by epoch."""
    across = min(3, len(way.fit))
    down = -(-len(way.fit) // across)
    figure = Figure(figsize=(3.9 * across, 0.7 + 2.7 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).flat
    for axis, column in zip(axes, way.fit, strict=False):
        draw_coefficient(axis, way, column)
        axis.set_title(column.removeprefix(coefficients.PREFIX), fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in figure.axes[len(way.fit) :]:
        axis.axis("off")
    figure.suptitle(title)
    return figure


def draw_points(axis: Axes, splits: Splits, fit: Sequence[float], x_name: str, y_name: str) -> None:
    """The samples of each split, and the line y = slope x + intercept."""
    for split, (x_N1, y_N1, *_) in splits.items():
        alpha = 0.6 if len(x_N1) < 1000 else 0.2
        label = f"{split}, {len(x_N1):,} samples"
        axis.scatter(x_N1, y_N1, s=22, alpha=alpha, linewidths=0, color=COLOURS[split], label=label)
    slope, intercept = fit
    ends = np.array(axis.get_xlim())
    sign = "-" if intercept < 0 else "+"
    equation = f"{y_name} = {slope:.4g} {x_name} {sign} {abs(intercept):,.4g}"
    axis.plot(ends, slope * ends + intercept, color=FITTED, linewidth=1.6, label=equation)
    axis.set(xlim=ends, xlabel=x_name, ylabel=y_name)
    legend_above(axis)


def legend_above(axis: Axes) -> None:
    """Draws the legend above the axis."""
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=9, frameon=False)


def draw_losses(axis: Axes, way: Way) -> None:
    """Draws the loss in training and validation."""
    for split in ("train", "val"):
        if f"{split}/loss" in way.columns:
            label = "train, during each epoch" if split == "train" else "val, after each epoch"
            draw_curve(axis, way, f"{split}/loss", COLOURS[split], label=label)
    axis.set(xlabel="epoch", ylabel="loss")
    log_axis(axis, "y")
    axis.grid(which="both", color="0.92")
    axis.legend(fontsize=9, frameon=False)


def draw_coefficient(axis: Axes, way: Way, column: str) -> None:
    """Draws one coefficient by epoch, with that of least squares and a dot for the checkpoint."""
    if way.least:
        value = way.least[column]
        axis.axhline(value, color=CATEGORIES[1], linewidth=1.1, linestyle="--", label=f"least squares {value:.5g}")
    draw_curve(axis, way, column, CATEGORIES[0])
    value = way.fit[column]
    label = f"{way.checkpoint} checkpoint {value:.5g}"
    axis.plot(way.epoch, value, "o", color=FITTED, markersize=6, label=label, zorder=3)
    axis.set_xlabel("epoch")
    axis.legend(fontsize=9, frameon=False)


def draw_curve(axis: Axes, way: Way, column: str, colour: str, **how: Any) -> None:
    """Draws a column by epoch, where it was measured."""
    values = way.columns[column]
    there = np.isfinite(values)
    axis.plot(way.epochs[there], values[there], color=colour, marker=marker(way), markersize=3.5, **how)
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))


def marker(way: Way) -> str | None:
    """A dot for each of a few epochs."""
    return "o" if len(way.epochs) <= MOST_MARKED else None


def draw_plane(axis: Axes, way: Way, train: tuple[np.ndarray, ...]) -> None:
    """Draws the path of (slope, intercept) over contours of the root mean squared error of the training split."""
    path = [way.columns[column] for column in way.fit]
    reached = [np.array([*way.columns[c], way.fit[c], *([way.least[c]] if way.least else [])]) for c in way.fit]
    lows, highs = (np.array([end(values) for values in reached]) for end in (np.min, np.max))
    room = MARGIN * np.maximum(highs - lows, 1e-3 * np.maximum(np.abs(highs), 1e-9))
    slopes, intercepts = (np.linspace(*ends, 200) for ends in zip(lows - room, highs + room, strict=True))
    error = rmse(*np.meshgrid(slopes, intercepts), *train)
    least = rmse(*way.least.values(), *train) if way.least else error.min()
    levels = np.geomspace(max(least * 1.03, error.max() * 1e-3), error.max(), 9)[:-1]
    levels = np.unique([float(f"{level:.2g}") for level in levels])
    lines = axis.contour(slopes, intercepts, error, levels, cmap="Greys_r", linewidths=0.9, vmax=2 * levels[-1])
    axis.clabel(lines, levels[1:], fmt=lambda level: f"{level:,.6g}", fontsize=8)  # no room in the innermost
    axis.plot(*path, color=CATEGORIES[0], marker=marker(way), markersize=3.5, linewidth=1.3, label="after each epoch")
    axis.plot([], [], color="0.3", linewidth=0.9, label="rmse of training")
    axis.plot(*way.fit.values(), "o", color=FITTED, markersize=6, label=f"{way.checkpoint} checkpoint")
    if way.least:
        axis.plot(
            *way.least.values(), "x", color=CATEGORIES[1], markersize=12, markeredgewidth=1.6, label="least squares"
        )
    legend_above(axis)


def rmse(slopes: Any, intercepts: Any, x_N1: Any, y_N1: Any, *weights: Any) -> Any:
    """The root mean squared error of a line, or of an array of them, from the moments of the samples."""
    x, y = (np.asarray(v, np.float64).ravel() for v in (x_N1, y_N1))
    mean = functools.partial(np.average, weights=weights[0] if weights else None)
    dx, dy = x - mean(x), y - mean(y)
    apart = mean(y) - slopes * mean(x) - intercepts
    squared = mean(dy**2) - 2 * slopes * mean(dx * dy) + slopes**2 * mean(dx**2) + apart**2
    return np.sqrt(np.maximum(squared, 0))  # rounding may make it negative
