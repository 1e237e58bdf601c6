"""The jobs of a search: trials with a directory, then new ones from Optuna when a worker is free."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from trainer.rundir import configuration, run_dir, trust
from trainer.rundir.errors import Damaged, Refused
from trainer.rundir.names import job_name
from trainer.rundir.stored import read_mapping
from trainer.runs import find_runs
from trainer.sweep import folder as sweep_folder
from trainer.sweep import results, study
from trainer.sweep.board import Board
from trainer.sweep.conduct import Planned
from trainer.sweep.grid import Job
from trainer.sweep.plan import SEED, Plan, overrides_of, seedless
from trainer.sweep.pruning import Trial, is_pruned
from trainer.sweep.settings import SweepSettings


@dataclass(frozen=True)
class Asked:
    """The keys of conf/hydra/sweeper/optuna.yaml."""

    n_trials: int
    sampler: dict[str, Any]
    pruner: dict[str, Any]
    params: dict[str, Any] | None


class Proposed(Planned):
    """The trials of a study: those with a directory, then new ones.

    Args:
        impossible: why a job cannot run, in one line, or None; only called for suspects.
        named: see :func:`trainer.sweep.search.run_search`.
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
        self.trials: dict[int, list[Path]] = {}  # number -> its runs, that of the first seed first
        self.known: dict[str, int] = {}  # configuration -> number of its trial
        for path, number in self.numbers.items():
            self.trials.setdefault(number, []).append(path)
            with contextlib.suppress(Refused):  # a damaged trial fails by itself, and equals no other
                self.known[sweep_folder.identity(configuration.of_run(path))] = number
        self.check_study()
        self.twin: tuple[int, int] | None = None  # a trial that waits for an equal one
        self.told = {t.number for t in self.study.get_trials(deepcopy=False) if t.state.is_finished()}
        self.board: Board | None = None
        super().__init__(list(self.numbers), settings.retries, settings.rerun_failed)
        self.recover()
        for number in list(self.trials):
            self.tell(number)

    def check_study(self) -> None:
        """Raises Damaged if the study does not know the trial of a run."""
        known = {
            t.number for t in self.study.get_trials(deepcopy=False) if t.params.keys() == self.distributions.keys()
        }
        for path, number in self.numbers.items():
            if number not in known:
                raise Damaged(f"{self.folder / study.LOG}: does not know the trial of {path.name}; {study.MEND}")

    def recover(self) -> None:
        """Continues trials of a process that was killed before they had a directory."""
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
        """The number of trials, without those that a kill left without values."""
        return sum(t.params.keys() == self.distributions.keys() for t in self.study.get_trials(deepcopy=False))

    @property
    def before(self) -> int:
        trials = self.study.get_trials(deepcopy=False)
        over = {t.number for t in trials if t.state.is_finished() and t.params.keys() == self.distributions.keys()}
        return self.plan.seeds * len(over) + sum(self.numbers[path] not in over for path in self.results)

    @property
    def ahead(self) -> int:
        return max(0, self.plan.seeds * self.asked.n_trials - self.before)

    @property
    def over(self) -> bool:
        return super().over and not self.lost and self.twin is None and self.counted >= self.asked.n_trials

    def show_on(self, board: Board) -> None:
        self.board = board

    def next(self) -> Path | None:
        path = super().next()
        for number in sorted(self.trials.keys() - self.told):  # perhaps another process ended its run
            self.tell(number)
        self.settle_twin()
        if path is None:
            path = super().next()
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
            self.tell(self.numbers[path])
            self.settle_twin()
        return again

    def ask(self) -> tuple[int, dict[str, Any]]:
        """A new trial: its number and values."""
        with study.quiet():
            self.study.sampler = study.make_sampler(self.asked.sampler, len(self.study.get_trials(deepcopy=False)))
            trial = self.study.ask(self.distributions)
        return trial.number, trial.params

    def place(self, number: int, params: dict[str, Any]) -> Path | None:
        """The directory of a trial's first run; None if it cannot or need not run."""
        p, line = self.plan, None
        try:
            job = self.job(params)
            line = self.impossible(job) if p.choices(params) in p.suspects else None
        except trust.Untrusted:
            raise
        except Refused as error:
            line = str(error)
        if line is not None:  # pruned, as samplers learn nothing from failed trials
            self.say(number, "PRUNED")
            self.note(self.name(number, params), f"cannot run: {line}", p.seeds)
            return None
        if (same := self.known.get(sweep_folder.identity(job.config))) is not None:
            self.twin = number, same
            self.note(self.name(number, params), f"is the same as {self.trials[same][0].name}", p.seeds)
            self.settle_twin()
            return None
        path = self.freeze(number, params, job, self.asked.pruner)
        self.running.add(path)
        return path

    def place_next(self, number: int) -> None:
        """Puts a trial's run with its next seed into the queue. The first run alone is judged by the pruner."""
        runs = self.trials[number]
        params = self.study.get_trials(deepcopy=False)[number].params
        job = self.job(params, first_seed(runs) + len(runs))
        self.todo.append(self.freeze(number, params, job, {"_target_": None}))

    def job(self, params: dict[str, Any], seed: int | None = None) -> Job:
        """A run of a trial.

        Raises:
            Refused: it cannot be composed, or names something that the directory may not name.
        """
        job = self.composer.job(self.plan.words(params, seed), self.plan.overrides(params))
        if self.named is not None:
            trust.check(self.folder / sweep_folder.SEARCH, "", job.config, self.named)
        return job

    def name(self, number: int, params: dict[str, Any], seed: int | None = None) -> str:
        """The name of a run of a trial."""
        own = [] if seed is None else [f"{SEED}={seed}"]
        return job_name(number, [*own, *(d.short(params[d.key]) for d in self.plan.dimensions)])

    def freeze(self, number: int, params: dict[str, Any], job: Job, pruner: dict[str, Any]) -> Path:
        """The new directory of a run of a trial."""
        p = self.plan
        path = self.folder / self.name(number, params, job.config[SEED] if p.seeds > 1 else None)
        Trial(number, p.metric, p.maximize, pruner, p.epochs).write(path)
        sweep_folder.refuse_links(self.folder, [path])
        configuration.freeze(path, job.config, job.hydra, list(job.overrides))
        self.known[sweep_folder.identity(job.config)], self.numbers[path] = number, number
        self.trials.setdefault(number, []).append(path)
        return path

    def goes_on(self, number: int) -> bool:
        """Whether a run of a trial is queued or running, here or in another process."""
        runs = self.trials[number]
        return any(path not in self.results or path in self.todo or path in self.running for path in runs)

    def tell(self, number: int) -> None:
        """Tells the study the result of a trial whose runs have ended, or queues the next one.

        Nothing about a trial with a run that continues later.
        """
        if number in self.told or self.goes_on(number):
            return
        found = self.outcome(number)
        if found is not None:
            self.told.add(number)
            self.say(number, *found)
            self.skip(self.plan.seeds - len(self.trials[number]))
        elif len(self.trials[number]) < self.plan.seeds and None not in map(self.result, self.trials[number]):
            self.place_next(number)

    def settle_twin(self) -> None:
        """Tells the study the result of a trial that waited for an equal one."""
        if self.twin is not None and not self.goes_on(self.twin[1]):
            self.say(self.twin[0], *(self.outcome(self.twin[1]) or ("FAIL", None)))
            self.told.add(self.twin[0])
            self.twin = None

    def outcome(self, number: int) -> tuple[str, float | None] | None:
        """The Optuna state and the value of a trial, the mean over its seeds; None if it is not over."""
        found = [self.result(path) for path in self.trials[number]]
        if bad := next((one for one in found if one is not None and one[0] != "COMPLETE"), None):
            return bad
        values = [one[1] for one in found if one is not None and one[1] is not None]
        return ("COMPLETE", fmean(values)) if len(values) == self.plan.seeds else None

    def result(self, path: Path) -> tuple[str, float | None] | None:
        """The Optuna state and the value of a run; None if it has not ended."""
        status = self.results[path]
        if status == "diverged":  # not failed: samplers learn nothing from failed trials
            return "PRUNED", None
        if status in ("failed", "damaged"):
            return "FAIL", None
        if status != "finished":
            return None
        [record] = find_runs([path])
        if is_pruned(record):
            return "PRUNED", None
        found = results.value(record, self.settings)
        return ("FAIL", None) if found is None else ("COMPLETE", found[1])

    def say(self, number: int, state: str, value: float | None = None) -> None:
        """Tells the study the result of a trial, unless it has one."""
        from optuna.trial import TrialState

        with study.quiet():
            self.study.tell(number, value, TrialState[state], skip_if_finished=True)

    def note(self, name: str, line: str, runs: int) -> None:
        """Shows the result of a trial without runs of its own."""
        self.skip(runs)
        if self.board is not None:
            self.board.say(f"{name}  {line}")

    def skip(self, runs: int) -> None:
        """Counts runs that are not needed."""
        if self.board is not None:
            self.board.before += runs

    def closing_lines(self) -> list[str]:
        """The number of pruned runs, and the commands that repeat the best, with fresh seeds, too."""
        records, n = find_runs([self.folder]), self.plan.seeds
        pruned = sum(map(is_pruned, records))
        lines = [f"{'pruned':<11} {pruned} of {len(records)} runs"] if pruned else []
        for best in results.ranked(records, self.settings)[:1]:
            record = best.records[0]
            with contextlib.suppress(Refused, KeyError, TypeError):  # damaged after its end; its numbers are shown
                hydra = read_mapping(record.path / configuration.HYDRA) or {}
                sources = hydra["hydra"]["runtime"]["config_sources"]
                own = [f"--config-dir={source['path']}" for source in sources if source["provider"] == "command-line"]
                words = [*own, *overrides_of(record.path)]
                if self.named is None or all(
                    re.match(r"(?!hydra\.)\w[^=]*(?<!_target_)=", word) for word in words
                ):  # names from the directory are not put into a command to paste
                    lines += repeating(words, n, first_seed([one.path for one in best.records]))
        return lines


def first_seed(runs: Sequence[Path]) -> int:
    """The lowest seed of runs."""
    return min(configuration.of_run(run)[SEED] for run in runs)


def repeating(words: list[str], n: int, seed: int) -> list[str]:
    """The commands that train a run again, and with `n` seeds from `seed` on also with as many that are new."""
    if n == 1:
        return [f"{'repeat':<11} python -m trainer {shlex.join(words)}"]
    command = shlex.join(["-m", *seedless(words)])
    return [
        f"{name:<11} python -m trainer {command} 'seed=range({first},{first + n})'"
        for name, first in (("repeat", seed), ("new seeds", seed + n))
    ]
