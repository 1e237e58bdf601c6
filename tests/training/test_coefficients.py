"""Coefficients of linear models in the data's own units, and their pictures."""

import csv
import json
import signal

import numpy as np
import pytest
import torch
from conftest import COMMON, rows, summary

from data.tables import Apartments, SklearnTable
from models.mlp import MLP, Linear
from trainer.analysis import linear_fit as line
from trainer.analysis.load import load_run
from trainer.training import coefficients
from trainer.training.objectives import MeanSquaredError

RUN = ("data=apartments", "model=linear", "train.epochs=2", "train.eval_untrained=true", "optim.lr=0.05")


@pytest.mark.parametrize("normalize", ["none", "pixel", "scale", "standard"])
@pytest.mark.parametrize("source", [Apartments(distance=True, **COMMON), SklearnTable(name="linnerud", **COMMON)])
def test_coefficients_are_those_of_what_the_model_predicts(source, normalize):
    """Any affine map: least squares finds it from predictions, without knowing how they were made."""
    source.normalize = normalize
    dataset = source.load()
    facts, x = dataset.facts, dataset.splits["train"][0]
    torch.manual_seed(0)
    model = Linear(facts.input_shape, facts.num_outputs).double()
    dataset = dataset.to(torch.device("cpu"), torch.float64)
    said = MeanSquaredError(facts).predict(model, dataset.inputs(x)).detach().numpy()
    expected, *_ = np.linalg.lstsq(np.column_stack([x.double(), np.ones(len(x))]), said, rcond=None)
    found = coefficients.in_own_units(*(part.detach() for part in model.affine()), facts)
    np.testing.assert_allclose(found, expected.T, rtol=1e-4)
    named = coefficients.values(model, facts)
    if facts.name == "linnerud":  # 12 coefficients are too many to be read
        assert named == {}
    else:
        assert list(named) == ["coefficient/size_sqm", "coefficient/station_min", "coefficient/intercept"]
        assert list(named.values()) == found[0].tolist()


def test_coefficients_are_of_few_inputs_and_affine_maps_only():
    facts = Apartments(distance=False, **COMMON).load().facts
    assert coefficients.columns(MLP((1,), 1, widths=[3]), facts) == []
    for change, expected in (
        ({"target_names": ("a", "b"), "num_outputs": 2}, ["a/size_sqm", "a/intercept", "b/size_sqm", "b/intercept"]),
        ({"column_names": ("intercept",)}, ["intercept", "the intercept"]),
        ({"column_names": None, "input_shape": (2,)}, ["x0", "x1", "intercept"]),
        ({"task": "binary"}, []),
        ({"column_names": None, "input_shape": (8,)}, []),
        ({"input_shape": (1, 1)}, []),
    ):
        changed = facts.__class__(**facts.plain() | change)
        model = Linear(changed.input_shape, changed.num_outputs)
        assert coefficients.columns(model, changed) == [f"coefficient/{name}" for name in expected]


def test_least_squares_takes_weights_and_knows_what_is_not_unique():
    x, y = np.array([[0.0], [1.0], [3.0]]), np.array([[1.0], [2.0], [9.0]])
    weights = np.array([1.0, 2.0, 1.0])
    repeated = [0, 1, 1, 2]
    expected = np.polyfit(x[repeated, 0], y[repeated, 0], 1)
    np.testing.assert_allclose(coefficients.least_squares(x, y, weights), [expected])
    assert coefficients.least_squares(np.ones((3, 1)), y) is None
    lines = np.array([[2.0, 0.5], [1.0, -3.0]])
    errors = [np.sqrt(np.average((y - s * x - b) ** 2, weights=weights[:, None] * np.ones_like(y))) for s, b in lines.T]
    np.testing.assert_allclose(line.rmse(*lines, x, y, weights), errors)


def test_pictures_and_plots_show_the_way(trained, command, tmp_path):
    run = trained(*RUN)
    table = list(csv.DictReader((run / "metrics.csv").open()))
    before = summary(run)["untrained"]
    epochs, columns = line.recorded(load_run(run), ["coefficient/size_sqm", "coefficient/intercept"])
    assert epochs.tolist() == [0, 1, 2]
    for name, values in columns.items():
        assert values.tolist() == [before[name], *(float(row[name]) for row in table)]
    code, text = command("evaluate", str(run), "--out", "out")
    assert code == 0, text
    assert "line.png" in json.loads((tmp_path / "out" / "report.json").read_text())["files"]
    assert (tmp_path / "out" / "line.png").read_bytes().startswith(b"\x89PNG")
    code, text = command("plot", str(run), "--y", "coefficient/size_sqm", "--out", "way.svg")
    assert code == 0, text
    assert "coefficient size_sqm" in (tmp_path / "way.svg").read_text()


def test_a_killed_run_keeps_its_columns_and_what_it_was_untrained(trained, cli, tmp_path):
    whole, options = trained(*RUN), [*RUN, "train.checkpoint_steps=1", "hydra.run.dir=killed"]
    code, text = cli(*options, trip=("batch", 8, signal.SIGKILL))  # in the second epoch
    assert code == -9, text
    code, text = cli(*options)
    assert code == 0, text
    assert (tmp_path / "killed" / "train.log").read_text().count("untrained   train loss") == 1
    assert rows(tmp_path / "killed") == rows(whole)
    assert summary(tmp_path / "killed")["untrained"] == summary(whole)["untrained"]
