"""How a run or a command ended, decided in one place: the status, the line that is said, and the exit status."""

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
        status: what ``summary.json`` says of a run that ended so; `locked` if another process has it.
        line: what a person reads; empty if all went well.
        code: the exit status.
        defect: whether it is no person's mistake, so that its traceback is of use.
    """

    status: str
    line: str
    code: int
    defect: bool = False


def outcome(error: BaseException | None, overrides: Sequence[str] = (), otherwise: str | None = None) -> Outcome:
    """What an error, or None, makes of the run or the command that it ends.

    Args:
        overrides: the words of the command line, of which the line names the one at fault.
        otherwise: the line about an error of no known kind, where it must be a person's mistake.
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
    from trainer.cli.explain import explain  # brings Hydra, which a command that goes well may not need

    line = explain(error, overrides, otherwise)
    if line is not None:
        return Outcome("locked" if isinstance(error, Locked) else "failed", line, EXIT["refused"])
    return Outcome("failed", f"{type(error).__name__}: {one_line(error)}", EXIT["failed"], defect=True)
