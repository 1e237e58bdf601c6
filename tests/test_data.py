"""Datasets against scikit-learn's own loaders, splits against their promises, statistics against NumPy."""

import numpy as np
import pytest
import torch

from data import epoch_order
from data.digits import Digits
from data.source import statistics
from data.splits import split_indices
from data.tables import SklearnTable

COMMON = {
    "root": "/nowhere",
    "batch_size": 32,
    "test_fraction": 0.2,
    "val_fraction": 0.1,
    "split_seed": 0,
    "normalize": "global",
}


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    raw, theirs = Digits(**COMMON).read(), load_digits()
    assert raw.x.dtype == np.uint8
    assert raw.x.shape == (1797, 1, 8, 8)
    np.testing.assert_array_equal(raw.x[:, 0], theirs.images)
    np.testing.assert_array_equal(raw.y, theirs.target)
    assert raw.class_names == tuple(map(str, theirs.target_names))


def test_digits_where_scikit_learn_keeps_its_file_elsewhere(monkeypatch, tmp_path):
    import data.digits

    expected = Digits(**COMMON).read()
    spec = type("Spec", (), {"origin": str(tmp_path / "sklearn" / "__init__.py")})
    monkeypatch.setattr(data.digits, "find_spec", lambda name: spec)
    raw = Digits(**COMMON).read()
    np.testing.assert_array_equal(raw.x, expected.x)
    np.testing.assert_array_equal(raw.y, expected.y)


@pytest.mark.parametrize("name", ["iris", "wine"])
def test_tables_are_scikit_learns(name):
    import sklearn.datasets

    raw, theirs = SklearnTable(name=name, **COMMON).read(), getattr(sklearn.datasets, f"load_{name}")()
    np.testing.assert_array_equal(raw.x, theirs.data.astype(np.float32))
    np.testing.assert_array_equal(raw.y, theirs.target)
    assert raw.num_outputs == len(raw.class_names) == 3
    assert raw.column_names == tuple(theirs.feature_names)


def test_facts_of_digits():
    dataset = Digits(**COMMON).load()
    facts = dataset.facts
    assert (facts.task, facts.input_shape, facts.num_outputs) == ("classification", (1, 8, 8), 10)
    assert facts.sizes == {"train": 1294, "val": 144, "test": 359}  # 359 = 0.2 x 1797; 144 = 0.1 x 1438
    x, _ = dataset.batch("train", torch.arange(1294))
    assert x.shape == (1294, 1, 8, 8)
    assert x.dtype == torch.float32
    assert abs(x.mean()) < 1e-5
    assert abs(x.std(correction=0) - 1) < 1e-5
    assert dataset.splits["train"][0].dtype == torch.uint8  # raw until the batch


def labels_of(counts):
    return np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))


@pytest.mark.parametrize("counts", [[178, 182, 177, 183, 181, 182, 181, 179, 174, 180], [3, 50, 947], [10] * 7])
@pytest.mark.parametrize(("test", "val"), [(0.2, 0.1), (0.0, 0.25), (0.33, 0.0), (0.0, 0.0), (0.5, 0.5)])
def test_splits_cover_stratify_and_repeat(counts, test, val):
    y = labels_of(counts)
    index = split_indices(len(y), y, test_fraction=test, val_fraction=val, seed=0)
    joined = np.concatenate(list(index.values()))
    np.testing.assert_array_equal(np.sort(joined), np.arange(len(y)))  # disjoint, and all of it
    assert set(index) == {"train"} | ({"val"} if val else set()) | ({"test"} if test else set())
    for name, fraction in (("test", test), ("val", (1 - test) * val)):
        if fraction:
            assert abs(len(index[name]) - fraction * len(y)) <= 0.5 + 1e-9
            taken = np.bincount(y[index[name]], minlength=len(counts))
            assert (np.abs(taken - fraction * np.array(counts)) < 1 + 1e-9).all()
    assert (np.bincount(y[index["train"]], minlength=len(counts)) >= 1).all()
    again = split_indices(len(y), y, test_fraction=test, val_fraction=val, seed=0)
    assert all((index[k] == again[k]).all() for k in index)
    if test:
        other = split_indices(len(y), y, test_fraction=test, val_fraction=val, seed=1)
        assert (index["test"] != other["test"]).any()


def test_splits_without_labels():
    index = split_indices(100, None, test_fraction=0.2, val_fraction=0.25, seed=3)
    assert {k: len(v) for k, v in index.items()} == {"train": 60, "val": 20, "test": 20}


def test_a_class_too_small_to_split():
    y = np.array([0] * 50 + [1] * 2)
    with pytest.raises(ValueError, match="class 'cat' has 2 samples, too few for 3"):
        split_indices(52, y, test_fraction=0.2, val_fraction=0.1, seed=0, class_names=("dog", "cat"))


@pytest.mark.parametrize("how", ["none", "scale", "global", "channel", "pixel"])
def test_statistics_against_numpy(how):
    x = np.random.default_rng(0).integers(0, 256, (5000, 3, 4, 5), dtype=np.uint8)
    x[:, 1, 2, 3] = 7  # a pixel that never changes
    mean, std = statistics(torch.from_numpy(x), how, (0, 255))
    y = (x - mean.numpy()) / std.numpy()
    assert np.isfinite(y).all()
    if how == "none":
        np.testing.assert_array_equal(y, x)
    elif how == "scale":
        assert (y.min(), y.max()) == (0, 1)
    else:
        axes = {"global": (0, 1, 2, 3), "channel": (0, 2, 3), "pixel": (0,)}[how]
        np.testing.assert_allclose(y.mean(axes), 0, atol=2e-5)
        expected = np.where(x.astype(float).std(axes) > 0, 1.0, 0.0)  # a constant stays at 0
        np.testing.assert_allclose(y.std(axes), expected, atol=1e-4)


def test_statistics_of_a_table_by_channel_are_by_column():
    x = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    mean, std = statistics(x, "channel", (0, 1))
    assert mean.tolist() == [2, 20]
    assert std.tolist() == [1, 10]


def test_statistics_come_from_the_training_split_only():
    dataset = Digits(**COMMON).load()
    x = dataset.splits["train"][0].double()
    assert dataset.facts.mean.item() == pytest.approx(x.mean().item(), rel=1e-6)
    assert dataset.facts.std.item() == pytest.approx(x.std(correction=0).item(), rel=1e-6)


def test_epoch_order():
    orders = {(s, e): epoch_order(1000, s, e) for s in range(3) for e in range(3)}
    for order in orders.values():
        assert torch.equal(order.sort().values, torch.arange(1000))
    assert len({tuple(o.tolist()) for o in orders.values()}) == 9
    assert torch.equal(orders[1, 2], epoch_order(1000, 1, 2))
    state = torch.get_rng_state()
    epoch_order(10, 0, 0)
    assert torch.equal(state, torch.get_rng_state())  # draws from no shared random state
