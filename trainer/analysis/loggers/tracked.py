"""Shared parts of trackers: the numbers of a run, its hyper-parameters, its confusion matrix.

A tracker has three methods, like the CSV logger (``trainer.training.loggers.Csv``): ``start`` before the first epoch of
a process, ``log`` once per epoch, ``end`` when the run has finished or diverged. It reads the configuration from the
run directory. Its package is an extra, imported when the run starts. If a tracker fails, one line says so and the run
continues (``trainer.training.loggers.Guarded``).
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
    """The confusion matrix of a run's predictions; None without classes, or with too many."""
    found = predicted()
    if found is None:
        return None
    title = f"{found.objective.facts.name}, {found.split} split"
    picture = confusion_picture(title, found.objective, found.predictions, found.truth)
    return None if picture is None else opened(picture)


def opened(png: bytes) -> Image.Image:
    """The picture in a PNG, without transparency."""
    return Image.open(io.BytesIO(png)).convert("RGB")


def needs(extra: str, *modules: str) -> None:
    """Raises ValueError if a package of an extra is missing."""
    for name in modules:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # find_spec alone also finds a folder of this name, such as wandb's
            raise ValueError(f"needs {name}: pip install -e '.[{extra}]'")


def numbers(row: Row) -> dict[str, float]:
    """The measured numbers, which are not empty in ``metrics.csv``."""
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
    """The configuration at the start of the run, flat: `optim` is the name of its target, `optim.lr` one of its keys.

    Nulls are left out; lists become texts.
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
