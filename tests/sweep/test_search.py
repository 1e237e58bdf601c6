"""Searches: where they look, what they find, what they prune, and that a kill of everything loses nothing."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, assert_same_run, summary
from hydra.core.override_parser.overrides_parser import OverridesParser

from trainer.cli.config import register_resolvers
from trainer.rundir.errors import Refused
from trainer.rundir.trust import CONF
from trainer.sweep.settings import SweepSettings

optuna = pytest.importorskip("optuna", reason="needs the extra [optuna]")

from optuna.distributions import CategoricalDistribution as Choice  # noqa: E402
from optuna.distributions import FloatDistribution as Real  # noqa: E402
from optuna.distributions import IntDistribution as Whole  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

from trainer.sweep.plan import Plan, compose_bases  # noqa: E402
from trainer.sweep.proposed import Asked, Proposed  # noqa: E402
from trainer.sweep.pruning import Trial, judge_of  # noqa: E402
from trainer.sweep.space import Dimension, corners, space_of  # noqa: E402

SEARCH = ("-m", "hydra/sweeper=optuna", "train.device=cpu", "train.threads=1")
TPE = {"_target_": "trainer.sweep.study.tpe", "seed": 0, "startup": 10}
RANDOM = {"_target_": "trainer.sweep.study.random", "seed": 0}
NONE = {"_target_": None}


def parsed(*lines):
    return OverridesParser.create().parse_overrides(list(lines))


def trials(folder):
    """Of the study in a directory, read by optuna alone."""
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.log"))
    return optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(backend)).trials


def runs(folder):
    """number -> directory"""
    return {int(p.parent.parent.name.partition("_")[0]): p.parent.parent for p in folder.glob("*/.hydra/config.yaml")}


def curve(run, column="val/loss"):
    with (run / "metrics.csv").open() as file:
        return [float(row[column]) for row in csv.DictReader(file)]


# ---- where it looks


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("optim=sgd,cgd", Choice(("sgd", "cgd"))),
        ("optim.lr=1e-3,0.1", Choice(("0.001", "0.1"))),
        ("model.widths=[16],[32,16]", Choice(("[16]", "[32,16]"))),
        ("x='a b',null", Choice(("'a b'", "null"))),
        ("x=choice(a,b,a)", Choice(("a", "b"))),
        ("seed=range(1,9)", Whole(1, 8)),
        ("x=range(16,65,step=16)", Whole(16, 64, step=16)),
        ("x=range(9,1,-2)", Whole(3, 9, step=2)),
        ("x=range(0.1,1,step=0.1)", Real(0.1, 0.9, step=0.1)),
        ("x=interval(0,0.99)", Real(0.0, 0.99)),
        ("x=interval(1,8)", Real(1.0, 8.0)),
        ("x=int(interval(1,8))", Whole(1, 8)),
        ("x=tag(log,interval(1e-5,1))", Real(1e-5, 1.0, log=True)),
        ("x=tag(log,int(interval(1,100)))", Whole(1, 100, log=True)),
    ],
)
def test_hydras_grammar_says_where_it_looks(line, expected):
    [override] = parsed(line)
    dimension = Dimension.of(override)
    assert dimension.distribution() == expected
    assert Dimension.plain(json.loads(json.dumps(dimension.__dict__))) == dimension


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("x=tag(log,interval(0,1))", "above 0"),
        ("x=interval(2,1)", "to a larger one"),
        ("x=interval(0,inf)", "to a larger one"),
        ("x=tag(log,choice(1,2))", "log goes with an interval"),
        ("x=tag(square,interval(1,2))", "only tag"),
        ("x=range(3,3)", "no value"),
    ],
)
def test_what_cannot_be_searched_is_refused(line, why):
    with pytest.raises(Refused, match=why):
        Dimension.of(parsed(line)[0])


def test_a_value_is_written_as_a_person_would():
    def text(line, value):
        return Dimension.of(parsed(line)[0]).override(value)

    assert text("x=range(0.1,1,step=0.1)", 0.1 + 2 * 0.1) == "x=0.3"
    assert text("x=interval(0,1)", 0.1 + 0.2) == "x=0.30000000000000004"  # the number itself
    assert text("+x=tag(log,interval(1e-9,1))", 1e-7) == "+x=1e-07"
    assert text("x=int(interval(1,8))", 3) == "x=3"


def test_of_two_of_a_key_the_later_counts_and_constants_stay():
    dimensions, constants = space_of(parsed("a=interval(0,1)", "b=1,2", "c=5", "a=0.5"))
    assert [d.key for d in dimensions] == ["b"]
    assert constants == ["c=5", "a=0.5"]


def test_corners_have_every_combination_or_every_choice():
    d, _ = space_of(parsed("a=x,y", "b=1,2", "c=interval(0,1)", "e=int(interval(2,3))"))
    found = corners(d)
    assert len(found) == len(set(found)) == 8
    assert ("a=x", "b=2", "c=0.0", "e=2") in found
    assert ("a=y", "b=1", "c=1.0", "e=3") in found
    many, _ = space_of(parsed(*(f"k{i}={','.join(map(str, range(9)))}" for i in range(6))))
    assert {o for point in corners(many) for o in point} == {f"k{i}={j}" for i in range(6) for j in range(9)}


# ---- what it finds: runs that are written by hand


@pytest.fixture(scope="module")
def composer():
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.utils import setup_globals
    from hydra.types import RunMode

    from trainer.sweep.grid import Composer

    register_resolvers([])
    setup_globals()
    loader = ConfigLoaderImpl(create_config_search_path(str(CONF)))
    return Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))


def queue(folder, composer, lines, *, n, sampler=TPE, maximize=False, impossible=lambda job: None, suspects=()):
    dimensions, constants = space_of(parsed(*lines))
    if not (folder / "search.json").exists():
        bases = compose_bases(composer, dimensions, constants)
        Plan(dimensions, constants, "val/loss", maximize, 30, [list(s) for s in suspects], bases).write(folder)
        (folder / "sweep.json").write_text('{"swept": [], "config": {}}')
    plan = Plan.read(folder)
    settings = SweepSettings(
        workers=1, jobs_per_gpu=1, fail_fast=False, retries=0, rerun_failed=False, keep_checkpoints="all",
        metric="val/loss", direction="maximize" if maximize else "minimize",
    )  # fmt: skip
    return Proposed(folder, plan, Asked(n, sampler, NONE, None), settings, impossible, None)


def config_of(run):
    from trainer.rundir.configuration import frozen

    return frozen(run)


def conduct(queue, objective, workers=1, stop_after=math.inf):
    """Does the jobs, `workers` at a time, by writing down what `objective` says of their configurations."""
    running, done = [], 0
    while done < stop_after:
        while len(running) < workers and (path := queue.next()) is not None:
            running.append(path)
        if not running:
            assert queue.over
            return
        path = running.pop(0)
        value = objective(config_of(path))
        status = value if isinstance(value, str) else "finished"
        if status == "finished":
            (path / "metrics.csv").write_text(f"epoch,step,val/loss\n1,1,{value + 1}\n2,2,{value}\n3,3,{value + 2}\n")
        (path / "summary.json").write_text(json.dumps({"status": status, "epochs": 3, "error": None}))
        queue.ended(path, status)
        done += 1


def bowl(config):
    """Lowest, 0, where lr = 0.01 and momentum = 0.5, with cgd."""
    lr, momentum = config["optim"]["lr"], config["optim"]["momentum"]
    return math.log10(lr / 0.01) ** 2 + 4 * (momentum - 0.5) ** 2 + 2 * ("SGD" in config["optim"]["_target_"])


SPACE = ("optim=sgd,cgd", "optim.lr=tag(log,interval(1e-5,10))", "optim.momentum=interval(0,0.99)")


@pytest.mark.parametrize("workers", [1, 4])
def test_it_finds_the_lowest_place(tmp_path, composer, workers):
    """Much closer than as many runs at random, which have the same seed."""
    (tmp_path / "tpe").mkdir()
    (tmp_path / "random").mkdir()
    conduct(queue(tmp_path / "tpe", composer, SPACE, n=60), bowl, workers)
    conduct(queue(tmp_path / "random", composer, SPACE, n=60, sampler=RANDOM), bowl, workers)
    best = {}
    for name in ("tpe", "random"):
        done = trials(tmp_path / name)
        assert [t.number for t in done] == list(range(60))
        assert all(t.state == TrialState.COMPLETE for t in done)
        assert all(t.value == pytest.approx(bowl(config_of(runs(tmp_path / name)[t.number]))) for t in done)
        best[name] = sorted(t.value for t in done)[:10]
    assert best["tpe"][0] < 0.15
    assert sum(best["tpe"]) < sum(best["random"]) / 2


def test_it_can_maximize(tmp_path, composer):
    conduct(queue(tmp_path, composer, SPACE, n=12, maximize=True), lambda c: -bowl(c))
    assert max(t.value for t in trials(tmp_path)) == pytest.approx(
        -min(bowl(config_of(r)) for r in runs(tmp_path).values()) + 2
    )


def test_a_search_that_was_stopped_asks_for_what_it_would_have_asked_for(tmp_path, composer):
    """The same seed and one worker: the same trials, also where the process was another in between."""
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    conduct(queue(tmp_path / "whole", composer, SPACE, n=24), bowl)
    for _ in range(4):
        conduct(queue(tmp_path / "parts", composer, SPACE, n=24), bowl, stop_after=5)
    conduct(queue(tmp_path / "parts", composer, SPACE, n=24), bowl)
    a, b = ([(t.params, t.value) for t in trials(tmp_path / name)] for name in ("whole", "parts"))
    assert len(a) == 24
    assert a == b
    assert sorted(r.name for r in runs(tmp_path / "whole").values()) == sorted(
        r.name for r in runs(tmp_path / "parts").values()
    )


def test_a_kill_between_the_question_and_the_directory_loses_nothing(tmp_path, composer):
    one = queue(tmp_path, composer, SPACE, n=4)
    first = one.next()  # under way when everything is killed
    number, params = one.ask()  # asked for, and not placed
    again = queue(tmp_path, composer, SPACE, n=4)
    conduct(again, bowl)
    assert sorted(runs(tmp_path)) == [0, 1, 2, 3]
    assert runs(tmp_path)[0] == first
    assert config_of(runs(tmp_path)[number])["optim"]["lr"] == params["optim.lr"]
    assert [t.state for t in trials(tmp_path)] == [TrialState.COMPLETE] * 4


def test_half_a_line_in_the_journal_is_dropped(tmp_path, composer):
    conduct(queue(tmp_path, composer, SPACE, n=3), bowl)
    with (tmp_path / "study.log").open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    conduct(queue(tmp_path, composer, SPACE, n=5), bowl)
    assert [t.state for t in trials(tmp_path)] == [TrialState.COMPLETE] * 5


def test_a_damaged_journal_is_told_in_one_line(tmp_path, composer):
    conduct(queue(tmp_path, composer, SPACE, n=3), bowl)
    (tmp_path / "study.log").write_bytes(b"\0\xff rubbish\n" * 9)
    with pytest.raises(Refused, match=r"study\.log: damaged"):
        queue(tmp_path, composer, SPACE, n=5)


@pytest.mark.parametrize("kept", [None, 0, 1, 8])
def test_a_journal_that_was_cut_is_told_with_what_to_do(tmp_path, composer, kept):
    """Gone, emptied, or left with so many lines: the runs are there, and nothing is asked or written."""
    conduct(queue(tmp_path, composer, SPACE, n=3), bowl)
    log = tmp_path / "study.log"
    lines = log.read_bytes().splitlines(keepends=True)
    log.unlink() if kept is None else log.write_bytes(b"".join(lines[:kept]))
    before = log.read_bytes() if kept is not None else None
    with pytest.raises(Refused, match=r"study\.log: .*; the runs are whole; put it back, or start a new search"):
        queue(tmp_path, composer, SPACE, n=5)
    assert (log.read_bytes() if log.exists() else None) == before
    assert len(runs(tmp_path)) == 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bases", 5),
        ("bases", [{}]),
        ("metric", None),
        ("epochs", "x"),
        ("suspects", [5]),
        ("dimensions", [{}]),
        ("x", 1),
    ],
)
def test_a_damaged_plan_is_told_with_what_to_do(tmp_path, composer, key, value):
    queue(tmp_path, composer, SPACE, n=1)
    content = json.loads((tmp_path / "search.json").read_text())
    assert Plan.read(tmp_path).metric == "val/loss"
    (tmp_path / "search.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(
        Refused, match=r"search\.json: not readable \(.*\); remove it and give the search's command again"
    ):
        Plan.read(tmp_path)


def test_what_becomes_of_a_run_is_told_in_optunas_words(tmp_path, composer):
    ends = {0: 0.5, 1: "diverged", 2: "failed", 3: "interrupted", 4: "killed", 5: 0.25}
    one = queue(tmp_path, composer, ("optim.lr=interval(0,1)",), n=6)
    numbers = iter(ends)
    conduct(one, lambda config: ends[next(numbers)])
    assert [t.state.name for t in trials(tmp_path)] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING", "RUNNING", "COMPLETE"]
    assert one.left
    again = queue(tmp_path, composer, ("optim.lr=interval(0,1)",), n=6)
    assert (again.before, again.ahead) == (4, 2) or [p.name[0] for p in again.todo] == ["3"]


def test_a_trial_that_cannot_run_is_named_and_counts_as_a_bad_place(tmp_path, composer):
    """`optim.momentum` is no key of adam: said without starting anything."""
    one = queue(tmp_path, composer, ("optim=sgd,adam", "optim.momentum=interval(0,0.9)"), n=30)
    conduct(one, lambda config: config["optim"]["momentum"])
    done = trials(tmp_path)
    assert len(done) == 30
    impossible = [t for t in done if t.params["optim"] == "adam"]
    assert impossible
    assert all(t.state == TrialState.PRUNED for t in impossible)
    assert set(runs(tmp_path)) == {t.number for t in done if t.params["optim"] == "sgd"}
    assert sum(t.params["optim"] == "adam" for t in done[15:]) <= 4  # of 15: it was learned


def test_suspects_are_built_before_they_start(tmp_path, composer):
    asked = []

    def impossible(job):
        asked.append(job.config["optim"]["_target_"])
        return "too large" if job.config["optim"]["lr"] > 0.5 else None

    one = queue(tmp_path, composer, ("optim=sgd,adam", "optim.lr=interval(0,1)"), n=20, sampler=RANDOM,
                impossible=impossible, suspects=[["optim=adam"]])  # fmt: skip
    conduct(one, lambda config: 1.0)
    assert set(asked) == {composer.job(["optim=adam"], ()).config["optim"]["_target_"]}
    for t in trials(tmp_path):
        bad = t.params["optim"] == "adam" and t.params["optim.lr"] > 0.5
        assert t.state == (TrialState.PRUNED if bad else TrialState.COMPLETE)


def test_the_same_trial_runs_once(tmp_path, composer):
    count = []
    one = queue(tmp_path, composer, ("optim=sgd,cgd", "seed=0,1"), n=20)
    conduct(one, lambda config: count.append(1) or float(config["seed"]), workers=3)
    assert len(count) == len(runs(tmp_path)) <= 4
    done = trials(tmp_path)
    assert len(done) == 20
    assert all(t.value == float(t.params["seed"]) for t in done)


def test_yaml_may_change_after_the_start(tmp_path, composer, monkeypatch):
    conduct(queue(tmp_path, composer, SPACE, n=2), bowl)
    one = queue(tmp_path, None, SPACE, n=6)  # composes without Hydra, of what is kept
    conduct(one, bowl)
    kept = [config_of(run) for _, run in sorted(runs(tmp_path).items())]
    for run, config in zip((run for _, run in sorted(runs(tmp_path).items())), kept, strict=True):
        lines = (run / ".hydra" / "overrides.yaml").read_text().replace("- ", "").split("\n")
        assert composer.job([line for line in lines if line], ()).config == config


# ---- real runs


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


def test_what_a_run_is_to_the_study_is_read_with_care(tmp_path):
    said = []
    run = tmp_path / "0_a"
    (run / ".hydra").mkdir(parents=True)
    assert judge_of(run, said.append) is None  # an ordinary run
    assert said == []
    Trial(0, "val/loss", False, {"_target_": "trainer.sweep.study.median", "startup": 1, "warmup": 0}, 3).write(run)
    assert judge_of(run, said.append) is None  # one that was taken out of its search
    assert "this run is not pruned" in said[0]
    (run / ".hydra" / "trial.json").write_text("{}")
    with pytest.raises(Refused, match=r"trial\.json: not readable"):
        judge_of(run, said.append)


@pytest.mark.parametrize("cut", ["the judgement", "the value"])
def test_a_judgement_survives_a_kill_just_before_it(tmp_path, composer, cut):
    """What was written last is cut off the journal; the epoch is trained, reported and judged again."""
    one = queue(tmp_path, composer, ("optim.lr=interval(0,1)",), n=3)
    median = {"_target_": "trainer.sweep.study.median", "startup": 1, "warmup": 0}
    one.asked = Asked(3, RANDOM, median, None)
    judged = {}
    for offset in (0.0, 1.0):
        path = one.next()
        judge = judge_of(path, print)
        judged = {
            epoch: judge({"epoch": epoch, "val/loss": offset + 1 / epoch}) for epoch in (1, 2) if not judged.get(1)
        }
        if offset == 0.0:
            assert judged == {1: None, 2: None}
            (path / "metrics.csv").write_text("epoch,step,val/loss\n1,1,1.0\n2,2,0.5\n")
            (path / "summary.json").write_text(json.dumps({"status": "finished", "epochs": 2, "error": None}))
            one.ended(path, "finished")
    why = judge_of(path, print)({"epoch": 1, "val/loss": 2.0})
    assert why == "pruned in epoch 1: by val/loss, other trials are more promising"
    log = (tmp_path / "study.log").read_bytes().splitlines(keepends=True)
    last = max(i for i, line in enumerate(log) if b'"pruned"' in line)
    (tmp_path / "study.log").write_bytes(b"".join(log[: last - (cut == "the value")]))
    assert judge_of(path, print)({"epoch": 1, "val/loss": 2.0}) == why


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


def test_a_lost_plan_is_made_again_by_the_same_command_only(cli, tmp_path):
    space = (*SEARCH, "optim.lr=interval(0.01,0.1)", "hydra.sweep.dir=s")
    assert cli(*space, "train.epochs=1", "hydra.sweeper.n_trials=2")[0] == 0
    plan = Plan.read(tmp_path / "s")
    for name in ("search.json", "sweep.json"):
        (tmp_path / "s" / name).unlink()
    code, text = cli(*space, "train.epochs=2", "hydra.sweeper.n_trials=2")
    assert (code, text.count("\n")) == (2, 1), text
    assert "s: search.json is gone, and 0_" in text
    code, text = cli(*space, "train.epochs=1", "hydra.sweeper.n_trials=3")
    assert code == 0, text
    again = Plan.read(tmp_path / "s")
    assert (again.dimensions, again.constants, again.metric) == (plan.dimensions, plan.constants, plan.metric)
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
