"""``python -m trainer [train]``: composes a run with Hydra, trains it, and says how it ended.

Nothing here imports torch before a run needs it, so that ``--help``,
``--cfg job`` and shell completion answer at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from trainer.cli.begin import signals_raise
from trainer.cli.command import FULL_ERROR, plain_warnings, report, shown, status, whole
from trainer.cli.composing import install
from trainer.cli.config import CONF, flags_first, only_answers, register_resolvers
from trainer.cli.outcome import EXIT
from trainer.rundir import trust
from trainer.rundir.errors import one_line
from trainer.rundir.run_dir import remove_if_empty
from trainer.sweep.pruning import judge_of
from trainer.training.run import train


def compose_and_train() -> int:
    """Runs what sys.argv asks for and returns the exit status."""
    made: list[str] = []  # directories for runs, which were not there
    codes: list[int] = []  # exit status of each job
    modes: set[RunMode] = set()
    answers = True  # a text that was asked for, until it is known that something is to be trained
    tracebacks = os.environ.get(FULL_ERROR) == "1"
    register_resolvers(made)
    install(made)
    plain_warnings()
    # Hydra checks the keys of conf/hydra/launcher/*.yaml by their plugins', and warns that it will not do so one day.
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(cfg: DictConfig) -> None:
        modes.add(HydraConfig.get().mode)
        try:
            codes.append(train(cfg, judge_of, trusted))
        except Exception as error:  # with Hydra's own sweeper it costs this job only
            codes.append(report(error, tracebacks, sys.argv[1:]))
        if codes[-1] > 128:  # a signal ends a sweep, too
            raise SystemExit(codes[-1])

    def put_away() -> None:
        for path in reversed(made):  # a refused run leaves no empty directory behind
            remove_if_empty(Path(path))

    trusted = trust.FLAG in sys.argv[1:]
    try:
        with signals_raise(put_away), errors_passed_on():
            sys.argv[1:] = flags_first([word for word in sys.argv[1:] if word != trust.FLAG])
            answers = only_answers(sys.argv[1:])
            job()
    except SystemExit as end:  # of a sweep, or after --help
        codes.append(status(end) and (EXIT["refused"] if answers else status(end)))  # no such --package
    except (KeyboardInterrupt, Exception) as error:  # while Hydra composes: a mistake on the command line or in YAML
        return report(error, tracebacks, sys.argv[1:], otherwise=one_line(error))
    finally:
        put_away()
    code = codes[-1] if codes else 0
    if RunMode.MULTIRUN in modes and code <= 128:
        code = 0 if set(codes) <= {EXIT["finished"], EXIT["diverged"]} else EXIT["failed"]
    return whole(code) if answers else shown(code)


@contextlib.contextmanager
def errors_passed_on() -> Iterator[None]:
    """Makes Hydra raise its errors to us, who have one line for them, instead of printing its own several."""
    before = os.environ.get(FULL_ERROR, "")
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        os.environ[FULL_ERROR] = before
