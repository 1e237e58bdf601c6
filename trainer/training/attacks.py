"""Attacks: small changes of inputs that increase the loss: FGSM, projected gradients, Frank-Wolfe.

All three use the oracle of the ball of allowed changes, the same oracles as the constraint sets in training. With
v(g) = argmax over the ball about x0 of <g, v> = x0 + lmo(-g) for each sample,

    FGSM          x = v(g(x0))                                        Goodfellow et al. 2015, arXiv 1412.6572
    PGD           x <- P(x + lmo(-g)), a ball of the step's length    Madry et al. 2018, arXiv 1706.06083
    Frank-Wolfe   m <- rho m + (1 - rho) g;  x <- x + gamma (v(m) - x)     Chen et al. 2020, arXiv 1811.10828

In the l-infinity ball lmo(-g) is radius * sign(g), in the l2 ball radius * g / ||g||. `loss` is a function of the
inputs of a batch, 0-d, a sum over samples up to a factor; the gradient's length does not matter. `box` is the range of
inputs (of pixels), or None. Since x0 is inside the box, clipping to the box keeps every point in the ball.

Shapes: B batch, the rest that of a sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from optim.sets import L2, LInf, NormBall

Loss = Callable[[Tensor], Tensor]
Range = tuple[float, float] | None

STEPS = 20
BALLS: dict[str, type[NormBall]] = {"linf": LInf, "l2": L2}


def fgsm(loss: Loss, x0: Tensor, ball: NormBall, box: Range) -> Tensor:
    """The fast gradient sign method, and its analogue for other balls: x0 + lmo(-g)."""
    return within(x0 + each(ball.lmo, -gradient(loss, x0)), box)


def pgd(loss: Loss, x0: Tensor, ball: NormBall, box: Range, start: Tensor, steps: int = STEPS) -> Tensor:
    """Projected gradient ascent in `steps` steps of 2.5 radius / steps.

    Args:
        start: the first point: x0, or a random one of the ball, see :func:`anywhere`.
    """
    step = ball.with_radius(2.5 * ball.r / steps)
    x = start
    for _ in range(steps):
        x = x + each(step.lmo, -gradient(loss, x))
        x = within(x0 + each(ball.project, x - x0), box)
    return x


def frank_wolfe(
    loss: Loss, x0: Tensor, ball: NormBall, box: Range, steps: int = STEPS, momentum: float = 0.9
) -> Tensor:
    """Conditional gradients from x0 with gamma = 2 / (t + 2), t from 0: the first step goes all the way to a vertex.

    In a ball whose entries share one length, entries at an end of the range that could only leave it are fixed;
    otherwise clipping them would shorten the others.
    """
    x, m = x0, torch.zeros_like(x0)
    for t in range(steps):
        g = gradient(loss, x)
        if box is not None and not isinstance(ball, LInf):
            g = g.masked_fill(((x0 <= box[0]) & (g < 0)) | ((x0 >= box[1]) & (g > 0)), 0)
        m = momentum * m + (1 - momentum) * g if t > 0 else g
        v = x0 + each(ball.lmo, -m)
        x = within(x + 2 / (t + 2) * (v - x), box)
    return x


def gradient(loss: Loss, x: Tensor) -> Tensor:
    """The gradient of the loss by x, with the shape of x."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return torch.autograd.grad(loss(x), x)[0]


def each(oracle: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """An oracle applied to each sample."""
    return torch.func.vmap(oracle)(x)


def within(x: Tensor, box: Range) -> Tensor:
    """The nearest point in the range."""
    return x if box is None else x.clamp(*box)


def anywhere(ball: NormBall, x0: Tensor, box: Range, generator: torch.Generator | None = None) -> Tensor:
    """A random point of the ball about each sample, clipped to the range.

    Args:
        generator: see :func:`uniform`.
    """
    return within(x0 + uniform(ball, x0, generator), box)


def uniform(ball: NormBall, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A point of the ball for each sample, drawn uniformly.

    Args:
        generator: on the CPU, so that every device has the same numbers; None: that of the device, which need not wait.
    """
    how: dict[str, Any] = {"generator": generator, "device": like.device if generator is None else "cpu"}
    if isinstance(ball, LInf):
        return ball.r * (2 * torch.rand(like.shape, **how) - 1).to(like)
    z = torch.randn(like.shape, **how).flatten(1)
    length = torch.rand(len(z), 1, **how).pow(1 / math.prod(like.shape[1:]))
    return (ball.r * length * z / z.norm(dim=1, keepdim=True)).view(like.shape).to(like)
