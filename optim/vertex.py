"""The vertex v = lmo(m) of a step, and the step towards it: the one hot path of all methods."""

from __future__ import annotations

import torch
from torch import Tensor

from optim.sets import ConstraintSet
from optim.sets.precision import fast_l2_norm, l2_norm

LARGE = 2**14  # entries from which a new tensor costs more than what is computed


class Vertex:
    """lmo(m), and what a step of x does with it.

    Args:
        C: the set.
        m: the direction.
        x: the parameter that is to move.
        scratch: of :class:`Scratch`; memory for v.
    """

    def __init__(self, C: ConstraintSet, m: Tensor, x: Tensor, scratch: Scratch):
        self.C, self.m, self.x = C, m, x
        out = scratch.like(m) if C.takes_out else None
        self.v = C.lmo(m) if out is None else C.lmo(m, out=out)  # type: ignore[call-arg]  # C.takes_out
        self.difference: Tensor | None = None  # v - x, if it was asked for

    def to_go(self) -> Tensor:
        """v - x."""
        if self.difference is None:
            self.difference = self.v.sub_(self.x)  # v is ours, and not needed any more
        return self.difference

    def pull(self, gamma: float | Tensor) -> None:
        """x = x + gamma (v - x), in place."""
        if self.difference is None:
            self.x.lerp_(self.v, gamma)
        elif isinstance(gamma, Tensor):
            self.x.addcmul_(self.difference, gamma)
        else:
            self.x.add_(self.difference, alpha=gamma)


class Scratch:
    """Memory that an optimizer writes large vertices to, on the CPU.

    The C library hands large blocks back to the system and asks for them again, which costs several times the step.
    """

    def __init__(self) -> None:
        self.memory: dict[torch.dtype, Tensor] = {}

    def like(self, m: Tensor) -> Tensor | None:
        """A tensor like m, in use until the next call; None if a new one is as fast."""
        if m.device.type != "cpu" or m.numel() < LARGE or not m.is_contiguous() or torch.compiler.is_compiling():
            return None
        memory = self.memory.get(m.dtype)
        if memory is None or memory.numel() < m.numel():
            memory = self.memory[m.dtype] = torch.empty(m.numel(), dtype=m.dtype)
        return memory[: m.numel()].view_as(m)


def norm(x: Tensor) -> Tensor:
    """||x||_2, 0-d, for a rate: a square that overflows makes it infinite, and the rate is clipped."""
    return fast_l2_norm(x) if x.device.type == "cpu" and x.numel() > LARGE and x.is_contiguous() else l2_norm(x)
