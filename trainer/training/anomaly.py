"""``train.anomaly=true``: which layer made the first NaN or infinity, in which step.

It checks each layer's output, then the gradients, then the weights after the step. The host waits for the device each
time, so it is slow.
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
    """Checks the output of every layer of a model.

    Args:
        model: its innermost modules are checked, in the order of the forward pass.
        gradients: whether to check gradients, too; those of fp16 overflow by design.
    """

    def __init__(self, model: nn.Module, *, gradients: bool = True):
        self.model, self.gradients = model, gradients
        self.step = 1  # the current one
        self.used: dict[str, int] = {}  # layer -> its place in the order of the first forward pass

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        """Inside, every layer's output is checked."""
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
        """Checks the loss after a forward pass.

        Raises:
            NotFinite: the loss is NaN or infinite although every output was finite.
        """
        if not finite(loss.detach()):
            raise NotFinite(f"the loss is NaN or infinite although all outputs are finite, step {self.step}")

    def check_gradients(self) -> None:
        """Checks the gradients after a backward pass, from the layer nearest to the loss.

        Raises:
            NotFinite: a gradient is NaN or infinite.
        """
        bad = [name for name, p in self.model.named_parameters() if p.grad is not None and not finite(p.grad)]
        if bad and self.gradients:
            first = max(bad, key=lambda name: self.used.get(name.rpartition(".")[0], -1))
            raise NotFinite(
                f"the gradient of {first} is NaN or infinite, the first in the backward pass, step {self.step}"
            )

    def check_weights(self) -> None:
        """Checks the weights after an optimizer's step.

        Raises:
            NotFinite: a weight is NaN or infinite.
        """
        for name, p in self.model.named_parameters():
            if not finite(p.detach()):
                raise NotFinite(f"the optimizer made {name} NaN or infinite, step {self.step}")


def finite(x: Tensor) -> bool:
    """Whether all entries are finite; integers always are."""
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
