"""torch's optimizers without its compiler, whose import takes a third of a short run.

Each of torch's methods for groups, states and gradients is wrapped to stay out of a compiled graph, and its steps to
break one; the wrappers import ``torch._dynamo`` (1 to 2 s) at the first call, whether or not anything is compiled. Here
are the same methods as they are inside. Run: ``python -m bench startup``
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch


class Lean(torch.optim.Optimizer):
    """A base that stands before one of torch's optimizers: ``class SGD(Lean, torch.optim.SGD)``, or alone."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


def lean_step(torchs: type[torch.optim.Optimizer]) -> Callable[..., Any]:
    """The step of one of torch's optimizers as it is inside; hooks run around it, as around every optimizer's step."""
    return torch.no_grad()(inspect.unwrap(torchs.step))
