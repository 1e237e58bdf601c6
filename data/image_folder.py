"""Your own images: a folder with a folder of pictures for each class.

    photos/cat/1.jpg, photos/cat/2.webp, …, photos/dog/1.png, …

or with ``train``, and perhaps ``val`` and ``test``, above the class folders. Every image is decoded and resized once,
on all cores; what fits ``memory_gb`` stays in memory, more than that is decoded batch by batch in worker processes.

Run: ``python -m trainer data=image_folder data.path=photos data.size=64 model=cnn``

Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from data.dataset import Batch, Dataset
from data.fingerprint import hashes
from data.gate import Raw
from data.pictures import ENDINGS, READ, Decoder, Picture, Undecodable, is_deep
from data.source import Progress, Source, absent_classes, check_count, silent
from data.statistics import Moments
from data.storage import FORMS, expand, file_error, nfc, one_line
from data.streamed import StreamedDataset

DEEP_RANGE = (0, 65_535)  # of pixels with 16 bits
AT_ONCE = 64  # images decoded between two signs of progress
SPLITS = {  # what people call a folder of one split, with numbers, "set" or "data" behind it
    "train": r"train(ing|val)?|tr|trn",
    "val": r"val|valid|validate|validation|dev|devel|development",
    "test": r"test(ing|s)?|tst|eval|evaluation|holdout|heldout",
}


@dataclass
class Found:
    """Pictures in a folder, and a count of what else is there, by kind."""

    files: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


@dataclass(kw_only=True)
class ImageFolder(Source):
    """Images of any size as (C, H, W) uint8, or float32 where some have 16 bits; one class a folder.

    Args:
        path: the folder.
        splits: ``folders``: the top folders are splits, such as train and test, with class folders in them;
            ``classes``: they are classes; ``auto``: splits if all are called so.
        size: height and width after resizing; one number is both.
        fit: see :class:`data.pictures.Decoder`.
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
        """The files' names as inputs; :meth:`finish` decodes those that the splits keep."""
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
            raise file_error(folders["train"], f"holds one class folder only, {classes[0]}; two are the least")
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
        """Decodes every image once: to keep it, or else to know that it can be decoded, and the statistics."""
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
        moments, bad, done = Moments(), {}, 0
        remarks: Counter[str] = Counter()
        kept: dict[str, tuple[Any, np.ndarray]] = {}
        seen: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name, (files, y) in splits.items():
            arrays = np.empty((len(files) if keep else 0, *shape), kind)
            good, marks = np.ones(len(files), bool), np.zeros(len(files), np.uint64)
            for start, found in self._decoded(files):
                for i, one in enumerate(found, start):
                    if isinstance(one, Undecodable):
                        bad[files[i]], good[i] = one.why, False
                        continue
                    marks[i] = one.hash
                    remarks.update(one.remarks)
                    if keep:
                        arrays[i] = one.array
                whole = [one.array for one in found if isinstance(one, Picture)]
                if name == next(iter(splits)) and whole:  # the training split, or new data
                    moments.add(torch.from_numpy(np.stack(whole)))
                done += len(found)
                progress("decoding images", done, total)
            if not good.any():
                why = bad[files[0]]
                raise file_error(files[0], f"cannot be decoded ({why}), nor can any other image of the {name} split")
            x = arrays if keep else files
            kept[name] = (x, y) if good.all() else (x[good], y[good])
            seen[name] = marks[good], hashes(y[good])
        self._say(raw, bad, remarks, total)
        raw.notes += absent_classes(raw, kept) if self.like is None else ()
        self.identify(raw, seen)
        read = {name: (x, torch.from_numpy(y)) for name, (x, y) in kept.items()}
        facts = self.facts(raw, next(iter(read.values())), moments, self.sizes(kept))
        if not keep:
            return StreamedDataset(read, facts, self.batch_size, self.augment, self.decoder, self._workers())
        tensors: dict[str, Batch] = {name: (torch.from_numpy(x), y) for name, (x, y) in read.items()}
        return Dataset(tensors, facts, self.batch_size, self.augment)

    def decoder_of(self, value_range: tuple[float, float] | None) -> Decoder:
        """The decoder of a run whose pixels were in `value_range`."""
        return replace(self.decoder, bits=16 if tuple(value_range or ()) == DEEP_RANGE else 8)

    def _say(self, raw: Raw, bad: dict[str, str], remarks: Counter[str], total: int) -> None:
        """Notes what was not read of images.

        Raises:
            ValueError: some cannot be decoded, and may not be left out.
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
    """Notes of how many of `total` images each remark is true."""
    return tuple(f"{n:,} of {total:,} images {'has' if n == 1 else 'have'} {remark}" for remark, n in remarks.items())


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def layout(path: Path, splits: str, *, new: bool = False) -> tuple[dict[str, Path], list[str]]:
    """The folder of each split, or the whole as ``train``; and notes about folders that could mean something else.

    Args:
        new: whether these are other data than a run's, of which none are for training.

    Raises:
        ValueError: the top folders look like splits and are not.
    """
    tops = folders_in(path)
    named = {top: split for top in tops if (split := split_of(top))}
    others = [top.name for top in tops if top not in named and (splits != "auto" or pictures_in(top).files)]
    if splits == "classes" or not named:
        if splits == "folders":
            raise file_error(path, "data.splits=folders: holds no folder train")
        return {"train": path}, []
    if splits == "auto" and others:
        names, which = ", ".join(top.name for top in named), "is a class" if len(named) == 1 else "are classes"
        note = f"{names} {which} here, as {others[0]} is beside; data.splits=folders makes splits of such"
        return {"train": path}, [note]
    folders: dict[str, Path] = {}
    instead = "; data.splits=classes takes the folders for classes"
    for top, split in named.items():
        if split in folders:
            raise file_error(path, f"{folders[split].name} and {top.name} are both for {split}; keep one{instead}")
        folders[split] = top
    if "train" not in folders and not new:
        raise file_error(path, f"has a folder {next(iter(named)).name} but no folder train{instead}")
    if not new and not folders_in(folders["train"]):
        raise file_error(folders["train"], f"holds no class folders{instead}")
    empty = [top for top in folders.values() if not folders_in(top)]
    left = [f"{top.name} (no split by its name)" for top in tops if top not in named]
    left += [f"{top.name} (no class folders, {len(pictures_in(top).files):,} pictures)" for top in empty]
    notes = [f"not read: {', '.join(left)}"] if left else []
    return {split: top for split, top in folders.items() if top not in empty}, notes


def split_of(folder: Path) -> str | None:
    """The split that a folder is by its name, or by a word in it if it holds folders, as seg_train does."""
    if split := split_called(folder.name):
        return split
    words = [split_called(word) for word in re.findall(r"[a-z]+|[A-Z][a-z]+|[A-Z]+", folder.name)]
    found = [split for split in words if split]
    return found[0] if len(found) == 1 and folders_in(folder) else None


def split_called(name: str) -> str | None:
    """The split that a name means as a whole; None if none."""
    plain = re.sub(r"[^a-z]", "", name.lower())
    return next(
        (s for s, names in SPLITS.items() if re.fullmatch(rf"({names})(set|data|split|images|imgs)?", plain)), None
    )


def called(folder: Path) -> str:
    """The class of a folder, its name as text: bytes that are no UTF-8 are written out."""
    return nfc(folder.name.encode("utf-8", "backslashreplace").decode())


def pictures_in(folder: Path, above: tuple[str, ...] = ()) -> Found:
    """The pictures in `folder` at any depth, sorted; links are followed, but not in a circle."""
    found, real = Found(), os.path.realpath(folder)
    if real in above:
        found.others["link to a folder above"] += 1
        return found
    with os.scandir(folder) as entries:
        for entry in entries:
            lost = entry.is_symlink() and not os.path.exists(entry.path)
            if hidden(entry.name):
                found.others["hidden"] += files_in(entry.path)
            elif not lost and entry.is_dir():
                inside = pictures_in(Path(entry.path), (*above, real))
                found.files += inside.files
                found.others += inside.others
            elif entry.name.lower().endswith(ENDINGS) and (lost or entry.is_file()):
                found.files.append(entry.path)  # a link that leads nowhere is one that cannot be decoded
            else:
                kind = kind_of(entry.name) if lost or entry.is_file() else "no file (a pipe, a device)"
                found.others["link that leads nowhere" if lost else kind] += 1
    found.files.sort(key=nfc)
    found.others = +found.others  # without hidden folders that are empty
    return found


def beside(folder: Path) -> Counter[str]:
    """Kinds of the files that lie in `folder` itself, where only folders are read."""
    found: Counter[str] = Counter()
    for entry in folder.iterdir():
        if hidden(entry.name):
            found["hidden"] += files_in(entry)
        elif not entry.is_dir():
            found[kind_of(entry.name)] += 1
    return +found  # without hidden folders that are empty


def files_in(path: str | Path) -> int:
    """How many files a path is: of a folder those at any depth, links not followed."""
    if os.path.islink(path) or not os.path.isdir(path):
        return 1
    return sum(len(files) for _, _, files in os.walk(path))


def kind_of(name: str) -> str:
    """What a file that is not read is called in a count."""
    return Path(name).suffix.lower() or "without an ending"


def kinds(others: Counter[str]) -> str:
    """A count by kind, in words."""
    return one_line(", ".join(f"{n:,} {kind}" for kind, n in others.most_common()))


def folders_in(folder: Path) -> list[Path]:
    """The folders in `folder`, sorted, hidden ones left out."""
    return sorted(f for f in folder.iterdir() if f.is_dir() and not hidden(f.name))


def class_folders(folder: Path) -> list[Path]:
    """The folders in `folder`, one for each class, in the order of its names.

    Raises:
        ValueError: there are none, or two of one name.
    """
    found = sorted(folders_in(folder), key=called)
    if not found:
        raise file_error(folder, "holds no class folders")
    for one, other in itertools.pairwise(map(called, found)):
        if one == other:
            raise file_error(folder, f"has the class {one} twice{FORMS}")
    return found


def hidden(name: str) -> bool:
    """What file managers and notebooks leave behind, such as ._1.jpg and .ipynb_checkpoints."""
    return name.startswith(".") or name in ("__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini")
