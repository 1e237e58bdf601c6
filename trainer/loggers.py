"""Where the numbers of an epoch go. A logger turns nothing into numbers itself: it gets one row of them an epoch."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from trainer.errors import Refused
from trainer.files import append_line, write_whole

Row = dict[str, Any]


class Csv:
    """``metrics.csv`` in the run directory: a header, then one row an epoch, each flushed to the disk."""

    def start(self, run: Path, columns: list[str], epochs_done: int) -> None:
        """Opens the file for a run that has finished `epochs_done` epochs.

        Rows of later epochs, or half a row, are of work that no checkpoint holds: they are dropped, and done again.

        Raises:
            Refused: rows that the checkpoint goes with are missing or damaged.
        """
        self.path, self.columns = run / "metrics.csv", columns
        kept = self._rows(epochs_done) if epochs_done else []
        content = "".join(self._line(row) + "\n" for row in [columns, *kept]).encode()
        if not self.path.exists() or self.path.read_bytes() != content:
            write_whole(self.path, content)

    def log(self, row: Row) -> None:
        """Adds the row of one epoch."""
        append_line(self.path, self._line([_text(row.get(column)) for column in self.columns]))

    def _rows(self, epochs_done: int) -> list[list[str]]:
        text = self.path.read_text(errors="replace") if self.path.exists() else ""
        rows = list(csv.reader(io.StringIO(text)))[1 : epochs_done + 1]
        whole = [len(row) == len(self.columns) and all(map(_is_number, row)) for row in rows]
        if not all(whole) or [row[0] for row in rows] != [str(e) for e in range(1, epochs_done + 1)]:
            raise Refused(
                f"{self.path}: its rows are not those of epochs 1 to {epochs_done}, which the checkpoint holds"
            )
        return rows

    @staticmethod
    def _line(cells: list[str]) -> str:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="").writerow(cells)
        return buffer.getvalue()


def _is_number(cell: str) -> bool:
    """Whether a cell holds a number, or nothing."""
    try:
        float(cell or 0)
    except ValueError:
        return False
    return True


def _text(value: Any) -> str:
    """Shortest text that reads back as the same float; empty for what was not measured."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return repr(value)
