"""The gate: checks of all data, for training, evaluation and prediction.

For tables, arrays, images and generated data it refuses missing and infinite values, numbers that become equal in 32
bits, and targets that do not fit their task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from data.dataset import Kind
from data.encoding import cells
from data.precision import rounded, to_float32
from data.targets import DROP, Outputs, as_targets, as_weights

Arrays = tuple[Any, ...]  # inputs, targets, and optionally weights of a split
Missing = Literal["refuse", "drop", "mean"]  # the treatment of missing values


@dataclass
class Raw:
    """A dataset as read.

    ``parts`` are the published splits, or everything under ``train``: inputs (N, *input_shape) in their raw dtype (or
    names of files, which the source decodes later), and targets: class numbers (N,) for classification and binary,
    0 and 1 (N, labels) for multilabel, class numbers (N, heads) for multitask, numbers (N, targets) for regression,
    tokens (N, T) for sequence, below ``num_outputs``; with a ``vocabulary`` inputs are tokens (N, T), too;
    and optionally a weight of each sample (N,). ``num_outputs`` None: by the targets. ``normalize=scale`` maps
    ``value_range`` to 0..1; None: the range of each column.
    """

    name: str
    task: str
    parts: dict[str, Arrays]
    num_outputs: Outputs | None
    value_range: tuple[float, float] | None = None
    class_names: tuple[str, ...] | None = None
    column_names: tuple[str, ...] | None = None
    target_names: tuple[str, ...] | None = None
    in_time: bool = False  # a series: splits keep the order
    encoders: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # one-hot columns: column -> categories
    kinds: Mapping[str, Kind] | None = None  # of the columns of a table
    units: Mapping[str, str] | None = None  # column of numbers of a table -> its unit, "" if none
    fixed: np.ndarray | None = None  # (features,) columns without normalization
    groups: np.ndarray | None = None  # (N,) of the training part: samples of one group stay in one split
    where: Callable[[str, str], str] | None = None  # part, x | y | w -> name of these arrays in errors
    vocabulary: tuple[str, ...] | None = None  # of inputs that are tokens, and of their marks: see data.Facts
    pad: int = 0
    start: int = 1
    end: int = 2
    between: str = " "
    fill: Any = None  # values for missing ones: see data.Facts
    fingerprint: dict[str, Any] | None = None  # see data.fingerprint
    notes: tuple[str, ...] = ()

    def called(self, part: str, what: str) -> str:
        """The name of the inputs (x), targets (y) or weights (w) of a part in errors."""
        return self.where(part, what) if self.where else self.name

    def entry(self, k: int) -> str:
        """The name of the k-th number of a sample in errors."""
        return f"column {self.column_names[k]}" if self.column_names else f"entry {k} of a sample"


def admit(raw: Raw, missing: Missing = "refuse") -> Raw:
    """`raw` with checked arrays: inputs as bytes or float32, targets and weights by their task.

    Args:
        missing: ``refuse``: a NaN is refused; ``drop``: samples with one are left out, and counted in the notes;
            ``mean``: :func:`fill_in` fills them in once the splits are known.

    Raises:
        ValueError: the data cannot be used; one line says which, where and why.
    """
    if missing == "drop":
        drop_incomplete(raw)
    notes = []
    for part, (x, y, *weights) in raw.parts.items():
        if y.ndim == 0 or len(x) != len(y):
            raise ValueError(f"{raw.called(part, 'y')}: {y.size:,} targets for {len(x):,} samples")
        if raw.vocabulary is not None:
            x = as_tokens(x, len(raw.vocabulary), raw.called(part, "x"))
        elif x.dtype != object:
            hint = f"{DROP}, data.missing=mean fills in the mean"
            own, x = x, as_inputs(x, raw.entry, raw.called(part, "x"), may_miss=missing == "mean", hint=hint)
            notes += rounded(own, raw.entry)
        raw.parts[part] = x, y, *(as_weights(w, raw.called(part, "w")) for w in weights)
    if raw.task == "sequence":
        if not isinstance(raw.num_outputs, int):
            raise ValueError(f"{raw.name}: num_outputs={raw.num_outputs}: must be the number of tokens of the targets")
        for part, (x, y, *w) in raw.parts.items():
            raw.parts[part] = x, as_tokens(y, raw.num_outputs, raw.called(part, "y")), *w
        raw.notes = (*raw.notes, *notes)
        return raw
    targets = {part: y for part, (_, y, *_) in raw.parts.items()}
    columns = {1 if y.ndim == 1 else y.shape[1] for y in targets.values()}
    names = raw.target_names or ()
    if columns != {len(names)}:
        names = tuple(f"y{i}" for i in range(max(columns)))
    checked, outputs = as_targets(raw.task, targets, names, lambda part: raw.called(part, "y"), raw.num_outputs)
    raw.parts = {part: (x, checked[part], *w) for part, (x, _, *w) in raw.parts.items()}
    raw.num_outputs, raw.notes = outputs, (*raw.notes, *notes)
    return raw


def as_tokens(x: np.ndarray, words: int, where: str) -> np.ndarray:
    """Tokens (N, T) as int64.

    Raises:
        ValueError: they are no whole numbers from 0 to `words` - 1.
    """
    if x.dtype.kind not in "ui" or x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{where} is {x.dtype} {x.shape}; tokens are whole numbers (N, T)")
    if x.min() < 0 or x.max() >= words:
        wrong = x[(x < 0) | (x >= words)][0]
        raise ValueError(f"{where}: {wrong} is no token; there are {words:,}: 0 to {words - 1}")
    return x.astype(np.int64)


def as_inputs(
    x: np.ndarray,
    entry: Callable[[int], str],
    where: str,
    *,
    may_miss: bool = False,
    apart: bool = True,
    hint: str = "",
) -> np.ndarray:
    """Inputs (N, ...) of any numeric type as bytes or float32.

    Args:
        entry: name of the k-th number of a sample in errors.
        may_miss: whether NaN is a missing value that is filled in later.
        apart: whether to refuse numbers that become equal in 32 bits; not for single inputs to predict.
        hint: what to do about a NaN.

    Raises:
        ValueError: no samples, no numbers, values missing, infinite, or beyond what 32 bits hold.
    """
    if x.dtype.kind not in "buif":
        raise ValueError(f"{where} is {x.dtype}; samples are numbers")
    if 0 in x.shape:
        raise ValueError(f"{where} is empty: {x.shape}")
    if x.dtype == np.uint8:
        return x
    if x.dtype.kind == "f":
        check_finite(x, entry, where, may_miss, hint)
    return to_float32(x, entry, where, apart=apart)


def check_finite(x: np.ndarray, entry: Callable[[int], str], where: str, may_miss: bool, hint: str = "") -> None:
    """Raises ValueError if values are infinite, or NaN unless these are missing values."""
    bad = np.isinf(x) if may_miss else ~np.isfinite(x)
    if not bad.any():
        return
    i, k = np.argwhere(bad.reshape(len(x), -1))[0]
    hint = f"; {hint}" if hint and np.isnan(x.reshape(len(x), -1)[i, k]) else ""
    kind, first = "infinite" if may_miss else "NaN or infinite", f"{i + 1:,} first ({entry(k)}; samples count from 1)"
    raise ValueError(f"{where}: {bad.sum():,} values are {kind}, in sample {first}{hint}")


def drop_incomplete(raw: Raw) -> None:
    """Leaves out samples with a missing value, and notes how many."""
    for part, arrays in raw.parts.items():
        x, y, *weights = arrays
        if x.dtype.kind == "f":  # before samples are renumbered
            check_finite(x, raw.entry, raw.called(part, "x"), may_miss=True)
        whole = np.ones(len(x), bool)
        for array in (x, y, *weights):
            if array.dtype.kind == "f":
                whole &= ~np.isnan(array.reshape(len(array), -1)).any(1)
        if not whole.all():
            if not whole.any():
                raise ValueError(f"{raw.called(part, 'x')}: every sample has a missing value")
            raw.parts[part] = tuple(array[whole] for array in arrays)
            raw.notes += (f"left out {(~whole).sum():,} of {len(x):,} samples of {part} with missing values",)


def fill_in(raw: Raw, splits: dict[str, Arrays], of_run: Any = None) -> dict[str, Arrays]:
    """Fills missing inputs with the mean of the training split, which ``raw.fill`` then holds, and adds a note.

    Args:
        of_run: the facts of the run with the means, for new data.

    Raises:
        ValueError: a column has no value in the training split.
    """
    if next(iter(splits.values()))[0].dtype.kind != "f":
        return splits
    if of_run is None:
        raw.fill = means(raw, splits["train"][0])
    elif of_run.fill is not None:
        raw.fill = of_run.fill.numpy(force=True)
    elif any(np.isnan(x).any() for x, *_ in splits.values()):
        raise ValueError("missing=mean: the run has no means, as nothing was filled in when it was trained")
    else:
        return splits
    begins = cells(raw.column_names, raw.encoders)
    holes = {name: int(np.isnan(x)[:, begins].sum()) for name, (x, *_) in splits.items()}
    if any(holes.values()):
        listed = ", ".join(f"{n:,} in {name}" for name, n in holes.items() if n)
        raw.notes += (f"missing inputs are the mean of the training split: {listed}",)
    return {name: (np.where(np.isnan(x), raw.fill, x), *rest) for name, (x, *rest) in splits.items()}


def means(raw: Raw, x: np.ndarray) -> np.ndarray:
    """The mean of each entry over the samples (N, ...) that have it, float32.

    Raises:
        ValueError: no sample has an entry.
    """
    count = (~np.isnan(x)).sum(0)
    if not count.all():
        k = int(np.argmin(count.ravel()))
        raise ValueError(f"{raw.called('train', 'x')}: {raw.entry(k)} has no value in the training split")
    return (np.nansum(x, 0, dtype=np.float64) / count).astype(np.float32)


def range_note(name: str, x: np.ndarray, limits: tuple[float, float] | None) -> list[str]:
    """A note if inputs (N, ...) are not on the scale `limits` of a run's pixels."""
    low, high = np.fmin.reduce(x, None), np.fmax.reduce(x, None)
    if limits is None:
        return [f"{name} holds bytes, and the run's data were none"] if x.dtype == np.uint8 and x.ndim == 4 else []
    if low >= limits[0] and high <= limits[1] and not (high <= 1 < limits[1] and x.dtype != np.uint8):
        return []
    return [f"{name} holds {low:g} to {high:g}; the run's data were in {limits[0]:g} to {limits[1]:g}"]
