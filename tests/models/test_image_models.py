"""VGG, ResNet and wide ResNet against torchvision and the papers; every image model in the ways people run it."""

import os
import pickle
import urllib.error

import pytest
import torch
import torch.nn.functional as F
import torchvision.models as theirs
from test_models import count, make

from models.resnet import PreActivation
from models.size import layer_sizes

WITHOUT_NORM = [("linear", (1, 8, 8)), ("mlp", (1, 8, 8)), ("cnn", (1, 8, 8)), ("cnn_small", (3, 32, 32))]
WITHOUT_NORM += [("cnn_signs", (1, 16, 16)), ("cnn_asymmetric", (1, 12, 12))]
IMAGE_MODELS = [*WITHOUT_NORM, ("vgg11", (1, 32, 32)), ("resnet18", (3, 16, 16)), ("resnet34", (1, 8, 8))]
IMAGE_MODELS += [("resnet50", (3, 16, 16)), ("wrn", (1, 8, 8))]
SMALL = {"vgg11": {"head": "small", "batch_norm": True, "dropout": 0.0}, "wrn": {"depth": 10, "width": 1}}
SMALL["resnet34"] = {"version": 2}


def small(choice, shape, **more):
    return make(choice, shape, 5, **SMALL.get(choice, {}) | more)


@pytest.mark.parametrize(
    ("choice", "changes", "shape"),
    [
        ("resnet50", {"stem": "imagenet"}, (3, 64, 64)),
        ("resnet18", {"stem": "imagenet"}, (3, 64, 64)),
        pytest.param("vgg16", {}, (3, 32, 32), marks=pytest.mark.slow),
        pytest.param("vgg11", {"batch_norm": True}, (3, 32, 32), marks=pytest.mark.slow),
    ],
)
def test_torchvisions_weights_give_torchvisions_outputs(choice, changes, shape):
    torch.manual_seed(0)
    name = f"{choice}_bn" if changes.get("batch_norm") else choice
    reference, ours = getattr(theirs, name)(weights=None).eval(), make(choice, shape, 1000, **changes).eval()
    ours.load_state_dict(reference.state_dict())
    x = torch.randn(2, *shape)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), reference(x))


def bottleneck(block, x, first, second):
    """A bottleneck written out, with the strides of its first two convolutions."""

    def norm(layer, z):
        return F.batch_norm(z, layer.running_mean, layer.running_var, layer.weight, layer.bias)

    z = norm(block.bn1, F.conv2d(x, block.conv1.weight, stride=first)).relu()
    z = norm(block.bn2, F.conv2d(z, block.conv2.weight, stride=second, padding=1)).relu()
    z = norm(block.bn3, F.conv2d(z, block.conv3.weight))
    conv, bn = block.downsample
    return (z + norm(bn, F.conv2d(x, conv.weight, stride=first * second))).relu()


@pytest.mark.parametrize(("version", "first", "second"), [(1, 2, 1), (1.5, 1, 2)])
def test_where_a_bottleneck_halves_the_image(version, first, second):
    model = make("resnet50", (3, 16, 16), 10, version=version).eval()
    block, x = model.layer2[0], torch.randn(2, 256, 8, 8)
    torch.testing.assert_close(block(x), bottleneck(block, x, first, second))


@pytest.mark.parametrize(("stride", "is_bottleneck"), [(1, False), (2, False), (2, True)])
def test_a_preactivation_block_is_its_figure(stride, is_bottleneck):
    """He et al. 2016, Identity Mappings, figure 1 (b): norm - ReLU - weight, twice or three times, then the sum."""
    block = PreActivation(6, 4, stride, bottleneck=is_bottleneck).eval()
    x = torch.randn(2, 6, 8, 8)
    kept = x.clone()
    first = F.relu(F.batch_norm(x, *(torch.zeros(6), torch.ones(6))))
    z = F.conv2d(first, block.convs[0].weight, stride=1 if is_bottleneck else stride, padding=0 if is_bottleneck else 1)
    z = F.relu(F.batch_norm(z, torch.zeros(4), torch.ones(4)))
    z = F.conv2d(z, block.convs[1].weight, stride=stride if is_bottleneck else 1, padding=1)
    if is_bottleneck:
        z = F.conv2d(F.relu(F.batch_norm(z, torch.zeros(4), torch.ones(4))), block.convs[2].weight)
    expected = z + F.conv2d(first, block.shortcut.weight, stride=stride)
    torch.testing.assert_close(block(x), expected)
    assert torch.equal(x, kept)
    plain = PreActivation(4, 4, 1, bottleneck=False)
    assert plain.shortcut is None


@pytest.mark.parametrize("depth", [18, 50])
def test_version_2_counts_its_convolutions_and_norms(depth):
    """As version 1.5, but a norm's place is before its convolution, and shortcuts have none."""
    one = make(f"resnet{depth}", (3, 32, 32), 10)
    two = make(f"resnet{depth}", (3, 32, 32), 10, version=2)

    def weights(model, kind):
        return sorted(tuple(m.weight.shape) for m in model.modules() if isinstance(m, kind))

    assert weights(one, torch.nn.Conv2d) == weights(two, torch.nn.Conv2d)
    shortcuts = 4 if depth >= 50 else 3
    assert len(weights(two, torch.nn.BatchNorm2d)) == len(weights(one, torch.nn.BatchNorm2d)) - shortcuts


def test_the_stem_by_image_size():
    for side, stride in ((8, 1), (64, 1), (65, 2), (224, 2)):
        with torch.device("meta"):
            assert make("resnet18", (3, side, side), 10).conv1.stride == (stride, stride)
            assert make("resnet18", (3, side, side), 10, version=2).stem[0].stride == (stride, stride)
    assert make("resnet18", (3, 8, 8), 10, stem="imagenet").conv1.kernel_size == (7, 7)


@pytest.mark.parametrize("side", [28, 32, 64])
def test_vgg_with_a_small_head(side):
    with torch.device("meta"):
        model = make("vgg11", (1, side, side), 10, head="small")
        assert model(torch.randn(2, 1, side, side)).shape == (2, 10)
    pools = sum(isinstance(m, torch.nn.MaxPool2d) for m in model.modules())
    assert pools == (4 if side < 32 else 5)


@pytest.mark.parametrize(("choice", "shape"), IMAGE_MODELS)
def test_channels_last_and_bf16(choice, shape):
    torch.manual_seed(0)
    model, x = small(choice, shape).eval(), torch.randn(3, *shape)
    with torch.no_grad():
        expected = model(x)
        last = model.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
        torch.testing.assert_close(last, expected, atol=1e-4, rtol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            half = model(x)
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).abs().max() < 0.1 * expected.abs().max() + 0.05


@pytest.mark.parametrize(
    ("choice", "shape"),
    [pair if pair in WITHOUT_NORM else pytest.param(*pair, marks=pytest.mark.slow) for pair in IMAGE_MODELS],
)
def test_compiles_without_graph_breaks(choice, shape):
    model, x = small(choice, shape), torch.randn(3, *shape)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    model.eval()
    torch.testing.assert_close(compiled(x), model(x))
    model.train()
    compiled(x).sum().backward()


@pytest.mark.parametrize(
    ("choice", "shape"), [*WITHOUT_NORM, pytest.param("vgg11", (1, 32, 32), marks=pytest.mark.slow)]
)
def test_vmap_over_a_stack_of_models(choice, shape):
    from torch.func import functional_call, stack_module_state, vmap

    more = {"batch_norm": False} if choice == "vgg11" else {}
    models = [small(choice, shape, **more).eval() for _ in range(3)]
    x = torch.randn(2, *shape)
    parameters, buffers = stack_module_state(models)
    got = vmap(lambda p, b: functional_call(models[0], (p, b), (x,)))(parameters, buffers)
    torch.testing.assert_close(got, torch.stack([model(x) for model in models]), atol=1e-5, rtol=1e-4)


@pytest.fixture
def weights(tmp_path):
    """A file of torchvision's resnet18, random."""
    torch.manual_seed(1)
    reference = theirs.resnet18(weights=None)
    path = tmp_path / "resnet18.pth"
    torch.save(reference.state_dict(), path)
    return path, reference


def pretrained(path, shape=(3, 32, 32), k=1000, **more):
    return make("resnet18", shape, k, stem="imagenet", pretrained=str(path), **more)


def test_weights_from_a_file(weights):
    path, reference = weights
    x = torch.randn(2, 3, 32, 32)
    whole = pretrained(path).eval()
    torch.testing.assert_close(whole(x), reference.eval()(x))
    other = pretrained(path, k=7)
    assert torch.equal(other.layer4[1].conv2.weight, reference.layer4[1].conv2.weight)
    assert other.fc.weight.shape == (7, 512)
    grey = pretrained(path, (1, 32, 32), k=1000).eval()
    torch.testing.assert_close(grey(x[:, :1]), reference(x[:, :1].expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4)
    heads = pretrained(path, k={"a": 2, "b": 3}).eval()
    assert set(heads(x)) == {"a", "b"}


def test_a_frozen_backbone_trains_its_head_only(weights):
    model = pretrained(weights[0], k=4, freeze="backbone")
    assert count(model) == 512 * 4 + 4
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    for _ in range(2):
        loss = F.cross_entropy(model(torch.randn(6, 3, 32, 32)), torch.arange(6) % 4)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"fc.weight", "fc.bias"}  # nor the statistics of the norms
    assert model.training


def test_weights_that_cannot_be_had(weights, tmp_path, monkeypatch):
    path, reference = weights
    state = reference.state_dict()
    cases = {"short": {k: v for k, v in state.items() if k != "layer1.0.conv1.weight"}}
    cases["long"] = state | {"layer9.weight": torch.zeros(1)}
    cases["wide"] = state | {"layer1.0.conv1.weight": torch.zeros(3, 3)}
    for name, content in cases.items():
        torch.save(content, tmp_path / f"{name}.pth")
    (tmp_path / "rubbish.pth").write_bytes(b"no weights")
    marker = tmp_path / "executed"

    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(marker),)

    (tmp_path / "harmful.pth").write_bytes(pickle.dumps(Harmful(), 2))
    for name, message in {
        "short": "has no layer1.0.conv1.weight",
        "long": "this network has no layer9.weight",
        "wide": r"layer1.0.conv1.weight is \(3, 3\) in .* and \(64, 64, 3, 3\) in this network",
        "rubbish": "no file of weights that can be read",
        "harmful": "no file of weights that can be read",
        "nowhere": "no such file",
    }.items():
        with pytest.raises(ValueError, match=message) as caught:
            pretrained(tmp_path / f"{name}.pth")
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("pretrained=")
    assert not marker.exists()
    with pytest.raises(ValueError, match=r"pretrained=.*: such weights are for model.stem=imagenet"):
        make("resnet18", (3, 32, 32), 10, pretrained=str(path))
    with pytest.raises(ValueError, match="freeze=backbone: freezes random weights"):
        make("resnet18", (3, 32, 32), 10, freeze="backbone")
    with pytest.raises(ValueError, match="pretrained=True: there are no published weights for version 2"):
        make("resnet18", (3, 32, 32), 10, version=2, pretrained=True)

    def no_network(url, dst, hash_prefix):
        assert hash_prefix in url
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.download_url_to_file", no_network)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"cannot be downloaded \(.*no network.*\); put https://.*resnet18-.*pth at"):
        make("resnet18", (3, 32, 32), 10, stem="imagenet", pretrained=True)


@pytest.mark.parametrize("choice", ["resnet18", "resnet50", "resnet152", "vgg11", "vgg16"])
def test_multiply_adds_are_the_published_ones(choice):
    """torchvision publishes them with its weights, in units of 1e9."""
    device = "cpu" if choice == "resnet18" else "meta"
    with torch.device(device):
        model = make(choice, (3, 224, 224), 1000)
    rows = layer_sizes(model, (3, 224, 224))
    published = theirs.get_model_weights(choice).DEFAULT.meta["_ops"]
    assert sum(row.multiply_adds for row in rows) / 1e9 == pytest.approx(published, abs=0.006)
    assert sum(row.parameters for row in rows) == count(model)
    assert next(model.parameters()).device.type == device


def test_sizes_leave_the_model_and_the_random_numbers_as_they_were():
    class Restless(torch.nn.Module):
        """Draws noise in evaluation, too, and counts its calls."""

        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.layer(x + torch.randn_like(x))

    model, before = Restless().train(), torch.get_rng_state()
    assert [row.multiply_adds for row in layer_sizes(model, (3,))] == [6]
    assert model.calls == 0
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
