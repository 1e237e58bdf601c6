"""The benchmarks' own promises, without timing anything: who is compared, how ratios are taken, what is missing."""

import itertools
import os
import subprocess
import sys

import pytest
import torch
from conftest import summary

import bench.others.fashion
import bench.peers
from bench import gpu, harness, memory, sweep
from bench.__main__ import NAMES, main
from bench.contestants import Rows, assembled, by_hand, mlp, random_images, resnet18, standardized, steps
from trainer.rundir.errors import Refused


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still but where a test moves it: `clock[0] += seconds`."""
    now = [0.0]
    monkeypatch.setattr(harness.time, "perf_counter", lambda: now[0])
    return now


def test_all_are_listed(command):
    code, text = command(main)
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == list(NAMES)
    assert all(len(line.split()) > 4 for line in text.splitlines())


def test_an_unknown_name_is_answered_with_the_list(command):
    code, text = command(main, "loop", "lop")
    assert code == 2
    assert len(text.splitlines()) == len(NAMES)


def test_turns_are_taken_and_the_first_round_is_no_measurement(clock):
    order = []

    def lasting(name, *seconds):
        left = iter(seconds)

        def work():
            order.append(name)
            clock[0] += next(left)

        return work

    seconds = harness.interleave({"a": lasting("a", 100, 1, 2, 3), "b": lasting("b", 900, 2, 2, 4)}, rounds=3)
    assert order == ["a", "b"] * 4
    assert seconds == {"a": [1, 2, 3], "b": [2, 2, 4]}


def test_seconds_that_a_contestant_says_itself():
    said = {"a": itertools.count(10), "b": itertools.count(20)}
    assert harness.interleave(said, rounds=2, measure=next) == {"a": [11, 12], "b": [21, 22]}


def test_ratios_are_taken_within_a_round(capsys):
    # A machine that is ten times slower in every other round: the ratios 1/2, 1, 3/4 do not see it. Their median is not
    # that of the medians (2 / 4), nor are their quartiles (Weibull's, at the ranks 1, 2, 3 of three).
    harness.print_ratios({"ours": [1.0, 20.0, 3.0], "theirs": [2.0, 20.0, 4.0]}, "ours", "ms", 1e3)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["ours", "3000.000", "ms"]
    assert lines[1] == ["theirs", "4000.000", "ms"]
    assert lines[2][:4] == ["ours", "/", "theirs:", "0.750"]
    assert "(quartiles 0.500 to 1.000, 3 rounds)" in " ".join(lines[2])


def test_rates(capsys):
    harness.print_rates({"ours": [1.0, 2.0, 4.0]}, 8, "images/s")
    assert " ".join(capsys.readouterr().out.split()) == "ours 4 images/s (quartiles 2 to 8)"


@pytest.mark.parametrize(
    ("model", "hand", "shape", "size"),
    [
        (["model.widths=[300,100]"], mlp, (1, 28, 28), 784 * 300 + 300 + 300 * 100 + 100 + 100 * 10 + 10),
        (["model=lstm", "model.hidden_size=128"], Rows, (1, 28, 28), 4 * 128 * (28 + 128 + 2) + 128 * 10 + 10),
        pytest.param(  # kuangliu/pytorch-cifar's size
            *(["model=resnet18", "model.stem=small"], resnet18, (3, 32, 32), 11_173_962), marks=pytest.mark.slow
        ),
        (["model=cnn"], gpu.cnn, (1, 8, 8), 10 * 9 + 10 + 160 * 50 + 50 + 50 * 10 + 10),
    ],
)
def test_both_sides_train_the_same_network(model, hand, shape, size):
    images, labels = random_images(20, *shape)
    network = hand()
    before = [p.clone() for p in network.parameters()]
    with assembled(images, labels, *model, "data.batch_size=10") as t:
        ours = [p.clone() for p in t.model.parameters()]
        steps(t)
        steps(t)
        assert t.progress.step == 4  # two batches, twice
        assert int(t.progress.sums["samples"]) == 20  # sums of metrics are of one epoch
        assert not any(torch.equal(a, b) for a, b in zip(ours, t.model.parameters(), strict=True))
    by_hand(network, standardized(images), labels, 10)()
    assert not any(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
    assert sum(p.numel() for p in ours) == sum(p.numel() for p in before) == size


def test_both_sides_see_the_same_inputs():
    images, labels = random_images(10, 3, 4, 4)
    with assembled(images, labels, "data.batch_size=10") as t:
        ((x, y, *_),) = t.dataset.batches("train", [torch.arange(10)])
    torch.testing.assert_close(x, standardized(images), rtol=1e-4, atol=1e-4)
    assert torch.equal(y, labels)


def test_a_missing_package_is_said_in_one_line(command, monkeypatch):
    monkeypatch.setattr(bench.peers, "find_spec", lambda name: None)
    code, text = command(main, "peers")
    assert code == 2
    assert text.splitlines()[-1] == (
        "conga: peers: keras: is not installed; pip install -e '.[bench]'; "
        "lightning: is not installed; pip install -e '.[bench]'"
    )


def test_missing_files_are_said_in_one_line(command, monkeypatch, tmp_path):
    monkeypatch.setattr(bench.others.fashion, "DEBIAN", tmp_path / "none")
    monkeypatch.setenv("CONGA_DATA", str(tmp_path))
    code, text = command(main, "memory")
    assert code == 2
    last = text.splitlines()[-1]
    assert last.startswith("conga: memory: Fashion-MNIST: ")
    assert "dataset-fashion-mnist" in last
    assert "Traceback" not in text


def test_a_peer_that_fails_says_why():
    with pytest.raises(Refused, match=r"bench\.others\.nobody: ends with exit status 1: .*No module named"):
        bench.peers.process("bench.others.nobody")


def test_an_unknown_peer():
    with pytest.raises(Refused, match="kears: must be one of keras_mlp, keras_digits, lightning"):
        bench.peers.run(["kears"])


def test_peak_memory_is_that_of_the_process_asked_about():
    """Not of this one, which has imported torch: a new process inherits the peak of the one that starts it."""
    small, large = memory.peak("-c", "pass"), memory.peak("-c", "bytearray(300_000_000)")
    assert small < 100e6
    assert 290e6 < large - small < 310e6


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_one_line(command):
    code, text = command(main, "gpu")
    assert code == 0
    assert text.splitlines()[-1] == "  there is no GPU here"


@pytest.mark.slow
def test_the_jobs_that_do_nothing_finish(tmp_path):
    """As `bench sweep` times them."""
    argv = [sys.executable, "-c", sweep.OURS, "-m", "optim=sgd,cgd"]
    subprocess.run(argv, check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(sweep.ROOT)})
    assert [summary(path.parent)["status"] for path in tmp_path.rglob("summary.json")] == ["finished"] * 2
