"""The lines of a run before its first epoch and at its end."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from optim import Held
from optim.sets import ConstraintSet
from trainer.cli.display import listed, number
from trainer.cli.signatures import apart, show
from trainer.rundir import configuration, run_dir
from trainer.rundir.errors import Refused
from trainer.rundir.text import counted
from trainer.training import doubts
from trainer.training.state import Training

SHOWN = 12  # parameters in the table on the screen; the log has all of them


UNLOCKED = "this file system has no locks: a second process in this directory would not be noticed"


def announce(t: Training, alone: bool) -> None:
    """Prints the lines before the first epoch: data, model, optimizer, sets, device.

    Args:
        alone: whether a lock keeps other processes out of the directory.
    """
    say, facts = t.display.say, t.dataset.facts
    sizes = ", ".join(f"{n:,} {split}" for split, n in facts.sizes.items())
    choices = {g: t.config[g].get("_target_") for g in ("optim", "constraint", "schedule")}
    choices["objective"] = type(t.objective).__name__  # of the dataset's task, where it is chosen by that
    say(f"run         {run_dir.shown(t.run)}" + ("" if alone else f"; {UNLOCKED}"))
    say(f"data        {facts.name}: {sizes}; input {' x '.join(map(str, facts.input_shape))}, {facts.task}")
    for note in facts.notes:
        say(f"note        {note}")
    frozen = sum(layer.parameters - layer.trainable for layer in t.layers)
    say(
        f"model       {model_name(t)}, {t.summary.data['parameters']:,} parameters"
        + (f" and {frozen:,} frozen ones" if frozen else "")
        + f", {sum(layer.multiply_adds for layer in t.layers):,} multiply-adds a sample"
    )
    announce_weights(t)
    for group, target in choices.items():
        own, beside = apart(group, t.config[group])
        node = own if t.objective.adversary is None else own | beside
        given = {k: v for k, v in node.items() if k != "_target_" and v is not None}
        values = " ".join(f"{k}={show(v)}" for k, v in given.items())
        say(f"{group:<11} {(target or 'none').rpartition('.')[2]} {values}".rstrip())
    if line := t.objective.about():
        say(line)
    place = {name: i for i, (name, _) in enumerate(t.model.named_parameters())}
    held = sorted(getattr(t.optimizer, "held", []), key=lambda h: place[h.name])
    for i, line in enumerate(table(held)):
        if i <= SHOWN:
            say(line)
        else:
            t.display.note(line)
    if len(held) > SHOWN:
        say(f"            ... and {len(held) - SHOWN} more, in {run_dir.shown(t.display.log)}")
    for remark in dict.fromkeys(h.remark for h in held if h.remark):
        names = [h.name for h in held if h.remark == remark]
        say(f"note        {listed(names)}: {remark}")
    processes = f"{t.world.size} processes, " if t.world.size > 1 else ""
    threads = counted(t.summary.data["threads"], "thread")
    say(f"device      {processes}{t.summary.data['device']}, {threads}, seed {t.seed}")
    shifted = getattr(t.optimizer, "shifted", [])
    if t.progress.step:
        say(f"resumed     after {counted(t.progress.epoch, 'epoch')} and {counted(t.progress.step, 'step')}")
    elif shifted:
        were = "parameter was" if len(shifted) == 1 else "parameters were"
        say(f"shifted     {len(shifted)} initial {were} outside the set: {', '.join(shifted)}")
    for doubt in doubts.before_training(t) if not t.progress.step else ():
        say(f"warning     {doubt}")


def announce_weights(t: Training) -> None:
    """The lines about weights that were loaded, and about those that stay as they are."""
    frozen = [name for name, p in t.model.named_parameters() if not p.requires_grad]
    groups = [("frozen", frozen)] if t.settings.freeze else []
    if t.taken:
        file = run_dir.shown(t.taken.file)
        t.display.say(f"init        weights of {file}, epoch {t.taken.epoch}, SHA-256 {t.taken.sha256[:12]}…")
        groups = t.taken.groups() + groups
    for what, names in groups:
        t.display.say(f"{what:<11} {counted(len(names), 'tensor')}: {listed(names, SHOWN)}")
        if len(names) > SHOWN:
            t.display.note(f"{what:<11} all of them: {', '.join(names)}")


def model_name(t: Training) -> str:
    """The choice of ``model=`` and its class: ``cnn (LayerList)``."""
    name = type(t.model).__name__
    if not t.world.main:  # only the first process prints
        return name
    with contextlib.suppress(Refused):  # a damaged .hydra/hydra.yaml: a run does without the choice
        choice = configuration.choices(t.run).get("model")
        return f"{choice} ({name})" if choice else name
    return name


def table(held: list[Held]) -> list[str]:
    """Lines of (parameter, shape, set, radius, diameter); [] if no set holds a parameter."""
    if all(h.constraint is None for h in held):
        return []
    rows = [("parameter", "shape", "set", "radius", "diameter")]
    for h in held:
        shape = " x ".join(map(str, h.shape)) or "1"
        if h.constraint is None:
            rows.append((h.name, shape, "free", "", ""))
        else:
            radius = getattr(h.constraint, "radius", None)
            size = "" if radius is None else f"{radius:.4g}"
            rows.append((h.name, shape, named(h.constraint), size, f"{h.constraint.diameter(h.shape):.4g}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [f"{'' if i else 'sets':<11} {line}".rstrip() for i, line in enumerate(lines)]


def named(constraint: ConstraintSet) -> str:
    """The set with its scalars except the size."""
    plain = constraint.plain()
    scalars = [f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in plain.items() if k not in HIDDEN]
    return " ".join([plain["set"], *scalars])


HIDDEN = ("set", "radius", "method")  # in columns of their own, or not shown


def closing_facts(path: Path, data: dict[str, Any]) -> dict[str, str]:
    """The rows of the table at the end."""
    best, test = data["best"], data["test"]
    return {
        "status": data["status"] + (f" ({data['stopped']})" if data.get("stopped") else ""),
        "best": best_epoch(best) if best else "-",
        "test": "  ".join(f"{k} {number(v)}" for k, v in test.items()) if test else "-",
        "parameters": f"{data['parameters']:,}",
        "seconds": f"{data['seconds']:.1f}",
        "path": run_dir.shown(path),
    }


def best_epoch(best: dict[str, Any]) -> str:
    """The best epoch with its metric, or the reason why it is the best."""
    if "note" in best:
        return f"epoch {best['epoch']} ({best['note']})"
    return f"{best['metric']} {number(best['value'])} in epoch {best['epoch']}"
