"""A run in memory: its settings, parts and progress."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from data import Batch, Dataset, Source, augment_seed, epoch_order
from models.size import LayerSize
from optim import refresh_rates
from trainer.cli.display import Display
from trainer.rundir.summary import Summary
from trainer.training import by_part, coefficients
from trainer.training.anomaly import Watch
from trainer.training.device import autocast, random_state, set_random_state
from trainer.training.distributed import World
from trainer.training.evaluation import added
from trainer.training.initial import Taken
from trainer.training.loggers import Csv, Guarded
from trainer.training.objectives import Objective, Sums
from trainer.training.settings import Mode, TrainSettings
from trainer.training.stop import StopRequest


class Stepper(Protocol):
    """Takes the steps of an epoch, plain or from a recording."""

    def inputs(self, parts: list[Tensor], start: int) -> Iterator[Any]:
        """The input of a step for each batch of the epoch, from number `start` on."""

    def step(self, given: Sequence[Any], sums: Sums) -> Sums:
        """Takes a step on inputs of :meth:`inputs`; returns the epoch's sums of metrics so far."""


@runtime_checkable
class Measuring(Protocol):
    """An optimizer that measures."""

    measures: tuple[str, ...]  # the names

    def pop_group_measurements(self) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
        """Name -> mean over the epoch, and a row for each parameter; resets the measurements."""


@dataclass
class Progress:
    """The progress of a run; a checkpoint holds all of it."""

    epoch: int = 0  # epochs finished
    step: int = 0  # optimizer steps taken
    position: int = 0  # of these, in the current epoch
    sums: dict[str, Tensor | int] = field(default_factory=dict)  # of the metrics of the current epoch
    lr: float = 0.0  # of the last step
    rates: dict[str, float] = field(default_factory=dict)  # lr_PART -> that of each part with settings of its own
    epoch_s: float = 0.0  # spent training in the current epoch
    seconds: float = 0.0  # spent in earlier processes
    best: dict[str, Any] | None = None  # {metric, value, epoch, mode: min or max}, or see best.py
    improved: dict[str, Any] | None = None  # {value, epoch}: the last that early stopping counts as an improvement
    undefined: list[str] = field(default_factory=list)  # columns that the run has noted as NaN
    final: dict[str, Any] | None = None  # the last epoch's row
    pruned: str | None = None  # why a search ended the run
    untrained: dict[str, float] | None = None  # metrics of train.eval_untrained


@dataclass
class Training:
    """A run in memory."""

    run: Path
    config: dict  # as frozen when the run started
    seed: int
    settings: TrainSettings
    device: torch.device
    dataset: Dataset
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LambdaLR | None
    objective: Objective
    loggers: list[Csv | Guarded]
    summary: Summary
    display: Display
    stop: StopRequest
    world: World = field(default_factory=World)
    progress: Progress = field(default_factory=Progress)
    layers: list[LayerSize] = field(default_factory=list)  # of the model
    taken: Taken | None = None  # the weights from elsewhere that the run starts with
    norms: dict[str, float] = field(default_factory=dict)  # of them, by name, where radii go by these
    source: Source | None = None  # the source of the dataset; None: it was made in memory
    judge: Callable[[dict[str, Any]], str | None] | None = None  # in a search: why to end after this row, or None

    def __post_init__(self) -> None:
        s = self.settings
        self.started = self.heartbeat_at = time.perf_counter()
        self.pulse_at = self.started + self.display.interval
        self.parameters = [x for group in self.optimizer.param_groups for x in group["params"]]
        self.cast = autocast(s.precision, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type) if s.precision == "fp16" else None
        self.ema = averaged(self.model, s.ema) if s.ema is not None else None
        self.recorded: Stepper | None = None
        self.compiles_alone: str | None = None  # why only the model is compiled
        self.watch = Watch(self.model, gradients=self.scaler is None) if s.anomaly else None
        columns, has_val = self.columns(), "val" in self.dataset.splits
        wanted = self.objective.monitor if s.monitor == "auto" else s.monitor
        self.monitor = resolve_metric("monitor", wanted, columns, has_val)
        self.display.monitor = self.monitor
        self.maximize = self.is_better_high(self.monitor, s.monitor_mode)
        early = s.early_stopping
        self.stopper = resolve_metric("early_stopping.metric", early.metric or self.monitor, columns, has_val)
        mode = s.monitor_mode if early.metric is None and early.mode == "auto" else early.mode
        self.stopper_maximize = self.is_better_high(self.stopper, mode)

    def is_better_high(self, column: str, mode: Mode) -> bool:
        """Whether higher numbers of a column are better."""
        higher = ("epoch", *self.objective.higher_is_better)
        return mode == "max" or (mode == "auto" and column.rpartition("/")[2] in higher)

    @property
    def seconds(self) -> float:
        """Seconds spent on the run, in all processes."""
        return self.progress.seconds + time.perf_counter() - self.started

    @property
    def over(self) -> bool:
        """Whether there is nothing left to train."""
        return self.progress.epoch >= self.settings.epochs or self.stopped is not None

    @property
    def stopped(self) -> str | None:
        """Why the run ends before its last epoch, or None."""
        p, s = self.progress, self.settings
        if p.epoch >= s.epochs:
            return None
        if s.max_steps is not None and p.step >= s.max_steps and p.position == 0:
            return f"train.max_steps={s.max_steps}"
        patience = s.early_stopping.patience
        judged = p.final is not None and not math.isnan(p.final.get(self.stopper, math.nan))  # it was evaluated, …
        if patience is not None and judged and p.improved and p.epoch - p.improved["epoch"] >= patience:
            return f"train.early_stopping.patience={patience}: {self.stopper} was best in epoch {p.improved['epoch']}"
        return p.pruned

    def evaluates(self, epoch: int) -> bool:
        """Whether to evaluate the validation split after an epoch (from 1): every `eval_every` epochs, and the last."""
        s = self.settings
        last = epoch == s.epochs or self.progress.step == s.max_steps
        return "val" in self.dataset.splits and (last or epoch % s.eval_every == 0)

    def epoch_parts(self) -> list[Tensor]:
        """The sample indices of each batch of the current epoch."""
        few, size = self.settings.overfit_batches, self.dataset.batch_size
        order = epoch_order(self.dataset.facts.sizes["train"], self.seed, 0 if few else self.progress.epoch)
        order = order[: few * size if few else None]
        if self.device.type == "cuda":
            order = order.pin_memory()  # else the copy would wait for the device
        return list(order.to(self.device, non_blocking=True).split(size))

    @property
    def per_step(self) -> int:
        """Batches of a full step."""
        return batches_per_step(self.settings, self.objective)

    @property
    def full_batches(self) -> int:
        """The number of full batches in an epoch."""
        full = self.dataset.facts.sizes["train"] // self.dataset.batch_size
        return min(full, self.settings.overfit_batches or full)

    def batches(self, parts: Sequence[Tensor], start: int) -> Iterator[Batch]:
        """The batches of the current epoch from number `start` on; not augmented with train.overfit_batches."""
        seed = None if self.settings.overfit_batches else augment_seed(self.seed, self.progress.epoch)
        return self.dataset.batches("train", parts, seed, start)

    def check(self) -> None:
        """Raises Interrupted if something asks to stop; several processes check only between two steps."""
        if self.world.size == 1:
            self.stop.check()

    def columns(self) -> list[str]:
        """The columns of metrics.csv."""
        measured = (*self.objective.metrics, *self.objective.evaluated)
        return [
            *("epoch", "step"),
            *(f"train/{metric}" for metric in self.objective.metrics),
            *(f"{split}/{metric}" for split in ("val", *(["ema"] if self.ema else [])) for metric in measured),
            *("optim/lr", *(f"optim/{name}" for name in (*by_part.rates(self.optimizer), *self.measures))),
            *coefficients.columns(self.model, self.dataset.facts),
            *("time/epoch_s", "time/samples_per_s"),
        ]

    def group_columns(self) -> list[str]:
        """The columns of metrics_groups.csv; [] if the optimizer measures nothing."""
        return ["epoch", "step", "parameter", "set", *self.measures] if self.measures else []

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of the optimizer's measurements."""
        return self.optimizer.measures if isinstance(self.optimizer, Measuring) else ()

    def weights(self, *, averaged: bool) -> nn.Module:
        """The model, or the averaged one with train.ema."""
        if not averaged:
            return self.model
        assert self.ema is not None  # with train.ema
        return self.ema.module

    def state(self) -> dict[str, Any]:
        """The content of a checkpoint: tensors and plain data. All processes must call this at the same time."""
        own = {"sums": on_device(self.progress.sums, torch.device("cpu")), "random": random_state(self.device)}
        return {
            "config": self.config,
            "facts": self.dataset.facts.plain(),
            "model": self.model.state_dict(),
            "objective": self.objective.state(),
            "norms": self.norms,
            "ema": self.ema.state_dict() if self.ema else None,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "progress": asdict(self.progress) | {"seconds": self.seconds, "sums": {}},
            "processes": self.world.gathered(own),  # the state that differs between processes
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Restores the run from `state()`.

        Random states start anew on another kind of device, and in additional processes.
        """
        self.model.load_state_dict(state["model"])
        self.objective.load_state(state.get("objective") or {})
        self.optimizer.load_state_dict(state["optimizer"])
        for part, name in ((self.ema, "ema"), (self.schedule, "schedule"), (self.scaler, "scaler")):
            if part:
                part.load_state_dict(state[name])
        if self.schedule:
            refresh_rates(self.schedule)  # the schedule of a longer run differs
        self.progress = Progress(**state["progress"])
        processes, rank = state["processes"], self.world.rank
        if rank < len(processes):
            set_random_state(processes[rank]["random"], self.device)
        if len(processes) == self.world.size:
            self.progress.sums = on_device(processes[rank]["sums"], self.device)
        elif self.world.main:
            self.progress.sums = on_device(functools.reduce(added, (one["sums"] for one in processes)), self.device)


def batches_per_step(settings: TrainSettings, objective: Objective) -> int:
    """Batches of a full step."""
    return settings.accumulate * (len(objective.turns) if objective.fresh else 1)


def steps_per_epoch(dataset: Dataset, settings: TrainSettings, objective: Objective) -> int:
    """Optimizer steps in an epoch of `dataset`; losses in turn are one step."""
    batches = math.ceil(dataset.facts.sizes["train"] / dataset.batch_size)
    return math.ceil(min(batches, settings.overfit_batches or batches) / batches_per_step(settings, objective))


def resolve_metric(key: str, given: str, columns: list[str], has_val: bool) -> str:
    """The column of a setting; without a validation split, that of the training split.

    Raises:
        ValueError: no such column.
    """
    measured = ("train/", "val/", "ema/") if has_val else ("train/",)
    known = [*(c for c in columns if c.startswith(measured)), "epoch"]
    name = given
    if not has_val and name.startswith(("val/", "ema/")):
        name = "train/" + name.partition("/")[2]
    if name not in known:
        raise ValueError(f"{key}={given}: must be one of {', '.join(known)}")
    return name


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of a model's parameters and buffers: e <- decay e + (1 - decay) x."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def on_device(sums: dict[str, Tensor | int], device: torch.device) -> dict[str, Tensor | int]:
    """Running sums of metrics, on `device`."""
    return {k: v.to(device) if isinstance(v, Tensor) else v for k, v in sums.items()}
