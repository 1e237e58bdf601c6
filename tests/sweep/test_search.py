"""Searches: where they look, what they find, what they prune, by what is asked of Optuna and answered."""

import dataclasses
import json
import math

import pytest
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
from searched import config_of, runs, trials  # noqa: E402

from trainer.sweep.plan import Plan, compose_bases  # noqa: E402
from trainer.sweep.proposed import Asked, Proposed  # noqa: E402
from trainer.sweep.pruning import Trial, judge_of  # noqa: E402
from trainer.sweep.space import Dimension, corners, space_of  # noqa: E402

TPE = {"_target_": "trainer.sweep.study.tpe", "seed": 0, "startup": 10}
RANDOM = {"_target_": "trainer.sweep.study.random", "seed": 0}
NONE = {"_target_": None}


def parsed(*lines):
    return OverridesParser.create().parse_overrides(list(lines))


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


def queue(
    folder, composer, lines, *, n, sampler=TPE, maximize=False, impossible=lambda job: None, suspects=(), seeds=1
):
    dimensions, constants = space_of(parsed(*lines))
    if not (folder / "search.json").exists():
        bases = compose_bases(composer, dimensions, constants)
        Plan(dimensions, constants, "val/loss", maximize, 30, [list(s) for s in suspects], bases, seeds).write(folder)
        (folder / "sweep.json").write_text('{"swept": [], "config": {}}')
    plan = Plan.read(folder)
    settings = SweepSettings(
        workers=1, jobs_per_gpu=1, fail_fast=False, retries=0, rerun_failed=False, keep_checkpoints="all",
        metric="val/loss", direction="maximize" if maximize else "minimize", seeds=seeds,
    )  # fmt: skip
    return Proposed(folder, plan, Asked(n, sampler, NONE, None), settings, impossible, None)


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


# ---- trials of several seeds


def noisy(config):
    """`bowl` and an error that depends on the seed: -1, 0 or 1 for three in a row."""
    return bowl(config) + config["seed"] % 3 - 1


def test_a_trial_of_several_seeds_is_worth_their_mean(tmp_path, composer):
    """Errors that cancel over three seeds leave the trials of a search without errors."""
    for name in ("one", "three"):
        (tmp_path / name).mkdir()
    conduct(queue(tmp_path / "one", composer, (*SPACE, "seed=7"), n=15), bowl)
    for _ in range(4):  # stopped in the midst of a trial
        conduct(queue(tmp_path / "three", composer, (*SPACE, "seed=7"), n=15, seeds=3), noisy, stop_after=10)
    one = queue(tmp_path / "three", composer, (*SPACE, "seed=7"), n=15, seeds=3)
    assert (one.before, one.ahead) == (40, 5)
    conduct(one, noisy)
    a, b = trials(tmp_path / "one"), trials(tmp_path / "three")
    assert [t.params for t in a] == [t.params for t in b]
    assert [t.value for t in b] == pytest.approx([t.value for t in a])
    made = [config_of(run.parent.parent) for run in (tmp_path / "three").glob("*/.hydra/config.yaml")]
    assert sorted(config["seed"] for config in made) == [7] * 15 + [8] * 15 + [9] * 15
    words = [text for line in one.closing_lines() for text in line.split()]
    assert {"'seed=range(7,10)'", "'seed=range(10,13)'"} <= set(words)
    assert "seed=7" not in words
    best = min(b, key=lambda t: t.value)
    assert f"optim.lr={best.params['optim.lr']}" in words
    from trainer.runs import find_runs
    from trainer.sweep.results import keep_best, ranked

    first, *_ = ranked(find_runs([tmp_path / "three"]), one.settings)
    assert (first.mean, len(first.values)) == (pytest.approx(best.value), 3)
    assert first.words() == f"val/loss {best.value:.4f} ± 1.0000 over 3 seeds"
    for run in (tmp_path / "three").glob("*/.hydra"):
        (run.parent / "checkpoints").mkdir()
        (run.parent / "checkpoints" / "best.pt").touch()
    keep_best(tmp_path / "three", dataclasses.replace(one.settings, keep_checkpoints=2))
    kept = {int(file.parent.parent.name.partition("_")[0]) for file in (tmp_path / "three").glob("*/checkpoints/*.pt")}
    assert len(kept) == 2
    assert best.number in kept
    assert len(list((tmp_path / "three").glob("*/checkpoints/*.pt"))) == 6


def test_a_seed_that_fails_ends_its_trial(tmp_path, composer):
    """No further seed is trained; several workers train different trials."""
    ends = {"0.1": ["diverged"], "0.2": [0.5, "failed"], "0.3": [1.0, 2.0, 6.0]}
    one = queue(tmp_path, composer, ("optim.lr=0.1,0.2,0.3",), n=12, sampler=RANDOM, seeds=3)
    conduct(one, lambda config: ends[str(config["optim"]["lr"])][config["seed"]], workers=2)
    done = trials(tmp_path)
    assert len(done) == 12
    told = {lr: {(t.state.name, t.value) for t in done if t.params["optim.lr"] == lr} for lr in ends}
    assert told == {"0.1": {("PRUNED", None)}, "0.2": {("FAIL", None)}, "0.3": {("COMPLETE", 3.0)}}
    assert len(list(tmp_path.glob("*/.hydra/config.yaml"))) == 1 + 2 + 3
    assert one.over


def test_the_first_seed_alone_is_judged_by_the_pruner(tmp_path, composer):
    one = queue(tmp_path, composer, ("optim.lr=interval(0,1)",), n=1, seeds=2)
    median = {"_target_": "trainer.sweep.study.median", "startup": 1, "warmup": 0}
    one.asked = Asked(1, RANDOM, median, None)
    conduct(one, lambda config: 1.0)
    first, second = sorted(tmp_path.glob("0_*"))
    assert (Trial.read(first).pruner, Trial.read(second).pruner) == (median, NONE)
    assert judge_of(first, print) is not None
    assert judge_of(second, print) is None
