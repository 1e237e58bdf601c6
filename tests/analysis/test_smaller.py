"""Networks without their pruned filters, and trained again: against networks cut and trained by other means."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from models.layer_list import LayerList
from models.mlp import MLP, Linear
from models.recurrent import Recurrent
from models.resnet import ResNet
from models.wrn import WRN
from trainer.analysis import compression, shrink
from trainer.analysis.finetune import Finetuner
from trainer.analysis.load import load_run
from trainer.rundir.errors import Refused

CONV = {"conv": 6, "kernel": 3, "padding": "same"}


def listed(*layers, shape=(2, 8, 8), **more):
    return LayerList(shape, 3, layers=list(layers), **more)


def wild(network):
    """The network in evaluation mode, with norms that do something."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for t in (module.weight, module.bias, module.running_mean, module.running_var):
                    t.uniform_(0.5, 1.5)
    return network.eval()


def cut(network, shape, percent=50):
    """The network with zeros, the smaller one, and the filters of each layer that lost some, before and after."""
    x = torch.randn(5, *shape)
    layers = shrink.removable(network, x)
    if not layers:
        return network, network, {}
    (masked,) = compression.without_filters(network, [percent], x, layers)
    small = shrink.shrunk(masked, list(layers), x)
    x = torch.randn(9, *shape)
    ours, theirs = small(x), masked(x)
    if not isinstance(ours, dict):
        ours, theirs = {"": ours}, {"": theirs}
    for head in ours:
        torch.testing.assert_close(ours[head], theirs[head], rtol=1e-4, atol=1e-5)
    return masked, small, {n: tuple(shrink.out_channels(m, n) for m in (masked, small)) for n in layers}


def test_a_network_of_two_layers_is_cut_as_by_hand():
    torch.manual_seed(0)
    network = MLP((7,), 4, widths=[10], activation="tanh").eval()
    first, second = (m for m in network.modules() if isinstance(m, nn.Linear))
    w, b, v, c = (p.detach().numpy() for p in (first.weight, first.bias, second.weight, second.bias))
    kept = np.sort(np.argsort(np.linalg.norm(w, axis=1))[4:])  # 40 % of 10
    _, small, sizes = cut(network, (7,), percent=40)
    assert list(sizes.values()) == [(10, 6)]
    expected = {"weight": [w[kept], v[:, kept]], "bias": [b[kept], c]}
    for i, layer in enumerate(m for m in small.modules() if isinstance(m, nn.Linear)):
        for name in expected:
            np.testing.assert_array_equal(layer.get_parameter(name).detach(), expected[name][i])
        assert (layer.out_features, layer.in_features) == layer.weight.shape
    assert network.net[1].weight.shape == (10, 7)  # the other is as it was


CUT = {  # name -> network, shape, and how many of its layers lose half of their filters
    "norms, pools": (
        lambda: listed(
            CONV,
            {"norm": "batch"},
            "activation",
            {"pool": "max", "kernel": 2},
            CONV,
            "activation",
            {"dense": 5},
            "activation",
        ),
        (2, 8, 8),
        2,  # convolutions alone are pruned
    ),
    "one slope a channel": (
        lambda: listed(CONV, "activation", CONV, "activation", activation="prelu", prelu="unit"),
        (2, 8, 8),
        2,
    ),
    "constants into a bias": (lambda: MLP((6,), 3, widths=[8, 8], activation="sigmoid", norm="batch"), (6,), 2),
    "a norm behind": (lambda: MLP((6,), 3, widths=[8, 8], norm="batch", norm_position="after"), (6,), 2),
    "constants beside padding": (
        lambda: listed(CONV, "activation", CONV, "activation", activation="sigmoid"),
        (2, 8, 8),
        1,
    ),
    "constants without padding": (
        lambda: listed(
            {"conv": 6, "kernel": 3, "padding": 0},
            "activation",
            {"conv": 6, "kernel": 3, "padding": 0},
            "activation",
            activation="sigmoid",
        ),
        (2, 8, 8),
        2,
    ),
    "channels in a norm together": (lambda: listed(CONV, {"norm": "layer"}, "activation"), (2, 8, 8), 0),
    "heads": (lambda: MLP((6,), {"a": 2, "b": 3}, widths=[8]), (6,), 1),
    "one filter": (lambda: MLP((6,), 3, widths=[1]), (6,), 0),
    "no hidden layer": (lambda: Linear((6,), 3), (6,), 0),
    "sums": (lambda: ResNet((3, 16, 16), 4, depth=18), (3, 16, 16), 8),  # the first of each block
    "sums behind activations": (lambda: WRN((3, 16, 16), 4, depth=10, width=1), (3, 16, 16), 3),
}


@pytest.mark.parametrize("name", CUT)
def test_outputs_are_those_of_the_network_with_zeros(name):
    make, shape, layers = CUT[name]
    torch.manual_seed(1)
    network = wild(make())
    masked, small, sizes = cut(network, shape)
    assert [after for _, after in sizes.values()] == [before // 2 for before, _ in sizes.values()]
    assert len(sizes) == layers
    count = [sum(p.numel() for p in model.parameters()) for model in (masked, small)]
    assert (count[1] < count[0]) == bool(layers)


def test_a_network_that_cannot_be_traced_is_told():
    network = Recurrent((5, 3), 2, cell="gru", hidden_size=6, widths=[8]).eval()
    with pytest.raises(Refused, match=r"^--pruned: torch cannot trace Recurrent \(.*\)$"):
        shrink.removable(network, torch.zeros(1, 5, 3))


@pytest.fixture(scope="session")
def digits(trained):
    return trained("model=cnn", "train.epochs=3", "train.device=cpu", "train.threads=1")


def test_fine_tuning_is_a_run_from_these_weights_with_a_falling_rate(digits, trained):
    """Nothing is zero, so nothing is kept: bit for bit what train.init_from does."""
    like = ("model=cnn", "train.epochs=2", "train.device=cpu", "train.threads=1", "schedule=linear")
    other = trained(*like, f"train.init_from={digits}/checkpoints/best.pt", "train.monitor=epoch")
    before = {path: path.read_bytes() for path in digits.rglob("*") if path.is_file()}
    run = load_run(digits, device="cpu")
    model = run.model
    assert Finetuner(run, 2)(model, compression.keep_zeros(model))
    theirs = torch.load(other / "checkpoints" / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(value, theirs[name]) for name, value in model.state_dict().items())
    assert {path: path.read_bytes() for path in digits.rglob("*") if path.is_file()} == before


def test_what_is_compressed_stays_so(digits):
    run = load_run(digits, device="cpu")
    finetune = Finetuner(run, 1)
    (pruned,) = compression.pruned(run.model, [80], torch.Generator().manual_seed(0))
    zeros = {name: p == 0 for name, p in pruned.named_parameters()}
    before = {name: p.clone() for name, p in pruned.named_parameters()}
    assert finetune(pruned, compression.keep_zeros(pruned))
    for name, p in pruned.named_parameters():
        assert (p[zeros[name]] == 0).all()
        assert (p != before[name])[~zeros[name]].any()
    (low,) = compression.low_rank(run.model, [25])
    assert finetune(low, compression.keep_rank(25))
    for w in compression.weights(low):
        full = min(w.flatten(1).shape)
        assert np.linalg.matrix_rank(w.detach().flatten(1).numpy(), tol=1e-4) <= -(-full // 4)


def test_robustness_measures_before_and_after(digits, command, tmp_path):
    code, text = command("robustness", str(digits), "--tests=filters", "--finetune=1", "--out=x.png")
    assert code == 0, text
    lines = [line.split(",") for line in (tmp_path / "x.csv").read_text().splitlines()[1:]]
    value = {(line[1], float(line[3])): float(line[5]) for line in lines}
    assert {test for test, _ in value} == {"filters", "filters_finetuned"}
    assert value["filters_finetuned", 70] > value["filters", 70] + 0.1
    code, text = command("robustness", str(digits), "--tests=noise", "--finetune=1")
    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith(
        "conga: --finetune: nothing to fine-tune in --tests=noise; there are prune, filters, low_rank"
    )


def test_a_smaller_network_is_exported(digits, command, tmp_path):
    """In a file that torch alone reads: what the network with zeros says, by weights of half as many filters."""
    code, text = command("export", str(digits), "--format=torch_export", "--pruned=50", "--out=x.pt2")
    assert code == 0, text
    card = json.loads((tmp_path / "x.pt2.json").read_text())
    run = load_run(digits, device="cpu")
    x, y = run.dataset.splits["test"]
    (masked,) = compression.without_filters(run.model, [50], torch.zeros(1, 1, 8, 8))
    program = torch.export.load(tmp_path / "x.pt2")
    said = program.module()(x.float())
    expected = masked((x - run.facts.mean) / run.facts.std).softmax(1)
    torch.testing.assert_close(said, expected, rtol=1e-4, atol=1e-5)
    shapes = [tuple(p.shape) for p in program.parameters()]
    assert (5, 1, 3, 3) in shapes
    assert (10, 1, 3, 3) not in shapes
    known = card["pruned"]
    assert known["layers"] == {"net.0": [10, 5]}
    assert known["whole"] == []
    assert known["parameters"] == [8660, sum(p.numel() for p in program.parameters())]
    accuracy = [(run.model((x - run.facts.mean) / run.facts.std).argmax(1) == y), expected.argmax(1) == y]
    assert known["values"] == pytest.approx([float(right.float().mean()) for right in accuracy])
    assert card["check"]["bytes"][1] == (tmp_path / "x.pt2").stat().st_size < card["check"]["bytes"][0]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--pruned=0"], "--pruned=0: must be greater than 0 and less than 100, percent"),
        (["--pruned=nan"], "--pruned=nan: must be greater than 0"),
        (["--finetune=1"], "--finetune=1: goes with --pruned"),
        (["--pruned=50", "--finetune=0"], "--finetune=0: must be at least 1"),
    ],
)
def test_mistakes_are_one_line(digits, command, options, line):
    code, text = command("export", str(digits), "--format=torch_export", *options)
    assert (code, text.count("\n")) == (2, 1), text
    assert text.startswith(f"conga: {line}")


def test_a_network_without_hidden_layers_cannot_be_pruned(trained, command):
    run = trained("model=linear", "train.epochs=1", "train.device=cpu")
    code, text = command("export", str(run), "--format=torch_export", "--pruned=50")
    assert (code, text.count("\n")) == (2, 1), text
    assert "has no hidden layer whose filters can be removed" in text
    assert not (run / "export").exists()


def test_training_that_diverges_is_told(digits, command, monkeypatch, tmp_path):
    own = Finetuner.__init__

    def wild(self, run, epochs):
        own(self, run, epochs)
        self.config["optim"] |= {"lr": 1e30}

    monkeypatch.setattr(Finetuner, "__init__", wild)
    code, text = command("robustness", str(digits), "--tests=filters", "--finetune=1", "--limit=20", "--out=x.png")
    assert code == 0, text
    assert "note: run: training diverged after filters_finetuned 0 %, filters_finetuned 10 %, " in text
    values = [line.split(",")[5] for line in (tmp_path / "x.csv").read_text().splitlines() if "_finetuned" in line]
    assert set(values) == {"nan"}
    code, text = command("export", str(digits), "--format=torch_export", "--pruned=50", "--finetune=1", "--out=y.pt2")
    assert (code, text) == (2, "conga: --finetune=1: training diverged; nothing was written\n")
    assert not (tmp_path / "y.pt2").exists()
