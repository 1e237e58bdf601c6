"""``python -m trainer show SWEEP``: writes its table and picture, prints what is done, failed and best."""

from __future__ import annotations

import argparse

from trainer.rundir.typed import typed_path
from trainer.sweep.results import show_all


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("folder", type=typed_path, metavar="SWEEP", help="the directory of a sweep")


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    show_all(arguments.folder)
