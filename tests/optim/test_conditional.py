"""The conditional gradient optimizers against their formulas in NumPy, their theorems, and numbers by hand."""

import copy
import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from numpy.linalg import norm
from scipy.optimize import linear_sum_assignment, minimize
from torch._dynamo.utils import counters

from optim import CGD, ORGFW, SFW, SVRF, AdaGradSFW, LInf, Scion, sets

# The oracles and the diameters of the specification's table, in NumPy; of radius R, K = 3, parameters 3 x 4

R, K, N = 0.7, 3, 12


def largest(g, k):
    """g with all but the k entries of largest magnitude at 0."""
    kept, i = np.zeros_like(g), np.argsort(-np.abs(g), axis=None)[:k]
    kept.flat[i] = g.flat[i]
    return kept


def at(g, i, value):
    v = np.zeros_like(g)
    v.flat[i] = value
    return v


def spectral(g, f):
    u, s, vt = np.linalg.svd(g, full_matrices=False)
    return -R * u @ np.diag(f(s)) @ vt


def groups(g, k):
    kept = g * (largest(norm(g, axis=1), k) > 0)[:, None]
    return -R * kept / norm(kept)


SETS = {
    "linf": (sets.LInf(R), lambda g: -R * np.sign(g), 2 * R * N**0.5),
    "l2": (sets.L2(R), lambda g: -R * g / (norm(g.ravel()) or 1), 2 * R),
    "l1": (sets.L1(R), lambda g: -R * np.sign(largest(g, 1)), 2 * R),
    "lp": (sets.Lp(R), lambda g: -R * np.sign(g) * (np.abs(g) / norm(g.ravel(), 1.5)) ** 0.5, 2 * R * N ** (1 / 6)),
    "k_sparse": (sets.KSparse(R, k=K), lambda g: -R * np.sign(largest(g, K)), 2 * R * K**0.5),
    "k_support": (sets.KSupport(R, k=K), lambda g: -R * largest(g, K) / norm(largest(g, K)), 2 * R),
    "unit_simplex": (sets.UnitSimplex(R), lambda g: at(g, g.argmin(), R * (g.min() < 0)), 2**0.5 * R),
    "simplex": (sets.ProbabilitySimplex(R), lambda g: at(g, g.argmin(), R), 2**0.5 * R),
    "box": (sets.Box(low=-0.3, high=R), lambda g: np.where(g > 0, -0.3, R), (R + 0.3) * N**0.5),
    "permutahedron": (
        sets.Permutahedron(R),
        lambda g: at(g, np.argsort(-g, axis=None), R * np.linspace(-1, 1, N)),
        2 * R * norm(np.linspace(-1, 1, N)),
    ),
    "birkhoff": (sets.Birkhoff(), lambda g: np.eye(len(g))[linear_sum_assignment(g)[1]], 6**0.5),
    "spectral": (sets.Spectral(R), lambda g: spectral(g, np.ones_like), 2 * R * 3**0.5),
    "nuclear": (sets.Nuclear(R), lambda g: spectral(g, lambda s: s >= s[0]), 2 * R),
    "rank_k": (sets.SpectralKSupport(R, k=2), lambda g: spectral(g, lambda s: largest(s, 2) / norm(s[:2])), 2 * R),
    "group_l1": (sets.GroupL1(R), lambda g: groups(g, 1), 2 * R),
    "group_k": (sets.GroupKSupport(R, k=2), lambda g: groups(g, 2), 2 * R),
}


# The methods, in NumPy: a generator gives x, and is sent gradients as functions: the batch's, and the full one or None


def cgd(x, lmo, diameter, lr, momentum=0.0, momentum_power=None, rescale="none"):
    m = None
    for t in itertools.count(1):
        grad, _ = yield x
        rho = 1 - t**-momentum_power if momentum_power else momentum
        m = grad(x) if m is None else rho * m + (1 - rho) * grad(x)
        v = lmo(m)
        a, b = norm(m.ravel()), norm((x - v).ravel())
        f = {"none": 1, "diameter": 1 / diameter, "gradient": a / (b or 1e-99), "fast_gradient": a / (diameter / 2)}
        x = x + np.clip(lr * f[rescale], 0, 1) * (v - x)


def adagrad_sfw(x, lmo, _, lr, inner_steps, delta, momentum=0.0):
    s, g = 0, None
    while True:
        grad, _ = yield x
        g, y = grad(x) if g is None else momentum * g + (1 - momentum) * grad(x), x
        s = s + g**2
        H = np.sqrt(s) + delta
        for _ in range(inner_steps):
            q = g + H * (y - x) / lr
            d = y - lmo(q)
            y = y - np.clip(lr * np.sum(q * d) / (np.sum(H * d**2) or 1), 0, 1) * d
        x = y


def svrf(x, lmo, _, lr=1.0, restarts=True):
    while True:
        grad, full = yield x
        if full:
            w, G, k = x, full(x), 0
        k += 1
        d = grad(x) - grad(w) + G
        x = x + (lr * 2 / (k + 1) if restarts else lr) * (lmo(d) - x)


def orgfw(x, lmo, _, lr, momentum=None, momentum_power=None):
    d = previous = None
    for t in itertools.count(1):
        grad, _ = yield x
        past = 1 - t**-momentum_power if momentum_power else momentum
        d = grad(x) if d is None else grad(x) + past * (d - grad(previous))
        previous, x = x, x + lr * (lmo(d) - x)


def scion(x, lmo, _, lr, momentum=None, momentum_power=None, constrained=True):
    d = 0
    for t in itertools.count(1):
        grad, _ = yield x
        rho = 1 - t**-momentum_power if momentum_power else momentum
        d = rho * d + (1 - rho) * grad(x)
        x = (1 - lr if constrained else 1) * x + lr * lmo(d)


METHODS = [
    (CGD, cgd, {"lr": 0.05}),
    (CGD, cgd, {"lr": 0.05, "momentum": 0.9}),
    (SFW, cgd, {"lr": 0.05, "momentum": 0.8, "rescale": "none"}),
    *((SFW, cgd, {"lr": 0.2, "momentum": 0.8, "rescale": f}) for f in ("diameter", "gradient", "fast_gradient")),
    *((SFW, cgd, {"lr": 1.3, "momentum": 0.8, "rescale": f}) for f in ("diameter", "gradient", "fast_gradient")),
    *((AdaGradSFW, adagrad_sfw, {"lr": 0.2, "inner_steps": K, "delta": 1e-3}) for K in (1, 2, 3)),
    (AdaGradSFW, adagrad_sfw, {"lr": 0.2, "inner_steps": 2, "delta": 1e-3, "momentum": 0.8}),
    (CGD, cgd, {"lr": 0.05, "momentum_power": 2 / 3}),
    (SFW, cgd, {"lr": 0.2, "momentum_power": 0.5, "rescale": "gradient"}),
    (ORGFW, orgfw, {"lr": 0.05, "momentum_power": 2 / 3}),
    (Scion, scion, {"lr": 0.05, "momentum_power": 1.0}),
    (SVRF, svrf, {"lr": 1.0, "restarts": True}),
    (SVRF, svrf, {"lr": 0.05, "restarts": False}),
    (ORGFW, orgfw, {"lr": 0.05, "momentum": 0.7}),
    (Scion, scion, {"lr": 0.05, "momentum": 0.8}),
    (Scion, scion, {"lr": 2, "momentum": 0.8, "constrained": False}),
]

SMALL, LARGE = ((4, 3), (3,), (2, 3, 2), ()), ((300, 500),)  # the latter are written to memory that is kept


@pytest.mark.parametrize(("shapes", "steps", "decay"), [(SMALL, 41, 0.0), (SMALL, 41, 0.1), (LARGE, 3, 0.1)])
@pytest.mark.parametrize("name", ["linf", "l2", "l1"])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: " ".join([m[0].__name__, *map(str, m[2].values())]))
def test_step_for_step_equal_to_the_formulas(method, name, shapes, steps, decay):
    make, reference, options = method
    C, lmo, _ = SETS[name]
    rng = np.random.default_rng(0)
    starts = [rng.uniform(-0.6, 0.6, shape) / max(12, math.prod(shape)) for shape in shapes]
    params = [torch.nn.Parameter(torch.tensor(x)) for x in starts]
    optimizer = make(params, C, weight_decay=decay, gap_every=2, **options)  # measured, and not
    diameters = [2 * R * (x.size**0.5 if name == "linf" else 1) for x in starts]
    runs = [reference(x, lmo, D, **options) for x, D in zip(starts, diameters, strict=True)]
    xs = [next(run) for run in runs]

    def drawn():
        """Random quadratics a x^2 / 2 + b x, one for each parameter."""
        return [(rng.uniform(1, 3, x.shape), rng.standard_normal(x.shape)) for x in starts]

    def closure(pairs):
        return lambda ps: [torch.tensor(a * p.detach().numpy() + b) for (a, b), p in zip(pairs, ps, strict=True)]

    for t in range(steps):
        batch, full = drawn(), drawn() if t % 15 == 0 else None
        if make is SVRF and full:
            optimizer.snapshot(closure(full))
        for p, g in zip(params, closure(batch)(params), strict=True):
            p.grad = g
        optimizer.step(*([closure(batch)] if make in (SVRF, ORGFW) else []))
        for i, (p, run) in enumerate(zip(params, runs, strict=True)):
            grads = [ab and (lambda x, a=ab[i][0], b=ab[i][1]: a * x + b + decay * x) for ab in (batch, full)]
            xs[i] = run.send(grads)
            np.testing.assert_allclose(p.detach(), xs[i], rtol=0, atol=1e-12)
    assert all(norm((x - start).ravel()) > 1e-3 for x, start in zip(xs, starts, strict=True))


@pytest.mark.parametrize("norm_of", ["spectral", "sign", "row", "column"])
def test_scion_may_start_at_the_boundary(norm_of):
    """Orthogonal times the radius, random signs, rows or columns of one length; vectors stay."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 4, dtype=torch.float64)
    w, b = (p.detach().numpy().copy() for p in (layer.weight, layer.bias))
    optimizer = Scion(layer.parameters(), sets.ScionNorms(2.0, 1.0, output=norm_of), lr=0.1, at_boundary=True)
    u, _, vt = np.linalg.svd(w, full_matrices=False)
    starts = {
        "spectral": 2 * np.sqrt(4 / 6) * u @ vt,
        "sign": 2 / 6 * np.sign(w),
        "row": 2 / np.sqrt(6) * w / norm(w, axis=1, keepdims=True),
        "column": 2 * np.sqrt(4) / 6 * w / norm(w, axis=0, keepdims=True),
    }
    np.testing.assert_allclose(layer.weight.detach(), starts[norm_of], atol=1e-12)
    assert np.array_equal(layer.bias.detach(), b)
    assert not optimizer.shifted
    assert copy.deepcopy(optimizer).at_boundary


def parameter(values, grad=None, dtype=torch.float64):
    x = torch.nn.Parameter(torch.tensor(values, dtype=dtype))
    x.grad = None if grad is None else torch.tensor(grad, dtype=dtype)
    return x


def test_both_points_of_a_recursive_gradient_hold_the_free_parameters_too():
    """g(x_{t-1}) is the gradient at the whole network's previous parameters, not at half of them."""
    w, b = parameter([[0.1, 0.2]], grad=[[1.0, 1.0]]), parameter([1.0, 2.0], grad=[1.0, 1.0])
    optimizer, seen = ORGFW([w, b], LInf(0.5, apply_to="weights"), lr=0.1), []
    for _ in range(3):
        seen.append([x.detach().clone() for x in (w, b)])
        optimizer.step(lambda points: seen.append([p.detach().clone() for p in points]) or [0 * p for p in points])
    before, _, second, _, third = seen
    torch.testing.assert_close(second, before)
    torch.testing.assert_close(third, seen[1])


@pytest.mark.parametrize("make", [SVRF, ORGFW])
def test_two_point_methods_refuse_a_step_without_what_they_need(make):
    x = parameter([0.5], grad=[1.0])
    optimizer = make([x], LInf(1.0), lr=0.1)
    if make is SVRF:
        with pytest.raises(RuntimeError, match=r"SVRF\.step: call snapshot\(full_closure\) before the first step"):
            optimizer.step(lambda points: points)
        optimizer.snapshot(lambda points: [2 * p for p in points])
    state = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(TypeError, match=rf"{make.__name__}\.step needs closure\(points\)"):
        optimizer.step()
    assert x.item() == 0.5
    assert optimizer.state_dict() == state  # a refused step does not count: gamma is 2 / (k + 1)


@pytest.mark.parametrize("make", [SVRF, ORGFW])
def test_a_parameter_without_a_second_point_takes_a_plain_step(make):
    """One that had no gradient so far, and one of a group that was added later."""
    x, late, added = parameter([0.1]), parameter([0.1]), parameter([0.1])
    optimizer = make([x, late], LInf(1.0), lr=0.1, **({"restarts": False} if make is SVRF else {}))
    if make is SVRF:
        optimizer.snapshot(lambda points: [torch.ones_like(x), None])
    x.grad = torch.ones_like(x)
    optimizer.step(lambda points: [torch.ones_like(x), None])
    optimizer.add_param_group({"params": [added]})
    late.grad, added.grad = -torch.ones_like(x), torch.ones_like(x)
    optimizer.step(lambda points: [torch.full_like(p, 7.0) for p in points])
    assert (late.item(), added.item()) == (pytest.approx(0.19), pytest.approx(-0.01))  # 0.1 + 0.1 (v - 0.1), v = 1, -1


# Convergence


def objective(kind, n):
    """f and its gradient over vectors of n entries, and its Lipschitz constant L."""
    rng = np.random.default_rng(1)
    A = rng.standard_normal((40, n))
    if kind == "quadratic":
        H, b = A.T @ A / 40, rng.uniform(-1.5, 1.5, n)
        return lambda x: (x - b) @ H @ (x - b) / 2, lambda x: H @ (x - b), np.linalg.eigvalsh(H)[-1]
    A = A * np.sign(A @ rng.standard_normal(n) + rng.standard_normal(40))[:, None]
    f = lambda x: np.logaddexp(0, -A @ x).mean()  # noqa: E731
    return f, lambda x: -A.T @ (1 / (1 + np.exp(A @ x))) / 40, np.linalg.eigvalsh(A.T @ A / 40)[-1] / 4


def optimum(f, grad, lmo, shape):
    """(f(x) - gap, f(x)): between them is f*. Minimizes over the hull of ever more of the oracle's points (SLSQP)."""
    V = [lmo(grad(np.zeros(math.prod(shape))).reshape(shape)).ravel()]
    weights = np.ones(1)
    for _ in range(200):
        x = weights @ V
        v = lmo(grad(x).reshape(shape)).ravel()
        if (gap := grad(x) @ (x - v)) < 1e-8:
            break
        V = [u for u, weight in zip(V, weights, strict=True) if weight > 1e-12] + [v]
        weights = np.append(weights[weights > 1e-12], 0)
        simplex = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}
        M, options = np.array(V), {"ftol": 1e-15, "maxiter": 1000}
        hull = {"method": "SLSQP", "bounds": [(0, 1)] * len(V), "constraints": simplex, "options": options}
        best = minimize(lambda w, M=M: f(w @ M), weights, jac=lambda w, M=M: M @ grad(w @ M), **hull)
        weights = np.maximum(best.x, 0) / np.maximum(best.x, 0).sum()
    return f(x) - gap, f(x)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("kind", ["quadratic", "logistic"])
def test_converges_at_the_rate_of_the_theorem(kind, name):
    """Jaggi 2013, Theorem 1: with the steps 2 / (t + 2), f(x_t) - f* <= 2 L D^2 / (t + 2)."""
    C, lmo, D = SETS[name]
    shape = (3, 3) if name == "birkhoff" else (3, 4)
    f, grad, L = objective(kind, math.prod(shape))
    low, high = optimum(f, grad, lmo, shape)
    assert high - low < 1e-7
    x = torch.nn.Parameter(torch.full(shape, 0.01, dtype=torch.float64))
    optimizer = CGD([x], C, lr=1.0, gap_every=0)
    assert C.diameter(shape) == pytest.approx(D, rel=1e-12)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 2 / (t + 2))
    errors = np.empty(1001)
    for t in range(1001):
        point = x.detach().numpy().ravel()
        errors[t] = f(point) - low
        x.grad = torch.tensor(grad(point)).reshape(shape)
        optimizer.step()
        schedule.step()
    t = np.arange(1001)
    assert errors.min() >= -1e-12
    assert (errors[1:] <= 2 * L * D**2 / (t[1:] + 2)).all()
    assert ((t + 2) * errors)[100:].max() <= ((t + 2) * errors)[10:100].max()  # no slower than 1 / t,
    assert np.median(errors[950:]) <= 0.2 * np.median(errors[95:105]) + 1e-7  # from decade to decade


# Noise


def noisy_least_squares(make, C, lr, A, y, budget, seed, factor, batch=4):
    """The objective after `budget` gradients of a sample, those of second points and snapshots included."""
    x = torch.nn.Parameter(A.new_zeros(A.shape[1]))
    optimizer, generator = make([x], C, lr=lr, gap_every=0), torch.Generator().manual_seed(seed)
    everything, spent, t = torch.arange(len(A)), 0, 0

    def gradient(point, rows):
        nonlocal spent
        spent += len(rows)
        return A[rows].T @ (A[rows] @ point.detach() - y[rows]) / len(rows)

    while spent < budget:
        if isinstance(optimizer, SVRF) and t % (len(A) // batch) == 0:
            optimizer.snapshot(lambda points: [gradient(points[0], everything)])
        rows = torch.randint(len(A), (batch,), generator=generator)
        x.grad = gradient(x, rows)
        optimizer.param_groups[0]["lr"] = lr * factor(t)
        second = lambda points, rows=rows: [gradient(points[0], rows)]  # noqa: E731
        optimizer.step(*([second] if isinstance(optimizer, SVRF | ORGFW) else []))
        t += 1
    return (A @ x.detach() - y).square().mean().item() / 2


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 2.0])
@pytest.mark.parametrize("C", [LInf, sets.L2, sets.L1])
def test_on_noisy_problems_every_remedy_beats_plain_steps(C, share):
    """At equal numbers of gradients, with the best of one grid of steps for each; medians of 3 seeds."""
    generator = torch.Generator().manual_seed(0)
    A, w, noise = (torch.randn(*n, generator=generator, dtype=torch.float64) for n in ((200, 20), (5,), (200,)))
    y = A[:, :5] @ w + noise
    held = C(share * C(1.0).norm(torch.linalg.lstsq(A, y).solution).item())  # without the minimizer, or with it
    steps = [(lr, f) for lr in (1.0, 0.3, 0.1) for f in (lambda t: 1.0, lambda t: 2 / (t + 2))]
    best = {}
    for make in (CGD, SFW, AdaGradSFW, SVRF, ORGFW):
        start = partial(make, **{SFW: {"momentum": 0.9}, SVRF: {"restarts": False}}.get(make, {}))
        runs = [[noisy_least_squares(start, held, lr, A, y, 1000, s, f) for s in range(3)] for lr, f in steps]
        best[make.__name__] = np.median(runs, axis=1).min()
    assert all(best[name] < best["CGD"] for name in best if name != "CGD"), best


# Feasibility

TOLERANCE = 100 * torch.finfo(torch.float32).eps
ITERATIVE = {f"{C.__name__} iterative": C(R, method="iterative") for C in (sets.Spectral, sets.Nuclear)}
ALL = {name: C for name, (C, *_) in SETS.items()} | ITERATIVE
QUICK = ("linf", "l2", "l1")
HELD = [pytest.param(C, id=name, marks=[] if name in QUICK else pytest.mark.slow) for name, C in ALL.items()]


@pytest.mark.parametrize("C", HELD)
@pytest.mark.parametrize("rescale", ["none", pytest.param("gradient", marks=pytest.mark.slow)])
def test_thousands_of_steps_stay_inside(C, rescale):
    """Steps of 0.1 forget an error within a hundred steps, those of 0.03 within several."""
    torch.manual_seed(0)
    x = torch.nn.Parameter(torch.empty(3, 3).uniform_(-1, 1))
    optimizer = SFW([x], C, lr=0.03 if rescale == "none" else 0.1, momentum=0.5, rescale=rescale, gap_every=0)
    drift = torch.randn(3, 3)
    start = C.gap(drift, x)
    for t in range(3_000 if rescale == "none" else 2_000):
        x.grad = 0.3 * torch.randn(3, 3) + drift  # to a face, and along it
        optimizer.step()
        if t % 100 == 99:
            assert C.contains(x, tolerance=TOLERANCE)
    assert C.gap(drift, x) < 0.3 * start


NETWORK_SETS = [sets.Spectral(0.3, method="iterative"), sets.ScionNorms(0.3)]
SLOWER_SETS = [C(0.3) for C in (sets.L1, sets.Spectral, sets.Nuclear, sets.SpectralKSupport)]


@pytest.mark.parametrize("C", [*NETWORK_SETS, *(pytest.param(C, marks=pytest.mark.slow) for C in SLOWER_SETS)])
def test_a_network_under_autocast_stays_inside(C):
    """A step inside the context is the one outside: the oracles' products are not rounded to bfloat16."""

    def trained(inside):
        torch.manual_seed(0)
        net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
        inputs, targets = torch.randn(64, 8), torch.randint(4, (64,))
        optimizer = SFW(net.parameters(), C, lr=0.5, rescale="gradient")
        for t in range(300):
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                torch.nn.functional.cross_entropy(net(inputs[t % 4 :: 4]), targets[t % 4 :: 4]).backward()
                if inside:
                    optimizer.step()
            if not inside:
                optimizer.step()
            xs = [x for group in optimizer.param_groups for x in group["params"]]
            for x, held in zip(xs, optimizer.held, strict=True):
                assert held.constraint.contains(x, tolerance=TOLERANCE)
        return torch.cat([x.detach().ravel() for x in net.parameters()])

    assert torch.equal(trained(inside=True), trained(inside=False))


# Compilation


@pytest.mark.parametrize("backend", ["eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("make", [CGD, partial(SFW, momentum=0.9, rescale="gradient")], ids=["cgd", "sfw"])
def test_a_compiled_step_is_the_step(make, backend):
    """With the same iterates; and compiled once, not anew for every step's gradients until torch gives up."""

    def run(compiled):
        torch.manual_seed(0)
        torch._dynamo.reset()
        counters.clear()
        xs = [torch.nn.Parameter(torch.rand(4, 3) / 10) for _ in range(4)]
        Cs = (LInf(0.3), sets.L2(0.5), sets.Spectral(0.4), sets.KSparse(0.3, k=2))
        groups = [{"params": [x], "constraint": C} for x, C in zip(xs, Cs, strict=True)]
        optimizer = make(groups, LInf(1.0), lr=0.1, gap_every=0)
        step = torch.compile(optimizer.step, backend=backend) if compiled else optimizer.step
        for _ in range(12):
            for x in xs:
                x.grad = torch.randn(4, 3)
            step()
        return torch.stack([x.detach() for x in xs])

    torch.testing.assert_close(run(compiled=False), run(compiled=True), rtol=0, atol=1e-6)
    assert not counters["graph_break"]
    assert 1 <= counters["stats"]["unique_graphs"] <= 4


# Measurements


def test_measurements_by_hand():
    """Of sets and free parameters, with a gradient and without; gaps add up, and the squares of lengths."""
    rng = np.random.default_rng(0)
    xs, decay, lr, ms = [rng.uniform(-0.2, 0.2, (3, 4)), np.array([0.6, 0.0, 0.0003])], 0.1, 0.25, [None, None]
    W, b, free, idle = (torch.nn.Parameter(torch.tensor(x)) for x in (*xs, np.ones(2), np.array([0.35])))
    groups = [{"params": [("W", W), ("idle", idle), ("b", b)]}, {"params": [("free", free)], "constraint": None}]
    optimizer = SFW(groups, sets.Spectral(R), lr=lr, momentum=0.9, weight_decay=decay, gap_every=2)
    names = ("fw_gap", "boundary", "sparsity", "step_norm", "effective_rank")
    before = optimizer.pop_measurements()  # nothing measured yet; what can be read from the parameters is
    assert all(math.isnan(before[name]) for name in ("fw_gap", "step_norm"))
    assert before["sparsity"].item() == pytest.approx(2 / 16)  # 0 and 0.0003 are at most 1e-3 of 0.6
    gaps, lengths = [], []
    for t in range(5):
        gs = [rng.standard_normal(x.shape) for x in xs]
        W.grad, b.grad, free.grad = (torch.tensor(g) for g in (*gs, np.ones(2)))
        optimizer.step()
        for i, (g, name) in enumerate(zip(gs, ("spectral", "l2"), strict=True)):
            g, lmo, x = g + decay * xs[i], SETS[name][1], xs[i]
            ms[i] = g if ms[i] is None else 0.9 * ms[i] + 0.1 * g
            xs[i] = x + lr * (lmo(ms[i]) - x)
            if t % 2 == 0:
                gaps.append(np.sum(g * (x - lmo(g))))
                lengths.append(norm((xs[i] - x).ravel()))
    gap, length = (np.mean([sums[::2], sums[1::2]], axis=1) for sums in (gaps, lengths))
    s = np.linalg.svd(xs[0])[1]
    rank, nan, entries = np.exp(-np.sum(s / s.sum() * np.log(s / s.sum()))), math.nan, [12, 1, 3]
    ends = (s[0] / R, 0.5, norm(xs[1]) / R)
    sparse = [np.mean(np.abs(x) <= 1e-3 * np.abs(x).max()) for x in (xs[0], np.array([0.35]), xs[1])]
    total = (gap.sum(), np.average(ends, weights=entries), np.average(sparse, weights=entries), norm(length), rank)
    each = zip((gap[0], nan, gap[1]), ends, sparse, (length[0], nan, length[1]), (rank, nan, nan), strict=True)
    state = copy.deepcopy(optimizer.state_dict())
    totals, rows = optimizer.pop_group_measurements()
    assert optimizer.measures == names
    assert {k: v.item() for k, v in totals.items()} == pytest.approx(dict(zip(names, total, strict=True)), rel=1e-9)
    assert [(row["parameter"], row["set"]) for row in rows] == [("W", "Spectral"), ("idle", "L2"), ("b", "L2")]
    for row, wanted in zip(rows, each, strict=True):
        assert [row[k].item() for k in names] == pytest.approx(wanted, rel=1e-9, nan_ok=True)
    optimizer.load_state_dict(state)
    assert optimizer.pop_measurements() == totals


def test_gap_every_spaces_the_measurements():
    x = parameter([0.0])
    optimizer = CGD([x], LInf(1.0), lr=0.0, gap_every=3)
    for t in range(7):
        x.grad = parameter([float(t)]).detach()
        optimizer.step()
    assert optimizer.pop_measurements()["fw_gap"].item() == pytest.approx((0 + 3 + 6) / 3)  # at x = 0 the gap is |g|
    x.grad = parameter([7.0]).detach()
    optimizer.step()  # the first after a pop is measured: an epoch of few steps has a gap, too
    optimizer.add_param_group({"params": [parameter([0.5])]})
    assert optimizer.pop_measurements()["fw_gap"].item() == 7


def test_a_parameter_that_moves_in_turn_is_measured_every_so_many_of_its_own_steps():
    """Three steps of one, then one of the other: with one count for all, only one of them would ever be measured."""
    x, y = parameter([0.0]), parameter([0.0])
    optimizer = CGD([x, y], LInf(1.0), lr=0.0, gap_every=4)
    for t in range(32):
        x.grad, y.grad = (None, parameter([1.0 + t]).detach()) if t % 4 == 3 else (parameter([1.0 + t]).detach(), None)
        optimizer.step()
    own = {0: [1 + t for t in range(32) if t % 4 != 3], 1: [1 + t for t in range(32) if t % 4 == 3]}
    assert optimizer.measures_within(4)
    assert not optimizer.measures_within(0)
    total, rows = optimizer.pop_group_measurements()
    for i, row in enumerate(rows):
        assert row["fw_gap"].item() == np.mean(own[i][::4])
    assert total["fw_gap"].item() == sum(np.mean(own[i][::4]) for i in own)


def test_measurements_of_a_checkpoint_of_an_earlier_version_go_on():
    x = parameter([0.0])
    optimizer = CGD([x], LInf(1.0), lr=0.0, gap_every=3)
    state = optimizer.state_dict()
    state["state"]["measured"] = (4, 2, [torch.tensor(6.0)], [torch.tensor(0.0)])  # one count of steps for all
    optimizer.load_state_dict(state)
    for t in (1.0, 2.0, 3.0):  # of these the third is measured
        x.grad = parameter([t]).detach()
        optimizer.step()
    assert optimizer.pop_measurements()["fw_gap"].item() == (6 + 3) / 3


# Bad values

unconstrained = partial(Scion, constrained=False)
shares = (CGD, partial(SFW, rescale="none"), SVRF, ORGFW, Scion)
clipped = (partial(SFW, rescale="gradient"), AdaGradSFW, unconstrained)
BAD = [
    *((make, {"lr": lr}, rf"lr={lr}: must be in \[0, 1\]") for make in shares for lr in (1.5, -0.1, math.nan)),
    (clipped[0], {"rescale": "none", "lr": 1.5}, r"lr=1.5: must be in \[0, 1\]"),
    *((make, {"lr": lr}, f"lr={lr}: must be at least 0") for make in clipped for lr in (-0.1, math.inf)),
    *((make, {"momentum": 1}, r"momentum=1: must be in \[0, 1\)") for make in (CGD, SFW, ORGFW, Scion)),
    *((make, {"weight_decay": -1}, "weight_decay=-1: must be at least 0") for make in (CGD, SVRF, AdaGradSFW)),
    (CGD, {"free_momentum": 1}, r"free_momentum=1: must be in \[0, 1\)"),
    (SFW, {"rescale": "some"}, "rescale=some: must be none, diameter, gradient or fast_gradient"),
    *((AdaGradSFW, {"inner_steps": K}, f"inner_steps={K}: must be") for K in (0, 1.5)),
    *((AdaGradSFW, {"delta": delta}, f"delta={delta}: must be a number > 0") for delta in (0, -1.0, math.nan)),
]


@pytest.mark.parametrize("in_a_group", [False, True])
@pytest.mark.parametrize(("make", "options", "message"), BAD)
def test_bad_values(make, options, message, in_a_group):
    group, own = {"params": [parameter([0.0])]}, {"lr": 0.1}
    (group if in_a_group else own).update(options)
    with pytest.raises(ValueError, match=f"^{message}"):
        make([group], LInf(1.0), **own)


@pytest.mark.parametrize("make", clipped)
def test_a_rate_that_is_no_share_may_be_more_than_1(make):
    x = parameter([0.5], grad=[1.0])
    make([x], LInf(1.0), lr=100.0).step()
    assert x.item() == (-99.5 if make is unconstrained else pytest.approx(-1))  # all the way


@pytest.mark.parametrize("make", [CGD, SFW, AdaGradSFW, SVRF, ORGFW, Scion])
def test_a_constraint_is_needed_and_must_be_one(make):
    start = partial(make, [parameter([0.0])], lr=0.1)
    for bad, message in (
        ({"constraint": None}, rf"constraint=none: {make.__name__} needs a constraint set"),
        ({"constraint": 1.0}, rf"constraint=1\.0: {make.__name__} needs a constraint set"),
        ({"constraint": LInf(1.0, apply_to="*.weight")}, r"apply_to=\*.weight: needs named parameters"),
        ({"constraint": LInf(1.0), "gap_every": -1}, "gap_every=-1: must be at least 0"),
        ({"constraint": LInf(1.0), "free_lr": -1}, "free_lr=-1: must be at least 0"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            start(**bad)
