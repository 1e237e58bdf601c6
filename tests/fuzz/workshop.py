"""Runs commands, each in a fork of this process, which has imported everything once."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import trainer.__main__ as program
from tests.fuzz.cases import READERS, Case
from tests.fuzz.harm import harm
from tests.zygote import warm_up
from trainer.cli.begin import begin
from trainer.cli.commands import COMMANDS

MODULES = {command.module for command in COMMANDS.values() if command.module} | {"trainer.train"}
LIMIT_S = 30.0  # what takes longer hangs
ROOM = 4 << 30  # bytes that a command may take beyond what this process has
RUN = "data=digits data.limit=64 model=linear optim=cgd train.epochs=2 train.keep=1"
SWEEP = "-m data=iris model=linear train.epochs=1 optim.lr=0.1,0.01"
SEARCH = "-m data=iris model=linear train.epochs=1 hydra/sweeper=optuna hydra.sweeper.n_trials=2"
BETWEEN = "optim.lr=tag(log,interval(1e-3,1))"


@dataclass
class Ended:
    """How a command ended; `folder` is its working directory."""

    status: int  # -N for signal N
    out: str
    err: str
    folder: Path
    hung: bool = False


class Workshop:
    """Originals of what commands read, and a place to work in."""

    def __init__(self, root: Path):
        self.root, self.count = root, 0
        self.made = root / "made"
        self.made.mkdir()
        warm_up()
        for name in MODULES:
            importlib.import_module(name)
        self.make()
        self.files = {start: sorted(self.of(start)) for start in READERS}

    def make(self) -> None:
        """A run and one like it with another seed, a sweep, a search if Optuna is installed, a table."""
        begun = [["train", *RUN.split(), f"seed={len(name)}", f"hydra.run.dir={name}"] for name in ("run", "other")]
        begun.append(["train", *SWEEP.split(), "hydra.sweep.dir=sweep"])
        if importlib.util.find_spec("optuna"):
            begun.append(["train", *SEARCH.split(), BETWEEN, "hydra.sweep.dir=search"])
        else:
            READERS.pop("search")
        for argv in begun:
            (ended,) = self.run([Case(argv)], self.made)
            if ended.status:
                raise RuntimeError(f"{argv}: {ended.err or ended.out}")
        left = sorted(path for path in (self.made / "sweep").iterdir() if path.is_dir())[-1]
        for path in left.iterdir():  # a job that was not begun
            if path.name != ".hydra":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        np.savez(self.made / "digits.npz", x=np.arange(5 * 64).reshape(5, 1, 8, 8) % 17)
        rows = [f"{i},{i % 7 / 3:.3f},{'ab'[i % 2]}" for i in range(40)]
        (self.made / "table.csv").write_text("\n".join(["one,two,label", *rows, ""]))

    def of(self, start: str) -> Iterator[str]:
        """The files of a start, relative to the working directory."""
        if start == "table":
            yield "table.csv"
        for path in (self.made / start).rglob("*"):
            if path.is_file() and path.suffix != ".png":
                yield str(path.relative_to(self.made))

    def prepare(self, case: Case) -> Path:
        """A working directory for a case."""
        self.count += 1
        folder = self.root / str(self.count)
        folder.mkdir()
        if case.start:
            for path in self.made.iterdir():
                if path.name in (case.start, "digits.npz", "table.csv") or (case.start, path.name) == ("run", "other"):
                    copy = shutil.copytree if path.is_dir() else shutil.copy
                    copy(path, folder / path.name)
        for name, how, number in case.harms:
            alike = [path for path in sorted(self.made.rglob(Path(name).name)) if path != self.made / name] or [
                self.made
            ]
            harm(folder / name, how, number, alike[number % len(alike)])
        return folder

    def run(self, cases: Iterable[Case], folder: Path | None = None, at_once: int = 2) -> Iterator[Ended]:
        """How each ended, in their order; `at_once` of them run at a time. What they leave is removed after use."""
        waiting, under_way = list(cases), []
        try:
            while waiting or under_way:
                while waiting and len(under_way) < at_once:
                    under_way.append(Process(waiting.pop(0), folder, self))
                ended = under_way.pop(0).wait()
                yield ended
                if folder is None:
                    shutil.rmtree(ended.folder, ignore_errors=True)
        finally:  # the time is over
            for process in under_way:
                process.wait(0.0)


class Process:
    """A command under way."""

    def __init__(self, case: Case, folder: Path | None, workshop: Workshop):
        self.folder = folder or workshop.prepare(case)
        self.streams = [self.folder.parent / f"{self.folder.name}.{name}" for name in ("out", "err")]
        self.begun = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            self.become(case)

    def become(self, case: Case) -> None:
        """Is the command, and never returns."""
        code = 1
        try:
            os.setsid()
            os.chdir(self.folder)
            for number, path in enumerate(self.streams, 1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            if case.output == "full":
                os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
            elif case.output == "closed":
                os.close(1)
            begin()  # as `python -m trainer` does, which this is not
            taken = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10
            resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
            # Jobs of a sweep are forks, too; the server of their own would import everything anew.
            pool = importlib.import_module("trainer.sweep.pool")
            pool.context = lambda: multiprocessing.get_context("fork")
            sys.argv = ["conga", *case.argv]
            program.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def wait(self, limit: float = LIMIT_S) -> Ended:
        """How it ended; one that takes longer than the limit is killed."""
        hung, pause = False, 0.002
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() - self.begun > limit and not hung:
                hung = True
                os.killpg(self.pid, signal.SIGKILL)
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        with contextlib.suppress(ProcessLookupError):  # what it left behind
            os.killpg(self.pid, signal.SIGKILL)
        out, err = (path.read_text(errors="replace") for path in self.streams)
        for path in self.streams:
            path.unlink()
        return Ended(os.waitstatus_to_exitcode(status), out, err, self.folder, hung)
