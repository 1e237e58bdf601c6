"""Reading runs: one as a :class:`conga.Run`, many as frames and figures. Does not import torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from conga.run import Run
from conga.spelled import place
from trainer.rundir.errors import Refused

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]


def load(path: PathLike, *, checkpoint: str = "best", device: str = "auto", trust: bool = False) -> Run:
    """The run in a directory, which may still be training.

    Args:
        path: such as ``outputs/2026-01-31/12-00-00_cnn_digits_cgd``; ``~`` is home.
        checkpoint: of :attr:`Run.model`: ``best``, ``last``, or a kept ``epoch_N``.
        device: of the model: ``auto`` (a GPU if there is one), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        trust: whether the run may name classes that are not part of conga. Their code is run: only trust directories
            whose author you know.

    Raises:
        Refused: it is not the directory of a run.
    """
    return Run(place(path), checkpoint=checkpoint, device=device, trust=trust)


def runs(*paths: PathLike) -> pd.DataFrame:
    """All runs below the paths (``outputs`` by default), one row a run; what a run does not have is missing.

    Columns: ``path``, ``name``, ``status``, ``error``; the configuration by dotted keys, and each group's choice
    (``optim``); ``best/value``, ``best/epoch``, ``final/val/loss``, …, ``test/accuracy``, …; ``epochs``, ….

    Raises:
        Refused: a path is not a directory.
    """
    from trainer.runs import load_runs

    return load_runs(*map(place, paths or ("outputs",)))


def curves(*paths: PathLike) -> pd.DataFrame:
    """``metrics.csv`` of all runs below the paths, one row for each run and epoch: ``path``, ``name``, ``epoch``, ….

    ::

        frame = conga.curves("outputs")
        frame.pivot(index="epoch", columns="name", values="val/loss").plot(logy=True)

    Raises:
        Refused: a path is not a directory.
    """
    from trainer.runs import load_curves

    return load_curves(*map(place, paths or ("outputs",)))


def plot(*paths: PathLike, **options: Any) -> Figure:
    """The picture of ``python -m trainer plot`` for the runs below the paths, as a matplotlib figure.

    ::

        conga.plot("outputs", y="val/loss", by="optim", band="seed").savefig("curves.pdf")

    Args:
        options: those of the command: ``x``, ``y``, ``by``, ``band``, ``log_x``, ``log_y``, ``heatmap``, ``parallel``,
            ``sweep``, ``value``, ``where``, ``title``, ``size``, ``caption``, ``legend``, ``label``. Several names are
            a list, or a text with commas; labels are a dict.

    Raises:
        Refused: no runs, or a wrong option; the line names it as on the command line.
    """
    if "out" in options:
        raise Refused("out: conga.plot returns a figure; conga.plot(…).savefig('curves.pdf') writes it")
    from conga.picture import Picture
    from trainer.plot.command import figure_of

    words = [os.fspath(place(path)) for path in paths]
    for name, value in options.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif value is False:
            words.append(f"--no-{option[2:]}")
        elif isinstance(value, dict):
            words += [f"{option}={key}={text}" for key, text in value.items()]
        elif value is not None:
            parts = value if isinstance(value, list | tuple) else [value]
            words.append(f"{option}={('x' if name == 'size' else ',').join(map(str, parts))}")
    return Picture.of(figure_of(words))
