"""Targets: their task, checks, and their form in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from data.precision import to_float32

GivenTask = Literal["auto", "classification", "binary", "multilabel", "multitask", "regression"]

Outputs = int | dict[str, int]  # of a network; multitask: head -> number

MOST_CLASSES = 100_000
DROP = "data.missing=drop leaves such samples out"
FEW = 20  # with fewer samples any number of classes is accepted


def class_task(classes: int) -> str:
    """The task of one column with `classes` different classes."""
    return "binary" if classes == 2 else "classification"


def class_count(task: str, outputs: Outputs | None) -> int:
    """The number of classes of one column of class numbers, from the outputs of its network."""
    assert isinstance(outputs, int)  # each head has its own number, which the gate has counted
    return 2 if task == "binary" else outputs


def as_targets(
    task: str,
    parts: Mapping[str, np.ndarray],
    names: tuple[str, ...],
    where: Callable[[str], str],
    outputs: Outputs | None = None,
) -> tuple[dict[str, np.ndarray], Outputs]:
    """Targets (N,) or (N, columns) of each split, checked for `task`, and the number of outputs.

    Args:
        parts: split -> class numbers from 0, 0 and 1 for labels, or numbers.
        names: of the columns; the heads of a multi-task network.
        where: split -> name of its targets in errors.
        outputs: number of outputs; None: by the classes of the training split.

    Raises:
        ValueError: the targets do not fit the task.
    """
    checked = {part: _as_numbers(y, where(part)) for part, y in parts.items()}
    columns = {y.shape[1] for y in checked.values()}
    if columns != {len(names)}:
        raise ValueError(
            f"{where(next(iter(parts)))}: {sorted(columns)} columns of targets, not the same in each split"
        )
    if task == "regression":
        called = [f"target {name}" for name in names]
        return {part: to_float32(y, called.__getitem__, where(part)) for part, y in checked.items()}, len(names)
    if task in ("classification", "binary") and len(names) > 1:
        raise ValueError(f"task={task}: takes one column of targets, and {where('train')} has {len(names)}")
    for part, y in checked.items():
        bad = y[(y != np.floor(y)) | (y < 0)] if y.dtype.kind == "f" else y[y < 0]
        if len(bad):
            raise ValueError(f"{where(part)}: {bad[0]:g} is no class; classes are whole numbers from 0")
    classes = _classes(task, next(iter(checked.values())), outputs, where(next(iter(checked))))
    if task == "classification" and classes[0] < 2:
        raise ValueError(f"{where('train')}: holds only one class; two are needed")
    for part, y in checked.items():
        for column, count in enumerate(classes):
            bad = y[y[:, column] >= count, column]
            if len(bad):
                raise ValueError(
                    f"{where(part)}: the label {bad[0]:g} is out of range, there are {count} classes: 0 to {count - 1}"
                )
    if task == "multilabel":
        return {part: y.astype(np.uint8) for part, y in checked.items()}, len(names)
    if outputs is None:
        _check_few(task, checked["train"], names, where("train"))
    whole = {part: y.astype(np.int64) for part, y in checked.items()}
    if task == "multitask":
        return whole, outputs or dict(zip(names, map(int, classes), strict=True))
    return {part: y[:, 0] for part, y in whole.items()}, 1 if task == "binary" else int(classes[0])


def _classes(task: str, train: np.ndarray, outputs: Outputs | None, where: str) -> list[int]:
    """The number of classes of each column of targets."""
    if task in ("binary", "multilabel"):
        return [2] * train.shape[1]
    if outputs is not None:
        return list(outputs.values()) if isinstance(outputs, dict) else [outputs]
    if train.max() >= MOST_CLASSES:
        raise ValueError(f"{where}: the largest class is {train.max():g}; is it data.task=regression?")
    return [int(largest) + 1 for largest in train.max(0)]


def _check_few(task: str, y: np.ndarray, names: tuple[str, ...], where: str) -> None:
    """Raises ValueError if most samples have their own class."""
    for name, column in zip(names, y.T, strict=True):
        n = int((np.bincount(column.astype(np.int64)) > 0).sum())
        if len(column) >= FEW and n > len(column) / 2:
            called = f"{where}: target {name}" if len(names) > 1 else where
            found = f"{n:,} different values in {len(column):,} rows"
            raise ValueError(f"{called} holds {found}; is it data.task=regression?")


def as_weights(w: np.ndarray, where: str) -> np.ndarray:
    """The weights of samples (N,) in 32 bits.

    Raises:
        ValueError: they are negative, missing, infinite or all 0.
    """
    with np.errstate(over="ignore"):  # becomes infinite and is refused
        w = w.astype(np.float32)
    if not np.isfinite(w).all() or (w < 0).any():
        bad = w[~np.isfinite(w) | (w < 0)][0]
        hint = f"; {DROP}" if np.isnan(bad) else ""
        raise ValueError(f"{where}: {bad:g} is no weight; weights are numbers of at least 0{hint}")
    if not w.any():
        raise ValueError(f"{where}: every weight is 0")
    return w


def _as_numbers(y: np.ndarray, where: str) -> np.ndarray:
    """Targets as numbers (N, columns) without missing values."""
    if y.dtype.kind not in "buif" or y.ndim not in (1, 2) or 0 in y.shape:
        raise ValueError(f"{where} is {y.dtype} {y.shape}; targets are numbers (N,) or (N, columns)")
    y = y.reshape(len(y), -1)
    if not np.isfinite(y).all():
        hint = f"; {DROP}" if np.isnan(y).any() else ""
        raise ValueError(f"{where}: {(~np.isfinite(y)).sum():,} of the targets are NaN or infinite{hint}")
    return y.astype(np.int8) if y.dtype.kind == "b" else y
