"""Pictures of a run itself: its learning curves, the units of its first layer; and runs that write them themselves."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import rows, summary
from hand_made import with_keys, write_run
from matplotlib.axes import Axes
from PIL import Image
from torch import nn

from data import Facts
from models.mlp import MLP, Linear
from models.recurrent import Recurrent
from trainer.analysis import first_layer as weights
from trainer.analysis.loggers.pictures import Pictures
from trainer.plot.learning import learning_figure, learning_picture
from trainer.rundir.records import find_runs
from trainer.training.loggers import Guarded


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_what_a_run_writes_at_its_end_is_what_the_command_writes(command, trained, tmp_path):
    run, said = tmp_path / "run", []
    shutil.copytree(trained("optim=cgd", "train.epochs=2"), run)
    (run / "evaluation").touch()  # where nothing can be written
    command("evaluate", "run", "--out=wanted")
    end, state = summary(run), torch.get_rng_state()
    (run / "summary.json").write_text(json.dumps(end | {"status": "running", "test": None, "best": None}))  # not yet

    def run_ends(summary):
        logger = Guarded("logger.pictures", Pictures(), said.append)
        logger.start(run, [], [], 0)
        logger.log({"epoch": 1}, [])
        logger.end(summary, lambda: None)

    run_ends(end | {"best": None})  # without an epoch: nothing to say
    run_ends(end)
    (run / "evaluation").unlink()
    run_ends(end)
    assert torch.equal(torch.get_rng_state(), state)
    failed, written = said
    assert failed == (
        f"note        logger.pictures failed: {run / 'evaluation'}: File exists; --out=DIR writes elsewhere; "
        "the run continues without it"
    )
    assert content(run / "evaluation") == content(tmp_path / "wanted")
    pictures = "confusion_matrix.png, most_wrong.png, curves.png, weights.png"
    assert written == f"pictures    run/evaluation: {pictures}"


@pytest.mark.slow
def test_a_run_writes_its_own_pictures(cli, trained, tmp_path):
    """Without another number in it; also after a kill before the end, which is known by its summary."""
    few, run = ("optim=cgd", "train.epochs=2"), tmp_path / "run"
    code, text = cli(*few, "logger=[csv,pictures]", "hydra.run.dir=run")
    assert code == 0, text
    assert rows(run) == rows(trained(*few))
    assert "\npictures    run/evaluation: " in text
    written = content(run / "evaluation")
    shutil.rmtree(run / "evaluation")
    assert "nothing to do" in cli("train.resume=run")[1]
    assert not (run / "evaluation").exists()
    (run / "summary.json").write_text(json.dumps(summary(run) | {"status": "running", "test": None}))
    code, text = cli("train.resume=run")
    assert code == 0, text
    assert content(run / "evaluation") == written

    code, text = cli("optim.lr=30", "logger=pictures", "hydra.run.dir=lost")
    assert code == 3, text
    assert "\npictures    lost/evaluation: " in text


@pytest.fixture
def shown(monkeypatch):
    """What is given to imshow: (image, left and top edge, colour limits), in order."""
    calls, real = [], Axes.imshow

    def imshow(axis, image, **how):
        left, _, _, top = how["extent"]
        calls.append((np.array(image), (left, top), (how.get("vmin"), how.get("vmax"))))
        return real(axis, image, **how)

    monkeypatch.setattr(Axes, "imshow", imshow)
    return calls


def run_of(model, *shape, outputs=2):
    nothing = torch.zeros(())
    names = tuple("abcdefghij"[:outputs])
    facts = Facts("made", "classification", shape, outputs, names, None, {"train": 1}, nothing, nothing)
    return SimpleNamespace(model=model, facts=facts, moment="epoch 1")


def test_units_stand_in_their_places(shown):
    model = MLP((1, 2, 3), 2, widths=[70], activation="relu")
    w = next(model.parameters())
    with torch.no_grad():
        w.copy_(torch.arange(1.0, 71)[:, None] * torch.tensor([1.0, -1, 0, 0, 1, -1]))
    layer = weights.first_layer(run_of(model, 1, 2, 3))
    weights.grid_figure(layer, "title")
    assert len(shown) == 64
    for i, (image, (left, top), limits) in enumerate(shown):
        assert (image == (70 - i) * np.array([[1, -1, 0], [0, 1, -1]])).all()  # the largest first
        assert limits == (-70, 70)
        assert (int(left), int(top)) == (i % 8 * 1.08 // 1, i // 8 * 1.08 // 1)


def test_classes_of_a_linear_model_keep_their_order_and_names(shown):
    model = Linear((3, 4, 4), 2)
    layer = weights.first_layer(run_of(model, 3, 4, 4))
    figure = weights.grid_figure(layer, "title")
    [w] = [p.detach().double().numpy() for p in model.parameters() if p.ndim == 2]
    for k, (image, _, _) in enumerate(shown):  # 0 is grey, the largest magnitude is black or full colour
        np.testing.assert_allclose(image, 0.5 + w[k].reshape(3, 4, 4).transpose(1, 2, 0) / (2 * abs(w).max()))
    assert [text.get_text() for text in figure.axes[0].texts] == ["a", "b"]


def test_rows_of_runs_have_a_scale_each(shown):
    small, large = nn.Conv2d(1, 3, 2), nn.Conv2d(1, 2, 2)
    with torch.no_grad():
        small.weight.fill_(0.25)
        large.weight.fill_(-4)
    layers = [weights.first_layer(run_of(nn.Sequential(conv), 1, 8, 8)) for conv in (small, large)]
    figure = weights.rows_figure(layers, ["one", "other"], 2)
    assert [(image.shape, limits[1]) for image, _, limits in shown] == [((2, 2), 0.25)] * 2 + [((2, 2), 4)] * 2
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0::2] == ["one", "other"]
    assert "m = 0.25\n" in texts[1]
    assert "at max abs(w): 100.0 %" in texts[3]
    assert "effective rank: 1.0 of 2" in texts[3]


def test_numbers_of_a_layer():
    model = MLP((1, 4, 4), 2, widths=[8], activation="relu")
    w = next(model.parameters())
    with torch.no_grad():
        w[:, 3] = 0
        w[2] = 2 * w.abs().max()
    layer = weights.first_layer(run_of(model, 1, 4, 4))
    a, s = w.detach().double().abs().numpy(), np.linalg.svd(w.detach().double().numpy(), compute_uv=False)
    shares = s[s > 1e-12] / s.sum()
    assert layer.near_zero == np.mean(a <= 1e-3 * a.max())
    assert layer.at_largest == np.mean(a >= 0.999 * a.max())
    assert layer.rank == pytest.approx(np.exp(-np.sum(shares * np.log(shares))))


def test_only_what_reads_images_is_shown():
    series = Recurrent((8, 8), 10, cell="gru", hidden_size=64, layers=1, bidirectional=False, widths=[])
    for model, shape in (
        (Linear((16,), 2), (16,)),
        (Linear((2, 4, 4), 2), (2, 4, 4)),
        (series, (1, 8, 8)),  # its dense layer has 64 inputs, too
        (nn.Conv2d(2, 4, 3), (1, 4, 4)),
    ):
        assert weights.first_layer(run_of(model, *shape)) is None


def test_shares_are_those_that_the_run_measured(trained, command, tmp_path):
    run = trained("optim=cgd", "train.epochs=2")
    code, text = command("weights", str(run), "--checkpoint=last", "--out=units.png", "--units=5")
    assert code == 0, text
    with (run / "metrics_groups.csv").open() as file:
        *_, measured = (row for row in csv.DictReader(file) if row["parameter"] == "net.1.weight")
    from trainer.analysis.load import load_run

    assert weights.first_layer(load_run(run, "last", "cpu")).near_zero == pytest.approx(float(measured["sparsity"]))
    assert f"{100 * float(measured['sparsity']):.1f} %" in text
    assert Image.open(tmp_path / "units.png").width > 500


def test_labels_say_what_tells_runs_apart(tmp_path):
    for name, lr, radius in (("a", 0.1, 1.0), ("b", 0.1, 2.0), ("c", 0.2, 1.0), ("d", 0.2, 2.0)):
        write_run(tmp_path / name, with_keys(optim__lr=lr, optim__momentum=lr, train__epochs=radius))
    records = find_runs([tmp_path])
    assert weights.labelled(records[:2]) == ["train.epochs=1", "train.epochs=2"]
    assert weights.labelled(records)[3] == "optim.lr=0.2, train.epochs=2"
    write_run(tmp_path / "e", with_keys(optim__lr=0.1, optim__momentum=0.1, train__epochs=1.0))
    a, *_, e = find_runs([tmp_path])
    assert weights.labelled([a, e]) == ["a", "e"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["nowhere"], "nowhere: must be the directory of a run, with .hydra/config.yaml in it"),
        (["RUN", "--units=0"], "--units=0: must be 1 to 100"),
        (["RUN", "--out=units.doc"], "--out=units.doc: its name must end in .png, .pdf, .svg or another of"),
        (["RUN", "--checkpoint=first"], "RUN/checkpoints/first.pt: no such checkpoint; there is"),
        (["WINE"], "WINE: its first layer does not read images of 1 or 3 channels; its inputs are 13"),
    ],
)
def test_a_mistake_is_one_line(command, trained, arguments, line):
    places = {"RUN": trained("optim=cgd", "train.epochs=2")}
    if "WINE" in arguments:
        places["WINE"] = trained("data=wine", "model=linear", "train.epochs=2", "optim=adam")
    for name, path in places.items():
        arguments, line = [a.replace(name, str(path)) for a in arguments], line.replace(name, str(path))
    code, text = command("weights", *arguments)
    assert (code, text.count("\n")) == (2, 1), text
    assert text.startswith(f"conga: {line}")


def drawn(axis):
    """The lines of a panel: (x, y) of each."""
    return [tuple(map(list, line.get_data())) for line in axis.lines]


def record_of(tmp_path, **how):
    [record] = find_runs([write_run(tmp_path / "run", **how)])
    return record


def test_curves_have_every_number(tmp_path):
    record = record_of(tmp_path, losses=(0.9, 0.002, 0.6))
    loss, accuracy = learning_figure(record, {"loss": 0.7, "accuracy": 0.3}).axes
    assert ([1, 2, 3], [1.8, 0.004, 1.2]) in drawn(loss)
    assert ([1, 2, 3], [0.9, 0.002, 0.6]) in drawn(loss)
    assert ([1, 2, 3], pytest.approx([0.1, 0.998, 0.4])) in drawn(accuracy)
    for axis, test in ((loss, 0.7), (accuracy, 0.3)):
        assert ([0, 1], [test, test]) in drawn(axis)
        assert ([2, 2], [0, 1]) in drawn(axis)  # the best epoch
        assert [text.get_text() for text in axis.texts] == [f"test\n{test}"]
    assert (loss.get_yscale(), accuracy.get_yscale()) == ("log", "linear")


def test_curves_of_one_epoch_without_validation(tmp_path):
    record = record_of(tmp_path, losses=(0.5,))
    for name in [name for name in record.curves if name.startswith("val/")]:
        del record.curves[name]
    [axis] = learning_figure(record, {}).axes
    assert ([line.get_marker() for line in axis.lines if len(line.get_xdata()) == 1], [*axis.get_xticks()]) == (
        ["o"],
        [1],
    )


def test_curves_of_a_run_that_diverged(tmp_path):
    record = record_of(tmp_path, losses=(0.5, 900.0), status="diverged", test={})
    figure = learning_figure(record, {})
    assert [line.get_marker() for line in figure.axes[0].lines].count("x") == 2
    assert "diverged" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_no_curves_before_the_first_epoch(tmp_path):
    assert learning_picture(record_of(tmp_path, losses=(), status="running")) is None
