"""``train.init_from`` and ``train.freeze``: what is taken, what stays, and that a resume needs the source no more."""

import re
import shutil
from hashlib import sha256

import pytest
import torch
from conftest import assert_same, rows, summary

from models.weights import training_mode
from optim import matching
from trainer.rundir.configuration import located

SHORT = ["train.epochs=1", "train.device=cpu", "data.batch_size=300"]  # 5 steps an epoch
NORMED = ["model=mlp", "model.widths=[16,16]", "model.norm=batch"]
STILL = ["optim.lr=0", "optim.momentum=0"]


def weights(run, kind="last"):
    return torch.load(run / "checkpoints" / f"{kind}.pt", weights_only=True)["model"]


@pytest.fixture
def source(trained):
    return trained(*NORMED, *SHORT, "seed=5")


def test_takes_the_same_names_and_shapes_and_says_which(cli, source, tmp_path):
    """Without steps, the weights are those of the source where they fit, and else those of a run without it."""
    wide = [*NORMED, *SHORT, *STILL, "model.widths=[16,24]"]
    code, text = cli(*wide, f"train.init_from={source}", "hydra.run.dir=run")
    assert code == 0, text
    assert cli(*wide, "hydra.run.dir=drawn")[0] == 0
    run, drawn, theirs = weights(tmp_path / "run"), weights(tmp_path / "drawn"), weights(source, "best")
    learned = [name for name in run if "running" not in name and "num_batches" not in name]
    same = [name for name in learned if run[name].shape == theirs[name].shape]
    assert same == ["net.1.weight", "net.1.bias", "net.2.weight", "net.2.bias", "net.7.bias"]
    for name in learned:
        assert torch.equal(run[name], (theirs if name in same else drawn)[name]), name
    found = summary(tmp_path / "run")["init_from"]
    assert found["sha256"] == sha256((source / "checkpoints" / "best.pt").read_bytes()).hexdigest()
    assert set(same) < set(found["taken"])
    assert [name for name in learned if name in found["anew"]] == [name for name in learned if name not in same]
    assert "start anew  7 tensors: net.4.weight (24 x 16; there 16 x 16), " in text
    assert not found["ignored"]
    assert "\nignored" not in text


def test_a_file_of_another_network_gives_what_fits(cli, source, tmp_path):
    options = ["model=mlp", "model.widths=[16]", *SHORT, *STILL]
    code, text = cli(*options, f"train.init_from={source}/checkpoints/last.pt", "hydra.run.dir=run")
    assert code == 0, text
    assert torch.equal(weights(tmp_path / "run")["net.1.weight"], weights(source)["net.1.weight"])
    assert re.search(r"\nignored     \d+ tensors: net.2.weight, net.2.bias, ", text)


HELD = {
    "decay": ["optim.weight_decay=0.1", "objective.l2=0.1"],
    "vertices": ["optim=cgd", "constraint=l2", "constraint.radius=0.01"],
    "projection": ["constraint=linf", "constraint.radius=1e-4", "train.ema=0.5"],
}


@pytest.mark.parametrize("how", HELD)
def test_frozen_parameters_stay(cli, source, tmp_path, how):
    """No step, no set, no decay; their norm keeps its statistics, and the one behind it learns new ones."""
    options = [*NORMED, *SHORT, f"train.init_from={source}", "train.freeze=[net.1.*,net.2.*]", *HELD[how]]
    code, text = cli(*options, "hydra.run.dir=run")
    assert code == 0, text
    before, after = weights(source, "best"), weights(tmp_path / "run")
    kept = [name for name in before if torch.equal(before[name], after[name])]
    assert kept == [name for name in before if name.startswith(("net.1.", "net.2."))]
    assert "frozen      4 tensors: net.1.weight, net.1.bias, net.2.weight, net.2.bias" in text
    assert "474 parameters and 1,072 frozen ones" in text  # 64 x 16 + 16 and 2 x 16; 16 x 16 + 16 and 32, 10 x 17
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)["optimizer"]
    assert sum(len(group["params"]) for group in state["param_groups"]) == 6


def test_only_norms_that_are_frozen_as_a_whole_are_at_rest():
    network = torch.nn.Sequential(*(torch.nn.BatchNorm1d(3, affine=affine) for affine in (True, True, True, False)))
    for p in [*network[0].parameters(), network[1].weight]:
        p.requires_grad_(False)
    x = torch.randn(8, 3) + 5
    training_mode(network)(x)
    moved = [bool(norm.running_mean.any()) for norm in network]
    assert moved == [False, True, True, True]
    torch.testing.assert_close(network[0](x), torch.nn.BatchNorm1d(3).eval()(x))  # not the batch's mean and variance


def test_patterns_are_those_of_a_constraint():
    names, xs = ("a.weight", "a.bias", "b.weight"), (torch.zeros(2, 2), torch.zeros(2), torch.zeros(2))
    assert matching("freeze", "weights", names, xs) == [True, False, False]
    assert matching("freeze", ["b.*", "*.bias"], names, xs) == [False, True, True]
    with pytest.raises(ValueError, match=r"freeze=c\.\*: must be all, weights, or match a name among a.weight"):
        matching("freeze", ["a.*", "c.*"], names, xs)


def test_resumes_exactly(goes_on, source):
    options = ["train.checkpoint_steps=1", "optim=sfw", "constraint=l2", "constraint.init_factor=3", "train.epochs=2"]
    freeze = "train.freeze=[net.1.*,net.2.*]"
    goes_on("batch", *NORMED, *SHORT, *options, freeze, f"train.init_from={source}", places=(1, 7))


def test_a_resume_does_without_the_source(cli, source, tmp_path):
    shutil.copytree(source, tmp_path / "source")
    options = [*NORMED, *SHORT, "constraint=l2", "constraint.init_factor=0.5", "train.init_from=source"]
    for name, epochs in (("whole", 2), ("run", 1)):
        assert cli(*options, f"train.epochs={epochs}", f"hydra.run.dir={name}")[0] == 0
    shutil.rmtree(tmp_path / "source")
    code, text = cli("resume", "run", "train.epochs=2")
    assert code == 0, text
    assert "\ninit " not in text
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "run"), "weights")
    assert [row[:6] for row in rows(tmp_path / "whole")] == [row[:6] for row in rows(tmp_path / "run")]
    assert summary(tmp_path / "run")["init_from"] == summary(tmp_path / "whole")["init_from"]


def test_a_run_without_a_checkpoint_starts_from_the_same_source_only(cli, source, tmp_path):
    shutil.copytree(source, tmp_path / "source")
    options = [*NORMED, *SHORT, "train.init_from=source", "hydra.run.dir=run"]
    assert cli(*options)[0] == 0
    for name in ("last", "best"):
        (tmp_path / "run" / "checkpoints" / f"{name}.pt").unlink()
    shutil.copy(source / "checkpoints" / "last.pt", tmp_path / "source" / "checkpoints" / "best.pt")
    code, text = cli("resume", "run", "train.epochs=2")
    assert (code, text.count("\n")) == (2, 1)
    assert "is not the checkpoint that the run started from, whose SHA-256 was" in text


def test_radii_go_by_the_loaded_weights(cli, source, tmp_path):
    options = ["optim=cgd", "constraint=l2", "constraint.init_factor=10", "model.widths=[16,24]", *NORMED[2:]]
    assert cli("model=mlp", *options, *SHORT, f"train.init_from={source}", "hydra.run.dir=run")[0] == 0
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    radius = {
        name: group["constraint"]["radius"]
        for group in state["optimizer"]["param_groups"]
        for name in group["param_names"]
    }
    theirs = weights(source, "best")
    for name in ("net.1.weight", "net.1.bias", "net.2.bias"):
        assert radius[name] == pytest.approx(10 * theirs[name].norm().item(), rel=1e-5), name
    drawn = (24 * 10 / (3 * 24)) ** 0.5  # of 24 x 10 entries uniform in +-1/sqrt(24)
    assert radius["net.7.weight"] == pytest.approx(10 * drawn, rel=0.05)


def test_a_sweep_over_both(cli, source, tmp_path):
    over = [f"train.init_from={source},null", "train.freeze=[],[net.1.*]"]
    code, text = cli("-m", *NORMED, *SHORT, *over, "hydra.sweep.dir=sweep", "sweep.workers=1")
    assert code == 0, text
    jobs = sorted(path for path in (tmp_path / "sweep").iterdir() if path.is_dir())
    assert ["init_from" in summary(job) for job in jobs] == [True, True, False, False]
    assert len({summary(job)["parameters"] for job in jobs}) == 2
    code, text = cli("-m", *NORMED, *SHORT, "train.freeze=[net.1.*],[net.9.*]", "hydra.sweep.dir=refused")
    assert code == 2
    assert "train.freeze=net.9.*: must be all, weights, or match a name among net.1.weight" in text
    assert not (tmp_path / "refused").exists()


def test_a_relative_place_is_that_of_the_start():
    assert located({"train": {"init_from": "a"}})["train"]["init_from"].startswith("/")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["train.init_from=" + "n" * 300], r"train\.init_from=n+…?: no such file or folder; looked for /"),
        (["train.init_from='~nobody_here'"], r"train\.init_from=~nobody_here: no such user; "),
        (["train.init_from=nowhere"], r"train.init_from=nowhere: no such file or folder; looked for /.*/nowhere$"),
        (["train.init_from=."], r"train.init_from=\.: must be the directory of a run that has a checkpoint, or a "),
        (["train.init_from=SOURCE/train.log"], r"train.init_from: .*train\.log: not a readable checkpoint"),
        (["train.init_from=SOURCE", "data=wine"], r"train.init_from=.*: no parameter has the same name and shape in "),
        (["train.init_from=SOURCE", "model=resnet18", "model.stem=imagenet", "model.pretrained=x.pth"],
         "train.init_from=.*: model.pretrained gives weights, too"),
        (["train.freeze=all"], r"train.freeze=all: leaves no parameter to train"),
        (["train.freeze=[net.1.*,nix]"], r"train.freeze=nix: must be all, weights, or match a name among net.1.w"),
        (["train.freeze=3"], r"train.freeze=3: must be text or a list of texts such as \[a,b\]"),
    ],
)  # fmt: skip
def test_refused(cli, source, tmp_path, options, line):
    options = [option.replace("SOURCE", str(source)) for option in options]
    if any("wine" in option for option in options):
        options.append("model.widths=[8]")
    network = [] if "model=resnet18" in options else NORMED
    code, text = cli(*network, *SHORT, *options, "hydra.run.dir=run")
    assert (code, text.count("\n")) == (2, 1), text
    assert re.match(f"conga: {line}", text), text
    assert not (tmp_path / "run").exists()


def test_a_damaged_source_is_refused(cli, source, tmp_path):
    shutil.copy(source / "checkpoints" / "best.pt", tmp_path / "bad.pt")
    bytes_ = bytearray((tmp_path / "bad.pt").read_bytes())
    bytes_[len(bytes_) // 2] ^= 1
    (tmp_path / "bad.pt").write_bytes(bytes_)
    code, text = cli(*NORMED, *SHORT, "train.init_from=bad.pt")
    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith("conga: train.init_from: bad.pt: not a readable checkpoint (")
