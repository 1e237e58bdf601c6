"""The lock of a run's directory: only one process trains there, and others can see whether one does."""

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

LOOK_S = 0.2  # the longest time that a reader holds a directory
SILENT_S = 600.0  # a process on another machine with an older heartbeat counts as gone


@contextlib.contextmanager
def locked(path: Path, wait: float = LOOK_S) -> Iterator[bool]:
    """Locks the directory for this process, if the file system can; the end of the process releases the lock.

    Args:
        wait: seconds to wait for another process to release it.

    Yields:
        whether the lock keeps other processes out.

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
        except OSError:  # a file system without such locks (NFS cannot lock a folder): as on Windows
            noticed = False
        yield noticed
    finally:
        _held.discard(handle)
        os.close(handle)


def _lock(handle: int, how: int, wait: float) -> None:
    """Locks an open directory; a reader (see :func:`is_held`) holds one only for a moment."""
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
    """The process in the summary of a run; {} if missing."""
    with contextlib.suppress(Damaged):  # damaged files do not matter for the lock
        return Summary.read(path).process
    return {}


def is_held(path: Path, process: dict[str, Any]) -> bool:
    """Whether a process trains in the directory `path`; `process` is that of its ``summary.json``.

    Without locks, the process's number decides on this machine, and its heartbeat on others.
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
    """Closes the handles of a forked process: a worker that outlives a killed run must not keep its lock."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_let_go)
