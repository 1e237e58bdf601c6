"""``python -m trainer weights RUN_DIR …``: the first layers of runs on images, side by side.

    python -m trainer -m model.widths=[100] optim=sgd,cgd data=mnist hydra.sweep.dir=mnist
    python -m trainer weights mnist/*/ --out weights.pdf

A unit of a dense layer is an image of the input's size, a filter of a convolution its kernel. Each run has a row of
them, with statistics that show the effect of a constraint set; ``evaluation/weights.png`` shows more units of one run.
The runs may still be training.
"""

from __future__ import annotations

import argparse
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.markup import escape
from rich.table import Table
from torch import nn

from optim import effective_rank
from optim.measure import sparse_share
from optim.sets.precision import share
from trainer.analysis.load import Run, load_run
from trainer.analysis.robustness import labelled
from trainer.cli.display import screen, tell
from trainer.plot import look
from trainer.plot.figures import check_picture, rendered, write_out
from trainer.rundir.errors import Refused
from trainer.rundir.records import find_runs
from trainer.rundir.run_dir import shown

MOST = 64  # units in the picture of one run
ACROSS = 8  # units in a row
COLOURS = "RdBu_r"  # for one channel: blue below 0, white at 0, red above
MEANT = "of all entries, near 0: at most 1e-3 of the largest magnitude; at max abs(w): at least 0.999 of it"
RANKED = 1e10  # multiplications above which the rank is not computed
GAP = 0.08  # between two images, in image sides
SIDE = 0.62  # of an image in a row, in inches


@dataclass
class First:
    """The first layer of a run. Shapes: U units or filters, each an image (C, H, W) with C 1 or 3.

    Args:
        parameter: its name in the model, and `shape` its own.
        names: the classes of the units, if the layer is the only one.
        near_zero: share of entries with at most 1e-3 of the largest magnitude, the run's `optim/sparsity`.
        at_largest: share with at least 0.999 of it; for a hypercube whose bound is reached, `optim/boundary`.
        rank: effective rank of (units, the rest), as in `optim/effective_rank`; None if it takes long.
    """

    parameter: str
    shape: tuple[int, ...]
    images_UCHW: np.ndarray
    kind: str
    names: Sequence[str]
    near_zero: float
    at_largest: float
    rank: float | None

    def chosen(self, most: int) -> np.ndarray:
        """The shown units: all in their order, or the `most` of largest norm in descending order."""
        norms_U = np.square(self.images_UCHW).sum((1, 2, 3))
        return np.arange(len(norms_U)) if len(norms_U) <= most else np.argsort(-norms_U, kind="stable")[:most]

    def numbers(self) -> dict[str, str]:
        """The statistics of the whole weight."""
        rank = "-" if self.rank is None else f"{self.rank:.1f} of {min(self.shape[0], math.prod(self.shape[1:]))}"
        shares = {"near 0": self.near_zero, "at max abs(w)": self.at_largest}
        return {name: f"{100 * share:.1f} %" for name, share in shares.items()} | {"effective rank": rank}


def main(arguments: argparse.Namespace) -> None:
    """Reads the runs, draws the picture, prints the statistics."""
    if not 1 <= arguments.units <= 100:
        raise Refused(f"--units={arguments.units}: must be 1 to 100")
    paths = list({path.resolve(): path for path in arguments.runs}.values())
    out = arguments.out or (paths[0] if len(paths) == 1 else Path("outputs")) / "weights.png"
    check_picture(out)

    layers = []
    for path in paths:
        run = load_run(path, arguments.checkpoint, "cpu", trusted=arguments.trusted)
        layer = first_layer(run)
        if layer is None:
            given = " x ".join(map(str, run.facts.input_shape))
            raise Refused(f"{path}: its first layer does not read images of 1 or 3 channels; its inputs are {given}")
        layers.append(layer)
    labels = labelled([find_runs([path])[0] for path in paths])
    kind = out.suffix[1:].lower()
    write_out(out, rendered(rows_figure, layers, labels, arguments.units, kind=kind, dpi=look.DPI))
    screen().print(table(layers, labels))
    tell(f"picture  {shown(out.absolute())}")


def first_layer(run: Run) -> First | None:
    """The run's first layer; None unless it is dense or a convolution and reads images of 1 or 3 channels."""
    shape = run.facts.input_shape
    found = weighted(run.model)
    if len(shape) != 3 or shape[0] not in (1, 3) or not found:
        return None
    name, layer = found[0]
    if isinstance(layer, nn.Linear) and layer.in_features == math.prod(shape):
        kind, of_unit = "units", tuple(shape)
    elif isinstance(layer, nn.Conv2d) and layer.weight.shape[1] == shape[0]:
        kind, of_unit = "filters", tuple(layer.weight.shape[1:])
    else:
        return None
    w = layer.weight.detach().double().cpu()
    names = run.facts.output_names.get("", ()) if len(found) == 1 else ()
    U, rest = len(w), w[0].numel()
    return First(
        f"{name}.weight".lstrip("."),
        tuple(w.shape),
        w.view(U, *of_unit).numpy(),
        kind,
        names if len(names) == U else (),
        sparse_share(w).item(),
        share(w.abs() >= 0.999 * w.abs().amax()).item(),
        effective_rank(w).item() if min(U, rest) ** 2 * max(U, rest) <= RANKED else None,
    )


def weighted(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers with weights of two or more axes, in the model's order."""
    modules = model.named_modules()
    return [(name, m) for name, m in modules if any(p.ndim >= 2 for p in m.parameters(recurse=False))]


def colour_limit(images: np.ndarray) -> tuple[float, bool]:
    """The end of the colour scale, the same below and above 0, and whether larger entries are clipped.

    A few very large entries would make the colours of all others pale; entries near zero are not counted.
    """
    magnitudes = np.abs(images)
    largest = float(magnitudes.max())
    if largest == 0:
        return 1.0, False
    limit = float(np.quantile(magnitudes[magnitudes > 1e-3 * largest], 0.995))
    return (limit, True) if largest > 1.5 * limit else (largest, False)


def place(axis: Axes, image_CHW: np.ndarray, limit: float, left: float, top: float) -> None:
    """Draws a whole image in the middle of the square of side 1 at this corner, y downwards."""
    C, H, W = image_CHW.shape
    width, height = min(1.0, W / H), min(1.0, H / W)
    x, y = left + (1 - width) / 2, top + (1 - height) / 2
    edges: dict[str, Any] = {"extent": (x, x + width, y + height, y), "interpolation": "nearest"}
    if C == 1:
        axis.imshow(image_CHW[0], cmap=COLOURS, vmin=-limit, vmax=limit, **edges)
    else:
        axis.imshow(np.clip(0.5 + image_CHW.transpose(1, 2, 0) / (2 * limit), 0, 1), **edges)
    axis.add_patch(Rectangle((x, y), width, height, fill=False, linewidth=0.4, edgecolor="0.6"))


def weights_picture(run: Run, checkpoint: str) -> bytes | None:
    """The units of one run as a PNG; None if they are no images."""
    layer = first_layer(run)
    if layer is None:
        return None
    title = f"first layer of a run on {run.facts.name}, {checkpoint} checkpoint, {run.moment}"
    return rendered(grid_figure, layer, title, dpi=look.DPI)


def grid_figure(layer: First, title: str) -> Figure:
    """Up to 64 units in a grid, with one colour scale."""
    chosen = layer.chosen(MOST)
    n, (U, C) = len(chosen), layer.images_UCHW.shape[:2]
    fewest = max(min(5, n), math.ceil(n / ACROSS))
    across = min(range(fewest, ACROSS + 1), key=lambda a: -n % a)  # with a full last row if possible
    down, head = math.ceil(n / across), 0.3 if layer.names else 0.0
    limit, beyond = colour_limit(layer.images_UCHW[chosen])
    width, height = across * (1 + GAP) - GAP, down * (1 + GAP + head) - GAP
    figure = Figure(figsize=(max(4.6, 0.8 * width + 1.0), 0.8 * height + 1.0), layout="constrained")
    axis = figure.subplots()
    for i, unit in enumerate(chosen):
        left, top = i % across * (1 + GAP), i // across * (1 + GAP + head) + head
        place(axis, layer.images_UCHW[unit], limit, left, top)
        if layer.names:
            axis.text(left + 0.5, top - 0.05, shortened(layer.names[unit]), ha="center", fontsize=7)
    bare(axis, width, height)
    if C == 1:
        add_bar(figure, axis, limit, beyond, aspect=8 * height, fraction=0.05, pad=0.02)
    more = f", the {n} of {U} with the largest norm" if n < U else ""
    lines = [title, f"{layer.kind} of {layer.parameter}, {sized(layer.shape)}{more}", said(layer)]
    figure.suptitle("\n".join(look.wrapped(line, figure, 9) for line in lines), fontsize=9)
    look.caption(figure, f"each channel from {-limit:.3g} to {limit:.3g}, 0 grey" if C == 3 else "", MEANT)
    return figure


def said(layer: First) -> str:
    """The statistics in a line."""
    return ", ".join(f"{name}: {value}" for name, value in layer.numbers().items())


def add_bar(figure: Figure, axis: Axes, limit: float, beyond: bool, **how: Any) -> Any:
    """The colour bar of one channel."""
    mappable = ScalarMappable(Normalize(-limit, limit), COLOURS)
    bar = figure.colorbar(mappable, ax=axis, extend="both" if beyond else "neither", **how)
    bar.outline.set_visible(False)
    return bar


def bare(axis: Axes, width: float, height: float) -> None:
    """Makes an axis of this size, y downwards, without frame and ticks."""
    axis.set(xlim=(-0.02, width + 0.02), ylim=(height + 0.02, -0.02), aspect="equal")
    axis.axis("off")


def shortened(name: str) -> str:
    """A name that fits over an image."""
    return name if len(name) <= 12 else f"{name[:11]}…"


def sized(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def rows_figure(layers: Sequence[First], labels: Sequence[str], units: int) -> Figure:
    """A row of units for each run, with its label at the left, its statistics at the right; in inches."""
    rows = [layer.chosen(units) for layer in layers]
    across, row, folded = max(map(len, rows)), 1 + 2.2 * GAP, look.folded(labels)
    coloured = all(layer.images_UCHW.shape[1] == 3 for layer in layers)
    label = 0.25 + 0.066 * max(len(line) for text in folded for line in text.split("\n"))
    images, numbers, bar, top = SIDE * (across * (1 + GAP) - GAP), 1.62, 0.0 if coloured else 1.8, 0.12
    label = max(label, 4.6 - images - numbers)  # else the caption would be very narrow
    width = label + images + numbers
    shared = f"units of largest norm; each row in its own colours, up to m{', 0 is grey' if coloured else ''}"
    meant = textwrap.wrap(f"{shared}; {MEANT}", max(20, int((width - bar - 0.5) * 72 / (0.52 * 7))))
    foot, tall = max(0.62 if bar else 0, 0.3 + 0.12 * len(meant)), SIDE * (row * len(rows) - 2.2 * GAP)
    height = tall + foot + top
    figure = Figure(figsize=(width, height))
    axis = figure.add_axes((label / width, foot / height, images / width, tall / height))
    for i, (layer, chosen) in enumerate(zip(layers, rows, strict=True)):
        limit, beyond = colour_limit(layer.images_UCHW[chosen])
        for j, unit in enumerate(chosen):
            place(axis, layer.images_UCHW[unit], limit, j * (1 + GAP), i * row)
        axis.text(-0.15, i * row + 0.5, folded[i], ha="right", va="center", fontsize=8.5)
        beside = [f"m = {limit:.3g}" + (" (clipped)" if beyond else ""), *said(layer).split(", ")]
        axis.text(images / SIDE + 0.15, i * row + 0.5, "\n".join(beside), ha="left", va="center", fontsize=7)
    bare(axis, across * (1 + GAP) - GAP, tall / SIDE)
    figure.text(0.1 / width, 0.1 / height, "\n".join(meant), va="bottom", fontsize=7, color="0.35")
    if bar:
        place_of_bar = ((width - bar - 0.15) / width, (foot - 0.26) / height, bar / width, 0.1 / height)
        made = add_bar(figure, axis, 1.0, False, cax=figure.add_axes(place_of_bar), orientation="horizontal")
        made.set_ticks([-1, 0, 1], labels=["\N{MINUS SIGN}m", "0", "m"], fontsize=7)
    return figure


def table(layers: Sequence[First], labels: Sequence[str]) -> Table:
    """The statistics of each run."""
    found = Table()
    found.add_column("run", overflow="fold")
    for header in ("weight", "shape"):
        found.add_column(header, no_wrap=True)
    for header in layers[0].numbers():
        found.add_column(header, justify="right")
    for layer, label in zip(layers, labels, strict=True):
        found.add_row(escape(label), layer.parameter, sized(layer.shape), *layer.numbers().values())
    return found
