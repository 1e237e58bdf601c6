"""``python -m trainer plot [PATH …]``: pictures of the runs below the paths, as PNG, SVG or PDF.

    python -m trainer plot outputs/RUN outputs/RUN --y train/loss,val/loss
    python -m trainer plot SWEEP --y val/accuracy --by optim --band seed
    python -m trainer plot SWEEP --heatmap optim.lr,objective.l2 --value train/accuracy,test/accuracy
    python -m trainer plot SWEEP --parallel --value test/accuracy --out sweep.pdf
    python -m trainer plot SWEEP --sweep

It only reads run directories, also of runs that are training.
"""

from __future__ import annotations

import argparse
import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from trainer.cli.command import Parser
from trainer.cli.display import tell
from trainer.plot import look
from trainer.plot.curves import curves_figure
from trainer.plot.figures import check_picture, drawn, rendered, write_out
from trainer.plot.frame import LEGENDS, Frame, Label
from trainer.plot.heatmap import heatmap_figure
from trainer.plot.parallel import parallel_figure
from trainer.plot.scale import labels, numeric
from trainer.plot.sweep import REPEATED, rendering
from trainer.plot.values import (
    check_metric,
    columns,
    groups,
    main_metric,
    metric_value,
    metrics,
    named,
    splits_of,
    words,
)
from trainer.rundir.errors import Refused
from trainer.rundir.records import RunRecord, differing, find_runs
from trainer.rundir.run_dir import shown
from trainer.rundir.typed import typed_path
from trainer.runs.columns import Names, ending, full_name, row, tests
from trainer.runs.where import parse

KINDS = ("png", "svg", "pdf")
NOTED = 5  # of damaged runs
OWN = {  # options of only some pictures
    "curves": ("x", "y", "by", "band", "log_x", "log_y", "legend"),
    "heatmap": ("value", "by"),
    "parallel": ("value",),
    "sweep": ("value", "legend"),
}


EPILOG = (
    "METRIC is test/accuracy, a column of metrics.csv such as val/loss (at the best epoch), final/val/loss, "
    "best, seconds, parameters, epochs or steps. KEY is a key of the configuration (optim.lr, or lr if "
    "unambiguous) or a choice (optim)."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument("paths", nargs="*", type=typed_path, metavar="PATH", help="where to look; default: outputs")
    parser.add_argument("--where", metavar="CONDITION", help="only these runs: 'optim=cgd and test/accuracy>0.9'")
    parser.add_argument(
        "--out", type=typed_path, metavar="FILE", help=".png, .svg or .pdf; default: a PNG in the first PATH"
    )
    parser.add_argument("--title", metavar="TEXT")
    parser.add_argument("--size", metavar="W[xH]", help="in inches, such as 3.3 for a column of a paper, or 3.3x2.4")
    parser.add_argument(
        "--caption", action=argparse.BooleanOptionalAction, default=True, help="the text below the picture, or none"
    )
    parser.add_argument("--legend", choices=LEGENDS, help="its place; default: right if there is room, else below")
    parser.add_argument(
        "--label", metavar="NAME=TEXT", action="append", default=[],
        help="a text in place of a key, a metric or a value, such as optim.lr='learning rate'; may be repeated",
    )  # fmt: skip
    curves = parser.add_argument_group("curves, the default")
    curves.add_argument("--x", metavar="COLUMN", help="epoch, step, seconds or a column of metrics.csv; default: epoch")
    curves.add_argument("--y", metavar="COLUMNS", help="columns of metrics.csv, by commas; default: the monitored one")
    curves.add_argument("--by", metavar="KEYS", help="colours for the first key, dashes for the second")
    curves.add_argument("--band", metavar="KEYS", help="mean and standard deviation over these, such as seed")
    for which in "xy":
        curves.add_argument(
            f"--log-{which}", action=argparse.BooleanOptionalAction, help=f"a logarithmic {which} axis, or a linear one"
        )
    other = parser.add_argument_group("other pictures")
    kind = other.add_mutually_exclusive_group()
    kind.add_argument(
        "--heatmap", metavar="KEY,KEY", help="a map over two numbers; a row of maps for each value of --by"
    )
    kind.add_argument(
        "--parallel", nargs="?", const="", metavar="KEYS", help="an axis for each key; default: all that differ"
    )
    kind.add_argument("--sweep", action="store_true", help="the picture of a sweep's sweep.png")
    other.add_argument("--value", metavar="METRICS", help="metrics, by commas; default: test accuracy")


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    (name, draw, *given), notes = drawing_of(arguments)
    out = arguments.out or arguments.paths[0] / f"{name}.png"
    write_out(out, rendered(draw, *given, kind=out.suffix[1:].lower(), dpi=look.DPI))
    tell(*(f"note     {note}" for note in notes), f"picture  {shown(out.absolute())}")


def figure_of(words: Sequence[str]) -> Figure:
    """The figure of the command with these words.

    Raises:
        Refused: as in the command.
    """
    parser = Parser(add_help=False)
    add_arguments(parser)
    (_, draw, *given), notes = drawing_of(parser.parse_intermixed_args(words))
    for note in notes:
        warnings.warn(note, stacklevel=3)
    return drawn(draw, *given)


def drawing_of(arguments: argparse.Namespace) -> tuple[Drawing, list[str]]:
    """The drawing, and notes about runs that cannot be read."""
    others = [kind for kind in ("heatmap", "parallel", "sweep") if getattr(arguments, kind) not in (None, False)]
    kind = others[0] if others else "curves"
    check_options(arguments, kind)
    records, notes = chosen(arguments)
    draw = {"curves": curves_of, "heatmap": heatmap_of, "parallel": parallel_of, "sweep": sweep_of}[kind]
    return draw(arguments, records), notes


Drawing = tuple[Any, ...]  # file name, drawing function, its arguments


def check_options(arguments: argparse.Namespace, kind: str) -> None:
    """Refuses impossible options before anything is read; fills in the default path."""
    for option in dict.fromkeys(option for of_kind in OWN.values() for option in of_kind):
        if getattr(arguments, option) is not None and option not in OWN[kind]:
            hint = f"it takes {', '.join('--' + o.replace('_', '-') for o in OWN[kind])}"
            picture = "curves" if kind == "curves" else f"--{kind}"
            raise Refused(f"--{option.replace('_', '-')}: no option of {picture}; {hint}")
    if arguments.out is not None and arguments.out.suffix.lower() not in {f".{k}" for k in KINDS}:
        raise Refused(f"--out={arguments.out}: its name must end in .png, .svg or .pdf")
    check_picture(arguments.out)
    if arguments.size is not None:
        found = re.fullmatch(r"(\d+\.?\d*)(?:[x,](\d+\.?\d*))?", arguments.size)
        size = tuple(None if side is None else float(side) for side in found.groups()) if found else (0.0, None)
        if not all(side is None or 0.5 <= side <= 100 for side in size):
            raise Refused(f"--size={arguments.size}: must be inches, 0.5 to 100 each, such as 3.3 or 3.3x2.4")
        arguments.size = size
    if arguments.parallel and not arguments.paths and Path(arguments.parallel).is_dir():
        arguments.paths, arguments.parallel = [Path(arguments.parallel)], ""  # PATH in `--parallel PATH` is no key
    arguments.paths = arguments.paths or [Path("outputs")]


def chosen(arguments: argparse.Namespace) -> tuple[list[RunRecord], list[str]]:
    """The runs to draw, and notes about those that cannot be read.

    Raises:
        Refused: no runs.
    """
    places = ", ".join(map(str, arguments.paths))
    found = find_runs(arguments.paths)
    if not found:
        raise Refused(f"{places}: no runs below; a run is a directory with .hydra/config.yaml in it")
    damaged = [record for record in found if record.status == "damaged"]
    records = [record for record in found if record.status != "damaged"]
    notes = [f"{record.name}: left out, damaged: {record.error}" for record in damaged[:NOTED]]
    notes += [f"and {len(damaged) - NOTED} more damaged runs"] if len(damaged) > NOTED else []
    if arguments.where is not None:
        names = Names(found)
        condition = parse(arguments.where, lambda name: names(name, "--where"))
        records = [record for record in records if condition(row(record))]
        if not records:
            raise Refused(f"--where={arguments.where}: true for none of the {len(found)} runs in {places}")
    if not records:
        raise Refused(f"{places}: all runs are damaged; {notes[0]}")
    return records, notes


def frame_of(arguments: argparse.Namespace, records: Sequence[RunRecord]) -> Frame:
    """The frame of the picture.

    Raises:
        Refused: a label without a name or a text.
    """
    labels = []
    known = list(dict.fromkeys([*(key for record in records for key in record.config), *metrics(records)]))
    for label in arguments.label:
        typed, _, text = label.partition("=")
        if not typed or not text:
            raise Refused(f"--label={label}: must be NAME=TEXT, such as optim.lr='learning rate'")
        full = [typed] if typed in known else [typed, *ending(typed, known)]
        labels.append(Label(typed, (*full, *map(words, full)), text))
    return Frame(arguments.title, arguments.size, arguments.caption, arguments.legend, tuple(labels))


def comma_separated(text: str | None) -> list[str]:
    """The words between commas."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def keys_of(records: Sequence[RunRecord], text: str | None, option: str) -> list[str]:
    """The full keys of an option: ``lr`` is ``optim.lr`` if unambiguous."""
    known, found = list(dict.fromkeys(key for record in records for key in record.config)), []
    for name in comma_separated(text):
        none = f"no run has a key {name}; the runs differ in {differs(records)}"
        found.append(full_name(name, known, f"{option}={text}", none))
    return list(dict.fromkeys(found))


def metrics_of(records: Sequence[RunRecord], text: str | None) -> list[str]:
    """The metrics of --value; the main one in the test by default.

    Raises:
        Refused: no run has one of them, or none has finished.
    """
    finished = [record for record in records if record.status == "finished"]
    if not finished:
        raise Refused(none_finished(records))
    if text is None:
        return (splits_of(records, main_metric(records)) or ["best"])[-1:]
    short = {"best/value": "best", "test": next(iter(tests(records)), "test")}
    found = [check_metric(finished, short.get(name, name), "--value") for name in comma_separated(text)]
    for name in found:
        if not any(math.isfinite(metric_value(record, name)) for record in finished):
            raise Refused(f"--value={name}: none of the {len(finished)} finished runs has a number of it")
    if not found:
        raise Refused("--value: name a metric, such as test/accuracy")
    return found


def none_finished(records: Sequence[RunRecord]) -> str:
    """The line about runs without a result."""
    counts = ", ".join(f"{n} {status}" for status, n in Counter(record.status for record in records).items())
    return f"nothing to draw: no run has finished ({counts}); curves (--y) show unfinished runs"


def curves_of(arguments: argparse.Namespace, records: Sequence[RunRecord]) -> Drawing:
    """Metrics over epochs."""
    known = columns(records)
    if not known:
        raise Refused(f"nothing to draw: none of the {len(records)} runs has finished an epoch")
    if arguments.x == "seconds" and "time/epoch_s" not in known:
        raise Refused("--x=seconds: no run has the column time/epoch_s")
    none = f"no run has that column; there are {', '.join(known)}"
    drawable = with_numbers(records, known)
    x = full_name(arguments.x or "epoch", [*known, "seconds"], f"--x={arguments.x}", f"{none} and seconds")
    ys = [y if y in known else full_name(y, drawable, f"--y={y}", none) for y in comma_separated(arguments.y)]
    ys = ys or [monitored(records, drawable or known)]
    by = None if arguments.by is None else keys_of(records, arguments.by, "--by")
    band = None if arguments.band is None else keys_of(records, arguments.band, "--band")
    if by and band and set(by) & set(band):
        raise Refused(f"--band={arguments.band}: --by={arguments.by} separates the runs that the band would average")
    log = (arguments.log_x, arguments.log_y)
    name = "curves_" + "_".join(y.replace("/", "-") for y in ys)
    return name, curves_figure, records, x, ys, by, band, log, frame_of(arguments, records)


def with_numbers(records: Sequence[RunRecord], names: Sequence[str]) -> list[str]:
    """The columns that have a finite number in any run: those of a missing validation have none."""
    return [name for name in names if any(np.isfinite(r.curves[name]).any() for r in records if name in r.curves)]


def monitored(records: Sequence[RunRecord], known: Sequence[str]) -> str:
    """The known column that most runs monitor, or another one."""
    counts = Counter(str((record.best or {}).get("metric")) for record in records)
    names = [name for name, _ in counts.most_common() if name in known]
    return next(iter(names), next((name for name in known if name.endswith("loss")), known[-1]))


def heatmap_of(arguments: argparse.Namespace, records: Sequence[RunRecord]) -> Drawing:
    """A map over two numbers."""
    option = f"--heatmap={arguments.heatmap}"
    keys = keys_of(records, arguments.heatmap, "--heatmap")
    if len(keys) != 2:
        raise Refused(f"{option}: must be two keys, such as optim.lr,objective.l2")
    metrics = metrics_of(records, arguments.value)
    for key in keys:
        values = list(groups(records, [key]))
        if len(values) < 2:
            raise Refused(f"{option}: {key} is {labels(values[0])[0]} in all runs; they differ in {differs(records)}")
        if not numeric([value for (value,) in values]):
            odd = next(value for (value,) in values if not numeric([value]))
            raise Refused(f"{option}: {key} is not a number in every run ({labels([odd])[0]}); --where chooses runs")
    by = keys_of(records, arguments.by, "--by")
    choices = groups(records, by)
    rows = [(named(by, choice, list(choices)), equal) for choice, equal in choices.items()]
    over = [key for key in differing(records) if key not in (*keys, *by)]
    name = "heatmap_" + "_".join(metric.replace("/", "-") for metric in metrics)
    return name, heatmap_figure, rows, tuple(keys), metrics, over, frame_of(arguments, records)


def parallel_of(arguments: argparse.Namespace, records: Sequence[RunRecord]) -> Drawing:
    """Parallel coordinates."""
    keys = keys_of(records, arguments.parallel, "--parallel")
    metrics = metrics_of(records, arguments.value)
    if len(metrics) > 1:
        raise Refused(f"--value={arguments.value}: parallel coordinates show one metric")
    if not keys:
        varied = differing(records)
        keys = [key for key in varied if key not in REPEATED] or varied
    if not keys:
        raise Refused(f"--parallel: the {len(records)} runs differ in nothing; --parallel KEYS names axes")
    name = f"parallel_{metrics[0].replace('/', '-')}"
    return name, parallel_figure, records, keys, metrics[0], frame_of(arguments, records)


def sweep_of(arguments: argparse.Namespace, records: Sequence[RunRecord]) -> Drawing:
    """The picture of a sweep by its swept keys, of other runs by their differing keys."""
    swept = list(dict.fromkeys(key for record in records for key in record.swept)) or differing(records)
    metrics = None if arguments.value is None else metrics_of(records, arguments.value)
    found = rendering(records, swept, metrics, frame_of(arguments, records))
    if found is None:
        raise Refused(none_finished(records))
    return "sweep", *found


def differs(records: Sequence[RunRecord]) -> str:
    return ", ".join(differing(records)) or "nothing"
