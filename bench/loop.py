"""An epoch of a run against hand-written PyTorch loops over the same tensors.

MLP 784-300-100-10, batch 32, SGD at 1e-3, on random images of 28 x 28. The steps are timed over 200 of them, since
short rounds interleave better; the end of an epoch (row of metrics.csv, both checkpoints, summary.json, the plain line)
on its own, as a share of an epoch over 55,000 images.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from omegaconf import OmegaConf
from torch import nn

from bench.harness import interleave, print_ratios
from data import Dataset, Facts
from models import MLP
from optim import sgd
from trainer.config import CONF
from trainer.display import Display
from trainer.loggers import Csv
from trainer.loop import finish_epoch, measure_epoch, train_epoch
from trainer.objectives import CrossEntropy
from trainer.run_dir import Summary
from trainer.stop import StopRequest
from trainer.training import Settings, Training

N, B = 6_400, 32


class Quiet(Display):
    """Writes its lines to the log only: they would stand between the ratios."""

    def _print(self, line: str) -> None:
        pass


def model() -> nn.Module:
    """The same initial network for every contestant."""
    torch.manual_seed(0)
    return MLP((1, 28, 28), 10, widths=[300, 100], activation="relu", dropout=0.0)


def run() -> None:
    """Prints the ratios."""
    torch.manual_seed(0)
    images = torch.randint(0, 256, (N, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (N,))
    mean, std = images.float().mean(), images.float().std()
    ready = (images.float() - mean) / std
    with tempfile.TemporaryDirectory() as folder:
        t = training(images, labels, mean, std, Path(folder))
        contestants = {
            "conga": lambda: steps(t),
            "by hand, same work": by_hand(images, labels, lambda x: (x - mean) / std, metrics=True),
            "by hand, no metrics": by_hand(images, labels, lambda x: (x - mean) / std, metrics=False),
            "by hand, no metrics, normalized once before": by_hand(ready, labels, lambda x: x, metrics=False),
        }
        seconds = interleave(contestants, rounds=40)
        print_ratios(seconds, "conga", "us a step", 1e6 / (N / B))
        ends = []
        for _ in range(20):
            steps(t)
            started = time.perf_counter()
            finish_epoch(t, *measure_epoch(t))
            ends.append(time.perf_counter() - started)
        epoch = statistics.median(seconds["conga"]) * 55_000 / N
        end = statistics.median(ends)
        print(f"  the end of an epoch: {end * 1e3:.1f} ms, {end / epoch:.2%} of one over 55,000 images")


def steps(t: Training) -> None:
    """The steps of one epoch, from its start."""
    t.progress.position, t.progress.sums = 0, {}
    train_epoch(t, None)


def training(
    images: torch.Tensor, labels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor, folder: Path
) -> Training:
    """A run as the trainer assembles it."""
    facts = Facts("random", "classification", (1, 28, 28), 10, None, None, {"train": N}, mean, std)
    network = model()
    defaults = OmegaConf.to_container(OmegaConf.load(CONF / "train" / "default.yaml"))
    del defaults["_target_"]
    settings = Settings(**defaults | {"epochs": 1000, "monitor": "train/loss"})
    t = Training(
        run=folder,
        config={},
        seed=0,
        settings=settings,
        device=torch.device("cpu"),
        dataset=Dataset({"train": (images, labels)}, facts, B),
        model=network,
        optimizer=sgd(network.parameters(), lr=1e-3),
        schedule=None,
        objective=CrossEntropy(facts),
        loggers=[Csv()],
        summary=Summary(folder / "summary.json"),
        display=Quiet(folder / "train.log", 1000, 1000 * N // B, N // B),
        stop=StopRequest(),
    )

    t.loggers[0].start(folder, t.columns(), t.group_columns(), 0)
    return t


def by_hand(images: torch.Tensor, labels: torch.Tensor, normalize, *, metrics: bool):
    """One epoch as one writes it in a script."""
    network = model()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)

    def epoch() -> None:
        network.train()
        loss_sum, correct = torch.zeros(()), torch.zeros((), dtype=torch.long)
        order = torch.randperm(N)
        for start in range(0, N, B):
            index = order[start : start + B]
            x, y = normalize(images[index]), labels[index]
            logits = network(x)
            loss = F.cross_entropy(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if metrics:
                with torch.no_grad():
                    loss_sum += loss * len(y)
                    correct += (logits.argmax(1) == y).sum()

    return epoch
