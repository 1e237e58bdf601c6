"""A search: each run is proposed by optuna, which is told what the runs before came to.

    python -m trainer -m hydra/sweeper=optuna optim=sgd,cgd 'optim.lr=tag(log,interval(1e-4,1))'

A free worker gets a new trial at once. The study is told of a run what its directory says, so a search that was killed
goes on with all that it knew: trials that were under way go on from their checkpoints.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import read_write

from trainer.cli.display import tell
from trainer.rundir import configuration, lock, run_dir, trust
from trainer.rundir.errors import Damaged, Locked, Refused
from trainer.rundir.moved import up_to_date
from trainer.rundir.names import job_name
from trainer.rundir.stored import as_mapping, parse_yaml, read_mapping
from trainer.runs import find_runs
from trainer.sweep import folder as sweep_folder
from trainer.sweep import results, study
from trainer.sweep.board import Board
from trainer.sweep.check import survey
from trainer.sweep.conduct import Planned
from trainer.sweep.corners import make_plan
from trainer.sweep.grid import Composer, Job, parse
from trainer.sweep.plan import Plan, compose_bases, overrides_of
from trainer.sweep.pruning import PRUNED, Trial
from trainer.sweep.settings import Direction, SweepSettings
from trainer.sweep.space import Dimension, space_of
from trainer.sweep.sweep import OURS, Sweep


@dataclass(frozen=True)
class Asked:
    """The keys of conf/hydra/sweeper/optuna.yaml."""

    n_trials: int
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    params: dict[str, Any] | None


def search(sweep: Sweep, asked: Asked, arguments: Sequence[str]) -> None:
    """A search: planned, checked, done; or what is left of the one in the directory.

    Raises:
        Refused: a mistake, and nothing was started.
        Ended: something failed, or stopped the search.
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
        if there.exists():  # perhaps since a moment only
            plan = Plan.read(sweep.folder)
            plan.check_same(sweep.folder, dimensions, constants)
            plan.check_place(sweep.folder)
        else:
            plan.check_jobs(sweep.folder)
        settle_metric(sweep, plan)
        sweep_folder.ask(sweep.folder, [d.key for d in dimensions], sweep.plain())
        if not there.exists():
            plan.write(sweep.folder)
        run_search(sweep, asked, plan, named)


def named_by(sweep: Sweep, asked: Asked, dimensions: Sequence[Dimension], constants: Sequence[str]) -> frozenset[str]:
    """What the present command line names, which the search in its directory may therefore name, too."""
    bases = compose_bases(Composer(sweep.context.config_loader, sweep.config), dimensions, constants)
    nodes = [*(base_of(base.config) for base in bases), asked.sampler, asked.pruner]
    typed = [*constants, *(d.override(choice) for d in dimensions for choice in d.choices or ())]
    return frozenset(
        [name for node in nodes for _, name in trust.targets(node) if isinstance(name, str)]
        + [text for node in nodes for _, text in trust.leaves(node) if isinstance(text, str) and "${" in text]
        + [name for key, _, name in (line.partition("=") for line in typed) if key.endswith("._target_")]
    )


def base_of(text: str) -> dict[str, Any]:
    """What a base of a search holds."""
    return as_mapping(parse_yaml(text, sweep_folder.SEARCH), sweep_folder.SEARCH)


def resume(sweep: Sweep, asked: Asked, trusted: bool) -> None:
    """What is left of the search in the directory.

    Args:
        trusted: whether its files may name classes that are not part of conga.

    Raises:
        Refused: none is there, it names such, or somebody does it.
        Ended: something failed, or stopped the search.
    """
    plan = Plan.read(sweep.folder)
    with locked(sweep.folder):
        settle_metric(sweep, plan)
        run_search(sweep, asked, plan, None if trusted else ())


def run_search(sweep: Sweep, asked: Asked, plan: Plan, named: Collection[str] | None) -> None:
    """Asks and tells until all trials are done, then says how to repeat the best.

    Args:
        named: what the directory's files may name that is not part of conga; None: anything.
    """
    if named is not None:
        sweep_folder.check_trust(sweep_folder.jobs_of(sweep.folder), named)
        if not named:  # no command line has the same words
            words = [*plan.constants, *(str(choice) for d in plan.dimensions for choice in d.choices or ())]
            trust.check(sweep.folder / sweep_folder.SEARCH, "words", words)
        for base in plan.bases:
            trust.check(sweep.folder / sweep_folder.SEARCH, "", up_to_date(base_of(base.config)), named)
    if plan.metric.startswith("test/") and asked.pruner["_target_"] is not None:
        tell(f"note        {plan.metric} is measured once, at the end of a run: nothing is pruned")

    def impossible(job: Job) -> str | None:
        with sweep.pool.asking(survey, [job.config], plan.metric) as answers:
            return next(answers)[0]

    queue = Search(sweep.folder, plan, asked, sweep.settings, impossible, named)
    try:
        sweep.run(queue)
    finally:
        tell(*queue.closing_lines())


def settle_metric(sweep: Sweep, plan: Plan) -> None:
    """From now on the metric and its direction are those of the study, whoever asks.

    Raises:
        Refused: others are asked for.
    """
    direction: Direction = "maximize" if plan.maximize else "minimize"
    given = sweep.settings
    for name, value, known in (("metric", given.metric, plan.metric), ("direction", given.direction, direction)):
        if value not in (None, "auto", known):
            raise Refused(f"sweep.{name}={value}: the search in {run_dir.shown(sweep.folder)} has {known}")
    sweep.settings = replace(sweep.settings, metric=plan.metric, direction=direction)
    with read_write(sweep.config):
        sweep.config.sweep.metric, sweep.config.sweep.direction = plan.metric, direction


def refuse_launcher(sweep: Sweep) -> None:
    """Raises Refused for launchers of Hydra's, which take jobs in batches."""
    if sweep.config.hydra.launcher._target_ != OURS:
        name = sweep.config.hydra.runtime.choices["hydra/launcher"]
        raise Refused(
            f"hydra/launcher={name}: hydra/sweeper=optuna asks for runs one by one; use hydra/launcher=workers"
        )


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the directory for one search.

    Raises:
        Refused: another one holds it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock.locked(folder))
        except Locked:
            raise Refused(
                f"{run_dir.shown(folder)}: another process runs this search; wait for it, or stop it"
            ) from None
        yield


class Search(Planned):
    """The trials of a study: those that have a directory, then new ones.

    Args:
        impossible: what keeps a job from running, in one line, or None; asked for suspects only.
        named: as of :func:`run_search`.
    """

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        asked: Asked,
        settings: SweepSettings,
        impossible: Callable[[Job], str | None],
        named: Collection[str] | None,
    ):
        self.named = named
        self.folder, self.plan, self.asked, self.settings, self.impossible = folder, plan, asked, settings, impossible
        self.composer = plan.composer()
        self.distributions = {d.key: d.distribution() for d in plan.dimensions}
        trials = [path for path in sweep_folder.jobs_of(folder) if (path / run_dir.TRIAL).exists()]
        self.numbers = {path: sweep_folder.number_of(path) for path in trials}
        if self.numbers and not study.is_there(folder):
            raise Damaged(f"{folder / study.LOG}: gone or empty; {study.MEND}")
        self.study = study.open_study(folder, study.make_pruner(asked.pruner, plan.epochs), maximize=plan.maximize)
        self.known: dict[str, Path] = {}  # by their configurations
        for path in self.numbers:
            with contextlib.suppress(Refused):  # a damaged one costs itself, and is like no other
                self.known[sweep_folder.identity(configuration.of_run(path))] = path
        self.check_study()
        self.twin: tuple[int, Path] | None = None  # a trial that waits for one that is the same
        self.told: set[Path] = set()
        self.board: Board | None = None
        super().__init__(list(self.numbers), settings.retries, settings.rerun_failed)
        self.recover()
        for path in self.results:
            self.tell(path)

    def check_study(self) -> None:
        """Raises Damaged where the study does not know a trial that has a run."""
        known = {
            t.number for t in self.study.get_trials(deepcopy=False) if t.params.keys() == self.distributions.keys()
        }
        for path, number in self.numbers.items():
            if number not in known:
                raise Damaged(f"{self.folder / study.LOG}: does not know the trial of {path.name}; {study.MEND}")

    def recover(self) -> None:
        """Takes up trials that were asked for by a process that was killed before they had a directory."""
        placed = set(self.numbers.values())
        self.lost: list[tuple[int, dict[str, Any]]] = []
        for trial in self.study.get_trials(deepcopy=False):
            if not trial.state.is_finished() and trial.number not in placed:
                if trial.params.keys() == self.distributions.keys():
                    self.lost.append((trial.number, trial.params))
                else:  # it has no values yet
                    self.say(trial.number, "FAIL")

    @property
    def counted(self) -> int:
        """Trials asked for, without those that a kill left before they had values."""
        return sum(t.params.keys() == self.distributions.keys() for t in self.study.get_trials(deepcopy=False))

    @property
    def before(self) -> int:
        return self.counted - len(self.lost) - len(self.todo)

    @property
    def ahead(self) -> int:
        return max(0, self.asked.n_trials - self.before)

    @property
    def over(self) -> bool:
        return super().over and not self.lost and self.twin is None and self.counted >= self.asked.n_trials

    def show_on(self, board: Board) -> None:
        self.board = board

    def next(self) -> Path | None:
        path = super().next()
        for one in self.results:  # perhaps of a run that another process ended
            if one not in self.running and one not in self.todo:  # else it is tried again
                self.tell(one)
        while path is None and self.twin is None:
            if self.lost:
                number, params = self.lost.pop(0)
            elif self.counted < self.asked.n_trials:
                number, params = self.ask()
            else:
                break
            path = self.place(number, params)
        return path

    def ended(self, path: Path, status: str) -> bool:
        again = super().ended(path, status)
        if not again:
            self.tell(path)
        return again

    def ask(self) -> tuple[int, dict[str, Any]]:
        """A new trial: its number and values."""
        with study.quiet():
            self.study.sampler = study.make_sampler(self.asked.sampler, len(self.study.get_trials(deepcopy=False)))
            trial = self.study.ask(self.distributions)
        return trial.number, trial.params

    def place(self, number: int, params: dict[str, Any]) -> Path | None:
        """The directory of a trial; None where it cannot run, or need not."""
        p = self.plan
        name = job_name(number, [d.short(params[d.key]) for d in p.dimensions])
        line = None
        try:
            job = self.composer.job([*p.constants, *p.overrides(params)], p.overrides(params))
            if self.named is not None:
                trust.check(self.folder / sweep_folder.SEARCH, "", job.config, self.named)
            line = self.impossible(job) if p.choices(params) in p.suspects else None
        except trust.Untrusted:
            raise
        except Refused as error:
            line = str(error)
        if line is not None:  # a bad place, as one where runs are pruned: of failed trials samplers learn nothing
            self.say(number, "PRUNED")
            self.note(name, f"cannot run: {line}")
            return None
        key = sweep_folder.identity(job.config)
        if (same := self.known.get(key)) is not None:
            self.twin = number, same
            self.note(name, f"is the same as {same.name}")
            if same in self.results:
                self.tell(same)
            return None
        path = self.folder / name
        Trial(number, p.metric, p.maximize, self.asked.pruner, p.epochs).write(path)
        sweep_folder.refuse_links(self.folder, [path])
        configuration.freeze(path, job.config, job.hydra, list(job.overrides))
        self.known[key], self.numbers[path] = path, number
        self.running.add(path)
        return path

    def tell(self, path: Path) -> None:
        """Tells the study what became of a run, and of a trial that is the same; of one that goes on later, nothing."""
        outcome = None if path in self.told else self.outcome(path)
        if outcome is not None:
            self.told.add(path)
            self.say(self.numbers[path], *outcome)
        if self.twin is not None and self.twin[1] == path:
            self.say(self.twin[0], *(self.outcome(path) or ("FAIL", None)))
            self.twin = None

    def outcome(self, path: Path) -> tuple[str, float | None] | None:
        """A run's end in optuna's words, and its value; None of a run that has not come to an end."""
        status = self.results[path]
        if status == "diverged":  # not failed: of failed trials samplers learn nothing
            return "PRUNED", None
        if status in ("failed", "damaged"):
            return "FAIL", None
        if status != "finished":
            return None
        [record] = find_runs([path])
        if (record.summary.get("stopped") or "").startswith(PRUNED):
            return "PRUNED", None
        found = results.value(record, self.settings)
        return ("FAIL", None) if found is None else ("COMPLETE", found[1])

    def say(self, number: int, state: str, value: float | None = None) -> None:
        """Tells the study of a trial; what it knows already stays."""
        from optuna.trial import TrialState

        with study.quiet():
            self.study.tell(number, value, TrialState[state], skip_if_finished=True)

    def note(self, name: str, line: str) -> None:
        """Shows what a trial without a run of its own came to."""
        if self.board is not None:
            self.board.before += 1
            self.board.say(f"{name}  {line}")

    def closing_lines(self) -> list[str]:
        """How many runs were pruned, and how to repeat the best."""
        records = find_runs([self.folder])
        pruned = sum((record.summary.get("stopped") or "").startswith(PRUNED) for record in records)
        lines = [f"{'pruned':<11} {pruned} of {len(records)} runs"] if pruned else []
        for record, *_ in results.ranked(records, self.settings)[:1]:
            with contextlib.suppress(Refused, KeyError, TypeError):  # damaged since it ended; its numbers are shown
                hydra = read_mapping(record.path / configuration.HYDRA) or {}
                sources = hydra["hydra"]["runtime"]["config_sources"]
                own = [f"--config-dir={source['path']}" for source in sources if source["provider"] == "command-line"]
                words = [*own, *overrides_of(record.path)]
                if self.named is None or all(
                    re.match(r"(?!hydra\.)\w[^=]*(?<!_target_)=", word) for word in words
                ):  # what a directory names is not put into somebody's mouth
                    lines.append(f"{'repeat':<11} python -m trainer {shlex.join(words)}")
        return lines
