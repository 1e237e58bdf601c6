"""How large a network is: shapes, parameters and multiply-adds of each layer, for one sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerSize:
    """One call of a layer."""

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    trainable: int
    multiply_adds: int
    rounds: int = 1  # that many equal parts of the work wait for each other: the steps of a recurrent layer


def layer_sizes(network: nn.Module, input_shape: tuple[int, ...], *, tokens: bool = False) -> list[LayerSize]:
    """The layers that one sample goes through, in their order.

    A layer that is called again has no parameters the second time. Multiply-adds are those of convolutions, dense and
    recurrent layers; norms, activations and pools, a few operations for each number, are not counted.

    Args:
        tokens: whether inputs are tokens, whole numbers.
    """
    rows: list[LayerSize] = []
    seen: set[int] = set()

    def record(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            shape = tuple(first_tensor(output).shape[1:])
            new = [p for p in layer.parameters() if id(layer) not in seen]
            seen.add(id(layer))
            parameters, trainable = sum(p.numel() for p in new), sum(p.numel() for p in new if p.requires_grad)
            rounds = inputs[0].shape[1] if isinstance(layer, nn.RNNBase) else 1
            done = work(layer, inputs[0], shape), rounds
            rows.append(LayerSize(name, type(layer).__name__, shape, parameters, trainable, *done))

        return hook

    leaves = {n: m for n, m in network.named_modules() if isinstance(m, nn.RNNBase) or not any(m.children())}
    hooks = [layer.register_forward_hook(record(name)) for name, layer in leaves.items()]
    training = network.training
    try:
        send_one(network.eval(), input_shape, tokens=tokens)
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return rows


def work_at_once(layers: list[LayerSize]) -> int:
    """The multiply-adds of one sample that threads can share: of a recurrent layer those of one step."""
    return sum(layer.multiply_adds // layer.rounds for layer in layers)


@torch.no_grad()
def send_one(network: nn.Module, input_shape: tuple[int, ...], *, tokens: bool = False) -> None:
    """Sends a sample of zeros through the network, which stays as it was; so do the random generators.

    A network whose forward pass leaves layers out has a method ``walk`` that goes through all.

    Tensors without data (``meta``) would do, but their operations import torch's compiler, which takes longer.
    """
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    values = [*network.parameters(), *buffers.values()]
    like = next((value for value in values if value.is_floating_point()), torch.empty(0))
    x = torch.zeros(1, *input_shape, device=like.device, dtype=torch.long if tokens else like.dtype)
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
        torch.func.functional_call(Walk(network), {f"network.{name}": value for name, value in buffers.items()}, (x,))


class Walk(nn.Module):
    """A network whose forward pass goes through all layers."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        return getattr(self.network, "walk", self.network)(x)


def trains_on_one(network: nn.Module, input_shape: tuple[int, ...], *, tokens: bool = False) -> bool:
    """Whether a training batch may have a single sample: batch normalization needs two values of each channel."""
    try:
        send_one(network, input_shape, tokens=tokens)
    except ValueError:  # torch's "Expected more than 1 value per channel when training"
        return False
    return True


def first_tensor(output: Any) -> Tensor:
    """The output itself, or the first of several."""
    if isinstance(output, dict):
        output = list(output.values())
    return first_tensor(output[0]) if isinstance(output, tuple | list) else output


def work(layer: nn.Module, x: Tensor, shape: tuple[int, ...]) -> int:
    """Multiply-adds of a layer for one sample `x` (1, ...)."""
    if isinstance(layer, nn.Conv2d):
        return math.prod(shape) * layer.weight[0].numel()
    if isinstance(layer, nn.ConvTranspose2d):  # each input is multiplied by the kernel of every output channel
        return math.prod(x.shape[1:]) * layer.weight[0].numel()
    if isinstance(layer, nn.Linear):
        return math.prod(shape) * layer.in_features
    if isinstance(layer, nn.RNNBase):  # each step multiplies by every weight matrix once
        return x.shape[1] * sum(p.numel() for name, p in layer.named_parameters() if name.startswith("weight"))
    return 0
