"""Sweeps with launchers of Hydra's: what comes out is what our own launcher gives, since the run directory says it."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import ROOT, assert_same_run, summary
from hydra.plugins.launcher import Launcher
from omegaconf import OmegaConf
from test_sweep import TROUBLE, jobs

import trainer.sweep.launchers as elsewhere
from trainer.rundir.errors import Refused
from trainer.sweep.pool import Slot

# The jobs find this folder's modules, as the process that starts them does.
ENV = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
SHORT = ("-m", "data=iris", "data.batch_size=16", "train.device=cpu", "train.threads=auto", *TROUBLE)
BAD = "objective.what=good,raise,end,kill"
LONG = ("-m", "optim=cgd", "model.dropout=0.3", "data.batch_size=4", "data=iris", "train.device=cpu")


# How launchers and jobs behave, without any: quick.


class Scripted(Launcher):
    """Does to each job what a script says, in the place of its keeper; a launcher ends with an exception or without."""

    def __init__(self, *calls):
        self.calls, self.asked = list(calls), []

    def setup(self, *, hydra_context, task_function, config):
        self.context, self.config = hydra_context, config

    def launch(self, job_overrides, initial_job_idx):
        self.asked.append([overrides[0].removeprefix("job=") for overrides in job_overrides])
        for overrides in job_overrides:
            job = self.context.config_loader.load_sweep_config(self.config, overrides)
            note, script = Path(job.launched) / Path(job.path).name, self.calls.pop(0)
            if script.startswith("fail"):
                raise RuntimeError(f"{script}\nand more")
            note.write_text("began")
            if script != "silent":
                note.write_text(f"ended {script}")


def launching(tmp_path, *calls, names=("0_a", "1_b", "2_c"), most=None):
    """A launcher with that script, and what gives it jobs of these names."""
    for name in names:
        (tmp_path / name).mkdir()
    own = {"launcher": {"_target_": "x"}, "job": {"name": "t", "env_set": {}}}
    config = OmegaConf.create({"hydra": own | {"runtime": {"choices": {"hydra/launcher": "scripted"}}}})
    launcher = Scripted(*calls)
    pool = elsewhere.Elsewhere(launcher, tmp_path, config, most)
    pool.open([Slot()])
    for name in names[:most]:
        assert pool.free
        pool.start(tmp_path / name)
    assert pool.free == (most is None)
    return launcher, pool


def finish(pool):
    """What became of each job, when none is under way."""
    found = []
    while pool.busy:
        found += pool.ended(0.05)
    return {one.path.name: one.code for one in found}


def test_all_jobs_go_to_the_launcher_in_one_call(tmp_path):
    launcher, pool = launching(tmp_path, "0", "3", "-9")
    assert finish(pool) == {"0_a": 0, "1_b": 3, "2_c": -9}
    assert launcher.asked == [["0_a", "1_b", "2_c"]]
    assert [path.name for path in pool.began()] == ["0_a", "1_b", "2_c"]
    assert not (tmp_path / ".launched").exists()


def test_so_many_jobs_a_call_as_are_asked_for(tmp_path):
    launcher, pool = launching(tmp_path, "0", "0", "0", most=2)
    assert finish(pool) == {"0_a": 0, "1_b": 0}
    assert pool.free
    pool.start(tmp_path / "2_c")
    assert finish(pool) == {"2_c": 0}
    assert launcher.asked == [["0_a", "1_b"], ["2_c"]]


def test_jobs_that_a_failing_launcher_has_not_begun_are_given_to_it_again(tmp_path):
    launcher, pool = launching(tmp_path, "0", "fail", "1", "0")
    assert finish(pool) == {"0_a": 0, "1_b": 1, "2_c": 0}
    assert launcher.asked == [["0_a", "1_b", "2_c"], ["1_b", "2_c"]]
    assert not (tmp_path / ".launched").exists()


def test_a_launcher_that_fails_again_and_again_costs_only_what_it_has_not_done(tmp_path):
    _, pool = launching(tmp_path, "0", "fail", "fail")
    assert finish(pool) == {"0_a": 0, "1_b": 1, "2_c": 1}
    assert summary(tmp_path / "2_c") == {"status": "failed", "error": "hydra/launcher=scripted: fail"}


def test_a_launcher_that_can_start_nothing_is_one_line_and_leaves_nothing(tmp_path):
    _, pool = launching(tmp_path, "fail")
    with pytest.raises(Refused, match=r"^hydra/launcher=scripted: fail$"):
        finish(pool)
    assert sorted(os.listdir(tmp_path)) == ["0_a", "1_b", "2_c"]
    assert not any(os.listdir(tmp_path / name) for name in os.listdir(tmp_path))


def test_a_job_whose_keeper_has_gone_was_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(elsewhere, "SILENT_S", 0.2)
    launcher, pool = launching(tmp_path, "0", "silent", "fail", "0")
    assert finish(pool) == {"0_a": 0, "1_b": -signal.SIGKILL, "2_c": 0}
    assert launcher.asked == [["0_a", "1_b", "2_c"], ["2_c"]]


def test_jobs_that_wait_when_all_are_stopped_do_not_begin(tmp_path):
    blocked = threading.Event()
    launcher, pool = launching(tmp_path, "silent")
    launcher.launch = lambda jobs, index: blocked.wait(20)
    assert pool.ended(0.05) == []
    folder = pool.launches[0].folder
    pool.tell(signal.SIGTERM)
    assert not pool.busy
    assert (folder / ".told").read_text() == "15"
    assert elsewhere.keeper.told(folder) == 15
    assert pool.ended(0.0) == pool.ended(0.0) == []
    assert elsewhere.keeper.told(folder) == 0  # gone
    pool.tell(signal.SIGTERM)
    blocked.set()


@pytest.mark.parametrize(
    ("choice", "extra"), [("submitit_slurm", "slurm"), ("submitit_local", "slurm"), ("ray", "ray")]
)
def test_a_launcher_that_is_not_installed_is_one_line(tmp_path, choice, extra):
    hide = "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n: None if 'launcher' in n else f(n)"
    program = f"{hide}; from trainer.__main__ import main; main()"
    argv = [sys.executable, "-c", program, "-m", "optim.lr=0.1,0.2", f"hydra/launcher={choice}", "hydra.sweep.dir=s"]
    done = subprocess.run(argv, cwd=tmp_path, env=os.environ | ENV, capture_output=True, text=True, timeout=600)
    line = f"hydra/launcher={choice}: needs packages that are not installed: pip install -e '.[{extra}]'\n"
    assert (done.returncode, done.stdout + done.stderr) == (2, f"conga: {line}")
    assert os.listdir(tmp_path) == []


# Real launchers and real jobs; each imports torch anew, which takes seconds.


@pytest.fixture(scope="module")
def ours(zygote, tmp_path_factory):
    """What our own launcher makes of jobs that go well and of others."""
    folder = tmp_path_factory.mktemp("ours")
    argv, log = [*SHORT, BAD, "train.epochs=2", "hydra.sweep.dir=s", "sweep.workers=2"], folder / "log"
    answer = zygote.ask(argv=argv, cwd=str(folder), output=str(log), env=ENV, limit=None, trip=None)
    assert zygote.ask(wait=answer["pid"])["status"] == 1, log.read_text()
    return folder / "s"


def outcome(folder):
    return {run: (status, summary(folder / run).get("error")) for run, status in jobs(folder).items()}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "how"),
    [
        ("submitit", ("hydra/launcher=submitit_local", "sweep.workers=2")),
        ("ray", ("hydra/launcher=ray", "hydra.launcher.ray.init.num_cpus=2")),
        ("hydra_plugins.hydra_joblib_launcher", ("hydra/launcher=joblib",)),
    ],
)
def test_results_and_failures_are_those_of_our_own_launcher(cli, tmp_path, ours, package, how):
    pytest.importorskip(package)
    code, text = cli(*SHORT, BAD, "train.epochs=2", "hydra.sweep.dir=s", *how, env=ENV)
    assert code == 1, text
    assert "Traceback" not in text
    assert outcome(tmp_path / "s") == outcome(ours)
    assert_same_run(ours / "0_objective.what-good", tmp_path / "s" / "0_objective.what-good")
    assert not (tmp_path / "s" / ".launched").exists()


def until(condition, job=None, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert job is None or not job.over(), job.wait()
        time.sleep(0.02)


def epochs(folder):
    return [summary(run).get("epochs", 0) if (run / "summary.json").exists() else 0 for run in folder.glob("[0-9]_*")]


@pytest.mark.slow
def test_stopped_and_gone_on_with(start, cli, tmp_path):
    """Ctrl-C lets the jobs save and end; the same command goes on with them, and the end is that of one go."""
    pytest.importorskip("submitit")
    argv, launcher = (*LONG, "seed=0,1", "train.epochs=80", "train.threads=1"), "hydra/launcher=submitit_local"
    job = start(*argv, launcher, "hydra.sweep.dir=s", env=ENV)
    until(lambda: len(epochs(tmp_path / "s")) == 2 and min(epochs(tmp_path / "s")) > 2, job)
    job.send(signal.SIGINT)
    code, text = job.wait()
    assert code == 130, text
    assert set(jobs(tmp_path / "s").values()) == {"interrupted"}
    assert "python -m trainer resume s" in text
    before = epochs(tmp_path / "s")
    assert max(before) < 80
    code, text = cli(*argv, launcher, "hydra.sweep.dir=s", env=ENV)
    assert code == 0, text
    assert cli(*argv, "hydra.sweep.dir=whole")[0] == 0
    for name in jobs(tmp_path / "s"):
        assert_same_run(tmp_path / "whole" / name, tmp_path / "s" / name)
    code, text = cli(*argv, launcher, "hydra.sweep.dir=s", env=ENV)
    assert (code, "2 of them done" in text) == (0, True), text


@pytest.mark.slow
def test_jobs_outlive_a_killed_sweep_and_the_next_one_waits_for_them(start, tmp_path):
    """`resume`, with our own launcher here or there, does none of them twice."""
    pytest.importorskip("submitit")
    argv = (*LONG, "seed=0,1", "train.epochs=100", "train.threads=1")
    job = start(*argv, "hydra/launcher=submitit_local", "hydra.sweep.dir=s", env=ENV)
    until(lambda: len(epochs(tmp_path / "s")) == 2 and min(epochs(tmp_path / "s")) > 2, job)
    job.kill()
    pids = {run.name: summary(run)["process"]["pid"] for run in (tmp_path / "s").glob("[0-9]_*")}
    resume = [sys.executable, "-m", "trainer", "resume", "s"]
    done = subprocess.run(resume, cwd=tmp_path, env=os.environ | ENV, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(jobs(tmp_path / "s").values()) == {"finished"}
    assert {run.name: summary(run)["process"]["pid"] for run in (tmp_path / "s").glob("[0-9]_*")} == pids


# SLURM's commands, as far as submitit uses them: jobs of an array are processes here.

SBATCH = """#!python
import os, re, subprocess, sys
text = open(sys.argv[-1]).read()
open("sbatch.txt", "w").write(text)
size = int(re.search(r"--array=0-(\\d+)%", text)[1]) + 1
for i in range(size):
    names = {"ARRAY_JOB_ID": 77, "ARRAY_TASK_ID": i, "JOB_ID": 77 + i, "PROCID": 0, "NTASKS": 1, "JOB_NUM_NODES": 1}
    env = os.environ | {f"SLURM_{k}": str(v) for k, v in names.items()}
    loop = f"while :; do bash {sys.argv[-1]}; [ -e requeue-77_{i} ] || break; rm requeue-77_{i}; done"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # who asked waits for the pipes to close
    subprocess.Popen(["bash", "-c", loop], env=env, start_new_session=True, **quiet)
print("Submitted batch job 77")
"""
COMMANDS = {
    "sbatch": SBATCH,
    "srun": '#!/bin/bash\nwhile [[ $1 == --* ]]; do [[ $1 == --unbuffered ]] || shift; shift; done\nexec "$@"\n',
    "sacct": "#!/bin/bash\necho 'JobID|State|NodeList'; echo '77_0|RUNNING|here'; echo '77_1|RUNNING|here'\n",
    "scontrol": '#!/bin/bash\ntouch "$1-$2"\n',
}


@pytest.mark.slow
def test_slurm_gets_one_array_and_a_job_that_must_make_room_saves_and_is_queued_again(start, tmp_path):
    """Against a stand-in for SLURM's commands: what is asked of it, and what its signal does."""
    pytest.importorskip("submitit")
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in COMMANDS.items():
        (folder / name).write_text(text.replace("#!python", f"#!{sys.executable}"))
        (folder / name).chmod(stat.S_IRWXU)
    how = ("hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.array_parallelism=1")
    argv = (*LONG, "seed=0,1", "train.epochs=100", "hydra.sweep.dir=s", *how)
    job = start(*argv, env=ENV | {"PATH": f"{folder}:{os.environ['PATH']}"})
    until(lambda: len(epochs(tmp_path / "s")) == 2 and min(epochs(tmp_path / "s")) > 2, job)
    run = next((tmp_path / "s").glob("0_*"))
    child = summary(run)["process"]["pid"]
    keeper = int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(keeper, signal.SIGUSR2)
    code, text = job.wait()
    assert code == 0, text
    assert set(jobs(tmp_path / "s").values()) == {"finished"}
    assert "interrupted after" in (run / "train.log").read_text()
    assert summary(run)["process"]["pid"] != child
    assert {summary(run)["threads"] for run in (tmp_path / "s").glob("[0-9]_*")} == {1}
    asked = (tmp_path / "sbatch.txt").read_text()
    for line in ("--array=0-1%1", "--partition=gpu", "--time=1440", "--cpus-per-task=1", "--signal=USR2@120"):
        assert f"#SBATCH {line}\n" in asked, asked
    assert "gpus" not in asked
    assert json.loads((tmp_path / "s" / "sweep.json").read_text())["swept"] == ["seed"]
