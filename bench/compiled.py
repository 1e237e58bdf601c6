"""Steps of a run with train.compile=true, once compiled, against those without and a hand-written loop.

The network, batches and samples of `loop`. Compilation is in the warm-up, and timed by itself.
"""

from __future__ import annotations

import torch

from bench.contestants import assembled, by_hand, mlp, random_images, standardized, steps
from bench.harness import interleave, print_ratios, timed
from bench.loop import MLP, B, N


def run() -> None:
    """Prints the ratios."""
    torch.manual_seed(0)
    images, labels = random_images(N, 1, 28, 28)
    with (
        assembled(images, labels, *MLP) as eager,
        assembled(images, labels, *MLP, "train.compile=true") as t,
    ):
        print(f"  the first 200 steps, with compilation: {timed(lambda: steps(t)):.1f} s")
        contestants = {
            "conga, compiled": lambda: steps(t),
            "conga, eager": lambda: steps(eager),
            "by hand, eager, normalized once before": by_hand(mlp(), standardized(images), labels, B),
        }
        print_ratios(interleave(contestants, rounds=40), "conga, compiled", "us a step", 1e6 / (N / B))
