"""The run directory: how it is claimed, frozen, locked, and described by ``summary.json``.

    outputs/<date>/<time>_<model>_<data>_<optim>[_n]/
        .hydra/{config,hydra,overrides}.yaml   the configuration, written once
        .hydra/resumed.yaml                    what `train.resume=… key=value` changed since, if anything
        metrics.csv  summary.json  train.log  checkpoints/{last,best}.pt

This module imports neither torch nor Hydra: it is on the way of ``--help``.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from trainer.rundir import trust
from trainer.rundir.errors import Damaged, Locked, Refused
from trainer.rundir.files import at_end, to_yaml, write_whole
from trainer.rundir.moved import up_to_date
from trainer.rundir.stored import read_mapping, read_object
from trainer.rundir.summary import Summary
from trainer.rundir.text import cut
from trainer.rundir.trust import Untrusted

CONFIG, HYDRA, OVERRIDES, RESUMED = (f".hydra/{name}.yaml" for name in ("config", "hydra", "overrides", "resumed"))
TRIAL = ".hydra/trial.json"  # of a run that a search proposed
MOVABLE = ("data.path", "data.root")  # where the data lie; what they are stays
# What a resumed run may change: how long and where it trains, not what it trains.
RESUMABLE = ("train.epochs", "train.device", "train.threads", "train.checkpoint_steps", "train.max_minutes", *MOVABLE)
PLACES = (*MOVABLE, "model.pretrained")  # keys that name a file

ADDED = ("train.log", "metrics.csv", "metrics_groups.csv")  # files to which a run adds lines
OWN = (*ADDED, ".hydra", "checkpoints", "evaluation", "tensorboard", "wandb")  # and folders into which it writes

LOOK_S = 0.2  # for so long somebody who only looks may hold a directory
SILENT_S = 600.0  # a process elsewhere whose heartbeat is older than this is taken for gone


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
            check_trust(path, frozen(path) or {})
        except Untrusted:
            return f" {trust.FLAG}"
        except Refused:  # damaged, which whoever goes on with it will say
            continue
    return ""


def check_trust(path: Path, config: dict[str, Any], named: Collection[str] = ()) -> None:
    """Raises Refused where the run in `path` names something that is not part of conga, and not in `named`."""
    trust.check(path / CONFIG, "", config, named)
    check_extras(path, named)


def check_extras(path: Path, named: Collection[str] = ()) -> None:
    """The same of what else in a run's directory is made use of: its trial, and what resumes changed."""
    trust.check(path / TRIAL, "hydra.sweeper", read_object(path / TRIAL), named)
    trust.check(path / RESUMED, "", resumed_changes(path), named)


def _owner(path: Path) -> dict[str, Any]:
    """What the summary of a run says of its process; {} if it says nothing."""
    with contextlib.suppress(Damaged):  # who holds a directory is no matter of its files
        return Summary.read(path).process
    return {}


@contextlib.contextmanager
def locked(path: Path, wait: float = LOOK_S) -> Iterator[bool]:
    """Holds the directory for this process, if it can be locked; the lock goes with the process, however it ends.

    Args:
        wait: seconds until somebody else must have let go.

    Yields:
        whether another process would be noticed.

    Raises:
        Locked: another process holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows: no lock of this kind
        yield False
        return
    handle = os.open(path, os.O_RDONLY)
    _held.add(handle)
    try:
        noticed = True
        try:
            _lock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB, wait)
        except BlockingIOError:
            owner = _owner(path)
            raise Locked(
                f"{path}: another process is training in this directory"
                + (f" (pid {owner['pid']} on {owner['host']})" if owner else "")
                + "; wait for it, or choose another hydra.run.dir"
            ) from None
        except OSError:  # a file system without such locks (NFS locks no folder): as on Windows
            noticed = False
        yield noticed
    finally:
        _held.discard(handle)
        os.close(handle)


def _lock(handle: int, how: int, wait: float) -> None:
    """Locks an open directory; one that another process only looks at (see :func:`is_held`) is free again at once."""
    import fcntl

    deadline = time.monotonic() + wait
    while True:
        try:
            return fcntl.flock(handle, how)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOOK_S / 10)


def is_held(path: Path, process: dict[str, Any]) -> bool:
    """Whether a process trains in the directory `path`; `process` is what its ``summary.json`` says of it.

    Where directories cannot be locked it is judged by the process's number on this machine, by its heartbeat elsewhere.
    """
    try:
        import fcntl

        handle = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
        if process.get("host") in (None, platform.node()):
            return False
    except (ImportError, OSError):  # no such locks
        pass
    if process.get("host") == platform.node():
        try:
            os.kill(process["pid"], 0)
        except (OSError, KeyError, TypeError):
            return False
        return True
    try:
        beat = datetime.fromisoformat(process["heartbeat"])
    except (KeyError, TypeError, ValueError):
        return False
    return (datetime.now(UTC) - beat).total_seconds() < SILENT_S


_held: set[int] = set()  # open directories that are locked


def _let_go() -> None:
    """Closes a forked process's own handles: a worker that outlives a killed run must not hold its lock."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_let_go)


def freeze(path: Path, config: dict, hydra_yaml: str, overrides: list[str]) -> None:
    """Writes .hydra/*.yaml; config.yaml last, since a directory that has it is a run."""
    write_whole(path / HYDRA, hydra_yaml.encode())
    write_whole(path / OVERRIDES, to_yaml(overrides).encode())
    write_whole(path / CONFIG, to_yaml(config).encode())


def frozen(path: Path) -> dict | None:
    """The configuration that the run in `path` started with, or None where no run has started.

    Raises:
        Refused: the file is damaged, or there are a run's files without it.
    """
    config = read_mapping(path / CONFIG)
    if config is None:
        left = [name for name in ("summary.json", "metrics.csv", "train.log", "checkpoints") if (path / name).exists()]
        if left:
            raise Refused(f"{path}: holds {left[0]} but no {CONFIG}, so it is no run of ours; choose another directory")
        return None
    if not isinstance(config.get("train"), dict) or not isinstance(config["train"].get("epochs"), int):
        raise Damaged(f"{path / CONFIG}: not the configuration of a run (it has no train.epochs)")
    for group in {place.partition(".")[0] for place in PLACES}:
        if not isinstance(config.get(group), dict):
            raise Damaged(f"{path / CONFIG}: not the configuration of a run ({group} is no mapping)")
    return up_to_date(config)


def effective(config: dict, path: Path, changes: dict[str, Any] | None = None) -> dict:
    """The configuration `config` of the run in `path` as it counts now: changed by resumes, its files where they are.

    Args:
        changes: those of a resume that is not recorded yet.

    Raises:
        Refused: a damaged file in `path`, or a key that a resumed run cannot change.
    """
    return located(with_changes(config, resumed_changes(path) | (changes or {})), path)


def located(config: dict, run: Path | None = None) -> dict:
    """`config` with the relative paths of files made absolute, as a new dict.

    They are meant in the directory where the run in `run` was started; of a run that is none yet, in the working
    directory.

    Raises:
        Refused: the file of `run` that says so is damaged.
    """
    config, home = dict(config), None
    for group, _, name in (key.partition(".") for key in PLACES):
        value = config.get(group, {}).get(name)
        if isinstance(value, str) and not value.startswith("~") and not os.path.isabs(value):
            home = home or (run and started_in(run)) or Path.cwd()
            config[group] = config[group] | {name: str(home / value)}
    return config


def started_in(path: Path) -> Path | None:
    """The working directory of the run in `path` when it started.

    Raises:
        Refused: the file that says so is damaged.
    """
    try:
        return Path((read_mapping(path / HYDRA) or {})["hydra"]["runtime"]["cwd"])
    except (KeyError, TypeError):
        return None


def resumed_changes(path: Path) -> dict[str, Any]:
    """What earlier resumes changed: dotted key -> value."""
    return read_mapping(path / RESUMED) or {}


def record_changes(path: Path, changes: dict[str, Any]) -> None:
    """Adds to what resumes changed; the frozen configuration stays as it was written."""
    merged = resumed_changes(path) | changes
    if merged != resumed_changes(path):
        write_whole(path / RESUMED, to_yaml(merged).encode())


def with_changes(config: dict, changes: dict[str, Any]) -> dict:
    """`config` with dotted keys replaced, as a new dict.

    Raises:
        Refused: a key that a resumed run cannot change.
    """
    config = dict(config)
    for key, value in changes.items():
        if key not in RESUMABLE:
            raise Refused(not_resumable(f"{key}={value}"))
        group, _, name = key.partition(".")
        config[group] = config[group] | {name: value}
    return config


def not_resumable(override: str) -> str:
    """The line about an override that `train.resume` does not take."""
    return f"{override}: a resumed run keeps its configuration; only {', '.join(RESUMABLE)} may change"


def status_of(path: Path, summary: Mapping[str, Any]) -> str:
    """What the run in `path` is now, by its summary and its lock: queued, running, interrupted, failed or over.

    Over are ``finished`` and ``diverged``. A run that somebody holds is running, whatever its summary says yet.
    """
    status = summary.get("status", "queued")
    if status in ("finished", "diverged"):
        return status
    if is_held(path, summary.get("process") or {}):
        return "running"
    return "interrupted" if status == "running" else status


def is_over(summary: dict[str, Any], config: dict[str, Any]) -> bool:
    """Whether a run with this summary and configuration has nothing left to do; a failed one has."""
    if summary.get("status") != "finished":
        return summary.get("status") == "diverged"
    return bool(summary.get("stopped")) or summary.get("epochs") == config["train"]["epochs"]


def difference(new: Any, old: Any, key: str = "") -> str | None:
    """The first dotted key in which two configurations differ, with both values; None if there is none."""
    if isinstance(new, dict) and isinstance(old, dict):
        for k in [*old, *(k for k in new if k not in old)]:
            found = difference(new.get(k, "(absent)"), old.get(k, "(absent)"), f"{key}.{k}" if key else str(k))
            if found:
                return found
        return None
    same = new == old and isinstance(new, bool) == isinstance(old, bool)  # 1 is 1.0, but not true
    return None if same else f"{key} is {cut(str(old))} there and {cut(str(new))} here"
