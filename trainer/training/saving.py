"""Saving and restoring a run: ``last.pt``, ``best.pt``, ``epoch_N.pt``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from data import Facts
from trainer.cli.signatures import check_call
from trainer.rundir.configuration import difference
from trainer.rundir.errors import Refused
from trainer.training import checkpoint
from trainer.training.loggers import check_row
from trainer.training.state import Progress, Training


def load_best(t: Training, best: dict[str, Any], *, may_be_ahead: bool = False) -> dict[str, Any]:
    """The best checkpoint of the run.

    Args:
        best: ``progress.best`` of the run.
        may_be_ahead: whether the file may be of a later epoch than `last.pt`, as after a kill.

    Raises:
        Refused: it is missing, damaged, or not this run's best.
    """
    path = t.run / "checkpoints" / "best.pt"
    state = checkpoint.load(path, "best", t.device)
    with checkpoint.fitting(path):
        ahead = may_be_ahead and state["best"]["epoch"] > best["epoch"]
        same = all(state["best"][key] == best[key] for key in ("metric", "epoch"))  # the value may be NaN
        ours = t.weights(averaged=t.monitor.startswith("ema/"))
        shapes = [{k: v.shape for k, v in one.items()} for one in (ours.state_dict(), state["model"])]
        if shapes[0] != shapes[1]:
            raise ValueError("its weights have other names or shapes")
    if difference(t.config, state["config"]) or not (ahead or same):
        raise Refused(f"{path}: not the best checkpoint of this run, which is of epoch {best['epoch']}")
    return state


def save(t: Training, name: str, kind: str, state: dict[str, Any]) -> None:
    """Writes a checkpoint in the main process."""
    if t.world.main:
        # The folder is flushed once, with last.pt: renames in one folder reach the disk in order.
        checkpoint.save(t.run / "checkpoints" / f"{name}.pt", kind, state, settle=name == "last")


def save_last(t: Training) -> None:
    """Writes last.pt."""
    save(t, "last", "last", t.state())


def save_best(t: Training) -> None:
    """Writes best.pt: the weights of the best number, averaged or not."""
    save(t, "best", "best", portable(t, averaged=t.monitor.startswith("ema/")) | {"best": t.progress.best})


def keep_epoch(t: Training) -> None:
    """Writes epoch_N.pt for `train.keep`, and removes older ones."""
    keep, epoch = t.settings.keep, t.progress.epoch
    if keep == 0 or not t.world.main:
        return
    save(t, f"epoch_{epoch}", "epoch", portable(t, averaged=False) | {"epoch": epoch})
    if keep != "all":
        (t.run / "checkpoints" / f"epoch_{epoch - keep}.pt").unlink(missing_ok=True)


def portable(t: Training, *, averaged: bool) -> dict[str, Any]:
    """The model, the facts of its dataset and its configuration."""
    weights = t.weights(averaged=averaged).state_dict()
    facts, objective = t.dataset.facts.plain(), t.objective.state()
    return {"config": t.config, "facts": facts, "model": weights, "objective": objective}


def restore(t: Training) -> bool:
    """Restores the run from its last checkpoint; returns False without one.

    Raises:
        Refused: the checkpoint is damaged, belongs to another run, or is beyond `train.epochs`.
    """
    folder = t.run / "checkpoints"
    if not (folder / "last.pt").exists():
        return False
    try:
        state = checkpoint.load(folder / "last.pt", "last", t.device)
    except Refused as error:
        raise Refused(f"{error}; {describe_best(folder / 'best.pt')}") from error
    other = difference(t.config, state["config"])
    if other:
        raise Refused(f"{folder / 'last.pt'}: a checkpoint of another run ({other})")
    with checkpoint.fitting(folder / "last.pt"):
        facts = Facts(**state["facts"])
        changed = checkpoint.changed_fact(facts.plain(), t.dataset.facts.plain())
        if changed and t.source:
            changed = t.source.unlike(facts) or changed
    if changed:
        raise Refused(f"{t.dataset.facts.name}: the data changed since the run began ({changed})")
    for note in checkpoint.notes(state):
        t.display.say(f"note        {note}")
    try:
        with checkpoint.fitting(folder / "last.pt"):
            check_call("progress", state["progress"], Progress, ())
            t.load_state(state)
    except Refused as error:
        raise Refused(f"{error}; {describe_best(folder / 'best.pt')}") from error
    if t.progress.final is not None:
        check_row(t.run, t.columns(), t.progress.final)
    if not t.summary.data.get("status"):
        t.display.say("note        summary.json is gone; it is made again from last.pt")
    if t.progress.best is not None:
        try:
            load_best(t, t.progress.best, may_be_ahead=True)
        except Refused as error:
            raise Refused(f"{error}; put it back, or delete last.pt to start the run again from step 0") from error
    begun = t.progress.epoch + (t.progress.position > 0)
    if begun > t.settings.epochs:
        raise Refused(f"train.epochs={t.settings.epochs}: the run is in epoch {begun} already; give at least as many")
    return True


def describe_best(path: Path) -> str:
    """What to do without last.pt, for its error."""
    try:
        best = checkpoint.load(path, "best", "cpu")["best"]
    except Refused:
        return "there is no whole best.pt either; delete both to start the run again"
    return f"best.pt is whole (epoch {best['epoch']}); delete last.pt to start the run again from step 0"


def record(t: Training, *, write: bool = True, **changes: Any) -> None:
    """Updates the summary and its file."""
    p = t.progress
    now = {"epochs": p.epoch, "steps": p.step, "best": p.best, "final": p.final, "seconds": round(t.seconds, 3)}
    if p.untrained is not None:
        now["untrained"] = p.untrained
    t.summary.update(write=write, **now | changes)
    if write:
        t.heartbeat_at = time.perf_counter()
