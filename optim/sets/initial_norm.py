"""Norms of initial weights, of which a set's ``init_factor`` is a multiple."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from optim.sets.precision import double


def initial_norm(x: Tensor) -> float:
    """The mean initial Euclidean norm of a parameter; 1 where that is 0."""
    noted = getattr(x, "initial_norm", None)
    return (double(x.detach()).norm().item() if noted is None else noted) or 1.0


@torch.no_grad()
def note_initial_norms(
    network: torch.nn.Module, make: Any, repetitions: int = 10, *, loaded: Mapping[str, float] = MappingProxyType({})
) -> None:
    """Notes on each parameter of `network` its mean norm over several initializations, for `init_factor`.

    Args:
        make: a function without arguments that makes such a network anew; the random state is restored afterwards.
        loaded: the norms of parameters that were not drawn, by name: noted as they are.
    """
    with torch.random.fork_rng(devices=()):
        again = [dict(make().named_parameters()) for _ in range(repetitions)]
    for name, x in network.named_parameters():
        drawn = sum(double(other[name].detach()).norm().item() for other in again) / repetitions
        x.initial_norm = loaded.get(name, drawn)  # type: ignore[attr-defined]  # ours, beside what torch keeps of a parameter
