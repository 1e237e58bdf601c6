"""``metrics.csv`` of a run as columns of numbers; an unfinished last row is left out."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.rundir.errors import Damaged
from trainer.rundir.stored import MOST_TABLE, read_bytes

if TYPE_CHECKING:
    import numpy as np

FILE = "metrics.csv"
NUMBERS = b"-+0123456789.einfa,\n"  # the characters of float's repr, also of "inf" and "nan"


def read(run: Path) -> bytes | None:
    """The file of the run in `run`, or None if missing.

    Raises:
        Damaged: it cannot be read.
    """
    return read_bytes(run / FILE, MOST_TABLE)


def check(content: bytes) -> int:
    """The number of whole rows; checks only the characters of the cells.

    Raises:
        Damaged: a row has too many or too few cells, or a cell is no number.
    """
    columns, body = _divided(content)
    if not _is_even(columns, body) or body.translate(None, NUMBERS):
        numbers(content)  # says which row
    return body.count(b"\n")


def numbers(content: bytes) -> dict[str, np.ndarray]:
    """Name -> column, NaN where nothing was measured; {} without rows.

    Raises:
        Damaged: a row has too many or too few cells, or a cell is no number.
    """
    import numpy as np

    columns, body = _divided(content)
    if not body:
        return {}
    try:
        cells = np.array([float(cell or "nan") for cell in body[:-1].replace(b"\n", b",").split(b",")])
    except ValueError:
        cells = None
    if cells is None or not _is_even(columns, body):
        rows = [row.split(b",") for row in body.split(b"\n")[:-1]]
        raise Damaged(f"{FILE}: {_first_mistake(rows, len(columns))}")
    return dict(zip(columns, cells.reshape(-1, len(columns)).T.copy(), strict=True))


def _is_even(columns: list[str], body: bytes) -> bool:
    """Whether each row has one cell per column."""
    return {row.count(b",") for row in body.split(b"\n")[:-1]} <= {len(columns) - 1}


def _divided(content: bytes) -> tuple[list[str], bytes]:
    """The names of the columns, and the whole rows."""
    if not content:  # just being made
        return [], b""
    head, _, body = content.replace(b"\r\n", b"\n").partition(b"\n")
    try:
        columns = next(csv.reader([head.decode()]), [""])  # the name of a head or a target may hold a comma
    except (UnicodeDecodeError, csv.Error) as error:
        raise Damaged(f"{FILE}: its first line is not text in UTF-8") from error
    if columns[0] != "epoch" or len(set(columns)) < len(columns):
        raise Damaged(f"{FILE}: its first line should name columns, the first of them epoch")
    return columns, body[: body.rfind(b"\n") + 1]


def _first_mistake(rows: list[list[bytes]], columns: int) -> str:
    for i, cells in enumerate(rows, 1):
        if len(cells) != columns:
            return f"row {i} has {len(cells)} cells instead of {columns}"
        for cell in cells:
            try:
                float(cell or "nan")
            except ValueError:
                return f"row {i} has a cell that is no number ({cell[:20].decode(errors='replace')!r})"
    return "damaged"
