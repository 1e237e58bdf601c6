"""Pruning: a run of a search reports its value to the study after each epoch, and asks whether to continue.

A run with ``.hydra/trial.json`` belongs to a search, whose study is in the directory above. An epoch that is repeated
after a kill is judged as before.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.cli.signatures import check_call
from trainer.rundir.errors import Damaged, Refused
from trainer.rundir.files import write_json
from trainer.rundir.records import RunRecord
from trainer.rundir.run_dir import TRIAL
from trainer.rundir.stored import read_object
from trainer.sweep import study as studies

PRUNED = "pruned in epoch"  # the beginning of `stopped` in summary.json


def is_pruned(record: RunRecord) -> bool:
    """Whether a search ended a run."""
    return (record.summary.get("stopped") or "").startswith(PRUNED)


@dataclass(frozen=True)
class Trial:
    """The trial of a run in a search.

    Args:
        number: in the study.
        metric: the judged column of metrics.csv.
        maximize: whether higher values are better.
        pruner: its node in the configuration.
        epochs: of the longest run of the search.
    """

    number: int
    metric: str
    maximize: bool
    pruner: dict[str, Any]
    epochs: int

    def write(self, run: Path) -> None:
        """Writes it to a run's directory."""
        write_json(run / TRIAL, asdict(self))

    @classmethod
    def read(cls, run: Path) -> Trial | None:
        """The trial of the run in a directory; None if it does not belong to a search.

        Raises:
            Refused: the file is damaged.
        """
        content = read_object(run / TRIAL)
        if content is None:
            return None
        try:
            check_call("", content, cls, ())
            if not isinstance(content["pruner"].get("_target_", 0), str | None):
                raise Refused("pruner._target_: must be text or null")
        except Refused as error:
            raise Damaged(
                f"{run / TRIAL}: not readable ({error}); remove it, and the run continues without pruning"
            ) from error
        return cls(**content)


class Judge:
    """Judges the epochs of a trial.

    Args:
        folder: of the search.
    """

    def __init__(self, folder: Path, trial: Trial):
        self.metric, self.storage = trial.metric, studies.storage_in(folder)
        self.study = studies.open_study(folder, studies.make_pruner(trial.pruner, trial.epochs))
        with studies.telling_damage(folder):  # the study may not know the trial
            study_id = self.storage.get_study_id_from_name(studies.NAME)
            self.id = self.storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)

    def __call__(self, row: Mapping[str, Any]) -> str | None:
        """Why a run should end after an epoch with the numbers `row`, or None."""
        epoch = row["epoch"]
        if self.metric not in row:  # an epoch without evaluation
            return None
        known = self.storage.get_trial(self.id)
        if not known.state.is_finished() and epoch >= (known.last_step or 0):  # else it continued before
            if epoch not in known.intermediate_values:
                self.storage.set_trial_intermediate_value(self.id, epoch, float(row[self.metric]))
                known = self.storage.get_trial(self.id)
            if "pruned" not in known.user_attrs and self.study.pruner.prune(self.study, known):
                self.storage.set_trial_user_attr(self.id, "pruned", epoch)
                known = self.storage.get_trial(self.id)
        if known.user_attrs.get("pruned") != epoch:
            return None
        return f"{PRUNED} {epoch}: by {self.metric}, other trials are more promising"


def judge_of(run: Path, say: Callable[[str], None]) -> Judge | None:
    """The judge of the run in a directory; None if it does not belong to a search.

    Raises:
        Refused: a file of the search is damaged.
    """
    trial = Trial.read(run)
    if trial is None or trial.pruner["_target_"] is None or trial.metric.startswith("test/"):
        return None
    folder = run.absolute().parent
    if not (folder / studies.LOG).exists() or importlib.util.find_spec("optuna") is None:
        say(f"note        without {studies.LOG} beside it, or without optuna, this run is not pruned")
        return None
    return Judge(folder, trial)
