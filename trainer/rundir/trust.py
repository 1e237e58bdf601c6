"""What the files of a directory may name. A run directory is data, and may be somebody else's.

A ``_target_`` in them is called only if conf/ names it for the same group, or if it is a sampler or pruner of optuna's;
anything else only with ``--trust``. What the present command line composes is trusted: it is the user's own word.

This module imports neither torch nor Hydra: it is on the way of ``--help``.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainer.rundir.errors import Refused
from trainer.rundir.stored import parse_yaml

CONF = Path(__file__).resolve().parent.parent.parent / "conf"
FLAG = "--trust"
HELP = "run classes that are not this program's own, if the directory names such"
OF_OPTUNA = {"hydra.sweeper.sampler": "samplers", "hydra.sweeper.pruner": "pruners"}
# Those of Hydra's that docs/cluster.md names beside conf/hydra/launcher/.
LAUNCHERS = (
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
)
# Of launchers: where a cluster is and where files go, which have to be what conf/ says, or nothing.
ELSEWHERE = ("address", "_temp_dir", "dashboard_host", "submitit_folder")
# What becomes shell commands or their environment, in the configuration of a launcher.
COMMANDS = ("setup", "python", "srun_args", "additional_parameters", "runtime_env", "env_set")


class Untrusted(Refused):
    """A directory names something that is not this program's own."""


@functools.cache
def ours(group: str) -> frozenset[str]:
    """What the files of a group in conf/ name; ``logger.csv`` is in the group logger."""
    folder = CONF / group.replace(".", "/")
    while not folder.is_dir():
        folder = folder.parent
    files = [*folder.glob("*.yaml"), *([CONF / "config.yaml"] if folder.name == "logger" else [])]
    texts = (path.read_text() for path in files)
    return frozenset(name for text in texts for name in re.findall(r"_target_:\s*([\w.]+)", text))


@functools.cache
def references() -> frozenset[str]:
    """The references that the files of conf/ hold, ``${…}``: to other keys, to the environment, to the time."""
    texts = (path.read_text() for path in CONF.rglob("*.yaml"))
    found = (parse_yaml(text, "conf") for text in texts if "${" in text)
    return frozenset(value for node in found for _, value in leaves(node) if isinstance(value, str) and "${" in value)


def check(where: Path, key: str, node: Any, named: Collection[str] = ()) -> None:
    """Checks what a node of a configuration names, below `key`.

    Args:
        where: the file that the node is from.
        named: what may be named besides.

    Raises:
        Untrusted: a name that is not ours, or a reference, which could be to anything.
    """
    for at, name in targets(node, key):
        group = at.rpartition(".")[0]
        known = name is None or (isinstance(name, str) and (name in ours(group) or name in named))
        known = known or (group == "hydra.launcher" and name in LAUNCHERS)
        if not known and group in OF_OPTUNA and isinstance(name, str):
            known = re.fullmatch(rf"optuna\.{OF_OPTUNA[group]}\.[A-Z]\w*", name) is not None
        if not known:
            raise Untrusted(
                f"{where}: {at}={name} is not this program's own, and a directory may be anybody's; "
                f"{FLAG} runs it, if you know where it is from"
            )
    for at, text in leaves(node, key):
        if isinstance(text, str) and "${" in text and text not in references() and text not in named:
            raise Untrusted(
                f"{where}: {at}={text} refers to something else, and must be a value; {FLAG} takes it as it is"
            )


def check_sweep(where: Path, config: Mapping[str, Any]) -> None:
    """Checks how the jobs of a sweep are launched, as its ``sweep.json`` says.

    Raises:
        Untrusted: a name that is not ours, a callback, or a command for a shell.
    """
    if other := config.keys() - {"hydra", "sweep"}:
        raise Untrusted(f"{where}: config.{min(other)}: a sweep keeps hydra and sweep only; {FLAG} takes it as it is")
    check(where, "", config)
    for at, value in leaves(config["hydra"], "hydra"):
        words = at.split(".")
        runs = any(word in COMMANDS for word in words) and value is not None
        runs = runs or (words[-1] in ELSEWHERE and value not in (None, "auto") and value not in references())
        breaks = words[1] == "launcher" and isinstance(value, str) and not value.isprintable()
        if runs or breaks:
            raise Untrusted(
                f"{where}: {at}={value!r} would be run, or reach elsewhere, and a directory may be anybody's; "
                f"{FLAG} runs it, if you know where it is from"
            )


def targets(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every ``_target_`` in a node, with its dotted key."""
    return ((at, value) for at, value in _walk(node, key) if at.rpartition(".")[2] == "_target_")


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in a node that is no mapping and no list, with its dotted key."""
    return ((at, value) for at, value in _walk(node, key) if not isinstance(value, Mapping | list))


def _walk(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping | list):
        for name, child in node.items() if isinstance(node, Mapping) else enumerate(node):
            at = f"{key}.{name}" if key else str(name)
            yield at, child
            yield from _walk(child, at)
