"""What `train.…` switches on, through the command line: that it does what it says, and that it survives a kill."""

import csv
import json
import math
import re
import types

import pytest
import torch
from conftest import rows, summary, training_of
from torch import nn

from trainer.training.best import better
from trainer.training.device import switches
from trainer.training.loop import finish_epoch

# 5 steps an epoch
RUN = ["data.batch_size=300", "train.epochs=4", "train.threads=1", "train.device=cpu", "optim.lr=0.02"]
NORMED = ["model.norm=batch", "model.dropout=0.3"]

# Sets of features that go together, with what shows that they did something.
FEATURES = {
    "averages": ["train.ema=0.8", "train.monitor=ema/loss", "train.accumulate=2", "train.clip_norm=0.5", *NORMED,
                 "train.keep=2", "objective.adversary=pgd", "objective.adversary_steps=2"],
    "second point": ["optim=svrf", "optim.lr=0.01", "train.accumulate=2", "train.max_steps=7", "schedule=cosine",
                     "model.dropout=0.3", "objective.adversary=pgd", "objective.adversary_norm=l2"],
    "images": ["train.precision=bf16", "train.channels_last=true", "model=cnn", "optim=adam", "train.profile=2",
               "train.overfit_batches=2", "data.augment.crop=1", "objective.adversary=fw"],
    "variational": ["model=autoencoder", "model.variational=true", "objective=elbo", "data.normalize=scale",
                    "optim=adam", "optim.of={decoder:{lr:0.01}}", "train.eval_every=2", "objective.adversary=fgsm"],
    "watched": ["train.precision=float64", "train.anomaly=true", "train.deterministic=true", "optim.lr=0.5",
                "train.early_stopping.patience=1", "train.epochs=9", *NORMED],
    "compiled": ["train.compile=true", "model.dropout=0.3", "train.eval_every=3", "schedule=plateau",
                 "objective=hinge", "objective.class_weights=balanced", "objective.l2=1e-3", "objective.l1=1e-4",
                 "objective.adversary=pgd"],
}  # fmt: skip
STOPPED = {"second point": "train.max_steps=7", "watched": "train.early_stopping.patience=1: val/loss was best"}


def table(run):
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    "features", [name if name == "averages" else pytest.param(name, marks=pytest.mark.slow) for name in FEATURES]
)
def test_killed_and_resumed_exactly(goes_on, tmp_path, features):
    """In the middle of the first epoch, in a later one's first step (some), and in an evaluation."""
    places = (7,) if features == "compiled" else (3, 7, 12)  # compiling takes long
    goes_on("batch", *RUN, "train.checkpoint_steps=1", *FEATURES[features], places=places)
    assert (summary(tmp_path / "whole").get("stopped") or "").startswith(STOPPED.get(features, ""))


@pytest.mark.slow
def test_fp16_scales_its_gradients_and_survives_a_kill(goes_on, tmp_path):
    """On a CPU that says it can; this one may only emulate it."""
    options = [*RUN, "train.precision=fp16", "train.epochs=2", "train.checkpoint_steps=1", "schedule=cosine"]
    goes_on("batch", *options, places=(4,), env={"CONGA_TEST_FP16": "1"})
    whole = tmp_path / "whole"
    assert (tmp_path / ".output0").read_text() == (whole / "train.log").read_text()  # no warnings
    state = torch.load(whole / "checkpoints" / "last.pt", weights_only=True)
    assert state["scaler"]["scale"] > 1
    assert all(p.dtype == torch.float32 for p in state["model"].values())
    assert float(table(whole)[-1]["train/loss"]) < 2.3


def test_fp16_needs_a_processor_that_has_it(cli):
    from trainer.training.device import has_fp16

    if has_fp16():
        pytest.skip("this CPU computes in fp16")
    code, text = cli("train.precision=fp16", "train.device=cpu")
    assert (code, text) == (2, "conga: train.precision=fp16: this CPU cannot compute in fp16; use bf16 or float32\n")


@pytest.mark.parametrize("precision", ["float64", "bf16"])
def test_precisions_agree_as_far_as_their_digits_go(cli, tmp_path, precision):
    for name in ("float32", precision):
        assert cli(*RUN, "train.epochs=1", f"train.precision={name}", f"hydra.run.dir={name}")[0] == 0
    single, other = (float(table(tmp_path / name)[0]["val/loss"]) for name in ("float32", precision))
    assert single != other
    assert single == pytest.approx(other, rel={"float64": 1e-5, "bf16": 2e-2}[precision])
    state = torch.load(tmp_path / precision / "checkpoints" / "best.pt", weights_only=True)["model"]
    assert {p.dtype for p in state.values()} == {torch.float64 if precision == "float64" else torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "optim"), [("float64", "sgd"), ("bf16", "cgd")])
@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet18", "wrn", "lstm", "gru", "rnn"])
def test_every_family_trains_in_every_precision(cli, model, precision, optim):
    if (model, precision) == ("lstm", "bf16"):
        with torch.autocast("cpu", torch.bfloat16):
            try:
                torch.nn.LSTM(8, 32, batch_first=True)(torch.zeros(2, 8, 8))
            except RuntimeError:
                pytest.skip("torch has no LSTM in bfloat16 for this processor")
    options = ["data.limit=40", "train.epochs=1", f"train.precision={precision}", "train.max_steps=2"]
    code, text = cli(f"model={model}", f"optim={optim}", *options)
    assert code == 0, text


def test_layers_are_the_same_whatever_the_layout_in_memory(cli, tmp_path):
    for layout in ("true", "false"):
        options = ["model=cnn", *RUN, "train.epochs=1", f"train.channels_last={layout}"]
        assert cli(*options, f"hydra.run.dir=layout_{layout}")[0] == 0
    one, other = (float(table(tmp_path / f"layout_{layout}")[0]["val/loss"]) for layout in ("true", "false"))
    assert one == pytest.approx(other, rel=1e-4)
    state = torch.load(tmp_path / "layout_true" / "checkpoints" / "last.pt", weights_only=True)
    assert state["model"]["net.0.weight"].is_contiguous(memory_format=torch.channels_last)


def test_max_steps_ends_in_the_middle_of_an_epoch_where_the_schedule_does(cli, tmp_path):
    code, text = cli(*RUN, "train.max_steps=13", "schedule=linear", "hydra.run.dir=run")
    assert code == 0, text
    s = summary(tmp_path / "run")
    assert (s["status"], s["stopped"], s["steps"], s["epochs"]) == ("finished", "train.max_steps=13", 13, 3)
    assert float(table(tmp_path / "run")[-1]["optim/lr"]) == pytest.approx(0.02 / 13)  # one step before 0
    assert cli("train.resume=run")[1].startswith("finished already")


def test_max_minutes_is_a_clean_stop_that_can_go_on(cli, tmp_path):
    assert cli(*RUN, "train.epochs=60", "hydra.run.dir=whole")[0] == 0
    code, text = cli(*RUN, "train.epochs=60", "train.max_minutes=0.005", "hydra.run.dir=run")
    assert code == 0, text
    assert re.search(r"train.max_minutes=0.005 are over after \d+ epochs? and [\d,]+ steps?; to resume:\n", text)
    assert summary(tmp_path / "run")["status"] == "interrupted"
    folder = re.search(r"python -m trainer resume (\S+)", text)[1]
    code, text = cli("resume", folder, "train.max_minutes=5")
    assert code == 0, text
    whole, run = (torch.load(tmp_path / r / "checkpoints" / "last.pt", weights_only=True) for r in ("whole", "run"))
    assert all(torch.equal(p, run["model"][name]) for name, p in whole["model"].items())


def test_evaluations_every_so_many_epochs_and_at_the_end(cli, tmp_path):
    code, text = cli(*RUN, "train.epochs=7", "train.eval_every=3", "hydra.run.dir=run")
    assert code == 0, text
    assert [row["epoch"] for row in table(tmp_path / "run") if row["val/loss"]] == ["3", "6", "7"]
    assert summary(tmp_path / "run")["best"]["epoch"] in (3, 6, 7)


def test_models_of_the_last_epochs_are_kept(cli, tmp_path):
    for keep, epochs in (("2", (3, 4)), ("all", (1, 2, 3, 4))):
        assert cli(*RUN, f"train.keep={keep}", f"hydra.run.dir={keep}")[0] == 0
        folder = tmp_path / keep / "checkpoints"
        assert {p.name for p in folder.iterdir()} == {"best.pt", "last.pt", *(f"epoch_{e}.pt" for e in epochs)}
    kept, last = (torch.load(folder / f"{name}.pt", weights_only=True) for name in ("epoch_4", "last"))
    assert (kept["kind"], kept["epoch"]) == ("epoch", 4)
    assert all(torch.equal(p, last["model"][name]) for name, p in kept["model"].items())


def test_few_batches_are_learned_by_heart(cli, tmp_path):
    options = ["train.overfit_batches=2", "data.batch_size=16", "optim=adam", "train.epochs=90"]
    assert cli(*options, "hydra.run.dir=run")[0] == 0
    s = summary(tmp_path / "run")
    assert s["steps"] == 180
    assert s["final"]["train/accuracy"] == 1.0
    assert s["final"]["train/loss"] < 0.05 < s["final"]["val/loss"]


def test_a_profile_is_a_trace_of_so_many_steps(cli, tmp_path):
    assert cli(*RUN, "train.profile=4", "hydra.run.dir=run")[0] == 0
    events = json.loads((tmp_path / "run" / "trace.json").read_text())["traceEvents"]
    assert len({e["name"] for e in events if e["name"].startswith("ProfilerStep#")}) == 4
    assert any(e["name"] == "aten::addmm" for e in events)
    code, text = cli(*RUN, "train.profile=4", "train.max_steps=2", "hydra.run.dir=short")
    assert code == 0
    assert "no trace" in text


def test_an_anomaly_says_which_layer_and_step(cli, tmp_path):
    code, text = cli("optim.lr=1e12", "train.anomaly=true", "hydra.run.dir=run")
    assert code == 3, text
    error = summary(tmp_path / "run")["error"]
    assert re.fullmatch(r"net\.\d \(Linear\) made the first NaN or infinity, step \d in epoch 1", error)


def test_compiling_needs_a_compiler(cli, tmp_path):
    code, text = cli("train.compile=true", "train.device=cpu", env={"PATH": str(tmp_path), "CXX": ""})
    assert code == 2
    assert text == "conga: train.compile=true: needs a C++ compiler, such as g++; none found\n"


def test_switches_are_put_back():
    settings = types.SimpleNamespace(deterministic=True)
    with switches(settings, torch.device("cpu")):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def stopped_at(values, *, has_value=lambda epoch: True, **early):
    """The epoch after which early stopping ends a run whose val/loss takes these values, or None."""
    model = nn.Linear(2, 2)
    dataset = types.SimpleNamespace(
        splits={"train": 0, "val": 0}, facts=types.SimpleNamespace(sizes={"train": 4}, plain=dict), batch_size=4
    )
    objective = types.SimpleNamespace(
        metrics=("loss", "accuracy"), evaluated=(), higher_is_better=("accuracy",), turns=(None,), fresh=False
    )
    objective.state = dict
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    t = training_of(model, dataset, objective, optimizer, early_stopping=early, epochs=len(values) + 1)
    t.world = types.SimpleNamespace(main=False, size=2, gathered=lambda value: [value])  # writes nothing
    t.summary.writes = False
    for epoch, value in enumerate(values, 1):
        looked = {early["metric"]: value} if has_value(epoch) else {}
        finish_epoch(t, {"epoch": epoch, "train/loss": 1.0} | looked, [])
        if t.over:
            return epoch
    return None


def test_early_stopping_waits_for_an_improvement():
    def loss(values, **early):
        return stopped_at(values, metric="val/loss", **early)

    assert loss([3, 2, 2, 2, 1], patience=2) == 4
    assert loss([3, 2, 2, 1, 1, 1], patience=2) == 6
    assert loss([5, 4, 3, 2, 1], patience=1) is None
    assert loss([5, 4.9, 4.8, 4.7], patience=3, min_delta=0.5) == 4
    assert loss([5, 4.9, 4.8, 4.4, 4.3, 4.2], patience=3, min_delta=0.5) is None
    assert loss([1, 2, 3, 3, 3], patience=2, mode="max") == 5
    assert stopped_at([0.5, 0.6, 0.6], patience=1, metric="val/accuracy") == 3  # more is better
    assert stopped_at([0.5, 0.6, 0.6], patience=1, metric="val/accuracy", mode="min") == 2
    # Evaluated in every third epoch: it stops where it has looked, not in between.
    seldom = {"has_value": lambda epoch: epoch % 3 == 0, "metric": "val/loss"}
    assert stopped_at([0, 0, 3, 0, 0, 4, 0], patience=2, **seldom) == 6


def test_better_than_nothing():
    assert better(1.0, math.nan, maximize=False)
    assert not better(math.nan, 1.0, maximize=False)
    assert not better(math.nan, math.nan, maximize=True)


def test_early_stopping_restores_the_best_weights(cli, tmp_path):
    """The test numbers are those of the best epoch's weights, not the last's."""
    options = ["optim.lr=0.5", "train.early_stopping.patience=3", "train.keep=all", "train.threads=1"]
    code, text = cli(*options, "hydra.run.dir=run")
    assert code == 0, text
    s = summary(tmp_path / "run")
    assert s["epochs"] == s["best"]["epoch"] + 3 < 30
    assert s["stopped"] == f"train.early_stopping.patience=3: val/loss was best in epoch {s['best']['epoch']}"
    folder = tmp_path / "run" / "checkpoints"
    best, kept = (torch.load(folder / f"{n}.pt", weights_only=True) for n in ("best", f"epoch_{s['best']['epoch']}"))
    assert all(torch.equal(p, kept["model"][name]) for name, p in best["model"].items())
    assert len(rows(tmp_path / "run")) == 1 + s["epochs"]
    code, text = cli("train.resume=run", "train.epochs=40")
    assert (code, text.splitlines()[0]) == (0, "finished already; nothing to do")


def test_a_metric_that_is_no_number_is_no_failure(cli, tmp_path):
    """The coefficient of determination of a single sample: the run finishes with its last epoch, and says why."""
    options = ["data=apartments", "data.val_size=1", "train.monitor=val/r2", "train.epochs=2", "hydra.run.dir=run"]
    for start in ("", "finished already"):
        code, text = cli(*options)
        assert code == 0, text
        assert text.startswith(start)
        assert re.search(r"best +epoch 2 \(val/r2 was never a number: the last epoch\)\n", text)
        assert ("the validation split has one sample" in text) == (not start)
    best = {"metric": "val/r2", "value": None, "epoch": 2, "mode": "max"}
    assert summary(tmp_path / "run")["best"].items() > best.items()


def test_a_run_that_ends_before_its_first_evaluation_has_no_test_numbers(cli, tmp_path):
    early = ["train.early_stopping.patience=1", "train.early_stopping.metric=train/loss", "optim.lr=0.5"]
    code, text = cli(*RUN, *early, "train.eval_every=50", "train.epochs=60", "hydra.run.dir=run")
    assert code == 0, text
    s = summary(tmp_path / "run")
    assert (s["status"], s["best"], s["test"]) == ("finished", None, None)


def test_an_anomaly_in_the_test_split_is_no_anomaly_of_training(cli, tmp_path):
    import numpy as np

    x = np.ones((20, 3), dtype=np.float32)
    y = np.arange(20) % 3
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y, x_test=np.full((3, 3), 1e38, np.float32), y_test=y[:3])
    options = ["data=npz", "data.path=x.npz", "data.normalize=none", "data.val_fraction=0", "train.epochs=1"]
    code, text = cli(*options, "train.anomaly=true", "model.widths=[4]", "hydra.run.dir=run")
    assert code == 0, text


def test_few_batches_need_no_last_one(cli):
    """The last batch, of one sample, is not among those that are trained on."""
    few = ["train.overfit_batches=1", "model.norm=batch", "data.batch_size=431", "train.epochs=1"]
    assert cli(*few)[0] == 0
    code, text = cli(*few[1:])  # 1,294 = 3 * 431 + 1
    assert code == 2
    assert "leaves one of 1,294 training samples for the last batch" in text


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["train.early_stopping.metric=val/auroc"], "train.early_stopping.metric=val/auroc: must be one of train/loss"),
        (["train.early_stopping.patience=0"], "train.early_stopping.patience=0: must be at least 1"),
        (["train.early_stopping.pateince=2"], "train.early_stopping.pateince=2: unknown key; did you mean"),
        (["train.early_stopping.min_delta=-1"], "train.early_stopping.min_delta=-1: must be at least 0"),
        (["train.monitor=ema/loss"], "train.monitor=ema/loss: must be one of train/loss"),
        (["train.clip_norm=0"], "train.clip_norm=0: must be greater than 0"),
        (["train.accumulate=0"], "train.accumulate=0: must be at least 1"),
        (["train.precision=fp8"], "train.precision=fp8: must be one of float32, bf16, fp16, float64"),
        (["train.ema=1"], "train.ema=1: must be in [0, 1)"),
        (["train.keep=-1"], "train.keep=-1: must be all, or at least 0"),
        (["train.max_minutes=0"], "train.max_minutes=0: must be greater than 0"),
        (["train.anomaly=true", "train.compile=true"], "train.anomaly=true: looks at each layer"),
        (["optim=svrf", "train.clip_norm=1"], "train.clip_norm=1: SVRF compares gradients, which clipping"),
        (["optim=orgfw", "train.precision=fp16"], "fp16"),
        (["objective=hinge", "model=cnn", "data.augment.mixup=1"], "data.augment.mixup=1: mixes labels, which Hinge"),
        (["objective=mse"], "objective=mse data=digits: task=classification: MeanSquaredError needs"),
        (
            ["objective=cross_entropy", "objective.class_weights=[1,2]"],
            "objective.class_weights=[1,2]: must be 10 numbers",
        ),
        (["objective=cross_entropy", "objective.class_weights=blanced"], "objective.class_weights=blanced: must be"),
        (["objective.l2=-1"], "objective.l2=-1: must be at least 0"),
        (
            ["data=multitask", "objective=multi_task", "objective.weights={ag:1}"],
            "objective.weights.ag=1: no such head; there are age, gender",
        ),
    ],
)
def test_bad_input(mistake, options, line):
    assert line in mistake(*options)
