"""Several processes that train one model, as torchrun starts them: the numbers of one, one writer, clean ends."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, assert_same_run, summary

from data import Dataset, Facts
from data.dataset import share_of

# Batches of 31 and a last one of 23: shares are uneven. Every process normalizes by the whole batch.
RUN = ["model.norm=batch", "data.batch_size=31", "train.epochs=2", "train.device=cpu", "train.threads=1"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def launch(cwd, *options, processes=2):
    """By torchrun itself."""
    command = [sys.executable, "-m", "torch.distributed.run"]
    command += [f"--nproc-per-node={processes}", f"--master-port={free_port()}"]
    return subprocess.Popen(
        [*command, "-m", "trainer", *options],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(job):
    out, err = job.communicate(timeout=600)
    assert job.returncode == 0, err
    return out


@pytest.fixture(scope="session")
def together(zygote):
    """together(cwd, *options) -> what two processes print, started as torchrun starts them, but without its imports."""

    def together(cwd, *options, code=0):
        group = {
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(free_port()),
        }
        logs, pids = [cwd / f".output{rank}" for rank in range(2)], []
        for rank, log in enumerate(logs):
            env = group | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            request = {"argv": options, "cwd": str(cwd), "output": str(log), "env": env, "limit": None, "trip": None}
            pids.append(zygote.ask(**request)["pid"])
        codes = [zygote.ask(wait=pid)["status"] for pid in pids]
        text = "".join(log.read_text() for log in logs)
        assert codes == [code] * 2, text
        return text

    return together


def table(run):
    frame = pd.read_csv(run / "metrics.csv")
    return frame[[c for c in frame if not c.startswith("time/")]]


def assert_same_numbers(a, b):
    """Up to rounding."""
    pd.testing.assert_frame_equal(table(a), table(b), rtol=2e-4)
    one, other = (torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"] for run in (a, b))
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-3, atol=1e-4)
    for name, value in (summary(a)["test"] or {}).items():
        assert summary(b)["test"][name] == pytest.approx(value, rel=1e-3)


@pytest.mark.slow
def test_two_processes_train_as_one_does(cli, tmp_path):
    """Each with its share of augmented images; one makes the directory, prints and writes."""
    options = [*RUN, "model=cnn", "optim=cgd", "data.augment.crop=1", "train.accumulate=2", "objective.l2=1e-3"]
    options = [o for o in options if not o.startswith("model.norm")]
    assert cli(*options, "hydra.run.dir=one")[0] == 0
    out = finished(launch(tmp_path, *options))
    (run,) = tmp_path.glob("outputs/*/*")
    assert_same_numbers(tmp_path / "one", run)
    assert out == (run / "train.log").read_text()
    assert "device      2 processes, cpu, 1 thread, seed 0\n" in out


VARIANTS = {
    "batch normalization, averages": [*RUN, "train.ema=0.9", "optim.lr=0.01"],
    # Without batch normalization: a bias before it has a gradient of rounding errors, whose signs an oracle takes.
    "a second point": [*RUN[1:], "optim=svrf"],
    "weights of classes and rows": [
        *("data=csv", "data.path=table.csv", "data.targets=y", "data.weights=w", "objective=binary_cross_entropy"),
        *("objective.class_weights=[1,3]", "train.epochs=3", "data.batch_size=30", "train.accumulate=2"),
    ],
    # Without evaluations: PGD starts anywhere, in each process for its own samples.
    "an adversary": [*RUN, "objective.adversary=fgsm", "optim.lr=0.01", "data.val_fraction=0", "data.test_fraction=0"],
    "numbers": ["data=diabetes", "train.epochs=2", "train.precision=float64", "optim.lr=0.001"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_kind_of_run_is_that_of_one_process(cli, together, tmp_path, name):
    rng = np.random.default_rng(0)
    a, b, w = rng.random(200), rng.random(200), rng.integers(0, 3, 200)
    pd.DataFrame({"a": a, "b": b, "w": w, "y": np.where(a > b, "yes", "no")}).to_csv(
        tmp_path / "table.csv", index=False
    )
    assert cli(*VARIANTS[name], "hydra.run.dir=one")[0] == 0
    together(tmp_path, *VARIANTS[name], "hydra.run.dir=two")
    assert_same_numbers(tmp_path / "one", tmp_path / "two")


def wait_for_epoch(run, job, epoch):
    deadline = time.monotonic() + 600
    while not (run / "metrics.csv").exists() or len((run / "metrics.csv").read_text().splitlines()) <= epoch:
        assert time.monotonic() < deadline
        assert job.poll() is None, job.communicate()
        time.sleep(0.01)


def process_of_rank(job, rank):
    """The process that torchrun started for `rank`."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if parent == str(job.pid) and f"RANK={rank}" in environment:
            return int(pid)
    raise AssertionError("no such process")


STOPPED = [*RUN, "model.dropout=0.3", "train.epochs=10", "train.checkpoint_steps=10"]


@pytest.fixture(scope="module")
def whole(together, tmp_path_factory):
    path = tmp_path_factory.mktemp("uninterrupted")
    together(path, *STOPPED, "hydra.run.dir=whole")
    return path / "whole"


@pytest.mark.slow
@pytest.mark.parametrize("stop", ["process 0 killed", "process 1 killed", "interrupted"])
def test_what_is_left_of_a_run_goes_on_exactly(together, tmp_path, whole, stop):
    """With dropout, which every process draws for itself."""
    job = launch(tmp_path, *STOPPED, "hydra.run.dir=run")
    wait_for_epoch(tmp_path / "run", job, 1)
    if stop == "interrupted":
        job.send_signal(signal.SIGINT)
    else:
        os.kill(process_of_rank(job, stop[8]), signal.SIGKILL)
    out, err = job.communicate(timeout=600)
    assert job.returncode != 0
    command = "torchrun --nproc-per-node=2 -m trainer resume run"
    if stop == "interrupted":
        assert re.search(rf"interrupted after \d+ epochs? and [\d,]+ steps?; to resume:\n  {command}\n", out)
    else:
        line = f"conga: another process of this run has gone; to resume from the last checkpoint: {command}\n"
        assert err.count(line) == 1
    assert "Traceback" not in out
    assert "/trainer/" not in err  # torchrun's own traceback is none of ours
    assert summary(tmp_path / "run")["status"] == ("running" if stop == "process 0 killed" else "interrupted")
    together(tmp_path, "train.resume=run")
    assert_same_run(whole, tmp_path / "run")


@pytest.mark.slow
def test_a_mistake_is_said_once(together, tmp_path):
    text = together(tmp_path, "-m", "seed=0", code=2)
    assert (
        text
        == "conga: -m, or an experiment that is a sweep: torchrun trains one run; leave out the sweep or torchrun\n"
    )
    _, err = launch(tmp_path, "data.batch_size=1293").communicate(timeout=600)
    line = "conga: data.batch_size=1293: leaves 1 of 1,294 training samples for the last batch, fewer"
    assert err.count(line) == 1
    assert not list(tmp_path.glob("outputs/*/*/summary.json"))


@pytest.mark.slow
def test_a_run_of_two_goes_on_alone(cli, together, tmp_path):
    together(tmp_path, *RUN, "hydra.run.dir=run")
    code, text = cli("train.resume=run", "train.epochs=3")
    assert code == 0, text
    assert summary(tmp_path / "run")["epochs"] == 3


@pytest.mark.parametrize(("n", "size"), [(10, 3), (2, 3), (31, 2), (7, 7), (0, 2)])
def test_shares_are_those_of_tensor_split(n, size):
    expected = torch.arange(n).tensor_split(size)
    for rank in range(size):
        first, last = share_of(n, rank, size)
        assert list(range(first, last)) == expected[rank].tolist()


@pytest.mark.parametrize("augment", [False, True])
def test_shares_of_a_batch_are_the_batch(augment):
    """Put together, what two processes see is what one sees, also augmented."""
    from data import Augment

    torch.manual_seed(0)
    numbers = torch.tensor(0.5), torch.tensor(2.0)
    facts = Facts("x", "classification", (1, 6, 6), 3, None, None, {"train": 23, "val": 3}, *numbers)
    x, y = torch.randint(0, 255, (23, 1, 6, 6), dtype=torch.uint8), torch.arange(23)
    options = Augment(crop=2, flip=True, rotate=10) if augment else None

    def batches(share, split, indices, start):
        dataset = Dataset({"train": (x, y), "val": (x[:3], y[:3])}, facts, 5, options)
        dataset.share = share
        return list(dataset.batches(split, indices, 7 if split == "train" else None, start))

    for split, indices in (("train", list(torch.randperm(23).split(5))), ("val", [slice(0, 2), slice(2, 3)])):
        for start in (0, 1):
            whole, first, second = (batches(s, split, indices, start) for s in ((0, 1), (0, 2), (1, 2)))
            for batch, a, b in zip(whole, first, second, strict=True):
                for part, p, q in zip(batch, a, b, strict=True):
                    assert torch.equal(part, torch.cat([p, q]))
