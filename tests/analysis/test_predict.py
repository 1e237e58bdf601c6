"""Predictions for files: beside the model's numbers applied by hand to what PIL, pandas and NumPy read."""

import io
import subprocess
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
from conftest import linear_outputs, row, softmax
from formats import write_images
from PIL import Image, ImageOps

from trainer.analysis import evaluate

LINEAR = ("model=linear", "train.epochs=2", "optim=adam")


@pytest.fixture
def predict(command):
    return partial(command, "predict")


def frame(text):
    """Comma-separated output, its notes left out."""
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("note: ")]
    return pd.read_csv(io.StringIO("".join(lines)))


def draw(folder, *names, size=(30, 20), mode="RGB"):
    rng = np.random.default_rng(0)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shape = (size[1], size[0]) + ((len(mode),) if len(mode) > 1 else ())
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8), mode).save(folder / name)


def test_images_for_a_run_on_digits(predict, trained, tmp_path):
    run = trained("data=digits", *LINEAR)
    draw(tmp_path, "in/b.png", "in/a/c.PNG", "in/.hidden/x.png", "in/grey.png")
    draw(tmp_path, "in/grey.png", mode="L", size=(8, 8))
    (tmp_path / "in" / "notes.txt").write_text("no image")
    code, text = predict(str(run), "in", "--csv")
    assert code == 0, text
    rows = frame(text)
    assert list(rows["image"]) == ["a/c.PNG", "b.png", "grey.png"]
    images = [Image.open(tmp_path / "in" / name).convert("L") for name in rows["image"]]
    pixels = [np.asarray(image.resize((8, 8), Image.Resampling.BILINEAR)) / 255 * 16 for image in images]
    p = softmax(linear_outputs(run, np.stack(pixels)[:, None]))
    np.testing.assert_allclose(rows[[f"probability_{k}" for k in range(10)]], p, atol=1e-5)
    assert list(rows["prediction"]) == list(p.argmax(1))

    code, text = predict(str(run), "in/b.png")
    assert code == 0, text
    order = (-p[1]).argsort()
    shown = row(text, "in/b.png")
    assert shown[0] == str(order[0])
    assert [cell.split()[0] for cell in shown[2:]] == [str(k) for k in order[1:3]]
    assert float(shown[1].rstrip("%")) == pytest.approx(100 * p[1].max(), abs=0.051)


def test_images_for_a_run_on_a_folder(predict, trained, tmp_path_factory, tmp_path):
    """Cropped, not stretched, because the run's configuration says so; its data need not be there any more."""
    folder = tmp_path_factory.mktemp("photos")
    write_images(folder / "photos", {"cat": 12, "dog [b]": 12}, size=(12, 9))
    settings = ("data=image_folder", f"data.path={folder / 'photos'}", "data.size=[6,5]", "data.normalize=pixel")
    run = trained(*settings, *LINEAR)
    draw(tmp_path, "x.png")
    (folder / "photos").rename(folder / "gone")
    code, text = predict(str(run), "x.png", "--csv")
    (folder / "gone").rename(folder / "photos")
    assert code == 0, text
    image = ImageOps.fit(Image.open(tmp_path / "x.png"), (5, 6), Image.Resampling.BILINEAR)
    p = softmax(linear_outputs(run, np.asarray(image).transpose(2, 0, 1)[None]))
    np.testing.assert_allclose(frame(text)[["probability_cat", "probability_dog [b]"]], p, atol=1e-5)
    code, text = predict(str(run), "x.png")
    assert code == 0, text
    assert "dog [b]" in text


@pytest.fixture(scope="module")
def flats(tmp_path_factory):
    """A table with texts, semicolons between its columns."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("table")
    table = pd.DataFrame(
        {
            "size": rng.uniform(20, 90, 80).round(2),
            "kind": rng.choice(["old", "new", "mid"], 80),
            "lift": rng.random(80) < 0.5,
        }
    )
    table["rent"] = table["size"] * 12.5 + 100 * (table["kind"] == "new")
    table.to_csv(folder / "flats.csv", sep=";", index=False)
    return folder, table


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table(predict, trained, flats, tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    folder, table = flats
    settings = ("data=csv", f"data.path={folder / 'flats.csv'}", "data.targets=rent", 'data.separator=";"')
    run = trained(*settings, *LINEAR, "data.normalize=channel")
    new = table.iloc[:6].drop(columns="rent")[["kind", "lift", "size"]].assign(note="ignored")
    new.loc[1, "kind"] = "castle"
    if kind == "csv":
        new.to_csv(tmp_path / "new.csv", sep=";", index=False)
    else:
        new.to_parquet(tmp_path / "new.parquet")
    one_hot = pd.get_dummies(new["kind"]).reindex(columns=["mid", "new", "old"], fill_value=False)
    x = np.column_stack([new["size"], one_hot, new["lift"]]).astype(float)
    expected = linear_outputs(run, x)[:, 0]
    code, text = predict(str(run), f"new.{kind}", "--csv")
    assert code == 0, text
    np.testing.assert_allclose(frame(text)["prediction"], expected, rtol=1e-5)
    assert "note: column kind: 1 row has a text that the run was not trained on: castle" in text
    assert list(frame(text)["row"]) == list(range(6))
    code, text = predict(str(run), f"new.{kind}")
    assert code == 0, text
    assert float(row(text, "4")[0]) == pytest.approx(expected[4], rel=1e-5)


@pytest.mark.parametrize("data", ["sine", "linnerud", "multilabel", "multitask", "breast_cancer", "digits"])
def test_arrays_give_what_an_evaluation_gives(predict, command, trained, tmp_path, monkeypatch, data):
    from trainer.analysis.load import load_run

    monkeypatch.setattr(evaluate, "pictures", lambda evaluation: ())  # they take time
    run = trained(f"data={data}", *LINEAR)
    assert command("evaluate", str(run), "--out=out", "--format=csv")[0] == 0
    x = load_run(run).dataset.splits["test"][0].numpy()
    np.savez(tmp_path / "x.npz", some_name=x)
    np.savez(tmp_path / "more.npz", y=x, x_test=x)
    expected = pd.read_csv(tmp_path / "out" / "predictions.csv")
    expected = expected[[name for name in expected if not name.startswith(("truth", "index"))]]
    for name in ("x.npz", "more.npz"):
        code, text = predict(str(run), name, "--csv")
        assert code == 0, text
        given = frame(text).drop(columns="sample")
        pd.testing.assert_frame_equal(given, expected, rtol=1e-5, atol=1e-6)
    code, text = predict(str(run), "x.npz", "--checkpoint=last")
    assert code == 0, text
    assert len([line for line in text.splitlines() if line.startswith("│ ")]) == len(x) * (
        2 if data == "multitask" else 1
    )


def test_values_beyond_those_of_the_run(predict, trained, tmp_path):
    run = trained("data=digits", *LINEAR)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((2, 1, 8, 8)))
    code, text = predict(str(run), "x.npz")
    assert code == 0
    assert "; the run's data were in 0 to 16" in text


@pytest.fixture
def bad_inputs(tmp_path, monkeypatch):
    """Files with one thing wrong in each."""
    monkeypatch.chdir(tmp_path)
    for name, arrays in {
        "flat": {"x": np.zeros((3, 64))},
        "single": {"x": np.zeros((1, 8, 8))},
        "two": {"a": np.zeros(3), "b": np.zeros(3)},
        "none": {"x": np.zeros((0, 1, 8, 8))},
        "nan": {"x": np.full((1, 1, 8, 8), np.nan)},
        "words": {"x": np.full((1, 1, 8, 8), "a")},
        "objects": {"x": np.array([print], dtype=object)},
        "wine": {"x": np.zeros((2, 3))},
    }.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
    (tmp_path / "torn.png").write_bytes(b"no image")
    (tmp_path / "torn.npz").write_bytes(b"no array")
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.bmp").write_bytes(b"BM")
    (tmp_path / "a=b.csv").write_text("alcohol\n1\n")
    names = pd.Index(WINE)
    pd.DataFrame(np.ones((2, 13)), columns=names).assign(ash="1,5").to_csv(tmp_path / "text.csv", index=False)
    pd.DataFrame(np.ones((2, 13)), columns=names).assign(ash=[1, None]).to_csv(tmp_path / "missing.csv", index=False)


WINE = (
    *("alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids"),
    *("nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines", "proline"),
)
AN_IMAGE = (
    "expected an image (.jpg, .png, .webp, .bmp, .tif, .gif, .ppm, .jp2), a folder of images, or an .npz file with an "
    "array x of (N, 1, 8, 8)"
)


@pytest.mark.parametrize(
    ("data", "given", "line"),
    [
        ("digits", "nothing.png", "nothing.png: no such file or folder"),
        ("digits", "flat.npz", "flat.npz: expected x to be numbers of (N, 1, 8, 8), given float64 of (3, 64)"),
        ("digits", "single.npz", "single.npz: expected x to be numbers of (N, 1, 8, 8), given float64 of (1, 8, 8)"),
        ("digits", "two.npz", "two.npz: expected an array x of (N, 1, 8, 8), given a, b"),
        ("digits", "none.npz", "none.npz: x is empty: (0, 1, 8, 8)"),
        (
            "digits",
            "nan.npz",
            "nan.npz: x: sample 0 (the first is 0, as in the column sample) has no value in entry 0, 1, 2, 3, 4, 5 and "
            "58 more\n",
        ),
        ("digits", "words.npz", "words.npz: expected x to be numbers of (N, 1, 8, 8), given <U1 of (1, 1, 8, 8)"),
        (
            "digits",
            "objects.npz",
            "objects.npz: x holds Python objects, which are not read; save numbers, such as x.astype(float)\n",
        ),
        ("digits", "torn.npz", "torn.npz: not a whole .npz file"),
        ("digits", "torn.png", "torn.png: cannot be decoded (no picture of a format that is read)"),
        ("digits", "empty", "empty: holds no .jpg, .png, "),
        ("digits", "x.bmp", "x.bmp: cannot be decoded ("),
        ("digits", "text.csv", f"text.csv: {AN_IMAGE}, given a .csv"),
        ("wine", "a=b.csv", "a=b.csv: has no column malic_acid, ash, "),
        ("wine", "text.csv", "text.csv: column ash, row 1: '1,5' is no number, and the run's data have one there"),
        ("wine", "missing.csv", "missing.csv: row 1 (the first is 0, as in the column row) has no value in column ash"),
        ("wine", "wine.npz", "wine.npz: expected x to be numbers of (N, 13), given float64 of (2, 3)"),
        ("wine", "torn.png", "torn.png: expected a table (.csv, .parquet) with the columns alcohol, "),
        ("wine", "empty", "empty: expected a table (.csv, .parquet) with the columns alcohol, "),
        ("sine", "text.csv", "text.csv: expected an .npz file with an array x of (N, 4, 1), given a .csv"),
        (
            "floats",
            "torn.png",
            "torn.png: the run's data are arrays that have no pixel range; expected an .npz file",
        ),
        ("floats", "text.csv", "text.csv: expected an .npz file with an array x of (N, 1, 2, 2), given a .csv"),
    ],
)
def test_a_mistake_is_one_line(predict, trained, bad_inputs, tmp_path_factory, data, given, line):
    settings = (f"data={data}",)
    if data == "floats":
        file = tmp_path_factory.getbasetemp() / "floats.npz"
        np.savez(file, x_train=np.random.default_rng(0).random((40, 1, 2, 2)), y_train=np.arange(40) % 2)
        settings = ("data=npz", f"data.path={file}")
    code, text = predict(str(trained(*settings, *LINEAR)), given)
    assert code == 2, text
    assert text.count("\n") == 1, text
    assert text.startswith(f"conga: {line}")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere", "x.png"], "nowhere: must be the directory of a run, with .hydra/config.yaml in it"),
        (["nowhere"], "missing: INPUT; --help lists what there is"),
        (["nowhere", "x.png", "--cvs"], "unrecognized arguments: --cvs; --help"),
    ],
)
def test_a_mistake_on_the_command_line(predict, arguments, line):
    code, text = predict(*arguments)
    assert code == 2
    assert text.count("\n") == 1
    assert text.startswith(f"conga: {line}")


@pytest.mark.slow
def test_a_reader_that_goes_away(trained, tmp_path):
    run = trained("data=digits", *LINEAR)
    np.savez(tmp_path / "x.npz", x=np.full((20_000, 1, 8, 8), 200, np.uint8))
    line = f"{sys.executable} -m trainer predict {run} x.npz --csv | head -n 2; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == "note: x holds 200 to 200; the run's data were in 0 to 16\n"
