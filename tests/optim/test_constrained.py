"""Which set holds which parameter, of what size, and that it goes on holding it."""

import copy
import dataclasses
import io

import pytest
import torch

import optim
from optim import CGD, L2, SFW, Box, LInf, Lp, ScionNorms, Spectral, sgd


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))


def step(net, optimizer):
    optimizer.zero_grad()
    net(torch.randn(8, 6)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize(
    ("apply_to", "held"),
    [
        ("all", ["0.weight", "0.bias", "2.weight", "2.bias"]),
        ("weights", ["0.weight", "2.weight"]),
        ("2.*", ["2.weight", "2.bias"]),
        (["0.weight", "*.bias"], ["0.weight", "0.bias", "2.bias"]),
        (["weights", "2.bias"], ["0.weight", "2.weight", "2.bias"]),
    ],
)
def test_apply_to_says_whom_a_set_holds(apply_to, held):
    optimizer = CGD(network().named_parameters(), LInf(0.1, apply_to=apply_to), lr=0.1)
    assert sorted(h.name for h in optimizer.held if h.constraint) == sorted(held)
    assert all(h.constraint == LInf(0.1) for h in optimizer.held if h.constraint)


@pytest.mark.parametrize(
    ("apply_to", "message"),
    [
        ([], "apply_to=\\[\\]: must be all, weights, or patterns"),
        ("no*", "apply_to=no\\*: must be all, weights, or match a name among 0.weight, 0.bias, 2.weight, 2.bias"),
    ],
)
def test_apply_to_must_mean_something(apply_to, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        CGD(network().named_parameters(), LInf(0.1, apply_to=apply_to), lr=0.1)


def test_a_loaded_state_brings_the_radius_that_the_run_began_with():
    """`init_factor` goes by the weights as they are; those of another process, or of later, are others."""
    first = network(seed=0)
    optimizer = SFW(first.parameters(), L2(init_factor=3), lr=0.1)
    for _ in range(3):
        step(first, optimizer)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    second = network(seed=1)
    again = SFW(second.parameters(), L2(init_factor=3), lr=0.1)
    radii = [C.radius for C in optimizer.constraints]
    assert [C.radius for C in again.constraints] != radii
    again.load_state_dict(torch.load(file, weights_only=True))
    assert [C.radius for C in again.constraints] == radii == [h.constraint.radius for h in again.held]
    with pytest.raises(ValueError, match="init_factor=3"):
        SFW(network().parameters(), L2(init_factor=4), lr=0.1).load_state_dict(optimizer.state_dict())


def test_a_state_of_another_method_is_refused():
    state = CGD(network().parameters(), L2(2.0), lr=0.1).state_dict()
    with pytest.raises(ValueError, match="its group 0 has no rescale: not a state of SFW"):
        SFW(network().parameters(), L2(2.0), lr=0.1).load_state_dict(state)


def test_a_state_of_an_earlier_version_continues_as_it_did():
    """It lacks options that came later."""
    for make in (CGD, optim.AdaGradSFW):
        optimizer = make(network().parameters(), L2(2.0), lr=0.1)
        state = optimizer.state_dict()
        lacked = {"momentum_power": None} | ({"momentum": 0.0} if make is optim.AdaGradSFW else {})
        state["param_groups"] = [{k: v for k, v in g.items() if k not in lacked} for g in state["param_groups"]]
        optimizer.load_state_dict(state)
        assert optimizer.param_groups[0].items() >= lacked.items()
        assert not state["param_groups"][0].keys() & lacked.keys()  # the caller's is as it was


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_growing_momentum_goes_on_after_loading(dtype):
    """Its count does not stop where the parameters' precision ends, and a mean of all gradients is one."""
    x, y = (torch.nn.Parameter(torch.zeros(3, dtype=dtype)) for _ in "xy")
    one, two = (CGD([p], L2(1.0), lr=0.1, momentum_power=1.0) for p in (x, y))
    for t in range(300):
        x.grad = torch.full_like(x, t)
        one.step()
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    assert two.state[y]["step"].item() == 300  # bfloat16 ends at 256
    if dtype == torch.float64:
        assert one.state[x]["momentum_buffer"][0].item() == pytest.approx(149.5, rel=1e-12)
    y.data.copy_(x)
    for p, optimizer in ((x, one), (y, two)):
        p.grad = torch.ones_like(p)
        optimizer.step()
    assert torch.equal(x, y)


@pytest.mark.parametrize("make", [CGD, optim.ORGFW, optim.Scion, SFW])
@pytest.mark.parametrize("tensor", [False, True])
def test_a_rate_beyond_1_goes_to_the_vertex_and_no_further(make, tensor):
    net = network()
    optimizer = make(net.parameters(), LInf(0.3), lr=torch.tensor(0.5) if tensor else 0.5)
    for group in optimizer.param_groups:
        group["lr"] *= 10  # as a careless scheduler does
    net(torch.randn(8, 6)).square().sum().backward()
    if make is optim.ORGFW:
        optimizer.step(lambda points: [torch.zeros_like(point) for point in points])
    else:
        optimizer.step()
    for x in net.parameters():
        torch.testing.assert_close(x.detach(), -0.3 * x.grad.sign())


def test_a_frozen_parameter_stays_where_it_is():
    net = network()
    net[0].weight.requires_grad_(False).fill_(9.0)
    optimizer = CGD(net.named_parameters(), LInf(1.0), lr=0.1)
    assert optimizer.shifted == []
    step(net, optimizer)
    assert (net[0].weight == 9).all()


def test_a_refused_group_is_not_added():
    net, extra = network(), torch.nn.Parameter(torch.full((3,), 7.0))
    optimizer = sgd(net.parameters(), LInf(1.0), lr=0.1)
    with pytest.raises(ValueError, match="no projection onto this set is known"):
        optimizer.add_param_group({"params": [extra], "constraint": Lp(1.0)})
    assert len(optimizer.param_groups) == 1
    assert (extra == 7).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("constraint", [LInf(0.5), L2(20.0), Box(-0.5, 0.25)])
def test_a_large_parameter_steps_like_a_small_one(constraint, dtype):
    """Large vertices are written to memory that the optimizer keeps; their numbers are the oracle's own."""
    torch.manual_seed(0)
    x = torch.nn.Parameter((0.01 * torch.randn(300, 200)).to(dtype))
    x.grad = (1000 * torch.randn(300, 200)).to(dtype)
    expected = x.detach().double().lerp(constraint.lmo(x.grad.double()), 0.25)
    CGD([x], constraint, lr=0.25).step()
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(
        x.detach().double(), expected, rtol=8 * eps, atol=10 * eps if dtype == torch.float64 else 0.1 * eps
    )


def test_two_large_parameters_do_not_share_a_vertex():
    torch.manual_seed(0)
    xs = [torch.nn.Parameter(torch.zeros(200, 200)) for _ in range(2)]
    for x in xs:
        x.grad = torch.randn(200, 200)
    optimizer = SFW(xs, LInf(1.0), lr=1e-3, rescale="gradient", momentum=0.5)
    for _ in range(2):
        optimizer.step()
    for x in xs:
        alone = torch.nn.Parameter(torch.zeros(200, 200))
        alone.grad = x.grad
        other = SFW([alone], LInf(1.0), lr=1e-3, rescale="gradient", momentum=0.5)
        for _ in range(2):
            other.step()
        assert torch.equal(x, alone)


def test_nothing_sampled_nothing_said():
    net = network()
    optimizer = CGD(net.parameters(), Spectral(1.0), lr=0.1, gap_every=0)
    step(net, optimizer)
    assert list(optimizer.pop_measurements()) == ["boundary", "sparsity", "effective_rank"]


def test_scion_without_bounds_neither_shifts_nor_stays():
    net = network()
    optimizer = optim.Scion(net.named_parameters(), ScionNorms(radius=0.01), lr=0.5, constrained=False)
    assert optimizer.shifted == []
    for _ in range(20):
        step(net, optimizer)
    assert max(optimizer.pop_group_measurements()[1][i]["boundary"] for i in range(4)) > 1


def test_a_set_of_ones_own_needs_a_norm_an_oracle_and_a_diameter():
    class Half(LInf):
        """The hypercube, with an oracle of its own that takes no memory."""

        def lmo(self, g):
            return -0.5 * g.sign()

    x = torch.nn.Parameter(torch.zeros(200, 200))
    x.grad = torch.ones(200, 200)
    CGD([x], Half(1.0), lr=1.0).step()
    assert (x == -0.5).all()

    @dataclasses.dataclass(frozen=True)
    class Unfinished(optim.sets.NormBall):
        def norm(self, x):
            return x.abs().amax()

    with pytest.raises(TypeError, match="abstract methods lmo, unit_diameter"):
        Unfinished(1.0)


def test_dataclasses_replace_makes_another_size():
    assert dataclasses.replace(LInf(1.0), radius=2.0) == LInf(2.0)
    assert LInf(diameter=2.0) != LInf(diameter=3.0)
