"""Loggers: each gets one row of numbers per epoch."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from trainer.rundir.errors import Interrupted, Refused, one_line
from trainer.rundir.files import append_line, write_whole
from trainer.rundir.stored import MOST_TABLE, read_bytes
from trainer.training.objectives import Objective

Row = dict[str, Any]


class Predicted(NamedTuple):
    """A split as the run's best checkpoint predicts it; see :func:`trainer.training.evaluation.predict_split`."""

    split: str
    objective: Objective
    predictions: Any
    truth: np.ndarray


AskPredicted = Callable[[], Predicted | None]
METRICS = "metrics.csv"


class Csv:
    """``metrics.csv`` in the run directory: a header, then one row per epoch, each flushed to the disk.

    Also ``metrics_groups.csv``, with a row per epoch and parameter, if the optimizer measures parameters.
    """

    def start(self, run: Path, columns: list[str], group_columns: list[str], epochs_done: int) -> None:
        """Opens the files for a run that has finished `epochs_done` epochs.

        Rows of later epochs and an unfinished row are dropped: no checkpoint has these epochs, and they are repeated.

        Raises:
            Refused: rows of the checkpoint's epochs are missing or damaged.
        """
        self.epochs = CsvTable(run / METRICS, columns)
        self.groups = CsvTable(run / "metrics_groups.csv", group_columns)
        for table in (self.epochs, self.groups):
            if table.columns:
                table.start(epochs_done)

    def log(self, row: Row, groups: list[Row]) -> None:
        """Adds the row of one epoch, and those of its parameters."""
        self.groups.add(groups)
        self.epochs.add([row])

    def end(self, summary: Mapping[str, Any], predicted: AskPredicted) -> str | None:
        """Called at the end of a run, finished or diverged; the CSV files are complete.

        Args:
            summary: the content of ``summary.json``.
            predicted: predicts the test split (else validation), once; None without a best checkpoint.

        Returns:
            a line for the run to print, or None.
        """
        return None


def guarded(loggers: Mapping[str, Any], say: Callable[[str], None]) -> list[Csv | Guarded]:
    """The run's loggers: first the CSV logger; then the trackers, whose failures do not stop the run.

    Raises:
        Refused: the CSV logger is missing.
    """
    if not isinstance(loggers.get("csv"), Csv):
        raise Refused("logger.csv: missing; every run writes metrics.csv")
    return [loggers["csv"], *(Guarded(f"logger.{k}", v, say) for k, v in loggers.items() if k != "csv")]


class Guarded:
    """A tracker that can neither stop nor change the run: after its first error, printed as one line, it is not called.

    torch's random state is restored after every call.
    """

    def __init__(self, name: str, tracker: Any, say: Callable[[str], None]):
        self.name, self.tracker, self.say = name, tracker, say

    def start(self, run: Path, columns: list[str], group_columns: list[str], epochs_done: int) -> None:
        """See ``Csv.start``."""
        self._call("start", run, columns, group_columns, epochs_done)

    def log(self, row: Row, groups: list[Row]) -> None:
        """See ``Csv.log``."""
        self._call("log", dict(row), [dict(group) for group in groups])

    def end(self, summary: Mapping[str, Any], predicted: AskPredicted) -> None:
        """See ``Csv.end``."""
        line = self._call("end", summary, predicted)
        if isinstance(line, str):
            self.say(f"{self.name.removeprefix('logger.'):<11} {line}")

    def _call(self, method: str, *arguments: Any) -> Any:
        if self.tracker is None:
            return None
        try:
            with torch.random.fork_rng(devices=[]):
                return getattr(self.tracker, method)(*arguments)
        except Interrupted:  # during its predictions
            raise
        except Exception as error:
            self.tracker = None
            what = one_line(error) if isinstance(error, Refused) else f"{type(error).__name__}: {one_line(error)}"
            self.say(f"note        {self.name} failed: {what}; the run continues without it")
            return None


def check_row(run: Path, columns: list[str], row: Row) -> None:
    """Raises Refused if ``metrics.csv`` does not have the row of the run's last epoch."""
    table = CsvTable(run / METRICS, columns)
    if table.path.exists() and table.rows(row["epoch"])[-1] != [_text(row.get(column)) for column in columns]:
        raise Refused(f"{table.path}: of another run; its row of epoch {row['epoch']} is not the one in last.pt")


class CsvTable:
    """A CSV file with one or more rows per epoch; the first column is the epoch."""

    def __init__(self, path: Path, columns: list[str]):
        self.path, self.columns = path, columns

    def start(self, epochs_done: int) -> None:
        """Opens the file after an epoch, and drops later rows."""
        kept = self.rows(epochs_done) if epochs_done else []
        content = "".join(self._line(row) + "\n" for row in [self.columns, *kept]).encode()
        if read_bytes(self.path, MOST_TABLE) != content:
            write_whole(self.path, content)

    def add(self, rows: list[Row]) -> None:
        """Adds the rows of one epoch."""
        if rows:
            append_line(
                self.path, "\n".join(self._line([_text(row.get(column)) for column in self.columns]) for row in rows)
            )

    def rows(self, epochs_done: int) -> list[list[str]]:
        """The cells of the first `epochs_done` epochs.

        Raises:
            Refused: they are missing or damaged.
        """
        text = (read_bytes(self.path, MOST_TABLE) or b"").decode(errors="replace")
        try:
            rows = list(csv.reader(io.StringIO(text)))[1:]
        except csv.Error:  # a cell without an end
            rows = []
        each = sum(row[:1] == ["1"] for row in rows)
        rows = rows[: each * epochs_done]
        whole = [len(row) == len(self.columns) and self._is_whole(row) for row in rows]
        if (
            not rows
            or not all(whole)
            or [row[0] for row in rows] != [str(epoch) for epoch in range(1, epochs_done + 1) for _ in range(each)]
        ):
            raise Refused(
                f"{self.path}: its rows are not those of epochs 1 to {epochs_done}, which the checkpoint holds"
            )
        return rows

    def _is_whole(self, row: list[str]) -> bool:
        cells = zip(self.columns, row, strict=True)
        return all(_is_number(cell) for column, cell in cells if column not in ("parameter", "set"))

    @staticmethod
    def _line(cells: list[str]) -> str:
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="").writerow(cells)
        return buffer.getvalue()


def _is_number(cell: str) -> bool:
    """Whether a cell is a number or empty."""
    try:
        float(cell or 0)
    except ValueError:
        return False
    return True


def _text(value: Any) -> str:
    """Shortest text that reads back as the same float; empty if missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return value if isinstance(value, str) else repr(value)
