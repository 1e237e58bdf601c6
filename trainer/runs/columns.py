"""A run as a row of a table: names, values and order of columns."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Iterable, Sequence
from typing import Any

from trainer.rundir.errors import Refused
from trainer.rundir.records import RunRecord, differing, natural

Row = dict[str, Any]  # column -> value, without missing values

FACTS = ("epochs", "steps", "seconds", "parameters", "device", "threads", "stopped")  # of summary.json
RUN = ("path", "name", "status", "error")
BEST = ("best/metric", "best/value", "best/epoch", "best/mode")


def row(record: RunRecord) -> Row:
    """A run as a row, with the columns of :func:`known`."""
    columns: Row = {"path": str(record.path), "name": record.name, "status": record.status, "error": record.error}
    columns |= record.config
    if record.best:
        columns |= {name: record.best.get(name[5:]) for name in BEST}
    columns |= {f"final/{name}": value for name, value in record.final.items()}
    columns |= {f"test/{name}": value for name, value in record.test.items()}
    columns |= {name: record.summary[name] for name in FACTS if name in record.summary}
    return {name: v for name, v in columns.items() if v is not None or name in record.config}


def known(records: Sequence[RunRecord]) -> list[str]:
    """All columns of the runs: name and status, configuration, best, final, test, facts."""
    kinds = (
        RUN,
        (key for record in records for key in record.config),
        BEST,
        (f"final/{name}" for record in records for name in record.final),
        (f"test/{name}" for record in records for name in record.test),
        FACTS,
    )
    return list(dict.fromkeys(name for kind in kinds for name in kind))


FIRST = ("optim", "constraint", "optim.lr", "constraint.radius", "seed")  # what comparisons are about


def by_importance(keys: Sequence[str], records: Sequence[RunRecord]) -> list[str]:
    """Differing keys, the most telling first: FIRST, then swept ones, then those that came along."""
    swept = {key for record in records for key in record.swept}
    return sorted(keys, key=lambda key: FIRST.index(key) if key in FIRST else len(FIRST) + (key not in swept))


def tests(records: Sequence[RunRecord]) -> list[str]:
    """The columns of the main test metric: of each run the first besides its loss."""
    first = (next((name for name in r.test if name != "loss"), "loss") for r in records if r.test)
    return [f"test/{name}" for name in dict.fromkeys(first)]


def ending(name: str, among: Iterable[str]) -> list[str]:
    """The full names that end in a typed one: ``lr`` is the end of ``optim.lr``, ``fw_gap`` of ``optim/fw_gap``."""
    return [full for full in among if full.endswith((f".{name}", f"/{name}"))]


def only(name: str, found: Sequence[str], option: str, unknown: str) -> str:
    """The single full name of a typed one.

    Raises:
        Refused: several, or none; then with the line `unknown`.
    """
    if len(found) == 1:
        return found[0]
    several = f"{name} could be {', '.join(found)}; say which"
    raise Refused(f"{option}: {several if found else unknown}")


def full_name(name: str, among: Sequence[str], option: str, unknown: str) -> str:
    """The typed name if it is a full one, else the only one that ends in it."""
    return name if name in among else only(name, ending(name, among), option, did_you_mean(name, among) + unknown)


def did_you_mean(name: str, among: Iterable[str]) -> str:
    """A question about the nearest name, or about the last one whose last part is near; empty if there is none."""
    ends = {re.split(r"[./]", full)[-1]: full for full in among}
    close = difflib.get_close_matches(name, among, n=1, cutoff=0.7)
    close = close or [ends[end] for end in difflib.get_close_matches(name, ends, n=1, cutoff=0.75)]
    return f"did you mean {close[0]}? " if close else ""


class Names:
    """Finds columns by a typed name: a full name, ``best``, ``test``, or the unambiguous end of a name."""

    def __init__(self, records: Sequence[RunRecord]):
        self.records, self.known = records, known(records)
        self.keys = {key for record in records for key in record.config}

    def __call__(self, name: str, option: str) -> str:
        """The full name of a column.

        Raises:
            Refused: no column, or several, have this name.
        """
        if name in self.known:
            return name
        if name == "best":
            return "best/value"
        if name == "test":
            return only(name, tests(self.records), option, "no run has been tested")
        ends = ending(name, self.known)
        ends = [full for full in ends if full in self.keys] or ends  # lr is the setting, not the measurement
        return only(name, ends, option, f"no column {name!r}; {self._hint(name)}")

    def _hint(self, name: str) -> str:
        shown = [*differing(self.records), *(column for column in self.known if column not in self.keys)]
        return (
            did_you_mean(name, [*self.known, "best", "test", *self.keys])
            + f"there are {', '.join(shown)}, and every key of the configuration, such as train.epochs"
        )


def sort(rows: list[Row], keys: Sequence[tuple[str, bool]]) -> list[Row]:
    """The rows in the order of their values in the columns, each descending or not; missing values last."""
    for column, descending in reversed(keys):
        there = [(sort_key(r[column]), r) for r in rows if not missing(r.get(column))]
        there.sort(key=operator.itemgetter(0), reverse=descending)
        rows = [r for _, r in there] + [r for r in rows if missing(r.get(column))]
    return rows


def missing(value: Any) -> bool:
    """Whether a value is missing or NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def sort_key(value: Any) -> tuple:
    """Numbers by value, texts in natural order, numbers before texts."""
    value = getattr(value, "mean", value)  # in a row of a group
    if isinstance(value, int | float):
        return (0, value, [])
    return (1, 0, natural(str(value)))
