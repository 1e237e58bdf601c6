"""A run that is stopped at any moment and resumed ends as if nothing had happened, bit for bit (on the CPU)."""

import random
import re
import signal
import time

import pytest
import torch
from conftest import assert_same_run, rows, summary

# Dropout draws from the random state at every step, momentum and gap live in the optimizer, cosine in the schedule.
RUN = [
    *("model=cnn", "model.dropout=0.3", "optim=cgd", "optim.lr=0.002", "schedule=cosine", "data.batch_size=16"),
    *("train.epochs=6", "train.threads=1", "train.device=cpu"),
]


def finish(cli, path):
    code, text = cli(f"train.resume={path}")
    assert code == 0, text
    return text


def wait_for_step(path, job, step):
    """Until the run's checkpoint or table shows that it is under way."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if (path / "metrics.csv").exists() and len(rows(path)) > step:
            return
        time.sleep(0.005)
    raise AssertionError(job.kill())


def wait_for_change(path, job):
    """Until the file at `path` is replaced, or the job is over."""
    before = path.stat().st_mtime_ns if path.exists() else None
    while (path.stat().st_mtime_ns if path.exists() else None) == before and not job.over():
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("options", "kills"),
    [
        (RUN, 8),
        ([*RUN, "train.checkpoint_steps=7"], 8),
        pytest.param([*RUN, "train.checkpoint_steps=1"], 40, marks=pytest.mark.slow),
        pytest.param([*RUN, "train.threads=2", "train.checkpoint_steps=20"], 40, marks=pytest.mark.slow),
        pytest.param([*RUN, "model=mlp", "optim=adam", "constraint=linf", "train.checkpoint_steps=3"], 40,
                     marks=pytest.mark.slow),
        pytest.param([*RUN, "model=mlp", "optim=sgd", "schedule=constant", "constraint=none"], 40,
                     marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_killed_at_random_moments(start, cli, tmp_path, options, kills):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    if "optim=sgd" in options:
        options = [o for o in options if not o.startswith("optim.lr")]
    assert cli(*options, f"hydra.run.dir={whole}")[0] == 0
    rng = random.Random(kills)
    landed = 0
    for _ in range(kills):
        job = start(*options, f"hydra.run.dir={broken}")  # the same command again continues the run
        if rng.random() < 0.8:
            wait_for_change(broken / "summary.json", job)
        time.sleep(rng.uniform(0, 0.2))
        landed += job.kill()[0] == -signal.SIGKILL
    assert landed >= kills / 4
    code, text = cli(*options, f"hydra.run.dir={broken}")
    assert code == 0, text
    assert_same_run(whole, broken)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_mid_epoch_then_resume(start, cli, tmp_path, signum, code):
    """Finishes the step, writes a checkpoint in the middle of the epoch, prints the command that resumes it."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    options = [*RUN, "data.batch_size=2"]  # 647 steps an epoch: the signal lands inside one
    assert cli(*options, f"hydra.run.dir={whole}")[0] == 0

    job = start(*options, f"hydra.run.dir={broken}")
    wait_for_step(broken, job, 2)
    job.send(signum)
    status, text = job.wait()
    assert status == code, text
    left = summary(broken)
    assert left["status"] == "interrupted"
    progress = torch.load(broken / "checkpoints" / "last.pt", weights_only=True)["progress"]
    assert progress["position"] == left["steps"] - 647 * left["epochs"] > 0
    command = re.search(r"python -m trainer (train\.resume=\S+)", text)[1]
    assert "Traceback" not in text

    code, text = cli(command)
    assert code == 0, text
    assert_same_run(whole, broken)


def test_ctrl_c_ends_a_whole_sweep_which_then_goes_on(start, cli, tmp_path):
    """The job under way is interrupted, later ones are not started; the same command finishes what is left."""
    options = [*RUN, "-m", "seed=0,1", "hydra.sweep.dir=sweep"]
    job = start(*options, "data.batch_size=2")
    deadline = time.monotonic() + 60
    while not (found := list(tmp_path.glob("sweep/*/checkpoints/last.pt"))) and time.monotonic() < deadline:
        time.sleep(0.01)
    job.send(signal.SIGINT)
    assert job.wait()[0] == 130
    (first,) = tmp_path.glob("sweep/*/summary.json")
    assert found[0].parent.parent == first.parent
    assert summary(first.parent)["status"] == "interrupted"

    code, text = cli(*options, "data.batch_size=2")
    assert code == 0, text
    statuses = [summary(p.parent)["status"] for p in tmp_path.glob("sweep/*/summary.json")]
    assert statuses == ["finished"] * 2


def test_second_ctrl_c_stops_at_once_and_leaves_whole_files(start, cli, tmp_path):
    options = [*RUN, "data.batch_size=2"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert cli(*options, f"hydra.run.dir={whole}")[0] == 0
    job = start(*options, f"hydra.run.dir={run}")
    wait_for_step(run, job, 1)
    job.send(signal.SIGINT)
    job.send(signal.SIGINT)
    code, text = job.wait()
    assert code == 130
    assert "Traceback" not in text
    assert not list(run.rglob("*.tmp"))
    finish(cli, run)
    assert_same_run(whole, run)


def test_killed_before_the_first_checkpoint_starts_again(start, cli, tmp_path):
    whole, run = tmp_path / "whole", tmp_path / "run"
    options = [*RUN, "data.batch_size=1", "train.epochs=1"]
    job = start(*options, f"hydra.run.dir={run}")
    deadline = time.monotonic() + 30
    while not (run / "metrics.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    job.kill()
    assert summary(run)["status"] == "running"
    assert not (run / "checkpoints" / "last.pt").exists()
    finish(cli, run)
    assert cli(*options, f"hydra.run.dir={whole}")[0] == 0
    assert_same_run(whole, run)


def test_more_epochs_equal_a_longer_run(cli, tmp_path):
    """Also: the change is remembered, and the frozen configuration stays as it was."""
    options = ["model=mlp", "optim=cgd", "train.threads=1"]
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


def test_a_lost_row_and_a_torn_row(cli, tmp_path):
    """A row whose checkpoint was never written is dropped; so is half a row; a missing one is an error."""
    run = tmp_path / "run"
    assert cli("train.epochs=2", "train.threads=1", f"hydra.run.dir={run}")[0] == 0
    expected = rows(run)
    with (run / "metrics.csv").open("a") as file:
        file.write("3,123,0.1,0.9,0.1,0.9,0.05,1.0,1.0\n4,16")
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 0, text
    assert rows(run)[:3] == expected
    assert [row[0] for row in rows(run)] == ["epoch", "1", "2", "3"]

    lines = (run / "metrics.csv").read_text().splitlines()
    (run / "metrics.csv").write_text("\n".join([lines[0], lines[2], lines[3]]) + "\n")
    code, text = cli(f"train.resume={run}", "train.epochs=4")
    assert code == 2
    assert "metrics.csv: its rows are not those of epochs 1 to 3" in text


def test_two_processes_in_one_directory(start, cli, tmp_path):
    run = tmp_path / "run"
    options = [*RUN, "data.batch_size=2", f"hydra.run.dir={run}"]
    first = start(*options)
    wait_for_step(run, first, 1)
    code, text = cli(*options)
    assert code == 2
    assert f"another process is training in this directory (pid {first.pid} on" in text
    assert text.count("\n") == 1
    first.kill()


@pytest.mark.parametrize("damage", ["truncated", "bit", "empty", "foreign", "text"])
def test_damaged_checkpoint(cli, tmp_path, damage):
    run = tmp_path / "run"
    assert cli("train.epochs=2", f"hydra.run.dir={run}")[0] == 0
    last = run / "checkpoints" / "last.pt"
    content = last.read_bytes()
    if damage == "foreign":
        torch.save({"weights": torch.ones(3)}, last)
    else:
        middle = len(content) // 2
        last.write_bytes({
            "truncated": content[:middle],
            "bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "empty": b"",
            "text": b"hello\n",
        }[damage])  # fmt: skip
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 2, text
    assert text.count("\n") == 1
    assert str(last) in text
    assert "best.pt is whole (epoch" in text

    (run / "checkpoints" / "best.pt").write_bytes(b"")
    code, text = cli(f"train.resume={run}", "train.epochs=3")
    assert code == 2
    assert "there is no whole best.pt either" in text


def test_a_pickle_is_not_executed(cli, tmp_path):
    run = tmp_path / "run"
    assert cli("train.epochs=1", f"hydra.run.dir={run}")[0] == 0

    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    torch.save({"format": "conga checkpoint 1", "bomb": Bomb()}, run / "checkpoints" / "last.pt")
    code, text = cli(f"train.resume={run}", "train.epochs=2")
    assert code == 2, text
    assert not (tmp_path / "boom").exists()


def test_checkpoint_of_another_run(cli, tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        assert cli("train.epochs=1", f"seed={seed}", f"hydra.run.dir={tmp_path / name}")[0] == 0
    (tmp_path / "a/checkpoints/last.pt").write_bytes((tmp_path / "b/checkpoints/last.pt").read_bytes())
    code, text = cli(f"train.resume={tmp_path / 'a'}", "train.epochs=2")
    assert code == 2
    assert "a checkpoint of another run (seed is 1 there and 0 here)" in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lr=0.5", "optim.lr=0.5: a resumed run keeps its configuration"),
        ("model=cnn", "model=cnn: a resumed run keeps its configuration"),
        ("hydra.run.dir=elsewhere", "hydra.run.dir=elsewhere: a resumed run keeps its configuration"),
        ("train.epochs=1", "train.epochs=1: the run has trained 2 epochs already"),
        ("train.epochs=abc", "train.epochs=abc: must be a whole number"),
    ],
)
def test_what_a_resume_cannot_change(cli, tmp_path, override, message):
    run = tmp_path / "run"
    assert cli("train.epochs=2", f"hydra.run.dir={run}")[0] == 0
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    code, text = cli(f"train.resume={run}", override)
    assert code == 2, text
    assert message in text
    assert text.count("\n") == 1
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    assert not (tmp_path / "elsewhere").exists()
