"""Schedules against torch's own, with warm-up, in steps and in epochs."""

import io
import math
from functools import partial

import pytest
import torch
from torch.optim import lr_scheduler

from optim import CGD, LInf, schedules
from optim.projected import sgd
from optim.schedules import Plateau, agnostic, constant, cosine, exponential, linear, one_cycle

one_cycle_lr = partial(lr_scheduler.OneCycleLR, cycle_momentum=False)


def parameter(values, grad=None, dtype=torch.float64):
    x = torch.nn.Parameter(torch.tensor(values, dtype=dtype))
    x.grad = None if grad is None else torch.tensor(grad, dtype=dtype)
    return x


def rates(make, steps, lr=2.0, **options):
    """What a schedule makes of the rate, for so many steps."""
    optimizer = sgd([parameter([0.0], grad=[0.0])], lr=lr)
    schedule, seen = make(optimizer, **options), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


SHAPES = {
    "cosine": (partial(cosine, floor=0.2), lambda o, U: lr_scheduler.CosineAnnealingLR(o, U, eta_min=0.4)),
    "linear": (partial(linear, floor=0.2), lambda o, U: lr_scheduler.LinearLR(o, 1.0, 0.2, U)),
    "step": (partial(schedules.step, every=3, gamma=0.3), lambda o, U: lr_scheduler.StepLR(o, 3, 0.3)),
    "exponential": (partial(exponential, gamma=0.8), lambda o, U: lr_scheduler.ExponentialLR(o, 0.8)),
    "agnostic": (agnostic, lambda o, U: lr_scheduler.LambdaLR(o, lambda u: 2 / (u + 2))),
    "one_cycle": (one_cycle, lambda o, U: one_cycle_lr(o, max_lr=2.0, total_steps=U)),
    "one_cycle steep": (
        partial(one_cycle, rise=0.55, start_divisor=4, final_divisor=10),
        lambda o, U: one_cycle_lr(o, max_lr=2.0, total_steps=U, pct_start=0.55, div_factor=4, final_div_factor=10),
    ),
}


@pytest.mark.parametrize("warmup", [{}, {"warmup_epochs": 2}, {"warmup_steps": 10}, {"warmup_steps": 3}])
@pytest.mark.parametrize("by", ["step", "epoch"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_schedule_is_torchs_own_after_a_linear_warm_up(shape, by, warmup):
    """Step t < W of the warm-up has (t + 1) / (W + 1) of the first rate; then a unit is a step, or an epoch of 5."""
    ours, theirs = SHAPES[shape]
    W = warmup.get("warmup_steps", 5 * warmup.get("warmup_epochs", 0))
    unit = 5 if by == "epoch" else 1
    units = math.ceil((40 - W) / unit)
    reference = rates(lambda o: theirs(o, units), units)
    wanted = [reference[0] * (t + 1) / (W + 1) if t < W else reference[(t - W) // unit] for t in range(40)]
    seen = rates(ours, 40, epochs=8, steps_per_epoch=5, by=by, **warmup)
    assert seen == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_constant_is_a_warm_up_or_nothing():
    assert constant(sgd([parameter([0.0])], lr=1.0), epochs=1, steps_per_epoch=1) is None
    assert rates(constant, 6, epochs=3, steps_per_epoch=3, warmup_epochs=1) == pytest.approx([0.5, 1, 1.5, 2, 2, 2])


VALUES = {
    "falls and stays": [3, 2, 1, 1, 1, 1, 1, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9],
    "within the threshold": [10 - 0.04 * t for t in range(14)],
    "diverges": [1, 2, math.nan, math.inf, 5, 0.5, math.nan, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4],
    "starts at infinity": [math.inf] + [1 / t for t in range(1, 14)],
    "starts at nan": [math.nan] + [1 / t for t in range(1, 14)],
}


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_plateau_is_torchs_own(values, maximize):
    x, y = parameter([0.0], grad=[0.0]), parameter([0.0], grad=[0.0])
    options = {"factor": 0.5, "patience": 2, "threshold": 0.01}
    ours, theirs = sgd([x], lr=2.0), sgd([y], lr=2.0)
    schedule = Plateau(ours, epochs=14, steps_per_epoch=2, floor=0.2, **options)
    reference = lr_scheduler.ReduceLROnPlateau(theirs, mode="max" if maximize else "min", min_lr=0.4, **options)
    for value in values:
        value = 1 / value if maximize else value
        for _ in range(2):
            ours.step()
            schedule.step()
        schedule.observe(value, maximize)
        reference.step(value)
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)


def test_plateau_scales_the_warm_up_too():
    optimizer = sgd([parameter([0.0], grad=[0.0])], lr=1.0)
    schedule, seen = Plateau(optimizer, epochs=4, steps_per_epoch=1, factor=0.5, patience=0, warmup_steps=3), []
    for _ in range(4):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        schedule.observe(1.0, maximize=False)  # the first is the best, and each other one too much
    assert seen == pytest.approx([0.25, 0.5, 0.375, 0.25])


@pytest.mark.parametrize("make", [cosine, one_cycle, partial(Plateau, patience=1, factor=0.5)])
def test_a_saved_schedule_goes_on(make):
    def start():
        optimizer = CGD([parameter([0.0], grad=[1.0])], LInf(1.0), lr=0.8)
        return optimizer, make(optimizer, epochs=10, steps_per_epoch=2, warmup_steps=3)

    def go_on(optimizer, schedule, epochs):
        for t in range(2 * epochs):
            optimizer.step()
            schedule.step()
            if t % 2 and isinstance(schedule, Plateau):
                schedule.observe(1.0, maximize=False)
        return optimizer.param_groups[0]["lr"]

    (optimizer, schedule), (again, resumed) = start(), start()
    go_on(optimizer, schedule, 4)
    file = io.BytesIO()
    torch.save((optimizer.state_dict(), schedule.state_dict()), file)
    file.seek(0)
    for each, state in zip((again, resumed), torch.load(file, weights_only=True), strict=True):
        each.load_state_dict(state)
    for _ in range(3):
        assert go_on(optimizer, schedule, 1) == go_on(again, resumed, 1)


def test_a_state_of_a_shorter_run_takes_the_longer_runs_rate():
    optimizers = [sgd([parameter([0.0], grad=[0.0])], lr=1.0) for _ in range(2)]
    short, long = (linear(o, epochs=epochs, steps_per_epoch=1) for o, epochs in zip(optimizers, (4, 8), strict=True))
    for _ in range(2):
        optimizers[0].step()
        short.step()
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    long.load_state_dict(short.state_dict())
    schedules.refresh_rates(long)
    assert optimizers[1].param_groups[0]["lr"] == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        *((make, {"warmup_epochs": 4}, r"warmup_epochs=4: must be in \[0, 4\)") for make in (cosine, Plateau)),
        (linear, {"warmup_steps": 12}, r"warmup_steps=12: must be in \[0, 12\)"),
        (constant, {"warmup_steps": -1}, "warmup_steps=-1: must be"),
        (cosine, {"warmup_steps": 1, "warmup_epochs": 2}, "warmup_steps=1: give it or warmup_epochs=2, not both"),
        (schedules.step, {"by": "batch"}, "by=batch: must be step or epoch"),
        (cosine, {"floor": 1.5}, r"floor=1.5: must be in \[0, 1\]"),
        (linear, {"floor": -1}, r"floor=-1: must be in \[0, 1\]"),
        (schedules.step, {"every": 0}, "every=0: must be at least 1"),
        (schedules.step, {"gamma": 2}, r"gamma=2: must be in \[0, 1\]"),
        (exponential, {"gamma": math.nan}, r"gamma=nan: must be in \[0, 1\]"),
        (one_cycle, {"rise": 1.1}, r"rise=1.1: must be in \[0, 1\]"),
        (one_cycle, {"start_divisor": 0.5}, "start_divisor=0.5: must be at least 1"),
        (one_cycle, {"final_divisor": 0}, "final_divisor=0: must be at least 1"),
        (Plateau, {"factor": 1}, "factor=1: must be between 0 and 1"),
        (Plateau, {"factor": 0}, "factor=0: must be between 0 and 1"),
        (Plateau, {"patience": -1}, "patience=-1: must be at least 0"),
        (Plateau, {"threshold": -1}, "threshold=-1: must be at least 0"),
    ],
)
def test_bad_schedules(make, options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make(sgd([parameter([0.0])], lr=1.0), epochs=4, steps_per_epoch=3, **options)
