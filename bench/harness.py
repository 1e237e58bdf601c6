"""A B A B …: contestants take turns, the first round is discarded, ratios are taken within a round."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

Work = TypeVar("Work")


def timed(work: Callable[[], object]) -> float:
    """The seconds of a call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleave(
    contestants: dict[str, Work], rounds: int, measure: Callable[[Work], float] = timed
) -> dict[str, list[float]]:
    """The result of `measure` (seconds) for each contestant in each round, after one warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for r in range(rounds + 1):
        for name, work in contestants.items():
            measured = measure(work)
            if r > 0:
                seconds[name].append(measured)
    return seconds


def print_ratios(seconds: dict[str, list[float]], ours: str, unit: str = "s", scale: float = 1.0) -> None:
    """The median of each contestant, and median and quartiles of `ours` against each other one."""
    for name, values in seconds.items():
        print(f"  {name:<44} {statistics.median(values) * scale:9.3f} {unit}")
    for name, values in seconds.items():
        if name != ours:
            ratios = [a / b for a, b in zip(seconds[ours], values, strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            print(f"  {ours} / {name}: {middle:.3f}  (quartiles {low:.3f} to {high:.3f}, {len(ratios)} rounds)")


def print_rates(seconds: dict[str, list[float]], n: int, unit: str, *, invert: bool = False) -> None:
    """The median of `n` a second, or of seconds, with its quartiles."""
    for name, values in seconds.items():
        numbers = values if invert else [n / value for value in values]
        low, middle, high = statistics.quantiles(numbers, n=4)
        digits = ".3f" if invert else ",.0f"
        print(f"  {name:<44} {middle:{digits}} {unit}  (quartiles {low:{digits}} to {high:{digits}})")
