"""``python -m trainer resume RUN_OR_SWEEP [KEY=VALUE …]``: continues a run, or does the remaining jobs of a sweep.

python -m trainer resume outputs/2026-01-31/12-00-00_cnn_digits_cgd train.epochs=60
python -m trainer resume outputs/2026-01-31/12-00-00_sweep sweep.rerun_failed=true sweep.workers=1
"""

from __future__ import annotations

import argparse
from pathlib import Path

from trainer.cli.command import add_trust
from trainer.rundir import configuration, trust
from trainer.rundir.typed import quoted, typed_path
from trainer.sweep.folder import ASKED
from trainer.sweep.resume import resume
from trainer.train import compose_and_train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("folder", type=typed_path, metavar="RUN_OR_SWEEP", help="the directory of a run or of a sweep")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="changes: train.epochs=60, sweep.workers=1"
    )
    add_trust(parser)


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    if is_sweep(arguments.folder):
        resume(arguments.folder, arguments.overrides, arguments.trusted)
        return
    words = [*going_on(arguments.folder), *arguments.overrides, *([trust.FLAG] if arguments.trusted else [])]
    raise SystemExit(compose_and_train(words))


def is_sweep(folder: Path) -> bool:
    """Whether a directory is that of a sweep, not of a run.

    Raises:
        Refused: it is neither.
    """
    if (folder / ASKED).exists():
        return True
    configuration.check_run(folder, otherwise=f", or a sweep's, with {ASKED}")
    return False


def going_on(run: Path) -> list[str]:
    """The command line that resumes the run in a directory."""
    return [f"train.resume={quoted(str(run))}"]
