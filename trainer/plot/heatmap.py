"""A metric over two numbers, as a map whose cells are means of the runs that share both; without a grid, as points.

Cells are equally wide, in the order of the numbers, so powers of ten are drawn on a logarithmic scale. Diverged runs
are hatched and labelled, not only coloured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from trainer.plot import look
from trainer.plot.frame import PLAIN, Frame
from trainer.plot.scale import Scale, labels
from trainer.plot.values import Cell, cells, higher_is_better, spread, unfinished, words
from trainer.rundir.records import RunRecord

LONE = "div."  # text of a cell of diverged runs
CHARACTER = 0.09  # width of a title's character in inches
SCATTERED = 12  # with so many numbers along an axis, a mostly empty map is drawn as points


@dataclass
class Panel:
    """One map: its title, its metric and its cells by (x, y)."""

    title: str
    metric: str
    cells: dict[tuple[Any, ...], Cell]


def heatmap_figure(
    rows: Sequence[tuple[str, Sequence[RunRecord]]],
    keys: tuple[str, str],
    metrics: Sequence[str],
    over: Sequence[str] = (),
    frame: Frame = PLAIN,
) -> Figure:
    """A row of maps for each choice, a map for each metric, all with the same axes.

    Args:
        rows: name and runs of each row.
        keys: of the x and y axes.
        over: keys in which the runs of one cell differ, for the caption.
    """
    records = [record for _, of_row in rows for record in of_row]
    panels = [
        [Panel(f"{words(m)}, {name}" if name else words(m), m, cells(of_row, keys, m)) for m in metrics]
        for name, of_row in rows
    ]
    found = {place for row in panels for panel in row for place in panel.cells}
    x, y = (Scale.of(key, {place[i] for place in found}) for i, key in enumerate(keys))
    grid = max(len(x.values), len(y.values)) < SCATTERED or 3 * len(found) > len(x.values) * len(y.values)
    side = cell_side(x, y) if grid else (0.0, 0.0)
    inside = (side[0] * len(x.values), side[1] * len(y.values)) if grid else (3.0, 2.6)
    longest = max((panel.title for row in panels for panel in row), key=len)
    two_lines = len(longest) * CHARACTER > inside[0]
    shared = shared_scale(metrics)
    bars = 1 if shared else len(metrics)
    across, down = (
        inside[0] * len(metrics) + 0.75 * bars + 0.8,
        (inside[1] + 0.35 + 0.2 * two_lines) * len(rows) + 0.75,
    )
    figure = frame.figure(max(across, 3.3), max(down, 2.2))
    axes = figure.subplots(len(rows), len(metrics), squeeze=False, sharex=True, sharey=True)
    norms = [colours_of([p.cells for row in panels for p in (row if shared else row[i : i + 1])]) for i in range(bars)]
    norms = norms * len(metrics) if shared else norms
    for of_row, line in zip(panels, axes, strict=True):
        for axis, panel, norm in zip(line, of_row, norms, strict=True):
            better = higher_is_better(records, panel.metric)
            (draw_map if grid else draw_points)(axis, panel, (x, y), norm, better)
            axis.set_title(panel.title.replace(", ", "\n", 1) if two_lines else panel.title)
    name_axes(axes, x, y, grid)
    for i in range(bars):
        add_bar(figure, axes if shared else axes[:, i], norms[i], records, metrics[i], shared)
    fit_text(figure, axes)
    marked = [cell for row in panels for panel in row for cell in panel.cells.values()]
    counts = [cell.n for cell in marked if cell.n]
    lost = any(cell.diverged for cell in marked)
    bold = "bold: best" if grid and len(counts) > 1 else ""
    hatched = ("hatched" if grid else "crosses") + ": diverged" if lost else ""
    return frame.finish(figure, (spread(over, counts), best_epoch(metrics), bold, hatched, unfinished(records)))


def shared_scale(metrics: Sequence[str]) -> bool:
    """Whether all panels show one metric of different splits, and so share colours."""
    return len({metric.rpartition("/")[2] for metric in metrics}) == 1


def best_epoch(metrics: Sequence[str]) -> str:
    """The epoch of metrics that change from epoch to epoch, for the caption."""
    names = [words(m) for m in metrics if m.startswith(("train/", "val/", "optim/", "time/"))]
    return f"{', '.join(names)} at the best epoch" if names else ""


def colours_of(maps: Sequence[dict[tuple[Any, ...], Cell]]) -> Normalize:
    return look.colour_range([cell.mean for of_map in maps for cell in of_map.values() if cell.n])


def cell_side(x: Scale, y: Scale) -> tuple[float, float]:
    """The side of a cell in inches: its number is legible and the map has the width of a column."""
    return side(x, 0.62, 3.2), side(y, 0.5, 2.9)


def side(scale: Scale, most: float, whole: float) -> float:
    """One side of a cell in inches: at most `most`, about `whole` for all cells."""
    return min(most, max(whole / len(scale.values), min(0.2, 9 / len(scale.values))))


def draw_map(axis: Axes, panel: Panel, scales: tuple[Scale, Scale], norm: Normalize, better: bool) -> None:
    """Draws cells with their numbers; white without runs."""
    x, y = scales
    shades = look.colour_map(reverse=not better)
    texts = cell_texts(list(panel.cells.values()))
    means = [cell.mean for cell in panel.cells.values() if cell.n]
    best = (max if better else min)(means, default=None)
    for (place, cell), text in zip(panel.cells.items(), texts, strict=True):
        i, j = x.values.index(place[0]), y.values.index(place[1])
        colour = shades(norm(cell.mean)) if cell.n else look.PALE
        ink = look.against(colour) if cell.n else "0.25"
        hatch = "////" if not cell.n else "//" if cell.diverged else None
        edge = ink if cell.n else "0.7"
        axis.add_patch(Rectangle((i - 0.5, j - 0.5), 1, 1, facecolor=colour, edgecolor=edge, hatch=hatch, linewidth=0))
        axis.add_patch(Rectangle((i - 0.5, j - 0.5), 1, 1, fill=False, edgecolor="white", linewidth=1))
        back = {"facecolor": colour, "edgecolor": "none", "pad": 0.8} if cell.diverged else None
        axis.text(i, j, text, ha="center", va="center", color=ink, bbox=back, linespacing=0.95,
                  weight="bold" if cell.mean == best else "normal")  # fmt: skip
    axis.set(xlim=(-0.5, len(x.values) - 0.5), ylim=(-0.5, len(y.values) - 0.5))
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def draw_points(axis: Axes, panel: Panel, scales: tuple[Scale, Scale], norm: Normalize, better: bool) -> None:
    """Draws a point for each pair of numbers, a cross if all its runs diverged."""
    kept = {place: cell for place, cell in panel.cells.items() if cell.n}
    lost = [place for place, cell in panel.cells.items() if not cell.n]
    colours = look.colour_map(reverse=not better)(norm([cell.mean for cell in kept.values()]))
    x, y = ([scale.place(place[i]) for place in kept] for i, scale in enumerate(scales))
    axis.scatter(x, y, c=colours, s=26, edgecolors="0.3", linewidths=0.4, zorder=3)
    x, y = ([scale.place(place[i]) for place in lost] for i, scale in enumerate(scales))
    axis.scatter(x, y, marker="x", c="0.35", s=18, linewidths=1, zorder=2)
    axis.grid(True)


def cell_texts(found: Sequence[Cell]) -> list[str]:
    """The number of each cell: three decimals of shares, three digits of others; and the number of diverged runs."""
    means = [cell.mean for cell in found if cell.n]
    shares = all(0 <= v <= 1 for v in means) and max(means, default=0) >= 0.1

    def written(cell: Cell) -> str:
        if not cell.n:
            return LONE
        number = f"{cell.mean:.3f}" if shares else short(cell.mean)
        return f"{number}\n{cell.diverged} {LONE}" if cell.diverged else number

    return [written(cell) for cell in found]


def short(value: float) -> str:
    """Three digits, and powers only if nothing else fits: 0.0123, 2.31, 145, 1.2e5."""
    if value and not 1e-3 <= abs(value) < 1e4:
        return labels([float(f"{value:.2g}")])[0]
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:.{min(digits, 4)}f}"


def name_axes(axes: Any, x: Scale, y: Scale, grid: bool) -> None:
    """Draws numbers along the outer axes, all if they fit."""
    for axis in axes[-1]:
        axis.set_xlabel(x.key)
    for line in axes:
        line[0].set_ylabel(y.key)
    for axis in axes.flat:
        for which, scale in ((axis.xaxis, x), (axis.yaxis, y)):
            if grid:
                step = math.ceil(len(scale.values) / 14)
                which.set_ticks(range(0, len(scale.values), step), labels(scale.values)[::step])
            else:
                which.set_ticks(*scale.ticks())


def add_bar(
    figure: Figure, axes: Any, norm: Normalize, records: Sequence[RunRecord], metric: str, shared: bool
) -> None:
    """Draws the colour bar; bright is better for every metric."""
    better = higher_is_better(records, metric)
    name = metric.rpartition("/")[2].replace("_", " ") if shared and metric != "best" else words(metric)
    mappable = ScalarMappable(norm, look.colour_map(reverse=not better))
    bar = figure.colorbar(mappable, ax=axes, label=name, aspect=25, pad=0.02)
    bar.outline.set_visible(False)
    if not better:
        bar.ax.invert_yaxis()
    if isinstance(norm, LogNorm):
        look.decimal(bar.ax.yaxis)
        bar.ax.minorticks_off()


def fit_text(figure: Figure, axes: Any) -> None:
    """Sets the largest font size that fits the cells; no text if it would be too small."""
    texts = [text for axis in axes.flat for text in axis.texts]
    if not texts:
        return
    figure.draw_without_rendering()
    axis = axes.flat[0]
    box = axis.get_window_extent()
    wide, tall = (
        72 / figure.dpi * pixels / abs(ends[1] - ends[0])
        for pixels, ends in ((box.width, axis.get_xlim()), (box.height, axis.get_ylim()))
    )
    for text in texts:
        lines = text.get_text().split("\n")
        size = min(9.0, 0.9 * wide / (0.62 * max(map(len, lines))), 0.8 * tall / (1.1 * len(lines)))
        text.set_fontsize(size)
        if size < 4:
            text.set_visible(False)
    numbers = [label.get_text() for label in axes.flat[-1].get_xticklabels()]
    step = axis.get_xticks()[1] - axis.get_xticks()[0] if len(numbers) > 1 else 1
    size = step * wide / (0.7 * max(map(len, numbers)))  # of adjacent numbers below the map
    for axis in axes[-1]:
        axis.tick_params(axis="x", rotation=90 if size < 6 else 0, labelsize=9 if size < 6 else min(9, size))
