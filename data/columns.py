"""The columns of a table: the kind of each, and its cells as numbers, booleans or texts.

The kind is determined once, from the training data, and kept in the run's facts; later files are read by it. Ambiguous
cells are refused, with the key that decides.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data.dataset import Kind
from data.read_table import BLANKS, CODE, WORDS, Notation, as_text_of
from data.storage import file_error, nfc

if TYPE_CHECKING:
    import pandas as pd

LOOKED_AT = 10_000  # cells that are tried with other notations
DATE = (
    r"(\d{4}-\d\d?-\d\d?|\d\d?[./-]\d\d?[./-]\d{2}(\d\d)?|\d\d?[ .-]?[A-Za-z]{3,9}[ .,-]{0,2}\d{2}(\d\d)?)"
    r"([T ]+\d\d?:\d\d.*)?|\d\d?:\d\d(:\d\d)?"
)
# Text that looks like a number: digits with marks between them, a sign or brackets, perhaps a short unit.
LIKE = r"[^\w\s]{0,3}\s*[-+−–(]?\s*\d[\d.,'’ \xa0\u202f_]*\)?\s*[^\d\s]{0,4}"
# Texts that often mean a missing value.
MISSING_WORDS = {"na", "n/a", "#n/a", "nan", "none", "null", "nil", "missing", "unknown", "?", "-", "--", ".", "*"}
YAML_WORDS = ("null", "nan", "inf", "true", "false")  # which Hydra reads as values of another type
CURRENCIES = ("EUR", "USD", "GBP", "CHF", "JPY", "CNY", "INR", "SEK", "NOK", "DKK", "PLN", "CZK")


@dataclass(frozen=True)
class Column:
    """One column.

    ``values`` (N,) are numbers or booleans, or for texts the index of each among the ``different`` ones. They are
    arbitrary where a cell is missing.
    """

    name: str
    kind: Kind
    values: np.ndarray
    missing: np.ndarray  # (N,) bool
    different: np.ndarray = field(default_factory=lambda: np.empty(0, object))  # of a text column, sorted
    unit: str = ""  # cut off from numbers

    def numbers(self) -> np.ndarray:
        """Numbers, or 0 and 1, as float64 (N,); NaN if missing."""
        return np.where(self.missing, np.nan, self.values) if self.missing.any() else self.values

    def labels(self) -> tuple[tuple[str, ...], np.ndarray]:
        """The different values as texts, in the order of numbers or texts; and the index of each row's value."""
        if self.kind != "text":
            used, codes = np.unique(self.values, return_inverse=True)
            return tuple(map(as_text_of, used)), codes
        used = np.bincount(self.values, minlength=len(self.different)) > 0  # of the kept rows
        return tuple(self.different[used]), (np.cumsum(used) - 1)[self.values]

    def kept(self, rows: np.ndarray) -> Column:
        """The column with some of its rows."""
        return replace(self, values=self.values[rows], missing=self.missing[rows])


def as_column(
    path: Path,
    cells: pd.Series,
    notation: Notation,
    kind: Kind | None = None,
    unit: str | None = None,
    *,
    codes: Kind = "text",
) -> Column:
    """A column of a data frame of :func:`data.read_table.read_table`.

    Args:
        kind: what it is; None: by its cells.
        unit: that its numbers have, "" if none; None: by its cells.
        codes: what whole numbers are then, of which some have zeros in front, such as 007.

    Raises:
        ValueError: cells are of another kind, or ambiguous; the text names file, column and row.
    """
    name, is_number = str(cells.name), cells.dtype.kind in "biuf"
    if is_number and kind != "text":
        return of_numbers(path, name, cells.to_numpy(), kind, notation, unit)
    if is_number:
        cells = cells.astype(object).map(as_text_of, na_action="ignore")
    elif str(cells.dtype) != "str" and (other := {type(v).__name__ for v in cells.dropna()} - {"str"}):
        hint = f"only numbers and texts can be used; {key('text', [name])} reads it as texts"
        raise file_error(path, f"column {name} holds {', '.join(sorted(other))}; {hint}")
    return of_texts(path, name, cells, notation, kind, unit, codes)


def of_numbers(
    path: Path, name: str, values: np.ndarray, kind: Kind | None, notation: Notation, unit: str | None
) -> Column:
    """A column of numbers or booleans, without a unit.

    Raises:
        ValueError: it should be of another kind or have a unit, or has infinite values.
    """
    found: Kind = "boolean" if values.dtype.kind == "b" else "number"
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
    if found == "number" and notation.na_numbers:
        missing |= np.isin(values, notation.na_numbers)
    if missing.all():  # of any kind
        return Column(name, kind or found, values, missing, unit=unit or "")
    row = int(np.argmin(missing))
    cell = f"column {name}, row {row + 1:,}: {as_text_of(values[row])}"
    if kind not in (None, found):
        raise file_error(path, f"{cell} is no {kind}, and the run's data have one there")
    if unit:
        raise file_error(path, f"{cell} {other_unit('', unit)}")
    infinite = np.flatnonzero(np.isinf(values)) if values.dtype.kind == "f" else np.empty(0, int)
    if len(infinite):
        raise file_error(path, f"column {name} has {len(infinite):,} infinite values, in row {infinite[0] + 1:,} first")
    return Column(name, found, values, missing)


def of_texts(
    path: Path,
    name: str,
    cells: pd.Series,
    notation: Notation,
    kind: Kind | None,
    unit: str | None = None,
    zeros: Kind = "text",
) -> Column:
    """A column of text cells, as booleans or numbers if all cells are, else as texts.

    Raises:
        ValueError: cells are of another kind, or ambiguous.
    """
    import pandas as pd

    codes, different = pd.factorize(cells, sort=True)
    plain = pd.Series(list(map(nfc, different)), dtype=object)
    if (plain != different).any():  # then some may be equal
        merged, different = pd.factorize(plain.mask(plain.isin(notation.na)), sort=True)
        codes = np.where(codes < 0, -1, merged[codes])
    different, missing = pd.Series(different, dtype=object), codes < 0
    texts = different.to_numpy(object)
    if not len(different):  # of any kind
        return Column(name, kind or "number", np.full(len(codes), -1), missing, texts, unit or "")
    says = different.str.lower().isin(["true", "false"])
    numbers = numbers_in(different, notation)
    if kind in (None, "boolean") and says.all():
        return Column(name, "boolean", spread(different.str.lower() == "true", codes), missing)
    if kind is None and zeros == "text" and numbers.notna().all() and has_codes(different):
        kind = "text"
    if kind in (None, "number") and numbers.notna().all():
        unit = unit_of(path, name, different, codes, notation, unit)
        values = np.where(missing, np.nan, spread(numbers, codes))
        return replace(of_numbers(path, name, values, kind, notation, None), unit=unit)
    if kind in ("number", "boolean"):
        wrong = numbers.isna() if kind == "number" else ~says
        raise file_error(
            path, f"{first(name, different, codes, wrong)} is no {kind}, and the run's data have one there"
        )
    if kind is None:
        check_texts(path, name, different, codes, notation)
    return Column(name, "text", codes, missing, texts)


def has_codes(texts: pd.Series) -> bool:
    """Whether a text is a whole number with leading zeros, which may be a name."""
    return len(texts) > 0 and bool(texts.str.fullmatch(CODE).any())


def spread(values: pd.Series, codes: np.ndarray) -> np.ndarray:
    """The value of each cell from those of the different texts; arbitrary if a cell is missing."""
    return values.to_numpy()[codes] if len(values) else np.zeros(len(codes))


def first(name: str, different: pd.Series, codes: np.ndarray, wrong: pd.Series) -> str:
    """Column, row and text of the first cell whose text is `wrong`, in words."""
    row = int(np.flatnonzero((codes >= 0) & wrong.to_numpy()[codes])[0])
    return f"column {name}, row {row + 1:,}: {different[codes[row]]!r}"


def first_of(codes: np.ndarray, wrong: pd.Series) -> int:
    """Which of the different texts is the first `wrong` one."""
    return int(codes[np.flatnonzero((codes >= 0) & wrong.to_numpy()[codes])[0]])


def unit_of(
    path: Path, name: str, different: pd.Series, codes: np.ndarray, notation: Notation, of_run: str | None
) -> str:
    """The common unit of all numbers, "" if none.

    Args:
        of_run: the required unit; None: that of the first number.

    Raises:
        ValueError: a number has another unit, or none.
    """
    units = without_unit(different, notation)[1]
    unit = units[codes[codes >= 0][0]] if of_run is None else of_run
    if (wrong := units != unit).any():
        why = "has another unit than earlier rows; convert them to one unit"
        if of_run is not None:
            why = other_unit(units[first_of(codes, wrong)], of_run)
        raise file_error(path, f"{first(name, different, codes, wrong)} {why}")
    return unit


def other_unit(unit: str, of_run: str) -> str:
    """Why a number's unit, or lack of one, is not that of the run, in words."""
    has = f"has the unit {unit}" if unit else "has no unit"
    return f"{has}, and the run's data have {of_run or 'none'} there"


def without_unit(texts: pd.Series, notation: Notation) -> tuple[pd.Series, pd.Series]:
    """Texts without the unit before or after them, and the unit of each; "" if none."""
    import pandas as pd

    bare, found = texts, pd.Series("", index=texts.index, dtype=object)
    for unit in sorted(notation.units, key=len, reverse=True):  # USD before D
        rest = texts.str.removesuffix(unit)
        if not unit[-1].isdigit():  # m25 is not 5 m2
            before = texts.str.removeprefix(unit)
            if unit[-1].isalpha():  # Rs.5 is not half a rupee
                before = before.mask(before.str.startswith(notation.decimal), texts)
            rest = rest.where(rest != texts, before)
        here = (rest != texts) & (found == "")
        bare, found = bare.mask(here, rest.str.strip()), found.mask(here, unit)
    return bare, found


def numbers_in(texts: pd.Series, notation: Notation) -> pd.Series:
    """Texts as numbers of a notation, float64; NaN if a text is no number."""
    import pandas as pd

    if not len(texts):
        return pd.Series(dtype=np.float64)
    texts = without_unit(texts, notation)[0]
    decimal = re.escape(notation.decimal)
    whole, group = "[0-9]+", notation.thousands
    if group is not None:
        group = f"[{BLANKS}]" if group == " " else re.escape(group)
        whole = rf"(?:[1-9][0-9]{{0,2}}(?:{group}[0-9]{{3}})+|[0-9]+)"
    pattern = rf"[+-]?(?:{whole}(?:{decimal}[0-9]*)?|{decimal}[0-9]+)(?:[eE][+-]?[0-9]+)?"
    plain = texts.where(texts.str.fullmatch(pattern))
    if group is not None:
        plain = plain.str.replace(group, "", regex=True)
    if notation.decimal != ".":
        plain = plain.str.replace(notation.decimal, ".", regex=False)
    return pd.to_numeric(plain).astype(np.float64)


def check_texts(path: Path, name: str, different: pd.Series, codes: np.ndarray, notation: Notation) -> None:
    """Raises ValueError for texts that are no categories: numbers in another notation, mixed with texts, or dates."""
    here = np.flatnonzero(codes >= 0)
    sample = here[np.linspace(0, len(here) - 1, min(LOOKED_AT, len(here))).astype(int)]
    places, counts = np.unique(codes[sample], return_counts=True)
    looked_at, weights = different[places].reset_index(drop=True), counts / counts.sum()

    says = ~looked_at.str.lower().isin(MISSING_WORDS).to_numpy()

    def share(found: pd.Series) -> float:
        """The share of `found` cells among those that do not seem to mean a missing value."""
        return float(found.to_numpy(bool) @ weights / (weights @ says)) if says.any() else 0.0

    as_texts = f"{key('text', [name])} reads the column as texts"
    plain = share(numbers_in(looked_at, notation).notna())
    shares = [(share(numbers_in(looked_at, other).notna()), keys) for keys, other in notations(looked_at, notation)]
    best = max(found for found, _ in shares)
    odd = numbers_in(different, notation).isna()
    if best >= 0.5 and best > plain:
        ways = [keys for found, keys in shares if found == best]
        fewest = [" ".join(keys) for keys in ways if effort(keys) == min(map(effort, ways))]
        cell = first(name, different, codes, odd)
        raise file_error(path, f"{cell} is a number in another notation; {' or '.join(fewest)} reads it; {as_texts}")
    if plain >= 0.5:
        cell, text = first(name, different, codes, odd), str(different[first_of(codes, odd)])
        means = f"{key('na', [text])} makes it a missing value"
        if text.lower() not in MISSING_WORDS:
            means = f"mend it, or {means}"
        raise file_error(path, f"{cell} among numbers; {means}; {as_texts}")
    if share(looked_at.str.fullmatch(DATE)) >= 0.5:
        cell = first(name, different, codes, different.str.fullmatch(DATE))
        raise file_error(path, f"{cell} is a date or a time, which is not supported; convert it to numbers; {as_texts}")
    if share(looked_at.str.fullmatch(LIKE)) >= 0.5:
        cell = first(name, different, codes, different.str.fullmatch(LIKE))
        raise file_error(path, f"{cell} looks like a number; write plain numbers; {as_texts}")


def notations(texts: pd.Series, notation: Notation) -> Iterator[tuple[list[str], Notation]]:
    """Other notations of numbers: their keys, and the notation."""
    units, names = affixes(texts), {character: word for word, character in WORDS.items()}
    marks = [(".", None), (",", None), (".", ","), (",", "."), *((d, t) for d in ".," for t in " '’_")]
    for decimal, thousands in marks:
        other = replace(notation, decimal=decimal, thousands=thousands)
        keys = [f"data.decimal={names[decimal]}"] if decimal != notation.decimal else []
        if thousands != notation.thousands:
            mark = thousands or ""
            word = names.get(mark) if mark else "null"
            keys.append(f"data.thousands={word}" if word else key("thousands", mark))
        if keys:
            yield keys, other
        if len(units) == 1:  # numbers with several units cannot be compared
            yield [*keys, key("units", units)], replace(other, units=units)


def effort(keys: list[str]) -> tuple[int, int]:
    """How far a notation is from the given one: marks and units that it adds, then keys."""
    return len(keys) - ("data.thousands=null" in keys), len(keys)


def affixes(texts: pd.Series) -> tuple[str, ...]:
    """Percent signs and currencies before or after the numbers in texts, the longest first."""
    found = set()
    for text in texts.unique():
        for part in re.findall(r"^[^\d+-.,]+|[^\d.,]+$", text.strip()):
            part = part.strip()
            if part in ("%", "‰", *CURRENCIES) or (len(part) == 1 and unicodedata.category(part) == "Sc"):
                found.add(part)
    return tuple(sorted(found, key=len, reverse=True))


def key(name: str, value: str | Collection[str]) -> str:
    """A key of the data with texts as its value, as typed in a shell."""
    texts = [value] if isinstance(value, str) else value
    plain = all(
        re.fullmatch(r"[A-Za-z/%][\w./%-]*", text, re.ASCII) and text.lower() not in YAML_WORDS for text in texts
    )
    inside = ",".join(texts if plain else ("'" + text.replace("'", r"\'") + "'" for text in texts))
    inside = inside if isinstance(value, str) else f"[{inside}]"
    return f"data.{name}={inside}" if plain else f'"data.{name}={inside}"'
