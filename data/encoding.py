"""The columns of a table as inputs of a network: numbers, and 0 or 1 for each text of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from data.columns import Column
from data.dataset import Facts, Kind

LISTED = 6  # names in a line


def kinds_of(facts: Facts) -> dict[str, Kind]:
    """The kinds of the columns of a run's table; of an older run, by its categories."""
    if facts.kinds is not None:
        return dict(facts.kinds)
    return {name: "text" if name in facts.encoders else "number" for name in needed(facts)}


def needed(facts: Facts) -> list[str]:
    """The columns that a run predicts from."""
    return list(dict.fromkeys(columns_of(facts.column_names or (), facts.encoders)))


def cells(column_names: Sequence[str] | None, encoders: Mapping[str, tuple[str, ...]]) -> list[int] | slice:
    """One entry of a sample for each cell of a table: for a text column, its first 0/1 column."""
    if column_names is None:
        return slice(None)
    columns = columns_of(column_names, encoders)
    return [k for k, column in enumerate(columns) if k == 0 or column != columns[k - 1]]


def columns_of(column_names: Sequence[str], encoders: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The table's column of each entry of a sample."""
    of_one_hot = {f"{column}={text}": column for column, texts in encoders.items() for text in texts}
    return [of_one_hot.get(name, name) for name in column_names]


def unknown(columns: list[Column], facts: Facts) -> list[str]:
    """Notes about texts that a run was not trained on."""
    notes = []
    for column in columns:
        if column.kind == "text":
            present = column.kept(~column.missing).labels()
            new = {i: text for i, text in enumerate(present[0]) if text not in facts.encoders[column.name]}
            rows = int(np.isin(present[1], list(new)).sum())
            if new:
                listed = few(list(new.values()))
                have = "row has a text" if rows == 1 else "rows have texts"
                notes.append(f"column {column.name}: {rows:,} {have} that the run was not trained on: {listed}")
    return notes


def one_hot(columns: list[Column], categories: Mapping[str, tuple[str, ...]]) -> np.ndarray:
    """Columns side by side (N, features): numbers, and 0 or 1 for each of a column's categories; NaN if missing."""
    names = one_hot_names(columns, categories)
    x, k = np.empty((len(columns[0].values), len(names)), order="F"), 0
    for column in columns:
        if column.name not in categories:
            x[:, k], k = column.numbers(), k + 1
            continue
        place = {text: i for i, text in enumerate(categories[column.name])}
        places = np.array([*(place.get(text, -1) for text in column.different), -1])[column.values]
        for i in range(len(place)):
            x[:, k + i] = places == i
        x[column.missing, k : k + len(place)] = np.nan
        k += len(place)
    return x


def one_hot_names(columns: list[Column], categories: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The names of what :func:`one_hot` makes."""
    return tuple(
        name
        for c in columns
        for name in ([f"{c.name}={text}" for text in categories[c.name]] if c.name in categories else [c.name])
    )


def few(names: Sequence[str]) -> str:
    """The first few of some names."""
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
