"""``python -m trainer``: composes a run with Hydra, builds its parts, trains it, and says how it ended.

The only place where Hydra instantiates. Nothing here imports torch before a run needs it, so that ``--help``,
``--cfg job`` and shell completion answer at once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
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
from trainer.config import CONF, check_config, explain, flags_first, register_resolvers
from trainer.display import drop_output
from trainer.distributed import Lost, World, joined, other_process
from trainer.errors import Interrupted, Refused, one_line
from trainer.files import append_line
from trainer.run_dir import Summary
from trainer.stop import StopRequest

if TYPE_CHECKING:
    from torch import nn

    from data import Dataset
    from trainer.training import Settings, Training

FULL_ERROR = "HYDRA_FULL_ERROR"
EXIT = {"finished": 0, "failed": 1, "refused": 2, "diverged": 3}
# Arguments that the runner adds to what the YAML says: of assemble(), and of each group's constructor.
GIVEN = {
    "": ("frozen", "path", "summary", "stop", "world"),
    "model": ("input_shape", "num_outputs"),
    "optim": ("params", "constraint"),
    "schedule": ("optimizer", "epochs", "steps_per_epoch", "max_steps"),
    "objective": ("facts", "task"),  # the second is a fact, and an error may name it
}


def main() -> None:
    """The command line; ends the process with the exit status that the README lists."""
    sys.exit(command_line())


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


def report(error: Exception, tracebacks: bool, overrides: list[str], otherwise: str | None = None) -> int:
    """Prints a person's mistake as one line, what is none as `otherwise` or a traceback; returns the exit status."""
    if isinstance(error, BrokenPipeError):  # the reader has gone, as in `--help | head`
        drop_output()
        return EXIT["finished"]
    line = explain(error, overrides) or otherwise
    if line is not None and other_process():  # the first process says it
        return EXIT["refused"]
    if line is None or tracebacks:
        traceback.print_exception(error)
    return EXIT["failed"] if line is None else refuse(line)


def refuse(line: str, code: int = EXIT["refused"]) -> int:
    """Prints the one line that says what is wrong; returns the exit status."""
    print(f"conga: {line}", file=sys.stderr)
    return code


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


def assemble(
    *,
    seed: int,
    data: dict,
    model: dict,
    constraint: dict,
    optim: dict,
    schedule: dict,
    objective: dict,
    train: dict,
    logger: dict,
    frozen: dict,
    path: Path,
    summary: Summary,
    stop: StopRequest,
    world: World,
) -> Training:
    """Builds every part of a run. Its arguments are the configuration's root keys, and what a run has besides.

    Raises:
        Refused: a constructor does not take a value, or two parts do not fit.
    """
    import torch

    from optim import note_initial_norms
    from trainer.device import pick_device, set_threads
    from trainer.display import Silent, loading_progress, make_display
    from trainer.distributed import with_shared_statistics
    from trainer.trackers import guarded
    from trainer.training import Training, steps_per_epoch

    if not 0 <= seed < 2**63:
        raise Refused(f"seed={seed}: must be at least 0 and less than 2**63")
    settings = build("train", train)
    loggers = {name: build(f"logger.{name}", node) for name, node in logger.items()}  # one may lack its package
    device = pick_device(settings.device, summary.data.get("device"))
    threads = set_threads(settings.threads, summary.data.get("threads"))
    constraint_set = build("constraint", constraint)
    source = build("data", data)
    dtype = torch.float64 if settings.precision == "float64" else None
    channels_last = device.type == "cuda" if settings.channels_last == "auto" else settings.channels_last
    with refusing("data"), loading_progress(stop.check) as progress:
        dataset = source.load(progress).to(device, dtype, channels_last=channels_last)
    dataset.share = world.rank, world.size
    facts, steps = dataset.facts, steps_per_epoch(dataset, settings)
    the_objective = build("objective", objective, facts=facts)
    torch.manual_seed(seed)
    network = build("model", model, input_shape=facts.input_shape, num_outputs=facts.num_outputs)
    network.to(device, dtype, memory_format=torch.channels_last if channels_last else None)
    check_fit(dataset, the_objective, network, settings, world)
    if constraint.get("init_factor") is not None:
        make = functools.partial(build, "model", model, input_shape=facts.input_shape, num_outputs=facts.num_outputs)
        note_initial_norms(network, make)
    if world.size > 1:
        network = with_shared_statistics(network, world)
        torch.manual_seed(seed + world.rank)  # dropout: each process draws for its own samples
    trainable = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    if constraint_set is not None:
        with refusing("constraint"):  # first, so that what does not fit a parameter names the right group
            constraint_set.assign(*zip(*trainable, strict=True))
    optimizer = build("optim", optim, params=trainable, constraint=constraint_set)
    if hasattr(optimizer, "second_point"):
        refuse_second_point(optimizer, the_objective, settings)
    times = {"epochs": settings.epochs, "steps_per_epoch": steps, "max_steps": settings.max_steps}
    the_schedule = build("schedule", schedule, optimizer=optimizer, **times)
    summary.data |= {
        "parameters": sum(p.numel() for _, p in trainable),
        "device": str(device),
        "threads": threads,
        "seed": seed,
    }
    total = min(settings.epochs * steps, settings.max_steps or settings.epochs * steps)
    display = (make_display if world.main else Silent)(path / "train.log", settings.epochs, total, steps)
    with refusing("train"):
        training = Training(
            run=path,
            config=frozen,
            seed=seed,
            settings=settings,
            device=device,
            dataset=dataset,
            model=network,
            optimizer=optimizer,
            schedule=the_schedule,
            objective=the_objective,
            loggers=guarded(loggers, display.say) if world.main else [],
            summary=summary,
            display=display,
            stop=stop,
            world=world,
        )
    if settings.compile:
        network.compile(dynamic=False)  # a graph for each size of batch: the same numbers whichever came first
    return training


def check_fit(dataset: Dataset, objective: Any, model: nn.Module, settings: Settings, world: World) -> None:
    """Raises Refused where batches are too small for model or processes, or labels of no use for the objective."""
    from models.size import trains_on_one

    size, n = dataset.batch_size, dataset.facts.sizes["train"]
    last = (n - 1) % size + 1
    if last < world.size:
        raise Refused(
            f"data.batch_size={size}: leaves {last} of {n:,} training samples for the last batch, fewer than there are "
            f"processes ({world.size}); choose another"
        )
    if last == 1 and not trains_on_one(model.train(), dataset.facts.input_shape):
        raise Refused(
            f"data.batch_size={size}: leaves one of {n:,} training samples for the last batch, and this model's batch "
            "normalization needs more; choose another"
        )
    augment = dataset.augment
    if augment is not None and (augment.mixup or augment.cutmix) and not objective.takes_mixed_labels:
        name = "mixup" if augment.mixup else "cutmix"
        taker = type(objective).__name__
        raise Refused(f"data.augment.{name}={getattr(augment, name)}: mixes labels, which {taker} does not take")


def refuse_second_point(optimizer: Any, objective: Any, settings: Settings) -> None:
    """Raises Refused for what methods of two gradients cannot be combined with."""
    name = type(optimizer).__name__
    if settings.clip_norm is not None:
        raise Refused(
            f"train.clip_norm={settings.clip_norm}: {name} compares gradients, which clipping changes; use null"
        )
    if settings.precision == "fp16":
        raise Refused(f"train.precision=fp16: {name} compares gradients, which fp16 scales; use bf16")
    if len(objective.turns) > 1:
        raise Refused(f"objective: {type(objective).__name__} has losses in turn, which {name} cannot compare")


def build(group: str, node: dict, **given: Any) -> Any:
    """What the node's `_target_` makes of its keys and of `given`; None for a null target."""
    if node["_target_"] is None:
        return None
    # Partial, then called here: Hydra would copy `given` into a config, and wrap what the constructor raises.
    make = hydra.utils.instantiate(node, _partial_=True, _convert_="all", _recursive_=False)
    with refusing(group):
        return make(**given)


@contextlib.contextmanager
def refusing(group: str) -> Iterator[None]:
    """Turns a ValueError `name=value: …` from a part of `group` into a refusal that names the whole key."""
    try:
        yield
    except OSError as error:  # a file that is read: the usual hint where to write would mislead
        text = f"{error.filename}: {error.strerror}" if error.filename else one_line(error)
        raise Refused(f"{group}: {text}") from error
    except (MemoryError, OverflowError, RuntimeError) as error:  # torch says so by its words only
        words = ("allocate", "Storage size", "out of memory", "overflow")
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in words):
            raise
        raise Refused(f"{group}: too large for this machine ({one_line(error)})") from error
    except ValueError as error:
        text = one_line(error)
        name = text.partition("=")[0]
        given = name in GIVEN.get(group, ())  # no key of its own: it came from another choice
        if given and HydraConfig.initialized():
            choices = HydraConfig.get().runtime.choices
            pair = f"{group}={choices[group]}" + (f" data={choices.data}" if group in ("model", "objective") else "")
            raise Refused(f"{pair}: {text}") from error
        is_key = not given and re.fullmatch(
            r"[a-z_]\w*(\.\w+|\[\d+\])*", name
        )  # such as augment.crop or layers[2].kernel
        raise Refused(f"{group}.{text}" if is_key else f"{group}: {text}") from error


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
        append_line(t.display.log, traceback.format_exc().rstrip())
        record(t, status="failed", error=line)
        t.display.stop()
        log = run_dir.shown(t.display.log)
        return refuse(f"failed: {line}; the traceback is in {log}", EXIT["failed"])
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
