"""The process that a launcher of Hydra's starts: it starts a run of a sweep and watches it.

After a signal, a time-out or a preemption it first lets the run save. This module is imported on other machines, before
torch.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from trainer.rundir.files import write_whole
from trainer.rundir.run_dir import open_log
from trainer.rundir.stored import MOST_NOTE, read_text
from trainer.sweep.job import run_job

BEAT_S = 2.0  # between two signs of life
TICK_S = 0.1
ROOT = Path(__file__).resolve().parents[2]
# Signals of a time-out or a preemption; submitit waits for the second one, or as configured.
STOPS = ("SIGTERM", "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"))


def keep(config: DictConfig) -> int | None:
    """Does the job in the directory `config.path`; returns its exit status, None if it should not start."""
    path, launched = Path(config.path), Path(config.launched)
    if told(launched) is not None:
        return None
    write_whole(launched / path.name, b"began")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    if config.gpu is not None:
        env["CUDA_VISIBLE_DEVICES"] = config.gpu
    command = [sys.executable, "-m", "trainer.sweep.keeper", str(path), str(config.threads or "")]
    # A separate session: signals to all processes of a terminal do not reach the run. Its standard input closes when
    # this process ends.
    with noted() as (signals, pass_on), open_log(path) as log:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=env, start_new_session=True
        )
        beat, sent = time.monotonic(), 0
        while child.poll() is None:
            wanted = told(launched) or (signal.SIGTERM if signals else 0)
            if wanted and wanted != sent:
                child.send_signal(wanted)
                sent = wanted
            if time.monotonic() - beat > BEAT_S:
                beat = time.monotonic()
                note(launched, path, f"began {time.time_ns()}")
            time.sleep(TICK_S)
        if child.stdin is not None:
            child.stdin.close()
        with contextlib.suppress(Exception):  # submitit's handling of a time-out
            pass_on()  # raises SystemExit if it queues the job again
    note(launched, path, f"ended {child.returncode}")
    return child.returncode


def told(launched: Path) -> int | None:
    """The signal for the runs, 0: none, but no run may start; None if nothing was written. A missing folder means 0."""
    text = read_text(launched / ".told", MOST_NOTE)
    if text is None:
        return None if launched.exists() else 0
    return int(text or 0)


def note(launched: Path, path: Path, text: str) -> None:
    """Writes a note for the sweep's process, if that still reads notes."""
    if launched.exists():
        write_whole(launched / path.name, text.encode())


@contextlib.contextmanager
def noted() -> Iterator[tuple[list[int], Callable[[], None]]]:
    """Collects stop signals in a list; the yielded function calls the former handlers."""
    signals: list[int] = []
    handlers: dict[int, Any] = {}

    def pass_on() -> None:
        for signum in dict.fromkeys(signals):
            if callable(handlers[signum]):
                handlers[signum](signum, None)

    if threading.current_thread() is threading.main_thread():  # other threads cannot set handlers
        for signum in [getattr(signal, name) for name in STOPS if hasattr(signal, name)]:
            handlers[signum] = signal.signal(signum, lambda signum, frame: signals.append(signum))
    try:
        yield signals, pass_on
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)


def main() -> None:
    """Trains the run in the directory of the first argument; the second is a number of threads, or empty."""
    if hasattr(signal, "pthread_sigmask"):  # inherited
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_follow, daemon=True).start()
    path, threads = Path(sys.argv[1]), sys.argv[2]
    if threads:
        from trainer.training import device  # imports torch for the run

        device.set_default_threads(int(threads))
    sys.exit(run_job(path))


def _follow() -> None:
    """Stops this process like a signal when its keeper is gone."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
