"""Stopping: a first signal or the time limit asks, a second Ctrl-C stops at once."""

from __future__ import annotations

import math
import signal
import threading
import time
from types import FrameType

from trainer.cli.begin import SIGNALS, may_take
from trainer.rundir.errors import Interrupted

TIME_IS_OVER = 0


class StopRequest:
    """Inside, SIGINT, SIGTERM and SIGHUP only set a flag, which the loop reads between steps.

    A second SIGINT raises KeyboardInterrupt. The reason is a signal's number, or TIME_IS_OVER.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.deadline = math.inf  # of time.perf_counter()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # other threads cannot set handlers
            self._previous = {s: signal.signal(s, self._note) for s in SIGNALS if may_take(s)}
        else:
            self._previous = {}
        return self

    def __exit__(self, *_: object) -> None:
        for s, handler in self._previous.items():
            signal.signal(s, handler)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self.signum = signum

    def asked(self, now: float) -> int | None:
        """The reason to stop at time `now`, or None."""
        if self.signum is None and now >= self.deadline:
            self.signum = TIME_IS_OVER
        return self.signum

    def check(self) -> None:
        """Raises Interrupted if something asks to stop."""
        self.obey(self.asked(time.perf_counter()))

    def obey(self, reason: int | None) -> None:
        """Raises Interrupted if there is a reason."""
        if reason is not None:
            raise Interrupted(reason)
