"""``python -m trainer robustness RUN_DIR …``: metrics of runs after changes of weights or inputs.

It measures accuracy (for regressions, the rmse) without retraining: after pruning weights or filters, after truncating
ranks, under Gaussian noise, and under attacks (FGSM, PGD, Frank-Wolfe) in the l-infinity and l2 balls; see
``compression``, ``attacks`` and ``perturbed``. It writes a table, a CSV file and a picture with a curve for each run.
The runs may still be training.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.markup import escape
from rich.table import Table

from trainer.analysis import perturbed
from trainer.analysis.arguments import TESTS
from trainer.analysis.finetune import Finetuner
from trainer.analysis.load import Run, load_run
from trainer.cli.display import listed, loading_progress, screen, tell
from trainer.plot import look
from trainer.plot.figures import check_picture, rendered, write_out
from trainer.plot.values import named, settings
from trainer.rundir.errors import Refused
from trainer.rundir.records import RunRecord, differing, find_runs
from trainer.rundir.run_dir import inside

TUNED = perturbed.TUNED
RADII = {"linf": (0, 0.01, 0.02, 0.05, 0.1, 0.2), "l2": (0, 0.25, 0.5, 1, 2)}
ATTACKS = {"fgsm": "FGSM", "pgd": "PGD", "fw": "Frank-Wolfe"}
COMPRESSIONS: dict[str, Sequence[float]] = {
    "prune": (0, 50, 70, 80, 90, 95, 99),  # percent set to zero
    "filters": (0, 10, 20, 30, 40, 50, 60, 70),
    "low_rank": (100, 75, 50, 25, 10, 5, 2),  # percent of the full rank kept
}
LEVELS: dict[tuple[str, str], Sequence[float]] = {  # (test, norm)
    **{(f"{test}{tuned}", ""): levels for tuned in ("", TUNED) for test, levels in COMPRESSIONS.items()},
    ("noise", ""): (0, 0.05, 0.1, 0.2, 0.3, 0.5),  # standard deviation
    **{(attack, norm): radii for norm, radii in RADII.items() for attack in ATTACKS},
}
AXES = {
    "prune": ("weights pruned", "% of all weights set to zero"),
    "filters": ("filters or neurons pruned", "% of each hidden layer set to zero"),
    "low_rank": ("low rank", "% of each weight's rank kept"),
    "noise": ("Gaussian noise", "deviation"),
}
BALLS = {"linf": "ℓ∞", "l2": "ℓ2"}


class Row(NamedTuple):
    """A measured number, and a line of the CSV file."""

    run: str
    test: str
    norm: str
    level: float
    metric: str
    value: float
    samples: int


def main(arguments: argparse.Namespace) -> None:
    """Measures the runs, writes their files, prints the table."""
    if arguments.finetune is not None and arguments.finetune < 1:
        raise Refused(f"--finetune={arguments.finetune}: must be at least 1")
    tests = wanted(arguments.tests, tuned=arguments.finetune is not None)
    if arguments.limit < 1:
        raise Refused(f"--limit={arguments.limit}: must be at least 1")
    if not 0 <= arguments.seed < 2**63:
        raise Refused(f"--seed={arguments.seed}: must be at least 0 and less than 2**63")
    runs = load(arguments.runs, arguments.split, arguments.checkpoint, arguments.device, arguments.trusted)
    names, several = short_names([run.path for run in runs]), len(runs) > 1
    labels = labelled([find_runs([run.path])[0] for run in runs])
    out = arguments.out or (Path("outputs") if several else own_folder(runs[0])) / "robustness.png"
    for place in [out, *(own_folder(run) / out.name for run in runs if several)]:
        check_picture(place)  # before the measurements
    unit = input_unit(runs[0])
    rows: list[Row] = []
    notes: list[str] = []
    for name in names:
        run = runs.pop(0)  # to free its data
        finetune = Finetuner(run, arguments.finetune) if arguments.finetune else None
        of_run, said = measure(run, name, tests, arguments.split, arguments.limit, arguments.seed, finetune)
        if several:
            write_out(own_folder(run) / "robustness.csv", csv_text(of_run).encode())
        rows, notes = rows + of_run, notes + said
    if not rows:
        raise Refused(f"--tests={arguments.tests}: nothing to measure; {notes[0]}")
    write_out(out.with_suffix(".csv"), csv_text(rows).encode())
    of_samples = f"{rows[0].samples:,} samples of the {arguments.split} split"
    kind = out.suffix.removeprefix(".")
    write_out(out, rendered(figure, rows, names, labels, unit, of_samples, kind=kind, dpi=110))
    console = screen()
    console.print(f"{title_of(rows[0].metric)}; {of_samples}; noise and attacks in units {unit}", markup=False)
    console.print(table(rows, names))
    for note in notes:
        console.print(f"note: {note}", markup=False)
    tell(f"table    {out.with_suffix('.csv')}", f"picture  {out}")


def wanted(text: str, *, tuned: bool = False) -> list[tuple[str, str]]:
    """The tests, with their norms, in a text such as prune,fw.

    Args:
        tuned: whether those that compress are also done with fine-tuning.

    Raises:
        Refused: a test does not exist, or none can be done with fine-tuning.
    """
    given = [part.strip() for part in text.split(",")]
    for test in given:
        if test not in TESTS:
            near = difflib.get_close_matches(test, TESTS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise Refused(f"--tests={text}: no such test: {test!r}; {hint}there are {', '.join(TESTS)}")
    if tuned and not set(given) & set(COMPRESSIONS):
        raise Refused(f"--finetune: nothing to fine-tune in --tests={text}; there are {', '.join(COMPRESSIONS)}")
    given += [f"{test}{TUNED}" for test in given if tuned]
    return [(test, norm) for test, norm in LEVELS if test in given]


def load(paths: Sequence[Path], split: str, checkpoint: str, device: str, trusted: bool) -> list[Run]:
    """The runs, without their data.

    Raises:
        Refused: one cannot be read, or they cannot be compared.
    """
    runs = [load_run(path, checkpoint, device, trusted=trusted) for path in {p.resolve(): p for p in paths}.values()]
    kinds = [f"{perturbed.metric_of(run.objective)}, over changes in units {input_unit(run)}" for run in runs]
    for run, kind in zip(runs, kinds, strict=True):
        why = run.objective.unattackable
        if why and perturbed.part_of(run.objective) is None:
            hint = "; with objective.judge a GAN's generator is compressed" if len(run.objective.turns) > 1 else ""
            raise Refused(f"{run.path}: {why}{hint}")
        run.has_split(split)
        if kind != kinds[0]:
            raise Refused(f"{run.path}: cannot be compared with {runs[0].path}: it has {kind}, and that {kinds[0]}")
    return runs


def input_unit(run: Run) -> str:
    """The unit of noise and attacks."""
    return perturbed.unit_of(run.facts)


def measure(
    run: Run,
    name: str,
    tests: Sequence[tuple[str, str]],
    split: str,
    limit: int,
    seed: int,
    finetune: Finetuner | None = None,
) -> tuple[list[Row], list[str]]:
    """The run's numbers, and notes about them."""
    s = perturbed.subject(run, split, limit, seed)
    s.finetune = finetune
    left_out: list[str] = []
    if s.part:
        left_out = list(dict.fromkeys(test for test, _ in tests if test not in COMPRESSIONS))
        tests = [(test, norm) for test, norm in tests if test in COMPRESSIONS]
    metric = perturbed.metric_of(run.objective)
    rows: list[Row] = []
    notes = [f"{name}: its {s.part} is compressed; left out: {', '.join(left_out)}"] if left_out else []
    total = sum(len(LEVELS[key]) for key in tests)
    with loading_progress(lambda: None) as progress:
        for test, norm in tests:
            before = len(rows)
            for level, value in zip(
                LEVELS[test, norm], perturbed.curve(s, test, norm, LEVELS[test, norm]), strict=False
            ):
                rows.append(Row(str(run.path), test, norm, level, metric, value, s.samples))
                progress(f"measuring {name}", len(rows), total)
            if len(rows) == before:
                notes.append(f"{name}: its model has no hidden layer with {test} to prune")
    diverged = [f"{row.test} {row.level:g} %" for row in rows if math.isnan(row.value)]
    if diverged:
        notes.append(f"{name}: training diverged after {listed(diverged)}")
    blind = perturbed.without_direction(s) if any(test in ATTACKS for test, _ in tests) else 0
    if blind:
        notes.append(
            f"{name}: at {blind} of {s.samples} samples the loss has no gradient, so attacks have no direction; "
            "the model may be less robust than shown"
        )
    return rows, notes


def own_folder(run: Run) -> Path:
    """The folder of a run's results.

    Raises:
        Refused: it is a link out of the run.
    """
    if not inside(run.path, run.path / "robustness"):
        raise Refused(f"{run.path / 'robustness'}: a link that leads out of the run; remove it, or give --out")
    return run.path / "robustness"


def short_names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that distinguish them."""
    parts = [path.resolve().parts for path in paths]
    for n in range(1, max(map(len, parts)) + 1):
        names = ["/".join(p[-n:]) for p in parts]
        if len(set(names)) == len(names):
            break
    return names


def labelled(records: Sequence[RunRecord]) -> list[str]:
    """Labels of the runs: as few differing keys as distinguish them, else their folders."""

    def texts(keys: Sequence[str]) -> list[str]:
        owned = [[key for key in keys if key in record.config] for record in records]
        return [
            named(own, settings(record, own), [settings(other, own) for other in records])
            for own, record in zip(owned, records, strict=True)
        ]

    def tell_apart(keys: Sequence[str]) -> bool:
        return len(set(texts(keys))) == len(records)

    keys = differing(records)
    if not keys or not tell_apart(keys):
        return short_names([record.path for record in records])
    for key in reversed(keys):  # drop the last keys first: choices come first and say most
        if tell_apart([other for other in keys if other != key]):
            keys.remove(key)
    return texts(keys)


def csv_text(rows: Sequence[Row]) -> str:
    """The rows as CSV, with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([Row._fields, *rows])
    return text.getvalue()


def curves(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, dict[float, float]]]:
    """(test, norm) -> run -> level -> value, in the order of the tests."""
    found: dict[tuple[str, str], dict[str, dict[float, float]]] = {}
    for row in rows:
        found.setdefault((row.test, row.norm), {}).setdefault(row.run, {})[row.level] = row.value
    return {key: found[key] for key in LEVELS if key in found}


def table(rows: Sequence[Row], names: Sequence[str]) -> Table:
    """A row for each test and level, a column for each run."""
    metric, shown = rows[0].metric, Table()
    shown.add_column("test")
    shown.add_column("level", justify="right")
    for name in names:
        shown.add_column(escape(name), justify="right", overflow="fold")
    runs = list(dict.fromkeys(row.run for row in rows))
    for (test, norm), of_test in curves(rows).items():
        for level in LEVELS[test, norm]:
            values = (of_test.get(run, {}).get(level) for run in runs)
            cells = ("" if v is None else f"{v:.4f}" if metric == "accuracy" else f"{v:.4g}" for v in values)
            percent = " %" if test.removesuffix(TUNED) in COMPRESSIONS else ""
            shown.add_row(f"{test} {norm}".strip(), f"{level:g}{percent}", *cells)
        shown.add_section()
    return shown


def title_of(metric: str) -> str:
    """The metric in words."""
    lower = {"rmse": "rmse in the targets' units (lower is better)", "frechet": "Fréchet distance (lower is better)"}
    return lower.get(metric, metric)


def figure(rows: Sequence[Row], names: Sequence[str], labels: Sequence[str], unit: str, of_samples: str) -> Figure:
    """A panel for each test and norm: pruning and noise first, then attacks, a row for each ball."""
    found, metric = curves(rows), rows[0].metric
    lines = [[key for key in found if key[1] == norm] for norm in ("", *RADII)]
    lines = [line for line in lines if line]
    across = max(map(len, lines))
    labels = labels if len(names) > 1 else []
    width = max(3.1 * across, 4.6)
    legend = look.LINE * look.lines_below(labels, width) if labels else 0.0
    shown = Figure(figsize=(width, 2.7 * len(lines) + 0.9 + legend), layout="constrained")
    panels = shown.subplots(len(lines), across, squeeze=False, sharey=True)
    runs = list(dict.fromkeys(row.run for row in rows))
    for line, axes in zip(lines, panels, strict=True):
        for axis, key in zip(axes, line, strict=False):
            draw(axis, key, [(name, found[key].get(run, {})) for name, run in zip(names, runs, strict=True)], unit)
        axes[0].set_ylabel(metric)
        for axis in axes[len(line) :]:
            axis.axis("off")
    panels[0, 0].set_ylim(0, 1.02 if metric == "accuracy" else None)
    of_run = f" of {names[0]}" if len(names) == 1 else ""
    shown.suptitle(f"{title_of(metric)}{of_run}, {of_samples}", fontsize=11)
    if labels:
        look.legend_below(shown, panels[0, 0].get_legend_handles_labels()[0], labels)
    return shown


def draw(axis: Axes, key: tuple[str, str], of_runs: Sequence[tuple[str, dict[float, float]]], unit: str) -> None:
    """Draws one test's curves; larger changes are at the right."""
    test, norm = key
    plain = test.removesuffix(TUNED)
    title, label = AXES[plain] if plain in AXES else (f"{ATTACKS[test]}, {BALLS[norm]}", "radius")
    if plain != test:
        title = f"{title}, fine-tuned"
    if plain not in COMPRESSIONS:
        label = f"{label}, in units {unit}"
    for number, (name, values) in enumerate(of_runs):
        axis.plot(
            *(list(values), list(values.values())), label=name, marker="os^Dv*PX"[number % 8], markersize=4,
            linewidth=1.3, alpha=0.85,
        )  # fmt: skip
    axis.set_title(title, fontsize=10)
    axis.set_xlabel(label, fontsize=8)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    if plain == "low_rank":
        axis.set_xscale("log")
        axis.set_xlim(125, 1.6)
        ticks = [level for level in LEVELS[key] if level != 75]  # its label would overlap that of 100
        axis.set_xticks(ticks, [f"{level:g}" for level in ticks])
        axis.minorticks_off()
