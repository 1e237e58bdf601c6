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
from data.storage import expand, file_error, one_line
from data.streamed import StreamedDataset

ENDINGS = (".jpg", ".jpeg", ".png")
PARTS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}  # split -> folders' names
AT_ONCE = 64  # images decoded between two signs of progress


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
        size, longer = (self.width, self.height), max(self.width, self.height)
        try:
            with Image.open(path, formats=("JPEG", "PNG")) as file:
                # A JPEG is decoded at the smallest scale that will do, also if it is still to be turned upright.
                file.draft("RGB" if self.channels == 3 else "L", (longer, longer))
                file.load()
                image = upright(file)
                if image.mode.startswith("I"):  # 16 bits: Pillow would clip at 255
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                image = image.convert("RGB" if self.channels == 3 else "L")
        except Exception:  # damage surfaces as many types
            return None
        resize = Image.Resampling.BILINEAR
        image = ImageOps.fit(image, size, resize) if self.fit == "crop" else image.resize(size, resize)
        return np.asarray(image).reshape(self.height, self.width, self.channels).transpose(2, 0, 1)


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF data say."""
    image.getexif()  # the image keeps it
    image.info.pop("exif", None)  # else Pillow writes it anew, which fails on tags that nobody asks for
    return ImageOps.exif_transpose(image)


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
            raise ValueError(f"size={self.size}: must be one number or [height,width], each in [1, 2**15)")
        if not self.memory_gb >= 0:
            raise ValueError(f"memory_gb={self.memory_gb}: must be at least 0")
        if isinstance(self.workers, int) and not 0 <= self.workers < 2**10:
            raise ValueError(f"workers={self.workers}: must be auto, or at least 0 and less than 2**10")
        self.decoder = Decoder(*sides, self.channels, self.fit)

    def read(self) -> Raw:
        """The files' names as inputs; :meth:`finish` decodes those that the splits keep."""
        path = expand("path", self.path)
        if not path.is_dir():
            raise file_error(path, "no folder")
        folders = {part: path / name for part, names in PARTS.items() for name in names if (path / name).is_dir()}
        if folders and "train" not in folders:
            raise file_error(path, f"has a folder {next(iter(folders.values())).name} but no folder train")
        folders = folders or {"train": path}
        classes = tuple(folder.name for folder in _class_folders(folders["train"]))
        if len(classes) < 2:
            raise file_error(path, f"holds one class folder only, {classes[0]}; two are the least")
        parts = {}
        for part, folder in folders.items():
            files, labels = [], []
            for found in _class_folders(folder):
                if found.name not in classes:
                    raise file_error(found, f"a class that {folders['train']} does not have")
                inside = images_in(found)
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
        self.check_augment(raw.task, shape)
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
                raise file_error(files[0], f"cannot be decoded, nor can any other image of the {name} split")
            x = arrays if keep else files
            kept[name] = (x, y) if good.all() else (x[good], y[good])
        etc = ", …" if len(bad) > 1 else ""
        if bad and not self.skip_bad:
            more = f", and {len(bad) - 1:,} more" if len(bad) > 1 else ""
            raise file_error(bad[0], f"cannot be decoded{more}; skip_bad=true leaves such images out")
        if bad:
            raw.notes = (one_line(f"left out {len(bad):,} that cannot be decoded of {total:,} images: {bad[0]}{etc}"),)
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


def images_in(folder: Path) -> list[str]:
    """The image files in `folder` at any depth, sorted, hidden ones left out."""
    return sorted(str(f) for f in folder.rglob("*") if _is_image(f, folder))


def _class_folders(folder: Path) -> list[Path]:
    """The folders in `folder`, sorted, hidden ones left out.

    Raises:
        ValueError: there are none.
    """
    found = sorted(f for f in folder.iterdir() if f.is_dir() and not _hidden(f.name))
    if not found:
        raise file_error(folder, "holds no class folders")
    return found


def _is_image(path: Path, folder: Path) -> bool:
    """Whether a file in `folder` is an image by its name; a link that leads nowhere is one that cannot be decoded."""
    if path.suffix.lower() not in ENDINGS or any(map(_hidden, path.relative_to(folder).parts)):
        return False
    return path.is_file() or path.is_symlink()


def _hidden(name: str) -> bool:
    """What file managers and notebooks leave behind, such as ._1.jpg and .ipynb_checkpoints."""
    return name.startswith(".") or name == "__MACOSX"
