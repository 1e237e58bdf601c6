"""A run that is stopped at any moment and resumed ends as if nothing had happened, bit for bit (on the CPU)."""

import math
import random
import re
import shutil
import signal
import time

import pytest
import torch
from conftest import assert_same_run, rows, same_files, summary
from formats import write_images

from trainer.rundir import lock

# Dropout draws from the random state at every step, momentum and gap live in the optimizer, cosine in the schedule.
RUN = [
    *("model=cnn", "model.dropout=0.3", "optim=cgd", "optim.lr=0.002", "schedule=cosine", "data.batch_size=16"),
    *("train.epochs=6", "train.threads=1", "train.device=cpu"),
]
TWO = [*RUN, "train.epochs=2"]  # 81 batches of training and one of validation an epoch
# Everything that draws at random for each batch.
AUGMENTED = [
    *("data.augment.crop=1", "data.augment.flip=true", "data.augment.rotate=9", "data.augment.translate=0.1"),
    *("data.augment.erase=0.3", "data.augment.mixup=0.2", "data.augment.cutmix=1.0"),
]


def finish(cli, path):
    code, text = cli(f"train.resume={path}")
    assert code == 0, text
    return text


def wait_for_step(path, job, step):
    """Until the run's table has as many epochs."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if (path / "metrics.csv").exists() and len(rows(path)) > step:
            return
        time.sleep(0.005)
    raise AssertionError(job.kill())


def summary_status(path):
    return summary(path)["status"] if (path / "summary.json").exists() else None


def wait_for_change(path, job):
    """Until the file at `path` is replaced, or the job is over."""
    before = path.stat().st_mtime_ns if path.exists() else None
    deadline = time.monotonic() + 600
    while (path.stat().st_mtime_ns if path.exists() else None) == before and not job.over():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_at_random_moments(start, cli, tmp_path):
    whole, broken, options = tmp_path / "whole", tmp_path / "broken", [*RUN, "train.epochs=4"]
    assert cli(*options, f"hydra.run.dir={whole}")[0] == 0
    rng = random.Random(8)
    landed = 0
    for _ in range(6):
        job = start(*options, f"hydra.run.dir={broken}")  # the same command again continues the run
        if rng.random() < 0.8:
            wait_for_change(broken / "summary.json", job)
        time.sleep(rng.uniform(0, 0.2))
        unfinished = not job.over()
        landed += job.kill()[0] == -signal.SIGKILL and unfinished and summary_status(broken) != "finished"
    assert landed >= 1
    code, text = cli(*options, f"hydra.run.dir={broken}")
    assert code == 0, text
    assert_same_run(whole, broken)


# Two epochs of two steps, a checkpoint after every step, one batch of validation an epoch and one of test.
SHORT = [*RUN, "data.batch_size=650", "train.epochs=2", "train.checkpoint_steps=1"]


@pytest.mark.slow
def test_killed_between_any_two_writes(goes_on):
    """Before flushes and renames of every file: row, best.pt, last.pt, summary.json, .hydra, train.log."""
    assert goes_on("file", *SHORT, at_most=12) == 12


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        [*AUGMENTED, "train.checkpoint_steps=7"],
        ["data.limit=300", "train.threads=2", "train.checkpoint_steps=2"],
        ["model=mlp", "optim=adam", "constraint=linf", "train.checkpoint_steps=3"],
        ["model=mlp", "optim=sgd", "optim.lr=0.1", "schedule=constant", "constraint=none"],
    ],
)
def test_killed_between_writes_of_other_runs(goes_on, options):
    assert goes_on("file", *RUN, "data.batch_size=100", "train.epochs=4", *options, at_most=5) == 5


def test_stopped_in_any_batch(goes_on):
    """Of training, of validation, and of the test split with the best weights in the model."""
    assert goes_on("batch", *SHORT) == 7


@pytest.mark.slow
def test_stopped_in_any_batch_while_augmenting(goes_on):
    assert goes_on("batch", *SHORT, *AUGMENTED) == 7


@pytest.mark.slow
def test_stopped_in_any_batch_while_workers_decode(goes_on, cli, tmp_path):
    """Once by a signal, of which their processes hear nothing."""
    write_images(tmp_path / "pets", {"cat": 20, "dog": 20})
    streamed = ["data=image_folder", "data.path=pets", "data.size=8", "data.memory_gb=0"]
    options = [*SHORT, *streamed, "data.workers=2", "data.augment.flip=true", "data.batch_size=15"]
    assert goes_on("batch", *options) == 7
    code, text = cli(*options, "hydra.run.dir=run", trip=("batch", 2, signal.SIGKILL))
    assert code == -signal.SIGKILL, text
    code, text = cli(*options, "hydra.run.dir=run")
    assert code == 0, text
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_kill_leaves_what_is_in_the_directory(cli, tmp_path):
    """Real ones, just after an image as `goes_on` keeps them: byte for byte the same; and each goes on."""
    assert cli(*SHORT, "hydra.run.dir=whole")[0] == 0
    run, options = tmp_path / "run", [*SHORT, "hydra.run.dir=run"]
    for where, n in (("file", 12), ("file", 30), ("batch", 5)):
        code, text = cli(*options, trip=(where, n, "keep and kill"))
        assert code == -signal.SIGKILL, text
        assert same_files(tmp_path / "images" / f"{n:03}", run)
        code, text = cli(*options)
        assert code == 0, text
        assert_same_run(tmp_path / "whole", run)
        shutil.rmtree(run)


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_signal_mid_epoch_then_resume(trained, cli, tmp_path, signum, code):
    """Finishes the step, writes a checkpoint in the middle of the epoch, prints the command that resumes it."""
    broken = tmp_path / "broken"
    status, text = cli(*TWO, f"hydra.run.dir={broken}", trip=("batch", 120, signum))
    assert status == code, text
    left = summary(broken)
    assert left["status"] == "interrupted"
    progress = torch.load(broken / "checkpoints" / "last.pt", weights_only=True)["progress"]
    assert progress["position"] == left["steps"] - 81 * left["epochs"] > 0
    folder = re.search(r"python -m trainer resume (\S+)", text)[1]
    assert "Traceback" not in text

    code, text = cli("resume", folder)
    assert code == 0, text
    assert_same_run(trained(*TWO), broken)


@pytest.mark.slow
def test_ctrl_c_ends_a_whole_sweep_which_then_goes_on(start, trained, cli, tmp_path):
    """The job under way is interrupted, later ones are not started; the same command finishes what is left."""
    few = [*TWO, "data.limit=400"]  # 18 batches of training and one of validation an epoch
    options = ["-m", *few, "seed=0,1", "hydra.sweep.dir=sweep", "sweep.workers=1"]
    job = start(*options, trip=("batch", 30, "pause"))
    while not (tmp_path / "paused").exists():
        assert not job.over(), job.wait()
        time.sleep(0.01)
    job.send(signal.SIGINT)
    assert job.wait()[0] == 130
    (first,) = tmp_path.glob("sweep/*/summary.json")
    assert (summary(first.parent)["status"], summary(first.parent)["epochs"]) == ("interrupted", 1)

    code, text = cli(*options)
    assert code == 0, text
    statuses = [summary(p.parent)["status"] for p in tmp_path.glob("sweep/*/summary.json")]
    assert statuses == ["finished"] * 2
    assert_same_run(trained(*few), tmp_path / "sweep" / "0_seed-0")


def test_second_ctrl_c_stops_at_once_and_leaves_whole_files(start, trained, cli, tmp_path):
    """While a step hangs, the first only asks; nothing is saved after the second."""
    job = start(*TWO, "hydra.run.dir=run", trip=("batch", 100, "hang"))
    while "hanging" not in (job.log.read_text() if job.log.exists() else ""):
        assert not job.over()
        time.sleep(0.01)
    before = (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes()
    job.send(signal.SIGINT)
    time.sleep(0.5)
    assert not job.over()  # asked, and still in its step
    job.send(signal.SIGINT)
    code, text = job.wait()
    assert code == 130
    assert "interrupted at once; to resume from the last checkpoint:\n  python -m trainer resume run" in text
    assert (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes() == before
    assert summary(tmp_path / "run")["status"] == "interrupted"
    finish(cli, "run")
    assert_same_run(trained(*TWO), tmp_path / "run")


def test_killed_before_the_first_checkpoint_starts_again(trained, cli, tmp_path):
    run = tmp_path / "run"
    assert cli(*TWO, f"hydra.run.dir={run}", trip=("batch", 30, signal.SIGKILL))[0] == -signal.SIGKILL
    assert summary(run)["status"] == "running"
    assert not (run / "checkpoints").exists()
    finish(cli, run)
    assert_same_run(trained(*TWO), run)


def test_more_epochs_equal_a_longer_run(cli, tmp_path):
    """Also: the change is remembered, and the frozen configuration stays as it was."""
    options = ["data=iris", "optim=cgd", "train.threads=1"]
    long, short = tmp_path / "long", tmp_path / "short"
    assert cli(*options, "train.epochs=5", f"hydra.run.dir={long}")[0] == 0
    assert cli(*options, "train.epochs=2", f"hydra.run.dir={short}")[0] == 0
    before = {f: (short / ".hydra" / f).read_bytes() for f in ("config.yaml", "hydra.yaml", "overrides.yaml")}
    code, text = cli(f"train.resume={short}", "train.epochs=5")
    assert code == 0, text
    assert {f: (short / ".hydra" / f).read_bytes() for f in before} == before
    assert rows(long) == rows(short)
    assert summary(long)["test"] == summary(short)["test"]
    assert summary(short)["epochs"] == 5
    assert "finished already" in cli(f"train.resume={short}")[1]
    assert "finished already" in cli(*options, "train.epochs=2", f"hydra.run.dir={short}")[1]


def test_two_processes_in_one_directory(start, cli, tmp_path):
    run = tmp_path / "run"
    options = [*RUN, "train.epochs=100000", f"hydra.run.dir={run}"]
    first = start(*options)
    try:
        wait_for_step(run, first, 2)  # headers of two tables, and a row
        assert lock.is_held(run, summary(run)["process"])
        code, text = cli(*options)
    finally:
        first.kill()
    assert not lock.is_held(run, summary(run)["process"])
    assert code == 2
    assert f"another process is training in this directory (pid {first.pid} on" in text
    assert text.count("\n") == 1


def test_what_a_resume_cannot_change(cli, trained, tmp_path):
    run = trained("train.epochs=2")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    for override, message in (
        ("optim.lr=0.5", "optim.lr=0.5: a resumed run keeps its configuration"),
        ("constraint.radius=2", "constraint.radius=2: a resumed run keeps its configuration"),
        ("model=cnn", "model=cnn: a resumed run keeps its configuration"),
        ("hydra.run.dir=elsewhere", "hydra.run.dir=elsewhere: a resumed run keeps its configuration"),
        ("train.epochs=1", "train.epochs=1: the run is in epoch 2 already; give at least as many"),
        ("train.epochs=0", "train.epochs=0: must be at least 1"),
        ("train.epochs=abc", "train.epochs=abc: must be a whole number"),
    ):
        code, text = cli(f"train.resume={run}", override)
        assert code == 2, text
        assert message in text
        assert text.count("\n") == 1
        assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
        assert not (tmp_path / "elsewhere").exists()


def test_a_longer_schedule_applies_from_the_first_resumed_step(cli, tmp_path):
    """Half a cosine over 2 epochs ends at 0; over 4 it is at its middle there."""
    options = ["schedule=cosine", "optim.lr=0.01", "data.batch_size=650"]  # 2 steps an epoch
    assert cli(*options, "train.epochs=2", "hydra.run.dir=run")[0] == 0
    assert cli("train.resume=run", "train.epochs=4")[0] == 0
    table = rows(tmp_path / "run")
    lr = {row[0]: row[table[0].index("optim/lr")] for row in table}
    assert float(lr["3"]) == pytest.approx(0.01 * (1 + math.cos(math.pi * 5 / 8)) / 2)  # step 5 of 8
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.pt", weights_only=True)
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0)


def test_the_resume_command_means_the_folder_it_was_started_in(cli):
    """Also where Hydra changes into the run directory."""
    options = [*TWO, "hydra.job.chdir=true", "hydra.run.dir=run"]
    code, text = cli(*options, trip=("batch", 100, signal.SIGINT))
    assert code == 130
    assert "python -m trainer resume run\n" in text
    assert "run         run\n" in text
    assert "finished" in finish(cli, "run")


def test_threads_are_restored(cli, tmp_path):
    """`auto` on a resume is what the run had, not what this process would choose: one thread (tests/zygote.py)."""
    assert cli("data=iris", "train.epochs=1", "hydra.run.dir=auto")[0] == 0
    assert summary(tmp_path / "auto")["threads"] == 1
    assert cli("data=iris", "train.epochs=1", "hydra.run.dir=run", "train.threads=2")[0] == 0
    code, text = cli("train.resume=run", "train.epochs=2", "train.threads=auto")
    assert code == 0
    assert "2 threads" in text
    assert summary(tmp_path / "run")["threads"] == 2


def test_a_signal_while_the_run_is_still_being_built(cli, tmp_path):
    """Nothing is trained yet: no run is left behind, and one that was there is not left as running."""
    options = [*TWO, "hydra.run.dir=run"]
    assert cli(*options, trip=("build", 1, signal.SIGTERM)) == (143, "interrupted before the first step\n")
    assert not (tmp_path / "run").exists()
    assert cli(*options, trip=("batch", 100, signal.SIGKILL))[0] == -signal.SIGKILL
    code, text = cli(*options, trip=("build", 1, signal.SIGINT))
    assert code == 130
    assert text == "interrupted before the first step; to resume:\n  python -m trainer resume run\n"
    assert summary(tmp_path / "run")["status"] == "interrupted"
