"""A run's network with its normalization inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from data import normalized
from trainer.training.device import autocast
from trainer.training.objectives import Objective
from trainer.training.settings import Precision


class Model(nn.Module):
    """Takes raw inputs (B, *input_shape) as the data files have them: pixels of 0 to 255, columns in their own units.

    It returns the network's outputs, such as logits (B, K), or head -> logits; for an objective that says numbers, they
    are in the targets' units, (B, targets). Missing values (NaN) are filled in if the run's data were. Attributes of
    the network, such as ``encoder``, are reached through it; ``model.network`` takes normalized inputs.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, objective: Objective, precision: Precision):
        super().__init__()
        facts = objective.facts
        self.network, self.facts, self.precision = network, facts, precision
        self.in_units = objective.says == "numbers"
        like = next(network.parameters(), torch.empty(()))
        dtype = torch.float64 if precision == "float64" else torch.float32
        constants = {"mean": facts.mean, "scale": 1.0 / facts.std, "fill": facts.fill}
        constants |= {"target_mean": facts.target_mean, "target_std": facts.target_std}
        for name, value in constants.items():
            self.register_buffer(name, None if value is None else value.to(like.device, dtype))

    def forward(self, x: Tensor) -> Any:
        x = (x if isinstance(x, Tensor) else torch.as_tensor(x)).to(self.mean.device)
        if x.is_floating_point():
            x = x.to(self.mean.dtype)
            if self.fill is not None:
                x = torch.where(x.isnan(), self.fill, x)
        x = x.long() if self.facts.vocabulary is not None else normalized(x, self.mean, self.scale)
        with autocast(self.precision, self.mean.device)():
            outputs = self.network(x)
        if self.in_units:
            outputs = outputs * self.target_std + self.target_mean
        return outputs

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "network":  # not yet there
                raise
            return getattr(self.network, name)
