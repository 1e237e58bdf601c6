"""``python -m trainer runs``: which runs, in which order, averaged how, in which form; one line for a mistake."""

import argparse
import contextlib
import csv
import io
import json
import math
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest
from conftest import ROOT
from hand_made import CHOICES, CONFIG, with_keys, write_grid, write_run
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.rundir.errors import Refused
from trainer.runs import command as table_command
from trainer.runs import find_runs
from trainer.runs.columns import Names
from trainer.runs.show import escape
from trainer.runs.where import parse


@pytest.fixture
def runs(command):
    return partial(command, "runs")


@pytest.fixture
def table(runs):
    """table(*arguments) -> the rows of --json."""

    def table(*arguments):
        code, text = runs(*arguments, "--json")
        assert code == 0, text
        return json.loads(text)

    return table


def cells(text):
    """The rows of a printed table."""
    return [[cell.strip() for cell in line[1:-1].split("│")] for line in text.splitlines() if line.startswith("│")]


def test_only_what_differs_is_shown(runs, tmp_path):
    write_grid(tmp_path / "outputs/sweep")
    code, text = runs()
    assert code == 0
    assert "6 runs in outputs, all in sweep" in text
    head = next(line for line in text.splitlines() if "name" in line)
    assert re.findall(r"[\w./]+(?: [\w/]+)?", head) == [
        *("name", "optim.lr", "seed", "status", "best val/loss", "test/accuracy")
    ]
    assert cells(text)[0] == ["0_lr=0.1,seed=0", "0.1", "0", "finished", "0.5000", "0.1000"]
    assert len(cells(text)) == 6


def test_what_is_wrong_is_said_in_words(runs, tmp_path):
    write_run(tmp_path / "outputs/a")
    write_run(tmp_path / "outputs/b", losses=(), test={}, status="diverged", error="the loss is NaN")
    (write_run(tmp_path / "outputs/c") / "summary.json").write_text("{")
    code, text = runs()
    assert code == 0
    assert [row[1] for row in cells(text)] == ["finished", "diverged", "damaged"]
    assert "diverged   b: the loss is NaN" in text
    assert "damaged    c: summary.json: not readable as JSON" in text


def test_a_running_run_says_how_far_it_is(runs, tmp_path, monkeypatch):
    write_run(tmp_path / "outputs/a", status="running")
    monkeypatch.setattr("trainer.rundir.lock.is_held", lambda path, process: True)
    assert cells(runs()[1])[0][1] == "running 3/3"
    assert json.loads(runs("--json")[1])[0]["status"] == "running"
    assert runs("--csv", "--columns", "status")[1] == "status\nrunning\n"


def test_order(table, tmp_path):
    for i, (rate, accuracy) in enumerate([(2.0, 0.5), (10.0, None), (1e-3, 0.7), (1.0, 0.6)]):
        config = with_keys(optim__lr=rate)
        write_run(tmp_path / f"outputs/{i}", config, test={} if accuracy is None else {"loss": 1, "accuracy": accuracy})

    def order(*arguments):
        return [int(run["name"]) for run in table(*arguments)]

    assert order() == [0, 1, 2, 3]
    assert order("--sort", "optim.lr") == order("--sort=lr") == [2, 3, 0, 1]
    assert order("--sort", "-lr") == order("--sort", "lr", "--descending") == [1, 0, 3, 2]
    assert order("--sort", "test/accuracy") == order("--sort", "test") == [0, 3, 2, 1]
    assert order("--sort", "-test") == [2, 3, 0, 1]  # what is missing comes last either way
    assert order("--sort", "best,-lr") == [1, 0, 3, 2]
    assert order("--sort", "name") == [0, 1, 2, 3]


def test_forms_have_all_digits(runs, table, tmp_path):
    write_run(tmp_path / "outputs/a,b", losses=(1 / 3, 0.1), test={"loss": 2 / 3, "accuracy": None})
    write_run(tmp_path / "outputs/c", with_keys(model__widths=[1]), losses=())
    first, second = table()
    assert first["best/value"] == 0.1
    assert first["final/val/accuracy"] == 0.9
    assert first["test/loss"] == 2 / 3
    assert first["test/accuracy"] is None
    assert second["best/value"] is None
    assert second["model.widths"] == [1]
    rows = list(csv.DictReader(io.StringIO(runs("--csv")[1])))
    assert list(rows[0]) == list(first)
    assert rows[0]["name"] == "a,b"
    assert float(rows[0]["test/loss"]) == 2 / 3
    assert rows[0]["test/accuracy"] == ""
    assert rows[0]["model.widths"] == "[64, 64]"
    text = runs("--csv", "--columns", "path,train.max_steps,train.compile,parameters")[1]
    assert text == (
        "path,train.max_steps,train.compile,parameters\n"
        '"outputs/a,b",,false,100\noutputs/c,,false,100\n'
    )  # fmt: skip
    assert runs("--csv")[1] == runs("outputs", "--csv")[1]


def test_latex(runs, tmp_path):
    write_grid(tmp_path / "outputs")
    text = runs("--group-by", "optim.lr", "--latex")[1]
    mean, sd = np.mean([0.1, 0.11, 0.12]), np.std([0.1, 0.11, 0.12], ddof=1)
    assert "\\begin{tabular}{rrrr}\n\\toprule\noptim.lr & n & best val/loss & test/accuracy \\\\\n\\midrule\n" in text
    assert f"0.1 & 3 & $0.5000 \\pm 0.0000$ & ${mean:.4f} \\pm {sd:.4f}$ \\\\\n" in text
    assert text.endswith("\\bottomrule\n\\end{tabular}\n")
    text = runs("--latex", "--columns", "name,model.widths,error")[1]
    assert "0\\_lr=0.1,seed=0 & {[}64, 64{]} & - \\\\\n" in text
    assert escape("-0.5 ± 0.1 (n=3)") == "$-0.5 \\pm 0.1$ (n=3)"
    assert escape("-1e-05") == "$-1e-05$"
    assert escape("-") == "-"
    assert escape("50% & a_b #1 {x} $y ^~\\") == (
        "50\\% \\& a\\_b \\#1 \\{x\\} \\$y \\textasciicircum{}\\textasciitilde{}\\textbackslash{}"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_understands_it(runs, tmp_path):
    for i in range(2):
        config = with_keys(seed=i, optim__lr=-0.5 * i, model__activation="*re{lu}", model__widths=[i])
        write_run(tmp_path / "outputs" / f"[{i}] 50% & a_b #1 x$y ^~\\ <g> | *", config)
    texts = [runs("--latex")[1], runs("--latex", "--columns", "model.widths,activation,lr,name")[1]]
    texts.append(runs("--latex", "--group-by", "lr,activation,model.widths")[1])
    body = "\n\n".join(texts).replace("\\usepackage", "")  # which stands in a remark
    (tmp_path / "t.tex").write_text(
        f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{body}\\end{{document}}"
    )
    argv = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-draftmode", "t.tex"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=600)
    assert done.returncode == 0, done.stdout


def test_a_narrow_screen(runs, tmp_path, monkeypatch):
    """Everything at 120 columns; at 60 what says the same as another column goes first, and is named."""
    for i, (optim, seed) in enumerate((o, s) for o in ("sgd", "adam") for s in (0, 1)):
        config = with_keys(seed=seed, optim__lr=0.1 if optim == "sgd" else 0.2, train__epochs=i + 3)
        write_run(tmp_path / f"outputs/{i}_{'a' * 30}", config, CHOICES | {"optim": optim})
    text = runs()[1]
    assert max(map(len, text.splitlines()[:8])) <= 120
    assert "not shown" not in text
    for width, dropped in ((80, "optim.lr"), (60, "optim.lr, seed, train.epochs"), (40, "best/value")):
        monkeypatch.setenv("COLUMNS", str(width))
        text = runs()[1]
        body = [line for line in text.splitlines() if line[:1] in "┏┃┡│└"]
        assert max(map(len, body)) <= width
        assert len(cells(text)) == 4  # no row is broken
        assert dropped in re.search(r"not shown: (.*);", text)[1]


def test_short_names_keep_their_heading(runs, tmp_path):
    for i in range(2):
        write_run(tmp_path / f"outputs/{i}", with_keys(seed=i))
    assert "┃ name ┃ seed ┃" in runs()[1]


def test_means_are_numpys(runs, table, tmp_path):
    found = write_grid(tmp_path / "outputs", seeds=(0, 1, 2, 3), accuracy=lambda lr, seed: math.sin(lr * 10 + seed))
    for group in table("--group-by", "optim.lr", "--over", "seed"):
        values = [found[group["optim.lr"], seed] for seed in range(4)]
        assert group["n"] == group["test/accuracy/n"] == 4
        assert group["test/accuracy/mean"] == pytest.approx(np.mean(values), rel=1e-14)
        assert group["test/accuracy/std"] == pytest.approx(np.std(values, ddof=1), rel=1e-12)
    by_seed = table("--group-by", "seed", "--over", "lr", "--columns", "test/accuracy")
    assert [group["seed"] for group in by_seed] == [0, 1, 2, 3]
    assert [group["test/accuracy/mean"] for group in by_seed] == pytest.approx(
        [np.mean([found[0.1, seed], found[0.2, seed]]) for seed in range(4)]
    )
    each = table("--group-by", "lr,seed")
    assert len(each) == 8
    assert {group["test/accuracy/std"] for group in each} == {None}
    best = table("--group-by", "lr", "--sort", "-test")
    means = [group["test/accuracy/mean"] for group in best]
    assert means == sorted(means, reverse=True)


def test_only_finished_runs_are_averaged_and_it_is_said(runs, tmp_path):
    write_grid(tmp_path / "outputs", rates=(0.1,))
    write_run(tmp_path / "outputs/3", with_keys(seed=3), status="diverged", error="NaN", test={})
    write_run(tmp_path / "outputs/4", with_keys(seed=4), test={})
    write_run(tmp_path / "outputs/5", with_keys(seed=4))
    (write_run(tmp_path / "outputs/6") / ".hydra/config.yaml").write_text("")
    text = runs("--group-by", "optim.lr")[1]
    assert cells(text)[0][:2] == ["0.1", "5"]
    assert cells(text)[0][3].endswith("(n=4)")
    assert "left out: 1 damaged, 1 diverged" in text
    assert "runs with the same configuration as another run, all counted: 1" in text


def test_what_else_differs_is_not_averaged_silently(runs, tmp_path):
    write_grid(tmp_path / "outputs/a")
    write_run(tmp_path / "outputs/b", with_keys(train__epochs=9))
    code, text = runs("--group-by", "optim.lr")
    assert code == 2
    assert text == (
        "conga: --group-by=optim.lr: runs of a group also differ in train.epochs, not only in seed; "
        "name it in --group-by or --over, or choose runs with --where\n"
    )
    assert runs("--group-by", "optim.lr", "--over", "seed,train.epochs")[0] == 0
    assert runs("--group-by", "optim.lr", "--where", "train.epochs=3")[0] == 0


def test_over_a_choice_is_over_what_comes_with_it(runs, tmp_path):
    write_run(tmp_path / "outputs/a", with_keys(optim__lr=0.1))
    write_run(tmp_path / "outputs/b", with_keys(optim__lr=0.2), CHOICES | {"optim": "adam"})
    assert runs("--group-by", "model", "--over", "optim")[0] == 0
    assert "also differ in optim, optim.lr, not only in seed" in runs("--group-by", "model", "--over", "seed")[1]


MISTAKES = {
    ("nowhere",): "nowhere: no such directory; give one with runs",
    ("empty",): "empty: no runs below; a run is a directory with .hydra/config.yaml in it",
    ("--sort", "optim.lrr"): "--sort: no column 'optim.lrr'; did you mean optim.lr? there are path, name, status",
    ("--sort", "momentm"): "--sort: no column 'momentm'; did you mean optim.momentum? there are",
    ("--sort", "loss"): "--sort: loss could be final/train/loss, final/val/loss, test/loss; say which",
    ("--columns", "name,foo"): "--columns: no column 'foo'; there are",
    ("--over", "seed"): "--over=seed: needs --group-by=KEYS",
    ("--group-by", ","): "--group-by: name a column, such as optim.lr",
    ("--group-by", "lr", "--over", ""): "--over: name a column, such as seed",
    ("--group-by", "foo"): "--group-by: no column 'foo'",
    ("--group-by", "lr", "--columns", "device"): "--columns=device: only numbers have a mean, and a value is 'cpu'",
    ("--group-by", "lr", "--sort", "status"): "--sort=status: with --group-by one of optim.lr, n, best/value",
    ("--descending",): "--descending: needs --sort=KEY",
    ("--watch",): "--watch: needs a terminal",
    ("--csv", "--json"): "argument --json: not allowed with argument --csv; --help lists what there is",
    ("--where", ""): "--where: expected a comparison, such as optim=cgd at the end of ''",
    ("--where", "optim"): "--where: expected a comparison after optim: one of = != < <= > >= in at the end of 'optim'",
    ("--where", "optim sgd"): "in at 'sgd' (character 7 of 'optim sgd')",
    ("--where", "optim=sgd seed=1"): "expected and, or, or the end at 'seed=1' (character 11",
    ("--where", "(optim=sgd"): "expected ) at the end",
    ("--where", "optim=sgd)"): "expected and, or, or the end at ')'",
    ("--where", "optim="): "expected a value: a number",
    ("--where", "optim='sgd"): 'an unclosed quote at "\'sgd"',
    ("--where", "seed in 3"): "expected [ at '3'",
    ("--where", "seed in [1 2]"): "expected , or ] at '2]'",
    ("--where", "lr<null"): "< compares with a number or a text at 'null'",
    ("--where", "lr>[1]"): "> compares with a number or a text at '[1]'",
    ("--where", "__import__('os').system('x')=1"): "expected a comparison after __import__",
    ("--where", "lrr=1"): "--where: no column 'lrr'; did you mean optim.lr?",
    ("--where", "(" * 100_000): "--where: too many parentheses",
    ("--what",): "unrecognized arguments: --what; --help lists what there is",
}


@pytest.mark.parametrize("arguments", MISTAKES, ids=lambda a: " ".join(a)[:40])
def test_a_mistake_is_one_line(runs, tmp_path, arguments):
    write_run(tmp_path / "outputs/run")
    (tmp_path / "empty").mkdir()
    code, text = runs(*arguments)
    assert code == 2
    assert text.startswith("conga: ")
    assert text.count("\n") == 1
    assert MISTAKES[arguments] in text


ROW = {
    **{"lr": 0.1, "n": 3, "optim": "cgd", "name": "run 2", "flag": True, "none": None, "list": [64, 0.5]},
    **{"digits": "64", "nan": math.nan},
}
TRUE = (
    *("lr=0.1", "lr==1e-1", "lr=.10", "lr<1", "lr>=0.1", "n=3.0", "optim=cgd", "optim='cgd'", "optim!=sgd", "optim<d"),
    *("name='run 2'", "name<'run 10'", "flag=true", "none=null", "lr!=null", "none!=3", "list=[64,0.5]", "list!=[]"),
    *("n in [1, 2, 3]", "optim in [sgd,cgd]", "digits=64", "digits='64'", "optim>3"),
    *("lr=0.1 and n=3", "lr=0.2 or n=3", "lr=0.1 or n=4 and n=5", "not lr=0.1 or n=3", "not not lr=0.1"),
    *("gone=null", "not gone=1"),
)
FALSE = (
    *("lr!=0.1", 'optim="sgd"', "flag=1", "flag>0", "none!=null", "lr=null", "none=3", "list=[64]", "n not in [3]"),
    *("n='3'", "n>a", "(lr=0.1 or n=4) and n=5", "not (lr=0.1 or n=3)"),
    # Nothing is known of what is missing: each comparison is false, but the question whether it is missing.
    *("gone=1", "gone!=1", "gone<1", "gone>1", "gone in [1]", "gone not in [1]", "gone!=null"),
    *("nan=1", "nan<1", "nan>=1"),
)


@pytest.mark.parametrize(("text", "value"), [*((t, True) for t in TRUE), *((t, False) for t in FALSE)])
def test_conditions(text, value):
    assert parse(text, str)(ROW) is value


def trees():
    """A condition and what Python makes of it, as (text, value)."""
    row = {"a": 1, "b": 2.5, "c": "x"}
    numbers = st.sampled_from([0, 1, 2, 2.5, -1e3])
    compare = {"=": "==", "==": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}

    def leaf(name, sign, value):
        return f"{name}{sign}{value!r}", eval(f"{row[name]!r} {compare[sign]} {value!r}")

    leaves = st.builds(leaf, st.sampled_from("ab"), st.sampled_from(sorted(compare)), numbers) | st.builds(
        leaf, st.just("c"), st.sampled_from(sorted(compare)), st.sampled_from("wxy")
    )

    def extend(inner):
        both = st.tuples(inner, st.sampled_from(["and", "or"]), inner)
        return both.map(lambda t: (f"({t[0][0]}) {t[1]} ({t[2][0]})", eval(f"{t[0][1]} {t[1]} {t[2][1]}"))) | inner.map(
            lambda t: (f"not ({t[0]})", not t[1])
        )

    return st.recursive(leaves, extend, max_leaves=12)


@settings(deadline=None, max_examples=200)
@given(trees())
def test_conditions_are_pythons(tree):
    text, value = tree
    assert parse(text, str)({"a": 1, "b": 2.5, "c": "x"}) is value


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from(["a", "=", "<", "(", ")", "and", "or", "not", "in", "[", "]", ",", "'", '"', "1", " "]))
)
def test_any_text_is_a_condition_or_a_mistake(parts):
    condition = None
    with contextlib.suppress(Refused):
        condition = parse(" ".join(parts), str)
    assert condition is None or condition({"a": 1}) in (True, False)


def test_names(tmp_path):
    write_run(tmp_path / "a")
    names = Names(find_runs([tmp_path]))
    for typed, full in {
        **{"optim.lr": "optim.lr", "lr": "optim.lr", "best": "best/value", "test": "test/accuracy", "epochs": "epochs"},
        **{"val/loss": "final/val/loss", "momentum": "optim.momentum", "optim": "optim", "seed": "seed"},
    }.items():
        assert names(typed, "--sort") == full


def test_where_chooses(table, tmp_path):
    write_grid(tmp_path / "outputs")
    rows = table("--where", "optim=sgd and test/accuracy>0.115 and not seed in [0,1]")
    assert [run["name"] for run in rows] == ["2_lr=0.1,seed=2", "5_lr=0.2,seed=2"]
    assert table("--where", "lr>5") == []
    assert table("--where", "best/epoch=2 and best=0.5 and name!=x", "--columns", "seed") == [
        {"seed": seed} for seed in (0, 1, 2, 0, 1, 2)
    ]


def test_a_reader_that_has_gone(tmp_path):
    for i in range(300):
        write_run(tmp_path / f"outputs/{i}")
    for form in ("--csv", "--where=lr=0.1"):
        command = f"{sys.executable} -m trainer runs {form} | head -1; exit ${{PIPESTATUS[0]}}"
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600
        )
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_watch_shows_what_is_new_until_ctrl_c(tmp_path):
    write_run(tmp_path / "outputs/first")
    main, end = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    argv = [sys.executable, "-m", "trainer", "runs", "--watch"]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # tests in the background may ignore it
    job = subprocess.Popen(argv, cwd=tmp_path, env=env, stdin=end, stdout=end, stderr=end, preexec_fn=heard)
    os.close(end)
    shown, deadline, added, sent = b"", time.monotonic() + 600, False, -math.inf
    try:
        while time.monotonic() < deadline:
            if select.select([main], [], [], 0.1)[0]:
                try:
                    shown += os.read(main, 65536)
                except OSError:  # Linux says so at the end of a terminal
                    break
            if b"first" in shown and not added:
                write_run(tmp_path / "outputs/second", CONFIG)
                added = True
            if b"second" in shown and time.monotonic() > sent + 10:  # Python drops one that falls into a destructor
                job.send_signal(signal.SIGINT)
                sent = time.monotonic()
        assert job.wait(timeout=120) == 130
    finally:
        job.kill()
        os.close(main)
    text = shown.decode()
    assert text.rindex("\x1b[?1049l") > text.rindex("\x1b[?1049h")  # the screen is given back
    last = text[text.rindex("\x1b[?1049l") :]
    assert "2 runs in outputs" in last
    assert "conga: interrupted" in last


def test_the_most_telling_columns_come_first(runs, tmp_path, monkeypatch):
    """Optimizer, rate and seed, then what was swept, then the rest."""
    monkeypatch.setenv("COLUMNS", "200")
    for i in range(4):
        config = with_keys(seed=i, optim__lr=0.1 * (i + 1), train__epochs=3 + i, model__activation=f"a{i}")
        write_run(tmp_path / f"outputs/{i}", config, CHOICES | {"optim": f"o{i}"})
    (tmp_path / "outputs/sweep.json").write_text(json.dumps({"swept": ["train.epochs"]}))
    head = next(line for line in runs()[1].splitlines() if "name" in line)
    assert re.findall(r"[\w./]+(?: [\w/]+)?", head) == [
        *("name", "optim", "optim.lr", "seed", "train.epochs", "model.activation", "status"),
        *("best val/loss", "test/accuracy"),
    ]


def test_a_pipe_has_every_column_whole(tmp_path):
    name = "n" * 150
    for i in range(2):
        write_run(tmp_path / f"outputs/{i}_{name}", with_keys(**{f"model__key{k}": f"{'v' * 30}{i}" for k in range(9)}))
    env = {k: v for k, v in os.environ.items() if k != "COLUMNS"} | {"PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "trainer", "runs"]
    text = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=600).stdout
    assert cells(text)[1][:3] == [f"1_{name}", f"{'v' * 30}1", f"{'v' * 30}1"]
    assert "not shown" not in text


def test_watching_shows_what_was_started_last_first(tmp_path):
    """Also above runs of the evening before, and above those that have not started."""
    for name, started in (("a", "2026-01-02T09:00:00+00:00"), ("b", "2026-01-03T08:00:00+00:00"), ("c", None)):
        process = {"process": {"host": "h", "pid": 1, "started": started, "heartbeat": started}} if started else {}
        write_run(tmp_path / name, **process)
    for watched, names in ((True, ["b", "a", "c"]), (False, ["a", "b", "c"])):
        parser = argparse.ArgumentParser()
        table_command.add_arguments(parser)
        arguments = parser.parse_args([str(tmp_path), *(["--watch"] if watched else [])])
        assert [row["name"] for row in table_command.read(arguments).sheet.rows] == names
