"""A step against autograd and hand-written loops: gradients put together, losses in turn, clipping, averages."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import training_of
from torch import nn

from data import Dataset, Facts
from optim import ORGFW, LInf
from trainer.training.anomaly import NotFinite
from trainer.training.objectives import CrossEntropy, MeanSquaredError, Objective
from trainer.training.second_point import SecondPoint
from trainer.training.state import Training, steps_per_epoch
from trainer.training.step import take_step

N = 50


def facts(task="classification", outputs=3, shape=(6,)):
    counts = (20, 20, 10) if task == "classification" else None
    numbers = torch.zeros(()), torch.ones(())
    return Facts("random", task, shape, outputs, None, None, {"train": N}, *numbers, class_counts=counts)


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def data(weights=True, size=8):
    torch.manual_seed(1)
    x, y, w = torch.randn(N, 6, dtype=torch.float64), torch.randint(0, 3, (N,)), torch.rand(N, dtype=torch.float64)
    return Dataset({"train": (x, y, w) if weights else (x, y)}, facts(), size).to(torch.device("cpu"), torch.float64)


def steps(t: Training) -> list:
    """The batches of each step of an epoch."""
    batches, k = list(t.batches(t.epoch_parts(), 0)), t.settings.accumulate
    return [batches[i : i + k] for i in range(0, len(batches), k)]


@pytest.mark.parametrize("weights", [False, True])
def test_accumulated_gradients_are_those_of_one_large_batch(weights):
    """Of 50 samples in batches of 8, three a step: 24, 24, and then 2."""
    objective = CrossEntropy(facts(), class_weights=[1.0, 0.5, 3.0] if weights else "none", l2=0.01, l1=0.02)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    t = training_of(model, data(weights), objective, optimizer, accumulate=3)
    sizes = []
    for batches in steps(t):
        take_step(t, batches, None)
        x, y = (torch.cat([batch[i] for batch in batches]) for i in (0, 1))
        w = torch.ones(len(y), dtype=torch.float64)
        if weights:
            w = torch.cat([batch[2] for batch in batches]) * torch.tensor([1.0, 0.5, 3.0], dtype=torch.float64)[y]
        loss = (F.cross_entropy(model(x), y, reduction="none") * w).sum() / w.sum()
        matrices = [model[0].weight, model[2].weight]
        loss = loss + 0.01 * sum((m**2).sum() for m in matrices) + 0.02 * sum(m.abs().sum() for m in matrices)
        for p, g in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            torch.testing.assert_close(p.grad, g, rtol=1e-6, atol=1e-9)
        sizes.append(len(y))
    assert sizes == [24, 24, 2]


def test_a_second_point_sees_all_batches_of_the_step():
    model = network()
    t = training_of(model, data(), CrossEntropy(facts()), ORGFW(model.parameters(), LInf(1.0), lr=0.1), accumulate=4)
    batches = steps(t)[0]
    again = SecondPoint(t)
    again.remember()
    points = [p.detach() + 0.1 for p in model.parameters()]
    ours = again.gradients(batches)(points)
    other = copy.deepcopy(model)
    for p, point in zip(other.parameters(), points, strict=True):
        p.data = point.clone()
    x, y, w = (torch.cat([batch[i] for batch in batches]) for i in range(3))
    loss = (F.cross_entropy(other(x), y, reduction="none") * w).sum() / w.sum()
    for g, h in zip(ours, torch.autograd.grad(loss, list(other.parameters())), strict=True):
        torch.testing.assert_close(g, h, rtol=1e-6, atol=1e-9)


class Pair(nn.Module):
    """A generator of points and a discriminator that tells them from the data."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.generator = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 6))
        self.discriminator = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))


def pair_losses(model, x, z):
    """Of the generator, and of the discriminator (Goodfellow et al. 2014, in the form that does not saturate)."""
    fake, one, zero = model.generator(z), torch.ones(len(x), 1), torch.zeros(len(x), 1)
    tell = F.binary_cross_entropy_with_logits
    return tell(model.discriminator(fake), one), (
        tell(model.discriminator(x), one) + tell(model.discriminator(fake.detach()), zero)
    )


class Adversarial(Objective):
    task = "classification"
    metrics = ("loss", "loss_discriminator")
    turns = ("discriminator", "generator")

    def __call__(self, model, batch, turn=None):
        x = batch[0]
        loss = pair_losses(model, x, x[:, :2])[turn == "discriminator"]
        name = "loss" if turn == "generator" else "loss_discriminator"
        return loss, {name: loss.detach() * len(x), "weight": len(x), "samples": len(x)}


def test_losses_in_turn_are_two_optimizers():
    ours, theirs = Pair(), Pair()
    dataset = Dataset({"train": (torch.randn(N, 6), torch.zeros(N, dtype=torch.long))}, facts(), 10)
    t = training_of(ours, dataset, Adversarial(facts()), torch.optim.Adam(ours.parameters(), lr=0.01))
    of_g, of_d = (torch.optim.Adam(p.parameters(), lr=0.01) for p in (theirs.generator, theirs.discriminator))
    for batches in steps(t):
        sums = take_step(t, batches, None)
        assert set(t.objective.finish({k: float(v) for k, v in sums.items()})) == {"loss", "loss_discriminator"}
        x = batches[0][0]
        of_d.zero_grad()
        pair_losses(theirs, x, x[:, :2])[1].backward()
        of_d.step()
        of_g.zero_grad()
        pair_losses(theirs, x, x[:, :2])[0].backward()
        of_g.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


class Fresh(Adversarial):
    """Two steps of the discriminator for one of the generator, each on a batch of its own."""

    turns = ("discriminator", "discriminator", "generator")
    fresh = True


def test_turns_with_batches_of_their_own():
    """Of 50 samples in batches of 10: a step of three batches, and one of two, whose first comes again."""
    ours, theirs = Pair(), Pair()
    dataset = Dataset({"train": (torch.randn(N, 6), torch.zeros(N, dtype=torch.long))}, facts(), 10)
    t = training_of(ours, dataset, Fresh(facts()), torch.optim.SGD(ours.parameters(), lr=0.1))
    assert steps_per_epoch(dataset, t.settings, t.objective) == 2
    batches = list(t.batches(t.epoch_parts(), 0))
    of = {name: torch.optim.SGD(part.parameters(), lr=0.1) for name, part in theirs.named_children()}
    for given, used in ((batches[:3], (0, 1, 2)), (batches[3:], (3, 4, 3))):
        sums, told = take_step(t, given, None), {}
        for turn, i in zip(Fresh.turns, used, strict=True):
            x = batches[i][0]
            of[turn].zero_grad()
            loss = pair_losses(theirs, x, x[:, :2])[turn == "discriminator"]
            loss.backward()
            of[turn].step()
            told["loss" if turn == "generator" else "loss_discriminator"] = loss.item()
        assert sums["samples"] == 30
        assert t.objective.finish({k: float(v) for k, v in sums.items()}) == pytest.approx(told)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)


class Reconstruction(Objective):
    """An autoencoder's: the input is the target."""

    task = "classification"

    def __call__(self, model, batch):
        x = batch[0]
        loss = F.mse_loss(model(x), x)
        return loss, {"loss": loss.detach() * len(x), "weight": len(x), "samples": len(x)}


def test_an_objective_need_not_look_at_targets():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 6)).double()
    t = training_of(model, data(False), Reconstruction(facts()), torch.optim.Adam(model.parameters(), lr=0.01))
    losses = []
    for _ in range(20):
        sums = [take_step(t, batches, None) for batches in steps(t)]
        losses.append(sum(float(s["loss"]) for s in sums) / N)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("norm", [1e-3, 1e3])
def test_clipping(norm):
    ours, theirs = network(), network()
    t = training_of(
        ours, data(False), CrossEntropy(facts()), torch.optim.SGD(ours.parameters(), lr=0.1), clip_norm=norm
    )
    batches = steps(t)[0]
    take_step(t, batches, None)
    gradients = torch.autograd.grad(F.cross_entropy(theirs(batches[0][0]), batches[0][1]), list(theirs.parameters()))
    length = torch.sqrt(sum((g**2).sum() for g in gradients))
    for a, b, g in zip(ours.parameters(), theirs.parameters(), gradients, strict=True):
        torch.testing.assert_close(a, b - 0.1 * g * min(1.0, norm / (length + 1e-6)), rtol=1e-6, atol=1e-12)


def test_averaged_weights():
    """e <- d e + (1 - d) x after each step, from the first step's x on; also of running averages."""
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    t = training_of(model, data(False), CrossEntropy(facts()), optimizer, ema=0.7)
    expected = None
    for batches in steps(t):
        take_step(t, batches, None)
        now = {k: v.clone() for k, v in model.state_dict().items() if v.is_floating_point()}
        expected = now if expected is None else {k: 0.7 * e + 0.3 * now[k] for k, e in expected.items()}
    state = t.ema.module.state_dict()
    assert expected.keys() >= {"0.weight", "1.running_mean"}
    for name, value in expected.items():
        torch.testing.assert_close(state[name], value)


class Reciprocal(nn.Module):
    def forward(self, x):
        return 1 / (x - x)


PLACES = ["1 (Reciprocal)", "the gradient of 0.weight", "the optimizer made 0.weight", "the loss"]


@pytest.mark.parametrize("made_by", PLACES)
def test_the_first_layer_that_makes_a_nan_is_named(made_by):
    torch.manual_seed(0)
    odd = {"1": Reciprocal, "t": nn.Identity}.get(made_by[0], nn.Identity)()
    model = nn.Sequential(nn.Linear(6, 3), odd, nn.Linear(3, 3)).double()
    lr = math.inf if "optimizer" in made_by else 0.1
    dataset, objective = data(False), CrossEntropy(facts())
    if "gradient" in made_by:
        model[0].weight.register_hook(lambda g: g * float("nan"))
    if "loss" in made_by:
        objective.compare = lambda outputs, y, reduction: outputs.sum() * float("inf")
    t = training_of(model, dataset, objective, torch.optim.SGD(model.parameters(), lr=lr), anomaly=True)
    pattern = rf"^{made_by.replace('(', '.').replace(')', '.')}.*step 1$"
    with t.watch.looking(), pytest.raises(NotFinite, match=pattern):
        take_step(t, steps(t)[0], None)


def test_regression_in_double_precision_has_its_digits():
    """The targets, too: single precision would show after seven digits."""
    torch.manual_seed(0)
    x, y = torch.randn(N, 6), torch.randn(N, 1)
    about = facts("regression", 1)
    dataset = Dataset({"train": (x, y)}, about, N).to(torch.device("cpu"), torch.float64)
    model = nn.Linear(6, 1).double()
    t = training_of(
        model, dataset, MeanSquaredError(about), torch.optim.SGD(model.parameters(), lr=0.0), precision="float64"
    )
    (batches,) = steps(t)
    sums = take_step(t, batches, None)
    order = t.epoch_parts()[0]
    expected = ((model(x[order].double()) - y[order].double()) ** 2).mean()
    assert sums["loss"].dtype == torch.float64
    assert sums["loss"].item() / N == pytest.approx(expected.item(), rel=1e-14)
