"""The main job, and the run directory it leaves behind."""

import csv
import json
import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, rows, summary
from formats import write_each
from omegaconf import OmegaConf

from trainer.rundir.provenance import git_facts
from trainer.training import checkpoint

CGD = ["model=cnn", "optim=cgd"]
LINF = {"_target_": "optim.LInf", "radius": None, "diameter": None, "init_factor": None, "apply_to": "all"}


def only_run(tmp_path):
    (run,) = tmp_path.glob("outputs/*/*")
    return run


def table(run):
    """metrics.csv to the last bit, which pandas' own parser of floats does not promise."""
    with (run / "metrics.csv").open() as file:
        return pd.DataFrame([{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)])


@pytest.mark.slow
def test_the_main_job_reaches_its_accuracy(cli, tmp_path):
    """Mean test accuracy of at least 0.96 over seeds 0-4, by the command of the README."""
    code, text = cli("-m", *CGD, "seed=0,1,2,3,4")
    assert code == 0, text
    runs = sorted(tmp_path.glob("outputs/*/*_sweep/*/summary.json"))
    assert [p.parent.name for p in runs] == [f"{i}_seed-{i}" for i in range(5)]
    assert np.mean([json.loads(p.read_text())["test"]["accuracy"] for p in runs]) >= 0.96


def test_what_a_run_leaves_behind(cli, tmp_path):
    code, text = cli(*CGD, "train.epochs=3", "train.threads=1")
    assert code == 0, text
    run = only_run(tmp_path)
    assert re.fullmatch(r"\d\d-\d\d-\d\d_cnn_digits_cgd", run.name)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", run.parent.name)

    assert list(pd.read_csv(run / "metrics.csv").columns) == list(table(run).columns)  # loads as it is
    frame = table(run)
    assert list(frame.columns) == [
        *("epoch", "step", "train/loss", "train/accuracy"),
        *("val/loss", "val/accuracy", "val/balanced_accuracy", "val/f1"),
        *("optim/lr", "optim/fw_gap", "optim/boundary", "optim/sparsity", "optim/step_norm"),
        *("time/epoch_s", "time/samples_per_s"),
    ]
    assert list(frame["epoch"]) == [1, 2, 3]
    assert list(frame["step"]) == [41, 82, 123]  # ceil(1294 / 32) = 41
    assert not frame.isna().any(axis=None)
    assert (frame["optim/fw_gap"] > 0).all()

    s = summary(run)
    assert list(s) == [
        *("status", "stopped", "epochs", "steps", "best", "final", "test", "parameters", "seconds"),
        *("higher_is_better", "device", "threads", "seed", "versions", "git", "process", "error"),
    ]
    assert (s["status"], s["epochs"], s["steps"], s["error"]) == ("finished", 3, 123, None)
    assert s["final"] == frame.iloc[-1].to_dict()
    assert s["higher_is_better"] == ["accuracy", "top5", "balanced_accuracy", "f1"]
    i = frame["val/loss"].idxmin()
    assert s["best"] == {"metric": "val/loss", "value": frame["val/loss"][i], "epoch": i + 1, "mode": "min"}
    assert set(s["test"]) == {"loss", "accuracy", "balanced_accuracy", "f1"}
    assert s["parameters"] == 10 * 9 + 10 + 160 * 50 + 50 + 50 * 10 + 10
    assert s["threads"] == 1
    assert set(s["process"]) == {"host", "pid", "started", "heartbeat"}
    assert s["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert s["git"] == git_facts()

    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert config.optim.lr == 1e-3
    assert config.constraint == LINF
    assert list(OmegaConf.load(run / ".hydra" / "overrides.yaml")) == [*CGD, "train.epochs=3", "train.threads=1"]
    assert OmegaConf.load(run / ".hydra" / "hydra.yaml").hydra.job.name == "trainer"

    assert (run / "train.log").read_text() == text  # plain lines, no control characters
    assert not re.search(r"[^\n\x20-\x7e]", text)
    assert sum(line.startswith("epoch ") for line in text.splitlines()) == 3
    assert sorted(p.name for p in run.iterdir()) == [
        ".hydra",
        "checkpoints",
        "metrics.csv",
        "metrics_groups.csv",
        "summary.json",
        "train.log",
    ]


def test_the_best_checkpoint_gives_the_reported_test_numbers(trained):
    """From best.pt alone, with a plain PyTorch model and scikit-learn's own reading of the data."""
    from sklearn.datasets import load_digits

    from data.digits import Digits
    from models import LayerList

    run = trained(*CGD, "train.epochs=3", "train.threads=1")
    best = torch.load(run / "checkpoints" / "best.pt", weights_only=True)
    config, facts = best["config"], best["facts"]
    model = LayerList(
        facts["input_shape"], facts["num_outputs"], **{k: v for k, v in config["model"].items() if k != "_target_"}
    )
    model.load_state_dict(best["model"])
    model.eval()

    settings = {k: v for k, v in config["data"].items() if k != "_target_"}
    x, y = Digits(**settings).load().splits["test"]
    images = load_digits().images
    for image in x[:20]:  # real digits, untouched
        assert (images == image.numpy()).all(axis=(1, 2)).any()
    with torch.no_grad():
        logits = model((x.float() - facts["mean"]) / facts["std"])
    accuracy = (logits.argmax(1) == y).float().mean().item()
    assert summary(run)["test"]["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    loss = torch.nn.functional.cross_entropy(logits, y).item()
    assert summary(run)["test"]["loss"] == pytest.approx(loss, rel=1e-4)
    assert best["best"] == summary(run)["best"]
    for name, p in best["model"].items():
        assert p.abs().max() <= 1 + 1e-6, name


def test_averages_are_over_samples_also_where_the_last_batch_is_small(cli, tmp_path):
    """With a step of 0 the running averages of an epoch are those of the initial model over all its samples."""
    from data.digits import Digits
    from models import MLP

    assert cli("optim.lr=0", "optim.momentum=0", "train.epochs=1", "data.batch_size=100", "hydra.run.dir=run")[0] == 0
    config = OmegaConf.to_container(OmegaConf.load(tmp_path / "run" / ".hydra" / "config.yaml"))
    dataset = Digits(**{k: v for k, v in config["data"].items() if k != "_target_"}).load()
    torch.manual_seed(0)
    model = MLP((1, 8, 8), 10, **{k: v for k, v in config["model"].items() if k != "_target_"}).double()
    final = summary(tmp_path / "run")["final"]
    for split in ("train", "val"):
        x, y = dataset.batch(split, slice(None))
        with torch.no_grad():
            logits = model(x.double())
        assert final[f"{split}/loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, y).item(), rel=1e-5)
        assert final[f"{split}/accuracy"] == pytest.approx((logits.argmax(1) == y).double().mean().item(), abs=1e-9)


def test_same_seed_same_bits_other_seed_other_weights(cli, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert cli("train.epochs=1", "data=iris", "train.threads=1", f"seed={seed}", f"hydra.run.dir={name}")[0] == 0
    assert rows(tmp_path / "a") == rows(tmp_path / "b") != rows(tmp_path / "c")


def test_splits_depend_on_split_seed_alone(cli, tmp_path):
    """Told apart by the mean of the training split."""

    def mean(override):
        run = override.replace("=", "")
        assert cli("train.epochs=1", "data=iris", override, f"hydra.run.dir={run}")[0] == 0
        return torch.load(tmp_path / run / "checkpoints" / "best.pt", weights_only=True)["facts"]["mean"].tolist()

    first = mean("seed=0")
    assert mean("seed=1") == first
    assert mean("data.split_seed=1") != first


def test_no_validation_and_no_test_split(cli, tmp_path):
    code, text = cli("data.val_fraction=0", "data.test_fraction=0", "train.epochs=2")
    assert code == 0, text
    s = summary(only_run(tmp_path))
    assert s["test"] is None
    assert s["best"]["metric"] == "train/loss"
    assert s["final"].keys() >= {"train/loss"}
    frame = table(only_run(tmp_path))
    assert frame["val/loss"].isna().all()
    assert frame["step"][0] == 57  # ceil(1797 / 32): all samples train


def test_monitor_maximizes_accuracy_and_ties_keep_the_earliest(cli, tmp_path):
    """With a step of 0 every epoch ties on the validation split."""
    options = ["train.monitor=val/accuracy", "optim.momentum=0"]
    assert cli(*options, "optim.lr=0", "train.epochs=3", "hydra.run.dir=tie")[0] == 0
    assert table(tmp_path / "tie")["val/accuracy"].nunique() == 1
    assert summary(tmp_path / "tie")["best"]["epoch"] == 1
    assert cli(*options, "train.epochs=8", "hydra.run.dir=run")[0] == 0
    accuracy = table(tmp_path / "run")["val/accuracy"]
    expected = {"metric": "val/accuracy", "value": accuracy.max(), "epoch": accuracy.idxmax() + 1, "mode": "max"}
    assert summary(tmp_path / "run")["best"] == expected


def test_divergence_is_a_result(cli, tmp_path):
    code, text = cli("optim.lr=1e12", "hydra.run.dir=run")
    assert code == 3
    assert "diverged: the loss or a weight is NaN or infinite in epoch 1; no epoch was finished" in text
    assert "Traceback" not in text
    s = summary(tmp_path / "run")
    assert (s["status"], s["epochs"], s["steps"], s["test"]) == ("diverged", 0, 0, None)
    assert s["error"] == "the loss or a weight is NaN or infinite in epoch 1"
    code, text = cli("optim.lr=1e12", "hydra.run.dir=run")
    assert code == 3
    assert text.startswith("diverged already")


def test_divergence_keeps_the_last_good_checkpoint(cli, tmp_path):
    """A run that ended well goes on with weights that are made to overflow in the next epoch."""
    assert cli("train.epochs=2", "hydra.run.dir=run")[0] == 0
    last = tmp_path / "run" / "checkpoints" / "last.pt"
    state = torch.load(last, weights_only=True)
    state["optimizer"]["param_groups"][0]["lr"] = 1e20
    checkpoint.save(last, "last", state)
    kept = last.read_bytes()
    code, text = cli("train.resume=run", "train.epochs=4")
    assert code == 3, text
    assert "the checkpoint of epoch 2 is kept" in text
    assert last.read_bytes() == kept
    s = summary(tmp_path / "run")
    assert (s["status"], s["epochs"], s["steps"]) == ("diverged", 2, 82)
    assert [row[0] for row in rows(tmp_path / "run")] == ["epoch", "1", "2"]


def test_a_finished_run_is_returned_at_once(cli, tmp_path):
    options = ["train.epochs=1", "hydra.run.dir=run"]
    assert cli(*options)[0] == 0
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.glob("run/**/*") if p.is_file()}
    code, text = cli(*options)
    assert code == 0
    assert text.startswith("finished already")
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in before} == before


def test_another_configuration_in_a_used_directory(cli, tmp_path):
    assert cli("train.epochs=1", "hydra.run.dir=run")[0] == 0
    before = {p: p.read_bytes() for p in tmp_path.glob("run/**/*") if p.is_file()}
    code, text = cli("train.epochs=1", "optim.lr=0.01", "hydra.run.dir=run")
    assert code == 2
    assert "holds a run with another configuration (optim.lr is 0.05 there and 0.01 here); nothing was changed" in text
    assert {p: p.read_bytes() for p in before} == before


@pytest.mark.slow
def test_runs_that_start_together_get_directories_of_their_own(start, tmp_path):
    jobs = [start("train.epochs=1", "train.threads=1", "data=iris") for _ in range(6)]
    results = [job.wait() for job in jobs]
    assert [code for code, _ in results] == [0] * 6
    runs = list(tmp_path.glob("outputs/*/*"))
    assert len(runs) == 6
    assert all(summary(run)["status"] == "finished" for run in runs)


def test_initial_weights_outside_the_set_are_shifted_and_named(cli, tmp_path):
    code, text = cli("optim=cgd", "constraint.radius=0.01", "train.epochs=1", "hydra.run.dir=run")
    assert code == 0, text
    assert "initial parameters were outside the set: net.1.weight" in text
    model = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["model"]
    assert max(p.abs().max().item() for p in model.values()) <= 0.01 * (1 + 1e-6)


@pytest.mark.parametrize("optim", ["sgd", "adam"])
def test_constraint_composes_with_projected_optimizers(cli, tmp_path, optim):
    code, text = cli(
        f"optim={optim}", "constraint=linf", "constraint.radius=0.05", "train.epochs=2", "hydra.run.dir=run"
    )
    assert code == 0, text
    model = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["model"]
    assert max(p.abs().max().item() for p in model.values()) <= torch.tensor(0.05)
    assert "optim/fw_gap" not in rows(tmp_path / "run")[0]


CHOICES = [
    (f.parent.name, f.stem)
    for f in sorted((ROOT / "conf").glob("*/*.yaml"))
    if f.parent.name != "experiment" or f.stem == "digits_cnn_cgd"  # the others have tests/test_recipes.py
    if not re.fullmatch(r"vgg1[369]|resnet\d\d+", f.stem) or f.stem == "resnet18"  # test_models has the large
    if f.stem not in ("tensorboard", "wandb", "mlflow")  # tests/training/test_trackers.py
]
SETS = [c for c in CHOICES if c[0] == "constraint"]


@pytest.mark.parametrize(
    "choices",
    [
        pytest.param([c for c in CHOICES if c not in SETS], id="others", marks=pytest.mark.slow),
        pytest.param(SETS, id="sets", marks=pytest.mark.slow),
    ],
)
def test_every_choice_of_every_group_trains(cli, tmp_path, choices):
    """One choice at a time against the defaults, read from conf/: a YAML that does not work is found here."""
    files = write_each(tmp_path)
    needed = {("data", choice): options for choice, options in files.items()}
    few = ["data.limit=20", "data.batch_size=10"]
    needed |= {("model", name): few for group, name in choices if name.startswith(("resnet", "wrn"))}
    needed |= {
        ("model", name): ["data=mnist", *files["mnist"], *few, "model.head=small"]
        for group, name in choices
        if name.startswith("vgg")
    }
    needed["model", "cnn_small"] = ["data=cifar10", *files["cifar10"]]
    needed["model", "mlp_deep"] = ["optim.lr=1e-3"]  # more diverges
    for objective, data in (
        ("binary_cross_entropy", "breast_cancer"),
        ("multilabel", "multilabel"),
        ("multi_task", "multitask"),
        ("mse", "apartments"),
        ("mae", "apartments"),
        ("huber", "apartments"),
    ):
        needed["objective", objective] = [f"data={data}"]
    needed |= {
        ("constraint", name): ["optim=cgd", "data.limit=100"] for group, name in choices if group == "constraint"
    }
    coded = ["model=autoencoder", "data.normalize=scale"]
    needed["model", "autoencoder"] = needed["objective", "reconstruction"] = [*coded, "objective=reconstruction"]
    needed["objective", "elbo"] = [*coded, "model.variational=true"]
    needed["model", "vae_conv"] = ["data=mnist", *files["mnist"], *few, "objective=elbo", "data.normalize=scale"]
    needed["constraint", "none"] = []
    for surface in ("sphere", "stiefel"):  # a conditional gradient step would leave it
        needed["constraint", surface] = ["data.limit=100"]
    told, drawn = ["model=transformer", "data.samples=100"], ["data.size=16", "data.steps=2"]
    needed["data", "sequences"] = needed["data", "addition"] = told
    needed["model", "transformer"] = needed["objective", "next_token"] = [*told[1:], "data=sequences"]
    needed["objective", "next_token"] += told[:1]
    (tmp_path / "pairs.tsv").write_text("".join(f"a {k}\tb {k}\n" for k in range(20)))
    needed["data", "sentence_pairs"] = ["data.path=pairs.tsv", *told[:1]]
    needed["model", "conditional_autoencoder"] = ["data=market", "data.days=100"]
    needed["data", "photo"] = [*drawn, "model=pixels", "objective=style"]
    needed["model", "pixels"] = [*drawn, "data=photo", "objective=style"]
    needed["objective", "style"] = [*drawn, "data=photo", "model=pixels"]
    needed["model", "gan"] = [*few, "objective=gan", "data.normalize=scale"]
    needed["objective", "gan"] = needed["objective", "wgan"] = [*few, "model=gan", "data.normalize=scale"]
    for name in ("gan_28", "dcgan", "wgan"):
        needed["model", name] = ["data=mnist", *files["mnist"], *few, "objective=gan", "data.normalize=scale"]
    square = ["model.widths=[64]", "constraint.apply_to=*.1.weight"]  # 64 x 64
    needed["constraint", "birkhoff"] = ["optim=cgd", "data.limit=100", *square]
    for group, choice in choices:
        options = [*needed.get((group, choice), ()), "train.epochs=1", f"hydra.run.dir={group}_{choice}"]
        code, text = cli(f"{group}={choice}", *options)
        assert code == 0, (group, choice, text)
        shutil.rmtree(tmp_path / f"{group}_{choice}")  # the larger ones leave much


@pytest.mark.parametrize(
    ("argv", "accuracy"),
    [
        (CGD, 0.95),  # the command of the README
        (["data=digits", "optim=sgd", "train.epochs=5"], 0.8),
        (["data=digits", "optim=adam", "train.epochs=5"], 0.8),
        (["data=digits", "optim=cgd", "train.epochs=10"], 0.8),
        (["data=iris", "optim=adam"], 0.8),
        (["data=wine", "optim=cgd"], 0.8),
    ],
)
def test_learns_better_than_the_largest_class(cli, tmp_path, argv, accuracy):
    code, text = cli(*argv, "hydra.run.dir=run")
    assert code == 0, text
    assert summary(tmp_path / "run")["test"]["accuracy"] > accuracy


def test_cgd_selects_linf_unless_told_otherwise(cli):
    def constraint(*argv):
        code, text = cli(*argv, "--cfg", "job")
        assert code == 0, text
        return OmegaConf.create(text).constraint

    assert constraint()._target_ is None
    assert constraint("optim=cgd") == LINF
    assert constraint("optim=cgd", "constraint.radius=3").radius == 3
    assert constraint("optim=cgd", "constraint=none")._target_ is None
    assert constraint("experiment=digits_cnn_cgd") == LINF
    assert constraint("experiment=digits_cnn_cgd", "constraint=none")._target_ is None


@pytest.mark.parametrize("sweeper", [(), ("hydra/sweeper=basic", "hydra/launcher=basic")])
def test_a_sweep_goes_on_after_a_divergence_which_is_a_result(cli, tmp_path, sweeper):
    code, text = cli("-m", "optim.lr=1e12,0.05", "train.epochs=1", *sweeper)
    assert code == 0, text
    statuses = [summary(p.parent)["status"] for p in sorted(tmp_path.glob("outputs/*/*/*/summary.json"))]
    assert statuses == ["diverged", "finished"]


def test_hydras_own_sweeper_goes_on_after_a_mistake(cli):
    code, text = cli("-m", "hydra/sweeper=basic", "hydra/launcher=basic", "optim.lr=abc,0.05", "train.epochs=1")
    assert code == 1
    assert "conga: optim.lr=abc: must be a number" in text
    assert text.count("status      finished") == 1


@pytest.mark.slow
def test_a_sweep_of_one_job_is_a_sweep(cli):
    assert cli("-m", "optim.lr=1e12", "train.epochs=1")[0] == 0
    assert cli("-m", "optim.lr=abc")[0] == 2


def test_flags_may_stand_between_overrides(cli, tmp_path):
    code, text = cli("train.epochs=1", "-m", "seed=0,1")
    assert code == 0, text
    assert len(list(tmp_path.glob("outputs/*/*_sweep/*/summary.json"))) == 2


def test_an_exception_inside_the_loop_is_a_failed_run(cli, tmp_path):
    """Exit status 1, one line on the terminal, the traceback in the run's own log; then it can go on."""
    code, text = cli("train.epochs=3", "hydra.run.dir=run", trip=("batch", 60, "raise"))
    assert code == 1, text
    assert text.endswith("\nconga: failed: RuntimeError: planted; the traceback is in run/train.log\n")
    assert "Traceback" not in text
    log = (tmp_path / "run" / "train.log").read_text()
    assert "Traceback (most recent call last)" in log
    assert log.endswith("RuntimeError: planted\n")
    s = summary(tmp_path / "run")
    assert (s["status"], s["error"], s["epochs"]) == ("failed", "RuntimeError: planted", 1)


def test_a_reader_that_goes_away_does_not_stop_the_run(start, tmp_path):
    os.mkfifo(tmp_path / ".output0")
    job = start("train.epochs=3", "hydra.run.dir=run")
    with job.log.open() as reader:
        assert reader.readline()
    assert job.zygote.ask(wait=job.pid)["status"] == 0
    assert summary(tmp_path / "run")["status"] == "finished"
    assert (tmp_path / "run" / "train.log").read_text().count("epoch ") >= 3


def test_csv_reads_back_exactly(cli, tmp_path):
    """Floats are written with the digits that read back to the same bits."""
    assert cli("train.epochs=2", "hydra.run.dir=run")[0] == 0
    with (tmp_path / "run" / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert {k: float(v) for k, v in last.items()} == summary(tmp_path / "run")["final"]


def test_a_logger_is_told_at_the_end_how_far_the_run_came(cli, tmp_path):
    """Also after epochs that follow each other too fast to be written to summary.json each."""
    code, text = cli("+logger.told._target_=users_own.Told", "train.epochs=7", "hydra.run.dir=run")
    assert code == 0, text
    told, written = (json.loads((tmp_path / name).read_text()) for name in ("told.json", "run/summary.json"))
    assert (told["epochs"], told["final"]["epoch"], told["status"]) == (7, 7, "finished")
    assert told["best"] == written["best"]
