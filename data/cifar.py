"""CIFAR-10 and CIFAR-100: 32 x 32 colour images, 50,000 and 10,000 of them.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
Run: ``python -m trainer data=cifar10 model=cnn data.root=FOLDER``
"""

from __future__ import annotations

import gzip
import os
import pickle
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data.source import Raw, Source
from data.storage import download, file_error, home, label_error

# The batches are Python 2 pickles of byte arrays, with only these names.
ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


@dataclass(frozen=True)
class Variant:
    """The differences of the two datasets."""

    torchvision: str
    labels: str  # the key in a batch
    names: str  # the key in the file of names
    classes: int


VARIANTS = {
    "cifar10": Variant("CIFAR10", "labels", "label_names", 10),
    "cifar100": Variant("CIFAR100", "fine_labels", "fine_label_names", 100),
}


@dataclass(kw_only=True)
class Cifar(Source):
    """32 x 32 colour images, uint8, 10 or 100 classes, with the published test split.

    ``root`` holds the extracted batches, or a folder ``cifar-10-batches-py`` (``cifar-100-python``) with them, as
    in torchvision, or the archive of it; if none of these exists, the archive is downloaded.

    Args:
        name: ``cifar10`` or ``cifar100``.
    """

    name: Literal["cifar10", "cifar100"]

    def read(self) -> Raw:
        import torchvision.datasets

        variant = VARIANTS[self.name]
        theirs = getattr(torchvision.datasets, variant.torchvision)
        folder = self._folder(home("root", self.root), theirs)
        files = {"train": [name for name, _ in theirs.train_list], "test": [name for name, _ in theirs.test_list]}
        parts = {}
        for part, names in files.items():
            batches = [read_batch(folder / name, variant) for name in names]
            x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
            parts[part] = (x.reshape(-1, 3, 32, 32), y)
        path = folder / theirs.meta["filename"]
        classes = unpickle(path).get(variant.names)
        if not isinstance(classes, list) or len(classes) != variant.classes:
            raise file_error(path, f"has no list {variant.names} of {variant.classes} names")
        return Raw(
            name=self.name,
            task="classification",
            parts=parts,
            num_outputs=variant.classes,
            value_range=(0, 255),
            class_names=tuple(map(str, classes)),
        )

    def _folder(self, root: Path, theirs: Any) -> Path:
        """The folder of the batches, after a download if needed."""
        first = theirs.train_list[0][0]
        own = root / theirs.base_folder
        if (root / first).is_file():
            return root
        if own.is_dir():
            return own
        archive = root / theirs.filename
        if not archive.is_file():
            mirror = theirs.url.removesuffix(theirs.filename)
            download(self.name, root, [(theirs.filename, theirs.tgz_md5)], [mirror])
        extract(archive, own)
        return own


def put(inside: Path, folder: Path) -> None:
    """Moves a folder to its place, unless another run has put one there."""
    try:
        os.replace(inside, folder)
    except OSError:
        if not folder.is_dir():
            raise


def extract(archive: Path, folder: Path) -> None:
    """Unpacks the one folder in `archive` to `folder`, whole or not at all.

    Raises:
        ValueError: it is damaged or lacks the folder, or nothing can be written there.
    """
    try:
        with gzip.open(archive) as file:  # tarfile does not read the checksum at the end
            while file.read(2**20):
                pass
        with tempfile.TemporaryDirectory(prefix=".extract-", dir=folder.parent) as temporary:
            with tarfile.open(archive) as tar:
                tar.extractall(temporary, filter="data")
            inside = Path(temporary) / folder.name
            if not inside.is_dir():
                raise file_error(archive, f"holds no folder {folder.name}")
            put(inside, folder)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise file_error(archive, f"not a whole archive ({error})") from error
    except OSError as error:
        raise file_error(archive, f"cannot be unpacked into {folder.parent}: {error.strerror or error}") from error


def read_batch(path: Path, variant: Variant) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3072) uint8, and labels (N,), of one file.

    Raises:
        ValueError: it is missing, damaged, or of another format; the text names the file.
    """
    batch = unpickle(path)
    x, y = batch.get("data"), batch.get(variant.labels)
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8 or x.ndim != 2 or x.shape[1] != 3072:
        raise file_error(path, "holds no array `data` of N x 3072 bytes")
    if not isinstance(y, list) or not all(isinstance(label, int) for label in y):
        raise file_error(path, f"holds no list `{variant.labels}` of whole numbers")
    if len(x) != len(y):
        raise file_error(path, f"holds {len(y):,} labels for {len(x):,} images")
    if len(x) == 0:
        raise file_error(path, "holds no images")
    for i, label in enumerate(y, 1):  # before they become an array, which cannot hold 10**30
        if not 0 <= label < variant.classes:
            raise label_error(path, label, i, variant.classes)
    return x, np.array(y, dtype=np.int64)


class _Dtype:
    """Replaces numpy.dtype, whose state a file could set to anything: only the type of bytes."""

    def __init__(self, code: str, *_: Any):
        if code != "u1":
            raise pickle.UnpicklingError(f"holds an array of type {code}, and only bytes (u1) are needed")

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """Replaces numpy.ndarray: its bytes and its shape."""

    def __init__(self, *_: Any):  # called as _reconstruct(ndarray, (0,), 'b')
        self.array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_columns, content = state
        if not isinstance(dtype, _Dtype):
            raise pickle.UnpicklingError("holds an array without a type")
        content = content.encode("latin1") if isinstance(content, str) else content
        self.array = np.frombuffer(content, np.uint8).reshape(shape, order="F" if by_columns else "C")


class _NumpyOnly(pickle.Unpickler):
    """Builds plain data and arrays of bytes, and refuses all other names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"names {module}.{name}, which no such file needs")
        return _Dtype if name == "dtype" else _Array


def unpickle(path: Path) -> dict[str, Any]:
    """The dictionary in a pickled batch; only arrays and plain data are built.

    Raises:
        ValueError: it is missing, damaged, no dictionary, or names anything else.
    """
    if not path.is_file():
        raise file_error(path, "missing")
    try:
        with path.open("rb") as file:
            content = _NumpyOnly(file, encoding="latin1").load()
    except Exception as error:  # a damaged pickle may raise anything
        raise file_error(path, f"not a readable batch ({type(error).__name__}: {error})") from error
    if not isinstance(content, dict):
        raise file_error(path, "not a batch: holds no dictionary")
    return {key: value.array if isinstance(value, _Array) else value for key, value in content.items()}
