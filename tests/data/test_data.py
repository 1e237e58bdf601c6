"""Datasets against scikit-learn's own loaders, splits against their promises, statistics against NumPy."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import COMMON, summary

from data import epoch_order
from data.digits import Digits
from data.mnist import Mnist
from data.series import Oscillator, Sine
from data.splits import split_indices, subset
from data.statistics import Moments, normalization
from data.tables import Apartments, MultiLabel, MultiTask, SklearnTable


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    raw, theirs = Digits(**COMMON).read(), load_digits()
    x, y = raw.parts["train"]
    assert x.dtype == np.uint8
    assert x.shape == (1797, 1, 8, 8)
    np.testing.assert_array_equal(x[:, 0], theirs.images)
    np.testing.assert_array_equal(y, theirs.target)
    assert raw.class_names == tuple(map(str, theirs.target_names))


def test_digits_where_scikit_learn_keeps_its_file_elsewhere(monkeypatch, tmp_path):
    import data.digits

    expected = Digits(**COMMON).read().parts["train"]
    spec = type("Spec", (), {"origin": str(tmp_path / "sklearn" / "__init__.py")})
    monkeypatch.setattr(data.digits, "find_spec", lambda name: spec)
    x, y = Digits(**COMMON).read().parts["train"]
    np.testing.assert_array_equal(x, expected[0])
    np.testing.assert_array_equal(y, expected[1])


@pytest.mark.parametrize(
    ("name", "shape", "task", "outputs"),
    [
        ("iris", (150, 4), "classification", 3),
        ("wine", (178, 13), "classification", 3),
        ("breast_cancer", (569, 30), "binary", 1),
        ("diabetes", (442, 10), "regression", 1),
        ("linnerud", (20, 3), "regression", 3),
    ],
)
def test_tables_are_scikit_learns(name, shape, task, outputs):
    import sklearn.datasets

    options = {"scaled": False} if name == "diabetes" else {}
    raw, theirs = SklearnTable(name=name, **COMMON).read(), getattr(sklearn.datasets, f"load_{name}")(**options)
    x, y = raw.parts["train"]
    assert (x.shape, raw.task, raw.num_outputs) == (shape, task, outputs)
    np.testing.assert_array_equal(x, theirs.data.astype(np.float32))
    np.testing.assert_array_equal(y.reshape(theirs.target.shape), theirs.target)
    assert raw.column_names == tuple(theirs.feature_names)
    if task == "regression":
        assert y.dtype == np.float32
        assert len(raw.target_names) == y.shape[1] == outputs
    else:
        assert raw.class_names == tuple(theirs.target_names)


def test_apartments_are_those_of_the_exercise():
    """Its own checks: the cost and its derivatives at hand-picked parameters, mean and deviation of the sizes."""
    x, y = (a.astype(float) for a in Apartments(distance=True, **COMMON).read().parts["train"])
    size, distance, rent = x[:, 0], x[:, 1], y[:, 0]
    assert np.mean((1 * size + 2 - rent) ** 2) == pytest.approx(586722.18)
    assert np.mean(2 * size * (1 * size + 0 - rent)) == pytest.approx(-94936.46)
    assert np.mean(2 * (2 * size + 10 - rent)) == pytest.approx(-1377.78)
    assert (size.mean(), size.std()) == (pytest.approx(60.69), pytest.approx(14.90147, abs=1e-5))
    # The least squares that its exercise 1 arrives at, with one feature and with both.
    for columns, error in (([size], 4350.66), ([size, distance], 4205.87)):
        matrix = np.column_stack([*columns, np.ones(100)])
        fit = matrix @ np.linalg.lstsq(matrix, rent, rcond=None)[0]
        assert np.mean((fit - rent) ** 2) == pytest.approx(error, abs=0.01)
    one = Apartments(distance=False, **COMMON).read()
    np.testing.assert_array_equal(one.parts["train"][0][:, 0], size)
    assert (one.column_names, one.target_names) == (("size_sqm",), ("rent_eur",))


def test_generated_tables_repeat_and_differ_by_seed():
    for kind, extra in ((MultiLabel, {"labels": 5}), (MultiTask, {})):
        first, again, other = (
            kind(samples=500, features=8, generator_seed=seed, **extra, **COMMON).read().parts["train"]
            for seed in (0, 0, 1)
        )
        for a, b in zip(first, again, strict=True):
            np.testing.assert_array_equal(a, b)
        assert (first[0] != other[0]).any()


def test_multilabel_rows_have_several_labels():
    dataset = MultiLabel(samples=500, features=8, labels=5, generator_seed=0, **COMMON).load()
    y = dataset.splits["train"][1]
    assert dataset.facts.num_outputs == y.shape[1] == len(dataset.facts.class_names) == 5
    assert set(y.unique().tolist()) == {0, 1}
    assert len(set(y.sum(1).tolist())) > 2


def test_multitask_rows_have_a_target_for_each_head():
    dataset = MultiTask(samples=500, features=8, generator_seed=0, **COMMON).load()
    y = dataset.splits["train"][1]
    assert dataset.facts.num_outputs == {"age": 5, "gender": 2}
    assert [sorted(column.unique().tolist()) for column in y.unbind(1)] == [[0, 1, 2, 3, 4], [0, 1]]


SINE = {"steps": 1000, "train_steps": 800, "window": 4, "layout": "steps", "pad_end": None, "generator_seed": 0}


def test_sine_is_the_formula_in_windows():
    """Against the document's loop over positions, with and without its padding."""
    train, test = ((x, y[:, 0]) for x, y in Sine(**SINE, **COMMON).read().parts.values())
    assert (train[0].shape, test[0].shape) == ((796, 4, 1), (196, 4, 1))
    series = np.concatenate([train[0][0, :, 0], train[1]])
    noise = series - np.sin(0.02 * np.arange(800))
    assert 0 <= noise.min() < 0.05
    assert 1.95 < noise.max() <= 2
    for i in (0, 1, 500, 795):
        np.testing.assert_array_equal(train[0][i, :, 0], series[i : i + 4])
    padded = Sine(**SINE | {"layout": "features"}, **COMMON).read().parts
    assert (padded["train"][0].shape, padded["test"][0].shape) == ((800, 1, 4), (200, 1, 4))
    np.testing.assert_array_equal(padded["train"][0][:796, 0], train[0][:, :, 0])
    assert (padded["train"][1][795:] == series[-1]).all()  # the last value, repeated


def test_a_series_is_split_in_the_order_of_time():
    splits = Sine(**SINE, **COMMON).load().splits
    whole = Sine(**SINE, **COMMON).read().parts
    for a, b in zip(whole["train"], zip(splits["train"], splits["val"], strict=True), strict=True):
        np.testing.assert_array_equal(a, torch.cat(b))
    np.testing.assert_array_equal(whole["test"][0], splits["test"][0])
    limited = Sine(**SINE, **COMMON | {"limit": 50}).load().splits
    for name, (x, _) in limited.items():
        np.testing.assert_array_equal(x, splits[name][0][:50])


def test_oscillator_against_the_closed_form():
    eta, force, omega, x0, v0 = 0.3, 0.7, 1.3, 1.0, -0.5
    source = Oscillator(
        steps=600, dt=0.1, eta=eta, force=force, omega=omega, x0=x0, v0=v0,
        window=4, layout="steps", pad_end=None, **COMMON,
    )  # fmt: skip
    t = 0.1 * np.arange(600)
    # x = e^(-eta t / 2) (a cos w t + b sin w t) + A cos omega t + B sin omega t
    matrix = np.array([[1 - omega**2, eta * omega], [-eta * omega, 1 - omega**2]])
    big_a, big_b = np.linalg.solve(matrix, [force, 0])
    w = np.sqrt(1 - eta**2 / 4)
    a = x0 - big_a
    b = (v0 - omega * big_b + eta / 2 * a) / w
    expected = np.exp(-eta * t / 2) * (a * np.cos(w * t) + b * np.sin(w * t))
    expected += big_a * np.cos(omega * t) + big_b * np.sin(omega * t)
    np.testing.assert_allclose(source.positions(), expected, atol=1e-9)
    dataset = source.load()
    assert list(dataset.splits) == ["train", "val", "test"]
    assert dataset.splits["test"][1][-1].item() == pytest.approx(expected[-1], abs=1e-6)


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
    kept = len(y) - len(index.get("test", ()))
    for name, size in (("test", test * len(y)), ("val", val * kept)):
        if size:
            assert abs(len(index[name]) - size) <= 0.5 + 1e-9
            taken = np.bincount(y[index[name]], minlength=len(counts))
            assert (np.abs(taken - len(index[name]) / len(y) * np.array(counts)) < 1 + 1e-9).all()
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


def split(**how):
    settings = {"test_fraction": 0.2, "val_fraction": 0.1, "seed": 0} | how
    return split_indices(100, np.arange(100) % 4, **settings)


def test_a_number_of_validation_samples():
    index = split(val_size=15)
    assert {k: len(v) for k, v in index.items()} == {"train": 65, "val": 15, "test": 20}
    assert max(np.bincount(index["val"] % 4)) - min(np.bincount(index["val"] % 4)) <= 1
    assert "val" not in split(val_size=0)
    np.testing.assert_array_equal(split(val_size=15)["test"], split(val_size=3)["test"])  # the same test samples


def test_validation_samples_from_the_start():
    index = split(test_fraction=0.0, val_size=7, val_from="start")
    np.testing.assert_array_equal(index["val"], np.arange(7))
    np.testing.assert_array_equal(index["train"], np.arange(7, 100))
    index = split(val_size=7, val_from="start")
    np.testing.assert_array_equal(index["val"], np.setdiff1d(np.arange(100), index["test"])[:7])


def test_splits_in_time():
    index = split(in_time=True)
    np.testing.assert_array_equal(np.concatenate(list(index.values())), np.arange(100))
    assert list(map(len, index.values())) == [72, 8, 20]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"val_size": 80}, "val_size=80: leaves none of 100 samples for training"),
        ({"val_fraction": 0.001}, "leaves the val split of 100 samples empty"),
        ({"test_fraction": 0.001, "in_time": True}, "leaves the test split of 100 samples empty"),
        ({"test_fraction": 0.95, "val_fraction": 0.95}, "leaves none of 100 samples for training"),
    ],
)
def test_splits_that_cannot_be(how, message):
    with pytest.raises(ValueError, match=message):
        split(**how)


def test_a_subset_keeps_proportions_and_order():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    index = np.arange(1000)[::2]
    kept = subset(index, labels[::2], 50, seed=0, in_time=False)
    assert np.bincount(labels[kept]).tolist() == [30, 15, 5]
    assert set(kept) <= set(index)
    assert (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(kept, subset(index, labels[::2], 50, seed=0, in_time=False))
    assert (kept != subset(index, labels[::2], 50, seed=1, in_time=False)).any()
    np.testing.assert_array_equal(subset(index, None, 3, seed=0, in_time=True), [0, 2, 4])
    np.testing.assert_array_equal(subset(index, None, 5000, seed=0, in_time=False), index)


def test_lots_decide_between_equal_classes():
    """Not their numbers: a test split of the first 40 of 100 classes would say nothing of the others."""
    y = np.repeat(np.arange(100), 4)
    chosen = []
    for seed in (0, 1):
        index = split_indices(400, y, test_fraction=0.1, val_fraction=0.1, seed=seed)
        chosen += [set(y[index["test"]]), set(y[index["val"]])]
        chosen.append(set(y[subset(np.arange(400), y, 50, seed, in_time=False)]))
    assert [len(classes) for classes in chosen] == [40, 36, 50] * 2
    assert all(max(classes) >= 60 for classes in chosen)
    assert chosen[:3] != chosen[3:]


def test_no_class_is_left_without_training_samples():
    y = np.repeat(np.arange(100), 10)
    with pytest.raises(ValueError, match="val_size=950: the val split gets 900 samples at most"):
        split_indices(1000, y, test_fraction=0.0, val_fraction=0.1, val_size=950, seed=0)
    with pytest.raises(ValueError, match="iris: the training split has no sample of class 'setosa'"):
        SklearnTable(name="iris", **COMMON | {"val_size": 50, "val_from": "start", "test_fraction": 0.0}).load()


def test_a_limit_takes_from_the_splits_that_there_are():
    """So that a run on few samples is never tested on what another one trained on."""
    whole, few = Digits(**COMMON).load(), Digits(**COMMON | {"limit": 100}).load()
    assert few.facts.sizes == {"train": 100, "val": 100, "test": 100}
    for name, (x, _) in few.splits.items():
        rows = {tuple(row) for row in whole.splits[name][0].flatten(1).tolist()}
        assert all(tuple(row) in rows for row in x.flatten(1).tolist())


def statistics(x, how, value_range=None, fixed=None):
    return normalization(Moments().add(torch.from_numpy(x)), how, value_range, fixed)


@pytest.mark.parametrize("how", ["none", "scale", "global", "channel", "standard", "pixel"])
def test_statistics_against_numpy(how):
    x = np.random.default_rng(0).integers(0, 256, (5000, 3, 4, 5), dtype=np.uint8)
    x[:, 1, 2, 3] = 7  # a pixel that never changes
    mean, std = statistics(x, how, (0, 255))
    y = (x - mean.numpy()) / std.numpy()
    assert np.isfinite(y).all()
    if how == "none":
        np.testing.assert_array_equal(y, x)
    elif how == "scale":
        assert (y.min(), y.max()) == (0, 1)
    else:
        axes = {"global": (0, 1, 2, 3), "channel": (0, 2, 3), "standard": (0, 2, 3), "pixel": (0,)}[how]
        np.testing.assert_allclose(y.mean(axes), 0, atol=2e-5)
        expected = np.where(x.astype(float).std(axes) > 0, 1.0, 0.0)  # a constant stays at 0
        np.testing.assert_allclose(y.std(axes), expected, atol=1e-4)


def test_statistics_of_a_table_by_channel_are_by_column():
    x = np.array([[1.0, 10.0], [3.0, 30.0]], np.float32)
    mean, std = statistics(x, "channel")
    assert mean.tolist() == [2, 20]
    assert std.tolist() == [1, 10]
    low, size = statistics(x, "scale")
    assert (low.tolist(), size.tolist()) == ([1, 10], [2, 20])
    mean, std = statistics(x, "standard", fixed=np.array([False, True]))
    assert (mean.tolist(), std.tolist()) == ([2, 0], [1, 1])
    mean, std = statistics(x, "global", fixed=np.array([False, True]))
    assert (mean.tolist(), std.tolist()) == ([2, 0], [1, 1])


def test_statistics_of_a_series_by_channel_are_over_its_steps():
    x = np.random.default_rng(0).normal([5, -3], [2, 7], (1000, 4, 2)).astype(np.float32)
    mean, std = statistics(x, "standard")
    np.testing.assert_allclose(mean[0], x.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(std[0], x.std((0, 1)), rtol=1e-5)
    low, size = statistics(x, "scale")
    np.testing.assert_allclose(low[0], x.min((0, 1)))
    np.testing.assert_allclose(size[0], np.ptp(x, (0, 1)))


def test_statistics_keep_their_digits_where_the_mean_is_large():
    x = np.random.default_rng(0).normal(1e9, 1.0, (10_000, 1))
    _, std = statistics(x, "standard")
    assert std.item() == pytest.approx(x.std(), rel=1e-6)
    constant = np.full((10_000, 1), 0.1, np.float32)  # its mean is not 0.1 to the last bit
    assert statistics(constant, "standard")[1].item() == 1


def test_targets_that_are_numbers_are_normalized_and_can_be_taken_back():
    dataset = Apartments(distance=True, **COMMON | {"normalize": "standard"}).load()
    facts, (_, raw) = dataset.facts, dataset.splits["train"]
    _, y = dataset.batch("train", torch.arange(len(raw)))
    assert y.mean().item() == pytest.approx(0, abs=1e-6)
    assert y.std(correction=0).item() == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(y * facts.target_std + facts.target_mean, raw)
    plain = Apartments(distance=True, **COMMON | {"normalize": "pixel"}).load()
    assert torch.equal(plain.batch("train", torch.arange(72))[1], plain.splits["train"][1])
    classes = SklearnTable(name="iris", **COMMON | {"normalize": "standard"}).load()
    assert torch.equal(classes.batch("val", slice(0, 12))[1], classes.splits["val"][1])


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


@pytest.mark.slow
def test_fashion_mnist(cli, tmp_path):
    """The real files: read against a reading by hand, and trained to what a linear classifier does not reach."""
    folders = [Path(p) for p in (os.environ.get("CONGA_DATA"), "/usr/share/datasets/fashion-mnist") if p]
    names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    root = next((p for p in folders if all((p / name).is_file() for name in names)), None)
    if root is None:
        pytest.skip(f"no Fashion-MNIST in {' or '.join(map(str, folders))} (Debian: dataset-fashion-mnist)")
    contents = [gzip.decompress((root / name).read_bytes()) for name in names]
    images, labels, test_images, test_labels = (np.frombuffer(content, np.uint8) for content in contents)
    settings = COMMON | {"val_size": 5000, "val_from": "start", "root": str(root)}
    splits = Mnist(name="fashion_mnist", **settings).load().splits
    for split, (x, y) in {
        "val": (images[16:][: 5000 * 784], labels[8:5008]),
        "train": (images[16:][5000 * 784 :], labels[5008:]),
        "test": (test_images[16:], test_labels[8:]),
    }.items():
        np.testing.assert_array_equal(splits[split][0].numpy().ravel(), x)
        np.testing.assert_array_equal(splits[split][1], y)
    options = [f"data.root={root}", "model.widths=[300,100]", "train.epochs=3", "data.batch_size=64"]
    code, text = cli("data=fashion_mnist", *options, "hydra.run.dir=run")
    assert code == 0, text
    assert summary(tmp_path / "run")["test"]["accuracy"] > 0.85
