"""The lines of a picture: single runs, or means over several with their standard deviation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.plot.values import groups, settings
from trainer.rundir.records import RunRecord, differing


@dataclass
class Line:
    """A line of a picture: one run, or the mean over several."""

    epoch: np.ndarray
    x: np.ndarray
    y: np.ndarray
    sd: np.ndarray | None = None
    n: tuple[int, int] = (1, 1)  # the fewest and the most runs in a point
    diverged: bool = False
    setting: tuple[Any, ...] = ()  # of the keys of colours


def axis_values(record: RunRecord, name: str) -> np.ndarray | None:
    """A column of the run's metrics.csv, or ``seconds`` of training until the end of each epoch; None if missing."""
    if name == "seconds":
        times = record.curves.get("time/epoch_s")
        return None if times is None else np.nancumsum(times)
    return record.curves.get(name)


def run_line(record: RunRecord, x: str, y: str) -> Line:
    """The points of one run with finite numbers."""
    across, up = axis_values(record, x), axis_values(record, y)
    if across is None or up is None:
        return Line(np.zeros(0), np.zeros(0), np.zeros(0), diverged=record.status == "diverged")
    kept = np.isfinite(across) & np.isfinite(up)
    return Line(record.curves["epoch"][kept], across[kept], up[kept], diverged=record.status == "diverged")


def mean_line(lines: Sequence[Line]) -> Line:
    """Mean and sample standard deviation at each epoch, over the lines that reach it, at the mean of their x."""
    epoch = np.unique(np.concatenate([line.epoch for line in lines]))
    x, y = np.full((2, len(lines), len(epoch)), math.nan)
    for i, line in enumerate(lines):
        at = np.searchsorted(epoch, line.epoch)
        x[i, at], y[i, at] = line.x, line.y
    n = np.isfinite(y).sum(0)
    mean = np.nanmean(y, 0)
    sd = np.where(n > 1, np.sqrt(np.nansum((y - mean) ** 2, 0) / np.maximum(n - 1, 1)), math.nan)
    return Line(epoch, np.nanmean(x, 0), mean, sd, (int(n.min()), int(n.max())))


def all_lines(
    records: Sequence[RunRecord], x: str, y: str, by: Sequence[str], band: Sequence[str] | None
) -> list[Line]:
    """The lines of one panel; a diverged run is a line of its own, not part of a mean.

    Args:
        by: keys of the colours.
        band: keys to average over; None: one line per run.
    """
    lines = []
    if band is None:
        for record in records:
            lines.append(run_line(record, x, y))
            lines[-1].setting = settings(record, by)
    else:
        same = [key for key in dict.fromkeys([*by, *differing(records)]) if key not in band]
        for equal in groups(records, same).values():
            each = [run_line(record, x, y) for record in equal]
            kept = [line for line in each if len(line.x) and not line.diverged]
            of_group = [*([mean_line(kept)] if kept else []), *(line for line in each if line.diverged)]
            for line in of_group:
                line.setting = settings(equal[0], by)
            lines += of_group
    return lines
