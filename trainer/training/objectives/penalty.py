"""The penalties ``objective.l2`` and ``objective.l1`` as one operation: differentiating many small weights takes longer
than all sums. Run: ``python -m trainer objective.l2=1e-3``
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Penalty(torch.autograd.Function):
    """l2 * the sum of w^2 + l1 * the sum of |w| over the weights: ``Penalty.apply(l2, l1, *weights)``, at least one."""

    @staticmethod
    def forward(ctx: Any, l2: float, l1: float, *weights: Tensor) -> Tensor:
        ctx.l2, ctx.l1 = l2, l1
        ctx.save_for_backward(*weights)
        if not l1:
            return l2 * total(w.square().sum() for w in weights)
        absolute = l1 * total(w.abs().sum() for w in weights)
        return l2 * total(w.square().sum() for w in weights) + absolute if l2 else absolute

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """(2 l2 w + l1 sign w) g, in differentiable operations."""
        weights, square = ctx.saved_tensors, 2 * ctx.l2 * g
        if not ctx.l1:
            return None, None, *(square * w for w in weights)
        plain = ctx.l1 * g
        return None, None, *(square * w + plain * w.sign() for w in weights)


def total(numbers: Iterable[Tensor]) -> Tensor:
    """The sum of 0-d tensors."""
    return torch.stack(list(numbers)).sum()
