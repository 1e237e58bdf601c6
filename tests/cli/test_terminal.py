"""What a person sees on a terminal, read through a pseudo-terminal; and that it is given back."""

import os
import pty
import re
import select
import signal
import time

import pytest
from conftest import Job, summary
from hand_made import write_run

from trainer.cli.command import refuse
from trainer.cli.lines import epoch_line, folded, metrics_by_split
from trainer.sweep.board import LiveBoard


def watch(zygote, argv, cwd, until=None, signum=None, width=120):
    """Runs conga on a terminal `width` x 40; sends `signum` once the screen has shown the pattern `until`."""
    main, end = pty.openpty()
    env, terminal = {"TERM": "xterm", "COLUMNS": str(width), "LINES": "40"}, os.ttyname(end)
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


def test_eighty_columns(zygote, tmp_path):
    """No line is wider, none breaks in a word, and an epoch is one line; train.log has all of it."""
    argv = ["model=cnn", "optim=cgd", "train.epochs=12", "hydra.run.dir=run"]
    code, text = watch(zygote, argv, tmp_path, width=80)
    assert code == 0, text
    lines = [line.rstrip() for line in plain(text).replace("\r", "\n").split("\n")]
    assert max(map(len, lines)) <= 80
    logged = (tmp_path / "run" / "train.log").read_text()
    assert len([line for line in lines if re.fullmatch(r"epoch +\d+/12  train loss .* val loss .*", line)]) == 12
    assert len(re.findall(r"epoch +\d+/12 .* fw_gap \S+ +[\d,]+ samples/s", logged)) == 12
    shown = " ".join(" ".join(lines).split())
    for whole in ("1 x 8 x 8, classification", "free_momentum=0.9", "balanced_accuracy 0.9"):
        assert whole in shown
    assert re.search(r"f1 0\.\d{4}", shown)


def test_less_is_shown_of_an_epoch_where_there_is_less_room():
    row = {"epoch": 1, "train/loss": 1.5, "train/accuracy": 0.5, "val/loss": 1.25, "val/accuracy": 0.25}
    row |= {"optim/lr": 0.1, "optim/fw_gap": 3.0, "time/samples_per_s": 1000.0}
    whole = "epoch 1/9  train loss 1.5000 accuracy 0.5000  val loss 1.2500 accuracy 0.2500  lr 0.1  fw_gap 3"
    assert epoch_line(row, 9, False) == f"{whole}  1,000 samples/s"
    assert epoch_line(row, 9, True, 100) == f"{whole}  *"
    assert epoch_line(row, 9, True, 80) == f"{whole.partition('  lr')[0]}  *"
    assert epoch_line(row, 9, True, 79) == "epoch 1/9  train loss 1.5000  val loss 1.2500 accuracy 0.2500  lr 0.1  *"
    assert epoch_line(row, 9, True, 10) == "epoch 1/9  train loss 1.5000  val loss 1.2500 accuracy 0.2500  *"


def test_the_board_of_a_sweep_in_eighty_columns(tmp_path, monkeypatch):
    """Only the differences are cut."""
    monkeypatch.setenv("COLUMNS", "80")
    board = LiveBoard(tmp_path, 3, 0, 2, "threads")
    for number in range(2):
        path = write_run(tmp_path / f"{number}_optim-cgd_optim.lr-0.001_model.widths-64,64_seed-0", status="running")
        board.started(path)
    board.show()
    with board.console.capture() as shown:
        board.console.print(board.live.renderable)
    lines = shown.get().splitlines()
    assert max(map(len, lines)) <= 80
    for word in ("differs in", "epoch", "│ 3/", "val/loss 0.5000", "running 0:00", "optim-cgd_optim.lr-0.0", "…"):
        assert word in shown.get()


def test_a_command_is_not_broken():
    command = f"resume with  python -m trainer resume {'x' * 90}"
    assert folded(command, 80) == command
    assert folded("optim       " + " ".join(["lr=0.1"] * 12), 80).split("\n") == [
        f"optim       {' '.join(['lr=0.1'] * 9)}",
        f"            {' '.join(['lr=0.1'] * 3)}",
    ]


def test_a_refusal_breaks_between_words_on_a_terminal_only(capsys, monkeypatch):
    line = "optim.lr=abc: must be a number, and a command is whole"
    assert refuse(line) == 2
    assert capsys.readouterr().err == f"conga: {line}\n"
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "40")
    refuse(line)
    assert capsys.readouterr().err == f"conga: {line[:31]}\n       {line[32:]}\n"


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
    row = {"train/loss": 999999.5, "train/rmse": 2.5071636e36, "val/loss": float("nan"), "val/rmse": -1e6}
    assert metrics_by_split(row, ["loss", "rmse"]) == [
        "train loss 999999.5000 rmse 2.5072e+36",
        "val loss nan rmse -1.0000e+06",
    ]
