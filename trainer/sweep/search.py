"""A search: Optuna proposes each run from the results of earlier runs.

    python -m trainer -m hydra/sweeper=optuna optim=sgd,cgd 'optim.lr=tag(log,interval(1e-4,1))'

A free worker gets a new trial at once. The study gets its results from the run directories, so a killed search
continues with all its results, and unfinished trials continue from their checkpoints.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import read_write

from trainer.cli.display import tell
from trainer.rundir import lock, run_dir, trust
from trainer.rundir.errors import Locked, Refused
from trainer.rundir.moved import up_to_date
from trainer.rundir.stored import as_mapping, parse_yaml
from trainer.sweep import folder as sweep_folder
from trainer.sweep import study
from trainer.sweep.check import survey
from trainer.sweep.corners import make_plan
from trainer.sweep.grid import Composer, Job, parse
from trainer.sweep.plan import SEED, Plan, compose_bases
from trainer.sweep.proposed import Asked, Proposed
from trainer.sweep.settings import Direction
from trainer.sweep.space import Dimension, space_of
from trainer.sweep.sweep import OURS, Sweep


def search(sweep: Sweep, asked: Asked, arguments: Sequence[str]) -> None:
    """Plans, checks and does a search, or the rest of the one in the directory.

    Raises:
        Refused: a mistake, and nothing was started.
        Ended: a job failed, or the search was stopped.
    """
    refuse_launcher(sweep)
    if asked.n_trials < 1:
        raise Refused(f"hydra.sweeper.n_trials={asked.n_trials}: must be at least 1")
    study.make_sampler(asked.sampler, 0)
    dimensions, constants = space_of(parse(sweep.context.config_loader, asked.params, arguments))
    constants = [line for line in constants if not line.startswith("sweep.")]  # of no run, but of all together
    there = sweep.folder / sweep_folder.SEARCH
    jobs = sweep_folder.jobs_of(sweep.folder)
    if not there.exists() and not all((job / run_dir.TRIAL).exists() for job in jobs):
        raise Refused(f"{run_dir.shown(sweep.folder)}: holds the jobs of a grid; choose another hydra.sweep.dir")
    plan = Plan.read(sweep.folder) if there.exists() else make_plan(sweep, dimensions, constants)
    named = named_by(sweep, asked, dimensions, constants) if there.exists() or jobs else None
    study.make_pruner(asked.pruner, plan.epochs)
    sweep.folder.mkdir(parents=True, exist_ok=True)
    with locked(sweep.folder):
        if there.exists():  # perhaps only a moment ago
            plan = Plan.read(sweep.folder)
            plan.check_same(sweep.folder, dimensions, constants)
            plan.check_place(sweep.folder)
        else:
            plan.check_jobs(sweep.folder)
        settle_metric(sweep, plan)
        swept = [*(d.key for d in dimensions), *([SEED] if plan.seeds > 1 else [])]
        sweep_folder.ask(sweep.folder, swept, sweep.plain())
        if not there.exists():
            plan.write(sweep.folder)
        run_search(sweep, asked, plan, named)


def named_by(sweep: Sweep, asked: Asked, dimensions: Sequence[Dimension], constants: Sequence[str]) -> frozenset[str]:
    """The names on the present command line, which the search in its directory may name, too."""
    bases = compose_bases(Composer(sweep.context.config_loader, sweep.config), dimensions, constants)
    nodes = [*(base_of(base.config) for base in bases), asked.sampler, asked.pruner]
    typed = [*constants, *(d.override(choice) for d in dimensions for choice in d.choices or ())]
    return frozenset(
        [name for node in nodes for _, name in trust.targets(node) if isinstance(name, str)]
        + [text for node in nodes for _, text in trust.leaves(node) if isinstance(text, str) and "${" in text]
        + [name for key, _, name in (line.partition("=") for line in typed) if key.endswith("._target_")]
    )


def base_of(text: str) -> dict[str, Any]:
    """The content of a base of a search."""
    return as_mapping(parse_yaml(text, sweep_folder.SEARCH), sweep_folder.SEARCH)


def resume(sweep: Sweep, asked: Asked, trusted: bool) -> None:
    """Does the rest of the search in the directory.

    Args:
        trusted: whether its files may name classes that are not part of conga.

    Raises:
        Refused: no search, it names such, or another process runs it.
        Ended: a job failed, or the search was stopped.
    """
    plan = Plan.read(sweep.folder)
    with locked(sweep.folder):
        settle_metric(sweep, plan)
        run_search(sweep, asked, plan, None if trusted else ())


def run_search(sweep: Sweep, asked: Asked, plan: Plan, named: Collection[str] | None) -> None:
    """Runs trials until all are done, then prints how to repeat the best.

    Args:
        named: names outside of conga that the directory's files may have; None: any.
    """
    if named is not None:
        sweep_folder.check_trust(sweep_folder.jobs_of(sweep.folder), named)
        if not named:  # the names are not on the command line
            words = [*plan.constants, *(str(choice) for d in plan.dimensions for choice in d.choices or ())]
            trust.check(sweep.folder / sweep_folder.SEARCH, "words", words)
        for base in plan.bases:
            trust.check(sweep.folder / sweep_folder.SEARCH, "", up_to_date(base_of(base.config)), named)
    if plan.metric.startswith("test/") and asked.pruner["_target_"] is not None:
        tell(f"note        {plan.metric} is measured once, at the end of a run: nothing is pruned")

    def impossible(job: Job) -> str | None:
        with sweep.pool.asking(survey, [job.config], plan.metric) as answers:
            return next(answers)[0]

    queue = Proposed(sweep.folder, plan, asked, sweep.settings, impossible, named)
    try:
        sweep.run(queue)
    finally:
        tell(*queue.closing_lines())


def settle_metric(sweep: Sweep, plan: Plan) -> None:
    """Sets the metric and its direction to those of the study, whose number of seeds stays, too.

    Raises:
        Refused: the command gives others.
    """
    direction: Direction = "maximize" if plan.maximize else "minimize"
    given, settled = sweep.settings, {"metric": plan.metric, "direction": direction, "seeds": plan.seeds}
    for name, known in settled.items():
        value = getattr(given, name)
        if value not in (None, "auto", known):
            raise Refused(f"sweep.{name}={value}: the search in {run_dir.shown(sweep.folder)} has {known}")
    sweep.settings = replace(sweep.settings, metric=plan.metric, direction=direction)
    with read_write(sweep.config):
        sweep.config.sweep.metric, sweep.config.sweep.direction = plan.metric, direction


def refuse_launcher(sweep: Sweep) -> None:
    """Raises Refused for Hydra's launchers, which take jobs in batches."""
    if sweep.config.hydra.launcher._target_ != OURS:
        name = sweep.config.hydra.runtime.choices["hydra/launcher"]
        raise Refused(
            f"hydra/launcher={name}: hydra/sweeper=optuna asks for runs one by one; use hydra/launcher=workers"
        )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks the directory for this search.

    Raises:
        Refused: another process has locked it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock.locked(folder))
        except Locked:
            raise Refused(
                f"{run_dir.shown(folder)}: another process runs this search; wait for it, or stop it"
            ) from None
        yield
