"""Pictures of a linear model's training: the line through its points, and the way of its coefficients to it.

Run: ``python -m trainer.evaluate RUN``, of a run such as ``python -m trainer data=apartments model=linear``

Shapes: N samples, D inputs, K targets, E epochs that ended.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trainer import coefficients
from trainer.evaluation import to_host
from trainer.figures import rendered
from trainer.plot.look import log_axis
from trainer.run_dir import Summary
from trainer.runs.curves import FILE, numbers
from trainer.runs.frozen import Damaged, read_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from data import Facts
    from trainer.reading import Run

Splits = Mapping[str, tuple[np.ndarray, ...]]  # name -> inputs (N, D), targets (N, K), and perhaps weights (N,)

COLOURS = {"train": "tab:blue", "val": "tab:orange", "test": "tab:green"}
FITTED = "black"
MOST_MARKED = 50  # epochs that have a dot each
MARGIN = 0.15  # around the path, of its extent


@dataclass
class Path:
    """How a model went: `values` by column, at `epochs`; with `train.eval_untrained` from epoch 0 on."""

    epochs: np.ndarray  # (E,)
    values: Mapping[str, np.ndarray]  # column -> (E,)


def pictures(run: Run, checkpoint: str) -> Iterator[tuple[str, bytes]]:
    """``line.png`` of a model of one input and one target, else ``coefficients.png``; nothing of other models."""
    names = coefficients.columns(run.model, run.facts)
    path = read_path(run, names) if names else None
    if path is None:
        return
    title = f"{run.facts.name}; {checkpoint} checkpoint, {run.moment}"
    splits = {name: tuple(map(to_host, parts)) for name, parts in run.dataset.splits.items()}
    least = coefficients.least_squares(*splits["train"])
    if len(names) == 2:
        slope, intercept = coefficients.measured(run.model, run.facts).values()
        yield "line.png", rendered(line, title, run.facts, splits, (slope, intercept), path, least)
    else:
        yield "coefficients.png", rendered(paths, title, names, path, least)


def read_path(run: Run, names: list[str]) -> Path | None:
    """The columns of ``metrics.csv`` that are drawn; None where no epoch has ended, or the run has no coefficients."""
    try:
        found = numbers(read_bytes(run.path, FILE) or b"")
    except Damaged:  # the model is whole, and is what was asked for
        return None
    if any(name not in found for name in names):
        return None
    epochs, losses = found["epoch"], [name for name in ("train/loss", "val/loss") if np.isfinite(found[name]).any()]
    values = {name: found[name] for name in [*names, *losses]}
    start = Summary.read(run.path).data.get("untrained")
    if start and epochs[0] == 1:
        epochs = np.append(0, epochs)
        values = {name: np.append(start.get(name, np.nan), column) for name, column in values.items()}
    return Path(epochs, values)


def line(
    title: str, facts: Facts, splits: Splits, fit: tuple[float, float], path: Path, least: np.ndarray | None
) -> Figure:
    """Points with the fitted line; the loss; both coefficients by epoch, and their path over the error's contours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 8.5), layout="constrained")
    cells = [["line", "slope"], ["line", "intercept"], ["loss", "plane"], ["loss", "plane"]]
    axes = figure.subplot_mosaic(cells, width_ratios=(1.1, 1))
    (x_name,), (y_name,) = coefficients.input_names(facts), facts.output_names[""]
    draw_points(axes["line"], splits, fit, x_name, y_name)
    draw_losses(axes["loss"], path)
    names = [name for name in path.values if name.startswith(coefficients.PREFIX)]
    for k, (where, name) in enumerate(zip(("slope", "intercept"), names, strict=True)):
        draw_coefficient(axes[where], path, name, None if least is None else least[0, k])
        axes[where].set_ylabel(where)
    axes["slope"].sharex(axes["intercept"])
    axes["slope"].tick_params(labelbottom=False)
    axes["slope"].set_xlabel("")
    draw_plane(axes["plane"], [path.values[name] for name in names], splits["train"], least)
    axes["plane"].set(xlabel=f"slope ({y_name} / {x_name})", ylabel=f"intercept ({y_name})")
    for name in ("line", "loss", "slope", "intercept"):
        axes[name].spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    return figure


def paths(title: str, names: list[str], path: Path, least: np.ndarray | None) -> Figure:
    """Each coefficient by epoch, against that of least squares."""
    from matplotlib.figure import Figure

    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(3.9 * across, 0.7 + 2.7 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).flat
    values = [None] * len(names) if least is None else least.flatten()
    for axis, name, value in zip(axes, names, values, strict=False):
        draw_coefficient(axis, path, name, value)
        axis.set_title(name.removeprefix(coefficients.PREFIX), fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in figure.axes[len(names) :]:
        axis.axis("off")
    figure.suptitle(title)
    return figure


def draw_points(axis: Axes, splits: Splits, fit: tuple[float, float], x_name: str, y_name: str) -> None:
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
    axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, fontsize=9, frameon=False)


def draw_losses(axis: Axes, path: Path) -> None:
    """Of training and validation."""
    for split in ("train", "val"):
        if f"{split}/loss" in path.values:
            draw_curve(axis, path, f"{split}/loss", COLOURS[split], split)
    axis.set(xlabel="epoch", ylabel="loss")
    log_axis(axis, "y")
    axis.grid(which="both", color="0.92")
    axis.legend(fontsize=9, frameon=False)


def draw_coefficient(axis: Axes, path: Path, name: str, least: float | None) -> None:
    """One coefficient by epoch, against that of least squares."""
    if least is not None:
        axis.axhline(least, color="0.4", linewidth=1.1, linestyle="--", label=f"least squares {least:.5g}")
    draw_curve(axis, path, name, "tab:blue", f"epoch {path.epochs[-1]:.0f}: {path.values[name][-1]:.5g}")
    axis.set_xlabel("epoch")
    axis.legend(fontsize=9, frameon=False)


def draw_curve(axis: Axes, path: Path, name: str, colour: str, label: str) -> None:
    """A column by epoch, where it was measured."""
    from matplotlib.ticker import MaxNLocator

    there = np.isfinite(path.values[name])
    marker = "o" if len(path.epochs) <= MOST_MARKED else None
    axis.plot(path.epochs[there], path.values[name][there], color=colour, marker=marker, markersize=3.5, label=label)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def draw_plane(axis: Axes, way: list[np.ndarray], train: tuple[np.ndarray, ...], least: np.ndarray | None) -> None:
    """The path of (slope, intercept), over contours of the root mean squared error of the training split."""
    reached = way if least is None else [np.append(w, value) for w, value in zip(way, least[0], strict=True)]
    lows, highs = (np.array([end(r) for r in reached]) for end in (np.min, np.max))
    room = MARGIN * np.maximum(highs - lows, 1e-3 * np.maximum(np.abs(highs), 1e-9))
    slopes, intercepts = (np.linspace(*ends, 200) for ends in zip(lows - room, highs + room, strict=True))
    error = rmse(*np.meshgrid(slopes, intercepts), *train)
    least_error = error.min() if least is None else rmse(*least[0], *train)
    levels = np.geomspace(max(least_error * 1.03, error.max() * 1e-3), error.max(), 9)[:-1]
    levels = np.unique([float(f"{level:.2g}") for level in levels])
    lines = axis.contour(slopes, intercepts, error, levels, cmap="Greys_r", linewidths=0.9, vmax=2 * levels[-1])
    axis.clabel(lines, levels[1:], fmt=lambda level: f"{level:,.6g}", fontsize=8)  # the innermost has no room
    axis.plot(*way, color="tab:blue", marker="o", markersize=3.5, linewidth=1.3, label="after each epoch")
    if least is not None:
        axis.plot(*least[0], "x", color="tab:red", markersize=9, markeredgewidth=2, label="least squares")
    axis.set_title("contours: root mean squared error of training", fontsize=10)
    axis.legend(fontsize=9)


def rmse(slopes: np.ndarray, intercepts: np.ndarray, x_N1: np.ndarray, y_N1: np.ndarray, *weights) -> np.ndarray:
    """The root mean squared error of any number of lines, from the moments of the samples."""
    x, y = (np.asarray(v, np.float64).ravel() for v in (x_N1, y_N1))
    mean = functools.partial(np.average, weights=weights[0] if weights else None)
    dx, dy = x - mean(x), y - mean(y)
    apart = mean(y) - slopes * mean(x) - intercepts
    return np.sqrt(mean(dy**2) - 2 * slopes * mean(dx * dy) + slopes**2 * mean(dx**2) + apart**2)
