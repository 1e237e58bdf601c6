"""Run directories read back, without torch: ``find_runs([Path("outputs")])``.

A run that is damaged, half-written, or removed meanwhile is a :class:`RunRecord` with the status ``damaged`` and the
reason; no content of a run's files makes the reader fail.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.rundir import configuration, curves
from trainer.rundir.configuration import CONFIG
from trainer.rundir.errors import Damaged, Refused
from trainer.rundir.run_dir import status_of
from trainer.rundir.stored import read_object
from trainer.rundir.summary import WRITTEN, fields
from trainer.rundir.text import printable
from trainer.rundir.typed import looked_for

if TYPE_CHECKING:
    import numpy as np

STATUSES = (*WRITTEN, "queued", "damaged")
# The last part of the names that objectives maximize, for older runs, whose summaries do not say it.
HIGH = ("accuracy", "balanced_accuracy", "top5", "f1", "auroc", "r2")


@dataclass
class RunRecord:
    """The content of a run's directory; `name` is its path below the searched one."""

    path: Path
    name: str
    status: str = "queued"
    error: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    swept: tuple[str, ...] = ()
    judged: tuple[str | None, str] = (None, "auto")  # sweep.metric and sweep.direction of its sweep
    summary: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    test: dict[str, float | None] = field(default_factory=dict)
    final: dict[str, float | None] = field(default_factory=dict)

    @cached_property
    def curves(self) -> dict[str, np.ndarray]:
        """Columns of ``metrics.csv``, NaN where nothing was measured; {} if missing or damaged."""
        try:
            content = curves.read(self.path)
            return curves.numbers(content) if content else {}
        except Damaged:  # `status` and `error` say so
            return {}


def find_runs(paths: Sequence[Path]) -> list[RunRecord]:
    """The runs below the paths, in natural order of their names (2 before 10).

    Raises:
        Refused: a path is not a directory.
    """
    for path in paths:
        if not path.is_dir():
            why = "not a directory" if path.exists() else "no such directory"
            raise Refused(f"{path}: {why}; give one with runs{looked_for(path)}")
    roots = [Path(os.path.abspath(path)) for path in paths]
    base = Path(os.path.commonpath(roots)) if roots else Path()
    seen: set[tuple[int, int]] = set()
    sweeps: dict[Path, tuple[tuple[str, ...], tuple[str | None, str]]] = {}
    records = []
    for path, root in zip(paths, roots, strict=True):
        for folder, problem in _walk(path, seen):
            name = os.path.relpath(root / folder.relative_to(path), base)
            record = RunRecord(folder, printable(folder.resolve().name if name == "." else name))
            if problem is None:
                _fill(record)
            else:
                record.status, record.error = "damaged", problem
            if folder.parent not in sweeps:
                sweeps[folder.parent] = _sweep(folder.parent)
            record.swept, record.judged = sweeps[folder.parent]
            records.append(record)
    return sorted(records, key=lambda record: natural(record.name))


def natural(text: str) -> list[tuple[int, int, str]]:
    """A sort key: numbers in names by their value."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]


def differing(records: Sequence[RunRecord]) -> list[str]:
    """The keys of the configuration in which the records differ, in its order.

    Keys of only some choices count if they differ among the runs that have them. A ``_target_`` is left out if the
    choice of its group (``optim``) says the same. Choices come first, ``seed`` last.
    """
    found = [record for record in records if record.config]
    keys = dict.fromkeys(key for record in found for key in record.config)
    different = [key for key in keys if _values(found, key) > 1]
    groups = {key.partition(".")[0] for key in keys if "." in key}
    kept = [key for key in different if not (key.endswith("._target_") and _told(found, key))]
    return sorted(kept, key=lambda key: 2 if key in LAST else key not in groups)  # stable: else as in the files


LAST = ("seed",)  # repetitions after comparisons


def _told(records: Sequence[RunRecord], key: str) -> bool:
    """Whether the choice of a group determines the key."""
    by_choice: dict[str, list[RunRecord]] = {}
    for record in records:
        by_choice.setdefault(canonical(record.config.get(key.partition(".")[0])), []).append(record)
    return all(_values(same, key) <= 1 for same in by_choice.values())


def _values(records: Iterable[RunRecord], key: str) -> int:
    found = (record.config[key] for record in records if key in record.config)
    return len(canonicals(found))


def canonicals(values: Iterable[Any]) -> set[str]:
    """The distinct values; the text of a value that many runs share (see ``configuration.py``) is made once."""
    return {canonical(value) for value in {id(value): value for value in values}.values()}


def canonical(value: Any) -> str:
    """Equal for equal values: 1 is 1.0, but neither is true or '1'."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return repr([canonical(v) for v in value]) if isinstance(value, list) else repr(value)


def maximized(metric: str, record: RunRecord, direction: str = "auto") -> bool:
    """Whether higher values of a metric are better; `direction` is ``sweep.direction``."""
    return direction == "maximize" if direction != "auto" else metric_direction(metric, record) == "max"


def objective(record: RunRecord, metric: str, direction: str = "auto") -> float | None:
    """A run's value of ``sweep.metric``: of the test, or the best of a column of ``metrics.csv``; None if missing."""
    if metric.startswith("test/"):
        return record.test.get(metric.partition("/")[2])
    column = [value for value in record.curves.get(metric, ()) if value - value == 0]
    return float((max if maximized(metric, record, direction) else min)(column)) if column else None


def metric_direction(name: str, record: RunRecord) -> str:
    """``min`` or ``max``: which values of a metric are better."""
    if record.best and record.best["metric"] == name and record.best.get("mode") in ("min", "max"):
        return record.best["mode"]
    last, known = name.rpartition("/")[2], record.summary.get("higher_is_better")
    is_high = last in known if known is not None else last in HIGH or "accuracy" in last
    return "max" if is_high else "min"


def _walk(root: Path, seen: set[tuple[int, int]]) -> Iterable[tuple[Path, str | None]]:
    """Directories of runs, each once, and unreadable ones with the reason; follows symbolic links."""
    todo = [root]
    while todo:
        folder = todo.pop()
        try:
            place = os.stat(folder)
            if (place.st_dev, place.st_ino) in seen:
                continue
            seen.add((place.st_dev, place.st_ino))
            if _exists(folder / CONFIG):
                yield folder, None
                continue
            with os.scandir(folder) as entries:
                todo += [folder / entry.name for entry in entries if entry.name[0] != "." and _is_folder(entry)]
        except FileNotFoundError:  # removed meanwhile
            continue
        except OSError as error:
            yield folder, f"{error.strerror or error}"


def _is_folder(entry: os.DirEntry) -> bool:
    """Whether it is a directory, or a symbolic link to one (not to itself)."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _exists(path: Path) -> bool:
    """Like Path.exists, but an unreadable path is an error."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _fill(record: RunRecord) -> None:
    """Reads the files of a run into its record; the first damaged one gives the reason."""
    problems = []
    for read in (_read_config, _read_summary, _read_metrics):
        try:
            read(record)
        except Damaged as error:
            problems.append(str(error))
    if problems:
        record.status, record.error = "damaged", printable(problems[0].removeprefix(f"{record.path}/"))


def _read_config(record: RunRecord) -> None:
    record.config = configuration.flat(record.path)


def _read_summary(record: RunRecord) -> None:
    data, wrong = fields(record.path)
    if not data and wrong is None:
        return
    record.summary = data
    record.best, record.test, record.final = data.get("best"), data.get("test") or {}, data.get("final") or {}
    record.status = status_of(record.path, data)
    record.error = printable(" ".join(data["error"].split())) if data.get("error") else None
    if wrong is not None:
        raise Damaged(wrong)


def _read_metrics(record: RunRecord) -> None:
    content = curves.read(record.path)
    if content is None:
        return
    rows = curves.check(content)
    epochs = record.summary.get("epochs", 0)
    if (
        rows and not record.summary and not os.path.lexists(record.path / "summary.json")
    ):  # it is written before the first row
        raise Damaged("summary.json: gone; resume makes it again from checkpoints/last.pt")
    if rows < epochs and record.status in ("finished", "diverged"):
        raise Damaged(f"{curves.FILE}: has {rows} rows, and summary.json says {epochs} epochs")


def _sweep(folder: Path) -> tuple[tuple[str, ...], tuple[str | None, str]]:
    """The swept keys, metric and direction in a sweep's ``sweep.json``; its damage does not matter to the jobs."""
    try:
        content = read_object(folder / "sweep.json") or {}
    except Damaged:
        content = {}
    swept = content.get("swept")
    keys = tuple(swept) if isinstance(swept, list) and all(isinstance(key, str) for key in swept) else ()
    config = content.get("config")
    settings = config.get("sweep") if isinstance(config, dict) else None
    metric, direction = (settings.get("metric"), settings.get("direction")) if isinstance(settings, dict) else ("", "")
    return keys, (metric if isinstance(metric, str) and metric else None, str(direction or "auto"))
