"""What the commands beside ``python -m trainer`` share: how their mistakes are said and how they end."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from trainer.__main__ import FULL_ERROR, refuse, report
from trainer.errors import Refused


def refuse_arguments(message: str) -> None:
    """What argparse calls with its own errors."""
    raise Refused(f"{message}; --help lists what there is")


@contextlib.contextmanager
def one_line_mistakes() -> Iterator[None]:
    """Ends the process with the exit status that the README lists, and one line, where the command inside fails."""
    try:
        yield
        sys.stdout.flush()  # a reader that has gone is noticed here, and not when the interpreter ends
    except KeyboardInterrupt:
        sys.exit(refuse("interrupted", 130))
    except Exception as error:
        sys.exit(report(error, tracebacks=os.environ.get(FULL_ERROR) == "1", overrides=sys.argv[1:]))
