"""Your own arrays, from a NumPy file.

Run: ``python -m trainer data=npz data.path=my.npz``
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.gate import Missing, Raw
from data.source import Source
from data.storage import expand, file_error
from data.targets import GivenTask, class_task

PARTS = ("train", "val", "test")


@dataclass(kw_only=True)
class Npz(Source):
    """``x_train``, ``y_train`` and optionally ``x_val``, ``y_val``, ``x_test``, ``y_test`` of a ``.npz`` file.

    ``w_train`` (N,), and then also ``w_val`` and ``w_test``, are weights of samples in the loss.

    Inputs are tables (N, features), series (N, T, features) or images (N, C, H, W). Targets are class numbers from 0
    (N,), 0 and 1 (N, labels) for multilabel, class numbers (N, heads) for multitask, or numbers (N,) or (N, targets).

    Args:
        path: the file.
        task: kind of the targets; ``auto``: fractions are regression, whole numbers (N,) are classes.
        missing: samples with a NaN: ``refuse``; ``drop`` and count them; ``mean``: fill inputs with the mean of the
            training split.
    """

    path: str
    task: GivenTask
    missing: Missing = "refuse"

    def read(self) -> Raw:
        path = expand("path", self.path)
        arrays = read_npz(path)
        if self.like is not None and {"x", "y"} <= set(arrays):
            arrays |= {"x_test": arrays.pop("x"), "y_test": arrays.pop("y")}
        here = [name for name in PARTS if {f"x_{name}", f"y_{name}"} & set(arrays)]
        here = here if "train" in here or (here and self.like is not None) else ["train", *here]
        parts = {name: _part(path, arrays, name) for name in here}
        x, y, *_ = parts[here[0]]
        unread = [name for name in arrays if name not in {f"{a}_{part}" for a in "xyw" for part in here}]
        for name, (other, *_) in parts.items():
            if other.shape[1:] != x.shape[1:] or (other.dtype == np.uint8) != (x.dtype == np.uint8):
                theirs, ours = (f"{a.dtype} {a.shape[1:]}" for a in (other, x))
                raise file_error(path, f"x_{name} has samples of {theirs}, x_{here[0]} of {ours}")
        task = _guess(y) if self.task == "auto" else self.task
        if self.like is not None:
            task = self.like.task
        if task is None:
            raise ValueError(f"task=auto: y_train of {path} are whole numbers {y.shape}; say which task they set")
        names = tuple(f"y{i}" for i in range(y.shape[1] if y.ndim == 2 else 1))
        return Raw(
            name=path.stem,
            task=task,
            parts=parts,
            notes=(
                *(["each sample counts in the loss by its weight"] if "w_train" in arrays else []),
                *([f"arrays that are not read: {', '.join(unread)}"] if unread else []),
            ),
            num_outputs=None if self.like is None else self.like.num_outputs,
            value_range=(0, 255) if x.dtype == np.uint8 and x.ndim == 4 else None,
            target_names=names if task in ("regression", "multitask") else None,
            where=lambda part, what: f"{path}: {what}_{part}",
        )


def _guess(y: np.ndarray) -> str | None:
    """The task of targets `y` by their type."""
    shape, y = y.ndim, y[~np.isnan(y)] if y.dtype.kind == "f" and y.ndim else y  # without missing values
    if y.dtype.kind not in "buif" or not y.size or not shape or np.isinf(y).any():
        return "regression"  # it refuses them
    if y.dtype.kind == "f":
        return "regression" if (y != np.floor(y)).any() else None
    return class_task(int(y.max()) + 1) if shape == 1 else None


def _part(path: Path, arrays: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, ...]:
    """Inputs and targets of one split, and its weights if the training split has weights."""
    weights = [f"w_{name}"] if {f"w_{part}" for part in PARTS} & set(arrays) else []
    for key in (f"x_{name}", f"y_{name}", *weights):
        if key not in arrays:
            raise file_error(path, f"has no array {key}; it holds {', '.join(arrays) or 'nothing'}")
    x, y = arrays[f"x_{name}"], arrays[f"y_{name}"]
    if x.dtype.kind not in "buif" or x.ndim not in (2, 3, 4):
        raise file_error(path, f"x_{name} is {x.dtype} of {x.ndim} axes; samples are tables, series or images")
    for key in weights:
        if arrays[key].dtype.kind not in "buif" or arrays[key].shape != (len(x),):
            raise file_error(path, f"{key} is {arrays[key].dtype} {arrays[key].shape}; weights are numbers ({len(x)},)")
    return x, y, *(arrays[key] for key in weights)


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a ``.npz`` file; nothing in it is unpickled.

    Raises:
        ValueError: damaged, another kind of file, or with arrays of Python objects; the text names the file.
    """
    arrays, name = {}, None
    try:
        file = np.load(path, allow_pickle=False)
        for name in () if isinstance(file, np.ndarray) else file.files:
            arrays[name] = file[name]
    except Exception as error:  # damage raises a dozen types, from zipfile's and zlib's to RuntimeError
        if name is not None and str(error).startswith("Object arrays"):
            why = f"{name} holds Python objects, which are not read; save numbers, such as {name}.astype(float)"
            raise file_error(path, why) from error
        reason = "" if "pickle" in str(error) else f" ({error})"  # NumPy's message advises to unpickle
        raise file_error(path, f"not a whole .npz file of plain arrays{reason}") from error
    if isinstance(file, np.ndarray):
        raise file_error(path, "holds one array; several named arrays are needed, as numpy.savez writes them")
    return {name: array for name, array in arrays.items() if isinstance(array, np.ndarray)}
