"""Oracle, step and schedule against hand-computed numbers, brute force, SciPy and theory."""

import copy
import io
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.optimize import linprog, lsq_linear

from optim import CGD, LInf, adam, constant, cosine, sgd
from optim.sets import ConstraintSet, shift_all_inside


def vertices(n, r):
    return torch.tensor(list(itertools.product([-r, r], repeat=n)), dtype=torch.float64)


def parameter(values, grad=None, dtype=torch.float64):
    x = torch.nn.Parameter(torch.tensor(values, dtype=dtype))
    x.grad = None if grad is None else torch.tensor(grad, dtype=dtype)
    return x


# The set


@pytest.mark.parametrize("r", [0.5, 1.0, 30.0])
def test_oracle_against_linear_programming_and_all_vertices(r):
    rng = np.random.default_rng(0)
    for _ in range(20):
        g, x = rng.standard_normal((2, 6))
        x = np.clip(x, -r, r)
        box = LInf(r)
        v = box.lmo(torch.tensor(g))
        assert box.contains(v)
        value = linprog(g, bounds=(-r, r), method="highs").fun
        assert float(v @ torch.tensor(g)) == pytest.approx(value, rel=1e-12)
        corners = vertices(6, r)
        assert float(v @ torch.tensor(g)) <= (corners @ torch.tensor(g)).min() + 1e-12
        gap = box.gap(torch.tensor(g), torch.tensor(x))
        assert gap.item() == pytest.approx(((torch.tensor(x) - corners) @ torch.tensor(g)).max().item(), rel=1e-12)
        general = ConstraintSet.gap(box, torch.tensor(g), torch.tensor(x))
        assert gap.item() == pytest.approx(general.item(), rel=1e-12)
        assert gap >= 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e30])
def test_oracle_is_feasible_at_ties_and_extremes(dtype, scale):
    g = torch.tensor([[1.0, -1.0, 0.0], [0.0, 2.0, -3.0]], dtype=dtype) * scale
    v = LInf(2.0).lmo(g)
    assert v.dtype == dtype
    assert v.shape == g.shape
    assert torch.isfinite(v).all()
    assert LInf(2.0).contains(v)
    assert torch.equal(v, LInf(2.0).lmo(g))


def test_projection_against_a_quadratic_program():
    x = np.random.default_rng(0).standard_normal(8) * 2
    nearest = lsq_linear(np.eye(8), x, bounds=(-0.7, 0.7), tol=1e-14).x
    np.testing.assert_allclose(LInf(0.7).project(torch.tensor(x)), nearest, atol=1e-8)


def test_diameter_is_the_largest_distance():
    corners = vertices(5, 0.3)
    assert LInf(0.3).diameter((5,)) == pytest.approx(torch.cdist(corners, corners).max().item())
    assert LInf(0.3).diameter((1, 5)) == LInf(0.3).diameter((5,))


def test_contains_with_tolerance():
    assert LInf(1.0).contains(torch.tensor([1.0, -1.0]))
    assert not LInf(1.0).contains(torch.tensor([1.0001, 0.0]))
    assert LInf(1.0).contains(torch.tensor([1.0001, 0.0]), tolerance=1e-3)
    assert not LInf(1.0).contains(torch.tensor([math.nan, 0.0]))


def test_oracle_under_vmap():
    g = torch.randn(4, 3, 2)
    box = LInf(0.5)
    torch.testing.assert_close(torch.func.vmap(box.lmo)(g), torch.stack([box.lmo(one) for one in g]))


def test_shift_all_inside_touches_only_what_is_outside():
    xs = [parameter([0.5, 0.1]), parameter([3.0, 0.1]), parameter([[-2.0]])]
    assert shift_all_inside(xs, LInf(1.0)) == [1, 2]
    assert [x.tolist() for x in xs] == [[0.5, 0.1], [1.0, 0.1], [[-1.0]]]


@pytest.mark.parametrize("radius", [0, -1, math.nan, math.inf])
def test_bad_radius(radius):
    with pytest.raises(ValueError, match=f"radius={radius}: must be a number > 0"):
        LInf(radius)


# The conditional gradient step


def test_one_step_by_hand():
    x = parameter([0.5, -0.25, 0.0], grad=[2.0, -3.0, 0.0])
    optimizer = CGD([x], LInf(1.0), lr=0.1)
    optimizer.step()
    # v = (-1, 1, 0); x + 0.1 (v - x) = (0.5 - 0.15, -0.25 + 0.125, 0)
    torch.testing.assert_close(x.data, torch.tensor([0.35, -0.125, 0.0], dtype=torch.float64))
    # <g, x - v> = 2 * 1.5 + (-3) * (-1.25) + 0
    assert optimizer.pop_measurements()["fw_gap"].item() == pytest.approx(6.75)


def test_two_steps_with_momentum_by_hand():
    """m starts at the first gradient: m = (1), then 0.9 * 1 + 0.1 * (-5) = 0.4 > 0, so v stays at -2."""
    x = parameter([1.0], grad=[1.0])
    optimizer = CGD([x], LInf(2.0), lr=0.5, momentum=0.9)
    optimizer.step()
    assert x.item() == pytest.approx(-0.5)  # 1 + 0.5 (-2 - 1)
    x.grad = torch.tensor([-5.0], dtype=torch.float64)
    optimizer.step()
    assert x.item() == pytest.approx(-1.25)  # -0.5 + 0.5 (-2 + 0.5)
    assert optimizer.state[x]["momentum_buffer"].item() == pytest.approx(0.4)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_equal_to_the_formulas_step_for_step(momentum, decay):
    rng = np.random.default_rng(0)
    xs = [rng.uniform(-0.3, 0.3, shape) for shape in ((4, 3), (3,), ())]
    params = [torch.nn.Parameter(torch.tensor(x)) for x in xs]
    optimizer = CGD(params, LInf(0.3), lr=0.05, momentum=momentum, weight_decay=decay, gap_every=1)
    ms, gaps = [None] * 3, []
    for _ in range(50):
        gs = [rng.standard_normal(x.shape) for x in xs]
        for p, g in zip(params, gs, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        gap = 0.0
        for i, g in enumerate(gs):
            g = g + decay * xs[i]
            gap += np.sum(g * (xs[i] + 0.3 * np.sign(g)))
            ms[i] = g if ms[i] is None else momentum * ms[i] + (1 - momentum) * g
            xs[i] = xs[i] + 0.05 * (-0.3 * np.sign(ms[i]) - xs[i])
        gaps.append(gap)
        for p, x in zip(params, xs, strict=True):
            np.testing.assert_allclose(p.detach(), x, rtol=0, atol=1e-12)
    assert optimizer.pop_measurements()["fw_gap"].item() == pytest.approx(np.mean(gaps), rel=1e-12)
    assert math.isnan(optimizer.pop_measurements()["fw_gap"].item())  # nothing measured since


def test_gap_every_spaces_the_measurements():
    x = parameter([0.0])
    optimizer = CGD([x], LInf(1.0), lr=0.0, gap_every=3)
    for t in range(7):
        x.grad = torch.tensor([float(t)], dtype=torch.float64)
        optimizer.step()
    assert optimizer.pop_measurements()["fw_gap"].item() == pytest.approx((0 + 3 + 6) / 3)  # at x = 0 the gap is |g|
    x.grad = torch.tensor([7.0], dtype=torch.float64)
    optimizer.step()  # the first after a pop is measured: an epoch of few steps has a gap, too
    assert optimizer.pop_measurements()["fw_gap"].item() == 7
    assert CGD([x], LInf(1.0), lr=0.1).gap_every == 1
    assert CGD([x], LInf(1.0), lr=0.1, momentum=0.5).gap_every == 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ten_thousand_steps_stay_inside(dtype):
    torch.manual_seed(0)
    x = torch.nn.Parameter(torch.empty(100, dtype=dtype).uniform_(-1, 1))
    optimizer = CGD([x], LInf(0.1), lr=0.03, momentum=0.5, gap_every=0)
    assert optimizer.shifted == [0]
    for _ in range(10_000):
        x.grad = torch.randn(100, dtype=dtype) + 1  # drifts to a face and stays at it
        optimizer.step()
    assert LInf(0.1).contains(x, tolerance=2 * torch.finfo(dtype).eps)


def test_converges_at_the_rate_of_the_theorem():
    """Jaggi 2013, Theorem 1: with step 2/(t+2), f(x_t) - f* <= 2 L D^2 / (t+2); f* is known in closed form."""
    b = torch.linspace(-2, 2, 20, dtype=torch.float64)
    x = parameter([0.9] * 20)
    best = ((b.clamp(-1, 1) - b) ** 2).sum() / 2  # L = 1
    diameter = LInf(1.0).diameter((20,))
    optimizer = CGD([x], LInf(1.0), lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 2 / (t + 2))
    for t in range(1, 2001):
        x.grad = x.detach() - b
        optimizer.step()
        schedule.step()
        error = ((x.detach() - b) ** 2).sum() / 2 - best
        assert -1e-12 <= error <= 2 * diameter**2 / (t + 2)
    assert error < 1e-2


def test_a_parameter_without_a_gradient_is_left_alone():
    a, b = parameter([0.5]), parameter([0.5], grad=[1.0])
    CGD([a, b], LInf(1.0), lr=0.5, momentum=0.9).step()
    assert (a.item(), b.item()) == (0.5, -0.25)


def test_a_group_added_later_is_constrained_too():
    a, b = parameter([0.5], grad=[1.0]), parameter([7.0], grad=[-1.0])
    optimizer = CGD([a], LInf(2.0), lr=0.5)
    optimizer.add_param_group({"params": [b], "lr": 1.0})
    assert optimizer.shifted == [1]
    assert b.item() == 2.0
    optimizer.step()
    assert (a.item(), b.item()) == (-0.75, 2.0)


def test_state_dict_round_trip_through_a_safe_file():
    def make():
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 3)
        return model, CGD(model.named_parameters(), LInf(0.5), lr=0.1, momentum=0.9, gap_every=2)

    def advance(model, optimizer, steps, seed):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=generator)
            optimizer.step()

    model, optimizer = make()
    advance(model, optimizer, 5, 1)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    advance(model, optimizer, 5, 2)

    file.seek(0)
    state = torch.load(file, weights_only=True)
    other, again = make()
    other.load_state_dict(state["model"])
    again.load_state_dict(state["optimizer"])
    advance(other, again, 5, 2)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))
    assert optimizer.pop_measurements() == again.pop_measurements()


def test_two_optimizers_do_not_share_a_loaded_state():
    x, y = parameter([0.1], grad=[1.0]), parameter([0.1], grad=[1.0])
    a, b = CGD([x], LInf(1.0), lr=0.1), CGD([y], LInf(1.0), lr=0.1)
    a.step()
    b.load_state_dict(a.state_dict())
    expected = a.pop_measurements()
    a.step()
    assert b.pop_measurements() == expected


def test_a_closure_gives_gradient_and_loss():
    x = parameter([0.5])
    optimizer = CGD([x], LInf(1.0), lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = (x**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 0.25
    assert x.item() == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 1.5}, r"lr=1.5: must be in \[0, 1\]"),
        ({"lr": -0.1}, r"lr=-0.1: must be in \[0, 1\]"),
        ({"lr": math.nan}, "lr=nan: must be in"),
        ({"lr": 0.1, "momentum": 1.0}, r"momentum=1.0: must be in \[0, 1\)"),
        ({"lr": 0.1, "weight_decay": -1}, "weight_decay=-1: must be at least 0"),
        ({"lr": 0.1, "gap_every": -1}, "gap_every=-1: must be at least 0"),
    ],
)
def test_bad_values(options, message):
    with pytest.raises(ValueError, match=message):
        CGD([parameter([0.0])], LInf(1.0), **options)


# Projected optimizers


@pytest.mark.parametrize("make", [sgd, adam])
def test_projection_follows_torchs_own_step(make):
    torch.manual_seed(0)
    x = torch.nn.Parameter(torch.randn(6, dtype=torch.float64))
    y = torch.nn.Parameter(x.detach().clamp(-0.2, 0.2))
    ours = make([x], LInf(0.2), lr=0.1, weight_decay=0.01)
    theirs = {sgd: torch.optim.SGD, adam: torch.optim.Adam}[make]([y], lr=0.1, weight_decay=0.01)
    assert ours.shifted == [0]
    for _ in range(20):
        x.grad = torch.randn(6, dtype=torch.float64)
        y.grad = x.grad.clone()
        ours.step()
        theirs.step()
        with torch.no_grad():
            y.clamp_(-0.2, 0.2)
        torch.testing.assert_close(x, y, rtol=0, atol=1e-14)  # fused and looped kernels round differently


def test_no_constraint_is_torchs_own_optimizer():
    optimizer = sgd([parameter([9.0])], None, lr=0.1, momentum=0.9, nesterov=True)
    assert type(optimizer) is torch.optim.SGD


@pytest.mark.parametrize("make", [sgd, adam, CGD])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_copies_and_later_groups_stay_inside(make, copied):
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 4)
    model, optimizer = copied((model, make(model.parameters(), LInf(0.05), lr=0.5)))
    extra = torch.nn.Linear(3, 3)
    optimizer.add_param_group({"params": extra.parameters()})
    assert optimizer.shifted == [0, 1, 2, 3]
    for _ in range(20):
        optimizer.zero_grad()
        (model(torch.randn(7, 5)).square().sum() - extra(torch.randn(7, 3)).sum()).backward()
        optimizer.step()
        assert all(LInf(0.05).contains(p, tolerance=1e-6) for m in (model, extra) for p in m.parameters())
    assert any((p.abs() > 0.02).any() for p in model.parameters())  # it moves, and without the set would move further


@pytest.mark.parametrize("make", [sgd, adam, CGD])
def test_a_set_is_a_set(make):
    with pytest.raises(ValueError, match=r"constraint=1\.0: \w+ needs a constraint set"):
        make([parameter([0.0])], 1.0, lr=0.1)


@pytest.mark.parametrize("options", [{"lr": 2}, {"momentum": 5}, {"weight_decay": -1}])
def test_ranges_hold_for_each_group(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}={next(iter(options.values()))}: must be"):
        CGD([{"params": [parameter([0.0])], **options}], LInf(1.0), lr=0.1)


# Schedules


def lrs(schedule, optimizer, steps):
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_cosine_by_hand():
    optimizer = sgd([parameter([0.0], grad=[0.0])], lr=2.0)
    schedule = cosine(optimizer, epochs=2, steps_per_epoch=2, floor=0.5)
    # 2 * (0.5 + 0.5 * (1 + cos(pi t / 4)) / 2)
    half = 1 / math.sqrt(2)
    assert lrs(schedule, optimizer, 5) == pytest.approx([2, 1.5 + half / 2, 1.5, 1.5 - half / 2, 1.0])


def test_cosine_warms_up_linearly():
    optimizer = sgd([parameter([0.0], grad=[0.0])], lr=1.0)
    schedule = cosine(optimizer, epochs=3, steps_per_epoch=3, warmup_epochs=1)
    assert lrs(schedule, optimizer, 4) == pytest.approx([0.25, 0.5, 0.75, 1.0])


def test_constant_has_nothing_to_step():
    assert constant(sgd([parameter([0.0])], lr=1.0), epochs=1, steps_per_epoch=1) is None


def test_an_optimizer_reads_what_a_schedule_writes():
    x = parameter([0.0], grad=[-1.0])
    optimizer = CGD([x], LInf(1.0), lr=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.step()
    schedule.step()
    assert x.item() == 0.5
    optimizer.step()
    assert x.item() == pytest.approx(0.625)  # 0.5 + 0.25 (1 - 0.5)
