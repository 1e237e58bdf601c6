"""Runs the jobs of a sweep until all are done or something stops them."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from trainer.cli.outcome import EXIT
from trainer.rundir import lock
from trainer.rundir.errors import Refused
from trainer.rundir.summary import Summary
from trainer.sweep.board import Board
from trainer.sweep.folder import state
from trainer.sweep.launchers import Elsewhere
from trainer.sweep.pool import Pool
from trainer.training.stop import StopRequest

TICK_S = 0.2
LOOK_ELSEWHERE_S = 1.0  # between two checks of a job that another sweep's process does
OVER = ("finished", "diverged")
BAD = ("failed", "killed", "damaged")


class Queue(Protocol):
    """The source of the jobs, which also takes their results."""

    results: dict[Path, str]

    @property
    def over(self) -> bool:
        """Whether all jobs are done."""

    def next(self) -> Path | None:
        """A job to start now, or None."""

    def ended(self, path: Path, status: str) -> bool:
        """Records that a job has ended; returns whether it will be repeated."""


class Planned:
    """Jobs that are known from the start, without those that are over."""

    def __init__(self, paths: Sequence[Path], retries: int = 0, rerun_failed: bool = False):
        self.results: dict[Path, str] = {}
        self.todo: deque[Path] = deque()
        self.elsewhere: list[Path] = []
        self.running: set[Path] = set()
        self.tries: Counter[Path] = Counter()
        self.retries, self.looked = retries, 0.0
        self.before_us: dict[Path, str] = {}  # states of the jobs when this sweep began
        for path in paths:
            status = self.before_us[path] = state(path)
            if status in OVER or (status in BAD and not rerun_failed):
                self.results[path] = status
            else:
                self.todo.append(path)

    @property
    def before(self) -> int:
        """The number of jobs that were done before."""
        return len(self.results)

    @property
    def ahead(self) -> int:
        """The number of jobs to do."""
        return len(self.todo)

    def show_on(self, board: Board) -> None:
        """Sets the board that shows the jobs."""

    @property
    def over(self) -> bool:
        """Whether all jobs are done, here or by other processes."""
        return not (self.todo or self.running or self.elsewhere)

    @property
    def left(self) -> bool:
        """Whether a resume would have something to do."""
        return not self.over or "interrupted" in self.results.values() or "killed" in self.results.values()

    def next(self) -> Path | None:
        if self.elsewhere and time.monotonic() - self.looked > LOOK_ELSEWHERE_S:
            self.look_elsewhere()
        while self.todo:
            path = self.todo.popleft()
            status = state(path)
            if status in OVER or (status in BAD and self.before_us.get(path) != status and not self.tries[path]):
                self.results[path] = status  # done by another process meanwhile
                continue
            self.running.add(path)
            return path
        return None

    def look_elsewhere(self) -> None:
        """Puts jobs that another process no longer runs back into the queue."""
        self.looked = time.monotonic()
        states = {path: state(path) for path in self.elsewhere}
        self.elsewhere = [path for path, status in states.items() if status == "running"]
        for path, status in states.items():
            if status in (*OVER, *BAD):
                self.results[path] = status
            elif status != "running":
                self.todo.append(path)

    def ended(self, path: Path, status: str) -> bool:
        self.running.discard(path)
        if status == "locked":
            self.elsewhere.append(path)
            return True
        self.results[path] = status
        if status in BAD and self.tries[path] < self.retries:
            self.tries[path] += 1
            self.todo.append(path)
            return True
        return False


def conduct(queue: Queue, pool: Pool | Elsewhere, board: Board, *, fail_fast: bool, after: Callable[[], None]) -> int:
    """Runs jobs in the pool until the queue is over; returns the exit status.

    Args:
        fail_fast: whether a job that fails stops the others.
        after: called after each job.
    """
    with StopRequest() as stop:
        try:
            stopped = run_jobs(queue, pool, board, stop, fail_fast, after)
        except KeyboardInterrupt:  # the second
            stopped = signal.SIGINT
            kill_jobs(queue, pool)
        except BaseException:  # a defect, or a full disk: no job continues unseen
            pool.tell(signal.SIGTERM)
            raise
        finally:
            board.close()
    if stopped:
        return 128 + stopped
    return EXIT["failed"] if any(status in BAD for status in queue.results.values()) else 0


def kill_jobs(queue: Queue, pool: Pool | Elsewhere) -> None:
    """Kills the running jobs, and waits for their end."""
    pool.tell(signal.SIGKILL)
    while pool.busy:
        for one in pool.ended(TICK_S):
            queue.ended(one.path, settle(one.path, one.code))


def run_jobs(
    queue: Queue,
    pool: Pool | Elsewhere,
    board: Board,
    stop: StopRequest,
    fail_fast: bool,
    after: Callable[[], None],
) -> int | None:
    """Runs the jobs of :func:`conduct`; returns the signal that stopped it, 0 for a failed job, else None."""
    stopped: int | None = None
    while True:
        while stopped is None and pool.free and (path := queue.next()) is not None:
            pool.start(path)
        show_begun(pool, board)
        if not pool.busy and (stopped is not None or queue.over):
            return stopped
        found = pool.ended(TICK_S)
        show_begun(pool, board)
        for one in found:
            status = settle(one.path, one.code)
            if status == "interrupted" and one.code and stopped is None:  # neither by us nor by its time limit
                status = "killed"
            again = queue.ended(one.path, status)
            board.ended(one.path, status, again)
            after()
            if fail_fast and status in BAD and not again and stopped is None:
                stopped = 0
                board.say("sweep.fail_fast=true: the other jobs are stopped")
                pool.tell(signal.SIGTERM)
        board.refresh()
        if stop.signum is not None and not stopped:
            stopped = stop.signum
            board.say("saving; Ctrl-C again kills the jobs")
            pool.tell(signal.SIGTERM)


def show_begun(pool: Pool | Elsewhere, board: Board) -> None:
    """Shows the jobs that have started; some wait for a machine first."""
    for path in pool.began():
        board.started(path)


def settle(path: Path, code: int) -> str:
    """The status of a job whose process ended with exit status `code`; writes it for a process that could not.

    A killed job is interrupted: it continues from its last checkpoint when the sweep is resumed.
    """
    if code == EXIT["locked"]:
        return "locked"
    try:
        summary = Summary.read(path)
    except Refused:
        return "damaged"
    status = summary.data.get("status")
    if status in ("finished", "diverged", "failed"):
        return status
    if lock.is_held(path, summary.process):  # only the process that we watch is gone
        return "locked"
    if code in (128 + signal.SIGINT, 128 + signal.SIGTERM):  # perhaps before its first step
        if status == "running":
            _note(summary, "interrupted", "it was stopped before it continued")
        return "interrupted"
    if code == 0 and status == "interrupted":  # train.max_minutes
        return status
    if code == 0:  # something ended the interpreter
        return _note(summary, "failed", f"its process ended with exit status {code} before the run did")
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = " (out of memory, perhaps)" if -code == signal.SIGKILL else ""
        _note(summary, "interrupted", f"its process was ended by {name}{hint}")
        return "interrupted" if -code == signal.SIGTERM else "killed"
    return _note(summary, "failed", f"its process ended with exit status {code}")


def _note(summary: Summary, status: str, error: str) -> str:
    with contextlib.suppress(OSError):  # a full disk: then only the screen says it
        summary.update(status=status, error=error)
    return status
