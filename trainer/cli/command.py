"""How every command ends: one line for a mistake, and an exit status for each kind of end."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from trainer.cli.begin import finish, signals_raise
from trainer.cli.commands import COMMANDS
from trainer.cli.lines import folded
from trainer.cli.outcome import EXIT, outcome
from trainer.cli.processes import other_process
from trainer.rundir import trust
from trainer.rundir.errors import Refused
from trainer.rundir.text import printable, printable_lines
from trainer.rundir.typed import typed_path

FULL_ERROR = "HYDRA_FULL_ERROR"


def report(error: BaseException, tracebacks: bool, overrides: Sequence[str], otherwise: str | None = None) -> int:
    """Prints a person's mistake as one line, a defect as a traceback; returns the exit status.

    Args:
        tracebacks: whether to print the traceback of a mistake, too.
        overrides, otherwise: as of :func:`trainer.cli.outcome.outcome`.
    """
    end = outcome(error, overrides, otherwise)
    if end.defect or (tracebacks and isinstance(error, Exception)):
        print(printable_lines("".join(traceback.format_exception(error)).rstrip()), file=sys.stderr)
    if end.defect or other_process():  # the first process prints a mistake
        return end.code
    return refuse(end.line, end.code)


def refuse(line: str, code: int = EXIT["refused"]) -> int:
    """Prints the line that says what is wrong (several lines for the jobs of a sweep); returns the exit status."""
    text = f"conga: {printable_lines(line)}"
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        text = "\n".join(folded(part, width, len("conga: ")) for part in text.split("\n"))
    print(text, file=sys.stderr)
    return code


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Adds what lets a directory name classes that are not part of conga; see ``trainer.rundir.trust``."""
    parser.add_argument(trust.FLAG, dest="trusted", action="store_true", help=trust.HELP)
    add_config_dir(parser, "your own YAML; classes that it names are trusted")


def add_config_dir(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds ``--config-dir``, which Hydra's commands have; `text` is its help."""
    parser.add_argument(trust.CONFIG_DIR, type=typed_path, metavar="DIR", help=text)


class Parser(argparse.ArgumentParser):
    """The parser of a command; it raises Refused."""

    def error(self, message: str) -> NoReturn:
        message = message.replace("the following arguments are required", "missing")
        raise Refused(f"{message}; --help lists what there is")


def run_command(name: str, module: str, words: Sequence[str]) -> int:
    """Runs one command of ``trainer.cli.commands`` and returns 0; a failure ends the process with its exit status.

    Args:
        module: the name of one that has `main`; see :class:`trainer.cli.commands.Command`. Optional are `EPILOG`, the
            end of its help, and `prepared`, which rewrites its words.
    """
    command = COMMANDS[name]
    frame = importlib.import_module(command.arguments or module)
    parser = Parser(prog=f"python -m trainer {name}", description=command.line, epilog=getattr(frame, "EPILOG", None))
    add_arguments = frame.ARGUMENTS[name] if command.arguments else frame.add_arguments
    add_arguments(parser)
    with one_line_mistakes(shown if name in ("resume", "show") else whole):
        arguments = parser.parse_intermixed_args(getattr(frame, "prepared", list)(words))
        reads_runs = hasattr(arguments, "trusted")
        with trust.trusting(vars(arguments).pop("config_dir") if reads_runs else None):
            importlib.import_module(module).main(arguments)
    return EXIT["finished"]


def plain_warnings() -> None:
    """Prints each warning of Python or a library as one line, without its place in the code."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        print(f"conga: warning: {printable(' '.join(str(message).split()))}", file=sys.stderr)

    warnings.showwarning = show


def whole(code: int) -> int:
    """The exit status of a command that prints its result: `code`, or a failure if output was lost."""
    line = finish()
    return code if line is None else refuse(line, code or EXIT["failed"])


def shown(code: int) -> int:
    """The exit status `code` of a command that trains; warns if output was lost."""
    line = finish()
    if line is not None and not other_process():
        print(f"conga: warning: {line}", file=sys.stderr)
    return code


def status(end: SystemExit) -> int:
    """The exit status of a SystemExit."""
    return end.code if isinstance(end.code, int) else int(bool(end.code))


@contextlib.contextmanager
def one_line_mistakes(close: Callable[[int], int] = whole) -> Iterator[None]:
    """If the command inside fails, prints one line and ends the process with the exit status that the README lists.

    Args:
        close: decides the exit status if output was lost: `whole` or `shown`.
    """
    plain_warnings()
    code = EXIT["finished"]
    try:
        with signals_raise():
            yield
    except SystemExit as end:
        code = status(end)
    except (KeyboardInterrupt, Exception) as error:
        sys.exit(report(error, tracebacks=os.environ.get(FULL_ERROR) == "1", overrides=sys.argv[1:]))
    if code := close(code):
        sys.exit(code)
