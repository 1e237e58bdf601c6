"""Your own images: a folder with a folder of pictures for each class.

    photos/cat/1.jpg, photos/cat/2.webp, …, photos/dog/1.png, …

or with ``train``, and optionally ``val`` and ``test``, above the class folders. Every image is decoded and resized
once, on all cores, and stays in memory if all fit ``memory_gb``; otherwise worker processes decode them batch by batch.

Run: ``python -m trainer data=image_folder data.path=photos data.size=64 model=cnn``

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from data.dataset import Batch, Dataset
from data.fingerprint import hashes
from data.gate import Raw
from data.image_files import beside, called, class_folders, kinds, layout, pictures_in, split_called
from data.pictures import READ, Decoder, Picture, Undecodable, is_deep
from data.source import Progress, Source, absent_classes, check_count, silent
from data.statistics import Moments
from data.storage import expand, file_error, one_line
from data.streamed import StreamedDataset

DEEP_RANGE = (0, 65_535)  # of pixels with 16 bits
AT_ONCE = 64  # images between two signs of progress


@dataclass(kw_only=True)
class ImageFolder(Source):
    """Images of any size as (C, H, W) uint8, or float32 if some have 16 bits; one class per folder.

    Args:
        path: the folder with a folder of images for each class.
        splits: ``folders``: the top folders are splits, such as train and test, with class folders in them;
            ``classes``: they are classes; ``auto``: splits if all have names of splits.
        size: height and width after resizing; one number is both.
        fit: see :class:`data.pictures.Decoder`.
        channels: 3: colour; 1: grey.
        memory_gb: limit of images in memory, in units of 1e9 bytes.
        workers: processes that decode larger data; ``auto``: one per core, less one.
        skip_bad: leaves out and counts images that cannot be decoded, instead of refusing them.
    """

    path: str
    size: int | list[int]
    fit: Literal["crop", "stretch"]
    channels: Literal[1, 3]
    memory_gb: float
    workers: int | Literal["auto"]
    skip_bad: bool
    splits: Literal["auto", "folders", "classes"] = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        sides = [self.size, self.size] if isinstance(self.size, int) else list(self.size)
        if len(sides) != 2 or not all(1 <= side < 2**15 for side in sides):
            raise ValueError(f"size={self.size}: must be one number or [height,width], each in [1, 2**15)")
        if not self.memory_gb >= 0:
            raise ValueError(f"memory_gb={self.memory_gb}: must be at least 0")
        if isinstance(self.workers, int):
            check_count("workers", self.workers, 0, 2**10)
        height, width = sides
        self.decoder = Decoder(height, width, self.channels, self.fit)

    def read(self) -> Raw:
        """The files' names as inputs; :meth:`finish` decodes those of the splits."""
        path = expand("path", self.path)
        if not path.is_dir():
            raise file_error(path, "no folder")
        folders, notes = layout(path, self.splits, new=self.like is not None)
        others = Counter() if folders == {"train": path} else beside(path)
        if self.like is not None:
            classes = self.like.output_names[""]
        else:
            classes = tuple(called(folder) for folder in class_folders(folders["train"]))
            if self.splits == "auto" and all(map(split_called, classes)):
                raise file_error(
                    folders["train"], f"holds splits, {', '.join(classes)}, and no classes; give one above"
                )
        if len(classes) < 2:
            raise file_error(folders["train"], f"holds only one class folder, {classes[0]}; two are needed")
        parts = {}
        for part, folder in folders.items():
            files, labels = [], []
            others += beside(folder)
            for found in class_folders(folder):
                if called(found) not in classes:
                    owner = folders["train"] if self.like is None else "the run"
                    raise file_error(found, f"a class that {owner} does not have")
                inside = pictures_in(found)
                if not inside.files:
                    listed = f", and {kinds(inside.others)}" if inside.others else ""
                    raise file_error(found, f"an empty class folder: holds no {READ}{listed}")
                files += inside.files
                others += inside.others
                labels += [classes.index(called(found))] * len(inside.files)
            parts[part] = (np.array(files, dtype=object), np.array(labels, dtype=np.int64))
        if others:
            n = others.total()
            notes.append(f"{n:,} {'file was' if n == 1 else 'files were'} not read: {kinds(others)}")
        return Raw(
            name=path.resolve().name,
            task="classification",
            parts=parts,
            num_outputs=len(classes),
            value_range=(0, 255),
            class_names=classes,
            notes=tuple(notes),
        )

    def finish(self, raw: Raw, splits: dict[str, tuple[Any, np.ndarray]], progress: Progress = silent) -> Dataset:
        """Decodes every image once: to keep it, or to check it and gather statistics."""
        shape = (self.channels, self.decoder.height, self.decoder.width)
        self.check_augment(raw.task, shape)
        if self.like is not None:
            raw.value_range = self.like.value_range
        elif any(map(is_deep, (file for files, _ in splits.values() for file in files))):
            raw.value_range = DEEP_RANGE
        self.decoder = self.decoder_of(raw.value_range)
        bits = self.decoder.bits
        kind = np.dtype(np.float32 if bits == 16 else np.uint8)
        total = sum(len(y) for _, y in splits.values())
        keep = total * int(np.prod(shape)) * kind.itemsize <= self.memory_gb * 1e9
        moments, done = Moments(), 0
        bad: dict[str, str] = {}
        remarks: Counter[str] = Counter()
        kept: dict[str, tuple[Any, np.ndarray]] = {}
        seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name, (files, y) in splits.items():
            arrays = np.empty((len(files) if keep else 0, *shape), kind)
            marks = np.zeros(len(files), np.uint64)
            for start, found in self._decoded(files):
                pictures = {i: one for i, one in enumerate(found, start) if isinstance(one, Picture)}
                bad |= {files[i]: one.why for i, one in enumerate(found, start) if isinstance(one, Undecodable)}
                marks[list(pictures)] = [one.hash for one in pictures.values()]
                remarks.update(remark for one in pictures.values() for remark in one.remarks)
                for i, one in pictures.items() if keep else ():
                    arrays[i] = one.array
                if name == next(iter(splits)) and pictures:  # the training split, or new data
                    moments.add(torch.from_numpy(np.stack([one.array for one in pictures.values()])))
                done += len(found)
                progress("decoding images", done, total)
            good = np.array([file not in bad for file in files])
            if not good.any():
                why = bad[files[0]]
                raise file_error(files[0], f"cannot be decoded ({why}), like all other images of the {name} split")
            x = arrays if keep else files
            kept[name] = (x, y) if good.all() else (x[good], y[good])
            seen[name] = marks[good], hashes(y[good])
        self._say(raw, bad, remarks, total)
        raw.notes += absent_classes(raw, kept) if self.like is None else ()
        self.identify(raw, seen)
        read = {name: (x, torch.from_numpy(y)) for name, (x, y) in kept.items()}
        facts = self.facts(raw, next(iter(read.values())), moments, self.sizes(kept))
        dataset: Dataset
        if keep:
            tensors: dict[str, Batch] = {name: (torch.from_numpy(x), y) for name, (x, y) in read.items()}
            dataset = Dataset(tensors, facts, self.batch_size, self.augment)
        else:
            dataset = StreamedDataset(read, facts, self.batch_size, self.augment, self.decoder, self._workers())
        home = expand("path", self.path)
        left = {name: [file for file in files if file not in bad] for name, (files, _) in splits.items()}
        dataset.names = {
            name: [one_line(Path(file).relative_to(home)) for file in files] for name, files in left.items()
        }
        return dataset

    def decoder_of(self, value_range: tuple[float, float] | None) -> Decoder:
        """The decoder of a run with pixels in `value_range`."""
        return replace(self.decoder, bits=16 if tuple(value_range or ()) == DEEP_RANGE else 8)

    def _say(self, raw: Raw, bad: dict[str, str], remarks: Counter[str], total: int) -> None:
        """Adds notes about images that were not read completely.

        Raises:
            ValueError: some cannot be decoded, and must not be left out.
        """
        if bad:
            file, why = next(iter(bad.items()))
            if not self.skip_bad:
                more = f", and {len(bad) - 1:,} more" if len(bad) > 1 else ""
                raise file_error(file, f"cannot be decoded ({why}){more}; data.skip_bad=true leaves such images out")
            etc = ", …" if len(bad) > 1 else ""
            left = f"left out {len(bad):,} that cannot be decoded of {total:,} images: {file} ({why}){etc}"
            raw.notes += (one_line(left),)
        raw.notes += counts(remarks, total)

    def _decoded(self, files: np.ndarray) -> Iterator[tuple[int, list[Picture | Undecodable]]]:
        """(position of the first, images) for one stretch of `files` after another; Pillow decodes without the GIL."""
        with ThreadPoolExecutor(cores()) as pool:
            for start in range(0, len(files), AT_ONCE):
                yield start, list(pool.map(self.decoder.look, files[start : start + AT_ONCE]))

    def _workers(self) -> int:
        return max(1, cores() - 1) if self.workers == "auto" else self.workers


def counts(remarks: Counter[str], total: int) -> tuple[str, ...]:
    """Notes with the number of images of each remark, of `total`."""
    return tuple(f"{n:,} of {total:,} images {'has' if n == 1 else 'have'} {remark}" for remark, n in remarks.items())


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
