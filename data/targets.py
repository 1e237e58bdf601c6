"""What the targets of a person's own data are: the task they set, checked and in the form that training takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np

GivenTask = Literal["auto", "classification", "binary", "multilabel", "multitask", "regression"]

MOST_CLASSES = 100_000
COARSEST = 1e-2  # steps between neighbouring numbers of 32 bits, in standard deviations of a column


def class_task(classes: int) -> str:
    """The task of one column of `classes` different classes."""
    return "binary" if classes == 2 else "classification"


def as_targets(
    task: str, parts: dict[str, np.ndarray], names: tuple[str, ...], where: Callable[[str], str]
) -> tuple[dict[str, np.ndarray], int | dict[str, int]]:
    """Targets (N,) or (N, columns) of each split, checked for `task`, and the number of outputs they need.

    Args:
        parts: split -> class numbers from 0, 0 and 1 for labels, or numbers.
        names: of the columns; the heads of a multi-task network.
        where: split -> what to call its targets in an error.

    Raises:
        ValueError: they are not such targets.
    """
    checked = {part: _as_numbers(y, where(part)) for part, y in parts.items()}
    columns = {y.shape[1] for y in checked.values()}
    if columns != {len(names)}:
        raise ValueError(f"{where('train')}: {sorted(columns)} columns of targets, not the same in each split")
    if task == "regression":
        return {part: to_float32(y, names.__getitem__, where(part)) for part, y in checked.items()}, len(names)
    if task in ("classification", "binary") and len(names) > 1:
        raise ValueError(f"task={task}: takes one column of targets, and {where('train')} has {len(names)}")
    for part, y in checked.items():
        if (y != np.floor(y)).any() or (y < 0).any():
            bad = y[(y != np.floor(y)) | (y < 0)][0]
            raise ValueError(f"{where(part)}: {bad:g} is no class; classes are whole numbers from 0")
    if checked["train"].max() >= MOST_CLASSES:
        raise ValueError(f"{where('train')}: the largest class is {checked['train'].max():g}; is it task=regression?")
    classes = checked["train"].max(0).astype(int) + 1
    if task in ("binary", "multilabel"):
        classes = np.full_like(classes, 2)
    for part, y in checked.items():
        for column, count in enumerate(classes):
            bad = y[y[:, column] >= count, column]
            if len(bad):
                raise ValueError(
                    f"{where(part)}: the label {bad[0]:g} is out of range, there are {count} classes: 0 to {count - 1}"
                )
    if task == "multilabel":
        return {part: y.astype(np.uint8) for part, y in checked.items()}, len(names)
    whole = {part: y.astype(np.int64) for part, y in checked.items()}
    if task == "multitask":
        return whole, dict(zip(names, map(int, classes), strict=True))
    return {part: y[:, 0] for part, y in whole.items()}, 1 if task == "binary" else int(classes[0])


def as_weights(w: np.ndarray, where: str) -> np.ndarray:
    """How much each sample counts (N,), in 32 bits.

    Raises:
        ValueError: they are negative, missing, infinite or all 0.
    """
    with np.errstate(over="ignore"):  # infinite then, and refused
        w = w.astype(np.float32)
    if not np.isfinite(w).all() or (w < 0).any():
        bad = w[~np.isfinite(w) | (w < 0)][0]
        raise ValueError(f"{where}: {bad:g} is no weight; weights are numbers of at least 0")
    if not w.any():
        raise ValueError(f"{where}: every weight is 0")
    return w


def to_float32(values: np.ndarray, names: Callable[[int], str], where: str) -> np.ndarray:
    """`values` (N, ...) in 32 bits, if these can hold them; `names` calls the entries of a sample.

    Raises:
        ValueError: numbers beyond the range of 32 bits, or so large beside their differences that these would be lost.
    """
    limits = np.finfo(np.float32)
    if values.dtype.kind != "f" or values.dtype.itemsize <= limits.bits // 8:
        return values.astype(np.float32, copy=False)
    largest = np.abs(values).max(0).ravel()
    if (largest > limits.max).any():
        raise ValueError(f"{where}: {names(int(np.argmax(largest)))} holds numbers beyond the range of 32 bits")
    spread = values.std(0).ravel()
    lost = (spread > 0) & (limits.eps * largest > COARSEST * spread)
    if lost.any():
        k = int(np.argmax(lost))
        raise ValueError(
            f"{where}: {names(k)} holds numbers up to {largest[k]:g} that differ by {spread[k]:g} only, which 32 bits "
            "cannot tell apart; subtract what they have in common"
        )
    return values.astype(np.float32)


def _as_numbers(y: np.ndarray, where: str) -> np.ndarray:
    """Targets as numbers (N, columns), none of them missing."""
    y = y.reshape(len(y), -1)
    if not np.isfinite(y).all():
        raise ValueError(f"{where}: {(~np.isfinite(y)).sum():,} of the targets are NaN or infinite")
    return y
