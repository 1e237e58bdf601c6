"""One run, from its configuration to its exit status: started, resumed, or already over."""

from __future__ import annotations

import contextlib
import math
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from trainer.cli.command import refuse
from trainer.cli.composing import plain
from trainer.cli.display import Display, Logged, tell
from trainer.cli.outcome import EXIT, outcome
from trainer.cli.processes import ONE_RUN
from trainer.cli.signatures import check_config
from trainer.rundir import configuration, lock, run_dir
from trainer.rundir.errors import Interrupted, Lost, Refused
from trainer.rundir.files import append_line
from trainer.rundir.provenance import git_facts, process_facts, versions
from trainer.rundir.summary import Summary
from trainer.rundir.text import counted
from trainer.training.announce import announce, closing_facts
from trainer.training.assembly import assemble, saying_where_to_look
from trainer.training.device import switches
from trainer.training.distributed import World, joined
from trainer.training.loop import end_loggers, fit
from trainer.training.parts import GIVEN
from trainer.training.saving import record, restore
from trainer.training.state import Training
from trainer.training.stop import StopRequest

# Given a run and a function that logs a line; called after each epoch: why the run should end, or None.
JudgeOf = Callable[[Path, Callable[[str], None]], Callable[[Mapping[str, Any]], str | None] | None]


@dataclass(frozen=True)
class Caller:
    """How the caller wants a run trained.

    Args:
        judge_of: makes the judge of a run in a search.
        trusted: whether the directory of a resumed run may name classes that are not part of conga.
        show: the display; None chooses one for the screen.
        raises: whether a defect is raised after it is recorded; else it is printed as one line.
    """

    judge_of: JudgeOf
    trusted: bool = False
    show: type[Display] | None = None
    raises: bool = False


def train(cfg: DictConfig, caller: Caller) -> int:
    """One run, from its composed configuration to its exit status.

    Raises:
        Refused: a mistake in the configuration or in the run directory.
        Exception: any defect, if the caller wants it.
    """
    config = plain(cfg)
    if not isinstance(config.get("train"), dict):
        raise Refused("train: missing; --config-name must be the configuration of a run, such as config")
    config.pop("sweep", None)  # of the sweep, not of a run
    # hydra.job.chdir would change the meaning of relative paths, also of printed ones.
    with joined() as world, contextlib.chdir(HydraConfig.get().runtime.cwd), StopRequest() as stop:
        if world.size > 1 and HydraConfig.get().mode == RunMode.MULTIRUN:
            raise Refused(ONE_RUN)
        path = Path(world.of_main(HydraConfig.get().runtime.output_dir))
        with held(path) if world.main else contextlib.nullcontext(True) as alone:
            try:
                return start_or_resume(config, path, stop, world, caller, alone=alone)
            except (Interrupted, Lost, Refused) as error:
                return not_begun(error, path, world)


@contextlib.contextmanager
def held(path: Path) -> Iterator[bool]:
    """Locks a run directory, as :func:`lock.locked`, and removes it afterwards if a run left nothing there."""
    with lock.locked(path) as alone:
        try:
            yield alone
        finally:
            run_dir.remove_if_empty(path)


def run_job(path: Path, judge_of: JudgeOf, asked: float = math.inf) -> int:
    """Trains a job of a sweep, a run whose configuration is frozen in `path`. Never raises.

    The sweep has checked that the configuration can be trusted. The job writes its summary and its log, and prints
    nothing.

    Args:
        asked: when the sweep asked for it (:func:`time.time`); a job that another sweep's process failed at since then
            is not repeated.
    """
    try:
        home = configuration.started_in(path)  # relative paths in the configuration are relative to it
        with (
            contextlib.chdir(home if home and home.is_dir() else "."),
            StopRequest() as stop,
            lock.locked(path) as alone,
        ):
            config = configuration.of_run(path)
            summary = Summary.read(path).data
            failed = summary.get("status") == "failed" and (path / "summary.json").stat().st_mtime > asked
            if failed or run_dir.is_over(summary, config):
                return EXIT[summary["status"]]
            return start_or_resume(config, path, stop, World(), Caller(judge_of, True, Logged), alone=alone)
    except BaseException as error:  # also a second Ctrl-C, and SystemExit
        end = outcome(error)
        if end.status == "locked":
            return EXIT["locked"]
        if end.status == "interrupted":  # before the first step: its status stays
            return end.code
        with contextlib.suppress(OSError, Refused):  # a full disk or a damaged summary: the exit status still says it
            if end.defect:
                append_line(path / "train.log", traceback.format_exc().rstrip())
            append_line(path / "train.log", f"failed: {end.line}")
        with contextlib.suppress(OSError, Refused):
            Summary.read(path).update(status="failed", error=end.line)
        return EXIT["failed"]


def not_begun(error: Interrupted | Lost | Refused, path: Path, world: World) -> int:
    """Prints why a run does not start or continue, in one of its processes; returns the exit status.

    Raises:
        Refused: the error itself, if there is only one process.
    """
    end = outcome(error)
    if isinstance(error, Refused):
        if world.size == 1:
            raise error
        return refuse(end.line, end.code) if world.first_to_say() else end.code
    summary = Summary.read(path)
    if world.main and summary.data.get("status") == "running":  # left by a killed process
        summary.update(status=end.status)
    if isinstance(error, Lost):
        line = f"{end.line}; to resume from the last checkpoint: {run_dir.resume_command(path)}"
        return refuse(line, end.code) if world.first_to_say() else end.code
    if world.main:
        goes_on = ["; to resume:", f"  {run_dir.resume_command(path)}"] if summary.data else [""]
        tell(f"interrupted before the first step{goes_on[0]}", *goes_on[1:])
    return end.code


def start_or_resume(config: dict, path: Path, stop: StopRequest, world: World, caller: Caller, *, alone: bool) -> int:
    """Starts or resumes the run in `path`; a run that is over is only shown.

    Args:
        alone: whether a lock keeps other processes out of the directory.
    """
    run_dir.check_own(path)
    frozen = configuration.frozen(path)
    changes: dict[str, Any] = {}
    if config["train"].get("resume") is not None:  # a damaged configuration may lack it; check_config reports that
        changes = changed_keys(config)
        if not caller.trusted:
            run_dir.check_trust(path, frozen or {})
    else:
        if not caller.trusted:
            run_dir.check_extras(path)
        check_config(config, assemble, GIVEN)
        refuse_other(config, frozen, path)
    effective = config if frozen is None else configuration.effective(frozen, path, changes)
    check_config(effective, assemble, GIVEN)
    summary = Summary.read(path)
    summary.writes = world.main
    status, done = summary.data.get("status"), summary.data.get("epochs", 0)
    if run_dir.is_over(summary.data, effective):
        if world.main:
            configuration.record_changes(path, {key: changes[key] for key in configuration.MOVABLE if key in changes})
            facts = closing_facts(path, summary.data)
            tell(f"{status} already; nothing to do", *(f"{name:<11} {value}" for name, value in facts.items()))
        return EXIT[summary.data["status"]]

    given: dict[str, Any] = {"path": path, "summary": summary, "stop": stop, "world": world, "show": caller.show}
    with saying_where_to_look() if frozen else contextlib.nullcontext():
        training = assemble(**effective, frozen=frozen or config, **given)
    training.judge = caller.judge_of(path, training.display.note) if world.size == 1 else None
    stop.check()
    with switches(training.settings, training.device):
        restored = restore(training)
        world.barrier()  # until every process has read the files
        if frozen is None and world.main:
            hydra_yaml = OmegaConf.to_yaml(HydraConfig.instance().cfg)
            configuration.freeze(path, config, hydra_yaml, list(HydraConfig.get().overrides.task))
        for logger in training.loggers:  # loggers check existing files before anything changes
            logger.start(path, training.columns(), training.group_columns(), training.progress.epoch)
        if world.main:
            configuration.record_changes(path, changes)
        if done and not restored:
            training.display.say("checkpoints/last.pt is gone: the run starts again from step 0")
        return train_to_end(training, alone, caller.raises)


def refuse_other(config: dict, frozen: dict | None, path: Path) -> None:
    """Raises Refused if the run in `path` has another configuration."""
    if frozen is None:
        return
    if other := configuration.difference(configuration.located(config), configuration.located(frozen, path)):
        raise Refused(
            f"{path}: holds a run with another configuration ({other}); nothing was changed; "
            f"choose another hydra.run.dir, or resume that run: {run_dir.resume_command(path, trusted=False)}"
        )


def changed_keys(config: dict) -> dict[str, Any]:
    """The overrides beside `train.resume=…`: dotted key -> value; paths are absolute.

    Raises:
        Refused: a key that a resume cannot change, or a path that does not exist.
    """
    overrides = HydraConfig.get().overrides
    composed, changes = OmegaConf.create(config), {}
    for override in [*overrides.task, *overrides.hydra]:
        key = override.lstrip("+~").partition("=")[0]
        if key in ("train.resume", "hydra.mode"):  # Hydra adds hydra.mode
            continue
        if key not in configuration.RESUMABLE:
            raise Refused(configuration.not_resumable(override))
        changes[key] = OmegaConf.select(composed, key)
        if key in configuration.MOVABLE and isinstance(changes[key], str):
            changes[key] = str(Path(changes[key]).expanduser().absolute())
            if not Path(changes[key]).exists():
                raise Refused(f"{key}={changes[key]}: no such file or folder")
    return changes


def train_to_end(t: Training, alone: bool, raises: bool = False) -> int:
    """Trains an assembled run until it ends in any way; returns the exit status.

    Args:
        alone: see :func:`trainer.training.announce.announce`.
        raises: see :class:`Caller`.
    """
    facts: dict[str, Any] = {"versions": versions(), "git": git_facts(), "process": process_facts()}
    better = list(t.objective.higher_is_better)
    record(t, status="running", test=None, higher_is_better=better, error=None, **facts)
    try:
        announce(t, alone)
        fit(t)
    except BaseException as error:  # also a second Ctrl-C, and SystemExit
        return end_of(t, error, raises)
    finally:
        t.display.stop()
    return close(t)


def end_of(t: Training, error: BaseException, raises: bool) -> int:
    """Records and prints how an error ended a run; returns the exit status.

    Raises:
        Lost: the error itself.
        Refused: a person's mistake, or a full disk.
        BaseException: the error itself, if `raises`.
    """
    end, p, say = outcome(error), t.progress, t.display.say
    t.display.stop()
    if isinstance(error, Lost):
        raise error
    if end.status == "interrupted":
        t.summary.update(status=end.status)
        if isinstance(error, Interrupted):
            record(t)
            why = end.line if error.signum else f"train.max_minutes={t.settings.max_minutes:g} are over"
            say(f"{why} after {counted(p.epoch, 'epoch')} and {counted(p.step, 'step')}; to resume:")
        else:
            say("interrupted at once; to resume from the last checkpoint:")
        say(f"  {run_dir.resume_command(t.run)}")
        return end.code
    if end.status == "diverged":
        how: dict[str, Any] = {"status": end.status, "error": end.line, "steps": p.final["step"] if p.final else 0}
        how["seconds"] = round(t.seconds, 3)  # without the time of loggers
        end_loggers(t, **how)
        record(t, **how)
        kept = f"the checkpoint of epoch {p.epoch} is kept" if p.final else "no epoch was finished"
        say(f"diverged: {end.line}; {kept}")
        return close(t)
    if end.defect:
        t.display.note("".join(traceback.format_exception(error)).rstrip())
    with contextlib.suppress(OSError):  # files on a full disk stay whole, perhaps without the new status
        record(t, status=end.status, error=end.line)
    if not end.defect:
        then = f"; then resume: {run_dir.resume_command(t.run)}" if isinstance(error, OSError) else ""
        raise Refused(f"{end.line}{then}") from error
    if raises:
        raise error
    t.world.first_to_say()  # the other processes only see that this one is gone
    log = f"the traceback is in {run_dir.shown(t.display.log)}"
    if not t.world.main:
        traceback.print_exception(error)
        log = f"in process {t.world.rank} of {t.world.size}"
    return refuse(f"failed: {end.line}; {log}", end.code)


def close(t: Training) -> int:
    """Shows the end of a run; returns the exit status."""
    t.display.close(closing_facts(t.run, t.summary.data))
    return EXIT[t.summary.data["status"]]
