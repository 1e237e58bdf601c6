"""``python -m trainer``: composes a run with Hydra, builds its parts, trains it, and says how it ended.

The only place where Hydra instantiates. Nothing here imports torch before a run needs it, so that ``--help``,
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
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from trainer import run_dir
from trainer.config import CONF, ELSEWHERE, check_config, explain, register_resolvers, show
from trainer.errors import Interrupted, Refused
from trainer.files import append_line
from trainer.run_dir import Summary
from trainer.stop import StopRequest

if TYPE_CHECKING:
    from trainer.loop import Training

FULL_ERROR = "HYDRA_FULL_ERROR"
TRACEBACKS = os.environ.get(FULL_ERROR) == "1"
EXIT = {"finished": 0, "failed": 1, "refused": 2, "diverged": 3}
# Arguments that the runner adds to what the YAML says: of assemble(), and of each group's constructor.
GIVEN = {
    "": ("frozen", "path", "summary", "stop"),
    "model": ("input_shape", "num_outputs"),
    "optim": ("params", "constraint"),
    "schedule": ("optimizer", "epochs", "steps_per_epoch"),
    "objective": ("task",),
}


def main() -> None:
    """The command line; ends the process with the exit status that the README lists."""
    sys.exit(command_line())


def command_line() -> int:
    """Runs what sys.argv asks for and returns the exit status."""
    claimed: list[str] = []  # directories made for runs
    codes: list[int] = []  # exit status of each job
    register_resolvers(claimed)

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(cfg: DictConfig) -> None:
        try:
            codes.append(train(cfg))
        except Exception as error:  # in a sweep it costs this job only
            codes.append(report(error))

    if any(arg.startswith("--exp") for arg in sys.argv[1:]):
        return refuse("--experimental-rerun: would unpickle a file; use train.resume=RUN_DIR")
    sys.argv[1:] = sorted(sys.argv[1:], key=is_override)  # argparse refuses a flag between two overrides
    with errors_passed_on():
        try:
            job()
        except KeyboardInterrupt:
            return refuse("interrupted", 128 + signal.SIGINT)
        except Exception as error:  # from Hydra, while it composes: a mistake on the command line or in YAML
            if isinstance(error, OSError) and not isinstance(error, HydraException):
                return refuse(f"{error.filename}: the run directory cannot be made ({error.strerror}); {ELSEWHERE}")
            return report(error, otherwise=run_dir.one_line(error))
        finally:
            for path in claimed:  # a refused run leaves no empty directory behind
                remove_if_empty(Path(path))
    if len(codes) <= 1:
        return codes[0] if codes else 0
    return 0 if set(codes) <= {EXIT["finished"], EXIT["diverged"]} else EXIT["failed"]


def is_override(argument: str) -> bool:
    """Whether a word of the command line is an override, and no flag or flag's value."""
    return not argument.startswith("-") and ("=" in argument or argument.startswith(("+", "~")))


@contextlib.contextmanager
def errors_passed_on() -> Iterator[None]:
    """Makes Hydra raise its errors to us, who have one line for them, instead of printing its own several."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FULL_ERROR]


def report(error: Exception, otherwise: str | None = None) -> int:
    """Prints a person's mistake as one line, what is none as `otherwise` or a traceback; returns the exit status."""
    line = explain(error, sys.argv[1:]) or otherwise
    if line is None or TRACEBACKS:
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
        SystemExit: a signal stopped the run; 128 + its number.
    """
    path = Path(HydraConfig.get().runtime.output_dir)
    config = OmegaConf.to_container(cfg, resolve=True)
    with StopRequest() as stop, run_dir.locked(path):
        try:
            return start_or_resume(config, path, stop)
        except Interrupted as error:
            raise SystemExit(128 + error.signum) from None
        finally:
            remove_if_empty(path)


def start_or_resume(config: dict, path: Path, stop: StopRequest) -> int:
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
    summary = Summary.read(path, missing_ok=True)
    status, done, epochs = summary.data.get("status"), summary.data.get("epochs", 0), effective["train"]["epochs"]
    if done > max(epochs, 0):
        raise Refused(f"train.epochs={epochs}: the run has trained {done} epochs already; give at least as many")
    if status == "diverged" or (status == "finished" and done == epochs):
        print(f"{status} already; nothing to do")
        for name, value in closing_facts(path, summary.data).items():
            print(f"{name:<11} {value}")
        return EXIT[status]

    from trainer.loop import restore

    training = assemble(**effective, frozen=frozen or config, path=path, summary=summary, stop=stop)
    stop.check()
    if frozen is None:
        hydra_yaml = OmegaConf.to_yaml(HydraConfig.instance().cfg)
        run_dir.freeze(path, config, hydra_yaml, list(HydraConfig.get().overrides.task))
    resumed = restore(training)
    run_dir.record_changes(path, changes)
    return carry_out(training, resumed)


def changed_keys(config: dict) -> dict[str, Any]:
    """What stands beside `train.resume=…` on the command line: dotted key -> value.

    Raises:
        Refused: something that a resumed run cannot change.
    """
    overrides = HydraConfig.get().overrides
    composed, changes = OmegaConf.create(config), {}
    for override in [*overrides.task, *(o for o in overrides.hydra if o.startswith("hydra.run."))]:
        key = override.lstrip("+~").partition("=")[0]
        if key == "train.resume":
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
) -> Training:
    """Builds every part of a run. Its arguments are the configuration's root keys, and what a run has besides.

    Raises:
        Refused: a constructor does not take a value, or two parts do not fit.
    """
    import torch

    from trainer.device import pick_device, set_threads
    from trainer.display import make_display
    from trainer.loop import Training, steps_per_epoch

    if seed < 0:
        raise Refused(f"seed={seed}: must be at least 0")
    settings = build("train", train)
    device = pick_device(settings.device)
    threads = set_threads(settings.threads, summary.data.get("threads"))
    constraint_set = build("constraint", constraint)
    source = build("data", data)
    with refusing("data"):
        dataset = source.load().to(device)
    facts, steps = dataset.facts, steps_per_epoch(dataset)
    the_objective = build("objective", objective, task=facts.task)
    torch.manual_seed(seed)
    network = build("model", model, input_shape=facts.input_shape, num_outputs=facts.num_outputs).to(device)
    optimizer = build("optim", optim, params=list(network.named_parameters()), constraint=constraint_set)
    the_schedule = build("schedule", schedule, optimizer=optimizer, epochs=settings.epochs, steps_per_epoch=steps)
    summary.data |= {
        "parameters": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "device": str(device),
        "threads": threads,
        "seed": seed,
    }
    with refusing("train"):
        return Training(
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
            loggers=[build(f"logger.{name}", node) for name, node in logger.items()],
            summary=summary,
            display=make_display(path / "train.log", settings.epochs, steps),
            stop=stop,
        )


def build(group: str, node: dict, **given: Any) -> Any:
    """What the node's `_target_` makes of its keys and of `given`; None for a null target."""
    if node["_target_"] is None:
        return None
    # Partial, then called here: Hydra would copy `given` into a config, and wrap what the constructor raises.
    make = hydra.utils.instantiate(node, _partial_=True, _convert_="all")
    with refusing(group):
        return make(**given)


@contextlib.contextmanager
def refusing(group: str) -> Iterator[None]:
    """Turns a ValueError `name=value: …` from a part of `group` into a refusal that names the whole key."""
    try:
        yield
    except ValueError as error:
        text = run_dir.one_line(error)
        name = text.partition("=")[0]
        if name in GIVEN.get(group, ()):  # no key of its own: it came from another choice
            choices = HydraConfig.get().runtime.choices
            pair = f"model={choices.model} data={choices.data}" if group == "model" else f"{group}={choices[group]}"
            raise Refused(f"{pair}: {text}") from error
        raise Refused(f"{group}.{text}" if name.isidentifier() else f"{group}: {text}") from error


def carry_out(t: Training, resumed: bool) -> int:
    """Trains an assembled run to its end, whatever that is, and returns the exit status."""
    from trainer.loop import Diverged, fit, record, save_last

    process, facts = run_dir.process_facts(), {"versions": run_dir.versions(), "git": run_dir.git_facts()}
    record(t, status="running", test=None, **facts, process=process, error=None)
    try:
        announce(t, resumed)
        with refusing("logger"):
            for logger in t.loggers:
                logger.start(t.run, t.columns(), t.progress.epoch)
        try:
            fit(t)
        except Interrupted:
            if t.progress.position:  # else last.pt is what the run is, and the model may hold the best weights
                save_last(t)
            raise
    except (Interrupted, KeyboardInterrupt) as error:
        signum = error.signum if isinstance(error, Interrupted) else signal.SIGINT
        record(t, status="interrupted")
        t.display.stop()
        t.display.say(f"interrupted in epoch {t.progress.epoch + 1}, step {t.progress.step}; to go on:")
        t.display.say(f"  {run_dir.resume_command(t.run)}")
        raise Interrupted(signum) from None
    except Diverged as error:
        final = t.progress.final
        record(t, status="diverged", error=str(error), steps=final["step"] if final else 0)
        t.display.say(
            f"diverged: {error}; "
            + (f"the checkpoint of epoch {final['epoch']} is kept" if final else "no epoch was finished")
        )
    except (Refused, OSError) as error:  # a full disk: what is there stays whole, and may not even take the status
        t.display.stop()
        line = explain(error, ())
        with contextlib.suppress(OSError):
            record(t, status="failed", error=line)
        if isinstance(error, OSError):
            raise Refused(f"{line}; then go on: {run_dir.resume_command(t.run)}") from error
        raise
    except Exception as error:
        t.display.stop()
        line = f"{type(error).__name__}: {run_dir.one_line(error)}"
        append_line(t.display.log, traceback.format_exc().rstrip())
        record(t, status="failed", error=line)
        print(f"conga: failed: {line}; the traceback is in {run_dir.shown(t.display.log)}", file=sys.stderr)
        return EXIT["failed"]
    finally:
        t.display.stop()
    t.display.close(closing_facts(t.run, t.summary.data))
    return EXIT[t.summary.data["status"]]


def announce(t: Training, resumed: bool) -> None:
    """The lines before the first epoch: what is trained, on what, how and where."""
    say, facts, names = t.display.say, t.dataset.facts, [name for name, _ in t.model.named_parameters()]
    sizes = ", ".join(f"{n:,} {split}" for split, n in facts.sizes.items())
    choices = {g: t.config[g].get("_target_") for g in ("optim", "constraint", "schedule")}
    say(f"run         {run_dir.shown(t.run)}")
    say(f"data        {facts.name}: {sizes}; input {' x '.join(map(str, facts.input_shape))}, {facts.task}")
    say(f"model       {type(t.model).__name__}, {t.summary.data['parameters']:,} parameters")
    for group, target in choices.items():
        values = " ".join(f"{k}={show(v)}" for k, v in t.config[group].items() if k != "_target_")
        say(f"{group:<11} {(target or 'none').rpartition('.')[2]} {values}".rstrip())
    say(f"device      {t.summary.data['device']}, {t.summary.data['threads']} threads, seed {t.seed}")
    if resumed:
        p = t.progress
        say(f"resumed     after {p.epoch} epochs and {p.step} steps")
    elif t.optimizer.shifted:
        outside = ", ".join(names[i] for i in t.optimizer.shifted)
        say(f"shifted     {len(t.optimizer.shifted)} initial parameters were outside the set: {outside}")


def closing_facts(path: Path, data: dict[str, Any]) -> dict[str, str]:
    """What the table at the end says."""
    best, test = data["best"], data["test"]
    return {
        "status": data["status"],
        "best": f"{best['metric']} {best['value']:.4f} in epoch {best['epoch']}" if best else "-",
        "test": "  ".join(f"{k} {v:.4f}" for k, v in test.items()) if test else "-",
        "parameters": f"{data['parameters']:,}",
        "seconds": f"{data['seconds']:.1f}",
        "path": run_dir.shown(path),
    }


def remove_if_empty(path: Path) -> None:
    """Removes the directory unless something is in it (or it is not there)."""
    with contextlib.suppress(OSError):
        path.rmdir()


if __name__ == "__main__":
    main()
