"""``python -m trainer compare``: what differs, and SciPy's or a closed form's answer whether by more than chance."""

import csv
import io
import json
import math
from functools import partial

import numpy as np
import pytest
from conftest import row
from hand_made import CHOICES, CONFIG, with_keys, write_grid, write_run
from scipy import special, stats

from trainer.runs.significance import compare


@pytest.fixture
def comparing(command):
    return partial(command, "compare")


@pytest.fixture
def compared(comparing):
    """compared(*arguments) -> (kind, key) -> row of --json."""

    def compared(*arguments):
        code, text = comparing(*arguments, "--json")
        assert code == 0, text
        return {(r["kind"], r["key"]): r for r in json.loads(text)}

    return compared


def repeat(folder, values, **keys):
    """A run for each seed with such a test accuracy."""
    for seed, value in values.items():
        write_run(folder / f"{seed}", with_keys(seed=seed, **keys), test={"loss": 1.0, "accuracy": value})


def test_two_runs(comparing, compared, tmp_path):
    other = with_keys(model__widths=[8], train__max_steps=5)
    other["optim"] = {"_target_": "optim.cgd", "lr": 0.1, "free_lr": None}
    facts = {"versions": {"torch": "2.0", "numpy": "1"}, "git": {"commit": "abc", "dirty": False}}
    write_run(tmp_path / "a", **facts)
    facts["versions"] = {"torch": "2.1", "numpy": "1"}
    write_run(tmp_path / "b", other, CHOICES | {"optim": "cgd"}, (0.4,), {"loss": 0.5, "accuracy": 0.5}, **facts)
    code, text = comparing("a", "b")
    assert code == 0
    assert row(text, "optim") == ["sgd", "cgd"]
    assert row(text, "model.widths") == ["[64, 64]", "[8]"]
    assert row(text, "train.max_steps") == ["null", "5"]
    assert row(text, "optim.momentum") == ["0.9", "-"]
    assert row(text, "optim.free_lr") == ["-", "null"]
    assert row(text, "best val/loss") == ["0.5000", "0.4000", "-0.1000"]
    assert row(text, "final/val/loss") == ["0.6000", "0.4000", "-0.2000"]
    assert row(text, "test/accuracy") == ["0.3000", "0.5000", "+0.2000"]
    assert row(text, "epochs") == ["3", "1"]
    assert row(text, "versions.torch") == ["2.0", "2.1"]
    for same in ("seed", "optim.lr", "optim._target_", "versions.numpy", "git.commit", "parameters"):
        assert f"│ {same} " not in text
    assert "test/accuracy: B is better by 0.2000; with one run each, chance cannot be judged" in text
    rows = compared("a", "b")
    assert rows["metric", "test/accuracy"]["difference"] == 0.5 - 0.3
    assert rows["metric", "test/accuracy"]["p"] is None
    assert rows["configuration", "model.widths"]["a"] == [64, 64]
    assert ("configuration", "optim.lr") not in rows
    by_csv = list(csv.DictReader(io.StringIO(comparing("a", "b", "--csv")[1])))
    assert [(r["kind"], r["key"]) for r in by_csv] == list(rows)


def test_a_low_loss_is_better(comparing, tmp_path):
    write_run(tmp_path / "a", test={"loss": 0.1, "rmse": 0.2})
    write_run(tmp_path / "b", with_keys(optim__lr=1), test={"loss": 0.1, "rmse": 0.3})
    assert "test/rmse: A is better by 0.1000" in comparing("a", "b")[1]


def test_seeds_beside_the_run_are_its_repetitions(comparing, compared, tmp_path):
    rng = np.random.default_rng(0)
    values = dict(zip(range(6), rng.normal(0.9, 0.01, 6), strict=True))
    others = {seed: value + rng.normal(0.01, 0.005) for seed, value in values.items()}
    found = write_grid(
        tmp_path / "sweep", (0.1, 0.2), range(6), lambda lr, seed: (values if lr == 0.1 else others)[seed]
    )
    metric = compared("sweep/0_lr=0.1,seed=0", "sweep/6_lr=0.2,seed=0")["metric", "test/accuracy"]
    a, b = ([found[lr, seed] for seed in range(6)] for lr in (0.1, 0.2))
    assert metric["a"] == pytest.approx(np.mean(a), rel=1e-14)
    assert metric["b/std"] == pytest.approx(np.std(b, ddof=1), rel=1e-12)
    assert (metric["a/n"], metric["b/n"], metric["test"]) == (6, 6, "paired")
    assert metric["p"] == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
    code, text = comparing("sweep/0_lr=0.1,seed=0", "sweep/6_lr=0.2,seed=0")
    assert code == 0
    assert "A  sweep/0_lr=0.1,seed=0: mean over 6 runs that differ only in seed" in text
    assert f"p = {metric['p']:.2g} (paired t-test over the 6 seeds that both have)" in text
    assert "│ seed " not in text


def test_folders_with_other_seeds_are_compared_by_welch(comparing, compared, tmp_path):
    repeat(tmp_path / "a", {0: 0.90, 1: 0.92, 2: 0.91, 3: 0.95})
    repeat(tmp_path / "b", {10: 0.90, 11: 0.85, 12: 0.80}, optim__lr=0.5)
    rows = compared("a", "b")
    metric = rows["metric", "test/accuracy"]
    assert metric["test"] == "welch"
    assert metric["p"] == pytest.approx(stats.ttest_ind([0.9, 0.92, 0.91, 0.95], [0.9, 0.85, 0.8], equal_var=False)[1])
    assert rows["configuration", "seed"]["a"] == [0, 1, 2, 3]
    text = comparing("a", "b")[1]
    assert "Welch's t-test of 4 and 3 seeds" in text
    assert "chance alone would often make a difference this large; 3 seeds are few: only large differences" in text
    assert row(text, "seed") == ["0 1 2 3", "10 11 12"]


def test_closed_forms():
    """Differences 1, 2, 3: t = 2 / (1 / √3) with 2 degrees of freedom, whose p is 1 - t / √(t² + 2)."""
    t = 2 * math.sqrt(3)
    test = compare({0: 5.0, 1: 1.0, 2: 7.0}, {0: 6.0, 1: 3.0, 2: 10.0})
    assert (test.kind, test.n) == ("paired", (3, 3))
    assert test.p == pytest.approx(1 - t / math.sqrt(t * t + 2), rel=1e-12)
    # Welch's statistic and degrees of freedom, and the incomplete beta function.
    a, b = np.array([1.0, 2, 4]), np.array([5.0, 9, 8, 2])
    va, vb = a.var(ddof=1) / 3, b.var(ddof=1) / 4
    t, df = (b.mean() - a.mean()) / math.sqrt(va + vb), (va + vb) ** 2 / (va**2 / 2 + vb**2 / 3)
    test = compare(dict(enumerate(a)), dict(enumerate(b, start=10)))
    assert (test.kind, test.n) == ("welch", (3, 4))
    assert test.p == pytest.approx(special.betainc(df / 2, 0.5, df / (df + t * t)), rel=1e-9)


def test_only_common_seeds_are_paired():
    a = {seed: math.sin(seed) for seed in range(5)}
    b = {seed: math.cos(seed) for seed in (1, 3, 4)}
    test = compare(a, b)
    assert (test.kind, test.n) == ("paired", (3, 3))
    assert test.p == pytest.approx(stats.ttest_rel([a[s] for s in b], list(b.values())).pvalue)
    b[9] = 0.0
    assert compare(a, b).kind == "welch"


@pytest.mark.parametrize(
    ("a", "b", "why"),
    [
        ({0: 1.0}, {0: 2.0, 1: 3.0}, "needs two seeds on each side; there are 1 and 2"),
        ({}, {}, "there are 0 and 0"),
        ({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}, "A and B differ by nothing with each of 2 seeds"),
        ({0: 0.1, 1: 0.2}, {0: 0.4, 1: 0.5}, "A and B differ by the same 0.3 with each of 2 seeds"),
        ({0: 1.0, 1: 1.0}, {2: 2.0, 3: 2.0}, "values are equal for all seeds"),
    ],
)
def test_where_there_is_no_test_it_is_said(a, b, why):
    test = compare(a, b)
    assert test.p is None
    assert test.verdict.startswith("no significance test: ")
    assert why in test.verdict


def test_a_seed_counts_once_and_what_did_not_finish_not_at_all(comparing, compared, tmp_path):
    repeat(tmp_path / "a", {0: 0.8, 1: 0.9})
    write_run(tmp_path / "a/again", with_keys(seed=1), test={"accuracy": 1.0})
    write_run(tmp_path / "a/2", with_keys(seed=2), test={}, status="diverged", error="NaN")
    repeat(tmp_path / "b", {0: 0.7, 1: 0.7}, optim__lr=0.5)
    metric = compared("a", "b")["metric", "test/accuracy"]
    assert (metric["a"], metric["a/n"]) == (pytest.approx((0.8 + 0.95) / 2), 2)
    text = comparing("a", "b")[1]
    assert "A  a: mean over the 3 that finished of 4 runs that differ only in seed" in text
    assert "A leaves out 1 diverged" in text
    assert "A has several runs of one seed; they count once, with their mean" in text


def test_repetitions_of_one_configuration_stand_for_themselves(comparing, tmp_path):
    repeat(tmp_path / "a", {0: 0.8, 1: 0.9, 2: 0.7})
    code, text = comparing("a/0", "a/1")
    assert code == 0
    assert row(text, "test/accuracy") == ["0.8000", "0.9000", "+0.1000"]
    assert row(text, "seed") == ["0", "1"]
    assert "the two differ only in their seed: any difference is chance" in text


def test_the_same_configuration_of_two_versions(comparing, tmp_path):
    for name, commit, shift in (("a", "old", 0), ("b", "new", 0.1)):
        for seed in range(3):
            config, test = with_keys(seed=seed), {"accuracy": 0.5 + shift + 0.01 * seed**2 * (1 + shift)}
            write_run(tmp_path / name / str(seed), config, test=test, git={"commit": commit, "dirty": False})
    text = comparing("a", "b")[1]
    assert "the same configuration" in text
    assert row(text, "git.commit") == ["old", "new"]
    assert "B is better by" in text
    assert "paired t-test" in text
    write_run(tmp_path / "b/3", with_keys(seed=3), git={"commit": "newer", "dirty": False})
    assert "B has runs of 2 versions of conga (git.commit)" in comparing("a", "b")[1]


def test_repetitions_elsewhere(compared, tmp_path):
    write_run(tmp_path / "a/0", CONFIG)
    write_run(tmp_path / "b/0", with_keys(optim__lr=0.5))
    for seed in (1, 2):
        write_run(tmp_path / f"more/a{seed}", with_keys(seed=seed))
        write_run(tmp_path / f"more/b{seed}", with_keys(seed=seed, optim__lr=0.5))
    assert compared("a/0", "b/0")["metric", "test/accuracy"]["a/n"] == 1
    assert compared("a/0", "b/0", "more")["metric", "test/accuracy"]["a/n"] == 3


def test_a_run_without_numbers(comparing, tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", with_keys(optim__lr=9), losses=(), test={}, status="diverged", error="the loss is NaN")
    code, text = comparing("a", "b")
    assert code == 0
    assert row(text, "test/accuracy") == ["0.3000", "-", "-"]
    assert row(text, "status") == ["finished", "diverged"]
    assert "B is diverged: the loss is NaN" in text


def test_mistakes_are_one_line(comparing, tmp_path):
    write_grid(tmp_path / "grid", seeds=(0, 1))
    (write_run(tmp_path / "bad") / ".hydra/config.yaml").write_text("[")
    (tmp_path / "empty").mkdir()
    run = "grid/0_lr=0.1,seed=0"
    for arguments, expected in {
        (run,): "missing: RUN_B",
        (run, "nowhere"): "nowhere: no such directory",
        (run, "empty"): "empty: no run there",
        (run, "bad"): "bad: .hydra/config.yaml: not readable as YAML",
        (run, "grid"): "grid: its runs differ in optim.lr, not only in their seed; name one of them",
        (run, run): f"{run}: compared with itself; name two runs",
        (run, "grid/3_lr=0.2,seed=1", "nowhere"): "nowhere: no such directory",
        (run, "--csv", "--json", run): "not allowed with argument",
    }.items():
        code, text = comparing(*arguments)
        assert (code, text.count("\n")) == (2, 1)
        assert text.startswith("conga: ")
        assert expected in text
    repeat(tmp_path / "a", {0: 0.8, 1: 0.9})
    assert "a/1: has runs of a, too; name two sides without common runs" in comparing("a", "a/1")[1]
