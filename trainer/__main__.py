"""The entry point: ``python -m trainer COMMAND …``; without a command it trains a run.

It imports only the module of the command, so that each starts as fast as possible.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import MutableMapping

from trainer.cli.command import refuse, run_command
from trainer.cli.commands import COMMANDS
from trainer.cli.processes import other_process
from trainer.rundir.provenance import versions


def main() -> None:
    """The command line; ends the process with the exit status that the README lists."""
    spin_briefly(os.environ)
    code = command_line()
    # Torch's threads may abort a process at the end of Python; the first process has written everything by now.
    if other_process():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def spin_briefly(environment: MutableMapping[str, str]) -> None:
    """Lets waiting CPU threads of torch sleep sooner than GNU's OpenMP does, unless the user says how they wait.

    Between two operations threads wait in a loop. Beside another busy process that loop holds the core which the
    working thread needs: small networks took 10 to 50 times as long, and take 2 to 7 times as long with this bound,
    which costs nothing on a quiet machine (``python -m bench threads``).
    """
    if "OMP_WAIT_POLICY" not in environment:
        environment.setdefault("GOMP_SPINCOUNT", "20000")


def command_line() -> int:
    """Runs what sys.argv asks for and returns the exit status."""
    words = sys.argv[1:]
    if any(word.startswith("query=") for word in words) and completed(os.environ.get("COMP_LINE", "")):
        return 0
    if "--version" in words:
        found = versions()
        print(f"conga {found.pop('conga', '(not installed)')}:", ", ".join(map(" ".join, found.items())))
        return 0
    name = words[0] if words else ""
    if name in COMMANDS and (module := COMMANDS[name].module) is not None:
        return run_command(name, module, words[1:])
    if name == "train":
        words = words[1:]
    elif re.fullmatch(r"[A-Za-z][\w.-]*", name):  # settings have a =
        near = difflib.get_close_matches(name.replace("_", "-"), COMMANDS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return refuse(f"{name}: no such command; {hint}there are {', '.join(COMMANDS)}; settings are KEY=VALUE")
    from trainer.train import compose_and_train  # imports Hydra, which many commands do not need

    return compose_and_train(words)


def completed(line: str) -> bool:
    """Completes the name of a command for a shell; returns whether Hydra has nothing to add.

    After a command other than train the shell completes names of files.
    """
    program, _, rest = line.partition(" ")
    first, behind, _ = rest.partition(" ")
    if not behind:
        print(*(name for name in COMMANDS if name.startswith(first)))
    elif first == "train":
        os.environ["COMP_LINE"] = f"{program} {rest.removeprefix('train ')}"
    return bool(behind) and first in COMMANDS and first != "train"


if __name__ == "__main__":
    main()
