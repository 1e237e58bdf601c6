"""Images a second through the input pipeline: selected, cropped, flipped, normalized, on the CPU.

60,000 grey images of 28 x 28 as bytes, a crop of 4 pixels of padding and a flip, against the same without augmentation
and against torchvision's transforms applied image by image, as a DataLoader does it.
"""

from __future__ import annotations

from functools import partial

import torch
from torchvision.transforms import v2

from bench.harness import interleave, print_rates
from data import Augment, Dataset, Facts, epoch_order

N = 60_000


def run() -> None:
    """Prints the rates and ratios."""
    images = torch.randint(0, 256, (N, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (N,))
    mean, std = images.float().mean(), images.float().std()
    facts = Facts("random", "classification", (1, 28, 28), 10, None, None, {"train": N}, mean, std)
    by_one = v2.Compose([v2.RandomCrop(28, 4), v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32)])
    few = images[: N // 30]

    def epoch(augment: Augment | None, size: int) -> None:
        dataset = Dataset({"train": (images, labels)}, facts, size, augment)
        for _ in dataset.batches("train", epoch_order(N, 0, 0).split(size), seed=0):
            pass

    both = Augment(crop=4, flip=True)
    for size in (32, 128, 512):
        print(f" batches of {size}")
        seconds = interleave({"crop and flip": partial(epoch, both, size), "neither": partial(epoch, None, size)}, 7)
        print_rates(seconds, N, "images/s")
    print(f" torchvision v2, image by image, of {len(few):,}")
    print_rates(interleave({"crop and flip": lambda: [by_one(image) for image in few]}, 3), len(few), "images/s")
