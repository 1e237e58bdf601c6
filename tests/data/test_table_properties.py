"""Random tables: the same whatever file they come in, and each row read by itself as among others."""

import math
from dataclasses import replace
from unicodedata import normalize

import numpy as np
import pytest
import torch
from conftest import COMMON
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data import Dataset
from data.npz import Npz
from data.table_file import TableFile
from trainer.analysis.inputs import read_inputs

pd = pytest.importorskip("pandas")
SETTINGS = COMMON | {"test_fraction": 0.25, "val_fraction": 0.2, "normalize": "standard"}
QUIET = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

WORDS = [
    "red",
    "Köln",
    "NA",
    "None",
    "true",
    "FALSE",
    "a b",
    "x,y",
    'q"q',
    "1,5",
    "12 %",
    "007",
    "7",
    "-",
    "2020-01-02",
]
CELLS = {
    "whole": st.integers(-1000, 1000),
    "fraction": st.floats(-1e6, 1e6, allow_nan=False, width=64).map(lambda v: float(f"{v:.6g}")),
    "large": st.integers(-(2**40), 2**40),
    "boolean": st.booleans(),
    "text": st.sampled_from(WORDS),
    "two": st.sampled_from(["red", "NA"]),
    "switch": st.sampled_from(["TRUE", "FALSE"]),
    "code": st.sampled_from(["007", "7", "012"]),
}


@st.composite
def tables(draw):
    """Columns of a table, some cells missing, with a target that is a number or a text."""
    n = draw(st.integers(12, 30))
    kinds = draw(st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=4))
    columns = {}
    for i, kind in enumerate(kinds):
        cells = draw(st.lists(CELLS[kind], min_size=n, max_size=n))
        holes = draw(st.sets(st.integers(0, n - 1), max_size=2)) if draw(st.booleans()) else ()
        columns[f"c{i} {kind}"] = [None if k in holes else cell for k, cell in enumerate(cells)]
    target = draw(st.sampled_from(["number", "text"]))
    columns["y"] = (
        [k + 0.5 for k in range(n)] if target == "number" else [("ant", "bee", "NA")[k % 3] for k in range(n)]
    )
    return pd.DataFrame({name: pd.Series(cells, dtype=_dtype(cells)) for name, cells in columns.items()})


def _dtype(cells):
    kinds = {type(cell) for cell in cells} - {type(None)}
    missing = None in cells
    if kinds == {int}:
        return "Int64" if missing else "int64"
    if kinds == {bool}:
        return "boolean" if missing else "bool"
    return "float64" if kinds == {float} else object


def source(path, **how):
    own = {"targets": ["y"], "features": None, "weights": None, "task": "auto", "separator": ","}
    return TableFile(path=str(path), **SETTINGS | own | how)


def loaded(reader, path):
    """The dataset, or the line that refuses it, without the file's name."""
    try:
        return reader.load()
    except ValueError as error:
        return str(error).replace(str(path), "FILE")


def assert_same(one, other):
    assert type(one) is type(other), (one, other)
    if isinstance(one, str):
        assert one == other
        return
    a, b = one.facts.plain(), other.facts.plain()
    for key in a:
        if isinstance(a[key], torch.Tensor):
            torch.testing.assert_close(a[key], b[key], rtol=0, atol=0)
        else:
            assert a[key] == b[key], key
    for split in one.splits:
        for x, y in zip(one.splits[split], other.splits[split], strict=True):
            assert torch.equal(x, y)


@QUIET
@given(frame=tables(), missing=st.sampled_from(["refuse", "drop", "mean"]), text=st.sampled_from([None, [], ["y"]]))
def test_a_table_is_the_same_as_csv_and_as_parquet(tmp_path_factory, frame, missing, text):
    pytest.importorskip("pyarrow", reason="Parquet is read by pyarrow, an optional package")
    folder = tmp_path_factory.mktemp("table")
    frame.to_csv(folder / "t.csv", index=False)
    frame.to_parquet(folder / "t.parquet")
    parts = folder / "parts" / "t.parquet"
    parts.mkdir(parents=True)
    half = len(frame) // 2
    frame[:half].to_parquet(parts / "0.parquet")
    frame[half:].to_parquet(parts / "1.parquet")
    found = [
        loaded(source(path, missing=missing, text=text), path)
        for path in (folder / "t.csv", folder / "t.parquet", parts)
    ]
    assert_same(found[0], found[1])
    assert_same(found[0], found[2])
    if not isinstance(found[0], str) and not frame.drop(columns="y").isna().any().any():
        x = [rows(folder / "t.csv", found[0].facts, missing), rows(folder / "t.parquet", found[0].facts, missing)]
        np.testing.assert_array_equal(x[0], x[1])


def rows(path, facts, missing="mean"):
    """All inputs that a prediction of the file would take."""
    return np.concatenate(list(read_inputs(path, facts, lambda: source(path, missing=missing), 7).parts))


@QUIET
@given(frame=tables(), seed=st.integers(0, 100))
def test_a_row_is_read_by_itself_as_among_others(tmp_path_factory, frame, seed):
    folder = tmp_path_factory.mktemp("rows")
    path = folder / "t.csv"
    frame.to_csv(path, index=False)
    dataset = loaded(source(path, missing="mean"), path)
    if isinstance(dataset, str):
        return
    whole = rows(path, dataset.facts)
    order = np.random.default_rng(seed).permutation(len(frame))
    frame.iloc[order].to_csv(path, index=False)
    np.testing.assert_allclose(rows(path, dataset.facts), whole[order], rtol=1e-6)
    for k in range(0, len(frame), 3):
        frame.iloc[[k]].to_csv(path, index=False)
        np.testing.assert_allclose(rows(path, dataset.facts), whole[[k]], rtol=1e-6)


ACCENTED = st.sampled_from(["Größe", "Ärzte", "é", "ſ", "Ω", "각", "ã", "plain", "NA"])
FORM = st.sampled_from(["NFC", "NFD"])


@QUIET
@given(cells=st.lists(ACCENTED, min_size=12, max_size=20), forms=st.lists(FORM, min_size=20, max_size=20))
def test_a_table_is_the_same_in_any_unicode_form(tmp_path_factory, cells, forms):
    """Names of columns, texts, classes, and what the settings name; each in its own form."""
    folder = tmp_path_factory.mktemp("forms")
    how = {"targets": [normalize("NFD", "Größe")], "text": ["é"], "na": ["ã"], "missing": "drop"}
    cells = [*cells, *["Ärzte", "plain"] * 6]
    columns = {"é": cells, "Größe": [["Ä", "ö", "x"][k % 3] for k in range(len(cells))]}
    found = []
    for name in ("composed", "mixed"):
        form = ["NFC"] * 20 if name == "composed" else forms
        written = {
            normalize(form[-k], column): [normalize(form[i % 20], cell) for i, cell in enumerate(values)]
            for k, (column, values) in enumerate(columns.items())
        }
        path = folder / f"{name}.csv"
        pd.DataFrame(written).to_csv(path, index=False)
        found.append(loaded(source(path, **how), path))
    if not isinstance(found[0], str):
        found = [Dataset(d.splits, replace(d.facts, name="t"), 1) for d in found]
    assert_same(*found)
    if isinstance(found[0], str):
        return
    facts = found[0].facts
    assert set(facts.column_names) <= {f"é={normalize('NFC', cell)}" for cell in cells}
    old = replace(
        facts,
        column_names=tuple(normalize("NFD", name) for name in facts.column_names),
        encoders={"e\u0301": tuple(normalize("NFD", text) for text in facts.encoders["é"])},
    )
    np.testing.assert_array_equal(rows_like(path, old, how), rows_like(path, facts, how))


def rows_like(path, facts, how):
    return np.concatenate(list(read_inputs(path, facts, lambda: source(path, **how), 7).parts))


UNITS = ["", "%", " %", "€", " EUR"]


@QUIET
@given(
    cells=st.lists(st.integers(-999, 999), min_size=12, max_size=20, unique=True),
    own=st.sampled_from(UNITS),
    other=st.sampled_from(UNITS),
    k=st.integers(0, 11),
)
def test_a_cell_is_of_the_unit_of_the_run(tmp_path_factory, cells, own, other, k):
    """Among others and alone, and whatever the others are."""
    path = tmp_path_factory.mktemp("units") / "t.csv"
    how = {"units": ["%", "€", "EUR"], "task": "regression", "normalize": "none"}
    frame = pd.DataFrame({"a": [f"{cell}{own}" for cell in cells], "y": [f"{cell}{own}" for cell in cells]})
    frame.to_csv(path, index=False)
    facts = source(path, **how).load().facts
    assert dict(facts.units) == dict.fromkeys("ay", own.strip())
    frame.loc[k, "a"] = f"{cells[k]}{other}"
    for rows_k, row in ((frame, k + 1), (frame[k : k + 1], 1), (frame[k:], 1)):
        rows_k.to_csv(path, index=False)
        readers = (
            lambda: np.concatenate(list(read_inputs(path, facts, lambda: source(path, **how), 7).parts)),
            lambda: source(path, **how).load_like(facts).splits["new"][0].numpy(),
        )
        for read in readers:
            if own.strip() == other.strip():
                assert read()[row - 1, 0] == cells[k]
                continue
            with pytest.raises(ValueError, match=rf"t\.csv: column a, row {row}: '?{cells[k]}{other}'? has "):
                read()


@QUIET
@given(
    x=st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=3, max_size=3), min_size=15, max_size=25),
    large=st.booleans(),
)
def test_numbers_are_the_same_as_arrays_and_as_a_table(tmp_path_factory, x, large):
    folder = tmp_path_factory.mktemp("numbers")
    x = np.array(x, np.float64)
    x[:, 0] = np.arange(len(x)) + (1.7e12 if large else 0)
    y = np.arange(len(x)) % 3
    np.savez(folder / "t.npz", x_train=x, y_train=y)
    np.savez(folder / "whole.npz", x_train=np.column_stack([x[:, 0].astype(np.int64)]), y_train=y)
    pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=y).to_csv(folder / "t.csv", index=False)
    table = loaded(source(folder / "t.csv", task="classification"), folder / "t.csv")
    arrays = loaded(Npz(path=str(folder / "t.npz"), task="classification", **SETTINGS), folder / "t.npz")
    whole = loaded(Npz(path=str(folder / "whole.npz"), task="classification", **SETTINGS), folder / "whole.npz")
    if large:
        assert all("32 bits cannot tell apart" in found for found in (table, arrays, whole))
        return
    assert table.facts.sizes == arrays.facts.sizes
    for split in table.splits:
        for one, other in zip(table.splits[split], arrays.splits[split], strict=True):
            assert torch.equal(one, other)
    assert math.isclose(float(table.facts.mean[0]), float(whole.facts.mean[0]))
