"""Networks against published parameter counts and formulas written out."""

import pytest
import torch

from models import CNN, MLP
from models.layers import ACTIVATIONS


def mlp(shape, k, widths, activation="relu", dropout=0.0):
    return MLP(shape, k, widths=widths, activation=activation, dropout=dropout)


def cnn(shape=(1, 8, 8), k=10, filters=(10,), kernel_size=3, widths=(50,), activation="relu", dropout=0.0):
    return CNN(
        shape,
        k,
        filters=list(filters),
        kernel_size=kernel_size,
        widths=list(widths),
        activation=activation,
        dropout=dropout,
    )


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("shape", "k", "widths", "expected"),
    [
        ((1, 28, 28), 10, [64], 50_890),
        ((784,), 10, [300, 100], 266_610),
        ((784,), 10, [512, 512], 669_706),
        ((13,), 1, [10, 10], 261),
        ((784,), 10, [], 7_850),
        ((1,), 1, [], 2),
    ],
)
def test_published_sizes(shape, k, widths, expected):
    assert count(mlp(shape, k, widths)) == expected


def test_mlp_is_its_formula():
    model = mlp((2, 3), 4, [5])
    x = torch.randn(7, 2, 3)
    (w1, b1, w2, b2) = model.parameters()
    torch.testing.assert_close(model(x), (x.reshape(7, 6) @ w1.T + b1).clamp(min=0) @ w2.T + b2)


def test_cnn_is_its_formula():
    """Convolution by explicit sums over the zero-padded image, pooling by maxima of 2 x 2 blocks."""
    model = cnn(shape=(2, 6, 4), k=3, filters=[3], widths=[5]).double()
    x = torch.randn(2, 2, 6, 4, dtype=torch.float64)
    w, b, w1, b1, w2, b2 = model.parameters()
    padded = torch.zeros(2, 2, 8, 6, dtype=torch.float64)
    padded[:, :, 1:-1, 1:-1] = x
    y = torch.empty(2, 3, 6, 4, dtype=torch.float64)
    for i in range(6):
        for j in range(4):
            patch = padded[:, None, :, i : i + 3, j : j + 3]
            y[:, :, i, j] = (patch * w).sum((2, 3, 4)) + b
    pooled = y.clamp(min=0).reshape(2, 3, 3, 2, 2, 2).amax((3, 5))
    expected = (pooled.flatten(1) @ w1.T + b1).clamp(min=0) @ w2.T + b2
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 9, 5)])
@pytest.mark.parametrize("filters", [(4,), (4, 6)])
@pytest.mark.parametrize("kernel_size", [2, 3, 5])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_cnn_shapes(shape, filters, kernel_size):
    assert cnn(shape, 7, filters, kernel_size)(torch.randn(3, *shape)).shape == (3, 7)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name):
    assert torch.isfinite(mlp((3,), 2, [4], activation=name)(torch.randn(5, 3))).all()


def test_dropout_only_while_training():
    model = mlp((6,), 2, [50], dropout=0.5)
    x = torch.randn(4, 6)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cnn(shape=(4,)), r"input_shape=\(4,\): the CNN takes images"),
        (lambda: cnn(filters=(4, 4, 4, 4)), r"filters=\[4, 4, 4, 4\]: 4 pools of 2 shrink .* at most 3 fit"),
        (lambda: cnn(filters=()), r"filters=\[\]: must be 1 or more numbers"),
        (lambda: cnn(kernel_size=0), "kernel_size=0: must be at least 1"),
        (lambda: mlp((3,), 2, [0]), r"widths=\[0\]: must be a list of numbers, each at least 1"),
        (lambda: mlp((3,), 2, [4], activation="rleu"), "activation=rleu: must be one of identity, relu"),
        (lambda: mlp((3,), 2, [4], dropout=1.0), r"dropout=1.0: must be in \[0, 1\)"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
