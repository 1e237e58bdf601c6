"""Residual networks.

version 1    He, Zhang, Ren & Sun 2016: a bottleneck halves the image in its first 1 x 1 convolution
version 1.5  the same in its 3 x 3 convolution (Goyal et al. 2017); torchvision's network, with its parameter names
version 2    pre-activation (He, Zhang, Ren & Sun 2016, Identity Mappings): norm and ReLU come before each convolution

Run: ``python -m trainer data=cifar10 model=resnet18``

Shapes: B batch, C channels, H height, W width, K outputs.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torchvision.models import resnet

from models.layers import check_image, output_layer
from models.pretrained import Backbone, Pretrained

LAYERS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3], 152: [3, 8, 36, 3]}
BOTTLENECK_FROM = 50  # layers
SMALL_UP_TO = 64  # pixels: beyond, stem=auto is the one for ImageNet


class ResNet(Backbone):
    """Stem, four stages of residual blocks, average pool, dense layer: versions 1 and 1.5.

    Args:
        input_shape: (C, H, W).
        num_outputs: K, or a mapping head -> K.
        depth: layers with weights: 18 and 34 have two 3 x 3 convolutions a block, 50, 101 and 152 bottlenecks.
        version: 1 or 1.5: where a bottleneck's stride is, see above; 18 and 34 are the same in both.
        stem: ``imagenet``: 7 x 7 with stride 2, and a pool; ``small``: 3 x 3 with stride 1, and none; ``auto``: small
            for images of up to 64 pixels.
        pretrained: see :class:`models.pretrained.Backbone`.
        freeze: see :class:`models.pretrained.Backbone`.

    Raises:
        ValueError: the input is not an image, or the weights do not fit.
    """

    conv1: nn.Module  # torchvision's parts, by its names
    bn1: nn.Module
    relu: nn.Module
    maxpool: nn.Module
    layer1: nn.Module
    layer2: nn.Module
    layer3: nn.Module
    layer4: nn.Module
    avgpool: nn.Module
    fc: nn.Module

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int | dict[str, int],
        *,
        depth: Literal[18, 34, 50, 101, 152],
        version: float = 1.5,
        stem: Literal["auto", "imagenet", "small"] = "auto",
        pretrained: Pretrained = False,
        freeze: Literal["none", "backbone"] = "none",
    ):
        super().__init__()
        channels, *_ = check_image(input_shape, "ResNet")
        block = resnet.Bottleneck if depth >= BOTTLENECK_FROM else resnet.BasicBlock
        net = resnet.ResNet(block, LAYERS[depth])
        for name, module in net.named_children():
            self.add_module(name, module)
        if small_stem(stem, input_shape):
            if pretrained is not False:
                raise ValueError(f"pretrained={pretrained}: such weights are for model.stem=imagenet")
            self.conv1 = small_convolution(channels, 64)
            self.maxpool = nn.Identity()
        if version == 1 and depth >= BOTTLENECK_FROM:
            for module in self.modules():
                if isinstance(module, resnet.Bottleneck):
                    module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
        self.adapt(f"resnet{depth}", "conv1", "fc", channels, num_outputs, pretrained, freeze)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, C, H, W) -> (B, K), or a mapping head -> (B, K)"""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


def small_stem(stem: str, input_shape: tuple[int, ...]) -> bool:
    """Whether the stem is that for small images."""
    return stem == "small" or (stem == "auto" and min(input_shape[1:]) <= SMALL_UP_TO)


def small_convolution(channels: int, filters: int) -> nn.Conv2d:
    """3 x 3, stride 1, drawn as torchvision draws its convolutions."""
    return drawn(nn.Conv2d(channels, filters, 3, 1, 1, bias=False))


def drawn(conv: nn.Conv2d) -> nn.Conv2d:
    """The convolution with weights as in He et al. 2015, by fan-out."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv


class PreActivation(nn.Module):
    """A block of version 2: x + f(x), with f a chain of norm - ReLU - [dropout] - convolution.

    Where the shape changes, the shortcut is a 1 x 1 convolution of the first norm's and ReLU's output.

    Args:
        channels, width, stride: a basic block is 3 x 3 to `width`, 3 x 3; a bottleneck 1 x 1, 3 x 3, 1 x 1 to four
            times `width`.
        bottleneck: which of the two.
        dropout: before the last 3 x 3 convolution of a basic block (Zagoruyko & Komodakis 2016).
    """

    def __init__(self, channels: int, width: int, stride: int, *, bottleneck: bool, dropout: float = 0.0):
        super().__init__()
        out = 4 * width if bottleneck else width
        # (output channels, kernel, stride)
        steps = [(width, 1, 1), (width, 3, stride), (out, 1, 1)] if bottleneck else [(width, 3, stride), (out, 3, 1)]
        self.norms, self.convs = nn.ModuleList(), nn.ModuleList()
        c = channels
        for c_out, kernel, s in steps:
            self.norms.append(nn.BatchNorm2d(c))
            self.convs.append(drawn(nn.Conv2d(c, c_out, kernel, s, kernel // 2, bias=False)))
            c = c_out
        self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(dropout)
        changes = channels != out or stride != 1
        self.shortcut = drawn(nn.Conv2d(channels, out, 1, stride, bias=False)) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)"""
        first = self.relu(self.norms[0](x))
        residual = self.convs[0](first)
        for norm, conv in zip(self.norms[1:], self.convs[1:], strict=True):
            residual = conv(self.dropout(self.relu(norm(residual))))
        return residual + (x if self.shortcut is None else self.shortcut(first))


def stages(
    channels: int, widths: list[int], blocks: list[int], *, bottleneck: bool, dropout: float = 0.0
) -> nn.Sequential:
    """Stages of pre-activation blocks; each but the first halves the image in its first block."""
    result = nn.Sequential()
    for i, (width, n) in enumerate(zip(widths, blocks, strict=True)):
        stage = nn.Sequential()
        for j in range(n):
            stride = 2 if i > 0 and j == 0 else 1
            stage.append(PreActivation(channels, width, stride, bottleneck=bottleneck, dropout=dropout))
            channels = 4 * width if bottleneck else width
        result.append(stage)
    return result


class ResNetV2(nn.Module):
    """Version 2: as :class:`ResNet`, with pre-activation blocks, and norm and ReLU after the last."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int | dict[str, int],
        *,
        depth: Literal[18, 34, 50, 101, 152],
        stem: Literal["auto", "imagenet", "small"] = "auto",
    ):
        super().__init__()
        channels, *_ = check_image(input_shape, "ResNet")
        bottleneck = depth >= BOTTLENECK_FROM
        if small_stem(stem, input_shape):
            self.stem = nn.Sequential(small_convolution(channels, 64))
        else:
            conv = drawn(nn.Conv2d(channels, 64, 7, 2, 3, bias=False))
            self.stem = nn.Sequential(conv, nn.MaxPool2d(3, 2, 1))
        self.stages = stages(64, [64, 128, 256, 512], LAYERS[depth], bottleneck=bottleneck)
        d_out = 2048 if bottleneck else 512
        self.end = nn.Sequential(nn.BatchNorm2d(d_out), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = output_layer(d_out, num_outputs)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, C, H, W) -> (B, K), or a mapping head -> (B, K)"""
        return self.fc(self.end(self.stages(self.stem(x))))


def make_resnet(
    input_shape: tuple[int, ...],
    num_outputs: int | dict[str, int],
    *,
    depth: Literal[18, 34, 50, 101, 152],
    version: float,
    stem: Literal["auto", "imagenet", "small"],
    pretrained: Pretrained,
    freeze: Literal["none", "backbone"],
) -> ResNet | ResNetV2:
    """The residual network of a version; see :class:`ResNet`.

    Args:
        input_shape, num_outputs, depth, stem, pretrained, freeze: as for :class:`ResNet`.
        version: 1: a bottleneck's stride is in its first 1 x 1; 1.5: in its 3 x 3; 2: pre-activation.

    Raises:
        ValueError: as there; another version; and version 2 has no published weights.
    """
    if version not in (1, 1.5, 2):
        raise ValueError(f"version={version}: must be one of 1, 1.5, 2")
    if version != 2:
        return ResNet(
            input_shape, num_outputs, depth=depth, version=version, stem=stem, pretrained=pretrained, freeze=freeze
        )
    for name, value, off in (("pretrained", pretrained, False), ("freeze", freeze, "none")):
        if value != off:
            raise ValueError(f"{name}={value}: there are no published weights for version 2")
    return ResNetV2(input_shape, num_outputs, depth=depth, stem=stem)
