"""Which parameters of a network are weights, and which of its norms are at rest."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm)


def weights(model: nn.Module) -> list[nn.Parameter]:
    """The parameters of two or more axes that belong to no norm: neither biases nor scales."""
    scales = {id(p) for module in model.modules() if isinstance(module, NORMS) for p in module.parameters()}
    return [p for p in model.parameters() if p.ndim >= 2 and id(p) not in scales]


def training_mode(model: nn.Module) -> nn.Module:
    """``model.train()``, but norms whose parameters are all frozen stay in evaluation mode.

    They normalize by the statistics that they have, and keep these: a frozen layer computes what it did before.
    torch itself would go on updating the statistics.
    """
    model.train()
    for module in model.modules():
        if isinstance(module, _NormBase) and any(True for _ in module.parameters()) and not learns(module):
            module.eval()
    return model


def learns(module: nn.Module) -> bool:
    """Whether any of a module's parameters is trained."""
    return any(p.requires_grad for p in module.parameters())
