"""The display of a sweep: a table on a terminal, else one line per job."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from pathlib import Path
from typing import Any

from trainer.cli.display import number, on_terminal, screen, tell
from trainer.rundir import configuration, run_dir
from trainer.rundir.errors import Refused
from trainer.rundir.summary import Summary

REFRESH_S = 0.5


class Board:
    """Plain lines; the base of the terminal's table.

    Args:
        total: number of jobs.
        before: jobs that were done before.
        workers: jobs at a time; None: `launcher` decides.
    """

    def __init__(self, folder: Path, total: int, before: int, workers: int | None, launcher: str):
        self.folder, self.total, self.before, self.workers = folder, total, before, workers
        self.launcher, self.most = launcher, 1
        self.counts: Counter[str] = Counter()
        self.running: dict[Path, float] = {}
        self.epochs: dict[Path, int] = {}  # in all, of each job
        self.spent: list[float] = []  # seconds of each ended job
        self.shown_at = 0.0

    def open(self) -> None:
        """Shows the first line."""
        before = f", {self.before} of them done" if self.before else ""
        jobs = "job" if self.total == 1 else "jobs"
        how = f"with {self.launcher}" if self.workers is None else f"{self.workers} at a time"
        self.say(f"{run_dir.shown(self.folder)}: {self.total} {jobs}{before}, {how}")

    def say(self, line: str) -> None:
        """Shows a line."""
        tell(line)

    def started(self, path: Path) -> None:
        """Records that a job has started."""
        self.running[path] = time.monotonic()
        self.most = max(self.most, len(self.running))
        with contextlib.suppress(Refused):  # a damaged configuration: the job itself reports it
            self.epochs[path] = configuration.of_run(path)["train"]["epochs"]

    def ended(self, path: Path, status: str, again: bool) -> None:
        """Records that a job has ended; `again`: it will be repeated."""
        seconds = time.monotonic() - self.running.pop(path)
        if not again:
            self.counts[status] += 1
        if status != "locked":  # another process does it
            self.spent.append(seconds)
            count = self.before + sum(self.counts.values())
            row = about(path)
            facts = [row["metric"], f"{seconds:.1f} s", row["error"], "tried again" if again else ""]
            width = len(str(self.total))
            self.say(f"[{count:>{width}}/{self.total}] {path.name}  {status}  " + "  ".join(filter(None, facts)))

    def refresh(self) -> None:
        """Refreshes the display, at most twice a second."""
        if time.monotonic() - self.shown_at > REFRESH_S:
            self.shown_at = time.monotonic()
            self.show()

    def show(self) -> None:
        """Shows the table, if any."""

    def close(self) -> None:
        """Releases the terminal."""

    @property
    def left(self) -> float | None:
        """Estimated seconds left, by ended jobs, else by epochs of running ones; None without either."""
        lasting = self.spent or [
            (time.monotonic() - since) * self.epochs.get(path, epoch) / epoch
            for path, since in self.running.items()
            if (epoch := int(about(path)["epoch"] or 0))
        ]
        if not lasting:
            return None
        mean = sum(lasting) / len(lasting)
        todo = self.total - self.before - sum(self.counts.values())
        done = sum(min(time.monotonic() - since, mean) for since in self.running.values())
        return max(0.0, (todo * mean - done) / max(1, min(self.workers or self.most, todo)))


HEADS = ("job", "differs in", "epoch", "metric", "state")  # of the live table


class LiveBoard(Board):
    """A live table under the lines: running jobs, their progress, and the time left for all."""

    def __init__(self, *args: Any):
        from rich.live import Live

        super().__init__(*args)
        self.console = screen()
        self.live = Live(console=self.console, auto_refresh=False, transient=True)

    def open(self) -> None:
        super().open()
        self.live.start()

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)

    def show(self) -> None:
        from rich.table import Table

        table = Table(caption=self.caption(), caption_justify="left", expand=False)
        rows = []
        most = max(1, self.console.height - 7)
        for path, since in list(self.running.items())[:most]:
            row = about(path)
            name, _, differences = path.name.partition("_")
            epoch = f"{row['epoch'] or 0}/{self.epochs.get(path, '?')}"
            rows.append((name, differences, epoch, row["metric"], f"running {clock(time.monotonic() - since)}"))
        if len(self.running) > most:
            rows.append(("…", f"and {len(self.running) - most} more", "", "", ""))
        sizes = [max(map(len, column)) for column in zip(HEADS, *rows, strict=True)]
        room = self.console.width - sum(sizes) + sizes[1] - 3 * len(HEADS) - 1  # beside the other columns
        for name in HEADS:
            most_wide = max(room, len(name)) if name == HEADS[1] else None
            table.add_column(name, overflow="ellipsis", no_wrap=True, max_width=most_wide)
        for cells in rows:
            table.add_row(*cells)
        self.live.update(table, refresh=True)

    def caption(self) -> str:
        """The number of jobs in each state, and the time left."""
        done = self.before + self.counts["finished"]
        others = [f"{n} {status}" for status, n in self.counts.items() if status != "finished"]
        left = "" if self.left is None else f"; about {clock(self.left)} left"
        return ", ".join([f"{done} of {self.total} done", *others]) + left

    def close(self) -> None:
        self.live.stop()


def make_board(folder: Path, total: int, before: int, workers: int | None, launcher: str) -> Board:
    """A live table if standard output is a terminal, else plain lines."""
    return (LiveBoard if on_terminal() else Board)(folder, total, before, workers, launcher)


def about(path: Path) -> dict[str, str]:
    """A job's epoch, metric and error, from its summary."""
    try:
        summary = Summary.read(path).data
    except Refused:
        summary = {}
    best = summary.get("best")
    return {
        "epoch": str(summary.get("epochs", "")),
        "metric": f"{best['metric']} {number(best['value'])}" if best else "",
        "error": summary.get("error") or "",
    }


def clock(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"
