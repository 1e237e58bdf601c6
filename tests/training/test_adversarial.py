"""GANs: losses and penalty by closed forms, the judge, turns with rates of their own, and a kill."""

import csv
import json
import shutil

import numpy as np
import pytest
import scipy.linalg
import torch
from conftest import summary
from torch import nn
from torch.nn import functional as F

from data import Facts
from trainer.training import checkpoint
from trainer.training.judge import frechet
from trainer.training.objectives import Gan, WassersteinGan
from trainer.training.objectives.adversarial import steepness

FACTS = Facts("dots", "classification", (1, 2, 2), 10, None, None, {"train": 8}, torch.zeros(1), torch.ones(1))
TINY = [
    *("model=gan", "data.normalize=scale", "data.limit=200", "data.batch_size=40", "optim=adam", "optim.lr=1e-3"),
    *("train.threads=1", "train.epochs=2"),
]


class Pair(nn.Module):
    """The generator gives ones; the discriminator the sum of the pixels, times a weight."""

    latent = 3

    def __init__(self):
        super().__init__()
        self.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(4, 1, bias=False))
        nn.init.constant_(self.discriminator[1].weight, 0.5)
        self.generator = nn.Sequential(nn.Linear(3, 4), nn.Unflatten(1, (1, 2, 2)))
        nn.init.zeros_(self.generator[0].weight)
        nn.init.ones_(self.generator[0].bias)


def test_losses_of_both():
    model, x = Pair(), torch.full((5, 1, 2, 2), 3.0)  # scores: 6 of real images, 2 of generated ones
    gan = Gan(FACTS)
    loss, sums = gan(model, (x, torch.zeros(5)), "discriminator")
    wanted = (F.softplus(torch.tensor(-6.0)) + F.softplus(torch.tensor(2.0))) / 2
    assert loss.item() == pytest.approx(wanted.item())
    assert (sums["real"] / 5, sums["made"] / 5) == (1, 0)
    assert gan(model, (x,), "generator")[0].item() == pytest.approx(F.softplus(torch.tensor(-2.0)).item())
    wgan = WassersteinGan(FACTS, gradient_penalty=0.0)
    loss, sums = wgan(model, (x,), "discriminator")
    assert (loss.item(), sums["wasserstein"].item() / 5) == (-4, 4)
    assert wgan(model, (x,), "generator")[0].item() == -2


def test_label_noise_is_on_the_right_side():
    """At scores of 0 the gradient by a score is (1/2 - label) / n."""
    torch.manual_seed(0)
    scores = torch.zeros(2000, 1, requires_grad=True)
    model = Pair()
    model.discriminator = nn.Module()
    model.discriminator.forward = lambda x: scores
    loss, _ = Gan(FACTS, label_noise=0.2)(model, (torch.zeros(1000, 1, 2, 2),), "discriminator")
    loss.backward()
    labels = 0.5 - scores.grad.flatten() * 2000
    assert 0.8 - 1e-4 <= labels[:1000].min() < labels[:1000].max() <= 1 + 1e-4
    assert -1e-4 <= labels[1000:].min() < labels[1000:].max() <= 0.2 + 1e-4
    assert labels[:1000].mean().item() == pytest.approx(0.9, abs=0.01)


def test_the_penalty_of_a_linear_critic():
    """Its slope is its weight everywhere: (|w| - 1)^2, whose gradient is 2 (|w| - 1) w / |w|."""
    critic = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    w = critic[1].weight
    penalty = steepness(critic, torch.rand(6, 1, 2, 2), torch.rand(6, 1, 2, 2))
    norm = w.norm()
    assert penalty.item() == pytest.approx(((norm - 1) ** 2).item(), rel=1e-5)
    (found,) = torch.autograd.grad(penalty, w)
    torch.testing.assert_close(found, 2 * (norm - 1) * w.detach() / norm)


def test_the_penalty_is_taken_between_the_images():
    """The slope of sum(x^2) / 2 at a place is that place."""

    class Square(nn.Module):
        def forward(self, x):
            self.seen = x.detach()
            return x.flatten(1).square().sum(1, keepdim=True) / 2

    critic, x, made = Square(), torch.rand(50, 1, 2, 2), -torch.rand(50, 1, 2, 2)
    penalty = steepness(critic, x, made)
    share = (critic.seen - made) / (x - made)
    assert (share.flatten(1).std(1) < 1e-5).all()  # one number for each pair
    assert 0 <= share.min() < 0.2 < 0.8 < share.max() <= 1
    assert penalty.item() == pytest.approx((critic.seen.flatten(1).norm(dim=1) - 1).square().mean().item(), rel=1e-5)
    with torch.no_grad():
        assert not steepness(critic, x, made).requires_grad


@pytest.mark.parametrize("n", [40, 7])  # more features than images: covariances without full rank
def test_frechet_is_that_of_scipys_root(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=(n, 10)), rng.normal(1, 2, (n + 3, 10)) @ rng.normal(size=(10, 10))
    S_a, S_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(S_a @ S_b).real
    wanted = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(S_a + S_b - 2 * root)
    assert frechet(a, b) == pytest.approx(wanted, rel=1e-5)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert np.isnan(frechet(a[:1], b))


@pytest.fixture(scope="module")
def judge(trained):
    return trained("model=mlp", "model.widths=[20]", "optim=adam", "optim.lr=1e-2", "train.epochs=3")


def test_a_judged_gan_from_the_run_to_its_images(cli, tmp_path, judge):
    run = [*TINY, "objective=gan", "objective.label_noise=0.1", f"objective.judge={judge}", "train.keep=all"]
    code, text = cli(*run, "hydra.run.dir=run")
    assert code == 0, text
    accuracy = summary(judge)["test"]["accuracy"]
    assert f"accuracy {accuracy:.4f}" in text
    found = summary(tmp_path / "run")
    assert found["best"]["metric"] == "val/frechet"
    assert 0 < found["test"]["frechet_real"] < found["test"]["frechet"]
    judge.rename(judge.with_name("moved"))  # the run has it in its checkpoints
    try:
        assert cli("evaluate", "run")[0] == 0
        assert cli("resume", "run", "train.epochs=3")[0] == 0
    finally:
        judge.with_name("moved").rename(judge)
    report = json.loads((tmp_path / "run/evaluation/report.json").read_text())
    assert report["metrics"] == found["test"]
    code, text = cli("sample", "run", "--npz", "made.npz", "--n", "20", "--checkpoint", "last")
    assert code == 0, text
    assert {p.name for p in (tmp_path / "run/samples").iterdir()} == {"samples.png", "walk.png", "epochs.png"}
    made = np.load(tmp_path / "made.npz")
    state = torch.load(tmp_path / "run/checkpoints/last.pt")["model"]
    codes = torch.from_numpy(made["codes"])
    assert (made["x"].shape, codes.shape) == ((20, 1, 8, 8), (20, 16))
    hidden = F.leaky_relu(codes @ state["generator.0.weight"].T + state["generator.0.bias"], 0.2).view(-1, 32, 2, 2)
    for k, stride in ((3, 2), (5, 2)):
        w, b = state[f"generator.{k}.weight"], state[f"generator.{k}.bias"]
        hidden = F.leaky_relu(F.conv_transpose2d(hidden, w, b, stride, 1), 0.2)
    pixels = 16 * F.conv2d(hidden, state["generator.7.weight"], state["generator.7.bias"], padding=1).sigmoid()
    np.testing.assert_allclose(made["x"], pixels, atol=1e-4)
    code, text = cli("robustness", "run", "--out", "r.png")
    assert code == 0, text
    assert "its generator is compressed; left out: noise, fgsm, pgd, fw" in text
    with (tmp_path / "r.csv").open() as file:
        rows = {(row["test"], float(row["level"])): float(row["value"]) for row in csv.DictReader(file)}
    assert {test for test, _ in rows} == {"prune", "filters", "low_rank"}
    assert rows["prune", 0] == rows["low_rank", 100] < rows["prune", 99]
    code, text = cli("predict", "run", "made.npz")
    assert (code, text.count("\n")) == (2, 1), text


def test_a_wasserstein_gan_with_two_rates_goes_on_exactly(goes_on, judge):
    rates = "optim.of={generator:{lr:2e-3},discriminator:{lr:5e-4}}"
    run = [*TINY, "objective=wgan", rates, f"objective.judge={judge}", "train.checkpoint_steps=1"]
    assert goes_on("batch", *run, at_most=5) == 5


def test_the_critic_takes_the_extra_steps_each_with_its_own_batch(cli, tmp_path):
    """50 batches an epoch and 4 turns: 13 steps of the generator; Adam counts three times as many of the critic."""
    run = [*TINY, "objective=wgan", "objective.fresh=true", "data.batch_size=4", "data.val_size=0", "train.epochs=1"]
    code, text = cli(*run, "hydra.run.dir=run")
    assert code == 0, text
    state = torch.load(tmp_path / "run/checkpoints/last.pt")
    steps = {int(one["step"]) for one in state["optimizer"]["state"].values()}
    n = summary(tmp_path / "run")["steps"]
    assert n == 13
    assert steps == {n, 3 * n}
    assert summary(tmp_path / "run")["best"]["metric"] == "epoch"


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (["model=mlp", "objective=gan"], "model=mlp objective=gan: Gan needs a model with generator and discriminator"),
        (["model=gan", "objective=wgan", "objective.critic_steps=0"], "objective.critic_steps=0: must be at least 1"),
        (["model=gan", "objective=gan"], "images are from 0 to 1, and those of the data are not; data.normalize=scale"),
        (["model=gan", "objective=gan", "objective.label_noise=2"], "objective.label_noise=2: must be in [0, 1]"),
        ([*TINY, "objective=gan", "objective.judge=nowhere"], "objective.judge=nowhere: no such file or folder"),
        (
            ["model=gan", "objective=gan", "'model.generator=[{conv: 3}]'"],
            "generator[0] is conv, which takes (channels, height, width)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(cli, tmp_path, choice, words):
    code, text = cli(*(word.strip("'") for word in choice), "hydra.run.dir=run")
    assert (code, text.count("\n")) == (2, 1), text
    assert words in text
    assert not (tmp_path / "run").exists()


def test_a_judge_of_other_images_is_refused(cli, tmp_path, trained):
    other = trained("data=wine", "model=mlp", "train.epochs=1")
    code, text = cli(*TINY, "objective=gan", f"objective.judge={other}", "hydra.run.dir=run")
    assert (code, text.count("\n")) == (2, 1), text
    assert "its input_shape is (13,), and that of digits (1, 8, 8)" in text


def test_no_class_that_a_judge_names_is_run(cli, tmp_path, judge):
    """Neither that of the judge's run, nor that of its copy in the checkpoints of a judged run."""

    def renamed(run, node_of):
        for kind in ("best", "last"):
            path = run / "checkpoints" / f"{kind}.pt"
            state = torch.load(path, weights_only=True)
            node_of(state)["_target_"] = "torch.nn.Identity"
            checkpoint.save(path, kind, state)

    def refused(*words):
        code, text = cli(*words)
        assert (code, text.count("\n")) == (2, 1), text
        assert "model._target_=torch.nn.Identity is not part of conga" in text

    run = [*TINY, "train.epochs=1", "objective=gan"]
    renamed(shutil.copytree(judge, tmp_path / "other"), lambda state: state["config"]["model"])
    refused(*run, "objective.judge=other", "hydra.run.dir=none")
    code, text = cli(*run, f"objective.judge={judge}", "hydra.run.dir=run")
    assert code == 0, text
    renamed(tmp_path / "run", lambda state: state["objective"]["judge"]["model"])
    for words in (["evaluate", "run"], ["sample", "run"], ["robustness", "run"], ["resume", "run", "train.epochs=2"]):
        refused(*words)


def test_the_sizes_of_the_examples_of_keras(cli):
    for name, parts in (("dcgan", (1_339_905, 74_625)), ("wgan", (902_082, 4_305_409))):
        code, text = cli("model-card", f"model={name}", "--input=1x28x28")
        assert code == 0, text
        counts = {"generator": 0, "discriminator": 0}
        for line in text.splitlines():
            cells = [cell.strip() for cell in line.split("│")]
            half = cells[1].partition(".")[0] if len(cells) > 4 else ""
            if half in counts and cells[4]:
                counts[half] += int(cells[4].replace(",", ""))
        assert tuple(counts.values()) == parts


def test_only_models_with_drawn_codes_are_sampled(cli, judge):
    code, text = cli("sample", str(judge))
    assert (code, text.count("\n")) == (2, 1), text
    assert "makes nothing of drawn codes" in text
