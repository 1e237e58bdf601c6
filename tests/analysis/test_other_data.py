"""The data of a run: noticed if others take their place, found where they have moved, and others on purpose."""

import io
import json
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from formats import draw
from PIL import Image

TABLE = ("data=csv", "data.targets=rent", "data.normalize=none", "model=linear", "train.epochs=1", "train.threads=1")


@pytest.fixture
def run_evaluate(command):
    return partial(command, "evaluate")


def flats(n, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"size": rng.normal(50, 10, n), "city": rng.choice(["Ulm", "Bonn"], n)})
    frame["new"] = rng.choice(["TRUE", "FALSE"], n)
    return frame.assign(rent=frame["size"] * 7 + 100 * (frame["city"] == "Bonn") + rng.normal(size=n))


@pytest.fixture(scope="module")
def table(tmp_path_factory, trained):
    """A folder with flats.csv, and a run on it that was started there."""
    folder = tmp_path_factory.mktemp("flats")
    flats(80).to_csv(folder / "flats.csv", index=False)
    return folder, trained(*TABLE, "data.path=flats.csv", cwd=folder)


def edited(frame, what):
    if what == "order":
        return frame.sample(frac=1, random_state=1)
    frame = frame.copy()
    column, change = {"targets": ("rent", 500.0), "values": ("size", 1.0)}[what]
    frame.loc[17, column] += change
    return frame


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("order", "the samples are the same, in another order"),
        ("targets", "the targets or weights were changed; the inputs are the same"),
        ("values", "the values of the inputs were changed ("),
    ],
)
def test_other_data_are_noticed(run_evaluate, cli, table, tmp_path, what, words):
    """Without normalization nothing else tells them apart."""
    folder, run = table
    edited(pd.read_csv(folder / "flats.csv"), what).to_csv(tmp_path / "flats.csv", index=False)
    code, text = run_evaluate(str(run), "data.path=flats.csv")
    assert code == 2
    assert f"the data changed since the run was trained ({words}" in text
    copy = shutil.copytree(run, tmp_path / "copy")
    code, text = cli(f"train.resume={copy}", "train.epochs=2", f"data.path={tmp_path / 'flats.csv'}")
    assert code == 2
    assert f"the data changed since the run began ({words}" in text


def test_data_that_moved_are_the_same(run_evaluate, table, tmp_path):
    folder, run = table
    shutil.copy(folder / "flats.csv", tmp_path / "renamed.csv")
    code, text = run_evaluate(str(run), "data.path=renamed.csv", "--out=here")
    assert code == 0, text
    report = json.loads((tmp_path / "here" / "report.json").read_text())
    assert report["metrics"] == pytest.approx(json.loads((run / "summary.json").read_text())["test"])
    code, text = run_evaluate(str(run), "data.normalize=standard")
    assert code == 2
    assert "data.normalize=standard: must be data.path=… or data.root=…" in text


def test_new_data_are_read_as_those_of_the_run(run_evaluate, command, table, tmp_path):
    """All of a table whose columns would be of other kinds by themselves, as pandas and predictions have it."""
    _, run = table
    new = flats(25, seed=5).assign(new="TRUE", city="Ulm")
    new.to_csv(tmp_path / "new.csv", index=False)
    code, text = run_evaluate(str(run), "--new-data", "data.path=new.csv", "--out=here")
    assert code == 0, text
    report = json.loads((tmp_path / "here" / "report.json").read_text())
    assert (report["samples"], report["split"], report["data"]) == (25, "new", "new")
    code, text = command("predict", str(run), "new.csv", "--csv")
    assert code == 0, text
    found = pd.read_csv(io.StringIO(text))["prediction"]
    assert report["metrics"]["mae"] == pytest.approx((found - new["rent"]).abs().mean(), rel=1e-4)
    new.assign(city="Kiel").to_csv(tmp_path / "new.csv", index=False)
    code, text = run_evaluate(str(run), "--new-data", "data.path=new.csv", "--out=here")
    assert code == 0
    assert "column city: 25 rows have texts that the run was not trained on: Kiel" in text
    new.assign(new="perhaps").to_csv(tmp_path / "new.csv", index=False)
    code, text = run_evaluate(str(run), "--new-data", "data.path=new.csv", "--out=here")
    assert code == 2
    assert "column new, row 1: 'perhaps' is no boolean" in text


def test_new_classes_are_refused_and_known_ones_found_by_name(run_evaluate, trained, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=60), "kind": np.array(["ant", "bee", "cow"])[np.arange(60) % 3]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    run = trained("data=csv", f"data.path={tmp_path / 't.csv'}", "data.targets=kind", "model=linear", "train.epochs=1")
    frame[frame.kind != "ant"].to_csv(tmp_path / "new.csv", index=False)  # bee is number 0 there by itself
    code, text = run_evaluate(str(run), "--new-data", "data.path=new.csv", "--out=here")
    assert code == 0, text
    counts = pd.read_csv(tmp_path / "here" / "per_class.csv").set_index("class")["samples"]
    assert counts.to_dict() == {"ant": 0, "bee": 20, "cow": 20}
    frame.replace({"cow": "dog"}).to_csv(tmp_path / "new.csv", index=False)
    code, text = run_evaluate(str(run), "--new-data", "data.path=new.csv")
    assert code == 2
    assert "column kind holds dog, which the run does not have" in text


@pytest.fixture(scope="module")
def photos(tmp_path_factory, trained):
    folder = tmp_path_factory.mktemp("photos")
    for k, array in enumerate(draw(24, 8, 8, 3)):
        file = folder / ("cat", "dog")[k % 2] / f"{k}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(array).save(file)
    run = trained("data=image_folder", f"data.path={folder}", "data.size=8", "model=linear", "train.epochs=1")
    return folder, run


def test_one_edited_pixel_is_noticed(run_evaluate, photos, tmp_path):
    folder, run = photos
    copy = shutil.copytree(folder, tmp_path / "moved")
    code, text = run_evaluate(str(run), "data.path=moved", "--out=here")
    assert code == 0, text
    array = np.asarray(Image.open(copy / "cat" / "0.png")).copy()
    array[3, 3, 0] ^= 1
    Image.fromarray(array).save(copy / "cat" / "0.png")
    code, text = run_evaluate(str(run), "data.path=moved")
    assert code == 2
    assert "the values of the inputs were changed (" in text


def test_a_broken_picture_does_not_end_a_prediction(command, photos, tmp_path):
    folder, run = photos
    (tmp_path / "some").mkdir()
    for name in ("0.png", "2.png"):
        shutil.copy(folder / "cat" / name, tmp_path / "some" / name)
    whole = command("predict", str(run), "some", "--csv")
    (tmp_path / "some" / "1.png").write_bytes((folder / "dog" / "1.png").read_bytes()[:80])
    (tmp_path / "some" / "x.heic").write_bytes(b"")
    code, text = command("predict", str(run), "some", "--csv")
    assert (code, whole[0]) == (1, 0)
    assert text.startswith(whole[1])  # the others, as without it
    assert "note: not read: 1 .heic" in text
    assert "conga: not predicted: some/1.png: cannot be decoded (truncated at byte 80)" in text


def test_a_checkpoint_of_before_has_no_fingerprint(run_evaluate, cli, table, tmp_path):
    copy = shutil.copytree(table[1], tmp_path / "old")
    for name in ("best", "last"):
        file = copy / "checkpoints" / f"{name}.pt"
        state = torch.load(file, weights_only=True)
        for fact in ("fingerprint", "kinds", "units", "fill"):
            del state["facts"][fact]
        torch.save(state | {"format": "conga checkpoint 1"}, file)
    code, text = run_evaluate(str(copy))
    assert code == 0, text
    assert "of an earlier version, without a fingerprint" in text
    code, text = cli(f"train.resume={copy}", "train.epochs=2")
    assert code == 0, text
    assert "of an earlier version, without a fingerprint" in text


def with_units(n, cost="$", rate="%", rent="€"):
    """A table of numbers with units, as its file says them."""
    numbers = flats(n)[["size", "rent"]].round(2)
    return pd.DataFrame(
        {
            "size": numbers["size"],
            "cost": cost + (numbers["size"] / 7).round(2).astype(str),
            "rate": (numbers["size"] / 100).round(4).astype(str) + rate,
            "rent": rent + numbers["rent"].astype(str),
        }
    )


@pytest.fixture(scope="module")
def prices(tmp_path_factory, trained):
    """A folder with prices.csv, whose columns have units, and a run on it."""
    folder = tmp_path_factory.mktemp("prices")
    with_units(60).to_csv(folder / "prices.csv", index=False)
    return folder, trained(*TABLE, "data.units=['$','€','%']", "data.path=prices.csv", cwd=folder)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"cost": "€"}, "column cost, row 1: '€{cost}' has the unit €, and the run's data have $ there"),
        ({"rate": ""}, "column rate, row 1: {rate} has no unit, and the run's data have % there"),
        ({"rent": "$"}, "column rent, row 1: '${rent}' has the unit $, and the run's data have € there"),
    ],
)
def test_another_unit_is_refused_by_its_cell(run_evaluate, command, cli, prices, tmp_path, other, words):
    """Of whole files, which say nothing of it by themselves; inputs of a single row, too."""
    _, run = prices
    plain = with_units(60, "", "", "").iloc[0]
    words = f"new.csv: {words.format(**plain)}"
    table = with_units(60, **other)
    table.to_csv(tmp_path / "new.csv", index=False)
    for arguments in ((), ("--new-data",)):
        code, text = run_evaluate(str(run), *arguments, "data.path=new.csv")
        assert (code, words in text) == (2, True), text
    copy = shutil.copytree(run, tmp_path / "copy")
    code, text = cli(f"train.resume={copy}", "train.epochs=2", f"data.path={tmp_path / 'new.csv'}")
    assert (code, words in text) == (2, True), text
    table[:1].to_csv(tmp_path / "new.csv", index=False)
    code, text = command("predict", str(run), "new.csv")
    assert (code, words in text) == ((0, False) if "rent" in other else (2, True)), text


def test_the_units_of_a_run_are_read(run_evaluate, command, prices, tmp_path):
    _, run = prices
    with_units(60).to_csv(tmp_path / "new.csv", index=False)
    whole = command("predict", str(run), "new.csv", "--csv")
    assert whole[0] == 0, whole
    assert run_evaluate(str(run), "data.path=new.csv", "--out=here")[0] == 0
    numbers = with_units(60)
    numbers["cost"] = numbers["cost"].str.replace("$", "") + " $"  # the same unit behind the numbers
    numbers.to_csv(tmp_path / "new.csv", index=False)
    assert command("predict", str(run), "new.csv", "--csv") == whole
    copy = shutil.copytree(run, tmp_path / "old")
    file = copy / "checkpoints" / "best.pt"
    state = torch.load(file, weights_only=True)
    assert state["facts"].pop("units") == {"size": "", "cost": "$", "rate": "%", "rent": "€"}
    torch.save(state | {"format": "conga checkpoint 1"}, file)
    code, text = command("predict", str(copy), "new.csv", "--csv")
    assert (code, text.startswith(whole[1])) == (0, True), text
