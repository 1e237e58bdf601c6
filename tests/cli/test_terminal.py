"""What a person sees on a terminal, read through a pseudo-terminal; and that it is given back."""

import os
import pty
import re
import select
import signal
import time

import pytest
from conftest import Job, summary


def watch(zygote, argv, cwd, until=None, signum=None):
    """Runs conga on a terminal of 120 x 40; sends `signum` once the screen has shown the pattern `until`."""
    main, end = pty.openpty()
    env, terminal = {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"}, os.ttyname(end)
    pid = zygote.ask(argv=argv, cwd=str(cwd), output=terminal, env=env, limit=None, trip=None)["pid"]
    job = Job(zygote, pid, cwd / "unused")
    shown, deadline = b"", time.monotonic() + 600
    while time.monotonic() < deadline:
        if select.select([main], [], [], 0.1)[0]:
            shown += os.read(main, 65536)
        elif job.over():
            break
        if until and re.search(until, shown):
            job.send(signum)
            until = None
    if not job.over():
        job.send(signal.SIGKILL)
    code = zygote.ask(wait=pid)["status"]
    os.close(end)
    os.close(main)
    return code, shown.decode()


def plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_bars_and_a_closing_table(zygote, tmp_path):
    code, text = watch(zygote, ["model=cnn", "train.epochs=12", "hydra.run.dir=run"], tmp_path)
    assert code == 0, text
    shown = plain(text)
    assert re.search(r"epoch +\S+ +\d+/12", shown)
    live = r"step +\S+ +\d+/41 +loss \d\.\d{4}  accuracy \d\.\d{4}  [\d,]+ samples/s"
    assert re.search(live, shown), shown
    assert re.search(r"│ status +│ finished +│", shown)
    assert re.search(r"│ path +│ run +│", shown)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")  # the cursor is back
    log = (tmp_path / "run" / "train.log").read_text()
    assert "\x1b" not in log
    assert "status      finished" in log


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130)])
def test_the_terminal_is_given_back_after_a_signal(zygote, tmp_path, signum, code):
    options = ["train.epochs=100000", "hydra.run.dir=run"]
    status, text = watch(zygote, options, tmp_path, until=rb"epoch +3/", signum=signal.SIGINT)
    assert status == 130, text
    assert "python -m trainer resume run" in plain(text)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert summary(tmp_path / "run")["status"] == "interrupted"


def test_loading_says_how_far_it_is_and_can_be_stopped(capsys, monkeypatch):
    from trainer.cli import display

    with display.loading_progress(lambda: None) as show:
        show("decoding images", 64, 1280)
    assert capsys.readouterr().out == ""  # not yet worth a line
    monkeypatch.setattr(display, "LINE_EVERY_S", 0.0)

    def stop():
        raise KeyboardInterrupt

    with display.loading_progress(lambda: None) as show:
        show("decoding images", 64, 1280)
    assert capsys.readouterr().out == "decoding images: 64 of 1,280\n"
    with pytest.raises(KeyboardInterrupt), display.loading_progress(stop) as show:
        show("decoding images", 128, 1280)


@pytest.mark.slow
def test_a_sweep_is_one_table(zygote, tmp_path):
    """No bars of jobs between each other; the lines of those that ended stand above it."""
    argv = ["-m", "seed=0,1,2", "train.epochs=30", "hydra.sweep.dir=s", "sweep.workers=2"]
    code, text = watch(zygote, argv, tmp_path)
    assert code == 0, text
    shown = plain(text)
    assert re.search(r"│ \d +│ seed-\d +│ +\d+/30 +│ val/loss \d\.\d{4} +│ running 0:\d\d +│", shown), shown
    assert re.search(r"0 of 3 done; about \d+:\d\d left", shown), shown
    assert len(re.findall(r"\[[123]/3\] \d_seed-\d  finished  val/loss \d\.\d{4}  [\d.]+ s", shown)) == 3
    assert "samples/s" not in shown
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_numbers_of_a_run_that_diverges_stay_short():
    from trainer.cli.display import metrics_by_split

    row = {"train/loss": 999999.5, "train/rmse": 2.5071636e36, "val/loss": float("nan"), "val/rmse": -1e6}
    assert metrics_by_split(row, ["loss", "rmse"]) == [
        "train loss 999999.5000 rmse 2.5072e+36",
        "val loss nan rmse -1.0000e+06",
    ]
