"""Sweeps: planned and checked before the first job, frozen, isolated, resumable by configuration."""

import json
import multiprocessing
import os
import shutil
import time

import pytest
import torch
from conftest import assert_same_run, rows, summary

from trainer.cli.config import register_resolvers
from trainer.cli.outcome import EXIT
from trainer.rundir import configuration, lock
from trainer.rundir.summary import Summary
from trainer.rundir.trust import CONF
from trainer.sweep.grid import Composer, expand, parse
from trainer.sweep.job import run_job

SHORT = ("train.epochs=2", "data=iris", "data.batch_size=16", "train.device=cpu")


TROUBLE = ("+objective.what=good", "objective._target_=users_own.Trouble", "+objective.once=null")


def jobs(folder):
    """Of a sweep's directory: name -> status, by number."""
    found = sorted(folder.glob("*/.hydra/config.yaml"), key=lambda p: int(p.parent.parent.name.partition("_")[0]))
    runs = [path.parent.parent for path in found]
    return {run.name: summary(run)["status"] if (run / "summary.json").exists() else "queued" for run in runs}


def test_jobs_are_the_runs_that_single_commands_make(cli, tmp_path):
    code, text = cli("-m", *SHORT, "optim=sgd,cgd", "seed=range(0,2)", "train.threads=1", "hydra.sweep.dir=s")
    assert code == 0, text
    names = ["0_optim-sgd_seed-0", "1_optim-sgd_seed-1", "2_optim-cgd_seed-0", "3_optim-cgd_seed-1"]
    assert jobs(tmp_path / "s") == dict.fromkeys(names, "finished")
    for name, overrides in (("0_optim-sgd_seed-0", ("seed=0",)), ("3_optim-cgd_seed-1", ("optim=cgd", "seed=1"))):
        assert cli(*SHORT, *overrides, "train.threads=1", f"hydra.run.dir=alone{name[0]}")[0] == 0
        assert_same_run(tmp_path / f"alone{name[0]}", tmp_path / "s" / name)
    lines = text.splitlines()
    assert lines[0] == "s: 4 jobs, 2 at a time"
    assert sorted(line.split()[0] for line in lines[1:5]) == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert "jobs        4 finished" in text
    table = (tmp_path / "s" / "sweep.csv").read_text().splitlines()
    assert table[0].startswith("name,optim,seed,constraint,optim.lr,status,error,")
    assert len(table) == 5
    assert (tmp_path / "s" / "sweep.png").read_bytes()[:4] == b"\x89PNG"


def test_what_an_experiment_sweeps_over(cli, tmp_path):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params: {seed: '1,2', optim: 'sgd,cgd'}\n"
    )
    code, text = cli("--config-dir=own", "experiment=mine", *SHORT, "optim=cgd", "hydra.sweep.dir=s")
    assert code == 0, text
    assert jobs(tmp_path / "s") == {"0_seed-1": "finished", "1_seed-2": "finished"}


def test_all_mistakes_are_said_before_the_first_job(cli, tmp_path):
    argv = ("-m", *SHORT, "optim=sgd,nope", "optim.lr=0.1,abc", "seed=0,1", "model.widths=[4],[0]", "data.limit=50,1")
    code, text = cli(*argv)
    assert code == 2
    lines = text.splitlines()
    assert lines[0] == "conga: 28 of 32 jobs cannot run, so none was started:"
    for words in (
        "optim=nope: no such choice",
        "optim.lr=abc: must be a number",
        "model.widths=[0]: must be a list of 1",
    ):
        assert words in text, text
    assert not (tmp_path / "outputs").exists() or not list((tmp_path / "outputs").glob("*/*"))


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("seed=-1,-1",), "conga: seed=-1: must be at least 0"),
        (("seed=1,2", "sweep.workers=0"), "conga: sweep.workers=0: must be at least 1"),
        (("seed=1,2", "modle=cnn"), "conga: modle=cnn: unknown key; did you mean model?"),
        (("seed=1,2", "sweep.worker=2"), "conga: sweep.worker=2: unknown key; did you mean sweep.workers?"),
        (("seed=1,2", "sweep.retries=many"), "conga: sweep.retries=many: must be a whole number"),
        (("seed=1,2", "sweep.metric=val/acuracy"), "conga: sweep.metric=val/acuracy: must be one of epoch, step, "),
        (("hydra.mode=MULTIRUN", "train.resume=x"), "conga: train.resume=x: resumes one run; leave out -m"),
        (("sweep.retries=1,2",), "conga: sweep.retries=1,2: applies to the whole sweep"),
        (("optim.lr=interval(0,1)",), "conga: optim.lr=interval(0,1): a grid takes values such as 1,2"),
        (("seed=1,2", "hydra/sweeper=basic"), "conga: hydra/launcher=workers: needs hydra/sweeper=grid"),
        (("seed=1,2", "hydra.sweep.dir=full"), "conga: hydra.sweep.dir=full: holds letter, but no sweep"),
    ],
)
def test_bad_input_is_one_line(cli, tmp_path, argv, line):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").touch()
    code, text = cli(*([] if "hydra.mode=MULTIRUN" in argv else ["-m"]), *SHORT, *argv)
    assert (code, text.count("\n")) == (2, 1), text
    assert text.startswith(line), text


@pytest.mark.slow
def test_files_edited_meanwhile_change_no_job(start, tmp_path):
    """Jobs are frozen when the sweep begins: a YAML that changes while the first trains is for the next sweep."""
    (tmp_path / "own" / "model").mkdir(parents=True)
    yaml = tmp_path / "own" / "model" / "mine.yaml"
    yaml.write_text("_target_: models.MLP\nwidths: [5]\ndropout: 0.0\n")
    argv = ("-m", "--config-dir=own", *SHORT, "model=mine", "seed=0,1,2", "sweep.workers=1", "hydra.sweep.dir=s")
    job = start(*argv, "train.epochs=20")
    while not (tmp_path / "s" / "0_seed-0" / "metrics.csv").exists():
        assert not job.over(), job.wait()
        time.sleep(0.005)
    yaml.write_text("_target_: models.MLP\nwidths: [7]\ndropout: 0.0\n")
    code, text = job.wait()
    assert code == 0, text
    widths = [configuration.frozen(tmp_path / "s" / f"{i}_seed-{i}")["model"]["widths"] for i in range(3)]
    assert widths == [[5]] * 3
    assert len({summary(tmp_path / "s" / f"{i}_seed-{i}")["parameters"] for i in range(3)}) == 1


TROUBLES = {
    "raise": ("failed", "RuntimeError: something of one's own"),
    "memory": ("failed", "MemoryError"),
    "exit": ("failed", "SystemExit: 0"),
    "end": ("failed", "its process ended with exit status 0 before the run did"),
    "kill": ("interrupted", "its process was ended by SIGKILL"),
}


def test_a_job_that_goes_wrong_costs_itself(cli, tmp_path):
    code, text = cli("-m", *SHORT, *TROUBLE, f"objective.what={','.join(TROUBLES)},good", "hydra.sweep.dir=s")
    assert code == 1, text
    for i, (what, (status, error)) in enumerate(TROUBLES.items()):
        run = tmp_path / "s" / f"{i}_objective.what-{what}"
        assert summary(run)["status"] == status, what
        assert summary(run)["error"].startswith(error), what
        assert f"{run.name}: {error}" in text.partition("jobs    ")[2], what
        traced = "Traceback (most recent call last)" in (run / "train.log").read_text()
        assert traced == (what in ("raise", "memory", "exit")), what
    assert summary(tmp_path / "s" / "5_objective.what-good")["status"] == "finished"
    assert "Traceback" not in text
    assert "to resume:\n  python -m trainer resume s --trust\n" in text  # for a class of the test's own


def test_what_failed_comes_again_on_request_and_what_was_killed_anyway(cli, tmp_path):
    once = "objective.once=${objective.what}"
    argv = ("-m", *SHORT, *TROUBLE, "objective.what=raise,kill", once, "hydra.sweep.dir=s")
    assert cli(*argv)[0] == 1
    assert list(jobs(tmp_path / "s").values()) == ["failed", "interrupted"]
    assert cli(*argv)[0] == 1
    assert list(jobs(tmp_path / "s").values()) == ["failed", "finished"]
    code, text = cli(*argv, "sweep.rerun_failed=true")
    assert code == 0, text
    assert list(jobs(tmp_path / "s").values()) == ["finished", "finished"]


def test_a_job_is_tried_again(cli, tmp_path):
    argv = ("-m", *SHORT, *TROUBLE, "objective.what=kill", "objective.once=flag", "seed=0", "hydra.sweep.dir=s")
    code, text = cli(*argv, "sweep.retries=1")
    assert code == 0, text
    assert "tried again" in text
    assert list(jobs(tmp_path / "s").values()) == ["finished"]


def test_the_first_failure_may_stop_the_others(cli, tmp_path):
    argv = ("-m", *SHORT, *TROUBLE, "objective.what=raise,good", "seed=0,1", "hydra.sweep.dir=s", "sweep.workers=1")
    code, text = cli(*argv, "sweep.fail_fast=true")
    assert code == 1, text
    assert list(jobs(tmp_path / "s").values()) == ["failed", "queued", "queued", "queued"]
    assert "sweep.fail_fast=true: the other jobs are stopped" in text


def test_nothing_of_a_job_is_left_for_the_next(cli, tmp_path):
    argv = ("-m", *SHORT, *TROUBLE, "objective.what=leak,look,good", "sweep.workers=1", "hydra.sweep.dir=s")
    code, text = cli(*argv)
    assert code == 0, text
    assert cli(*SHORT, *TROUBLE, "hydra.run.dir=alone")[0] == 0
    assert_same_run(tmp_path / "alone", tmp_path / "s" / "2_objective.what-good")


def test_a_sweep_goes_on_by_configuration(cli, tmp_path):
    """Finished jobs are skipped whatever their number; a grid that has grown adds jobs; doubles are one job."""
    s = tmp_path / "s"
    assert cli("-m", *SHORT, "optim.lr=0.1,0.2", "seed=0,1", "hydra.sweep.dir=s")[0] == 0
    before = {name: (s / name / "train.log").stat().st_mtime_ns for name in jobs(s)}
    code, text = cli("-m", *SHORT, "seed=1,2", "optim.lr=0.3,0.2,0.20", "hydra.sweep.dir=s")
    assert code == 0, text
    assert text.startswith("s: 4 jobs, 1 of them done")
    assert list(jobs(s))[4:] == ["4_seed-1_optim.lr-0.3", "5_seed-2_optim.lr-0.3", "6_seed-2_optim.lr-0.2"]
    assert {name: (s / name / "train.log").stat().st_mtime_ns for name in before} == before
    code, text = cli("-m", *SHORT, "seed=1,2", "optim.lr=0.3,0.2", "hydra.sweep.dir=s")
    assert (code, "4 jobs, 4 of them done" in text) == (0, True), text
    assert json.loads((s / "sweep.json").read_text())["swept"] == ["optim.lr", "seed"]


def test_checkpoints_of_the_best_are_kept(cli, tmp_path):
    argv = ("-m", *SHORT, "seed=0,1,2,3", "hydra.sweep.dir=s", "sweep.keep_checkpoints=2")
    assert cli(*argv, "sweep.metric=test/loss")[0] == 0
    losses = {run.name: summary(run)["test"]["loss"] for run in (tmp_path / "s").glob("*_*")}
    kept = {p.parent.parent.name for p in (tmp_path / "s").glob("*/checkpoints/best.pt")}
    assert kept == set(sorted(losses, key=losses.get)[:2])
    assert cli(*argv, "sweep.metric=test/loss")[0] == 0  # and nothing is done again
    assert cli("-m", *SHORT, "seed=0,1", "hydra.sweep.dir=t", "sweep.keep_checkpoints=0")[0] == 0
    assert not list((tmp_path / "t").glob("*/checkpoints"))


@pytest.mark.slow
def test_a_full_disk_costs_the_jobs_that_meet_it(cli, tmp_path):
    """No file may be larger than a small network's checkpoint."""
    argv = ("-m", *SHORT, "model.widths=[2],[9000]", "hydra.sweep.dir=s", "sweep.workers=1")
    code, text = cli(*argv, limit=200_000)
    assert code == 1, text
    assert jobs(tmp_path / "s") == {"0_model.widths-2": "finished", "1_model.widths-9000": "failed"}
    assert "File too large" in summary(tmp_path / "s" / "1_model.widths-9000")["error"]
    assert cli(*argv, "sweep.rerun_failed=true")[0] == 0
    assert list(jobs(tmp_path / "s").values()) == ["finished"] * 2


@pytest.mark.slow
def test_two_sweeps_in_one_directory_do_no_failure_twice(start, tmp_path):
    argv = ("-m", *SHORT, *TROUBLE, "objective.what=raise,good", "seed=0,1", "hydra.sweep.dir=s")
    both = [start(*argv), start(*argv)]
    assert [job.wait()[0] for job in both] == [1, 1]
    assert list(jobs(tmp_path / "s").values()) == ["failed"] * 2 + ["finished"] * 2
    for run in (tmp_path / "s").glob("*what-raise*"):
        assert (run / "train.log").read_text().count("Traceback") == 1, run


@pytest.mark.parametrize(
    ("status", "code", "outcome", "after"),
    [
        ("finished", 0, "finished", "finished"),
        ("finished", -9, "finished", "finished"),
        ("diverged", 3, "diverged", "diverged"),
        ("failed", 1, "failed", "failed"),
        ("interrupted", 0, "interrupted", "interrupted"),
        ("interrupted", 143, "interrupted", "interrupted"),
        ("running", 143, "interrupted", "interrupted"),
        (None, 143, "interrupted", None),
        ("running", 0, "failed", "failed"),
        (None, 0, "failed", "failed"),
        ("running", 7, "failed", "failed"),
        ("running", -9, "killed", "interrupted"),
        ("running", -15, "interrupted", "interrupted"),
        ("running", -35, "killed", "interrupted"),
        (None, -9, "killed", "interrupted"),
        ("failed", 75, "locked", "failed"),
    ],
)
def test_what_became_of_a_job(tmp_path, status, code, outcome, after):
    """By its summary and its exit status, whenever it ended."""
    from trainer.sweep.conduct import settle

    if status:
        Summary(tmp_path / "summary.json").update(status=status)
    assert settle(tmp_path, code) == outcome
    assert Summary.read(tmp_path).data.get("status") == after
    (tmp_path / "summary.json").write_text("{")
    assert settle(tmp_path, 1) == "damaged"


def test_a_job_whose_watcher_has_gone_is_waited_for(tmp_path):
    from trainer.sweep.conduct import settle

    Summary(tmp_path / "summary.json").update(status="running")
    with lock.locked(tmp_path):
        assert settle(tmp_path, 255) == "locked"
    assert settle(tmp_path, 255) == "failed"


@pytest.mark.slow
def test_two_sweeps_in_one_directory_share_the_jobs(start, tmp_path):
    argv = ("-m", *SHORT, "seed=range(0,4)", "train.epochs=10", "hydra.sweep.dir=s")
    both = [start(*argv), start(*argv)]
    for code, text in [job.wait() for job in both]:
        assert code == 0, text
    assert list(jobs(tmp_path / "s").values()) == ["finished"] * 4
    for run in (tmp_path / "s").glob("*_*"):
        assert (run / "train.log").read_text().count("epoch  1/10") == 1, run  # done once
        assert len(rows(run)) == 11


def test_a_sweep_is_what_has_a_sweep_json(cli, tmp_path, command):
    assert command("resume", "nowhere")[1].startswith("conga: nowhere: must be the directory of a run, with")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "sweep.json").write_text("[1,")
    code, text = command("show", "s")
    assert (code, text.count("\n")) == (2, 1)
    assert text.startswith("conga: s/sweep.json: not readable")
    code, text = command("resume", "s", "optim.lr=1")
    assert code == 2


def test_damaged_jobs_cost_themselves(cli, tmp_path):
    s = tmp_path / "s"
    argv = ("-m", *SHORT, "seed=0,1,2,3", "hydra.sweep.dir=s")
    assert cli(*argv)[0] == 0
    (s / "1_seed-1" / "summary.json").write_text("{")
    for name in ("2_seed-2", "3_seed-3"):
        (s / name / "summary.json").unlink()
        shutil.rmtree(s / name / "checkpoints")
    (s / "3_seed-3" / ".hydra" / "config.yaml").write_text("seed: [")
    code, text = cli("resume", "s")
    assert code == 1, text
    assert "Traceback" not in text
    assert "damaged     1_seed-1: summary.json" in text
    assert summary(s / "2_seed-2")["status"] == "finished"
    assert "3_seed-3" in text.partition("jobs  ")[2]
    asked = json.loads((s / "sweep.json").read_text())
    asked["config"]["hydra"]["sweeper"] = {"_target_": "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"}
    asked["config"]["hydra"]["sweeper"] |= {"max_batch_size": None, "params": None}
    (s / "sweep.json").write_text(json.dumps(asked))
    code, text = cli("resume", "s", "--trust")
    assert (code, text) == (2, "conga: s/sweep.json: its sweeper (BasicSweeper) cannot resume\n")


def test_a_job_without_its_configuration_fails_in_one_line(tmp_path):
    assert run_job(tmp_path) == EXIT["failed"]
    assert (tmp_path / "train.log").read_text() == f"failed: {tmp_path}/.hydra/config.yaml: gone\n"


@pytest.fixture
def composer():
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.utils import setup_globals
    from hydra.types import RunMode

    register_resolvers([])
    setup_globals()
    loader = ConfigLoaderImpl(create_config_search_path(str(CONF)))
    return Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))


@pytest.mark.parametrize(
    "overrides",
    [
        ["optim=cgd", "optim.lr=1e-3", "constraint.radius=2", "seed=3"],
        ["optim=cgd", "constraint=none", "constraint@_global_.constraint=l2"][:2],
        ["optim.lr=0.5", "optim=adam", "+optim.betas=[0.8,0.9]", "train.epochs=7"],
        ["experiment=digits_cnn_cgd", "model=mlp", "model.widths=[3,4]", "~schedule.warmup_steps"],
        ["logger=[csv,tensorboard]", "data=sine", "objective=mse", "objective.l2=1e-4"],
        ["optim={_target_: x, lr: 3}", "data.root='a b'", "++train.more={a: 1, b: [c]}", "model=cnn"],
    ],
)
def test_jobs_are_composed_as_hydra_composes_them(composer, overrides):
    """Against Hydra's own, which reads all YAML anew."""
    from omegaconf import OmegaConf

    expected = composer.loader.load_sweep_config(composer.master, overrides)
    del expected._content["hydra"], expected._content["sweep"]
    job = composer.job(overrides, overrides[:1])
    assert job.config == OmegaConf.to_container(expected, resolve=True)
    assert job.swept == tuple(overrides[:1])


def test_a_grid_is_that_of_hydra(composer):
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    arguments = ["optim=sgd,cgd", "seed=range(1,4)", "model=mlp", "optim.lr=choice(0.1,0.2)", "data.batch_size=32"]
    params = {"seed": "9", "train.epochs": 3}
    grid = expand(parse(composer.loader, params, arguments), params)
    assert grid.swept == ("seed", "optim", "optim.lr")
    assert len(set(grid.combinations)) == len(grid.combinations) == 12
    assert all(sorted(job)[0] == "data.batch_size=32" and "train.epochs=3" in job for job in grid.combinations)
    [expected] = BasicSweeper.split_arguments(parse(composer.loader, None, arguments), None)
    assert {frozenset(job) - {"train.epochs=3"} for job in grid.combinations} == set(map(frozenset, expected))


@pytest.mark.parametrize(
    ("settings", "gpus", "visible", "jobs", "expected"),
    [
        ({}, 0, None, 9, [(None, 1)] * 3),
        ({}, 0, None, 2, [(None, 1)] * 2),
        ({"workers": 1}, 0, None, 9, [(None, None)]),
        ({"workers": 5}, 0, None, 9, [(None, 1)] * 5),
        ({}, 2, None, 9, [("0", 1), ("1", 1)]),
        ({"jobs_per_gpu": 2}, 2, "4,GPU-7", 9, [("4", 1), ("GPU-7", 1), ("4", 1), ("GPU-7", 1)]),
        ({"jobs_per_gpu": 2, "workers": 3}, 2, None, 9, [("0", 1), ("1", 1), ("0", 1)]),
        ({"workers": 3}, 1, None, 9, [("0", 1)] * 3),
    ],
)
def test_where_jobs_compute(monkeypatch, settings, gpus, visible, jobs, expected):
    from omegaconf import OmegaConf

    from trainer.sweep.settings import SweepSettings
    from trainer.sweep.sweep import slots_of

    monkeypatch.setattr("trainer.sweep.sweep.cores", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    defaults = OmegaConf.to_container(OmegaConf.load(CONF / "sweep" / "default.yaml"))
    del defaults["_target_"]
    found = slots_of(SweepSettings(**defaults | settings), gpus, jobs)
    assert [(slot.gpu, slot.threads) for slot in found] == expected


def test_a_job_sees_its_gpu_and_its_threads(tmp_path, monkeypatch):
    """What a job's process has, by a task that writes it down."""
    from trainer.sweep import pool as pools

    monkeypatch.setattr(pools, "context", lambda: multiprocessing.get_context("fork"))
    pool = pools.Pool(what_is_there)
    pool.open([pools.Slot(gpu="3", threads=1), pools.Slot()])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pool.start(tmp_path / name)
    assert not pool.free
    while pool.busy:
        assert all(one.code == 0 for one in pool.ended(1.0))
    assert (tmp_path / "a" / "train.log").read_text() == "3 1\n"
    assert (tmp_path / "b" / "train.log").read_text().split()[0] == "None"


def what_is_there(path, asked):
    from trainer.training.device import TORCH_THREADS

    assert torch.get_num_threads() == TORCH_THREADS
    os.write(1, f"{os.environ.get('CUDA_VISIBLE_DEVICES')} {TORCH_THREADS}\n".encode())
    return 0
