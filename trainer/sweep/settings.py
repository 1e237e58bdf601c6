"""The keys of ``conf/sweep/default.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainer.rundir.typed import check_count

Direction = Literal["auto", "minimize", "maximize"]


@dataclass(kw_only=True)
class SweepSettings:
    """The keys ``sweep.*``; ``conf/sweep/default.yaml`` says what each means.

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

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("jobs_per_gpu", 1), ("retries", 0), ("keep_checkpoints", 0)):
            value = getattr(self, name)
            if isinstance(value, int):
                check_count(name, value, least)
