"""How every command ends: what is wrong is said in one line, and the exit status tells the kinds of ends apart."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
import warnings
from collections.abc import Iterator

from trainer.display import drop_output
from trainer.distributed import other_process
from trainer.errors import Refused

FULL_ERROR = "HYDRA_FULL_ERROR"
EXIT = {"finished": 0, "failed": 1, "refused": 2, "diverged": 3, "held": 75}  # the last: of a job


def report(error: Exception, tracebacks: bool, overrides: list[str], otherwise: str | None = None) -> int:
    """Prints a person's mistake as one line, what is none as `otherwise` or a traceback; returns the exit status."""
    if isinstance(error, BrokenPipeError):  # the reader has gone, as in `--help | head`
        drop_output()
        return EXIT["finished"]
    from trainer.explain import explain  # brings Hydra, which a command that goes well may have no need of

    line = explain(error, overrides) or otherwise
    if line is not None and other_process():  # the first process says it
        return EXIT["refused"]
    if line is None or tracebacks:
        traceback.print_exception(error)
    return EXIT["failed"] if line is None else refuse(line)


def refuse(line: str, code: int = EXIT["refused"]) -> int:
    """Prints the one line that says what is wrong; returns the exit status."""
    print(f"conga: {line}", file=sys.stderr)
    return code


def refuse_arguments(message: str) -> None:
    """What argparse calls with its own errors."""
    raise Refused(f"{message}; --help lists what there is")


def plain_warnings() -> None:
    """Makes warnings of Python and of libraries one line each, without the place in their code."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"conga: warning: {' '.join(str(message).split())}", file=sys.stderr)

    warnings.showwarning = show


@contextlib.contextmanager
def one_line_mistakes() -> Iterator[None]:
    """Ends the process with the exit status that the README lists, and one line, where the command inside fails."""
    plain_warnings()
    try:
        yield
        sys.stdout.flush()  # a reader that has gone is noticed here, and not when the interpreter ends
    except KeyboardInterrupt:
        sys.exit(refuse("interrupted", 130))
    except Exception as error:
        sys.exit(report(error, tracebacks=os.environ.get(FULL_ERROR) == "1", overrides=sys.argv[1:]))
