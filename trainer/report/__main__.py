"""``python -m trainer.report PATH …``: one HTML file about many runs, which opens without a network.

A table that sorts and filters, learning curves, a heat map of two keys, each run's configuration and log, and what two
runs differ in. Below each PATH all runs are found, those under way and damaged ones too.
"""

from __future__ import annotations

import argparse
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trainer.command import one_line_mistakes, refuse_arguments
from trainer.errors import Refused
from trainer.files import write_whole
from trainer.run_dir import shown

NAME = "report.html"


def program() -> str:
    """What wrote the page; a bare checkout has no version."""
    try:
        return f"conga {version('conga')}"
    except PackageNotFoundError:
        return "conga"


def main() -> None:
    """The command line; ends the process with the exit status that the README lists."""
    parser = argparse.ArgumentParser(prog="python -m trainer.report", description=__doc__.partition("\n")[0])
    parser.add_argument("paths", type=Path, nargs="+", metavar="PATH", help="a run, a sweep, or a folder of them")
    parser.add_argument("--out", type=Path, metavar="FILE.html", help=f"default: {NAME} in the first PATH")
    parser.add_argument("--where", metavar="EXPR", help="only runs of which this is true, as in trainer.runs")
    parser.error = refuse_arguments
    with one_line_mistakes():
        arguments = parser.parse_args()
        from trainer.report.page import page
        from trainer.report.payload import payload
        from trainer.runs.read import find_runs

        records = find_runs(arguments.paths)
        if not records:
            raise Refused(
                f"{', '.join(map(str, arguments.paths))}: no run below it; a run's directory has .hydra/config.yaml"
            )
        out = arguments.out or arguments.paths[0] / NAME
        facts = {
            "title": ", ".join(shown(path.resolve()) for path in arguments.paths),
            "generated": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            "version": program(),
            "where": arguments.where,
        }
        content = page(payload(records) | facts)
        try:
            write_whole(out, content)
        except OSError as error:
            raise Refused(
                f"{error.filename or out}: {error.strerror or error}; --out=FILE.html writes elsewhere"
            ) from error
        counts = Counter(record.status for record in records)
        told = ", ".join(f"{n} {status}" for status, n in counts.most_common())
        runs = "1 run" if len(records) == 1 else f"{len(records):,} runs"
        print(f"written  {shown(out)}: {runs} ({told}), {len(content) / 1e6:.1f} MB; open it in a browser")


if __name__ == "__main__":
    main()
