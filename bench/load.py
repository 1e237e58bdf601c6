"""Seconds to load 60,000 + 10,000 images of 28 x 28 from gzipped IDX files, on one core; and a table, beside pandas.

Fashion-MNIST if $CONGA_DATA (or /usr/share/datasets/fashion-mnist) has it, else random images in the same format.
The table has 1,000,000 rows of 14 columns of fractions, 4 of whole numbers, one of texts, and a class.
"""

from __future__ import annotations

import gzip
import os
import struct
import tempfile
from pathlib import Path

import numpy as np
import torch

from bench.harness import interleave, print_rates, print_ratios
from data.mnist import Mnist, read_idx
from data.table_file import TableFile

ROWS = 1_000_000
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def run() -> None:
    """Prints the median."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = next((p for p in (Path(os.environ.get("CONGA_DATA", folder)), DEBIAN) if p.is_dir() and _held(p)), None)
        if root is None:
            root = Path(folder)
            _write(root)
        print(f"  files in {root}")
        source = Mnist(
            name="fashion_mnist", root=str(root), batch_size=32, test_fraction=0.0, val_fraction=0.0, val_size=5000,
            val_from="start", split_seed=0, limit=None, normalize="global", augment={},
        )  # fmt: skip
        images = root / "train-images-idx3-ubyte.gz"
        work = {"load, split, statistics": source.load, "of it, decompressing": lambda: read_idx(images, 3)}
        print_rates(interleave(work, 5), 1, "s", invert=True)
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        table(Path(folder) / "table.csv")


def table(path: Path) -> None:
    """Prints the time to read, check, split and fingerprint a table, relative to pandas' read_csv."""
    import pandas as pd

    rng = np.random.default_rng(0)
    columns = {f"x{i}": rng.normal(size=ROWS) for i in range(14)}
    columns |= {f"k{i}": rng.integers(0, 1000, ROWS) for i in range(4)}
    columns |= {"city": rng.choice(["Ulm", "Bonn", "Kiel"], ROWS), "y": rng.choice(["a", "b", "c"], ROWS)}
    pd.DataFrame(columns).to_csv(path, index=False)
    source = TableFile(
        path=str(path), targets="y", features=None, weights=None, task="auto", separator=",", root="", batch_size=32,
        test_fraction=0.2, val_fraction=0.1, val_size=None, val_from="random", split_seed=0, limit=None,
        normalize="standard", augment={},
    )  # fmt: skip
    times = interleave({"pandas' read_csv": lambda: pd.read_csv(path), "conga": source.load}, 7)
    print_ratios(times, "conga")


def _held(folder: Path) -> bool:
    return (folder / "train-images-idx3-ubyte.gz").is_file()


def _write(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for prefix, n in (("train", 60_000), ("t10k", 10_000)):
        images = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8) * (rng.random((n, 28, 28)) < 0.2)
        for name, array in (("images-idx3", images), ("labels-idx1", rng.integers(0, 10, n))):
            head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes()))
