"""The keys ``train.*``: length, device, precision, monitor and more."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from trainer.rundir.typed import check_count

Mode = Literal["auto", "min", "max"]
Precision = Literal["float32", "bf16", "fp16", "float64"]


@dataclass(kw_only=True)
class EarlyStopping:
    """Early stopping.

    Args:
        patience: epochs without improvement before the end; None: off.
        metric: a column of metrics.csv; None: ``train.monitor``.
        mode: as ``train.monitor_mode``.
        min_delta: the least improvement that counts, at least 0.
    """

    patience: int | None = None
    metric: str | None = None
    mode: Mode = "auto"
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.patience is not None:
            check_count("patience", self.patience, 1)
        if not 0 <= self.min_delta < math.inf:
            raise ValueError(f"min_delta={self.min_delta}: must be at least 0, and finite")


@dataclass(kw_only=True)
class TrainSettings:
    """The keys ``train.*``.

    Args:
        epochs: passes over the training samples, at least 1.
        max_steps: ends the run after so many steps, if its epochs do not end earlier; at least 1.
        max_minutes: stops after so many minutes, with a checkpoint to resume from; more than 0.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; auto is a GPU if there is one.
        threads: CPU threads, at least 1; ``auto``: one, unless a step has enough work for more
            (see :func:`trainer.training.device.pick_threads`).
        monitor: the metric of the best epoch, a column of metrics.csv; ``epoch``: the last epoch is the best;
            ``auto``: the objective's, mostly val/loss.
        monitor_mode: which values of it are better; ``auto``: max for accuracies and similar metrics, else min.
        early_stopping: see :class:`EarlyStopping`.
        eval_every: epochs between two evaluations, at least 1; the last epoch has one.
        eval_untrained: also evaluates the model before its first step.
        checkpoint_steps: writes a checkpoint every so many steps, too, at least 1; always at an epoch's end and on a
            signal.
        keep: models of the last so many epochs that are kept besides the last and the best, at least 0; or all.
        resume: a run directory to continue.
        clip_norm: scales a longer gradient down to this Euclidean norm, more than 0.
        accumulate: batches of one step, at least 1.
        precision: of the model's arithmetic; bf16 and fp16 by autocast.
        compile: the whole step as one compiled graph, which pays for long runs.
        cuda_graph: the whole step as one CUDA graph; ``auto``: on a GPU, if all parts are conga's.
        channels_last: the order of images in memory; ``auto``: on a GPU.
        ema: decay of averaged weights, in [0, 1), such as 0.999; they are evaluated, too.
        deterministic: only algorithms that give the same bits each time, or an error.
        anomaly: names the first layer that makes a NaN or an infinity; slow.
        overfit_batches: trains on so many batches only, at least 1, the same in each epoch: can the model learn them?
        profile: records so many steps in trace.json, at least 1.
        init_from: a run directory, or a checkpoint, whose weights of the same name and shape the run starts from.
        freeze: parameters that stay as they are: patterns of names, or weights.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    epochs: int
    max_steps: int | None
    max_minutes: float | None
    device: str
    threads: int | Literal["auto"]
    monitor: str
    monitor_mode: Mode
    early_stopping: EarlyStopping
    eval_every: int
    eval_untrained: bool
    checkpoint_steps: int | None
    keep: int | Literal["all"]
    resume: str | None
    clip_norm: float | None
    accumulate: int
    precision: Precision
    compile: bool
    cuda_graph: bool | Literal["auto"]
    channels_last: bool | Literal["auto"]
    ema: float | None
    deterministic: bool
    anomaly: bool
    overfit_batches: int | None
    profile: int | None
    init_from: str | None = None  # these have defaults: runs of earlier versions lack them
    freeze: str | list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        counts = ("epochs", "max_steps", "threads", "eval_every", "checkpoint_steps", "accumulate")
        for name in (*counts, "overfit_batches", "profile"):
            value = getattr(self, name)
            if isinstance(value, int):
                check_count(name, value, 1)
        if isinstance(self.keep, int):
            if self.keep < 0:
                raise ValueError(f"keep={self.keep}: must be all, or at least 0")
            check_count("keep", self.keep, 0)
        for name in ("max_minutes", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value}: must be greater than 0, and finite")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"ema={self.ema}: must be in [0, 1)")
        if self.anomaly and self.compile:
            raise ValueError("anomaly=true: looks at each layer, which compile=true merges; choose one")
        if not isinstance(self.early_stopping, EarlyStopping):  # a mapping, from YAML
            try:
                self.early_stopping = EarlyStopping(**self.early_stopping)
            except ValueError as error:
                raise ValueError(f"early_stopping.{error}") from error
