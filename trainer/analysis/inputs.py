"""Raw inputs for predictions, from files, in the form of the run's data before normalization.

An image, a folder of images, a table (CSV, Parquet) or arrays (``.npz``), for a run on data of the same kind.

Shapes: N inputs; images (C, H, W), tables (features,), series (T, features).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data import Facts
from data.columns import as_column
from data.encoding import cells, kinds_of, needed, one_hot, unknown
from data.gate import as_inputs, check_finite, range_note
from data.image_folder import AT_ONCE, ImageFolder, cores, counts, kinds, pictures_in
from data.npz import read_npz
from data.pictures import ENDINGS, READ, Decoder, Undecodable
from data.precision import to_float32
from data.read_table import Notation, column_names, is_parquet, plain_table, read_table
from data.storage import one_line
from data.table_file import TableFile
from data.text import UNKNOWN, TextSource, as_row, index_of, lines_of
from trainer.rundir.errors import Refused
from trainer.rundir.typed import looked_for, typed_path

if TYPE_CHECKING:
    import pandas as pd

LISTED = 6  # names in a line
FRAME = Path("the frame")  # the name of a data frame without a file in errors


@dataclass
class Inputs:
    """`parts` are the raw inputs (B, *input_shape) in order, read on demand.

    After all have been read, `names` are those of the readable inputs, and `unread` says what was left out.
    """

    kind: str  # image, row, text or sample
    names: list[Any]  # of each
    parts: Iterator[np.ndarray]
    notes: tuple[str, ...] = ()  # notes for the user
    unread: list[str] = field(default_factory=list)  # a line for each input that cannot be predicted


def read_inputs(path: Path, facts: Facts, source: Callable[[], Any], batch: int) -> Inputs:
    """The inputs in `path`, for a model trained on data with `facts` that `source` read.

    Args:
        source: makes the source of the run's data, for pictures and tables; arrays do not need it.
        batch: rows or samples per part.

    Raises:
        Refused: missing, damaged, or of another kind than the training data; one line says what is expected.
        ValueError: the same, from the readers of the run's data.
    """
    if not path.exists():
        raise Refused(f"{path}: no such file or folder{looked_for(path)}")
    if not path.is_file() and not path.is_dir():
        raise Refused(f"{path}: is a pipe or a device, not a file or folder")
    if path.suffix.lower() == ".npz":
        return array_inputs(path, facts, source, batch)
    if len(facts.input_shape) == 3 and (path.is_dir() or path.suffix.lower() in ENDINGS):
        return image_inputs(path, facts, source())
    if facts.vocabulary is not None and path.is_file():
        texts = [line.partition("\t")[0] for line in lines_of(path) if line.strip()]
        return text_inputs(texts, path, facts, source(), batch)
    is_table = len(facts.input_shape) == 1 and facts.column_names
    if is_table and path.suffix.lower() not in ENDINGS and (is_parquet(path) or not path.is_dir()):
        return table_inputs(path, facts, source(), batch)
    given = "a folder" if path.is_dir() else f"a {path.suffix or 'file without an ending'}"
    raise Refused(f"{path}: expected {expected(facts)}, given {given}")


def inputs_of(x: Any, facts: Facts, source: Callable[[], Any], batch: int) -> Inputs:
    """Inputs in memory, or those in a file as in :func:`read_inputs`.

    Args:
        x: an array, tensor or nested list of (N, *input_shape), or one input; a data frame; a list of texts; or a path.

    Raises:
        Refused, ValueError: as in :func:`read_inputs`.
    """
    if isinstance(x, str | os.PathLike):
        return read_inputs(typed_path(os.fspath(x)), facts, source, batch)
    if hasattr(x, "columns") and facts.column_names and len(facts.input_shape) == 1:
        texts = [name for name, kind in kinds_of(facts).items() if kind == "text"]
        table = x.reset_index(drop=True).set_axis(column_names(FRAME, list(x.columns)), axis=1)
        return rows(plain_table(FRAME, table, notation_of(source()), texts), FRAME, facts, source(), batch)
    if facts.vocabulary is not None and isinstance(x, list | tuple) and all(isinstance(text, str) for text in x):
        return text_inputs(list(x), Path("x"), facts, source(), batch)
    if hasattr(x, "detach"):  # a tensor, on whatever device
        x = x.detach().cpu()
    try:
        array = np.asarray(x)
    except ValueError as error:
        raise Refused(f"x: lists of different lengths; expected {shape('N', *facts.input_shape)}") from error
    if array.shape == facts.input_shape:
        array = array[None]
    return samples(array, "x", "", facts, source, batch)


def expected(facts: Facts) -> str:
    """The inputs that a model trained on such data takes, in words."""
    arrays = in_npz(facts)
    if len(facts.input_shape) == 3 and facts.value_range is not None and facts.input_shape[0] in (1, 3):
        return f"an image ({READ}), a folder of images, or {arrays}"
    if len(facts.input_shape) == 1 and facts.column_names:
        return f"a table (.csv, .parquet) with the columns {listed(facts.column_names)}, or {arrays}"
    if facts.vocabulary is not None:
        return f"a text file with an input in each line, or {arrays}"
    return arrays


def in_npz(facts: Facts) -> str:
    """The arrays that a model trained on such data takes, in words."""
    return f"an .npz file with an array x of {shape('N', *facts.input_shape)}"


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


def array_inputs(path: Path, facts: Facts, source: Callable[[], Any], batch: int) -> Inputs:
    """The array ``x`` of an ``.npz`` file, its only array, or ``x_test``; the order of axes is not checked."""
    arrays = read_npz(path)
    name = next(iter(arrays)) if len(arrays) == 1 else next((n for n in ("x", "x_test") if n in arrays), None)
    wanted = shape("N", *facts.input_shape)
    if name is None:
        raise Refused(f"{path}: expected an array x of {wanted}, given {', '.join(arrays) or 'no array'}")
    return samples(arrays[name], name, f"{path}: ", facts, source, batch)


def samples(x: np.ndarray, name: str, where: str, facts: Facts, source: Callable[[], Any], batch: int) -> Inputs:
    """The inputs in an array (N, *input_shape); errors name it `name`, after `where`.

    Raises:
        Refused: it has another shape, no numbers, or missing values.
    """
    if x.dtype.kind not in "buif" or x.shape[1:] != facts.input_shape or x.ndim == 0:
        wanted = shape("N", *facts.input_shape)
        raise Refused(f"{where}expected {name} to be numbers of {wanted}, given {x.dtype} of {shape(*x.shape)}")
    if len(x) == 0:
        raise Refused(f"{where}{name} is empty: {shape(*x.shape)}")
    notes = tuple(range_note(name, x, facts.value_range))
    where, missing = f"{where}{name}", np.zeros((len(x), 1), bool)
    if x.dtype.kind == "f":
        check_finite(x, lambda k: f"entry {k}", where, may_miss=True)
        missing = np.isnan(x.reshape(len(x), -1))

    def line(i: int) -> str:
        return missing_line(where, "sample", i, f"entry {listed([str(k) for k in np.flatnonzero(missing[i])])}")

    kept, unread = complete(missing, facts, source, line)
    x, filled = ready(x[kept], facts, lambda k: f"entry {k}", where)
    return Inputs("sample", kept.tolist(), split(x, batch), (*notes, *filled), unread)


def complete(
    missing: np.ndarray, facts: Facts, source: Callable[[], Any], line: Callable[[int], str]
) -> tuple[np.ndarray, list[str]]:
    """The indices of the inputs without missing values, and a line for each of the others.

    Args:
        missing: (N, K) whether a value is missing.
        line: index -> the line about its missing values.

    Raises:
        Refused: some values are missing and the run's data.missing refuses that; or no input is left.
    """
    places, lacks = np.arange(len(missing)), missing.any(1)
    if facts.fill is not None or not lacks.any():
        return places, []
    unread = [line(i) for i in places[lacks]]
    if lacks.all() or getattr(source(), "missing", "refuse") == "refuse":
        raise Refused(unread[0] + (f", and {len(unread) - 1:,} more" if len(unread) > 1 else ""))
    return places[~lacks], unread


def ready(x: np.ndarray, facts: Facts, entry: Callable[[int], str], where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Inputs (N, ...) after the checks of all data, each by itself, and a note about filled missing values.

    Raises:
        ValueError: values are missing, infinite, or beyond the range of 32 bits.
    """
    own, notes = x, []
    x = as_inputs(x, entry, where, may_miss=facts.fill is not None, apart=False)
    try:
        to_float32(own, entry, where)
    except ValueError as error:  # predicted anyway: a row is not compared with others
        notes.append(str(error))
    if facts.fill is not None and np.isnan(x).any():
        n = int(np.isnan(x)[:, cells(facts.column_names, facts.encoders)].sum())
        notes.append(f"missing inputs are the mean of the run's training split: {n:,}")
        x = np.where(np.isnan(x), facts.fill.numpy(force=True), x)
    return x, tuple(notes)


def text_inputs(texts: list[str], path: Path, facts: Facts, source: Any, batch: int) -> Inputs:
    """The tokens of each text; texts that are too long, empty, or hold a token unknown to the run are left out.

    Raises:
        Refused: the run's inputs are no texts, or every text is left out.
    """
    if not isinstance(source, TextSource):
        raise Refused(f"{path}: {type(source).__name__} has no texts; expected {in_npz(facts)}")
    index, (length,) = index_of(facts.vocabulary or ()), facts.input_shape
    rows, names, unread = [], [], []
    for i, text in enumerate(texts, 1):
        try:
            rows.append(as_row(source.pieces(text), index, length, end=False))
            names.append(one_line(text.strip()))
        except ValueError as error:
            unread.append(one_line(f"{path}: text {i:,} {error}"))
    if not rows:
        more = f", and {len(unread) - 1:,} more" if len(unread) > 1 else ""
        raise Refused(f"{unread[0]}{more}" if unread else f"{path}: holds no text")
    x = np.stack(rows)
    n = int((x == index.get(UNKNOWN)).sum()) if UNKNOWN in index else 0
    notes = (f"{n:,} words that the run's training split lacks are {UNKNOWN}",) if n else ()
    return Inputs("text", names, split(x, batch), notes, unread)


def image_inputs(path: Path, facts: Facts, source: Any) -> Inputs:
    """An image, or all images in a folder: decoded like the run's, or resized and scaled to the run's range."""
    channels, height, width = facts.input_shape
    if facts.value_range is None or channels not in (1, 3):
        why = "have no pixel range" if facts.value_range is None else f"have {channels} channels"
        raise Refused(f"{path}: the run's data are arrays that {why}; expected {expected(facts)}")
    found = pictures_in(path) if path.is_dir() else None
    files = [str(path)] if found is None else found.files
    if not files:
        raise Refused(f"{path}: holds no {READ}")
    own = isinstance(source, ImageFolder)
    decode = source.decoder_of(facts.value_range) if own else Decoder(height, width, channels, "stretch")
    names = [one_line(path if found is None else Path(f).relative_to(path)) for f in files]
    notes = (f"not read: {kinds(found.others)}",) if found is not None and found.others else ()
    inputs = Inputs("image", names, iter(()), notes)
    inputs.parts = decoded(files, decode, facts.value_range, inputs)
    return inputs


def decoded(files: list[str], decode: Decoder, limits: tuple[float, float], inputs: Inputs) -> Iterator[np.ndarray]:
    """The images in `files`, with 0 ... 255 scaled to `limits`; `inputs` leaves out those that cannot be decoded.

    Raises:
        Refused: none can be decoded.
    """
    low, high = limits
    names, inputs.names = inputs.names, []
    remarks: Counter[str] = Counter()
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(files), AT_ONCE):
            some = list(pool.map(decode.look, files[start : start + AT_ONCE]))
            of = list(zip(files[start:], names[start:], some, strict=False))
            bad = [(file, one.why) for file, _, one in of if isinstance(one, Undecodable)]
            inputs.unread += [one_line(f"{file}: cannot be decoded ({why})") for file, why in bad]
            inputs.names += [name for _, name, one in of if not isinstance(one, Undecodable)]
            whole = [one for one in some if not isinstance(one, Undecodable)]
            remarks.update(remark for one in whole for remark in one.remarks)
            if whole:
                x = np.stack([one.array for one in whole])
                own = (low, high) == (0, 2**decode.bits - 1)
                yield x if own else (low + x * ((high - low) / (2**decode.bits - 1))).astype(np.float32)
    if not inputs.names:
        more = f", and {len(files) - 1:,} more" if len(files) > 1 else ""
        raise Refused(f"{inputs.unread[0]}{more}")
    inputs.notes += counts(remarks, len(files))


def table_inputs(path: Path, facts: Facts, source: Any, batch: int) -> Inputs:
    """The rows of a table; columns are found by name and read like the run's; texts become its 0/1 columns.

    Raises:
        ValueError: a column is missing, or has a cell of another kind.
    """
    notation, texts = notation_of(source), [name for name, kind in kinds_of(facts).items() if kind == "text"]
    return rows(read_table(path, notation, texts), path, facts, source, batch)


def notation_of(source: Any) -> Notation:
    """The notation of the run's tables."""
    return source.notation if isinstance(source, TableFile) else Notation()


def rows(table: pd.DataFrame, path: Path, facts: Facts, source: Any, batch: int) -> Inputs:
    """The rows of a data frame from `path`, as read by :func:`data.read_table.read_table`.

    Raises:
        ValueError: a column is missing, or has a cell of another kind.
    """
    notation, of_run = notation_of(source), kinds_of(facts)
    names = needed(facts)
    absent = [name for name in names if name not in table.columns]
    if absent:
        raise Refused(
            f"{path}: has no column {listed(absent)}, which the run's data had; it has {listed(list(table.columns))}"
        )
    units = facts.units or {}
    columns = [as_column(path, table[name], notation, of_run.get(name, "number"), units.get(name)) for name in names]

    def line(row: int) -> str:
        return missing_line(path, "row", row, f"column {listed([c.name for c in columns if c.missing[row]])}")

    missing = np.stack([column.missing for column in columns], 1)
    kept, unread = complete(missing, facts, lambda: source, line)
    if unread:
        columns = [column.kept(kept) for column in columns]
    categories = {c.name: facts.encoders[c.name] for c in columns if c.kind == "text"}
    entries = facts.column_names or ()
    x, filled = ready(one_hot(columns, categories), facts, lambda k: f"column {entries[k]}", str(path))
    return Inputs("row", kept.tolist(), split(x, batch), (*unknown(columns, facts), *filled), unread)


def missing_line(where: Path | str, kind: str, i: int, what: str) -> str:
    """The line about a row or a sample with a missing value."""
    return one_line(f"{where}: {kind} {i} (the first is 0, as in the column {kind}) has no value in {what}")
