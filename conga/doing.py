"""Runs and sweeps from Python: composed, checked and trained by the functions of ``python -m trainer``."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from conga.run import Run
from conga.spelled import Setting, as_arguments, place, words_of
from trainer.rundir.errors import Refused

if TYPE_CHECKING:
    import pandas as pd


def train(*settings: Setting, quiet: bool = False) -> Run:
    """Trains a run as ``python -m trainer SETTINGS`` does, with its directory, and returns it.

    ::

        run = conga.train("model=cnn", "optim=cgd", "train.epochs=5")
        run = conga.train("data=csv", {"data.path": Path("my flats.csv"), "data.targets": ["rent"]})

    A notebook and a terminal show bars, other outputs a line per epoch. Ctrl-C, or interrupting the kernel, saves the
    run and raises KeyboardInterrupt, which says how to resume; a second one stops at once. The state of torch, Hydra
    and Python is restored (``conga/apart.py``), and no thread is started.

    Args:
        settings: as on the command line, or mappings of key -> value, which need no quotes.
        quiet: whether to show nothing; the run's ``train.log`` is written anyway.

    Returns:
        The run, also one that diverged, or whose ``train.max_minutes`` are over: see :attr:`Run.status`.

    Raises:
        Refused: a mistake, with the line of the command; no files are left.
        KeyboardInterrupt: it was interrupted.
        Exception: an error of your class in training; the run is ``failed``.
    """
    return _train(words_of(settings, "trains many runs; conga.sweep does that"), quiet, trust=False)


def resume(path: str | os.PathLike[str], *settings: Setting, quiet: bool = False, trust: bool = False) -> Any:
    """Resumes a stopped run, or does the rest of a sweep.

    Args:
        path: the directory of the run, or of the sweep.
        settings: changes, such as ``"train.epochs=60"``, or ``"sweep.workers=1"``.
        quiet: whether to show nothing.
        trust: whether the directory may name classes that are not part of conga.

    Returns:
        The :class:`Run`; for a sweep the frame of :func:`sweep`.

    Raises:
        Refused: no run or sweep, or it cannot be resumed; one line says why.
        KeyboardInterrupt: it was interrupted again.
    """
    from trainer.resume import going_on, is_sweep

    words, folder = words_of(settings, "a sweep is resumed without it"), place(path)
    if not is_sweep(folder):
        with as_arguments():
            return _train([*going_on(folder), *words], quiet, trust)
    from trainer.sweep.resume import resume as go_on

    def do() -> Path:
        go_on(folder, words, trust)
        return folder

    with as_arguments():
        return _swept(do, words, quiet)


def sweep(*settings: Setting, quiet: bool = False) -> pd.DataFrame:
    """Trains a run for each combination of values, as ``python -m trainer -m SETTINGS`` does.

    ::

        frame = conga.sweep("optim=sgd,cgd", "seed=range(0,3)")
        frame.groupby("optim")["test/accuracy"].mean()

    Runs train in separate processes, several at a time, which do not import the calling script.

    Args:
        settings: as on the command line, with several values (``optim.lr=1e-3,1e-2``); ``hydra/sweeper=optuna``
            searches. In mappings a list is one value.
        quiet: whether to show nothing.

    Returns:
        One row per run, as in :func:`runs`; ``frame.attrs["path"]`` is the sweep's directory.

    Raises:
        Refused: a mistake in a combination; nothing was started.
        KeyboardInterrupt: it was interrupted; started runs are saved.
    """
    words = words_of(settings, "is what this does; leave it out")

    def do() -> Path | None:
        from trainer.train import compose, removing_empty

        with removing_empty() as made:
            return compose([*_flags_first(words), "-m"], _no_job, made)

    return _swept(do, words, quiet)


def _train(words: list[str], quiet: bool, trust: bool) -> Run:
    """Trains the run of the words and returns it.

    Args:
        trust: see :func:`resume`.
    """
    from hydra.core.hydra_config import HydraConfig

    from conga.apart import apart
    from trainer.cli import display
    from trainer.rundir.configuration import CONFIG
    from trainer.sweep.pruning import judge_of
    from trainer.train import compose, removing_empty
    from trainer.training.run import Caller
    from trainer.training.run import train as train_run

    caller = Caller(judge_of, trusted=trust, raises=True)
    ended: list[tuple[Path, int | Exception]] = []

    def job(cfg: Any) -> None:
        path = Path(HydraConfig.get().runtime.output_dir)
        try:
            ended.append((path, train_run(cfg, caller)))
        except Exception as error:  # raised below: Hydra would print its own line
            ended.append((path, error))

    with apart(), display.quiet(quiet), removing_empty() as made:
        with _one_line(words, by_composing=True):
            compose(_flags_first(words), job, made, may_sweep=False)
        [(path, code)] = ended
        with _one_line(words):
            if isinstance(code, Exception):
                raise code
    if code > 128:
        _interrupt(code - 128, path if (path / CONFIG).exists() else None)
    return Run(path, trust=True)  # its names come from the caller, or are trusted


def _swept(do: Callable[[], Path | None], words: list[str], quiet: bool) -> pd.DataFrame:
    """The runs of the sweep that `do` carries out; `do` returns its directory."""
    from conga.apart import hydra_apart, python_apart
    from trainer.cli import display
    from trainer.runs import load_runs
    from trainer.sweep.sweep import Ended

    code = 0
    with hydra_apart(), python_apart(), display.quiet(quiet), _one_line(words, by_composing=True):
        try:
            folder = do()
        except Ended as end:
            if isinstance(end.__cause__, OSError):  # the disk is full
                raise end.__cause__ from None
            folder, code = end.folder, int(end.code or 0)
    if folder is None:
        raise Refused("hydra/sweeper: must be grid or optuna; the runs of Hydra's own are read by conga.runs")
    if code > 128:
        _interrupt(code - 128, folder)
    frame = load_runs(folder)
    frame.attrs["path"] = str(folder)
    return frame


def _no_job(cfg: Any) -> None:
    """Refuses the job of Hydra's own sweeper in this process."""
    raise Refused("hydra/sweeper: must be grid or optuna")


def _flags_first(words: list[str]) -> list[str]:
    from trainer.cli.config import flags_first

    return flags_first(words)


@contextlib.contextmanager
def _one_line(words: Sequence[str], *, by_composing: bool = False) -> Iterator[None]:
    """Turns a person's mistake into a refusal whose traceback ends here; other errors pass.

    Args:
        by_composing: whether every error is a mistake in the words or in YAML.
    """
    from trainer.cli.command import FULL_ERROR
    from trainer.cli.outcome import outcome
    from trainer.rundir.errors import one_line

    try:
        yield
    except Exception as error:
        end = outcome(error, words, one_line(error) if by_composing else None)
        if end.defect:
            raise
        cause = error if os.environ.get(FULL_ERROR) == "1" else None
        raise Refused(*end.line.split("\n  ")) from cause


def _interrupt(signum: int, folder: Path | None) -> NoReturn:
    """Passes on the signal that stopped a run or a sweep, after all is saved and the caller's handlers are restored.

    Args:
        folder: what can be resumed; None if nothing had started.

    Raises:
        KeyboardInterrupt: for Ctrl-C; for another signal if it does not end the process.
    """
    from trainer.rundir.run_dir import shown

    if signum != signal.SIGINT:
        signal.raise_signal(signum)
    then = f"saved; to resume: conga.resume({shown(folder)!r})" if folder else "interrupted before the first step"
    raise KeyboardInterrupt(then)
