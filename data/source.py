"""Base of all datasets: settings, and the steps from raw arrays to a :class:`data.Dataset`.

A dataset subclasses :class:`Source`, adds its own settings as fields and reads its arrays::

    @dataclass(kw_only=True)
    class Digits(Source):
        def read(self) -> Raw: ...
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from data.augment import Augment
from data.dataset import Dataset, Facts
from data.fingerprint import Hashes, fingerprint, sample_hashes, shared
from data.gate import Arrays, Missing, Raw, admit, fill_in, range_note
from data.splits import ValFrom, split_indices, subset
from data.statistics import Moments, Normalize, normalization
from data.targets import class_count

Progress = Callable[[str, int, int], None]  # what, number done, number in all


def silent(what: str, done: int, total: int) -> None:
    """A :data:`Progress` that shows nothing."""


@dataclass(kw_only=True)
class Source(abc.ABC):
    """The settings of every dataset.

    Args:
        root: folder of the datasets' files; datasets inside a package do not use it.
        batch_size: samples in a training batch, at least 1.
        test_fraction: share of all samples for the test split if none is published, in [0, 1).
        val_fraction: share of the other samples for the validation split, in [0, 1).
        val_size: the number of validation samples, at least 0, instead of a share.
        val_from: ``random``: in proportion to the classes (a series: the last ones before the test split); ``start``:
            the first training samples.
        split_seed: fixes the splits, at least 0.
        limit: keeps at most so many samples of each split, in proportion to the classes, for quick tries; at least 1.
        normalize: ``none``; ``scale``: to 0..1; mean 0 and standard deviation 1 of the training split over all values
            (``global``), each channel or column (``channel``), each entry of the input (``pixel``), or each channel or
            column of inputs and of targets that are numbers (``standard``).
        augment: see :class:`data.augment.Augment`.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    root: str
    batch_size: int
    test_fraction: float
    val_fraction: float
    val_size: int | None
    val_from: ValFrom
    split_seed: int
    limit: int | None
    normalize: Normalize
    augment: Augment

    missing: Missing = field(default="refuse", init=False)  # a setting of tables and arrays
    generated: ClassVar[bool] = False  # whether a formula makes the data; its last digits depend on the machine
    # Of a run: its classes, columns and statistics are used, see :meth:`load_like`.
    like: Facts | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        for name, low in (("batch_size", 1), ("val_size", 0), ("limit", 1), ("split_seed", 0)):
            value = getattr(self, name)
            if value is not None:
                check_count(name, value, low)
        for name in ("test_fraction", "val_fraction"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be in [0, 1)")
        if not isinstance(self.augment, Augment):  # a mapping, from YAML
            try:
                self.augment = Augment(**self.augment)
            except ValueError as error:
                raise ValueError(f"augment.{error}") from error

    @abc.abstractmethod
    def read(self) -> Raw:
        """The dataset's arrays as on disk; :func:`data.gate.admit` checks them.

        Raises:
            ValueError, OSError: a file is missing or damaged; the text names it.
        """

    def load(self, progress: Progress = silent) -> Dataset:
        """Reads, splits and measures the training split.

        Raises:
            ValueError, OSError: a setting or a file is wrong; one line says which.
        """
        raw = admit(self.read(), self.missing)
        return self.finish(raw, self.split(raw) if self.like is None else whole(raw), progress)

    def load_like(self, facts: Facts, progress: Progress = silent) -> Dataset:
        """Reads other data like those with `facts`: every sample is in one split, ``new``.

        Raises:
            ValueError, OSError: they are of another kind; one line says why.
        """
        if self.generated:
            raise ValueError(f"{facts.name}: is generated; there are no other data of this kind")
        self.like = facts
        return self.load(progress)

    def unlike(self, facts: Facts) -> str | None:
        """Why the data on disk cannot be read like those with `facts`, with the place; None if they can."""
        self.like = None if self.generated else facts
        try:
            self.read()
        except (ValueError, OSError) as error:
            return str(error)
        finally:
            self.like = None
        return None

    def split(self, raw: Raw) -> dict[str, Arrays]:
        """The parts of `raw` as splits: published ones stay, the others are cut from the training part."""
        taken = self.taken(raw)
        left = sum(len(arrays[1]) for arrays in raw.parts.values()) - sum(len(index) for _, index in taken.values())
        if left:
            raw.notes += (f"data.limit={self.limit}: {left:,} samples are left out",)
        return {name: tuple(array[index] for array in raw.parts[part]) for name, (part, index) in taken.items()}

    def taken(self, raw: Raw) -> dict[str, tuple[str, np.ndarray]]:
        """Split -> its part of `raw`, and the indices of its samples there."""
        labels = {k: arrays[1] if raw.task in ("classification", "binary") else None for k, arrays in raw.parts.items()}
        settings = {k: getattr(self, k) for k in ("test_fraction", "val_fraction", "val_size", "val_from")}
        if "test" in raw.parts:  # published
            settings["test_fraction"] = 0.0
        if "val" in raw.parts:
            settings |= {"val_fraction": 0.0, "val_size": None}
        index = split_indices(
            len(raw.parts["train"][1]),
            labels["train"],
            **settings,
            seed=self.split_seed,
            in_time=raw.in_time,
            class_names=raw.class_names,
            groups=raw.groups,
        )
        found = {name: ("train", i) for name, i in index.items()}
        found |= {name: (name, np.arange(len(arrays[1]))) for name, arrays in raw.parts.items() if name != "train"}
        if self.limit is not None:
            for name, (part, i) in found.items():
                y = labels[part]
                classes = None if y is None else y[i]
                found[name] = part, subset(i, classes, self.limit, self.split_seed, in_time=raw.in_time)
        return {name: found[name] for name in ("train", "val", "test") if name in found}

    def finish(self, raw: Raw, splits: dict[str, Arrays], progress: Progress = silent) -> Dataset:
        """Tensors, statistics of the training split, and facts."""
        for name, (_, _, *weights) in splits.items():
            if any(not w.any() for w in weights):
                raise ValueError(f"{raw.name}: every weight of the {name} split is 0")
        if self.missing == "mean":
            splits = fill_in(raw, splits, of_run=self.like)
            raw.fill = None if raw.fill is None else torch.from_numpy(raw.fill)
        if self.like is None:
            raw.notes += absent_classes(raw, splits)
        self.identify(raw, {} if self.generated else {name: sample_hashes(*arrays) for name, arrays in splits.items()})
        tensors = {name: tuple(map(torch.from_numpy, arrays)) for name, arrays in splits.items()}
        first = next(iter(tensors.values()))  # the training split, or new data
        facts = self.facts(raw, first, Moments().add(first[0]), self.sizes(splits))
        return Dataset(tensors, facts, self.batch_size, self.augment)

    def identify(self, raw: Raw, hashes: dict[str, Hashes]) -> None:
        """Sets the fingerprint of `raw` from the hashes of the splits' samples, and adds a note about duplicates."""
        raw.fingerprint = fingerprint(hashes) if hashes else {}
        is_table = raw.column_names is not None  # of few columns: rows of equal inputs are common
        raw.notes += tuple(shared(hashes, with_targets=is_table))

    def facts(self, raw: Raw, train: Arrays, moments: Moments, sizes: dict[str, int]) -> Facts:
        """The facts of `raw`, from the training split's targets and the moments of its inputs."""
        shape = tuple(moments.mean.shape)
        if self.like is not None:
            return self.facts_like(raw, self.like, shape, sizes)
        self.check_augment(raw.task, shape)
        if len(train) > 2 and self.augment.mixes:
            name = "mixup" if self.augment.mixup else "cutmix"
            raise ValueError(f"augment.{name}={getattr(self.augment, name)}: mixes samples, and these have weights")
        counts = None
        if raw.task in ("classification", "binary"):
            counts = tuple(torch.bincount(train[1], minlength=class_count(raw.task, raw.num_outputs)).tolist())
            absent = [raw.class_names[k] if raw.class_names else k for k, n in enumerate(counts) if n == 0]
            if absent and self.limit is None:
                raise ValueError(f"{raw.name}: the training split has no sample of class {absent[0]!r}")
            if absent:
                raw.notes += (f"data.limit={self.limit}: {len(absent):,} classes have no training sample",)
        normalize = "none" if raw.vocabulary is not None else self.normalize
        mean, std = normalization(moments, normalize, raw.value_range, raw.fixed)
        target_mean, target_std = torch.tensor(0.0), torch.tensor(1.0)
        if self.normalize == "standard" and raw.task == "regression":
            target_mean, target_std = normalization(Moments().add(train[1]), "standard", None)
        shared = {f.name for f in dataclasses.fields(Facts)} & {f.name for f in dataclasses.fields(Raw)}
        return Facts(
            **{name: getattr(raw, name) for name in shared},
            input_shape=shape,
            target_shape=tuple(train[1].shape[1:]) if raw.task == "sequence" else (),
            sizes=sizes,
            class_counts=counts,
            mean=mean,
            std=std,
            target_mean=target_mean,
            target_std=target_std,
        )

    @staticmethod
    def facts_like(raw: Raw, like: Facts, shape: tuple[int, ...], sizes: dict[str, int]) -> Facts:
        """The facts of new data, `like` those of the run.

        Raises:
            ValueError: the data are of another kind.
        """
        theirs = {"task": raw.task, "inputs": shape, "outputs": raw.num_outputs}
        ours = {"task": like.task, "inputs": like.input_shape, "outputs": like.num_outputs}
        for name in theirs:
            if theirs[name] != ours[name]:
                raise ValueError(f"{raw.name}: its {name} are {theirs[name]}, and the run's {ours[name]}")
        x = next(iter(raw.parts.values()))[0]
        notes = (*raw.notes, *(range_note("the file", x, like.value_range) if x.dtype != object else ()))
        return dataclasses.replace(like, name=raw.name, sizes=sizes, fingerprint=raw.fingerprint, notes=notes)

    def check_augment(self, task: str, shape: tuple[int, ...]) -> None:
        """Raises ValueError if augmentation does not apply to the task and shape."""
        try:
            self.augment.check(task, shape)
        except ValueError as error:
            raise ValueError(f"augment.{error}") from error

    @staticmethod
    def sizes(splits: dict[str, Arrays]) -> dict[str, int]:
        """Samples in each split."""
        return {name: len(arrays[1]) for name, arrays in splits.items()}


def absent_classes(raw: Raw, splits: dict[str, Arrays]) -> tuple[str, ...]:
    """Notes about classes without samples in the validation or test split."""
    if raw.task not in ("classification", "binary"):
        return ()
    names = raw.class_names or tuple(map(str, range(class_count(raw.task, raw.num_outputs))))
    notes = []
    for split, (_, y, *_) in splits.items():
        absent = [name for name, n in zip(names, np.bincount(y, minlength=len(names)), strict=False) if not n]
        if absent and split != "train":
            etc = f" and {len(absent) - 6:,} more classes" if len(absent) > 6 else ""
            notes.append(f"the {split} split has no sample of {', '.join(absent[:6])}{etc}")
    return tuple(notes)


def whole(raw: Raw) -> dict[str, Arrays]:
    """Every sample of `raw` in one split."""
    return {"new": tuple(np.concatenate(arrays) for arrays in zip(*raw.parts.values(), strict=True))}


def check_count(name: str, value: int, low: int, high: int = 2**31) -> None:
    """Raises ValueError unless low <= value < high."""
    if not low <= value < high:
        bound = f"at least {low}" if value < low else f"less than 2**{high.bit_length() - 1}"
        raise ValueError(f"{name}={value}: must be {bound}")
