"""Weights & Biases: ``python -m trainer logger=wandb``."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from trainer.analysis.loggers.tracked import confusion, needs, numbers, recorded, results
from trainer.rundir import configuration
from trainer.rundir.errors import Refused
from trainer.rundir.files import write_json
from trainer.rundir.stored import read_object
from trainer.training.loggers import AskPredicted, Row


class Wandb:
    """A run of Weights & Biases, in ``RUN/wandb``; a resume continues the same wandb run.

    wandb writes only every 15 s, so a killed run's files may lack rows that its checkpoint holds. A resume therefore
    sends all rows again: offline to a new folder, which replaces the old ones; online, wandb drops the steps that its
    server has.

    Args:
        project: the project of the runs.
        mode: offline, for `wandb sync RUN/wandb/offline-run-*` later; online, which needs `wandb login`; disabled.
        name: name of the run; null: that of its directory.
        group: the group of the run; null: no group.
    """

    def __init__(
        self, *, project: str, mode: Literal["offline", "online", "disabled"], name: str | None, group: str | None
    ):
        needs("wandb", "wandb")
        self.project, self.mode, self.name, self.group = project, mode, name, group

    def start(self, run: Path, columns: list[str], group_columns: list[str], epochs_done: int) -> None:
        """Starts or continues the run; the CSV logger, which started before, has its rows."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else it calls home, also offline
        # Otherwise its logs go to ~/.cache; the first run of a process decides.
        os.environ.setdefault("WANDB_CACHE_DIR", str((run / "wandb" / "cache").absolute()))
        import wandb

        kept = read_object(run / "wandb" / "run.json") or {"id": secrets.token_hex(4)}
        if not re.fullmatch(r"[0-9a-f]+", str(kept.get("id"))):  # a part of a path
            raise Refused(f"{run / 'wandb' / 'run.json'}: id must be hexadecimal digits")
        write_json(run / "wandb" / "run.json", kept)
        before = list((run / "wandb").glob(f"offline-run-*-{kept['id']}"))
        self.run = wandb.init(
            project=self.project,
            mode=self.mode,
            dir=str(run.absolute()),
            name=self.name or run.name,
            group=self.group,
            id=kept["id"],
            resume="allow" if self.mode == "online" else None,  # offline, wandb only warns that there is no server
            config=configuration.of_run(run),
            reinit="finish_previous",  # of a failed run in a sweep
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        for row in recorded(run):
            self.log(row, [])
        if self.mode == "offline":
            for folder in before:
                shutil.rmtree(folder)

    def log(self, row: Row, groups: list[Row]) -> None:
        """Logs the row at its epoch."""
        self.run.log(numbers(row), step=int(row["epoch"]), commit=True)  # else wandb waits for the next row

    def end(self, summary: Mapping[str, Any], predicted: AskPredicted) -> None:
        """Writes the summary and the confusion matrix, and closes the run."""
        import wandb

        self.run.summary.update({"status": summary["status"], **results(summary)})
        found = confusion(predicted)
        if found is not None:
            self.run.summary["confusion matrix"] = wandb.Image(found)
        self.run.finish(exit_code=0 if summary["status"] == "finished" else 1)
