"""The start of a search: the corners of its space are composed and built, to find mistakes before the first run."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.cli.display import loading_progress, tell
from trainer.rundir.errors import Refused
from trainer.sweep.check import survey
from trainer.sweep.grid import Composer
from trainer.sweep.plan import SEED, Plan, compose_bases
from trainer.sweep.space import Dimension, corners, every_combination
from trainer.sweep.sweep import Sweep


def make_plan(sweep: Sweep, dimensions: list[Dimension], constants: list[str]) -> Plan:
    """Composes and builds the corners of the space, to find mistakes before the first run.

    Raises:
        Refused: none of them can run, or they have different metrics.
    """
    if sweep.settings.seeds > 1 and any(d.key == SEED for d in dimensions):
        raise Refused(f"sweep.seeds={sweep.settings.seeds}: the search chooses {SEED}; leave one of them out")
    sweep.pool.warm()
    composer = Composer(sweep.context.config_loader, sweep.config)
    bases = compose_bases(composer, dimensions, constants)
    jobs, found, good = [], [], []
    bad: dict[tuple[str, ...], str] = {}
    points = corners(dimensions)
    for point in points:
        try:
            jobs.append(composer.job([*constants, *point], point))
        except Refused as error:
            bad[point] = str(error)
    with (
        loading_progress(lambda: None) as progress,
        sweep.pool.asking(survey, [job.config for job in jobs], sweep.settings.metric) as answers,
    ):
        for i, job in enumerate(jobs):
            line, measure = next(answers)
            progress("checking the corners", i + 1, len(jobs))
            if line is None:
                found.append(measure)
                good.append(job)
            else:
                bad[job.swept] = line
    refuse_corners(dimensions, points, bad)
    if len(set(found)) > 1:
        named = ", ".join(f"{metric} {'maximized' if up else 'minimized'}" for metric, up in sorted(set(found)))
        raise Refused(f"sweep.metric=null: the runs have different metrics ({named}); give one")
    metric, maximize = found[0]
    if sweep.settings.direction != "auto":
        maximize = sweep.settings.direction == "maximize"
    keys = {d.key for d in dimensions if d.choices}
    suspects = [[o for o in point if o.partition("=")[0] in keys] for point in bad]
    epochs = max(job.config["train"]["epochs"] for job in good)
    return Plan(dimensions, constants, metric, maximize, epochs, suspects, bases, sweep.settings.seeds)


def refuse_corners(
    dimensions: Sequence[Dimension], points: Sequence[tuple[str, ...]], bad: dict[tuple[str, ...], str]
) -> None:
    """Prints which corners cannot run.

    Raises:
        Refused: none can run, or none with one of the choices.
    """
    if len(bad) == len(points):
        raise Refused(bad[points[0]])
    if every_combination(dimensions):
        for choice in (d.override(c) for d in dimensions for c in d.choices):
            lines = [bad.get(point) for point in points if choice in point]
            if None not in lines:
                raise Refused(f"{lines[0]} (no run can have {choice})")
    seen: set[tuple[str, str]] = set()
    for point, line in bad.items():
        what = line.partition("=")[0], line.partition(": ")[2]  # once, whatever the numbers
        if what not in seen:
            tell(f"note        {','.join(point)} cannot run: {line}")
        seen.add(what)
