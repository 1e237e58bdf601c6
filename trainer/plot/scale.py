"""Places and labels of values along an axis.

Swept numbers are often powers of ten: these are equally far apart, with labels such as 1e-3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from trainer.cli.signatures import show

LARGEST = 1e300  # larger numbers have no place on an axis
FEW = 9  # of ticks


@dataclass(frozen=True)
class Scale:
    """The distinct values of one key along an axis, sorted; on a logarithmic scale, by their logarithm."""

    key: str
    values: tuple[Any, ...]
    kind: str  # linear, log or category

    @classmethod
    def of(cls, key: str, values: Iterable[Any]) -> Scale:
        """The scale for the values."""
        distinct = tuple(sorted(set(values), key=order))
        kind = "category" if not numeric(distinct) else "log" if logarithmic(distinct) else "linear"
        return cls(key, distinct, kind)

    def place(self, value: Any) -> float:
        """The place of the value: itself, its logarithm to base ten, or its index among the categories."""
        if self.kind == "category":
            return float(self.values.index(value))
        if self.kind == "linear":
            return float(value)
        return math.log10(value) if value > 0 else self._zero

    @property
    def _zero(self) -> float:
        """The place of zero, which has no logarithm: one step below the least other value."""
        logs = np.log10([v for v in self.values if v > 0])
        return float(logs[0] - np.median(np.diff(logs)))

    def ticks(self) -> tuple[list[float], list[str]]:
        """Places and labels: each value if they are few, else round numbers."""
        if self.kind == "category":
            return [float(i) for i in range(len(self.values))], labels(self.values)
        if len(self.values) <= FEW and self._apart():
            return [self.place(v) for v in self.values], labels(self.values)
        places = [self.place(v) for v in self.values]
        low, high = min(places), max(places)
        if self.kind == "log" and high - low >= 2:
            step = math.ceil((math.floor(high) - math.ceil(low)) / (FEW - 2)) or 1
            powers = list(range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1, step))
            return [float(p) for p in powers], labels([10.0**p for p in powers])

        round_ones = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(
            *((min(self.values), max(self.values)) if self.kind == "log" else (low, high))
        )
        kept = [v for v in round_ones if min(self.values) <= v <= max(self.values)]
        return [self.place(v) for v in kept], labels(kept)

    def _apart(self) -> bool:
        """Whether labels at the values do not overlap."""
        places = [self.place(v) for v in self.values]
        return len(places) < 2 or float(min(np.diff(places))) > (places[-1] - places[0]) / (1.6 * FEW)


def numeric(values: Sequence[Any]) -> bool:
    """Whether there are values and all are finite numbers."""
    return bool(values) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and -LARGEST < v < LARGEST for v in values
    )


def logarithmic(values: Sequence[float]) -> bool:
    """Whether sorted numbers are more evenly spaced by their logarithms; zeros do not count.

    They must span a factor of ten; beyond a factor of ten million they always are. For two numbers only the factor
    decides.
    """
    positive = [v for v in values if v > 0]
    if len(positive) < 2 or min(values) < 0 or positive[-1] / positive[0] < 10 * (1 - 1e-9):
        return False
    if len(positive) == 2 or positive[-1] / positive[0] > 1e7:
        return True

    def unevenness(x: np.ndarray) -> float:
        steps = np.diff(x)
        return float(steps.std() / steps.mean())

    return unevenness(np.log(positive)) < unevenness(np.asarray(positive))


def order(value: Any) -> tuple[int, Any]:
    """A sort key for values of a configuration: null, booleans, numbers, texts."""
    if value is None:
        return 0, 0
    if isinstance(value, bool):
        return 1, value
    is_number = isinstance(value, int) or (isinstance(value, float) and not math.isnan(value))
    return (2, value) if is_number else (3, str(value))


def labels(values: Sequence[Any]) -> list[str]:
    """Labels of values: typed numbers in full, random ones as short as distinguishes them.

    Small numbers are written as 1e-3, and then all numbers below one, too; large ones as 3e5, and then all from 1000.
    """
    numbers = [v for v in values if numeric([v])]
    digits = next((d for d in range(3, 17) if len({f"{v:.{d}g}" for v in numbers}) == len(set(numbers))), 17)
    short = {v: _decimal(v, digits) for v in numbers}
    power = {v: _power(v, digits) for v in numbers}
    huge = any(abs(v) >= 1e5 and len(power[v]) < len(short[v]) for v in numbers)
    tiny = any(0 < abs(v) < 0.01 and len(power[v]) < len(short[v]) for v in numbers)

    def written(value: Any) -> str:
        if value not in short or isinstance(value, bool):
            return show(value) if not isinstance(value, tuple) else f"[{', '.join(labels(value))}]"
        large = huge and abs(value) >= 1000 and len(power[value]) <= len(short[value])
        return power[value] if large or (tiny and 0 < abs(value) < 1) else short[value]

    return [written(v) for v in values]


TYPED = 5  # numbers with at most so many digits were typed: not rounded


def _rounded(value: float, digits: int) -> float:
    exact = value == int(value) if abs(value) < 1e15 else False
    return value if exact or float(f"{value:.{TYPED}g}") == value else float(f"{value:.{digits}g}")


def _decimal(value: float, digits: int) -> str:
    """0.00025"""
    return np.format_float_positional(_rounded(value, digits), trim="-")


def _power(value: float, digits: int) -> str:
    """2.5e-4"""
    mantissa, _, exponent = np.format_float_scientific(_rounded(value, digits), trim="-").partition("e")
    return f"{mantissa}e{int(exponent)}"
