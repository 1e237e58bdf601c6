"""One sweep, from the command line to its table and picture."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from trainer.cli.begin import leave_hangup
from trainer.cli.command import refuse as failed
from trainer.cli.composing import plain
from trainer.cli.display import listed, loading_progress, tell
from trainer.cli.explain import FULL, explain_os_error
from trainer.cli.outcome import EXIT
from trainer.cli.processes import ONE_RUN
from trainer.cli.signatures import check_node
from trainer.rundir import configuration, run_dir
from trainer.rundir.errors import Refused
from trainer.sweep import folder as sweep_folder
from trainer.sweep import results
from trainer.sweep.board import make_board
from trainer.sweep.check import check, count_gpus
from trainer.sweep.conduct import Planned, conduct
from trainer.sweep.grid import Composer, Job, expand, parse
from trainer.sweep.job import run_job
from trainer.sweep.launchers import LAUNCHED, Elsewhere, at_once, check_installed
from trainer.sweep.pool import Pool, Slot
from trainer.sweep.settings import SweepSettings
from trainer.training.parts import build

OURS = "hydra_plugins.conga.sweeps.Workers"


class Ended(SystemExit):
    """A sweep failed or was stopped; `folder` is the sweep's."""

    def __init__(self, code: int, folder: Path):
        super().__init__(code)
        self.folder = folder


class Sweep:
    """A sweep in its main process.

    Args:
        config: as Hydra composed it for all jobs together.

    Raises:
        Refused: a mistake in `sweep.*`, or the directory is not for a sweep.
    """

    def __init__(self, context: HydraContext, task_function: TaskFunction, config: DictConfig):
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise Refused(ONE_RUN)
        for override in config.hydra.overrides.hydra:
            if override.startswith("hydra.sweep.subdir="):
                raise Refused(f"{override}: the sweep names its jobs; only hydra.sweep.dir can be chosen")
        self.context, self.config = context, config
        node = plain(config.sweep)
        check_node("sweep", node, ())
        self.settings: SweepSettings = build("sweep", node)
        self.folder = Path(config.hydra.sweep.dir).absolute()
        sweep_folder.check_folder(self.folder)
        self.launcher = launcher(context, task_function, config)
        self.pool = Pool(run_job)
        self.tidy_at = 0.0

    def grid(self, params: dict[str, Any] | None, arguments: Sequence[str]) -> None:
        """Plans, checks, freezes and does every combination of the values.

        Raises:
            Refused: some jobs cannot run; then none was started.
            Ended: a job failed, or the sweep was stopped.
        """
        if self.settings.seeds != 1:
            n = self.settings.seeds
            raise Refused(f"sweep.seeds={n}: is for hydra/sweeper=optuna; in a grid write 'seed=range(0,{n})'")
        grid = expand(parse(self.context.config_loader, params, arguments), params or ())
        if not (self.folder / sweep_folder.ASKED).exists():  # otherwise there may be nothing to do
            self.pool.warm()
        composer, jobs = Composer(self.context.config_loader, self.config), []
        mistakes: dict[str, list[tuple[str, ...]]] = {}
        for overrides in grid.combinations:
            try:
                jobs.append(composer.job(overrides, grid.differences(overrides)))
            except Refused as error:
                mistakes.setdefault(str(error), []).append(grid.differences(overrides))
        for line, swept in self.check(sweep_folder.new_jobs(self.folder, jobs)).items():
            mistakes.setdefault(line, []).extend(swept)
        refuse(mistakes, len(grid.combinations))
        sweep_folder.check_no_search(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        with sweep_folder.planning(self.folder):
            paths = sweep_folder.place(self.folder, jobs)
            for path in paths:
                run_dir.check_extras(path)
            sweep_folder.ask(self.folder, [key.lstrip("+") for key in grid.swept], self.plain())
        self.run(Planned(paths, self.settings.retries, self.settings.rerun_failed))

    def resume(self, trusted: bool) -> None:
        """Resumes all jobs in the sweep's directory.

        Args:
            trusted: whether its files may name classes that are not part of conga.

        Raises:
            Refused: they name such classes without trust.
            Ended: a job failed, or the sweep was stopped.
        """
        paths = sweep_folder.jobs_of(self.folder)
        if not trusted:
            sweep_folder.check_trust(paths)
        self.run(Planned(paths, self.settings.retries, self.settings.rerun_failed))

    @contextlib.contextmanager
    def disk_fails(self) -> Iterator[None]:
        """Ends the sweep as failed if the disk is full, which is no mistake; some jobs may be done.

        Raises:
            Ended: the disk is full.
        """
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            begun = (self.folder / sweep_folder.ASKED).exists()
            then = f"; then resume: {sweep_folder.resume_command(self.folder)}" if begun else ""
            raise Ended(failed(f"{explain_os_error(error)}{then}", EXIT["failed"]), self.folder) from error

    def check(self, jobs: Sequence[Job]) -> dict[str, list[tuple[str, ...]]]:
        """Builds each job once, to find mistakes before the first starts: line -> its jobs."""
        mistakes: dict[str, list[tuple[str, ...]]] = {}
        if not jobs:
            return mistakes
        configs = [job.config for job in jobs]
        with (
            loading_progress(lambda: None) as progress,
            self.pool.asking(check, configs, self.settings.metric) as answers,
        ):
            for i, line in itertools.islice(answers, len(jobs)):
                progress("checking jobs", i + 1, len(jobs))
                if line is not None:
                    mistakes.setdefault(line, []).append(jobs[i].swept)
        return mistakes

    def run(self, queue: Planned) -> None:
        """Does the jobs, then prints the results.

        Raises:
            Ended: a job failed, or the sweep was stopped.
        """
        sweep_folder.refuse_links(self.folder, [*queue.todo, self.folder / LAUNCHED])
        before, ahead = queue.before, queue.ahead
        ours = self.config.hydra.launcher._target_ == OURS
        here, gpus = ours or at_once(self.launcher), 0
        if ahead and here and not on_cpu(queue):
            with self.pool.asking(count_gpus) as answers:
                gpus = next(answers)
        where = slots_of(self.settings, gpus, ahead)
        choice = self.config.hydra.runtime.choices["hydra/launcher"]
        workers = len(where) if here else None
        board = make_board(self.folder, before + ahead, before, workers, f"hydra/launcher={choice}")
        queue.show_on(board)
        board.open()
        most = None if self.settings.workers == "auto" else self.settings.workers
        if not ours:
            leave_hangup()
        pool = self.pool if ours else Elsewhere(self.launcher, self.folder, self.config, most)
        pool.open(where)
        code = conduct(queue, pool, board, fail_fast=self.settings.fail_fast, after=self.tidy)
        if elsewhere := results.keep_best(self.folder, self.settings):
            names = listed([record.name for record in elsewhere])
            tell(f"{'kept':<11} the checkpoints of {names}: a link leads out of {run_dir.shown(self.folder)}")
        tell(*results.closing_lines(self.folder, results.write(self.folder), self.settings))
        if code == 128 + signal.SIGINT or queue.left:
            tell("to resume:", f"  {sweep_folder.resume_command(self.folder)}")
        if code:
            raise Ended(code, self.folder)

    def tidy(self) -> None:
        """After each job: removes checkpoints that are not kept, in a small share of the time."""
        now = time.monotonic()
        if now >= self.tidy_at:
            results.keep_best(self.folder, self.settings)
            self.tidy_at = time.monotonic() + 20 * (time.monotonic() - now)

    def plain(self) -> dict[str, Any]:
        """The configuration of the launch as plain data, for a resume."""
        own = plain(self.config.hydra, resolve=False)
        for name in ("help", "hydra_help", "job_logging", "hydra_logging"):
            del own[name]
        own["sweep"]["dir"] = str(self.folder)
        return {"hydra": own, "sweep": plain(self.config.sweep)}


def refuse(mistakes: dict[str, list[tuple[str, ...]]], total: int) -> None:
    """Raises Refused with all mistakes, each with its jobs."""
    if not mistakes:
        return
    bad = sum(map(len, mistakes.values()))
    if len(mistakes) == 1 and bad == total:
        raise Refused(next(iter(mistakes)))
    lines = []
    for line, jobs in mistakes.items():
        shared = [o for o in jobs[0] if all(o in job for job in jobs)]
        which = f"{len(jobs)} with {','.join(shared)}" if shared else f"{len(jobs)}, such as {','.join(jobs[0])}"
        lines.append(f"{line} ({','.join(jobs[0]) if len(jobs) == 1 else which})")
    raise Refused(f"{bad} of {total} jobs cannot run, so none was started:", *lines)


def slots_of(s: SweepSettings, gpus: int, jobs: int) -> list[Slot]:
    """The slots of jobs: `sweep.jobs_per_gpu` per GPU, or one per CPU core. Each of several has one thread."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else [str(i) for i in range(gpus)]
    each = [name for _ in range(s.jobs_per_gpu) for name in names] if gpus else [None] * cores()
    workers = max(1, min(len(each) if s.workers == "auto" else s.workers, jobs))
    return [Slot(each[i % len(each)], 1 if workers > 1 else None) for i in range(workers)]


def on_cpu(queue: Planned) -> bool:
    """Whether all remaining jobs are set to run on CPUs."""
    with contextlib.suppress(Refused):  # a damaged configuration: its job reports it
        return bool(queue.todo) and all(
            configuration.of_run(path)["train"].get("device") == "cpu" for path in queue.todo
        )
    return False


def cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def launcher(context: HydraContext, task_function: TaskFunction, config: DictConfig) -> Launcher:
    """The launcher of the configuration.

    Raises:
        Refused: its package is not installed.
    """
    check_installed(config)
    return Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task_function, config=config)
