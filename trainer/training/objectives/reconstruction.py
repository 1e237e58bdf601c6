"""Objectives of autoencoders: a model compares its output with its own input.

Run: ``python -m trainer model=autoencoder objective=reconstruction data.normalize=scale``

Shapes: B batch, L numbers of a code; x (B, *input_shape), as trained on: normalized.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data import Batch, Facts
from trainer.training.objectives.objective import Objective, Sums, in_full

Kind = Literal["mse", "bce"]


class Reconstruction(Objective):
    """The error of a reconstruction; ``mse`` is the mean of squares in the units of inputs as trained on.

    Args:
        facts: of the dataset; targets are not used.
        kind: ``mse``: the mean of squared differences; ``bce``: the binary cross-entropy in nats, summed over an input,
            of outputs that are logits, for inputs from 0 to 1.
        noise: standard deviation of Gaussian noise that is added to what the model is given, in training and in
            evaluation; it is compared with the input without noise (Vincent et al. 2008).
        l2, l1: see :class:`Objective`.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    metrics: tuple[str, ...] = ("loss", "mse")

    def __init__(self, facts: Facts, *, kind: Kind = "mse", noise: float = 0.0, l2: float = 0.0, l1: float = 0.0):
        self.says = "images" if len(facts.input_shape) == 3 else "nothing"
        super().__init__(facts, l2=l2, l1=l1)
        if facts.vocabulary is not None:
            raise ValueError(f"task={facts.task}: {type(self).__name__} needs inputs that are numbers, not tokens")
        if not 0 <= noise < math.inf:
            raise ValueError(f"noise={noise}: must be at least 0, and finite")
        if kind == "bce" and not within_0_1(facts):
            raise ValueError("kind=bce: needs inputs from 0 to 1, such as pixels with data.normalize=scale; or use mse")
        self.kind, self.noise = kind, noise

    def check(self, model: nn.Module) -> None:
        super().check(model)
        check_outputs(self, model)

    def error(self, outputs: Tensor, x: Tensor) -> Tensor:
        """The error of each sample (B,)."""
        if self.kind == "bce":
            return F.binary_cross_entropy_with_logits(outputs, x, reduction="none").flatten(1).sum(1)
        return (outputs - x).square().flatten(1).mean(1)

    def noisy(self, x: Tensor) -> Tensor:
        """What the model is given of x."""
        return x + self.noise * torch.randn_like(x) if self.noise else x

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums]:
        x = batch[0]
        outputs = in_full(model(self.noisy(x))).view(x.shape)
        return self.mean(self.error(outputs, x), outputs, batch, model)

    def mean(
        self, losses_B: Tensor, outputs: Tensor, batch: Batch, model: nn.Module, **each: Tensor
    ) -> tuple[Tensor, Sums]:
        """The loss, and the sums of metrics, from the losses of the samples and other numbers (B,) of each."""
        x, w = batch[0], batch[2] if len(batch) > 2 else torch.ones_like(losses_B)
        weight = w.sum()
        loss = (losses_B * w).sum() / weight.clamp_min(torch.finfo(w.dtype).tiny) + self.penalty(model)
        with torch.no_grad():
            each["mse"] = (self.values(outputs) - x).square().flatten(1).mean(1)
            sums = {name: values.detach().sum() for name, values in each.items()}
        return loss, {"loss": loss.detach() * weight, "weight": weight, "samples": len(x), **sums}

    def values(self, outputs: Tensor) -> Tensor:
        """Outputs of the model -> inputs as trained on."""
        return outputs.sigmoid() if self.kind == "bce" else outputs

    def predict(self, model: nn.Module, x: Tensor) -> Tensor:
        """Reconstructions (B, *input_shape), with values as in the files."""
        return self.in_files(self.values(in_full(model(x))).view(x.shape))


class Elbo(Reconstruction):
    """The negative evidence lower bound of a variational autoencoder, in nats a sample: reconstruction + beta KL.

    The model's ``encode(x)`` gives mean and log variance (B, L) of a normal distribution of codes. One is drawn,
    z = mean + deviation * noise; ``decoder(z)`` is its reconstruction, whose binary cross-entropy is the first part.
    KL is the divergence from N(0, I), 1/2 sum(variance + mean^2 - 1 - log variance).

    Source: Kingma & Welling 2014, equation 10 and appendix B; beta: Higgins et al. 2017.

    Args:
        facts: of the dataset, whose inputs are from 0 to 1; targets are not used.
        beta: factor of the divergence, at least 0.
        l2, l1: see :class:`Objective`.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    metrics = ("loss", "reconstruction", "kl", "mse")
    needs = ("encode", "decoder")

    def __init__(self, facts: Facts, *, beta: float = 1.0, l2: float = 0.0, l1: float = 0.0):
        super().__init__(facts, kind="bce", l2=l2, l1=l1)
        if not 0 <= beta < math.inf:
            raise ValueError(f"beta={beta}: must be at least 0, and finite")
        self.beta = beta

    def check(self, model: Any) -> None:
        super().check(model)
        like = next(model.parameters())
        with torch.no_grad():
            code = model.encode(like.new_zeros(2, *self.facts.input_shape))
        if not isinstance(code, tuple):
            raise ValueError("Elbo needs a model whose encode gives mean and log variance; model.variational=true")

    def __call__(self, model: Any, batch: Batch) -> tuple[Tensor, Sums]:
        x = batch[0]
        mean, log_variance = map(in_full, model.encode(x))
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        outputs = in_full(model.decoder(z)).view(x.shape)
        reconstruction, kl = self.error(outputs, x), divergence(mean, log_variance)
        return self.mean(reconstruction + self.beta * kl, outputs, batch, model, reconstruction=reconstruction, kl=kl)

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        """Codes (B, L) -> images (B, *input_shape), with values as in the files."""
        return self.in_files(self.values(in_full(model.decoder(codes))).view(len(codes), *self.facts.input_shape))


def check_outputs(objective: Objective, model: nn.Module) -> None:
    """Raises ValueError if outputs have another number of entries than inputs."""
    shape, like = objective.facts.input_shape, next(model.parameters())
    with torch.no_grad():
        was, outputs = model.training, model.eval()(like.new_zeros(1, *shape))
    model.train(was)
    if outputs[0].numel() != math.prod(shape):
        given, wanted = (" x ".join(map(str, sides)) for sides in (outputs.shape[1:], shape))
        raise ValueError(f"{type(objective).__name__} compares outputs ({given}) with inputs ({wanted})")


def divergence(mean_BL: Tensor, log_variance_BL: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) in nats, (B,): 1/2 sum(variance + mean^2 - 1 - log variance)."""
    return 0.5 * (log_variance_BL.exp() + mean_BL.square() - 1 - log_variance_BL).sum(1)


def within_0_1(facts: Facts) -> bool:
    """Whether inputs, as trained on, are from 0 to 1."""
    if facts.value_range is None:
        return False
    low, high = ((end - facts.mean) / facts.std for end in facts.value_range)
    return bool((low > -1e-6).all() and (high < 1 + 1e-6).all())
