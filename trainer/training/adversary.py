"""Training against an adversary, who changes each batch's inputs within a ball so that the loss rises:

    min over w of the mean over samples of  max over d, ||d|| <= radius, of  loss(w; x + d, y)

Source: Madry et al. 2018, arXiv 1706.06083, equation 2.1; with FGSM, Goodfellow et al. 2015, arXiv 1412.6572.
The attacks are those of ``robustness`` (:mod:`trainer.training.attacks`): they use the oracles of constraint sets.

    python -m trainer model=cnn objective.adversary=pgd objective.adversary_radius=0.1

Shapes: B batch, the rest that of a sample.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from data import Batch, Facts
from trainer.rundir.typed import check_count
from trainer.training import attacks

Cast = Callable[[], contextlib.AbstractContextManager]
Loss = Callable[[nn.Module, Batch], tuple[Tensor, Any]]  # an objective


@dataclass
class Units:
    """Inputs of a model as x = scale * u + shift; u in `box` if there is one."""

    scale: Tensor
    shift: Tensor
    box: attacks.Range

    @classmethod
    def of(cls, facts: Facts, device: torch.device) -> Units:
        """The units of a dataset: u = (raw - low) / (high - low) for pixels, else u = x."""
        if facts.value_range is None:
            return cls(torch.tensor(1.0, device=device), torch.tensor(0.0, device=device), None)
        low, high = facts.value_range
        mean, std = facts.mean.to(device), facts.std.to(device)
        return cls((high - low) / std, (low - mean) / std, (0.0, 1.0))

    def enter(self, x: Tensor) -> Tensor:
        return attacks.within((x - self.shift) / self.scale, self.box)

    def leave(self, u: Tensor) -> Tensor:
        return u * self.scale + self.shift


class Adversary:
    """Changes inputs so that a loss rises. The arguments are keys of every objective.

    Args:
        facts: of the dataset.
        adversary: who changes the inputs of each batch in training: ``none``; ``fgsm``: one step to a vertex of the
            ball; ``pgd``: projected gradients from a random point; ``fw``: Frank-Wolfe; ``evaluation``: nobody, but
            evaluations measure how robust the model is.
        adversary_norm: of the ball of changes.
        adversary_radius: of the ball, greater than 0; in units of the range of pixels, else of the normalized inputs.
        adversary_steps: gradients that ``pgd`` and ``fw`` take for a step of training, at least 1.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        adversary: Literal["none", "fgsm", "pgd", "fw", "evaluation"] = "none",
        adversary_norm: Literal["linf", "l2"] = "linf",
        adversary_radius: float = 0.1,
        adversary_steps: int = 7,
    ):
        if not 0 < adversary_radius < math.inf:
            raise ValueError(f"adversary_radius={adversary_radius}: must be greater than 0, and finite")
        check_count("adversary_steps", adversary_steps, 1)
        self.facts, self.kind, self.steps = facts, adversary, adversary_steps
        self.ball = attacks.BALLS[adversary_norm](radius=adversary_radius)
        self.units: dict[torch.device, Units] = {}  # made once, since a copy waits for the device

    def train(self, loss: Loss, model: nn.Module, batch: Batch, cast: Cast) -> Batch:
        """The batch that the model trains on."""
        ball, steps = self.ball, self.steps
        if self.kind == "evaluation":
            return batch

        def attack(value: attacks.Loss, u0: Tensor, box: attacks.Range) -> Tensor:
            if self.kind == "fgsm":
                return attacks.fgsm(value, u0, ball, box)
            if self.kind == "fw":
                return attacks.frank_wolfe(value, u0, ball, box, steps)
            return attacks.pgd(value, u0, ball, box, attacks.anywhere(ball, u0, box), steps)

        return self.changed(attack, loss, model, batch, cast)

    def test(self, loss: Loss, model: nn.Module, batch: Batch, cast: Cast) -> Batch:
        """The batch that the model is evaluated on: by PGD of 20 steps whatever it trains against.

        A model can learn to deceive the attack of its training, FGSM above all, and fail against this one (Wong et al.
        2020, arXiv 2001.03994).
        """
        ball = self.ball

        def attack(value: attacks.Loss, u0: Tensor, box: attacks.Range) -> Tensor:
            return attacks.pgd(value, u0, ball, box, attacks.anywhere(ball, u0, box))

        return self.changed(attack, loss, model, batch, cast)

    def changed(self, attack: Callable[..., Tensor], loss: Loss, model: nn.Module, batch: Batch, cast: Cast) -> Batch:
        """The batch with inputs changed by `attack`, on the model in evaluation mode."""
        x, y, *weights = batch
        if x.device not in self.units:
            self.units[x.device] = Units.of(self.facts, x.device)
        units = self.units[x.device]
        with evaluating(model):
            u = attack(attacked_loss(loss, model, y, units, cast), units.enter(x), units.box)
        return units.leave(u).detach(), y, *weights


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside, the model is in evaluation mode: running statistics stay, and nothing is dropped."""
    training = [module for module in model.modules() if module.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def attacked_loss(loss: Loss, model: nn.Module, y: Tensor, units: Units, cast: Cast) -> attacks.Loss:
    """The objective's loss, summed over samples, as a function of inputs u."""
    recurrent = y.is_cuda and any(isinstance(module, nn.RNNBase) for module in model.modules())
    # cuDNN differentiates its recurrent layers in training mode only.
    without = partial(torch.backends.cudnn.flags, enabled=False) if recurrent else contextlib.nullcontext

    def value(u: Tensor) -> Tensor:
        with without(), cast():
            return loss(model, (units.leave(u), y))[0] * len(u)

    return value
