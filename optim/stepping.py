"""The frame of a step of our own optimizers, which is torch's: the closure first, if there is one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from optim.lean import Lean


class Stepping(Lean):
    """A base whose subclasses say in :meth:`advance` how the parameters move."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One step for every parameter that has a gradient; returns the closure's loss, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.advance()
        return loss

    def advance(self) -> None:
        """The step itself, from the gradients that are there."""
        raise NotImplementedError
