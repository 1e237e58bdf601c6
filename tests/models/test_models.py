"""Networks against published parameter counts, torchvision, and formulas written out."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from hydra.utils import instantiate
from omegaconf import OmegaConf

from models.layers import ACTIVATIONS, INITS
from models.mlp import MLP
from models.size import layer_sizes


def make(choice, shape, k, **changes):
    """The network of conf/model/CHOICE.yaml."""
    node = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "model" / f"{choice}.yaml")) | changes
    return instantiate(node, _partial_=True, _convert_="all")(input_shape=shape, num_outputs=k)


def layers(shape, *entries, k=3, **more):
    return make("cnn", shape, k, layers=list(entries), **more)


def count(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("choice", "shape", "k", "changes", "expected"),
    [
        ("linear", (1,), 1, {}, 2),
        ("linear", (784,), 10, {}, 7_850),
        ("mlp", (1, 28, 28), 10, {"widths": [64]}, 50_890),
        ("mlp", (784,), 10, {"widths": [300, 100]}, 266_610),
        ("mlp", (784,), 10, {"widths": [512, 512]}, 669_706),
        ("mlp", (13,), 1, {"widths": [10, 10]}, 261),
        ("mlp_deep", (1, 28, 28), 10, {}, 862_510),
        ("cnn_small", (3, 32, 32), 10, {}, 122_570),
        ("cnn_signs", (1, 128, 128), 26, {}, 8_402_618),
        ("vgg16", (3, 224, 224), 1000, {}, 138_357_544),
        ("resnet18", (3, 224, 224), 1000, {}, 11_689_512),
        ("resnet34", (3, 224, 224), 1000, {}, 21_797_672),
        ("resnet50", (3, 224, 224), 1000, {}, 25_557_032),
        ("resnet50", (3, 224, 224), 1000, {"version": 1}, 25_557_032),
        ("resnet101", (3, 224, 224), 1000, {}, 44_549_160),
        ("resnet152", (3, 224, 224), 1000, {}, 60_192_808),
    ],
)
def test_published_sizes(choice, shape, k, changes, expected):
    with torch.device("meta"):  # nothing is drawn
        assert count(make(choice, shape, k, **changes)) == expected


def test_the_size_of_wide_resnets_is_that_of_the_paper():
    """WRN-d-k: 3 x 3 convolutions without biases, two a block, n = (d - 4) / 6 blocks in each of three stages."""

    def derived(depth, width, classes):
        n, c = (depth - 4) // 6, 16
        total = 3 * 9 * 16
        for out in (16 * width, 32 * width, 64 * width):
            for j in range(n):
                total += 2 * c + 9 * c * out + 2 * out + 9 * out * out  # norm, convolution, norm, convolution
                total += c * out if j == 0 and c != out else 0  # shortcut
                c = out
        return total + 2 * c + c * classes + classes

    with torch.device("meta"):
        for depth, width in ((28, 10), (16, 4), (10, 1)):
            assert count(make("wrn", (3, 32, 32), 10, depth=depth, width=width)) == derived(depth, width, 10)
    assert derived(28, 10, 10) / 1e6 == pytest.approx(36.5, abs=0.05)


def test_mlp_is_its_formula():
    model = make("mlp", (2, 3), 4, widths=[5])
    x = torch.randn(7, 2, 3)
    (w1, b1, w2, b2) = model.parameters()
    torch.testing.assert_close(model(x), (x.reshape(7, 6) @ w1.T + b1).clamp(min=0) @ w2.T + b2)


@pytest.mark.parametrize("position", ["before", "after"])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_norm_before_or_after_the_activation(norm, position):
    model = make("mlp", (6,), 4, widths=[5], norm=norm, norm_position=position, activation="tanh")
    x = torch.randn(9, 6)
    w1, b1, *_, w2, b2 = model.parameters()

    def normalized(z):
        axis = 0 if norm == "batch" else 1
        return (z - z.mean(axis, keepdim=True)) / (z.var(axis, correction=0, keepdim=True) + 1e-5).sqrt()

    z = x @ w1.T + b1
    h = normalized(z).tanh() if position == "before" else normalized(z.tanh())
    torch.testing.assert_close(model(x), h @ w2.T + b2)


FORMULAS = {
    "identity": lambda x: x,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "sin": np.sin,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.3 * x),
    "prelu": lambda x: np.where(x > 0, x, 0.25 * x),
    "elu": lambda x: np.where(x > 0, x, np.exp(x) - 1),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * (np.exp(x) - 1)),
    "gelu": lambda x: x * np.array([0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel()]).reshape(x.shape),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_its_formula(name):
    model = make("mlp", (4,), 3, widths=[5], activation=name, slope=0.3)
    x = torch.randn(8, 4)
    w1, b1, *_, w2, b2 = (p.detach().double() for p in model.parameters())
    hidden = torch.from_numpy(FORMULAS[name]((x.double() @ w1.T + b1).numpy()))
    torch.testing.assert_close(model(x).double(), hidden @ w2.T + b2, atol=1e-5, rtol=1e-5)


def test_activations_one_after_the_other_and_slopes_to_learn():
    assert count(make("mlp", (4,), 3, widths=[7], activation="prelu")) == 4 * 7 + 7 + 1 + 7 * 3 + 3
    assert count(make("mlp", (4,), 3, widths=[7], activation="prelu", prelu="unit")) == 4 * 7 + 7 + 7 + 7 * 3 + 3
    both = make("mlp", (1,), 1, widths=[1], activation=["selu", "leaky_relu"], slope=0.3)
    with torch.no_grad():
        for p, value in zip(both.parameters(), (1.0, 0.0, 1.0, 0.0), strict=True):
            p.fill_(value)
    x = torch.linspace(-2, 2, 9)[:, None]
    torch.testing.assert_close(both(x), F.leaky_relu(F.selu(x), 0.3))


# name -> (deviation from fan-in and fan-out, what bounds it in deviations)
SPREADS = {
    "he_normal": (lambda i, o: math.sqrt(2 / i), None),
    "he_uniform": (lambda i, o: math.sqrt(2 / i), math.sqrt(3)),
    "xavier_normal": (lambda i, o: math.sqrt(2 / (i + o)), None),
    "xavier_uniform": (lambda i, o: math.sqrt(2 / (i + o)), math.sqrt(3)),
    "lecun_normal": (lambda i, o: math.sqrt(1 / i), None),
    "keras_he_normal": (lambda i, o: math.sqrt(2 / i), 2 / 0.87962566103423978),
    "keras_he_uniform": (lambda i, o: math.sqrt(2 / i), math.sqrt(3)),
    "keras_xavier_normal": (lambda i, o: math.sqrt(2 / (i + o)), 2 / 0.87962566103423978),
    "keras_xavier_uniform": (lambda i, o: math.sqrt(2 / (i + o)), math.sqrt(3)),
    "keras_lecun_normal": (lambda i, o: math.sqrt(1 / i), 2 / 0.87962566103423978),
    "keras_lecun_uniform": (lambda i, o: math.sqrt(1 / i), math.sqrt(3)),
}


@pytest.mark.parametrize("init", [*SPREADS, "orthogonal", "zeros"])
def test_initial_weights(init):
    assert set(SPREADS) | {"orthogonal", "zeros"} == set(INITS)
    torch.manual_seed(0)
    w1, b1, *_ = make("mlp", (400,), 3, widths=[200], init=init).parameters()
    assert (b1 == 0).all()
    if init == "zeros":
        assert (w1 == 0).all()
    elif init == "orthogonal":
        torch.testing.assert_close(w1 @ w1.T, torch.eye(200), atol=1e-5, rtol=0)
    else:
        std, bound = SPREADS[init]
        assert w1.std().item() == pytest.approx(std(400, 200), rel=0.02)
        assert abs(w1.mean().item()) < 0.02 * std(400, 200)
        largest = w1.abs().max().item() / std(400, 200)
        assert largest > 3.5 if bound is None else bound * 0.99 < largest <= bound * 1.0001
    if init.endswith("he_normal"):  # of a convolution: fan-in is channels times kernel
        conv = next(make("cnn", (40, 8, 8), 3, init=init, layers=[{"conv": 60, "kernel": 5}]).parameters())
        assert conv.std().item() == pytest.approx(math.sqrt(2 / (40 * 25)), rel=0.03)


@pytest.mark.parametrize("choice", ["mlp", "cnn", "lstm", "wrn", "resnet18"])
def test_weights_are_a_function_of_the_seed(choice):
    def drawn(seed):
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in make(choice, (1, 16, 16), 4).parameters()])

    np.random.seed(1)
    first = drawn(1)
    np.random.seed(2)  # of no account
    assert torch.equal(first, drawn(1))
    assert not torch.equal(first, drawn(2))


def test_dropout_only_while_training():
    for changes in ({"dropout": 0.5}, {"input_dropout": 0.5}):
        model = make("mlp", (6,), 2, widths=[50], **changes)
        x = torch.randn(4, 6)
        assert not torch.equal(model(x), model(x))
        model.eval()
        assert torch.equal(model(x), model(x))


def slid(x, kernel, stride, reduce):
    """What `reduce` makes of each window of kernel x kernel of padded images (B, C, H, W)."""
    rows = range(0, x.shape[2] - kernel[0] + 1, stride[0])
    columns = range(0, x.shape[3] - kernel[1] + 1, stride[1])
    windows = [[reduce(x[:, :, i : i + kernel[0], j : j + kernel[1]]) for j in columns] for i in rows]
    return torch.stack([torch.stack(row, -1) for row in windows], -2)


@pytest.mark.parametrize("padding", ["same", "valid", 2, [1, 0]])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (2, 1), ([4, 4], [2, 3]), ([7, 1], 1), ([1, 5], [3, 2])])
@pytest.mark.parametrize("size", [(8, 8), (9, 12)])
def test_convolutions_are_sums_over_windows(padding, kernel, stride, size):
    """Padding as TensorFlow's documentation has it: by the remainder of the size, the odd pixel last."""
    model = layers((2, *size), {"conv": 3, "kernel": kernel, "stride": stride, "padding": padding}).double()
    k, s = ([v, v] if isinstance(v, int) else v for v in (kernel, stride))
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    if padding == "same":
        total = [max(a - (c if n % c == 0 else n % c), 0) for n, a, c in zip(size, k, s, strict=True)]
        pads = [total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2]
    else:
        p = {"valid": [0, 0], 2: [2, 2]}.get(padding if isinstance(padding, str | int) else None, padding)
        pads = [p[1], p[1], p[0], p[0]]
    w, b, w_out, b_out = model.parameters()
    y = slid(F.pad(x, pads), k, s, lambda window: (window[:, None] * w).sum((2, 3, 4)) + b)
    if padding == "same":
        assert y.shape[2:] == tuple(math.ceil(n / c) for n, c in zip(size, s, strict=True))
    torch.testing.assert_close(model(x), y.flatten(1) @ w_out.T + b_out)


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (2, 1), ([4, 4], [2, 3]), ([7, 1], 1), ([1, 5], [3, 2])])
def test_a_transposed_convolution_is_the_adjoint_of_the_convolution(padding, kernel, stride):
    """<K x, y> = <x, K* y> with the same weights."""
    how = {"kernel": kernel, "stride": stride, "padding": padding, "bias": False}
    x = torch.randn(4, 2, 12, 18, dtype=torch.float64)
    conv = layers((2, 12, 18), {"conv": 3, **how}).double().net[:-2]
    y = torch.randn_like(conv(x))
    back = layers(tuple(y.shape[1:]), {"conv_transpose": 2, **how}).double().net[:-2]
    [weight], [transposed] = conv.parameters(), back.parameters()
    transposed.data = weight.data
    z = back(y)
    if padding == "same":
        assert z.shape == x.shape
    else:  # the last rows and columns that no window reaches
        z = F.pad(z, (0, 18 - z.shape[3], 0, 12 - z.shape[2]))
    torch.testing.assert_close((conv(x) * y).sum((1, 2, 3)), (x * z).sum((1, 2, 3)))


def test_the_shapes_of_a_decoder():
    decoder = [{"dense": 24}, {"reshape": [6, 2, 2]}, {"conv_transpose": 4, "stride": 2}, {"upsample": [2, 3]}]
    model, z = layers((5,), *decoder, k=7), torch.randn(3, 5)
    dense, _, back, _, _, _, out = model.net
    images = back(dense(z).view(3, 6, 2, 2))[:, :, :4, :4]  # `same` cuts off the fifth row and column
    larger = images.repeat_interleave(2, 2).repeat_interleave(3, 3)
    torch.testing.assert_close(model(z), out(larger.flatten(1)))
    assert out.in_features == 4 * 8 * 12
    sizes = {row.kind: row.multiply_adds for row in layer_sizes(model, (5,))}
    assert sizes["ConvTranspose2d"] == 2 * 2 * 6 * 4 * 9  # positions and channels that come in, filters, kernel
    zeros = layers((5,), *decoder, k=7, init="keras_he_normal")
    assert (zeros.net[2].bias == 0).all()


@pytest.mark.parametrize("how", ["max", "average"])
@pytest.mark.parametrize(("kernel", "stride"), [(2, None), (3, 1), ([2, 3], [1, 2])])
def test_pools_are_over_windows(how, kernel, stride):
    entry = {"pool": how, "kernel": kernel} | ({"stride": stride} if stride else {})
    model, x = layers((2, 7, 8), entry), torch.randn(3, 2, 7, 8)
    k = [kernel] * 2 if isinstance(kernel, int) else kernel
    s = k if stride is None else [stride] * 2 if isinstance(stride, int) else stride
    y = slid(x, k, s, lambda window: window.amax((2, 3)) if how == "max" else window.mean((2, 3)))
    w, b = model.parameters()
    torch.testing.assert_close(model(x), y.flatten(1) @ w.T + b)


def test_layers_take_what_they_do_not_say_from_the_model():
    model = layers((4,), {"dense": 5}, "activation", "dropout", {"dense": 6}, {"activation": "tanh"}, activation="elu")
    assert [type(layer).__name__ for layer in model.net] == ["Linear", "ELU", "Linear", "Tanh", "Linear"]
    dropping = layers((4,), "dropout", {"dropout": 0.2}, dropout=0.7)
    assert [m.p for m in dropping.modules() if isinstance(m, torch.nn.Dropout)] == [0.7, 0.2]
    deep = layers(
        (4,), {"repeat": 3, "layers": [{"dense": 4}, {"norm": "layer"}, {"activation": "prelu", "prelu": "unit"}]}
    )
    assert count(deep) == 3 * (20 + 8 + 4) + 15


def test_several_heads():
    for choice, shape in (
        ("mlp", (4,)),
        ("cnn", (1, 8, 8)),
        ("resnet18", (1, 8, 8)),
        ("wrn", (1, 8, 8)),
        ("gru", (5, 2)),
    ):
        heads = make(choice, shape, {"age": 5, "type.x": 2}).eval()(torch.randn(3, *shape))
        assert {name: tuple(y.shape) for name, y in heads.items()} == {"age": (3, 5), "type.x": (3, 2)}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make("cnn", (4,), 3), r"input_shape=\(4,\): layers\[0\] is conv, which takes \(channels"),
        (lambda: make("cnn", (1, 1, 1), 3), r"layers\[2\]=pool: its kernel of 2 x 2 is larger than the image of 1 x 1"),
        (lambda: make("cnn_small", (1, 8, 8), 3), r"layers\[5\]=pool: its kernel of 2 x 2 is larger than .* 1 x 1"),
        (lambda: layers((1, 4, 4), {"conv": 0}), r"layers\[0\].conv=0: must be a whole number, at least 1"),
        (
            lambda: layers((1, 4, 4), {"conv": 2, "kernal": 3}),
            r"layers\[0\].kernal=3: unknown key; did you mean k",
        ),
        (
            lambda: layers((1, 4, 4), {"conv": 2, "padding": "full"}),
            r"layers\[0\].padding=full: must be same, v",
        ),
        (
            lambda: layers((1, 4, 4), {"conv": 2, "stride": [1, 2, 3]}),
            r"layers\[0\].stride=\[1, 2, 3\]: must be one",
        ),
        (lambda: layers((1, 4, 4), {"pool": "min"}), r"layers\[0\].pool=min: must be max or average"),
        (lambda: layers((1, 4, 4), {"upsample": 0}), r"layers\[0\].upsample=0: must be a whole number, at least 1"),
        (lambda: layers((1, 4, 4), {"upsample": 2, "mode": "x"}), r"layers\[0\].mode=x: must be nearest or bilinear"),
        (lambda: layers((1, 4, 4), {"reshape": [2, 7]}), r"layers\[0\].reshape=\[2, 7\]: must have 16 entries"),
        (lambda: layers((1, 4, 4), {"conv_transpose": 2, "padding": 1}), r"layers\[0\].padding=1: must be same or val"),
        (lambda: layers((1, 4, 4), {"norm": "group"}), r"layers\[0\].norm=group: must be batch or layer"),
        (lambda: layers((1, 4, 4), "relu"), r"layers\[0\]=relu: must be one of conv, conv_tr"),
        (lambda: layers((1, 4, 4), "flatten", {"conv": 2}), r"layers\[1\]=conv: takes images, .* and \(16,\) comes in"),
        (lambda: layers((1, 4, 4), {"dropout": 1.0}), r"layers\[0\].dropout=1.0: must be in \[0, 1\)"),
        (lambda: layers((4,), {"activation": "rleu"}), r"layers\[0\].activation=rleu: must be one of identity"),
        (lambda: layers((4,), {"activation": 5}), r"layers\[0\].activation=5: must be one of identity"),
        (lambda: layers((4,), {"activation": [["relu"]]}), r"layers\[0\].activation=\['relu'\]: must be one of"),
        (
            lambda: layers((4,), {"activation": "leaky_relu", "slope": "a"}),
            r"layers\[0\].slope=a: must be a fin",
        ),
        (
            lambda: layers((4,), {"activation": "prelu", "prelu": "foo"}),
            r"layers\[0\].prelu=foo: must be shared",
        ),
        (lambda: layers((4,), {"dropout": "a"}), r"layers\[0\].dropout=a: must be in \[0, 1\)"),
        (lambda: layers((1, 4, 4), {"conv": 4, "bias": "no"}), r"layers\[0\].bias=no: must be true or false"),
        (lambda: layers((4,), {"dense": 4, "bias": 5}), r"layers\[0\].bias=5: must be true or false"),
        (lambda: layers((4,), {"flatten": 5}), r"layers\[0\].flatten=5: takes no value"),
        (lambda: layers((4,), {"repeat": 2}), r"layers\[0\].layers=\(\): must be a list of layers"),
        (lambda: layers((4,), {"repeat": 2, "layers": 5}), r"layers\[0\].layers=5: must be a list of layers"),
        (lambda: layers((4,), {"repeat": 0, "layers": ["flatten"]}), r"layers\[0\].repeat=0: must be a whole number"),
        (lambda: layers((4,), {"repeat": 2, "layers": ["bad"]}), r"layers\[0\].layers\[0\]=bad: must be one of conv"),
        (lambda: make("mlp", (3,), 2, widths=[]), r"widths=\[\]: must be a list of 1 or more numbers, each at least 1"),
        (lambda: make("mlp", (3,), 2, widths=[0]), r"widths=\[0\]: must be a list of 1 or more numbers, each"),
        (lambda: make("mlp", (3,), 2, widths=[4, -1]), r"widths=\[4, -1\]: must be a list of 1 or more numbers"),
        (lambda: make("mlp", (3,), 2, activation="rleu"), "activation=rleu: must be one of identity, sigmoid"),
        (lambda: make("mlp", (3,), 2, dropout=1.0), r"dropout=1.0: must be in \[0, 1\)"),
        (lambda: make("mlp", (3,), 2, init="he"), "init=he: must be one of default, he_normal"),
        (lambda: make("vgg16", (1, 8, 8), 10), r"input_shape=\(1, 8, 8\): .* 1 x 1 comes to the pool of stage 4 of 5"),
        (lambda: make("vgg16", (1, 28, 28), 10), "stage 5 of 5, .* model.head=small goes without the fifth pool"),
        (lambda: make("vgg11", (5,), 10), r"input_shape=\(5,\): the VGG takes images"),
        (lambda: make("resnet18", (5,), 10), r"input_shape=\(5,\): the ResNet takes images"),
        (lambda: make("wrn", (1, 8, 8), 10, depth=17), r"depth=17: must be 6 n \+ 4, such as 10, 16"),
        (lambda: make("wrn", (1, 8, 8), 10, width=0), "width=0: must be at least 1"),
        (lambda: make("lstm", (13,), 10), r"input_shape=\(13,\): a recurrent network takes series"),
        (lambda: make("lstm", (4, 1), 1, hidden_size=0), "hidden_size=0: must be at least 1"),
        (lambda: make("lstm", (4, 1), 1, dropout=0.5), "dropout=0.5: is between recurrent layers, and layers=1 is one"),
    ],
)
def test_bad_values(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_an_mlp_in_a_line_of_python():
    assert MLP((3,), 2, widths=[4])(torch.zeros(1, 3)).shape == (1, 2)
