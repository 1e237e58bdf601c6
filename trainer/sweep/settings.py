"""The keys of ``conf/sweep/default.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainer.rundir.typed import check_count

Direction = Literal["auto", "minimize", "maximize"]


@dataclass(kw_only=True)
class SweepSettings:
    """The keys ``sweep.*``; ``conf/sweep/default.yaml`` says what each means.

    Args:
        workers: jobs at a time, at least 1; ``auto``: one per CPU core, or `jobs_per_gpu` per GPU.
        jobs_per_gpu: jobs at a time on each GPU, at least 1.
        fail_fast: stops at the first job that fails.
        retries: how often a job that fails is repeated at once, at least 0.
        rerun_failed: when a sweep is resumed: also repeats failed jobs.
        keep_checkpoints: keeps checkpoints of so many of the best runs, at least 0; those of other finished runs are
            removed.
        metric: metric of the best run: a column of metrics.csv, or test/NAME; None: train.monitor.
        direction: which values of it are better; ``auto``: maximize for accuracies and similar metrics.
        seeds: of a search: runs of each trial, whose value is their mean, at least 1; their seeds follow `seed`.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    workers: int | Literal["auto"]
    jobs_per_gpu: int
    fail_fast: bool
    retries: int
    rerun_failed: bool
    keep_checkpoints: int | Literal["all"]
    metric: str | None
    direction: Direction
    seeds: int = 1  # it has a default: sweeps of earlier versions lack it

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("jobs_per_gpu", 1), ("retries", 0), ("keep_checkpoints", 0), ("seeds", 1)):
            value = getattr(self, name)
            if isinstance(value, int):
                check_count(name, value, least)
