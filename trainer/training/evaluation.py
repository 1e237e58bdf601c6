"""The objective's metrics or the predictions of a model on a split, in large batches.

Shapes: N samples of the split.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data import Batch, Dataset
from trainer.training.device import drawing
from trainer.training.objectives import Objective, Sums

EVALUATED = 2**22  # input numbers in a batch of evaluation, if the training batch is not larger


def evaluation_batches(dataset: Dataset, split: str) -> list[slice]:
    """The split in order, in batches at least as large as those of training, and up to 512 of small samples."""
    n = dataset.facts.sizes[split]
    size = max(dataset.batch_size, min(512, EVALUATED // math.prod(dataset.facts.input_shape)))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


@torch.no_grad()  # not inference_mode: an objective may keep tensors that training needs
def measure(
    model: nn.Module,
    objective: Objective,
    dataset: Dataset,
    split: str,
    *,
    seed: int,
    cast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    check: Callable[[], None] = lambda: None,
    gathered: Callable[[Any], list[Any]] = lambda value: [value],
) -> dict[str, float]:
    """The objective's metrics over a split.

    What the model or the objective draws at random is a function of (seed, split), and the random state of training
    does not change. So a later evaluation on the same kind of device finds the same numbers. An objective with an
    adversary is measured a second time, on inputs that it changed: ``robust_…``.

    Args:
        seed: the run's.
        cast: a context for each batch, such as autocast.
        check: called after each batch, and may raise.
        gathered: the results of this process -> those of all processes, each with its share of the split.
    """
    how = (dataset, split, seed, cast, check, gathered)
    metrics = measured(model, objective, lambda batch: batch, *how)
    if objective.adversary is not None:
        attack = objective.adversary.test
        changed = measured(model, objective, lambda batch: attack(objective, model, batch, cast), *how)
        metrics |= {f"robust_{name}": changed[name] for name in objective.robust}
    return metrics


def measured(
    model: nn.Module,
    objective: Objective,
    change: Callable[[Batch], Batch],
    dataset: Dataset,
    split: str,
    seed: int,
    cast: Callable[[], contextlib.AbstractContextManager],
    check: Callable[[], None],
    gathered: Callable[[Any], list[Any]],
) -> dict[str, float]:
    """The objective's metrics over the changed batches of a split; see :func:`measure`."""
    model.eval()
    objective.prepare(dataset, split)
    totals: Sums = {}
    kept: dict[str, list[Tensor]] = {}
    with drawing(dataset.device, seed, split, dataset.share[0]):
        for batch in map(change, dataset.batches(split, evaluation_batches(dataset, split))):
            if not len(batch[1]):  # fewer samples than processes
                continue
            with cast():
                sums, keep = objective.evaluate(model, batch)
            totals = added(totals, sums)
            for name, values in keep.items():
                kept.setdefault(name, []).append(values)
            check()
    found = to_numbers(totals), {k: to_host(torch.cat(v)) for k, v in kept.items()}
    all_sums, all_kept = zip(*(one for one in gathered(found) if one[0]), strict=True)
    sums = functools.reduce(added, all_sums)
    return objective.finish(sums, {k: np.concatenate([one[k] for one in all_kept]) for k in all_kept[0]})


@torch.inference_mode()
def predict_split(
    model: nn.Module,
    objective: Objective,
    dataset: Dataset,
    split: str,
    *,
    seed: int,
    cast: Callable[[], contextlib.AbstractContextManager] = contextlib.nullcontext,
    check: Callable[[], None] = lambda: None,
) -> tuple[Any, np.ndarray]:
    """The objective's predictions over a split, in its order, and the truth; `seed`, `cast` and `check` as above.

    Returns:
        predictions: (N, K), or head -> (N, K) for several heads; see ``predict`` of the objective's class.
        truth: (N,) class numbers, (N, labels), (N, heads) or (N, targets) in their own units.
    """
    model.eval()
    parts, truth = [], []
    with drawing(dataset.device, seed, split):
        for x, y, *_ in dataset.batches(split, evaluation_batches(dataset, split)):
            with cast():
                parts.append(objective.predict(model, x))
            truth.append(to_host(objective.truth(y)))
            check()
    return joined(parts), np.concatenate(truth)


def joined(parts: list[Any]) -> Any:
    """Predictions of several batches as one, on the host."""
    if isinstance(parts[0], dict):
        return {head: to_host(torch.cat([part[head] for part in parts])) for head in parts[0]}
    return to_host(torch.cat(parts))


def added(totals: Sums, sums: Sums) -> Sums:
    """The running sums of metrics plus those of another batch."""
    return {k: plus(totals[k], v) for k, v in sums.items()} if totals and sums else totals or sums


def plus(a: Any, b: Any) -> Any:
    """The sum of numbers, tensors, or lists of numbers."""
    return [x + y for x, y in zip(a, b, strict=True)] if isinstance(a, list) else a + b


def to_numbers(row: dict[str, Any]) -> dict[str, Any]:
    """The row with its tensors as numbers or lists of them, on the host; waits for the device."""
    return {k: v.tolist() if isinstance(v, Tensor) else v for k, v in row.items()}


def to_host(values: Tensor) -> np.ndarray:
    """The values on the host."""
    return values.cpu().numpy()
