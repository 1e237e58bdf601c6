"""The command line before Hydra composes it: its flags, and the resolvers of conf/config.yaml.

This module does not import torch: ``--help`` imports it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from omegaconf import OmegaConf

from trainer.cli.begin import signals_wait
from trainer.cli.help import EXAMPLES, help_page
from trainer.cli.processes import other_process
from trainer.rundir import configuration, run_dir
from trainer.rundir.errors import Refused
from trainer.rundir.names import job_name, safe
from trainer.rundir.trust import CONF
from trainer.rundir.typed import typed_path


def register_resolvers(made: list[str]) -> None:
    """Registers the resolvers of conf/config.yaml; directories that they make are added to `made`."""

    def new_run_dir(resume: str | None, place: str, *names: Any) -> str:
        if resume is None and other_process():
            return "."  # the first process makes the directory and sends its name to the others
        if resume is None:
            with signals_wait():  # else a signal could come between making and recording it
                path = "_".join([place, *(safe(str(name)) for name in names)])
                made.extend(run_dir.missing(Path(path).parent))
                made.append(run_dir.claim(path))
            return made[-1]
        configuration.check_run(typed_path(str(resume)), "train.resume=")
        return str(typed_path(str(resume)))

    # Cached: Hydra asks more than once, and each claim would be another directory.
    OmegaConf.register_new_resolver("run_dir", new_run_dir, use_cache=True, replace=True)
    OmegaConf.register_new_resolver(
        "job_dir", lambda n, text: job_name(n, text.split(",") if text else []), replace=True
    )
    OmegaConf.register_new_resolver("help", help_page, replace=True)


class _Flags(argparse.ArgumentParser):
    """The parser of Hydra's flags; it raises Refused."""

    given: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        _refuse_flag(self.given, message)


def flags_first(arguments: list[str]) -> list[str]:
    """The command line with its flags before its overrides; argparse refuses flags between overrides.

    Raises:
        Refused: an unknown flag, or something that would harm a run.
    """
    for text in (*arguments, os.getcwd()):  # both are written to the run directory
        if any("\udc80" <= c <= "\udcff" for c in text):  # bytes that Python could not decode
            raise Refused(f"{text}: {_undecoded(text)}")
    parser = _Flags(parents=[get_args_parser()], add_help=False)
    parser.given = arguments
    parsed = parser.parse_intermixed_args(arguments)
    if parsed.experimental_rerun is not None:
        raise Refused("--experimental-rerun: would unpickle a file; use resume RUN_DIR")
    flags = list(arguments)
    for override in parsed.overrides:
        flags.remove(override)
        key, _, value = override.lstrip("+").partition("=")
        if key == "hydra.output_subdir":
            raise Refused(f"{override}: Hydra would overwrite a frozen configuration; the run writes .hydra itself")
        if key == "hydra.run.dir" and not value:
            raise Refused(f"{override}: must be a directory; . is this one")
        if key == "train.resume" and parsed.multirun:
            raise Refused(f"{override}: resumes one run; leave out -m")
    # ~ in a flag that names a folder, such as --config-dir=~/own.
    flags = [re.sub(r"^(--[\w-]+=)?(~.*)", lambda m: f"{m[1] or ''}{typed_path(m[2])}", flag) for flag in flags]
    return [*flags, *parsed.overrides]


def _undecoded(text: str) -> str:
    """The line about a name whose bytes this process could not decode."""
    try:
        name = os.fsencode(text).decode()
    except UnicodeDecodeError:
        return "this name is not UTF-8, and no configuration can hold it; rename the file or folder"
    return f"to read the name {name}, set PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8"


def only_answers(arguments: list[str]) -> bool:
    """Whether a command line only prints something, as with --help or --cfg job."""
    asked = get_args_parser().parse_intermixed_args(arguments)
    flags = (asked.help, asked.hydra_help, asked.cfg, asked.info, asked.shell_completion)
    return any(flags)


def _refuse_flag(arguments: Sequence[str], message: str) -> NoReturn:
    """Raises Refused about an unknown flag; suggests KEY=VALUE if it is a key of a group."""
    root = OmegaConf.load(CONF / "config.yaml")
    for word, following in itertools.zip_longest(arguments, arguments[1:], fillvalue=""):
        flag, _, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or flag not in message:
            continue
        keys = [name] if name in EXAMPLES or name in root else []
        for group in [group for group in EXAMPLES if group != "experiment"]:
            files = (file.read_text() for file in (CONF / group).glob("*.yaml"))
            of_file = any(re.search(rf"^{re.escape(name)}:", text, re.MULTILINE) for text in files)
            keys += [f"{group}.{name}"] if of_file or (group == "data" and name in root.data) else []
        if keys:
            raise Refused(f"{word}: no such flag; write {shlex.quote(f'{keys[0]}={value or following}')}")
    raise Refused(f"{message}; --hydra-help lists the flags")
