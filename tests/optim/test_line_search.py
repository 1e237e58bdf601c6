"""Step sizes from the function: exact on quadratics, at the rate of the theorem, and never upwards."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from optim import L1, L2, AdaGradSFW, LineSearch, LInf, Spectral

every_rule = pytest.mark.parametrize("rule", ["short", "backtracking"])
SETS = {"linf": LInf(0.7), "l1": L1(2.0), "l2": L2(1.0), "spectral": Spectral(0.8)}
every_set = pytest.mark.parametrize("C", SETS.values(), ids=SETS)


def problem(kind, seed=0):
    """f, its gradient, and its Lipschitz constant, over two parameters of 3 x 2 and 4 entries."""
    rng = np.random.default_rng(seed)
    A, b = rng.standard_normal((30, 10)), 2 * rng.standard_normal(30)
    if kind == "quadratic":
        return lambda x: np.sum((A @ x - b) ** 2) / 60, lambda x: A.T @ (A @ x - b) / 30, np.linalg.norm(A, 2) ** 2 / 30
    f = lambda x: np.logaddexp(0, -A @ x).mean() + x @ x / 20  # noqa: E731
    L = np.linalg.norm(A, 2) ** 2 / 120 + 0.1
    return f, lambda x: -A.T @ (1 / (1 + np.exp(A @ x))) / 30 + x / 10, L


class Run:
    """LineSearch on a problem."""

    def __init__(self, C, kind, **options):
        self.f, self.gradient, self.L = problem(kind)
        self.xs = [torch.nn.Parameter(torch.zeros(s, dtype=torch.float64)) for s in ((3, 2), (4,))]
        self.optimizer = LineSearch(self.xs, C, **{"lr": 1.0, **options})
        self.sets, self.calls = [held.constraint for held in self.optimizer.held], 0

    @property
    def x(self):
        return np.concatenate([x.detach().numpy().ravel() for x in self.xs])

    def gradients(self, points):
        self.calls += 1
        g = torch.tensor(self.gradient(np.concatenate([p.detach().numpy().ravel() for p in points])))
        return [part.view_as(x) for part, x in zip(g.split([6, 4]), self.xs, strict=True)]

    def step(self):
        for x, g in zip(self.xs, self.gradients(self.xs), strict=True):
            x.grad = g
        self.optimizer.step(self.gradients)

    def vertex(self):
        gs = self.gradients(self.xs)
        return np.concatenate([S.lmo(g).numpy().ravel() for S, g in zip(self.sets, gs, strict=True)])


@every_set
def test_short_is_the_exact_line_search_of_a_quadratic(C):
    run = Run(C, "quadratic")
    for _ in range(20):
        x, v = run.x, run.vertex()
        best = minimize_scalar(lambda t, x=x, v=v: run.f(x + t * (v - x)), bounds=(0, 1), options={"xatol": 1e-12}).x
        calls = run.calls
        run.step()
        assert run.calls == calls + 2  # one more gradient
        np.testing.assert_allclose(run.x, x + best * (v - x), atol=1e-6)


@every_rule
@every_set
@pytest.mark.parametrize("kind", ["quadratic", "logistic"])
def test_never_upwards_and_at_the_rate_of_the_theorem(kind, C, rule):
    """Jaggi 2013: f(x_t) - f* <= 2 L D^2 / (t + 2), for backtracking with at most twice L (Pedregosa et al. 2020)."""
    run, values, gaps = Run(C, kind, rule=rule), [], []
    D2 = sum(S.diameter(x.shape) ** 2 for S, x in zip(run.sets, run.xs, strict=True))
    for _ in range(200):
        x = run.x
        values.append(run.f(x))
        gaps.append(run.gradient(x) @ (x - run.vertex()))
        run.step()
        assert all(S.contains(p) for S, p in zip(run.sets, run.xs, strict=True))
    best = max(f - gap for f, gap in zip(values, gaps, strict=True))  # f* is above
    L = run.L * (1 if rule == "short" else 2)
    if rule == "backtracking" or kind == "quadratic":
        assert (np.diff(values) <= 1e-12).all()
    t = np.arange(1, 200)
    assert (np.array(values[1:]) - best <= 2 * L * D2 / (t + 2) + (values[-1] - best)).all()
    assert min(gaps) < 0.1 * gaps[0]


@every_rule
def test_a_state_continues_exactly(rule):
    one, two = Run(LInf(0.7), "logistic", rule=rule), Run(LInf(0.7), "logistic", rule=rule)
    for _ in range(5):
        one.step()
    two.optimizer.load_state_dict(copy.deepcopy(one.optimizer.state_dict()))
    for x, y in zip(one.xs, two.xs, strict=True):
        y.data.copy_(x)
    for _ in range(3):
        one.step()
        two.step()
    assert np.array_equal(one.x, two.x)


@every_rule
def test_decay_free_parameters_and_what_is_no_number(rule):
    """weight_decay x is part of f; a free parameter takes SGD's step; NaN is shown."""
    x, free = (torch.nn.Parameter(torch.tensor([0.5, 0.5], dtype=torch.float64)) for _ in "xf")
    groups = [{"params": [x]}, {"params": [free], "constraint": None, "lr": 0.1}]
    optimizer = LineSearch(groups, LInf(1.0), lr=1.0, rule=rule, weight_decay=1.0, gap_every=1)
    for _ in range(60):
        x.grad, free.grad = torch.zeros_like(x), torch.ones_like(x)
        optimizer.step(lambda points: [torch.zeros_like(p) for p in points])
    assert x.abs().max() < 0.05  # the minimum of |x|^2 / 2
    assert optimizer.pop_measurements()["fw_gap"].isfinite()
    assert (free < 0).all()
    x.grad = torch.full_like(x, math.nan)
    optimizer.step(lambda points: [torch.full_like(p, math.nan) for p in points])
    assert x.isnan().any()


def test_what_is_refused():
    x = torch.nn.Parameter(torch.zeros(3))
    with pytest.raises(ValueError, match=r"^rule=exact: must be short or backtracking"):
        LineSearch([x], LInf(), lr=1.0, rule="exact")
    with pytest.raises(ValueError, match=r"^lr=2\.0: must be in \[0, 1\]"):
        LineSearch([x], LInf(), lr=2.0)
    x.grad = torch.ones(3)
    with pytest.raises(TypeError, match=r"LineSearch\.step needs closure\(points\)"):
        LineSearch([x], LInf(), lr=1.0).step()
    with pytest.raises(ValueError, match="scope=network is not for"):
        AdaGradSFW([x], L1(scope="network"), lr=1.0)


@every_rule
def test_a_run(cli, rule):
    options = ["optim=line_search", f"optim.rule={rule}", "constraint.radius=0.3", "train.epochs=3", "data.limit=300"]
    code, output = cli(*options, "hydra.run.dir=run")
    assert code == 0, output
    losses = [float(line.split("train loss ")[1].split()[0]) for line in output.splitlines() if "train loss" in line]
    assert losses[-1] < losses[0] < math.inf
