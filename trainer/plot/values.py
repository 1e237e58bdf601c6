"""The numbers of pictures: values of runs, and groups of runs.

A metric is named as in the files of a run: ``test/accuracy`` (summary.json), a column of metrics.csv such as
``val/loss`` (taken at the best epoch), ``best`` (the monitored metric at its best), ``final/…`` (of the last epoch),
``seconds``, ``parameters``, ``epochs`` or ``steps``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainer.cli.display import listed
from trainer.plot.scale import labels, numeric, order
from trainer.rundir.records import RunRecord, metric_direction
from trainer.runs.columns import full_name

FACTS = ("seconds", "parameters", "epochs", "steps")
COUNTS = ("epoch", "step")  # columns of metrics.csv that are no measurements
# Axis titles of metrics with their units; others are made from the name.
WORDS = {
    "best": "best monitored metric",
    "epoch": "epoch",
    "step": "optimizer steps",
    "steps": "optimizer steps",
    "seconds": "training time (seconds)",
    "time/epoch_s": "time of an epoch (seconds)",
    "time/samples_per_s": "samples a second",
    "optim/lr": "learning rate",
    "optim/fw_gap": "Frank-Wolfe gap",
}


@dataclass
class Cell:
    """One metric of a group of runs: the values of finished runs, and the number of diverged ones."""

    values: list[float] = field(default_factory=list)
    diverged: int = 0

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def mean(self) -> float:
        return float(np.mean(self.values)) if self.values else math.nan

    @property
    def sd(self) -> float:
        """The sample standard deviation; NaN for one value."""
        return float(np.std(self.values, ddof=1)) if self.n > 1 else math.nan


def words(name: str) -> str:
    """A metric in words, for an axis."""
    if name in WORDS:
        return WORDS[name]
    if name.startswith("coefficient/"):  # the rest is the name of a column
        return name.replace("/", " ", 1)
    head, _, rest = name.rpartition("/")
    if head.startswith("final"):
        return f"{words(name.removeprefix('final/'))}, last epoch"
    head = {"val": "validation", "optim": "", "time": ""}.get(head, head)
    return f"{head} {rest}".strip().replace("_", " ")


def metric_value(record: RunRecord, metric: str) -> float:
    """The run's value of the metric; NaN if missing."""
    if metric == "best":
        return as_number((record.best or {}).get("value"))
    if metric in FACTS:
        return as_number(record.summary.get(metric))
    place, _, name = metric.partition("/")
    if place == "test":
        return as_number(record.test.get(name))
    if place == "final":
        return as_number(record.final.get(name))
    return at_best_epoch(record, metric)


def at_best_epoch(record: RunRecord, column: str) -> float:
    """The column's number in the row of the best epoch; the last one if the best epoch is unknown."""
    curves = record.curves
    if column not in curves:
        return math.nan
    best = (record.best or {}).get("epoch")
    rows = np.flatnonzero(curves["epoch"] == best) if best is not None and "epoch" in curves else np.empty(0, int)
    if len(rows):
        return float(curves[column][rows[-1]])
    finite = curves[column][np.isfinite(curves[column])]
    return float(finite[-1]) if len(finite) else math.nan


def as_number(value: Any) -> float:
    """A finite number, or NaN; summary.json has null for NaN."""
    return float(value) if numeric([value]) else math.nan


def columns(records: Sequence[RunRecord]) -> list[str]:
    """All columns of metrics.csv of the runs."""
    return list(dict.fromkeys(name for record in records for name in record.curves))


def metrics(records: Sequence[RunRecord]) -> list[str]:
    """All metrics with a value in any run."""
    of_test = [f"test/{name}" for record in records for name in record.test]
    facts = [name for name in FACTS if any(name in record.summary for record in records)]
    of_best = ["best"] if any(record.best for record in records) else []
    return list(dict.fromkeys([*of_best, *of_test, *(c for c in columns(records) if c not in COUNTS), *facts]))


def check_metric(records: Sequence[RunRecord], metric: str, option: str) -> str:
    """The full name of a metric, of which the unambiguous end may be given.

    Raises:
        Refused: no run has it, or several end in it.
    """
    known = metrics(records)
    none = f"no run has it; there are {', '.join(known) or 'no metrics yet'}"
    last = "final/" if metric.startswith("final/") else ""
    return last + full_name(metric.removeprefix(last), known, f"{option}={metric}", none)


def main_metric(records: Sequence[RunRecord]) -> str:
    """The main metric of a sweep, without its split: accuracy, else the monitored metric."""
    known = {name.rpartition("/")[2] for name in metrics(records) if "/" in name}
    if "accuracy" in known:
        return "accuracy"
    monitored = [str(record.best["metric"]) for record in records if record.best]
    return monitored[0].rpartition("/")[2] if monitored else "loss"


def splits_of(records: Sequence[RunRecord], metric: str) -> list[str]:
    """The metric in training and test, or validation if nothing was tested."""
    known = metrics(records)
    held_out = next((f"{split}/{metric}" for split in ("test", "val") if f"{split}/{metric}" in known), None)
    return [name for name in (f"train/{metric}", held_out) if name in known]


def higher_is_better(records: Sequence[RunRecord], metric: str) -> bool:
    """Whether higher values of a metric are better."""
    if metric == "best":
        metric = next((str(record.best["metric"]) for record in records if record.best), metric)
    return metric_direction(metric.removeprefix("final/"), records[0]) == "max"


def setting(record: RunRecord, key: str) -> Any:
    """A run's value of a key, hashable: lists become tuples."""
    return _frozen(record.config.get(key))


def _frozen(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    odd = isinstance(value, dict) or (isinstance(value, float) and not math.isfinite(value))
    return str(value) if odd else value


def settings(record: RunRecord, keys: Sequence[str]) -> tuple[Any, ...]:
    """A run's values of several keys."""
    return tuple(setting(record, key) for key in keys)


def groups(records: Sequence[RunRecord], keys: Sequence[str]) -> dict[tuple[Any, ...], list[RunRecord]]:
    """The runs that are equal in `keys`, sorted by them."""
    found: dict[tuple[Any, ...], list[RunRecord]] = {}
    for record in records:
        found.setdefault(settings(record, keys), []).append(record)
    return dict(sorted(found.items(), key=lambda item: [order(value) for value in item[0]]))


def cells(records: Sequence[RunRecord], keys: Sequence[str], metric: str) -> dict[tuple[Any, ...], Cell]:
    """The metric of the runs with equal `keys`; leaves out runs that neither finished nor diverged."""
    found = {}
    for values, equal in groups(records, keys).items():
        numbers = [metric_value(record, metric) for record in equal if record.status == "finished"]
        cell = Cell([x for x in numbers if math.isfinite(x)], sum(record.status == "diverged" for record in equal))
        if cell.n or cell.diverged:
            found[values] = cell
    return found


def named(keys: Sequence[str], values: Sequence[Any], beside: Sequence[Sequence[Any]] = (), keyed: bool = True) -> str:
    """``optim=sgd, seed=0``, numbers formatted like all values `beside`; without `keyed` only the values."""
    written = []
    for i, (key, value) in enumerate(zip(keys, values, strict=True)):
        others = list(dict.fromkeys([value, *(row[i] for row in beside)]))
        text = labels(others)[0]
        written.append(f"{key}={text}" if keyed else text)
    return ", ".join(written)


def unfinished(records: Sequence[RunRecord]) -> str:
    """The note about runs without a result, if any."""
    n = sum(record.status not in ("finished", "diverged") for record in records)
    return f"left out: {n} run{'s' * (n > 1)} without a result" if n else ""


def spread(keys: Sequence[str], counts: Sequence[int]) -> str:
    """``mean over seed (n = 3)``: the meaning of one mark of a picture."""
    low, high = min(counts, default=0), max(counts, default=0)
    if high <= 1:
        return ""
    over = f" over {listed(list(keys), 3)}" if keys else ""
    return f"mean{over} (n = {low}–{high})" if low < high else f"mean{over} (n = {high})"
