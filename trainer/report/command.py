"""``python -m trainer report PATH …``: one HTML file about many runs, which opens without a network.

    python -m trainer report outputs/2026-11-23/07-19-59_sweep --where 'status=finished' --out sweep.html
    python -m trainer report outputs/2026-11-23/07-19-59_sweep --serve

A table that sorts and filters, learning curves, a heat map over two keys, each run's configuration and log, and the
differences of two runs. It has all runs below a PATH, also unfinished and damaged ones.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trainer.cli.display import tell
from trainer.report.page import page
from trainer.report.payload import payload
from trainer.report.serve import serve, stamp
from trainer.rundir.errors import Refused
from trainer.rundir.files import write_whole
from trainer.rundir.records import RunRecord, find_runs
from trainer.rundir.run_dir import shown
from trainer.rundir.typed import typed_path
from trainer.runs.columns import Names, row
from trainer.runs.where import parse

NAME = "report.html"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("paths", type=typed_path, nargs="+", metavar="PATH", help="a run, a sweep, or a folder of them")
    parser.add_argument("--out", type=typed_path, metavar="FILE.html", help=f"default: {NAME} in the first PATH")
    parser.add_argument(
        "--serve", nargs="?", type=int, const=0, metavar="PORT",
        help="write no file; show the page at http://127.0.0.1:PORT (default: a free port), following the runs",
    )  # fmt: skip
    parser.add_argument("--where", metavar="CONDITION", help="which runs, as in `runs`, such as 'optim=cgd'")


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    if arguments.serve is not None:
        follow(arguments)
        return
    records = chosen(arguments.paths, arguments.where)
    out = arguments.out or arguments.paths[0] / NAME
    if out.is_dir():
        raise Refused(f"--out={out}: is a directory; give a file, such as {out / NAME}")
    content = page_of(arguments, records, None)
    try:
        write_whole(out, content)
    except OSError as error:
        reason = f"{error.filename or out}: {error.strerror or error}"
        raise Refused(f"{reason}; --out=FILE.html writes elsewhere") from error
    counts = ", ".join(f"{n} {status}" for status, n in Counter(record.status for record in records).most_common())
    runs = "1 run" if len(records) == 1 else f"{len(records):,} runs"
    name = os.fsencode(shown(out)).decode(errors="replace")  # names of files may not be text
    tell(f"written  {name}: {runs} ({counts}), {len(content) / 1e6:.1f} MB; open it in a browser")


def follow(arguments: argparse.Namespace) -> None:
    """Serves the page until Ctrl-C."""
    if arguments.out is not None:
        raise Refused(f"--out={arguments.out}: --serve writes no file; give one of them")

    def read() -> list[RunRecord]:
        return chosen(arguments.paths, arguments.where)

    def made() -> bytes:
        records = read()
        return page_of(arguments, records, stamp(records))

    read()  # reports a mistake before the server starts
    serve(arguments.serve, made, lambda: stamp(read()))


def page_of(arguments: argparse.Namespace, records: list[RunRecord], mark: str | None) -> bytes:
    """The page; `mark` is the stamp of a served one."""
    about = {
        "title": ", ".join(titled(path) for path in arguments.paths),
        "generated": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "version": program(),
        "where": arguments.where,
        "stamp": mark,
    }
    return page(payload(records) | about)


def chosen(paths: Sequence[Path], where: str | None) -> list[RunRecord]:
    """The runs below the paths for which the condition is true.

    Raises:
        Refused: no runs, or the condition is invalid.
    """
    records = find_runs(paths)
    if not records:
        below = ", ".join(map(str, paths))
        raise Refused(f"{below}: no runs below; a run is a directory with .hydra/config.yaml in it")
    if where is None:
        return records
    names = Names(records)
    condition = parse(where, lambda name: names(name, "--where"))
    kept = [record for record in records if condition(row(record))]
    if not kept:
        raise Refused(f"--where={where}: true for none of the {len(records):,} runs")
    return kept


def titled(path: Path) -> str:
    """The path as a title: relative to the working directory, or the name of the working directory."""
    absolute = path.resolve()
    return absolute.name if absolute == Path.cwd() else shown(absolute)


def program() -> str:
    """The name and version of conga; a checkout that is not installed has no version."""
    try:
        return f"conga {version('conga')}"
    except PackageNotFoundError:
        return "conga"
