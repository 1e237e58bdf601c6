"""Programs besides ``metrics.csv`` that a run can tell its numbers to: TensorBoard, Weights & Biases, MLflow.

    python -m trainer logger=tensorboard && tensorboard --logdir outputs
    python -m trainer 'logger=[tensorboard,wandb,mlflow]'

A tracker has three methods, and so has the record in CSV (``loggers.Csv``): ``start`` before the first epoch of a
process, ``log`` once an epoch, ``end`` once the run is over, finished or diverged. What it needs of the configuration
it reads from the run directory. Its package is an extra, imported when the run starts. A run does not depend on it:
whatever it raises is said in one line, and the run goes on (``Guarded``).
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import json
import logging
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image

from trainer import run_dir
from trainer.errors import Interrupted, Refused, one_line
from trainer.files import write_whole
from trainer.loggers import Csv, Row
from trainer.stored import MOST_TABLE, read_object, read_text

if TYPE_CHECKING:
    from mlflow.entities import Metric

AskConfusion = Callable[[], bytes | None]  # a PNG, drawn when the first tracker asks


def guarded(loggers: Mapping[str, Any], say: Callable[[str], None]) -> list[Any]:
    """The run's loggers: first its record in CSV, as it is; then the trackers, whose failures cost only themselves.

    Raises:
        Refused: there is no record.
    """
    if not isinstance(loggers.get("csv"), Csv):
        raise Refused("logger.csv: missing; every run writes metrics.csv")
    return [loggers["csv"], *(Guarded(f"logger.{k}", v, say) for k, v in loggers.items() if k != "csv")]


class Guarded:
    """A tracker that cannot stop the run, nor change it: the first error is said in one line, and is its last.

    torch's random state is put back after every call.
    """

    def __init__(self, name: str, tracker: Any, say: Callable[[str], None]):
        self.name, self.tracker, self.say = name, tracker, say

    def start(self, run: Path, columns: list[str], group_columns: list[str], epochs_done: int) -> None:
        """See ``Csv.start``."""
        self._call("start", run, columns, group_columns, epochs_done)

    def log(self, row: Row, groups: list[Row]) -> None:
        """See ``Csv.log``."""
        self._call("log", dict(row), [dict(group) for group in groups])

    def end(self, summary: Mapping[str, Any], confusion: AskConfusion) -> None:
        """See ``Csv.end``."""
        line = self._call("end", summary, confusion)
        if isinstance(line, str):
            self.say(f"{self.name.removeprefix('logger.'):<11} {line}")

    def _call(self, method: str, *arguments: Any) -> Any:
        if self.tracker is None:
            return None
        try:
            with torch.random.fork_rng(devices=[]):
                return getattr(self.tracker, method)(*arguments)
        except Interrupted:  # while it asked for the confusion matrix
            raise
        except Exception as error:
            self.tracker = None
            what = one_line(error) if isinstance(error, Refused) else f"{type(error).__name__}: {one_line(error)}"
            self.say(f"note        {self.name} failed: {what}; the run goes on without it")
            return None


class TensorBoard:
    """Event files in ``RUN/tensorboard``: scalars, learning curves, hyper-parameters, the confusion matrix.

    Scalars stand at their epoch. `tensorboard --logdir outputs` compares the runs in its HParams tab, and shows train
    and val of a metric in one chart in its Custom Scalars tab.
    """

    def __init__(self) -> None:
        needs("tensorboard", "tensorboard")

    def start(self, run: Path, columns: list[str], group_columns: list[str], epochs_done: int) -> None:
        """Opens an event file; readers drop what earlier ones hold of later epochs, which are done again."""
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        folder = run / "tensorboard"
        again = epochs_done + 1 if folder.exists() else None
        self.writer = SummaryWriter(str(folder), purge_step=again)
        metrics = dict.fromkeys(c.partition("/")[2] for c in columns if c.startswith(("train/", "val/")))
        splits = ("train", "val", "ema")
        curves = {m: ["Multiline", [f"^{split}/{re.escape(m)}$" for split in splits]] for m in metrics}
        self.writer.add_custom_scalars({"learning curves": curves})
        # Not its first message, the experiment: a reader takes one run's for all, and other runs of a sweep may have
        # other keys. Without any it puts together those of all runs. Not add_hparams: that makes a run of its own.
        _, begin, self.over = hparams(hyper_parameters(run), {})
        self.writer.file_writer.add_summary(begin)
        self.writer.flush()

    def log(self, row: Row, groups: list[Row]) -> None:
        """Adds a scalar for each number, at the row's epoch."""
        self._add({k: v for k, v in numbers(row).items() if k != "epoch"}, row["epoch"])

    def end(self, summary: Mapping[str, Any], confusion: AskConfusion) -> None:
        """Adds the best and the test numbers and the confusion matrix, and closes the file."""
        self._add(results(summary), summary["epochs"])
        found = confusion()
        if found is not None:
            self.writer.add_image("confusion matrix", np.asarray(opened(found)), summary["epochs"], dataformats="HWC")
        self.writer.file_writer.add_summary(self.over)
        self.writer.close()

    def _add(self, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()  # a killed run leaves its epochs


class Wandb:
    """A run of Weights & Biases, in ``RUN/wandb``; a resumed run goes on with the same one.

    wandb writes what it was told every 15 s only, so a killed run's files lack rows that its checkpoint holds. A resume
    therefore tells it all rows again: offline in a new folder, which replaces those of before; online wandb itself
    drops the steps that its server has.

    Args:
        project: where runs are gathered.
        mode: offline, for `wandb sync RUN/wandb/offline-run-*` later; online, which needs `wandb login`; disabled.
        name: of the run; null: that of its directory.
        group: of runs that belong together; null: none.
    """

    def __init__(
        self, *, project: str, mode: Literal["offline", "online", "disabled"], name: str | None, group: str | None
    ):
        needs("wandb", "wandb")
        self.project, self.mode, self.name, self.group = project, mode, name, group

    def start(self, run: Path, columns: list[str], group_columns: list[str], epochs_done: int) -> None:
        """Begins the run, or goes on with it: the record in CSV, which was started before, has its rows."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # else it calls home, offline, too
        # Else its log files go to ~/.cache; the first run of a process decides.
        os.environ.setdefault("WANDB_CACHE_DIR", str((run / "wandb" / "cache").absolute()))
        import wandb

        kept = read_object(run / "wandb" / "run.json") or {"id": secrets.token_hex(4)}
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
            config=run_dir.frozen(run),
            reinit="finish_previous",  # in a sweep, one that failed
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        for row in recorded(run):
            self.log(row, [])
        if self.mode == "offline":
            for folder in before:
                shutil.rmtree(folder)

    def log(self, row: Row, groups: list[Row]) -> None:
        """Logs the row at its epoch."""
        self.run.log(numbers(row), step=int(row["epoch"]), commit=True)  # else it waits for the next

    def end(self, summary: Mapping[str, Any], confusion: AskConfusion) -> None:
        """Writes the summary and the confusion matrix, and closes the run."""
        import wandb

        self.run.summary.update({"status": summary["status"], **results(summary)})
        found = confusion()
        if found is not None:
            self.run.summary["confusion matrix"] = wandb.Image(opened(found))
        self.run.finish(exit_code=0 if summary["status"] == "finished" else 1)


class Mlflow:
    """A run in an MLflow store, by default one database for all runs; a resumed run goes on with the same one.

    Many processes may share a database of SQLite: each takes a lock beside it while it reads or writes.

    Args:
        uri: `sqlite:///FILE`, or that of a tracking server.
        experiment: where runs are gathered.
        name: of the run; null: that of its directory.
    """

    PARAMS_AT_ONCE, PARAM_LENGTH, LOCK_S = 100, 500, 120.0  # 500: the limit of older servers

    def __init__(self, *, uri: str, experiment: str, name: str | None):
        needs("mlflow", "mlflow", "sqlalchemy", "alembic")
        self.uri, self.experiment, self.name = uri, experiment, name

    def start(self, run: Path, columns: list[str], group_columns: list[str], epochs_done: int) -> None:
        """Begins the run, or goes on with it; makes the database if it is not there."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # else it calls home
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # else it tries for minutes where no server is
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        kept = read_object(run / "mlflow.json") or {"id": secrets.token_hex(8), "uri": absolute(self.uri)}
        write_json(run / "mlflow.json", kept)  # before the run is made: a kill in between leaves no second one
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
        for row in recorded(run):  # where it failed before, and the run went on
            self.log(row, [])

    def log(self, row: Row, groups: list[Row]) -> None:
        """Logs the row at its epoch, once: an epoch done again after a kill has the same numbers."""
        if row["epoch"] > self.logged:
            with self.lock:
                self.client.log_batch(self.id, self._metrics(numbers(row), int(row["epoch"])))

    def end(self, summary: Mapping[str, Any], confusion: AskConfusion) -> None:
        """Writes the best and the test numbers, the status and the confusion matrix."""
        found, values = confusion(), results(summary)
        with self.lock:
            new = {k: v for k, v in values.items() if self._last_step(k) < summary["epochs"]}
            self.client.log_batch(self.id, self._metrics(new, summary["epochs"]))
            if found is not None:
                self.client.log_image(self.id, opened(found), "confusion_matrix.png")
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
        # A column's name may have any characters, and a metric's only these.
        return [Metric(re.sub(r"[^\w\-. /:]", "_", k), v, now, step) for k, v in values.items()]


def opened(png: bytes) -> Image.Image:
    """The picture in a PNG, without transparency."""
    return Image.open(io.BytesIO(png)).convert("RGB")


def needs(extra: str, *modules: str) -> None:
    """Raises ValueError where a package of an extra is missing."""
    for name in modules:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # a folder of that name, such as wandb's own, is found, too
            raise ValueError(f"needs {name}: pip install -e '.[{extra}]'")


def numbers(row: Row) -> dict[str, float]:
    """What was measured: as in ``metrics.csv``, where the rest is empty."""
    return {k: v for k, v in row.items() if v is not None and not math.isnan(v)}


def recorded(run: Path) -> list[Row]:
    """The rows of ``metrics.csv``."""
    text = read_text(run / "metrics.csv", MOST_TABLE) or ""
    return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(io.StringIO(text, newline=""))]


def results(summary: Mapping[str, Any]) -> dict[str, float]:
    """The best value of the monitored metric, and the metrics of the test split."""
    best = {f"best/{summary['best']['metric']}": summary["best"]["value"]} if summary["best"] else {}
    return numbers(best | {f"test/{k}": v for k, v in (summary["test"] or {}).items()})


def hyper_parameters(run: Path) -> dict[str, bool | int | float | str]:
    """The configuration that the run began with, flat: `optim` is the name of its target, `optim.lr` a key of it.

    Nulls are left out; lists are texts.
    """
    flat = dict(_flat("", run_dir.frozen(run)))
    return {k: v for k, v in flat.items() if k != "train" and not k.startswith("logger.")}


def _flat(key: str, value: Any) -> Iterator[tuple[str, bool | int | float | str]]:
    if isinstance(value, dict):
        for name, child in value.items():
            if name == "_target_":
                yield key, (child or "none").rpartition(".")[2]
            else:
                yield from _flat(f"{key}.{name}" if key else name, child)
    elif value is not None:
        yield key, value if isinstance(value, bool | int | float | str) else str(value)


def absolute(uri: str) -> str:
    """The address of an SQLite file from any folder; any other address as it is."""
    kind, separator, path = uri.partition("sqlite:///")
    return f"{separator}{Path(path).absolute()}" if separator and not kind else uri


def file_lock(path: Path, timeout: float) -> contextlib.AbstractContextManager:
    """What only one process at a time can hold: the tables must be made once, and SQLite has one writer."""
    from filelock import FileLock

    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{path}.lock", timeout=timeout)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces the file."""
    write_whole(path, json.dumps(content).encode() + b"\n")
