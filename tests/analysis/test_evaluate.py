"""Evaluations: numbers beside scikit-learn's and the run's own, files, runs under way, one line for a mistake."""

import json
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import linear_outputs, row, softmax, summary
from formats import write_images
from PIL import Image
from sklearn import metrics

from trainer.analysis import evaluate, pictures
from trainer.training import checkpoint

LINEAR = ("model=linear", "train.epochs=2", "optim=adam")
CLASSES = 7


@pytest.fixture
def run_evaluate(command):
    return partial(command, "evaluate")


def report(folder):
    def refuse(constant):
        raise AssertionError(f"no JSON: {constant}")

    return json.loads((folder / "report.json").read_text(), parse_constant=refuse)


def files(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def drawn(monkeypatch):
    """Name of a function in trainer.analysis.pictures -> the arguments of its calls."""
    calls = {}
    for name in ("confusion_matrices", "mistaken_images"):
        real = getattr(pictures, name)
        record = calls.setdefault(name, [])
        monkeypatch.setattr(pictures, name, lambda *given, r=real, c=record: c.append(given) or r(*given))
    return calls


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A folder with arrays.npz, seven classes of different sizes."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    y = rng.choice(CLASSES, 400, p=np.arange(1, CLASSES + 1) / 28)
    x = (rng.normal(size=(CLASSES, 5)) * 2)[y] + rng.normal(size=(400, 5))
    np.savez(folder / "arrays.npz", x_train=x[:300], y_train=y[:300], x_test=x[300:], y_test=y[300:])
    return folder, x[300:], y[300:]


def test_numbers_of_classes(run_evaluate, trained, table, tmp_path, drawn):
    """From another directory than the run was started in, where its data have a relative path."""
    folder, x, y = table
    run = trained("data=npz", "data.path=arrays.npz", *LINEAR, cwd=folder)
    code, text = run_evaluate(str(run), "--out=out", "--format=csv")
    assert code == 0, text
    out, found = tmp_path / "out", report(tmp_path / "out")
    assert found["metrics"] == pytest.approx(summary(run)["test"], rel=1e-6)
    assert (found["split"], found["samples"], found["checkpoint"]) == ("test", 100, "best")
    assert found["epoch"] == summary(run)["best"]["epoch"]
    assert files(out) == {"report.json", "per_class.csv", "predictions.csv", "confusion_matrix.png", "curves.png"}
    assert files(out) == {"report.json", *found["files"]}

    p = softmax(linear_outputs(run, x))
    expected = metrics.classification_report(y, p.argmax(1), output_dict=True, zero_division=0, labels=range(CLASSES))
    for of_class in (found["per_class"], pd.read_csv(out / "per_class.csv").to_dict("records")):
        for k, numbers in enumerate(of_class):
            wanted = expected[str(k)]
            assert numbers["f1"] == pytest.approx(wanted["f1-score"])
            assert (numbers["precision"], numbers["recall"]) == pytest.approx((wanted["precision"], wanted["recall"]))
            assert (numbers["samples"], numbers["predicted"]) == (wanted["support"], (p.argmax(1) == k).sum())
    assert row(text, "3")[2] == f"{expected['3']['f1-score']:.4f}"

    counts = np.zeros((CLASSES, CLASSES), int)
    np.add.at(counts, (y, p.argmax(1)), 1)
    [(_, [(_, names, given)])] = drawn["confusion_matrices"]
    assert list(names) == [str(k) for k in range(CLASSES)]
    assert (given == counts).all()

    rows = pd.read_csv(out / "predictions.csv")
    assert list(rows["index"]) == list(range(100))
    assert list(rows["truth"].astype(int)) == list(y)
    assert list(rows["prediction"].astype(int)) == list(p.argmax(1))
    given = rows[[f"probability_{k}" for k in range(CLASSES)]]
    np.testing.assert_allclose(given, p, atol=1e-5)
    np.testing.assert_allclose(rows["probability"], p.max(1), atol=1e-5)


SUITED = {
    "breast_cancer": {"per_class.csv", "confusion_matrix.png"},
    "multilabel": {"per_class.csv", "per_label.png"},
    "multitask": {"per_class.csv", "confusion_matrix.png"},
    "linnerud": {"per_target.csv", "residuals.png"},
    "sine": {"per_target.csv", "series.png", "free_running.png"},
}


@pytest.mark.parametrize("data", SUITED)
def test_every_task(run_evaluate, trained, tmp_path, data):
    run = trained(f"data={data}", *LINEAR)
    code, text = run_evaluate(str(run), "--out=out", "--format=csv")
    assert code == 0, text
    out, found = tmp_path / "out", report(tmp_path / "out")
    assert found["metrics"] == pytest.approx(summary(run)["test"], rel=1e-6)
    assert files(out) == {"report.json", "predictions.csv", "curves.png", *SUITED[data]}
    for name in ("curves.png", *SUITED[data]):
        if name.endswith(".png"):
            assert len(np.unique(np.asarray(Image.open(out / name).convert("L")))) > 10
    rows = pd.read_csv(out / "predictions.csv")
    assert len(rows) == found["samples"]
    if data == "breast_cancer":
        assert metrics.roc_auc_score(rows["truth"] == "benign", rows["probability_benign"]) == pytest.approx(
            found["metrics"]["auroc"]
        )
        assert set(rows["truth"]) == {"malignant", "benign"}
    if data == "multilabel":
        for k, numbers in enumerate(found["per_class"]):
            truth, chosen = rows[f"truth_label {k}"], rows[f"prediction_label {k}"]
            assert numbers["f1"] == pytest.approx(metrics.f1_score(truth, chosen))
            assert numbers["samples"] == truth.sum()
            assert (chosen == (rows[f"probability_label {k}"] > 0.5)).all()
    if data == "multitask":
        for head, classes in (("age", 5), ("gender", 2)):
            right = (rows[f"truth_{head}"] == rows[f"prediction_{head}"]).mean()
            assert right == pytest.approx(found["metrics"][f"accuracy_{head}"])
            assert np.allclose(rows[[f"probability_{head}={k}" for k in range(classes)]].sum(axis=1), 1, atol=1e-5)
            recalls = [r["recall"] for r in found["per_class"] if r["head"] == head]
            truth, chosen = rows[f"truth_{head}"], rows[f"prediction_{head}"]
            assert recalls == pytest.approx(list(metrics.recall_score(truth, chosen, average=None)))
    if data == "linnerud":
        for target in found["per_target"]:
            truth, said = rows[f"truth_{target['target']}"], rows[f"prediction_{target['target']}"]
            assert target["mae"] == pytest.approx(metrics.mean_absolute_error(truth, said))
            assert target["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, said))
            assert target["r2"] == pytest.approx(metrics.r2_score(truth, said), abs=1e-5)
    if data == "sine":
        assert np.abs(rows["truth"] - rows["prediction"]).mean() == pytest.approx(found["metrics"]["mae"], rel=1e-5)
        series = found["series"]
        assert (series["first_step"], series["steps"], series["padded"]) == (804, 196, 0)
        assert series["one_step"]["rmse"] == pytest.approx(found["metrics"]["rmse"], rel=1e-5)
        assert f"free running  rmse {series['free_running']['rmse']:.4g} over 196 steps" in text


def test_the_surest_mistakes(run_evaluate, trained, tmp_path, drawn):
    from sklearn.datasets import load_digits

    run = trained("data=digits", *LINEAR)
    assert run_evaluate(str(run), "--out=out", "--format=csv")[0] == 0
    rows = pd.read_csv(tmp_path / "out" / "predictions.csv")
    worst = rows[rows["truth"] != rows["prediction"]].nlargest(25, "probability")
    [(_, images, mistakes, value_range, names)] = drawn["mistaken_images"]
    assert len(mistakes) == min(25, len(worst)) > 0
    assert [m.index for m in mistakes] == list(worst["index"])
    assert [m.truth for m in mistakes] == list(worst["truth"].astype(str))
    assert [m.prediction for m in mistakes] == list(worst["prediction"].astype(str))
    assert value_range == (0, 16)
    assert names == [f"sample {m.index:,}" for m in mistakes]
    digits = load_digits()
    known = {image.astype(np.uint8).tobytes(): str(k) for image, k in zip(digits.images, digits.target, strict=True)}
    assert [known[image.tobytes()] for image in images] == [m.truth for m in mistakes]


@pytest.mark.slow
def test_images_that_do_not_fit_into_memory(run_evaluate, trained, tmp_path_factory, tmp_path, drawn):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "photos", {"cat": 6, "dog [$x$]": 5}, size=(10, 8))
    settings = ("data=image_folder", "data.path=photos", "data.size=8", *LINEAR)
    for more in ((), ("data.memory_gb=0", "data.workers=0")):
        run = trained(*settings, *more, cwd=folder)
        assert run_evaluate(str(run), f"--out=out{len(more)}", "--split=train", "--format=csv")[0] == 0
        table = pd.read_csv(tmp_path / f"out{len(more)}" / "predictions.csv")
        assert list(table["truth"]) == [Path(name).parent.name for name in table["image"]]
        assert set(table["image"]) < {str(p.relative_to(folder / "photos")) for p in folder.glob("photos/*/*")}
        assert report(tmp_path / f"out{len(more)}")["split"] == "train"
    (_, images, mistakes, _, names), (_, others, same, _, _) = drawn["mistaken_images"]
    assert mistakes == same
    assert names == [table["image"][m.index] for m in mistakes]
    assert (images == others).all()


def test_nothing_wrong_leaves_no_picture_of_it(run_evaluate, trained, tmp_path_factory, tmp_path):
    folder, y = tmp_path_factory.mktemp("arrays"), np.arange(60) % 2
    x = np.broadcast_to((y * 255).astype(np.uint8)[:, None, None, None], (60, 1, 4, 4))
    np.savez(folder / "easy.npz", x_train=x, y_train=y)
    run = trained("data=npz", f"data.path={folder / 'easy.npz'}", *LINEAR, "train.epochs=30")
    (tmp_path / "out").mkdir()
    for stale in ("most_wrong.png", "series.png", "predictions.csv", "notes.txt"):
        (tmp_path / "out" / stale).write_text("of an earlier evaluation")
    assert run_evaluate(str(run), "--out=out")[0] == 0
    found = report(tmp_path / "out")
    assert found["metrics"]["accuracy"] == 1
    assert files(tmp_path / "out") == {"report.json", "notes.txt", *found["files"]}
    assert "most_wrong.png" not in found["files"]


@pytest.mark.parametrize(("val", "split"), [(0.1, "val"), (0, "train")])
def test_without_a_test_split(run_evaluate, trained, val, split):
    run = trained("data=wine", "data.test_fraction=0", f"data.val_fraction={val}", *LINEAR)
    code, text = run_evaluate(str(run))
    assert code == 0, text
    assert f"{split} split" in text
    assert report(run / "evaluation")["split"] == split


@pytest.mark.slow
def test_many_classes(run_evaluate, trained, tmp_path_factory, tmp_path):
    """The screen has the worst, the files have all; of more than a hundred only the prediction's probability."""
    folder, rng, y = tmp_path_factory.mktemp("arrays"), np.random.default_rng(0), np.arange(606) % 101
    np.savez(folder / "many.npz", x_train=rng.random((606, 6)), y_train=y)
    run = trained("data=npz", f"data.path={folder / 'many.npz'}", *LINEAR)
    code, text = run_evaluate(str(run), "--out=out", "--format=csv")
    assert code == 0, text
    assert "the 24 worst of 101" in text
    assert len(pd.read_csv(tmp_path / "out" / "per_class.csv")) == 101
    assert list(pd.read_csv(tmp_path / "out" / "predictions.csv")) == ["index", "truth", "prediction", "probability"]


@pytest.mark.slow
def test_while_it_trains(run_evaluate, start, tmp_path):
    run = tmp_path / "run"
    job = start("data=wine", *LINEAR, "train.epochs=100000", f"hydra.run.dir={run}")
    try:
        while not (run / "checkpoints" / "last.pt").exists():
            assert not job.over()
            time.sleep(0.05)
        epochs = []
        for _ in range(2):
            code, text = run_evaluate(str(run), "--checkpoint=last")
            assert code == 0, text
            epochs.append(report(run / "evaluation")["epoch"])
        assert not job.over()
        assert epochs[0] < epochs[-1]
    finally:
        job.kill()
    code, text = run_evaluate(str(run))
    assert code == 0, text


@pytest.mark.slow
def test_killed_before_the_first_epoch_ended(run_evaluate, start, tmp_path):
    job = start(
        *("data=digits", *LINEAR, "train.checkpoint_steps=1", f"hydra.run.dir={tmp_path / 'run'}"),
        trip=("batch", 4, signal.SIGKILL),
    )
    assert job.wait()[0] == -signal.SIGKILL
    code, text = run_evaluate("run")
    assert (code, text) == (2, "conga: run/checkpoints/best.pt: no such checkpoint; there is --checkpoint=last\n")
    code, text = run_evaluate("run", "--checkpoint=last")
    assert code == 0, text
    assert "last checkpoint, epoch 0 and 3 steps" in text


def wound(run, what):
    """Damages a run in one way."""
    if what == "no checkpoint":
        shutil.rmtree(run / "checkpoints")
    if what == "half a checkpoint":
        content = (run / "checkpoints" / "best.pt").read_bytes()
        (run / "checkpoints" / "best.pt").write_bytes(content[: len(content) // 2])
    if what == "a pickle":
        torch.save({"format": partial(print, "run")}, run / "checkpoints" / "best.pt")
    if what in ("other data", "another version", "another model"):
        state = torch.load(run / "checkpoints" / "best.pt", weights_only=True)
        if what == "other data":
            state["facts"]["sizes"] = {"train": 1, "test": 1}
        elif what == "another version":
            config = yaml.safe_load((run / ".hydra" / "config.yaml").read_text())
            state["config"]["model"]["widht"] = config["model"]["widht"] = 3
            (run / ".hydra" / "config.yaml").write_text(yaml.safe_dump(config))
        else:
            state["model"]["weight"] = torch.zeros(1)
        checkpoint.save(run / "checkpoints" / "best.pt", "best", state)


@pytest.mark.parametrize(
    ("what", "arguments", "line"),
    [
        ("", ["nowhere"], "nowhere: must be the directory of a run, with .hydra/config.yaml in it"),
        ("", [], "missing: RUN_DIR; --help"),
        ("", ["run", "--split=tst"], "--split=tst: the data of run have train, val, test"),
        (
            "",
            ["run", "--checkpoint=first"],
            "run/checkpoints/first.pt: no such checkpoint; there is",
        ),
        ("", ["run", "--device=tpu"], "--device=tpu: must be auto, cpu"),
        ("", ["run", "--out=/dev/null/x"], "/dev/null/x: Not a directory; --out=DIR writes elsewhere"),
        ("", ["run", "--out=run/train.log"], "run/train.log: File exists; --out=DIR"),
        ("no checkpoint", ["run"], "run/checkpoints/best.pt: no such checkpoint; the run has not finished an epoch"),
        ("half a checkpoint", ["run"], "run/checkpoints/best.pt: not a readable checkpoint ("),
        ("a pickle", ["run"], "run/checkpoints/best.pt: not a readable checkpoint ("),
        (
            "another version",
            ["run"],
            "run/checkpoints/best.pt: made by another version of conga (Linear.__init__",
        ),
        ("another model", ["run"], "run/checkpoints/best.pt: does not fit the model of .hydra/config.yaml ("),
        ("other data", ["run"], "wine: the data changed since the run was trained (sizes was "),
    ],
)
def test_a_mistake_is_one_line(run_evaluate, trained, tmp_path, what, arguments, line):
    shutil.copytree(trained("data=wine", *LINEAR), tmp_path / "run")
    wound(tmp_path / "run", what)
    code, text = run_evaluate(*arguments)
    assert code == 2
    assert text.count("\n") == 1, text
    assert text.startswith(f"conga: {line}")
    assert not (tmp_path / "run" / "evaluation" / "report.json").exists()


def test_parquet_holds_what_csv_does(run_evaluate, trained, tmp_path):
    pytest.importorskip("pyarrow")
    run = trained("data=wine", *LINEAR)
    for kind in ("csv", "parquet"):
        code, text = run_evaluate(str(run), f"--out={kind}", f"--format={kind}")
        assert code == 0, text
    one, other = (
        pd.read_csv(tmp_path / "csv/predictions.csv"),
        pd.read_parquet(tmp_path / "parquet/predictions.parquet"),
    )
    pd.testing.assert_frame_equal(one, other, check_dtype=False, rtol=1e-5)


def test_parquet_that_cannot_be_written(run_evaluate, trained, tmp_path, monkeypatch):
    run = trained("data=wine", *LINEAR)
    monkeypatch.setattr(evaluate, "find_spec", lambda name: None)
    code, text = run_evaluate(str(run), "--format=parquet")
    assert (code, text) == (2, "conga: --format=parquet: writing it needs pyarrow: pip install -e '.[parquet]'\n")
    assert run_evaluate(str(run), "--out=out")[0] == 0
    assert "predictions.csv" in files(tmp_path / "out")
