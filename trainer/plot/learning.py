"""The learning curves of one run: ``python -m trainer evaluate RUN_DIR`` writes them as ``evaluation/curves.png``.

A panel for the loss, one for the main metric, and one for the monitored metric if it is neither. Each shows training,
validation and averaged weights over the epochs, the best epoch, and the test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from trainer.plot import look
from trainer.plot.curves import CROSS, Look, draw_lines, set_axes
from trainer.plot.figures import rendered
from trainer.plot.lines import Line, run_line
from trainer.plot.values import higher_is_better, words
from trainer.rundir.records import RunRecord

SPLITS = {"train": "training", "val": "validation", "ema": "validation, averaged weights"}
COLOURS = dict(zip([*SPLITS, "test"], [*look.CATEGORIES[:3], "0.25"], strict=True))
MAIN = ("accuracy", "rmse")  # main metrics: the first one that a model has


def learning_picture(record: RunRecord, test: Mapping[str, float] | None = None) -> bytes | None:
    """The curves as a PNG; None for a run without a finished epoch.

    Args:
        test: metrics on the test split, if evaluated.
    """
    if not panels(record):
        return None
    return rendered(learning_figure, record, test or {}, dpi=look.DPI)


def panels(record: RunRecord) -> dict[str, dict[str, Line]]:
    """Metric -> split -> its line, for metrics with numbers."""
    monitored = str((record.best or {}).get("metric", "")).partition("/")[2]
    main = next((m for m in MAIN if any(f"{split}/{m}" in record.curves for split in SPLITS)), monitored)
    found = {}
    for metric in dict.fromkeys(["loss", main, monitored]):  # "" without a metric: nothing is found
        lines = {split: run_line(record, "epoch", f"{split}/{metric}") for split in SPLITS}
        lines = {split: line for split, line in lines.items() if len(line.x)}
        if lines:
            found[metric] = lines
    return found


def learning_figure(record: RunRecord, test: Mapping[str, float]) -> Figure:
    """A panel for each metric, side by side."""
    found, best = panels(record), record.best
    how = Look(["split"], colours={(split,): colour for split, colour in COLOURS.items()})
    how.dashes = dict.fromkeys(how.colours, "-")
    figure = Figure(figsize=(0.5 + 3.5 * len(found), 3.4), layout="constrained")
    for axis, (metric, lines) in zip(figure.subplots(1, len(found), squeeze=False).flat, found.items(), strict=True):
        for split, line in lines.items():
            line.setting = (split,)
        drawn = list(lines.values())
        draw_lines(axis, drawn, how, banded=False)
        level = test.get(metric)
        if level is not None and np.isfinite(level):
            ends = np.array([min(line.x[0] for line in drawn), max(line.x[-1] for line in drawn)])
            drawn.append(Line(ends, ends, np.full(2, level), diverged=drawn[0].diverged, setting=("test",)))
            axis.axhline(level, color=COLOURS["test"], linewidth=0.8, linestyle=look.DASHES[1])
            place = {"xycoords": ("axes fraction", "data"), "xytext": (4, 0), "textcoords": "offset points"}
            style = {"va": "center", "fontsize": 8, "color": COLOURS["test"]}
            axis.annotate(f"test\n{level:.4g}", (1, level), **place, **style)
        set_axes(axis, drawn, how, (None, None), falls=not higher_is_better([record], f"val/{metric}"))
        if best is not None:
            axis.axvline(best["epoch"], color=look.GREY, linewidth=0.9, linestyle=look.DASHES[2], zorder=1)
        first, last = min(line.x[0] for line in drawn), max(line.x[-1] for line in drawn)
        margin = 0.03 * (last - first) or 0.5
        axis.set_xlim(first - margin, last + margin)
        if first == last:
            axis.set_xticks([int(first)])
        axis.set(xlabel=words("epoch"), ylabel=words(metric))
    handles, texts = entries(record, [split for split in SPLITS if any(split in lines for lines in found.values())])
    figure.legend(handles, texts, loc="outside lower center", ncols=len(texts), handlelength=2, columnspacing=1.6)
    look.heading(figure, title(record))
    return figure


def title(record: RunRecord) -> str:
    """Data, model, optimizer and name of the run."""
    model, data, optim = (record.config.get(group, "-") for group in ("model", "data", "optim"))
    return f"{data}, {model}, {optim}: {record.name}"


def entries(record: RunRecord, splits: list[str]) -> tuple[list[Any], list[str]]:
    """Handles and texts of the legend."""
    handles = [Line2D([], [], color=COLOURS[split], linewidth=1.6) for split in splits]
    texts = [SPLITS[split] for split in splits]
    if record.best is not None:
        handles.append(Line2D([], [], color=look.GREY, linewidth=0.9, linestyle=look.DASHES[2]))
        why = "the last" if "note" in record.best else f"the best by {record.best['metric']}"
        texts.append(f"epoch {record.best['epoch']}, {why}")
    if record.status == "diverged":
        handles.append(Line2D([], [], color=look.GREY, **CROSS))
        texts.append("diverged")
    return handles, texts
