"""A network from a list of layers in YAML: plain convolutional networks, and other sequences of layers.

    layers:
    - {conv: 10, kernel: 3, padding: same}
    - activation
    - {pool: max, kernel: 2}
    - flatten
    - {dense: 50}
    - activation

The output layer is added. Run: ``python -m trainer model=cnn``, ``python -m trainer model=cnn_asymmetric``

Shapes: B batch, C channels, H height, W width, D features, K outputs.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from models.layers import activation as make_activation
from models.layers import check_probability, initialize, output_layer

Shape = tuple[int, ...]


@dataclass
class Builder:
    """The layers so far, and the shape of one sample after them."""

    shape: Shape
    defaults: dict[str, Any]  # of layers that do not say otherwise
    layers: list[nn.Module] = field(default_factory=list)
    where: str = ""  # the layer under way, for errors

    def add(self, where: str, entry: Any) -> None:
        """Adds the layer that `entry` describes.

        Raises:
            ValueError: it describes no layer, or does not fit the layer before.
        """
        self.where = where
        shown = str(entry).replace("'", "")
        entry = {entry: None} if isinstance(entry, str) else entry
        kind = next((k for k in entry if k in KINDS), None) if isinstance(entry, dict) else None
        if kind is None:
            raise ValueError(f"{where}={shown}: must be one of {', '.join(KINDS)}")
        build, known = KINDS[kind]
        for key in entry:
            if key != kind and key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ValueError(
                    f"{where}.{key}={entry[key]}: unknown key; {hint}{kind} has {', '.join(known) or 'none'}"
                )
        build(self, entry[kind], **{k: v for k, v in entry.items() if k != kind})

    def refuse(self, text: str) -> ValueError:
        return ValueError(f"{self.where}={text}")

    def image(self, kind: str) -> tuple[int, int, int]:
        """The shape, which must be one of images."""
        if len(self.shape) != 3:
            shape = tuple(self.shape)
            if not any(isinstance(layer, nn.Flatten) for layer in self.layers):
                raise ValueError(f"input_shape={shape}: {self.where} is {kind}, which takes (channels, height, width)")
            raise self.refuse(f"{kind}: takes images, (channels, height, width), and {shape} comes in")
        return self.shape

    def flat(self) -> int:
        """The features of one sample, flattened if they are not yet."""
        if len(self.shape) > 1:
            self.flatten(None)
        return self.shape[0]

    def whole(self, name: str, value: Any, low: int) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise ValueError(f"{self.where}.{name}={value}: must be a whole number, at least {low}")
        return value

    def flag(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"{self.where}.{name}={value}: must be true or false")
        return value

    def pair(self, name: str, value: Any, low: int = 1) -> tuple[int, int]:
        """(vertical, horizontal) from one number or two."""
        values = value if isinstance(value, list) else [value, value]
        if len(values) != 2:
            raise ValueError(f"{self.where}.{name}={value}: must be one number, or [vertical,horizontal]")
        return self.whole(name, values[0], low), self.whole(name, values[1], low)

    def window(self, kind: str, filters: Any, kernel: Any, stride: Any) -> tuple[int, tuple[int, int], tuple[int, int]]:
        return self.whole(kind, filters, 1), self.pair("kernel", kernel), self.pair("stride", stride)

    def slid(self, kind: str, kernel: tuple[int, int], stride: tuple[int, int], pad: tuple[int, int]) -> Shape:
        """Height and width after a window has slid over a padded image."""
        _, *sides = self.shape
        if any(k > side + 2 * p for side, k, p in zip(sides, kernel, pad, strict=True)):
            size, image = " x ".join(map(str, kernel)), " x ".join(map(str, sides))
            raise self.refuse(f"{kind}: its kernel of {size} is larger than the image of {image} that comes in")
        return tuple((side + 2 * p - k) // s + 1 for side, k, s, p in zip(sides, kernel, stride, pad, strict=True))

    def conv(self, filters: Any, kernel: Any = 3, stride: Any = 1, padding: Any = "same", bias: bool = True) -> None:
        c, h, w = self.image("conv")
        bias = self.flag("bias", bias)
        filters, kernel, stride = self.window("conv", filters, kernel, stride)
        if padding == "same":
            # Output ceil(input / stride), the odd pixel at the bottom and the right, as in Keras: torch has it only
            # for a stride of 1.
            (top, bottom), (left, right) = map(_same, (h, w), kernel, stride)
            if (top, left) == (bottom, right):
                self.layers.append(nn.Conv2d(c, filters, kernel, stride, (top, left), bias=bias))
            else:
                self.layers += [
                    nn.ZeroPad2d((left, right, top, bottom)),
                    nn.Conv2d(c, filters, kernel, stride, bias=bias),
                ]
            self.shape = (filters, -(-h // stride[0]), -(-w // stride[1]))
            return
        if isinstance(padding, str) and padding != "valid":
            raise ValueError(f"{self.where}.padding={padding}: must be same, valid, a number, or [vertical,horizontal]")
        pad = (0, 0) if padding == "valid" else self.pair("padding", padding, 0)
        self.layers.append(nn.Conv2d(c, filters, kernel, stride, pad, bias=bias))
        self.shape = (filters, *self.slid("conv", kernel, stride, pad))

    def conv_transpose(
        self, filters: Any, kernel: Any = 3, stride: Any = 1, padding: Any = "same", bias: bool = True
    ) -> None:
        c, h, w = self.image("conv_transpose")
        bias = self.flag("bias", bias)
        filters, kernel, stride = self.window("conv_transpose", filters, kernel, stride)
        if padding not in ("same", "valid"):
            raise ValueError(f"{self.where}.padding={padding}: must be same or valid")
        # It mirrors the convolution that makes an image of this size of its output: what that one pads, it cuts off.
        cut = [max(k - s, 0) if padding == "same" else 0 for k, s in zip(kernel, stride, strict=True)]
        before = (cut[0] // 2, cut[1] // 2)
        more = [max(s - k, 0) if padding == "same" else 0 for k, s in zip(kernel, stride, strict=True)]
        self.layers.append(nn.ConvTranspose2d(c, filters, kernel, stride, before, (more[0], more[1]), bias=bias))
        if any(odd := [missing % 2 for missing in cut]):  # one more at the bottom and the right
            self.layers.append(nn.ZeroPad2d((0, -odd[1], 0, -odd[0])))
        each = zip((h, w), kernel, stride, cut, more, strict=True)
        self.shape = (filters, *((side - 1) * s + k - less + extra for side, k, s, less, extra in each))

    def upsample(self, factor: Any, mode: Any = "nearest") -> None:
        c, h, w = self.image("upsample")
        vertical, horizontal = self.pair("upsample", factor)
        if mode not in ("nearest", "bilinear"):
            raise ValueError(f"{self.where}.mode={mode}: must be nearest or bilinear")
        self.layers.append(nn.Upsample(scale_factor=(vertical, horizontal), mode=mode))
        self.shape = (c, h * vertical, w * horizontal)

    def pad(self, pixels: Any) -> None:
        c, h, w = self.image("pad")
        top, left = self.pair("pad", pixels, -(min(h, w) - 1) // 2)
        self.layers.append(nn.ZeroPad2d((left, left, top, top)))
        self.shape = (c, h + 2 * top, w + 2 * left)

    def reshape(self, shape: Any) -> None:
        given = shape if isinstance(shape, list) else [shape]
        sides = tuple(self.whole("reshape", side, 1) for side in given)
        if not sides or math.prod(sides) != math.prod(self.shape):
            raise ValueError(f"{self.where}.reshape={shape}: must have {math.prod(self.shape)} entries, as comes in")
        if len(self.shape) > 1:
            self.flatten(None)
        self.layers.append(nn.Unflatten(1, sides))
        self.shape = sides

    def pool(self, how: Any, kernel: Any = 2, stride: Any = None) -> None:
        c, _, _ = self.image("pool")
        if how not in ("max", "average"):
            raise ValueError(f"{self.where}.pool={how}: must be max or average")
        kernel = self.pair("kernel", kernel)
        stride = kernel if stride is None else self.pair("stride", stride)
        self.layers.append((nn.MaxPool2d if how == "max" else nn.AvgPool2d)(kernel, stride))
        self.shape = (c, *self.slid("pool", kernel, stride, (0, 0)))

    def norm(self, how: Any) -> None:
        if how not in ("batch", "layer"):
            raise ValueError(f"{self.where}.norm={how}: must be batch or layer")
        if how == "layer":
            self.layers.append(nn.LayerNorm(self.shape))
        else:
            self.layers.append((nn.BatchNorm2d if len(self.shape) == 3 else nn.BatchNorm1d)(self.shape[0]))

    def activation(self, name: Any, slope: float | None = None, prelu: str | None = None) -> None:
        chosen = self.defaults | {k: v for k, v in {"slope": slope, "prelu": prelu}.items() if v is not None}
        try:
            self.layers += make_activation(
                chosen["activation"] if name is None else name,
                self.shape[0],
                slope=chosen["slope"],
                prelu=chosen["prelu"],
            )
        except ValueError as error:
            raise ValueError(str(error) if name is None else f"{self.where}.{error}") from error

    def dropout(self, p: Any) -> None:
        p = self.defaults["dropout"] if p is None else p
        check_probability(f"{self.where}.dropout", p)
        if p:
            self.layers.append(nn.Dropout(p))

    def flatten(self, nothing: Any) -> None:
        if nothing is not None:
            raise ValueError(f"{self.where}.flatten={nothing}: takes no value")
        self.layers.append(nn.Flatten())
        self.shape = (math.prod(self.shape),)

    def dense(self, units: Any, bias: bool = True) -> None:
        self.layers.append(nn.Linear(self.flat(), self.whole("dense", units, 1), bias=self.flag("bias", bias)))
        self.shape = (units,)

    def embedding(self, width: Any, words: Any = None) -> None:
        words = self.defaults.get("words") if words is None else words
        if self.layers or len(self.shape) != 1 or words is None:
            raise self.refuse("embedding: stands first, over tokens; words is how many there are")
        self.layers.append(nn.Embedding(self.whole("words", words, 1), self.whole("embedding", width, 1)))
        self.shape = (self.shape[0], width)

    def repeat(self, times: Any, layers: Any = ()) -> None:
        where = self.where
        if not isinstance(layers, list) or not layers:
            raise ValueError(f"{where}.layers={layers}: must be a list of layers")
        for _ in range(self.whole("repeat", times, 1)):
            for i, entry in enumerate(layers):
                self.add(f"{where}.layers[{i}]", entry)


KINDS: dict[str, tuple[Callable[..., None], tuple[str, ...]]] = {
    "conv": (Builder.conv, ("kernel", "stride", "padding", "bias")),
    "conv_transpose": (Builder.conv_transpose, ("kernel", "stride", "padding", "bias")),
    "pool": (Builder.pool, ("kernel", "stride")),
    "upsample": (Builder.upsample, ("mode",)),
    "pad": (Builder.pad, ()),
    "reshape": (Builder.reshape, ()),
    "norm": (Builder.norm, ()),
    "activation": (Builder.activation, ("slope", "prelu")),
    "dropout": (Builder.dropout, ()),
    "flatten": (Builder.flatten, ()),
    "dense": (Builder.dense, ("bias",)),
    "embedding": (Builder.embedding, ("words",)),
    "repeat": (Builder.repeat, ("layers",)),
}


def built(name: str, entries: list, shape: Shape, defaults: dict[str, Any]) -> Builder:
    """The layers of a list, for samples of `shape`.

    Args:
        name: that of the list, for errors.
        defaults: of layers that do not say otherwise: activation, slope, prelu, dropout.

    Raises:
        ValueError: `name[i]…: what would be right`.
    """
    builder = Builder(shape, defaults)
    for i, entry in enumerate(entries):
        builder.add(f"{name}[{i}]", entry)
    return builder


def built_to(name: str, entries: list, shape: Shape, end: Shape, defaults: dict[str, Any]) -> nn.Sequential:
    """The layers of a list, and a dense one to the shape `end` unless they end in it; see :func:`built`."""
    builder = built(name, entries, shape, defaults)
    if builder.shape != end:
        builder.layers.append(nn.Linear(builder.flat(), math.prod(end)))
        if len(end) > 1:
            builder.layers.append(nn.Unflatten(1, end))
    return nn.Sequential(*builder.layers)


class LayerList(nn.Module):
    """The layers of a list, one after the other, flattened at the latest before the output layer, which is added.

    ==============  ===============================================================================================
    entry           meaning
    ==============  ===============================================================================================
    ``conv: n``     `n` filters; ``kernel`` (3), ``stride`` (1): one number, or [vertical, horizontal]; ``padding``:
                    ``same`` (output ceil(input / stride)), ``valid`` or pixels; ``bias`` (true)
    ``conv_transpose: n``
                    the transposed convolution; ``kernel``, ``stride``, ``bias`` as above; ``padding``: ``same`` (output
                    input * stride) or ``valid``
    ``upsample: n`` each pixel `n` times in both directions, or [vertical, horizontal]; ``mode``: ``nearest`` or
                    ``bilinear``
    ``pad: n``      `n` pixels of zeros at each side, or [vertical, horizontal]; negative: cut off
    ``reshape: s``  the shape of a sample, such as [8, 7, 7]
    ``pool: max``   or ``average``; ``kernel`` (2), ``stride`` (that of the kernel)
    ``norm: batch`` or ``layer``
    ``activation``  or ``activation: name``, ``slope``, ``prelu``; without a name, that of the model
    ``dropout``     or ``dropout: p``; without a number, that of the model
    ``flatten``
    ``dense: n``    `n` units; ``bias`` (true)
    ``embedding: n``
                    first, of inputs that are tokens: a vector of `n` numbers for each; ``words``: those of the data
    ``repeat: n``   the list ``layers``, `n` times
    ==============  ===============================================================================================

    Args:
        input_shape: of one sample.
        num_outputs: K, or a mapping head -> K.
        facts: of the dataset, whose ``vocabulary`` an embedding has; without it, ``words``.
        layers: the layers in order, such as [{conv: 10, kernel: 3}, activation, flatten].
        activation: of the layers without their own, such as relu, elu or tanh (:data:`models.layers.ACTIVATIONS`).
        slope: of ``leaky_relu``, in the layers without their own.
        prelu: one slope for all units (``shared``), or for each ``unit``, in the layers without their own.
        dropout: probability of a unit's zeroing in the layers without their own, in [0, 1).
        init: how weights are drawn, such as he_normal; default: torch's own (:func:`models.layers.initialize`).

    Raises:
        ValueError: `layers[i]…: what would be right`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int | dict[str, int],
        *,
        layers: list,
        facts: Any = None,
        activation: str = "relu",
        slope: float = 0.01,
        prelu: str = "shared",
        dropout: float = 0.0,
        init: str = "default",
    ):
        super().__init__()
        check_probability("dropout", dropout)
        defaults = {"activation": activation, "slope": slope, "prelu": prelu, "dropout": dropout}
        if facts is not None and facts.vocabulary is not None:
            defaults["words"] = len(facts.vocabulary)
        builder = built("layers", layers, tuple(input_shape), defaults)
        d_out = builder.flat()
        self.net = nn.Sequential(*builder.layers, output_layer(d_out, num_outputs))
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor | dict[str, Tensor]:
        """(B, *input_shape) -> (B, K), or a mapping head -> (B, K)"""
        return self.net(x)


def _same(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after a side for ceil(side / stride) places of the kernel."""
    missing = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return missing // 2, missing - missing // 2
