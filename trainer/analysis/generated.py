"""Pictures of models with codes: images from codes, the codes of images, and images beside what a model makes of them.

Shapes: N images, L numbers of a code; images (C, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from torch import Tensor

from trainer.analysis.inputs import Inputs
from trainer.analysis.load import Run
from trainer.analysis.pictures import image_rows
from trainer.analysis.predict import predict
from trainer.plot.figures import rendered
from trainer.plot.look import CATEGORIES

ACROSS = 10  # images in a row
SAMPLES = 60
WALKS = 6  # pairs of codes
CODES = 2000  # in the picture of the plane
PLANE = 15  # images at a side of the plane of codes
NAMED = 10  # classes with a colour of their own


def has_codes(run: Run) -> bool:
    """Whether images come from codes that are drawn."""
    return hasattr(run.objective, "decode") and hasattr(run.model, "latent")


def length(run: Run) -> int:
    """L of a run with codes."""
    model: Any = run.model
    return model.latent


def drawn(latent: int, n: int, seed: int) -> Tensor:
    """Codes (n, L) from N(0, I), a function of the seed on every device; more of them begin with the same ones."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, latent))).float()


@torch.inference_mode()
def decoded(run: Run, codes: Tensor) -> np.ndarray:
    """The images of codes, with values as in the files: (N, C, H, W)"""
    objective: Any = run.objective
    like = next(run.model.parameters())
    with run.cast():
        parts = [objective.decode(run.model, part) for part in codes.to(like.device, like.dtype).split(512)]
    return torch.cat(parts).float().cpu().numpy()


def limits(run: Run) -> tuple[float, float]:
    """The values of black and white."""
    known = run.facts.value_range
    if known is not None and known[1] <= 255:  # cameras use only a part of 16 bits
        return known
    images = decoded(run, drawn(length(run), SAMPLES, 0))
    return float(images.min()), float(images.max())


def walks(latent: int, seed: int) -> Tensor:
    """Codes on arcs between pairs of drawn ones, (WALKS * ACROSS, L).

    On a straight line codes in the middle would be shorter than those that a model is trained with (White 2016).
    """
    ends = drawn(latent, 2 * WALKS, seed).double()
    rows = []
    for a, b in zip(ends[::2], ends[1::2], strict=True):
        angle = torch.acos((a @ b / (a.norm() * b.norm())).clamp(-1, 1))
        for t in torch.linspace(0, 1, ACROSS):
            u, v = (torch.sin((1 - t) * angle), torch.sin(t * angle)) if angle.sin() > 1e-6 else (1 - t, t)
            rows.append((u * a + v * b) / (torch.sin(angle) if angle.sin() > 1e-6 else 1))
    return torch.stack(rows).float()


def plane() -> Tensor:
    """The quantiles of N(0, 1) at equal steps in both directions, (PLANE^2, 2); the second number grows upwards."""
    steps = torch.special.ndtri(torch.linspace(0.5 / PLANE, 1 - 0.5 / PLANE, PLANE))
    return torch.stack([steps.repeat(PLANE), steps.flip(0).repeat_interleave(PLANE)], 1)


def mosaic(title: str, images: np.ndarray, value_range: tuple[float, float], across: int, names: list[str]) -> Figure:
    """Images (N, C, H, W) in rows, with a name at the left of each row."""
    low, high = value_range
    shown = np.clip((images.astype(np.float64) - low) / ((high - low) or 1), 0, 1).transpose(0, 2, 3, 1)
    down, (height, width) = math.ceil(len(images) / across), shown.shape[1:3]
    gap = max(1, height // 16)
    canvas = np.ones((down * (height + gap), across * (width + gap), shown.shape[3]))
    for i, image in enumerate(shown):
        top, left = i // across * (height + gap), i % across * (width + gap)
        canvas[top : top + height, left : left + width] = image
    side = min(0.7, 9 / across)
    figure = Figure(figsize=(side * across * width / height + 1.2, side * down + 0.9), layout="constrained")
    axis = figure.subplots()
    axis.imshow(canvas.squeeze(-1) if canvas.shape[2] == 1 else canvas, cmap="gray", vmin=0, vmax=1)
    centres = [i * (height + gap) + height / 2 for i in range(len(names))]
    axis.set(xticks=[], yticks=centres, yticklabels=names)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=9)
    return figure


def pictures(run: Run, seed: int, title: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of the pictures of codes: samples, arcs between pairs, and the plane of codes of two numbers."""
    latent, value_range = length(run), limits(run)
    parts: list[tuple[str, str, Callable[[], Tensor], int]] = [
        ("samples.png", f"images from {SAMPLES} codes", lambda: drawn(latent, SAMPLES, seed), ACROSS),
        ("walk.png", f"on arcs between {WALKS} pairs of codes", lambda: walks(latent, seed), ACROSS),
    ]
    if latent == 2:
        parts.append(("plane.png", "the plane of codes, at equal steps of N(0, 1)", plane, PLANE))
    for name, what, codes, across in parts:
        yield name, rendered(mosaic, f"{what}\n{title}", decoded(run, codes()), value_range, across, [])


def reconstructions(run: Run, images: np.ndarray, value_range: tuple[float, float], title: str) -> bytes:
    """Images (N, C, H, W) above what the model makes of them, or of them with noise, as a PNG."""
    rows = {"input": images}
    if getattr(run.objective, "noise", 0):
        rows["with noise"] = with_noise(run, images)
    rows["output"] = predict(run, Inputs("sample", [], iter([rows.get("with noise", images)])))
    return rendered(image_rows, title, rows, value_range)


@torch.inference_mode()
def with_noise(run: Run, images: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) with the noise that the objective adds, with values as in the files."""
    objective: Any = run.objective
    x = run.dataset.inputs(torch.from_numpy(images).to(run.device))
    with torch.random.fork_rng([run.device] if run.device.type == "cuda" else []):
        torch.manual_seed(run.config["seed"])
        noisy = objective.noisy(x)
    return objective.in_files(noisy).float().cpu().numpy()


@torch.inference_mode()
def codes_of(run: Run, split: str) -> tuple[np.ndarray, Tensor]:
    """The codes (N, L) of the first samples of a split, of a variational model their means, and the targets."""
    dataset, codes, targets = run.dataset, [], []
    model: Any = run.model
    index = torch.arange(min(dataset.facts.sizes[split], CODES), device=run.device)
    with run.cast():
        for part in index.split(512):
            x, y, *_ = dataset.batch(split, part)
            code = model.encode(x)
            codes.append((code[0] if isinstance(code, tuple) else code).float())
            targets.append(y)
    return torch.cat(codes).cpu().numpy(), torch.cat(targets).cpu()


def latent_picture(run: Run, split: str, title: str) -> bytes:
    """The codes of a split in a plane, coloured by class; of more than two numbers, their two principal components."""
    codes, y = codes_of(run, split)
    names = [f"number {k + 1} of the code" for k in range(2)]
    if codes.shape[1] > 2:
        centred = codes - codes.mean(0)
        variances, axes = np.linalg.eigh(centred.T @ centred)  # in ascending order; also of a single sample
        shares = variances[::-1].clip(0) / max(variances.sum(), 1e-30)
        codes = centred @ axes[:, :-3:-1]
        names = [f"component {k + 1}, {shares[k]:.0%} of the variance" for k in range(2)]
    elif codes.shape[1] == 1:
        codes, names = np.column_stack([codes, np.zeros(len(codes))]), [names[0], ""]
    return rendered(latent_plane, title, codes, names, run.facts, y)


def latent_plane(title: str, codes: np.ndarray, names: list[str], facts: Any, y: Tensor) -> Figure:
    """Codes (N, 2) as points."""
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axis = figure.subplots()
    classes = facts.output_names[""] if facts.task in ("classification", "binary") else ()
    if 0 < len(classes) <= NAMED:
        for c, name in enumerate(classes):
            own = codes[(y == c).numpy()]
            axis.scatter(own[:, 0], own[:, 1], s=7, alpha=0.7, linewidths=0, color=colormaps["tab10"](c), label=name)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper", markerscale=2.5)
    else:
        axis.scatter(codes[:, 0], codes[:, 1], s=7, alpha=0.7, linewidths=0, color=CATEGORIES[0])
    axis.set(xlabel=names[0], ylabel=names[1])
    figure.suptitle(f"codes of {len(codes):,} samples\n{title}", fontsize=9)
    return figure
