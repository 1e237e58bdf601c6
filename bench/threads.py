"""``train.threads=auto`` against one thread and against one on each core, alone and beside a busy process.

Each pair of a model and data trains on random samples of the shape of the data. The step is the same, only torch's
number of threads changes; contestants take turns. A ratio of 1.1 means that the rule's choice takes 10 % longer than
the better of both.
"""

from __future__ import annotations

import contextlib
import functools
import statistics
import subprocess
import sys
from collections.abc import Iterator

import torch

from bench.contestants import assembled, random_images, steps
from bench.harness import interleave
from trainer.training.state import Training

DIGITS, FASHION, CIFAR = (1, 8, 8), (1, 28, 28), (3, 32, 32)
# Name -> shape of a sample, samples in a round, overrides.
PAIRS: dict[str, tuple[tuple[int, ...], int, tuple[str, ...]]] = {
    "digits, linear": (DIGITS, 6_400, ("model=linear", "data.batch_size=32")),
    "digits, mlp": (DIGITS, 3_200, ("model=mlp", "data.batch_size=32")),
    "digits, cnn": (DIGITS, 1_600, ("model=cnn", "data.batch_size=32")),
    "digits, cnn, batch 100": (DIGITS, 3_200, ("model=cnn", "data.batch_size=100")),
    "Fashion-MNIST, mlp 300-100": (FASHION, 6_400, ("model=mlp", "model.widths=[300,100]", "data.batch_size=32")),
    "Fashion-MNIST, mlp 1024-1024": (FASHION, 3_200, ("model=mlp", "model.widths=[1024,1024]", "data.batch_size=128")),
    "Fashion-MNIST, cnn": (FASHION, 1_280, ("model=cnn", "data.batch_size=64")),
    "Fashion-MNIST by rows, lstm": (FASHION, 1_280, ("model=lstm", "data.batch_size=32")),
    "Fashion-MNIST by rows, lstm, batch 128": (FASHION, 2_560, ("model=lstm", "data.batch_size=128")),
    "CIFAR-10, resnet18": (CIFAR, 64, ("model=resnet18", "data.batch_size=32")),
}
ROUNDS = 7


def run() -> None:
    """Prints a line for each pair."""
    cores = torch.get_num_threads()
    print(f"{'':<40} {'auto':>4} {'one':>9} {cores:>6} cores   auto / the better: alone, beside a busy process")
    for name, (shape, n, overrides) in PAIRS.items():
        with assembled(*random_images(n, *shape), *overrides) as t:
            auto = t.summary.data["threads"]
            contestants = {k: functools.partial(steps_with, k, t) for k in sorted({1, auto, cores})}
            alone = interleave(contestants, ROUNDS)
            with busy_process():
                beside = interleave(contestants, ROUNDS)
            count = -(-n // t.dataset.batch_size)
        one, all_of_them = (statistics.median(alone[k]) / count * 1e3 for k in (1, cores))
        ratios = f"{behind(alone, auto):.2f} {behind(beside, auto):.2f}"
        print(f"{name:<40} {auto:>4} {one:>6.2f} ms {all_of_them:>6.2f} ms      {ratios}", flush=True)


def steps_with(threads: int, t: Training) -> None:
    """The steps of an epoch with so many threads."""
    torch.set_num_threads(threads)
    steps(t)


def behind(seconds: dict[int, list[float]], auto: int) -> float:
    """The median over the rounds of the seconds with `auto` threads, relative to the better choice."""
    better = min(seconds, key=lambda k: statistics.median(seconds[k]))
    return statistics.median(a / b for a, b in zip(seconds[auto], seconds[better], strict=True))


@contextlib.contextmanager
def busy_process() -> Iterator[None]:
    """Beside a process that keeps a core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()
