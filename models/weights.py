"""Which parameters of a network are weights."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


def weights(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of two or more axes that belong to no norm: neither biases nor scales."""
    scales = {id(p) for module in model.modules() if isinstance(module, NORMS) for p in module.parameters()}
    return [p for p in model.parameters() if p.ndim >= 2 and id(p) not in scales]
