"""Numbers in 32 bits, in which networks compute: lost digits are refused or counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

COARSEST = 1e-2  # limit of a 32-bit step, in standard deviations
WHOLE = 2**24  # 32 bits hold every whole number up to here
SAMPLED = 1024  # rows for counting different numbers
SAMPLED_NUMBERS = 2**22  # and numbers in all


def rounded(values: np.ndarray, entry: Callable[[int], str]) -> list[str]:
    """Notes about columns of whole numbers of which a few become equal in 32 bits."""
    if exact(values.dtype):
        return []
    notes = []
    for k, column in enumerate(values.T if values.ndim == 2 else [values.ravel()]):
        if max(np.fmax.reduce(column), -float(np.fmin.reduce(column))) <= WHOLE:
            continue
        if values.dtype.kind == "f" and (column % 1 != 0).any():  # NaN is no whole number
            continue
        before, after = len(np.unique(column)), len(np.unique(column.astype(np.float32)))
        if after < before:
            name = entry(k) if values.ndim == 2 else "inputs"
            notes.append(f"{name}: of {before:,} different whole numbers {before - after:,} are lost in 32 bits")
    return notes


def exact(dtype: np.dtype) -> bool:
    """Whether 32 bits hold every number of a type."""
    return dtype.kind == "b" or dtype.itemsize <= (4 if dtype.kind == "f" else 2)


def to_float32(values: np.ndarray, entry: Callable[[int], str], where: str, *, apart: bool = True) -> np.ndarray:
    """`values` (N, ...) in 32 bits; `entry` names the numbers of a sample.

    Raises:
        ValueError: numbers are beyond the range of 32 bits, or too large to keep their differences.
    """
    if exact(values.dtype):
        return np.ascontiguousarray(values, np.float32)
    flat = values.reshape(len(values), -1)
    largest = np.maximum(np.abs(np.fmax.reduce(flat, 0).astype(float)), np.abs(np.fmin.reduce(flat, 0).astype(float)))
    if (largest > np.finfo(np.float32).max).any():
        raise ValueError(f"{where}: {entry(int(np.nanargmax(largest)))} holds numbers beyond the range of 32 bits")
    if apart and not (values.dtype.kind in "iu" and largest.max() <= WHOLE):
        check_apart(flat, largest, entry, where)
    return np.ascontiguousarray(values, np.float32)


def check_apart(flat: np.ndarray, largest: np.ndarray, entry: Callable[[int], str], where: str) -> None:
    """Raises ValueError if different numbers of a column of `flat` (N, entries) become equal in 32 bits.

    It checks two things: whether 32-bit steps at the largest number are coarse compared with the deviation; and, since
    one outlier makes a deviation large, whether most different numbers in a sample of rows become equal.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        spread = _deviation(flat)
    tiny = (largest > 0) & (largest < np.finfo(np.float32).tiny)
    if tiny.any():
        k = int(np.argmax(tiny))
        raise ValueError(
            f"{where}: {entry(k)} holds numbers up to {largest[k]:g}, too small for 32 bits; multiply them"
        )
    step = np.finfo(np.float32).eps * largest
    lost = (spread > 0) & (step > COARSEST * spread)
    if lost.any():
        k = int(np.argmax(lost))
        raise ValueError(_cannot_tell(where, entry(k), largest[k], f"differ only by {spread[k]:g}"))
    rows = min(len(flat), max(2, min(SAMPLED, SAMPLED_NUMBERS // flat.shape[1])))
    sample = flat[np.linspace(0, len(flat) - 1, rows).astype(int)]
    before, after = (_different(s) for s in (sample, sample.astype(np.float32)))
    lost = after < before / 2
    if lost.any():
        k = int(np.argmax(lost))
        how = f"are {before[k]:,} different ones in {rows:,} rows, and {after[k]:,} in 32 bits"
        raise ValueError(_cannot_tell(where, entry(k), largest[k], how))


def _cannot_tell(where: str, name: str, largest: float, how: str) -> str:
    return (
        f"{where}: {name} holds numbers up to {largest:g} that {how}, which 32 bits cannot tell apart; subtract what "
        "they have in common"
    )


def _deviation(flat: np.ndarray) -> np.ndarray:
    """The standard deviation of each column in double precision, without missing values."""
    if flat.dtype.kind == "f" and np.isnan(flat).any():
        here = ~np.isnan(flat)
        count = np.maximum(here.sum(0), 1)
        mean = np.where(here, flat, 0).sum(0) / count
        return np.sqrt(np.where(here, np.square(flat - mean), 0).sum(0) / count)
    return flat.std(0, dtype=np.float64)


def _different(sample: np.ndarray) -> np.ndarray:
    """The number of different values of each column; a missing value counts as one."""
    ordered = np.sort(sample, 0)
    return 1 + (ordered[1:] != ordered[:-1]).sum(0) if len(ordered) else np.zeros(sample.shape[1], int)
