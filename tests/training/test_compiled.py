"""Recorded steps against plain ones: the same numbers, for every optimizer, model and feature that can be recorded."""

import contextlib
import math
import types

import pytest
import torch
from conftest import training_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import optim
from data import Dataset, Facts
from data.augment import Augment
from trainer.rundir.errors import Refused
from trainer.training.acceleration import accelerate
from trainer.training.adversary import Adversary
from trainer.training.compiled import Recorded
from trainer.training.loop import train_epoch
from trainer.training.objectives import CrossEntropy

N, B = 70, 16  # four batches and a smaller one
LISTED = {"compiled": False, "captured": False}  # the recording as it is: a list of operations
READING = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default}
# SciPy's isotonic regression; and optimizers whose steps torch counts on the host, on a GPU, too
ON_THE_HOST = {"permutahedron", "adagrad", "rmsprop"}

OPTIMIZERS = {
    "sgd": lambda xs: optim.sgd(xs, lr=0.1),
    "momentum": lambda xs: optim.sgd(xs, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "projected_sgd": lambda xs: optim.sgd(xs, optim.L2(1.0), lr=0.1, momentum=0.9),
    "adam": lambda xs: optim.adam(xs, lr=0.01),
    "projected_adam": lambda xs: optim.adam(xs, optim.LInf(0.1), lr=0.01),
    "adamw": lambda xs: optim.adamw(xs, lr=0.01),
    "rmsprop": lambda xs: optim.rmsprop(xs, lr=0.01, momentum=0.5, centered=True),
    "adagrad": lambda xs: optim.adagrad(xs, lr=0.1),
    "momentum_adagrad": lambda xs: optim.adagrad(xs, lr=0.1, momentum=0.9),
    "permutahedron": lambda xs: optim.sgd(xs, optim.Permutahedron(), lr=0.1),
    "lion": lambda xs: optim.lion(xs, lr=0.01),
    "cgd": lambda xs: optim.CGD(xs, optim.LInf(1.0), lr=0.01, momentum=0.9),
    "sfw": lambda xs: optim.SFW(xs, optim.KSparse(1.0), lr=0.1, rescale="gradient", gap_every=3),
    "sfw_diameter": lambda xs: optim.SFW(xs, optim.L2(1.0), lr=0.1, rescale="diameter"),
    "scion": lambda xs: optim.Scion(xs, optim.ScionNorms(), lr=0.01),
    "adagrad_sfw": lambda xs: optim.AdaGradSFW(xs, optim.LInf(1.0), lr=0.1),
}


OTHERS = {
    "muon": lambda xs: optim.muon(xs, lr=0.01),
    "orgfw": lambda xs: optim.ORGFW(xs, optim.LInf(1.0), lr=0.01),
}


class Small(nn.Module):
    """A convolution with batch normalization and dropout."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(144, 3),
        )

    def forward(self, x):
        return self.net(x)


def run(
    make,
    model=Small,
    *,
    recorded=None,
    epochs=3,
    objective=CrossEntropy,
    parts=(),
    augment=None,
    schedule=optim.cosine,
    **settings,
):
    """A run's weights, sums and state after some epochs."""
    torch.manual_seed(0)
    x, y = torch.randint(0, 256, (N, 1, 8, 8), dtype=torch.uint8), torch.randint(0, 3, (N,))
    facts = Facts(
        "random", "classification", (1, 8, 8), 3, None, None, {"train": N}, torch.tensor(128.0), torch.tensor(50.0)
    )
    network = model().double()
    optimizer = make(network.parameters())
    dataset = Dataset({"train": (x, y, *parts)}, facts, B, augment).to(torch.device("cpu"), torch.float64)
    settings = {"epochs": 9, "precision": "float64"} | settings
    t = training_of(network, dataset, objective(facts, l2=1e-3), optimizer, **settings)
    t.schedule = schedule(optimizer, epochs=9, steps_per_epoch=5, max_steps=None)
    if recorded:
        t.recorded = Recorded(t, **recorded)
    t.pulse_at, sums = math.inf, []  # it has no run directory
    for epoch in range(epochs):
        t.progress.epoch, t.progress.position, t.progress.sums = epoch, 0, {}
        train_epoch(t, None)
        sums.append({k: float(v) for k, v in t.progress.sums.items()})
    return t, sums


def assert_same(one, other, rtol=1e-9, atol=1e-12):
    (t, sums), (u, theirs) = one, other
    for (name, a), b in zip(t.model.state_dict().items(), u.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}")
    for a, b in zip(sums, theirs, strict=True):
        assert a == pytest.approx(b, rel=rtol, abs=atol)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_operations_done_again_are_the_step(name):
    plain = run(OPTIMIZERS[name])
    again = run(OPTIMIZERS[name], recorded=LISTED)
    assert again[0].recorded.replay is not None
    exact = not name.endswith(("adam", "adamw"))  # else torch computes beta^t in single precision
    assert_same(plain, again, rtol=1e-9 if exact else 1e-3, atol=1e-12 if exact else 1e-6)


class Rows(nn.Module):
    """A recurrent network over the rows of an image."""

    def __init__(self):
        super().__init__()
        self.cells, self.out = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.cells(x.squeeze(1))[0][:, -1])


def attacked(facts, **penalty):
    """An objective with an adversary, which starts anywhere."""
    objective = CrossEntropy(facts, **penalty)
    objective.against(Adversary(facts, adversary="pgd", adversary_norm="l2", adversary_radius=0.5, adversary_steps=2))
    return objective


FEATURES = {
    "recurrent": {"model": Rows},
    "accumulation": {"accumulate": 2},
    "clipping": {"clip_norm": 0.1},
    "averages": {"ema": 0.9},
    "an adversary": {"objective": attacked},
}


@pytest.mark.parametrize("feature", FEATURES)
def test_with_every_feature(feature):
    options = FEATURES[feature]
    plain = run(OPTIMIZERS["momentum"], **options)
    again = run(OPTIMIZERS["momentum"], recorded=LISTED, **options)
    assert again[0].recorded.replay is not None
    assert_same(plain, again)
    if feature == "averages":
        for a, b in zip(plain[0].ema.parameters(), again[0].ema.parameters(), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("weights", [False, True])
def test_augmented_batches_and_weights(weights):
    """Then batches are given to the recording, not indices."""
    parts = [torch.rand(N, generator=torch.Generator().manual_seed(1))] if weights else []
    options = {"parts": parts, "augment": None if weights else Augment(crop=1, flip=True)}
    assert_same(run(OPTIMIZERS["cgd"], **options), run(OPTIMIZERS["cgd"], recorded=LISTED, **options))


def test_gaps_are_measured_in_the_same_steps():
    plain, again = (run(OPTIMIZERS["sfw"], recorded=how)[0] for how in (None, LISTED))
    one, other = (t.optimizer.pop_measurements() for t in (plain, again))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name])


class Halves(nn.Module):
    """Two halves, each with a loss of its own."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)) for _ in range(2))


class InTurn(CrossEntropy):
    """Two steps of the first half for one of the second."""

    turns = ("first", "first", "second")

    def __call__(self, model, batch, turn):
        loss, sums = super().__call__(model.get_submodule(turn), batch)
        return loss, {"weight": sums["weight"], "samples": sums["samples"], f"loss_{turn}": sums["loss"]}


class FreshInTurn(InTurn):
    """Each on a batch of its own."""

    fresh = True


@pytest.mark.parametrize("objective", [InTurn, FreshInTurn])
def test_gaps_of_losses_in_turn_are_measured_in_the_same_steps(objective):
    def make(xs):
        return optim.SFW(xs, optim.LInf(1.0), lr=0.1, gap_every=5)

    plain, again = (run(make, Halves, objective=objective, epochs=5, recorded=how) for how in (None, LISTED))
    assert again[0].recorded.replay is not None
    assert_same(plain, again)
    (_, rows), (_, others) = (t.optimizer.pop_group_measurements() for t in (plain[0], again[0]))
    for row, other in zip(rows, others, strict=True):
        assert math.isfinite(row["fw_gap"])
        torch.testing.assert_close(row["fw_gap"], other["fw_gap"])


@pytest.mark.slow
def test_compiled_into_one_graph_it_is_the_step():
    plain, again = (run(OPTIMIZERS["adam"], recorded=how) for how in (None, {"compiled": True, "captured": False}))
    assert_same(plain, again, rtol=1e-3, atol=1e-6)


class OnTheHost(CrossEntropy):
    """Weighs the loss by a number that leaves torch."""

    def __call__(self, model, batch):
        loss, sums = super().__call__(model, batch)
        return loss * self.number(batch[1]), sums


class ByNumpy(OnTheHost):
    def number(self, y):
        return float(1 + y.numpy().sum())


class ByItem(OnTheHost):
    def number(self, y):
        return 1.0 if y.sum() > 3 else 0.5


class Counting(CrossEntropy):
    """Counts in Python what it hit."""

    metrics = ("loss", "accuracy", "hits")

    def __call__(self, model, batch):
        loss, sums = super().__call__(model, batch)
        return loss, sums | {"hits": int((model(batch[0]).argmax(1) == batch[1]).numpy().sum())}


class Replacing(torch.optim.SGD):
    """Makes its momentum anew instead of changing it in place."""

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for x in group["params"]:
                state = self.state[x]
                state["m"] = x.grad if "m" not in state else 0.9 * state["m"] + x.grad
                x.sub_(group["lr"] * state["m"])


@pytest.mark.parametrize("lr", [0.1, 1e-8])  # however small the steps of a warm-up are
@pytest.mark.parametrize("choice", [ByNumpy, ByItem, Counting, Replacing])
def test_what_cannot_be_recorded_is_never_replayed(choice, lr):
    """Refused where it was asked for; else plain steps, which one line says."""
    own = issubclass(choice, CrossEntropy)
    make = (lambda xs: optim.sgd(xs, lr=lr)) if own else (lambda xs: choice(xs, lr=lr))
    objective = choice if own else CrossEntropy
    with pytest.raises(Refused, match=r"^train\.cuda_graph=true: this step cannot be recorded \(.*\); use false"):
        run(make, objective=objective, recorded=LISTED, cuda_graph=True)
    plain, again = (run(make, objective=objective, recorded=how) for how in (None, LISTED))
    assert again[0].recorded.replay is None
    assert_same(plain, again)


class Momentum:
    """A schedule that lets go of the momentum."""

    def __init__(self, optimizer, **times):
        self.group = optimizer.param_groups[0]

    def step(self):
        self.group["momentum"] *= 0.9


def test_a_schedule_of_momentum_ends_the_replay():
    plain, again = (run(OPTIMIZERS["momentum"], recorded=how, schedule=Momentum) for how in (None, LISTED))
    assert again[0].recorded.failed
    assert_same(plain, again)


def test_a_run_that_diverges_is_recorded_too():
    """The epoch's end finds it, as it does with plain steps."""
    assert math.isnan(run(lambda xs: optim.sgd(xs, lr=1e200), recorded=LISTED, epochs=1)[1][0]["loss"])


def test_steps_read_nothing_from_the_device():
    """No operation of an epoch's steps gives a number to Python: on a GPU it would wait."""

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            assert function not in READING, function
            return function(*args, **kwargs or {})

    for name in OPTIMIZERS.keys() - ON_THE_HOST:
        t, _ = run(OPTIMIZERS[name], epochs=1)
        t.progress.epoch, t.progress.position, t.progress.sums = 1, 0, {}
        parts = t.epoch_parts()
        t.epoch_parts = lambda parts=parts: parts
        with Watch():
            train_epoch(t, None)


def test_what_a_run_is_accelerated_by():
    def settled(make=OPTIMIZERS["sgd"], **settings):
        t = run(make, epochs=0, **settings)[0]
        accelerate(t)
        return t

    assert settled().recorded is None  # no GPU
    assert settled(compile=True).recorded.compiled
    others = [{"make": make} for make in OTHERS.values()] + [{"model": Rows}, {"accumulate": 5}]
    for other in others:
        t = settled(**other, compile=True)
        assert t.recorded is None
        assert t.compiles_alone
    with pytest.raises(ValueError, match=r"^cuda_graph=true: needs a CUDA device; use auto"):
        settled(cuda_graph=True)


class StandIn(TorchDispatchMode):
    """A CUDA graph's replay without a GPU: the operations of a capture once more, on the same memory."""

    def __init__(self):
        super().__init__()
        self.done = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **kwargs or {})
        self.done.append((function, args, kwargs or {}, out))
        return out

    @torch.no_grad()
    def replay(self):
        for function, args, kwargs, out in self.done:
            again = function(*args, **kwargs)
            for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


@pytest.mark.parametrize("name", ["momentum", "adam", "sfw"])
def test_a_captured_step_is_given_samples_rates_and_sums(monkeypatch, name):
    stream = types.SimpleNamespace(wait_stream=lambda other: None)
    for what, stand_in in {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "CUDAGraph": StandIn,
        "graph": lambda graph: graph,
    }.items():
        monkeypatch.setattr(torch.cuda, what, stand_in)
    again = run(OPTIMIZERS[name], recorded={"compiled": False, "captured": True})
    assert again[0].recorded.replay is not None
    adam = name == "adam"
    assert_same(run(OPTIMIZERS[name]), again, rtol=1e-3 if adam else 1e-9, atol=1e-6 if adam else 1e-12)
