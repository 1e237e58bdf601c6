"""Means over repeated runs: ``--group-by optim.lr --over seed``."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.rundir.errors import Refused
from trainer.rundir.records import RunRecord, canonical, differing
from trainer.runs.columns import Row, missing, row


@dataclass(frozen=True)
class Mean:
    """Mean and sample standard deviation (n - 1; None for a single run) of n runs."""

    mean: float
    sd: float | None
    n: int


@dataclass
class Groups:
    """One row per group: its shared values, ``n``, and a :class:`Mean` per metric; `left_out` in words."""

    rows: list[Row]
    left_out: str
    repeated: int  # runs with the same configuration as another one of the group


def mean(values: Sequence[float]) -> Mean:
    """The mean of one or more values."""
    return Mean(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))


def grouped(records: Sequence[RunRecord], keys: Sequence[str], over: Sequence[str], metrics: Sequence[str]) -> Groups:
    """Means of the finished runs that share the keys and differ only in `over`.

    Raises:
        Refused: runs of a group differ in another key, or a metric is no number.
    """
    members: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in records:
        if record.config:
            columns = row(record)
            members.setdefault(tuple(canonical(columns.get(key)) for key in keys), []).append(record)
    for same in members.values():
        covered = tuple(f"{key}." for key in over)  # averaging over a choice includes its keys
        other = [key for key in differing(same) if key not in (*keys, *over) and not key.startswith(covered)]
        if other:
            raise Refused(
                f"--group-by={','.join(keys)}: runs of a group also differ in {', '.join(other)}, not only in "
                f"{', '.join(over)}; name it in --group-by or --over, or choose runs with --where"
            )
    rows = [_group(same, keys, metrics) for same in members.values()]
    finished = [[_configuration(r) for r in same if r.status == "finished"] for same in members.values()]
    repeated = sum(len(configurations) - len(set(configurations)) for configurations in finished)
    left = Counter(record.status for record in records if record.status != "finished")
    return Groups(rows, ", ".join(f"{n} {status}" for status, n in sorted(left.items())), repeated)


def _configuration(record: RunRecord) -> str:
    return canonical([canonical(item) for item in sorted(record.config.items())])


def _group(same: Sequence[RunRecord], keys: Sequence[str], metrics: Sequence[str]) -> Row:
    """The row of runs with equal keys."""
    rows = [row(record) for record in same if record.status == "finished"]
    shared = row(same[0])
    result: Row = {key: shared[key] for key in keys if key in shared} | {"n": len(rows)}
    for metric in metrics:
        values = [r[metric] for r in rows if not missing(r.get(metric))]
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
            raise Refused(f"--columns={metric}: only numbers have a mean, and a value is {values[0]!r}")
        if values:
            result[metric] = mean(values)
    return result
