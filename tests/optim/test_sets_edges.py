"""Gradients at the edges: what is no number, and what has less than full rank."""

import math

import numpy as np
import pytest
import torch

from optim import AdaGradSFW, Scion, sets, sgd
from optim.conditional import SFW

R = 0.3
KINDS = {
    "spectral": sets.Spectral,
    "nuclear": sets.Nuclear,
    "rank_k": sets.SpectralKSupport,
    "rank_k_sparse": sets.SpectralKSparse,
}
SETS = {
    "linf": sets.LInf(R),
    "l2": sets.L2(R),
    "l1": sets.L1(R),
    "lp": sets.Lp(R),
    "k_sparse": sets.KSparse(R, k=0.4),
    "k_support": sets.KSupport(R, k=0.4),
    "unit_simplex": sets.UnitSimplex(R),
    "probability_simplex": sets.ProbabilitySimplex(R),
    "box": sets.Box(-0.5, 0.2),
    "permutahedron": sets.Permutahedron(R),
    "birkhoff": sets.Birkhoff(),
    "group_l1": sets.GroupL1(R),
    "group_linf": sets.GroupLInf(R),
    "group_k_support": sets.GroupKSupport(R, k=0.4, groups="columns"),
} | {f"{name}-{method}": kind(R, method=method) for method in ("svd", "iterative") for name, kind in KINDS.items()}
SHAPES = [(4, 4), (5, 3), (3, 2, 2, 2), (6,), (), (1, 1)]
BAD = [math.nan, math.inf, -math.inf]
every_set = pytest.mark.parametrize("C", SETS.values(), ids=SETS)


def shapes_of(C):
    return [(4, 4), (1, 1)] if isinstance(C, sets.Birkhoff) else SHAPES


def measures(C, x):
    """All that a set says of one tensor."""
    yield C.lmo(x)
    yield C.shift_inside(x)
    yield from C.measured(x).values()
    yield C.gap(x, torch.zeros_like(x))
    if C.projectable():
        yield C.project(x)


@every_set
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_meets_no_number_gives_none_and_raises_nothing(C, dtype):
    """NaN, whatever comparisons and decompositions make of it; and it is outside of every set."""
    for shape in shapes_of(C):
        D = C.fitted(torch.ones(shape))
        for bad in BAD:
            for i in {0, math.prod(shape) // 2, math.prod(shape) - 1}:
                x = torch.linspace(-1, 1, math.prod(shape), dtype=dtype)
                x[i] = bad
                x = x.view(shape)
                assert all(value.isnan().any() for value in measures(D, x)), (shape, bad, i)
                assert not D.excess(x).isfinite()
                assert not D.contains(x)
                assert not hasattr(D, "norm") or not D.norm(x.double()).isfinite()


@every_set
@pytest.mark.parametrize("bad", BAD)
def test_one_bad_slice_leaves_the_others_alone_under_vmap(C, bad):
    g = torch.randn(4, 3, 3, generator=torch.Generator().manual_seed(0))
    alone = torch.stack([C.lmo(one) for one in g])
    g[2, 1, 0] = bad
    together = torch.func.vmap(C.lmo)(g)
    assert together[2].isnan().any()
    good = [0, 1, 3]
    torch.testing.assert_close(together[good], alone[good], atol=1e-5, rtol=1e-5)


@every_set
def test_large_gradients_in_16_bits_are_numbers(C):
    """Their sum is none in these."""
    g = torch.full((4, 4), 6e4, dtype=torch.float16)
    assert C.lmo(g).isfinite().all()


@every_set
@pytest.mark.parametrize("make", [sgd, SFW, AdaGradSFW, Scion])
def test_an_optimizer_shows_a_gradient_that_is_no_number(C, make):
    if make is sgd and not C.projectable():
        return
    x = torch.nn.Parameter(torch.zeros(3, 3))
    optimizer = make([x], C, lr=0.1)
    x.grad = torch.ones(3, 3)
    x.grad[1, 1] = math.nan
    optimizer.step()
    assert x.isnan().any()
    getattr(optimizer, "pop_measurements", dict)()


# Rank

EPS = {torch.float64: 1e-13, torch.float32: 1e-5, torch.float16: 1e-2, torch.bfloat16: 4e-2}
every_dtype = pytest.mark.parametrize("dtype", EPS)


def factors(shape, k, seed=0):
    """Orthonormal columns (rows, k) and (columns, k)."""
    rng = np.random.default_rng(seed)
    return [np.linalg.qr(rng.standard_normal((n, k)))[0] for n in shape]


def singular(v):
    return np.linalg.svd(v.detach().double().flatten(1).numpy(), compute_uv=False)


@every_dtype
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e4])
@pytest.mark.parametrize(("shape", "k"), [((12, 8), 3), ((8, 12), 1), ((30, 30), 5), ((60, 200), 7)])
def test_spectral_vertices_have_the_gradients_rank(shape, k, size, dtype):
    """-r U_k V_k^T for G = U_k S V_k^T; what rounding adds to G's null space is not the gradient's."""
    u, v = factors(shape, k)
    s = np.linspace(1, 0.5, k)
    if dtype == torch.float16 and size != 1:
        return  # beyond its range
    g = torch.tensor(size * (u * s) @ v.T).to(dtype)
    vertex = sets.Spectral(R, method="svd").lmo(g)
    torch.testing.assert_close(vertex.double(), torch.tensor(-R * u @ v.T), rtol=0, atol=EPS[dtype])
    assert singular(vertex)[:k] == pytest.approx(R, rel=EPS[dtype])
    assert (singular(vertex)[k:] < EPS[dtype] * R).all()
    assert sets.Spectral(R).contains(vertex)
    nuclear = singular(g)[:k].sum()
    assert (g.double() * vertex.double()).sum().item() == pytest.approx(-R * nuclear, rel=EPS[dtype])


@every_dtype
def test_rounding_errors_that_agree_are_no_rank_either(dtype):
    """A gradient u v^T of few different numbers is rounded alike in whole blocks: the worst that rounding can do."""
    u, v = np.tile([1, 1.3, -0.7], 20), np.tile([1, 1.7], 30)
    vertex = sets.Spectral(R, method="svd").lmo(torch.tensor(np.outer(u, v)).to(dtype))
    assert singular(vertex)[0] == pytest.approx(R, rel=EPS[dtype])
    assert singular(vertex)[1] < EPS[dtype] * R


@every_dtype
@pytest.mark.parametrize("shape", [(64, 64), (300, 300), (10, 1500)])
def test_a_gradient_of_full_rank_keeps_its_value(shape, dtype):
    """<g, v> = -r ||g||_*, to the digits of its type: no bound on noise takes much of it."""
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    value = (g.double() * sets.Spectral(R, method="svd").lmo(g).double()).sum().item()
    assert value == pytest.approx(-R * singular(g).sum(), rel=EPS[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_rows_of_a_softmax_layers_vertex_add_up_to_0_too(dtype):
    """The rows of its gradient add up to 0, as probabilities sum to 1; rounding made a unit vector of what is left."""
    torch.manual_seed(0)
    layer, x, y = torch.nn.Linear(20, 10, dtype=dtype), torch.randn(64, 20, dtype=dtype), torch.arange(64) % 10
    torch.nn.functional.cross_entropy(layer(x), y).backward()
    vertex = sets.Spectral(R, method="svd").lmo(layer.weight.grad)
    assert vertex.sum(0).abs().max() < 1e-5
    assert singular(vertex)[:9] == pytest.approx(R, rel=1e-5)
    assert singular(vertex)[9] < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("method", ["svd", "iterative"])
def test_without_a_gradient_every_device_goes_to_the_centre(kind, method, dtype):
    for shape in [(5, 3), (3, 5), (4, 2, 3, 3)]:
        assert (kind(R, method=method).lmo(torch.zeros(shape, dtype=dtype)) == 0).all()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_ranks_under_vmap_are_those_of_each(kind):
    g = torch.stack([torch.zeros(6, 4), torch.ones(6, 4), torch.eye(6, 4), torch.randn(6, 4)])
    C = kind(R, method="svd")
    torch.testing.assert_close(torch.func.vmap(C.lmo)(g), torch.stack([C.lmo(one) for one in g]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("constraint", ["spectral", "nuclear"])
def test_a_run_over_matrices_that_diverges_says_so(cli, constraint):
    code, output = cli(
        *("model=mlp", "model.widths=[64,64,64,64]", "optim=sgd", "optim.lr=1e4", f"constraint={constraint}"),
        *("constraint.radius=1e10", "train.epochs=2", "data.limit=200", "hydra.run.dir=run"),
    )
    assert code == 3
    assert "diverged: the loss or a weight is NaN or infinite in epoch 1" in output
