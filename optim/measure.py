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
Sums = tuple[int, int, Each | None, Each | None]  # steps, those that were sampled, the sums of their gaps and lengths
NOTHING: Sums = (0, 0, None, None)


class Sample:
    """The gaps and lengths of one step of `n` parameters."""

    def __init__(self, n: int):
        self.gaps: Each = [None] * n
        self.lengths: Each = [None] * n

    def toward(self, i: int, v: Vertex, gamma: float | Tensor, g: Tensor) -> None:
        """The i-th parameter x, of gradient g, is about to go the share gamma of the way to v."""
        self.gaps[i] = -torch.sum(g * v.to_go()) if v.m is g else v.C.gap(g, v.x)
        self.lengths[i] = norm(v.to_go()) * gamma

    def to(self, i: int, x: Tensor, y: Tensor, g: Tensor, C: ConstraintSet) -> None:
        """The i-th parameter x, of gradient g, is about to go to y."""
        self.gaps[i], self.lengths[i] = C.gap(g, x), norm(y - x)


def counted(sums: Sums, sample: Sample | None) -> Sums:
    """With one step more. A new tuple: a saved state dict must not change with it."""
    steps, count, gaps, lengths = sums
    if sample is None:
        return steps + 1, count, gaps, lengths
    return steps + 1, count + 1, added(gaps, sample.gaps), added(lengths, sample.lengths)


def on(device: torch.device, sums: Sums) -> Sums:
    """The sums on the parameters' device; a loaded state may be on another."""
    steps, count, *each = sums
    gaps, lengths = (total and [None if n is None else n.to(device) for n in total] for total in each)
    return steps, count, gaps, lengths


def row(x: Tensor, held: Held, names: tuple[str, ...], i: int, sums: Sums) -> dict[str, Any]:
    """The numbers of the i-th parameter x: means over the sampled steps, and those that depend on x alone."""
    _, count, gaps, lengths = sums
    assert held.constraint is not None
    nan = torch.full((), torch.nan, device=x.device)
    known: dict[str, Any] = {"parameter": held.name, "set": type(held.constraint).__name__} | dict.fromkeys(names, nan)
    if "fw_gap" in names:
        known |= {"fw_gap": mean(gaps, i, count, nan), "step_norm": mean(lengths, i, count, nan)}
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


def mean(totals: Each | None, i: int, count: int, nan: Tensor) -> Tensor:
    """The i-th total over `count` steps; NaN if missing."""
    total = totals[i] if totals and i < len(totals) else None
    return nan if total is None else total / count


def added(totals: Each | None, values: Each) -> Each:
    """Sums, entry by entry; None counts as 0."""
    if totals is None:
        return values
    pairs = itertools.zip_longest(totals, values)  # longer, once a group was added
    return [b if a is None else a if b is None else a + b for a, b in pairs]
