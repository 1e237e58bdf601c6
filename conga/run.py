"""A run in Python: ``run = conga.load("outputs/…")``. Torch is imported when the model is used."""

from __future__ import annotations

import html
import os
import warnings
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conga.spelled import as_arguments
from trainer.rundir import configuration, run_dir
from trainer.rundir.errors import Refused, one_line
from trainer.rundir.summary import Summary

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

    from data import Dataset
    from trainer.analysis.load import Run as Loaded
    from trainer.analysis.raw_model import Model
    from trainer.rundir.records import RunRecord


class Run:
    """A run, read from its directory at each access; so a run that still trains shows its progress.

    The model and the data are read only once.

    Args:
        path: its directory.
        checkpoint, device, trust: see :func:`conga.load`.

    Raises:
        Refused: it is not the directory of a run.
    """

    def __init__(self, path: Path, checkpoint: str = "best", device: str = "auto", trust: bool = False):
        configuration.check_run(path)
        self.path = Path(os.path.abspath(path))
        self._checkpoint, self._device, self._trust = checkpoint, device, trust

    @property
    def status(self) -> str:
        """``finished``, ``diverged``, ``interrupted``, ``failed``, ``running``, ``queued`` or ``damaged``."""
        return self._record.status

    @property
    def config(self) -> dict[str, Any]:
        """Its configuration with the changes of resumes: group -> key -> value; paths are absolute."""
        return configuration.effective(configuration.frozen(self.path) or {}, self.path)

    @property
    def summary(self) -> dict[str, Any]:
        """``summary.json``: ``status``, ``epochs``, ``best``, ``final``, ``test``, …; {} if missing."""
        return Summary.read(self.path).data

    @property
    def metrics(self) -> pd.DataFrame:
        """``metrics.csv``: a row per epoch (``epoch``, ``step``, ``train/loss``, ``val/accuracy``, …)."""
        from trainer.runs import load_curves

        return load_curves(self.path).drop(columns=["path", "name"])

    @cached_property
    def model(self) -> Model:
        """The network, in evaluation mode, as a module that takes raw inputs: see
        :class:`trainer.analysis.raw_model.Model`.

        Raises:
            Refused: the checkpoint is missing or damaged, or its class is neither part of conga nor trusted.
        """
        from trainer.analysis.raw_model import Model

        return Model(self._loaded.model, self._loaded.objective, self._loaded.precision).eval()

    @property
    def network(self) -> nn.Module:
        """The network alone, for normalized inputs."""
        return self.model.network

    @cached_property
    def dataset(self) -> Dataset:
        """The data, read again: ``dataset.splits["test"]`` is (inputs, targets), raw, on the run's device.

        ``dataset.facts`` has their names, shapes and statistics.

        Raises:
            Refused: they cannot be read, or changed since training.
        """
        return self._loaded.dataset

    def predict(self, x: Any) -> pd.DataFrame:
        """Predictions for raw inputs, with the columns of ``python -m trainer predict --csv``.

        ``prediction``, ``probability`` and ``probability_CLASS``; for a regression only ``prediction`` in its units.

        Args:
            x: a NumPy array, tensor or nested list of (N, *input_shape), or one input of input_shape; a frame, whose
                columns are found by name; or the path of an image, a folder of images, a table or an ``.npz`` file.

        Returns:
            A row for each input; the index is its number, or the name of the image.

        Raises:
            Refused: the inputs are of another kind than the training data.
        """
        import pandas as pd

        from trainer.analysis.inputs import inputs_of
        from trainer.analysis.predict import batch_size, predict
        from trainer.training.predictions import as_columns

        run = self._loaded
        run.must_predict()
        try:
            inputs = inputs_of(x, run.facts, lambda: run.source, batch_size(run.facts))
            predictions = predict(run, inputs)
        except (ValueError, OSError) as error:  # errors of the data's readers name the file
            raise Refused(one_line(error)) from None
        for line in (*run.notes, *inputs.notes, *(f"not predicted: {line}" for line in inputs.unread)):
            warnings.warn(line, stacklevel=2)
        index = pd.Index(inputs.names, name=inputs.kind)
        return pd.DataFrame(as_columns(run.objective, predictions), index=index)

    @cached_property
    def _loaded(self) -> Loaded:
        from trainer.analysis.load import load_run

        with as_arguments():
            return load_run(self.path, self._checkpoint, self._device, trusted=self._trust)

    @property
    def _record(self) -> RunRecord:
        from trainer.rundir.records import find_runs

        return find_runs([self.path])[0]

    def _facts(self) -> dict[str, str]:
        """The run in a few words."""
        record = self._record
        data, model, optim = (record.config.get(group) for group in ("data", "model", "optim"))
        facts = {"path": run_dir.shown(self.path), "trains": f"{model} on {data} with {optim}", "status": record.status}
        facts["status"] += f" after {record.summary.get('epochs', 0)} epochs"
        if record.best and record.best.get("value") is not None:
            facts["best"] = f"{record.best['metric']} {record.best['value']:.4g} in epoch {record.best['epoch']}"
        if record.test:
            facts["test"] = ", ".join(f"{k} {v:.4g}" for k, v in record.test.items() if v is not None)
        if record.error:
            facts["error"] = record.error
        return facts

    def __repr__(self) -> str:
        path, *rest = self._facts().items()
        return "\n".join([f"<conga.Run {path[1]}", *(f"  {name:<7} {text}" for name, text in rest)]) + ">"

    def _repr_html_(self) -> str:
        rows = (f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in self._facts().items())
        return f"<table>{''.join(rows)}</table>"
