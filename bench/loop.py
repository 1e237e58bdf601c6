"""An epoch of a run against hand-written PyTorch loops over the same tensors.

MLP 784-300-100-10, batch 32, SGD at 1e-3, on random images of 28 x 28. The steps are timed over 200 of them, since
short rounds interleave better; the end of an epoch (row of metrics.csv, both checkpoints, summary.json, the plain line)
on its own, as a share of an epoch over 55,000 images; and epochs of so many with the bars of a terminal.
"""

from __future__ import annotations

import io
import statistics
from typing import Any

import torch

from bench.contestants import assembled, by_hand, mlp, random_images, standardized, steps
from bench.harness import interleave, print_ratios, timed
from trainer.cli.display import TerminalDisplay
from trainer.training.loop import finish_epoch, measure_epoch

N, B = 6_400, 32
EPOCH = 55_000
MLP = ("model.widths=[300,100]", f"data.batch_size={B}")


def run() -> None:
    """Prints the ratios."""
    torch.manual_seed(0)
    images, labels = random_images(N, 1, 28, 28)
    mean, std = images.float().mean(), images.float().std()
    normalize = {"normalize": lambda x: (x - mean) / std}
    with assembled(images, labels, *MLP) as t:
        contestants = {
            "conga": lambda: steps(t),
            "by hand, same work": by_hand(mlp(), images, labels, B, **normalize),
            "by hand, no metrics": by_hand(mlp(), images, labels, B, **normalize, metrics=False),
            "by hand, no metrics, normalized once before": by_hand(
                mlp(), standardized(images), labels, B, metrics=False
            ),
        }
        seconds = interleave(contestants, rounds=40)
        print_ratios(seconds, "conga", "us a step", 1e6 / (N / B))
        ends = []
        for _ in range(20):
            steps(t)
            ends.append(timed(lambda: finish_epoch(t, *measure_epoch(t))))
        epoch = statistics.median(seconds["conga"]) * EPOCH / N
        end = statistics.median(ends)
        print(f"  the end of an epoch: {end * 1e3:.1f} ms, {end / epoch:.2%} of one over {EPOCH:,} images")
    print(f" epochs over {EPOCH:,} images, with bars")
    images, labels = random_images(EPOCH, 1, 28, 28)
    with assembled(images, labels, *MLP, show=Bars) as t:
        contestants = {
            "conga": lambda: steps(t),
            "by hand, same work": by_hand(mlp(), images, labels, B, **normalize),
            "by hand, normalized once before": by_hand(mlp(), standardized(images), labels, B),
        }
        print_ratios(interleave(contestants, rounds=8), "conga")


class Bars(TerminalDisplay):
    """The bars as on a terminal, drawn to nowhere."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.console.file, self.console.is_interactive = Nowhere(), True


class Nowhere(io.StringIO):
    """A terminal that discards everything."""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)
