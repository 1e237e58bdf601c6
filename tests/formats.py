"""Tiny datasets in the real formats, written without conga."""

import gzip
import io
import pickle
import struct
from pathlib import Path

import numpy as np
from PIL import Image


def draw(*shape, seed=0, dtype=np.uint8) -> np.ndarray:
    """Random whole numbers over the whole range of a type."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def saved(save, *arrays, **named) -> bytes:
    """The bytes that `save(file, …)` writes."""
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def write_idx(path: Path, array: np.ndarray) -> None:
    """An array of bytes as LeCun's format has it; gzipped if the name ends in .gz."""
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder: Path, n: int = 60, ending: str = ".gz") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The four files of MNIST and its kin, `n` training and `n` / 2 test images; returns what is in them."""
    rng, parts = np.random.default_rng(0), {}
    for part, prefix, size in (("train", "train", n), ("test", "t10k", n // 2)):
        x, y = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8), np.arange(size, dtype=np.uint8) % 10
        write_idx(folder / f"{prefix}-images-idx3-ubyte{ending}", x)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{ending}", y)
        parts[part] = (x, y)
    return parts


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: the published batches hold its byte strings, and NumPy under its old name."""

    dispatch = dict(pickle._Pickler.dispatch)  # noqa: RUF012

    def save_string(self, value: str | bytes) -> None:
        value = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_string

    @classmethod
    def dumps(cls, value: object) -> bytes:
        file = io.BytesIO()
        cls(file, protocol=2).dump(value)
        return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def write_cifar(folder: Path, classes: int, n: int = 40) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The extracted batches of CIFAR-10 or CIFAR-100, `n` images a file; returns what is in them."""
    rng = np.random.default_rng(0)
    ten = classes == 10
    files = {"train": [f"data_batch_{i}" for i in range(1, 6)] if ten else ["train"]}
    files["test"] = ["test_batch" if ten else "test"]
    folder.mkdir(parents=True, exist_ok=True)
    parts = {}
    for part, names in files.items():
        batches = []
        for name in names:
            size = n if ten else 3 * classes
            x, y = rng.integers(0, 256, (size, 3072), dtype=np.uint8), [i % classes for i in range(size)]
            batch = {"batch_label": name, "data": x, "labels" if ten else "fine_labels": y}
            (folder / name).write_bytes(Python2Pickler.dumps(batch))
            batches.append((x, y))
        parts[part] = tuple(np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    names = {"label_names" if ten else "fine_label_names": [f"class{i}" for i in range(classes)]}
    (folder / ("batches.meta" if ten else "meta")).write_bytes(Python2Pickler.dumps(names))
    return parts


def write_images(folder: Path, classes: dict[str, int], size: tuple[int, int] = (8, 8), ending: str = "png") -> None:
    """So many random colour images of (width, height) a class."""
    rng = np.random.default_rng(0)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:03}.{ending}")


def write_each(folder: Path) -> dict[str, list[str]]:
    """A tiny dataset for each choice of `data` that needs files: choice -> overrides that make it run."""
    write_mnist(folder / "idx")
    write_cifar(folder / "cifar10", 10)
    write_cifar(folder / "cifar100", 100)
    write_images(folder / "images", {"cat": 12, "dog": 12})
    table = "\n".join(f"{i % 7},{'ab'[i % 2]},{i / 3}" for i in range(40))
    (folder / "table.csv").write_text(f"size,kind,price\n{table}\n")
    x = np.random.default_rng(0).random((40, 5))
    np.savez(folder / "arrays.npz", x_train=x, y_train=np.arange(40) % 3)
    idx = [f"data.root={folder / 'idx'}"]
    return {
        "mnist": idx,
        "kmnist": idx,
        "fashion_mnist": [*idx, "data.val_size=5"],
        "cifar10": [f"data.root={folder / 'cifar10'}"],
        "cifar100": [f"data.root={folder / 'cifar100'}"],
        "image_folder": [f"data.path={folder / 'images'}", "data.size=8"],
        "csv": [f"data.path={folder / 'table.csv'}", "data.targets=price"],
        "npz": [f"data.path={folder / 'arrays.npz'}"],
    }
