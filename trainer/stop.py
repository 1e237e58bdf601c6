"""Stopping on purpose: the first signal asks, the second Ctrl-C insists; or the time that was given is over."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

from trainer.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TIME_IS_OVER = 0


class StopRequest:
    """While entered, SIGINT and SIGTERM only leave a note, which the loop reads between steps.

    A second SIGINT raises KeyboardInterrupt where the program is. What asks is a signal's number, or TIME_IS_OVER.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self.deadline = math.inf  # of time.perf_counter()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python refuses handlers
            self._previous = {s: signal.signal(s, self._note) for s in SIGNALS}
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

    def asked(self, now: float) -> bool:
        """Whether something asks to stop at time `now`."""
        if self.signum is None and now >= self.deadline:
            self.signum = TIME_IS_OVER
        return self.signum is not None

    def agree(self, largest: Callable[[int], int]) -> None:
        """Lets several processes stop in the same step: what one is asked, all are."""
        self.asked(time.perf_counter())
        reason = largest(-1 if self.signum is None else self.signum)
        self.signum = None if reason < 0 else reason

    def check(self) -> None:
        """Raises Interrupted if something asks to stop."""
        if self.asked(time.perf_counter()):
            raise Interrupted(self.signum)
