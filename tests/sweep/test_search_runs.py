"""Searches by the command line: what they find, what they prune, and that a kill of everything loses nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, assert_same_run, summary

optuna = pytest.importorskip("optuna", reason="needs the extra [optuna]")

from optuna.distributions import CategoricalDistribution as Choice  # noqa: E402
from optuna.distributions import FloatDistribution as Real  # noqa: E402
from optuna.trial import TrialState  # noqa: E402
from searched import SEARCH, config_of, curve, runs, trials  # noqa: E402

from trainer.sweep.plan import Plan  # noqa: E402


def test_mistakes_are_one_line_and_leave_nothing(cli, tmp_path):
    def line(*overrides):
        code, text = cli(*SEARCH, "hydra.sweep.dir=s", "hydra.sweeper.n_trials=2", *overrides)
        assert (code, text.count("\n")) == (2, 1), text
        assert not (tmp_path / "s").exists()
        return text

    lr = "optim.lr=interval(0.01,0.1)"
    assert "sweep.metric=val/nope: must be one of epoch, step, train/loss" in line(lr, "sweep.metric=val/nope")
    assert "optim.lr=0.1: " not in line("optim.lr=0.1")
    assert "applies to the whole search" in line(lr, "sweep.retries=0,1")
    assert "hydra/launcher=basic" in line(lr, "hydra/launcher=basic")
    assert "hydra.sweeper.n_trials=0: must be at least 1" in line(lr, "hydra.sweeper.n_trials=0")
    assert "did you mean hydra.sweeper.sampler.seed?" in line(lr, "+hydra.sweeper.sampler.sed=1")
    assert "optim.lr=abc: must be a number (no run can have optim.lr=abc)" in line("optim.lr=abc,0.1")
    assert "optim=sdg: no such choice; did you mean sgd?" in line("optim=sgd,sdg")
    assert "no such class" in line(lr, "hydra.sweeper.sampler._target_=optuna.samplers.Nope")
    assert "sweep.metric=null: the runs have different metrics" in line("train.monitor=val/loss,val/accuracy")
    assert "sweep.seeds=3: the search chooses seed; leave one of them out" in line("seed=1,2", "sweep.seeds=3")
    assert "sweep.seeds=0: must be at least 1" in line(lr, "sweep.seeds=0")
    code, text = cli("-m", "optim.lr=0.1,0.2", "sweep.seeds=3")
    assert text == "conga: sweep.seeds=3: is for hydra/sweeper=optuna; in a grid write 'seed=range(0,3)'\n"
    code, text = cli("-m", lr)
    assert (code, "hydra/sweeper=optuna" in text) == (2, True)


def test_pruning_ends_hopeless_runs(cli, tmp_path):
    """Rates of 1e-9 learn nothing; four in five are such. Those that are pruned have a test result, and stay over."""
    code, text = cli(
        *SEARCH, "optim.lr=choice(0.05,0.04,0.03,1e-9,2e-9,3e-9,4e-9)", "seed=range(0,1000)", "train.epochs=6",
        "hydra.sweeper.n_trials=10", "hydra/sweeper/sampler=random", "hydra.sweeper.sampler.seed=1",
        "hydra.sweeper.pruner.startup=2", "hydra.sweeper.pruner.warmup=2", "sweep.workers=1", "hydra.sweep.dir=s",
    )  # fmt: skip
    assert code == 0, text
    found = {n: summary(run) for n, run in runs(tmp_path / "s").items()}
    done = trials(tmp_path / "s")
    assert len(found) == len(done) == 10
    pruned = [t for t in done if t.state == TrialState.PRUNED]
    assert len(pruned) >= 2
    for t in done:
        s, values = found[t.number], curve(runs(tmp_path / "s")[t.number])
        assert s["status"] == "finished"
        assert list(t.intermediate_values.values()) == values
        assert list(t.intermediate_values) == list(range(1, len(values) + 1))
        if t in pruned:
            assert t.params["optim.lr"].endswith("e-09")
            assert s["epochs"] == 3  # the first after the warm-up
            assert s["stopped"] == "pruned in epoch 3: by val/loss, other trials are more promising"
            assert s["test"]["accuracy"] < 0.5
        else:
            assert (s["epochs"], s["stopped"]) == (6, None)
            assert t.value == min(values)
    assert f"pruned      {len(pruned)} of 10 runs" in text
    one = runs(tmp_path / "s")[pruned[0].number]
    code, text = cli(f'train.resume="{one}"')
    assert (code, "finished already; nothing to do" in text) == (0, True)


def test_a_diverged_run_is_a_result_and_the_best_can_be_repeated(cli, tmp_path):
    code, text = cli(*SEARCH, "optim.lr=1e12,0.05", "hydra.sweeper.n_trials=4", "train.epochs=2",
                     "sweep.metric=val/accuracy", "hydra.sweep.dir=s")  # fmt: skip
    assert code == 0, text
    assert {summary(r)["status"] for r in runs(tmp_path / "s").values()} == {"diverged", "finished"}
    [best] = [r for r in runs(tmp_path / "s").values() if summary(r)["status"] == "finished"]
    values = {t.value for t in trials(tmp_path / "s") if t.state == TrialState.COMPLETE}
    assert values == {max(curve(best, "val/accuracy"))}  # maximized by itself
    command = next(line for line in text.splitlines() if line.startswith("repeat")).split()[4:]
    assert cli(*command, "hydra.run.dir=again")[0] == 0
    assert_same_run(tmp_path / "again", best)


def test_by_a_test_metric_nothing_is_pruned(cli, tmp_path):
    code, text = cli(*SEARCH, "optim.lr=0.01,0.05", "hydra.sweeper.n_trials=2", "train.epochs=1",
                     "sweep.metric=test/accuracy", "hydra.sweep.dir=s")  # fmt: skip
    assert code == 0, text
    assert "test/accuracy is measured once, at the end of a run: nothing is pruned" in text
    for t in trials(tmp_path / "s"):
        if t.number in runs(tmp_path / "s"):
            assert t.value == summary(runs(tmp_path / "s")[t.number])["test"]["accuracy"]


def test_parameters_of_an_experiment_are_searched(cli, tmp_path):
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "tuned.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /optim: cgd\n"
        "hydra: {sweeper: {params: {optim.lr: 'tag(log,interval(1e-3,1))', constraint: 'linf,l2'}}}\n"
    )
    code, text = cli("--config-dir=own", *SEARCH, "experiment=tuned", "hydra.sweeper.n_trials=3", "train.epochs=1",
                     "constraint.radius=1", "hydra.sweep.dir=s")  # fmt: skip
    assert code == 0, text
    for t in trials(tmp_path / "s"):
        config = config_of(runs(tmp_path / "s")[t.number])
        assert (config["optim"]["lr"], config["constraint"]["radius"]) == (t.params["optim.lr"], 1)
        assert t.distributions == {
            "optim.lr": Real(1e-3, 1.0, log=True),
            "constraint": Choice(("linf", "l2")),
        }
    assert "python -m trainer --config-dir=" in text


def test_the_same_command_goes_on_and_another_one_is_refused(cli, tmp_path):
    space = (*SEARCH, "optim.lr=interval(0.01,0.1)", "train.epochs=1", "hydra.sweep.dir=s")
    assert cli(*space, "hydra.sweeper.n_trials=2")[0] == 0
    code, text = cli(*space, "hydra.sweeper.n_trials=3", "sweep.workers=1")
    assert code == 0, text
    assert "s: 3 jobs, 2 of them done" in text
    assert sorted(runs(tmp_path / "s")) == [0, 1, 2]
    for change in ("optim.lr=interval(0.01,0.2)", "train.epochs=2", "optim=cgd"):
        code, text = cli(*space, change)
        assert (code, text.count("\n")) == (2, 1), text
        assert "holds another search" in text
    code, text = cli("-m", "seed=0,1", "hydra.sweep.dir=g", "train.epochs=1")
    assert code == 0, text
    code, text = cli(*SEARCH, "seed=range(0,9)", "hydra.sweep.dir=g")
    assert (code, "holds the jobs of a grid" in text) == (2, True), text
    code, text = cli("-m", "seed=0,1", "hydra.sweep.dir=s", "train.epochs=1")
    assert (code, "holds a search" in text) == (2, True), text
    code, text = cli(*space, "sweep.metric=val/accuracy")
    assert (code, "sweep.metric=val/accuracy: the search in s has val/loss" in text) == (2, True), text


def test_a_damaged_run_costs_itself(cli, tmp_path):
    space = (*SEARCH, "optim.lr=interval(0.01,0.1)", "train.epochs=1", "hydra.sweep.dir=s")
    assert cli(*space, "hydra.sweeper.n_trials=3")[0] == 0
    (runs(tmp_path / "s")[0] / "summary.json").write_text("{")
    (runs(tmp_path / "s")[1] / ".hydra" / "config.yaml").write_text("a: [")
    (runs(tmp_path / "s")[2] / ".hydra" / "trial.json").write_text("[")
    code, text = cli(*space, "hydra.sweeper.n_trials=5")
    assert code == 1, text
    assert "summary.json: not readable as JSON" in text
    assert [t.state for t in trials(tmp_path / "s")] == [TrialState.COMPLETE] * 5
    assert [summary(runs(tmp_path / "s")[n])["status"] for n in (1, 2, 3, 4)] == ["finished"] * 4


@pytest.mark.parametrize(("seeds", "others"), [(1, ["train.epochs=2"]), (2, ["seed=3", "sweep.seeds=1"])])
def test_a_lost_plan_is_made_again_by_the_same_command_only(cli, tmp_path, seeds, others):
    space = (*SEARCH, "optim.lr=interval(0.01,0.1)", "hydra.sweep.dir=s", "train.epochs=1", f"sweep.seeds={seeds}")
    assert cli(*space, "hydra.sweeper.n_trials=2")[0] == 0
    plan = Plan.read(tmp_path / "s")
    for name in ("search.json", "sweep.json"):
        (tmp_path / "s" / name).unlink()
    for other in others:
        code, text = cli(*space, "hydra.sweeper.n_trials=2", other)
        assert (code, text.count("\n")) == (2, 1), text
        assert "s: search.json is gone, and 0_" in text
    code, text = cli(*space, "hydra.sweeper.n_trials=3")
    assert code == 0, text
    again = Plan.read(tmp_path / "s")
    assert (again.dimensions, again.constants, again.metric) == (plan.dimensions, plan.constants, plan.metric)
    assert again.seeds == plan.seeds == seeds
    assert [t.state for t in trials(tmp_path / "s")] == [TrialState.COMPLETE] * 3


@pytest.mark.parametrize("what", ["raise", "kill"])
def test_a_run_that_fails_is_failed_and_one_that_was_killed_goes_on(cli, tmp_path, what):
    trouble = ("+objective.once=flag", "objective._target_=users_own.Trouble", f"+objective.what={what}")
    argv = (*SEARCH, *trouble, "data=iris", "data.batch_size=16", "optim.lr=interval(0.01,0.1)", "train.epochs=2",
            "hydra.sweeper.n_trials=3", "hydra.sweep.dir=s", "sweep.workers=1")  # fmt: skip
    code, text = cli(*argv)
    assert code == 1, text
    states = [t.state.name for t in trials(tmp_path / "s")]
    assert states == [{"raise": "FAIL", "kill": "RUNNING"}[what], "COMPLETE", "COMPLETE"]
    assert cli(*argv)[0] == {"raise": 1, "kill": 0}[what]
    code, text = cli(*argv, "sweep.rerun_failed=true")
    assert code == 0, text
    assert [summary(r)["status"] for r in runs(tmp_path / "s").values()] == ["finished"] * 3
    states = [t.state.name for t in trials(tmp_path / "s")]
    assert states == [{"raise": "FAIL", "kill": "COMPLETE"}[what], "COMPLETE", "COMPLETE"]


def test_a_run_that_fails_is_tried_again(cli, tmp_path):
    trouble = ("+objective.once=flag", "objective._target_=users_own.Trouble", "+objective.what=raise")
    code, text = cli(*SEARCH, *trouble, "data=iris", "data.batch_size=16", "optim.lr=interval(0.01,0.1)",
                     "train.epochs=2", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=s", "sweep.retries=1")  # fmt: skip
    assert code == 0, text
    assert [t.state.name for t in trials(tmp_path / "s")] == ["COMPLETE"] * 2


def test_two_commands_do_not_share_a_search(start, cli, tmp_path):
    space = (*SEARCH, "optim.lr=interval(0.01,0.1)", "hydra.sweep.dir=s", "hydra.sweeper.n_trials=3", "sweep.workers=1")
    job = start(*space, "train.epochs=30")
    while not list(tmp_path.glob("s/*/metrics.csv")):
        assert not job.over(), job.wait()
        time.sleep(0.01)
    code, text = cli(*space, "train.epochs=30")
    assert (code, "another process runs this search" in text) == (2, True), text
    job.send(signal.SIGINT)
    code, text = job.wait()
    assert code == 130, text
    assert "python -m trainer resume s" in text


def kill_all(folder):
    """Kills every process that works in `folder`."""
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if Path(os.readlink(link)) == folder and int(link.parent.name) != os.getpid():
                os.kill(int(link.parent.name), signal.SIGKILL)
        except OSError:  # over meanwhile
            continue


@pytest.mark.slow
def test_everything_killed_again_and_again(cli, tmp_path):
    """Real commands, killed whole at moments spread over the search; `resume` alone ends it, as if never disturbed."""
    space = (*SEARCH, "optim.lr=tag(log,interval(1e-4,1))", "model.widths=[16],[32]", "train.epochs=8",
             "hydra.sweeper.n_trials=10", "hydra.sweeper.pruner.startup=3", "sweep.workers=1")  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "trainer", *space]

    def resume(*arguments):
        argv = [sys.executable, "-m", "trainer", "resume", "killed"]
        done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600)
        return done.returncode, done.stdout + done.stderr

    code, text = cli(*space, "hydra.sweep.dir=whole")
    assert code == 0, text
    kills = 0
    for rows in (3, 35):  # epochs of all runs together
        argv = [*command, "hydra.sweep.dir=killed"]
        job = subprocess.Popen(argv, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, start_new_session=True)
        while job.poll() is None:
            done = sum(f.read_bytes().count(b"\n") - 1 for f in tmp_path.glob("killed/*/metrics.csv"))
            if done >= rows:
                break
            time.sleep(0.002)
        kill_all(tmp_path)
        kills += job.wait() == -signal.SIGKILL
    assert kills == 2
    code, text = resume()
    assert code == 0, text
    a, b = (trials(tmp_path / name) for name in ("whole", "killed"))
    assert [(t.params, t.state, t.value, t.intermediate_values) for t in a] == [
        (t.params, t.state, t.value, t.intermediate_values) for t in b
    ]
    assert {t.state for t in a} == {TrialState.COMPLETE, TrialState.PRUNED}
    one, other = runs(tmp_path / "whole"), runs(tmp_path / "killed")
    assert one.keys() == other.keys()
    for number in one:
        assert one[number].name == other[number].name
        assert_same_run(one[number], other[number])
    for t in b:
        if t.state == TrialState.COMPLETE:
            assert t.value == min(curve(other[t.number]))
    code, text = resume()
    assert (code, "10 jobs, 10 of them done" in text) == (0, True), text


@pytest.mark.slow
@pytest.mark.parametrize("pruner", ["median", "hyperband", "none"])
def test_a_search_finds_a_good_rate_on_digits(cli, tmp_path, pruner):
    code, text = cli(*SEARCH, "optim=sgd", "optim.lr=tag(log,interval(1e-5,10))", "train.epochs=9", "data.limit=500",
                     "hydra.sweeper.n_trials=16", f"hydra/sweeper/pruner={pruner}", "hydra.sweep.dir=s")  # fmt: skip
    assert code == 0, text
    done = trials(tmp_path / "s")
    best = min((t for t in done if t.state == TrialState.COMPLETE), key=lambda t: t.value)
    assert 3e-3 < best.params["optim.lr"] < 1
    ended = [t for t in done if "pruned" in (summary(runs(tmp_path / "s")[t.number])["stopped"] or "")]
    assert bool(ended) == (pruner != "none")
