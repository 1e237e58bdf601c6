"""MNIST and the datasets that share its format: 28 x 28 grey images in IDX files, 60,000 and 10,000 of them.

mnist          LeCun, Bottou, Bengio & Haffner 1998: handwritten digits
fashion_mnist  Xiao, Rasul & Vollgraf 2017: articles of clothing
kmnist         Clanuwat et al. 2018: cursive Japanese characters

Run: ``python -m trainer data=fashion_mnist data.root=/usr/share/datasets/fashion-mnist``
"""

from __future__ import annotations

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data.source import Raw, Source
from data.storage import check_labels, download, file_error, home

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")

# name -> (torchvision's class, whose name is also its folder; classes)
FAMILY = {"mnist": ("MNIST", DIGITS), "fashion_mnist": ("FashionMNIST", CLOTHES), "kmnist": ("KMNIST", KANA)}

PARTS = {"train": "train", "test": "t10k"}
UNSIGNED_BYTES = 8  # the type's code in an IDX file's magic number


@dataclass(kw_only=True)
class Mnist(Source):
    """28 x 28 grey images, uint8, 10 classes, with the published test split.

    ``root`` is a folder with the four IDX files, gzipped or not, or torchvision's: they are then in
    ``<root>/MNIST/raw`` (or ``FashionMNIST``, ``KMNIST``), and downloaded to there if missing.

    Args:
        name: ``mnist``, ``fashion_mnist`` or ``kmnist``.
    """

    name: Literal["mnist", "fashion_mnist", "kmnist"]

    def read(self) -> Raw:
        folder_name, classes = FAMILY[self.name]
        folder = self._folder(home("root", self.root), folder_name)
        parts = {}
        for part, prefix in PARTS.items():
            image_file = find(folder, f"{prefix}-images-idx3-ubyte")
            label_file = find(folder, f"{prefix}-labels-idx1-ubyte")
            x, y = read_idx(image_file, sides=3), read_idx(label_file, sides=1)
            if len(x) != len(y):
                raise file_error(label_file, f"holds {len(y):,} labels for the {len(x):,} images of {image_file.name}")
            if x.size == 0:
                raise file_error(image_file, f"holds no images: {' x '.join(map(str, x.shape))}")
            check_labels(label_file, y, len(classes))
            parts[part] = (x[:, None], y.astype(np.int64))
        sides = {part: x.shape[1:] for part, (x, _) in parts.items()}
        if sides["train"] != sides["test"]:
            raise file_error(folder, f"training images are {sides['train']}, test images {sides['test']}")
        return Raw(
            name=self.name,
            task="classification",
            parts=parts,
            num_outputs=len(classes),
            value_range=(0, 255),
            class_names=classes,
        )

    def _folder(self, root: Path, folder_name: str) -> Path:
        """The folder of the four files, after a download if needed."""
        stems = [f"{prefix}-{kind}-ubyte" for prefix in PARTS.values() for kind in ("images-idx3", "labels-idx1")]
        own = root / folder_name / "raw"
        for folder in (own, root):
            held = [stem for stem in stems if _present(folder, stem)]
            if len(held) == len(stems):
                return folder
            if held and folder == root:
                missing = next(stem for stem in stems if stem not in held)
                raise ValueError(f"{folder / missing}: missing, gzipped or not, beside {held[0]}")
        import torchvision.datasets

        theirs = getattr(torchvision.datasets, folder_name)
        files = [(file, md5) for file, md5 in theirs.resources if not _present(own, file.removesuffix(".gz"))]
        download(self.name, own, files, theirs.mirrors)
        return own


def _present(folder: Path, stem: str) -> bool:
    return find(folder, stem).is_file()


def find(folder: Path, stem: str) -> Path:
    """The file called `stem` in `folder`, gzipped or not; also as train-images.idx3-ubyte."""
    names = [name + ending for name in (stem, stem.replace("-idx", ".idx")) for ending in ("", ".gz")]
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[0])


def read_idx(path: Path, sides: int) -> np.ndarray:
    """The array of unsigned bytes, with `sides` axes, in an IDX file (gzipped if it is called .gz); read-only.

    The format, by LeCun: two zero bytes, the type, the number of axes, each axis as a big-endian 32-bit number, data.

    Raises:
        ValueError: damaged or of another kind; the text names the file.
    """
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except EOFError:
            raise file_error(path, "truncated: the compressed stream ends early") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise file_error(path, f"not a whole gzip file ({error})") from None
    head = 4 + 4 * sides
    magic = bytes([0, 0, UNSIGNED_BYTES, sides])
    if content[:4] != magic:
        found = content[:4].hex() or "nothing"
        raise file_error(path, f"not an IDX file of {sides} axes of bytes: begins with {found}, not {magic.hex()}")
    if len(content) < head:
        raise file_error(path, f"truncated: {len(content)} bytes, and the header alone takes {head}")
    shape = tuple(int(side) for side in np.frombuffer(content, ">u4", sides, 4))
    if len(content) - head != math.prod(shape):
        kind = "truncated" if len(content) - head < math.prod(shape) else "too long"
        given = " x ".join(map(str, shape))
        raise file_error(path, f"{kind}: {len(content) - head:,} bytes of data, its header says {given}")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)
