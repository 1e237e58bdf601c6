"""Draws each constraint set of optim/sets with the point that its oracle chooses: docs/sets/NAME.png and all.png.

Run: ``python docs/draw_sets.py`` (a minute). The filled area has `excess` of at most 0, and v is `lmo(g)`, so the
pictures agree with the code. A picture shows the points of the set that two or three numbers
describe; with three, their shadow along a direction perpendicular to g, so that the line through v touches it too.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from PIL import Image
from torch import Tensor

from optim import sets

FOLDER, DPI, ACROSS, PIXELS = Path(__file__).parent / "sets", 120, 5, 360
FILL, EDGE, ARROW, PALE = "#d6e8f6", "#0b4a7a", "#c44e00", "#757575"
TEXT = {"ha": "center", "va": "center", "zorder": 7, "path_effects": [withStroke(linewidth=2.5, foreground="white")]}
LEGEND = "arrow: −g, from 0;  point: v = lmo(g), where ⟨g, ·⟩ is least in the set;  thin dashes: where ⟨g, ·⟩ = ⟨g, v⟩"
h = 0.5**0.5  # keeps lengths in proportion where a number stands for two entries

# The names of the axes, and the point that their numbers mean: two of them make a flat picture, three a solid.
FAMILIES: dict[str, tuple[str, Callable[..., list]]] = {
    "plane": ("$x_1$ $x_2$", lambda *x: [*x]),
    "space": ("$x_1$ $x_2$ $x_3$", lambda *x: [*x]),
    "diagonal": ("$x_1$ $x_2$", lambda x, y: [[x, 0], [0, y]]),
    "stochastic": ("$X_{11}$ $X_{12}$", lambda x, y: [[x, y], [y, x]]),
    "symmetric": (r"$X_{11}$ $X_{22}$ $\sqrt{2}X_{12}$", lambda x, y, z: [[x, h * z], [h * z, y]]),
    "turning": (
        r"$\sqrt{2}x_1$ $\sqrt{2}x_2$ $x_3$",
        lambda x, y, z: [[h * x, -h * y, 0], [h * y, h * x, 0], [0, 0, z]],
    ),
    "two groups": ("$x_1$ $x_2$ $x_3$", lambda x, y, z: [[x, y], [z, 0]]),
    "three groups": (r"$x_1$ $x_2$ $\sqrt{2}x_3$", lambda x, y, z: [[x, y], [h * z, 0], [h * z, 0]]),
}


@dataclass
class Panel:
    name: str
    note: str
    shown: list[tuple[sets.ConstraintSet, str]]  # with the family of their points
    g: tuple[float, float] = (-0.6, -0.35)  # to the right and up, as seen
    reach: float = 1.55  # from the centre to the frame
    toward: tuple[float, float, float] = (0.55, 0.75, 0.4)  # of a solid's viewer; the third axis points up
    tolerance: float = 0.0  # of `excess`, for a set without an inside


def panels() -> list[Panel]:
    weight, bias = torch.zeros(2, 2), torch.zeros(2)
    norms = sets.ScionNorms(radius=1, output_factor=1)
    spectral, sign, rms = norms.assign(["0.weight", "1.weight", "1.bias"], [weight, weight, bias])
    scion = [(spectral, "diagonal"), (sign, "plane"), (rms, "plane")]
    lp = [(sets.Lp(p=3.0), "plane"), (sets.Lp(p=1.5), "plane")]
    simplex, orders = [(sets.ProbabilitySimplex(), "space")], [(sets.Permutahedron(), "space")]
    values, rank = "K = 2; singular values r, r, |$x_3$|", [(sets.SpectralKSupport(k=2), "turning")]
    groups, kept = "K = 2 of ($x_1$, $x_2$), ($x_3$), ($x_3$)", [(sets.GroupKSupport(k=2), "three groups")]
    matrices, tips = "symmetric 2 × 2 matrices", (0.9, -0.2, 0.5)
    return [
        Panel("linf", "radius 1", [(sets.LInf(), "plane")]),
        Panel("l2", "radius 1", [(sets.L2(), "plane")]),
        Panel("l1", "radius 1", [(sets.L1(), "plane")]),
        Panel("lp", "p = 3; p = 1.5 (dashed)", lp, g=(-0.66, -0.22)),
        Panel("k_sparse", "K = 2 of three entries", [(sets.KSparse(k=2), "space")], reach=1.9),
        Panel("k_support", "K = 2 of three entries", [(sets.KSupport(k=2), "space")]),
        Panel("unit_simplex", "radius 1", [(sets.UnitSimplex(), "plane")]),
        Panel("probability_simplex", "three entries", simplex, g=(0.55, -0.2), reach=1.4, tolerance=2e-3),
        Panel("box", "low = −0.5, high = 1", [(sets.Box(-0.5, 1.0), "plane")], g=(-0.55, 0.35)),
        Panel("permutahedron", "the orders of (−1, 0, 1)", orders, (-0.2, -0.62), 1.9, (1, 1, 1), 2e-3),
        Panel("birkhoff", "2 × 2 matrices", [(sets.Birkhoff(), "stochastic")], tolerance=0.03),
        Panel("spectral", matrices, [(sets.Spectral(), "symmetric")], (-0.65, -0.2), 1.9, tips),
        Panel("nuclear", matrices, [(sets.Nuclear(), "symmetric")], g=(-0.65, -0.25)),
        Panel("spectral_k_support", values, rank),
        Panel("spectral_k_sparse", values, [(sets.SpectralKSparse(k=2), "turning")], reach=1.9),
        Panel("group_l1", "groups ($x_1$, $x_2$), ($x_3$)", [(sets.GroupL1(), "two groups")]),
        Panel("group_linf", "groups ($x_1$, $x_2$), ($x_3$)", [(sets.GroupLInf(), "two groups")], reach=1.9),
        Panel("group_k_support", groups, kept, g=(-0.2, -0.66)),
        Panel("scion", "spectral, sign (dashed), rms (dotted)", scion, g=(-0.65, -0.22), reach=1.9),
    ]


def directions(panel: Panel, family: str) -> tuple[Tensor, Tensor]:
    """The points that the axes' units mean; and those one unit to the right, up and, in a solid, towards the viewer."""
    names, point = FAMILIES[family]
    units = torch.eye(len(names.split()), dtype=torch.float64)
    axes = torch.stack([torch.tensor(point(*unit), dtype=units.dtype) for unit in units.tolist()])
    toward = np.array(panel.toward) / np.linalg.norm(panel.toward)
    right = np.cross([0, 0, 1], toward) / np.linalg.norm(np.cross([0, 0, 1], toward))
    frame = torch.from_numpy(np.stack([right, np.cross(toward, right), toward]))
    return axes, torch.tensordot(frame if len(units) == 3 else units, axes, 1)


def seen(frame: Tensor, x: Tensor) -> np.ndarray:
    """Where x is in the picture."""
    return np.array([((x * e).sum() / (e * e).sum()).item() for e in frame[:2]])


def region(panel: Panel, C: sets.ConstraintSet, family: str) -> tuple[np.ndarray, np.ndarray | None]:
    """On a grid: the excess, in a solid the least along the line of sight; and how bright a solid's surface is."""
    frame = directions(panel, family)[1]
    line = torch.linspace(-panel.reach, panel.reach, PIXELS, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")

    def excess(*numbers: Tensor) -> Tensor:
        points = torch.tensordot(torch.stack(numbers, -1).flatten(0, 1), frame, 1)
        return torch.vmap(C.excess)(points).view_as(x) - panel.tolerance - 1e-9

    def search(passed: Callable[[Tensor], Tensor], low: Tensor) -> Tensor:
        """How far towards the viewer `passed` is false, by halves."""
        high = torch.full_like(x, 2)
        for _ in range(16):
            middle = (low + high) / 2
            there = passed(middle)
            low, high = torch.where(there, low, middle), torch.where(there, middle, high)
        return low

    if len(frame) == 2:
        return excess(x, y).numpy(), None
    deepest = search(lambda z: excess(x, y, z + 1e-6) > excess(x, y, z), torch.full_like(x, -2))  # it is convex
    surface = search(lambda z: excess(x, y, z) > 0, deepest)
    steps = 1e-3 * torch.eye(3, dtype=x.dtype)
    slopes = [excess(x + a, y + b, surface + c) - excess(x - a, y - b, surface - c) for a, b, c in steps]
    normal = torch.nn.functional.normalize(torch.stack(slopes), dim=0)
    light = torch.tensordot(torch.tensor([-0.35, 0.75, 0.56], dtype=x.dtype), normal, 1)
    return excess(x, y, deepest).numpy(), None if panel.tolerance else light.numpy()


def draw(ax: Axes, panel: Panel, regions: list[tuple[np.ndarray, np.ndarray | None]]) -> None:
    r, g = panel.reach, np.array(panel.g)
    ahead, aside = -g / np.linalg.norm(g), np.array([g[1], -g[0]]) / np.linalg.norm(g)
    ax.set(xlim=(-r, r), ylim=(-r, r), aspect="equal")
    ax.set_title(panel.name, fontsize=11, fontweight="bold", pad=17)
    ax.text(0, 1.05 * r, panel.note, fontsize=8.5, ha="center", va="bottom")
    draw_axes(ax, panel)
    for (C, family), (outside, light), style in zip(panel.shown, regions, ("-", "--", ":"), strict=False):
        line, frame = np.linspace(-r, r, PIXELS), directions(panel, family)[1]
        fill = EDGE if panel.tolerance and len(frame) == 2 else FILL  # a segment, or a region
        filled = ax.contourf(line, line, outside, [-9, 0], colors=[fill], zorder=1)
        if light is not None:
            image = ax.imshow(light, "Blues_r", vmin=-1.3, vmax=1.1, extent=(-r, r, -r, r), origin="lower", zorder=1)
            image.set(clip_path=(filled.get_paths()[0], ax.transData), interpolation="bilinear")
        ax.contour(line, line, outside, [0], colors=[EDGE], linewidths=1.6, linestyles=style, zorder=3)
        v = seen(frame, C.lmo(torch.tensordot(torch.from_numpy(g), frame[:2], 1)))
        ax.plot(*np.stack([v - 0.5 * r * aside, v + 0.5 * r * aside], 1), "--", color="black", linewidth=1, zorder=4)
        ax.plot(*v, "o", color="black", markersize=6, markeredgecolor="white", zorder=6)
        ax.text(*(v + 0.13 * r * ahead), "v", style="italic", fontsize=11, **TEXT)
    ax.quiver(0, 0, *-g, color=ARROW, angles="xy", scale_units="xy", scale=1, width=0.014, zorder=5)
    ax.text(*(-0.5 * g + 0.13 * r * aside), "−g", color=ARROW, fontsize=11, **TEXT)


def draw_axes(ax: Axes, panel: Panel) -> None:
    """Through 0; in a solid, the half towards the viewer from where it leaves the set."""
    (C, family), r = panel.shown[0], panel.reach
    axes, frame = directions(panel, family)
    for name, x in zip(FAMILIES[family][0].split(), axes, strict=True):
        unit = seen(frame, x)
        end = 0.85 * r * unit / np.linalg.norm(unit)
        start = -end if len(axes) == 2 else unit / C.norm(x).item() if isinstance(C, sets.NormBall) else 0 * unit
        ax.plot(*np.stack([start, end], 1), color=PALE, linewidth=0.8, zorder=2)
        ax.text(*(end * 1.11), name, fontsize=8, **TEXT)
    if len(axes) == 2:
        ax.plot([1, 0], [0, 1], "+", color=PALE, markersize=5, markeredgewidth=0.8, zorder=2)
        ax.text(-0.08 * r, 1 + 0.08 * r, "1", color=PALE, fontsize=8, **TEXT)


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    drawn = [(panel, [region(panel, C, family) for C, family in panel.shown]) for panel in panels()]
    for name, some in [*((panel.name, [(panel, regions)]) for panel, regions in drawn), ("all", drawn)]:
        down, across, inches = -(-len(some) // ACROSS), min(len(some), ACROSS), 3 if len(some) == 1 else 2.35
        figure = Figure(figsize=(inches * across, 1.05 * inches * down), layout="constrained")
        for place, ax in enumerate(figure.subplots(down, across, squeeze=False).flat):
            ax.set_axis_off()
            if place < len(some):
                draw(ax, *some[place])
        figure.supxlabel(LEGEND if name == "all" else "", fontsize=11)
        figure.savefig(whole := io.BytesIO(), dpi=DPI)  # with 256 colours, in a third of the bytes:
        Image.open(whole).convert("RGB").quantize(256).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
