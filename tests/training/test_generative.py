"""Objectives that say something else than the task of the data: autoencoders, sequences."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import summary
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch import distributions as d
from users_own import TinyAutoencoder

from data import Facts, Raw
from data.gate import admit
from trainer.analysis import generated
from trainer.training.objectives import Elbo, NextToken, Reconstruction, for_task

IMAGES = Facts("images", "classification", (1, 3, 3), 10, None, None, {"train": 4}, torch.zeros(1), torch.ones(1))
PIXELS = Facts(**IMAGES.plain() | {"value_range": (0.0, 255.0), "std": torch.tensor(255.0)})
TOKENS = Facts(
    *("words", "sequence", (4,), 6, tuple("_<>abc"), None, {"train": 2}, torch.zeros(1), torch.ones(1)),
    vocabulary=tuple("_<>abc"),
)
TINY = ["--config-dir=own", "model=tiny", "data.normalize=scale", "optim=adam"]


@pytest.fixture(autouse=True)
def own(tmp_path):
    """A user's own model."""
    (tmp_path / "own/model").mkdir(parents=True)
    (tmp_path / "own/model/tiny.yaml").write_text(
        "_target_: users_own.TinyAutoencoder\nlatent: 3\nvariational: false\n"
    )


def test_elbo_is_the_one_of_torchs_distributions():
    torch.manual_seed(0)
    model, x = TinyAutoencoder((1, 3, 3), 10, latent=2, variational=True), torch.rand(5, 1, 3, 3)
    elbo = Elbo(PIXELS, beta=0.7)
    torch.manual_seed(1)
    loss, sums = elbo(model, (x, torch.zeros(5)))
    torch.manual_seed(1)
    mean, log_variance = model.encode(x)
    code = d.Normal(mean, (0.5 * log_variance).exp())
    kl = d.kl_divergence(code, d.Normal(0.0, 1.0)).sum(1)
    logits = model.decoder(code.rsample())
    told = -(x * logits.sigmoid().log() + (1 - x) * (1 - logits.sigmoid()).log()).sum((1, 2, 3))
    found = elbo.finish({k: v.item() if isinstance(v, torch.Tensor) else v for k, v in sums.items()})
    assert loss.item() == pytest.approx((told + 0.7 * kl).mean().item(), rel=1e-5)
    assert found["kl"] == pytest.approx(kl.mean().item(), rel=1e-5)
    assert found["reconstruction"] == pytest.approx(told.mean().item(), rel=1e-5)
    assert found["mse"] == pytest.approx((logits.sigmoid() - x).square().mean().item(), rel=1e-5)


@pytest.mark.slow
def test_a_linear_autoencoder_finds_the_plane_of_pca(cli, tmp_path):
    run = [*TINY, "objective=reconstruction", "data.batch_size=256", "optim.lr=0.02"]
    run += ["data.val_fraction=0", "data.test_fraction=0", "schedule=cosine", "train.epochs=150", "hydra.run.dir=run"]
    code, text = cli(*run)
    assert code == 0, text
    x = load_digits().data / 16
    pca = PCA(3).fit(x)
    best = np.square(pca.inverse_transform(pca.transform(x)) - x).mean()
    assert best <= summary(tmp_path / "run")["final"]["train/mse"] <= 1.02 * best


def test_reading_a_run_goes_by_what_its_objective_says(cli, tmp_path):
    run = [*TINY, "model.variational=true", "objective=elbo", "train.epochs=2", "hydra.run.dir=run"]
    code, text = cli(*run)
    assert code == 0, text
    code, text = cli("evaluate", "run", "--trust")
    assert code == 0, text
    report = json.loads((tmp_path / "run/evaluation/report.json").read_text())
    assert report["metrics"] == summary(tmp_path / "run")["test"]  # the codes are drawn by the seed
    assert report["says"] == "images"
    assert "reconstructions.png" in report["files"]
    np.savez(tmp_path / "x.npz", x=load_digits().images[:2, None].astype(np.uint8))
    code, text = cli("predict", "run", "x.npz", "--csv", "--trust")
    assert code == 0, text
    pixels = np.array([line.split(",")[1:] for line in text.strip().splitlines()[-2:]], float)
    assert pixels.shape == (2, 64)
    assert 0 <= pixels.min() < pixels.max() <= 16
    assert cli("robustness", "run", "--tests=prune", "--trust")[0] == 0
    code, text = cli("export", "run", "--format=torch_export", "--trust")
    assert (code, text.count("\n")) == (2, 1), text
    assert "Elbo says images" in text


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (["objective=reconstruction"], "model=mlp objective=reconstruction: Reconstruction compares outputs (10) with"),
        (
            ["objective=elbo", "data.normalize=scale"],
            "objective=elbo: Elbo needs a model with encode and decoder, which MLP lacks",
        ),
        ([*TINY, "objective=elbo"], "Elbo needs a model whose encode gives mean and log variance"),
        (["objective=elbo"], "objective.kind=bce: needs inputs from 0 to 1"),
        (["objective=next_token"], "objective=next_token data=digits: task=classification: NextToken needs"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_anything_is_written(cli, tmp_path, choice, words):
    code, text = cli(*choice, "hydra.run.dir=run")
    assert (code, text.count("\n")) == (2, 1), text
    assert words in text
    assert not (tmp_path / "run").exists()


class Knows(torch.nn.Module):
    """Is sure of the tokens that it is told; `generate` writes the same."""

    def __init__(self, y):
        super().__init__()
        self.y = y

    def forward(self, x, before):
        self.before = before
        return 50.0 * torch.nn.functional.one_hot(self.y, 6).float()

    def generate(self, x):
        return self.y


def test_next_token_counts_tokens_up_to_the_end():
    y = torch.tensor([[3, 4, 2, 0], [5, 3, 3, 2]])
    wrote = torch.tensor([[3, 4, 2, 5], [5, 3, 4, 2]])  # what follows an end does not count
    objective, model = for_task(TOKENS), Knows(wrote)
    assert isinstance(objective, NextToken)
    sums, _ = objective.evaluate(model, (torch.zeros(2, 4), y))
    assert model.before.tolist() == [[1, 3, 4, 2], [1, 5, 3, 3]]
    found = objective.finish({k: v.item() if isinstance(v, torch.Tensor) else v for k, v in sums.items()})
    assert found == {"loss": pytest.approx(50 / 7), "token_accuracy": pytest.approx(6 / 7), "exact_match": 0.5}


def test_noise_is_added_to_what_is_given_only():
    seen = []
    model = torch.nn.Module()
    model.forward = lambda x: seen.append(x) or torch.zeros_like(x)
    x = torch.ones(100, 1, 3, 3)
    _, sums = Reconstruction(IMAGES, noise=0.5)(model, (x, torch.zeros(100)))
    assert sums["mse"].item() / 100 == 1  # against the input without noise
    assert seen[0].std().item() == pytest.approx(0.5, rel=0.1)
    assert math.isclose(seen[0].mean().item(), 1, abs_tol=0.1)


def test_tokens_from_the_data_to_words(cli, tmp_path):
    """They are not normalized; objective=auto; all but the pads of a source are told by a table of words."""
    (tmp_path / "own/data").mkdir()
    (tmp_path / "own/data/copies.yaml").write_text("_target_: users_own.Copies\n")
    (tmp_path / "own/model/copying.yaml").write_text("_target_: users_own.Copying\n")
    run = ["--config-dir=own", "data=copies", "model=copying", "optim=adam", "optim.lr=0.1", "train.epochs=8"]
    code, text = cli(*run, "hydra.run.dir=run")
    assert code == 0, text
    assert summary(tmp_path / "run")["test"]["exact_match"] == 1
    assert cli("evaluate", "run", "--trust", "--format=csv")[0] == 0
    report = json.loads((tmp_path / "run/evaluation/report.json").read_text())
    assert report["metrics"] == summary(tmp_path / "run")["test"]
    told = [line.split(",")[1:] for line in (tmp_path / "run/evaluation/predictions.csv").read_text().splitlines()[1:]]
    assert {truth == said for truth, said in told} == {True}
    assert {len(truth.split()) for truth, _ in told} == {1, 2, 3, 4}
    np.savez(tmp_path / "x.npz", x=np.array([[3, 5, 4, 0, 0]]))
    code, text = cli("predict", "run", "x.npz", "--trust")
    assert code == 0, text
    assert "a c b" in text
    code, text = cli("robustness", "run", "--trust")
    assert (code, text.count("\n")) == (2, 1), text
    assert "tokens" in text


@pytest.mark.parametrize(("token", "line"), [(6, "6 is no token; there are 6: 0 to 5"), (-1, "-1 is no token")])
def test_a_number_that_is_no_token_is_refused(token, line):
    x = np.array([[3, token]])
    raw = Raw(name="words", task="sequence", parts={"train": (x, x)}, num_outputs=9, vocabulary=tuple("_<>abc"))
    with pytest.raises(ValueError, match=line):
        admit(raw)


def test_a_split_of_one_sample_is_drawn(cli, tmp_path):
    run = [*TINY, "model.variational=true", "objective=elbo", "data.limit=1", "data.batch_size=1", "train.epochs=1"]
    assert cli(*run, "hydra.run.dir=run")[0] == 0
    code, text = cli("evaluate", "run", "--trust")
    assert code == 0, text
    assert "latent.png" in text


def test_the_plane_of_codes_is_that_of_pca(monkeypatch):
    codes = np.random.default_rng(0).normal(size=(50, 5)) * [1, 7, 2, 5, 3]
    drawn = []
    monkeypatch.setattr(generated, "codes_of", lambda run, split: (codes, torch.zeros(50)))
    monkeypatch.setattr(generated, "rendered", lambda figure, title, *parts: drawn.extend(parts))
    generated.latent_picture(SimpleNamespace(facts=None), "test", "")
    pca = PCA(2).fit(codes)
    np.testing.assert_allclose(np.abs(drawn[0]), np.abs(pca.transform(codes)), atol=1e-6)
    assert drawn[1] == [f"component {k + 1}, {pca.explained_variance_ratio_[k]:.0%} of the variance" for k in range(2)]
