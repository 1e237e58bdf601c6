"""Settings from Python as words of the command line."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.rundir.errors import Refused
from trainer.rundir.typed import quoted, typed_path

Setting = str | Mapping[str, Any]  # "optim.lr=0.1", or {"optim.lr": 0.1, "data.path": Path("Größe (2).csv")}
PLACES = ("--config-dir", "--config-path", "--config-name", "-cd", "-cp", "-cn")  # flags for folders of YAML files


def words_of(settings: Iterable[Setting], instead: str) -> list[str]:
    """The settings as words of a command line.

    Args:
        instead: the function for sweeps, or for one run, for the line about ``-m``.

    Raises:
        Refused: a flag that only prints something, or that is another function here.
    """
    words: list[str] = []
    for one in settings:
        if isinstance(one, Mapping):
            words += [f"{key}={_value(value)}" for key, value in one.items()]
        elif isinstance(one, str):
            words.append(one)
        else:
            raise TypeError(f'settings are texts such as "optim.lr=0.1", or a mapping; given {one!r}')
    for word in words:
        if word in ("-m", "--multirun"):
            raise Refused(f"{word}: {instead}")
        if word.startswith("-") and not word.startswith(PLACES):
            raise Refused(f"{word}: is not a setting; a setting is KEY=VALUE, such as train.epochs=5")
    return words


def _value(value: Any) -> str:
    """A value in the grammar of the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_value(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_value, value))}]"
    return quoted(os.fspath(value)) if isinstance(value, str | os.PathLike) else str(value)


def place(path: str | os.PathLike[str]) -> Path:
    """A typed path with ``~`` expanded.

    Raises:
        Refused: there is no such user.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"a path is a str or a Path, and several are given one after the other; given {path!r}")
    return typed_path(os.fspath(path))


@contextlib.contextmanager
def as_arguments() -> Iterator[None]:
    """Spells the options in a refusal of the command line as arguments of a function: ``trust=True``."""
    try:
        yield
    except Refused as error:
        text = re.sub(r"--([a-z_]+)=([\w:]+)", r"\1='\2'", str(error).replace("--trust", "trust=True"))
        raise Refused(text) from error
