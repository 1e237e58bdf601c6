"""What a person wants predicted, from files: raw inputs as the run's data were before normalization.

An image, a folder of images, a table (CSV, Parquet) or arrays (``.npz``), for a run whose data were of that kind.

Shapes: N inputs; images (C, H, W), tables (features,), series (T, features).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data import Facts
from data.image_folder import AT_ONCE, ENDINGS, Decoder, ImageFolder, cores, images_in
from data.npz import read_npz
from data.storage import one_line
from data.table_file import TableFile, check_complete, read_table
from trainer.errors import Refused

TABLES = (".csv", ".parquet", ".pq")
LISTED = 6  # names in a line


@dataclass
class Inputs:
    """`parts` are the raw inputs (B, *input_shape) in their order, read when asked for."""

    kind: str  # image, row or sample
    names: list[str] | range  # of each
    parts: Iterator[np.ndarray]
    notes: tuple[str, ...] = ()  # what a reader of the predictions should know


def read_inputs(path: Path, facts: Facts, source: Any, batch: int) -> Inputs:
    """The inputs in `path`, for a model trained on data with `facts` that were read by `source`.

    Args:
        batch: how many rows or samples make a part.

    Raises:
        Refused: nothing there, damaged, or not what the model was trained on; one line says what is expected.
        ValueError: the same, from the readers that the run's own data go through.
    """
    if not path.exists():
        raise Refused(f"{path}: no such file or folder")
    if path.suffix.lower() == ".npz":
        return array_inputs(path, facts, batch)
    if len(facts.input_shape) == 3 and (path.is_dir() or path.suffix.lower() in ENDINGS):
        return image_inputs(path, facts, source)
    is_table = len(facts.input_shape) == 1 and facts.column_names and not path.is_dir()
    if is_table and path.suffix.lower() not in ENDINGS:
        return table_inputs(path, facts, source, batch)
    given = "a folder" if path.is_dir() else f"a {path.suffix or 'file without an ending'}"
    raise Refused(f"{path}: expected {expected(facts)}, given {given}")


def expected(facts: Facts) -> str:
    """What can be given to a model trained on such data."""
    arrays = f"an .npz file with an array x of {shape('N', *facts.input_shape)}"
    if len(facts.input_shape) == 3 and facts.value_range is not None and facts.input_shape[0] in (1, 3):
        return f"an image ({', '.join(ENDINGS)}), a folder of images, or {arrays}"
    if len(facts.input_shape) == 1 and facts.column_names:
        return f"a table (.csv, .parquet) with the columns {listed(facts.column_names)}, or {arrays}"
    return arrays


def shape(*sides: Any) -> str:
    """A shape in words: (N, 3, 32, 32)."""
    return f"({', '.join(map(str, sides))}{',' if len(sides) == 1 else ''})"


def listed(names: Any) -> str:
    """The first few of some names."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def split(x: np.ndarray, batch: int) -> Iterator[np.ndarray]:
    """Parts of `x` in order."""
    return (x[start : start + batch] for start in range(0, len(x), batch))


def array_inputs(path: Path, facts: Facts, batch: int) -> Inputs:
    """The array ``x`` of an ``.npz`` file, its only array, or ``x_test``, taken at its word."""
    arrays = read_npz(path)
    name = next(iter(arrays)) if len(arrays) == 1 else next((n for n in ("x", "x_test") if n in arrays), None)
    wanted = shape("N", *facts.input_shape)
    if name is None:
        raise Refused(f"{path}: expected an array x of {wanted}, given {', '.join(arrays) or 'no array'}")
    x = arrays[name]
    if x.dtype.kind not in "buif" or x.shape[1:] != facts.input_shape or x.ndim == 0:
        raise Refused(f"{path}: expected {name} to be numbers of {wanted}, given {x.dtype} of {shape(*x.shape)}")
    if len(x) == 0:
        raise Refused(f"{path}: {name} is empty: {shape(*x.shape)}")
    if x.dtype != np.uint8:
        x = finite(x, f"{path}: {name}")
    notes, limits = (), facts.value_range
    if limits is not None and (x.min() < limits[0] or x.max() > limits[1] or (x.max() <= 1 < limits[1])):
        notes = (f"{name} holds {x.min():g} to {x.max():g}; the run's data were in {limits[0]:g} to {limits[1]:g}",)
    return Inputs("sample", range(len(x)), split(x, batch), notes)


def finite(x: np.ndarray, where: str) -> np.ndarray:
    """`x` in 32 bits.

    Raises:
        Refused: values are missing, infinite or beyond 32 bits.
    """
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    if bad := int((~np.isfinite(x)).sum()):
        raise Refused(f"{where}: {bad:,} values are NaN, infinite, or beyond the range of 32 bits")
    return x


def image_inputs(path: Path, facts: Facts, source: Any) -> Inputs:
    """An image, or all those in a folder: decoded as the run's own were, or brought to their size and range."""
    channels, height, width = facts.input_shape
    if facts.value_range is None or channels not in (1, 3):
        why = "have no range of pixels" if facts.value_range is None else f"have {channels} channels"
        raise Refused(f"{path}: the run's data are arrays that {why}; expected {expected(facts)}")
    files = images_in(path) if path.is_dir() else [str(path)]
    if not files:
        raise Refused(f"{path}: holds no {', '.join(ENDINGS)}")
    own = isinstance(source, ImageFolder)
    decode = source.decoder if own else Decoder(height, width, channels, "stretch")
    names = [one_line(Path(f).relative_to(path)) for f in files] if path.is_dir() else [one_line(path)]
    return Inputs("image", names, decoded(files, decode, facts.value_range))


def decoded(
    files: list[str], decode: Callable[[str], np.ndarray | None], limits: tuple[float, float]
) -> Iterator[np.ndarray]:
    """The images in `files`, their 0 ... 255 as `limits`.

    Raises:
        Refused: one cannot be decoded.
    """
    low, high = limits
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(files), AT_ONCE):
            some = files[start : start + AT_ONCE]
            images = list(pool.map(decode, some))
            for file, image in zip(some, images, strict=True):
                if image is None:
                    raise Refused(one_line(f"{file}: cannot be decoded as JPEG or PNG"))
            x = np.stack(images)
            yield x if (low, high) == (0, 255) else (low + x * ((high - low) / 255)).astype(np.float32)


def table_inputs(path: Path, facts: Facts, source: Any, batch: int) -> Inputs:
    """The rows of a table, their columns found by name; texts become the run's one-hot columns."""
    separator = source.separator if isinstance(source, TableFile) else ","
    table = read_table(path, separator)
    of_one_hot = {
        f"{column}={text}": (column, text)
        for column, texts in facts.encoders.items()
        for text in texts
        if f"{column}={text}" in facts.column_names
    }
    needed = list(dict.fromkeys(of_one_hot[name][0] if name in of_one_hot else name for name in facts.column_names))
    missing = [name for name in needed if name not in table.columns]
    if missing:
        raise Refused(
            f"{path}: has no column {listed(missing)}, which the run's data had; it has {listed(list(table.columns))}"
        )
    check_complete(path, table[needed])
    texts = {column: table[column].astype(str) for column, _ in of_one_hot.values()}
    columns, notes = [], []
    for name in facts.column_names:
        if name in of_one_hot:
            column, text = of_one_hot[name]
            columns.append((texts[column] == text).to_numpy(np.float32))
        else:
            columns.append(number_column(path, table[name]))
    for column, values in texts.items():
        unknown = sorted(set(values) - set(facts.encoders[column]))
        if unknown:
            notes.append(f"column {column}: the run was not trained on {listed(unknown)}; taken for none of its texts")
    return Inputs("row", range(len(table)), split(np.stack(columns, 1), batch), tuple(notes))


def number_column(path: Path, column: Any) -> np.ndarray:
    """The numbers in a column of a data frame (N,).

    Raises:
        Refused: it holds anything else.
    """
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    if not (is_numeric_dtype(column) or is_bool_dtype(column)):
        raise Refused(one_line(f"{path}: column {column.name} holds {column.iloc[0]!r}, and numbers are expected"))
    return finite(column.to_numpy(np.float64), f"{path}: column {column.name}")
