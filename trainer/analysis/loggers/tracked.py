"""What trackers share: the numbers of a run, its hyper-parameters, its confusion matrix.

A tracker has three methods, and so has the record in CSV (``trainer.training.loggers.Csv``): ``start`` before the first
epoch of a process, ``log`` once an epoch, ``end`` once the run is over, finished or diverged. What it needs of the
configuration it reads from the run directory. Its package is an extra, imported when the run starts. A run does not
depend on it: whatever it raises is said in one line, and the run goes on (``trainer.training.loggers.Guarded``).
"""

from __future__ import annotations

import csv
import importlib.util
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from trainer.analysis.pictures import confusion_picture
from trainer.rundir import configuration
from trainer.rundir.stored import MOST_TABLE, read_text
from trainer.training.loggers import AskPredicted, Row


def confusion(predicted: AskPredicted) -> Image.Image | None:
    """The confusion matrix of what a run predicted; None if it predicted nothing that has classes, or too many."""
    found = predicted()
    if found is None:
        return None
    title = f"{found.facts.name}, {found.split} split"
    picture = confusion_picture(title, found.facts, found.predictions, found.truth)
    return None if picture is None else opened(picture)


def opened(png: bytes) -> Image.Image:
    """The picture in a PNG, without transparency."""
    return Image.open(io.BytesIO(png)).convert("RGB")


def needs(extra: str, *modules: str) -> None:
    """Raises ValueError where a package of an extra is missing."""
    for name in modules:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a folder of that name, such as wandb's own, is found, too
            raise ValueError(f"needs {name}: pip install -e '.[{extra}]'")


def numbers(row: Row) -> dict[str, float]:
    """What was measured: as in ``metrics.csv``, where the rest is empty."""
    return {k: v for k, v in row.items() if v is not None and not math.isnan(v)}


def recorded(run: Path) -> list[Row]:
    """The rows of ``metrics.csv``."""
    text = read_text(run / "metrics.csv", MOST_TABLE) or ""
    return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(io.StringIO(text, newline=""))]


def results(summary: Mapping[str, Any]) -> dict[str, float]:
    """The best value of the monitored metric, and the metrics of the test split."""
    best = {f"best/{summary['best']['metric']}": summary["best"]["value"]} if summary["best"] else {}
    return numbers(best | {f"test/{k}": v for k, v in (summary["test"] or {}).items()})


def hyper_parameters(run: Path) -> dict[str, bool | int | float | str]:
    """The configuration that the run began with, flat: `optim` is the name of its target, `optim.lr` a key of it.

    Nulls are left out; lists are texts.
    """
    flat = dict(_flat("", configuration.of_run(run)))
    return {k: v for k, v in flat.items() if k != "train" and not k.startswith("logger.")}


def _flat(key: str, value: Any) -> Iterator[tuple[str, bool | int | float | str]]:
    if isinstance(value, dict):
        for name, child in value.items():
            if name == "_target_":
                yield key, (child or "none").rpartition(".")[2]
            else:
                yield from _flat(f"{key}.{name}" if key else name, child)
    elif value is not None:
        yield key, value if isinstance(value, bool | int | float | str) else str(value)
