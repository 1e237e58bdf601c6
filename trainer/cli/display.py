"""The display of a run: bars on a terminal, else one plain line per epoch; ``train.log`` has the plain lines."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.cli.lines import decimals, epoch_line, folded, in_pairs
from trainer.rundir.files import append_line
from trainer.rundir.text import printable, printable_lines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment
    from rich.table import Table as RichTable
    from rich.text import Text

LINE_EVERY_S = 10.0  # while data are loaded, without a terminal


class Display:
    """Plain lines on standard output and in the run's log; the base of the terminal's display.

    Args:
        log: the file that gets every line.
        epochs, steps: of the whole run.
        steps_per_epoch: of one epoch.
    """

    interval = 5.0  # seconds between pulses, which check for divergence and write the heartbeat
    width: int | None = None  # characters of a line; None: any number
    monitor: str | None = None  # the column that chooses the best epoch

    def __init__(self, log: Path, epochs: int, steps: int, steps_per_epoch: int):
        self.log, self.epochs, self.steps, self.steps_per_epoch = log, epochs, steps, steps_per_epoch

    def say(self, line: str) -> None:
        """Shows and logs a line."""
        line = printable(line)
        self.note(line)
        self._print(line)

    def note(self, line: str) -> None:
        """Logs a line, or several."""
        append_line(self.log, printable_lines(line), settle=False)  # every number of an epoch is in metrics.csv, too

    def start_epoch(self, epoch: int, step: int, position: int) -> None:
        """Starts or continues epoch `epoch` (from 0) at step `step` of the run and `position` of the epoch."""

    def pulse(self, step: int, position: int, live: dict[str, float], samples_per_s: float) -> None:
        """Shows the current epoch: steps in all and in the epoch, running averages."""

    def end_epoch(self, row: dict[str, Any], improved: bool) -> None:
        """Logs a finished epoch and shows it on one line; a star marks the best so far."""
        self.note(printable(epoch_line(row, self.epochs, improved, None, self.monitor)))
        self._print(printable(epoch_line(row, self.epochs, improved, self.width, self.monitor)))

    def close(self, facts: dict[str, str]) -> None:
        """Shows the end of the run: status, best, test, parameters, seconds, path."""
        for name, value in facts.items():
            self.say(f"{name:<11} {value}")

    def stop(self) -> None:
        """Releases the terminal."""

    def _print(self, line: str) -> None:
        print(line, flush=True)


class TerminalDisplay(Display):
    """An epoch bar and a step bar under the lines, and a table at the end."""

    interval = 0.25

    def __init__(self, log: Path, epochs: int, steps: int, steps_per_epoch: int):
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(log, epochs, steps, steps_per_epoch)
        self.console = screen()
        self.width = self.console.width
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24 if self.width >= 100 else 8),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[live]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            transient=True,
            auto_refresh=False,  # refreshed by pulses, not by a thread
        )
        self.live = ""  # stays between epochs, which may be shorter than a pulse
        self.run_bar = self.bars.add_task("epoch", total=steps, count="", live="")
        self.epoch_bar = self.bars.add_task("step ", total=steps_per_epoch, count="", live="")

    def start_epoch(self, epoch: int, step: int, position: int) -> None:
        self.bars.update(self.run_bar, completed=step, count=f"{epoch + 1}/{self.epochs}")
        self.bars.reset(self.epoch_bar, completed=position, live=self.live, count=f"{position}/{self.steps_per_epoch}")
        self.refresh()

    def pulse(self, step: int, position: int, live: dict[str, float], samples_per_s: float) -> None:
        from rich.markup import escape

        numbers = [f"{escape(printable(name))} {value:.4f}" for name, value in live.items()]
        self.live = "  ".join([*numbers, f"{samples_per_s:,.0f} samples/s"])
        self.bars.update(self.run_bar, completed=step)
        self.bars.update(self.epoch_bar, completed=position, live=self.live, count=f"{position}/{self.steps_per_epoch}")
        self.refresh()

    def refresh(self) -> None:
        """Refreshes the bars."""
        self.bars.start()
        self.bars.refresh()

    def close(self, facts: dict[str, str]) -> None:
        from rich.table import Table
        from rich.text import Text

        self.stop()
        table = Table(show_header=False)
        for name, value in facts.items():
            self.note(printable(f"{name:<11} {value}"))
            table.add_row(name, Text(in_pairs(printable(value), self.console.width - 17)))
        self._print_table(table)

    def stop(self) -> None:
        self.bars.stop()

    def _print(self, line: str) -> None:
        from rich.text import Text

        self.console.print(Text(folded(line, self.console.width)), soft_wrap=True)

    def _print_table(self, table: RichTable) -> None:
        self.console.print(table)


class NotebookDisplay(TerminalDisplay):
    """The same in a notebook's cell, where the bars are one output that is updated without a thread."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.width = None  # a cell scrolls
        self.cell: Any = None  # the handle that updates the output

    def refresh(self) -> None:
        from IPython.display import display

        bars = self.bars.make_tasks_table(self.bars.tasks)
        if self.cell is None:
            self.cell = display(bars, display_id=True)
        else:
            self.cell.update(bars)

    def stop(self) -> None:
        if self.cell is not None:
            self.cell.update({"text/plain": ""}, raw=True)
            self.cell = None

    def _print(self, line: str) -> None:
        print(line, flush=True)

    def _print_table(self, table: RichTable) -> None:
        from IPython.display import display

        display(table)


_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextlib.contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """Inside, runs and sweeps show nothing if `wanted`; they still write their logs."""
    before = _quiet.set(wanted)
    try:
        yield
    finally:
        _quiet.reset(before)


def tell(*lines: str) -> None:
    """Prints lines, control characters as escapes."""
    if _quiet.get():
        return
    print(*map(printable, lines), sep="\n", flush=True)


def screen(**how: Any) -> Console:
    """A rich console on standard output that prints control characters as escapes."""
    from rich.console import Console
    from rich.text import Text

    class Screen(Console):
        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(printable(text), **how)

        def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
            if isinstance(renderable, Text) and (text := printable_lines(renderable.plain)) != renderable.plain:
                renderable = renderable.blank_copy(text)
            return super().render(renderable, options)

    return Screen(highlight=False, **how)


@contextlib.contextmanager
def loading_progress(check: Callable[[], None]) -> Iterator[Callable[[str, int, int], None]]:
    """Yields a function of (what, done, total) that shows the progress of loading: a bar, or a line every ten seconds.

    Each call also calls `check`, which may raise.
    """
    bars, shown_at = None, time.perf_counter()

    def show(what: str, done: int, total: int) -> None:
        nonlocal bars, shown_at
        check()
        if on_terminal():
            if bars is None:
                from rich.markup import escape
                from rich.progress import Progress

                bars = Progress(transient=True, auto_refresh=False)
                bars.start()
                bars.add_task(escape(printable(what)), total=total)
            bars.update(bars.task_ids[0], completed=done)
            if time.perf_counter() - shown_at > TerminalDisplay.interval or done == total:
                shown_at = time.perf_counter()
                bars.refresh()
        elif time.perf_counter() - shown_at > LINE_EVERY_S:
            shown_at = time.perf_counter()
            tell(f"{what}: {done:,} of {total:,}")

    try:
        yield show
    finally:
        if bars is not None:
            bars.stop()


def on_terminal() -> bool:
    """Whether standard output is a terminal that can show bars."""
    return not _quiet.get() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def in_notebook() -> bool:
    """Whether standard output is the cell of a notebook (Jupyter, Colab, VS Code)."""
    return not _quiet.get() and type(sys.stdout).__module__ == "ipykernel.iostream"


class Logged(Display):
    """Writes only the run's log: the screen belongs to the sweep."""

    def _print(self, line: str) -> None:
        pass


class Silent(Display):
    """Shows and logs nothing, for all but the first process of a run."""

    def say(self, line: str) -> None:
        pass

    def note(self, line: str) -> None:
        pass

    def end_epoch(self, row: dict[str, Any], improved: bool) -> None:
        pass


def make_display(log: Path, epochs: int, steps: int, steps_per_epoch: int) -> Display:
    """Bars if standard output is a terminal or a notebook, else plain lines."""
    if _quiet.get():
        return Logged(log, epochs, steps, steps_per_epoch)
    kind = TerminalDisplay if on_terminal() else NotebookDisplay if in_notebook() else Display
    return kind(log, epochs, steps, steps_per_epoch)


def listed(names: list[str], most: int = 6) -> str:
    """The first `most` names in a line, and the number of others."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def number(value: float | None) -> str:
    """A number with four decimals; - if missing or NaN."""
    return "-" if value is None or math.isnan(value) else decimals(value)
