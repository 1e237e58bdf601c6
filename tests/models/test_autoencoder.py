"""Autoencoders from lists of layers."""

import pytest
import torch
from conftest import ROOT
from omegaconf import OmegaConf
from torch import nn

from data import Facts
from models.autoencoder import Autoencoder
from models.layer_list import LayerList, built

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


def test_an_embedding_stands_first_and_takes_the_words_of_the_data():
    plain = ("words", "classification", (5,), 3, None, None, {}, torch.zeros(1), torch.ones(1))
    facts = Facts(*plain, vocabulary=tuple("abcd"))
    model = LayerList((5,), 3, facts=facts, layers=[{"embedding": 6}, {"dense": 7}])
    x = torch.randint(0, 4, (2, 5))
    assert tuple(model.net[0].weight.shape) == (4, 6)
    torch.testing.assert_close(model(x), model.net[3](model.net[2](model.net[0].weight[x].flatten(1))))
    for shape, layers, words in [
        ((5,), [{"embedding": 6}], "words is how many there are"),
        ((1, 8, 8), [{"embedding": 6, "words": 9}], "stands first, over tokens"),
        ((5,), [{"dense": 3}, {"embedding": 6, "words": 9}], "stands first, over tokens"),
    ]:
        with pytest.raises(ValueError, match=words):
            LayerList(shape, 3, layers=layers)


def test_padding_and_cutting_off():
    x = torch.randn(1, 2, 6, 5)
    layers = built("layers", [{"pad": [1, 2]}], (2, 6, 5), {})
    assert layers.shape == (2, 8, 9)
    torch.testing.assert_close(layers.layers[0](x)[:, :, 1:7, 2:7], x)
    cut = built("layers", [{"pad": -2}], (2, 6, 5), {})
    torch.testing.assert_close(cut.layers[0](x), x[:, :, 2:4, 2:3])
    with pytest.raises(ValueError, match="pad"):
        built("layers", [{"pad": -3}], (2, 6, 5), {})
