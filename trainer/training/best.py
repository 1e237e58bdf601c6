"""Decisions after an epoch: whether it is the best so far, early stopping, ``schedule=plateau``, pruning.

NaN counts as not evaluated: all of these wait for a number. A run whose monitor never was a number takes its last epoch
as the best. Run: ``python -m trainer data=breast_cancer train.monitor=val/auroc``
"""

from __future__ import annotations

import math
from typing import Any

from trainer.training.state import Training


def decide(t: Training, row: dict[str, Any]) -> bool:
    """Decides by the row of the finished epoch; returns whether it is the best so far."""
    p, early = t.progress, t.settings.early_stopping
    say_what_is_none(t, row)
    known = {k: v for k, v in row.items() if not math.isnan(v)}
    if t.monitor in known and t.schedule is not None and hasattr(t.schedule, "observe"):
        t.schedule.observe(known[t.monitor], t.maximize)
    improved = choose_best(t, row, known)
    if t.stopper in known:
        value = known[t.stopper]
        if p.improved is None or better(value, p.improved["value"], t.stopper_maximize, early.min_delta):
            p.improved = {"value": value, "epoch": p.epoch}
    if t.judge is not None:
        p.pruned = t.judge(known)
    return improved


def choose_best(t: Training, row: dict[str, Any], known: dict[str, Any]) -> bool:
    """Updates ``progress.best``: the best number, or the last epoch until there is one."""
    p = t.progress
    best = {"metric": t.monitor, "value": math.nan, "epoch": p.epoch, "mode": "max" if t.maximize else "min"}
    if t.monitor in known and (p.best is None or better(known[t.monitor], p.best["value"], t.maximize)):
        p.best = best | {"value": known[t.monitor]}  # ties keep the earliest
        return True
    if t.monitor in row if p.best is None else math.isnan(p.best["value"]):
        p.best = best | {"note": f"{t.monitor} was never a number: the last epoch"}
    return False


def better(value: float, than: float, maximize: bool, by: float = 0.0) -> bool:
    """Whether a number is better than another by more than `by`; any number is better than NaN."""
    if math.isnan(than):
        return not math.isnan(value)
    return value > than + by if maximize else value < than - by


def say_what_is_none(t: Training, row: dict[str, Any]) -> None:
    """Prints a line, once per run, for each column that a decision needs and that is NaN; with the reason if known."""
    p, stops = t.progress, t.settings.early_stopping.patience is not None
    for column in dict.fromkeys([t.monitor, *([t.stopper] if stops else [])]):
        if column in p.undefined or not math.isnan(row.get(column, 0.0)):
            continue
        p.undefined.append(column)
        split, _, metric = column.partition("/")
        split = "val" if split == "ema" else split
        why = t.objective.why_undefined(metric, t.dataset.splits[split][1])
        name = {"val": "validation", "train": "training"}[split]
        reason = f"the {name} split {why}" if why else f"it is NaN in epoch {p.epoch}, and counts as not evaluated"
        t.display.say(f"note        {column} cannot be measured: {reason}")
