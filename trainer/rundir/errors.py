"""The errors that end a run or a command, and how any error is said in one line."""

from trainer.rundir.text import printable


class Refused(Exception):
    """A person's mistake. The text is one line: the key or file, the value given, what would be right.

    Args:
        text: the line, whatever names stand in it.
        more: lines below it, of a sweep whose jobs have several mistakes.
    """

    def __init__(self, text: str, *more: str):
        super().__init__("\n  ".join(map(printable, (text, *more))))


class Damaged(Refused):
    """A file is not what a run writes. The text is one line that names the file."""


class Locked(Refused):
    """Another process trains in the directory."""


class Interrupted(Exception):
    """A signal asked the run to stop, or the time that it was given is over: then `signum` is 0."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.signum = signum

    @property
    def code(self) -> int:
        """The exit status: a shell's for a signal; to stop when told so beforehand is no failure."""
        return 128 + self.signum if self.signum else 0


class Diverged(Exception):
    """A run's numbers are no numbers any more.

    Args:
        epoch: in which one, from 1.
        where: what was found.
    """

    def __init__(self, epoch: int, where: str = "the loss or a weight is NaN or infinite"):
        super().__init__(f"{where} in epoch {epoch}")


class Lost(Exception):
    """Another process of the run has gone."""

    def __init__(self) -> None:
        super().__init__("another process of this run has gone")


def one_line(error: BaseException) -> str:
    """The error's first line, or its type where it has no text."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
