"""Processes for jobs on this machine: forks of a process that has imported torch, so they start fast.

A process does one job and ends. So a job leaves no dtype, seeds, memory or CUDA state to the next one, and a killed job
does not stop the others.
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

WARM = "trainer.sweep.warm"  # imported by the process that forks the others


def context() -> ForkServerContext | SpawnContext:
    """How processes are made: forked from a warm one, or new ones without fork."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([WARM])
    return found


@dataclass(frozen=True)
class Slot:
    """Where a job computes.

    Args:
        gpu: a value of CUDA_VISIBLE_DEVICES; None does not set it.
        threads: CPU threads unless the job sets them; None: torch's choice.
    """

    gpu: str | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Ended:
    """A job whose process has ended, with its exit status: minus the signal's number if it was killed."""

    path: Path
    code: int


class Pool:
    """Runs `task(path)` in processes, one per slot at a time. All of them stop when this process ends.

    Args:
        task: a function of a module; it gets the path, and when the job was asked for (:func:`time.time`).
    """

    def __init__(self, task: Callable[[Path, float], int]):
        self.task, self.context = task, context()
        self.slots: list[Slot] = []
        self.busy: dict[BaseProcess, tuple[Path, Slot]] = {}
        self._began: list[Path] = []
        self.lifeline, life = self.context.Pipe(duplex=False)  # the second end closes when this process ends
        _lives.append(life)

    def open(self, slots: list[Slot]) -> None:
        """Sets the slots of jobs."""
        self.slots = list(slots)

    def warm(self) -> None:
        """Starts the process that forks the others, if it does not run; it imports torch meanwhile."""
        if isinstance(self.context, ForkServerContext):
            resource_tracker.ensure_running()  # unblocks signals, so it must exist before
            # Ctrl-C and `timeout` signal all processes of a group: the server and its forks block them, and this
            # process passes them on to the jobs.
            with signals_wait(), contextlib.chdir(ROOT):  # not from a folder with a user's trainer.py
                forkserver.ensure_running()

    @property
    def free(self) -> bool:
        """Whether a slot is free."""
        return bool(self.slots)

    def start(self, path: Path) -> None:
        """Starts a job in a free slot."""
        asked = time.time()  # before slow operations
        self.warm()
        slot = self.slots.pop(0)
        process = self.context.Process(target=work, args=(self.task, path, slot, self.lifeline, asked))
        _start(process)
        self.busy[process] = path, slot
        self._began.append(path)

    def began(self) -> list[Path]:
        """The jobs that have started since the last call."""
        found, self._began = self._began, []
        return found

    def ended(self, timeout: float) -> list[Ended]:
        """The jobs that have ended; waits for one at most `timeout` seconds."""
        over = wait([process.sentinel for process in self.busy], timeout) if self.busy else []
        found = []
        for process in [p for p in self.busy if p.sentinel in over]:
            process.join()
            path, slot = self.busy.pop(process)
            self.slots.append(slot)
            assert process.exitcode is not None  # joined
            found.append(Ended(path, process.exitcode))
        return found

    def tell(self, signum: int) -> None:
        """Sends all jobs a signal."""
        for process in self.busy:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, signum)

    @contextlib.contextmanager
    def asking(self, target: Callable[..., None], *args: Any) -> Iterator[Iterator[Any]]:
        """Calls `target(*args, connection)` in a separate process, which sends answers; it ends with the block."""
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
    """Starts a process that does not import this process's script.

    Otherwise each process would run a script that starts a sweep without ``if __name__ == "__main__"`` again.
    """
    script, sys.modules["__main__"] = sys.modules["__main__"], types.ModuleType("__main__")
    try:
        process.start()
    finally:
        sys.modules["__main__"] = script


_lives: list[Connection] = []


def _let_go() -> None:
    """Closes the ends of a forked process, so that they close when the sweep's process ends."""
    while _lives:
        _lives.pop().close()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_let_go)


def _answer(target: Callable[..., None], args: tuple[Any, ...], mouth: Connection) -> None:
    with contextlib.suppress(BrokenPipeError):  # the sweep's process is gone
        target(*args, mouth)


def work(task: Callable[[Path, float], int], path: Path, slot: Slot, lifeline: Connection, asked: float) -> None:
    """Does a job; never returns."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # the sweep handles Ctrl-C and signals the jobs
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
        from trainer.training import device  # imports torch, which the sweep's process does not need

        device.set_default_threads(slot.threads)
    sys.exit(task(path, asked))


def _names_its_gpu(path: Path) -> bool:
    """Whether a run's configuration names its GPU."""
    with contextlib.suppress(Refused):  # a damaged configuration: the run reports it
        return re.fullmatch(r"cuda:\d+", str(configuration.of_run(path)["train"].get("device"))) is not None
    return False


def _follow(lifeline: Connection) -> None:
    """Stops this process like a signal when the sweep's process is gone."""
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os.kill(os.getpid(), signal.SIGTERM)
