"""Generated series: windows of past values -> the next value.

Run: ``python -m trainer data=sine data.window=8``, ``data=oscillator``

Shapes: N windows, T = `window` steps.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data.dataset import Facts
from data.source import Arrays, Raw, Source, check_count
from data.statistics import Moments


@dataclass(kw_only=True)
class Series(Source):
    """Settings of a series cut into windows; training is first in time, then validation, then test.

    Args:
        steps: length of the series.
        window: past values in an input.
        layout: ``steps``: an input is `window` steps of one value, (T, 1); ``features``: one step of `window` values,
            (1, T).
        pad_end: repeats the last value of each part `window` times, so that there are as many windows as values; the
            last windows predict repeated values. null: only with ``layout=features``, as in the source.
    """

    steps: int
    window: int
    layout: Literal["steps", "features"]
    pad_end: bool | None

    generated = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("window", self.window, 1, 2**15)
        check_count("steps", self.steps, 2)

    def windowed(self, name: str, values: dict[str, np.ndarray]) -> Raw:
        """The windows of each part of a series: its values (n,), float64.

        Raises:
            ValueError: a part is not longer than a window.
        """
        for part, series in values.items():
            if len(series) <= self.window:
                raise ValueError(f"window={self.window}: must be less than the {len(series)} values of the {part} part")
        return Raw(
            name=name,
            task="regression",
            parts={part: self._windows(series) for part, series in values.items()},
            num_outputs=1,
            target_names=("next value",),
            in_time=True,
        )

    def facts(self, raw: Raw, train: Arrays, moments: Moments, sizes: dict[str, int]) -> Facts:
        """The facts of `raw`, with the steps of the series that each split predicts."""
        starts, lengths, start = {}, {}, 0
        for part, (_, y) in raw.parts.items():  # in the order of time
            starts[part], lengths[part] = start, len(y) + (0 if self.pads else self.window)
            start += lengths[part]
        steps = {}
        for split, (part, index) in self.taken(raw).items():
            first, end = (min(int(i) + self.window, lengths[part]) for i in (index[0], index[-1] + 1))
            steps[split] = starts[part] + first, starts[part] + end
        return dataclasses.replace(super().facts(raw, train, moments, sizes), steps=steps)

    @property
    def pads(self) -> bool:
        """Whether the last value of each part is repeated."""
        return self.layout == "features" if self.pad_end is None else self.pad_end

    def _windows(self, series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, T, 1) or (N, 1, T) windows of `series` (n,), and the values (N, 1) that follow them."""
        if self.pads:
            series = np.append(series, np.repeat(series[-1], self.window))
        past = np.lib.stride_tricks.sliding_window_view(series, self.window)[:-1].astype(np.float32)
        x = past[:, :, None] if self.layout == "steps" else past[:, None, :]
        return x, series[self.window :, None].astype(np.float32)


@dataclass(kw_only=True)
class Sine(Series):
    """A noisy sine: sin(0.02 t) + 2 U(0, 1) for t = 0, 1, …; the first `train_steps` are for training and validation.

    Source: M. Hjorth-Jensen, lectures on machine learning, University of Oslo, 2025, week 45.

    Args:
        train_steps: length of the training part, whose end is for validation.
        generator_seed: fixes the noise.
    """

    train_steps: int
    generator_seed: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.train_steps < self.steps:
            raise ValueError(f"train_steps={self.train_steps}: must be at least 1 and less than steps={self.steps}")
        if self.generator_seed < 0:
            raise ValueError(f"generator_seed={self.generator_seed}: must be at least 0")

    def read(self) -> Raw:
        noise = np.random.default_rng(self.generator_seed).random(self.steps)
        values = np.sin(0.02 * np.arange(self.steps)) + 2 * noise
        return self.windowed("sine", {"train": values[: self.train_steps], "test": values[self.train_steps :]})


@dataclass(kw_only=True)
class Oscillator(Series):
    """Position of a damped, driven oscillator: x'' + eta x' + x = force cos(omega t), sampled every `dt`.

    Solved by SciPy's DOP853 (Hairer, Nørsett & Wanner 1993) with relative tolerance 1e-12.

    Args:
        dt: time between samples.
        eta: damping.
        force: amplitude of the driving force.
        omega: angular frequency of the driving force.
        x0: position at time 0.
        v0: velocity at time 0.
    """

    dt: float
    eta: float
    force: float
    omega: float
    x0: float
    v0: float

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("dt", "eta", "force", "omega", "x0", "v0"):
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)}: must be finite")
        if self.dt <= 0:
            raise ValueError(f"dt={self.dt}: must be greater than 0")

    def read(self) -> Raw:
        return self.windowed("oscillator", {"train": self.positions()})

    def positions(self) -> np.ndarray:
        """x at times 0, dt, 2 dt, …: (steps,) float64.

        Raises:
            ValueError: the motion grows too fast for the integrator.
        """
        from scipy.integrate import solve_ivp

        def velocity_and_acceleration(t: float, state: np.ndarray) -> tuple[float, float]:
            x, v = state
            return v, self.force * math.cos(self.omega * t) - self.eta * v - x

        times = self.dt * np.arange(self.steps)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # a motion that grows without bounds is refused below
            solution = solve_ivp(
                velocity_and_acceleration,
                (times[0], times[-1]),
                (self.x0, self.v0),
                method="DOP853",
                t_eval=times,
                rtol=1e-12,
                atol=1e-12,
            )
        x = solution.y[0] if solution.success else np.array([np.inf])
        if np.abs(x).max() > np.finfo(np.float32).max or np.isnan(x).any():
            raise ValueError(f"eta={self.eta}: the motion cannot be followed to time {times[-1]:g}")
        return x
