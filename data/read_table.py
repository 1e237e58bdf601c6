"""Tables from CSV and Parquet files: a data frame of numbers, booleans and texts, the same from either format.

An empty cell is missing; a text such as NA is missing only if `data.na` says so.
"""

from __future__ import annotations

import codecs
import re
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from data.storage import FORMS, file_error, nfc, one_line

if TYPE_CHECKING:
    import pandas as pd

PARQUET = (".parquet", ".pq")
EXCEL = (".xlsx", ".xls", ".ods")
CODE = r"[+-]?(0[0-9]+|[0-9]{16,})"  # leading zeros, or more digits than float64 has: a number or a name
NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
EXACT = 2**53  # from here on, float64 does not have every whole number
BLOCK = 2**18  # bytes that are read at once
WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "dot": ".", "semicolon": ";", "space": " ", "pipe": "|"}
BLANKS = " \u00a0\u2009\u202f"  # blanks between thousands; three of them are no-break


@dataclass(frozen=True)
class Notation:
    """The notation of a table.

    Args:
        separator: character between the columns of a CSV file, such as ``;``, or its name, such as tab.
        decimal: character between the whole part of a number and its fraction: ``.`` or ``,``, or dot or comma.
        thousands: character between groups of three digits, such as ``,`` or ``'``, or comma or space; None: nothing.
        units: texts that are cut off before or after a number, such as %.
        na: texts that mean a missing value.
        encoding: of a CSV file, such as utf-8 or cp1252.

    Characters may be named: tab, comma, dot, semicolon, pipe, space. Between thousands, a blank is one of any width.
    """

    separator: str = ","
    decimal: str = "."
    thousands: str | None = None
    units: tuple[str, ...] = ()
    na: tuple[str, ...] = ()
    encoding: str = "utf-8"

    def __post_init__(self) -> None:
        for name in ("separator", "decimal", "thousands"):
            value = getattr(self, name)
            character = WORDS.get(value, value)
            object.__setattr__(self, name, " " if name == "thousands" and character in (*BLANKS,) else character)
            if value is not None and len(getattr(self, name)) != 1:
                raise ValueError(f"{name}={value}: must be one character, or {', '.join(sorted(WORDS)[1:])}")
        if self.decimal.isalnum():
            raise ValueError(f"decimal={self.decimal}: must be no letter or digit")
        if self.decimal == self.thousands:
            raise ValueError(
                f"thousands={self.thousands}: is the decimal mark, too; give both, data.thousands and data.decimal"
            )
        object.__setattr__(self, "units", tuple(nfc(str(unit).strip()) for unit in self.units))
        marks = rf"[-+−.,{re.escape(self.decimal + (self.thousands or ''))}]*"
        for unit in self.units:  # else a part of a number could be taken as a unit
            if re.fullmatch(marks, unit) or unit[0].isdigit():
                raise ValueError(f"units=[{unit}]: must be a text before or after numbers, such as % or EUR")
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ValueError(
                f"encoding={self.encoding}: must be an encoding of Python, such as utf-8, cp1252"
            ) from None

    @property
    def na_numbers(self) -> list[float]:
        """The numbers among the texts that mean a missing value."""
        return [float(text) for text in self.na if re.fullmatch(NUMBER, text)]


def spellings(value: str | int | float) -> tuple[str, ...]:
    """The spellings of a value in a file: three of NaN."""
    return ("nan", "NaN", "NAN") if value != value else (nfc(str(value)),)


def is_parquet(path: Path) -> bool:
    """Whether a path is read as Parquet: by its ending, or a folder of parts."""
    return path.suffix.lower() in PARQUET or (
        path.is_dir() and any(f.suffix.lower() in PARQUET for f in path.rglob("*"))
    )


def read_table(path: Path, notation: Notation, texts: Collection[str] = ()) -> pd.DataFrame:
    """The file as a data frame whose column names are texts, each once.

    A column has numbers, booleans, or texts without blanks around them; missing cells are NaN. Whole numbers with
    leading zeros are texts, since they may be codes. ``attrs["notes"]`` has notes about what was not read.

    Args:
        texts: columns that are read as texts.

    Raises:
        ValueError: it is no such file, or empty; the text names it.
    """
    import pandas as pd  # the import takes half a second: only if needed

    if path.suffix.lower() in EXCEL:
        raise file_error(path, "is a workbook; save its sheet as CSV")
    if path.is_dir() and not is_parquet(path):
        raise file_error(path, "not a readable table: a folder is one if it holds .parquet files")
    try:
        table = read_parquet(path) if is_parquet(path) else read_csv(path, notation, texts)
    except ImportError as error:
        raise file_error(path, "reading Parquet needs pyarrow: pip install -e '.[parquet]'") from error
    except UnicodeError as error:
        how = "save it as such, or say what it is: data.encoding=cp1252 (Windows), utf-16, …"
        reason = error.reason if isinstance(error, UnicodeDecodeError) else error  # other errors lack it
        raise file_error(path, f"not a readable table in {notation.encoding} ({reason}); {how}") from error
    except pd.errors.ParserWarning:
        raise file_error(path, "not a readable table (rows are longer than the names in the first line)") from None
    except Exception as error:  # damage raises a dozen types, from pandas', pyarrow's and zlib's to KeyError
        if isinstance(error, ValueError) and str(error).startswith(one_line(path)):
            raise  # said here
        raise file_error(path, f"not a readable table ({error})") from error
    return plain_table(path, table, notation, texts)


def plain_table(path: Path | str, table: pd.DataFrame, notation: Notation, texts: Collection[str] = ()) -> pd.DataFrame:
    """A data frame as from :func:`read_table`, from one whose column names are texts.

    Raises:
        ValueError: it is empty; the text names its file.
    """
    import pandas as pd

    if table.empty:
        raise file_error(path, "has no rows")
    columns = {name: plain_column(column, notation.na, name in texts) for name, column in table.items()}
    plain = pd.DataFrame(columns, copy=False)
    plain.attrs = {"notes": []} | table.attrs
    return plain


def column_names(path: Path, names: Collection[object]) -> list[str]:
    """Names as texts in one line.

    Raises:
        ValueError: a name is missing or occurs twice.
    """
    import pandas as pd

    written = ["" if pd.isna(name) else one_line(name) for name in names]
    found = [nfc(name) for name in written]
    if "" in found:
        number = found.index("") + 1
        raise file_error(path, f"column {number} has no name (to_csv(index=False) leaves out pandas' own)")
    if twice := [name for i, name in enumerate(found) if name in found[:i]]:
        forms = {name for name in written if nfc(name) == twice[0]}
        raise file_error(path, f"has the column {twice[0]} twice" + FORMS * (len(forms) > 1))
    return found


def read_csv(path: Path, notation: Notation, texts: Collection[str]) -> pd.DataFrame:
    """A CSV file; columns that are not all numbers or all booleans are texts as written."""
    import pandas as pd

    how: dict[str, Any] = {"sep": notation.separator, "encoding": notation.encoding}
    how |= {"skipinitialspace": True, "index_col": False, "keep_default_na": False}
    # pandas numbers duplicate names, and takes a first column without a name as labels.
    first = pd.read_csv(path, **how | {"header": None, "nrows": 1, "dtype": str}).iloc[0]
    names = column_names(path, ["" if name is np.nan else name for name in first])
    how |= {"names": names, "header": 0, "na_values": ["", *notation.na]}
    if len(names) == 1:  # then an empty cell is an empty line
        how["skip_blank_lines"] = False

    marks = {word: WORDS[word] for word in ("semicolon", "tab", "pipe", "comma")}
    other = next((word for word, mark in marks.items() if len(names) == 1 and mark in str(first.iloc[0])), None)

    def read(dtype: dict[str, type]) -> pd.DataFrame:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            warnings.simplefilter("ignore", pd.errors.DtypeWarning)  # of columns that are read again, below
            only = {} if not dtype or dtype.keys() <= set(texts) else {"usecols": list(dtype)}
            try:
                return pd.read_csv(path, decimal=notation.decimal, dtype=dtype, **how | only)
            except (pd.errors.ParserWarning, pd.errors.ParserError) as error:
                if other is None:
                    raise
                hint = f"is the separator data.separator={other}?"
                raise file_error(path, f"not a readable table; {hint}") from error

    table = read({name: str for name in names if name in texts})
    again = [name for name, column in table.items() if name not in texts and not as_written(column)]
    if len(names) == 1 and table[names[0]].isna().iloc[-1:].all():  # empty lines after the last row are no rows
        how["nrows"] = int(np.flatnonzero(table[names[0]].notna().to_numpy())[-1:].sum()) + 1
        table = read({name: str for name in names if name in texts})
    numbers = [name for name, column in table.items() if name not in texts and column.dtype.kind in "iuf"]
    whole = numbers if numbers and zeros_in_front(path, notation) else [n for n in numbers if inexact(table[n])]
    again += whole
    if again:
        written = read(dict.fromkeys(again, str))
        for name in again:
            if name not in whole or written[name].str.strip().str.fullmatch(CODE).any():
                table[name] = written[name]
    table.attrs = {"separator": other} if other else {}
    return table


def inexact(column: pd.Series) -> bool:
    """Whether whole numbers were read as float64 and lost digits."""
    values = column.to_numpy()
    return values.dtype.kind == "f" and bool((np.abs(values[np.isfinite(values)]) >= EXACT).any())


def as_written(column: pd.Series) -> bool:
    """Whether a column read by pandas is all numbers, all booleans, or all texts as in the file."""
    import pandas as pd

    if column.dtype.kind in "biuf" or str(column.dtype) == "str":
        return True
    return pd.api.types.infer_dtype(column, skipna=True) in ("string", "empty")


def zeros_in_front(path: Path, notation: Notation) -> bool:
    """Whether a cell may be a whole number such as 007; false for most files, which are then not read again."""
    separator, utf8 = notation.separator, codecs.lookup(notation.encoding).name in ("utf-8", "utf-8-sig", "cp1252")
    if path.suffix.lower() not in (".csv", ".txt", ".tsv", "") or not utf8:
        return True  # compressed, perhaps
    mark = ord(separator) if separator.isascii() else 0
    with path.open("rb") as file:
        block = np.full(BLOCK + 3, ord("\n"), np.uint8)
        while n := file.readinto(block[3:].data):
            before, zero, after = block[1 : n + 1], block[2 : n + 2], block[3 : n + 3]
            found = (zero == ord("0")) & (after - ord("0") < 10) & ((before < ord("0")) | (before == mark))
            signs, starts = b"+-", f'\r\n" {separator}'
            here = np.flatnonzero(found & (before != ord(".")))
            if any(before[i] not in signs or chr(block[i]) in starts for i in here):
                return True
            block[:3] = block[n : n + 3].copy()
    return False


def read_parquet(path: Path) -> pd.DataFrame:
    """A Parquet file, or a folder of parts; a named index is a column, as in a CSV file."""
    import pandas as pd

    notes: list[str] = []
    whole = path.is_file()
    table = pd.read_parquet(path, dtype_backend="numpy_nullable") if whole else read_parts(path, notes)
    names = table.index.names
    if any(name is not None for name in names):
        table = table.reset_index([i for i, name in enumerate(names) if name is not None])
    if None in names and not isinstance(table.index, pd.RangeIndex):
        notes.append("an index without a name is not read")
    table = table.reset_index(drop=True)
    table.columns = column_names(path, table.columns)
    table.attrs = {"notes": notes}
    return table


def read_parts(path: Path, notes: list[str]) -> pd.DataFrame:
    """A folder of Parquet files as one table, with columns of only some files and of folders called ``key=text``."""
    import pyarrow as pa
    import pyarrow.dataset
    import pyarrow.parquet

    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in PARQUET and f.is_file())
    read = [f for f in files if not any(part.startswith(("_", ".")) for part in f.relative_to(path).parts)]
    if len(read) < len(files):
        notes.append(f"{len(files) - len(read):,} files of the folder are not read: their names begin with _ or .")
    keys = dict.fromkeys(p.split("=")[0] for f in read for p in f.relative_to(path).parts[:-1] if "=" in p)
    folders = pa.dataset.partitioning(pa.schema([(key, pa.string()) for key in keys]), flavor="hive")
    schemas = [pa.parquet.read_schema(f) for f in read]
    schema = pa.unify_schemas([*schemas, folders.schema], promote_options="permissive")
    parts = pa.dataset.dataset(
        [str(f) for f in read], schema=schema, partitioning=folders, partition_base_dir=str(path)
    )
    return parts.to_table().to_pandas(types_mapper=nullable)


def nullable(kind: object) -> object:
    """The pandas type for whole numbers and booleans of pyarrow that can hold missing values."""
    import pandas as pd

    names = {"int": "Int", "uint": "UInt"}
    text = str(kind)
    if text == "bool":
        return pd.BooleanDtype()
    stem = text.rstrip("0123456789")
    return pd.api.types.pandas_dtype(names[stem] + text[len(stem) :]) if stem in names else None


def plain_column(column: pd.Series, na: tuple[str, ...], as_text: bool) -> pd.Series:
    """A column as numbers or booleans of NumPy's types, or as texts; other types stay, and are refused if used."""
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if pd.api.types.is_extension_array_dtype(column.dtype) and column.dtype.kind in "biuf":
        missing = column.isna().any()
        # With a missing number, pandas' integers become float64; those that would lose digits become texts.
        lossy = column.dtype.kind in "iu" and missing and bool((column.abs() >= EXACT).any())
        as_text = as_text or lossy
        as_object = missing and (as_text or column.dtype.kind == "b")
        column = column.astype(object if as_object else np.float64 if missing else column.dtype.numpy_dtype)
    if column.dtype.kind in "biuf" and not as_text:
        return column
    kind = pd.api.types.infer_dtype(column, skipna=True)
    if kind == "decimal" and not as_text:
        return column.astype(np.float64)
    if not as_text and kind not in ("string", "boolean", "empty"):
        return column
    texts = column if kind == "string" else column.astype(object).map(as_text_of, na_action="ignore")
    texts = texts.str.strip() if texts.notna().any() else texts
    return texts.mask(texts.isin(["", *na]))


def as_text_of(value: object) -> str:
    """A value as in a CSV file; whole numbers without a fraction."""
    return str(int(value)) if isinstance(value, float | np.floating) and value.is_integer() else str(value)
