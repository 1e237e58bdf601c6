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

from optim.constrained import Constrained
from optim.sets import ConstraintSet
from optim.sets.precision import double, share
from optim.vertex import Vertex, norm

KEY = "measured"  # in the optimizer's `state`, so that a state dict carries it


class Measurements:
    """The gaps and the lengths of one step, one entry for each parameter, None if it was not measured.

    Args:
        due: whether this step is measured.
        place: parameter -> the number of its entry.
    """

    def __init__(self, due: bool, place: dict[Tensor, int]):
        self.is_due, self.place = due, place
        self.gaps: list[Tensor | None] = [None] * len(place) if due else []
        self.lengths: list[Tensor | None] = [None] * len(place) if due else []

    @classmethod
    def due(cls, optimizer: Constrained) -> Measurements:
        """Of the step that begins."""
        if optimizer.gap_every == 0:  # then the state is not even read, for which torch would compile each step anew
            return cls(False, {})
        return cls(optimizer.state.get(KEY, (0,))[0] % optimizer.gap_every == 0, optimizer.place)

    def toward(self, v: Vertex, gamma: float | Tensor, g: Tensor, C: ConstraintSet) -> None:
        """A parameter x is about to go the share gamma of the way to v."""
        if self.is_due:
            i = self.place[v.x]
            self.gaps[i] = -torch.sum(g * v.to_go()) if v.m is g else C.gap(g, v.x)
            self.lengths[i] = norm(v.to_go()) * gamma

    def moved(self, x: Tensor, before: Tensor, g: Tensor, C: ConstraintSet) -> None:
        """x has moved from `before`."""
        if self.is_due:
            i = self.place[x]
            self.gaps[i], self.lengths[i] = C.gap(g, before), norm(x - before)

    def count(self, optimizer: Constrained) -> None:
        """Adds the step, and what was measured in it. A new tuple: a saved state dict must not change with it."""
        if optimizer.gap_every == 0:
            return
        steps, count, gaps, lengths = optimizer.state.get(KEY, (0, 0, None, None))
        if self.is_due:
            count += 1
            gaps, lengths = added(gaps, self.gaps), added(lengths, self.lengths)
        optimizer.state[KEY] = (steps + 1, count, gaps, lengths)

    @staticmethod
    def to(optimizer: Constrained, device: torch.device) -> None:
        """Moves what was measured to the parameters' device, where a loaded state may not be."""
        steps, count, *sums = optimizer.state.get(KEY, (0, 0, None, None))
        moved = [None if total is None else [None if n is None else n.to(device) for n in total] for total in sums]
        optimizer.state[KEY] = (steps, count, *moved)

    @staticmethod
    @torch.no_grad()
    def pop(optimizer: Constrained) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
        """Totals, and a row for each parameter that a set holds."""
        _, count, gaps, lengths = optimizer.state.get(KEY, (0, 0, None, None))
        optimizer.state[KEY] = (0, 0, None, None)
        pairs = ((x, optimizer.place[x]) for group in optimizer.param_groups for x in group["params"])
        measured = [(x, i) for x, i in pairs if optimizer.held[i].constraint is not None]
        rows: list[dict[str, Any]] = []
        for x, i in measured:
            held = optimizer.held[i]
            nan = torch.full((), torch.nan, device=x.device)
            row: dict[str, Any] = {"parameter": held.name, "set": type(held.constraint).__name__}
            row |= dict.fromkeys(optimizer.measures, nan)
            if optimizer.gap_every:
                row |= {"fw_gap": mean(gaps, i, count, nan), "step_norm": mean(lengths, i, count, nan)}
            row |= {"sparsity": sparse_share(x)} | held.constraint.measured(x)
            rows.append(row)
        return totals(optimizer.measures, rows, [x.numel() for x, _ in measured]), rows


def totals(names: tuple[str, ...], rows: list[dict[str, Any]], entries: list[int]) -> dict[str, Tensor]:
    """Of rows of parameters with so many entries each; parameters without a number do not count."""
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


def mean(totals: list[Tensor | None] | None, i: int, count: int, nan: Tensor) -> Tensor:
    """The i-th total over `count` steps; NaN where there is none."""
    return totals[i] / count if totals and i < len(totals) and totals[i] is not None else nan


def added(totals: list[Tensor | None] | None, values: list[Tensor | None]) -> list[Tensor | None]:
    """Sums, entry by entry; None is nothing."""
    if totals is None:
        return values
    pairs = itertools.zip_longest(totals, values)  # longer, once a group was added
    return [b if a is None else a if b is None else a + b for a, b in pairs]
