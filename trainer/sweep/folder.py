"""The directory of a sweep and its jobs.

outputs/<date>/<time>_sweep[_n]/
    sweep.json                     the swept keys and the launcher; a directory that has it is a sweep
    <number>_<differences>/        a run (trainer/rundir/run_dir.py)
    sweep.csv  sweep.png           the results, which can be made again
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trainer.cli.signatures import check_call
from trainer.rundir import configuration, lock, run_dir, trust
from trainer.rundir.errors import Damaged, Refused
from trainer.rundir.files import write_json
from trainer.rundir.moved import up_to_date
from trainer.rundir.names import job_name
from trainer.rundir.stored import read_object
from trainer.rundir.summary import Summary
from trainer.sweep.grid import Job
from trainer.sweep.settings import SweepSettings

ASKED = "sweep.json"
SEARCH = "search.json"  # of a search
STUDY = "study.log"  # its study
OURS = (SEARCH, STUDY, ".launched", "sweep.csv", "sweep.png")  # other files of a sweep
# Keys of sweep.json that a resume needs -> type.
SHAPE = {
    "swept": list,
    "config.sweep": dict,
    "config.hydra.sweep": dict,
    "config.hydra.sweeper._target_": str,
    "config.hydra.launcher._target_": str,
    "config.hydra.runtime.choices.hydra/launcher": str,
    "config.hydra.overrides.hydra": list,
    "config.hydra.job.name": str,
    "config.hydra.job.env_set": dict,
}


@contextmanager
def planning(folder: Path) -> Iterator[None]:
    """Locks the sweep's directory while jobs are found and added; other processes wait."""
    with lock.locked(folder, wait=60.0):
        yield


def jobs_of(folder: Path) -> list[Path]:
    """The runs in a sweep's directory, by their numbers."""
    found = [p.parent.parent for p in folder.glob(f"*/{configuration.CONFIG}")]
    return sorted(found, key=lambda path: (number_of(path), path.name))


def number_of(path: Path) -> int:
    """The number of a job, at the beginning of its name; -1 for another run."""
    found = re.match(r"\d+(?=_|$)", path.name)
    return int(found[0]) if found else -1


def identity(config: dict[str, Any]) -> str:
    """A text that is equal for equal configurations."""

    def ordered(value: Any) -> Any:  # json cannot sort numbers and texts among keys
        if isinstance(value, dict):
            return {str(key): ordered(value[key]) for key in sorted(value, key=str)}
        return [ordered(one) for one in value] if isinstance(value, list) else value

    return json.dumps(ordered(config))


def place(folder: Path, jobs: Sequence[Job]) -> list[Path]:
    """The directory of each job: an existing one with its configuration, else a new one, where it is frozen.

    Jobs with equal configurations are one job.
    """
    there = _configurations(folder)
    number = 1 + max(map(number_of, jobs_of(folder)), default=-1)
    for job in jobs:
        key = identity(configuration.located(job.config))
        if key not in there:
            there[key] = folder / job_name(number, job.swept)
            refuse_links(folder, [there[key]])
            configuration.freeze(there[key], job.config, job.hydra, list(job.overrides))
            number += 1
    return list(dict.fromkeys(there[identity(configuration.located(job.config))] for job in jobs))


def new_jobs(folder: Path, jobs: Sequence[Job]) -> list[Job]:
    """The jobs without a directory."""
    there = _configurations(folder)
    return [job for job in jobs if identity(configuration.located(job.config)) not in there]


def _configurations(folder: Path) -> dict[str, Path]:
    """Configuration -> directory of the existing jobs, without damaged ones."""
    found = {}
    for path in reversed(jobs_of(folder)):
        with suppress(Refused):
            found[identity(configuration.located(configuration.of_run(path), path))] = path
    return found


def check_folder(folder: Path) -> None:
    """Raises Refused if a directory is not that of a sweep."""
    if not folder.exists():
        return
    if (folder / ASKED).exists():
        asked(folder)  # reports damage before anything is planned
        return
    if not folder.is_dir():
        raise Refused(f"hydra.sweep.dir={run_dir.shown(folder)}: must be a directory")
    if (folder / configuration.CONFIG).exists():
        raise Refused(f"hydra.sweep.dir={run_dir.shown(folder)}: is the directory of one run; choose another")
    # A kill, or the removal of a damaged sweep.json, leaves other files, perhaps a temporary one of sweep.json.
    there = [p for p in folder.iterdir() if not re.fullmatch(r"\..+\.tmp", p.name)]
    others = sorted(p.name for p in there if p.name not in OURS and not (p.is_dir() and number_of(p) >= 0))
    if others:
        raise Refused(f"hydra.sweep.dir={run_dir.shown(folder)}: holds {others[0]}, but no sweep; choose another")


def check_no_search(folder: Path) -> None:
    """Raises Refused if a grid would be added to the runs of a search."""
    if (folder / SEARCH).exists():
        raise Refused(f"hydra.sweep.dir={run_dir.shown(folder)}: holds a search; choose another for a grid")


def ask(folder: Path, swept: Sequence[str], config: dict[str, Any]) -> None:
    """Writes sweep.json; the swept keys include those of earlier commands."""
    before = asked(folder)["swept"] if (folder / ASKED).exists() else []
    write_json(folder / ASKED, {"swept": list(dict.fromkeys([*before, *swept])), "config": config})


def asked(folder: Path) -> dict[str, Any]:
    """The content of sweep.json: ``swept``, the keys with several values; ``config``, how the jobs are launched.

    Raises:
        Refused: it is missing or damaged.
    """
    path = folder / ASKED
    try:
        content = read_object(path) if folder.is_dir() else None
        if content is None:
            jobs = folder.is_dir() and jobs_of(folder)
            again = "; its jobs are there: give the sweep's command again, hydra.sweep.dir=… too" if jobs else ""
            raise Refused(f"{folder}: must be the directory of a sweep, with {ASKED} in it{again}")
        for key, kind in SHAPE.items():
            found: Any = content
            for name in key.split("."):
                found = found.get(name) if isinstance(found, dict) else None
            if not isinstance(found, kind) or (kind is list and not all(isinstance(word, str) for word in found)):
                raise Damaged(f"{path}: not readable ({key} is not what a sweep writes there)")
        settings = {name: value for name, value in content["config"]["sweep"].items() if name != "_target_"}
        try:
            check_call("config.sweep", settings, SweepSettings, ())
        except Refused as error:
            raise Damaged(f"{path}: not readable ({error})") from error
    except Damaged as error:
        raise Damaged(f"{error}; remove it and give the sweep's command again: finished jobs are kept") from error
    return content | {"config": up_to_date(content["config"])}


def check_trust(jobs: Sequence[Path], named: Collection[str] = ()) -> None:
    """Raises Refused if a job names something that is neither part of conga nor in `named`.

    A damaged job fails by itself.
    """
    for path in jobs:
        with suppress(Damaged):
            run_dir.check_trust(path, configuration.frozen(path) or {}, named)


def resume_command(folder: Path, trusted: bool = True) -> str:
    """The command that resumes a sweep; with ``--trust`` if needed and already `trusted`."""
    command = f"python -m trainer resume {shlex.quote(run_dir.shown(folder))}"
    if not trusted:
        return command
    try:
        trust.check_sweep(folder / ASKED, asked(folder)["config"])
        return command + run_dir.trust_flag(*jobs_of(folder))
    except trust.Untrusted:
        return f"{command} {trust.FLAG}"
    except Refused:  # damaged, which the resume will report
        return command


def refuse_links(folder: Path, paths: Iterable[Path]) -> None:
    """Raises Refused if a job to do is a link out of the sweep's directory."""
    for path in paths:
        if not run_dir.inside(folder, path):
            raise Refused(f"{path}: a link that leads out of the sweep's directory; remove it, or resume that run")


def state(path: Path) -> str:
    """The status of a job (:func:`trainer.rundir.run_dir.status_of`), or damaged."""
    try:
        return run_dir.status_of(path, Summary.read(path).data)
    except Refused:
        return "damaged"


def drop_checkpoints(folder: Path, run: Path) -> bool:
    """Removes the checkpoints of a finished run of the sweep in `folder`.

    Returns:
        False if a link leads out of the sweep's directory; then nothing is removed.
    """
    place = run / "checkpoints"
    if not run_dir.inside(folder, place):
        return False
    for file in place.glob("*.pt"):
        if re.fullmatch(r"(last|best|epoch_\d+)\.pt", file.name) and not file.is_dir():
            file.unlink(missing_ok=True)  # another process of the sweep may do the same
    run_dir.remove_if_empty(place)
    return True
