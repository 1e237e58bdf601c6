"""The jobs of a sweep, done by a launcher of Hydra's: SLURM and local processes (submitit), Ray, joblib, basic.

    python -m trainer -m hydra/launcher=submitit_slurm hydra.launcher.partition=gpu optim=sgd,cgd

The launcher starts a keeper (``trainer.sweep.keeper``), wherever that is, and the keeper the run. So whatever happens
to a run, the launcher sees a job that went well, and none of them ends the others or does one again. Keepers and this
process talk through a folder in the sweep's directory, since that is what they are sure to share:

    DIR/.launched/<launch>/<job>    written by the job's keeper: that it is alive, then the run's exit status
    DIR/.launched/<launch>/.told    written here: which signal the runs are to get; 0: no more may begin

Where the folder has gone, no more may begin either. What still waits for a machine when the sweep is stopped, or its
process killed, is harmless: it finds that out, or that another does the job (``lock.locked``), or that it is done.
"""

from __future__ import annotations

import contextlib
import copy
import os
import platform
import re
import shutil
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import cast

from hydra._internal.callbacks import Callbacks
from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from trainer.cli.outcome import EXIT
from trainer.rundir.errors import Refused, one_line
from trainer.rundir.files import write_whole
from trainer.rundir.run_dir import remove_if_empty
from trainer.rundir.stored import MOST_NOTE, read_text
from trainer.rundir.summary import Summary
from trainer.sweep import keeper
from trainer.sweep.folder import state
from trainer.sweep.pool import Ended, Slot

LAUNCHED = ".launched"
SILENT_S = 30.0  # a keeper that has written nothing for so long is gone; NFS shows what is written within seconds
LOST = -signal.SIGKILL  # how a run ended whose keeper has gone
# Package -> extra of pyproject.toml.
EXTRAS = {"hydra_plugins.hydra_submitit_launcher": "slurm", "hydra_plugins.hydra_ray_launcher": "ray"}


def check_installed(config: DictConfig) -> None:
    """Raises Refused where the launcher's package is missing."""
    choice = config.hydra.runtime.choices["hydra/launcher"]
    package = ".".join(config.hydra.launcher._target_.split(".")[:2])
    if package in EXTRAS and find_spec(package) is None:
        extra = EXTRAS[package]
        raise Refused(f"hydra/launcher={choice}: needs packages that are not installed: pip install -e '.[{extra}]'")


def own_config(folder: Path, config: DictConfig) -> DictConfig:
    """What a launcher has to know of Hydra, and nothing that would be composed, made or asked of a resolver anew."""
    own = OmegaConf.create({"hydra": OmegaConf.structured(HydraConf)})
    own.hydra.sweep.dir, own.hydra.sweep.subdir = str(folder), "."
    own.hydra.run.dir = str(folder)
    own.hydra.output_subdir = None
    own.hydra.job_logging = own.hydra.hydra_logging = {"root": None}
    own.hydra.launcher = config.hydra.launcher
    own.hydra.job.name, own.hydra.job.env_set = config.hydra.job.name, config.hydra.job.env_set
    own.hydra.job.chdir = False
    return own


def at_once(launcher: Launcher) -> bool:
    """Whether the launcher starts whatever it gets at once, without any limit."""
    return type(launcher).__name__ == "LocalLauncher"  # submitit's


class Known:
    """Stands where Hydra has its loader: there is nothing left to compose, each configuration is frozen in its folder.

    So no change of YAML between planning and running can change a job, and nothing is read or made on the way.
    """

    def load_sweep_config(self, master: DictConfig, overrides: Sequence[str]) -> DictConfig:
        """That of the job which `overrides`, ``["job=NAME"]``, name."""
        config = copy.deepcopy(master)
        name = overrides[0].removeprefix("job=")
        with open_dict(config):
            config.path = str(Path(config.hydra.sweep.dir) / name)
            config.hydra.sweep.subdir = name
            config.hydra.job.override_dirname = name
            config.hydra.overrides.task = list(overrides)
        return config


@dataclass
class Launch:
    """One call of the launcher, which returns when its jobs have ended, in a thread of its own.

    Args:
        folder: of the notes.
        waiting: jobs that have not begun.
        running: jobs that have, with the last note of each and when it was new.
        error: what the launcher raised.
    """

    folder: Path
    waiting: dict[str, Path]
    running: dict[Path, tuple[str, float]] = field(default_factory=dict)
    began: bool = False  # any of them
    error: Exception | None = None
    returned: threading.Event = field(default_factory=threading.Event)  # the launcher is done with it, so or so

    def start(self, launcher: Launcher, config: DictConfig, slot: Slot | None, index: int) -> None:
        """Calls the launcher."""
        self.folder.mkdir(parents=True)
        launcher = copy.copy(launcher)  # several calls may be under way, each with a configuration of its own
        config = copy.deepcopy(config)
        with open_dict(config):
            config.launched = str(self.folder)
            config.gpu, config.threads = (slot.gpu, slot.threads) if slot else (None, None)
        loader = cast(ConfigLoader, Known())  # all of one that launchers use
        context = HydraContext(config_loader=loader, callbacks=Callbacks())
        launcher.setup(hydra_context=context, task_function=keeper.keep, config=config)
        jobs = [[f"job={name}"] for name in self.waiting]
        threading.Thread(target=self._launch, args=(launcher, jobs, index), daemon=True).start()

    def _launch(self, launcher: Launcher, jobs: list[list[str]], index: int) -> None:
        if hasattr(signal, "pthread_sigmask"):  # what this thread starts has it, too: Ctrl-C is for the sweep alone
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            launcher.launch(jobs, index)
        except Exception as error:  # whatever a launcher makes of a machine that has gone; `Elsewhere` looks at it
            self.error = error
        finally:
            self.returned.set()
        if not at_once(launcher):
            threading.Event().wait()  # a Ray cluster that was started here ends with this thread, not with the process

    def look(self, told: bool) -> tuple[list[Path], list[Ended]]:
        """Reads the notes; returns the jobs that have begun, and those that have ended since."""
        returned, now, ended = self.returned.is_set(), time.monotonic(), []
        there = os.listdir(self.folder) if self.waiting else ()
        begun = [self.waiting.pop(name) for name in sorted(self.waiting.keys() & set(there))]
        self.running |= dict.fromkeys(begun, ("", now))
        self.began |= bool(begun)
        for path, (before, since) in list(self.running.items()):
            note = read_text(self.folder / path.name, MOST_NOTE) or ""
            if note != before:
                self.running[path] = note, now
            if over := re.fullmatch(r"ended (-?\d{1,3})", note):
                ended.append(Ended(path, int(over[1])))
            elif (returned or told) and now - since > SILENT_S and state(path) != "running":
                ended.append(Ended(path, LOST))
        for one in ended:
            del self.running[one.path]
        return begun, ended

    def tell(self, signum: int) -> None:
        """Sends all runs a signal; none begins any more."""
        if self.folder.exists():
            write_whole(self.folder / ".told", str(int(signum)).encode())

    def forget(self) -> None:
        """Ends it: none begins any more, and nobody looks at what is noted."""
        self.waiting.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        remove_if_empty(self.folder.parent)


class Elsewhere:
    """What `trainer.sweep.pool.Pool` is, with a launcher of Hydra's.

    The launcher gets all jobs in one call, and decides how many run at a time; one that would start them all is given
    one a slot. The next call, of jobs that are tried again, comes after that.

    Args:
        folder: the sweep's.
        config: as Hydra composed it for all jobs together.
        most: jobs in a call, if that is limited.
    """

    def __init__(self, launcher: Launcher, folder: Path, config: DictConfig, most: int | None = None):
        self.launcher, self.folder, self.most = launcher, folder, most
        self.choice, self.config = config.hydra.runtime.choices["hydra/launcher"], own_config(folder, config)
        self.cpus = config.hydra.launcher.get("cpus_per_task")
        self.slots: list[Slot] | None = None
        self.slot_of: dict[Path, Slot] = {}
        self.batch: list[Path] = []
        self.launches: list[Launch] = []
        self.told = self.ever = False  # whether all are to end; whether any job began
        self.calls, self.index = count(), 0
        self._began: list[Path] = []

    def open(self, slots: list[Slot]) -> None:
        """Says where jobs may run, which is only asked of a launcher without limits."""
        if at_once(self.launcher):
            self.slots = [Slot(slot.gpu, self.cpus or slot.threads) for slot in slots]

    @property
    def free(self) -> bool:
        """Whether there is a slot for one more."""
        if self.slots is not None:
            return bool(self.slots)
        return all(one.returned.is_set() for one in self.launches) and len(self.batch) != self.most

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return bool(self.batch or any(one.running or (one.waiting and not self.told) for one in self.launches))

    def start(self, path: Path) -> None:
        """Gives a job to the launcher, with the next call of `ended`."""
        self.batch.append(path)
        if self.slots is not None:
            self.slot_of[path] = self.slots.pop(0)

    def began(self) -> list[Path]:
        """Jobs that have begun since this was asked."""
        found, self._began = self._began, []
        return found

    def ended(self, timeout: float) -> list[Ended]:
        """Jobs that have ended; waits for one, for so many seconds at most.

        Raises:
            Refused: the launcher could not start anything.
        """
        self._launch()
        deadline = time.monotonic() + timeout
        while True:
            found: list[Ended] = []
            for one in list(self.launches):
                found += self._look(one)
                if not one.running and (self.told or not one.waiting):
                    one.forget()
                if one.returned.is_set():
                    found += self._close(one)
            for job in found:
                if self.slots is not None and job.path in self.slot_of:
                    self.slots.append(self.slot_of.pop(job.path))
            if found or time.monotonic() >= deadline:
                return found
            time.sleep(0.05)

    def tell(self, signum: int) -> None:
        """Sends all jobs a signal. Those that wait will not begin, and those that SIGKILL ends are not waited for."""
        self.told = True
        self.batch.clear()
        for one in self.launches:
            one.tell(signum)
            if signum == signal.SIGKILL:
                one.running.clear()

    def _launch(self) -> None:
        jobs, self.batch = self.batch, []
        if self.slots is not None:
            groups = [([path], self.slot_of[path]) for path in jobs]
        else:
            groups = [(jobs, Slot(None, self.cpus))] if jobs else []
        for paths, slot in groups:
            name = f"{platform.node()}-{os.getpid()}-{time.time_ns()}-{next(self.calls)}"
            self.launches.append(Launch(self.folder / LAUNCHED / name, {path.name: path for path in paths}))
            self.launches[-1].start(self.launcher, self.config, slot, self.index)
            self.index += len(paths)

    def _look(self, launch: Launch) -> list[Ended]:
        begun, ended = launch.look(self.told)
        self._began += begun
        self.ever |= bool(begun)
        return ended

    def _close(self, launch: Launch) -> list[Ended]:
        """Ends a call that returned: jobs that never began, since it failed before, are given to the launcher again.

        Raises:
            Refused: the launcher could not start anything.
        """
        found: list[Ended] = []
        if launch.waiting and not self.told:
            launch.tell(0)
            found = self._look(launch)  # one may have begun at the last moment
        left = list(launch.waiting.values())
        launch.waiting.clear()
        if not launch.running:
            launch.forget()
            self.launches.remove(launch)
        if not left or self.told:
            return found
        if launch.began:
            self.batch += left
            return found
        line = one_line(launch.error) if launch.error else f"no job began; do all machines share {self.folder}?"
        line = f"hydra/launcher={self.choice}: {line}"
        if not self.ever:
            for one in self.launches:
                one.forget()
            raise Refused(line)
        for path in left:
            with contextlib.suppress(OSError, Refused):  # of a full disk: the screen still tells
                Summary.read(path).update(status="failed", error=line)
        self._began += left
        return found + [Ended(path, EXIT["failed"]) for path in left]
