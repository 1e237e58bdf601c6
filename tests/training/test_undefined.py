"""A metric that is no number counts as not evaluated: whatever goes by it waits for one, and says so once."""

import json
import math
import signal
import types

import numpy as np
import pytest
import torch
from conftest import assert_same_run, rows, summary, training_of
from torch import nn

from optim.schedules import Plateau
from trainer.training.announce import closing_facts
from trainer.training.best import decide
from trainer.training.objectives import BinaryCrossEntropy, MeanSquaredError
from trainer.training.objectives.regression import r_squared

NAN = math.nan
SIZES = ("train", "val", "test")


def decided(values, *, patience=None, schedule=None, judge=None, metric="val/auroc"):
    """A run in memory after epochs with these values (None: not evaluated), what it said, and the starred epochs."""
    dataset = types.SimpleNamespace(
        splits={"train": (None, torch.tensor([0, 1])), "val": (None, torch.tensor([1, 1]))},
        facts=types.SimpleNamespace(sizes={"train": 4}, output_names={"": ("well", "ill")}),
        batch_size=4,
    )
    objective = BinaryCrossEntropy.__new__(BinaryCrossEntropy)
    objective.metrics, objective.facts = ("loss", "accuracy"), dataset.facts
    model = nn.Linear(2, 1)
    early = {"patience": patience}
    t = training_of(
        model, dataset, objective, torch.optim.SGD(model.parameters(), lr=1.0), early_stopping=early, epochs=99
    )
    t.monitor, t.stopper, t.maximize, t.stopper_maximize, t.judge = metric, metric, True, True, judge
    if schedule:
        t.schedule = Plateau(t.optimizer, epochs=99, steps_per_epoch=1, **schedule)
    said, starred = [], []
    t.display.say = said.append
    for epoch, value in enumerate(values, 1):
        t.progress.epoch = epoch
        row = {"epoch": epoch, "train/loss": 1.0} | ({} if value is None else {metric: value})
        t.progress.final = row
        if decide(t, row):
            starred.append(epoch)
        if t.stopped:
            break
    return t, said, starred


@pytest.mark.parametrize(
    ("values", "best", "starred"),
    [
        ([NAN, NAN, NAN], (NAN, 3), []),  # the last epoch
        ([NAN, None, None], (NAN, 3), []),
        ([None, None], None, []),  # nothing was evaluated yet
        ([NAN, 0.4, NAN, 0.3], (0.4, 2), [2]),
        ([0.4, NAN, 0.6, NAN], (0.6, 3), [1, 3]),
        ([NAN, NAN, 0.0], (0.0, 3), [3]),
    ],
)
def test_the_best_epoch_is_that_of_the_best_number_or_the_last(values, best, starred):
    t, _, stars = decided(values)
    found = t.progress.best
    assert stars == starred
    assert (found is None) == (best is None)
    if best:
        assert (found["value"], found["epoch"]) == pytest.approx(best, nan_ok=True)
        assert ("note" in found) == math.isnan(best[0])


def test_early_stopping_waits_for_a_number():
    assert decided([NAN] * 9, patience=2)[0].stopped is None
    t, *_ = decided([NAN, 0.5, NAN, NAN, NAN, 0.4], patience=2)
    assert t.progress.epoch == 6  # where it looked again
    assert t.stopped == "train.early_stopping.patience=2: val/auroc was best in epoch 2"
    assert decided([NAN, NAN, 0.5, 0.6, NAN, 0.7], patience=2)[0].stopped is None


def test_the_plateau_waits_for_a_number():
    t, *_ = decided([NAN] * 9, schedule={"patience": 0})
    assert t.schedule.reduced == 1
    t, *_ = decided([NAN, 0.5, NAN, NAN], schedule={"patience": 0})
    assert t.schedule.reduced == 1
    t, *_ = decided([NAN, 0.5, NAN, 0.5], schedule={"patience": 0})
    assert t.schedule.reduced == pytest.approx(0.1)


def test_a_searchs_judge_sees_only_numbers():
    seen = []
    decided([NAN, 0.5, NAN], judge=lambda row: seen.append("val/auroc" in row))
    assert seen == [False, True, False]


def test_it_is_said_once_with_the_reason():
    line = "note        val/auroc cannot be measured: the validation split has one class (ill)"
    assert decided([NAN, NAN, 0.5, NAN], patience=3)[1] == [line]
    assert decided([0.5, 0.6])[1] == []
    line = "note        val/f1 cannot be measured: it is NaN in epoch 2, and counts as not evaluated"
    assert decided([0.5, NAN, NAN], metric="val/f1")[1] == [line]


@pytest.mark.parametrize(
    ("y", "why"),
    [
        ([[1.0, 2.0]], "has one sample"),
        ([[1.0, 2.0], [1.0, 3.0]], "has one value only of a"),
        ([[1.0, 2.0], [1.0, 2.0]], "has one value only of a, b"),
        ([[1.0, 2.0], [3.0, 4.0]], None),
    ],
)
def test_why_r2_is_no_number(y, why):
    objective = MeanSquaredError.__new__(MeanSquaredError)
    objective.facts = types.SimpleNamespace(output_names={"": ("a", "b")})
    assert objective.why_undefined("r2", torch.tensor(y)) == why
    assert objective.why_undefined("loss", torch.tensor(y)) is None
    assert math.isnan(r_squared(np.array(y), np.array(y) + 0.5)) == (why is not None)


def test_r2_of_targets_that_differ_is_one_minus_the_share_of_the_squares():
    rng = np.random.default_rng(0)
    y, f = rng.standard_normal((2, 20, 3))
    expected = np.mean(1 - ((y - f) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0))
    assert r_squared(y, f) == pytest.approx(expected)


# Whole runs


def data(path, y_val):
    rng = np.random.default_rng(0)
    x = {name: rng.standard_normal((n, 4)).astype("float32") for name, n in zip(SIZES, (40, 10, 10), strict=True)}
    y = {name: (x[name][:, 0] > 0).astype("int64") for name in SIZES} | {"val": np.array(y_val)}
    np.savez(path, **{f"x_{k}": v for k, v in x.items()}, **{f"y_{k}": v for k, v in y.items()})


RUN = ["data=npz", "data.path=one.npz", "model=linear", "train.monitor=val/auroc", "train.epochs=6", "train.threads=1"]
GOES_BY_IT = ["train.early_stopping.patience=1", "schedule=plateau", "schedule.patience=0", "data.batch_size=20"]


def test_a_run_without_a_number_takes_its_last_epoch(cli, tmp_path):
    """No early stop, no cut of the rate, best.pt of the last epoch; and so, bit for bit, after kills."""
    data(tmp_path / "one.npz", [1] * 10)
    options = [*RUN, *GOES_BY_IT, "train.ema=0.9", "train.keep=all", "train.checkpoint_steps=1"]
    code, text = cli(*options, "hydra.run.dir=whole")
    assert code == 0, text
    assert text.count("cannot be measured: the validation split has one class (1)") == 1
    assert "  *" not in text
    assert "best        epoch 6 (val/auroc was never a number: the last epoch)" in text
    s = summary(tmp_path / "whole")
    assert s["epochs"] == 6
    assert not s.get("stopped")
    note = "val/auroc was never a number: the last epoch"
    assert s["best"] == {"metric": "val/auroc", "value": None, "epoch": 6, "mode": "max", "note": note}
    assert len({row[rows(tmp_path / "whole")[0].index("optim/lr")] for row in rows(tmp_path / "whole")[1:]}) == 1
    folder = tmp_path / "whole" / "checkpoints"
    best, last = (torch.load(folder / f"{name}.pt", weights_only=True)["model"] for name in ("best", "epoch_6"))
    assert all(torch.equal(best[name], last[name]) for name in last)
    for where, n in (("batch", 8), ("file", 24)):
        code, text = cli(*options, f"hydra.run.dir={where}", trip=(where, n, signal.SIGKILL))
        assert code == -9, text
        code, text = cli(*options, f"hydra.run.dir={where}")
        assert code == 0, text
        assert "cannot be measured" not in text or where == "file"
        assert_same_run(tmp_path / "whole", tmp_path / where)


def test_a_monitor_of_averaged_weights_evaluated_now_and_then(cli, tmp_path):
    data(tmp_path / "one.npz", [0] * 10)
    more = ["train.ema=0.9", "train.monitor=ema/auroc", "train.eval_every=4"]
    code, text = cli(*RUN, *more, "hydra.run.dir=run")
    assert code == 0, text
    assert text.count("note        ema/auroc cannot be measured: the validation split has one class (0)") == 1
    assert summary(tmp_path / "run")["best"]["epoch"] == 6


def test_a_sweep_and_its_readers_cope(cli, command, tmp_path):
    """One of two jobs has the number by which a sweep ranks; the other is said to have none."""
    data(tmp_path / "one.npz", [1] * 10)
    data(tmp_path / "two.npz", [0, 1] * 5)
    options = [o for o in RUN if "path" not in o]
    code, text = cli("-m", *options, "data.path=one.npz,two.npz", "sweep.metric=val/auroc", "hydra.sweep.dir=s")
    assert code == 0, text
    ranked, jobs = text.splitlines(), sorted(p.name for p in (tmp_path / "s").iterdir() if p.is_dir())
    [best] = [line for line in ranked if line.startswith("best  ")]
    [unranked] = [line for line in ranked if line.startswith("unranked")]
    assert jobs[0] in unranked
    assert "val/auroc is not a number" in unranked
    assert jobs[1] in best
    folders = [f"s/{name}" for name in jobs]
    for main, *arguments in (
        *(("runs", "s"), ("runs", "s", "--json"), ("compare", *folders), ("compare", *folders[::-1])),
        *(("plot", "s"), ("plot", "s", "--y", "val/auroc"), ("plot", folders[0]), ("report", "s")),
    ):
        code, text = command(main, *arguments)
        assert code == 0, (arguments, text)
        assert "nan" not in text.lower()


def test_the_closing_table_shows_numbers_as_before(tmp_path):
    facts = {"status": "finished", "test": None, "parameters": 1, "seconds": 1.0}
    best = {"metric": "val/loss", "value": 0.25, "epoch": 3, "mode": "min"}
    assert closing_facts(tmp_path, facts | {"best": best})["best"] == "val/loss 0.2500 in epoch 3"
    assert closing_facts(tmp_path, json.loads(json.dumps(facts | {"best": None})))["best"] == "-"
