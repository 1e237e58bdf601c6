"""The jobs of a sweep as rows of ``sweep.csv``; ``python -m trainer runs --csv`` prints the same for any runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.rundir.files import write_whole
from trainer.rundir.records import RunRecord, differing
from trainer.runs.columns import row
from trainer.runs.show import as_csv


def sweep_rows(records: Sequence[RunRecord]) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: name, swept and other differing keys, status, error, best, final, test, seconds."""
    swept = dict.fromkeys(key for record in records for key in record.swept)
    columns = [
        *("name", *dict.fromkeys([*swept, *differing(records)]), "status", "error"),
        *("best/metric", "best/value", "best/epoch"),
        *dict.fromkeys(f"final/{name}" for record in records for name in record.final),
        *dict.fromkeys(f"test/{name}" for record in records for name in record.test),
        "seconds",
    ]
    rows = [row(record) for record in records]
    return columns, [[r.get(column) for column in columns] for r in rows]


def write_csv(records: Sequence[RunRecord], path: Path) -> None:
    """Writes ``sweep.csv``, one row per job, as a whole."""
    write_whole(path, as_csv(*sweep_rows(records)).encode(), shared=True)
