"""``logger=pictures``: what ``python -m trainer evaluate RUN`` writes, once the run is over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer.analysis import evaluate
from trainer.rundir.run_dir import shown
from trainer.training.loggers import AskPredicted, Row


class Pictures:
    """``RUN/evaluation``, as ``python -m trainer evaluate RUN`` writes it, once the run is over: `logger=pictures`.

    The run is read anew from its directory, as that command does. One without a finished epoch has nothing to show.
    """

    def start(self, run: Path, columns: list[str], group_columns: list[str], epochs_done: int) -> None:
        """See ``trainer.training.loggers.Csv.start``."""
        self.run = run

    def log(self, row: Row, groups: list[Row]) -> None:
        """Nothing to do: all of it is read back at the end."""

    def end(self, summary: Mapping[str, Any], predicted: AskPredicted) -> str | None:
        """Writes the files; returns where they are."""
        if summary["best"] is None:
            return None
        _, out, files = evaluate.evaluate_run(self.run, device=summary["device"], summary=summary, trusted=True)
        return f"{shown(out)}: {', '.join(name for name in files if name.endswith('.png'))}"
