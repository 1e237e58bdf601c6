"""A run with a smaller network, for ``export --pruned``: filters removed, what is left trained again, and all measured.

python -m trainer export RUN --format onnx --pruned 50 --finetune 2
"""

from __future__ import annotations

import copy
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

from models.size import layer_sizes
from trainer.analysis import compression, perturbed, shrink
from trainer.analysis.finetune import Finetuner
from trainer.analysis.load import Run
from trainer.cli.display import listed
from trainer.rundir.errors import Refused
from trainer.rundir.text import counted
from trainer.training.evaluation import measure

SPLITS = ("test", "val", "train")  # the first that the data have is measured
ROUNDS = 21  # of timing


def prune(run: Run, percent: float, epochs: int, x: Tensor) -> dict[str, Any]:
    """Replaces the run's model by one without so many of each hidden layer's filters.

    Args:
        percent: as of the test ``filters`` of ``robustness``.
        epochs: of training after pruning; 0: none.
        x: normalized inputs (B, *input_shape).

    Returns:
        for the card: ``percent``, ``finetuned`` (epochs), ``layers`` and ``whole`` (layer -> filters before and
        after; those that stay whole), and pairs of numbers before and after: ``parameters``, ``multiply_adds`` (of a
        sample), ``milliseconds`` (of the batch x), and of a metric those of the run, after pruning, after training,
        in ``metric``, ``split`` and ``values``.

    Raises:
        Refused: no layer can lose filters; the data cannot be read; training diverged.
    """
    whole = run.model.requires_grad_(False)
    layers = shrink.removable(whole, x)
    if not layers:
        raise Refused(f"--pruned={percent:g}: {run.path} has no hidden layer whose filters can be removed")
    values = [value_of(run)]
    (masked,) = compression.without_filters(whole, [percent], x, layers)
    run.model = masked
    values.append(value_of(run))
    if epochs:
        if not Finetuner(run, epochs)(masked, compression.keep_zeros(masked)):
            raise Refused(f"--finetune={epochs}: training diverged; nothing was written")
        values.append(value_of(run))
    run.model = small = shrink.shrunk(masked.eval(), list(layers), x)
    check_same(masked, small, x)
    hidden = compression.hidden_layers(whole, x)
    sizes = [layer_sizes(model, run.facts.input_shape) for model in (whole, small)]
    return {
        "percent": percent,
        "finetuned": epochs,
        "layers": {name: [shrink.out_channels(model, name) for model in (whole, small)] for name in layers},
        "whole": [name for name in hidden if name not in layers],
        "parameters": [sum(p.numel() for p in model.parameters()) for model in (whole, small)],
        "multiply_adds": [sum(layer.multiply_adds for layer in size) for size in sizes],
        "milliseconds": milliseconds([whole, small], x),
        "batch": len(x),
        "metric": perturbed.metric_of(run.objective),
        "split": split_of(run),
        "values": values,
    }


def split_of(run: Run) -> str:
    """The split that is measured."""
    return next(split for split in SPLITS if split in run.facts.sizes)


def value_of(run: Run) -> float:
    """The metric of the run's model.

    Raises:
        Refused: the data cannot be read.
    """
    how: dict[str, Any] = {"seed": run.config["seed"], "cast": run.cast}
    return measure(run.model, run.objective, run.dataset, split_of(run), **how)[perturbed.metric_of(run.objective)]


@torch.no_grad()
def check_same(masked: nn.Module, small: nn.Module, x: Tensor) -> None:
    """Raises Refused if the small network has other outputs than the one with zeros, since something besides its layers
    knows their sizes."""
    ours, theirs = (outputs_of(model, x) for model in (small, masked))
    for a, b in zip(ours, theirs, strict=True):
        if not torch.allclose(a, b, rtol=1e-3, atol=1e-4 * max(1.0, b.abs().max().item())):
            raise Refused(f"--pruned: {type(masked).__name__} without its zero filters has other outputs; not written")


def outputs_of(model: nn.Module, x: Tensor) -> list[Tensor]:
    """The outputs, of each head if there are several."""
    outputs = model(x)
    return list(outputs.values()) if isinstance(outputs, dict) else [outputs]


@torch.no_grad()
def milliseconds(models: list[nn.Module], x: Tensor) -> list[float]:
    """The median time of a forward pass of each model, taken in turns."""
    models = [copy.deepcopy(model) for model in models]  # side by side in memory
    spent: list[list[float]] = [[] for _ in models]
    for _ in range(ROUNDS):
        for model, times in zip(models, spent, strict=True):
            before = time.perf_counter()
            model(x)
            times.append(1000 * (time.perf_counter() - before))
    return [statistics.median(times[1:]) for times in spent]


def lines(said: dict[str, Any], sizes: list[int]) -> list[str]:
    """What the command prints.

    Args:
        said: the result of :func:`prune`.
        sizes: of the file in bytes, before and after.
    """
    layers = [f"{name} {before} to {after}" for name, (before, after) in said["layers"].items()]
    steps = ["the run", "pruned", f"after {counted(said['finetuned'], 'more epoch')}"]
    values = ", ".join(f"{value:.4g} {step}" for value, step in zip(said["values"], steps, strict=False))
    was, now = said["milliseconds"]
    return [
        f"pruned   {said['percent']:g} % of the filters of each layer: {listed(layers)}",
        *([f"whole    {listed(said['whole'])}: their filters cannot be removed"] if said["whole"] else []),
        f"size     {arrow(said['parameters'])} parameters, {arrow(said['multiply_adds'])} multiply-adds a sample, "
        f"{arrow(sizes)} bytes",
        f"time     {was:.3g} to {now:.3g} ms for {said['batch']} samples, by torch on this CPU",
        f"{said['metric']:<8} {values}, on the {said['split']} split",
    ]


def arrow(pair: list[int]) -> str:
    """Two numbers: before and after."""
    return f"{pair[0]:,} to {pair[1]:,}"
