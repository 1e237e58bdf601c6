"""Tables and arrays that are read from disk, against what the tests themselves wrote."""

import gzip
import io
import lzma
import pickle
import zipfile

import numpy as np
import pandas
import pytest
import torch
from conftest import COMMON as SHARED
from formats import draw, saved

from data.gate import admit
from data.npz import Npz
from data.table_file import TableFile

# What conf/config.yaml says, with no test and validation splits.
COMMON = SHARED | {"test_fraction": 0.0, "val_fraction": 0.0, "normalize": "none"}
SPLIT = {"test_fraction": 0.2, "val_fraction": 0.1, "normalize": "standard"}


def admitted(source):
    """What a source reads, as training takes it."""
    return admit(source.read(), source.missing)


def table(path, content=None, name="t.csv", **how):
    if content is not None:
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    settings = {"targets": ["y"], "features": None, "weights": None, "task": "auto", "separator": ","}
    return TableFile(path=str(path / name), **COMMON | settings | how)


def npz(path, task="auto", **arrays):
    if arrays:
        np.savez_compressed(path / "my.npz", **arrays)
    return Npz(path=str(path / "my.npz"), task=task, **COMMON | SPLIT)


PLAIN = "a,b,y\n1,2,0.5\n3,4,1.5\n"


@pytest.mark.parametrize(
    ("content", "how"),
    [
        (PLAIN, {"name": "t.csv"}),
        ("\ufeff" + PLAIN.replace("\n", "\r\n"), {}),  # Excel
        (PLAIN.replace(",", ";"), {"separator": ";"}),
        (PLAIN.replace(",", "\t"), {"separator": "\t"}),
        (PLAIN.replace(",", "\t"), {"separator": "tab"}),
        (PLAIN.replace(",", "\t"), {"separator": "\\t"}),
        (PLAIN.replace(",", " , "), {}),
        ('"a","b","y"\n"1","2","0.5"\n"3","4","1.5"\n\n', {}),
        ("y,c,b,a\n.5,?,2,1\n1.5,,4,3\n", {"features": ["a", "b"]}),
        (gzip.compress(PLAIN.encode(), mtime=0), {"name": "t.csv.gz"}),
    ],
)
def test_tables_of_numbers(tmp_path, content, how):
    raw = admitted(table(tmp_path, content, **how))
    x, y = raw.parts["train"]
    assert (x.dtype, y.dtype, raw.task, raw.num_outputs) == (np.float32, np.float32, "regression", 1)
    assert (raw.column_names, raw.target_names) == (("a", "b"), ("y",))
    assert (x.tolist(), y.tolist()) == ([[1, 2], [3, 4]], [[0.5], [1.5]])


@pytest.mark.parametrize(
    ("rows", "task", "expected"),
    [
        ("cat ant cat", "auto", ("binary", 1, ("ant", "cat"), [1, 0, 1])),
        ("b c a", "auto", ("classification", 3, ("a", "b", "c"), [1, 2, 0])),
        ("7 3 7", "classification", ("classification", 2, ("3", "7"), [1, 0, 1])),
        ("7 3 7", "binary", ("binary", 1, ("3", "7"), [1, 0, 1])),
        ("10 9 100", "classification", ("classification", 3, ("9", "10", "100"), [1, 0, 2])),
        ("3.0 7.0 3.0", "classification", ("classification", 2, ("3", "7"), [0, 1, 0])),
        ("True False True", "binary", ("binary", 1, ("False", "True"), [1, 0, 1])),
        ("0.5 2 3", "auto", ("regression", 1, None, [[0.5], [2], [3]])),
        ("7 3 7", "regression", ("regression", 1, None, [[7], [3], [7]])),
        ("0.5,1 2,1.5", "auto", ("regression", 2, None, [[0.5, 1], [2, 1.5]])),
        ("0,1 1,1", "multilabel", ("multilabel", 2, ("y", "z"), [[0, 1], [1, 1]])),
        ("f,30 m,4", "multitask", ("multitask", {"y": 2, "z": 2}, None, [[0, 1], [1, 0]])),
    ],
)
def test_tasks_of_tables(tmp_path, rows, task, expected):
    targets = ["y", "z"] if "," in rows else ["y"]
    content = "\n".join([",".join([*targets, "a"]), *(f"{row},1" for row in rows.split())])
    raw = admitted(table(tmp_path, content, targets=targets, task=task))
    assert (raw.task, raw.num_outputs, raw.class_names, raw.parts["train"][1].tolist()) == expected
    assert raw.target_names == tuple(targets)
    assert dict(raw.encoders) == ({"y": ("f", "m"), "z": ("4", "30")} if task == "multitask" else {})


def test_texts_become_the_categories_of_the_training_split(tmp_path):
    texts = ["red", "a, b", "blue"] * 6 + ["rare", "rarer"]
    content, unseen = "row,text,y\n" + "".join(f'{i},"{text}",{i}.5\n' for i, text in enumerate(texts)), set()
    for seed in range(6):
        dataset = table(tmp_path, content, **SPLIT | {"split_seed": seed}).load()
        rows = {part: x[:, 0].int().tolist() for part, (x, _) in dataset.splits.items()}
        assert {part: len(i) for part, i in rows.items()} == {"train": 14, "val": 2, "test": 4}
        seen = sorted({texts[i] for i in rows["train"]})
        assert dataset.facts.column_names == ("row", *(f"text={text}" for text in seen))
        assert dict(dataset.facts.encoders) == {"text": tuple(seen)}
        for part, (x, _) in dataset.splits.items():
            expected = [[float(texts[i] == text) for text in seen] for i in rows[part]]
            assert x[:, 1:].tolist() == expected
            assert dataset.batch(part, slice(0, 20))[0][:, 1:].tolist() == expected  # not normalized
        assert dataset.batch("train", slice(0, 20))[0][:, 0].mean().abs() < 1e-5
        unseen |= {"rare", "rarer"} - set(seen)
    assert unseen  # or else the test shows nothing


def frame(columns):
    pytest.importorskip("pyarrow", reason="Parquet is read by pyarrow, an optional package")
    import pandas

    return pandas.DataFrame(columns)


def test_parquet_equals_csv(tmp_path):
    columns = frame({"a": [1, 2, 3] * 5, "text": ["u", "v", "v"] * 5, "y": [0.5, 1.5, 2.5] * 5})
    columns.to_csv(tmp_path / "t.csv", index=False)
    columns.to_parquet(tmp_path / "t.parquet")
    one, other = (table(tmp_path, name=name, **SPLIT).load() for name in ("t.csv", "t.parquet"))
    assert one.facts.column_names == other.facts.column_names == ("a", "text=u", "text=v")
    for split, tensors in one.splits.items():
        assert all(torch.equal(a, b) for a, b in zip(tensors, other.splits[split], strict=True))


@pytest.mark.parametrize("kind", [np.int8, np.float32, np.float64])
def test_class_numbers_in_parquet(tmp_path, kind):
    frame({"a": [1, 2, 3], "y": np.array([7, 3, 7], kind)}).to_parquet(tmp_path / "t.parquet")
    raw = admitted(table(tmp_path, name="t.parquet", task="classification"))
    assert (raw.class_names, raw.parts["train"][1].tolist()) == (("3", "7"), [1, 0, 1])


X, Y = np.arange(60.0).reshape(20, 3), np.arange(20) % 3


@pytest.mark.parametrize(
    "sizes",
    [{"train": 14, "val": 2, "test": 4}, {"train": 18, "val": 2, "test": 20},
     {"train": 16, "val": 20, "test": 4}, {"train": 20, "val": 20, "test": 20}],
)  # fmt: skip
def test_published_parts_of_an_npz_stay(tmp_path, sizes):
    parts = ["train", *(part for part in ("val", "test") if sizes[part] == 20)]
    images = {part: draw(20, 1, 4, 5, seed=i) for i, part in enumerate(parts)}
    labels = {part: (Y + i) % 3 for i, part in enumerate(parts)}
    arrays = {f"x_{part}": x for part, x in images.items()} | {f"y_{part}": y for part, y in labels.items()}
    dataset = npz(tmp_path, **arrays).load()
    assert (dataset.facts.sizes, dataset.facts.task, dataset.facts.num_outputs) == (sizes, "classification", 3)
    assert dataset.splits["train"][0].dtype == torch.uint8
    for part in parts[1:]:
        np.testing.assert_array_equal(dataset.splits[part][0], images[part])
        np.testing.assert_array_equal(dataset.splits[part][1], labels[part])


@pytest.mark.parametrize(
    ("y", "task", "expected"),
    [
        (Y, "auto", ("classification", 3)),
        (Y % 2 == 0, "auto", ("binary", 1)),
        (Y / 2, "auto", ("regression", 1)),
        (Y, "regression", ("regression", 1)),
        (np.stack([Y % 2, Y // 2], 1), "multilabel", ("multilabel", 2)),
        (np.stack([Y, Y % 2], 1), "multitask", ("multitask", {"y0": 3, "y1": 2})),
    ],
)
def test_tasks_of_an_npz(tmp_path, y, task, expected):
    raw = admitted(npz(tmp_path, task, x_train=X, y_train=y))
    assert (raw.task, raw.num_outputs) == expected
    np.testing.assert_array_equal(raw.parts["train"][0], X.astype(np.float32))
    np.testing.assert_array_equal(raw.parts["train"][1].reshape(20, -1), y.reshape(20, -1))


def packed(**members):
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def flip(content, at):
    return content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]


NPZ = saved(np.savez_compressed, x_train=draw(20, 50), y_train=Y)
GOOD = {"x_train": X, "y_train": Y}
FRACTIONS = "a,y\n" + "".join(f"{i},{i / 7}\n" for i in range(30))
BIG = np.full(20, 2**64 - 1, np.uint64)
WIDE = np.zeros(20, [(f"{i:0>50}", "u1") for i in range(300)])  # its names alone are more than NumPy reads

# Kind of file -> what is wrong -> what it holds, what the one line says of it besides its name, settings.
BAD = {
    "t.csv": {
        "empty": ("", "not a readable table"), "no rows": ("a,y\n", "has no rows"), "1e300": ("a,y\n1e300,.5\n", ""),
        "rubbish": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, ""), "open quote": ('a,y\n1,".5\n', "not a readable"),
        "UTF-16": (PLAIN.encode("utf-16"), "not a readable"),
        "no UTF-16": (b"a,y\n1,\xe4\n", "table in utf-16 (UTF-16 stream does not", {"encoding": "utf-16"}),
        "undefined": (PLAIN, "table in undefined (undefined encoding)", {"encoding": "undefined"}),
        "semicolons": ("A;y\n1,5;2\n2,5;3\n", "is the separator data.separator=semicolon?"),
        "longer": ("A;y\n1;2\n1,5;2\n", "is the separator data.separator=semicolon?"),
        "tabs": ("A\ty\n1,5\t2\n", "is the separator data.separator=tab?"),
        "commas": ("a,y\n1;5,2\n", "is the separator data.separator=comma?", {"separator": "semicolon"}),
        "target 1e300": ("a,y\n1,1e300\n2,.5\n", ""),
        "long row": ("a,y\n1,.5\n2,1.5,9\n", "line 3"), "long rows": ("a,y\n9,1,.5\n8,2,1.5\n", ""),
        "short row": ("a,y\n1,.5\n2\n3,2.5\n", "column y, row 2: the cell is empty"),
        "NaN": ("a,b,y\n,nan,.5\n1,,1.5\n", "column a, row 1: the cell is empty"),
        "two forms": ("e\u0301,\xe9,y\n1,2,.5\n", "the column \xe9 twice, in two Unicode forms (NFC and another)"),
        "twice": ("a,a,y\n1,2,.5\n", "column a twice"), "target twice": ("a,y,y\n1,.5,.5\n", "column y twice"),
        "index": (",a,y\n0,1,.5\n1,2,1.5\n", "column 1 has no name"),
        "large": ("a,y\n1732320001,.5\n1732320002,1.5\n", "column a holds numbers up to 1.73"),
        "fractions": (FRACTIONS, "is it data.task=regression?", {"task": "classification"}),
        "no target": ("a,yy\n1,.5\n", "no column y; did you mean yy?"), "line break": ('"a\nb",x\n1,2\n', "column y"),
        "no feature": (PLAIN, "has no column bb; did you mean b?", {"features": ["bb"]}),
        "inf": ("a,y\ninf,.5\n1,1.5\n", "column a has 1 inf"), "target inf": ("a,y\n1,-inf\n", "column y has 1 inf"),
        "whole numbers": ("a,y\n1,3\n2,4\n", "task=auto"), "text": ("a,y\n1,cat\n", "'cat'", {"task": "regression"}),
        "3 classes": ("a,y\n1,a\n2,b\n3,c\n", "2 classes", {"task": "binary"}),
        "label 2": ("a,y\n1,2\n2,1\n", "the label 2 is out of range", {"task": "multilabel"}),
        "rare class": ("a,y\n" + "1,cat\n2,dog\n" * 9 + "1,eel\n", "class 'eel' has 1 sample, too few", SPLIT),
    },
    "t.csv.gz": {"cut": (gzip.compress(PLAIN.encode() * 9)[:-12], "")},
    "t.csv.zip": {"rubbish": (b"PK\3\4", "")},
    "t.csv.xz": {"rubbish": (lzma.compress(b"a")[:8], "")},
    "t.pq": {"rubbish": (b"PAR1 rubbish", ""), "lists": ({"a": [[1, 2], [2]], "y": [0.5, 1.5]}, "column a"),
        "bytes": ({"a": [b"", b"x"], "y": [0.5, 1.5]}, "column a")},
    "my.npz": {
        "no arrays": ({}, "no array x_train"), "no y": (GOOD | {"x_test": X}, "no array y_test"),
        "number": (GOOD | {"y_train": Y[:-1]}, "y_train: 19 targets for 20 samples"),
        "label -1": (GOOD | {"y_train": Y - 1}, "y_train: -1"), "1 axis": (GOOD | {"x_train": Y}, "1 axes"),
        "label 3": (GOOD | {"x_test": X, "y_test": Y + 1}, "y_test: the label 3 is out of range"),
        "shape": (GOOD | {"x_val": X[:, 1:], "y_val": Y}, "x_val has samples of float64 (2,)"),
        "NaN": (GOOD | {"x_train": np.where(X == 4, np.nan, X)}, "x_train: 1 values are NaN or infinite, in sample 2"),
        "target inf": (GOOD | {"y_train": np.where(Y, np.inf, 1)}, "y_train: 13 of the targets are NaN or infinite"),
        "target NaN": (GOOD | {"y_train": np.where(Y, Y / 2, np.nan)}, "; data.missing=drop leaves such samples out"),
        "weight NaN": (GOOD | {"w_train": np.where(Y, Y, np.nan)}, "0; data.missing=drop leaves such samples out"),
        "target 1e300": (GOOD | {"y_train": np.where(Y, 1e300, 0.5)}, "y_train: "),
        "objects": (GOOD | {"x_train": np.array([{}] * 20)}, "x_train holds Python objects"),
        "header": (GOOD | {"x_train": WIDE}, ""),
        "texts": (GOOD | {"y_train": np.array(["cat"] * 20)}, "y_train"), "empty": (b"", "not a whole .npz file"),
        "no columns": (GOOD | {"y_train": np.zeros((20, 0))}, "y_train"),
        "no rows": ({"x_train": X[:0], "y_train": Y[:0]}, "x_train is empty"),
        "large": (GOOD | {"x_train": X + 1e9}, "x_train: entry 0 of a sample holds numbers up to 1e+09"),
        "whole": (GOOD | {"y_train": Y * 1.0}, "y_train of"),
        "label 2**64-1": (GOOD | {"y_train": BIG}, "the largest class"),
        "one array": (saved(np.save, X), "holds one array"), "pickle": (pickle.dumps(GOOD), "not a whole .npz file"),
        "zip": (packed(a="text"), "no array x_train"), "zip of texts": (packed(x_train="text", y_train="text"), ""),
        "cut": (NPZ[:500], "not a whole .npz file"), "bit": (flip(NPZ, 300), ""),
        "damaged": (NPZ[:100] + b"\xff" * 50 + NPZ[150:], ""),
        "compression": (NPZ.replace(b"\x08\0\0\0", b"\x07\0\0\0"), ""),
    },
}  # fmt: skip


@pytest.mark.parametrize(("file", "what"), [(file, what) for file, cases in BAD.items() for what in cases])
def test_bad_input_is_refused_in_one_line(tmp_path, file, what):
    content, words, *how = BAD[file][what]
    if isinstance(content, dict):
        content = saved(np.savez_compressed, **content) if file == "my.npz" else saved(frame(content).to_parquet)
    (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises((ValueError, OSError)) as caught:
        (npz(tmp_path) if file == "my.npz" else table(tmp_path, name=file, **how[0] if how else {})).load()
    line = str(caught.value)
    assert words in line
    assert "too few" in line or file in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (table, "t.csv"),
        (lambda p: table(p, name="."), "not a readable table"),
        (lambda p: npz(p / "nowhere"), "my.npz"),
        (lambda p: table(p, PLAIN, separator="(("), "separator=((: must be one character"),
        (lambda p: table(p, PLAIN, targets=["y", "a"], features=["a"]), "features=[a]: a is a target"),
    ],
)
def test_what_is_missing_is_said_in_one_line(tmp_path, make, words):
    with pytest.raises((ValueError, OSError)) as caught:
        make(tmp_path).load()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["1", "2", "oops", "4"], "column a, row 3: 'oops' among numbers"),
        ([f"id{i}" for i in range(40)], "column a holds 40 different texts in 40 rows, too many for categories"),
    ],
)
def test_texts_that_are_no_categories(tmp_path, texts, message):
    content = "a,y\n" + "".join(f"{text},{i}.5\n" for i, text in enumerate(texts))
    with pytest.raises(ValueError, match=message):
        table(tmp_path, content).load()


def test_texts_of_digits_are_categories(tmp_path):
    frame({"a": ["1010", "0020"] * 4, "y": np.arange(8) / 3}).to_parquet(tmp_path / "t.parquet")
    raw = admitted(table(tmp_path, name="t.parquet"))
    assert raw.column_names == ("a=0020", "a=1010")
    assert raw.parts["train"][0].tolist() == [[0, 1], [1, 0]] * 4


def test_fractions_as_classes_in_parquet(tmp_path):
    frame({"a": np.arange(4), "y": np.array([0.1, 0.2] * 2, np.float32)}).to_parquet(tmp_path / "t.parquet")
    raw = admitted(table(tmp_path, name="t.parquet", task="classification"))
    assert raw.parts["train"][1].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_numbers_that_mean_missing(tmp_path, kind):
    """Whatever else is in the column, and however they are written."""
    values = np.arange(40.0)
    values[::8] = -999
    columns = frame({"a": values, "b": values.astype(int), "y": np.arange(40) / 7})
    columns.to_csv(tmp_path / "t.csv", index=False)
    columns.to_parquet(tmp_path / "t.parquet")
    facts = table(tmp_path, name=f"t.{kind}", missing="drop", na=[-999]).load().facts
    assert facts.sizes == {"train": 35}
    assert facts.notes == ("left out 5 of 40 rows with missing values: a 5, b 5",)
    content = "a|y\n" + "".join(f"{('1,234.5', '-999.00', '2.5')[i % 3]}|{i}.5\n" for i in range(30))
    dataset = table(tmp_path, content, separator="pipe", thousands="comma", missing="drop", na=[-999]).load()
    assert sorted(set(dataset.splits["train"][0][:, 0].tolist())) == [2.5, 1234.5]


def test_numbers_that_64_bits_cannot_hold_are_names(tmp_path):
    codes = [2**60, 2**60 + 1, None] + [2**60, 2**60 + 1] * 10
    columns = frame({"a": range(23), "code": pandas.array(codes, dtype="Int64")}).dropna()
    columns.loc[0, "a"] = 0
    for name, write in (("t.csv", columns.to_csv), ("t.parquet", columns.to_parquet)):
        write(tmp_path / name, index=False)
        facts = table(tmp_path, name=name, targets=["code"], task="classification").load().facts
        assert facts.class_names == (str(2**60), str(2**60 + 1))
    columns = frame({"a": range(23), "code": pandas.array(codes, dtype="Int64")})
    for name, write in (("t.csv", columns.to_csv), ("t.parquet", columns.to_parquet)):
        write(tmp_path / name, index=False)
        how = {"targets": ["code"], "task": "classification", "missing": "drop"}
        assert table(tmp_path, name=name, **how).load().facts.class_names == (str(2**60), str(2**60 + 1))


def test_empty_lines_of_one_column_are_missing_cells(tmp_path):
    from data.read_table import Notation, read_table

    for content, rows in (("a\n1\n\n2\n", [1, None, 2]), ("a\n1\n2\n\n\n", [1, 2]), ("a\n\n3\n", [None, 3])):
        (tmp_path / "p.csv").write_text(content)
        found = read_table(tmp_path / "p.csv", Notation())["a"]
        assert [None if value != value else value for value in found] == rows


def test_a_column_called_like_a_text_of_another(tmp_path):
    content = "c,c=D,y\n" + "".join(f"{'AD'[i % 2]},{i},{i}.5\n" for i in range(20))
    with pytest.raises(ValueError, match="column c=D has the name of a text of another column; rename it"):
        table(tmp_path, content).load()


def test_a_folder_of_parts(tmp_path):
    """Columns that only some parts have, folders that are columns, and parts that are not read."""
    parts = tmp_path / "t.parquet"
    for code, rows in (("01234", range(10)), ("1234", range(10, 20))):
        (parts / f"zip={code}").mkdir(parents=True)
        columns = frame({"a": rows, "y": np.array(rows) / 3} | ({"b": rows} if code == "1234" else {}))
        columns.to_parquet(parts / f"zip={code}" / "0.parquet", index=False)
        columns.to_parquet(parts / f"zip={code}" / "_x.parquet", index=False)
    with pytest.raises(ValueError, match="column b, row 1: the cell is empty"):
        table(tmp_path, name="t.parquet").load()
    facts = table(tmp_path, name="t.parquet", features=["a", "zip"]).load().facts
    assert facts.column_names == ("a", "zip=01234", "zip=1234")
    assert facts.sizes == {"train": 20}
    assert "2 files of the folder are not read: their names begin with _ or ." in facts.notes


def test_encodings(tmp_path):
    content = "größe,y\n" + "".join(f"{i},{i}.5\n" for i in range(9))
    with pytest.raises(ValueError, match=r"not a readable table in utf-8 .* data\.encoding=cp1252"):
        table(tmp_path, content.encode("cp1252")).load()
    for encoding in ("cp1252", "utf-16", "utf-8"):
        assert table(tmp_path, content.encode(encoding), encoding=encoding).load().facts.column_names == ("größe",)
    with pytest.raises(ValueError, match="encoding=klingon"):
        table(tmp_path, content, encoding="klingon")


def test_columns_of_any_name(tmp_path):
    content = "NA,0,Zip Code,y\n" + "".join(f"{i},{i},{'x' if i == 3 else i},{i}.5\n" for i in range(20))
    assert table(tmp_path, content, features=["NA", 0]).load().facts.column_names == ("NA", "0")
    with pytest.raises(ValueError, match=r"\"data.text=\['Zip Code'\]\" reads the column as texts"):
        table(tmp_path, content).load()
    with pytest.raises(ValueError, match=r"is the separator data\.separator=tab"):
        table(tmp_path, content.replace(",", "\t")).load()
