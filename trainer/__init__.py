"""The runner: composes a run from YAML, trains it, checkpoints it, resumes it. ``python -m trainer --help``"""

import sys

from trainer.begin import begin


def main() -> None:
    """The console script ``conga``; ends the process with the exit status that the README lists."""
    begin()
    from trainer.__main__ import main

    main()


if sys.argv[:1] == ["-m"]:  # Python looks for the module of `python -m trainer…`, and finds this on the way
    begin()
