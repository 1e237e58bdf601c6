"""What a launcher of Hydra's starts: a small process that starts a run of a sweep, and sees how it ends.

A signal to it, a job's end of time or a preemption first lets the run save where it is. This module is imported on
other machines, before torch.
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
# What says that time is over, or that another job wants the place; submitit waits for the second, or as told.
STOPS = ("SIGTERM", "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2"))


def keep(config: DictConfig) -> int | None:
    """Does the job in the directory `config.path`; returns its exit status, None where it was not to begin."""
    path, launched = Path(config.path), Path(config.launched)
    if told(launched) is not None:
        return None
    write_whole(launched / path.name, b"began")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    if config.gpu is not None:
        env["CUDA_VISIBLE_DEVICES"] = config.gpu
    command = [sys.executable, "-m", "trainer.sweep.keeper", str(path), str(config.threads or "")]
    # A session of its own: what is sent to all processes of a terminal is not for the run; it has its standard input,
    # which is closed when this process ends.
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
        with contextlib.suppress(Exception):  # submitit's own end of a job whose time is over
            pass_on()  # where it asks for the job to be queued again, this raises SystemExit
    note(launched, path, f"ended {child.returncode}")
    return child.returncode


def told(launched: Path) -> int | None:
    """The signal that runs are to get, 0 for none; None where nothing was said. A folder that has gone says 0."""
    text = read_text(launched / ".told", MOST_NOTE)
    if text is None:
        return None if launched.exists() else 0
    return int(text or 0)


def note(launched: Path, path: Path, text: str) -> None:
    """Writes down how it is, for the sweep's process, if that still looks."""
    if launched.exists():
        write_whole(launched / path.name, text.encode())


@contextlib.contextmanager
def noted() -> Iterator[tuple[list[int], Callable[[], None]]]:
    """Only notes signals that ask to stop, in a list; the function that comes with it calls who else wanted them."""
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
    """Becomes the run in the directory that is the first argument; the second is a number of threads, or nothing."""
    if hasattr(signal, "pthread_sigmask"):  # inherited
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_follow, daemon=True).start()
    path, threads = Path(sys.argv[1]), sys.argv[2]
    if threads:
        from trainer.training import device  # imports torch, which only the run needs

        device.set_default_threads(int(threads))
    sys.exit(run_job(path))


def _follow() -> None:
    """Stops this process, as a signal would, when its keeper has gone."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
