"""``python -m trainer runs [PATH …]``: the runs below the paths as a table, with the keys in which they differ.

    python -m trainer runs --sort -test --where 'optim=cgd and test/accuracy>0.95'
    python -m trainer runs --group-by optim.lr --over seed --latex
    python -m trainer runs --watch

It only reads run directories, also of runs that are training.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from trainer.cli.display import screen
from trainer.rundir.errors import Refused
from trainer.rundir.records import RunRecord, differing, find_runs
from trainer.rundir.run_dir import shown
from trainer.rundir.typed import typed_path
from trainer.runs import show
from trainer.runs.columns import Names, by_importance, known, row, sort, tests
from trainer.runs.groups import grouped
from trainer.runs.sweep import sweep_rows
from trainer.runs.where import parse

REASONS = 20  # runs whose errors are printed below the table
EVERY_S = 2.0


@dataclass
class View:
    """The table, the text above and below it, and the chosen records."""

    records: list[RunRecord]
    sheet: show.Sheet
    title: str
    notes: list[str]


EPILOG = (
    "Columns are keys of the configuration (optim.lr, or lr if unambiguous), choices (optim), name, "
    "path, status, error, best, best/epoch, test, test/accuracy, final/val/loss, …, epochs, seconds, parameters."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("paths", nargs="*", type=typed_path, metavar="PATH", help="where to look; default: outputs")
    parser.add_argument("--sort", metavar="KEYS", help="columns, by commas; -KEY for descending order")
    parser.add_argument("--descending", action="store_true", help="reverse the order of --sort")
    parser.add_argument(
        "--where", metavar="CONDITION", help="such as 'optim=cgd and (seed<3 or not test/accuracy>0.9)'"
    )
    parser.add_argument("--columns", metavar="KEYS", help="the columns to show, by commas")
    parser.add_argument("--group-by", metavar="KEYS", help="mean and standard deviation of the runs with equal KEYS")
    parser.add_argument("--over", metavar="KEYS", help="keys to average over, with --group-by; default: seed")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="comma-separated values, numbers with all their digits")
    form.add_argument("--json", action="store_true", help="a list of objects, numbers with all their digits")
    form.add_argument("--latex", action="store_true", help="a tabular with the rules of booktabs")
    form.add_argument(
        "--watch", action="store_true", help=f"show the table again every {EVERY_S:g} seconds until Ctrl-C"
    )


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    if arguments.over is not None and arguments.group_by is None:
        raise Refused(f"--over={arguments.over}: needs --group-by=KEYS, whose groups are averaged over it")
    if arguments.descending and arguments.sort is None:
        raise Refused("--descending: needs --sort=KEY")
    if arguments.watch:
        watch(arguments)
    else:
        write(arguments, read(arguments))


def prepared(argv: Sequence[str]) -> list[str]:
    """``--sort -best`` as ``--sort=-best``, since argparse takes a word that begins with - as an option."""
    joined: list[str] = []
    for argument in argv:
        if joined and joined[-1] == "--sort":
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def read(arguments: argparse.Namespace) -> View:
    """Reads the runs and makes the table of the options.

    Raises:
        Refused: a path has no runs, a column does not exist, or a condition is invalid.
    """
    paths = arguments.paths or [Path("outputs")]
    records = find_runs(paths)
    if not records:
        raise Refused(
            f"{', '.join(map(str, paths))}: no runs below; a run is a directory with .hydra/config.yaml in it"
        )
    if arguments.watch:
        records.sort(key=_started, reverse=True)
    names = Names(records)
    found = len(records)
    if arguments.where is not None:
        condition = parse(arguments.where, lambda name: names(name, "--where"))
        records = [record for record in records if condition(row(record))]
    columns = _full_names(arguments.columns, names, "--columns")
    below = ", ".join(shown(path.absolute()) for path in paths)
    title = f"{len(records)} run{'s' * (len(records) != 1)} in {below}"
    if len(records) < found:
        title += f", of {found}"
    if arguments.group_by is not None:
        view = _of_groups(arguments, names, records, columns, title)
    else:
        view = _of_runs(records, columns, title)
    view.sheet.rows = sort(view.sheet.rows, _order(arguments, names, view.sheet))
    return view


def _started(record: RunRecord) -> str:
    """When the run was started or resumed, in ISO format; empty for one that was not."""
    process = record.summary.get("process")
    return str(process.get("started", "")) if isinstance(process, dict) else ""


def _order(arguments: argparse.Namespace, names: Names, sheet: show.Sheet) -> list[tuple[str, bool]]:
    """The columns of --sort, each with whether it descends."""
    order = []
    for typed in filter(None, (arguments.sort or "").replace(" ", "").split(",")):
        key = typed.removeprefix("-")
        column = "n" if key == "n" and arguments.group_by else names(key, "--sort")
        if arguments.group_by and column not in sheet.columns:
            raise Refused(f"--sort={key}: with --group-by one of {', '.join(sheet.columns)}")
        order.append((column, typed.startswith("-") ^ arguments.descending))
    return order


def _full_names(keys: str | None, names: Names, option: str) -> list[str]:
    """The full names of the columns of an option, which are separated by commas."""
    return list(dict.fromkeys(names(key.strip(), option) for key in (keys or "").split(",") if key.strip()))


def _of_runs(records: list[RunRecord], columns: list[str], title: str) -> View:
    """One row per run."""
    rows = [row(record) for record in records]
    titles, optional = {}, columns[1:]
    if not columns:
        keys = by_importance(differing(records), records)
        monitored = list(dict.fromkeys(record.best["metric"] for record in records if record.best))
        best = ["best/value"] if len(monitored) == 1 else ["best/metric", "best/value"] if monitored else []
        titles = {"best/value": f"best {monitored[0]}"} if len(monitored) == 1 else {}
        measured = tests(records)
        columns = ["name", *keys, "status", *best, *measured]
        optional = [*measured[:1], *best, *keys, *measured[1:]]
    sheet = show.Sheet(columns, rows, titles, optional)
    reasons = [r for r in records if r.error and r.status != "finished"]
    notes = [f"{r.status:<10} {r.name}: {r.error}" for r in reasons[:REASONS]]
    if len(reasons) > REASONS:
        notes.append(
            f"           and {len(reasons) - REASONS} more; --where 'error!=null' --columns name,error lists all"
        )
    return View(records, sheet, title, notes)


def _of_groups(
    arguments: argparse.Namespace, names: Names, records: list[RunRecord], columns: list[str], title: str
) -> View:
    """One row per group of runs."""
    keys = _full_names(arguments.group_by, names, "--group-by")
    over = _full_names(arguments.over, names, "--over") if arguments.over is not None else ["seed"]
    if not keys or not over:
        raise Refused(f"--{'over' if keys else 'group-by'}: name a column, such as {'seed' if keys else 'optim.lr'}")
    chosen = columns or [c for c in ("best/value", *tests(records)) if c in known(records)]
    metrics = [column for column in chosen if column not in keys]
    groups = grouped(records, keys, over, metrics)
    monitored = {record.best["metric"] for record in records if record.best}
    titles = {"best/value": f"best {monitored.pop()}"} if len(monitored) == 1 and not columns else {}
    rows = sort(groups.rows, [(key, False) for key in keys])
    notes = [f"mean ± standard deviation over {', '.join(over)}; n finished runs"]
    if groups.left_out:
        notes.append(f"left out: {groups.left_out}")
    if groups.repeated:
        notes.append(f"runs with the same configuration as another run, all counted: {groups.repeated}")
    return View(records, show.Sheet([*keys, "n", *metrics], rows, titles), title, notes)


def write(arguments: argparse.Namespace, view: View) -> None:
    """Prints the table in the chosen form."""
    if arguments.latex:
        show.write(show.latex(view.sheet))
    elif arguments.csv or arguments.json:
        if arguments.columns or arguments.group_by:
            columns, rows = show.flat(view.sheet)
        else:
            by_path = {str(record.path): record for record in view.records}
            columns, rows = sweep_rows([by_path[r["path"]] for r in view.sheet.rows])
        show.write((show.as_csv if arguments.csv else show.as_json)(columns, rows))
    else:
        to_terminal = sys.stdout.isatty() or "COLUMNS" in os.environ
        console = screen(**({} if to_terminal else {"width": 10_000}))
        show.output(console, parts(view, console.width if to_terminal else None))


def parts(view: View, width: int | None, most: int | None = None) -> list[RenderableType]:
    """Title, table and notes, for a screen of this width, with at most `most` rows."""
    if not view.sheet.rows:
        return [Text(view.title)]
    sheet, place = show.without_folder(view.sheet)
    table, dropped = show.screen(sheet, width, most)
    notes = list(view.notes)
    if most is not None and len(sheet.rows) > most:
        notes.insert(0, f"and {len(sheet.rows) - most} more; --sort says which come first")
    if dropped:
        notes.append(f"not shown: {', '.join(dropped)}; a wider terminal or --columns shows them")
    return [Text(view.title + (f", all in {place}" if place else "")), table, *map(Text, notes)]


def watch(arguments: argparse.Namespace) -> None:
    """Shows the table repeatedly; the last one stays on the screen.

    Raises:
        Refused: standard output is no terminal.
    """
    console = screen()
    if not console.is_terminal:
        raise Refused("--watch: needs a terminal; leave it out, or see --csv and --json")
    view = read(arguments)
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                clock = Text(time.strftime("%H:%M:%S, every ") + f"{EVERY_S:g} s; Ctrl-C ends", style="dim")
                live.update(Group(*_page(view, console), clock), refresh=True)
                time.sleep(EVERY_S)
                view = read(arguments)
    finally:
        write(arguments, view)


def _page(view: View, console: Console) -> list[RenderableType]:
    """The part of the table that fits the terminal's height, and the first notes, one line each."""
    notes = [note if len(note) < console.width else f"{note[: console.width - 1]}…" for note in view.notes[:3]]
    around = 10 + len(notes)  # title, heading and borders, two lines of notes, the clock
    return parts(replace(view, notes=notes), console.width, max(1, console.height - around))
