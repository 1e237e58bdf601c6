"""Forecasts of a series: one step ahead, and free running, with the model's own predictions as inputs.

``python -m trainer evaluate RUN_DIR`` measures and draws them for runs on ``data=sine`` and ``data=oscillator``. Values
are in the series' units; windows that only repeat its last value (``data.pad_end``) are left out.

Shapes: T values in a window, n values that a split predicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from trainer.analysis.load import Run
from trainer.plot.look import CATEGORIES, decimal
from trainer.training.evaluation import predict_split

TOLERANCE = 0.1  # share of the truth's deviation: a larger error ends the horizon
CLOSE_UP = 400  # steps
LOOKS = {
    name: {"label": name, "color": colour, "linewidth": 1.1}
    for name, colour in (("one step ahead", CATEGORIES[1]), ("free running", CATEGORIES[0]))
}
DASHES = (0, (4, 3))


@dataclass
class Stretch:
    """The steps of one split, from `start` on.

    ``given`` (T,) are the values before them, ``truth`` (n,) the values, and ``predicted`` (n,) their predictions from
    the true values before.
    """

    start: int
    given: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray

    @property
    def steps(self) -> np.ndarray:
        """The numbers of the steps (n,)."""
        return np.arange(self.start, self.start + len(self.truth))


@dataclass
class Forecast:
    """Every split of a series, in the order of time; `free` (n,) is of `split`, only from the values before it."""

    split: str
    stretches: dict[str, Stretch]
    free: np.ndarray
    padded: int  # windows of the split that are left out

    @property
    def tolerance(self) -> float:
        """The error that ends the horizon."""
        return TOLERANCE * float(self.stretches[self.split].truth.std())

    @property
    def horizon(self) -> int:
        """Steps of the free run before its error first exceeds the tolerance; n if it never does."""
        beyond = ~(np.abs(self.free - self.stretches[self.split].truth) <= self.tolerance)  # NaN exceeds it
        return int(beyond.argmax()) if beyond.any() else len(beyond)

    def numbers(self) -> dict[str, Any]:
        """The numbers of the report; persistence predicts that a value stays the same."""
        at = self.stretches[self.split]
        stays = np.append(at.given[-1], at.truth[:-1])
        return {
            "first_step": at.start,
            "steps": len(at.truth),
            "padded": self.padded,
            "one_step": {"rmse": rmse(at.predicted, at.truth)},
            "persistence": {"rmse": rmse(stays, at.truth)},
            "free_running": {
                "rmse": rmse(self.free, at.truth),
                "horizon": self.horizon,
                "tolerance": self.tolerance,
            },
        }

    def line(self) -> str:
        """The numbers in one line."""
        found = self.numbers()
        one, free, stays = (found[name]["rmse"] for name in ("one_step", "free_running", "persistence"))
        return (
            f"free running  rmse {free:.4g} over {found['steps']:,} steps, {self.horizon:,} of them within "
            f"{TOLERANCE:.0%} of the deviation; one step ahead {one:.4g}, persistence {stays:.4g}"
        )


def rmse(said: np.ndarray, truth: np.ndarray) -> float:
    """Root of the mean squared error."""
    with np.errstate(over="ignore"):  # in a free run that grows without bounds
        return float(np.sqrt(np.square(said.astype(np.float64) - truth).mean()))


def forecast(run: Run, split: str) -> Forecast | None:
    """The run's model on all splits, and free running on `split`; None if the data are no windows of a series.

    Raises:
        Refused: the data cannot be read.
    """
    steps = run.dataset.facts.steps
    if steps is None or steps[split][0] == steps[split][1]:
        return None
    stretches = {}
    for name, (start, end) in steps.items():
        if start < end:
            how = {"seed": run.config["seed"], "cast": run.cast}
            said, truth = predict_split(run.model, run.objective, run.dataset, name, **how)
            given = run.dataset.splits[name][0][0].flatten().cpu().numpy()
            stretches[name] = Stretch(start, given, truth[: end - start, 0], said[: end - start, 0])
    n = len(stretches[split].truth)
    return Forecast(split, stretches, free_run(run, split, n), run.facts.sizes[split] - n)


@torch.inference_mode()
def free_run(run: Run, split: str, n: int) -> np.ndarray:
    """`n` values (n,): the first follows the first window of `split`, the others follow earlier predictions."""
    x, y, *_ = (part[:1] for part in run.dataset.splits[split])
    window, said = x.to(run.dtype), []  # (1, T, 1) or (1, 1, T), in the series' units
    for _ in range(n):
        with run.cast():
            value = run.objective.predict(run.model, run.dataset.transform((window, y))[0])
        said.append(value)
        window = torch.cat([window.flatten()[1:], value.flatten().to(window.dtype)]).view_as(window)
    return torch.cat(said)[:, 0].cpu().numpy()


def series_picture(title: str, made: Forecast) -> Figure:
    """The whole series in time with the predictions one step ahead; below, the evaluated split enlarged."""
    figure = Figure(figsize=(11, 6.7), layout="constrained")
    whole, near = figure.subplots(2, 1)
    evaluated = made.stretches[made.split]
    for axis in (whole, near):
        for at in made.stretches.values():
            draw_truth(axis, at, 1.5 if axis is whole else 2.5)
            axis.plot(at.steps, at.predicted, **LOOKS["one step ahead"])
        axis.set(xlabel="step", ylabel="value")
    for name, at in made.stretches.items():
        whole.axvline(at.start, color="0.4", linewidth=0.8, linestyle=DASHES)
        middle = (at.start + at.steps[-1]) / 2
        whole.annotate(name, (middle, 1), (0, 4), ("data", "axes fraction"), "offset points", ha="center")
    whole.axvspan(evaluated.start, evaluated.steps[-1], color=CATEGORIES[1], alpha=0.1, linewidth=0, zorder=0)
    begins = min(at.start - len(at.given) for at in made.stretches.values())
    whole.set_xlim(begins, max(at.steps[-1] for at in made.stretches.values()))
    n = len(evaluated.truth)
    shown = n if n <= 1.5 * CLOSE_UP else CLOSE_UP
    near.set_xlim(evaluated.start - len(evaluated.given), evaluated.start + shown - 1)
    near.set_title(made.split if shown == n else f"{made.split}, the first {shown} steps", fontsize="medium")
    handles = [whole.lines[0], whole.lines[1]]
    figure.legend(handles=handles, loc="outside lower right", ncols=2, fontsize=9, frameon=False)
    figure.suptitle(title)
    return figure


def free_running_picture(title: str, made: Forecast) -> Figure:
    """The evaluated split with predictions one step ahead and free running; below, the errors."""
    figure = Figure(figsize=(11, 6.7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    at = made.stretches[made.split]
    draw_truth(above, at, 2.5)
    low, high = min(at.given.min(), at.truth.min()), max(at.given.max(), at.truth.max())
    least, most = np.finfo(np.float32).eps * (np.abs(at.truth).max() or 1), 100 * ((high - low) or 1)
    for label, said in (("one step ahead", at.predicted), ("free running", made.free)):
        above.plot(at.steps, said, **LOOKS[label])
        error = np.nan_to_num(np.abs(said.astype(np.float64) - at.truth), nan=most)
        below.plot(at.steps, np.clip(error, least, most), **LOOKS[label])
    margin = 0.5 * ((high - low) or 1)  # a free run that grows without bounds may leave the picture
    bottom, top = above.get_ylim()
    above.set_ylim(max(bottom, low - margin), min(top, high + margin))
    below.axhline(
        made.tolerance, color="0.4", linewidth=0.8, linestyle=DASHES, label=f"{TOLERANCE:.0%} of the deviation"
    )
    if made.horizon < len(at.steps):
        for axis in (above, below):
            axis.axvline(at.steps[made.horizon], color=CATEGORIES[0], linewidth=0.8, linestyle=DASHES)
    above.set(ylabel="value", xlim=(at.start - len(at.given), max(at.steps[-1], at.start + 1)))
    below.set(ylabel="absolute error", xlabel="step", yscale="log")
    decimal(below.yaxis)
    handles = [*above.lines[:3], below.lines[2]]
    figure.legend(handles=handles, loc="outside lower right", ncols=4, fontsize=9, frameon=False)
    free = f"free running: rmse {rmse(made.free, at.truth):.4g}, horizon {made.horizon:,} of {len(at.steps):,} steps"
    figure.suptitle(f"{title}\n{free}; one step ahead: rmse {rmse(at.predicted, at.truth):.4g}")
    return figure


def draw_truth(axis: Axes, at: Stretch, width: float) -> None:
    """Draws the truth of a split and the values before it, below all other lines."""
    steps = np.arange(at.start - len(at.given), at.steps[-1] + 1)
    axis.plot(steps, np.append(at.given, at.truth), label="truth", color="0.7", linewidth=width, zorder=1)
