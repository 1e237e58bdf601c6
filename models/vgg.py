"""VGG (Simonyan & Zisserman 2015, configurations A, B, D and E): stages of 3 x 3 convolutions, each ended by a pool.

The network is torchvision's, with its parameter names, so that its weights load. This module adds a head for small
images, any number of input channels, and several heads.

Run: ``python -m trainer data=cifar10 model=vgg16 model.head=small model.batch_norm=true``

Shapes: B batch, C channels, H height, W width, K outputs.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torchvision.models import vgg

from models.layers import check_image, check_probability
from models.pretrained import Backbone, Pretrained

DEPTHS = {11: "A", 13: "B", 16: "D", 19: "E"}
STAGES = 5


class VGG(Backbone):
    """Five stages of convolutions and a pool, then dense layers.

    Args:
        input_shape: (C, H, W).
        num_outputs: K, or a mapping head -> K.
        depth: layers with weights.
        batch_norm: whether batch normalization follows each convolution.
        head: ``imagenet``: average pool to 7 x 7, two dense layers of 4,096 units with dropout; ``small``, for images
            of 28 to 64 pixels: average pool to 1 x 1 and dropout, and no fifth pool below 32 pixels.
        dropout: probability of a unit's zeroing in the head, in [0, 1).
        pretrained: see :class:`models.pretrained.Backbone`.
        freeze: see :class:`models.pretrained.Backbone`.

    Raises:
        ValueError: the input is not an image, or is too small for the stages.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int | dict[str, int],
        *,
        depth: Literal[11, 13, 16, 19],
        batch_norm: bool = False,
        head: Literal["imagenet", "small"] = "imagenet",
        dropout: float = 0.5,
        pretrained: Pretrained = False,
        freeze: Literal["none", "backbone"] = "none",
    ):
        super().__init__()
        channels, *sides = check_image(input_shape, "VGG")
        check_probability("dropout", dropout)
        layers = list(vgg.cfgs[DEPTHS[depth]])
        if head == "small" and min(sides) < 2**STAGES:
            layers = layers[:-1]
        check_depth(input_shape, layers.count("M"), head)
        net = vgg.VGG(vgg.make_layers(layers, batch_norm), dropout=dropout)
        self.features, self.avgpool, self.classifier = net.features, net.avgpool, net.classifier
        if head == "small":
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(512, 1000))
        name = f"vgg{depth}_bn" if batch_norm else f"vgg{depth}"
        self.adapt(
            name, "features.0", f"classifier.{len(self.classifier) - 1}", channels, num_outputs, pretrained, freeze
        )

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, C, H, W) -> (B, K), or a mapping head -> (B, K)"""
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


def check_depth(input_shape: tuple[int, ...], pools: int, head: str) -> None:
    """Raises ValueError, naming the stage, if an image is too small for so many halvings."""
    _, h, w = input_shape
    for stage in range(1, pools + 1):
        if min(h, w) < 2:
            hint = "; model.head=small goes without the fifth pool" if head == "imagenet" and stage == STAGES else ""
            raise ValueError(
                f"input_shape={tuple(input_shape)}: too small for VGG: {h} x {w} comes to the pool of stage {stage} of "
                f"{STAGES}, which would shrink it to nothing; at least {2**pools} x {2**pools} are needed{hint}"
            )
        h, w = h // 2, w // 2
