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
        min_delta: an improvement must be larger than this.
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
    """The keys ``train.*``; ``conf/train/default.yaml`` says what each means.

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
