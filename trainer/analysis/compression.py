"""Compression of a trained network without retraining: by magnitude, by filters, by rank.

Each function yields a copy of the model for each of `percents`. It is the same copy, rewritten, so use it before the
next one. The model itself does not change.

Sources: pruning by magnitude, Han et al. 2015 (arXiv 1506.02626); of filters by norm, Li et al. 2017 (arXiv
1608.08710); all three as measures of constrained training, Zimmer, Spiegel & Pokutta 2022 (arXiv
2205.11921).

Shapes: F filters or neurons, R entries of one, P weights of the network, r full rank.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from models.weights import NORMS, weights

LAYERS = (_ConvNd, nn.Linear, nn.RNNBase)


@torch.no_grad()
def pruned(model: nn.Module, percents: Sequence[float], generator: torch.Generator) -> Iterator[nn.Module]:
    """With a share of all weights set to zero: those of least magnitude in the whole network.

    As :func:`torch.nn.utils.prune.global_unstructured` with ``L1Unstructured``, but ties, of which a projection onto a
    cube makes many, are broken at random instead of by the order of the layers.

    Args:
        generator: on the CPU, for ties.
    """
    smaller = copy.deepcopy(model)
    w_P = torch.cat([w.flatten() for w in weights(model)])
    lot = torch.randperm(len(w_P), generator=generator).to(w_P.device)
    order = lot[w_P.abs()[lot].argsort(stable=True)]
    for percent in percents:
        kept = w_P.clone()
        kept[order[: round(percent / 100 * len(w_P))]] = 0
        places = weights(smaller)
        for w, values in zip(places, kept.split([w.numel() for w in places]), strict=True):
            w.copy_(values.view_as(w))
        yield smaller


@torch.no_grad()
def without_filters(
    model: nn.Module, percents: Sequence[float], x: Tensor, layers: Mapping[str, list[str]] | None = None
) -> Iterator[nn.Module]:
    """With a share of each convolution's output filters set to zero: those of least l2 norm, with their biases.

    In a network without convolutions, the neurons of each hidden layer: rows of dense weights, and of recurrent ones
    in all gates. The output layer stays whole, and at least one filter of every layer stays. If a norm reads the layer,
    its scale and shift of a filter are set to zero, too; otherwise they would make it a constant.

    Args:
        x: a batch of inputs, which shows the order of the layers.
        layers: those to prune, with the norms that read them; None: :func:`hidden_layers`.

    Yields:
        nothing for a network without hidden layers.
    """
    layers = hidden_layers(model, x) if layers is None else layers
    smaller = copy.deepcopy(model)
    for percent in percents if layers else ():
        smaller.load_state_dict(model.state_dict())
        for name, readers in layers.items():
            following = [p for reader in readers for p in smaller.get_submodule(reader).parameters()]
            for F, own in filters_of(smaller.get_submodule(name)):
                zero_least(F, own, following, percent / 100)
        yield smaller


def zero_least(F: int, own: Sequence[Tensor], following: Sequence[Tensor], share: float) -> None:
    """Sets a share of a layer's F filters to zero, those of least l2 norm; at least one stays.

    Args:
        own: the layer's parameters.
        following: those of norms that read the layer.
    """
    squares = [by_filter(w, F).square().sum((0, 2)) for w in own if w.ndim >= 2]
    norms_F = functools.reduce(torch.add, squares).sqrt()
    least = norms_F.topk(min(round(share * F), F - 1), largest=False).indices
    for p in [*own, *following]:
        by_filter(p, F)[:, least] = 0


def filters_of(layer: nn.Module) -> list[tuple[int, Sequence[Tensor]]]:
    """F, and the tensors whose first axis is over the filters; for each recurrent layer and direction."""
    if isinstance(layer, nn.RNNBase):
        return [(layer.hidden_size, tensors) for tensors in layer.all_weights]
    return [(len(layer.get_parameter("weight")), list(layer.parameters(recurse=False)))]


def by_filter(p: Tensor, F: int) -> Tensor:
    """A view (gates, F, R) of a tensor whose first axis is gates * F; one gate unless it is recurrent."""
    return p.view(len(p) // F, F, -1)


@torch.no_grad()
def hidden_layers(model: nn.Module, x: Tensor) -> dict[str, list[str]]:
    """The layers whose filters can be pruned, by name, with the norms that read them: convolutions, else other layers.

    A layer that makes an output is no hidden layer; if the model changes its outputs, this is the last layer.
    """
    made: dict[str, Any] = {}  # layer -> its output; kept, so that no other tensor gets its address
    read: dict[str, Any] = {}  # norm -> its input
    names = {module: name for name, module in model.named_modules()}

    def note(module: nn.Module, given: tuple, output: Any) -> None:
        if isinstance(module, LAYERS) and not getattr(module, "transposed", False):
            made[names[module]] = output
        elif isinstance(module, NORMS):
            read[names[module]] = given[0]

    hooks = [m.register_forward_hook(note) for m in names if isinstance(m, LAYERS + NORMS)]
    try:
        outputs = model(x)
    finally:
        for hook in hooks:
            hook.remove()
    outputs = list(outputs.values()) if isinstance(outputs, Mapping) else [outputs]
    last = [name for name, made_here in made.items() if any(made_here is o for o in outputs)] or list(made)[-1:]
    hidden = [name for name in made if name not in last]
    convolutions = [name for name in hidden if isinstance(model.get_submodule(name), _ConvNd)]
    return {name: [norm for norm, x in read.items() if x is made[name]] for name in convolutions or hidden}


@torch.no_grad()
def low_rank(model: nn.Module, percents: Sequence[float]) -> Iterator[nn.Module]:
    """With each weight, as a matrix (first axis, the rest), replaced by the nearest one of a share of its full rank.

    This is its singular value decomposition truncated (Eckart & Young 1936) to rank ceil(share * r), at least one. At
    100 percent the weights do not change.
    """
    smaller = copy.deepcopy(model)
    factors = [torch.linalg.svd(w.flatten(1), full_matrices=False) for w in weights(model)]
    for percent in percents:
        for w, whole, (U, s, Vh) in zip(weights(smaller), weights(model), factors, strict=True):
            k = rank(percent, len(s))
            w.copy_(((U[:, :k] * s[:k]) @ Vh[:k]).view_as(w) if k < len(s) else whole)
        yield smaller


def rank(percent: float, full: int) -> int:
    """A share of the full rank."""
    return math.ceil(round(percent / 100 * full, 9))  # 0.07 * 100 is 7.000000000000001


def keep_rank(percent: float) -> Callable[[nn.Module], None]:
    """A function that truncates the weights of a model as :func:`low_rank` does."""

    @torch.no_grad()
    def keep(model: nn.Module) -> None:
        for w in weights(model) if percent < 100 else ():
            U, s, Vh = torch.linalg.svd(w.flatten(1), full_matrices=False)
            k = rank(percent, len(s))
            w.copy_(((U[:, :k] * s[:k]) @ Vh[:k]).view_as(w))

    return keep


def keep_zeros(model: nn.Module) -> Callable[[nn.Module], None]:
    """A function that sets to zero what is zero in `model`, in a model of the same parameters."""
    zeros = {name: p == 0 for name, p in model.named_parameters()}

    @torch.no_grad()
    def keep(other: nn.Module) -> None:
        for name, p in other.named_parameters():
            p.masked_fill_(zeros[name], 0)

    return keep
