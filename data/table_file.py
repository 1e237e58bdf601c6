"""Your own table, from a CSV or Parquet file.

Run: ``python -m trainer data=csv data.path=flats.csv 'data.targets=[rent]'``
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.columns import Column, as_column, has_codes, numbers_in
from data.dataset import Kind
from data.encoding import few, kinds_of, needed, one_hot, one_hot_names, unknown
from data.gate import Arrays, Missing, Raw
from data.read_table import Notation, read_table, spellings
from data.source import Source
from data.storage import expand, file_error, nfc
from data.targets import FEW, GivenTask, class_task

if TYPE_CHECKING:
    import pandas as pd

Name = str | int  # of a column; pandas numbers unnamed ones
MOST_CATEGORIES = 1000  # of a column; each becomes a 0/1 column


@dataclass(frozen=True)
class Roles:
    """The roles of columns; None if not given. See :class:`TableFile`."""

    targets: list[str]
    features: list[str] | None
    weights: str | None
    group: str | None
    text: list[str] | None

    def __post_init__(self) -> None:
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets={_in_brackets(self.targets)}: must be one or more columns, each once")
        features = self.features or []
        for name, column in (("weights", self.weights), ("group", self.group)):
            if column is not None and column in [*self.targets, *features]:
                raise ValueError(f"{name}={column}: is a target or a feature, too")
        for name in features:
            if name in self.targets or features.count(name) > 1:
                raise ValueError(f"features={_in_brackets(features)}: {name} is a target, or occurs twice")


@dataclass(kw_only=True)
class TableFile(Source):
    """Rows of a file: number columns unchanged, text columns one-hot by the categories of the training split.

    A category that the training split lacks is all zeros. One-hot columns are not normalized. Blanks around names and
    texts do not count.

    Args:
        path: the file; .parquet, .pq, or a folder of such parts is Parquet, anything else CSV with a line of column
            names.
        targets: the columns to predict.
        features: the columns to predict from; null: all others.
        weights: the column with the weights of rows in the loss; null: equal weights.
        group: the column whose equal values stay in one split, such as a patient's number; null: no groups.
        task: ``auto``: texts are classes, fractions are regression; whole numbers could be either, and are refused.
        text: the text columns, such as codes; null: those that are no numbers.
        missing: rows with a missing value: ``refuse``; ``drop`` and count them; ``mean``: fill inputs with the mean of
            the training split.
        separator, decimal, thousands, units, na, encoding: see :class:`data.read_table.Notation`.
    """

    path: str
    targets: Name | list[Name]
    features: list[Name] | None
    weights: Name | None
    task: GivenTask
    separator: str
    group: Name | None = None
    text: list[Name] | None = None
    missing: Missing = "refuse"
    decimal: str = "."
    thousands: str | None = None
    units: list[str] | None = None
    na: list[str | int | float] | None = None
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.roles = Roles(
            targets=as_names(self.targets if isinstance(self.targets, list) else [self.targets]),
            features=None if self.features is None else as_names(self.features),
            weights=None if self.weights is None else as_name(self.weights),
            group=None if self.group is None else as_name(self.group),
            text=None if self.text is None else as_names(self.text),
        )
        units, na = tuple(self.units or ()), tuple(text for value in self.na or () for text in spellings(value))
        self.notation = Notation(self.separator, self.decimal, self.thousands, units, na, self.encoding)

    def read(self) -> Raw:
        path = expand("path", self.path)
        roles = self.roles
        columns, used, notes = self._columns(path)
        features, targets = [columns[name] for name in used], [columns[name] for name in roles.targets]
        task = self._task(path, targets)
        labels = {} if task in ("regression", "multilabel") else {t.name: self._labels(path, t, task) for t in targets}
        y = [labels[t.name][1] if t.name in labels else _numbers(path, t) for t in targets]
        classes = {name: texts for name, (texts, _) in labels.items()}
        one_class = classes.get(roles.targets[0]) if task in ("classification", "binary") else None
        texts = {c.name: self._categories(path, c) for c in features if c.kind == "text"}
        weights = [] if roles.weights is None else [_numbers(path, columns[roles.weights])]
        names = one_hot_names(features, texts)
        if twice := [name for i, name in enumerate(names) if name in names[:i]]:
            raise file_error(path, f"column {twice[0]} has the name of a text of another column; rename it")
        called = {
            "x": str(path),
            "y": f"{path}: column {', '.join(roles.targets)}",
            "w": f"{path}: column {roles.weights}",
        }
        return Raw(
            name=path.stem,
            task=task,
            parts={"train": (one_hot(features, texts), np.stack(y, 1), *weights)},
            num_outputs=None if self.like is None else self.like.num_outputs,
            class_names=tuple(roles.targets) if task == "multilabel" else one_class,
            column_names=names,
            target_names=tuple(roles.targets),
            encoders=texts | ({} if one_class else classes),
            kinds={c.name: c.kind for c in (*features, *targets)},
            units={c.name: c.unit for c in (*features, *targets) if c.kind == "number"},
            fixed=np.concatenate([np.full(len(texts.get(c.name, "1")), c.name in texts) for c in features]),
            groups=None if roles.group is None else columns[roles.group].labels()[1],
            where=lambda part, what: called[what],
            notes=(*notes, *([] if self.like is None else unknown(features, self.like))),
        )

    def _columns(self, path: Path) -> tuple[dict[str, Column], list[str], list[str]]:
        """The used columns, the names of those to predict from, and notes.

        Raises:
            ValueError: a column is missing, or has cells that cannot be used.
        """
        roles = self.roles
        of_run = {} if self.like is None else kinds_of(self.like)
        units = {} if self.like is None else self.like.units or {}
        text, group = roles.text or [], [] if roles.group is None else [roles.group]
        table = read_table(path, self.notation, {*text, *group, *(n for n, k in of_run.items() if k == "text")})
        extra = [*([] if roles.weights is None else [roles.weights]), *group]
        left = [name for name in table.columns if name not in [*roles.targets, *extra]]
        names = needed(self.like) if self.like is not None else left if roles.features is None else roles.features
        check_names(path, table, [*roles.targets, *names, *extra, *text])
        if not names:
            raise ValueError(f"features={_in_brackets(roles.features or ())}: leaves no column to predict from")
        columns = {
            n: self._column(path, table[n], of_run.get(n), units.get(n)) for n in [*names, *roles.targets, *extra]
        }
        columns, notes = self._complete(path, columns, names)
        unused = [name for name in left if name not in names]
        notes += [*table.attrs["notes"], *([f"columns that are not used: {few(unused)}"] if unused else [])]
        if self.like is None:
            notes += [note for name in [*names, *roles.targets] for note in self._codes(columns[name])]
        if roles.weights is not None:
            notes.append(f"each row counts in the loss by its {roles.weights}")
        return columns, names, notes

    def _complete(
        self, path: Path, columns: dict[str, Column], features: list[str]
    ) -> tuple[dict[str, Column], list[str]]:
        """The columns without rows that `missing` leaves out, and notes about those.

        Raises:
            ValueError: a value is missing.
        """
        lack = {name: int(column.missing.sum()) for name, column in columns.items() if column.missing.any()}
        listed = ", ".join(f"{name} {n:,}" for name, n in lack.items())
        if self.missing == "drop" and lack:
            whole = ~np.any([columns[name].missing for name in lack], axis=0)
            if not whole.any():
                raise file_error(path, f"every row has a missing value ({listed})")
            columns = {name: column.kept(whole) for name, column in columns.items()}
            return columns, [f"left out {(~whole).sum():,} of {len(whole):,} rows with missing values: {listed}"]
        for name in lack:
            if self.missing == "refuse" or name not in features:
                row = int(np.flatnonzero(columns[name].missing)[0])
                fill = "" if name not in features else ", data.missing=mean fills in the mean"
                raise file_error(
                    path,
                    f"column {name}, row {row + 1:,}: the cell is empty{_or_na(self.notation)} (missing in all: "
                    f"{listed}); data.missing=drop leaves such rows out{fill}",
                )
        return columns, []

    def _column(self, path: Path, cells: pd.Series, kind: Kind | None, unit: str | None) -> Column:
        """A used column, by the run's facts or by its cells."""
        roles = self.roles
        if cells.name == roles.group:
            return as_column(path, cells, self.notation, "text")
        numbers = [roles.weights, *(roles.targets if self.task in ("regression", "multilabel") else ())]
        kind = "text" if cells.name in (roles.text or ()) else kind
        codes: Kind = "number" if roles.text == [] or cells.name in numbers else "text"
        return as_column(path, cells, self.notation, kind, unit, codes=codes)

    def _task(self, path: Path, targets: list[Column]) -> str:
        """The task, given or guessed.

        Raises:
            ValueError: it must be given explicitly.
        """
        if self.like is not None:
            return self.like.task
        if self.task != "auto":
            return self.task
        first = targets[0]
        if all(t.kind == "number" and (t.values % 1 != 0).any() for t in targets):
            return "regression"
        if len(targets) == 1 and first.kind == "text":
            return class_task(len(first.labels()[0]))
        raise ValueError(
            f"task=auto: {', '.join(self.roles.targets)} of {path} could be several things; say which: "
            "classification, binary, multilabel, multitask or regression"
        )

    def _labels(self, path: Path, column: Column, task: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Names of the classes, and the class number of each row.

        Raises:
            ValueError: too few or too many classes, or a class that the run does not have.
        """
        classes, codes = column.labels()
        if self.like is not None:
            known = self.like.output_names[column.name if task == "multitask" else ""]
            if new := [name for name in classes if name not in known]:
                raise file_error(path, f"column {column.name} holds {few(new)}, which the run does not have")
            return known, np.array([known.index(name) for name in classes])[codes]
        needed = "2 classes are needed" if task == "binary" else "at least 2 classes are needed"
        if len(classes) < 2 or (task == "binary" and len(classes) > 2):
            raise file_error(path, f"column {column.name} holds {len(classes)} different values, and {needed}")
        return classes, codes

    def _categories(self, path: Path, column: Column) -> tuple[str, ...]:
        """The different texts of an input column.

        Raises:
            ValueError: too many for categories.
        """
        if self.like is not None:
            return self.like.encoders[column.name]
        present = column.kept(~column.missing)
        texts, rows = present.labels()[0], len(present.values)
        if not rows:
            raise file_error(path, f"column {column.name} has no value; leave it out")
        if len(texts) > MOST_CATEGORIES or (rows >= FEW and len(texts) > rows / 2):
            raise file_error(
                path,
                f"column {column.name} holds {len(texts):,} different texts in {rows:,} rows, too many for "
                "categories; make numbers of them, or leave the column out",
            )
        return texts

    def _codes(self, column: Column) -> list[str]:
        """A note about a text column whose texts are numbers, some with leading zeros."""
        import pandas as pd

        if column.kind != "text" or column.name in (self.roles.text or ()):
            return []
        texts = pd.Series(column.different, dtype=object)
        if not (has_codes(texts) and numbers_in(texts, self.notation).notna().all()):
            return []
        return [
            f"column {column.name}: texts, since some numbers have leading zeros; data.text=[] reads them as numbers"
        ]

    def split(self, raw: Raw) -> dict[str, Arrays]:
        """Leaves out the one-hot columns that are empty in the training split, and notes them."""
        splits, fixed = super().split(raw), raw.fixed
        assert fixed is not None  # set by read()
        keep = np.ones(len(fixed), bool)
        keep[np.flatnonzero(fixed)] = np.nan_to_num(splits["train"][0][:, fixed]).any(0)
        if keep.all():
            return splits
        names = np.array(raw.column_names, dtype=object)
        gone = tuple(names[~keep])
        rows = sum(int((np.nan_to_num(x[:, ~keep]) > 0).any(1).sum()) for x, *_ in splits.values())
        have = "row has a text" if rows == 1 else "rows have texts"
        raw.notes += (f"{rows:,} {have} that the training split lacks: {few(gone)}; all zeros there",)
        raw.fixed = fixed[keep]
        raw.column_names = kept = tuple(names[keep])
        raw.encoders = {
            column: tuple(v for v in values if column in self.roles.targets or f"{column}={v}" in kept)
            for column, values in raw.encoders.items()
        }
        return {name: (np.ascontiguousarray(x[:, keep]), *rest) for name, (x, *rest) in splits.items()}


def as_name(name: Name) -> str:
    """The name of a column as a text."""
    return nfc(str(name))


def as_names(names: Sequence[Name]) -> list[str]:
    """Names of columns as texts."""
    return [as_name(name) for name in names]


def check_names(path: Path, table: pd.DataFrame, names: list[str]) -> None:
    """Raises ValueError for the first of `names` that is no column."""
    for name in names:
        if name not in table.columns:
            lower = {column.lower(): column for column in table.columns}
            near = difflib.get_close_matches(name.lower(), lower, n=1)
            hint = f"did you mean {lower[near[0]]}? " if near else ""
            if "separator" in table.attrs:
                hint = f"is the separator data.separator={table.attrs['separator']}? "
            raise file_error(path, f"has no column {name}; {hint}it has {', '.join(table.columns)}")


def _numbers(path: Path, column: Column) -> np.ndarray:
    if column.kind == "text":
        raise file_error(
            path, f"column {column.name} holds {column.different[column.values[0]]!r}, but numbers are needed"
        )
    return column.values


def _or_na(notation: Notation) -> str:
    return f" or one of data.na=[{','.join(notation.na)}]" if notation.na else ""


def _in_brackets(names: Iterable[Name]) -> str:
    return f"[{','.join(map(str, names))}]"
