"""Batch normalization over a batch that is divided among several processes.

``torch.nn.SyncBatchNorm`` needs a GPU; this works with any backend, and with shares of different sizes.

Shapes: B samples of this process, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainer.training.distributed import World, passing_on_losses


class SharedBatchNorm(_BatchNorm):
    """Ioffe & Szegedy 2015, with mean and variance of all processes' samples in training."""

    @classmethod
    def replace_in(cls, module: nn.Module) -> None:
        """Exchanges every batch normalization below `module`; parameters and buffers stay the same objects."""
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm):
                new = cls(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
                new._parameters, new._buffers, new.training = child._parameters, child._buffers, child.training
                setattr(module, name, new)
            else:
                cls.replace_in(child)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return nn.functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        mean, variance, batches = self.running_mean, self.running_var, self.num_batches_tracked
        given, x = x.dtype, x.to(torch.float32 if mean is None else mean.dtype)  # for 16 bits
        over = [0, *range(2, x.ndim)]
        shape = [1, -1, *[1] * (x.ndim - 2)]
        share = torch.cat([x.sum(over), x.new_full((1,), x.numel() / x.shape[1])])
        total = _Sum.apply(share)
        n = total[-1].detach()
        mean_C = total[:-1] / n
        centred = x - mean_C.view(shape)
        variance_C = _Sum.apply(centred.square().sum(over)) / n
        if mean is not None and variance is not None and batches is not None:  # all three or none
            with torch.no_grad():
                batches += 1
                momentum = self.momentum if self.momentum is not None else 1.0 / batches
                mean.lerp_(mean_C, momentum)
                variance.lerp_(variance_C * (n / (n - 1)), momentum)
        y = centred * (variance_C + self.eps).rsqrt().view(shape)
        return (y * self.weight.view(shape) + self.bias.view(shape) if self.affine else y).to(given)


class _Sum(torch.autograd.Function):
    """The sum over the processes; its derivative is a sum, too, for a loss that is a sum over them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        with passing_on_losses():
            dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        total = g.contiguous().clone()
        with passing_on_losses():
            dist.all_reduce(total)
        return total


def with_shared_statistics(model: nn.Module, world: World) -> nn.Module:
    """Replaces batch normalization in `model` by that over all processes' shares of a batch, in place."""
    if world.size > 1:
        SharedBatchNorm.replace_in(model)
    return model
