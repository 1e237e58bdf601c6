"""Autoencoders from lists of layers."""

import pytest
import torch
from conftest import ROOT
from omegaconf import OmegaConf
from torch import nn

from models.autoencoder import Autoencoder

DENSE = [{"dense": 20}, "activation"]


def of_yaml(name, shape, **more):
    """The model of conf/model/NAME.yaml, whose first default is the file that it changes."""
    node = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "model" / f"{name}.yaml"))
    base = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "model" / "autoencoder.yaml"))
    keys = base | node | more
    return Autoencoder(shape, 10, **{k: v for k, v in keys.items() if k not in ("_target_", "defaults")})


def test_the_halves_are_the_whole():
    model, x = of_yaml("autoencoder", (1, 8, 8)), torch.randn(5, 1, 8, 8)
    codes = model.encoder(x)
    assert codes.shape == (5, 8)
    assert torch.equal(model.encode(x), codes)
    assert model.decoder(codes).shape == x.shape
    assert torch.equal(model(x), model.decoder(codes))


def test_a_variational_one_decodes_the_mean():
    model, x = of_yaml("autoencoder", (1, 8, 8), variational=True, latent=3), torch.randn(5, 1, 8, 8)
    mean, log_variance = model.encode(x)
    assert torch.equal(torch.cat([mean, log_variance], 1), model.encoder(x))
    assert mean.shape == log_variance.shape == (5, 3)
    assert torch.equal(model(x), model.decoder(mean))


def test_the_convolutional_one_has_the_parameters_of_its_source():
    """Keras' example of a VAE: an encoder of 69,076 (means and log variances of 2), a decoder of 65,089."""
    model = of_yaml("vae_conv", (1, 28, 28))
    count = [sum(p.numel() for p in half.parameters()) for half in (model.encoder, model.decoder)]
    assert count == [69_076, 65_089]
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 1, 28, 28)


def test_dense_layers_are_added_only_where_shapes_need_them():
    ends_there = Autoencoder((1, 4, 4), 3, latent=2, encoder=[], decoder=[{"dense": 16}, {"reshape": [1, 4, 4]}])
    assert [type(layer) for layer in ends_there.encoder] == [nn.Flatten, nn.Linear]
    assert [type(layer) for layer in ends_there.decoder] == [nn.Linear, nn.Unflatten]
    table = Autoencoder((6,), 1, latent=2, encoder=DENSE, decoder=DENSE)
    assert table(torch.randn(3, 6)).shape == (3, 6)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"latent": 0}, "latent=0: must be at least 1"),
        ({"encoder": [{"dens": 3}]}, r"encoder\[0\]={dens: 3}: must be one of conv"),
        ({"decoder": [{"dense": 3}, {"conv": 2}]}, r"decoder\[1\]"),
    ],
)
def test_mistakes(changes, line):
    with pytest.raises(ValueError, match=line):
        Autoencoder((1, 4, 4), 3, **{"latent": 2, "encoder": DENSE, "decoder": DENSE} | changes)
