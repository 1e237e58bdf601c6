"""Makes the data of docs/fine_tuning.md: the digits and Fashion-MNIST at 8 x 8, and 100 labelled images of each.

    python docs/small_images.py /usr/share/datasets/fashion-mnist    # the folder with the four files of Fashion-MNIST

Writes fashion.npz (all images) here, and for five choices of ten images a class fashion_few_N.npz and
digits_few_N.npz.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

PER_CLASS, CHOICES = 10, 5


def fashion(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 1, 8, 8), each pixel the mean of 4 x 4 as in the digits, and labels (N,)."""
    images, labels = (
        gzip.decompress((folder / f"{part}-{kind}-ubyte.gz").read_bytes()) for kind in ("images-idx3", "labels-idx1")
    )
    x = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    x = np.pad(x, ((0, 0), (2, 2), (2, 2))).reshape(-1, 1, 8, 4, 8, 4).mean((3, 5))
    return x.astype(np.float32), np.frombuffer(labels, np.uint8, offset=8)


def save_few(name: str, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> None:
    """Files with a few training images of each class, and all test images."""
    for i in range(CHOICES):
        order = np.random.default_rng(i).permutation(len(y))
        few = np.concatenate([order[y[order] == k][:PER_CLASS] for k in range(10)])
        np.savez(f"{name}_few_{i}.npz", x_train=x[few], y_train=y[few], x_test=x_test, y_test=y_test)


def main() -> None:
    """The command line."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    (x, y), (x_test, y_test) = (fashion(Path(sys.argv[1]), part) for part in ("train", "t10k"))
    np.savez("fashion.npz", x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    save_few("fashion", x, y, x_test, y_test)
    digits = load_digits()
    x, y = digits.images[:, None].astype(np.float32), digits.target
    save_few("digits", x[:1000], y[:1000], x[1000:], y[1000:])


if __name__ == "__main__":
    main()
