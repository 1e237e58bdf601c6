"""The run directory: its layout, how it is claimed, what has become of the run, and the command that continues it.

    outputs/<date>/<time>_<model>_<data>_<optim>[_n]/
        .hydra/{config,hydra,overrides}.yaml   the configuration, written once
        .hydra/resumed.yaml                    what `train.resume=… key=value` changed since, if anything
        metrics.csv  summary.json  train.log  checkpoints/{last,best}.pt

This module imports neither torch nor Hydra: it is on the way of ``--help``.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from trainer.rundir import configuration, lock, trust
from trainer.rundir.errors import Refused
from trainer.rundir.files import at_end
from trainer.rundir.stored import read_object
from trainer.rundir.trust import Untrusted

TRIAL = ".hydra/trial.json"  # of a run that a search proposed

ADDED = ("train.log", "metrics.csv", "metrics_groups.csv")  # files to which a run adds lines
OWN = (*ADDED, ".hydra", "checkpoints", "evaluation", "tensorboard", "wandb")  # and folders into which it writes


def claim(path: str) -> str:
    """Makes a new directory: `path`, else `path`_2, `path`_3, …; atomic, so no two callers get the same one."""
    candidate, n = path, 1
    while True:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.mkdir(candidate)
            return candidate
        except FileExistsError:
            n += 1
            candidate = f"{path}_{n}"
        except FileNotFoundError:  # a process that was refused has just removed the empty folder that it had made
            continue


def missing(path: Path) -> list[str]:
    """Of a directory and those above it the ones that are not there, the outermost first."""
    return [str(one) for one in reversed([path, *path.parents]) if not os.path.lexists(one)]


def inside(folder: Path, path: Path) -> bool:
    """Whether what `path` leads to lies in the directory `folder`, which itself may be reached through links."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def check_own(run: Path) -> None:
    """Raises Refused where what a run writes into or adds to is a link out of its directory, or no file."""
    for name in OWN:
        path = run / name
        if not inside(run, path):
            raise Refused(
                f"{path}: is a link out of the run directory, and a run writes nothing elsewhere; put what it leads to "
                "in its place (the run directory itself may be a link)"
            )
        if name in ADDED and (path.is_symlink() or (path.exists() and not path.is_file())):
            raise Refused(f"{path}: is not a regular file; remove it")


def open_log(run: Path) -> BinaryIO:
    """Takes lines for the log of the run in `run`; nowhere, where no log can be: the run itself will say so."""
    try:
        return open(run / "train.log", "ab", buffering=0, opener=at_end)
    except OSError:
        return open(os.devnull, "ab", buffering=0)


def remove_if_empty(path: Path) -> None:
    """Removes the directory unless something is in it (or it is not there)."""
    with contextlib.suppress(OSError):
        path.rmdir()


def shown(path: Path) -> str:
    """The path as a person would type it: relative if it is below the working directory."""
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return str(path)


def resume_command(path: Path, trusted: bool = True) -> str:
    """The command that continues the run in `path`; with ``--trust`` if it needs that, and is `trusted` already."""
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")  # torchrun says so
    start = "python" if processes == "1" else f"torchrun --nproc-per-node={processes}"
    return f"{start} -m trainer resume {shlex.quote(shown(path))}{trust_flag(path) if trusted else ''}"


def trust_flag(*runs: Path) -> str:
    """What a command on these runs needs at its end: `` --trust`` where one names what is not part of conga."""
    for path in runs:
        try:
            check_trust(path, configuration.frozen(path) or {})
        except Untrusted:
            return f" {trust.FLAG}"
        except Refused:  # damaged, which whoever goes on with it will say
            continue
    return ""


def check_trust(path: Path, config: dict[str, Any], named: Collection[str] = ()) -> None:
    """Raises Refused where the run in `path` names something that is not part of conga, and not in `named`."""
    trust.check(path / configuration.CONFIG, "", config, named)
    check_extras(path, named)


def check_extras(path: Path, named: Collection[str] = ()) -> None:
    """The same of what else in a run's directory is made use of: its trial, and what resumes changed."""
    trust.check(path / TRIAL, "hydra.sweeper", read_object(path / TRIAL), named)
    trust.check(path / configuration.RESUMED, "", configuration.resumed_changes(path), named)


def status_of(path: Path, summary: Mapping[str, Any]) -> str:
    """What the run in `path` is now, by its summary and its lock: queued, running, interrupted, failed or over.

    Over are ``finished`` and ``diverged``. A run that somebody holds is running, whatever its summary says yet.
    """
    status = summary.get("status", "queued")
    if status in ("finished", "diverged"):
        return status
    if lock.is_held(path, summary.get("process") or {}):
        return "running"
    return "interrupted" if status == "running" else status


def is_over(summary: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether a run with this summary and configuration has nothing left to do; a failed one has."""
    if summary.get("status") != "finished":
        return summary.get("status") == "diverged"
    return bool(summary.get("stopped")) or summary.get("epochs") == config["train"]["epochs"]
