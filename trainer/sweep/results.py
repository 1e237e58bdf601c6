"""The results of a sweep: ``sweep.csv``, ``sweep.png``, the best job, failed jobs with reasons."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

from trainer.cli.display import listed, number, tell
from trainer.rundir import trust
from trainer.rundir.files import write_whole
from trainer.rundir.records import maximized, objective
from trainer.rundir.run_dir import shown
from trainer.runs import RunRecord, find_runs
from trainer.runs.sweep import write_csv
from trainer.sweep.folder import ASKED, asked, drop_checkpoints, number_of
from trainer.sweep.pruning import is_pruned
from trainer.sweep.settings import SweepSettings
from trainer.training.parts import build


def value(record: RunRecord, settings: SweepSettings) -> tuple[str, float] | None:
    """The metric of a finished run with its value; None if missing.

    A column of ``metrics.csv`` counts at its best epoch.
    """
    metric = settings.metric
    if record.status != "finished":
        return None
    if metric is None:
        return (record.best["metric"], record.best["value"]) if record.best else None
    found = objective(record, metric, settings.direction)
    return None if found is None else (metric, found)


class Judged(NamedTuple):
    """A finished run, or those of a trial with `sweep.seeds`, with the metric and the value of each."""

    records: list[RunRecord]
    metric: str
    values: list[float]

    @property
    def mean(self) -> float:
        return fmean(self.values)

    def words(self) -> str:
        """``val/loss 0.0724``, or ``val/loss 0.0724 ± 0.0031 over 3 seeds``."""
        n = len(self.values)
        spread = f" ± {number(stdev(self.values))} over {n} seeds" if n > 1 else ""
        return f"{self.metric} {number(self.mean)}{spread}"


def together(records: list[RunRecord], settings: SweepSettings) -> list[list[RunRecord]]:
    """The runs of each trial of a search with `sweep.seeds`; else each run alone."""
    if settings.seeds == 1:
        return [[record] for record in records]
    trials: dict[int, list[RunRecord]] = {}
    for record in records:
        trials.setdefault(number_of(record.path), []).append(record)
    return list(trials.values())


def ranked(records: list[RunRecord], settings: SweepSettings) -> list[Judged]:
    """The finished runs (or trials) with the metric, the best first; leaves out another metric than the first's."""
    judged = []
    for runs in together(records, settings):
        found = [one for record in runs if (one := value(record, settings))]
        if len(found) == settings.seeds and len({metric for metric, _ in found}) == 1:
            judged.append(Judged(runs, found[0][0], [v for _, v in found]))
    judged = [one for one in judged if one.metric == judged[0].metric]
    sign = -1 if judged and maximized(judged[0].metric, judged[0].records[0], settings.direction) else 1
    return sorted(judged, key=lambda one: sign * one.mean)


def keep_best(folder: Path, settings: SweepSettings) -> list[RunRecord]:
    """Removes the checkpoints of finished runs that are not among the `sweep.keep_checkpoints` best.

    Returns:
        runs whose checkpoints stay, since a link leads out of the sweep.
    """
    if settings.keep_checkpoints == "all":
        return []
    finished = [record for record in find_runs([folder]) if record.status in ("finished", "diverged")]
    beyond = [record for one in ranked(finished, settings)[settings.keep_checkpoints :] for record in one.records]
    for runs in together(finished, settings):  # a trial that is over before all its seeds are trained
        if any(record.status == "diverged" for record in runs) or (settings.seeds > 1 and any(map(is_pruned, runs))):
            beyond += runs
    return [record for record in beyond if not drop_checkpoints(folder, record.path)]


def write(folder: Path) -> list[RunRecord]:
    """Writes ``sweep.csv``, and ``sweep.png`` if there is something to draw; returns the runs."""
    from trainer.plot.sweep import sweep_picture  # imports matplotlib, which a sweep needs at its end

    records = find_runs([folder])
    write_csv(records, folder / "sweep.csv")
    picture = sweep_picture(records, asked(folder)["swept"])
    if picture is not None:
        write_whole(folder / "sweep.png", picture, shared=True)
    return records


def show_all(folder: Path) -> None:
    """Writes the table and the picture, and prints the results so far.

    Raises:
        Refused: no sweep, or files that cannot be written.
    """
    node = asked(folder)["config"]["sweep"]
    trust.check(folder / ASKED, "sweep", node)
    records = write(folder)
    tell(*closing_lines(folder, records, build("sweep", node)))


def closing_lines(folder: Path, records: list[RunRecord], settings: SweepSettings) -> list[str]:
    """The last lines of a sweep: jobs by state, failed jobs with reasons, the best, the files."""
    counts = Counter(record.status for record in records)
    lines = [f"{'jobs':<11} " + ", ".join(f"{n} {status}" for status, n in counts.most_common())]
    for record in records:
        if record.error and record.status != "diverged":
            lines.append(f"{record.status:<11} {record.name}: {record.error}")
    without = [record for record in records if record.status == "finished" and value(record, settings) is None]
    if without:
        metrics = dict.fromkeys(
            settings.metric or (record.best or {}).get("metric", "the monitor") for record in without
        )
        lines.append(
            f"{'unranked':<11} {listed([record.name for record in without])}: {', '.join(metrics)} is not a number"
        )
    if best := ranked(records, settings)[:1]:
        first, *others = best[0].records
        more = f" and {len(others)} more" if others else ""
        lines.append(f"{'best':<11} {best[0].words()}: {shown(first.path)}{more}")
    files = [shown(folder / name) for name in ("sweep.csv", "sweep.png") if (folder / name).exists()]
    return [
        *lines,
        f"{'written':<11} {', '.join(files)}",
        f"{'all':<11} python -m trainer runs {shlex.quote(shown(folder))}",
    ]
