"""What a conditional gradient run measures: sampled in some steps, and read from the parameters when asked for.

``fw_gap``          the Frank-Wolfe gap <g, x - lmo(g)> of the stochastic gradient, mean over the sampled steps
``step_norm``       ||x_{t+1} - x_t||_2, mean over the sampled steps
``boundary``        how much of the parameters is at their set's boundary (``ConstraintSet.boundary``), now
``sparsity``        share of entries with |x_i| <= 1e-3 of the parameter's largest, now
``effective_rank``  of those parameters whose set is one of matrices, now

Totals: gaps add up (the product of the sets has the sum of their gaps), steps as the root of the sum of squares, shares
by entries, ranks as their mean.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from optim.constrained import Held
from optim.sets import ConstraintSet
from optim.sets.precision import double, share
from optim.vertex import Vertex, norm

KEY = "measured"  # in the optimizer's `state`, so that a state dict carries it
Each = list[Tensor | None]  # an entry for each parameter, None if it was not measured
# For each parameter: steps, those that were sampled, the sums of their gaps and of their lengths. Shorter lists have
# nothing of the parameters that they lack.
Sums = tuple[list[int], list[int], Each, Each]
NOTHING: Sums = ([], [], [], [])


class Sample:
    """The gaps and lengths of one step; `due` says which of the parameters are measured in it."""

    def __init__(self, due: list[bool]):
        self.due = due
        self.gaps: Each = [None] * len(due)
        self.lengths: Each = [None] * len(due)

    def toward(self, i: int, v: Vertex, gamma: float | Tensor, g: Tensor) -> None:
        """The i-th parameter x, of gradient g, is about to go the share gamma of the way to v."""
        if not self.due[i]:
            return
        self.gaps[i] = -torch.sum(g * v.to_go()) if v.m is g else v.C.gap(g, v.x)
        self.lengths[i] = norm(v.to_go()) * gamma

    def toward_parts(self, places: list[int], sizes: list[int], v: Vertex, gamma: float | Tensor, g: Tensor) -> None:
        """As :meth:`toward` for the parameters whose entries make up one vector; their gaps add up to its gap."""
        if not any(self.due[i] for i in places):
            return
        step = v.to_go()
        gaps = -g * step if v.m is g else g * (v.x - v.C.lmo(g))
        for i, gap, length in zip(places, gaps.split(sizes), step.split(sizes), strict=True):
            if self.due[i]:
                self.gaps[i], self.lengths[i] = gap.sum(), norm(length) * gamma

    def to(self, i: int, x: Tensor, y: Tensor, g: Tensor, C: ConstraintSet) -> None:
        """The i-th parameter x, of gradient g, is about to go to y."""
        if not self.due[i]:
            return
        self.gaps[i], self.lengths[i] = C.gap(g, x), norm(y - x)


def counted(sums: Sums, moved: list[int], sample: Sample | None, n: int) -> Sums:
    """With one step more of the `moved` among `n` parameters. New lists: a saved state dict must not change."""
    steps, counts, gaps, lengths = sums
    steps = steps + [0] * (n - len(steps))
    for i in moved:
        steps[i] += 1
    if sample is None:
        return steps, counts, gaps, lengths
    counts = counts + [0] * (n - len(counts))
    for i, gap in enumerate(sample.gaps):
        counts[i] += gap is not None
    return steps, counts, added(gaps, sample.gaps), added(lengths, sample.lengths)


def due(sums: Sums, every: int, n: int) -> list[bool]:
    """Which of `n` parameters are measured in their next step: every so many steps, from their first on."""
    steps = sums[0]
    return [k % every == 0 for k in steps] + [True] * (n - len(steps))


def due_within(ahead: int, sums: Sums, every: int) -> bool:
    """Whether one of the parameters that move is measured in one of its next steps, `ahead` of them."""
    moving = [k for k in sums[0] if k]
    return not moving or any(-k % every < ahead for k in moving)


def loaded(sums: Any, device: torch.device, n: int) -> Sums:
    """The sums of a state dict, of `n` parameters on `device`; earlier versions had one count for all."""
    steps, counts, *each = sums
    if isinstance(steps, int):
        steps, counts = [steps] * n, [counts] * n
    gaps, lengths = ([None if x is None else x.to(device) for x in total or []] for total in each)
    return steps, counts, gaps, lengths


def row(x: Tensor, held: Held, names: tuple[str, ...], i: int, sums: Sums) -> dict[str, Any]:
    """The numbers of the i-th parameter x: means over the sampled steps, and those that depend on x alone."""
    _, counts, gaps, lengths = sums
    assert held.constraint is not None
    nan = torch.full((), torch.nan, device=x.device)
    known: dict[str, Any] = {"parameter": held.name, "set": type(held.constraint).__name__} | dict.fromkeys(names, nan)
    if "fw_gap" in names:
        known |= {"fw_gap": mean(gaps, i, counts, nan), "step_norm": mean(lengths, i, counts, nan)}
    return known | {"sparsity": sparse_share(x)} | held.constraint.measured(x)


def totals(names: tuple[str, ...], rows: list[dict[str, Any]], entries: list[int]) -> dict[str, Tensor]:
    """The totals of rows, one a parameter with its number of entries; parameters without a number do not count."""
    if not rows:
        return {name: torch.tensor(torch.nan) for name in names}
    total = {}
    for name in names:
        values = torch.stack([double(row[name]) for row in rows])
        if name in ("boundary", "sparsity"):
            weights = torch.tensor(entries, dtype=values.dtype, device=values.device)
            total[name] = (values * weights).sum() / weights.sum()
        elif name == "effective_rank":
            total[name] = values.nanmean()
        else:
            total[name] = values.square().nansum().sqrt() if name == "step_norm" else values.nansum()
            total[name] = torch.where(values.isnan().all(), torch.nan, total[name])
    return total


def sparse_share(x: Tensor) -> Tensor:
    """Share of the entries with |x_i| <= 1e-3 of the largest, 0-d; NaN where x is not finite."""
    largest = (a := x.abs()).amax()
    return share(a <= 1e-3 * largest) + 0 * largest


def mean(totals: Each, i: int, counts: list[int], nan: Tensor) -> Tensor:
    """The i-th total over its number of steps; NaN if missing."""
    total = totals[i] if i < len(totals) else None
    return nan if total is None else total / counts[i]


def added(totals: Each, values: Each) -> Each:
    """Sums, entry by entry; None counts as 0."""
    pairs = itertools.zip_longest(totals, values)  # longer, once a group was added
    return [b if a is None else a if b is None else a + b for a, b in pairs]
