"""``python -m trainer [train]``: composes a run with Hydra, trains it, and prints how it ended.

Torch is imported once a run is composed, so that ``--help``,
``--cfg job`` and shell completion answer at once.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode, TaskFunction
from omegaconf import DictConfig

from trainer.cli.begin import signals_raise
from trainer.cli.command import FULL_ERROR, plain_warnings, report, shown, status, whole
from trainer.cli.composing import installed
from trainer.cli.config import flags_first, only_answers, register_resolvers
from trainer.cli.outcome import EXIT
from trainer.rundir import trust
from trainer.rundir.errors import one_line
from trainer.rundir.run_dir import remove_if_empty
from trainer.rundir.trust import CONF
from trainer.sweep.pruning import judge_of


def compose_and_train(words: Sequence[str]) -> int:
    """Trains the run of a command line, prints how it ended, and returns the exit status."""
    codes: list[int] = []  # exit status of each job
    modes: set[RunMode | None] = set()
    answers = True  # only a text, until something is to be trained
    tracebacks = os.environ.get(FULL_ERROR) == "1"
    trusted = trust.FLAG in words
    words = [word for word in words if word != trust.FLAG]
    plain_warnings()

    def job(cfg: DictConfig) -> None:
        from trainer.training.run import Caller, train  # imports torch

        modes.add(HydraConfig.get().mode)
        try:
            codes.append(train(cfg, Caller(judge_of, trusted=trusted)))
        except Exception as error:  # with Hydra's own sweeper, only this job ends
            codes.append(report(error, tracebacks, words))
        if codes[-1] > 128:  # a signal ends a sweep, too
            raise SystemExit(codes[-1])

    with removing_empty() as made:
        try:
            with signals_raise(made.put_away):
                words = flags_first(words)
                answers = only_answers(words)
                compose(words, job, made)
        except SystemExit as end:  # of a sweep, or after --help
            codes.append(status(end) and (EXIT["refused"] if answers else status(end)))  # no such --package
        except (KeyboardInterrupt, Exception) as error:  # while Hydra composes: a mistake in words or YAML
            return report(error, tracebacks, words, otherwise=one_line(error))
    code = codes[-1] if codes else 0
    if RunMode.MULTIRUN in modes and code <= 128:
        code = 0 if set(codes) <= {EXIT["finished"], EXIT["diverged"]} else EXIT["failed"]
    return whole(code) if answers else shown(code)


class Made(list[str]):
    """Directories that were made for runs."""

    def put_away(self) -> None:
        """Removes the empty ones, such as that of a refused run."""
        for path in reversed(self):
            remove_if_empty(Path(path))


@contextlib.contextmanager
def removing_empty() -> Iterator[Made]:
    """Yields a record of the directories that are made, and removes the empty ones at the end."""
    made = Made()
    try:
        yield made
    finally:
        made.put_away()


def compose(words: Sequence[str], job: TaskFunction, made: list[str], *, may_sweep: bool = True) -> Any:
    """Composes the configuration of a command line and carries it out: a run by `job`, a sweep by its sweeper.

    Args:
        words: flags before overrides, as :func:`trainer.cli.config.flags_first` puts them.
        made: collects the directories that are made for runs.
        may_sweep: whether a sweep is carried out; otherwise it is refused.

    Returns:
        The return value of the sweeper (ours: the sweep's directory); None for a run.

    Raises:
        Exception: any error of Hydra about a mistake; :func:`trainer.cli.outcome.outcome` turns it into a line.
        SystemExit: a text was printed, or a sweep was stopped.
    """
    register_resolvers(made)
    version.setbase("1.3")
    parser = get_args_parser()
    given = parser.parse_args(words)
    own = Path(given.config_dir) if given.config_dir and Path(given.config_dir).is_dir() else None  # else Hydra refuses
    with trust.trusting(own), installed(made, may_sweep) as program, errors_passed_on(), warnings.catch_warnings():
        # Hydra checks conf/hydra/launcher/*.yaml against its plugins' schemas, and warns that this is deprecated.
        warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")
        _run_hydra(given, parser, job, str(CONF), "config")
        return program.came


@contextlib.contextmanager
def errors_passed_on() -> Iterator[None]:
    """Makes Hydra raise its errors, which we print as one line, instead of printing them over several lines."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before
