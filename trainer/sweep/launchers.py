"""Runs the jobs of a sweep by a launcher of Hydra's: SLURM and local processes (submitit), Ray, joblib, basic.

    python -m trainer -m hydra/launcher=submitit_slurm hydra.launcher.partition=gpu optim=sgd,cgd

The launcher starts a keeper (``trainer.sweep.keeper``) on some machine, and the keeper starts the run. So a launcher
always sees a successful job, and never ends the others or repeats one. Keepers and this process communicate through a
folder in the sweep's directory, which they share:

    DIR/.launched/<launch>/<job>    written by the job's keeper: that it is alive, then the run's exit status
    DIR/.launched/<launch>/.told    written here: the signal for the runs; 0: no more runs may start

Without the folder no runs may start either. A job that still waits for a machine when the sweep is stopped or killed is
harmless: it finds that out, or that another process does the job (``lock.locked``), or that it is done.
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
SILENT_S = 30.0  # a keeper without a note for so long is gone; NFS shows writes within seconds
LOST = -signal.SIGKILL  # the exit status of a run whose keeper is gone
# Package -> extra of pyproject.toml.
EXTRAS = {"hydra_plugins.hydra_submitit_launcher": "slurm", "hydra_plugins.hydra_ray_launcher": "ray"}


def check_installed(config: DictConfig) -> None:
    """Raises Refused if the launcher's package is missing."""
    choice = config.hydra.runtime.choices["hydra/launcher"]
    package = ".".join(config.hydra.launcher._target_.split(".")[:2])
    if package in EXTRAS and find_spec(package) is None:
        extra = EXTRAS[package]
        raise Refused(f"hydra/launcher={choice}: needs packages that are not installed: pip install -e '.[{extra}]'")


def own_config(folder: Path, config: DictConfig) -> DictConfig:
    """Hydra's configuration for a launcher, without anything to compose, make or resolve again."""
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
    """Whether the launcher starts all jobs at once, without a limit."""
    return type(launcher).__name__ == "LocalLauncher"  # submitit's


class Known:
    """Replaces Hydra's loader: nothing is composed, since each configuration is frozen in its folder.

    So a change of YAML files between planning and running does not change a job.
    """

    def load_sweep_config(self, master: DictConfig, overrides: Sequence[str]) -> DictConfig:
        """The configuration of the job named by `overrides`, ``["job=NAME"]``."""
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
    """One call of the launcher, in a thread; it returns when its jobs have ended.

    Args:
        folder: of the notes.
        waiting: jobs that have not started.
        running: jobs that have started, with the last note of each and its time.
        error: the launcher's error.
    """

    folder: Path
    waiting: dict[str, Path]
    running: dict[Path, tuple[str, float]] = field(default_factory=dict)
    began: bool = False  # any of them
    error: Exception | None = None
    returned: threading.Event = field(default_factory=threading.Event)  # finished, whether it succeeded or not

    def start(self, launcher: Launcher, config: DictConfig, slot: Slot | None, index: int) -> None:
        """Calls the launcher."""
        self.folder.mkdir(parents=True)
        launcher = copy.copy(launcher)  # several calls may run, each with its own configuration
        config = copy.deepcopy(config)
        with open_dict(config):
            config.launched = str(self.folder)
            config.gpu, config.threads = (slot.gpu, slot.threads) if slot else (None, None)
        loader = cast(ConfigLoader, Known())  # the parts that launchers use
        context = HydraContext(config_loader=loader, callbacks=Callbacks())
        launcher.setup(hydra_context=context, task_function=keeper.keep, config=config)
        jobs = [[f"job={name}"] for name in self.waiting]
        threading.Thread(target=self._launch, args=(launcher, jobs, index), daemon=True).start()

    def _launch(self, launcher: Launcher, jobs: list[list[str]], index: int) -> None:
        if hasattr(signal, "pthread_sigmask"):  # inherited by processes of this thread: only the sweep handles Ctrl-C
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            launcher.launch(jobs, index)
        except Exception as error:  # any error of a launcher about a lost machine; `Elsewhere` handles it
            self.error = error
        finally:
            self.returned.set()
        if not at_once(launcher):
            threading.Event().wait()  # a Ray cluster that this thread started ends with it, not with the process

    def look(self, told: bool) -> tuple[list[Path], list[Ended]]:
        """Reads the notes; returns the jobs that have started, and those that have ended."""
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
        """Sends all runs a signal; no more runs start."""
        if self.folder.exists():
            write_whole(self.folder / ".told", str(int(signum)).encode())

    def forget(self) -> None:
        """Ends the call: no more runs start, and notes are ignored."""
        self.waiting.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        remove_if_empty(self.folder.parent)


class Elsewhere:
    """Like `trainer.sweep.pool.Pool`, with a launcher of Hydra's.

    The launcher gets all jobs in one call and decides how many run at a time; a launcher that would start all at once
    gets one per slot. Repeated jobs come in a later call.

    Args:
        folder: the sweep's.
        config: as Hydra composed it for all jobs together.
        most: the limit of jobs per call, if any.
    """

    def __init__(self, launcher: Launcher, folder: Path, config: DictConfig, most: int | None = None):
        self.launcher, self.folder, self.most = launcher, folder, most
        self.choice, self.config = config.hydra.runtime.choices["hydra/launcher"], own_config(folder, config)
        self.cpus = config.hydra.launcher.get("cpus_per_task")
        self.slots: list[Slot] | None = None
        self.slot_of: dict[Path, Slot] = {}
        self.batch: list[Path] = []
        self.launches: list[Launch] = []
        self.told = self.ever = False  # whether all must end; whether any job started
        self.calls, self.index = count(), 0
        self._began: list[Path] = []

    def open(self, slots: list[Slot]) -> None:
        """Sets the slots of jobs, for a launcher without limits."""
        if at_once(self.launcher):
            self.slots = [Slot(slot.gpu, self.cpus or slot.threads) for slot in slots]

    @property
    def free(self) -> bool:
        """Whether a slot is free."""
        if self.slots is not None:
            return bool(self.slots)
        return all(one.returned.is_set() for one in self.launches) and len(self.batch) != self.most

    @property
    def busy(self) -> bool:
        """Whether a job is running or waiting."""
        return bool(self.batch or any(one.running or (one.waiting and not self.told) for one in self.launches))

    def start(self, path: Path) -> None:
        """Adds a job for the launcher, which gets it in the next call of `ended`."""
        self.batch.append(path)
        if self.slots is not None:
            self.slot_of[path] = self.slots.pop(0)

    def began(self) -> list[Path]:
        """The jobs that have started since the last call."""
        found, self._began = self._began, []
        return found

    def ended(self, timeout: float) -> list[Ended]:
        """The jobs that have ended; waits for one at most `timeout` seconds.

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
        """Sends all jobs a signal. Waiting jobs do not start, and jobs killed by SIGKILL are not waited for."""
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
        """Ends a returned call; jobs that never started because it failed are given to the launcher again.

        Raises:
            Refused: the launcher could not start anything.
        """
        found: list[Ended] = []
        if launch.waiting and not self.told:
            launch.tell(0)
            found = self._look(launch)  # a job may have started at the last moment
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
        line = one_line(launch.error) if launch.error else f"no job started; do all machines share {self.folder}?"
        line = f"hydra/launcher={self.choice}: {line}"
        if not self.ever:
            for one in self.launches:
                one.forget()
            raise Refused(line)
        for path in left:
            with contextlib.suppress(OSError, Refused):  # a full disk: the screen still shows it
                Summary.read(path).update(status="failed", error=line)
        self._began += left
        return found + [Ended(path, EXIT["failed"]) for path in left]
