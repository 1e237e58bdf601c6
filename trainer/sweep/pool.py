"""Processes for jobs on this machine: each a fork of one that has imported torch, so that it starts in no time.

A process does one job and ends. So nothing of a job, its dtype, seeds, memory or CUDA state, is left for the next, and
one that is killed costs itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from trainer.cli.begin import SIGNALS, signals_wait
from trainer.cli.packages import ROOT
from trainer.rundir import configuration, run_dir
from trainer.rundir.errors import Refused

WARM = "trainer.sweep.warm"  # what the process that forks the others imports


def context() -> ForkServerContext | SpawnContext:
    """How processes are made: forked from a warm one; where there is no fork, anew."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([WARM])
    return found


@dataclass(frozen=True)
class Slot:
    """Where a job computes.

    Args:
        gpu: as CUDA_VISIBLE_DEVICES names it; None leaves that alone.
        threads: CPU threads where the job does not say; None leaves them to torch.
    """

    gpu: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Ended:
    """A job whose process is over, with its exit status; that of one that was killed is minus the signal's number."""

    path: Path
    code: int


class Pool:
    """Runs `task(path)` in processes, one a slot at a time. Everything stops when this process does.

    Args:
        task: a function of a module; it gets the path, and when the job was asked for (:func:`time.time`).
    """

    def __init__(self, task: Callable[[Path, float], int]):
        self.task, self.context = task, context()
        self.slots: list[Slot] = []
        self.busy: dict[BaseProcess, tuple[Path, Slot]] = {}
        self._began: list[Path] = []
        self.lifeline, life = self.context.Pipe(duplex=False)  # the second end is closed when this process ends
        _lives.append(life)

    def open(self, slots: list[Slot]) -> None:
        """Says where jobs may run."""
        self.slots = list(slots)

    def warm(self) -> None:
        """Starts the process that the others are forked from, unless it is there; it imports torch meanwhile."""
        if isinstance(self.context, ForkServerContext):
            resource_tracker.ensure_running()  # unblocks signals, so it must be there already
            # They come to all processes of a group, from Ctrl-C or from `timeout`: the server and its forks keep them
            # blocked, and this one, which gets them afterwards, tells the jobs itself.
            with signals_wait(), contextlib.chdir(ROOT):  # it imports from where it starts: no trainer.py of a user
                forkserver.ensure_running()

    @property
    def free(self) -> bool:
        """Whether there is a slot for one more."""
        return bool(self.slots)

    def start(self, path: Path) -> None:
        """Starts a job in a free slot."""
        asked = time.time()  # before anything that takes long
        self.warm()
        slot = self.slots.pop(0)
        process = self.context.Process(target=work, args=(self.task, path, slot, self.lifeline, asked))
        _start(process)
        self.busy[process] = path, slot
        self._began.append(path)

    def began(self) -> list[Path]:
        """Jobs that have begun since this was asked."""
        found, self._began = self._began, []
        return found

    def ended(self, timeout: float) -> list[Ended]:
        """Jobs that have ended; waits for one, for so many seconds at most."""
        over = wait([process.sentinel for process in self.busy], timeout) if self.busy else []
        found = []
        for process in [p for p in self.busy if p.sentinel in over]:
            process.join()
            path, slot = self.busy.pop(process)
            self.slots.append(slot)
            assert process.exitcode is not None  # it has been joined
            found.append(Ended(path, process.exitcode))
        return found

    def tell(self, signum: int) -> None:
        """Sends all jobs a signal."""
        for process in self.busy:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signum)

    @contextlib.contextmanager
    def asking(self, target: Callable[..., None], *args: Any) -> Iterator[Iterator[Any]]:
        """Calls `target(*args, connection)` in a process of its own, which sends answers; it ends with the block."""
        self.warm()
        answers, mouth = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_answer, args=(target, args, mouth))
        _start(process)
        mouth.close()
        try:
            yield iter(answers.recv, None)
        except EOFError:
            process.join()
            raise Refused(f"the process that checks the jobs ended with status {process.exitcode}") from None
        finally:
            process.kill()
            process.join()


def _start(process: BaseProcess) -> None:
    """Starts a process that does not import the script of this one.

    A script that asks for a sweep, from Python and with no ``if __name__ == "__main__"``, would be run again in each.
    """
    script, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    try:
        process.start()
    finally:
        sys.modules["__main__"] = script


_lives: list[Connection] = []


def _let_go() -> None:
    """Closes a forked process's own ends: they must be closed when the sweep's process ends."""
    while _lives:
        _lives.pop().close()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_let_go)


def _answer(target: Callable[..., None], args: tuple[Any, ...], mouth: Connection) -> None:
    with contextlib.suppress(BrokenPipeError):  # the sweep's process has gone
        target(*args, mouth)


def work(task: Callable[[Path, float], int], path: Path, slot: Slot, lifeline: Connection, asked: float) -> None:
    """Becomes a job; never returns."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # Ctrl-C is the sweep's, which tells the jobs
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    threading.Thread(target=_follow, args=(lifeline,), daemon=True).start()
    log = run_dir.open_log(path)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    if slot.gpu is not None and not _names_its_gpu(path):
        os.environ["CUDA_VISIBLE_DEVICES"] = slot.gpu
    if slot.threads is not None:
        from trainer.training import device  # imports torch, which the sweep's own process does not need

        device.set_default_threads(slot.threads)
    sys.exit(task(path, asked))


def _names_its_gpu(path: Path) -> bool:
    """Whether a run says itself which of all GPUs it wants."""
    with contextlib.suppress(Refused):  # a damaged configuration: the run will say so
        return re.fullmatch(r"cuda:\d+", str(configuration.of_run(path)["train"].get("device"))) is not None
    return False


def _follow(lifeline: Connection) -> None:
    """Stops this process, as a signal would, when the sweep's has gone."""
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
