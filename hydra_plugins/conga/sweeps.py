"""What Hydra finds here: ``hydra/sweeper=grid`` or ``=optuna``, ``hydra/launcher=workers``; ``trainer.sweep`` works.

Hydra imports this file whatever it composes, so ``trainer.sweep`` is imported only for a sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from trainer.cli.signatures import check_call
from trainer.rundir.errors import Refused


class Grid(Sweeper):
    """Every combination of the values given."""

    def __init__(self, params: dict[str, Any] | None = None):
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from trainer.sweep.sweep import Sweep

        check_call("hydra.sweeper", {"params": self.params}, Grid, ())
        self._sweep = Sweep(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Path:
        with self._sweep.disk_fails():
            self._sweep.grid(self.params, arguments)
        return self._sweep.folder

    def resume(self, trusted: bool) -> None:
        """Goes on with the jobs that the sweep's directory has."""
        with self._sweep.disk_fails():
            self._sweep.resume(trusted)


class Optuna(Sweeper):
    """Runs that optuna proposes."""

    def __init__(
        self, n_trials: int, sampler: dict[str, Any], pruner: dict[str, Any], params: dict[str, Any] | None = None
    ):
        self.asked = {"n_trials": n_trials, "sampler": sampler, "pruner": pruner, "params": params}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from trainer.sweep.study import needs_optuna
        from trainer.sweep.sweep import Sweep

        needs_optuna()
        check_call("hydra.sweeper", self.asked, Optuna, ())
        self._sweep = Sweep(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Path:
        from trainer.sweep.proposed import Asked
        from trainer.sweep.search import search

        with self._sweep.disk_fails():
            search(self._sweep, Asked(**self.asked), arguments)
        return self._sweep.folder

    def resume(self, trusted: bool) -> None:
        """Goes on with the search in the sweep's directory."""
        from trainer.sweep.proposed import Asked
        from trainer.sweep.search import resume

        with self._sweep.disk_fails():
            resume(self._sweep, Asked(**self.asked), trusted)


class Workers(Launcher):
    """Warm processes on this machine, for the sweepers of this package: they ask how many, and give them the jobs."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        pass

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        raise Refused("hydra/launcher=workers: goes with hydra/sweeper=grid or optuna; Hydra's own wants its basic")
