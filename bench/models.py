"""Steps of larger networks, ResNet-18 and an LSTM in batches of 128, against hand-written loops.

ResNet-18 with the small stem over images of 3 x 32 x 32 against torchvision's with that stem; an LSTM of 128 units
over 28 rows of 28 against ``nn.LSTM`` and a dense layer. Both sum metrics, over tensors that were normalized before.
"""

from __future__ import annotations

import torch
from torch import nn

from bench.contestants import Rows, assembled, by_hand, random_images, resnet18, standardized, steps
from bench.harness import interleave, print_ratios

B = 128


def run() -> None:
    """Prints the ratios."""
    torch.manual_seed(0)
    compare("lstm", ["model=lstm", "model.hidden_size=128"], Rows(), (1, 28, 28), batches=10, rounds=15)
    compare("resnet18", ["model=resnet18", "model.stem=small"], resnet18(), (3, 32, 32), batches=2, rounds=8)


def compare(
    name: str, overrides: list[str], network: nn.Module, shape: tuple[int, ...], batches: int, rounds: int
) -> None:
    """Prints the ratio of one model's steps to those by hand; a round is so many batches of each."""
    print(f" {name}, {batches} steps a round")
    images, labels = random_images(batches * B, *shape)
    with assembled(images, labels, *overrides, f"data.batch_size={B}") as t:
        contestants = {
            "conga": lambda: steps(t),
            "by hand": by_hand(network, standardized(images), labels, B),
        }
        print_ratios(interleave(contestants, rounds), "conga", "ms a step", 1e3 / batches)
