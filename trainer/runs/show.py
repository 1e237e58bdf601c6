"""A table of runs for the screen, and as CSV, JSON and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from trainer.rundir.files import finite
from trainer.rundir.text import printable, printable_lines
from trainer.runs.columns import FACTS, Row
from trainer.runs.groups import Mean

STYLES = {"finished": "green", "running": "cyan", "diverged": "red", "failed": "red", "damaged": "bold red"}
NAME = 12  # characters of a run's name that a narrow screen keeps


@dataclass
class Sheet:
    """Rows and the shown columns; `titles` are headings that differ from the column's name."""

    columns: list[str]
    rows: list[Row]
    titles: dict[str, str] = field(default_factory=dict)
    optional: Sequence[str] = ()  # columns that a narrow screen may leave out, the last ones first


def text(value: Any, column: str = "") -> str:
    """A printed value: measurements with four digits, settings as typed, a dash if missing."""
    if isinstance(value, Mean):
        mean = digits(value.mean)
        places = len(mean.partition(".")[2]) if mean[-1].isdigit() and "e" not in mean else None
        return mean + (
            "" if value.sd is None else f" ± {value.sd:.2g}" if places is None else f" ± {value.sd:.{places}f}"
        )
    if isinstance(value, float) and "/" in column:
        return digits(value)
    if isinstance(value, bool) or value is None:
        return "-" if value is None else str(value).lower()
    if isinstance(value, int) and column == "parameters":
        return f"{value:,}"
    if isinstance(value, list | dict):
        return printable(json.dumps(value, ensure_ascii=False))
    return printable(str(value))


def digits(value: float) -> str:
    """Four digits after the point, or four significant digits."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else str(value)
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 10 else f"{value:.4g}"


def cells(sheet: Sheet) -> list[list[str]]:
    """The texts of the rows; null for a value set to null, a dash for a missing value."""
    return [[_cell(r, column) for column in sheet.columns] for r in sheet.rows]


def _cell(r: Row, column: str) -> str:
    value = r.get(column)
    if value is None and column in r:
        return "null"
    if column == "status" and value == "running" and "epochs" in r:
        return f"running {r['epochs']}/{r.get('train.epochs', '?')}"
    fewer = f" (n={value.n})" if isinstance(value, Mean) and value.n != r["n"] else ""
    return text(value, column) + fewer


def without_folder(sheet: Sheet) -> tuple[Sheet, str]:
    """The sheet with names relative to the common folder of all runs, and that folder; one run is unchanged."""
    folders = {os.path.dirname(r["name"]) for r in sheet.rows if "name" in r}
    if "name" not in sheet.columns or not folders or not (folder := os.path.commonpath(folders)):
        return sheet, ""
    rows = [r | {"name": os.path.relpath(r["name"], folder)} for r in sheet.rows]
    return replace(sheet, rows=rows), folder


def screen(sheet: Sheet, width: int | None, most: int | None = None) -> tuple[Table, list[str]]:
    """A table of at most `most` rows that fits the width (None: any), and the columns left out for that."""
    body = cells(sheet)[:most]
    heads = [text(sheet.titles.get(column, column)) for column in sheet.columns]
    sizes = [max([cell_len(line[i]) for line in body], default=0) for i in range(len(heads))]
    shown = list(range(len(heads)))

    def over() -> int:
        """Characters beyond the width."""
        wide = [max(sizes[i], *map(cell_len, heads[i].split("\n"))) + 3 for i in shown]
        return -1 if width is None else 1 + sum(wide) - width

    if over() > 0:
        heads = [_narrow(_short(head, heads)) for head in heads]
    name = sheet.columns.index("name") if "name" in sheet.columns else -1
    whole = sizes[name]
    if name >= 0 and over() > 0:
        sizes[name] = min(whole, NAME)
    for i in _least_telling(sheet, body):
        if over() > 0:
            shown.remove(i)
    if name >= 0 and over() < 0:  # names get the remaining room
        sizes[name] = min(whole, sizes[name] - over()) if width is not None else whole
    table = Table()
    for i in shown:
        justify: JustifyMethod = "right" if is_numeric(sheet, sheet.columns[i]) else "left"
        how: dict[str, Any] = {"overflow": "fold"}
        if i == name:
            how = {"overflow": "ellipsis", "no_wrap": True, "max_width": max(sizes[i], cell_len(heads[i]))}
        table.add_column(Text(heads[i]), justify=justify, **how)
    styles = [[_style(sheet.columns[i], r) for i in shown] for r in sheet.rows[: len(body)]]
    lines = [[_cut(line[i], sizes[i]) for i in shown] for line in body]
    if over() <= 0:  # no cell is broken; one row of long cells is ten times as fast in rich for a thousand runs
        table.add_row(*map(Cells, zip(*lines, strict=True), zip(*styles, strict=True)))
    else:
        for texts, of_line in zip(lines, styles, strict=True):
            table.add_row(*map(Text, texts, of_line))
    return table, [sheet.columns[i] for i in range(len(heads)) if i not in shown]


@dataclass
class Cells:
    """All cells of a column as one rich cell; none is wider than the column."""

    texts: Sequence[str]
    styles: Sequence[str]

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        size = max(map(cell_len, self.texts))
        return Measurement(size, size)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        styles = {style: console.get_style(style) for style in {*self.styles} - {""}}
        for text, style in zip(self.texts, self.styles, strict=True):
            room = Segment(" " * (options.max_width - cell_len(text)))
            cell = Segment(text, styles.get(style))
            yield from (room, cell) if options.justify == "right" else (cell, room)
            yield Segment.line()


def _cut(text: str, size: int) -> str:
    """The text, or its beginning with an ellipsis if it is longer."""
    return text if cell_len(text) <= size else f"{set_cell_size(text, size - 1).rstrip()}…"


def _style(column: str, r: Row) -> str:
    return STYLES.get(r.get("status", ""), "") if column == "status" else ""


def _least_telling(sheet: Sheet, body: list[list[str]]) -> list[int]:
    """The columns that may be left out, in order: first settings that distinguish runs like another one."""
    optional = [sheet.columns.index(column) for column in sheet.optional]
    seen, again = set(), []
    for i in optional:
        numbers: dict[str, int] = {}
        pattern = tuple(numbers.setdefault(line[i], len(numbers)) for line in body)
        if pattern in seen and len(numbers) < len(body) and "/" not in sheet.columns[i]:
            again.append(i)
        seen.add(pattern)
    return [*reversed(again), *(i for i in reversed(optional) if i not in again)]


def is_numeric(sheet: Sheet, column: str) -> bool:
    """Whether all values of the column are numbers."""
    values = [r[column] for r in sheet.rows if r.get(column) is not None]
    return all(isinstance(value, int | float | Mean) and not isinstance(value, bool) for value in values)


def _short(head: str, heads: Sequence[str]) -> str:
    """The last part of a name if it is unambiguous."""
    last = head.rpartition(".")[2]
    return last if last not in FACTS and sum(other.rpartition(".")[2] == last for other in heads) == 1 else head


def _narrow(head: str) -> str:
    """A heading on two lines."""
    return head.replace(" ", "\n", 1) if " " in head else head.replace("/", "/\n", 1)


def output(console: Console, parts: Iterable[RenderableType]) -> None:
    """Prints tables and unbroken lines."""
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text))


def write(content: str) -> None:
    """Writes text for programs to standard output; a terminal gets control characters as escapes."""
    sys.stdout.write(printable_lines(content) if sys.stdout.isatty() else content)


def flat(sheet: Sheet) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of plain values; a mean has three columns: NAME/mean, NAME/std and NAME/n."""
    spread = {c for r in sheet.rows for c, value in r.items() if isinstance(value, Mean)}
    columns = [name for c in sheet.columns for name in ((f"{c}/mean", f"{c}/std", f"{c}/n") if c in spread else (c,))]
    rows = []
    for r in sheet.rows:
        values: list[Any] = []
        for c in sheet.columns:
            value = r.get(c)
            if c in spread:
                values += [None, None, 0] if value is None else [value.mean, value.sd, value.n]
            else:
                values.append(value)
        rows.append(values)
    return columns, rows


def as_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Comma-separated values: all digits of numbers, lists as JSON, missing values empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_csv_cell(value) for value in line] for line in rows)
    return buffer.getvalue().encode(errors="replace").decode()  # a path may hold bytes that are not UTF-8


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool | list | dict):
        return json.dumps(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def as_json(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A list of objects; missing values are null."""
    objects = [dict(zip(columns, line, strict=True)) for line in rows]
    return json.dumps(finite(objects), indent=2, allow_nan=False) + "\n"


def latex(sheet: Sheet) -> str:
    """A tabular with the rules of the package booktabs."""
    heads = [sheet.titles.get(column, column) for column in sheet.columns]
    lines = [
        "% \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{{''.join('r' if is_numeric(sheet, c) else 'l' for c in sheet.columns)}}}",
        "\\toprule",
        " & ".join(map(escape, heads)) + " \\\\",
        "\\midrule",
        *(" & ".join(map(escape, line)) + " \\\\" for line in cells(sheet)),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


NUMBER = re.compile(r"(?P<value>-?\d[\d.e+-]*)(?: ± (?P<sd>\d[\d.e+-]*))?(?P<n>(?: \(n=\d+\))?)")
SPECIAL = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    **{"<": "\\textless{}", ">": "\\textgreater{}", "|": "\\textbar{}", "±": "$\\pm$"},
    **{"[": "{[}", "]": "{]}", "*": "{*}"},  # special at the beginning of a line
}


def escape(cell: str) -> str:
    """A text in LaTeX; means with deviations and negative numbers in math mode."""
    number = NUMBER.fullmatch(cell)
    if number and (number["sd"] or cell.startswith("-")):
        spread = f" \\pm {number['sd']}" if number["sd"] else ""
        return f"${number['value']}{spread}${number['n']}"
    return "".join(SPECIAL.get(c, c) for c in cell)
