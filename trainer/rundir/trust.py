"""What the files of a run directory may name: the directory is data, and may come from somebody else.

A ``_target_`` in them is called only if conf/ names it for the same group, or if it is a sampler or pruner of Optuna;
anything else only with ``--trust``. What the present command line composes is trusted: the user typed it.

This module imports neither torch nor Hydra: ``--help`` imports it.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from trainer.rundir.errors import Refused
from trainer.rundir.stored import parse_yaml

CONF = Path(__file__).resolve().parent.parent.parent / "conf"
FLAG = "--trust"
CONFIG_DIR = "--config-dir"
HELP = "run classes that the directory names and that are not part of conga"
OF_OPTUNA = {"hydra.sweeper.sampler": "samplers", "hydra.sweeper.pruner": "pruners"}
# Hydra's launchers that docs/cluster.md names beside those of conf/hydra/launcher/.
LAUNCHERS = (
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
)
# Keys of launchers that say where a cluster is and where files go: as in conf/, or not set.
ELSEWHERE = ("address", "_temp_dir", "dashboard_host", "submitit_folder")
# Keys of launchers that become shell commands or their environment.
COMMANDS = ("setup", "python", "srun_args", "additional_parameters", "runtime_env", "env_set")


class Untrusted(Refused):
    """A directory names something that is not part of conga."""


_own: ContextVar[tuple[Path, ...]] = ContextVar("own", default=())  # folders of a person's own YAML


@contextlib.contextmanager
def trusting(folder: Path | None) -> Iterator[None]:
    """While entered, names in the YAML files below `folder` are allowed as those in conf/ are.

    Args:
        folder: ``--config-dir`` of the present command; None adds nothing.

    Raises:
        Refused: it is no directory.
    """
    if folder is not None and not folder.is_dir():
        raise Refused(f"{CONFIG_DIR}={folder}: must be a directory; {folder.absolute()} is none")
    before = _own.set(_own.get() if folder is None else (*_own.get(), folder))
    try:
        yield
    finally:
        _own.reset(before)


def ours(group: str) -> frozenset[str]:
    """The `_target_`s of a group in conf/, and in the YAML files of :func:`trusting`."""
    return in_conf(group).union(*(named_below(folder, group) for folder in _own.get()))


@functools.cache
def in_conf(group: str) -> frozenset[str]:
    """Those in conf/."""
    return named_below(CONF, group)


def named_below(root: Path, group: str) -> frozenset[str]:
    """Those in the YAML files of a folder; ``logger.csv`` is in the group logger."""
    folder = root / group.replace(".", "/")
    while not folder.is_dir():
        folder = folder.parent
    files = [*folder.glob("*.yaml"), *([CONF / "config.yaml"] if folder.name == "logger" else [])]
    texts = (path.read_text() for path in files)
    return frozenset(name for text in texts for name in re.findall(r"_target_:\s*([\w.]+)", text))


@functools.cache
def references() -> frozenset[str]:
    """The references ``${…}`` in conf/: to other keys, the environment, the time."""
    texts = (path.read_text() for path in CONF.rglob("*.yaml"))
    found = (parse_yaml(text, "conf") for text in texts if "${" in text)
    return frozenset(value for node in found for _, value in leaves(node) if isinstance(value, str) and "${" in value)


def check(where: Path, key: str, node: Any, named: Collection[str] = ()) -> None:
    """Checks all names and references of a configuration's node at `key`.

    Args:
        where: the file of the node.
        named: further names that are allowed.

    Raises:
        Untrusted: a name that is not part of conga, or a reference, which could be to anything.
    """
    for at, name in targets(node, key):
        group = at.rpartition(".")[0]
        known = name is None or (isinstance(name, str) and (name in ours(group) or name in named))
        known = known or (group == "hydra.launcher" and name in LAUNCHERS)
        if not known and group in OF_OPTUNA and isinstance(name, str):
            known = re.fullmatch(rf"optuna\.{OF_OPTUNA[group]}\.[A-Z]\w*", name) is not None
        if not known:
            raise Untrusted(
                f"{where}: {at}={name} is not part of conga; {FLAG} runs it, if you trust the author of this directory"
            )
    for at, text in leaves(node, key):
        if isinstance(text, str) and "${" in text and text not in references() and text not in named:
            raise Untrusted(f"{where}: {at}={text} is a reference, and must be a value; {FLAG} allows it")


def check_sweep(where: Path, config: Mapping[str, Any]) -> None:
    """Checks the launcher in the ``sweep.json`` of a sweep.

    Raises:
        Untrusted: a name that is not part of conga, a callback, or a shell command.
    """
    if other := config.keys() - {"hydra", "sweep"}:
        raise Untrusted(f"{where}: config.{min(other)}: a sweep keeps hydra and sweep only; {FLAG} allows it")
    check(where, "", config)
    for at, value in leaves(config["hydra"], "hydra"):
        words = at.split(".")
        runs = any(word in COMMANDS for word in words) and value is not None
        runs = runs or (words[-1] in ELSEWHERE and value not in (None, "auto") and value not in references())
        breaks = words[1] == "launcher" and isinstance(value, str) and not value.isprintable()
        if runs or breaks:
            raise Untrusted(
                f"{where}: {at}={value!r} runs a command, or points out of the directory; "
                f"{FLAG} allows it, if you trust the author of this directory"
            )


def targets(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every ``_target_`` in a node, with its dotted key."""
    return ((at, value) for at, value in _walk(node, key) if at.rpartition(".")[2] == "_target_")


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a node except mappings and lists, with its dotted key."""
    return ((at, value) for at, value in _walk(node, key) if not isinstance(value, Mapping | list))


def _walk(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping | list):
        for name, child in node.items() if isinstance(node, Mapping) else enumerate(node):
            at = f"{key}.{name}" if key else str(name)
            yield at, child
            yield from _walk(child, at)
