"""Your own table, from a CSV or Parquet file.

Run: ``python -m trainer data=csv data.path=flats.csv 'data.targets=[rent]'``
"""

from __future__ import annotations

import difflib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.source import Arrays, Raw, Source
from data.storage import expand, file_error, one_line
from data.targets import GivenTask, as_targets, as_weights, class_task, to_float32

if TYPE_CHECKING:
    import pandas as pd

MOST_CATEGORIES = 1000  # of a column; each becomes a column of its own


@dataclass(kw_only=True)
class TableFile(Source):
    """Rows of a file: columns of numbers as they are, columns of texts one-hot by the categories of the training split.

    A category that only other splits have is all zeros there. One-hot columns are not normalized. Blanks around names
    and texts do not count.

    Args:
        path: of the file; what ends in .parquet or .pq is Parquet, anything else CSV with a line of column names.
        targets: the columns to be predicted.
        features: the columns to predict from; null: all others.
        weights: the column that says how much each row counts in the loss; null: all the same.
        task: ``auto``: texts are classes, fractions are regression; whole numbers could be either, and are asked for.
        separator: between the columns of a CSV file; ``tab`` is one.
    """

    path: str
    targets: str | list[str]
    features: list[str] | None
    weights: str | None
    task: GivenTask
    separator: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.targets = [self.targets] if isinstance(self.targets, str) else list(self.targets)
        if not self.targets or len(set(self.targets)) < len(self.targets):
            raise ValueError(f"targets={_listed(self.targets)}: must be one or more columns, each once")
        self.separator = {"\\t": "\t", "tab": "\t"}.get(self.separator, self.separator)
        if len(self.separator) != 1:
            raise ValueError(f"separator={self.separator}: must be one character, or tab")
        if self.weights is not None and self.weights in [*self.targets, *(self.features or ())]:
            raise ValueError(f"weights={self.weights}: is a target or a feature, too")
        for name in self.features or ():
            if name in self.targets or list(self.features).count(name) > 1:
                raise ValueError(f"features={_listed(self.features)}: {name} is a target, or stands there twice")

    def read(self) -> Raw:
        path = expand("path", self.path)
        table = read_table(path, self.separator)
        weights = [] if self.weights is None else [self.weights]
        for name in [*self.targets, *(self.features or ()), *weights]:
            if name not in table.columns:
                lower = {column.lower(): column for column in table.columns}
                near = difflib.get_close_matches(name.lower(), lower, n=1)
                hint = f"did you mean {lower[near[0]]}? " if near else ""
                raise file_error(path, f"has no column {name}; {hint}it has {', '.join(table.columns)}")
        others = [c for c in table.columns if c not in [*self.targets, *weights]]
        names = self.features if self.features is not None else others
        if not names:
            raise ValueError(f"features={_listed(self.features or ())}: leaves no column to predict from")
        check_complete(path, table[[*names, *self.targets, *weights]])
        task = self._task(path, table)
        factorized = {} if task in ("regression", "multilabel") else {t: _factorized(table[t]) for t in self.targets}
        classes = {name: values for name, (values, _) in factorized.items()}
        for name, values in classes.items():
            if len(values) < 2 or (task == "binary" and len(values) > 2):
                needed = "2 classes are needed" if task == "binary" else "at least 2 classes are needed"
                raise file_error(path, f"column {name} holds {len(values)} different values, and {needed}")
            if len(table) >= 20 and len(values) > len(table) / 2:
                raise file_error(
                    path,
                    f"column {name} holds {len(values):,} different values in {len(table):,} rows; is it regression?",
                )
        targets = [factorized[t][1] if t in classes else _numbers(path, table[t]) for t in self.targets]
        y, outputs = as_targets(task, {"train": np.stack(targets, 1)}, tuple(self.targets), lambda _: str(path))
        texts = {name: _factorized(table[name]) for name in names if not _is_number(table[name])}
        encoders = {name: values for name, (values, _) in texts.items()}
        for name, values in encoders.items():
            check_categories(path, table[name], values)
        blocks = [_one_hot(*texts[n]) if n in texts else _numbers(path, table[n])[:, None] for n in names]
        columns = tuple(c for n in names for c in ([f"{n}={v}" for v in encoders[n]] if n in encoders else [n]))
        x = to_float32(np.concatenate(blocks, 1, dtype=np.float64), lambda k: f"column {columns[k]}", str(path))
        row_weights = [as_weights(_numbers(path, table[w]), f"{path}: column {w}") for w in weights]
        one_class = classes.get(self.targets[0]) if task in ("classification", "binary") else None
        return Raw(
            name=path.stem,
            task=task,
            parts={"train": (x, y["train"], *row_weights)},
            num_outputs=outputs,
            class_names=tuple(self.targets) if task == "multilabel" else one_class,
            column_names=columns,
            target_names=tuple(self.targets),
            encoders=encoders | ({} if one_class else classes),
            fixed=np.concatenate([np.full(len(encoders.get(n, "1")), n in encoders) for n in names]),
            notes=tuple(f"each row counts in the loss by its {w}" for w in weights),
        )

    def _task(self, path: Path, table: pd.DataFrame) -> str:
        """The task, given or guessed.

        Raises:
            ValueError: it must be given.
        """
        if self.task != "auto":
            return self.task
        target = table[self.targets[0]]
        if all(_is_number(table[t]) and (table[t] % 1 != 0).any() for t in self.targets):
            return "regression"
        if len(self.targets) == 1 and not _is_number(target):
            return class_task(target.nunique())
        raise ValueError(
            f"task=auto: {', '.join(self.targets)} of {path} could be several things; say which: "
            "classification, binary, multilabel, multitask or regression"
        )

    def split(self, raw: Raw) -> dict[str, Arrays]:
        """Leaves out the one-hot columns that are empty in the training split."""
        splits = super().split(raw)
        keep = ~raw.fixed | splits["train"][0].any(0)
        raw.fixed = raw.fixed[keep]
        raw.column_names = tuple(np.array(raw.column_names, dtype=object)[keep])
        raw.encoders = {
            column: tuple(v for v in values if column in self.targets or f"{column}={v}" in raw.column_names)
            for column, values in raw.encoders.items()
        }
        return {name: (np.ascontiguousarray(x[:, keep]), *rest) for name, (x, *rest) in splits.items()}


def read_table(path: Path, separator: str) -> pd.DataFrame:
    """The file as a data frame whose column names are texts, each once.

    Raises:
        ValueError: it is no such file, or empty; the text names it.
    """
    import pandas as pd  # half a second: only for a run that needs it

    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(path)
            names = table.columns
        else:
            # pandas gives names that stand there twice a number, and takes a first column without a name for labels.
            names = pd.read_csv(path, sep=separator, header=None, nrows=1, dtype=str, skipinitialspace=True).iloc[0]
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                table = pd.read_csv(path, sep=separator, skipinitialspace=True, index_col=False, low_memory=False)
    except ImportError as error:
        raise file_error(path, "reading Parquet needs pyarrow: pip install -e '.[parquet]'") from error
    except pd.errors.ParserWarning:
        raise file_error(path, f"not a readable table (rows are longer than the {len(names)} names above)") from None
    except Exception as error:  # damage surfaces as a dozen types, from pandas', pyarrow's and zlib's to KeyError
        raise file_error(path, f"not a readable table ({error})") from error
    table.columns = ["" if pd.isna(name) else one_line(name) for name in names]
    if "" in table.columns:
        number = list(table.columns).index("") + 1
        raise file_error(path, f"column {number} has no name (to_csv(index=False) leaves out pandas' own)")
    if not table.columns.is_unique:
        raise file_error(path, f"has the column {table.columns[table.columns.duplicated()][0]} twice")
    if table.empty:
        raise file_error(path, "has no rows")
    for name, column in table.items():
        if column.dtype.kind == "O" or str(column.dtype).startswith("str"):
            table[name] = column.map(lambda value: value.strip() if isinstance(value, str) else value)
    return table


def check_complete(path: Path, table: pd.DataFrame) -> None:
    """Raises ValueError where a value is missing or infinite, or a column is of a type that cannot be used."""
    missing = [f"column {name} has {n:,}" for name, n in table.isna().sum().items() if n]
    if missing:
        raise file_error(path, f"values are missing or NaN: {', '.join(missing)}; fill them in, or leave columns out")
    for name, column in table.items():
        if column.dtype.kind in "mMc":
            raise file_error(path, f"column {name} holds {column.dtype}; only numbers and texts can be used")
        if _is_number(column):
            values = column.to_numpy(dtype=np.float64)
            if not np.isfinite(values).all():
                raise file_error(path, f"column {name} has {(~np.isfinite(values)).sum():,} infinite values")
        elif other := [type(v).__name__ for v in column if not isinstance(v, str | bool | int | float)]:
            raise file_error(path, f"column {name} holds {other[0]}; only numbers and texts can be used")


def check_categories(path: Path, column: pd.Series, categories: tuple[str, ...]) -> None:
    """Raises ValueError for texts that are no categories: numbers that could not be read, or names of the rows."""
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").notna()
    if 0.5 <= numbers.mean() < 1:
        odd = column[~numbers].iloc[0]
        raise file_error(path, f"column {column.name} holds {odd!r} among numbers; mend it, or leave the column out")
    if len(categories) > MOST_CATEGORIES or (len(column) >= 20 and len(categories) > len(column) / 2):
        raise file_error(
            path,
            f"column {column.name} holds {len(categories):,} different texts in {len(column):,} rows, too many for "
            "categories; make numbers of them, or leave the column out",
        )


def _is_number(column: pd.Series) -> bool:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    return is_numeric_dtype(column) or is_bool_dtype(column)


def _numbers(path: Path, column: pd.Series) -> np.ndarray:
    if not _is_number(column):
        import pandas as pd

        odd = column[pd.to_numeric(column, errors="coerce").isna()]  # none, where all are texts of digits
        raise file_error(path, f"column {column.name} holds {[*odd, *column][0]!r}, and numbers are needed")
    return column.to_numpy(dtype=np.float64)


def _factorized(column: pd.Series) -> tuple[tuple[str, ...], np.ndarray]:
    """The different values as texts, in the order of numbers or of texts; and where each row's is among them."""
    values = column.to_numpy() if _is_number(column) else column.astype(str).to_numpy(dtype=object)
    categories, codes = np.unique(values, return_inverse=True)
    return tuple(map(_text, categories)), codes


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float | np.floating) and value.is_integer() else str(value)


def _one_hot(categories: tuple[str, ...], codes: np.ndarray) -> np.ndarray:
    return codes[:, None] == np.arange(len(categories))


def _listed(names: Any) -> str:
    return f"[{','.join(map(str, names))}]"
