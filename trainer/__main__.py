"""``python -m trainer``: composes a run with Hydra, trains it, and says how it ended.

Nothing here imports torch before a run needs it, so that ``--help``,
``--cfg job`` and shell completion answer at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from trainer import run_dir
from trainer.announce import announce, closing_facts
from trainer.assembly import GIVEN, assemble
from trainer.command import EXIT, FULL_ERROR, refuse, report
from trainer.config import CONF, check_config, explain, flags_first, register_resolvers
from trainer.display import drop_output
from trainer.distributed import Lost, World, joined
from trainer.errors import Interrupted, Refused, one_line
from trainer.run_dir import Summary
from trainer.stop import StopRequest

if TYPE_CHECKING:
    from trainer.training import Training


def main() -> None:
    """The command line; ends the process with the exit status that the README lists."""
    try:
        sys.exit(command_line())
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has gone: noticed here, and not when the interpreter ends
            drop_output()


def command_line() -> int:
    """Runs what sys.argv asks for and returns the exit status."""
    claimed: list[str] = []  # directories made for runs
    codes: list[int] = []  # exit status of each job
    modes: set[RunMode] = set()
    tracebacks = os.environ.get(FULL_ERROR) == "1"
    register_resolvers(claimed)

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(cfg: DictConfig) -> None:
        modes.add(HydraConfig.get().mode)
        try:
            codes.append(train(cfg))
        except Exception as error:  # in a sweep it costs this job only
            codes.append(report(error, tracebacks, sys.argv[1:]))
        if codes[-1] > 128:  # a signal ends a sweep, too
            raise SystemExit(codes[-1])

    try:
        sys.argv[1:] = flags_first(sys.argv[1:])
    except Refused as error:
        return refuse(str(error))
    with errors_passed_on():
        try:
            job()
        except KeyboardInterrupt:
            return refuse("interrupted", 128 + signal.SIGINT)
        except Exception as error:  # from Hydra, while it composes: a mistake on the command line or in YAML
            return report(error, tracebacks, sys.argv[1:], otherwise=one_line(error))
        finally:
            for path in claimed:  # a refused run leaves no empty directory behind
                remove_if_empty(Path(path))
    if RunMode.MULTIRUN in modes:
        return 0 if set(codes) <= {EXIT["finished"], EXIT["diverged"]} else EXIT["failed"]
    return codes[0] if codes else 0


@contextlib.contextmanager
def errors_passed_on() -> Iterator[None]:
    """Makes Hydra raise its errors to us, who have one line for them, instead of printing its own several."""
    before = os.environ.get(FULL_ERROR, "")
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        os.environ[FULL_ERROR] = before


def train(cfg: DictConfig) -> int:
    """One run, from its composed configuration to its exit status.

    Raises:
        Refused: a mistake in the configuration or in the run directory.
    """
    config = OmegaConf.to_container(cfg, resolve=True)
    # hydra.job.chdir would make relative paths, those that are printed too, mean something else than they say.
    with joined() as world, contextlib.chdir(HydraConfig.get().runtime.cwd), StopRequest() as stop:
        if world.size > 1 and HydraConfig.get().mode == RunMode.MULTIRUN:
            raise Refused("-m: several processes train one run; leave out -m, or torchrun")
        path = Path(world.of_main(HydraConfig.get().runtime.output_dir))
        with run_dir.locked(path) if world.main else contextlib.nullcontext():
            try:
                return start_or_resume(config, path, stop, world)
            except Interrupted as error:  # before the first step
                summary = Summary.read(path)
                if world.main and summary.data.get("status") == "running":  # a process that was killed left it so
                    summary.update(status="interrupted")
                if world.main:
                    print(
                        "interrupted before the first step"
                        + (f"; to go on:\n  {run_dir.resume_command(path)}" if summary.data else "")
                    )
                return error.code
            except Lost:
                return lost(path, world)
            except Refused as error:
                if world.size > 1:
                    return refuse(explain(error, ())) if world.first_to_say() else EXIT["refused"]
                raise
            finally:
                if world.main:
                    remove_if_empty(path)


def lost(path: Path, world: World) -> int:
    """Says, in one of the processes that are left, that another one has gone; returns the exit status."""
    summary = Summary.read(path)
    if world.main and summary.data.get("status") == "running":
        summary.update(status="interrupted")
    line = f"another process of this run has gone; to go on from the last checkpoint: {run_dir.resume_command(path)}"
    return refuse(line, EXIT["failed"]) if world.first_to_say() else EXIT["failed"]


def start_or_resume(config: dict, path: Path, stop: StopRequest, world: World) -> int:
    """Trains the run in `path`, from its start or from where it was left; a run that has ended is only shown."""
    check_config(config, assemble, GIVEN)
    frozen, changes = run_dir.frozen(path), {}
    if config["train"]["resume"] is not None:
        changes = changed_keys(config)
    elif frozen is not None and (other := run_dir.difference(config, frozen)):
        raise Refused(
            f"{path}: holds a run with another configuration ({other}); nothing was changed; "
            f"choose another hydra.run.dir, or go on with that run: {run_dir.resume_command(path)}"
        )
    effective = run_dir.with_changes(frozen or config, run_dir.resumed_changes(path) | changes)
    check_config(effective, assemble, GIVEN)
    summary = Summary.read(path)
    summary.writes = world.main
    status, done = summary.data.get("status"), summary.data.get("epochs", 0)
    ended = done == effective["train"]["epochs"] or summary.data.get("stopped")
    if status == "diverged" or (status == "finished" and ended):
        if world.main:
            print(f"{status} already; nothing to do")
            for name, value in closing_facts(path, summary.data).items():
                print(f"{name:<11} {value}")
        return EXIT[status]

    training = assemble(**effective, frozen=frozen or config, path=path, summary=summary, stop=stop, world=world)
    from trainer.device import switches
    from trainer.loop import restore

    stop.check()
    with switches(training.settings, training.device):
        restored = restore(training)
        world.barrier()  # every process has read what is there
        if frozen is None and world.main:
            hydra_yaml = OmegaConf.to_yaml(HydraConfig.instance().cfg)
            run_dir.freeze(path, config, hydra_yaml, list(HydraConfig.get().overrides.task))
        for logger in training.loggers:  # these check what is there, before anything changes
            logger.start(path, training.columns(), training.group_columns(), training.progress.epoch)
        if world.main:
            run_dir.record_changes(path, changes)
        if done and not restored:
            training.display.say("checkpoints/last.pt is gone: the run starts again from step 0")
        return carry_out(training)


def changed_keys(config: dict) -> dict[str, Any]:
    """What stands beside `train.resume=…` on the command line: dotted key -> value.

    Raises:
        Refused: something that a resumed run cannot change.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        raise Refused(f"train.resume={config['train']['resume']}: goes on with one run; leave out -m")
    overrides = HydraConfig.get().overrides
    composed, changes = OmegaConf.create(config), {}
    for override in [*overrides.task, *overrides.hydra]:
        key = override.lstrip("+~").partition("=")[0]
        if key in ("train.resume", "hydra.mode"):  # Hydra adds the latter itself
            continue
        if key not in run_dir.RESUMABLE:
            raise Refused(run_dir.not_resumable(override))
        changes[key] = OmegaConf.select(composed, key)
    return changes


def carry_out(t: Training) -> int:
    """Trains an assembled run to its end, whatever that is, and returns the exit status."""
    from trainer.loop import end_loggers, fit, record
    from trainer.training import Diverged

    process, facts = run_dir.process_facts(), {"versions": run_dir.versions(), "git": run_dir.git_facts()}
    record(t, status="running", test=None, **facts, process=process, error=None)
    p, say = t.progress, t.display.say
    try:
        announce(t)
        fit(t)
    except (Interrupted, KeyboardInterrupt) as error:
        t.display.stop()
        t.summary.update(status="interrupted")
        if isinstance(error, Interrupted):
            record(t)
            why = "interrupted" if error.signum else f"train.max_minutes={t.settings.max_minutes:g} are over"
            say(f"{why} after {p.epoch} epochs and {p.step} steps; to go on:")
        else:
            say("interrupted at once; to go on from the last checkpoint:")
        say(f"  {run_dir.resume_command(t.run)}")
        return error.code if isinstance(error, Interrupted) else 128 + signal.SIGINT
    except Lost:
        raise
    except Diverged as error:
        how = {"status": "diverged", "error": str(error), "steps": p.final["step"] if p.final else 0}
        end_loggers(t, **how)
        record(t, **how)
        kept = f"the checkpoint of epoch {p.epoch} is kept" if p.final else "no epoch was finished"
        say(f"diverged: {error}; {kept}")
    except (Refused, OSError) as error:  # a full disk: what is there stays whole, and may not even take the status
        line = explain(error, ())
        with contextlib.suppress(OSError):
            record(t, status="failed", error=line)
        if isinstance(error, OSError):
            raise Refused(f"{line}; then go on: {run_dir.resume_command(t.run)}") from error
        raise
    except Exception as error:
        line = f"{type(error).__name__}: {one_line(error)}"
        t.display.note(traceback.format_exc().rstrip())
        record(t, status="failed", error=line)
        t.display.stop()
        t.world.first_to_say()  # the others will only see that this one has gone
        log = f"the traceback is in {run_dir.shown(t.display.log)}"
        if not t.world.main:
            traceback.print_exc()
            log = f"in process {t.world.rank} of {t.world.size}"
        return refuse(f"failed: {line}; {log}", EXIT["failed"])
    finally:
        t.display.stop()
    t.display.close(closing_facts(t.run, t.summary.data))
    return EXIT[t.summary.data["status"]]


def remove_if_empty(path: Path) -> None:
    """Removes the directory unless something is in it (or it is not there)."""
    with contextlib.suppress(OSError):
        path.rmdir()


if __name__ == "__main__":
    main()
