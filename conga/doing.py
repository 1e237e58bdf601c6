"""Runs and sweeps from Python: composed, checked and trained by the functions of ``python -m trainer``."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from conga.run import Run
from conga.spelled import Setting, place, words_of
from trainer.rundir.errors import Refused

if TYPE_CHECKING:
    import pandas as pd


def train(*settings: Setting, quiet: bool = False) -> Run:
    """Trains a run as ``python -m trainer SETTINGS`` does, with its directory, and returns it.

    ::

        run = conga.train("model=cnn", "optim=cgd", "train.epochs=5")
        run = conga.train("data=csv", {"data.path": Path("my flats.csv"), "data.targets": ["rent"]})

    In a notebook there are bars, on a terminal too, else a line an epoch. Ctrl-C, or interrupting the kernel, saves the
    run and raises KeyboardInterrupt, which says how to go on; a second one stops at once. Torch, Hydra and Python are
    left as they were (``conga/apart.py``), and no thread is started.

    Args:
        settings: as on the command line, or mappings of key -> value, which need no quotes.
        quiet: whether nothing is shown; the run's ``train.log`` has it all the same.

    Returns:
        The run, also one that diverged, or whose ``train.max_minutes`` are over: see :attr:`Run.status`.

    Raises:
        Refused: a mistake; the line is that of the command. Nothing is left behind.
        KeyboardInterrupt: it was interrupted.
        Exception: what a class of yours raised in training; the run is ``failed``.
    """
    return _train(words_of(settings, "trains many runs; conga.sweep does that"), quiet, trust=False)


def resume(path: str | os.PathLike[str], *settings: Setting, quiet: bool = False, trust: bool = False) -> Any:
    """Goes on with a run that was stopped, or does what is left of a sweep.

    Args:
        path: the directory of the run, or of the sweep.
        settings: what may change, such as ``"train.epochs=60"``, or ``"sweep.workers=1"``.
        quiet: whether nothing is shown.
        trust: whether the directory may name classes that are not part of conga.

    Returns:
        The :class:`Run`; of a sweep the frame that :func:`sweep` returns.

    Raises:
        Refused: no run or sweep is there, or it cannot go on; one line says why.
        KeyboardInterrupt: it was interrupted again.
    """
    from trainer.resume import going_on, is_sweep

    words, folder = words_of(settings, "a sweep is resumed without it"), place(path)
    if not is_sweep(folder):
        return _train([*going_on(folder), *words], quiet, trust)
    from trainer.sweep.resume import resume as go_on

    def do() -> Path:
        go_on(folder, words, trust)
        return folder

    return _swept(do, words, quiet)


def sweep(*settings: Setting, quiet: bool = False) -> pd.DataFrame:
    """Trains a run for each combination of values, as ``python -m trainer -m SETTINGS`` does.

    ::

        frame = conga.sweep("optim=sgd,cgd", "seed=range(0,3)")
        frame.groupby("optim")["test/accuracy"].mean()

    Runs compute in processes of their own, several at a time; those do not import the script that calls this.

    Args:
        settings: as on the command line, with several values (``optim.lr=1e-3,1e-2``); ``hydra/sweeper=optuna``
            searches. In mappings a list is one value.
        quiet: whether nothing is shown.

    Returns:
        One row a run, as :func:`runs` has them; ``frame.attrs["path"]`` is the sweep's directory.

    Raises:
        Refused: a mistake in a combination; nothing was started.
        KeyboardInterrupt: it was interrupted; what had begun is saved.
    """
    words = words_of(settings, "is what this does; leave it out")

    def do() -> Path | None:
        from trainer.train import compose, removing_empty

        with removing_empty() as made:
            return compose([*_flags_first(words), "-m"], _no_job, made)

    return _swept(do, words, quiet)


def _train(words: list[str], quiet: bool, trust: bool) -> Run:
    """The run that the words say, trained.

    Args:
        trust: as of :func:`resume`.
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
        except Exception as error:  # raised below: Hydra would print a line of its own
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
    return Run(path, trust=True)  # what it names was named by whoever trained it, or trusted


def _swept(do: Callable[[], Path | None], words: list[str], quiet: bool) -> pd.DataFrame:
    """The runs of a sweep that `do` does, and returns the directory of."""
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
    """What Hydra's own sweeper would do in this process."""
    raise Refused("hydra/sweeper: must be grid or optuna")


def _flags_first(words: list[str]) -> list[str]:
    from trainer.cli.config import flags_first

    return flags_first(words)


@contextlib.contextmanager
def _one_line(words: Sequence[str], *, by_composing: bool = False) -> Iterator[None]:
    """Raises the line about a person's mistake, with a traceback that ends here; other errors go on as they came.

    Args:
        by_composing: whether any error must be a mistake in the words, or in YAML.
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
    """Passes on what has stopped a run or a sweep, once all is saved and the caller's own handlers are back.

    Args:
        folder: where it can go on; None if nothing had begun.

    Raises:
        KeyboardInterrupt: of Ctrl-C; and of another signal, if it did not end the process.
    """
    from trainer.rundir.run_dir import shown

    if signum != signal.SIGINT:
        signal.raise_signal(signum)
    then = f"saved; to resume: conga.resume({shown(folder)!r})" if folder else "interrupted before the first step"
    raise KeyboardInterrupt(then)
