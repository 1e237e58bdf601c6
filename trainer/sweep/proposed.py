"""The jobs of a search: trials with a directory, then new ones from Optuna when a worker is free."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
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
from trainer.sweep.plan import Plan, overrides_of
from trainer.sweep.pruning import PRUNED, Trial
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
        self.known: dict[str, Path] = {}  # by their configurations
        for path in self.numbers:
            with contextlib.suppress(Refused):  # a damaged trial fails by itself, and equals no other
                self.known[sweep_folder.identity(configuration.of_run(path))] = path
        self.check_study()
        self.twin: tuple[int, Path] | None = None  # a trial that waits for an equal one
        self.told: set[Path] = set()
        self.board: Board | None = None
        super().__init__(list(self.numbers), settings.retries, settings.rerun_failed)
        self.recover()
        for path in self.results:
            self.tell(path)

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
        for one in self.results:  # perhaps a run that another process ended
            if one not in self.running and one not in self.todo:  # else it is repeated
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
        """The directory of a trial; None if it cannot or need not run."""
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
        if line is not None:  # pruned, as samplers learn nothing from failed trials
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
        """Tells the study the result of a run and of equal trials; nothing about a run that continues later."""
        outcome = None if path in self.told else self.outcome(path)
        if outcome is not None:
            self.told.add(path)
            self.say(self.numbers[path], *outcome)
        if self.twin is not None and self.twin[1] == path:
            self.say(self.twin[0], *(self.outcome(path) or ("FAIL", None)))
            self.twin = None

    def outcome(self, path: Path) -> tuple[str, float | None] | None:
        """The Optuna state and the value of a run; None if it has not ended."""
        status = self.results[path]
        if status == "diverged":  # not failed: samplers learn nothing from failed trials
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
        """Tells the study the result of a trial, unless it has one."""
        from optuna.trial import TrialState

        with study.quiet():
            self.study.tell(number, value, TrialState[state], skip_if_finished=True)

    def note(self, name: str, line: str) -> None:
        """Shows the result of a trial without its own run."""
        if self.board is not None:
            self.board.before += 1
            self.board.say(f"{name}  {line}")

    def closing_lines(self) -> list[str]:
        """The number of pruned runs, and the command that repeats the best."""
        records = find_runs([self.folder])
        pruned = sum((record.summary.get("stopped") or "").startswith(PRUNED) for record in records)
        lines = [f"{'pruned':<11} {pruned} of {len(records)} runs"] if pruned else []
        for record, *_ in results.ranked(records, self.settings)[:1]:
            with contextlib.suppress(Refused, KeyError, TypeError):  # damaged after its end; its numbers are shown
                hydra = read_mapping(record.path / configuration.HYDRA) or {}
                sources = hydra["hydra"]["runtime"]["config_sources"]
                own = [f"--config-dir={source['path']}" for source in sources if source["provider"] == "command-line"]
                words = [*own, *overrides_of(record.path)]
                if self.named is None or all(
                    re.match(r"(?!hydra\.)\w[^=]*(?<!_target_)=", word) for word in words
                ):  # names from the directory are not put into a command to paste
                    lines.append(f"{'repeat':<11} python -m trainer {shlex.join(words)}")
        return lines
