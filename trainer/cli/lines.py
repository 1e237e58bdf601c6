"""The lines of a run: its epochs, as wide as the screen, and lines that are broken between words."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import Any

STAR = "  *"  # of the best epoch so far
INDENT = 12  # of a line's continuation: under the value of a name


def folded(line: str, width: int, indent: int = INDENT) -> str:
    """A line broken between words; commands stay whole, so that they can be copied."""
    if len(line) <= width or "python -m trainer" in line:
        return line
    how: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": " " * indent}
    return textwrap.fill(line, width, **how)


def in_pairs(text: str, width: int) -> str:
    """A text broken between its parts, which two spaces separate: never between a name and its number."""
    joined = re.sub(r"(?<=\S) (?=\S)", "\0", text)
    return textwrap.fill(joined, width, break_long_words=False, break_on_hyphens=False).replace("\0", " ")


def epoch_line(
    row: dict[str, Any], epochs: int, improved: bool, width: int | None = None, monitor: str | None = None
) -> str:
    """One epoch as a line: ``epoch  3/30  train loss 0.4 accuracy 0.9  val loss …  lr …  gap …  9,000 samples/s``.

    A narrow screen shows less: first the last parts go, then metrics of training besides the loss.

    Args:
        monitor: the column that chooses the best epoch; its metric is shown, also where training lacks it.
    """
    head = f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}"
    shown = [k.partition("/")[2] for k in row if k.startswith("train/")]  # the others are in metrics.csv
    shown += [k.partition("/")[2] for k in row if k.startswith("val/robust_")][:1]
    more = [f"{k.partition('/')[2]} {row[k]:.4g}" for k in ("optim/lr", "optim/fw_gap") if k in row]
    more += [*coefficients(row), f"{row['time/samples_per_s']:,.0f} samples/s"]
    chosen = (monitor or "").partition("/")[2]
    train, *others = metrics_by_split(row, [*shown, *([chosen] if chosen and chosen not in shown else [])])
    first = metrics_by_split({k: v for k, v in row.items() if k.startswith("train/")}, shown[:1])
    forms = [
        "  ".join([head, *metrics, *others, *more[:n]])
        for metrics in ([train], first)
        for n in range(len(more), -1, -1)
    ]
    fitting = (form for form in forms if width is None or len(form) + len(STAR) <= width)
    return next(fitting, forms[-1]) + STAR * improved


def untrained_line(row: dict[str, Any], shown: Sequence[str]) -> str:
    """The line of the untrained model with the metrics `shown`."""
    return "  ".join(["untrained ", *metrics_by_split(row, shown), *coefficients(row)])


def metrics_by_split(row: dict[str, Any], shown: Sequence[str]) -> list[str]:
    """The metrics of each split: ``train loss 0.4 accuracy 0.9``."""
    splits = {split: [k for k in shown if f"{split}/{k}" in row] for split in ("train", "val", "ema")}
    return [
        " ".join([split, *(f"{k} {decimals(row[f'{split}/{k}'])}" for k in ks)]) for split, ks in splits.items() if ks
    ]


def decimals(value: float) -> str:
    """Four decimals; from a million on, as in a diverging run, with an exponent."""
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4e}"


def coefficients(row: dict[str, Any]) -> list[str]:
    """The coefficients of a linear model: ``coefficients size 7.159 intercept 385.1``."""
    found = {k.partition("/")[2]: v for k, v in row.items() if k.startswith("coefficient/")}
    numbers = [f"{k} {v:,.{4 if abs(v) < 1e4 else 6}g}" for k, v in found.items()]
    return [" ".join(["coefficients", *numbers])] if numbers else []
