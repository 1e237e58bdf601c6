"""What optimizers meet at their edges: nothing to step, bfloat16, and two methods that are a third in disguise."""

import copy
import io
import math
import pickle
from types import SimpleNamespace

import pytest
import torch
from conftest import training_of
from test_torch_optimizers import CONDITIONAL, PROJECTED, advance, every_optimizer, held

from optim import CGD, LInf, Scion, lion, muon, sets, sgd
from optim.schedules import cosine
from optim.unconstrained import nearly_orthogonal
from trainer.rundir.errors import Diverged
from trainer.training.loop import check_finite

SETS = {
    type(C).__name__: C
    for C in [
        *(sets.LInf(0.3), sets.L2(0.3), sets.L1(0.3), sets.Lp(0.3), sets.KSparse(0.3, k=0.4), sets.KSupport(0.3)),
        *(sets.UnitSimplex(0.3), sets.ProbabilitySimplex(0.3), sets.Box(), sets.Permutahedron(0.3), sets.Birkhoff()),
        *(sets.Spectral(0.3), sets.Nuclear(diameter=0.3), sets.SpectralKSupport(init_factor=0.3, k=0.4)),
        *(sets.GroupL1(0.3), sets.GroupKSupport(0.3, k=0.4, groups="columns"), sets.ScionNorms(0.3)),
    ]
}
EMPTY = [(0, 3), (3, 0), (0,), (2, 0, 3, 3), (2, 3, 0, 3)]
PAIRS = [
    *(pytest.param(CONDITIONAL["cgd"], C, id=f"cgd {name}") for name, C in SETS.items()),
    *(
        pytest.param(PROJECTED["sgd"], C, id=f"sgd {n}")
        for n, C in SETS.items()
        if n != "ScionNorms" and C.projectable()
    ),
    *(pytest.param(make, SETS["L1"], id=f"{name} L1") for name, make in (CONDITIONAL | PROJECTED).items()),
    *(pytest.param(make, None, id=name) for name, make in PROJECTED.items()),
]


def parameters(empty):
    """A square matrix, and perhaps parameters without entries after it."""
    generator = torch.Generator().manual_seed(0)
    full = torch.nn.Parameter(torch.randn(3, 3, generator=generator))
    without = [torch.nn.Parameter(torch.zeros(shape)) for shape in EMPTY] if empty else []
    return full, [("w", full), *((f"empty{i}", x) for i, x in enumerate(without))]


def measured(optimizer):
    return optimizer.pop_group_measurements()[1] if hasattr(optimizer, "pop_group_measurements") else []


@pytest.mark.parametrize(("make", "C"), PAIRS)
def test_parameters_without_entries_are_left_alone(make, C):
    """The others take the very steps that they take alone, and a state goes through a file."""
    (alone, ours), (x, theirs) = parameters(empty=False), parameters(empty=True)
    reference, optimizer = make(ours, C), make(theirs, C)
    assert len(held(optimizer)) == 1 + len(EMPTY)
    advance(reference, 2)
    advance(optimizer, 2)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    optimizer.load_state_dict(torch.load(file, weights_only=True))
    advance(reference, 2, seed=1)
    advance(optimizer, 2, seed=1)
    assert torch.equal(x, alone)
    assert repr(measured(optimizer)) == repr(measured(reference))


@every_optimizer
def test_empty_groups_have_nothing_to_step(make):
    """As torch's optimizers: alone, beside others, added later, emptied later, copied and loaded."""
    optimizer = make([{"params": []}], LInf(0.1))
    assert len(optimizer.param_groups) == 1
    advance(optimizer, 2)
    measured(optimizer)
    x = torch.nn.Parameter(torch.ones(4, 3))
    optimizer.add_param_group({"params": [x]})
    optimizer.add_param_group({"params": []})
    advance(optimizer, 2)
    for again in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        advance(again, 1)
    again = make([{"params": []}], LInf(0.1))
    again.add_param_group({"params": [torch.nn.Parameter(torch.zeros(4, 3))]})
    again.add_param_group({"params": []})
    again.load_state_dict(optimizer.state_dict())
    advance(again, 1)
    assert x.isfinite().all()
    assert (x != 1).any()


@every_optimizer
def test_a_group_that_is_emptied_later_shifts_no_other(make):
    """Neither its set nor what was measured of it: the gap of what is left is its own."""
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.nn.Parameter(torch.randn(3, 3, generator=generator)) for _ in range(2))
    groups = [{"params": [("a", first)], "constraint": LInf(9.0)}, {"params": [("b", second)]}]
    optimizer = make(groups, LInf(0.1))
    alone = make([("b", torch.nn.Parameter(second.detach().clone()))], LInf(0.1))

    def step(optimizer, seed, *options):
        for group in optimizer.param_groups:
            for x in group["params"]:
                x.grad = torch.full_like(x, float(seed)) if x is first else torch.eye(3) * seed
        closure = lambda points: [torch.zeros_like(p) for p in points]  # noqa: E731
        if hasattr(optimizer, "snapshot") and seed == 1:
            optimizer.snapshot(closure)
        optimizer.step(*([closure] if hasattr(optimizer, "second_point") else []))

    for seed in (1, 2, 3):
        step(optimizer, seed)
        step(alone, seed)
        optimizer.param_groups[0]["params"] = []  # after the first step
    assert torch.equal(second, alone.param_groups[0]["params"][0])
    assert repr(measured(optimizer)) == repr(measured(alone))
    optimizer.param_groups[1]["params"] = []
    step(optimizer, 4)
    assert measured(optimizer) == []


@every_optimizer
def test_parameters_without_gradients_stay_where_they_are(make):
    frozen, unused, x = (torch.nn.Parameter(torch.full((3, 3), 0.5)) for _ in range(3))
    frozen.requires_grad_(False)
    optimizer = make([("frozen", frozen), ("unused", unused), ("x", x)], LInf(1.0))
    x.grad = torch.ones(3, 3)
    closure = lambda points: [None, None, torch.ones(3, 3)]  # noqa: E731
    if hasattr(optimizer, "snapshot"):
        optimizer.snapshot(closure)
    optimizer.step(*([closure] if hasattr(optimizer, "second_point") else []))
    assert (frozen == 0.5).all()
    assert (unused == 0.5).all()
    assert (x != 0.5).all()
    measured(optimizer)


def test_a_scheduler_drives_empty_groups_too():
    optimizer = sgd([{"params": []}], LInf(1.0), lr=0.5)
    schedule = cosine(optimizer, epochs=2, steps_per_epoch=1)
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.25)


def test_a_run_does_not_look_for_numbers_in_a_weight_without_entries():
    """torch refuses the largest entry of nothing."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 0), torch.nn.Linear(4, 2))
    dataset = SimpleNamespace(splits={"train": 0}, facts=SimpleNamespace(sizes={"train": 4}), batch_size=4)
    objective = SimpleNamespace(metrics=("loss",), evaluated=(), higher_is_better=())
    t = training_of(model, dataset, objective, torch.optim.SGD(model.parameters(), lr=0.1))
    check_finite(t)
    torch.nn.init.constant_(model[1].bias, math.inf)
    with pytest.raises(Diverged):
        check_finite(t)


# Muon in bfloat16


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(8, 5), (5, 8), (4, 2, 3, 3)])
def test_muons_momentum_is_the_mean_of_the_gradients(shape, dtype, nesterov):
    """torch 2.14's own step divides a bfloat16 momentum by its norm; here it is what the recurrence says."""
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.Parameter(torch.randn(shape, generator=generator).to(dtype))
    y, m = x.detach().clone().flatten(1), torch.zeros(shape, dtype=dtype).flatten(1)
    optimizer = muon([x], lr=0.02, momentum=0.9, nesterov=nesterov, weight_decay=0.1)
    for _ in range(4):
        x.grad = (3 * torch.randn(shape, generator=generator)).to(dtype)
        g = x.grad.flatten(1)
        m = m.lerp(g, 1 - 0.9)
        o = (g.lerp(m, 0.9) if nesterov else m).clone().bfloat16()
        o = o / o.norm()
        for _ in range(5):
            gram = o.float() @ o.float().mT
            o = (3.4445 * o.float() + (-4.775 * gram + 2.0315 * gram @ gram) @ o.float()).bfloat16()
        y = y * (1 - 0.02 * 0.1) - 0.02 * max(1, y.shape[0] / y.shape[1]) ** 0.5 * o.to(dtype)
        optimizer.step()
        assert torch.equal(optimizer.state[x]["momentum_buffer"], m)
        torch.testing.assert_close(x.flatten(1).double(), y.double(), rtol=0, atol=2e-2)


# Lion and Muon with weight decay are conditional gradient methods


@pytest.mark.parametrize("weight_decay", [0.1, 2.0])
def test_lion_of_equal_betas_is_frank_wolfe_over_the_hypercube(weight_decay):
    """Of radius 1 / lambda, with step lr lambda and a momentum from 0, as Scion's is."""
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(4, 3, generator=generator, dtype=torch.float64) / weight_decay
    x, y, z = (torch.nn.Parameter(start.clone()) for _ in range(3))
    C = LInf(1 / weight_decay)
    ours = lion([x], lr=0.05, betas=(0.9, 0.9), weight_decay=weight_decay)
    scion = Scion([y], C, lr=0.05 * weight_decay, momentum=0.9)
    cgd = CGD([z], C, lr=0.05 * weight_decay, momentum=0.9)
    cgd.state[z]["momentum_buffer"] = torch.zeros_like(z)  # CGD's own starts at the first gradient
    for _ in range(50):
        g = torch.randn(4, 3, generator=generator, dtype=torch.float64)
        for each, optimizer in ((x, ours), (y, scion), (z, cgd)):
            each.grad = g.clone()
            optimizer.step()
        torch.testing.assert_close(x, y, rtol=0, atol=1e-12)
        torch.testing.assert_close(x, z, rtol=0, atol=1e-12)
    assert (x != start).all()


class MuonsSpectral(sets.Spectral):
    """The spectral ball with Muon's oracle, whose singular values are near the radius."""

    def lmo(self, g):
        return -self.radius * nearly_orthogonal(g.flatten(1)).view_as(g).to(g.dtype)


@pytest.mark.parametrize(("shape", "s"), [((8, 2), 2), ((2, 8), 1), ((72, 2, 3, 3), 2), ((4, 2, 3, 1), 1)])
def test_muons_radius_is_s_over_the_weight_decay(shape, s):
    """s = sqrt(max(1, rows / columns)) of the flattened convolution; the reference code has its last two axes."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator, dtype=torch.float64) / 100
    x, y = (torch.nn.Parameter(start.clone()) for _ in range(2))
    ours = muon([x], lr=0.05, momentum=0.9, nesterov=False, weight_decay=0.5)
    scion = Scion([y], MuonsSpectral(s / 0.5), lr=0.05 * 0.5, momentum=0.9)
    for _ in range(20):
        x.grad = torch.randn(shape, generator=generator, dtype=torch.float64)
        y.grad = x.grad.clone()
        ours.step()
        scion.step()
        torch.testing.assert_close(x, y, rtol=0, atol=1e-12)
