"""``python -m trainer see RUN_DIR``: images that a layer's filters answer to most, by gradient ascent.

    python -m trainer see RUN_DIR --layer net.0 --steps 200 --smooth 0.1

For each filter of a convolution (or unit of a dense layer) an image begins as grey with some noise and climbs: its
steps raise the mean of the filter's answer over all places, less a penalty, and stay in the range of the run's pixels.
It writes ``RUN_DIR/see/LAYER.png`` and prints each filter's answer before and after.

Source: Keras example Visualizing what convnets learn; total variation: Mahendran & Vedaldi 2015.

Shapes: F filters, one image each (F, C, H, W).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.table import Table
from torch import Tensor, nn

from data import normalized
from trainer.analysis.load import Run, load_run
from trainer.cli.display import screen, tell
from trainer.plot.figures import rendered, write_out
from trainer.rundir.errors import Refused
from trainer.rundir.run_dir import inside, shown

MOST = 64  # filters, unless some are named
ACROSS = 8
LISTED = 24  # filters in the printed table


@dataclass(frozen=True)
class Climb:
    """How images climb.

    Args:
        steps: at least 1.
        rate: length of a step, in deviations of a pixel from grey, for images of any size.
        l2: factor of the mean square of a pixel's distance from grey, in the range of the pixels.
        smooth: factor of the mean absolute difference between neighbouring pixels, in the same range.
        seed: of the noise to begin with.
    """

    steps: int = 100
    rate: float = 0.05
    l2: float = 0.0
    smooth: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise Refused(f"--steps={self.steps}: must be at least 1")
        if not 0 <= self.seed < 2**63:
            raise Refused(f"--seed={self.seed}: must be at least 0 and less than 2**63")
        for name, low in (("rate", 1e-12), ("l2", 0.0), ("smooth", 0.0)):
            bound = "more than" if low else "at least"
            if not low <= getattr(self, name) < math.inf:
                raise Refused(f"--{name}={getattr(self, name)}: must be {bound} 0, and finite")


def main(arguments: argparse.Namespace) -> None:
    """Runs the command."""
    how = Climb(arguments.steps, arguments.rate, arguments.l2, arguments.smooth, arguments.seed)
    run = load_run(arguments.run, arguments.checkpoint, arguments.device, trusted=arguments.trusted, full=True)
    name, layer = layer_of(run, arguments.layer)
    filters = chosen(layer, name, arguments.filters)
    out = arguments.out or arguments.run / "see" / f"{name}.png"
    if arguments.out is None and not inside(arguments.run, out):
        raise Refused(f"{out}: is a link out of the run directory; --out=FILE writes elsewhere")
    images, before, after = climb(run, layer, filters, how)
    title = f"what {len(filters)} filters of {name} answer to, after {how.steps} steps\n{run.facts.name}, {run.moment}"
    kind = out.suffix.removeprefix(".") or "png"
    write_out(out, rendered(figure, title, images, filters, after, run.facts.value_range, kind=kind))
    screen().print(table(filters, before, after))
    raised = int((after > before).sum())
    tell(f"raised   {raised} of {len(filters)} filters of {name}", f"picture  {shown(out)}")


def layers_of(run: Run) -> dict[str, nn.Module]:
    """The layers with filters or units, by name."""
    kinds = nn.Conv2d | nn.Linear | nn.ConvTranspose2d
    return {name: layer for name, layer in run.model.named_modules() if isinstance(layer, kinds)}


def layer_of(run: Run, name: str | None) -> tuple[str, nn.Module]:
    """The layer called `name`; None: the last convolution, or else the last layer.

    Raises:
        Refused: no such layer, or the run's inputs are no images.
    """
    shape = run.facts.input_shape
    if len(shape) != 3 or shape[0] not in (1, 3) or run.facts.value_range is None:
        raise Refused(f"{run.path}: its inputs are {shape}, no images of 1 or 3 channels with a range of values")
    layers = layers_of(run)
    if not layers:
        raise Refused(f"{run.path}: {type(run.model).__name__} has no convolution and no dense layer")
    if name is None:
        convolutions = [key for key, layer in layers.items() if isinstance(layer, nn.Conv2d)]
        name = (convolutions or list(layers))[-1]
    if name not in layers:
        raise Refused(f"--layer={name}: must be one of {', '.join(layers)}")
    return name, layers[name]


def chosen(layer: Any, name: str, given: str | None) -> list[int]:
    """The numbers of the filters; None: the first ones.

    Raises:
        Refused: one is no number, or the layer does not have it.
    """
    n = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if given is None:
        return list(range(min(n, MOST)))
    parts = given.split(",")
    if not all(part.strip().isdecimal() and int(part) < n for part in parts):
        raise Refused(f"--filters={given}: must be numbers with commas between them, from 0 to {n - 1} for {name}")
    return [int(part) for part in parts]


def climb(run: Run, layer: nn.Module, filters: Sequence[int], how: Climb) -> tuple[np.ndarray, Tensor, Tensor]:
    """Images with values as in the files, and the answer of each filter to its image before and after, (F,) each.

    Raises:
        Refused: the model's forward pass leaves the layer out.
    """
    facts = run.facts
    seen: dict[str, Tensor] = {}
    assert facts.value_range is not None  # layer_of
    low, high = facts.value_range
    own, places = torch.tensor(filters, device=run.device), torch.arange(len(filters), device=run.device)
    mean, scale = facts.mean.to(run.device, run.dtype), 1.0 / facts.std.to(run.device, run.dtype)
    run.model.requires_grad_(False)
    noise = torch.rand(len(filters), *facts.input_shape, generator=torch.Generator().manual_seed(how.seed))
    u = (0.5 + 0.1 * (noise - 0.5)).to(run.device, mean.dtype)  # 0: low, 1: high
    length = how.rate * math.sqrt(math.prod(facts.input_shape))

    def answers(u: Tensor) -> Tensor:
        run.model(normalized(low + u * (high - low), mean, scale))
        if "out" not in seen:
            raise Refused(f"{run.path}: a forward pass of {type(run.model).__name__} does not come to this layer")
        out = seen["out"]
        mine = out[..., own].flatten(1, -2).mean(1) if isinstance(layer, nn.Linear) and out.ndim > 2 else out[:, own]
        return mine[places, places].reshape(len(filters), -1).mean(1)

    hook = layer.register_forward_hook(lambda layer, inputs, output: seen.update(out=output))
    try:
        with torch.no_grad():
            before = answers(u)
        for _ in range(how.steps):
            u.requires_grad_()
            (slope,) = torch.autograd.grad((answers(u) - penalty(u, how)).sum(), u)
            norm = slope.flatten(1).norm(dim=1).clamp_min(torch.finfo(slope.dtype).tiny).view(-1, 1, 1, 1)
            u = (u + length * slope / norm).clamp(0, 1).detach()
        with torch.no_grad():
            after = answers(u)
    finally:
        hook.remove()
    return (low + u * (high - low)).float().cpu().numpy(), before.float().cpu(), after.float().cpu()


def penalty(u: Tensor, how: Climb) -> Tensor | float:
    """The penalty of each image, (F,)."""
    total: Tensor | float = 0.0
    if how.l2:
        total = total + how.l2 * (u - 0.5).square().flatten(1).mean(1)
    if how.smooth:
        across, down = u.diff(dim=3).abs(), u.diff(dim=2).abs()
        total = total + how.smooth * (across.flatten(1).mean(1) + down.flatten(1).mean(1))
    return total


def figure(
    title: str, images: np.ndarray, filters: Sequence[int], after: Tensor, value_range: tuple[float, float]
) -> Figure:
    """A grid of the images, each with its filter and the answer to it."""
    low, high = value_range
    across = min(ACROSS, len(images))
    down = math.ceil(len(images) / across)
    made = Figure(figsize=(max(4.6, 1.25 * across), 1.45 * down + 0.8), layout="constrained")
    axes = made.subplots(down, across, squeeze=False).flat
    for axis in axes:
        axis.axis("off")
    for axis, image, number, value in zip(made.axes, images, filters, after.tolist(), strict=False):
        pixels = ((image - low) / (high - low)).transpose(1, 2, 0)
        axis.imshow(pixels.squeeze(-1) if pixels.shape[2] == 1 else pixels, cmap="gray", vmin=0, vmax=1)
        axis.set_title(f"{number}: {value:.3g}", fontsize=8, pad=2)
    made.suptitle(title, fontsize=9)
    return made


def table(filters: Sequence[int], before: Tensor, after: Tensor) -> Table:
    """The answers of the filters."""
    found = Table()
    for header in ("filter", "before", "after"):
        found.add_column(header, justify="right")
    for number, first, last in list(zip(filters, before.tolist(), after.tolist(), strict=True))[:LISTED]:
        found.add_row(str(number), f"{first:.4g}", f"{last:.4g}")
    if len(filters) > LISTED:
        found.add_row(f"… {len(filters) - LISTED} more", "", "")
    return found
