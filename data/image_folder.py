"""Your own images: a folder with a folder of JPEG or PNG files for each class.

    photos/cat/1.jpg, photos/cat/2.jpg, …, photos/dog/1.png, …

or with ``train``, and perhaps ``val`` and ``test``, above the class folders. Every image is decoded and resized once,
on all cores; what fits ``memory_gb`` stays in memory, more than that is decoded batch by batch in worker processes.

Run: ``python -m trainer data=image_folder data.path=photos data.size=64 model=cnn``

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from data.dataset import Dataset
from data.source import Progress, Raw, Source, silent
from data.statistics import Moments
from data.storage import expand, file_error
from data.streamed import StreamedDataset

ENDINGS = (".jpg", ".jpeg", ".png")
PARTS = ("train", "val", "test")
AT_ONCE = 512  # images decoded between two signs of progress


@dataclass(frozen=True)
class Decoder:
    """How a file becomes an array: (C, H, W), uint8.

    Args:
        height, width: of the result.
        channels: 3 is colour, 1 is grey.
        fit: ``crop`` cuts the longer side at both ends, so that shapes keep their proportions; ``stretch`` does not.
    """

    height: int
    width: int
    channels: int
    fit: str

    def __call__(self, path: str) -> np.ndarray | None:
        """The image, or None if it cannot be decoded."""
        size = (self.width, self.height)
        try:
            with Image.open(path) as file:
                file.draft("RGB" if self.channels == 3 else "L", size)  # JPEG: decodes at the smallest fitting scale
                image = ImageOps.exif_transpose(file)
                if image.mode.startswith("I;16"):  # 16 bits: Pillow would clip at 255
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                image = image.convert("RGB" if self.channels == 3 else "L")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return None
        resize = Image.Resampling.BILINEAR
        image = ImageOps.fit(image, size, resize) if self.fit == "crop" else image.resize(size, resize)
        return np.asarray(image).reshape(self.height, self.width, self.channels).transpose(2, 0, 1)


@dataclass(kw_only=True)
class ImageFolder(Source):
    """Images of any size as (C, H, W) uint8, one class a folder.

    Args:
        path: the folder.
        size: height and width after resizing; one number is both.
        fit: see :class:`Decoder`.
        channels: 3 (colour) or 1 (grey).
        memory_gb: what may be kept in memory, in units of 1e9 bytes.
        workers: processes that decode what is not kept; ``auto``: one a core, less one.
        skip_bad: leaves out images that cannot be decoded, and says how many, instead of refusing them.
    """

    path: str
    size: int | list[int]
    fit: Literal["crop", "stretch"]
    channels: Literal[1, 3]
    memory_gb: float
    workers: int | Literal["auto"]
    skip_bad: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        sides = [self.size, self.size] if isinstance(self.size, int) else list(self.size)
        if len(sides) != 2 or not all(1 <= side < 2**15 for side in sides):
            raise ValueError(f"size={self.size}: must be one number or [height,width], each at least 1")
        if self.memory_gb < 0:
            raise ValueError(f"memory_gb={self.memory_gb}: must be at least 0")
        if isinstance(self.workers, int) and not 0 <= self.workers < 2**10:
            raise ValueError(f"workers={self.workers}: must be auto, or at least 0")
        self.decoder = Decoder(*sides, self.channels, self.fit)

    def read(self) -> Raw:
        """The files' names as inputs; :meth:`finish` decodes those that the splits keep."""
        path = expand("path", self.path)
        folders = {name: path / name for name in PARTS if (path / name).is_dir()}
        folders = folders if "train" in folders else {"train": path}
        classes = tuple(folder.name for folder in _class_folders(folders["train"]))
        parts = {}
        for part, folder in folders.items():
            files, labels = [], []
            for found in _class_folders(folder):
                if found.name not in classes:
                    raise file_error(found, f"a class that {folders['train']} does not have")
                inside = sorted(str(f) for f in found.rglob("*") if f.suffix.lower() in ENDINGS and f.is_file())
                if not inside:
                    raise file_error(found, f"an empty class folder: holds no {', '.join(ENDINGS)}")
                files += inside
                labels += [classes.index(found.name)] * len(inside)
            parts[part] = (np.array(files, dtype=object), np.array(labels, dtype=np.int64))
        return Raw(
            name=path.resolve().name,
            task="classification",
            parts=parts,
            num_outputs=len(classes),
            value_range=(0, 255),
            class_names=classes,
        )

    def finish(self, raw: Raw, splits: dict[str, tuple[Any, np.ndarray]], progress: Progress = silent) -> Dataset:
        """Decodes every image once: to keep it, or else to know that it can be decoded, and the statistics."""
        shape = (self.channels, self.decoder.height, self.decoder.width)
        total = sum(len(y) for _, y in splits.values())
        keep = total * int(np.prod(shape)) <= self.memory_gb * 1e9
        moments, bad, done = Moments(), [], 0
        kept: dict[str, tuple[Any, np.ndarray]] = {}
        for name, (files, y) in splits.items():
            arrays = np.empty((len(files) if keep else 0, *shape), np.uint8)
            good = np.ones(len(files), bool)
            for start, images in self._decoded(files):
                for i, image in enumerate(images, start):
                    good[i] = image is not None
                    if keep and image is not None:
                        arrays[i] = image
                whole = [image for image in images if image is not None]
                if name == "train" and whole:
                    moments.add(torch.from_numpy(np.stack(whole)))
                done += len(images)
                progress("decoding images", done, total)
            bad += list(files[~good])
            if not good.any():
                raise ValueError(f"{files[0]}: cannot be decoded, nor can any other image of the {name} split")
            x = arrays if keep else files
            kept[name] = (x, y) if good.all() else (x[good], y[good])
        if bad and not self.skip_bad:
            more = f", and {len(bad) - 1:,} more" if len(bad) > 1 else ""
            raise ValueError(f"{bad[0]}: cannot be decoded{more}; skip_bad=true leaves such images out")
        if bad:
            raw.notes = (f"{len(bad):,} images that cannot be decoded were left out, the first is {bad[0]}",)
        tensors = {name: (torch.from_numpy(x) if keep else x, torch.from_numpy(y)) for name, (x, y) in kept.items()}
        facts = self.facts(raw, tensors["train"], moments, self.sizes(tensors))
        if keep:
            return Dataset(tensors, facts, self.batch_size, self.augment)
        return StreamedDataset(tensors, facts, self.batch_size, self.augment, self.decoder, self._workers())

    def _decoded(self, files: np.ndarray) -> Iterator[tuple[int, list[np.ndarray | None]]]:
        """(position of the first, images) for one stretch of `files` after another; Pillow decodes without the GIL."""
        with ThreadPoolExecutor(cores()) as pool:
            for start in range(0, len(files), AT_ONCE):
                yield start, list(pool.map(self.decoder, files[start : start + AT_ONCE]))

    def _workers(self) -> int:
        return max(1, cores() - 1) if self.workers == "auto" else self.workers


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _class_folders(folder: Path) -> list[Path]:
    """The folders in `folder`, sorted, hidden ones left out.

    Raises:
        ValueError: there are none.
    """
    found = sorted(f for f in folder.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not found:
        raise file_error(folder, "holds no class folders")
    return found
