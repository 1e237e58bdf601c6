"""Start and end of a command's process: usable standard streams, and no traceback after a signal.

It is imported before everything else (``trainer/__init__.py``), so it imports only the standard library.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, TextIO

HANGUP = getattr(signal, "SIGHUP", None)  # its terminal has gone; Windows has none
SIGNALS = tuple(s for s in (signal.SIGINT, signal.SIGTERM, HANGUP) if s is not None)  # ask a command to stop


class Stopped(KeyboardInterrupt):
    """A signal while nothing is trained."""

    def __init__(self, signum: int):
        super().__init__()
        self.signum = signum


class Stream(io.FileIO):
    """Standard output or error. Text that cannot be written is dropped, so that the run continues."""

    lost: OSError | None = None  # why, the first time

    def write(self, content: Any, /) -> int:
        try:
            return super().write(content)
        except OSError as error:
            self.lost = self.lost or error
            return len(content)


def begin() -> None:
    """Opens closed standard streams, makes output and error accept any text, and handles signals."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next opened file would get this number, and the printed text
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)))
    sys.stdout, sys.stderr = _stream(sys.stdout, 1), _stream(sys.stderr, 2)
    sys.unraisablehook = _unraisable
    for signum in SIGNALS:
        if signum != HANGUP or signal.getsignal(signum) != signal.SIG_IGN:  # as nohup wants it
            signal.signal(signum, _end)


def may_take(signum: int) -> bool:
    """Whether to handle a signal; SIGHUP only if begin() handles it."""
    return signum != HANGUP or callable(signal.getsignal(signum))


def leave_hangup() -> None:
    """Makes SIGHUP end this process at once without stopping its jobs, which run on other machines."""
    if HANGUP is not None and may_take(HANGUP):
        signal.signal(HANGUP, signal.SIG_DFL)


def _stream(before: TextIO | None, number: int) -> TextIO:
    raw = Stream(number, "w", closefd=False)
    at_once = number == 2 or raw.isatty() or getattr(before, "write_through", False)  # the last: python -u
    encoding = before.encoding if before else "utf-8"
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=at_once)


def _end(signum: int, frame: FrameType | None) -> None:
    """Ends the process at once: during imports and after all work there is nothing to save."""
    with contextlib.suppress(OSError):  # nobody reads
        os.write(2, b"conga: interrupted\n")
    os._exit(128 + signum)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _unraisable(unraisable: sys.UnraisableHookArgs) -> None:
    """Ends the process after a signal that Python could not raise, as in a destructor."""
    if isinstance(unraisable.exc_value, Stopped):
        _end(unraisable.exc_value.signum, None)
    sys.__unraisablehook__(unraisable)


@contextlib.contextmanager
def signals_raise(put_away: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Inside, a signal raises Stopped; a second one ends the process.

    Args:
        put_away: called before a signal ends the process during an import, where compiled modules cannot take an
            exception.
    """
    if threading.current_thread() is not threading.main_thread():  # other threads cannot set handlers
        yield
        return
    came: list[int] = []

    def stop(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        for one in before:  # a second one does not wait
            signal.signal(one, _end)
        if _importing(frame):
            put_away()
            _end(signum, frame)
        raise Stopped(signum)

    before = {s: signal.getsignal(s) for s in SIGNALS if may_take(s)}
    try:
        for s in before:
            signal.signal(s, stop)
        yield
    except Exception as error:  # compiled code may turn the exception of the signal into another one
        if came:
            raise Stopped(came[0]) from error
        raise
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Inside, signals wait, for this thread and for processes that it starts."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def finish() -> str | None:
    """Flushes standard output; returns a line if output was lost, except to a pipe without a reader."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    lost = getattr(raw, "lost", None)
    if lost is None or lost.errno in (errno.EPIPE, errno.EIO):  # as in `| head`, or a terminal that was closed
        return None
    return f"standard output: {lost.strerror}; not all of it was written"
