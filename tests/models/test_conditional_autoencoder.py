"""The conditional autoencoder, its market, and your own days."""

import numpy as np
import pytest
import torch
from conftest import summary
from torch.nn import functional as F

from data.market import Market
from models.conditional import ConditionalAutoencoder

SHARED = {
    **{"root": "", "batch_size": 8, "test_fraction": 0.2, "val_fraction": 0.1, "val_size": None, "limit": None},
    **{"val_from": "random", "split_seed": 0, "normalize": "none", "augment": {}},
}


def market(noise, **more):
    sizes = {"days": 900, "assets": 12, "characteristics": 4, "factors": 2} | more
    return Market(**SHARED, **sizes, noise=noise, generator_seed=0)


def test_it_is_the_dot_of_the_source():
    torch.manual_seed(0)
    model, x = ConditionalAutoencoder((7, 4), 7, hidden=5, factors=2), torch.randn(6, 7, 4)
    hidden = F.linear(x[..., :3], model.beta.hidden.weight, model.beta.hidden.bias).relu()
    flat = hidden.reshape(-1, 5)  # the norm counts days and assets together, as in Keras
    hidden = (hidden - flat.mean(0)) / (flat.var(0, correction=0) + 1e-5).sqrt()
    beta = F.linear(hidden, model.beta.out.weight, model.beta.out.bias)
    factor = F.linear(x[..., 3], model.factor.weight, model.factor.bias)
    wanted = torch.einsum("bak,bk->ba", beta, factor)
    torch.testing.assert_close(model.train()(x), wanted)
    torch.testing.assert_close(model.beta(x[..., :3]), beta)  # the half alone


@pytest.mark.parametrize("noise", [0.0, 0.5, 2.0])
def test_noise_bounds_what_is_known(noise):
    """Of variance 1 + noise^2 in units of the signal, 1 is known; the signal of assets differs."""
    [note] = market(noise).load().facts.notes
    assert float(note.split("R² ")[1].split()[0]) == pytest.approx(1 / (1 + noise**2), abs=0.06)


def test_returns_without_noise_have_as_many_factors_as_said():
    """Days of equal characteristics: a matrix of rank K. These change slowly, so a few days are nearly so."""
    dataset = market(0.0, days=200, characteristics=1, factors=1).load()
    x, y = (part.numpy() for part in dataset.splits["train"])
    np.testing.assert_array_equal(x[..., -1], y)
    values = np.linalg.svd(y[:6], compute_uv=False)
    assert values[0] > 10 * values[1]
    lasting = np.corrcoef(x[0, :, 0], x[100, :, 0])[0, 1]
    assert lasting > 0.5


def test_the_days_are_in_time():
    dataset = market(0.5).load()
    whole = np.concatenate([dataset.splits[s][0].numpy() for s in ("train", "val", "test")])
    np.testing.assert_array_equal(whole, market(0.5).read().parts["train"][0])


def test_days_of_your_own(cli, tmp_path):
    x, y = market(0.5).read().parts["train"]
    np.savez(tmp_path / "days.npz", x_train=x, y_train=y)
    run = ["model=conditional_autoencoder", "data=npz", "data.path=days.npz", "data.task=regression", "optim=adam"]
    code, text = cli(*run, "data.normalize=none", "optim.lr=1e-2", "train.epochs=12", "hydra.run.dir=run")
    assert code == 0, text
    assert summary(tmp_path / "run")["test"]["r2"] > 0.6
    code, text = cli("evaluate", "run")
    assert code == 0, text


def test_other_data_are_refused(cli, mistake):
    line = mistake("model=conditional_autoencoder", "data=digits")
    code, text = cli("model=conditional_autoencoder", "data=digits") if line is None else (2, line + "\n")
    assert (code, text.count("\n")) == (2, 1), text
    assert "takes (assets, characteristics and return) and a target for each asset" in text
