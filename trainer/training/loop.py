"""The loop: batch - loss - backward - step - schedule, then once an epoch: evaluate - log - save.

The host waits for the device once per epoch and at the pulse of the display, not in each step.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from models.weights import training_mode
from trainer.cli.lines import untrained_line
from trainer.rundir.errors import Diverged, Interrupted
from trainer.training import by_part, coefficients, doubts
from trainer.training.anomaly import NotFinite
from trainer.training.best import decide
from trainer.training.compiled import compile_alone
from trainer.training.device import wait_for
from trainer.training.evaluation import added, measure, predict_split, to_numbers
from trainer.training.loggers import Predicted, Row
from trainer.training.objectives import TABLED
from trainer.training.profile import profiled
from trainer.training.saving import keep_epoch, load_best, record, save_best, save_last
from trainer.training.second_point import TwoPointSteps
from trainer.training.state import Measuring, Stepper, Training
from trainer.training.step import PlainSteps

HEARTBEAT_S = 5.0
GLANCE_S = 0.1  # for shorter epochs summary.json is not written each time


def fit(t: Training) -> None:
    """Trains the run to its end, then evaluates the best checkpoint on the test split.

    Raises:
        Diverged: a loss or a weight is NaN or infinite; the last good checkpoint is kept.
        Interrupted: a signal or the time limit asked to stop; a checkpoint is written.
    """
    if t.settings.max_minutes is not None:
        t.stop.deadline = t.started + 60 * t.settings.max_minutes
    if t.compiles_alone is not None:
        compile_alone(t, t.compiles_alone)
    if t.settings.eval_untrained and t.progress.untrained is None and not t.progress.step:
        measure_untrained(t)
    with profiled(t) as profiler:
        while not t.over:
            finish_epoch(t, *train_and_measure(t, profiler))
    how: dict[str, Any] = {"status": "finished", "stopped": t.stopped, "test": measure_test(t)}
    how["seconds"] = round(t.seconds, 3)
    end_loggers(t, t.check, **how)
    record(t, **how)  # last: a run killed before repeats all of this


def train_and_measure(t: Training, profiler: torch.profiler.profile | None) -> tuple[Row, list[Row]]:
    """What is left of one epoch, and what it came to; see :func:`measure_epoch`.

    Raises:
        Diverged, Interrupted: as of :func:`fit`.
    """
    try:
        with t.watch.looking() if t.watch else contextlib.nullcontext():
            train_epoch(t, profiler)
        return measure_epoch(t)
    except Interrupted:
        with contextlib.suppress(Diverged):  # then the last good checkpoint stays, for a resume
            save_within_epoch(t)
        raise
    except NotFinite as error:
        raise Diverged(t.progress.epoch + 1, str(error)) from error


def measure_untrained(t: Training) -> None:
    """Evaluates the model before its first step and prints the result; training is not changed.

    Raises:
        Interrupted: something asked to stop; the next start repeats it.
    """
    found = {f"{s}/{k}": v for s in ("train", "val") if s in t.dataset.splits for k, v in measure_split(t, s).items()}
    t.progress.untrained = found | coefficients.values(t.model, t.dataset.facts)
    t.display.say(untrained_line(t.progress.untrained, t.objective.metrics))
    record(t)


def train_epoch(t: Training, profiler: torch.profiler.profile | None) -> None:
    """Trains the rest of one epoch: a step for every few batches; sums of metrics stay on the device."""
    p, s, schedule, stop = t.progress, t.settings, t.schedule, t.stop
    every = s.checkpoint_steps or 0
    parts = t.epoch_parts()
    if p.position == 0:
        note_rates(t)
    training_mode(t.model)
    t.display.start_epoch(p.epoch, p.step, p.position)
    started, before = time.perf_counter(), p.epoch_s

    stepper = stepper_of(t)
    batches = stepper.inputs(parts, p.position * t.per_step)
    last = math.inf if s.max_steps is None else s.max_steps
    while p.step < last and (together := list(itertools.islice(batches, t.per_step))):
        p.sums = stepper.step(together, p.sums)
        if schedule is not None:
            note_rates(t)
            schedule.step()

        p.step += 1
        p.position += 1
        now = time.perf_counter()
        if profiler is not None:
            profiler.step()
        if now >= t.pulse_at:
            p.epoch_s = before + now - started
            show_pulse(t)
        if every and p.step % every == 0:
            p.epoch_s = before + now - started
            save_within_epoch(t)
        reason = t.world.agreed(stop.asked(now))
        if reason is not None:
            p.epoch_s = before + now - started
            stop.obey(reason)
    wait_for(t.device)
    p.epoch_s = before + time.perf_counter() - started


def note_rates(t: Training) -> None:
    """Notes the learning rates of the next step."""
    t.progress.lr = t.optimizer.param_groups[0]["lr"]
    t.progress.rates = by_part.rates(t.optimizer)


def stepper_of(t: Training) -> Stepper:
    """The stepper of an epoch: a recording, or plain steps with one or two gradients."""
    if t.recorded is not None:
        return t.recorded
    return TwoPointSteps(t) if hasattr(t.optimizer, "second_point") else PlainSteps(t)


def measure_epoch(t: Training) -> tuple[Row, list[Row]]:
    """The row of numbers of the epoch just trained, and rows of the optimizer's own for each parameter.

    Only here the host waits for the metrics.
    """
    p = t.progress
    row: dict[str, Any] = {"epoch": p.epoch + 1, "step": p.step}
    sums = functools.reduce(added, t.world.gathered(to_numbers(p.sums)))
    row |= {f"train/{k}": v for k, v in t.objective.finish(sums).items()}
    if t.evaluates(p.epoch + 1):
        row |= {f"val/{k}": v for k, v in measure_split(t, "val").items()}
        if t.ema is not None:
            row |= {f"ema/{k}": v for k, v in measure_split(t, "val", t.ema.module).items()}
    check_finite(t, *(v for k, v in row.items() if k.endswith("/loss")))
    row["optim/lr"] = float(p.lr)
    row |= {f"optim/{name}": float(rate) for name, rate in p.rates.items()}
    groups: list[dict[str, Any]] = []
    if isinstance(t.optimizer, Measuring):
        totals, groups = t.optimizer.pop_group_measurements()
        row |= {f"optim/{k}": v.item() for k, v in totals.items()}
    row |= coefficients.values(t.model, t.dataset.facts)
    row |= {"time/epoch_s": p.epoch_s, "time/samples_per_s": sums["samples"] / p.epoch_s}
    return row, [{"epoch": p.epoch + 1, "step": p.step} | to_numbers(group) for group in groups]


def finish_epoch(t: Training, row: dict[str, Any], groups: list[dict[str, Any]]) -> None:
    """Logs the epoch, then saves it; a resume drops a row without its checkpoint."""
    p = t.progress
    p.epoch, p.position, p.sums, p.epoch_s, p.final = p.epoch + 1, 0, {}, 0.0, row
    for logger in t.loggers:
        logger.log(row, groups)
    improved = decide(t, row)
    if p.best is not None and p.best["epoch"] == p.epoch:
        save_best(t)
    keep_epoch(t)
    save_last(t)
    record(t, write=time.perf_counter() - t.heartbeat_at > GLANCE_S)
    t.display.end_epoch(row, improved)
    if doubt := doubts.after_epoch(t):
        t.display.say(f"warning     {doubt}")


def measure_split(t: Training, split: str, model: nn.Module | None = None) -> dict[str, float]:
    """The objective's metrics over a split, of the run's model or another one, over all processes.

    Raises:
        Interrupted: something asked to stop.
    """
    how: dict[str, Any] = {"seed": t.seed, "cast": t.cast, "check": t.check, "gathered": t.world.gathered}
    return measure(model or t.model, t.objective, t.dataset, split, **how)


def measure_test(t: Training) -> dict[str, float] | None:
    """Metrics of the best checkpoint on the test split; None without a test split or a best checkpoint."""
    best = t.progress.best
    if "test" not in t.dataset.splits or best is None:
        return None
    t.world.barrier()  # until the file is written
    t.model.load_state_dict(load_best(t, best)["model"])
    return measure_split(t, "test")


def end_loggers(t: Training, check: Callable[[], None] = lambda: None, **changes: Any) -> None:
    """Ends the loggers with the final summary; `check` may interrupt a prediction that a logger asks for."""

    @functools.cache
    def predicted() -> Predicted | None:
        split = next((s for s in ("test", "val") if s in t.dataset.splits), None)
        best = t.progress.best
        if split is None or best is None or t.objective.says not in TABLED:
            return None
        t.dataset.share = (0, 1)  # only the main process is left
        t.model.load_state_dict(load_best(t, best)["model"])
        found = predict_split(t.model, t.objective, t.dataset, split, seed=t.seed, cast=t.cast, check=check)
        return Predicted(split, t.objective, *found)

    t.display.stop()  # a logger may show its own bars
    for logger in t.loggers:
        logger.end(t.summary.data | changes, predicted)


def check_finite(t: Training, *losses: float) -> None:
    """Raises Diverged if the loss, a weight or optimizer state is NaN or infinite."""
    kept = [value for state in t.optimizer.state.values() if isinstance(state, dict) for value in state.values()]
    numbers = [n for n in kept if isinstance(n, Tensor) and n.is_floating_point()]
    numbers = [n for n in (*(p.detach() for p in t.model.parameters()), *numbers) if n.numel()]
    largest = nn.utils.get_total_norm(numbers, norm_type=math.inf)
    bad = not all(map(math.isfinite, [*losses, largest.item()]))
    if t.world.agreed(int(bad)):  # in any process
        raise Diverged(t.progress.epoch + 1)


def show_pulse(t: Training) -> None:
    """Checks the loss and shows progress, a few times per second, or per minute without a terminal."""
    p = t.progress
    live = t.objective.finish(to_numbers(p.sums))
    # Several processes agree at the epoch's end. The mean of samples without weight is NaN.
    if t.world.size == 1 and p.sums["weight"] and not math.isfinite(live["loss"]):
        raise Diverged(p.epoch + 1)
    t.display.pulse(p.step, p.position, live, float(p.sums["samples"]) * t.world.size / p.epoch_s)
    if time.perf_counter() - t.heartbeat_at > HEARTBEAT_S:
        record(t)
    t.pulse_at = time.perf_counter() + t.display.interval


def save_within_epoch(t: Training) -> None:
    """Saves within an epoch; a diverged run keeps its last checkpoint.

    Raises:
        Diverged: the loss or a weight is NaN or infinite.
    """
    sums = t.progress.sums
    check_finite(t, *([float(sums["loss"])] if sums else []))
    save_last(t)
