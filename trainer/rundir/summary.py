"""``summary.json``: status, progress and results of a run. All readers check its fields here.

This module imports neither torch nor Hydra.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from trainer.rundir.errors import Damaged
from trainer.rundir.files import write_json
from trainer.rundir.provenance import now
from trainer.rundir.stored import read_object

FILE = "summary.json"
WRITTEN = ("running", "finished", "diverged", "failed", "interrupted")  # statuses that a run writes
# In the order of the file.
FIELDS = (
    *("status", "stopped", "epochs", "steps", "untrained", "init_from"),
    *("best", "final", "test", "parameters", "seconds"),
    *("higher_is_better", "device", "threads", "seed", "versions", "git", "process", "error"),
)
MEND = "delete it, and a resume continues from checkpoints/last.pt"


@dataclass
class Summary:
    """The file of one run, rewritten whole at every change."""

    path: Path
    data: dict[str, Any] = field(default_factory=dict)
    writes: bool = True  # only one of several processes writes

    @classmethod
    def read(cls, run: Path) -> Summary:
        """The summary of the run in `run`; empty if missing.

        Raises:
            Damaged: the file is not a summary.
        """
        try:
            data, wrong = fields(run)
        except Damaged as error:
            raise Damaged(f"{error}; {MEND}") from error
        if wrong is not None:
            raise Damaged(f"{wrong}; {MEND}")
        return cls(run / FILE, data)

    @property
    def process(self) -> dict[str, Any]:
        """The process that trains or trained; {} if missing."""
        return self.data.get("process") or {}

    def update(self, *, write: bool = True, **changes: Any) -> None:
        """Changes fields and writes the file. A power cut may undo a change of progress, but not of the status."""
        self.data |= changes
        if not (self.writes and write):
            return
        if self.process:
            self.data["process"]["heartbeat"] = now()
        shown = {name: self.data[name] for name in FIELDS if name in self.data}
        write_json(self.path, shown, settle="status" in changes)


def fields(run: Path) -> tuple[dict[str, Any], str | None]:
    """The valid fields of a run's summary, and a line about the first invalid one, if any.

    Raises:
        Damaged: the file is no JSON object.
    """
    data = read_object(run / FILE)
    if data is None:
        return {}, None
    wrong = [key for key, is_right in SHAPES.items() if key in data and not is_right(data[key])]
    wrong += [key for key in ("status",) if key not in data]
    good = {key: value for key, value in data.items() if key not in wrong}
    return good, f"{run / FILE}: {wrong[0]} is not what a run writes there" if wrong else None


def _is_number(value: Any) -> bool:
    is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
    return value is None or isinstance(value, float) or is_whole


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _are_numbers(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_number, value.values())))


def _is_best(value: Any) -> bool:
    if value is None:
        return True
    return (
        isinstance(value, dict)
        and isinstance(value.get("metric"), str)
        and _is_number(value.get("value"))
        and _is_count(value.get("epoch"))
        and _is_text(value.get("mode"))
        and _is_text(value.get("note"))
    )


def _are_texts(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value))


def _is_mapping(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _is_process(value: Any) -> bool:
    if value is None:
        return True
    try:
        beat = datetime.fromisoformat(value["heartbeat"])
        return (
            isinstance(value["host"], str) and _is_count(value["pid"]) and value["pid"] < 1 << 31 and bool(beat.tzinfo)
        )
    except (KeyError, TypeError, ValueError):
        return False


# Field -> whether a value is valid.
SHAPES = {
    "status": lambda value: value in WRITTEN,
    "error": _is_text,
    "stopped": _is_text,
    "device": _is_text,
    "best": _is_best,
    "final": _are_numbers,
    "untrained": _are_numbers,
    "test": _are_numbers,
    "higher_is_better": _are_texts,
    "epochs": _is_count,
    "steps": _is_count,
    "parameters": _is_count,
    "threads": _is_count,
    "seconds": _is_number,
    "versions": _is_mapping,
    "git": _is_mapping,
    "init_from": _is_mapping,
    "process": _is_process,
}
