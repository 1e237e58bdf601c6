"""Recorded steps against plain ones: the same numbers, for every optimizer, model and feature that can be recorded."""

import pytest
import torch
from conftest import training_of
from torch import nn

import optim
from data import Dataset, Facts
from trainer.loop import train_epoch
from trainer.objectives import CrossEntropy
from trainer.recorded import Recorded

N, B = 70, 16  # four batches and a smaller one

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
    "lion": lambda xs: optim.lion(xs, lr=0.01),
    "cgd": lambda xs: optim.CGD(xs, optim.LInf(1.0), lr=0.01, momentum=0.9),
    "sfw": lambda xs: optim.SFW(xs, optim.KSparse(1.0), lr=0.1, rescale="gradient", gap_every=3),
    "sfw_diameter": lambda xs: optim.SFW(xs, optim.L2(1.0), lr=0.1, rescale="diameter"),
    "scion": lambda xs: optim.Scion(xs, optim.ScionNorms(), lr=0.01),
    "adagrad_sfw": lambda xs: optim.AdaGradSFW(xs, optim.LInf(1.0), lr=0.1),
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


def run(make, model=Small, *, recorded=None, epochs=3, schedule=True, **settings):
    """A run's weights, sums and state after some epochs."""
    torch.manual_seed(0)
    x, y = torch.randint(0, 256, (N, 1, 8, 8), dtype=torch.uint8), torch.randint(0, 3, (N,))
    facts = Facts(
        "random", "classification", (1, 8, 8), 3, None, None, {"train": N}, torch.tensor(128.0), torch.tensor(50.0)
    )
    network = model().double()
    optimizer = make(network.parameters())
    dataset = Dataset({"train": (x, y)}, facts, B).to(torch.device("cpu"), torch.float64)
    settings = {"epochs": 9, "precision": "float64"} | settings
    t = training_of(network, dataset, CrossEntropy(facts, l2=1e-3), optimizer, **settings)
    if schedule:
        t.schedule = optim.cosine(optimizer, epochs=9, steps_per_epoch=5, max_steps=None)
    if recorded:
        t.recorded = Recorded(t, **recorded)
    sums = []
    for epoch in range(epochs):
        t.progress.epoch, t.progress.position, t.progress.sums = epoch, 0, {}
        train_epoch(t, None)
        sums.append({k: float(v) for k, v in t.progress.sums.items()})
    return t, sums


def assert_same(one, other, rtol=0.0, atol=0.0):
    (t, sums), (u, theirs) = one, other
    for (name, a), b in zip(t.model.state_dict().items(), u.model.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}")
    for a, b in zip(sums, theirs, strict=True):
        assert a == pytest.approx(b, rel=rtol, abs=atol)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_operations_done_again_are_the_step(name):
    plain = run(OPTIMIZERS[name])
    again = run(OPTIMIZERS[name], recorded={"compiled": False, "captured": False})
    assert again[0].recorded.replay is not None
    exact = not name.endswith(("adam", "adamw"))  # else torch computes beta^t in single precision
    assert_same(plain, again, rtol=1e-9 if exact else 1e-3, atol=1e-12 if exact else 1e-6)
