"""The content of a report as plain data for JSON: facts, curves, configuration and log of each run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.rundir.configuration import CONFIG, RESUMED
from trainer.rundir.errors import Damaged
from trainer.rundir.records import RunRecord, canonicals, differing, maximized, metric_direction, objective
from trainer.rundir.run_dir import shown
from trainer.rundir.stored import opened
from trainer.rundir.text import printable, printable_lines
from trainer.runs.columns import by_importance, row

# Limits that keep a page of many runs at a few megabytes. Each run gets a share of the total, within bounds.
ROWS, ROWS_LEAST, ROWS_MOST = 200_000, 100, 5_000  # of metrics.csv
LOG, LOG_LEAST, LOG_MOST = 2_000_000, 4_000, 100_000  # bytes of train.log
CONFIG_MOST = 100_000  # bytes of a configuration file, which usually has a few thousand
DIGITS = 6  # of a number in a curve
WHOLE = 2**53  # smaller integers are exact in a browser


def payload(records: Sequence[RunRecord]) -> dict[str, Any]:
    """The data of the page.

    ``config`` has the dotted keys that are equal in all runs, each run's ``config`` the others (null: unreadable);
    ``differing`` are those with a column. ``values`` has the other columns of ``trainer.runs.load_runs``. Values and
    curves in ``lower`` are better if lower. ``metric`` is ``sweep.metric`` if all runs have the same.
    """
    shared = _shared([record.config for record in records if record.config])
    rows = min(max(ROWS // max(len(records), 1), ROWS_LEAST), ROWS_MOST)
    log = min(max(LOG // max(len(records), 1), LOG_LEAST), LOG_MOST)
    metrics = {record.judged[0] for record in records}
    different = dict.fromkeys([*(key for record in records for key in record.swept), *differing(records)])
    return {
        "config": {key: _for_json(value) for key, value in shared.items()},
        "differing": by_importance([key for key in different if key not in shared], records),
        "lower": sorted(set().union(*map(_lower_is_better, records))),
        "metric": metrics.pop() if len(metrics) == 1 else None,
        "runs": [_run(record, shared, rows, log) for record in records],
    }


def _run(record: RunRecord, shared: dict[str, Any], rows: int, log: int) -> dict[str, Any]:
    curves = record.curves
    length = max(map(len, curves.values()), default=0)
    kept = _kept(length, rows)
    apart = {"path", "name", "status", "error", *record.config}
    values = {name: _for_json(value) for name, value in row(record).items() if name not in apart}
    metric, direction = record.judged
    if metric and metric not in values and record.status == "finished":
        values[metric] = _for_json(objective(record, metric, direction))
    own = {key: _for_json(value) for key, value in record.config.items() if key not in shared}
    return {
        "name": record.name,
        "path": printable(shown(record.path)),
        "status": record.status,
        "error": record.error,
        "values": values,
        "config": own if record.config else None,
        "yaml": _yaml(record.path),
        "log": _ends(record.path / "train.log", log),
        "curves": _numbers({name: column[kept] if kept else column for name, column in curves.items()}),
        "rows": length if kept else None,
    }


def _lower_is_better(record: RunRecord) -> set[str]:
    """Names of curves and values of which lower is better."""
    metrics = {name: name for name in record.curves}
    metrics |= {f"final/{name}": name for name in record.final} | {
        f"test/{name}": f"test/{name}" for name in record.test
    }
    metrics |= {"best/value": record.best["metric"]} if record.best else {}
    lower = {"seconds"} | {name for name, metric in metrics.items() if metric_direction(metric, record) == "min"}
    metric, direction = record.judged
    if metric is None:
        return lower
    return lower - {metric} if maximized(metric, record, direction) else lower | {metric}


def _shared(configs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The keys that are equal in all configurations."""
    first = configs[0] if configs else {}
    common = [key for key in first if all(key in config for config in configs)]
    return {key: first[key] for key in common if len(canonicals(config[key] for config in configs)) == 1}


def _for_json(value: Any) -> Any:
    """A value for JSON; NaN and infinity become their names, other objects their text."""
    if isinstance(value, dict):
        return {printable(str(k)): _for_json(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_for_json(v) for v in value]
    if isinstance(value, float):
        return (int(value) if _is_whole(value) else value) if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int) else printable(str(value))


def _numbers(curves: dict[str, np.ndarray]) -> dict[str, list[float | int | None]]:
    """Curves with as many digits as a picture shows; NaN is null."""
    if not curves:
        return {}
    numbers = np.concatenate(list(curves.values()))  # all at once: a run has a dozen curves
    values, n = numbers.tolist(), len(numbers) // len(curves)
    shown: list[float | int | None] = [*map(float, (f"%.{DIGITS}g " * len(values) % (*values,)).split())]
    for i in np.flatnonzero(~np.isfinite(numbers)).tolist():
        shown[i] = None
    for i in np.flatnonzero((numbers == np.trunc(numbers)) & (abs(numbers) < WHOLE)).tolist():
        shown[i] = int(values[i])
    return {name: shown[i * n : (i + 1) * n] for i, name in enumerate(curves)}


def _is_whole(value: float) -> bool:
    """Whether it is an integer that a browser holds exactly."""
    return value.is_integer() and abs(value) < WHOLE


def _kept(length: int, most: int) -> list[int] | None:
    """Evenly chosen rows of `length`, with the first and the last; None for all."""
    return None if length <= most else [round(i * (length - 1) / (most - 1)) for i in range(most)]


def _yaml(run: Path) -> str | None:
    """The text of the configuration with the changes of resumes; None if missing."""
    frozen, resumed = _ends(run / CONFIG, CONFIG_MOST), _ends(run / RESUMED, CONFIG_MOST)
    return frozen if not resumed else f"{frozen or ''}\n# changed when the run was resumed:\n{resumed}"


def _ends(path: Path, most: int) -> str | None:
    """A file's text, or None if missing; of more than `most` bytes, whole lines of its beginning and end."""
    try:
        with opened(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size <= most:
                return _text(file.read(most))
            head = file.read(most // 3)
            file.seek(size - 2 * most // 3)
            tail = file.read(2 * most // 3)
    except FileNotFoundError:
        return None
    except (Damaged, OSError) as error:
        return f"({path.name} cannot be read: {str(error).removeprefix(f'{path}: ')})"
    head = head[: head.rfind(b"\n") + 1] or head + b"\n"
    tail = tail[tail.find(b"\n") + 1 :] or tail
    left_out = f"\n… {size - len(head) - len(tail):,} bytes left out here; the whole file is {path} …\n\n"
    return _text(head) + left_out + _text(tail)


def _text(content: bytes) -> str:
    """Lines with control characters as escapes."""
    return printable_lines(content.decode(errors="replace"))
