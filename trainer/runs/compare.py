"""``python -m trainer compare RUN_A RUN_B``: the differences of two runs, with a test over seeds.

Configuration, metrics and versions side by side. If a run was repeated with other seeds (in the same folder, or below
further paths), the repetitions are averaged and compared by a t-test; RUN_A and RUN_B may also be folders of runs that
differ only in their seed.

    python -m trainer compare outputs/…_sweep/0_optim-sgd_seed-0 outputs/…_sweep/3_optim-adam_seed-0
    python -m trainer compare outputs/sgd outputs/adam --json
"""

from __future__ import annotations

import argparse
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from trainer.cli.display import screen
from trainer.rundir.configuration import CONFIG
from trainer.rundir.errors import Refused
from trainer.rundir.records import RunRecord, canonical, differing, find_runs, metric_direction, natural
from trainer.rundir.run_dir import shown
from trainer.rundir.typed import typed_path
from trainer.runs.columns import missing, row
from trainer.runs.groups import Mean, mean
from trainer.runs.show import as_csv, as_json, digits, output, text, write
from trainer.runs.significance import Test, compare

SEED = "seed"
FACTS = ("epochs", "steps", "stopped", "parameters", "device", "threads")
COLUMNS = ("kind", "key", "a", "b", "difference", "a/std", "a/n", "b/std", "b/n", "p", "test")


@dataclass
class Side:
    """One side: the named run, or the first of a folder, and all runs that differ from it only in their seed."""

    path: Path
    run: RunRecord
    repeats: list[RunRecord]

    @property
    def is_run(self) -> bool:
        """Whether a run was named, not a folder of runs."""
        return self.run.path == self.path

    @property
    def finished(self) -> list[RunRecord]:
        """The finished repetitions; a run without repetitions counts in any status."""
        return [r for r in self.repeats if r.status == "finished"] if len(self.repeats) > 1 else self.repeats

    def values(self, metric: str) -> dict[Any, float]:
        """Seed -> value; several runs of one seed count once, with their mean."""
        by_seed: dict[Any, list[float]] = {}
        for record in self.finished:
            value = row(record).get(metric, math.nan)
            if not missing(value):
                by_seed.setdefault(record.config.get(SEED), []).append(float(value))
        return {seed: sum(values) / len(values) for seed, values in by_seed.items()}


@dataclass
class Metric:
    """One metric of both sides."""

    name: str
    a: Mean | None
    b: Mean | None
    test: Test

    @property
    def difference(self) -> float | None:
        """The difference of the means, B - A."""
        return None if self.a is None or self.b is None else self.b.mean - self.a.mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command."""
    parser.add_argument(
        "a", type=typed_path, metavar="RUN_A", help="a run, or a folder of runs that differ only in seed"
    )
    parser.add_argument("b", type=typed_path, metavar="RUN_B", help="the same")
    parser.add_argument(
        "paths",
        nargs="*",
        type=typed_path,
        default=[],
        metavar="PATH",
        help="where to look for repetitions; default: beside each run",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--csv", action="store_true", help="comma-separated values, numbers with all their digits")
    form.add_argument("--json", action="store_true", help="a list of objects, numbers with all their digits")


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    a, b = (side(path, arguments.paths) for path in (arguments.a, arguments.b))
    apart(a, b)
    if arguments.csv or arguments.json:
        rows = [[r.get(column) for column in COLUMNS] for r in flat(a, b)]
        write((as_csv if arguments.csv else as_json)(COLUMNS, rows))
    else:
        output(screen(), (*heads(a, b), *tables(a, b), *notes(a, b)))


def side(path: Path, elsewhere: Sequence[Path]) -> Side:
    """Reads one side and its repetitions: those in the same folder, or below the paths `elsewhere`.

    Raises:
        Refused: no run, a damaged one, or several that differ in more than their seed.
    """
    found = find_runs([path])
    if not found:
        raise Refused(f"{path}: no run there; a run is a directory with {CONFIG} in it")
    usable = [record for record in found if record.config]
    if not usable:
        raise Refused(f"{path}: {found[0].error}")
    if found[0].path == path:
        run = usable[0]
        beside = [child for child in path.absolute().parent.iterdir() if os.path.isfile(child / CONFIG)]
        candidates = find_runs(elsewhere or beside)
        others = [r for r in candidates if r.path.resolve() != run.path.resolve() and _but_seed(r) == _but_seed(run)]
        return Side(path, run, [run, *others])
    other = [key for key in differing(usable) if key != SEED]
    if other:
        raise Refused(f"{path}: its runs differ in {', '.join(other)}, not only in their seed; name one of them")
    return Side(path, usable[0], usable)


def _but_seed(record: RunRecord) -> str:
    return canonical([canonical([key, value]) for key, value in sorted(record.config.items()) if key != SEED])


def apart(a: Side, b: Side) -> None:
    """Separates two repetitions of one configuration.

    Raises:
        Refused: both are the same run, or one is among the runs of the other.
    """
    x, y = ({record.path.resolve() for record in s.repeats} for s in (a, b))
    if not x & y:
        return
    if a.path.resolve() == b.path.resolve():
        raise Refused(f"{b.path}: compared with itself; name two runs runs")
    if not (a.is_run and b.is_run):
        raise Refused(f"{b.path}: has runs of {a.path}, too; name two sides without common runs")
    a.repeats, b.repeats = [a.run], [b.run]


def settings(a: Side, b: Side) -> list[str]:
    """The keys of the configuration in which the two differ, also keys of only one."""
    x, y = a.run.config, b.run.config
    told = {key.partition(".")[0] for key in differing([a.run, b.run])}
    keys = []
    for key in dict.fromkeys([*x, *y]):
        is_same = key in x and key in y and canonical(x[key]) == canonical(y[key])
        if not is_same and key != SEED and not (key.endswith("._target_") and key.partition(".")[0] in told):
            keys.append(key)
    return sorted(keys, key=lambda key: "." in key)  # stable: choices first


def seeds(s: Side) -> list[Any]:
    """The seeds of one side, in order."""
    return sorted((record.config.get(SEED) for record in s.repeats), key=lambda seed: natural(str(seed)))


def facts(a: Side, b: Side) -> list[tuple[str, Any, Any]]:
    """Other differences of the two named runs: status, sizes, versions, commits."""

    def of(record: RunRecord) -> dict[str, Any]:
        known = {"status": record.status, "error": record.error}
        known |= {name: record.summary.get(name) for name in FACTS}
        for group in ("versions", "git"):
            known |= {f"{group}.{name}": value for name, value in (record.summary.get(group) or {}).items()}
        return known

    x, y = of(a.run), of(b.run)
    return [(key, x.get(key), y.get(key)) for key in dict.fromkeys([*x, *y]) if x.get(key) != y.get(key)]


def metrics(a: Side, b: Side) -> Iterator[Metric]:
    """Best, test and final values of both; the best only if both monitor the same metric."""
    names = []
    best = [record.best["metric"] for s in (a, b) for record in s.finished if record.best]
    if len(set(best)) == 1:
        names.append("best/value")
    for kind in ("test", "final"):
        found = dict.fromkeys(name for s in (a, b) for record in s.finished for name in getattr(record, kind))
        names += [f"{kind}/{n}" for n in found if n not in ("epoch", "step") and not n.startswith("time/")]
    for name in [*names, "seconds"]:
        values = a.values(name), b.values(name)
        if any(values):
            x, y = (mean(list(v.values())) if v else None for v in values)
            yield Metric(name if name != "best/value" else f"best {best[0]}", x, y, compare(*values))


def heads(a: Side, b: Side) -> Iterator[Text]:
    """One line for each side."""
    for letter, s in (("A", a), ("B", b)):
        n, done = len(s.repeats), len(s.finished)
        counted = f"{n} runs" if done == n else f"the {done} that finished of {n} runs"
        what = s.run.status if n == 1 else f"mean over {counted} that differ only in seed"
        yield Text(f"{letter}  {shown(s.path.absolute())}: {what}")


def tables(a: Side, b: Side) -> Iterator[Table | Text]:
    """Tables of configuration, metrics and other facts, without equal rows."""
    changed = [(key, show_setting(a.run.config, key), show_setting(b.run.config, key)) for key in settings(a, b)]
    if seeds(a) != seeds(b):
        changed.append((SEED, " ".join(map(text, seeds(a))), " ".join(map(text, seeds(b)))))
    if changed:
        yield _side_by_side("configuration", changed)
    else:
        yield Text("the same configuration")
    found = list(metrics(a, b))
    if found:
        table = Table()
        for head in ("metric", "A", "B", "B - A", *(("p",) if _is_repeated(a, b) else ())):
            table.add_column(head, justify="left" if head == "metric" else "right", overflow="fold")
        for metric in found:
            p = () if not _is_repeated(a, b) else ("-" if metric.test.p is None else f"{metric.test.p:.2g}",)
            by = "-" if metric.difference is None else f"{'+' * (metric.difference > 0)}{digits(metric.difference)}"
            table.add_row(Text(text(metric.name)), text(metric.a), text(metric.b), by, *p)
        yield table
    other = facts(a, b)
    if other:
        yield _side_by_side("run", other)


def _is_repeated(a: Side, b: Side) -> bool:
    return len(a.repeats) > 1 or len(b.repeats) > 1


def _side_by_side(title: str, rows: Sequence[tuple[str, Any, Any]]) -> Table:
    table = Table()
    for head in (title, "A", "B"):
        table.add_column(head, overflow="fold")
    for key, x, y in rows:
        table.add_row(Text(text(key)), *(Text(text(value, key)) for value in (x, y)))
    return table


def show_setting(config: dict[str, Any], key: str) -> str:
    """A setting as printed: null if set to null, a dash if the choice lacks the key."""
    return "null" if key in config and config[key] is None else text(config.get(key))


def notes(a: Side, b: Side) -> Iterator[Text]:
    """What the numbers mean, in words."""
    for letter, s in (("A", a), ("B", b)):
        left = Counter(r.status for r in s.repeats if r not in s.finished)
        if left:
            yield Text(f"{letter} leaves out {', '.join(f'{n} {status}' for status, n in left.items())}")
        seeds = Counter(r.config.get(SEED) for r in s.finished)
        if any(n > 1 for n in seeds.values()):
            yield Text(f"{letter} has several runs of one seed; they count once, with their mean")
        commits = {(r.summary.get("git") or {}).get("commit") for r in s.finished}
        if len(commits) > 1:
            yield Text(f"{letter} has runs of {len(commits)} versions of conga (git.commit)")
        if len(s.repeats) == 1 and s.run.status in ("damaged", "failed", "diverged"):
            yield Text(f"{letter} is {s.run.status}: {s.run.error}")
    found = {metric.name: metric for metric in metrics(a, b)}
    judged = next((n for n in found if n.startswith("test/") and n != "test/loss"), next(iter(found), None))
    difference = None if judged is None else found[judged].difference
    if judged is None or difference is None:
        yield Text("no common metric")
        return
    verdict = found[judged].test.verdict
    if not _is_repeated(a, b):
        only = "the two differ only in their seed: any difference is chance" if not settings(a, b) else None
        verdict = only or "with one run each, chance cannot be judged: repeat both with several seeds"
    yield Text(f"{judged}: {_better(judged, difference, a.run)}; {verdict}")


def _better(metric: str, difference: float, run: RunRecord) -> str:
    if difference == 0:
        return "A and B are the same"
    name = metric.removeprefix("best ").removeprefix("test/").removeprefix("final/")
    is_high = metric_direction(name, run) == "max"
    winner = "B" if (difference > 0) == is_high else "A"
    return f"{winner} is better by {digits(abs(difference))}"


def flat(a: Side, b: Side) -> Iterator[dict[str, Any]]:
    """The comparison as rows of plain values."""
    yield {"kind": "run", "key": "path", "a": str(a.path), "b": str(b.path)}
    for key, x, y in facts(a, b):
        yield {"kind": "run", "key": key, "a": x, "b": y}
    yield {"kind": "configuration", "key": SEED, "a": seeds(a), "b": seeds(b)}
    for key in settings(a, b):
        yield {"kind": "configuration", "key": key, "a": a.run.config.get(key), "b": b.run.config.get(key)}
    for m in metrics(a, b):
        values = {"kind": "metric", "key": m.name, "difference": m.difference, "p": m.test.p, "test": m.test.kind}
        for letter, value in (("a", m.a), ("b", m.b)):
            if value is not None:
                values |= {letter: value.mean, f"{letter}/std": value.sd, f"{letter}/n": value.n}
        yield values
