"""Metrics over epochs, steps or seconds: a line for each run, or the mean of repeated runs with a band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from trainer.plot import look
from trainer.plot.frame import PLAIN, Frame
from trainer.plot.lines import Line, all_lines
from trainer.plot.scale import Scale, order
from trainer.plot.values import groups, higher_is_better, named, words
from trainer.rundir.errors import Refused
from trainer.rundir.records import RunRecord, differing

LISTED = 20  # of a legend; more colours cannot be told apart
SHADED = 8  # values of a number in a legend; more get a colour bar
CROSS: dict[str, Any] = {"marker": "x", "linestyle": "none", "markersize": 6, "markeredgewidth": 1.6, "zorder": 4}
WIDE = 100.0  # if the greatest value of a metric is so many times the least, its axis is logarithmic


@dataclass
class Look:
    """Colours by the values of one key or by all combinations, and dashes."""

    keys: list[str]
    scale: Scale | None = None  # of the numbers behind colours
    colours: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    dashes: dict[tuple[Any, ...], Any] = field(default_factory=dict)
    dashed: dict[str, Any] = field(default_factory=dict)  # values of dashes alone
    plain: bool = False  # too many to distinguish


def looks(records: Sequence[RunRecord], by: Sequence[str]) -> Look:
    """Colours for a key and dashes for the others if these are few, else colours for all combinations."""
    found = Look(list(by))
    combinations = list(groups(records, by))
    for i, key in enumerate(by):
        scale = Scale.of(key, {c[i] for c in combinations})
        others = sorted({c[:i] + c[i + 1 :] for c in combinations}, key=lambda other: [*map(order, other)])
        barred = scale.kind != "category" and len(scale.values) > SHADED
        crossed = len(scale.values) * len(others) == len(combinations)
        enough = scale.kind != "category" or len(scale.values) <= len(look.CATEGORIES)
        if len(others) <= len(look.DASHES) and (barred or (crossed and enough)):
            shade = look.shades(scale)
            found.colours = {c: shade[c[i]] for c in combinations}
            found.dashes = {c: look.DASHES[others.index(c[:i] + c[i + 1 :])] for c in combinations}
            found.scale = scale if barred else None
            keys = [k for k in by if k != key]
            found.dashed = {named(keys, o, others): dash for o, dash in zip(others, look.DASHES, strict=False)}
            return found
    if len(combinations) <= min(LISTED, len(look.CATEGORIES) * len(look.DASHES)):
        per = len(look.CATEGORIES)
        found.colours = {c: look.CATEGORIES[i % per] for i, c in enumerate(combinations)}
        found.dashes = {c: look.DASHES[i // per] for i, c in enumerate(combinations)}
    else:
        found.plain = True
        found.colours, found.dashes = dict.fromkeys(combinations, look.CATEGORIES[0]), dict.fromkeys(combinations, "-")
    return found


def curves_figure(
    records: Sequence[RunRecord],
    x: str,
    ys: Sequence[str],
    by: Sequence[str] | None = None,
    band: Sequence[str] | None = None,
    log: tuple[bool | None, bool | None] = (None, None),
    frame: Frame = PLAIN,
) -> Figure:
    """A panel for each metric of `ys`.

    Args:
        by: keys of the colours; None: all in which the runs differ.
        band: keys to average over; None: one line per run.
        log: whether the x and y axes are logarithmic; None: by the numbers.

    Raises:
        Refused: nothing to draw.
    """
    if by is None:
        by = [key for key in differing(records) if key not in (band or ())]
    panels = [(y, all_lines(records, x, y, by, band)) for y in ys]
    for y, lines in panels:
        if not any(len(line.x) for line in lines):
            raise Refused(f"--y={y}: none of the {len(records)} runs has a number of it yet")
    how = looks(records, by)
    entries = [] if how.plain else legend_entries(how, [line for _, lines in panels for line in lines])
    handles, texts = [handle for handle, _ in entries], [text for _, text in entries]
    across = 2 if len(panels) == 4 else min(3, len(panels))
    down = math.ceil(len(panels) / across)
    bar = how.scale
    wide = 0.4 + (4.0 if len(panels) == 1 else 3.1) * across + (0.8 if bar else 0.0)
    figure = frame.figure(wide, (2.9 if len(panels) == 1 else 2.5) * down + 0.3, texts)
    axes = figure.subplots(down, across, squeeze=False).flat
    for axis, (y, lines) in zip(axes, panels, strict=False):
        draw_lines(axis, lines, how, band is not None)
        axis.set(xlabel=words(x), ylabel=words(y))
        falls = not higher_is_better(records, y)
        set_axes(axis, lines, how, log, falls)
    for axis in figure.axes[len(panels) :]:
        axis.axis("off")
    if bar:
        add_bar(figure, bar)
    head = by[0] if len(by) == 1 and not bar else None
    return frame.finish(figure, remarks(panels, how, band, len(records)), handles, texts, head)


def draw_lines(axis: Axes, lines: Sequence[Line], how: Look, banded: bool) -> None:
    """Draws lines with their bands; a cross at the end of a diverged run."""
    many, drawn = len(lines) > LISTED, [line for line in lines if len(line.x)]
    means, runs = ([line for line in drawn if (line.sd is not None) is mean] for mean in (True, False))
    stroke(axis, runs, how, linewidth=0.8 if many else 1.2, alpha=0.55 if many or banded else 0.9, zorder=2)
    stroke(axis, means, how, linewidth=1.7, alpha=1.0, zorder=3)
    fill(axis, means, how)
    lost = [line for line in runs if line.diverged]
    mark(axis, lost, [line.y[-1] for line in lost], how)
    axis.grid(True)
    if all((line.x == line.x.astype(int)).all() for line in lines):
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def stroke(axis: Axes, lines: Sequence[Line], how: Look, *, linewidth: float, alpha: float, zorder: int) -> None:
    """Draws lines, and dots for single points; as one artist, since matplotlib takes a millisecond for each."""
    if len(lines) <= LISTED:
        for line in lines:
            dot = "o" if len(line.x) == 1 and not line.diverged else None
            axis.plot(
                *(line.x, line.y), color=how.colours[line.setting], linestyle=how.dashes[line.setting],
                linewidth=linewidth, alpha=alpha, zorder=zorder, marker=dot, markersize=3,
            )  # fmt: skip
        return
    colours, dashes = ([of[line.setting] for line in lines] for of in (how.colours, how.dashes))
    points = [np.column_stack((line.x, line.y)) for line in lines]
    axis.add_collection(
        LineCollection(
            points, colors=colours, linestyles=dashes, linewidths=linewidth, alpha=alpha, zorder=zorder,
            capstyle="projecting" if {*dashes} == {"-"} else "butt", joinstyle="round",
        )
    )  # fmt: skip
    single = [i for i, line in enumerate(lines) if len(line.x) == 1 and not line.diverged]
    if single:
        x, y = np.concatenate([points[i] for i in single]).T
        axis.scatter(x, y, s=9, color=[colours[i] for i in single], alpha=alpha, linewidths=1, zorder=zorder)
    axis.autoscale_view()


def fill(axis: Axes, means: Sequence[Line], how: Look) -> None:
    """Draws the bands of one standard deviation as one artist; no band for one run."""
    bands, colours = [], []
    for line in means:
        if line.sd is None or line.n[1] == 1:
            continue
        low, high = (np.column_stack((line.x, line.y + sign * line.sd)) for sign in (-1, 1))
        for part in np.ma.clump_unmasked(np.ma.masked_invalid(line.sd)):
            bands.append(np.concatenate((low[part], high[part][::-1])))
            colours.append(how.colours[line.setting])
    if bands:
        axis.add_collection(PolyCollection(bands, facecolors=colours, alpha=0.2, linewidths=0))
        axis.autoscale_view()


def mark(axis: Axes, lines: Sequence[Line], heights: Sequence[float], how: Look, **options: Any) -> None:
    """Draws crosses at these heights at the ends of lines."""
    for colour in dict.fromkeys(how.colours[line.setting] for line in lines):
        own = [(line.x[-1], y) for line, y in zip(lines, heights, strict=True) if how.colours[line.setting] == colour]
        axis.plot(*zip(*own, strict=True), color=colour, **CROSS, **options)


def set_axes(axis: Axes, lines: Sequence[Line], how: Look, log: tuple[bool | None, bool | None], falls: bool) -> None:
    """Sets scale and range of the axes; diverged runs do not count for the range if there are others.

    Args:
        falls: whether lower values are better; other metrics, such as accuracies, are linear by default.
    """
    kept = [line for line in lines if len(line.x) and not line.diverged] or [line for line in lines if len(line.x)]
    values = np.concatenate([line.y for line in kept])
    positive = values[values > 0]
    wide = len(positive) == len(values) and values.max() >= WIDE * values.min()
    log_y = log[1] if log[1] is not None else falls and wide
    if log_y and not len(positive):
        raise Refused("--log-y: no number is positive; --no-log-y draws them")
    low, high = (positive if log_y else values).min(), values.max()
    everything = np.concatenate([line.y for line in lines])
    if log_y:
        low, high = low / (high / low) ** 0.05, high * (high / low) ** 0.05
        if high > low:
            axis.set_ylim(low, high)
        look.log_axis(axis, "y")
    elif everything.max() > high + 2 * (high - low) or everything.min() < low - 2 * (high - low):
        banded = [(line.y, np.nan_to_num(line.sd)) for line in kept if line.sd is not None]
        low = min([low, *(float((y - sd).min()) for y, sd in banded)])
        high = max([high, *(float((y + sd).max()) for y, sd in banded)])
        margin = 0.05 * (high - low) or 0.05 * abs(high) or 1
        axis.set_ylim(low - margin, high + margin)
    if log[0]:
        if not any((line.x > 0).any() for line in lines):
            raise Refused("--log-x: no number is positive")
        look.log_axis(axis, "x")
    bottom, top = axis.get_ylim()  # ends outside the picture are marked at its edge
    left = [line for line in lines if line.diverged and len(line.x) and not bottom <= line.y[-1] <= top]
    mark(axis, left, [top if line.y[-1] > top else bottom for line in left], how, clip_on=False)


def legend_entries(how: Look, lines: Sequence[Line]) -> list[tuple[Any, str]]:
    """Handles and texts: each combination of values, with its number of runs if these differ, and a cross."""
    found: list[tuple[Any, str]] = []
    combinations = list(how.colours)
    counts_differ = len({line.n for line in lines if line.sd is not None}) > 1  # else the caption has the number
    if how.scale is None and how.keys:
        for combination in combinations:
            own = [line for line in lines if line.setting == combination]
            text = named(how.keys, combination, combinations, keyed=len(how.keys) > 1)
            counts = [n for line in own if line.sd is not None for n in line.n]
            lost = bool(own) and all(line.diverged for line in own)
            notes = [counted(min(counts), max(counts))] if counts_differ and counts else []
            notes += ["diverged" if any(len(line.x) for line in own) else "diverged in its first epoch"] if lost else []
            text += f"  ({', '.join(notes)})" if notes else ""
            style = {"color": how.colours[combination], "linestyle": how.dashes[combination], "linewidth": 1.8}
            found.append((Line2D([], [], **style), text))
    if how.scale is not None and len(how.dashed) > 1:
        found = [(Line2D([], [], color="0.25", linestyle=dash), text) for text, dash in how.dashed.items()]
    if found and any(line.diverged and len(line.x) for line in lines):
        found.append((Line2D([], [], color=look.GREY, **CROSS), "diverged"))
    return found


def counted(low: int, high: int) -> str:
    return f"n = {high}" if low == high else f"n = {low}–{high}"


def add_bar(figure: Figure, scale: Scale) -> None:
    """Draws the colour bar of a number with many values."""
    places = [scale.place(value) for value in scale.values]
    shown = ListedColormap(look.colour_map()(np.linspace(0, look.BRIGHTEST, 256)))
    mappable = ScalarMappable(Normalize(min(places), max(places)), shown)
    bar = figure.colorbar(mappable, ax=figure.axes, label=scale.key, aspect=30, pad=0.02)
    places, texts = scale.ticks()
    bar.set_ticks(places, labels=texts)
    bar.minorticks_off()
    bar.outline.set_visible(False)


def remarks(panels: Sequence[tuple[str, list[Line]]], how: Look, band: Sequence[str] | None, runs: int) -> list[str]:
    """The caption: kind, number and colours of the lines."""
    lines = panels[0][1]
    lost = sum(line.diverged for line in lines)
    said = []
    if band is not None:
        counts = [n for _, of_panel in panels for line in of_panel if line.sd is not None for n in line.n]
        shown = f" ({counted(min(counts), max(counts))})" if counts else ""
        said.append(f"line: mean over {', '.join(band)}{shown}; band: ± 1 standard deviation")
        said.append("diverged runs are thin lines" if lost else "")
    else:
        said.append(f"{runs} run{'s' * (runs > 1)}" if runs > 1 else "")
    if lost and (how.plain or (how.scale and len(how.dashed) < 2)):
        said.append(f"×: diverged ({lost})")
    if how.plain:
        said.append("--by KEY gives them colours")
    empty = sum(not len(line.x) and not line.diverged for line in lines)
    if empty:
        said.append(f"{empty} without numbers yet")
    return said
