"""Augmentation: random changes of training images, on the device, of a whole batch at once.

Run: ``python -m trainer data=fashion_mnist data.augment.crop=2 data.augment.flip=true``

Shapes: B batch, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# Area and aspect ratio of an erased rectangle, the defaults of Zhong et al. 2020 and of torchvision.
ERASED_AREA, ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)


@dataclass(kw_only=True)
class Augment:
    """Settings of augmentation; everything is off at 0 and false.

    Args:
        crop: pads every side by so many pixels, at least 0, then cuts a window of the image's size at random.
        pad: content of the crop's padding: ``zero`` (before normalization) or ``reflect``.
        flip: mirrors left and right, with probability 1/2.
        rotate: turns by up to so many degrees either way, in [0, 180]; gaps are 0 before normalization.
        translate: shifts by up to this share of width and height, in [0, 1).
        erase: probability that a rectangle of 2 % to 33 % of the area is set to 0 after normalization (random erasing,
            Zhong et al. 2020).
        mixup: alpha of mixup's Beta(alpha, alpha) (Zhang et al. 2018), at least 0: a convex combination with another
            image of the batch, and of the labels.
        cutmix: alpha of CutMix (Yun et al. 2019), at least 0: a rectangle of another image, and labels by area. Where
            both are on, each batch gets one of them.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    crop: int = 0
    pad: Literal["zero", "reflect"] = "zero"
    flip: bool = False
    rotate: float = 0.0
    translate: float = 0.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self) -> None:
        for name, low, high in (("crop", 0, 2**15), ("rotate", 0, 180), ("erase", 0, 1)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name}={getattr(self, name)}: must be in [{low}, {high}]")
        if not 0 <= self.translate < 1:
            raise ValueError(f"translate={self.translate}: must be in [0, 1)")
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 0, and finite")

    @property
    def active(self) -> bool:
        """Whether any augmentation is on."""
        return bool(self.crop or self.flip or self.rotate or self.translate or self.erase or self.mixes)

    @property
    def mixes(self) -> bool:
        """Whether images and labels are mixed with others."""
        return bool(self.mixup or self.cutmix)

    def check(self, task: str, input_shape: tuple[int, ...]) -> None:
        """Raises ValueError if the data are no images, the padding does not fit, or there are no labels to mix."""
        if not self.active:
            return
        name = next(k for k in ("crop", "flip", "rotate", "translate", "erase", "mixup", "cutmix") if getattr(self, k))
        if len(input_shape) != 3:
            shape = " x ".join(map(str, input_shape))
            given = str(getattr(self, name)).lower()
            raise ValueError(f"{name}={given}: augmentation is for images (channels, height, width), not for {shape}")
        if self.crop > min(input_shape[1:]):
            raise ValueError(f"crop={self.crop}: must be at most the image's shorter side, {min(input_shape[1:])}")
        if self.pad == "reflect" and self.crop >= min(input_shape[1:]):
            raise ValueError(f"crop={self.crop}: reflects at most {min(input_shape[1:]) - 1} pixels of such an image")
        for name in ("mixup", "cutmix"):
            if getattr(self, name) and task != "classification":
                raise ValueError(f"{name}={getattr(self, name)}: mixes classes; the task is {task}")

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """The random numbers of `n` images: (11, n), uniform in [0, 1)."""
        return torch.rand(11, n, generator=generator, device=generator.device)

    def move(self, x_BCHW: Tensor, u: Tensor) -> Tensor:
        """Crop, flip, rotation and translation of raw images of any dtype by `u`; the last two return float32."""
        if self.crop:
            x_BCHW = crop(x_BCHW, self.crop, self.pad, u[0], u[1])
        if self.flip:
            x_BCHW = flip(x_BCHW, u[2] < 0.5)
        if self.rotate or self.translate:
            turn, across, down = 2 * u[3:6] - 1
            x_BCHW = affine(x_BCHW.float(), turn * self.rotate, across * self.translate, down * self.translate)
        return x_BCHW

    def erased(self, x_BCHW: Tensor, u: Tensor) -> Tensor:
        """Random erasing of normalized images by `u`."""
        return erase(x_BCHW, self.erase, u[6:]) if self.erase else x_BCHW

    def blend(self, x_BCHW: Tensor, y_B: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
        """Mixup or CutMix of a batch, by torchvision; they draw from torch's global generator on the CPU.

        Returns:
            images, and class probabilities (B, K).
        """
        return _mixer(self.mixup, self.cutmix, num_classes)(x_BCHW, y_B)


@functools.cache
def _mixer(mixup: float, cutmix: float, num_classes: int) -> Callable[..., tuple[Tensor, Tensor]]:
    from torchvision.transforms import v2  # the import takes 1.5 s: only if needed

    both = [
        *([v2.MixUp(alpha=float(mixup), num_classes=num_classes)] if mixup else []),
        *([v2.CutMix(alpha=float(cutmix), num_classes=num_classes)] if cutmix else []),
    ]
    return v2.RandomChoice(both) if len(both) == 2 else both[0]


def crop(x_BCHW: Tensor, padding: int, pad: str, down_B: Tensor, across_B: Tensor) -> Tensor:
    """A window of H x W of each padded image; `down_B` and `across_B` in [0, 1) are its position.

    A window is H rows of W neighbouring numbers: one `index_select` over all stretches of W numbers in memory copies
    it, with one index per row instead of one per pixel.
    """
    B, C, H, W = x_BCHW.shape
    padded = F.pad(x_BCHW, (padding,) * 4, mode="constant" if pad == "zero" else pad).contiguous()
    run_starts = _row_starts(B, C, H, W + 2 * padding, H + 2 * padding, padded.device)
    span = 2 * padding + 1
    shift_B = (down_B * span).long() * (W + 2 * padding) + (across_B * span).long()
    runs = padded.view(-1).as_strided((padded.numel() - W + 1, W), (1, 1))
    return runs.index_select(0, (run_starts + shift_B[:, None]).view(-1)).view(B, C, H, W)


@functools.lru_cache(maxsize=16)
def _row_starts(B: int, C: int, H: int, width: int, height: int, device: torch.device) -> Tensor:
    """The starts of the first H rows of each image and channel in a batch of `height` x `width`: (B, C * H)."""
    rows_CH = torch.arange(C, device=device)[:, None] * height * width + torch.arange(H, device=device) * width
    return torch.arange(B, device=device)[:, None] * C * height * width + rows_CH.view(1, -1)


def flip(x_BCHW: Tensor, mirror_B: Tensor) -> Tensor:
    """Mirrors left and right where `mirror_B` is true."""
    flipped, mirror_B111 = x_BCHW.flip(-1), mirror_B[:, None, None, None]
    if x_BCHW.dtype != torch.uint8:
        return torch.where(mirror_B111, flipped, x_BCHW)
    mask = mirror_B111.to(torch.uint8).neg()  # 255 or 0; bit operations are several times faster than `where`
    return flipped.bitwise_xor_(x_BCHW).bitwise_and_(mask).bitwise_xor_(x_BCHW)


def affine(x_BCHW: Tensor, degrees_B: Tensor, across_B: Tensor, down_B: Tensor) -> Tensor:
    """Turns each image clockwise about its centre, then shifts it by a share of its size; bilinear, 0 outside."""
    B, _, H, W = x_BCHW.shape
    cos, sin = torch.deg2rad(degrees_B).cos(), torch.deg2rad(degrees_B).sin()
    # From a place in the result back to its origin: shift back, then turn back. Coordinates go from -1 to 1 along both
    # sides, so a rotation of pixels needs the aspect ratio.
    rows = torch.stack([cos, sin * (H / W), torch.zeros_like(cos), -sin * (W / H), cos, torch.zeros_like(cos)], 1)
    theta_B23 = rows.view(B, 2, 3)
    shift_B2 = 2 * torch.stack([across_B, down_B], 1)
    theta_B23[:, :, 2] = -(theta_B23[:, :, :2] @ shift_B2[:, :, None])[:, :, 0]
    grid = F.affine_grid(theta_B23, list(x_BCHW.shape), align_corners=False)
    return F.grid_sample(x_BCHW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def erase(x_BCHW: Tensor, p: float, u: Tensor) -> Tensor:
    """Sets a rectangle of each image to 0 with probability `p`; `u` (5, B) in [0, 1) are the random numbers."""
    _, _, H, W = x_BCHW.shape
    area = H * W * (ERASED_AREA[0] + u[0] * (ERASED_AREA[1] - ERASED_AREA[0]))
    low, high = map(math.log, ERASED_RATIO)
    ratio = (low + u[1] * (high - low)).exp()
    height, width = (area * ratio).sqrt().clamp(max=H), (area / ratio).sqrt().clamp(max=W)
    top, left = u[2] * (H - height), u[3] * (W - width)
    y, x = torch.arange(H, device=u.device) + 0.5, torch.arange(W, device=u.device) + 0.5
    rows_BH = (y >= top[:, None]) & (y < (top + height)[:, None])
    columns_BW = (x >= left[:, None]) & (x < (left + width)[:, None]) & (u[4] < p)[:, None]
    return x_BCHW.masked_fill((rows_BH[:, :, None] & columns_BW[:, None, :])[:, None], 0.0)
