"""Every constraint set against answers that do not come from it.

Polytopes: HiGHS (SciPy's linear programs), the list of all vertices, quadratic programs over it. Balls: norms, dual
norms and extreme points, written here in NumPy from the definitions. A projection p of x is proven by its optimality
condition, <x - p, v - p> <= 0 for all v in C, and laws for tensors of every kind are tried with Hypothesis.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, linprog, lsq_linear, minimize
from scipy.spatial.distance import pdist

from optim import sets

R, K = 1.5, 2  # the radius and the k of every case


class Case(NamedTuple):
    """A set for tensors of `shape`, and what is known of it independently."""

    C: sets.ConstraintSet
    shape: tuple[int, ...]
    support: Any  # u: max over C of <u, v>
    inside: Any  # x: whether it is in C
    atoms: Any  # random generator: points on the boundary of C, for a polytope all of its vertices
    norm: Any = None  # of a ball: C is where this is at most R

    @property
    def slack(self):
        """What the value of the oracle may lack, relative."""
        exact = getattr(self.C, "method", "svd") == "svd"
        return 1e-9 if exact else {sets.Spectral: 1e-4, sets.Nuclear: 1e-3}.get(type(self.C), 1e-2)


# Polytopes: their vertices, in R^n (Birkhoff: flattened), and their inequalities

POLYTOPES = {
    "linf": (sets.LInf(R), lambda n: itertools.product([-R, R], repeat=n)),
    "l1": (sets.L1(R), lambda n: [*R * np.eye(n), *-R * np.eye(n)]),
    "k_sparse": (
        sets.KSparse(R, k=K),
        lambda n: (v for v in itertools.product([-R, 0, R], repeat=n) if np.count_nonzero(v) == min(n, K)),
    ),
    "unit_simplex": (sets.UnitSimplex(R), lambda n: [np.zeros(n), *R * np.eye(n)]),
    "probability_simplex": (sets.ProbabilitySimplex(R), lambda n: R * np.eye(n)),
    "box": (sets.Box(-0.5, 2.0), lambda n: itertools.product([-0.5, 2.0], repeat=n)),
    "permutahedron": (sets.Permutahedron(R), lambda n: itertools.permutations(R * np.linspace(-1, 1, n))),
    "birkhoff": (sets.Birkhoff(), lambda n: (np.eye(n)[list(p)].ravel() for p in itertools.permutations(range(n)))),
}


def vertices(name, n):
    return np.array(list(POLYTOPES[name][1](n)), dtype=float)


def least_value(name, g):
    """The least <g, x> in a polytope of R^n, by HiGHS, from its inequalities."""
    n, both = len(g), np.concatenate([g, -g]).ravel()  # x = p - q, p and q >= 0
    if name in ("permutahedron", "birkhoff"):  # the first is the second's image under P -> P w
        sums = [np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))]
        costs = g if name == "birkhoff" else np.outer(g, R * np.linspace(-1, 1, n))
        return linprog(costs.ravel(), A_eq=np.concatenate(sums), b_eq=np.ones(2 * n)).fun
    return {
        "linf": lambda: linprog(g, bounds=(-R, R)),
        "l1": lambda: linprog(both, [[1] * 2 * n], R),
        "k_sparse": lambda: linprog(both, [[1] * 2 * n], K * R, bounds=(0, R)),
        "unit_simplex": lambda: linprog(g, [[1] * n], R),
        "probability_simplex": lambda: linprog(g, A_eq=[[1] * n], b_eq=R),
        "box": lambda: linprog(g, bounds=(-0.5, 2.0)),
    }[name]().fun


def nearest_in_hull(x, corners):
    """The quadratic program min ||x - sum of w_i corner_i||, w >= 0; that w sums to 1 weighs 1e4."""
    rows = np.vstack([corners.T, np.full(len(corners), 1e4)])
    return lsq_linear(rows, [*x.ravel(), 1e4], (0, np.inf), method="bvls", tol=1e-14).x @ corners


def polytope(name, shape):
    C, corners = POLYTOPES[name][0], vertices(name, shape[0])
    points = corners.reshape(-1, *shape)

    def inside(x):
        return np.abs(nearest_in_hull(x, corners) - x.ravel()).max() < 1e-6

    return Case(C, shape, lambda u: (corners @ u.ravel()).max(), inside, lambda rng: points)


# Balls: norm and dual norm


def lp(p):
    return lambda x: np.linalg.norm(np.ravel(x), p)


def top(a, k=K):
    """The l2 norm of the k largest entries."""
    return np.linalg.norm(np.sort(np.abs(a).ravel())[::-1][:k])


def k_support(a, k=K):
    """The K-support norm as the least sqrt(sum of a_i^2 / t_i), 0 < t_i <= 1, sum of t_i <= K (arXiv 1512.08204)."""
    a = np.abs(a[a != 0])
    if len(a) <= k:
        return np.linalg.norm(a)
    s = brentq(lambda s: np.minimum(1, a / s).sum() - k, a.min() / 2, a.sum(), xtol=1e-300, rtol=1e-15)
    return math.sqrt(np.sum(a**2 / np.minimum(1, a / s)))


def k_sparse(a, k=K):
    """The largest of |a_i| and of their sum / K."""
    return max(np.abs(a).max(), np.abs(a).sum() / min(k, a.size))


def top_sum(a, k=K):
    """The sum of the k largest entries: the dual of `k_sparse`."""
    return np.sort(np.abs(a).ravel())[::-1][:k].sum()


def singular(x):
    return np.linalg.svd(x.reshape(len(x), -1), compute_uv=False)


def slices(axis, x):
    """The l2 norms of x's slices along `axis`."""
    return np.linalg.norm(np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1), axis=1)


def ball(C, shape, norm, dual, of=np.ravel):
    """Of a norm of the values `of` a tensor."""

    def atoms(rng):
        x = rng.standard_normal((300, *shape)) * (rng.random((300, *shape)) < 0.7)
        return np.array([R * one / norm(of(one)) for one in x if one.any()])

    def inside(x):
        return norm(of(x)) <= R * (1 + 1e-9)

    return Case(C, shape, lambda u: R * dual(of(u)), inside, atoms, lambda x: norm(of(x)))


CASES = {name: polytope(name, (3, 3) if name == "birkhoff" else (4,)) for name in POLYTOPES} | {
    "l2": ball(sets.L2(R), (2, 3), lp(2), lp(2)),
    "lp1.5": ball(sets.Lp(R, p=1.5), (6,), lp(1.5), lp(3)),
    "lp4": ball(sets.Lp(R, p=4), (2, 3), lp(4), lp(4 / 3)),
    "k_support": ball(sets.KSupport(R, k=K), (6,), k_support, top),
}
for method, shape in itertools.product(["svd", "iterative"], [(5, 3), (3, 2, 2)]):
    CASES |= {
        f"{type(C).__name__}-{method}-{len(shape)}d": ball(C, shape, norm, dual, singular)
        for C, norm, dual in [
            (sets.Spectral(R, method=method), lp(np.inf), lp(1)),
            (sets.Nuclear(R, method=method), lp(1), lp(np.inf)),
            (sets.SpectralKSupport(R, method=method, k=K), k_support, top),
            (sets.SpectralKSparse(R, method=method, k=K), k_sparse, top_sum),
        ]
    }
for groups, axis, shape in [("filters", 0, (4, 2, 3)), ("rows", 0, (4, 3)), ("columns", 1, (3, 4))]:
    norms = functools.partial(slices, axis)
    CASES |= {
        f"group_l1-{groups}": ball(sets.GroupL1(R, groups=groups), shape, lp(1), lp(np.inf), norms),
        f"group_linf-{groups}": ball(sets.GroupLInf(R, groups=groups), shape, lp(np.inf), lp(1), norms),
        f"group_k_support-{groups}": ball(sets.GroupKSupport(R, groups=groups, k=K), shape, k_support, top, norms),
    }
UNPROJECTABLE = (sets.Lp, sets.KSupport, sets.Birkhoff, sets.SpectralKSupport, sets.GroupKSupport)


def cases(keep=lambda case: True):
    return pytest.mark.parametrize("case", [pytest.param(c, id=name) for name, c in CASES.items() if keep(c)])


every_case, every_ball = cases(), cases(lambda case: case.norm)
every_projection = cases(lambda case: not isinstance(case.C, UNPROJECTABLE))
every_set = cases(lambda case: case.shape != (3, 2, 2))
every_sized_set = cases(lambda case: case.shape != (3, 2, 2) and isinstance(case.C, sets.Ball))
every_polytope = pytest.mark.parametrize("name", POLYTOPES)


def feasible(case, rng, m):
    """m random points of C: convex combinations of three atoms each, many near one of them."""
    atoms = case.atoms(rng)
    weights = rng.dirichlet([0.3, 0.3, 0.3], m).reshape(m, 3, *[1] * len(case.shape))
    return (weights * atoms[rng.integers(len(atoms), size=(m, 3))]).sum(1)


# Oracles


@every_polytope
@pytest.mark.parametrize("n", [1, 2, 5])
def test_oracle_against_linear_programming(name, n):
    rng = np.random.default_rng(n)
    for _ in range(5):
        g = rng.standard_normal((n, n) if name == "birkhoff" else n)
        v = POLYTOPES[name][0].lmo(torch.tensor(g)).numpy()
        assert np.sum(g * v) == pytest.approx(least_value(name, g), rel=1e-9)
        assert np.abs(vertices(name, n) - v.ravel()).max(1).min() < 1e-12  # a vertex


@every_case
def test_no_point_of_the_set_is_better_and_ties_are_decided(case):
    """Over 10,000 random points, and at the value of the dual norm or of the best vertex; at g = 0, too."""
    rng = np.random.default_rng(0)
    points = feasible(case, rng, 10_000).reshape(10_000, -1)
    first = np.eye(1, math.prod(case.shape)).reshape(case.shape)
    ties = [rng.integers(-1, 2, case.shape) * 1.0, np.ones(case.shape), first, -first, 0 * first]
    for g in [*rng.standard_normal((3, *case.shape)), *ties]:
        v = case.C.lmo(torch.tensor(g))
        assert v.isfinite().all()
        assert case.C.contains(v)
        assert case.inside(v.numpy())
        assert torch.equal(v, case.C.lmo(torch.tensor(g)))
        value, best = np.sum(g * v.numpy()), -case.support(-g)
        assert value == pytest.approx(best, rel=case.slack, abs=1e-9)
        assert value <= (points @ g.ravel()).min() + case.slack * abs(best) + 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(48, 32), (32, 48), (32, 32)])
def test_iterative_oracles_on_difficult_spectra(dtype, shape):
    """Level, nearly level, linear, decaying, of low rank, of rank one."""
    u, _, vt = np.linalg.svd(np.random.default_rng(0).standard_normal(shape), full_matrices=False)
    i = np.arange(32)
    for s in (i**0, 1 - i / 1000, 1 - i / 33, 0.9**i, i < 10, i < 1):
        g = torch.tensor((u * s) @ vt, dtype=dtype)
        for C, best, slack in [
            (sets.Spectral(R, method="iterative"), s.sum(), 1e-4),
            (sets.Nuclear(R, method="iterative"), s.max(), 1e-3),
            (sets.SpectralKSupport(R, k=4, method="iterative"), top(s * 1.0, 4), 1e-2),
            (sets.SpectralKSparse(R, k=4, method="iterative"), top_sum(s * 1.0, 4), 1e-2),
        ]:
            v = C.lmo(g)
            assert C.contains(v)
            assert (v.double() * g.double()).sum().item() == pytest.approx(-R * best, rel=slack)


@every_set
def test_oracle_under_vmap_equals_the_loop(case):
    torch.manual_seed(0)
    for shape in [(3, 3)] if isinstance(case.C, sets.Birkhoff) else [(3, 3), (4, 1, 2)]:
        g = torch.randn(5, *shape)
        looped = torch.stack([case.C.lmo(one) for one in g])
        for dim in (0, 1):
            mapped = torch.func.vmap(case.C.lmo, in_dims=dim)(g.movedim(0, dim))
            torch.testing.assert_close(mapped, looped, atol=1e-5, rtol=1e-5)


@every_sized_set
@pytest.mark.parametrize("size", [1e-36, 1e-40])
def test_oracle_of_gradients_that_nearly_vanish(case, size):
    """Saturated networks have such in single precision, and the set may be large."""
    C = case.C.with_radius(3000.0)
    v = C.lmo(torch.randn(case.shape, generator=torch.Generator().manual_seed(0)) * size)
    assert v.isfinite().all()
    assert C.contains(v)


# Membership, gap, diameter


@every_case
def test_what_is_not_a_number_is_outside(case):
    assert not case.C.contains(torch.full(case.shape, math.nan))
    if isinstance(case.C, sets.Box | sets.ProbabilitySimplex | sets.Permutahedron | sets.Birkhoff):
        assert case.C.lmo(torch.full(case.shape, math.nan)).isnan().any()  # no vertex that looks like one


@every_ball
def test_excess_is_the_norm_over_the_radius(case):
    rng = np.random.default_rng(2)
    special = [np.ones(case.shape), np.zeros(case.shape)]
    for x in [*rng.standard_normal((20, *case.shape)), *case.atoms(rng)[:20], *special]:
        assert case.C.excess(torch.tensor(x)).item() == pytest.approx(case.norm(x) / R - 1, rel=1e-9, abs=1e-12)
    for x in torch.tensor(1.01 * case.atoms(rng)[:9]):
        assert [bool(case.C.contains(x, tolerance=t)) for t in (0.0, 0.009, 0.011)] == [False, False, True]
        assert case.C.boundary(x / 1.01).item() == pytest.approx(1)
        assert case.C.boundary(x / 4.04).item() == pytest.approx(1 / 4)


@every_polytope
def test_membership_against_a_quadratic_program(name):
    case, rng = CASES[name], np.random.default_rng(3)
    for noise in (0.0, 0.02, 0.5):
        for x in feasible(case, rng, 20) + noise * rng.standard_normal((20, *case.shape)):
            assert case.C.contains(torch.tensor(x)) == case.inside(x)


@every_case
def test_gap_is_the_largest_decrease_in_the_set(case):
    rng = np.random.default_rng(4)
    points = feasible(case, rng, 1000)
    for x, g in zip(points[:20], rng.standard_normal((20, *case.shape)), strict=True):
        gap, slack = case.C.gap(torch.tensor(g), torch.tensor(x)), case.slack * case.support(-g) + 1e-9
        assert gap.shape == ()
        assert gap.item() == pytest.approx(np.sum(g * x) + case.support(-g), abs=slack)
        assert gap >= max(0, (np.sum(g * x) - points.reshape(1000, -1) @ g.ravel()).max()) - slack


@every_polytope
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_diameter_is_the_largest_distance_of_vertices(name, n):
    largest = pdist(vertices(name, n)).max(initial=0)
    for shape in [(n, n)] if name == "birkhoff" else [(n,), (1, n), (n, 1, 1), *[()] * (n == 1)]:
        assert POLYTOPES[name][0].diameter(shape) == pytest.approx(largest, rel=1e-12)


@every_ball
def test_diameter_is_attained_and_never_exceeded(case):
    rng = np.random.default_rng(5)
    special = [np.ones(case.shape), np.eye(1, math.prod(case.shape)).reshape(case.shape)]
    gs = torch.tensor(np.stack([*rng.standard_normal((5, *case.shape)), *special]))
    widths = [(case.C.lmo(g) - case.C.lmo(-g)).norm().item() for g in gs]
    assert max(widths) == pytest.approx(case.C.diameter(case.shape), rel=max(1e-6, case.slack))
    assert pdist(feasible(case, rng, 200).reshape(200, -1)).max() <= case.C.diameter(case.shape) * (1 + 1e-9)
    for shape in [(), (1,), (1, 1)]:  # [-R, R]
        assert case.C.fitted(torch.zeros(shape)).diameter(shape) == pytest.approx(2 * R)


@pytest.mark.parametrize(("k", "n"), [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5), (3, 6)])
def test_k_support_norm_against_its_dual(k, n):
    """max <x, u> where every k entries of u have an l2 norm of at most 1, by SLSQP; l1 for k = 1, l2 for k = n."""
    rng = np.random.default_rng(6)
    groups = np.array(list(itertools.combinations(range(n), k)))
    for x in [*rng.standard_normal((3, n)), np.ones(n), np.array([3.0, -1, 1] + [0] * (n - 3))]:
        bound = {"type": "ineq", "fun": lambda u: 1 - (u[groups] ** 2).sum(1)}
        start, options = x / np.linalg.norm(x) / 2, {"ftol": 1e-12, "maxiter": 500}
        best = minimize(lambda u, x=x: -x @ u, start, constraints=bound, options=options)
        norm = sets.KSupport(k=k).norm(torch.tensor(x)).item()
        assert norm == pytest.approx(-best.fun, rel=1e-5)
        assert norm == pytest.approx(k_support(x, k), rel=1e-9)
        if k in (1, n):
            assert norm == pytest.approx(np.linalg.norm(x, 1 if k == 1 else 2), rel=1e-12)


def test_effective_rank():
    assert sets.effective_rank(torch.diag(torch.tensor([2.0, 2.0, 2.0, 0.0]))).item() == pytest.approx(3)
    assert sets.effective_rank(torch.ones(4, 5)).item() == pytest.approx(1, abs=1e-3)


# Projections


@every_projection
def test_projection_is_the_nearest_point(case):
    """p in C is it if and only if no point of C lies beyond p in the direction x - p; a quadratic program agrees."""
    rng = np.random.default_rng(7)
    for scale in [0.1, 1.0, 3.0, 100.0]:
        for x in [*scale * rng.standard_normal((5, *case.shape)), np.full(case.shape, scale)]:
            p = case.C.project(torch.tensor(x)).numpy()
            assert case.inside(p)
            assert np.sum((x - p) * p) == pytest.approx(case.support(x - p), rel=1e-9, abs=1e-9)
            np.testing.assert_allclose(case.C.project(torch.tensor(p)), p, atol=1e-9)
            if not case.norm:
                np.testing.assert_allclose(nearest_in_hull(x, case.atoms(rng)), p, atol=1e-5 * max(1, scale))
    for x in feasible(case, rng, 50):
        np.testing.assert_allclose(case.C.project(torch.tensor(x)), x, atol=1e-9)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_spectral_k_sparse_is_k_sparse_of_the_singular_values(k):
    """Oracle and projection from NumPy's singular vectors, HiGHS and a quadratic program over corners."""
    rng = np.random.default_rng(k)
    corners = np.array([v for v in itertools.product([0, R], repeat=3) if np.count_nonzero(v) <= k])
    for _ in range(5):
        u, s, vt = np.linalg.svd(2 * rng.standard_normal((4, 3)), full_matrices=False)
        x, C = torch.tensor((u * s) @ vt), sets.SpectralKSparse(R, k=k, method="svd")
        best = linprog(-s, [[1] * 3], k * R, bounds=(0, R)).x
        np.testing.assert_allclose(C.lmo(x), -(u * best) @ vt, atol=1e-9)
        np.testing.assert_allclose(C.project(x), (u * nearest_in_hull(s, corners)) @ vt, atol=1e-5)


@every_projection
@pytest.mark.parametrize("scale", [1e8, 1e17, 1e30])
def test_projection_from_far_away(case, scale):
    """No digits of the set's size are lost."""
    for g in np.random.default_rng(9).standard_normal((5, *case.shape)):
        p = case.C.project(torch.tensor(scale * g))
        assert case.C.contains(p)
        # For all v in C: <g, v - p> <= (||v||^2 - ||p||^2) / (2 scale), so that p nearly maximizes <g, .>
        assert np.sum(g * p.numpy()) == pytest.approx(case.support(g), abs=1e-6)


def test_k_sparse_projection_of_entries_of_all_magnitudes():
    x = torch.tensor([1e30, 0.9, 0.8, 0.5, 0.1], dtype=torch.float64)
    expected = [1.0, 0.5, 0.4, 0.1, 0.0]  # 1 + (0.9 - t) + (0.8 - t) + (0.5 - t) = 2 for t = 0.4
    np.testing.assert_allclose(sets.KSparse(1.0, k=2).project(x), expected, atol=1e-12)


def test_birkhoff_shift_from_far_away_keeps_the_sums():
    x = torch.tensor([[1.0, 0.0], [2.0, 1.0]], dtype=torch.float64)  # its nearest point with such sums is the centre
    for scale in (1.0, 1e16, 1e30):
        np.testing.assert_allclose(sets.Birkhoff().shift_inside(scale * x), np.full((2, 2), 0.5), atol=1e-12)


@every_case
def test_points_are_shifted_inside_even_without_a_projection(case):
    rng = np.random.default_rng(10)
    far = 1e16 * rng.integers(-1, 3, (10, *case.shape))  # where sums round to even numbers
    for x in [*3 * rng.standard_normal((5, *case.shape)), *far, np.zeros(case.shape)]:
        assert case.inside(case.C.shift_inside(torch.tensor(x)).numpy())
    for x in feasible(case, rng, 10):
        np.testing.assert_allclose(case.C.shift_inside(torch.tensor(x)), x, atol=1e-9)
    assert case.C.projectable() == (not isinstance(case.C, UNPROJECTABLE))
    if not case.C.projectable():
        with pytest.raises(ValueError, match=rf"^constraint={type(case.C).__name__}: [^\n]*$"):
            case.C.project(torch.zeros(case.shape))


# Laws for tensors of all shapes, precisions and magnitudes


@st.composite
def tensors(draw, square):
    """Two of one kind: normal entries, or small integers with their ties and zeros, times a power of ten."""
    shapes = [(1, 1), (2, 2), (5, 5)] if square else [(), (1,), (7,), (4, 3), (1, 5), (2, 3, 2, 2)]
    shape, dtype = draw(st.sampled_from(shapes)), draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    entries = st.sampled_from([rng.standard_normal(shape), rng.integers(-2, 3, shape)])
    return [torch.tensor(draw(entries) * 10.0 ** draw(st.integers(-30, 30))).to(dtype) for _ in "gx"]


@every_set
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_laws_of_oracle_gap_and_diameter(case, data):
    g, start = data.draw(tensors(isinstance(case.C, sets.Birkhoff)))
    before, C = (g.clone(), start.clone()), case.C.fitted(start)
    v, x = C.lmo(g), C.shift_inside(start)
    for point in (v, x):
        assert (point.dtype, point.shape) == (g.dtype, g.shape)
        assert point.isfinite().all()
        assert C.contains(point)
        assert 0 <= C.boundary(point) <= 1 + C.rounding(point)
    assert torch.equal(g, before[0])
    assert torch.equal(start, before[1])
    eps, (g64, v64, x64) = 16 * torch.finfo(g.dtype).eps, (t.double() for t in (g, v, x))
    width, lengths = C.diameter(g.shape), v64.norm() + x64.norm()
    assert (v64 - x64).norm() <= width + eps * lengths
    assert C.gap(g, x) >= -eps * g64.norm() * (width + lengths) - case.slack * (g64 * v64).sum().abs()


# Sizes


@every_sized_set
def test_sizes_are_resolved_for_each_parameter(case):
    C = type(case.C)
    extra = {name: getattr(case.C, name) for name in ("p", "k", "groups", "method") if hasattr(case.C, name)}
    for shape in [(6,), (4, 3), (2, 3, 2, 2)]:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        assert C(**extra).fitted(x).radius == 1
        assert C(diameter=5.0, **extra).fitted(x).diameter(shape) == pytest.approx(5.0)
        factor = C(init_factor=3.0, **extra)
        assert factor.fitted(torch.zeros(shape)).diameter(shape) == pytest.approx(6.0)
        assert factor.fitted(x).diameter(shape) == pytest.approx(6 * np.linalg.norm(x.double().numpy()), rel=1e-9)
        x.initial_norm = 0.5
        assert factor.fitted(x).diameter(shape) == pytest.approx(3.0)


def test_initial_norms_are_means_over_new_networks():
    made = []

    def make():
        network = torch.nn.Linear(4, 3)
        made.append([p.detach().double().norm().item() for p in network.parameters()])
        return network

    network, state = torch.nn.Linear(4, 3), torch.get_rng_state()
    sets.note_initial_norms(network, make)
    assert torch.equal(torch.get_rng_state(), state)
    assert len({norm for norm, _ in made}) == len(made) > 1
    for x, mean in zip(network.parameters(), np.mean(made, axis=0), strict=True):
        assert sets.L2(init_factor=2.0).fitted(x).radius == pytest.approx(2 * mean)


@pytest.mark.parametrize("name", ["diameter", "init_factor"])
def test_a_single_point_cannot_have_a_diameter(name):
    for C in (sets.ProbabilitySimplex, sets.Permutahedron):
        with pytest.raises(ValueError, match=f"^{name}=3.0: {C.__name__} is a single point"):
            C(**{name: 3.0}).fitted(torch.ones(1))
    assert sets.UnitSimplex(diameter=3.0).fitted(torch.ones(1)).diameter((1,)) == 3


@pytest.mark.parametrize(("k", "n", "kept"), [(2, 10, 2), (20, 10, 10), (0.25, 10, 3), (0.5, 10, 5), (0.07, 100, 7)])
def test_k_is_a_number_or_a_share_rounded_up(k, n, kept):
    line = torch.arange(1.0, n + 1)
    for C, x in [
        (sets.KSparse(k=k), line),
        (sets.KSupport(k=k), line),
        (sets.GroupKSupport(k=k), line[:, None].repeat(1, 2)),
        (sets.SpectralKSupport(k=k, method="svd"), torch.diag(line)),
        (sets.SpectralKSparse(k=k, method="svd"), torch.diag(line)),
    ]:
        assert C.fitted(x).k == kept
        assert (C.lmo(x).reshape(n, -1).abs() > 1e-4).any(1).sum() == kept
        assert bool(C.remark(x)) == (k > n)


@pytest.mark.parametrize(("k", "n", "kept"), [(0.25, 10, 2), (0.5, 10, 5), (0.07, 100, 7), (0.01, 10, 1), (3, 10, 3)])
def test_a_share_is_rounded_down_if_wanted(k, n, kept):
    C = sets.KSparse(k=k, round="down")
    assert C.lmo(torch.arange(1.0, n + 1)).count_nonzero() == kept
    assert C.fitted(torch.ones(n)).plain() == sets.KSparse(k=kept).plain()


BAD_SIZES, BAD_KS = [0, -1, math.nan, math.inf], [0, -1, 1.5, math.nan, math.inf]


@pytest.mark.parametrize(
    ("names", "argument", "values"),
    [
        *[("LInf Nuclear Permutahedron", size, BAD_SIZES) for size in ("radius", "diameter", "init_factor")],
        ("ScionNorms", "radius", BAD_SIZES),
        ("ScionNorms", "output_factor", BAD_SIZES),
        ("ScionNorms", "input_floor", [-1, math.nan, math.inf]),
        ("KSparse KSupport SpectralKSupport SpectralKSparse GroupKSupport", "k", BAD_KS),
        ("KSparse SpectralKSparse", "round", ["nearest"]),
        ("Lp", "p", [1, 0.5, math.nan, math.inf]),
        ("Box", "low", [1.0, 2.0, math.nan, -math.inf]),
        ("GroupL1 GroupLInf GroupKSupport", "groups", ["layers"]),
        ("Spectral Nuclear SpectralKSupport ScionNorms", "method", ["qr"]),
        *[("ScionNorms", role, ["linf"]) for role in ("input", "hidden", "output", "bias")],
    ],
)
def test_bad_values_are_named(names, argument, values):
    for name, value in itertools.product(names.split(), values):
        with pytest.raises(ValueError, match=rf"^{argument}={value}: must be [^\n]+$"):
            getattr(sets, name)(**{argument: value})


def test_a_size_is_given_once_and_tells_sets_apart():
    for some in itertools.combinations({"radius": 1.0, "diameter": 2.0, "init_factor": 3.0}.items(), 2):
        with pytest.raises(ValueError, match="give at most one of radius, diameter and init_factor"):
            sets.LInf(**dict(some))
    assert sets.LInf(diameter=2.0) == sets.LInf(diameter=2.0) != sets.LInf(diameter=3.0)


# What is held

NETWORK = {"conv.weight": (8, 3, 2, 2), "conv.bias": (8,), "hidden.weight": (16, 4), "norm": (16,), "out": (5, 16)}


def held(C):
    """What each parameter of the network is held in."""
    xs = [torch.zeros(shape) for shape in NETWORK.values()]
    return dict(zip(NETWORK, C.assign(list(NETWORK), xs), strict=True))


def test_apply_to_says_what_is_held():
    def names(**apply_to):
        return [name for name, C in held(sets.LInf(2.0, **apply_to)).items() if C is not None]

    assert names() == list(NETWORK)
    assert names(apply_to="weights") == ["conv.weight", "hidden.weight", "out"]
    assert names(apply_to="*.bias") == ["conv.bias"]
    assert names(apply_to=["conv.*", "norm"]) == ["conv.weight", "conv.bias", "norm"]
    with pytest.raises(ValueError, match=r"^apply_to=\*\.bais: must be all, weights, or match a name among conv.w"):
        names(apply_to=["norm", "*.bais"])
    with pytest.raises(ValueError, match=r"^apply_to=\*\.bias: needs named parameters"):
        sets.LInf(apply_to="*.bias").assign([None], [torch.zeros(2)])


def test_birkhoff_holds_square_matrices_only():
    with pytest.raises(ValueError, match=r"^apply_to=all: Birkhoff needs square matrices, not 8 x 3 x 2 x 2"):
        held(sets.Birkhoff())
    other, square = sets.Birkhoff(apply_to="b").assign(["a", "b"], [torch.zeros(2), torch.zeros(2, 2)])
    assert (other, square) == (None, sets.Birkhoff())


def test_matrix_balls_hold_vectors_in_the_l2_ball():
    for C in (sets.Spectral, sets.Nuclear, sets.SpectralKSupport, sets.SpectralKSparse):
        assert [type(one) for one in held(C(R)).values()] == [C, sets.L2, C, sets.L2, C]
        assert held(C(R))["norm"].radius == R
        assert held(C(diameter=7.0))["norm"].diameter((16,)) == 7
        assert [bool(C(R).remark(torch.zeros(shape))) for shape in [(3,), (3, 3)]] == [True, False]


def test_scion_norms_by_role():
    """sqrt(d_out / d_in) spectral, over k^2 for convolutions; root mean square; 1 / d_in at the output, by sign."""

    def norms(**arguments):
        return [
            C and (type(C), pytest.approx(C.radius))
            for C in held(sets.ScionNorms(**{"radius": 1.0, **arguments})).values()
        ]

    L2, LInf, Spectral = sets.L2, sets.LInf, sets.Spectral
    assert norms(radius=3.0, output_factor=10.0) == [
        *[(Spectral, 3 * math.sqrt(8 / 3) / 4), (L2, 3 * math.sqrt(8))],
        *[(Spectral, 3 * 2), (L2, 3 * 4), (LInf, 3 * 10 / 16)],
    ]
    other = norms(input="rms", hidden="sign", output="spectral", bias="sign", output_factor=2.0)
    assert other == [(L2, math.sqrt(96)), (LInf, 1), (LInf, 1 / 4), (LInf, 1), (Spectral, 2 * math.sqrt(5) / 4)]
    only = norms(apply_to=["hidden.*", "norm"], output_factor=1.0)  # the only matrix is the output
    assert only == [None, None, (LInf, 1 / 4), (L2, 4), None]
    assert held(sets.ScionNorms(method="iterative"))["hidden.weight"].method == "iterative"


def test_scions_row_and_column_norms_are_those_of_its_code():
    """RowNorm and ColNorm as the paper's repository has them: the input's are not divided by d_in."""
    rng = np.random.default_rng(0)
    gs = [rng.standard_normal(shape) for shape in [(5, 4), (6, 5), (3, 6)]]

    def row(g, first):
        return g / np.sqrt((g**2).sum(-1, keepdims=True)) / (1 if first else np.sqrt(g.shape[1]))

    def column(g, first):
        return g / np.sqrt((g**2).mean(0, keepdims=True)) / (1 if first else g.shape[1])

    for name, formula in [("row", row), ("column", column)]:
        norms = sets.ScionNorms(radius=2.0, output_factor=3.0, input=name, hidden=name, output=name)
        for i, (C, g) in enumerate(zip(norms.assign(list("abc"), list(map(torch.tensor, gs))), gs, strict=True)):
            rho = 6 if i == 2 else 2
            np.testing.assert_allclose(C.lmo(torch.tensor(g)), -rho * formula(g, i == 0), rtol=1e-12)


@pytest.mark.parametrize("role", ["row", "column", "spectral"])
def test_a_layer_in_scions_balls_has_outputs_as_large_as_its_inputs(role):
    """For inputs with entries of 1, of a convolution over one position: largest outputs 1, or their mean square."""
    rng = np.random.default_rng(1)
    for shape in [(5, 4), (3, 4, 2, 2)]:
        C = sets.ScionNorms(radius=1.0, hidden=role).norm("hidden").fitted(torch.zeros(shape))
        for _ in range(50):
            w = -C.lmo(torch.tensor(rng.standard_normal(shape))).numpy().reshape(shape[0], -1)
            y = w @ rng.choice([-1.0, 1.0], w.shape[1])
            assert (np.abs(y).max() if role == "row" else np.sqrt((y**2).mean())) <= 1 + 1e-9


def test_scions_input_has_a_floor():
    assert held(sets.ScionNorms(radius=1.0, input_floor=1.0))["conv.weight"].radius == math.sqrt(8 / 3) / 4
    wide = [torch.zeros(8, 32), torch.zeros(8, 32), torch.zeros(2, 8)]
    radii = [C.radius for C in sets.ScionNorms(radius=1.0, input_floor=1.0).assign([None] * 3, wide)]
    assert radii[:2] == [1.0, 0.5]  # the hidden layer has none
