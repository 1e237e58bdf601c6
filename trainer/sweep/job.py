"""A job of a sweep in its own process."""

from __future__ import annotations

import math
from pathlib import Path

from trainer.sweep.pruning import judge_of


def run_job(path: Path, asked: float = math.inf) -> int:
    """Trains the run in `path`, with pruning in a search; see :func:`trainer.training.run.run_job`."""
    from trainer.training import run  # imports torch, which the starting process does not need

    return run.run_job(path, judge_of, asked)
