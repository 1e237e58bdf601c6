"""Runs read back from Python: a model that takes raw inputs, predictions, frames and figures."""

import io
import math

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import linear_outputs, softmax, summary

import conga

CNN = ("model=cnn", "train.epochs=1")
FLATS = ("data=diabetes", "model=linear", "train.epochs=2")


@pytest.fixture
def of_command(command):
    """of_command(run, input) -> the table that ``predict --csv`` prints."""

    def of_command(run, path):
        code, text = command("predict", str(run), str(path), "--csv")
        assert code == 0, text
        table = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("note: "))
        return pd.read_csv(io.StringIO(table), dtype={"prediction": str})

    return of_command


def test_a_run_says_what_its_files_say(trained):
    run = conga.load(str(trained(*CNN)))
    assert run.path == trained(*CNN)
    assert run.status == "finished"
    assert run.summary == summary(run.path)
    assert run.config["train"]["epochs"] == 1
    assert list(run.metrics["epoch"]) == [1]
    pd.testing.assert_frame_equal(run.metrics, pd.read_csv(run.path / "metrics.csv"), check_dtype=False)
    for text in (repr(run), run._repr_html_()):
        assert "cnn on digits with sgd" in text
        assert f"{run.summary['test']['accuracy']:.4g}" in text


def test_predictions_are_those_of_the_command(trained, of_command, tmp_path):
    run = conga.load(trained(*CNN))
    x, y = run.dataset.splits["test"]
    np.savez(tmp_path / "x.npz", x=x.numpy())
    expected = of_command(run.path, tmp_path / "x.npz")
    found = run.predict(x)
    assert found.index.name == "sample"
    pd.testing.assert_frame_equal(found.reset_index(), expected, check_dtype=False, rtol=1e-6)
    for same in (x.numpy(), x.tolist(), x.double(), tmp_path / "x.npz", str(tmp_path / "x.npz")):
        assert run.predict(same).equals(found)
    pd.testing.assert_frame_equal(run.predict(x[3]), found.iloc[[3]].set_axis([0]), check_names=False, rtol=1e-4)
    right = (found["prediction"].astype(int).to_numpy() == y.numpy()).mean()
    assert right == pytest.approx(run.summary["test"]["accuracy"])


def test_the_model_takes_raw_inputs(trained):
    path = trained("model=linear", "train.epochs=1")
    run = conga.load(path)
    x, _ = run.dataset.splits["test"]
    assert x.max() > 1  # raw
    logits = run.model(x).detach().numpy()
    np.testing.assert_allclose(logits, linear_outputs(path, x), rtol=1e-4, atol=1e-4)
    found = run.predict(x)
    np.testing.assert_allclose(found.filter(like="probability_"), softmax(linear_outputs(path, x)), atol=1e-5)
    facts = run.dataset.facts
    inside = run.network((x - facts.mean) / facts.std).detach().numpy()
    np.testing.assert_allclose(inside, logits, rtol=1e-4, atol=1e-4)
    assert not run.model.training
    assert isinstance(run.model, torch.nn.Module)


def test_what_the_network_has_is_reached_through_the_model(trained):
    run = conga.load(trained(*CNN))
    assert run.model.net is run.network.net
    with pytest.raises(AttributeError, match="encoder"):
        run.model.encoder  # noqa: B018
    assert {name.partition(".")[0] for name, _ in run.model.named_parameters()} == {"network"}
    copy = torch.nn.Module.state_dict(run.model)
    run.model.load_state_dict(copy)


def test_values_come_in_the_targets_units(trained, of_command, tmp_path):
    run = conga.load(trained(*FLATS))
    x, y = run.dataset.splits["test"]
    values = run.model(x).detach().numpy()
    frame = pd.DataFrame(x.numpy(), columns=run.dataset.facts.column_names)
    frame.to_csv(tmp_path / "x.csv", index=False)
    expected = of_command(run.path, tmp_path / "x.csv")["prediction"].astype(float)
    for found in (values[:, 0], run.predict(x)["prediction"], run.predict(frame)["prediction"]):
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    mae = np.abs(values[:, 0] - y.numpy()[:, 0]).mean()
    assert mae == pytest.approx(run.summary["test"]["mae"], rel=1e-4)
    shuffled = frame.iloc[::-1, ::-1].assign(more="not read")  # columns are found by name
    np.testing.assert_allclose(run.predict(shuffled)["prediction"], expected[::-1], rtol=1e-5)


def test_a_frame_is_read_as_a_table_is(trained, of_command, tmp_path):
    rows = [(i % 5, ["red", "green", "blue"][i % 3], None if i == 7 else i / 3, "yn"[i % 2]) for i in range(90)]
    frame = pd.DataFrame(rows, columns=["a", "colour", "b", "label"])
    frame.to_csv(tmp_path / "own.csv", index=False)
    words = (f"data.path={tmp_path / 'own.csv'}", "data.targets=label", "data.task=classification")
    run = conga.load(trained("data=csv", *words, "data.missing=mean", "train.epochs=1"))
    expected = of_command(run.path, tmp_path / "own.csv")
    with pytest.warns(UserWarning, match="missing inputs are the mean"):
        found = run.predict(frame)
    pd.testing.assert_frame_equal(found.reset_index(), expected, check_dtype=False, rtol=1e-6)
    coded = torch.tensor([[1.0, math.nan, 0, 0, 1]], dtype=torch.float64)
    facts = run.dataset.facts
    assert coded.shape[1:] == facts.input_shape
    filled = torch.where(coded.isnan(), facts.fill, coded).float()
    assert torch.equal(run.model(coded), run.model(filled))
    with pytest.raises(conga.Refused, match="the frame: has no column colour"):
        run.predict(frame.drop(columns="colour"))


@pytest.mark.parametrize(
    ("x", "line"),
    [
        (np.zeros((3, 4)), r"expected x to be numbers of \(N, 1, 8, 8\), given float64 of \(3, 4\)"),
        ([[1, 2], [3]], "x: lists of different lengths"),
        (["a"], "given <U1"),
        ("none.png", "none.png: no such file or folder"),
        (np.full((1, 1, 8, 8), np.inf), "x"),
    ],
)
def test_what_cannot_be_predicted_is_refused(trained, x, line):
    with pytest.raises(conga.Refused, match=line):
        conga.load(trained(*CNN)).predict(x)


def test_no_run_is_refused(tmp_path, trained):
    with pytest.raises(conga.Refused, match="none: must be the directory of a run"):
        conga.load("none")
    with pytest.raises(conga.Refused, match=r"epoch_9\.pt: no such checkpoint; there is checkpoint='best'"):
        conga.load(trained(*CNN), checkpoint="epoch_9").model  # noqa: B018


def test_a_class_of_somebodys_is_not_run_untrusted(trained):
    path = trained("model._target_=users_own.Mine", "train.epochs=1")
    run = conga.load(path)
    assert run.status == "finished"  # reading is no danger
    with pytest.raises(conga.Refused, match=r"users_own\.Mine is not part of conga; trust=True runs it"):
        run.model  # noqa: B018
    assert type(conga.load(path, trust=True).network).__name__ == "Mine"


def test_many_runs_as_frames_and_figures(trained, tmp_path):
    paths = [trained(*CNN), trained(*CNN, "seed=1")]
    frame = conga.runs(*paths)
    assert list(frame["seed"]) == [0, 1]
    assert list(frame["test/loss"]) == [summary(path)["test"]["loss"] for path in paths]
    curves = conga.curves(*map(str, paths))
    assert list(curves["path"]) == [str(path) for path in paths]
    figure = conga.plot(
        *paths, y=["val/loss", "val/accuracy"], by="seed", log_y=False, size=(5, 3), label={"epoch": "Epoch"}
    )
    assert [axis.get_ylabel() for axis in figure.axes if axis.axison] == ["validation loss", "validation accuracy"]
    assert tuple(figure.get_size_inches()) == (5, 3)
    figure.savefig(tmp_path / "curves.pdf")
    with pytest.raises(conga.Refused, match=r"--y=val/lss: did you mean val/loss\? no run has that column"):
        conga.plot(*paths, y="val/lss")
    with pytest.raises(conga.Refused, match="unrecognized arguments: --colour=red"):
        conga.plot(*paths, colour="red")
    with pytest.raises(conga.Refused, match=r"out: conga\.plot returns a figure"):
        conga.plot(*paths, out="curves.pdf")
    with pytest.raises(TypeError, match="several are given one after the other"):
        conga.curves(paths)
