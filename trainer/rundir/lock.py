"""The lock of a run's directory: one process trains there at a time, and others can tell whether one does."""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from trainer.rundir.errors import Damaged, Locked
from trainer.rundir.summary import Summary

LOOK_S = 0.2  # for so long somebody who only looks may hold a directory
SILENT_S = 600.0  # a process elsewhere whose heartbeat is older than this is taken for gone


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


def _owner(path: Path) -> dict[str, Any]:
    """What the summary of a run says of its process; {} if it says nothing."""
    with contextlib.suppress(Damaged):  # who holds a directory is no matter of its files
        return Summary.read(path).process
    return {}


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
