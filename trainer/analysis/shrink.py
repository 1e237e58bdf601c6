"""A network without the filters that pruning set to zero: smaller layers, and the same outputs.

A hidden layer can lose filters if each of its outputs goes through layers that treat channels apart, such as
activations, pools and batch norms, to convolutions and dense layers only: these lose the inputs. If it is added to
others, as at the end of a residual block, it stays whole. What a filter of zeros still gives, such as sigmoid(0) = 1/2,
is a constant, and goes into the reader's bias; if a convolution pads its inputs, or a number that is no constant comes
out, the layer stays whole.

Source: pruning of filters, Li et al. 2017 (arXiv 1608.08710).

Shapes: B batch, C channels or features, S places of a channel in a flattened input.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.pooling import _AdaptiveAvgPoolNd, _AdaptiveMaxPoolNd, _AvgPoolNd, _MaxPoolNd

from models.layers import ACTIVATIONS
from trainer.analysis.compression import hidden_layers
from trainer.rundir.errors import Refused, one_line

# Layers and functions that treat each channel apart.
APART: tuple[type, ...] = (
    *(kind for kind in ACTIVATIONS.values() if isinstance(kind, type) and kind.__module__.startswith("torch.")),
    *(_BatchNorm, _DropoutNd, _MaxPoolNd, _AvgPoolNd, _AdaptiveMaxPoolNd, _AdaptiveAvgPoolNd, nn.Upsample),
)
FUNCTIONS = (torch.relu, torch.sin, torch.tanh, torch.sigmoid, F.relu, F.gelu, F.silu, F.dropout)
METHODS = ("relu", "sin", "tanh", "sigmoid")


@dataclass
class Chain:
    """What follows a hidden layer: layers of its channels by name, then those that read it."""

    between: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)


def chains(model: nn.Module) -> dict[str, Chain]:
    """The layers whose filters can be removed, by name.

    Raises:
        Refused: the network cannot be traced.
    """
    try:
        nodes = fx.symbolic_trace(model).graph.nodes
    except Exception as error:  # of whatever kind tracing a network of somebody's own raises
        raise Refused(f"--pruned: torch cannot trace {type(model).__name__} ({one_line(error)})") from error
    called = [node.target for node in nodes if node.op == "call_module"]
    layers = dict(model.named_modules())
    found: dict[str, Chain] = {}
    for node in nodes:
        if node.op == "call_module" and called.count(node.target) == 1 and is_reader(layers[node.target]):
            chain = Chain()
            if follow(node, layers, called, chain, isinstance(layers[node.target], nn.Linear)) and chain.readers:
                found[node.target] = chain
    return found


def is_reader(layer: nn.Module) -> bool:
    """Whether a layer is dense, or a convolution that reads all channels."""
    whole = isinstance(layer, _ConvNd) and not isinstance(layer, _ConvTransposeNd) and layer.groups == 1
    return whole or isinstance(layer, nn.Linear)


def follow(node: fx.Node, layers: Mapping[str, nn.Module], called: Sequence[object], chain: Chain, flat: bool) -> bool:
    """Notes what follows a node; returns whether all of it is known.

    Args:
        flat: whether the channels, each with its places, are the last axis.
    """
    for user in node.users:
        layer = layers[str(user.target)] if user.op == "call_module" else None
        flattens = isinstance(layer, nn.Flatten) and layer.start_dim == 1
        flattens |= user.target in (torch.flatten, "flatten") and user.args[1:] == (1,)
        known = flattens or isinstance(layer, APART) or user.target in (*FUNCTIONS, *METHODS)
        if layer is not None and is_reader(layer) and called.count(user.target) == 1:
            if isinstance(layer, nn.Linear) != flat:
                return False
            chain.readers.append(str(user.target))
        elif not known:
            return False
        else:
            if layer is not None and any(True for _ in layer.parameters()):
                if called.count(user.target) > 1:
                    return False
                chain.between.append(str(user.target))
            if not follow(user, layers, called, chain, flat or flattens):
                return False
    return bool(node.users)


def removable(model: nn.Module, x: Tensor) -> dict[str, list[str]]:
    """As :func:`trainer.analysis.compression.hidden_layers`, of the layers whose filters can be removed.

    Args:
        x: a batch of inputs.

    Raises:
        Refused: the network cannot be traced.
    """
    hidden, known = hidden_layers(model, x), chains(model)
    return {n: norms for n, norms in hidden.items() if n in known and fits(model, known[n], [n, *norms], x)}


@torch.no_grad()
def fits(model: nn.Module, chain: Chain, names: Sequence[str], x: Tensor) -> bool:
    """Whether a layer without its first filter has a smaller network with the same outputs.

    Args:
        names: of the layer and the norms that read it, whose numbers for this filter are set to zero.
    """
    trial = copy.deepcopy(model)
    for p in (p for name in names for p in trial.get_submodule(name).parameters(recurse=False)):
        p[0] = 0
    return out_channels(model, names[0]) > 1 and constants(trial, chain, names[0], x) is not None


def out_channels(model: nn.Module, name: str) -> int:
    return len(model.get_submodule(name).get_parameter("weight"))


def dead_filters(model: nn.Module, name: str) -> Tensor:
    """Which filters of a layer are zero, with their biases: (C,)"""
    layer = model.get_submodule(name)
    return torch.stack([(p == 0).flatten(1).all(1) if p.ndim > 1 else p == 0 for p in layer.parameters()]).all(0)


@torch.no_grad()
def constants(model: nn.Module, chain: Chain, name: str, x: Tensor) -> Tensor | None:
    """What the zero filters of a layer give to its readers: (C,); 0 for the others.

    Returns:
        None if it is no constant, or one that a reader cannot take into its bias.
    """
    dead, given = dead_filters(model, name), {}
    hooks = [
        model.get_submodule(reader).register_forward_hook(
            lambda _, xs, out, reader=reader: given.update({reader: xs[0]})
        )
        for reader in chain.readers
    ]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    found: Tensor | None = None
    for reader, values in given.items():
        layer = model.get_submodule(reader)
        if isinstance(layer, nn.Linear) and values.ndim != 2:
            return None
        by_channel = values.reshape(len(values), len(dead), -1).transpose(0, 1).flatten(1)  # (C, B S)
        c = by_channel[:, 0] * dead
        takes = getattr(layer, "bias", None) is not None and not (isinstance(layer, _ConvNd) and pads(layer))
        same = bool((by_channel == by_channel[:, :1])[dead].all()) and (found is None or torch.equal(found, c))
        if not same or (bool(c.any()) and not takes):
            return None
        found = c
    return found


def pads(layer: _ConvNd) -> bool:
    """Whether a convolution adds numbers around its input."""
    return layer.padding == "same" or any(int(p) > 0 for p in layer.padding if layer.padding != "valid")


@torch.no_grad()
def shrunk(model: nn.Module, names: Sequence[str], x: Tensor) -> nn.Module:
    """A copy of the model without the zero filters of the named layers.

    Args:
        names: some of :func:`removable`.
        x: a batch of inputs.
    """
    small, known = copy.deepcopy(model), chains(model)
    for name in names:
        dead, c = dead_filters(model, name), constants(model, known[name], name, x)
        assert c is not None  # else it is not removable
        for own in [name, *known[name].between]:
            keep_outputs(small.get_submodule(own), ~dead)
        for reader in known[name].readers:
            keep_inputs(small.get_submodule(reader), ~dead, c)
    return small


def keep_outputs(layer: nn.Module, kept: Tensor) -> None:
    """Removes the other outputs, or channels, of a layer."""
    for name, p in list(layer.named_parameters(recurse=False)):
        if len(p) == len(kept):
            setattr(layer, name, nn.Parameter(p[kept].clone(), p.requires_grad))
    for name, values in list(layer.named_buffers(recurse=False)):
        if values.ndim and len(values) == len(kept):
            setattr(layer, name, values[kept].clone())
    for name in ("out_features", "out_channels", "num_features", "num_parameters"):
        if getattr(layer, name, None) == len(kept):
            setattr(layer, name, int(kept.sum()))


def keep_inputs(layer: nn.Module, kept: Tensor, c: Tensor) -> None:
    """Removes the other inputs of a dense layer or convolution; c (C,) are the numbers that these were."""
    w = layer.get_parameter("weight")
    by_channel = w.reshape(len(w), len(kept), -1)
    if c.any():
        layer.get_parameter("bias").add_((by_channel.sum(2) * c).sum(1))
    shape = (-1, *w.shape[2:]) if isinstance(layer, _ConvNd) else (-1,)
    layer.weight = nn.Parameter(by_channel[:, kept].reshape(len(w), *shape).clone(), w.requires_grad)
    name = "in_channels" if isinstance(layer, _ConvNd) else "in_features"
    setattr(layer, name, layer.weight.shape[1])
