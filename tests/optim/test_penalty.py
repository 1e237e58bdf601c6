"""Proximal steps against optimality conditions, and trained penalties against SciPy and against constraint sets."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from optim import L1, GroupL1, Nuclear, adam, adamw, sgd
from optim.penalty import Penalty

# R and its dual norm, in NumPy
ROWS = lambda x: np.linalg.norm(x.reshape(len(x), -1), axis=1)  # noqa: E731
VALUES = lambda x: np.linalg.svd(x.reshape(len(x), -1), compute_uv=False)  # noqa: E731
NORMS = {
    "l1": (lambda x: np.abs(x).sum(), lambda x: np.abs(x).max()),
    "group": (lambda x: ROWS(x).sum(), lambda x: ROWS(x).max()),
    "nuclear": (lambda x: VALUES(x).sum(), lambda x: VALUES(x).max()),
}
ONE = {"penalty": "l1", "penalty_factor": 0.1}
every_penalty = pytest.mark.parametrize("kind", NORMS)


@every_penalty
@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_prox_is_the_minimizer(kind, data):
    """(x - p) / t is a subgradient of R at p: of a dual norm of at most 1, and <x - p, p> = t R(p)."""
    shape = data.draw(st.sampled_from([(1,), (6,), (4, 3), (3, 4), (2, 3, 2, 2)]))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    size = 10.0 ** data.draw(st.integers(-15, 15))
    entries = data.draw(st.sampled_from([rng.standard_normal(shape), rng.integers(-1, 2, shape)]))
    x = torch.tensor(size * entries).to(dtype)
    t = size * data.draw(st.sampled_from([0.0, 0.1, 1.0, 100.0]))
    p = Penalty(kind).prox(x, t)
    assert (p.shape, p.dtype) == (x.shape, x.dtype)
    R, dual = NORMS[kind]
    p, x, eps = p.double().numpy(), x.double().numpy(), 32 * torch.finfo(dtype).eps
    assert dual(x - p) <= t + eps * dual(x)
    assert np.sum((x - p) * p) == pytest.approx(t * R(p), rel=0, abs=eps * np.sum(x * x) + 1e-300)
    assert not np.any(p) or dual(x) > t * (1 - eps)


def lasso(factor):
    """min ||A x - b||^2 / 2 + factor ||x||_1, by L-BFGS-B over x = p - q, p and q >= 0."""
    rng = np.random.default_rng(0)
    A, b = rng.standard_normal((30, 8)) / 5, rng.standard_normal(30)

    def f(pq):
        r = A @ (pq[:8] - pq[8:]) - b
        g = A.T @ r
        return r @ r / 2 + factor * pq.sum(), np.concatenate([g, -g]) + factor

    options = {"ftol": 1e-16, "gtol": 1e-12, "maxiter": 10_000}
    best = minimize(f, np.ones(16), jac=True, method="L-BFGS-B", bounds=[(0, None)] * 16, options=options).x
    return torch.tensor(A), torch.tensor(b), best[:8] - best[8:]


def trained(make, x, loss, steps=3000):
    optimizer = make([x])
    for _ in range(steps):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    return x.detach().numpy()


@pytest.mark.parametrize("momentum", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}])
def test_sgd_with_l1_finds_the_lasso(momentum):
    """Momentum does not change lambda."""
    A, b, best = lasso(0.3)
    x = torch.nn.Parameter(torch.zeros(8, dtype=torch.float64))
    options = {"lr": 0.05, "penalty": "l1", "penalty_factor": 0.3, "penalty_on": "all", **momentum}
    found = trained(lambda xs: sgd(xs, **options), x, lambda x: (A @ x - b).square().sum() / 2)
    np.testing.assert_allclose(found, best, atol=1e-6)
    assert (found[np.abs(best) < 1e-8] == 0).all()
    assert 0 < np.count_nonzero(found) < 8


@pytest.mark.parametrize(("kind", "C"), [("l1", L1), ("group", GroupL1), ("nuclear", Nuclear)])
def test_a_penalty_and_the_set_of_its_size_have_the_same_solution(kind, C):
    rng = np.random.default_rng(1)
    A, B = torch.tensor(rng.standard_normal((20, 5))), torch.tensor(rng.standard_normal((20, 4)))

    def loss(x):
        return (A @ x - B).square().sum() / 40

    first, second = (torch.nn.Parameter(torch.zeros(5, 4, dtype=torch.float64)) for _ in "ab")
    penalized = trained(lambda xs: sgd(xs, lr=0.2, penalty=kind, penalty_factor=0.15), first, loss)
    radius = float(NORMS[kind][0](penalized))
    constrained = trained(lambda xs: sgd(xs, C(radius), lr=0.2), second, loss)
    np.testing.assert_allclose(penalized, constrained, atol=1e-7)
    zeros = {"l1": penalized == 0, "group": ROWS(penalized) == 0, "nuclear": VALUES(penalized) < 1e-9}[kind]
    assert 0 < zeros.sum() < zeros.size


@pytest.mark.parametrize("make", [adam, adamw])
def test_adam_takes_its_step_and_then_the_proximal_one(make):
    x, y = (torch.nn.Parameter(torch.tensor([[1.0, -0.02, 0.5]])) for _ in "xy")
    one, two = make([x], lr=0.1, penalty="l1", penalty_factor=2.0), make([y], lr=0.1)
    for p, optimizer in ((x, one), (y, two)):
        p.grad = torch.tensor([[0.3, 0.0, -0.2]])
        optimizer.step()
    torch.testing.assert_close(x, torch.nn.functional.softshrink(y, 0.2))
    copied = copy.deepcopy(one)
    assert (copied.penalized_by, copied.penalty_factor) == (Penalty("l1"), 2.0)


def test_what_is_penalized():
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 2))
    for on, names in [("weights", "0.weight 1.weight"), ("*.bias", "0.bias 1.bias"), (["0.*"], "0.weight 0.bias")]:
        optimizer = sgd(net.named_parameters(), lr=0.1, penalty="l1", penalty_factor=1e9, penalty_on=on)
        net.requires_grad_(True)
        for p in net.parameters():
            p.data.fill_(1.0)
            p.grad = torch.zeros_like(p)
        optimizer.step()
        assert {n for n, p in net.named_parameters() if not p.any()} == set(names.split())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty": "l0"}, "^penalty=l0: must be l1, group or nuclear"),
        ({"penalty": "l1"}, "^penalty=l1: needs penalty_factor, such as"),
        ({"penalty_factor": 1.0}, r"^penalty_factor=1\.0: needs a penalty, such as l1"),
        (
            {"penalty": "l1", "penalty_factor": 0.1, "constraint": L1()},
            "^penalty=l1: give a penalty or a constraint, not both",
        ),
        (
            {"penalty": "l1", "penalty_factor": 0.1, "penalty_on": "*.bais"},
            r"^penalty_on=\*\.bais: must be all, weights, or match a name",
        ),
    ],
)
def test_penalties_that_do_not_fit(options, message):
    with pytest.raises(ValueError, match=message):
        sgd(torch.nn.Linear(2, 2).named_parameters(), lr=0.1, **options)


def test_a_run_with_a_penalty_has_no_filter_left_where_it_is_large(cli, tmp_path):
    options = ["model=cnn", "optim=adam", "optim.penalty=group", "optim.penalty_factor=1e4", "train.epochs=1"]
    code, output = cli(*options, "data.limit=200", "hydra.run.dir=run")
    assert code == 0, output
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["model"]
    assert all(not x.any() for name, x in state.items() if name.endswith("weight"))
