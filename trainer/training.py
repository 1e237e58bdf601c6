"""A run in memory: its settings, its parts, and where it stands."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from data import Dataset
from optim import refresh_rates
from trainer.display import Display
from trainer.run_dir import Summary
from trainer.stop import StopRequest


@dataclass(kw_only=True)
class Settings:
    """How long, where and by which measure a run trains (``conf/train/``).

    Raises:
        ValueError: `name=value: what would be right`.
    """

    epochs: int
    device: str
    threads: int | Literal["auto"]
    monitor: str
    monitor_mode: Literal["auto", "min", "max"]
    checkpoint_steps: int | None
    resume: str | None

    def __post_init__(self) -> None:
        for name in ("epochs", "threads", "checkpoint_steps"):
            value = getattr(self, name)
            if isinstance(value, int) and not 1 <= value < 2**31:
                raise ValueError(f"{name}={value}: must be at least 1 and less than 2**31")


@dataclass
class Progress:
    """How far a run is; all of it goes into the checkpoint."""

    epoch: int = 0  # epochs finished
    step: int = 0  # optimizer steps taken
    position: int = 0  # of these, in the epoch under way
    sums: dict[str, Tensor | int] = field(default_factory=dict)  # of the metrics of the epoch under way
    lr: float = 0.0  # of the last step
    epoch_s: float = 0.0  # spent training in the epoch under way
    seconds: float = 0.0  # spent in all, until this process took over
    best: dict[str, Any] | None = None  # {metric, value, epoch}
    final: dict[str, Any] | None = None  # the last epoch's row


@dataclass
class Training:
    """A run in memory: what it trains, with what, and where it stands."""

    run: Path
    config: dict  # as frozen when the run started
    seed: int
    settings: Settings
    device: torch.device
    dataset: Dataset
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR | None
    objective: Any
    loggers: list[Any]
    summary: Summary
    display: Display
    stop: StopRequest
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.started = self.heartbeat_at = time.perf_counter()
        self.pulse_at = self.started + self.display.interval
        self.monitor = resolve_monitor(self.settings, self.columns(), "val" in self.dataset.splits)
        mode = self.settings.monitor_mode
        higher = self.monitor.rpartition("/")[2] in self.objective.higher_is_better
        self.maximize = mode == "max" or (mode == "auto" and higher)

    @property
    def seconds(self) -> float:
        """Spent on the run, by this process and those before it."""
        return self.progress.seconds + time.perf_counter() - self.started

    def columns(self) -> list[str]:
        """Of metrics.csv."""
        return [
            *("epoch", "step"),
            *(f"train/{metric}" for metric in self.objective.metrics),
            *(f"val/{metric}" for metric in (*self.objective.metrics, *self.objective.evaluated)),
            *("optim/lr", *(f"optim/{name}" for name in self.measures)),
            *("time/epoch_s", "time/samples_per_s"),
        ]

    def group_columns(self) -> list[str]:
        """Of metrics_groups.csv; none where the optimizer measures nothing."""
        return ["epoch", "step", "parameter", "set", *self.measures] if self.measures else []

    @property
    def measures(self) -> tuple[str, ...]:
        """What the optimizer measures by itself."""
        return getattr(self.optimizer, "measures", ())

    def state(self) -> dict[str, Any]:
        """All that a checkpoint holds: tensors and plain data."""
        return {
            "config": self.config,
            "facts": self.dataset.facts.plain(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "progress": asdict(self.progress) | {"seconds": self.seconds},
            "random": {
                "device": self.device.type,
                "cpu": torch.get_rng_state(),
                "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            },
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Takes the run back to where `state()` was called; on another kind of device its random states start anew."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule:
            self.schedule.load_state_dict(state["schedule"])
            refresh_rates(self.schedule)  # a longer run has another schedule
        self.progress = Progress(**state["progress"])
        states = state["random"]
        torch.set_rng_state(states["cpu"].cpu())
        if states["device"] == self.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"].cpu(), self.device)


class Diverged(Exception):
    """The loss or a weight is no number any more: the same words, whichever is seen first and whenever."""

    def __init__(self, progress: Progress):
        super().__init__(f"the loss or a weight is NaN or infinite in epoch {progress.epoch + 1}")


def resolve_monitor(settings: Settings, columns: list[str], has_val: bool) -> str:
    """The column that `best` goes by; without a validation split, the training split's.

    Raises:
        ValueError: no such column.
    """
    known = [c for c in columns if c.startswith(("train/", "val/")) and (has_val or "val/" not in c)]
    name = settings.monitor
    if not has_val and name.startswith("val/"):
        name = "train/" + name.removeprefix("val/")
    if name not in known:
        raise ValueError(f"monitor={settings.monitor}: must be one of {', '.join(known)}")
    return name
