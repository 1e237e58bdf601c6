"""Fashion-MNIST as a script reads it: with NumPy, from the files that were published."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def folder() -> Path | None:
    """The folder of the four gzipped files: $CONGA_DATA or Debian's; None if missing."""
    places = [Path(os.environ["CONGA_DATA"])] if "CONGA_DATA" in os.environ else []
    held = (p for p in [*places, DEBIAN] if all((p / f"{name}-ubyte.gz").is_file() for name in FILES))
    return next(held, None)


def read(root: str | Path, name: str) -> np.ndarray:
    """An IDX file's bytes, without the header: images (N, 28, 28), or labels (N,)."""
    header, shape = (16, (-1, 28, 28)) if "images" in name else (8, (-1,))
    with gzip.open(Path(root) / f"{name}-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=header).reshape(shape)


def standardized(root: str | Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training, validation (the first 5,000) and test images, standardized pixel by pixel, with their labels."""
    x, y, x_test, y_test = (read(root, name) for name in FILES)
    mean, std = x[5000:].mean(0), x[5000:].std(0) + 1e-7
    parts = (x[5000:], y[5000:]), (x[:5000], y[:5000]), (x_test, y_test)
    return [(((images - mean) / std).astype(np.float32), labels) for images, labels in parts]
