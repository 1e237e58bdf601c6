"""The errors that end a run or a command, and any error as one line."""

from trainer.rundir.text import printable


class Refused(Exception):
    """A person's mistake. The text is one line: the key or file, the value given, what would be right.

    Args:
        text: the line; control characters are escaped.
        more: further lines, for the mistakes of a sweep's jobs.
    """

    def __init__(self, text: str, *more: str):
        super().__init__("\n  ".join(map(printable, (text, *more))))


class Damaged(Refused):
    """A file is damaged. The text is one line that names it."""


class Locked(Refused):
    """Another process trains in the directory."""


class Interrupted(Exception):
    """A signal asked the run to stop, or its time is over (`signum` is 0)."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.signum = signum

    @property
    def code(self) -> int:
        """The exit status: 128 + the signal; 0 if the time is over."""
        return 128 + self.signum if self.signum else 0


class Diverged(Exception):
    """The loss or a weight is NaN or infinite.

    Args:
        epoch: of the first, from 1.
        where: what it is.
    """

    def __init__(self, epoch: int, where: str = "the loss or a weight is NaN or infinite"):
        super().__init__(f"{where} in epoch {epoch}")


class Lost(Exception):
    """Another process of the run has gone."""

    def __init__(self) -> None:
        super().__init__("another process of this run has gone")


def one_line(error: BaseException) -> str:
    """The error's first line, or its type if it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
