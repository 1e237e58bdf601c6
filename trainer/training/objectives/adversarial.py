"""Objectives of generative adversarial networks: a generator makes images, a discriminator tells them from real ones.

Losses in turn: the discriminator's first, then the generator's. A model has ``generator``, ``discriminator`` and
``latent``, the numbers of a code; codes are drawn from N(0, I).

Shapes: B batch, L numbers of a code.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data import Batch, Dataset, Facts
from trainer.training.judge import Judge, frechet
from trainer.training.objectives.objective import Objective, Sums, in_full
from trainer.training.objectives.reconstruction import within_0_1


class Adversarial(Objective):
    """What these objectives share: turns, codes, and a judge of the images.

    No loss tells whether images get better. With a ``judge``, ``frechet`` does: the Fréchet distance between the
    features of a split's images and of as many generated ones; ``frechet_real`` is that of as many training images, the
    least to hope for. Without one, the last epoch is the best.

    Args:
        facts: of the dataset, whose inputs are images; targets are not used.
        judge: directory or checkpoint of a run with a classifier of these images, see
            :class:`trainer.training.judge.Judge`; None: no judge.
        l2, l1: see :class:`Objective`.
    """

    metrics: tuple[str, ...] = ("loss", "loss_discriminator")
    turns: tuple[str | None, ...] = ("discriminator", "generator")
    needs = ("generator", "discriminator", "latent")

    def __init__(self, facts: Facts, *, judge: str | None = None, l2: float = 0.0, l1: float = 0.0):
        super().__init__(facts, l2=l2, l1=l1)
        if facts.vocabulary is not None:
            raise ValueError(f"task={facts.task}: {type(self).__name__} needs inputs that are numbers, not tokens")
        self.place = judge
        self.judge: Judge | None = None
        self.others: dict[str, np.ndarray] = {}  # split -> features of training images
        self.split = ""
        self.monitor = "epoch"
        if judge is not None:
            self.evaluated = ("frechet", "frechet_real")
            self.monitor = "val/frechet" if "val" in facts.sizes else "epoch"

    def check(self, model: Any) -> None:
        super().check(model)
        like = next(model.parameters())
        with torch.no_grad():
            training = model.training
            made = model.eval().generator(like.new_zeros(2, model.latent))
            model.train(training)
        if tuple(made.shape[1:]) != self.facts.input_shape:
            raise ValueError(f"the generator makes {tuple(made.shape[1:])}, and images are {self.facts.input_shape}")
        last = [layer for layer in model.generator.modules() if not isinstance(layer, nn.ZeroPad2d)][-1]
        if isinstance(last, nn.Sigmoid) and self.facts.value_range is not None and not within_0_1(self.facts):
            raise ValueError(
                "the generator's images are from 0 to 1, and those of the data are not; data.normalize=scale"
            )

    @abc.abstractmethod
    def of_discriminator(self, model: Any, x: Tensor) -> tuple[Tensor, Sums]:
        """The discriminator's loss on real images, and its sums."""

    @abc.abstractmethod
    def of_generator(self, model: Any, x: Tensor) -> tuple[Tensor, Sums]:
        """The generator's loss on as many codes, and its sums."""

    def __call__(self, model: nn.Module, batch: Batch, turn: str | None = None) -> tuple[Tensor, Sums]:
        x = batch[0]
        if turn == "discriminator":
            return self.of_discriminator(model, x)
        if turn == "generator":
            return self.of_generator(model, x)
        loss, sums = self.of_generator(model, x)
        return loss, self.of_discriminator(model, x)[1] | sums

    def made(self, model: Any, x: Tensor) -> Tensor:
        """As many images as `x` has."""
        return model.generator(torch.randn(len(x), model.latent, device=x.device, dtype=x.dtype))

    def decode(self, model: Any, codes: Tensor) -> Tensor:
        """Codes (B, L) -> images (B, *input_shape), with values as in the files."""
        return self.in_files(in_full(model.generator(codes)))

    def counted(self, x: Tensor, **means: Tensor) -> Sums:
        """Sums over the samples of a batch from means."""
        n = len(x)
        return {"weight": n, "samples": n} | {name: value.detach() * n for name, value in means.items()}

    # The judge

    def begin(self) -> None:
        if self.place is not None:
            self.judge = Judge.read(self.place, self.facts)

    def state(self) -> dict[str, Any]:
        return {} if self.judge is None else {"judge": self.judge.plain()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        if "judge" in state:
            self.judge = Judge(**state["judge"])

    def about(self) -> str | None:
        return None if self.judge is None else f"judge       {self.judge.words()}"

    def prepare(self, dataset: Dataset, split: str) -> None:
        self.split = split
        if self.judge is None or split in self.others or split == "train" or "train" not in dataset.splits:
            return
        n = dataset.facts.sizes["train"]
        drawn = torch.randperm(n, generator=torch.Generator().manual_seed(0))[: dataset.facts.sizes[split]]
        batches = (dataset.batch("train", index)[0] for index in drawn.to(dataset.device).split(512))
        self.others[split] = torch.cat([self.judge.features(self.in_files(x)) for x in batches]).cpu().numpy()

    def evaluate(self, model: nn.Module, batch: Batch) -> tuple[Sums, dict[str, Tensor]]:
        x = batch[0]
        sums = self(model, batch)[1]
        if self.judge is None:
            return sums, {}
        images = {"real": x, "made": in_full(self.made(model, x))}
        return sums, {name: self.judge.features(self.in_files(of)) for name, of in images.items()}

    def finish(self, sums: Mapping[str, Any], kept: Mapping[str, np.ndarray] | None = None) -> dict[str, float]:
        found = {k: sums[k] / sums["samples"] for k in self.metrics}
        if kept and "made" in kept:
            found["frechet"] = frechet(kept["real"], kept["made"])
            if self.split in self.others:
                found["frechet_real"] = frechet(kept["real"], self.others[self.split])
        return found


class Gan(Adversarial):
    """The loss of Goodfellow et al. 2014, of the generator the one that does not saturate.

    The discriminator's is the binary cross-entropy over real and generated images together, whose labels are 1 and 0
    with some noise; the generator's that of its images with the label 1. ``real`` and ``made`` are the shares of either
    kind that the discriminator recognizes.

    Args:
        facts, judge, l2, l1: see :class:`Adversarial`.
        label_noise: real images have labels 1 - noise * U(0, 1), generated ones noise * U(0, 1); in [0, 1].

    Raises:
        ValueError: `name=value: what would be right`.
    """

    metrics = ("loss", "loss_discriminator", "real", "made")

    def __init__(
        self, facts: Facts, *, label_noise: float = 0.0, judge: str | None = None, l2: float = 0.0, l1: float = 0.0
    ):
        super().__init__(facts, judge=judge, l2=l2, l1=l1)
        if not 0 <= label_noise <= 1:
            raise ValueError(f"label_noise={label_noise}: must be in [0, 1]")
        self.label_noise = label_noise

    def of_generator(self, model: Any, x: Tensor) -> tuple[Tensor, Sums]:
        loss = F.softplus(-in_full(model.discriminator(self.made(model, x)))).mean() + self.penalty(model.generator)
        return loss, self.counted(x, loss=loss)

    def of_discriminator(self, model: Any, x: Tensor) -> tuple[Tensor, Sums]:
        with torch.no_grad():
            made = self.made(model, x)
        scores = in_full(model.discriminator(torch.cat([x, made.to(x.dtype)])))
        real, fake = scores.chunk(2)
        noise = self.label_noise * torch.rand_like(scores) if self.label_noise else torch.zeros_like(scores)
        labels = torch.cat([1 - noise[: len(x)], noise[len(x) :]])
        loss = F.binary_cross_entropy_with_logits(scores, labels) + self.penalty(model.discriminator)
        told = {"real": (real > 0).float().mean(), "made": (fake < 0).float().mean()}
        return loss, self.counted(x, loss_discriminator=loss, **told)


class WassersteinGan(Adversarial):
    """The Wasserstein distance between real and generated images (Arjovsky et al. 2017), by a critic.

    The critic's loss is its mean on generated images, minus that on real ones, plus ``gradient_penalty`` times the mean
    of (||gradient|| - 1)^2 between pairs of both (Gulrajani et al. 2017, equation 3). With ``gradient_penalty=0`` a
    constraint set has to bound it, such as ``constraint=spectral``. The critic takes the extra steps.

    Args:
        facts, judge, l2, l1: see :class:`Adversarial`.
        critic_steps: steps of the critic for one of the generator, at least 1.
        gradient_penalty: factor of the penalty, at least 0.
        fresh: whether each step has a batch of its own; else those of a turn have the same.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    metrics = ("loss", "loss_discriminator", "wasserstein", "penalty")

    def __init__(
        self,
        facts: Facts,
        *,
        critic_steps: int = 3,
        gradient_penalty: float = 10.0,
        fresh: bool = False,
        judge: str | None = None,
        l2: float = 0.0,
        l1: float = 0.0,
    ):
        super().__init__(facts, judge=judge, l2=l2, l1=l1)
        if critic_steps < 1:
            raise ValueError(f"critic_steps={critic_steps}: must be at least 1")
        if not 0 <= gradient_penalty < math.inf:
            raise ValueError(f"gradient_penalty={gradient_penalty}: must be at least 0, and finite")
        self.gradient_penalty, self.fresh = gradient_penalty, fresh
        self.turns = ("discriminator",) * critic_steps + ("generator",)

    def of_generator(self, model: Any, x: Tensor) -> tuple[Tensor, Sums]:
        loss = self.penalty(model.generator) - in_full(model.discriminator(self.made(model, x))).mean()
        return loss, self.counted(x, loss=loss)

    def of_discriminator(self, model: Any, x: Tensor) -> tuple[Tensor, Sums]:
        with torch.no_grad():
            made = self.made(model, x).to(x.dtype)
        distance = in_full(model.discriminator(x)).mean() - in_full(model.discriminator(made)).mean()
        steep = steepness(model.discriminator, x, made) if self.gradient_penalty else torch.zeros_like(distance)
        loss = self.gradient_penalty * steep - distance + self.penalty(model.discriminator)
        return loss, self.counted(x, loss_discriminator=loss, wasserstein=distance, penalty=steep)


def steepness(critic: nn.Module, x: Tensor, made: Tensor) -> Tensor:
    """The mean of (||gradient|| - 1)^2 of the critic, at a random place between each pair of images; ()."""
    share = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device, dtype=x.dtype)
    learning = torch.is_grad_enabled()
    with torch.enable_grad():
        between = (share * x + (1 - share) * made).requires_grad_()
        (slope,) = torch.autograd.grad(in_full(critic(between)).sum(), between, create_graph=learning)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()
