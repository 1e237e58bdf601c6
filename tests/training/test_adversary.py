"""Training against an adversary, where the worst input is known in closed form: that of a linear model."""

import contextlib
import json

import numpy as np
import pytest
import torch
from conftest import linear_outputs, summary
from torch import nn

from data import Facts
from trainer.training.adversary import Adversary
from trainer.training.assembly import objective_of
from trainer.training.objectives import BinaryCrossEntropy, CrossEntropy, MeanSquaredError

EPS = 0.3
DUAL = {"linf": 1, "l2": 2}  # the order of the norm dual to that of the ball


def facts(task="regression", shape=(5,), outputs=1, **more):
    return Facts("made", task, shape, outputs, None, None, {"train": 8}, torch.tensor(0.0), torch.tensor(1.0), **more)


def on_batch(adversary, objective, model, batch):
    return adversary.train(objective, model, batch, contextlib.nullcontext)


@pytest.mark.parametrize("norm", DUAL)
@pytest.mark.parametrize("kind", ["fgsm", "pgd", "fw"])
def test_loss_and_gradient_are_those_of_the_worst_inputs(kind, norm):
    """Of a linear regression: the worst residual is |r| + eps ||w||_*; its gradient is the maximum's (Danskin)."""
    torch.manual_seed(0)
    model, x, y = nn.Linear(5, 1), torch.randn(8, 5), torch.randn(8, 1)
    objective = MeanSquaredError(facts())
    adversary = Adversary(facts(), adversary=kind, adversary_norm=norm, adversary_radius=EPS, adversary_steps=40)
    batch = on_batch(adversary, objective, model, (x, y, torch.ones(8)))
    assert all(p.grad is None for p in model.parameters())
    loss = objective(model, batch)[0]
    worst = ((model(x) - y).abs() + EPS * model.weight.norm(DUAL[norm])).square().mean()
    rtol = 0.02 if (kind, norm) == ("pgd", "l2") else 1e-5  # which circles the vertex
    torch.testing.assert_close(loss, worst, rtol=rtol, atol=0)
    ours, theirs = (torch.autograd.grad(value, list(model.parameters())) for value in (loss, worst))
    torch.testing.assert_close(ours, theirs, rtol=5 * rtol, atol=5 * rtol)


def test_pgd_is_the_loop_that_everybody_writes():
    """Madry et al.: random start, signs of gradients, clipped to the ball and the range; on a network that bends."""
    torch.manual_seed(0)
    of = Facts(
        *("made", "classification", (6,), 3, None, None, {"train": 8}, torch.tensor(0.0), torch.tensor(1.0)),
        value_range=(0.0, 1.0),
    )
    model, x, y = (
        nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 3)),
        torch.rand(8, 6),
        torch.randint(0, 3, (8,)),
    )
    adversary = Adversary(of, adversary="pgd", adversary_radius=EPS, adversary_steps=5)
    torch.manual_seed(1)
    ours, *_ = on_batch(adversary, CrossEntropy(of), model, (x, y))
    torch.manual_seed(1)
    theirs = (x + torch.empty(8, 6).uniform_(-EPS, EPS)).clamp(0, 1)
    for _ in range(5):
        theirs.requires_grad_()
        (g,) = torch.autograd.grad(nn.functional.cross_entropy(model(theirs), y), theirs)
        step = theirs.detach() + 2.5 * EPS / 5 * g.sign()
        theirs = torch.max(torch.min(step, x + EPS), x - EPS).clamp(0, 1)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert (ours - x).abs().max() == pytest.approx(EPS, rel=1e-5)


@pytest.mark.parametrize("kind", ["fgsm", "pgd"])
def test_pixels_stay_in_their_range_whatever_the_normalization(kind):
    """A model gets (raw - mean) / std; the ball and the range are of raw / 16."""
    torch.manual_seed(0)
    mean, std = torch.rand(1, 3, 3) * 16, torch.rand(1, 3, 3) + 1
    of = Facts(*("made", "binary", (1, 3, 3), 1, ("a", "b"), None, {"train": 8}, mean, std), value_range=(0.0, 16.0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 1))
    raw, y = torch.randint(0, 17, (8, 1, 3, 3)).float(), torch.tensor([0, 1] * 4)
    adversary = Adversary(of, adversary=kind, adversary_radius=EPS)
    x, *_ = on_batch(adversary, BinaryCrossEntropy(of), model, ((raw - mean) / std, y))
    up = (model[1].weight.view(1, 3, 3) / std).sign() * (1 - 2 * y.view(-1, 1, 1, 1))
    torch.testing.assert_close((x * std + mean) / 16, (raw / 16 + EPS * up).clamp(0, 1), rtol=0, atol=1e-5)


def test_the_model_is_attacked_in_evaluation_mode_and_left_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.9), nn.Sequential(nn.BatchNorm1d(6)))
    model[3].eval()  # a frozen part
    modes, before = [m.training for m in model.modules()], {k: v.clone() for k, v in model.state_dict().items()}
    objective = CrossEntropy(facts("classification", outputs=6))
    adversary = Adversary(objective.facts, adversary="fgsm", adversary_radius=EPS)
    batch = torch.randn(8, 5), torch.randint(0, 6, (8,))
    assert torch.equal(*(on_batch(adversary, objective, model, batch)[0] for _ in range(2)))  # nothing was dropped
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.fixture(scope="session")
def binary(trained):
    """A linear model of two classes, whose robust accuracy is a matter of margins."""
    return trained(
        *(
            "data=breast_cancer",
            "model=linear",
            "train.epochs=3",
            "train.device=cpu",
            "train.monitor=val/robust_accuracy",
        ),
        *("objective.adversary=fgsm", "objective.adversary_radius=0.1"),
    )


def test_robust_metrics_are_those_of_the_margin(binary, command):
    """An input is robust if its logit is farther from 0 than eps ||w||_1; 20 steps of PGD reach the worst one."""
    code, text = command("evaluate", str(binary), "--format=csv")
    assert code == 0, text
    metrics = json.loads((binary / "evaluation" / "report.json").read_text())["metrics"]
    assert metrics == summary(binary)["test"]
    from trainer.analysis.load import load_run

    run = load_run(binary, device="cpu")
    x, y = (values.numpy() for values in run.dataset.splits["test"])
    state = torch.load(binary / "checkpoints" / "best.pt", weights_only=True)
    reach = 0.1 * float(next(iter(state["model"].values())).abs().sum())
    margin = linear_outputs(binary, x)[:, 0] * (2 * y - 1) - reach
    assert metrics["robust_accuracy"] == pytest.approx((margin > 0).mean())
    assert metrics["robust_loss"] == pytest.approx(np.logaddexp(0, -margin).mean(), rel=1e-4)
    assert 0.5 < metrics["robust_accuracy"] < metrics["accuracy"]
    assert "robust_accuracy 0." in (binary / "train.log").read_text()
    best = summary(binary)["best"]
    assert (best["metric"], best["mode"]) == ("val/robust_accuracy", "max")


def test_steps_are_on_changed_inputs(trained):
    """With a rate of 0 the loss of training is that of the worst inputs."""
    options = ["data=breast_cancer", "model=linear", "train.epochs=1", "train.device=cpu", "optim.lr=0"]
    run = trained(*options, "objective.adversary=fw", "objective.adversary_norm=l2", "objective.adversary_radius=0.5")
    from trainer.analysis.load import load_run

    x, y = (values.numpy() for values in load_run(run, device="cpu").dataset.splits["train"])
    weight = next(iter(torch.load(run / "checkpoints" / "best.pt", weights_only=True)["model"].values()))
    margin = linear_outputs(run, x)[:, 0] * (2 * y - 1) - 0.5 * float(weight.norm())
    found = summary(run)["final"]
    assert found["train/loss"] == pytest.approx(np.logaddexp(0, -margin).mean(), rel=1e-4)
    assert found["train/accuracy"] == pytest.approx((margin > 0).mean())


def test_a_run_of_an_earlier_version_has_no_adversary():
    of = facts("classification", outputs=3)
    objective = objective_of({"_target_": "trainer.training.objectives.CrossEntropy", "l2": 0.0}, of)
    assert objective.adversary is None
    assert not any(name.startswith("robust") for name in objective.evaluated)


class InTurn(MeanSquaredError):
    turns = ("a", "b")


def test_what_cannot_be_attacked_is_refused():
    adversary = Adversary(facts(), adversary="pgd")
    with pytest.raises(ValueError, match=r"^adversary=pgd: InTurn has losses in turn, and none to attack; use none$"):
        InTurn(facts()).against(adversary)
    tokens = MeanSquaredError(facts(vocabulary=("a", "b")))
    with pytest.raises(
        ValueError, match=r"^adversary=pgd: its inputs are tokens, which have no nearby points; use none$"
    ):
        tokens.against(adversary)


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("objective.adversary=pdg", "objective.adversary=pdg: must be one of none, fgsm, pgd, fw, evaluation"),
        ("objective.adversary_norm=l1", "objective.adversary_norm=l1: must be one of linf, l2"),
        ("objective.adversary_radius=0", "objective.adversary_radius=0: must be greater than 0, and finite"),
        ("objective.adversary_steps=0", "objective.adversary_steps=0: must be at least 1"),
        ("+objective.adversary_rate=1", "objective.adversary_rate=1: unknown key"),
    ],
)
def test_mistakes_are_one_line(mistake, word, line):
    assert mistake(word).startswith(line)
