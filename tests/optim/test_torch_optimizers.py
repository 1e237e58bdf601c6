"""Torch's optimizers and their like, with and without projection; what every optimizer owes torch."""

import copy
import io
import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import lr_scheduler

from optim import (
    CGD,
    L2,
    ORGFW,
    SFW,
    SVRF,
    AdaGradSFW,
    LInf,
    Scion,
    adagrad,
    adam,
    adamw,
    lion,
    muon,
    rmsprop,
    sets,
    sgd,
)

# Steps: a reference for one parameter is a generator of x, sent x (as it was projected) and g, as NumPy arrays


def torchs(kind, x, **options):
    y = torch.nn.Parameter(torch.tensor(x))
    optimizer = kind([y], **options)
    while True:
        x, g = yield y.detach().numpy().copy()
        y.data, y.grad = torch.tensor(x), torch.tensor(g)
        optimizer.step()


def numpy_lion(x, lr, betas, weight_decay):
    m = 0
    while True:
        x, g = yield x
        c = betas[0] * m + (1 - betas[0]) * g
        x = x - lr * (np.sign(c) + weight_decay * x)
        m = betas[1] * m + (1 - betas[1]) * g


def numpy_adagrad(x, lr, momentum, eps, weight_decay):
    s = b = 0
    while True:
        x, g = yield x
        g = g + weight_decay * x
        s = s + g**2
        b = momentum * b + g / (np.sqrt(s) + eps)
        x = x - lr * b


def torchs_muon(x, lr, momentum, weight_decay, nesterov=True, match_rms_adamw=False, adamw_lr=1e-3):
    """Muon on matrices and on flattened copies of convolutions, AdamW on vectors."""
    if x.ndim < 2:
        yield from torchs(torch.optim.AdamW, x, lr=adamw_lr, weight_decay=weight_decay)
    options = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov}
    options["adjust_lr_fn"] = "match_rms_adamw" if match_rms_adamw else "original"
    run, shape = torchs(torch.optim.Muon, x.reshape(len(x), -1), **options), x.shape
    new = next(run)
    while True:
        x, g = yield new.reshape(shape)
        new = run.send((x.reshape(len(x), -1), g.reshape(len(g), -1)))


METHODS = [
    (sgd, partial(torchs, torch.optim.SGD), {"lr": 0.1}),
    (sgd, partial(torchs, torch.optim.SGD), {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    (adam, partial(torchs, torch.optim.Adam), {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3}),
    (adamw, partial(torchs, torch.optim.AdamW), {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3}),
    (rmsprop, partial(torchs, torch.optim.RMSprop), {"lr": 0.1, "alpha": 0.9, "eps": 1e-3}),
    (rmsprop, partial(torchs, torch.optim.RMSprop), {"lr": 0.1, "momentum": 0.9, "centered": True}),
    (adagrad, partial(torchs, torch.optim.Adagrad), {"lr": 0.1, "eps": 1e-3}),
    (adagrad, numpy_adagrad, {"lr": 0.1, "momentum": 0.9, "eps": 1e-3}),
    (lion, numpy_lion, {"lr": 0.1, "betas": (0.9, 0.99)}),
    (muon, torchs_muon, {"lr": 0.1, "momentum": 0.9}),
    (muon, torchs_muon, {"lr": 0.1, "momentum": 0.8, "nesterov": False, "match_rms_adamw": True, "adamw_lr": 0.05}),
]
PROJECTIONS = {
    "whole space": (None, lambda x: x),
    "linf": (LInf(0.2), lambda x: np.clip(x, -0.2, 0.2)),
    "l2": (L2(0.3), lambda x: x / max(np.linalg.norm(x.ravel()) / 0.3, 1)),
}


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("held", PROJECTIONS)
@pytest.mark.parametrize("method", METHODS, ids=lambda m: " ".join([m[0].__name__, *m[2]]))
def test_step_for_step_equal_to_the_reference(method, held, decay):
    make, reference, options = method
    C, project = PROJECTIONS[held]
    rng = np.random.default_rng(0)
    starts = [rng.standard_normal(shape) for shape in ((4, 3), (3,), (2, 3, 2, 2), ())]
    params = [torch.nn.Parameter(torch.tensor(x)) for x in starts]
    optimizer = make([(str(i), p) for i, p in enumerate(params)], C, weight_decay=decay, **options)
    if C is None and make not in (lion, muon) and reference is not numpy_adagrad:
        assert isinstance(optimizer, reference.args[0])  # torch's own
    if C is not None:
        assert sorted(optimizer.shifted) == [str(i) for i, x in enumerate(starts) if (project(x) != x).any()]
    runs = [reference(project(x), **options, weight_decay=decay) for x in starts]
    xs = [next(run) for run in runs]
    for _ in range(30):
        gs = [rng.standard_normal(x.shape) for x in starts]
        for p, g in zip(params, gs, strict=True):
            p.grad = torch.tensor(g)
        optimizer.step()
        xs = [project(run.send((x, g))) for run, x, g in zip(runs, xs, gs, strict=True)]
        for p, x in zip(params, xs, strict=True):
            np.testing.assert_allclose(p.detach(), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("weights", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("gradients", [torch.contiguous_format, torch.channels_last])
def test_muon_takes_the_same_step_in_every_memory_order(weights, gradients):
    torch.manual_seed(0)
    x, g = torch.randn(2, 4, 3, 2, 2)
    ours, theirs = torch.nn.Parameter(x.clone(memory_format=weights)), torch.nn.Parameter(x.flatten(1))
    ours.grad, theirs.grad = g.clone(memory_format=gradients), g.flatten(1)
    muon([ours], lr=0.1).step()
    torch.optim.Muon([theirs], lr=0.1, weight_decay=0.0).step()
    torch.testing.assert_close(ours.flatten(1), theirs, rtol=0, atol=2e-3)  # its products are rounded to bfloat16


# What every optimizer owes torch

measured = {"lr": 0.1, "gap_every": 1}
CONDITIONAL = {
    "cgd": partial(CGD, **measured),
    "cgd momentum": partial(CGD, momentum=0.9, **measured),
    "sfw": partial(SFW, momentum=0.9, rescale="gradient", **measured),
    "adagrad_sfw": partial(AdaGradSFW, **measured),
    "svrf": partial(SVRF, **measured),
    "orgfw": partial(ORGFW, **measured),
    "scion": partial(Scion, **measured),
    "scion unconstrained": partial(Scion, constrained=False, **measured),
}
PROJECTED = {
    "sgd": partial(sgd, lr=0.1, momentum=0.9),
    "adam": partial(adam, lr=0.1),
    "adamw": partial(adamw, lr=0.1),
    "rmsprop": partial(rmsprop, lr=0.1),
    "adagrad": partial(adagrad, lr=0.1),
    "adagrad momentum": partial(adagrad, lr=0.1, momentum=0.9),
    "lion": partial(lion, lr=0.1),
    "muon": partial(muon, lr=0.1),
}
EVERY = CONDITIONAL | PROJECTED
every_optimizer = pytest.mark.parametrize("make", EVERY.values(), ids=EVERY)


def parameter(values, grad=None, dtype=torch.float64):
    x = torch.nn.Parameter(torch.tensor(values, dtype=dtype))
    x.grad = None if grad is None else torch.tensor(grad, dtype=dtype)
    return x


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))


def held(optimizer):
    return [x for group in optimizer.param_groups for x in group["params"]]


def advance(optimizer, steps, seed=0):
    """Steps along the gradients of random quadratics, with whatever a method needs."""
    generator = torch.Generator().manual_seed(seed)
    for t in range(steps):
        shifts = [torch.randn(x.shape, generator=generator, dtype=x.dtype) for x in held(optimizer)]
        closure = lambda points, b=shifts: [p.detach() + n for p, n in zip(points, b, strict=True)]  # noqa: E731
        if isinstance(optimizer, SVRF) and (t == 3 or "since" not in optimizer.state):
            optimizer.snapshot(closure)
        for x, g in zip(held(optimizer), closure(held(optimizer)), strict=True):
            x.grad = g
        optimizer.step(*([closure] if isinstance(optimizer, SVRF | ORGFW) else []))


def assert_equal(net, other):
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)


CONSTRAINTS = {"held": LInf(0.1), "partly free": L2(init_factor=0.5, apply_to="weights"), "unconstrained": None}
SAVED = [
    pytest.param(make, C, id=f"{name} {kind}")
    for name, make in EVERY.items()
    for kind, C in CONSTRAINTS.items()
    if C is not None or name in PROJECTED
]


@pytest.mark.parametrize(("make", "C"), SAVED)
def test_a_saved_state_goes_on_bit_for_bit(make, C):
    net, other = network(), network()
    optimizer, again = make(net.named_parameters(), C), make(other.named_parameters(), C)
    advance(optimizer, 5, seed=1)
    file = io.BytesIO()
    torch.save({"model": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    advance(optimizer, 6, seed=2)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    other.load_state_dict(state["model"])
    again.load_state_dict(state["optimizer"])
    advance(again, 6, seed=2)
    assert_equal(net, other)
    if hasattr(optimizer, "pop_measurements"):
        totals = [each.pop_measurements() for each in (optimizer, again)]
        assert str(totals[0]) == str(totals[1])
    advance(again, 3, seed=3)  # nor do the two share anything
    advance(optimizer, 3, seed=3)
    assert_equal(net, other)


@every_optimizer
def test_a_state_of_another_set_or_size_is_refused(make):
    ours = make(network().parameters(), LInf(0.5))
    for other, shown in ((L2(0.5), "L2 radius=0.5"), (LInf(0.25), "LInf radius=0.25")):
        state = make(network().parameters(), other).state_dict()
        with pytest.raises(ValueError, match=f"constraint=LInf radius=0.5: the state's group 0 is of {shown}"):
            ours.load_state_dict(state)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@every_optimizer
def test_copies_go_on_alike_and_take_later_groups(make, copied):
    net = network()
    optimizer = make(net.named_parameters(), LInf(0.05, apply_to="weights"))
    leaves = not optimizer.stays(optimizer.param_groups[0])  # its set gives directions and lengths of steps only
    assert optimizer.shifted == ([] if leaves else ["0.weight", "1.weight"])
    advance(optimizer, 3)
    other, again = copied((net, optimizer))
    if isinstance(optimizer, torch.optim.Adagrad) and torch.__version__ < "2.15":
        pytest.skip("torch's own takes no later groups: it makes their state at the start only")
    for each in (optimizer, again):
        torch.manual_seed(1)
        each.add_param_group({"params": torch.nn.Linear(3, 3).named_parameters("extra")})
        assert each.shifted == ([] if leaves else ["0.weight", "1.weight", "extra.weight"])
        advance(each, 10)
    assert_equal(net, other)
    for x, y in zip(held(optimizer), held(again), strict=True):
        assert torch.equal(x, y)
        assert leaves or y.ndim < 2 or LInf(0.05).contains(y, tolerance=1e-6)


@every_optimizer
def test_groups_hold_plain_data_and_say_their_sets(make):
    optimizer = make(network().named_parameters(), sets.Spectral(0.5, apply_to="*.weight"))
    advance(optimizer, 2)
    found = {name: group["constraint"] for group in optimizer.param_groups for name in group["param_names"]}
    spectral = {"set": "Spectral", "radius": 0.5, "method": "auto"}
    assert found == {"0.weight": spectral, "0.bias": None, "1.weight": spectral, "1.bias": None}

    def plain(value):
        if isinstance(value, dict | list | tuple):
            return all(map(plain, value.values() if isinstance(value, dict) else value))
        return value is None or isinstance(value, Tensor | str | int | float | bool)

    assert plain(optimizer.param_groups)
    assert plain(optimizer.state_dict())


@every_optimizer
def test_a_parameter_without_a_gradient_does_not_shift_the_others_sets(make):
    a, b, c = parameter([[0.9, 0.5]]), parameter([5.0]), parameter([[0.2, 0.3]])
    own = (L2(0.4), None, LInf(0.3))
    optimizer = make([{"params": [x], "constraint": C} for x, C in zip((a, b, c), own, strict=True)], LInf(9.0))
    plain = [{"set": "L2", "radius": 0.4}, None, {"set": "LInf", "radius": 0.3}]
    assert [group["constraint"] for group in optimizer.param_groups] == plain
    gradients = a.grad, _, c.grad = [torch.zeros_like(a), None, torch.full_like(c, -1.0)]
    for _ in range(30):
        if isinstance(optimizer, SVRF):
            optimizer.snapshot(lambda _: gradients)
        optimizer.step(*([lambda _: gradients] if isinstance(optimizer, SVRF | ORGFW) else []))
    assert b.item() == 5
    assert c[0, 0] > 0.25  # from 0.2, up to the edge of its own set
    if optimizer.stays(optimizer.param_groups[0]):
        assert L2(0.4).contains(a, tolerance=1e-12)
        assert LInf(0.3).contains(c, tolerance=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("make", CONDITIONAL.values(), ids=CONDITIONAL)
def test_free_parameters_take_torchs_sgd_steps(make, momentum):
    w, b, other = parameter([[0.1, 0.2]]), parameter([5.0, -7.0]), parameter([5.0, -7.0])
    free = {"free_lr": 0.3, "free_momentum": momentum, "weight_decay": 0.01}
    optimizer = make([w, b], LInf(0.5, apply_to="weights"), **free)
    reference = torch.optim.SGD([other], lr=0.3, momentum=momentum, weight_decay=0.01)
    for seed in range(30):
        advance(optimizer, 1, seed)
        other.grad = b.grad
        reference.step()
        assert torch.equal(b, other)


SINGLE = {name: make for name, make in EVERY.items() if name not in ("svrf", "orgfw")}


@pytest.mark.parametrize("make", SINGLE.values(), ids=SINGLE)
def test_a_closure_gives_gradient_and_loss(make):
    x, y = parameter([[0.5, 0.3]]), parameter([[0.5, 0.3]], grad=[[1.0, 0.6]])
    optimizer, other = make([x], LInf(1.0)), make([y], LInf(1.0))

    def closure():
        optimizer.zero_grad()
        loss = (x**2).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == pytest.approx(0.34)
    other.step()
    assert torch.equal(x, y)


@pytest.mark.parametrize("make", SINGLE.values(), ids=SINGLE)
def test_a_hook_runs_once_after_the_whole_step(make):
    if make in PROJECTED.values():
        make([parameter([[0.0]])])  # torch wraps the step of every class that it makes an optimizer of
    x, seen = parameter([[0.5, 0.3]], grad=[[-9.0, 3.0]]), []
    optimizer = make([x], LInf(0.4))
    optimizer.register_step_post_hook(lambda *_: seen.append(x.detach().clone()))
    optimizer.step()
    assert len(seen) == 1
    assert torch.equal(seen[0], x)


one_cycle_lr = partial(lr_scheduler.OneCycleLR, cycle_momentum=False)
SCHEDULERS = {
    "step": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "one cycle": lambda o: one_cycle_lr(o, max_lr=0.7, total_steps=12),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=1),
}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("make", [CGD, partial(SFW, rescale="none"), partial(Scion, momentum=0), ORGFW])
def test_torchs_schedulers_drive_the_rate(make, scheduler):
    """Over the hypercube of radius 1, at x = 0 with gradient -1, a step goes to gamma."""
    x, y = parameter([0.0]), parameter([0.0], grad=[0.0])
    ours, theirs = make([x], LInf(1.0), lr=0.4), torch.optim.SGD([y], lr=0.4)
    schedules = [SCHEDULERS[scheduler](o) for o in (ours, theirs)]
    rates = []
    for _ in range(10):
        x.data, x.grad = torch.zeros_like(x), -torch.ones_like(x)
        ours.step(*([lambda points: [-torch.ones_like(x)]] if make is ORGFW else []))
        theirs.step()
        assert x.item() == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-12)
        rates.append(x.item())
        for schedule in schedules:
            schedule.step(*([1.0] if scheduler == "plateau" else []))
    assert len(set(rates)) >= 4


@pytest.mark.parametrize("name", ["cgd momentum", "sfw", "scion", "sgd", "adam", "adagrad", "lion", "muon"])
def test_a_gradient_scaler_unscales_and_skips(name):
    net, other, scaler = network(), network(), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    ours, theirs = (EVERY[name](each.parameters(), L2(1.0)) for each in (net, other))
    for t, x in enumerate(torch.randn(8, 4)):
        before = copy.deepcopy(net)
        ours.zero_grad()
        scaler.scale(net(x).square().sum() * (math.inf if t == 3 else 1)).backward()
        scaler.step(ours)
        scaler.update()
        if t == 3:
            assert_equal(net, before)
            continue
        theirs.zero_grad()
        other(x).square().sum().backward()
        theirs.step()
    assert_equal(net, other)
    assert scaler.get_scale() == 2**9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", [CGD, partial(SFW, rescale="gradient"), Scion, AdaGradSFW, SVRF, ORGFW])
def test_a_rate_may_be_a_tensor(make, dtype):
    rate = torch.tensor(0.25, dtype=dtype)
    xs = [torch.nn.Parameter(torch.full((2, 3), 0.1)) for _ in range(2)]
    optimizers = [make([x], LInf(0.5), lr=lr) for x, lr in zip(xs, (rate, 0.25), strict=True)]
    for t in range(10):
        for optimizer in optimizers:
            advance(optimizer, 1, t)
        if t == 4:
            rate.fill_(0.5)
            optimizers[1].param_groups[0]["lr"] = 0.5
    torch.testing.assert_close(*xs, rtol=0, atol=1e-6)


# Bad values


@pytest.mark.parametrize("make", PROJECTED.values(), ids=PROJECTED)
def test_projection_needs_a_set_that_has_one(make):
    for C in (sets.Lp(1.0), sets.KSupport(1.0, k=1), sets.Birkhoff(), sets.SpectralKSupport(1.0, k=1)):
        with pytest.raises(ValueError, match=f"^constraint={type(C).__name__}: no projection onto this set is known"):
            make([parameter([[3.0, 0.0], [0.0, 3.0]])], C)
    with pytest.raises(ValueError, match=r"^constraint=1\.0: \w+ needs a constraint set"):
        make([parameter([0.0])], 1.0)
    with pytest.raises(ValueError, match=r"^apply_to=\*.weight: needs named parameters"):
        make([parameter([0.0])], LInf(1.0, apply_to="*.weight"))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        *((make, {"lr": -0.1}, "lr=-0.1: must be at least 0") for make in (sgd, adam, adamw, rmsprop, lion, muon)),
        *((make, {"weight_decay": -1}, "weight_decay=-1: must be at least 0") for make in (sgd, adam, adagrad, muon)),
        *((make, {"momentum": 1}, r"momentum=1: must be in \[0, 1\)") for make in (sgd, rmsprop, adagrad, muon)),
        *((make, {"betas": [0.9, 1]}, r"betas=\[0.9, 1\]: must be two numbers") for make in (adam, adamw, lion, muon)),
        *((make, {"eps": -1}, "eps=-1: must be at least 0") for make in (adam, adamw, rmsprop, adagrad, muon)),
        (sgd, {"lr": math.nan}, "lr=nan: must be at least 0"),
        (sgd, {"nesterov": True}, "nesterov=true: needs momentum > 0"),
        (rmsprop, {"alpha": 1}, r"alpha=1: must be in \[0, 1\)"),
        (muon, {"adamw_lr": -1}, "adamw_lr=-1: must be at least 0"),
    ],
)
def test_bad_values(make, options, message):
    for C in (None, LInf(1.0)):
        with pytest.raises(ValueError, match=f"^{message}"):
            make([parameter([[0.0]])], C, **({"lr": 0.1} | options))
