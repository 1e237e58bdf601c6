"""``hydra/sweeper=grid`` or ``=optuna`` and ``hydra/launcher=workers``, where Hydra finds them.

Hydra always imports this file, so ``trainer.sweep``, which does the work, is imported only for a sweep.
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
    """Every combination of the values."""

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
        """Resumes the jobs in the sweep's directory."""
        with self._sweep.disk_fails():
            self._sweep.resume(trusted)


class Optuna(Sweeper):
    """Runs that Optuna proposes."""

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
        """Resumes the search in the sweep's directory."""
        from trainer.sweep.proposed import Asked
        from trainer.sweep.search import resume

        with self._sweep.disk_fails():
            resume(self._sweep, Asked(**self.asked), trusted)


class Workers(Launcher):
    """Warm processes on this machine, only for the sweepers of this package."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        pass

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        raise Refused("hydra/launcher=workers: needs hydra/sweeper=grid or optuna; Hydra's own needs basic")
