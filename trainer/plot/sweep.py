"""The picture of a sweep: the main metric in training and test over its numbers and choices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from trainer.plot import look
from trainer.plot.figures import rendered
from trainer.plot.frame import PLAIN, Frame
from trainer.plot.heatmap import heatmap_figure
from trainer.plot.parallel import parallel_figure
from trainer.plot.points import dots_figure, over_figure
from trainer.plot.scale import numeric
from trainer.plot.values import groups, main_metric, metric_value, named, setting, splits_of
from trainer.rundir.records import RunRecord

REPEATED = ("seed",)  # averaged over
MAPS = 6  # rows of heat maps; with more choices, parallel coordinates
LINES = 7  # choices in one picture of curves: one per colour
ROWS = 60  # choices in one picture of dots


def sweep_picture(
    records: Sequence[RunRecord],
    swept: Sequence[str],
    metrics: Sequence[str] | None = None,
    kind: str = "png",
) -> bytes | None:
    """The picture of a sweep as a file; None if no run has finished with a number.

    Args:
        records: the runs of the sweep, in any status.
        swept: the swept keys; ``seed`` is averaged over.
        metrics: by default the main metric in training and test.
        kind: png, svg or pdf.
    """
    figure = rendering(records, swept, metrics)
    return None if figure is None else rendered(*figure, kind=kind, dpi=look.DPI)


def rendering(
    records: Sequence[RunRecord],
    swept: Sequence[str],
    metrics: Sequence[str] | None = None,
    frame: Frame = PLAIN,
) -> tuple[Any, ...] | None:
    """The drawing function for the swept keys, with its arguments; None without results."""
    records = [record for record in records if record.config]  # without runs whose configuration is damaged
    metrics = list(metrics) if metrics else splits_of(records, main_metric(records))
    done = [record for record in records if record.status == "finished"]
    if not any(math.isfinite(metric_value(record, metric)) for record in done for metric in metrics):
        return None
    varied = [key for key in dict.fromkeys(swept) if len(groups(records, [key])) > 1]
    over = [key for key in varied if key in REPEATED]
    keys = [key for key in varied if key not in REPEATED]
    numbers = [key for key in keys if numeric([setting(record, key) for record in records])]
    categories = [key for key in keys if key not in numbers]
    choices = groups(records, categories)
    if len(numbers) == 2 and len(choices) <= MAPS:
        rows = [(named(categories, choice, list(choices)), equal) for choice, equal in choices.items()]
        return heatmap_figure, rows, (numbers[0], numbers[1]), metrics, over, frame
    if len(numbers) == 1 and len(choices) <= LINES:
        return over_figure, records, numbers[0], categories, metrics, over, frame
    if not numbers and len(choices) <= ROWS:
        return dots_figure, records, categories, metrics, over, frame
    return parallel_figure, records, keys, metrics[-1], frame
