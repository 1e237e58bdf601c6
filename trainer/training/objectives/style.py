"""The objective of style transfer: a picture with the content of one photograph and the style of another.

Source: Gatys, Ecker & Bethge 2016; filters that are drawn, not learned: Ustyuzhaninov et al. 2016.
Run: ``python -m trainer experiment=style_transfer``

Shapes: B batch; pictures (B, 3, H, W), features of a layer (B, C, h, w).
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data import Batch, Facts
from data.photo import photograph
from models.pretrained import published, read_weights
from trainer.training.objectives.objective import Objective, Sums, in_full
from trainer.training.objectives.reconstruction import check_outputs, within_0_1

DRAWN = ((3, 32), (32, 64), (64, 64))  # channels of the convolutions whose filters are drawn
VGG_STYLE, VGG_CONTENT = (0, 5, 10, 19, 28), 30  # convolutions of VGG-19, as in the Keras example
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # means and deviations of its inputs


class Style(Objective):
    """content * C + style * S + variation * V, of features of a fixed network.

    C is the mean of squared differences between the features of the picture and of the photograph, in the deepest
    layer; S that between the Gram matrices of the features of the picture and of the other photograph, a mean over
    layers; V the mean of squared differences between neighbouring pixels.

    Args:
        facts: of a photograph, with pixels from 0 to 1 (``data.normalize=scale``).
        picture: the file with the style; ``china`` and ``flower`` ship with scikit-learn.
        content, style, variation: factors, at least 0.
        network: ``drawn``: three convolutions with random filters; ``vgg19``: torchvision's, downloaded once; or the
            path of a file with its weights.
        l2, l1: see :class:`Objective`.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    metrics = ("loss", "content", "style", "variation")
    monitor = "train/loss"

    def __init__(
        self,
        facts: Facts,
        *,
        picture: str,
        content: float = 1.0,
        style: float = 10.0,
        variation: float = 1.0,
        network: str = "drawn",
        l2: float = 0.0,
        l1: float = 0.0,
    ):
        super().__init__(facts, l2=l2, l1=l1)
        if len(facts.input_shape) != 3 or facts.input_shape[0] != 3 or not within_0_1(facts):
            raise ValueError("picture: needs pixels in colour, from 0 to 1: data=photo data.normalize=scale")
        for name, value in (("content", content), ("style", style), ("variation", variation)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value}: must be at least 0, and finite")
        self.place, self.network_name = picture, network
        self.factors = content, style, variation
        self.picture = torch.empty(0)  # of the style, bytes
        self.features: Features | None = None
        self.grams: list[Tensor] = []  # of the style

    def check(self, model: nn.Module) -> None:
        super().check(model)
        check_outputs(self, model)

    def begin(self) -> None:
        self.picture = torch.from_numpy(photograph(self.place, self.facts.input_shape[1], "picture"))
        self.features = self.build()

    def state(self) -> dict[str, Any]:
        return {"picture": self.picture}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.picture = state["picture"].cpu()
        self.features = self.build()

    def build(self) -> Features:
        """The fixed network."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = drawn() if self.network_name == "drawn" else vgg(self.network_name)
        return made.eval().requires_grad_(False)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums]:
        x = batch[0]
        made = in_full(model(x))
        assert self.features is not None  # begin() or load_state()
        if not self.grams or self.grams[0].device != x.device:
            self.features.to(x.device, x.dtype)
            with torch.no_grad():
                self.grams = [gram(f) for f in self.features(self.picture.to(x)[None] / 255)[0]]
        with torch.no_grad():
            _, wanted = self.features(x)
        ours, deep = self.features(made)
        apart = [(gram(f) - g).square().mean() for f, g in zip(ours, self.grams, strict=True)]
        parts = {
            "content": (deep - wanted).square().mean(),
            "style": torch.stack(apart).mean(),
            "variation": made.diff(dim=2).square().mean() + made.diff(dim=3).square().mean(),
        }
        weighted = [factor * part for factor, part in zip(self.factors, parts.values(), strict=True)]
        loss, n = torch.stack(weighted).sum() + self.penalty(model), len(x)
        sums = {name: part.detach() * n for name, part in {"loss": loss, **parts}.items()}
        return loss, sums | {"weight": n, "samples": n}

    def pictures(self, run: Any, split: str) -> Iterator[tuple[str, bytes]]:
        from PIL import Image

        with torch.inference_mode(), run.cast():
            x, *_ = run.dataset.batch(split, torch.zeros(1, dtype=torch.long, device=run.device))
            made = self.in_files(in_full(run.model(x)))[0].round().clamp(0, 255).byte()
        file = io.BytesIO()
        Image.fromarray(made.permute(1, 2, 0).cpu().numpy()).save(file, "PNG")
        yield "picture.png", file.getvalue()


class Features(nn.Module):
    """A fixed network's features: those for the style, and those for the content.

    Args:
        layers: in order.
        style, content: numbers of the layers whose outputs are taken.
        mean, std: of the network's inputs, by colour.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        layers: Sequence[nn.Module],
        style: Sequence[int],
        content: int,
        mean: Sequence[float],
        std: Sequence[float],
    ):
        super().__init__()
        self.layers, self.style, self.content = nn.ModuleList(layers[: content + 1]), style, content
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1))

    def forward(self, u: Tensor) -> tuple[list[Tensor], Tensor]:
        """Pictures (B, 3, H, W), 0 to 1 -> features (B, C, h, w) of each layer for the style, and of the content's"""
        u = (u - self.mean) / self.std
        found = []
        for i, layer in enumerate(self.layers):
            u = layer(u)
            if i in self.style:
                found.append(u)
        return found, u


def gram(features: Tensor) -> Tensor:
    """The mean over places of the products of channels, (B, C, C)."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def drawn() -> Features:
    """Convolutions of drawn filters with ReLU after each, and averages of 2 x 2 pixels between them."""
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(DRAWN):
        layer = nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect", bias=False)
        nn.init.normal_(layer.weight, std=(1 if number else 4) * math.sqrt(2 / (9 * before)))
        layers += [layer, nn.ReLU(), nn.AvgPool2d(2)]
    return Features(layers, (1, 4, 7), 7, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))


def vgg(network: str) -> Features:
    """The convolutions of torchvision's VGG-19, with published weights.

    Raises:
        ValueError: they cannot be had, or do not fit.
    """
    from torchvision.models import vgg19

    given = f"network={network}"
    weights = read_weights(published("vgg19", given) if network == "vgg19" else Path(network).expanduser(), given)
    layers = vgg19().features
    own = {key.removeprefix("features."): value for key, value in weights.items() if key.startswith("features.")}
    try:
        layers.load_state_dict(own)
    except RuntimeError as error:
        raise ValueError(f"network={network}: holds no weights of VGG-19") from error
    # torchvision's ReLUs write over the features that are compared.
    plain = [nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in layers]
    return Features(plain, VGG_STYLE, VGG_CONTENT, *IMAGENET)
