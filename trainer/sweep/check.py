"""Builds every job of a sweep before the first starts, in a separate process, which contains torch's global state."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from trainer.cli.display import Silent
from trainer.cli.explain import explain
from trainer.cli.signatures import check_config
from trainer.rundir.errors import one_line
from trainer.rundir.summary import Summary
from trainer.training.distributed import World
from trainer.training.parts import GIVEN
from trainer.training.stop import StopRequest

NOWHERE = Path("/nonexistent")  # writes nothing


def check(configs: Sequence[dict[str, Any]], metric: str | None, answers: Connection) -> None:
    """Sends ``(i, line or None)`` for each configuration; the line says why it cannot run.

    Args:
        metric: `sweep.metric`, which each job must log.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep kills this process
    datasets: dict[str, Any] = {}
    lines: dict[str, str | None] = {}
    for i, config in enumerate(configs):
        harmless = isinstance(config["seed"], int) and 0 <= config["seed"] < 2**63
        alike = json.dumps(config | {"seed": 0} if harmless else config, sort_keys=True)
        if alike not in lines:
            lines[alike] = mistake(config, metric, datasets)
        answers.send((i, lines[alike]))


def count_gpus(answers: Connection) -> None:
    """Sends the number of GPUs; asking torch in the sweep's process could break CUDA in its forks."""
    import torch

    answers.send(torch.cuda.device_count())


def survey(configs: Sequence[dict[str, Any]], metric: str | None, answers: Connection) -> None:
    """Sends ``(line, measure)`` for each configuration; one of them is None.

    A measure is `sweep.metric`, else the monitored metric, and whether higher values are better.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep kills this process
    datasets: dict[str, Any] = {}
    for config in configs:
        answers.send(look(config, metric, datasets))


def mistake(config: dict[str, Any], metric: str | None, datasets: dict[str, Any]) -> str | None:
    """Why a run of this configuration cannot start, in one line; None if it can."""
    return look(config, metric, datasets)[0]


def look(
    config: dict[str, Any], metric: str | None, datasets: dict[str, Any]
) -> tuple[str | None, tuple[str, bool] | None]:
    """Why a run of this configuration cannot start, or its measure."""
    from trainer.training.assembly import assemble  # imports torch, which the asking process does not need

    try:
        check_config(config, assemble, GIVEN)
        given: dict[str, Any] = {"path": NOWHERE, "summary": Summary(NOWHERE), "show": Silent, "kept": datasets}
        training = assemble(**config, **given, frozen=config, stop=StopRequest(), world=World())
    except Exception as error:  # any error of a user's constructor
        return explain(error, ()) or f"{type(error).__name__}: {one_line(error)}", None
    tested = ("test",) if "test" in training.dataset.splits else ()
    measured = (*training.objective.metrics, *training.objective.evaluated)
    known = [*training.columns(), *(f"{split}/{name}" for split in tested for name in measured)]
    if metric is not None and metric not in known:
        return f"sweep.metric={metric}: must be one of {', '.join(known)}", None
    if metric is None:
        return None, (training.monitor, training.maximize)
    return None, (metric, training.is_better_high(metric, "auto"))
