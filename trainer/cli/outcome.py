"""How a run or a command ended, decided in one place: status, printed line, exit status."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import NamedTuple

from trainer.cli.begin import Stopped
from trainer.rundir.errors import Diverged, Interrupted, Locked, Lost, one_line

EXIT = {"finished": 0, "failed": 1, "refused": 2, "diverged": 3, "locked": 75}  # the last: of a job


class Outcome(NamedTuple):
    """How a run or a command ended.

    Args:
        status: the status in ``summary.json``; `locked` if another process trains there.
        line: the printed line; empty if all went well.
        code: the exit status.
        defect: whether it is a defect, whose traceback is useful, and not a person's mistake.
    """

    status: str
    line: str
    code: int
    defect: bool = False


def outcome(error: BaseException | None, overrides: Sequence[str] = (), otherwise: str | None = None) -> Outcome:
    """How a run or a command ended by an error, or without one (None).

    Args:
        overrides: the words of the command line; the line names the wrong one.
        otherwise: the line for an unknown kind of error, if only a mistake can be its cause.
    """
    if error is None:
        return Outcome("finished", "", EXIT["finished"])
    if isinstance(error, Interrupted):
        return Outcome("interrupted", "interrupted", error.code)
    if isinstance(error, KeyboardInterrupt):
        signum = error.signum if isinstance(error, Stopped) else signal.SIGINT
        return Outcome("interrupted", "interrupted", 128 + signum)
    if isinstance(error, Lost):
        return Outcome("interrupted", str(error), EXIT["failed"])
    if isinstance(error, Diverged):
        return Outcome("diverged", str(error), EXIT["diverged"])
    from trainer.cli.explain import explain  # imports Hydra, which most commands do not need

    line = explain(error, overrides, otherwise)
    if line is not None:
        return Outcome("locked" if isinstance(error, Locked) else "failed", line, EXIT["refused"])
    return Outcome("failed", f"{type(error).__name__}: {one_line(error)}", EXIT["failed"], defect=True)
