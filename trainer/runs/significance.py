"""Significance of the difference of two settings over several seeds: t-tests with one value per seed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

FEW = 5  # with fewer seeds a test sees only large differences
RARE = 0.05

Values = Mapping[object, float]  # seed -> value


@dataclass(frozen=True)
class Test:
    """A two-sided t-test of the means of B and A; `p` is None if no test is possible, and `why` is the reason."""

    kind: str  # paired | welch | none
    n: tuple[int, int]  # seeds of A and B that it used
    p: float | None
    why: str = ""

    @property
    def method(self) -> str:
        """The kind of test, in words."""
        if self.kind == "paired":
            return f"paired t-test over the {self.n[0]} seeds that both have"
        return f"Welch's t-test of {self.n[0]} and {self.n[1]} seeds"

    @property
    def verdict(self) -> str:
        """The meaning of p, in words."""
        if self.p is None:
            return self.why
        p = "p < 0.0001" if self.p < 1e-4 else f"p = {self.p:.2g}"
        is_rare, few = self.p < RARE, min(self.n) < FEW
        if is_rare:
            meaning = "chance alone would rarely make a difference this large"
        else:
            meaning = "chance alone would often make a difference this large"
        if few:
            meaning += f"; {min(self.n)} seeds are few" + ("" if is_rare else ": only large differences are visible")
        return f"{p} ({self.method}): {meaning}"


def compare(a: Values, b: Values) -> Test:
    """Student's t-test of the differences if each seed of the smaller group is in the other, else Welch's (1947)."""
    smaller, larger = sorted((a, b), key=len)
    common = [seed for seed in smaller if seed in larger]
    if len(smaller) < 2:
        n = (len(a), len(b))
        return Test(
            "none",
            n,
            None,
            f"no significance test: it needs two seeds on each side; there are {n[0]} and {n[1]}",
        )
    if len(common) == len(smaller):
        differences = [b[seed] - a[seed] for seed in common]
        n = (len(common), len(common))
        if _is_constant(differences):
            by = "nothing" if differences[0] == 0 else f"the same {differences[0]:.4g}"
            return Test("paired", n, None, f"no significance test: A and B differ by {by} with each of {n[0]} seeds")
        from scipy import stats

        return Test("paired", n, float(stats.ttest_1samp(differences, 0.0).pvalue))
    n, values = (len(a), len(b)), (list(a.values()), list(b.values()))
    if all(map(_is_constant, values)):
        return Test("welch", n, None, "no significance test: the values are equal for all seeds")
    from scipy import stats

    return Test("welch", n, float(stats.ttest_ind(*values, equal_var=False).pvalue))


def _is_constant(values: list[float]) -> bool:
    """Whether values vary only by rounding, which a test would take as certainty."""
    scale = max(map(abs, values))
    return not math.isfinite(scale) or statistics.pstdev(values) <= 1e-12 * scale
