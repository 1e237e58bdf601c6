"""The look of pictures: colours that colour-blind readers can distinguish, sizes for a paper's column, captions."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from trainer.plot.scale import Scale, labels

DPI = 200
# Okabe and Ito's colours, without yellow, which is too pale on white.
CATEGORIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LOOK = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9.5,
    "figure.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.edgecolor": "0.3",
    "xtick.color": "0.2",
    "ytick.color": "0.2",
    "grid.color": "0.9",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.title_fontsize": 8.5,
    "hatch.linewidth": 0.6,
    "axes.prop_cycle": f"cycler('color', {list(CATEGORIES)})",
}
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.6)), (0, (1, 1.3)), (0, (5, 1.5, 1, 1.5)))
GREY, PALE = "0.55", "0.93"
MAP, BRIGHTEST = "viridis", 0.84  # of lines: the end of the map is too pale on white


def colour_map(reverse: bool = False) -> Any:
    """The colours of numbers, from dark to bright."""
    return colormaps[MAP + "_r" * reverse]


def shades(scale: Scale) -> dict[Any, Any]:
    """A colour for each value: distinct ones for categories, from dark to bright for numbers."""
    if scale.kind == "category" or len(scale.values) < 3:
        return {value: CATEGORIES[i % len(CATEGORIES)] for i, value in enumerate(scale.values)}
    places = [scale.place(value) for value in scale.values]
    low, high = min(places), max(places)
    return {v: colour_map()(BRIGHTEST * (p - low) / (high - low)) for v, p in zip(scale.values, places, strict=True)}


def colour_range(values: Sequence[float]) -> Normalize:
    """A norm from the least to the greatest value; logarithmic if a positive metric spans two powers of ten."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low > 0 and high >= 100 * low:
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + max(abs(low), 1.0) * 1e-6)


def against(colour: Any) -> str:
    """Black or white, whichever is legible on the colour (relative luminance of sRGB)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if luminance > 0.179 else "white"  # at equal contrast


def ticks(axis: Axis, scale: Scale) -> None:
    """Sets the scale's ticks, and its key as the axis's name."""
    places, texts = scale.ticks()
    axis.set_ticks(places, texts)
    axis.set_label_text(scale.key)
    figure = axis.axes.get_figure(root=True)
    if axis is axis.axes.xaxis and len(places) > 1 and figure is not None:
        gap = min(abs(b - a) for a, b in pairwise(places)) / (max(places) - min(places))
        room = 0.6 * gap * figure.get_figwidth()  # inches; the axes have most of the width
        axis.set_tick_params(rotation=90 if room < CHARACTER * max(map(len, texts)) else 0)


def caption(figure: Figure, *remarks: str, y: float | None = None) -> None:
    """Draws a caption below the picture, or from `y` up: what it shows, and what it leaves out."""
    said = sentence(remarks)
    if said:
        figure.supxlabel(wrapped(said, figure), x=0.01, y=y, va="bottom", ha="left", fontsize=7.5, color="0.35")


def sentence(remarks: Sequence[str]) -> str:
    """The remarks of a caption that there are, in one line."""
    return "; ".join(remark for remark in remarks if remark)


def wrapped(text: str, figure: Figure, size: float = 7.5) -> str:
    """The text broken to the figure's width."""
    return textwrap.fill(text, max(20, int(figure.get_figwidth() * 72 / (0.56 * size))), break_long_words=False)


def heading(figure: Figure, title: str | None) -> None:
    """Draws the title, if any, broken to the width."""
    if title:
        figure.suptitle(wrapped(title, figure, 11), fontsize=11)


CHARACTER = 0.075  # inches of a tick's character
LINE = 0.15  # inches of a line of a legend below, or of a caption
LONGEST = 36  # characters of a line of a legend


def folded(texts: Sequence[str]) -> list[str]:
    """The texts of a legend, long ones in several lines."""
    return ["\n".join(textwrap.wrap(text, LONGEST, break_long_words=False)) for text in texts]


def legend_room(texts: Sequence[str]) -> tuple[float, float]:
    """Width and height in inches of a legend with these texts."""
    lines = [line for text in folded(texts) for line in text.split("\n")]
    return (0.5 + 0.07 * max(map(len, lines)), 0.4 + 0.145 * len(lines) + 0.05 * len(texts)) if texts else (0.0, 0.0)


def legend(figure: Figure, handles: Sequence[Any], texts: Sequence[str], title: str | None = None) -> None:
    """Draws a legend beside the axes."""
    made = figure.legend(handles, folded(texts), loc="outside right upper", title=title, handlelength=2.3)
    made.set_alignment("left")


def legend_inside(figure: Figure, handles: Sequence[Any], texts: Sequence[str], title: str | None = None) -> None:
    """Draws a small legend in the first axes, over a pale ground."""
    made = figure.axes[0].legend(handles, folded(texts), title=title, handlelength=1.8, fontsize=6.5)
    made.set(frame_on=True, alignment="left")
    made.get_frame().set(facecolor="white", alpha=0.75, linewidth=0)
    made.get_title().set_fontsize(6.5)


def columns_below(texts: Sequence[str], width: float) -> int:
    """How many columns of these texts fit below axes of this width in inches."""
    longest = max(len(line) for text in folded(texts) for line in text.split("\n"))
    return min(len(texts), max(1, int(width / (0.45 + 0.07 * longest))))


def lines_below(texts: Sequence[str], width: float, title: str | None = None) -> int:
    """How many lines a legend below axes of this width in inches has."""
    lines = max(text.count("\n") + 1 for text in folded(texts))
    return math.ceil(len(texts) / columns_below(texts, width)) * lines + bool(title)


def legend_below(
    figure: Figure, handles: Sequence[Any], texts: Sequence[str], title: str | None = None, above: float = 0.0
) -> None:
    """Draws a legend below the axes, in as many columns as fit; the share `above` the bottom is left to a caption."""
    made = figure.legend(
        handles, folded(texts), loc="lower center", bbox_to_anchor=(0, above, 1, 1 - above), title=title,
        ncols=columns_below(texts, figure.get_figwidth()), handlelength=1.6, columnspacing=1.2, fontsize=8,
    )  # fmt: skip
    figure.draw_without_rendering()  # the height of the legend is known now
    below = above + (made.get_window_extent().height + 0.05 * figure.dpi) / figure.bbox.height
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, below, 1, 1 - below))


def decimal(axis: Axis) -> None:
    """Sets labels of a logarithmic axis without raised exponents: 0.01, 1e-3."""

    def written(value: float, _: int) -> str:
        largest = max(axis.get_view_interval())
        beside = 1e-3 if value < 0.1 else float(f"{largest:.1g}")  # all small ones alike, and all large ones
        return labels([float(f"{value:.6g}"), beside])[0]

    axis.set_major_formatter(FuncFormatter(written))


def log_axis(axes: Axes, which: str) -> None:
    """Makes the x or y axis logarithmic, with labels between powers of ten if there are few powers."""
    getattr(axes, f"set_{which}scale")("log", nonpositive="mask")
    axis: Axis = getattr(axes, f"{which}axis")
    low, high = sorted(getattr(axes, f"get_{which}lim")())
    decades = high / low if low > 0 else 1e9
    subs = (1.0, 2.0, 5.0) if decades < 50 else (1.0, 3.0) if decades < 1000 else (1.0,)
    axis.set_major_locator(LogLocator(base=10, subs=subs, numticks=12))
    axis.set_minor_formatter(NullFormatter())
    decimal(axis)
