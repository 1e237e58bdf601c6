"""One set for several layers: as if their entries were one parameter, and against HiGHS."""

import copy

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from optim import CGD, L1, ORGFW, SFW, AdaGradSFW, KSparse, KSupport, Scion, adam, muon, sgd

SHAPES, R = [(4, 3), (5,), (2, 3, 2)], 0.4  # 29 entries
SETS = {
    "l1": lambda **scope: L1(2.0, **scope),
    "k_sparse": lambda **scope: KSparse(R, k=0.2, **scope),
    "k_support": lambda **scope: KSupport(1.0, k=7, **scope),
}
every_set = pytest.mark.parametrize("make", SETS.values(), ids=SETS)
METHODS = {
    "cgd": lambda ps, C: CGD(ps, C, lr=0.1, momentum=0.5, weight_decay=0.1, gap_every=2),
    "plain cgd": lambda ps, C: CGD(ps, C, lr=0.1, gap_every=2),
    "scion": lambda ps, C: Scion(ps, C, lr=0.1, gap_every=2),
    "sgd": lambda ps, C: sgd(ps, C, lr=0.1, momentum=0.5),
    "adam": lambda ps, C: adam(ps, C, lr=0.1),
} | {
    f"sfw {rescale}": lambda ps, C, rescale=rescale: SFW(ps, C, lr=0.3, momentum=0.5, rescale=rescale, gap_every=2)
    for rescale in ("none", "diameter", "gradient", "fast_gradient")
}


def layers(seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.nn.Parameter(scale * torch.randn(shape, generator=generator, dtype=torch.float64)) for shape in SHAPES
    ]


def joined(xs):
    return torch.cat([x.detach().reshape(-1) for x in xs])


def with_gradients(xs, gradient):
    for x, g in zip(xs, gradient.split([x.numel() for x in xs]), strict=True):
        x.grad = g.view_as(x).clone()


@every_set
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_layers_move_as_one_parameter_of_all_their_entries(make, method):
    if method in (METHODS["sgd"], METHODS["adam"]) and not make().projectable():
        return
    xs, one = layers(), [torch.nn.Parameter(joined(layers()))]
    together, alone = method(xs, make(scope="network")), method(one, make())
    torch.testing.assert_close(joined(xs), one[0].detach(), atol=1e-15, rtol=0)  # shifted inside
    assert set(together.shifted) == {"0", "1", "2"}
    rng = np.random.default_rng(0)
    for t in range(30):
        g = joined(one) + torch.tensor(rng.standard_normal(29))
        with_gradients(xs, g)
        one[0].grad = g.clone()
        together.step()
        alone.step()
        torch.testing.assert_close(joined(xs), one[0].detach(), atol=1e-12, rtol=0)
        if t == 10:
            state = copy.deepcopy(together.state_dict())
            together = method(xs, make(scope="network"))
            together.load_state_dict(state)
    if hasattr(together, "pop_measurements"):
        measured, rows = together.pop_group_measurements()
        expected = alone.pop_measurements()
        assert {row["parameter"] for row in rows} == {"0", "1", "2"}
        assert measured["boundary"].item() == pytest.approx(expected["boundary"].item())


def test_gaps_of_layers_add_up_to_that_of_the_whole():
    for momentum in (0.0, 0.5):
        xs, C = layers(scale=0.01), KSparse(R, k=0.2, scope="network")
        optimizer = CGD(xs, C, lr=0.1, momentum=momentum, gap_every=1)
        before, g = joined(xs), torch.randn(29, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        with_gradients(xs, g)
        optimizer.step()
        values = np.sort(np.abs(g.numpy()))[::-1][:6].sum()  # k = 0.2 of 29, rounded up
        measured = optimizer.pop_measurements()
        assert measured["fw_gap"].item() == pytest.approx((g @ before).item() + R * values)
        assert measured["step_norm"].item() == pytest.approx((joined(xs) - before).norm().item())


@pytest.mark.parametrize("seed", range(3))
def test_the_vertex_of_a_network_against_linear_programming(seed):
    xs, g = layers(scale=0.0), np.random.default_rng(seed).standard_normal(29)
    with_gradients(xs, torch.tensor(g))
    CGD(xs, KSparse(R, k=7, scope="network"), lr=1.0).step()
    both = np.concatenate([g, -g])
    best = linprog(both, [[1] * 58], 7 * R, bounds=(0, R))
    np.testing.assert_allclose(joined(xs), best.x[:29] - best.x[29:], atol=1e-9)


def test_a_recursive_gradient_of_a_network():
    xs = layers(scale=0.01)
    one = [torch.nn.Parameter(joined(xs))]
    together, alone = (ORGFW(ps, KSparse(R, k=5, scope=s), lr=0.1) for ps, s in ((xs, "network"), (one, "layer")))
    for t in range(5):
        g = torch.sin(torch.arange(29, dtype=torch.float64) + t)
        with_gradients(xs, g)
        one[0].grad = g.clone()
        together.step(lambda points: [2 * p for p in points])
        alone.step(lambda points: [2 * p for p in points])
        torch.testing.assert_close(joined(xs), one[0].detach(), atol=1e-12, rtol=0)


def test_a_layer_without_a_gradient_has_the_gradient_0():
    xs = layers(scale=0.001)
    before = xs[1].detach().clone()
    optimizer = CGD(xs, L1(1.0, scope="network"), lr=0.5)
    optimizer.step()  # no gradient at all: no step
    assert torch.equal(xs[1], before)
    xs[0].grad = torch.ones_like(xs[0])
    optimizer.step()
    torch.testing.assert_close(xs[1].detach(), before / 2)
    assert optimizer.constraints[0].contains(joined(xs))


def test_sizes_are_of_all_entries():
    xs = layers()
    norm = joined(xs).norm().item()
    whole = KSparse(init_factor=3.0, k=0.5, scope="network").assign([None] * 3, xs)[0]
    assert whole.diameter(()) == pytest.approx(6 * norm)
    assert whole.plain()["k"] == 15
    assert KSparse(diameter=7.0, scope="network").assign([None] * 3, xs)[0].diameter(()) == pytest.approx(7)
    optimizer = CGD(xs, KSparse(init_factor=3.0, scope="network"), lr=0.1)
    other = CGD(layers(seed=1), KSparse(init_factor=3.0, scope="network"), lr=0.1)
    other.load_state_dict(optimizer.state_dict())
    assert other.constraints[0].radius == optimizer.constraints[0].radius
    with pytest.raises(ValueError, match=r"^constraint=KSparse"):
        CGD(layers(), KSparse(1.0), lr=0.1).load_state_dict(optimizer.state_dict())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda xs: KSparse(scope="model"), "^scope=model: must be layer or network"),
        (lambda xs: CGD(xs, KSparse(k=30, scope="network"), lr=0.1), r"^k=30: must be at most 29, the entries of all"),
        (lambda xs: AdaGradSFW(xs, L1(scope="network"), lr=0.1), "^constraint=L1: scope=network is not for AdaGradSFW"),
        (lambda xs: Scion(xs, L1(scope="network"), lr=0.1, constrained=False), "^constraint=L1: scope=network is not"),
        (lambda xs: muon(xs, L1(scope="network"), lr=0.1), "^constraint=L1: scope=network needs its parameters in one"),
        (
            lambda xs: CGD([{"params": xs[:1]}, {"params": xs[1:], "lr": 0.2}], L1(scope="network"), lr=0.1),
            "^constraint=L1: scope=network needs its parameters in one",
        ),
        (lambda xs: sgd(xs, KSupport(scope="network"), lr=0.1), "^constraint=KSupport: no projection"),
    ],
)
def test_what_does_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make(layers())
