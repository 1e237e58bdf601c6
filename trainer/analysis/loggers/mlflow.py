"""MLflow: ``python -m trainer logger=mlflow``."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.analysis.loggers.tracked import confusion, hyper_parameters, needs, numbers, recorded, results
from trainer.rundir.files import write_json
from trainer.rundir.stored import read_object
from trainer.training.loggers import AskPredicted, Row

if TYPE_CHECKING:
    from mlflow.entities import Metric


class Mlflow:
    """A run in an MLflow store, by default one database for all runs; a resume continues the same MLflow run.

    Many processes may share an SQLite database: each takes a lock beside it while it reads or writes.

    Args:
        uri: ``sqlite:///FILE``, or the address of a tracking server.
        experiment: the experiment of the runs.
        name: name of the run; null: that of its directory.
    """

    PARAMS_AT_ONCE, PARAM_LENGTH, LOCK_S = 100, 500, 120.0  # 500: the limit of older servers

    def __init__(self, *, uri: str, experiment: str, name: str | None):
        needs("mlflow", "mlflow", "sqlalchemy", "alembic")
        self.uri, self.experiment, self.name = uri, experiment, name

    def start(self, run: Path, columns: list[str], group_columns: list[str], epochs_done: int) -> None:
        """Starts or continues the run; makes the database if missing."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # else it calls home
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # else it retries for minutes without a server
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        kept = read_object(run / "mlflow.json") or {"id": secrets.token_hex(8), "uri": absolute(self.uri)}
        write_json(run / "mlflow.json", kept)  # before the run is made, so that a kill in between leaves no second one
        path = Path(kept["uri"].removeprefix("sqlite:///")) if kept["uri"].startswith("sqlite:///") else None
        self.lock = file_lock(path, self.LOCK_S) if path else contextlib.nullcontext()
        with self.lock:
            self.client = MlflowClient(tracking_uri=kept["uri"])
            self.id = self._find(run, kept["id"], path)
            params = {k: str(v)[: self.PARAM_LENGTH] for k, v in hyper_parameters(run).items()}
            self._log_params(params)
            self.logged = self._last_step("epoch")
            self.client.update_run(self.id, status="RUNNING")
            self.client.set_tag(self.id, "status", "running")
        for row in recorded(run):  # after an earlier failure
            self.log(row, [])

    def log(self, row: Row, groups: list[Row]) -> None:
        """Logs the row at its epoch; an epoch repeated after a kill has the same numbers."""
        if row["epoch"] > self.logged:
            with self.lock:
                self.client.log_batch(self.id, self._metrics(numbers(row), int(row["epoch"])))

    def end(self, summary: Mapping[str, Any], predicted: AskPredicted) -> None:
        """Writes the best and the test numbers, the status and the confusion matrix."""
        found, values = confusion(predicted), results(summary)
        with self.lock:
            new = {k: v for k, v in values.items() if self._last_step(k) < summary["epochs"]}
            self.client.log_batch(self.id, self._metrics(new, summary["epochs"]))
            if found is not None:
                self.client.log_image(self.id, found, "confusion_matrix.png")
            self.client.set_tag(self.id, "status", summary["status"])
            self.client.set_terminated(self.id, "FINISHED" if summary["status"] == "finished" else "FAILED")

    def _find(self, run: Path, own_id: str, path: Path | None) -> str:
        """The run with our tag, or a new one."""
        files = None if path is None else (path.parent / "mlflow_artifacts").as_uri()
        found = self.client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found else self.client.create_experiment(self.experiment, files)
        runs = self.client.search_runs([experiment], f"tags.`conga.id` = '{own_id}'", max_results=1)
        if runs:
            return runs[0].info.run_id
        tags = {"conga.id": own_id, "run_dir": str(run.absolute())}
        return self.client.create_run(experiment, run_name=self.name or run.name, tags=tags).info.run_id

    def _log_params(self, params: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        entities = [Param(k, v) for k, v in params.items()]
        for first in range(0, len(entities), self.PARAMS_AT_ONCE):
            self.client.log_batch(self.id, params=entities[first : first + self.PARAMS_AT_ONCE])

    def _last_step(self, key: str) -> int:
        return max((m.step for m in self.client.get_metric_history(self.id, key)), default=0)

    @staticmethod
    def _metrics(values: Mapping[str, float], step: int) -> list[Metric]:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        # A column may have any name; a metric only these characters.
        return [Metric(re.sub(r"[^\w\-. /:]", "_", k), v, now, step) for k, v in values.items()]


def absolute(uri: str) -> str:
    """The address of an SQLite file from any folder; any other address as it is."""
    kind, separator, path = uri.partition("sqlite:///")
    return f"{separator}{Path(path).absolute()}" if separator and not kind else uri


def file_lock(path: Path, timeout: float) -> contextlib.AbstractContextManager:
    """A lock between processes: the tables must be made once, and SQLite has one writer."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{path}.lock", timeout=timeout)
