"""TensorBoard: ``python -m trainer logger=tensorboard && tensorboard --logdir outputs``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from trainer.analysis.loggers.tracked import confusion, hyper_parameters, needs, numbers, results
from trainer.training.loggers import AskPredicted, Row


class TensorBoard:
    """Event files in ``RUN/tensorboard``: scalars, learning curves, hyper-parameters, the confusion matrix.

    Scalars are at their epoch. `tensorboard --logdir outputs` compares the runs in its HParams tab, and shows train
    and val of a metric in one chart in its Custom Scalars tab.
    """

    def __init__(self) -> None:
        needs("tensorboard", "tensorboard")

    def start(self, run: Path, columns: list[str], group_columns: list[str], epochs_done: int) -> None:
        """Opens an event file; readers drop later epochs of earlier files, which are repeated."""
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        folder = run / "tensorboard"
        again = epochs_done + 1 if folder.exists() else None
        self.writer = SummaryWriter(str(folder), purge_step=again)
        metrics = dict.fromkeys(c.partition("/")[2] for c in columns if c.startswith(("train/", "val/")))
        splits = ("train", "val", "ema")
        curves = {m: ["Multiline", [f"^{split}/{re.escape(m)}$" for split in splits]] for m in metrics}
        self.writer.add_custom_scalars({"learning curves": curves})
        # Without the experiment's message: a reader would take that of one run for all runs of a sweep, which may have
        # other keys. Without it, a reader merges those of all runs. Not add_hparams, which makes a separate run.
        _, begin, self.over = hparams(hyper_parameters(run), {})
        self.events = cast(Any, self.writer.file_writer)  # torch's annotation says None
        self.events.add_summary(begin)
        self.writer.flush()

    def log(self, row: Row, groups: list[Row]) -> None:
        """Adds a scalar for each number, at the row's epoch."""
        self._add({k: v for k, v in numbers(row).items() if k != "epoch"}, row["epoch"])

    def end(self, summary: Mapping[str, Any], predicted: AskPredicted) -> None:
        """Adds the best and the test numbers and the confusion matrix, and closes the file."""
        self._add(results(summary), summary["epochs"])
        found = confusion(predicted)
        if found is not None:
            self.writer.add_image("confusion matrix", np.asarray(found), summary["epochs"], dataformats="HWC")
        self.events.add_summary(self.over)
        self.writer.close()

    def _add(self, values: Mapping[str, float], epoch: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)
        self.writer.flush()  # so that a killed run leaves its epochs
