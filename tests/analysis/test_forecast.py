"""Series in time: the steps that splits predict, and free running, against motions with an exact recurrence."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import COMMON
from torch import nn

from data.series import Oscillator, Sine
from trainer.analysis.forecast import forecast, free_running_picture, series_picture
from trainer.analysis.load import Run
from trainer.analysis.pictures import png
from trainer.training import checkpoint
from trainer.training.objectives import MeanSquaredError

# x'' = -x: x(t) = cos t, and so x_{i+1} = 2 cos(dt) x_i - x_{i-1}
FREE = {"eta": 0.0, "force": 0.0, "omega": 1.0, "x0": 1.0, "v0": 0.0, "dt": 1.0, "steps": 300, "window": 3}
EXACT = 2 * math.cos(1.0)
SINE = {"steps": 100, "train_steps": 70, "window": 4, "generator_seed": 0}


class Recurrence(nn.Module):
    """The next value of cos t from normalized values at t, t - 1, ...; normalized."""

    def __init__(self, facts, factor=EXACT):
        super().__init__()
        self.facts, self.factor = facts, factor

    def forward(self, x):
        before, last = (x * self.facts.std + self.facts.mean).flatten(1)[:, -2:].unbind(1)
        return ((self.factor * last - before - self.facts.target_mean) / self.facts.target_std)[:, None]


def run_of(source, factor=EXACT, precision="float64"):
    dataset = source.load()
    run = Run(
        Path("run"), {"seed": 0}, dataset.facts, Recurrence(dataset.facts, factor), MeanSquaredError(dataset.facts),
        torch.device("cpu"), precision, 1,
    )  # fmt: skip
    run.dataset = dataset.to(torch.device("cpu"), run.dtype)
    return run


@pytest.mark.parametrize("normalize", ["none", "standard", "pixel"])
@pytest.mark.parametrize("layout", ["steps", "features"])
def test_free_running_by_an_exact_recurrence_is_the_motion(layout, normalize):
    source = Oscillator(layout=layout, pad_end=False, **FREE, **COMMON | {"normalize": normalize})
    made = forecast(run_of(source), "test")
    at = made.stretches["test"]
    assert (at.start, len(at.truth), made.padded) == (300 - len(made.free), 59, 0)
    np.testing.assert_allclose(at.truth, np.cos(at.steps), atol=1e-6)
    assert made.free[-1] != made.stretches["test"].predicted[-1]  # which starts from the truth
    np.testing.assert_allclose(made.free, np.cos(at.steps), atol=2e-5)  # 32 bits of the first window, 59 times
    assert made.horizon == 59
    assert made.numbers()["free_running"]["rmse"] < 1e-5
    stays = np.cos(at.steps) - np.cos(at.steps - 1)
    assert made.numbers()["persistence"]["rmse"] == pytest.approx(np.sqrt((stays**2).mean()), rel=1e-5)


def test_the_horizon_ends_at_the_first_error_beyond_a_tenth_of_the_deviation():
    source = Oscillator(layout="steps", pad_end=False, **FREE, **COMMON)
    made = forecast(run_of(source, 2 * math.cos(1.01), "float32"), "test")
    at = made.stretches["test"]
    said = list(np.cos(at.steps[0] - np.array([2.0, 1.0])))
    for _ in at.steps:
        said.append(2 * math.cos(1.01) * said[-1] - said[-2])
    np.testing.assert_allclose(made.free, said[2:], atol=1e-4)
    limit, expected = np.cos(at.steps).std() / 10, 0
    while abs(said[2 + expected] - math.cos(at.steps[expected])) <= limit:
        expected += 1
    assert 0 < expected < 58
    assert made.horizon == expected


def test_a_free_run_without_bounds_is_measured_and_drawn():
    source = Oscillator(layout="steps", pad_end=False, **FREE, **COMMON)
    made = forecast(run_of(source, 1e9, "float32"), "val")
    assert not np.isfinite(made.free).all()
    assert made.horizon == 0
    assert not math.isfinite(made.numbers()["free_running"]["rmse"])
    assert png(free_running_picture, "title", made)[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"layout": "steps"}, {"train": (4, 63), "val": (63, 70), "test": (74, 100)}),
        ({"layout": "features"}, {"train": (4, 67), "val": (67, 70), "test": (74, 100)}),
        ({"layout": "features", "val_size": 2}, {"train": (4, 70), "val": (70, 70), "test": (74, 100)}),
        ({"layout": "features", "limit": 5}, {"train": (4, 9), "val": (67, 70), "test": (74, 79)}),
    ],
)
def test_each_split_knows_its_steps(settings, steps):
    settings = {"pad_end": None} | SINE | COMMON | settings
    dataset = Sine(**settings).load()
    assert dataset.facts.steps == steps
    noise = np.random.default_rng(0).random(100)
    series = (np.sin(0.02 * np.arange(100)) + 2 * noise).astype(np.float32)
    for split, (start, end) in steps.items():
        x, y = (part.flatten(1).numpy() for part in dataset.splits[split])
        np.testing.assert_array_equal(y[: end - start, 0], series[start:end])
        for i, step in enumerate(range(start, end)):
            np.testing.assert_array_equal(x[i], series[step - 4 : step])


def test_padded_windows_are_left_out():
    run = run_of(Sine(layout="features", pad_end=True, **SINE, **COMMON | {"val_size": 2}))
    made = forecast(run, "test")
    assert list(made.stretches) == ["train", "test"]  # validation is nothing but padding
    assert (len(made.free), made.padded, made.stretches["test"].start) == (26, 4, 74)
    assert forecast(run, "val") is None
    assert png(series_picture, "title", made)[:4] == b"\x89PNG"


def test_checkpoints_from_before_series_had_steps():
    now = Sine(layout="steps", pad_end=None, **SINE, **COMMON).load().facts.plain()
    assert checkpoint.changed_fact(now | {"steps": None}, now) is None
    assert checkpoint.changed_fact(now | {"steps": {}}, now).startswith("steps was {}")
