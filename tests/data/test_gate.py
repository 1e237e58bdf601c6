"""What is refused, counted or noticed, whatever the data come from."""

import re

import numpy as np
import pytest
import torch
from conftest import COMMON

from data.fingerprint import difference, fingerprint, hashes, sample_hashes
from data.gate import as_inputs
from data.npz import Npz
from data.precision import to_float32
from data.splits import split_indices
from data.table_file import TableFile
from trainer.analysis.inputs import read_inputs
from trainer.rundir.errors import Refused

pd = pytest.importorskip("pandas")
SPLIT = COMMON | {"test_fraction": 0.25, "val_fraction": 0.2, "normalize": "standard"}
TABLE = {"targets": ["y"], "features": None, "weights": None, "task": "auto", "separator": ","}


def table(path, content=None, **how):
    if content is not None:
        path.write_text(content)
    return TableFile(path=str(path), **SPLIT | TABLE | how)


TIMES = 1_700_000_000_000 + np.arange(40) * 977
LOST = {
    "whole numbers": TIMES,
    "fractions": TIMES * 1.0,
    "with one far number": np.where(np.arange(40) == 7, 0, TIMES),
    "seconds": 1_732_320_000 + np.arange(40),
    "tiny": np.arange(40) * 1e-50,
    "too large": np.arange(40) * 1e38,
    "just beyond": 2**24 + np.arange(40) % 2,
}


@pytest.mark.parametrize("kind", LOST)
def test_what_32_bits_cannot_hold_is_refused_everywhere(tmp_path, kind):
    values, y = LOST[kind], np.arange(40) % 2
    frame = pd.DataFrame({"a": values, "b": np.arange(40), "y": y})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.rename(columns={"a": "y", "y": "a"}).to_csv(tmp_path / "target.csv", index=False)
    inputs = np.column_stack([values, np.arange(40)])
    np.savez(tmp_path / "x.npz", x_train=inputs if values.dtype.kind == "f" else inputs.astype(np.int64), y_train=y)
    np.savez(tmp_path / "y.npz", x_train=np.arange(80.0).reshape(40, 2), y_train=values)
    np.savez(tmp_path / "images.npz", x_train=np.repeat(values, 4).reshape(40, 1, 2, 2), y_train=y)
    sources = [
        table(tmp_path / "t.csv", task="binary"),
        table(tmp_path / "target.csv", task="regression"),
        Npz(path=str(tmp_path / "x.npz"), task="binary", **SPLIT),
        Npz(path=str(tmp_path / "y.npz"), task="regression", **SPLIT),
        Npz(path=str(tmp_path / "images.npz"), task="binary", **SPLIT),
    ]
    for source in sources:
        with pytest.raises(ValueError, match="32 bits"):
            source.load()


@pytest.mark.parametrize(
    "values",
    [
        np.arange(1000) * 1e12,  # far apart
        np.random.default_rng(0).normal(size=3000) + 100,
        np.full(50, 1e15),  # a constant loses nothing
        np.random.default_rng(0).integers(0, 2**31, 3000),
        np.random.default_rng(0).exponential(1e9, 3000) ** 2,
        np.linspace(0, 1, 5000) * 1e-30,
    ],
)
def test_what_32_bits_tell_apart_is_taken(values):
    found = to_float32(values[:, None], str, "x")
    np.testing.assert_allclose(found[:, 0], values, rtol=1e-6)


def test_whole_numbers_that_are_lost_are_counted(tmp_path):
    values = np.concatenate([np.arange(100) * 1_000_003, [2**26 + 1, 2**26 + 2, 2**26 + 3]])
    np.savez(tmp_path / "x.npz", x_train=values[:, None], y_train=np.arange(103) / 7)
    dataset = Npz(path=str(tmp_path / "x.npz"), task="regression", **SPLIT).load()
    lost = 103 - len(np.unique(values.astype(np.float32)))
    assert lost > 0
    assert dataset.facts.notes[0] == f"entry 0 of a sample: of 103 different whole numbers {lost} are lost in 32 bits"


@pytest.mark.parametrize(
    ("cells", "how", "words"),
    [
        (
            ["1,5", "2,25", "3"],
            {},
            "column a, row 1: '1,5' is a number in another notation; data.decimal=comma reads it",
        ),
        (["1.234,5", "20,5", "7"], {}, "data.decimal=comma data.thousands=dot reads it"),
        (["1'234", "20", "7'000"], {}, "\"data.thousands='\\''\" reads it"),
        (["1 234", "20", "7 000"], {}, "data.thousands=space reads it"),
        (["1\u202f234", "20", "7\xa0000"], {}, "notation; data.thousands=space reads it"),
        (["1 %", "2 %"], {"decimal": "comma", "thousands": "dot"}, "notation; data.units=[%] reads it"),
        (["12,5", "0,75"], {"thousands": "comma"}, "notation; data.decimal=comma data.thousands=null reads it"),
        (["12 %", "3%", "50 %"], {}, "data.units=[%] reads it"),
        (["€5", "€ 6", "€7.5"], {}, "\"data.units=['€']\" reads it"),
        (["5,50 EUR", "6,75 EUR", "8,00 EUR"], {}, "data.decimal=comma data.units=[EUR] reads it"),
        (["1", "2", "oops", "4"], {}, "row 3: 'oops' among numbers; mend it, or data.na=[oops] makes"),
        (
            ["1", "k. A.", "2"],
            {},
            "row 2: 'k. A.' among numbers; mend it, or \"data.na=['k. A.']\" makes it a missing value",
        ),
        (["1", "2", "?", "4"], {}, "row 3: '?' among numbers; \"data.na=['?']\" makes it a missing value"),
        (["1", "nan", "nan", "nan", "4", "2.5"], {}, "row 2: 'nan' among numbers; \"data.na=['nan']\" makes"),
        (["01", "02", "A1", "07"], {}, "makes it a missing value; data.text=[a] reads the column as texts"),
        (["2020-01-02", "2020-01-03", "2020-01-03"], {}, "row 1: '2020-01-02' is a date"),
        (["31-Jan-2020", "1-Feb-2020", "x"], {}, "row 1: '31-Jan-2020' is a date"),
        (["12:30", "13:45", "12:30"], {}, "row 1: '12:30' is a date or a time"),
        (["−1", "−2", "x"], {}, "row 1: '−1' looks like a number; write plain numbers"),
        (["5 kg", "6 kg", "7 kg"], {}, "row 1: '5 kg' looks like a number"),
        (["2,34,567.50", "1,00,000.25", "7,00,000.5"], {}, "looks like a number"),
        (["(3)", "(4)", "(3)"], {}, "row 1: '(3)' looks like a number"),
        (["12 EUR", "12 USD", "3 EUR"], {}, "looks like a number"),
        (["12%", "0.12", "3%"], {"units": ["%"]}, "row 2: '0.12' has another unit than earlier rows"),
        (["5 m2", "m26", "7 m2"], {"units": ["m2"]}, "row 2: 'm26' among numbers"),
        (["Rs 5", "Rs.50", "Rs 7"], {"units": ["Rs"]}, "row 2: 'Rs.50' among numbers"),
        (["1", "NA", "3"], {"na": ["NA"]}, "row 2: the cell is empty or one of data.na=[NA]"),
        (["a", "", "b"], {}, "column a, row 2: the cell is empty"),
        (["1,5", "1.5", "2,5"], {"decimal": "comma"}, "row 2: '1.5' among numbers"),
        (["1,5", "1,234", "2,345"], {"thousands": "comma"}, "row 1: '1,5'"),
        (["0.006", "1.234", "2.345"], {"thousands": "dot", "decimal": "comma"}, "row 1: '0.006'"),
    ],
)
def test_cells_that_could_be_several_things_are_refused(tmp_path, cells, how, words):
    frame = pd.DataFrame({"a": cells, "y": np.arange(len(cells)) + 0.5})
    frame.to_csv(tmp_path / "t.csv", sep="|", index=False)
    with pytest.raises(ValueError, match="column a") as caught:
        table(tmp_path / "t.csv", separator="|", **how).load()
    assert words in str(caught.value)
    if "reads it" in words and "notation" not in words:
        assert "is a number in another notation" in str(caught.value)


@pytest.mark.parametrize(
    ("cells", "how", "expected"),
    [
        (["1,5", "-2,25", "3"], {"decimal": "comma"}, [1.5, -2.25, 3]),
        (["1.234,5", "20,5", "1.234.567"], {"decimal": "comma", "thousands": "dot"}, [1234.5, 20.5, 1234567]),
        (["1\u202f000,75", "-2\xa0000", "3 000"], {"decimal": "comma", "thousands": "space"}, [1000.75, -2000, 3000]),
        (["1\u2009000"], {"thousands": "\xa0"}, [1000]),
        (["12 %", "3%", "-50 %"], {"units": ["%"]}, [12, 3, -50]),
        (["€5", "€ 6", "7.5 €"], {"units": ["€", "$"]}, [5, 6, 7.5]),
        (["5 m2", "6m2", "7 m2"], {"units": ["m2"]}, [5, 6, 7]),
        (["Rs 5", "Rs6", "7 Rs"], {"units": ["s", "Rs"]}, [5, 6, 7]),
        (["007", "7", "12"], {"text": []}, [7, 7, 12]),
        (["1e3", "-.5", "+2."], {}, [1000, -0.5, 2]),
    ],
)
def test_notations_are_read(tmp_path, cells, how, expected):
    frame = pd.DataFrame({"a": cells * 4, "y": np.arange(4 * len(cells))})
    frame.to_csv(tmp_path / "t.csv", sep="|", index=False)
    alone = {"test_fraction": 0.0, "val_fraction": 0.0, "task": "regression"}
    source = table(tmp_path / "t.csv", separator="|", **how | alone)
    assert source.load().splits["train"][0][:, 0].tolist() == expected * 4


@pytest.mark.parametrize("unit", ["", "-", ",", "5", "1e", "−."])
def test_a_part_of_a_number_is_no_unit(tmp_path, unit):
    with pytest.raises(ValueError, match="must be a text before or after numbers, such as % or EUR"):
        table(tmp_path / "t.csv", units=[unit], decimal="comma")


def test_codes_are_texts(tmp_path):
    frame = pd.DataFrame({"a": range(30), "plant": ["01", "02", "A1"] * 10, "code": ["007", "7", "12"] * 10})
    frame.to_csv(tmp_path / "t.csv", index=False)
    facts = table(tmp_path / "t.csv", targets="code", text=["plant", "code"]).load().facts
    assert facts.class_names == ("007", "12", "7")
    assert facts.column_names == ("a", "plant=01", "plant=02", "plant=A1")
    facts = table(tmp_path / "t.csv", targets="code", features=["a"], task="classification").load().facts
    assert facts.class_names == ("007", "12", "7")


def test_texts_such_as_na_are_categories_unless_somebody_says_otherwise(tmp_path):
    frame = pd.DataFrame({"a": range(40), "y": ["NA", "ZA", "None", "null"] * 10})
    frame.to_csv(tmp_path / "t.csv", index=False)
    assert table(tmp_path / "t.csv").load().facts.class_names == ("NA", "None", "ZA", "null")
    dropped = table(tmp_path / "t.csv", na=["NA"], missing="drop").load().facts
    assert dropped.class_names == ("None", "ZA", "null")
    assert dropped.notes[0] == "left out 10 of 40 rows with missing values: y 10"


@pytest.mark.parametrize("kind", ["csv", "npz"])
def test_missing_values_become_the_mean_of_the_training_split(tmp_path, kind):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(size=40)
    holes = rng.random(x.shape) < 0.15
    x[holes] = np.nan
    pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=y).to_csv(tmp_path / "t.csv", index=False)
    np.savez(tmp_path / "t.npz", x_train=x, y_train=y)
    source = table(tmp_path / "t.csv", missing="mean")
    if kind == "npz":
        source = Npz(path=str(tmp_path / "t.npz"), task="regression", missing="mean", **SPLIT)
    dataset = source.load()
    index = split_indices(40, None, test_fraction=0.25, val_fraction=0.2, seed=SPLIT["split_seed"])
    means = np.nanmean(x[index["train"]], 0)
    np.testing.assert_allclose(dataset.facts.fill, means, rtol=1e-6)
    for split, i in index.items():
        np.testing.assert_allclose(dataset.splits[split][0], np.where(np.isnan(x[i]), means, x[i]), rtol=1e-6)
    total = ", ".join(f"{holes[index[s]].sum()} in {s}" for s in ("train", "val", "test") if holes[index[s]].any())
    assert f"missing inputs are the mean of the training split: {total}" in dataset.facts.notes
    given = read_inputs(tmp_path / f"t.{kind}", dataset.facts, lambda: source, 7) if kind == "csv" else None
    if given is not None:
        np.testing.assert_allclose(np.concatenate(list(given.parts)), np.where(np.isnan(x), means, x), rtol=1e-6)


def test_what_is_dropped_is_counted(tmp_path):
    x = np.arange(60.0).reshape(20, 3)
    x[[3, 7], [0, 2]] = np.nan
    np.savez(tmp_path / "t.npz", x_train=x, y_train=np.arange(20) / 3)
    dataset = Npz(path=str(tmp_path / "t.npz"), task="regression", missing="drop", **SPLIT).load()
    assert sum(dataset.facts.sizes.values()) == 18
    assert dataset.facts.notes[0] == "left out 2 of 20 samples of train with missing values"


@pytest.mark.parametrize("missing", ["refuse", "drop", "mean"])
def test_an_infinite_value_is_named_where_the_file_has_it(tmp_path, missing):
    x = np.arange(60.0).reshape(20, 3)
    x[9, 1] = np.inf
    if missing != "refuse":
        x[[3, 7], 0] = np.nan
    np.savez(tmp_path / "t.npz", x_train=x, y_train=np.arange(20) / 3)
    with pytest.raises(ValueError, match=r"infinite, in sample 10 first \(entry 1 of a sample; samples count from 1\)"):
        Npz(path=str(tmp_path / "t.npz"), task="regression", missing=missing, **SPLIT).load()


def test_missing_cells_of_texts_count_once(tmp_path):
    texts = np.array(["a", "b", "c", "d", None], dtype=object)[np.arange(50) % 5]
    frame = pd.DataFrame({"t": texts, "a": np.where(np.arange(50) % 9, np.arange(50.0), np.nan)})
    frame.assign(y=np.arange(50) + 0.5).to_csv(tmp_path / "t.csv", index=False)
    source = table(tmp_path / "t.csv", missing="mean")
    facts = source.load().facts
    index = split_indices(50, None, test_fraction=0.25, val_fraction=0.2, seed=SPLIT["split_seed"])
    holes = frame.isna().to_numpy().sum(1)
    counts = ", ".join(f"{holes[i].sum()} in {split}" for split, i in index.items())
    assert f"missing inputs are the mean of the training split: {counts}" in facts.notes
    notes = read_inputs(tmp_path / "t.csv", facts, lambda: source, 7).notes
    assert notes == (f"missing inputs are the mean of the run's training split: {holes.sum()}",)


@pytest.mark.parametrize("missing", ["refuse", "drop"])
def test_samples_that_lack_a_value_are_predicted_as_rows_are(tmp_path, missing):
    """Not at all, each with its line; the others as without them."""
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) / 3
    np.savez(tmp_path / "t.npz", x_train=x, y_train=y)
    source = Npz(path=str(tmp_path / "t.npz"), task="regression", missing=missing, **SPLIT)
    facts = source.load().facts
    x[[3, 7], [0, 2]] = np.nan
    np.savez(tmp_path / "new.npz", x=x)
    said = "new.npz: x: sample {} (the first is 0, as in the column sample) has no value in entry {}"
    if missing == "refuse":
        with pytest.raises(Refused, match=re.escape(said.format(3, 0) + ", and 1 more")):
            read_inputs(tmp_path / "new.npz", facts, lambda: source, 7)
        return
    found = read_inputs(tmp_path / "new.npz", facts, lambda: source, 7)
    assert found.names == [i for i in range(40) if i not in (3, 7)]
    np.testing.assert_array_equal(np.concatenate(list(found.parts)), x[found.names].astype(np.float32))
    assert [line.removeprefix(f"{tmp_path}/") for line in found.unread] == [said.format(3, 0), said.format(7, 2)]
    x[9, 1] = np.inf
    np.savez(tmp_path / "new.npz", x=x)
    with pytest.raises(ValueError, match="in sample 10 first"):
        read_inputs(tmp_path / "new.npz", facts, lambda: source, 7)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("classes", [None, 3])
def test_groups_stay_together(seed, classes):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(25), rng.integers(1, 12, 25))
    labels = None if classes is None else rng.integers(0, classes, 25)[groups]
    n = len(groups)
    parts = split_indices(n, labels, test_fraction=0.2, val_fraction=0.1, seed=seed, groups=groups)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(n))
    of = [set(groups[i]) for i in parts.values()]
    assert not any(a & b for k, a in enumerate(of) for b in of[k + 1 :])
    assert abs(len(parts["test"]) / n - 0.2) < 0.1
    again = split_indices(n, labels, test_fraction=0.2, val_fraction=0.1, seed=seed, groups=groups)
    assert all(np.array_equal(parts[name], again[name]) for name in parts)


def test_rows_of_one_patient_are_in_one_split(tmp_path):
    frame = pd.DataFrame({"patient": np.repeat([f"p{k}" for k in range(20)], 5), "a": np.arange(100.0) ** 2})
    frame["y"] = np.arange(100) + 0.5
    frame.to_csv(tmp_path / "t.csv", index=False)
    dataset = table(tmp_path / "t.csv", group="patient").load()
    assert dataset.facts.column_names == ("a",)
    patients = [{int(np.sqrt(v).round()) // 5 for v in x[:, 0].tolist()} for x, _ in dataset.splits.values()]
    assert sorted(k for of in patients for k in of) == list(range(20))


def splits_of(x, y):
    return {"train": sample_hashes(x[:15], y[:15]), "test": sample_hashes(x[15:], y[15:])}


def test_a_fingerprint_says_what_has_changed():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)).astype(np.float32), rng.integers(0, 3, 20)
    print_of = fingerprint(splits_of(x, y))
    assert difference(print_of, fingerprint(splits_of(x.copy(), y.copy()))) is None
    order = rng.permutation(20)
    assert "another order" in difference(print_of, fingerprint(splits_of(x[order], y[order])))
    edited = y.copy()
    edited[4] = (edited[4] + 1) % 3
    assert "targets or weights were changed" in difference(print_of, fingerprint(splits_of(x, edited)))
    negated = x.copy()
    negated[3, :2] *= -1
    assert difference(print_of, fingerprint(splits_of(negated, y))) == "the values of the inputs were changed (train)"
    assert "had 5 samples, and has 4" in difference(print_of, fingerprint(splits_of(x[:19], y[:19])))


def test_hashes_tell_samples_apart():
    """Every single bit of a sample counts, and so do places; equal samples have equal hashes."""
    base = np.zeros((1, 5), np.float32).view(np.uint8)
    flipped = np.repeat(base, 8 * base.shape[1], 0)
    for bit in range(len(flipped)):
        flipped[bit, bit // 8] ^= 1 << bit % 8
    found = hashes(np.concatenate([base, flipped]))
    assert len(set(found.tolist())) == len(found)
    signs = np.array(np.meshgrid(*[[1.0, -1.0]] * 6)).reshape(6, -1).T.astype(np.float32)
    assert len(set(hashes(signs).tolist())) == 64
    many = np.random.default_rng(0).integers(0, 2, (200_000, 17), dtype=np.uint8)
    assert len(set(hashes(many).tolist())) == len(np.unique(many, axis=0))


def test_the_same_row_in_two_splits_is_counted(tmp_path):
    x = np.arange(40.0)
    frame = pd.DataFrame({"a": np.append(x, x[:10]), "y": np.append(x, x[:10]) + 0.5})
    frame.to_csv(tmp_path / "t.csv", index=False)
    dataset = table(tmp_path / "t.csv").load()
    parts = {name: {tuple(row) for row in torch.cat([x, y], 1).tolist()} for name, (x, y) in dataset.splits.items()}
    for a, b in (("train", "val"), ("train", "test"), ("val", "test")):
        rows_b = torch.cat(dataset.splits[b], 1).tolist()
        n = sum(tuple(row) in parts[a] for row in rows_b)
        said = [note for note in dataset.facts.notes if f" {b} samples " in note and f"the {a} split" in note]
        assert [note.split()[0] for note in said] == ([str(n)] if n else [])


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, bool, np.float16, np.float32, np.int32, np.float64])
def test_inputs_of_every_type(dtype):
    x = as_inputs(np.array([[0, 1], [1, 0]], dtype), str, "x")
    assert x.dtype == (np.uint8 if dtype == np.uint8 else np.float32)
    assert x.tolist() == [[0, 1], [1, 0]]
