"""The results of a sweep: ``sweep.csv``, ``sweep.png``, the best job, failed jobs with reasons."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

from trainer.cli.display import listed, number, tell
from trainer.rundir import trust
from trainer.rundir.files import write_whole
from trainer.rundir.records import maximized, objective
from trainer.rundir.run_dir import shown
from trainer.runs import RunRecord, find_runs
from trainer.runs.sweep import write_csv
from trainer.sweep.folder import ASKED, asked, drop_checkpoints
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


def ranked(records: list[RunRecord], settings: SweepSettings) -> list[tuple[RunRecord, str, float]]:
    """The finished runs with the metric, the best first; leaves out runs with another metric than the first."""
    judged = [(record, *found) for record in records if (found := value(record, settings))]
    judged = [one for one in judged if one[1] == judged[0][1]]
    sign = -1 if judged and maximized(judged[0][1], judged[0][0], settings.direction) else 1
    return sorted(judged, key=lambda one: sign * one[2])


def keep_best(folder: Path, settings: SweepSettings) -> list[RunRecord]:
    """Removes the checkpoints of finished runs that are not among the `sweep.keep_checkpoints` best.

    Returns:
        runs whose checkpoints stay, since a link leads out of the sweep.
    """
    if settings.keep_checkpoints == "all":
        return []
    finished = [record for record in find_runs([folder]) if record.status in ("finished", "diverged")]
    beyond = [record for record, *_ in ranked(finished, settings)[settings.keep_checkpoints :]]
    beyond += [record for record in finished if record.status == "diverged"]
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
        [(record, metric, found)] = best
        lines.append(f"{'best':<11} {metric} {number(found)}: {shown(record.path)}")
    files = [shown(folder / name) for name in ("sweep.csv", "sweep.png") if (folder / name).exists()]
    return [
        *lines,
        f"{'written':<11} {', '.join(files)}",
        f"{'all':<11} python -m trainer runs {shlex.quote(shown(folder))}",
    ]
