"""The two ways in which a run ends early and on purpose."""


class Refused(Exception):
    """A person's mistake. The text is one line: the key or file, the value given, what would be right."""


class Interrupted(Exception):
    """A signal asked the run to stop. Everything is saved."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.signum = signum
