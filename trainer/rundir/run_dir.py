"""The run directory: its layout, how it is claimed, the status of its run, and the command that resumes it.

    outputs/<date>/<time>_<model>_<data>_<optim>[_n]/
        .hydra/{config,hydra,overrides}.yaml   the configuration, written once
        .hydra/resumed.yaml                    the keys that resumes changed
        metrics.csv  summary.json  train.log  checkpoints/{last,best}.pt

This module imports neither torch nor Hydra: ``--help`` imports it.
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

TRIAL = ".hydra/trial.json"  # in a run of a search

ADDED = ("train.log", "metrics.csv", "metrics_groups.csv")  # files to which a run appends
OWN = (*ADDED, ".hydra", "checkpoints", "evaluation", "tensorboard", "wandb")  # and folders into which it writes


def claim(path: str) -> str:
    """Makes a new directory: `path`, else `path`_2, `path`_3, …; two callers never get the same one."""
    candidate, n = path, 1
    while True:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.mkdir(candidate)
            return candidate
        except FileExistsError:
            n += 1
            candidate = f"{path}_{n}"
        except FileNotFoundError:  # a refused process has just removed its empty folder
            continue


def missing(path: Path) -> list[str]:
    """The missing ones among a directory and its parents, the outermost first."""
    return [str(one) for one in reversed([path, *path.parents]) if not os.path.lexists(one)]


def inside(folder: Path, path: Path) -> bool:
    """Whether `path`, with links resolved, is inside the directory `folder`, which may itself be a link."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def check_own(run: Path) -> None:
    """Raises Refused if a run would write through a link out of its directory, or into something that is no file."""
    for name in OWN:
        path = run / name
        if not inside(run, path):
            raise Refused(
                f"{path}: is a link out of the run directory, and a run writes only inside; put its target "
                "in its place (the run directory itself may be a link)"
            )
        if name in ADDED and (path.is_symlink() or (path.exists() and not path.is_file())):
            raise Refused(f"{path}: is not a regular file; remove it")


def open_log(run: Path) -> BinaryIO:
    """Opens the log of the run in `run` for appending; None if impossible, which the run itself reports."""
    try:
        return open(run / "train.log", "ab", buffering=0, opener=at_end)
    except OSError:
        return open(os.devnull, "ab", buffering=0)


def remove_if_empty(path: Path) -> None:
    """Removes the directory if it exists and is empty."""
    with contextlib.suppress(OSError):
        path.rmdir()


def shown(path: Path) -> str:
    """The path as a person would type it: relative if it is below the working directory."""
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    return str(path)


def resume_command(path: Path, trusted: bool = True) -> str:
    """The command that resumes the run in `path`; with ``--trust`` if needed and already `trusted`."""
    processes = os.environ.get("LOCAL_WORLD_SIZE", "1")  # set by torchrun
    start = "python" if processes == "1" else f"torchrun --nproc-per-node={processes}"
    return f"{start} -m trainer resume {shlex.quote(shown(path))}{trust_flag(path) if trusted else ''}"


def trust_flag(*runs: Path) -> str:
    """`` --trust`` if one of the runs names something that is not part of conga, else an empty text."""
    for path in runs:
        try:
            check_trust(path, configuration.frozen(path) or {})
        except Untrusted:
            return f" {trust.FLAG}"
        except Refused:  # damaged, which the resume will report
            continue
    return ""


def check_trust(path: Path, config: dict[str, Any], named: Collection[str] = ()) -> None:
    """Raises Refused if the run in `path` names something that is neither part of conga nor in `named`."""
    trust.check(path / configuration.CONFIG, "", config, named)
    check_extras(path, named)


def check_extras(path: Path, named: Collection[str] = ()) -> None:
    """The same for the other files that are used: the trial of a run, and the changes of resumes."""
    trust.check(path / TRIAL, "hydra.sweeper", read_object(path / TRIAL), named)
    trust.check(path / configuration.RESUMED, "", configuration.resumed_changes(path), named)


def status_of(path: Path, summary: Mapping[str, Any]) -> str:
    """The status of the run in `path`, by its summary and its lock: queued, running, interrupted, failed or over.

    ``finished`` and ``diverged`` are over. A locked run is running, even if its summary does not say so yet.
    """
    status = summary.get("status", "queued")
    if status in ("finished", "diverged"):
        return status
    if lock.is_held(path, summary.get("process") or {}):
        return "running"
    return "interrupted" if status == "running" else status


def is_over(summary: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether a run with this summary and configuration has nothing left to do (a failed run has)."""
    if summary.get("status") != "finished":
        return summary.get("status") == "diverged"
    return bool(summary.get("stopped")) or summary.get("epochs") == config["train"]["epochs"]
