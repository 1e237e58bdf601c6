"""``train.anomaly=true``: which layer made the first NaN or infinity, in which step.

Each layer's output is looked at as it appears, then the gradients, then the weights after the step. The host waits for
the device each time: for a run that is to be understood, not for one that is to be fast.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class NotFinite(Exception):
    """A NaN or an infinity; the text says where it came from."""


class Watch:
    """Looks at what every layer of a model makes.

    Args:
        model: its innermost modules are watched, in the order in which they compute.
        gradients: whether to look at gradients, too; those of fp16 overflow by design.
    """

    def __init__(self, model: nn.Module, *, gradients: bool = True):
        self.model, self.gradients = model, gradients
        self.step = 1  # the one under way
        self.used: dict[str, int] = {}  # layer -> its place in the order of the first forward pass

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """While entered, every layer's output is looked at."""
        leaves = [(n, m) for n, m in self.model.named_modules() if not any(True for _ in m.children())]
        hooks = [module.register_forward_hook(self._hook(name, module)) for name, module in leaves]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _hook(self, name: str, module: nn.Module) -> Any:
        called = f"{name} ({type(module).__name__})" if name else type(module).__name__

        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            self.used[name] = len(self.used) if name not in self.used else self.used[name]
            if not all(finite(x) for x in tensors(output)):
                came_in = not all(finite(x) for x in tensors(inputs))
                kind = "was given a NaN or an infinity" if came_in else "made the first NaN or infinity"
                raise NotFinite(f"{called} {kind}, step {self.step}")

        return look

    def check_loss(self, loss: Tensor) -> None:
        """After a forward pass.

        Raises:
            NotFinite: the loss is none, though every output was.
        """
        if not finite(loss.detach()):
            raise NotFinite(f"the loss is NaN or infinite, of outputs that are finite, step {self.step}")

    def check_gradients(self) -> None:
        """After a backward pass: the layer nearest to the loss whose gradient is not finite is the first.

        Raises:
            NotFinite: there is one.
        """
        bad = [name for name, p in self.model.named_parameters() if p.grad is not None and not finite(p.grad)]
        if bad and self.gradients:
            first = max(bad, key=lambda name: self.used.get(name.rpartition(".")[0], -1))
            raise NotFinite(f"the gradient of {first} is NaN or infinite, the first on the way back, step {self.step}")

    def check_weights(self) -> None:
        """After an optimizer's step.

        Raises:
            NotFinite: it made a weight NaN or infinite.
        """
        for name, p in self.model.named_parameters():
            if not finite(p.detach()):
                raise NotFinite(f"the optimizer made {name} NaN or infinite, step {self.step}")


def finite(x: Tensor) -> bool:
    """Whether no entry is NaN or infinite; whole numbers are."""
    return not x.is_floating_point() or bool(torch.isfinite(x).all())


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in an output: a tensor, or tuples, lists and mappings of them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors(part)
