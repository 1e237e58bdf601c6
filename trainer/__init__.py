"""The runner: composes a run from YAML, trains it, checkpoints it, resumes it. ``python -m trainer --help``"""

import signal
import sys

AS_COMMAND = sys.argv[:1] == ["-m"]  # `python -m trainer…` imports this first
if AS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else a signal during the imports before begin() ends in a traceback

from trainer.cli import packages  # noqa: E402
from trainer.cli.begin import begin  # noqa: E402

packages.install()


def main() -> None:
    """The console script ``conga``; ends the process with the exit status that the README lists."""
    begin()
    packages.look_here()
    from trainer.__main__ import main

    main()


if AS_COMMAND:
    begin()
