"""Fashion-MNIST as a script reads it: with NumPy, from the files that were published."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

FOLDER = Path("/usr/share/datasets/fashion-mnist")  # Debian's package dataset-fashion-mnist


def read(name: str) -> np.ndarray:
    """An IDX file's bytes, without the header: images (N, 28, 28), or labels (N,)."""
    header, shape = (16, (-1, 28, 28)) if "images" in name else (8, (-1,))
    with gzip.open(FOLDER / f"{name}-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=header).reshape(shape)


def standardized() -> list[tuple[np.ndarray, np.ndarray]]:
    """Training, validation (the first 5,000) and test images, standardized pixel by pixel, with their labels."""
    x, y = read("train-images-idx3"), read("train-labels-idx1")
    x_test, y_test = read("t10k-images-idx3"), read("t10k-labels-idx1")
    mean, std = x[5000:].mean(0), x[5000:].std(0) + 1e-7
    parts = (x[5000:], y[5000:]), (x[:5000], y[:5000]), (x_test, y_test)
    return [(((images - mean) / std).astype(np.float32), labels) for images, labels in parts]
