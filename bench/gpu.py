"""On a GPU: captured steps against eager ones and loops by hand, and ResNet-18's share of the card's matrix peak.

The MLP and the digits' CNN in batches of 32 with train.cuda_graph=auto, false, and by hand; then ResNet-18 with the
small stem over images of 3 x 32 x 32 in batches of 512, bf16 and compiled on both sides.
"""

from __future__ import annotations

import functools
import statistics

import torch
from torch import Tensor, nn

from bench.contestants import assembled, by_hand, mlp, random_images, resnet18, standardized, steps
from bench.harness import interleave, print_rates, print_ratios, timed

CUDA = torch.device("cuda")
SMALL = 32
LARGE = 512
SIDE = 8192  # of the matrices that measure the peak
MULTIPLY_ADDS = 555_422_720  # of ResNet-18 with the small stem and ten classes, forward, for one image of 3 x 32 x 32


def run() -> None:
    """Prints ratios and rates."""
    if not torch.cuda.is_available():
        print("  there is no GPU here")
        return
    print(f"  {torch.cuda.get_device_name()}")
    torch.manual_seed(0)
    captured("mlp", ["model.widths=[300,100]"], mlp(), (1, 28, 28))
    captured("cnn", ["model=cnn"], cnn(), (1, 8, 8))
    throughput()


def captured(name: str, model: list[str], network: nn.Module, shape: tuple[int, ...]) -> None:
    """Prints the ratios of captured steps to others; a round is 200 steps of each."""
    print(f" {name}, batch {SMALL}")
    images, labels = random_images(200 * SMALL, *shape)
    options = [*model, f"data.batch_size={SMALL}", "train.device=cuda"]
    with (
        assembled(images, labels, *options, "train.cuda_graph=auto") as graph,
        assembled(images, labels, *options, "train.cuda_graph=false") as eager,
    ):
        contestants = {
            "conga, captured": lambda: steps(graph),
            "conga, eager": lambda: steps(eager),
            "by hand": by_hand(network.to(CUDA), standardized(images).to(CUDA), labels.to(CUDA), SMALL),
        }
        print_ratios(interleave(contestants, rounds=20), "conga, captured", "us a step", 1e6 / 200)


def throughput() -> None:
    """Prints images per second of ResNet-18, and their share of the matrix peak."""
    print(f" resnet18, batch {LARGE}, bf16, compiled")
    images, labels = random_images(50 * LARGE, 3, 32, 32)
    switches = ["train.precision=bf16", "train.compile=true", "train.device=cuda"]
    network = torch.compile(resnet18().to(CUDA, memory_format=torch.channels_last))
    x: Tensor = standardized(images).to(CUDA, memory_format=torch.channels_last)
    cast = functools.partial(torch.autocast, CUDA.type, torch.bfloat16)
    with assembled(images, labels, "model=resnet18", "model.stem=small", f"data.batch_size={LARGE}", *switches) as t:
        contestants = {
            "conga": lambda: steps(t),
            "by hand": by_hand(network, x, labels.to(CUDA), LARGE, cast=cast),
        }
        seconds = interleave(contestants, rounds=10)
    print_rates(seconds, len(images), "images/s")
    print_ratios(seconds, "conga", "s a round")
    peak = matrix_peak()
    done = 3 * 2 * MULTIPLY_ADDS * len(images) / statistics.median(seconds["conga"])  # backward takes twice forward
    print(f"  {done / 1e12:.1f} TFLOP/s, {done / peak:.1%} of the {peak / 1e12:.0f} that bf16 matrices reach")


def matrix_peak() -> float:
    """Floating-point operations a second of large bf16 matrix products."""
    a, b = (torch.randn(SIDE, SIDE, device=CUDA, dtype=torch.bfloat16) for _ in range(2))

    def products() -> None:
        for _ in range(20):
            a @ b
        torch.cuda.synchronize()

    products()
    return 20 * 2 * SIDE**3 / statistics.median(timed(products) for _ in range(5))


def cnn() -> nn.Module:
    """The digits' network as in a script."""
    return nn.Sequential(
        *(nn.Conv2d(1, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(160, 50), nn.ReLU(), nn.Linear(50, 10)),
    )
