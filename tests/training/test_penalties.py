"""What ``objective.l2`` and ``objective.l1`` add to the loss, against hand-written sums, wherever a loss is said."""

import json
import math

import numpy as np
import pytest
import torch
from conftest import linear_outputs, rows, summary
from scipy.special import log_softmax
from sklearn.datasets import load_wine
from torch import nn

from data import Facts
from trainer.training.objectives import CrossEntropy, MeanSquaredError
from trainer.training.objectives.penalty import Penalty


def facts(task, num_outputs):
    return Facts(task, task, (1,), num_outputs, None, None, {"train": 8}, torch.tensor(0.0), torch.tensor(1.0))


class Odd(nn.Module):
    """Has parameters of all kinds: of layers, norms (also one of several axes), a recurrent net, and frozen ones."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.batch, self.layer = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LayerNorm((2, 4, 4))
        self.group, self.slope = nn.GroupNorm(2, 2), nn.PReLU(2)
        self.recurrent, self.out, self.frozen = nn.GRU(8, 3), nn.Linear(3, 2), nn.Linear(3, 3).requires_grad_(False)
        for p in self.parameters():
            p.data += 0.1  # biases are not 0, or else they could not be seen

    def forward(self, x):
        x = self.group(self.layer(self.slope(self.batch(self.conv(x)))))
        return self.out(self.frozen(self.recurrent(x.flatten(2).transpose(0, 1).reshape(-1, len(x), 8))[0][-1]))


@pytest.mark.parametrize(("l2", "l1"), [(0.1, 0.0), (0.0, 0.01), (0.1, 0.01)])
def test_penalties_are_of_trained_weights(l2, l1):
    """lambda * sum w^2 and lambda * sum |w| of each kernel, as Keras has them: no biases, no norms, nothing frozen."""
    model, x, y = Odd(), torch.randn(8, 1, 6, 6), torch.tensor([0, 1] * 4)
    about, w = facts("classification", 2), torch.rand(8)
    kernels = [model.conv.weight, model.recurrent.weight_ih_l0, model.recurrent.weight_hh_l0, model.out.weight]
    flat = np.concatenate([k.detach().double().numpy().ravel() for k in kernels])
    expected = l2 * np.square(flat).sum() + l1 * np.abs(flat).sum()
    for batch in ((x, y), (x, y, w)):
        (plain, _), (loss, sums) = (CrossEntropy(about, l2=a, l1=b)(model, batch) for a, b in ((0.0, 0.0), (l2, l1)))
        assert loss.item() - plain.item() == pytest.approx(expected, rel=1e-5)
        assert float(sums["loss"] / sums["weight"]) == pytest.approx(loss.item(), rel=1e-6)
        ours, bare = (torch.autograd.grad(v, model.out.weight)[0] for v in (loss, plain))
        torch.testing.assert_close(ours - bare, 2 * l2 * model.out.weight + l1 * model.out.weight.sign())


@pytest.mark.parametrize(("l2", "l1"), [(0.1, 0.0), (0.0, 0.01), (0.1, 0.01)])
def test_penalties_can_be_differentiated_twice(l2, l1):
    """Against finite differences."""
    weights = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 2), (2, 1, 2, 2))]
    assert torch.autograd.gradcheck(lambda *w: Penalty.apply(l2, l1, *w), weights)
    assert torch.autograd.gradgradcheck(lambda *w: Penalty.apply(l2, l1, *w), weights)


@pytest.mark.parametrize("change", [{"l2": -1.0}, {"l1": math.inf}, {"l2": math.nan}])
def test_penalties_that_are_refused(change):
    ((name, value),) = change.items()
    with pytest.raises(ValueError, match=f"^{name}={value}: must be at least 0, and finite"):
        MeanSquaredError(facts("regression", 1), **change)


def test_every_loss_of_a_run_has_the_penalty(command, trained, tmp_path):
    """Of training, validation, averaged weights and a later evaluation; lr=0 keeps the weights as they are."""
    options = ["data=wine", "model=linear", "optim.lr=0", "train.epochs=1", "train.ema=0.9", "data.batch_size=8"]
    run = trained(*options, "objective.l2=0.5", "objective.l1=0.1", "data.test_fraction=0", "data.val_fraction=0")
    weight = next(v for k, v in best(run)["model"].items() if k.endswith("weight")).double()
    wine = load_wine()
    unpenalized = -log_softmax(linear_outputs(run, wine.data), 1)[np.arange(len(wine.target)), wine.target].mean()
    expected = unpenalized + 0.5 * weight.square().sum().item() + 0.1 * weight.abs().sum().item()
    assert float(numbers(run)["train/loss"]) == pytest.approx(expected, rel=1e-5)

    run = trained(*options, "objective.l2=0.5", "objective.l1=0.1")
    row = numbers(run)
    assert float(row["ema/loss"]) == pytest.approx(float(row["val/loss"]), rel=1e-6)
    code, text = command("evaluate", str(run), "--out=out")
    assert code == 0, text
    reported = json.loads((tmp_path / "out" / "report.json").read_text())["metrics"]
    assert reported["loss"] == pytest.approx(summary(run)["test"]["loss"], rel=1e-6)


def best(run):
    return torch.load(run / "checkpoints" / "best.pt", weights_only=True)


def numbers(run):
    return dict(zip(*rows(run), strict=True))
