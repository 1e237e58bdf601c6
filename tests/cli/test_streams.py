"""Streams that are closed or full, signals before anything is trained, and names that a terminal would obey."""

import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from conftest import ROOT, summary

from trainer.rundir.errors import Refused
from trainer.rundir.text import cut, printable

ENV = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
EVIL = "a\x1b[31mb\rc\nd\u202ee\x07</script>"
SHOWN = r"a\x1b[31mb\rc\nd\u202ee\x07</script>"


def shell(command, cwd, **env):
    return subprocess.run(
        ["bash", "-c", command.replace("conga", f"{sys.executable} -m trainer")],
        capture_output=True, text=True, cwd=cwd, env=ENV | env, timeout=600,
    )  # fmt: skip


def test_what_is_printable():
    assert printable(EVIL) == SHOWN
    assert printable(printable(EVIL)) == printable(EVIL)  # where two gates follow each other
    assert printable("größe ± 日本") == "größe ± 日本"
    assert printable(os.fsdecode(b"x\xff")) == r"x\xff"
    assert all(printable(chr(c)).isprintable() for c in range(0x110000))
    assert cut("x" * 100) == "x" * 100
    assert len(cut("x" * 101)) == 100


@pytest.mark.slow
@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", ">/dev/full", "| head -n 1", ">&-", "2>/dev/full"])
def test_a_run_does_not_need_its_streams(tmp_path, streams):
    """Nothing that is printed may land in a file of the run, which would get a closed stream's number."""
    command = f"set -o pipefail; conga train.epochs=1 data.limit=100 hydra.run.dir=run {streams}"
    done = shell(command, tmp_path)
    assert done.returncode == 0, done.stderr
    warned = "conga: warning: standard output: No space left on device; not all of it was written\n"
    assert done.stderr == (warned if streams == ">/dev/full" else "")
    assert summary(tmp_path / "run")["status"] == "finished"
    assert (tmp_path / "run" / "metrics.csv").read_text().startswith("epoch,step,")
    for name in ("best", "last"):
        torch.load(tmp_path / "run" / "checkpoints" / f"{name}.pt", weights_only=True)


@pytest.mark.slow
def test_a_text_that_is_lost_is_a_failure(tmp_path):
    for command in ("conga --help", "conga --cfg job", "conga runs --help"):
        done = shell(f"{command} >/dev/full", tmp_path)
        assert done.returncode == 1
        assert done.stderr == "conga: standard output: No space left on device; not all of it was written\n"
    assert shell("conga optim=nope 2>/dev/full", tmp_path).returncode == 2
    assert shell("conga optim=nope 2>&-", tmp_path).returncode == 2


def test_an_encoding_that_lacks_a_name(tmp_path):
    command = """conga 'hydra.run.dir="größe"' optim=nope"""
    done = shell(command, tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr[:34]) == (2, "conga: optim=nope: no such choice;")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = shell(command, tmp_path, **ascii_only)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "set PYTHONUTF8=1, or a locale such as LC_ALL=C.UTF-8" in done.stderr
    done = shell("conga runs größe", tmp_path, **ascii_only)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(r"conga: gr\xc3\xb6\xc3\x9fe: no such directory; give one with runs; looked for /")


def test_names_that_are_not_utf_8_are_refused(tmp_path):
    done = shell(r"conga hydra.run.dir=$'x\xff'", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(r"conga: hydra.run.dir=x\xff: this name is not UTF-8")
    done = shell(r"mkdir $'d\xff'; cd $'d\xff'; conga", tmp_path)
    assert done.returncode == 2
    assert r"d\xff: this name is not UTF-8" in done.stderr


@pytest.mark.parametrize(
    ("argv", "signum", "after"),
    [
        (["trainer"], signal.SIGINT, 0.15),
        pytest.param(["trainer"], signal.SIGTERM, 0.4, marks=pytest.mark.slow),
        pytest.param(["trainer"], signal.SIGHUP, 0.8, marks=pytest.mark.slow),
        pytest.param(["trainer", "-m", "seed=0,1"], signal.SIGTERM, 0.6, marks=pytest.mark.slow),
        pytest.param(["trainer", "model-card"], signal.SIGINT, 0.5, marks=pytest.mark.slow),
    ],
)
def test_a_signal_at_the_start(tmp_path, argv, signum, after):
    """Wherever it comes, there is no traceback, and no empty folder."""
    command = [sys.executable, "-m", *argv, *(["train.epochs=100000"] if argv[1:] != ["model-card"] else [])]
    heard = partial(signal.signal, signum, signal.SIG_DFL)  # tests in the background, or under nohup, may ignore it
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": heard}
    process = subprocess.Popen(command, text=True, cwd=tmp_path, env=ENV, **how)
    time.sleep(after)
    process.send_signal(signum)
    out, err = process.communicate(timeout=600)
    assert process.returncode in (128 + signum, -signum), out + err  # the second: before Python has started
    assert "Traceback" not in out + err
    assert err in ("", "conga: interrupted\n")
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and not any(path.iterdir())]


def test_a_refused_run_leaves_nothing(cli, tmp_path):
    for where in ([], ["hydra.run.dir=a/b/c"], ["-m", "hydra.sweep.dir=a/b/c"]):
        code, text = cli("seed=x", *where)
        assert code == 2, text
        assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []


def test_a_sweep_on_a_full_disk_fails(start, tmp_path):
    """No mistake, and nothing that a traceback would tell."""
    code, text = start("-m", "seed=0,1", "train.epochs=1", "hydra.sweep.dir=s", limit=600).wait()
    assert code == 1, text
    assert "Traceback" not in text
    assert text.splitlines()[-1].startswith("conga: ")
    assert "File too large; files written before are whole; free some space" in text


def test_a_refusal_is_one_line_whatever_it_names():
    assert str(Refused(f"{EVIL}: no")) == f"{SHOWN}: no"
    assert str(Refused("two jobs:", EVIL, "b")) == f"two jobs:\n  {SHOWN}\n  b"


def test_names_of_a_table_are_shown_and_not_obeyed(cli, tmp_path, command):
    """Columns and classes with what a terminal obeys: on every screen, in the log, in the page and in pictures."""
    import csv

    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([EVIL.replace("\n", "") + "x", "y", "label"])
        writer.writerows([i % 7, i % 5, EVIL if i % 7 > 3 else "no"] for i in range(60))
    options = ["data=csv", "data.path=t.csv", "data.targets=label"]
    code, text = cli(*options, "model=linear", "train.epochs=1", "hydra.run.dir=run", "logger=pictures")
    assert code == 0, text
    screens = [text, (tmp_path / "run" / "train.log").read_text()]
    for main, *argv in (
        ("evaluate", "run"), ("predict", "run", "t.csv"), ("data-card", *options), ("runs", "run"),
        ("report", "run"), ("plot", "run", "--out", "p.svg"),
    ):  # fmt: skip
        code, text = command(main, *argv)
        assert code == 0, text
        screens.append(text)
    assert all(line.isprintable() for text in screens for line in text.split("\n"))
    assert r"\x1b[31mb" in screens[2]
    page = (tmp_path / "run" / "report.html").read_text()
    assert "\x1b" not in page
    assert "\u202e" not in page


def test_plots_show_escapes():
    from xml.etree import ElementTree

    from matplotlib.figure import Figure

    from trainer.plot.figures import rendered

    def draw():
        figure = Figure()
        axis = figure.subplots()
        axis.bar(["no", "a\x1bb"], [1, 2])
        axis.set(title="\x1b\u202etitle\nbelow")
        return figure

    texts = "".join(ElementTree.fromstring(rendered(draw, kind="svg")).itertext())  # no XML holds an ESC
    assert r"\x1b\u202etitle" in texts
    assert r"a\x1bb" in texts


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (['train=${oc.decode:"[1,2]"}'], 'train=${oc.decode:"[1,2]"}: must be one of default'),
        (["objective=[1]"], "objective=[1]: must be one of auto, "),
        (["hydra.verbose=[1]"], "hydra.verbose=[1]: "),
        (["optim.lr=${help:}"], "optim.lr=conga trains neural networks"),
        (["seed=1", "optim.lr=${nope}"], "optim.lr: Interpolation key 'nope' not found"),
        (["seed=1", "logger=[csv,[x]]"], "logger=[csv,[x]]: "),
        (["model.widths.x=3"], "model.widths.x=3: "),
        (["--config-name", "nope"], "--config-name: Cannot find primary config 'nope'"),
        (["-m", "hydra.sweeper.params=3"], "hydra.sweeper.params=3: must be a mapping or null"),
        (["seed=" + "9" * 5000], "seed=999999"),
        (["optim.lr=" + "a" * 5000], f"optim.lr={'a' * 99}…: must be a number"),
        (["model.widths=[" + "1," * 3000 + "a]"], "model.widths=[1, 1, "),
        ([""], "'': must be KEY=VALUE"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(cli, tmp_path, argv, line):
    code, text = cli(*argv)
    assert code == 2, text
    assert text.startswith(f"conga: {line}")
    assert text.count("\n") == 1
    assert len(text) < 500
    assert not list(tmp_path.glob("outputs"))
