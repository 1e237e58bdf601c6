"""Sweeps whose processes are killed, any of them, at any moment: gone on with, they end as if nothing had happened."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, assert_same_run, summary

JOBS = [
    *("-m", "optim=cgd", "model=cnn", "model.dropout=0.3", "optim.lr=0.001,0.01", "seed=0,1", "data.batch_size=16"),
    *("train.epochs=4", "train.threads=1", "train.device=cpu", "train.checkpoint_steps=7", "data.limit=300"),
]


@pytest.fixture(scope="module")
def whole(zygote, tmp_path_factory):
    """The same jobs, never disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    argv, log = [*JOBS, "hydra.sweep.dir=s"], folder / "log"
    answer = zygote.ask(argv=argv, cwd=str(folder), output=str(log), env={}, limit=None, trip=None)
    assert zygote.ask(wait=answer["pid"])["status"] == 0, log.read_text()
    return folder / "s"


def statuses(folder):
    return {run.name: summary(run).get("status") for run in folder.glob("*_*") if (run / "summary.json").exists()}


def assert_same_sweep(whole, folder):
    names = {run.name for run in whole.glob("*_*")}
    assert {run.name for run in folder.glob("*_*")} == names
    for name in names:
        assert_same_run(whole / name, folder / name)


def children(pid):
    """Processes that `pid` started, and that are not over."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # over meanwhile
            continue
        if fields[1] == str(pid) and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # over meanwhile
            continue


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "launcher", "everything"])
def test_killed_at_random_moments(start, cli, tmp_path, whole, victim):
    rng = random.Random(victim)
    for _ in range(3):
        job = start(*JOBS, "hydra.sweep.dir=s", "sweep.workers=2")
        time.sleep(rng.uniform(0.3, 3.0))
        workers = children(job.pid)
        if victim != "launcher":
            kill(workers[:1] if victim == "worker" else [*workers])
        if victim != "worker":
            job.send(signal.SIGKILL)
        job.wait()
    deadline = time.monotonic() + 600  # workers of a launcher that was killed save where they are, and end
    code, text = cli(*JOBS, "hydra.sweep.dir=s")
    while code and time.monotonic() < deadline:
        code, text = cli(*JOBS, "hydra.sweep.dir=s")
    assert code == 0, text
    assert_same_sweep(whole, tmp_path / "s")


@pytest.mark.slow
def test_workers_of_a_killed_launcher_stop_and_its_resume_waits_for_none(start, command, tmp_path, whole):

    job = start(*JOBS, "hydra.sweep.dir=s", "sweep.workers=2")
    while len([s for s in statuses(tmp_path / "s").values() if s == "running"]) < 2:
        assert not job.over(), job.wait()
        time.sleep(0.005)
    pids = [summary(run)["process"]["pid"] for run in (tmp_path / "s").glob("*_*") if (run / "summary.json").exists()]
    job.kill()
    deadline = time.monotonic() + 600
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "running" not in statuses(tmp_path / "s").values()
    code, text = subprocess_resume(tmp_path)
    assert code == 0, text
    assert re.match(r"s: 4 jobs(, \d of them done)?, 2 at a time\n", text), text
    assert_same_sweep(whole, tmp_path / "s")


def real_sweep(folder):
    """The sweep as a person types it, in a session of its own, when its first job runs."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "trainer", *JOBS, "hydra.sweep.dir=s"]
    job = subprocess.Popen(argv, cwd=folder, env=env, start_new_session=True, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while "running" not in statuses(folder / "s").values() and time.monotonic() < deadline:
        time.sleep(0.01)
    return job


def subprocess_resume(folder):
    """`python -m trainer resume s` as a person types it, with a server of processes of its own."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-m", "trainer", "resume", "s"]
    done = subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_everything_killed_as_a_person_would_have_it(tmp_path, whole):
    """Real commands, each in a session of its own, killed whole; `resume` alone goes on."""
    job = real_sweep(tmp_path)
    time.sleep(0.3)
    everybody = [int(p.name) for p in Path("/proc").glob("[0-9]*") if session(p) == job.pid]
    assert len(everybody) >= 4  # the launcher, the server of processes, two jobs
    kill(everybody)
    job.wait()
    code, text = subprocess_resume(tmp_path)
    assert code == 0, text
    assert_same_sweep(whole, tmp_path / "s")
    code, text = subprocess_resume(tmp_path)
    assert (code, "4 jobs, 4 of them done" in text) == (0, True)


@pytest.mark.slow
def test_a_signal_to_all_processes_lets_the_jobs_save(tmp_path, whole):
    """As `timeout` and a terminal send it."""
    job = real_sweep(tmp_path)
    os.killpg(job.pid, signal.SIGTERM)
    assert job.wait() == 143
    assert set(statuses(tmp_path / "s").values()) <= {"interrupted", "finished"}
    code, text = subprocess_resume(tmp_path)
    assert code == 0, text
    assert_same_sweep(whole, tmp_path / "s")


def session(process):
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    except OSError:  # over meanwhile
        return None


@pytest.mark.slow
def test_two_hundred_jobs_that_do_nothing(start, cli, tmp_path, monkeypatch):
    """Stubs in real processes; each is started once, and all are in the table."""
    code, text = cli("-m", "seed=range(0,200)", "hydra.sweep.dir=s", env={"CONGA_TEST_STUB": "1"})
    assert code == 0, text
    assert list(statuses(tmp_path / "s").values()) == ["finished"] * 200
    assert all((run / "started").read_text() == "once\n" for run in (tmp_path / "s").glob("*_*"))
    assert len((tmp_path / "s" / "sweep.csv").read_text().splitlines()) == 201
