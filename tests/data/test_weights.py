"""Weights of samples, from the file that has them to the loss of a run, against weighted means by NumPy."""

import csv

import numpy as np
import pytest
import torch
from conftest import COMMON as SHARED
from conftest import linear_outputs, rows, summary, training_of
from formats import draw
from scipy.special import log_softmax
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from data import Dataset, Facts
from data.npz import Npz
from data.table_file import TableFile
from trainer.training.loop import measure_epoch, train_epoch
from trainer.training.objectives import CrossEntropy

# What conf/config.yaml says, with no test and validation splits.
COMMON = SHARED | {"test_fraction": 0.0, "val_fraction": 0.0, "normalize": "none"}
TABLE = {"targets": ["y"], "features": None, "weights": "w", "task": "auto", "separator": ","}


def table(folder, content, **how):
    (folder / "t.csv").write_text(content)
    return TableFile(path=str(folder / "t.csv"), **COMMON | TABLE | how)


def npz(folder, arrays, **how):
    np.savez(folder / "my.npz", **arrays)
    return Npz(path=str(folder / "my.npz"), task="auto", **COMMON | how)


def test_a_column_of_weights_is_no_feature(tmp_path):
    """It goes with its rows into every split, and no normalization touches it."""
    content = "a,w,y\n" + "".join(f"{i},{i % 7 / 2},{i + 0.5}\n" for i in range(60))
    how = {"test_fraction": 0.2, "val_fraction": 0.25, "normalize": "standard"}
    dataset = table(tmp_path, content, **how).load()
    assert dataset.facts.column_names == ("a",)
    assert dataset.facts.input_shape == (1,)
    assert any("w" in note.split() for note in dataset.facts.notes)
    seen = []
    for split, (a, y, w) in dataset.splits.items():
        np.testing.assert_array_equal(w, a[:, 0] % 7 / 2)
        np.testing.assert_array_equal(y[:, 0], a[:, 0] + 0.5)
        batch = dataset.batch(split, slice(0, len(w)))
        np.testing.assert_array_equal(batch[2], w)
        assert batch[2].dtype == torch.float32
        seen += a[:, 0].tolist()
    assert sorted(seen) == list(range(60))


@pytest.mark.parametrize(("features", "names"), [(["a"], ("a",)), (["b", "a"], ("b", "a")), (None, ("a", "b"))])
def test_weights_beside_chosen_features(tmp_path, features, names):
    dataset = table(tmp_path, "a,w,b,y\n1,2,3,.5\n4,5,6,1.5\n", features=features).load()
    assert dataset.facts.column_names == names
    assert dataset.splits["train"][2].tolist() == [2, 5]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ("-1 2 1", "column w: -1 is no weight; weights are numbers of at least 0"),
        (" 2 1", "column w, row 1: the cell is empty"),
        ("nan 2 1", "column w, row 1: 'nan' among numbers"),
        ("inf 2 1", "column w has 1 infinite"),
        ("0 0 0", "column w: every weight is 0"),
        ("a b c", "column w holds 'a', but numbers are needed"),
        ("1 two 1", "column w, row 2: 'two' among numbers"),
        ("2024-01-01 2024-01-02 2024-01-03", "column w, row 1: '2024-01-01' is a date"),
        ("1e39 2 1", "column w: "),
    ],
)
@pytest.mark.filterwarnings("error")
def test_columns_that_are_no_weights(tmp_path, cells, words):
    """One line that names file, column and value, and no warning beside it."""
    content = "a,w,y\n" + "".join(f"{i},{cell},{i}.5\n" for i, cell in enumerate(cells.split(" ")))
    with pytest.raises(ValueError, match=r"t\.csv: ") as caught:
        table(tmp_path, content).load()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"weights": "ww"}, "t.csv: has no column ww; did you mean w? it has a, w, y"),
        ({"weights": "y"}, "weights=y: is a target or a feature, too"),
        ({"weights": "a", "features": ["w", "a"]}, "weights=a: is a target or a feature, too"),
        ({"weights": "a", "features": ["b"]}, "t.csv: has no column b"),
    ],
)
def test_a_column_that_cannot_be_the_weights(tmp_path, how, line):
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as caught:
        table(tmp_path, "a,w,y\n1,1,.5\n2,1,1.5\n", **how).load()
    assert line in str(caught.value)


X, Y, W = np.arange(60.0).reshape(20, 3), np.arange(20) % 3, np.linspace(0, 2, 20)
TRAIN = {"x_train": X, "y_train": Y, "w_train": W}
VAL = {"x_val": X, "y_val": Y}


def test_weights_of_arrays(tmp_path):
    """They are split with the samples, or beside published splits."""
    splits = npz(tmp_path, TRAIN | VAL | {"w_val": W[::-1].astype(np.int16)}, test_fraction=0.3).load().splits
    assert {name: len(parts) for name, parts in splits.items()} == {"train": 3, "val": 3, "test": 3}
    for name in ("train", "test"):
        np.testing.assert_array_equal(splits[name][2], W[(splits[name][0][:, 0] / 3).int()].astype(np.float32))
    np.testing.assert_array_equal(splits["val"][2], W[::-1].astype(np.int16))
    assert all(part[2].dtype == torch.float32 for part in splits.values())


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (TRAIN | VAL, "has no array w_val; it holds x_train, y_train, w_train, x_val, y_val"),
        (TRAIN | VAL | {"w_val": W[:3]}, "w_val is float64 (3,); weights are numbers (20,)"),
        (TRAIN | {"w_train": W[:, None]}, "w_train is float64 (20, 1); weights are numbers (20,)"),
        (TRAIN | {"w_train": np.array(["a"] * 20)}, "weights are numbers (20,)"),
        (TRAIN | {"w_train": W - 1}, "w_train: -1 is no weight; weights are numbers of at least 0"),
        (TRAIN | {"w_train": np.where(W, W, np.nan)}, "w_train: nan is no weight"),
        (TRAIN | {"w_train": 0 * W}, "w_train: every weight is 0"),
        ({"x_train": X, "y_train": Y} | VAL | {"w_val": W}, "has no array w_train"),
    ],
)
def test_arrays_that_are_no_weights(tmp_path, arrays, words):
    with pytest.raises(ValueError, match=r"\A[^\n]*my\.npz: [^\n]*\Z") as caught:
        npz(tmp_path, arrays).load()
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_samples_with_weights_are_not_mixed(tmp_path, name):
    arrays = {"x_train": draw(20, 1, 4, 5), "y_train": Y}
    assert npz(tmp_path, arrays, augment={name: 0.5}).load()
    with pytest.raises(ValueError, match=rf"^augment\.{name}=0.5: mixes samples, and these have weights$"):
        npz(tmp_path, arrays | {"w_train": W}, augment={name: 0.5}).load()


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_without_any_weight_is_refused(tmp_path, split):
    """Else a mean over it would be 0 / 0, and the run end as diverged."""
    how = {"test_fraction": 0.25, "val_fraction": 0.25}
    content = "a,w,y\n" + "".join(f"{i},1,{i}.5\n" for i in range(40))
    without = set(table(tmp_path, content, **how).load().splits[split][0][:, 0].int().tolist())
    content = "a,w,y\n" + "".join(f"{i},{int(i not in without)},{i}.5\n" for i in range(40))
    with pytest.raises(ValueError, match=rf"\A[^\n]*\b{split}\b[^\n]*\Z"):
        table(tmp_path, content, **how).load()


def facts(n):
    numbers = torch.zeros(()), torch.ones(())
    return Facts("random", "classification", (6,), 3, None, None, {"train": n}, *numbers, class_counts=(n, n, n))


@pytest.mark.parametrize("accumulate", [1, 3])
def test_batches_without_weight_are_no_divergence(accumulate):
    """Whichever batch the run looks at itself after: here after each, the first ones of weight 0."""
    torch.manual_seed(0)
    n = 23
    x, y, model = torch.randn(n, 6), torch.randint(0, 3, (n,)), nn.Linear(6, 3)
    dataset = Dataset({"train": (x, y, torch.zeros(n))}, facts(n), 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    t = training_of(model, dataset, CrossEntropy(facts(n)), optimizer, accumulate=accumulate)
    dataset.splits["train"][2][t.epoch_parts()[-2]] = torch.tensor([1.0, 3.0])
    t.display.interval = t.pulse_at = 0.0
    train_epoch(t, None)
    row, _ = measure_epoch(t)
    z, w = model(x).detach().double().numpy(), dataset.splits["train"][2].numpy()
    expected = np.average(-log_softmax(z, 1)[np.arange(n), y], weights=w)
    assert row["train/loss"] == pytest.approx(expected, rel=1e-5)
    assert model.weight.isfinite().all()


def test_the_loss_of_a_run_is_the_mean_by_weight(trained, tmp_path):
    """sum w l / sum w over the whole epoch, with the weights of classes, too: no mean of the batches' means.

    100 rows in batches of 7: the last has 2, and many have no weight at all.
    """
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(100, 2)), rng.choice(["ant", "bee", "cat"], 100, p=[0.6, 0.3, 0.1])
    w = np.where(rng.random(100) < 0.8, 0, rng.integers(1, 9, 100))
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["a", "w", "b", "kind"], *zip(x[:, 0], w, x[:, 1], y, strict=True)])
    options = ["data=csv", f"data.path={tmp_path / 't.csv'}", "data.targets=kind", "data.weights=w", "optim.lr=0"]
    options += ["data.batch_size=7", "data.test_fraction=0", "data.val_fraction=0", "data.normalize=standard"]
    run = trained(
        *options, "model=linear", "train.epochs=1", "objective=cross_entropy", "objective.class_weights=balanced"
    )
    classes, k = np.unique(y, return_inverse=True)
    losses = -log_softmax(linear_outputs(run, x), 1)[np.arange(100), k]
    weights = w * compute_class_weight("balanced", classes=classes, y=y)[k]
    expected = np.average(losses, weights=weights)
    row = dict(zip(*rows(run), strict=True))
    assert float(row["train/loss"]) == pytest.approx(expected, rel=1e-5)
    assert float(row["train/accuracy"]) == pytest.approx((linear_outputs(run, x).argmax(1) == k).mean())
    assert abs(expected - losses.mean()) > 1e-3  # or else the test shows nothing


def test_losses_of_validation_and_test_are_means_by_weight(trained, tmp_path):
    """Of numbers; the mean absolute error and its like, in the targets' own units, count each sample the same."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part, n in {"train": 50, "val": 33, "test": 21}.items():
        arrays |= {
            f"x_{part}": rng.normal(size=(n, 3)),
            f"y_{part}": rng.normal(100, 20, (n, 2)),
            f"w_{part}": rng.random(n),
        }
    np.savez(tmp_path / "my.npz", **arrays)
    options = ["data=npz", f"data.path={tmp_path / 'my.npz'}", "data.normalize=standard", "data.batch_size=8"]
    run = trained(*options, "model=linear", "optim.lr=0", "train.epochs=1", "train.precision=float64")
    train = arrays["y_train"]
    row = dict(zip(*rows(run), strict=True))
    found = {part: {k: float(row[f"{part}/{k}"]) for k in ("loss", "mae", "rmse")} for part in ("train", "val")}
    for part, measured in (found | {"test": summary(run)["test"]}).items():
        x, y, w = (arrays[f"{name}_{part}"] for name in "xyw")
        error = linear_outputs(run, x) - (y - train.mean(0)) / train.std(0)
        assert measured["loss"] == pytest.approx(np.average((error**2).mean(1), weights=w), rel=1e-5)
        assert measured["mae"] == pytest.approx(np.abs(error * train.std(0)).mean(), rel=1e-5)
        assert measured["rmse"] == pytest.approx(np.sqrt(((error * train.std(0)) ** 2).mean()), rel=1e-5)
