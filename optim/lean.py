"""torch's optimizers without its compiler, whose import takes a third of a short run.

torch wraps its methods for groups, states and gradients to keep them out of a compiled graph, and steps to break one.
The wrappers import ``torch._dynamo`` (1 to 2 s) at the first call, even if nothing is compiled. This module takes the
methods without the wrappers. Run: ``python -m bench startup``
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import ParamsT


class Lean(torch.optim.Optimizer):
    """A base that stands before one of torch's optimizers: ``class SGD(Lean, torch.optim.SGD)``, or alone."""

    state: defaultdict[Any, Any]  # keys: parameters, and names of what belongs to the optimizer

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


class Stepping(Lean):
    """A base of our own optimizers, in place of one of torch's: subclasses say in :meth:`advance` how x moves."""

    def __init__(self, params: ParamsT, **options: Any):
        super().__init__(params, options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
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
