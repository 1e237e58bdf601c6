"""Runs on other data than digits: what they find, what they refuse."""

import numpy as np
import pytest
from conftest import ROOT, summary


def test_a_least_squares_line_is_found(cli, tmp_path):
    """Ten full-batch steps of gradient descent on 100 flats: slope and intercept in euros, against NumPy's."""
    options = [*("data=apartments", "data.test_fraction=0", "data.val_fraction=0", "data.batch_size=100")]
    options += ["model=linear", "optim.lr=0.3", "optim.momentum=0", "train.epochs=10"]
    for normalize in ("pixel", "standard"):
        code, text = cli(*options, f"data.normalize={normalize}", f"hydra.run.dir={normalize}")
        assert code == 0, text
        final = summary(tmp_path / normalize)["final"]
        slope, intercept = final["coefficient/size_sqm"], final["coefficient/intercept"]
        assert f"  coefficients size_sqm {slope:.4g} intercept {intercept:.4g}  " in text
        size, _, rent = np.loadtxt(ROOT / "data" / "apartments.csv", delimiter=",", skiprows=1).T
        expected = np.polyfit(size, rent, 1)
        assert slope == pytest.approx(expected[0], rel=1e-3)
        assert intercept == pytest.approx(expected[1], rel=1e-3)
        residual = np.polyval(expected, size) - rent
        assert final["train/rmse"] == pytest.approx(residual.std(), rel=1e-3)


def test_a_run_whose_data_have_changed_is_not_resumed(cli, tmp_path):
    table = tmp_path / "table.csv"
    lines = [f"{i},{i % 7},{i / 3}" for i in range(60)]
    table.write_text("\n".join(["a,b,y", *lines]))
    options = [f"data.path={table}", "data.targets=y", "train.epochs=1", "hydra.run.dir=run"]
    assert cli("data=csv", *options)[0] == 0
    table.write_text("\n".join(["a,b,y", *lines, "60,3,20.5"]))
    code, text = cli("train.resume=run", "train.epochs=2")
    assert code == 2
    assert "table: the data changed since the run began (sizes was" in text
    table.write_text("\n".join(["a,b,y", *lines]).replace("0,0,0.0", "900,0,0.0"))
    code, text = cli("train.resume=run", "train.epochs=2")
    assert code == 2
    assert "(the values of the inputs were changed (train))" in text
    table.write_text("\n".join(["a,b,y", *lines]))
    code, text = cli("train.resume=run", "train.epochs=2")
    assert code == 0, text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["data=csv"], "data.path: missing; must be text"),
        (["data=csv", "data.path=no.csv", "data.targets=y"], "data.path=no.csv: no such file or folder"),
        (["data.normalize=both"], "data.normalize=both: must be one of none, scale, global, channel, pixel, standard"),
        (["data.augment.flp=true"], "data.augment.flp=true: unknown key; did you mean data.augment.flip?"),
        (["data.augment.flip=1"], "data.augment.flip=1: must be true or false"),
        (["data.augment=on"], "data.augment=on: must be a mapping"),
        (["data.augment.crop=-1"], "data.augment.crop=-1: must be in [0, 32768]"),
        (["data=iris", "data.augment.crop=1"], "data.augment.crop=1: augmentation is for images"),
        (["data.limit=0"], "data.limit=0: must be at least 1"),
        (["data.val_size=5000"], "data.test_fraction=0.2 data.val_size=5000: leaves none of 1797 samples for training"),
        (["data=sine", "data.window=0"], "data.window=0: must be at least 1"),
        (["data=sine", "data.window=300"], "data.window=300: must be less than the 200 values of the test part"),
        (["data=wine", "model=cnn"], "model=cnn data=wine: input_shape=(13,): layers[0] is conv, which takes"),
        (["data=wine", "objective=mse"], "objective=mse data=wine: task=classification: MeanSquaredError needs"),
        (["data=image_folder", "data.path=.", "data.channels=2"], "data.channels=2: must be one of 1, 3"),
    ],
)
def test_a_mistake_about_data_is_named(mistake, arguments, line):
    assert mistake(*arguments).startswith(line)
