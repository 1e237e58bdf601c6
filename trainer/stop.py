"""Stopping on purpose: the first signal asks, the second Ctrl-C insists."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from trainer.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """While entered, SIGINT and SIGTERM only leave a note, which the loop reads between steps.

    A second SIGINT raises KeyboardInterrupt where the program is.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

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

    def check(self) -> None:
        """Raises Interrupted if a signal came."""
        if self.signum is not None:
            raise Interrupted(self.signum)
