"""``logger=pictures``: writes the files of ``python -m trainer evaluate RUN`` at the end of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.analysis import evaluate
from trainer.rundir.run_dir import shown
from trainer.training.loggers import AskPredicted, Row


class Pictures:
    """Writes ``RUN/evaluation`` at the end of the run, as ``python -m trainer evaluate RUN`` does: `logger=pictures`.

    It reads the run from its directory, as that command does. A run without a finished epoch has no pictures.
    """

    def start(self, run: Path, columns: list[str], group_columns: list[str], epochs_done: int) -> None:
        """See ``trainer.training.loggers.Csv.start``."""
        self.run = run

    def log(self, row: Row, groups: list[Row]) -> None:
        """Does nothing: all numbers are read at the end."""

    def end(self, summary: Mapping[str, Any], predicted: AskPredicted) -> str | None:
        """Writes the files; returns where they are."""
        if summary["best"] is None:
            return None
        _, out, files = evaluate.evaluate_run(self.run, device=summary["device"], summary=summary, trusted=True)
        return f"{shown(out)}: {', '.join(name for name in files if name.endswith('.png'))}"
