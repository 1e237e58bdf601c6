"""Runs with every kind of optimizer and set: what they log, whom they hold, and that they go on after a kill."""

import math

import pandas as pd
import pytest
import torch
from conftest import summary, training_of
from torch import nn

import conga
from data import Dataset, Facts, augment_seed, epoch_order
from optim import ORGFW, SVRF, LInf
from trainer.training.objectives import CrossEntropy
from trainer.training.second_point import SecondPoint

SHORT = ["train.epochs=2", "data.limit=300", "train.threads=1", "hydra.run.dir=run"]


def frame(run, name="metrics.csv"):
    return pd.read_csv(run / name)


# What the log says


def test_the_log_says_what_holds_each_parameter(cli, tmp_path):
    options = ["model=cnn", "optim=sfw", "constraint=spectral", "constraint.radius=2.5", "constraint.apply_to=weights"]
    code, text = cli(*options, *SHORT)
    assert code == 0, text
    table = {line[12:].split("  ")[0]: line.split() for line in text.splitlines() if " x " in line or "free" in line}
    assert table["net.4.weight"][-3:] == ["Spectral", "2.5", f"{2 * 2.5 * math.sqrt(50):.4g}"]  # 50 x 160
    assert table["net.0.weight"][-3:] == ["Spectral", "2.5", f"{2 * 2.5 * 3:.4g}"]  # 10 x 9: rank 9
    assert table["net.4.bias"][-1] == "free"


def test_what_a_vector_gets_instead_of_a_spectral_ball(cli, tmp_path):
    code, text = cli("optim=cgd", "constraint=spectral", "constraint.diameter=3", *SHORT)
    assert code == 0, text
    assert "net.1.bias, net.3.bias, net.5.bias: a vector has one singular value: the l2 ball instead of" in text
    assert any(line.split()[-3:] == ["L2", "1.5", "3"] for line in text.splitlines())


def test_a_large_k_is_capped_and_said(cli, tmp_path):
    code, text = cli("optim=cgd", "constraint=k_sparse", "constraint.k=50", *SHORT)
    assert code == 0, text
    assert "net.5.bias: k=50 is more than its 10 entries: 10" in text


def test_large_networks_keep_the_screen_short(cli, tmp_path):
    code, text = cli("model=resnet18", "optim=cgd", *SHORT[1:], "train.epochs=1", "data.limit=20", "data.batch_size=20")
    assert code == 0, text
    log = (tmp_path / "run" / "train.log").read_text()
    assert "and 50 more, in run/train.log" in text  # of 62
    assert sum("  LInf  " in line for line in log.splitlines()) == 62
    assert sum("  LInf  " in line for line in text.splitlines()) == 12


def test_init_factor_goes_by_the_mean_over_initializations(cli, tmp_path):
    """Of entries uniform in +-1/sqrt(64), 64 x 64 of them: the norm is sqrt(64 * 64 / (3 * 64))."""
    options = ["optim=cgd", "constraint=l2", "constraint.init_factor=10", "model.widths=[64]", "train.epochs=1"]
    radii = []
    for seed in range(3):
        assert cli(*options, f"seed={seed}", f"hydra.run.dir=run{seed}")[0] == 0
        state = torch.load(tmp_path / f"run{seed}" / "checkpoints" / "last.pt", weights_only=True)
        radii += [next(g["constraint"]["radius"] for g in state["optimizer"]["param_groups"])]
    assert radii == pytest.approx([10 * math.sqrt(64 / 3)] * 3, rel=0.01)


# What it measures


@pytest.mark.parametrize("constraint", ["linf", "l2", "nuclear"])
def test_measurements_in_total_and_by_parameter(cli, tmp_path, constraint):
    options = ["optim=cgd", f"constraint={constraint}", "constraint.init_factor=5", "constraint.apply_to=weights"]
    code, text = cli(*options, *SHORT)
    assert code == 0, text
    total, groups = frame(tmp_path / "run"), frame(tmp_path / "run", "metrics_groups.csv")
    assert list(groups["parameter"]) == ["net.1.weight", "net.3.weight", "net.5.weight"] * 2
    assert list(groups["epoch"]) == [1, 1, 1, 2, 2, 2]
    assert not groups.isna().any(axis=None)
    by_epoch = groups.groupby("epoch")
    assert by_epoch["fw_gap"].sum().tolist() == pytest.approx(total["optim/fw_gap"].tolist())
    assert (groups["fw_gap"] > 0).all()
    norms = by_epoch["step_norm"].apply(lambda column: math.sqrt((column**2).sum()))
    assert norms.tolist() == pytest.approx(total["optim/step_norm"].tolist())
    model = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["model"]
    weights = [model[f"net.{i}.weight"] for i in (1, 3, 5)]
    sparse = [(w.abs() <= 1e-3 * w.abs().max()).float().mean().item() for w in weights]
    assert groups["sparsity"][3:].tolist() == pytest.approx(sparse)
    if constraint == "nuclear":
        spectra = [torch.linalg.svdvals(w) for w in weights]
        ranks = [torch.distributions.Categorical(s / s.sum()).entropy().exp().item() for s in spectra]
        assert groups["effective_rank"][3:].tolist() == pytest.approx(ranks, rel=1e-4)
        assert total["optim/effective_rank"][1] == pytest.approx(sum(ranks) / 3, rel=1e-4)
    else:
        assert "effective_rank" not in groups


def test_optimizers_that_measure_nothing_leave_no_second_table(cli, tmp_path):
    assert cli("optim=muon", *SHORT)[0] == 0
    assert not (tmp_path / "run" / "metrics_groups.csv").exists()
    assert not any(c.startswith("optim/") and c != "optim/lr" for c in frame(tmp_path / "run"))


def test_a_plateau_lowers_the_rate(cli, tmp_path):
    """With lr 0 nothing improves: after two epochs without, the rate is halved, again and again."""
    options = ["schedule=plateau", "schedule.patience=1", "schedule.factor=0.5", "optim.lr=1e-30", "optim.momentum=0"]
    code, text = cli(*options, "train.epochs=8", *SHORT[1:])
    assert code == 0, text
    rates = [rate / 1e-30 for rate in frame(tmp_path / "run")["optim/lr"]]
    assert rates == pytest.approx([1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125])


# Settings by part

HALVES = "optim.of={net.1:{lr:0.02,momentum:0.5},net.5:{lr:0.03}}"


@pytest.mark.parametrize("constraint", ["none", "linf"])
def test_settings_of_parts_are_those_of_torchs_groups(cli, tmp_path, constraint):
    """Two steps on the whole data; patterns of the constraint may name parameters of several parts."""
    held = ["constraint=linf", "constraint.radius=0.1", "constraint.apply_to=[net.1.weight,net.3.weight]"]
    options = ["optim=sgd", "optim.lr=0.01", "optim.momentum=0", HALVES, "data.batch_size=2000", "data.val_fraction=0"]
    options += ["train.epochs=2", "train.keep=all", "train.threads=1", "train.device=cpu"]
    for name, epochs in (("start", 1), ("run", 2)):
        rate = [] if name == "run" else ["optim.lr=0", HALVES.replace("0.02", "0").replace("0.03", "0")]
        shape = held if constraint == "linf" else []
        code, text = cli(*options, *shape, *rate, f"train.epochs={epochs}", f"hydra.run.dir={name}")
        assert code == 0, text
    weights = torch.load(tmp_path / "start/checkpoints/last.pt")["model"]
    loaded = conga.load(tmp_path / "start")
    model, (x, y, *_) = loaded.network, loaded.dataset.batch("train", torch.arange(loaded.dataset.facts.sizes["train"]))
    model.load_state_dict(weights)
    parts = {"net.1": [], "net.5": [], "": []}
    for name, p in model.named_parameters():
        parts[name.rpartition(".")[0] if name.startswith(("net.1", "net.5")) else ""].append(p)
    rates = {"net.1": {"lr": 0.02, "momentum": 0.5}, "net.5": {"lr": 0.03}, "": {}}
    theirs = torch.optim.SGD([{"params": parts[part]} | rates[part] for part in parts], lr=0.01)
    for _ in range(2):
        theirs.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        theirs.step()
        if constraint == "linf":
            for name in ("net.1.weight", "net.3.weight"):
                model.get_parameter(name).data.clamp_(-0.1, 0.1)
    ours = torch.load(tmp_path / "run/checkpoints/last.pt")["model"]
    for name, p in model.state_dict().items():
        torch.testing.assert_close(ours[name], p, rtol=1e-4, atol=1e-6)
    last = frame(tmp_path / "run").iloc[-1]
    assert [last[f"optim/{name}"] for name in ("lr", "lr_net.1", "lr_net.5")] == [0.01, 0.02, 0.03]


@pytest.mark.parametrize(
    ("of", "line"),
    [
        ("3", "optim.of=3: must be a mapping, such as"),
        ("{net:3}", "optim.of.net=3: must be a mapping, such as"),
        ("{nat:{lr:1}}", "optim.of.nat: no trainable parameter begins so; there are net"),
        ("{net:{la:1}}", "optim.of.net.la=1: unknown key"),
        ("{net:{lr:a}}", "optim.of.net.lr=a: must be a number"),
        ("{net:{lr:-1}}", "optim.of.net.lr=-1: must be in [0, 1]"),
        ("{net:{gap_every:3}}", "optim.of.net.gap_every=3: CGD has one gap_every for all parameters"),
    ],
)
def test_a_mistake_in_a_setting_of_a_part_names_it(cli, tmp_path, of, line):
    code, text = cli("optim=cgd", f"optim.of={of}", "hydra.run.dir=run")
    assert (code, text.count("\n")) == (2, 1), text
    assert text.startswith(f"conga: {line}")
    assert not (tmp_path / "run").exists()


# Kill and resume


EVERY_KIND = [
    ["optim=svrf", "schedule=plateau"],
    ["optim=scion", "schedule=linear", "schedule.warmup_steps=2"],
    ["optim=orgfw", "schedule=one_cycle", "constraint=nuclear"],
    ["optim=adagrad_sfw", "constraint=l1", "constraint.apply_to=weights"],
    ["optim=sfw", "constraint=group_l1", "constraint.init_factor=3"],
    ["optim=muon", "schedule=exponential"],
    ["optim=adagrad", "optim.momentum=0.9", "constraint=l2"],
    ["optim=cgd", "optim.of={net.1:{lr:0.01},net.9:{lr:1e-3}}", "constraint.apply_to=[net.1.*]", "schedule=cosine"],
]


@pytest.mark.parametrize(
    ("options", "places"),
    [
        (EVERY_KIND[0], (2, 4)),  # in the first epoch's second batch, and in the second epoch's first
        pytest.param(EVERY_KIND[0], None, marks=pytest.mark.slow),  # in any
        *(pytest.param(options, (2, 4), marks=pytest.mark.slow) for options in EVERY_KIND[1:]),
    ],
)
def test_stopped_in_any_batch_goes_on_exactly(goes_on, options, places):
    """With dropout and batch normalization, whose random numbers and averages a second gradient must not disturb."""
    run = ["model.norm=batch", "model.dropout=0.3", "data.batch_size=650", "train.epochs=2", "train.threads=1"]
    stopped = goes_on("batch", *run, *options, "train.checkpoint_steps=1", "train.device=cpu", places=places)
    assert stopped >= (2 if places else 7)


# The second gradient


def training(optimizer_type, **options):
    """What SecondPoint needs of a run: a network with dropout and batch normalization, 50 samples in batches of 20."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    x, y = torch.randn(50, 6), torch.randint(0, 3, (50,))
    facts = Facts("random", "classification", (6,), 3, None, None, {"train": 50}, torch.zeros(()), torch.ones(()))
    optimizer = optimizer_type(model.parameters(), LInf(0.3), lr=0.01, **options)
    return training_of(model.train(), Dataset({"train": (x, y)}, facts, 20), CrossEntropy(facts), optimizer)


def first_batch(t):
    return next(iter(t.dataset.batches("train", epoch_order(50, 0, 0).split(20), augment_seed(0, 0), 0)))


def test_the_second_gradient_draws_the_same_numbers_and_moves_nothing():
    t = training(ORGFW)
    again, batch, xs = SecondPoint(t), first_batch(t), list(t.model.parameters())
    again.remember()
    loss, _ = t.objective(t.model, batch)
    loss.backward()
    buffers = [b.clone() for b in t.model.buffers()]
    state, weights = torch.get_rng_state(), [x.detach().clone() for x in xs]
    same = again.gradients([batch])([x.detach().clone() for x in xs])
    other = again.gradients([batch])([x.detach() + 0.1 for x in xs])
    for x, g, h in zip(xs, same, other, strict=True):
        assert torch.equal(x.grad, g)
        assert not torch.equal(g, h)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(t.model.buffers(), buffers, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(xs, weights, strict=True))


def test_the_full_gradient_is_the_mean_over_the_epochs_batches():
    t = training(SVRF)
    t.model[3].p = 0.0  # what it drops is drawn anew
    xs, order = list(t.model.parameters()), epoch_order(50, 0, 0)
    full = SecondPoint(t).full_gradient(list(order.split(20)))(xs)
    expected = [torch.zeros_like(x) for x in xs]
    for index in order.split(20):
        x, y = t.dataset.splits["train"][0][index], t.dataset.splits["train"][1][index]
        loss = nn.functional.cross_entropy(t.model(x), y)
        for total, g in zip(expected, torch.autograd.grad(loss, xs), strict=True):
            total += g * len(index) / 50
    for ours, theirs in zip(full, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_step_of_svrf_at_its_snapshot_follows_the_full_gradient(cli, tmp_path):
    """There the batch's own gradient cancels; one batch an epoch is the full gradient, so SVRF is plain CGD."""
    options = ["data.batch_size=2000", "train.epochs=3", "train.threads=1"]
    assert cli("optim=svrf", *options, "hydra.run.dir=svrf")[0] == 0
    assert cli("optim=cgd", "optim.momentum=0", *options, "hydra.run.dir=cgd")[0] == 0
    ours, plain = (summary(tmp_path / name)["final"] for name in ("svrf", "cgd"))
    assert ours["train/loss"] == pytest.approx(plain["train/loss"], rel=1e-5)


def test_an_optimizer_of_torch_needs_no_constraint(cli, tmp_path):
    """Of somebody's YAML: torch's class as it is, without a set; with one it is refused."""
    (tmp_path / "own" / "optim").mkdir(parents=True)
    (tmp_path / "own" / "optim" / "ada.yaml").write_text("_target_: torch.optim.Adadelta\nlr: 1.0\n")
    code, text = cli("--config-dir=own", "optim=ada", "train.epochs=1", "data.limit=100", "hydra.run.dir=run")
    assert code == 0, text
    state = torch.load(tmp_path / "run/checkpoints/last.pt", weights_only=True)["optimizer"]["state"]
    assert state[0].keys() == {"step", "square_avg", "acc_delta"}
    code, text = cli("--config-dir=own", "optim=ada", "constraint=l2", "train.epochs=1")
    assert (code, text.strip().splitlines()[-1]) == (
        2,
        "conga: optim._target_=torch.optim.Adadelta: takes no argument constraint; use constraint=none",
    )
