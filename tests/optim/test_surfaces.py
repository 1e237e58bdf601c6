"""Sphere and Stiefel manifold against polar factors, eigenvalues, least squares and random points of them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import polar

from optim import CGD, AdaGradSFW, Scion, Sphere, Stiefel, adam, lion, muon, sgd

R = 1.5
SHAPES = [(5, 3), (3, 5), (4, 4), (4, 1), (2, 3, 2, 2)]


def points(C, shape, m, rng):
    """Random points of a surface, by NumPy."""
    x = rng.standard_normal((m, *shape))
    if isinstance(C, Sphere):
        return R * x / np.sqrt((x**2).reshape(m, -1).sum(1)).reshape(m, *[1] * len(shape))
    u, _, vt = np.linalg.svd(x.reshape(m, shape[0], -1), full_matrices=False)
    return R * (u @ vt).reshape(x.shape)


@pytest.mark.parametrize("C", [Sphere(R), Stiefel(R, method="svd")], ids=["sphere", "stiefel"])
@pytest.mark.parametrize("shape", SHAPES)
def test_oracle_and_projection_are_best_among_random_points(C, shape):
    rng = np.random.default_rng(0)
    others = points(C, shape, 5000, rng)
    for scale in (1e-20, 1.0, 1e20):
        g = scale * rng.standard_normal(shape)
        v, p = C.lmo(torch.tensor(g)), C.project(torch.tensor(g))
        assert C.contains(v)
        assert C.contains(p)
        assert all(C.contains(torch.tensor(x)) for x in others[:3])
        assert not C.contains(0.99 * p)
        assert not C.contains(1.01 * p)
        size = np.linalg.norm(g) if isinstance(C, Sphere) else np.linalg.svd(g.reshape(len(g), -1))[1].sum()
        assert np.sum(g * v.numpy()) == pytest.approx(-R * size, rel=1e-9)
        assert np.sum(g * v.numpy()) <= (others * g).reshape(5000, -1).sum(1).min() + 1e-9 * size
        if isinstance(C, Stiefel):
            m = g.reshape(len(g), -1)
            side = "right" if m.shape[0] >= m.shape[1] else "left"
            np.testing.assert_allclose(p.reshape(m.shape), R * polar(m, side=side)[0], atol=1e-9)
        distances = ((others - g) ** 2).reshape(5000, -1).sum(1)
        assert np.sum((p.numpy() - g) ** 2) <= distances.min() * (1 + 1e-12)
        assert np.linalg.norm(v.numpy() - p.numpy()) == pytest.approx(C.diameter(shape))  # the largest distance


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_laws_for_all_shapes_precisions_and_magnitudes(data):
    shape = data.draw(st.sampled_from([(), (1,), (7,), *SHAPES]))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    entries = data.draw(st.sampled_from([rng.standard_normal(shape), rng.integers(-1, 2, shape), np.zeros(shape)]))
    x = torch.tensor(entries * 10.0 ** data.draw(st.integers(-30, 30))).to(dtype)
    for kind in (Sphere, Stiefel):
        C = kind(R).fitted(x)
        for p in (C.lmo(x), C.project(x), C.shift_inside(x)):
            assert (p.shape, p.dtype) == (x.shape, x.dtype)
            assert C.contains(p)
            again = C.project(p)
            assert (again.double() - p.double()).norm() <= 8 * torch.finfo(dtype).eps * p.double().norm()
        bad = x.reshape(-1).clone()
        bad[-1] = data.draw(st.sampled_from([math.nan, math.inf]))
        bad = bad.view(shape)
        assert C.lmo(bad).isnan().any()
        assert C.project(bad).isnan().any()
        assert not C.contains(bad)


@pytest.mark.parametrize("shape", SHAPES)
def test_projection_by_matrix_products_agrees_where_steps_end(shape):
    rng = np.random.default_rng(0)
    for x in points(Stiefel(R), shape, 5, rng) + 0.1 * rng.standard_normal((5, *shape)):
        by_products, by_svd = (Stiefel(R, method=m).project(torch.tensor(x)) for m in ("iterative", "svd"))
        torch.testing.assert_close(by_products, by_svd, atol=1e-9, rtol=0)


@pytest.mark.parametrize("C", [Sphere(R), Stiefel(R)], ids=["sphere", "stiefel"])
@pytest.mark.parametrize("shape", SHAPES)
def test_tangent_part_is_the_nearest_direction_that_stays(C, shape):
    """By least squares over the directions along which the surface's equations do not change to first order."""
    rng = np.random.default_rng(1)
    x, g = points(C, shape, 1, rng)[0], rng.standard_normal(shape)
    rows = x.reshape(len(x), -1)
    if isinstance(C, Sphere):
        J = x.reshape(1, -1)
    else:  # the derivative of X^T X, or X X^T, in each direction e_i
        units = np.eye(x.size).reshape(x.size, *rows.shape)
        tall = rows.shape[0] >= rows.shape[1]
        J = np.stack([(rows.T @ e + e.T @ rows if tall else rows @ e.T + e @ rows.T).ravel() for e in units], axis=1)
    normal = J.T @ np.linalg.lstsq(J.T, g.ravel(), rcond=1e-10)[0]
    t = C.tangent(torch.tensor(x), torch.tensor(g)).numpy()
    np.testing.assert_allclose(t.ravel(), g.ravel() - normal, atol=1e-9)


def test_sgd_takes_the_riemannian_step():
    """x - lr times the gradient's tangent part, then the polar factor; through a closure, too."""
    rng = np.random.default_rng(2)
    A, b = rng.standard_normal((5, 3)), rng.standard_normal((5, 3))
    x = torch.nn.Parameter(torch.tensor(np.linalg.qr(A)[0]))
    start = x.detach().numpy().copy()
    optimizer = sgd([x], Stiefel(), lr=0.3)

    def closure():
        x.grad = torch.tensor(b.copy())
        return 7.0

    assert optimizer.step(closure) == 7.0
    t = b - start @ (start.T @ b + b.T @ start) / 2
    np.testing.assert_allclose(x.detach(), polar(start - 0.3 * t)[0], atol=1e-12)


@pytest.mark.parametrize(("make", "lr"), [(sgd, 0.05), (adam, 0.01), (lion, 0.003), (muon, 0.01)])
@pytest.mark.parametrize("k", [1, 2])
def test_finds_the_leading_eigenvectors(make, lr, k):
    """max trace(X^T A X) over k orthonormal columns is the sum of the k largest eigenvalues."""
    A = np.diag([5.0, 4.0, 2.0, 1.0, 0.5])
    Q = np.linalg.qr(np.random.default_rng(3).standard_normal((5, 5)))[0]
    A = torch.tensor(Q @ A @ Q.T)
    x = torch.nn.Parameter(torch.tensor(np.random.default_rng(4).standard_normal((5, k))))
    optimizer = make([x], Stiefel() if k > 1 else Sphere(), lr=lr)
    assert optimizer.shifted == ["0"]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 - t / 1000)
    for _ in range(1000):
        optimizer.zero_grad()
        (-(x.mT @ A @ x).trace()).backward()
        optimizer.step()
        schedule.step()
    assert (x.mT @ A @ x).trace().item() == pytest.approx([5.0, 9.0][k - 1], rel=1e-3)
    torch.testing.assert_close(x.mT @ x, torch.eye(k, dtype=x.dtype), atol=1e-9, rtol=0)


def test_a_network_of_orthogonal_layers_has_a_lipschitz_constant_of_1():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    optimizer = adam(net.named_parameters(), Stiefel(apply_to="weights"), lr=0.01)
    x, y = torch.randn(64, 6), torch.randint(0, 3, (64,))
    for _ in range(20):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    a, b = torch.randn(2, 10_000, 6)
    assert ((net(a) - net(b)).norm(dim=1) <= (a - b).norm(dim=1) * (1 + 1e-5)).all()
    assert Stiefel().fitted(net[0].bias) == Sphere(1.0)


@pytest.mark.parametrize("make", [CGD, AdaGradSFW, Scion])
@pytest.mark.parametrize("C", [Sphere(), Stiefel()])
def test_conditional_gradients_refuse_a_surface(make, C):
    with pytest.raises(ValueError, match=rf"^constraint={type(C).__name__}: .* would leave this surface"):
        make([torch.nn.Parameter(torch.ones(3, 2))], C, lr=0.1)


@pytest.mark.parametrize("size", [{"diameter": 3.0}, {"init_factor": 2.0}])
def test_sizes_of_surfaces(size):
    for kind in (Sphere, Stiefel):
        C = kind(**size).fitted(torch.ones(4, 3))
        assert C.diameter((4, 3)) == pytest.approx(size.get("diameter", 2 * 2 * math.sqrt(12)))
