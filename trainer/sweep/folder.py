"""The directory of a sweep, and what its jobs are.

outputs/<date>/<time>_sweep[_n]/
    sweep.json                     what was asked; a directory that has it is a sweep
    <number>_<differences>/        a run, as any other (trainer/run_dir.py)
    sweep.csv  sweep.png           what came out, made again at any time
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trainer import run_dir
from trainer.errors import Refused, one_line
from trainer.files import write_json
from trainer.names import job_name
from trainer.run_dir import Summary
from trainer.sweep.grid import Job

ASKED = "sweep.json"
SEARCH = "search.json"  # beside it, where optuna proposes the jobs


@contextmanager
def planning(folder: Path) -> Iterator[None]:
    """Holds the sweep's directory while its jobs are looked up and added; others wait."""
    with run_dir.locked(folder, wait=60.0):
        yield


def jobs_of(folder: Path) -> list[Path]:
    """The runs in a sweep's directory, by their numbers."""
    found = [p.parent.parent for p in folder.glob(f"*/{run_dir.CONFIG}")]
    return sorted(found, key=lambda path: (number_of(path), path.name))


def number_of(path: Path) -> int:
    """The number of a job, which its name begins with; -1 for a run that somebody put there."""
    found = re.match(r"\d+(?=_|$)", path.name)
    return int(found[0]) if found else -1


def identity(config: dict[str, Any]) -> str:
    """Equal for equal configurations."""
    return json.dumps(config, sort_keys=True)


def place(folder: Path, jobs: Sequence[Job]) -> list[Path]:
    """The directory of each job: the one that has its configuration already, else a new one, where it is frozen.

    Jobs of the same configuration are one.
    """
    there = _configurations(folder)
    number = 1 + max(map(number_of, jobs_of(folder)), default=-1)
    for job in jobs:
        key = identity(run_dir.located(job.config))
        if key not in there:
            there[key] = folder / job_name(number, job.swept)
            run_dir.freeze(there[key], job.config, job.hydra, list(job.overrides))
            number += 1
    return list(dict.fromkeys(there[identity(run_dir.located(job.config))] for job in jobs))


def new_jobs(folder: Path, jobs: Sequence[Job]) -> list[Job]:
    """Those that have no directory yet."""
    there = _configurations(folder)
    return [job for job in jobs if identity(run_dir.located(job.config)) not in there]


def _configurations(folder: Path) -> dict[str, Path]:
    """The jobs that are there, by what they are; a damaged one is like no other."""
    found = {}
    for path in reversed(jobs_of(folder)):
        with suppress(Refused):
            found[identity(run_dir.located(run_dir.frozen(path), path))] = path
    return found


def check_folder(folder: Path) -> None:
    """Raises Refused where a directory is that of something else."""
    if not folder.exists() or (folder / ASKED).exists():
        return
    if not folder.is_dir():
        raise Refused(f"hydra.sweep.dir={run_dir.shown(folder)}: must be a directory")
    if (folder / run_dir.CONFIG).exists():
        raise Refused(f"hydra.sweep.dir={run_dir.shown(folder)}: is the directory of one run; choose another")
    others = sorted(
        p.name for p in folder.iterdir() if not p.is_dir() or number_of(p) < 0
    )  # a kill may leave jobs alone
    if others:
        raise Refused(f"hydra.sweep.dir={run_dir.shown(folder)}: holds {others[0]}, and is no sweep; choose another")


def check_no_search(folder: Path) -> None:
    """Raises Refused where a grid would be put among the runs of a search."""
    if (folder / SEARCH).exists():
        raise Refused(f"hydra.sweep.dir={run_dir.shown(folder)}: holds a search; choose another for a grid")


def ask(folder: Path, swept: Sequence[str], config: dict[str, Any]) -> None:
    """Writes down what was asked; the keys swept are those of earlier commands, too."""
    before = asked(folder)["swept"] if (folder / ASKED).exists() else []
    write_json(folder / ASKED, {"swept": list(dict.fromkeys([*before, *swept])), "config": config})


def asked(folder: Path) -> dict[str, Any]:
    """What was asked: ``swept``, the keys that take several values; ``config``, how the jobs are launched.

    Raises:
        Refused: no sweep, or a damaged one.
    """
    try:
        content = json.loads((folder / ASKED).read_bytes())
        if not isinstance(content.get("swept"), list) or not isinstance(content.get("config"), dict):
            raise ValueError("has no swept and config")
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(f"{folder}: must be the directory of a sweep, with {ASKED} in it") from None
    except (ValueError, AttributeError) as error:
        raise Refused(f"{folder / ASKED}: not readable ({one_line(error)})") from error
    return content


def state(path: Path) -> str:
    """Of a job: queued, running, finished, diverged, failed, interrupted or damaged."""
    try:
        summary = Summary.read(path).data
    except Refused:
        return "damaged"
    status = summary.get("status", "queued")
    if status in ("finished", "diverged"):
        return status
    if run_dir.is_held(path, summary.get("process", {})):  # whatever it says yet
        return "running"
    return "interrupted" if status == "running" else status


def drop_checkpoints(path: Path) -> None:
    """Removes a finished run's checkpoints; its numbers stay."""
    for file in (path / "checkpoints").glob("*.pt"):
        file.unlink(missing_ok=True)  # another process of the sweep may do the same
    run_dir.remove_if_empty(path / "checkpoints")
