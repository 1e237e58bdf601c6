"""Directories from somebody else: what they name is not run because they name it."""

import json
import shutil

import pytest
import yaml

from trainer.rundir import run_dir, trust

RUN = ("data=digits", "model=mlp", "data.limit=100", "train.epochs=1", "train.device=cpu")


# What Hydra's own list of forbidden names lets pass.
NAMES = (
    "pandas.read_pickle",
    "joblib.load",
    "numpy.load",
    "torch.load",
    "shutil.copyfile",
    "users_own.Mine",
    "os.system",
)


@pytest.fixture
def foreign(trained, tmp_path):
    """foreign(change) -> a copy of a run, both of whose copies of the configuration were changed alike."""

    def foreign(change):
        import torch

        from trainer.training import checkpoint

        run = shutil.copytree(trained(*RUN), tmp_path / "run")
        config = yaml.safe_load((run / ".hydra/config.yaml").read_text())
        change(config)
        (run / ".hydra/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        for kind in ("best", "last"):
            path = run / "checkpoints" / f"{kind}.pt"
            state = torch.load(path, weights_only=True) | {"config": config}
            checkpoint.save(path, kind, state)
        return run

    return foreign


@pytest.mark.parametrize("name", NAMES)
def test_no_command_runs_what_a_directory_names(command, foreign, tmp_path, name):
    run = foreign(lambda config: config["model"].update(_target_=name))
    (tmp_path / "x.npz").write_bytes(b"")
    for main, *more in (("evaluate",), ("predict", "x.npz"), ("robustness",), ("weights",)):
        code, text = command(main, str(run), *more)
        assert code == 2, text
        assert text.count("\n") == 1
        assert f"model._target_={name}" in text
        assert "--trust" in text


@pytest.mark.parametrize("group", ["data", "optim", "schedule", "objective", "train", "constraint", "logger.evil"])
def test_a_resume_runs_nothing_that_a_directory_names(cli, foreign, group):
    def change(config):
        node = config["logger"].setdefault("evil", {}) if group == "logger.evil" else config[group]
        node["_target_"] = "shutil.copyfile"

    run = foreign(change)
    code, text = cli(f"train.resume={run}", "train.epochs=2")
    assert code == 2, text
    assert text.count("\n") == 1
    assert f"{group}._target_=shutil.copyfile" in text
    assert "--trust" in text


def test_a_command_reads_only_what_it_needs(command, foreign, tmp_path):
    """Predictions of arrays build no data, so that those may be anybody's."""
    import numpy as np

    run = foreign(lambda config: config["data"].update(_target_="shutil.copyfile"))
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 1, 8, 8)))
    code, text = command("predict", str(run), "x.npz")
    assert code == 0, text
    code, text = command("evaluate", str(run))
    assert code == 2
    assert "data._target_=shutil.copyfile" in text


def test_references_and_names_of_another_group_are_refused(cli, foreign):
    def change(config):
        config["optim"]["lr"] = "${oc.env:HOME}"

    code, text = cli(f"train.resume={foreign(change)}", "train.epochs=2")
    assert code == 2
    assert "optim.lr=${oc.env:HOME} is a reference, and must be a value" in text


def test_names_count_for_their_own_group_only(tmp_path):
    trust.check(tmp_path, "model", {"_target_": "models.mlp.MLP"})
    for group, name in (("model", "optim.sgd"), ("model", "optuna.samplers.TPESampler"), ("model", ["models.mlp.MLP"])):
        with pytest.raises(trust.Untrusted, match=rf"{group}\._target_"):
            trust.check(tmp_path, group, {"_target_": name})
    with pytest.raises(trust.Untrusted, match=r"model\.activation\._target_"):
        trust.check(tmp_path, "model", {"_target_": "models.mlp.MLP", "activation": {"_target_": "torch.load"}})


def test_samplers_and_pruners_of_optuna_are_known(tmp_path):
    for group, name in (("sampler", "optuna.samplers.GPSampler"), ("pruner", "optuna.pruners.HyperbandPruner")):
        trust.check(tmp_path, f"hydra.sweeper.{group}", {"_target_": name})
    for name in ("optuna.samplers._base.os.system", "optuna.pruners.NopPruner", "optuna.load_study"):
        with pytest.raises(trust.Untrusted):
            trust.check(tmp_path, "hydra.sweeper.sampler", {"_target_": name})


def test_a_run_of_ones_own_class(cli, tmp_path):
    """The command line is trusted; later commands take the switch, and those that are printed have it."""
    start = [*RUN, "model._target_=users_own.Mine", "train.epochs=2", "hydra.run.dir=run"]
    assert cli(*start)[0] == 0
    code, text = cli(*start, "seed=1")
    assert code == 2
    assert text.endswith("or resume that run: python -m trainer resume run\n")  # whose it is, is not known here
    assert run_dir.resume_command(tmp_path / "run").endswith("run --trust")
    code, text = cli("train.resume=run")
    assert code == 2
    assert text.count("\n") == 1
    assert "model._target_=users_own.Mine" in text
    code, text = cli("train.resume=run", "--trust")
    assert code == 0, text


@pytest.fixture
def swept(cli, tmp_path):
    """The directory of a small sweep, from the test's own directory."""
    code, text = cli("-m", *RUN, "optim.lr=0.1,0.2", "sweep.workers=1", "hydra.sweep.dir=s")
    assert code == 0, text
    return tmp_path / "s"


@pytest.mark.slow
def test_a_sweep_runs_nothing_that_its_directory_names(command, swept):
    asked = json.loads((swept / "sweep.json").read_text())
    for at, value, key in (
        (("hydra", "launcher", "_target_"), "shutil.copyfile", "hydra.launcher._target_=shutil.copyfile"),
        (("hydra", "callbacks", "evil"), {"_target_": "shutil.copyfile"}, "hydra.callbacks.evil._target_"),
        (("hydra", "sweeper", "_target_"), "shutil.copyfile", "hydra.sweeper._target_"),
        (("hydra", "launcher", "setup"), ["touch boom"], "hydra.launcher.setup.0='touch boom'"),
        (("hydra", "launcher", "partition"), "x\ntouch boom", "hydra.launcher.partition="),
        (("hydra", "job", "env_set", "LD_PRELOAD"), "evil.so", "hydra.job.env_set.LD_PRELOAD='evil.so'"),
        (("sweep", "_target_"), "shutil.copyfile", "sweep._target_"),
        (("hydra", "sweeper", "params"), "${oc.create:'{a: 1}'}", "hydra.sweeper.params=${oc.create"),
        (("other", "_target_"), "shutil.copyfile", "config.other: a sweep keeps hydra and sweep only"),
        (("hydra", "launcher", "submitit_folder"), "/elsewhere/%j", "hydra.launcher.submitit_folder="),
    ):
        changed = json.loads(json.dumps(asked))
        node = changed["config"]
        for name in at[:-1]:
            node = node.setdefault(name, {})
        node[at[-1]] = value
        (swept / "sweep.json").write_text(json.dumps(changed))
        code, text = command("resume", "s")
        assert code == 2, text
        assert text.count("\n") == 1
        assert key in text
        assert "--trust" in text
        code, text = command("show", "s")  # builds no launcher
        assert code == (2 if at[0] == "sweep" else 0), text
    (swept / "sweep.json").write_text(json.dumps(asked))
    job = next(swept.glob("0_*"))
    config = yaml.safe_load((job / ".hydra/config.yaml").read_text())
    config["optim"]["_target_"] = "shutil.copyfile"
    (job / ".hydra/config.yaml").write_text(yaml.safe_dump(config))
    code, text = command("resume", "s")
    assert code == 2
    assert f"{job}/.hydra/config.yaml: optim._target_=shutil.copyfile" in text


def test_references_of_conf_are_known_and_no_others(tmp_path):
    trust.check(tmp_path, "data", {"root": "${oc.env:CONGA_DATA,'~/.cache/conga'}"})
    with pytest.raises(trust.Untrusted, match=r"data\.root="):
        trust.check(tmp_path, "data", {"root": "${oc.env:SECRET}"})


def test_a_trial_in_a_runs_directory_is_no_ones_word(cli, trained, tmp_path):
    """Also where the command line composes the run, and the directory has a trial that names something."""
    run = shutil.copytree(trained(*RUN), tmp_path / "s" / "run")
    (tmp_path / "s" / "study.log").touch()
    (run / "summary.json").write_text((run / "summary.json").read_text().replace('"finished"', '"interrupted"'))
    trial = {"number": 0, "metric": "val/loss", "maximize": False, "epochs": 1, "pruner": {"_target_": "os.getcwd"}}
    (run / ".hydra" / "trial.json").write_text(json.dumps(trial))
    code, text = cli(*RUN, f"hydra.run.dir={run}")
    assert (code, text.count("\n")) == (2, 1), text
    assert "trial.json: hydra.sweeper.pruner._target_=os.getcwd" in text


def test_what_changed_in_a_resume_refers_to_nothing(cli, trained, tmp_path):
    run = shutil.copytree(trained(*RUN), tmp_path / "run")
    (run / ".hydra" / "resumed.yaml").write_text("data.root: ${oc.env:HOME}\n")
    code, text = cli(f"train.resume={run}", "train.epochs=2")
    assert (code, text.count("\n")) == (2, 1), text
    assert "resumed.yaml: data.root=${oc.env:HOME} is a reference, and must be a value" in text


def test_a_linked_folder_is_not_written_into(command, trained, tmp_path):
    run = shutil.copytree(trained(*RUN), tmp_path / "run")
    (tmp_path / "out").mkdir()
    (run / "robustness").symlink_to(tmp_path / "out")
    code, text = command("robustness", str(run), "--tests=noise", "--limit=10")
    assert (code, text.count("\n")) == (2, 1), text
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.slow
def test_a_job_that_is_a_link_out_of_the_sweep_is_not_trained(cli, swept, tmp_path):
    (job,) = swept.glob("1_*")
    shutil.rmtree(job)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "metrics.csv").write_text("precious")
    job.symlink_to(tmp_path / "mine")
    code, text = cli("-m", *RUN, "optim.lr=0.1,0.2", "sweep.workers=1", "hydra.sweep.dir=s")
    assert code == 2, text
    assert "a link that leads out of the sweep's directory" in text
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["metrics.csv"]
