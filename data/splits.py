"""Indices of training, validation and test splits: fixed by a seed and stratified over classes, or in time order."""

from __future__ import annotations

from typing import Literal

import numpy as np

ValFrom = Literal["random", "start"]

GROUP_DRAWS = 64  # random orders of groups; the best one is used


def split_indices(
    n: int,
    labels: np.ndarray | None,
    *,
    test_fraction: float,
    val_fraction: float,
    seed: int,
    val_size: int | None = None,
    val_from: ValFrom = "random",
    in_time: bool = False,
    class_names: tuple[str, ...] | None = None,
    groups: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """Splits range(n) into `train`, `val` and `test`; a split of size 0 is left out.

    Every split has each class in proportion (by largest remainders), and keeps the original order.

    Args:
        labels: (n,) classes for stratification; None: without stratification.
        test_fraction: share of all samples.
        val_fraction: share of the samples that are not test.
        val_size: number of validation samples, instead of a share.
        val_from: ``start``: the first samples that are not test, whatever their class.
        in_time: training samples come first, then validation, then test; nothing is drawn.
        groups: (n,) numbers from 0; samples of one group stay together; sizes and proportions are then
            approximate.

    Raises:
        ValueError: a class has fewer samples than there are splits, or no training samples would be left.
    """
    val_given = f"data.val_fraction={val_fraction}" if val_size is None else f"data.val_size={val_size}"
    given = f"test_fraction={test_fraction} {val_given}"
    n_test = round(test_fraction * n)
    n_val = round(val_fraction * (n - n_test)) if val_size is None else val_size
    for name, size, wanted in (("test", n_test, test_fraction), ("val", n_val, val_fraction)):
        if size == 0 and wanted > 0 and not (name == "val" and val_size == 0):
            raise ValueError(f"{given}: leaves the {name} split of {n} sample{'s' * (n != 1)} empty")
    if n_test + n_val >= n:
        raise ValueError(f"{given}: leaves none of {n} sample{'s' * (n != 1)} for training")
    if in_time:
        ends = np.split(np.arange(n), [n - n_test - n_val, n - n_test])
        return {name: part for name, part in zip(("train", "val", "test"), ends, strict=True) if len(part)}

    index = np.arange(n)
    drawn = {"test": n_test} | ({"val": n_val} if val_from == "random" else {})
    if groups is not None:
        if val_from == "start":
            raise ValueError("val_from=start: takes samples, not groups; data.val_from=random takes these")
        return _draw_groups(groups, labels, {k: size for k, size in drawn.items() if size}, seed)
    parts = _draw(index, labels, {k: size for k, size in drawn.items() if size}, seed, given, class_names)
    if val_from == "start" and n_val:
        rest = parts["train"]
        parts |= {"val": rest[:n_val], "train": rest[n_val:]}
    return {name: parts[name] for name in ("train", "val", "test") if name in parts}


def _draw(
    index: np.ndarray,
    labels: np.ndarray | None,
    sizes: dict[str, int],
    seed: int,
    given: str,
    class_names: tuple[str, ...] | None,
) -> dict[str, np.ndarray]:
    """Random parts of the given sizes, and ``train`` with the rest; each in proportion to the classes."""
    groups = [index] if labels is None else [index[labels == c] for c in np.unique(labels)]
    for group in groups:
        if len(group) <= len(sizes):
            where = "the data" if labels is None else f"class {_name(labels[group[0]], class_names)}"
            raise ValueError(
                f"{given}: {where} has {len(group)} "
                f"sample{'s' * (len(group) != 1)}, too few for {len(sizes) + 1} splits"
            )
    rng = np.random.default_rng(seed)
    groups = [rng.permutation(group) for group in groups]
    members = np.array([len(group) for group in groups])
    start = np.zeros_like(members)
    parts: dict[str, np.ndarray] = {}
    for name, size in sizes.items():
        take = apportion(members, size, room=members - start - 1, seed=seed)  # one of each stays for training
        if take.sum() < size:
            raise ValueError(
                f"{given}: the {name} split gets {take.sum():,} samples at most, if each class keeps one for training"
            )
        parts[name] = np.sort(np.concatenate([g[a : a + k] for g, a, k in zip(groups, start, take, strict=True)]))
        start = start + take
    return parts | {"train": np.sort(np.concatenate([g[a:] for g, a in zip(groups, start, strict=True)]))}


def _draw_groups(
    groups: np.ndarray, labels: np.ndarray | None, sizes: dict[str, int], seed: int
) -> dict[str, np.ndarray]:
    """Random parts of about the given sizes, and ``train`` with the rest; each group is in one of them.

    In each of several random orders a group goes to the part that needs it most; the order whose parts are nearest to
    the sizes and proportions of the classes is used.

    Raises:
        ValueError: fewer groups than parts.
    """
    classes = np.zeros(len(groups), int) if labels is None else np.unique(labels, return_inverse=True)[1]
    counts = np.zeros((groups.max() + 1, classes.max() + 1))  # samples of each group and class
    np.add.at(counts, (groups, classes), 1)
    names = [*sizes, "train"]
    if len(counts) < len(names):
        raise ValueError(f"group: {len(counts)} groups are too few for {len(names)} splits")
    shares = np.array([*sizes.values(), len(groups) - sum(sizes.values())]) / len(groups)
    wanted = shares[:, None] * counts.sum(0)  # samples of each part and class
    rng, best, found = np.random.default_rng(seed), np.inf, None
    for _ in range(GROUP_DRAWS):
        part_of = _assign(counts, wanted, rng.permutation(len(counts)))
        filled = np.stack([counts[part_of == k].sum(0) for k in range(len(names))])
        miss = (np.square(filled - wanted) / np.maximum(wanted, 1)).sum()
        if miss < best and (filled.sum(1) > 0).all():
            best, found = miss, part_of
    if found is None:
        raise ValueError(f"group: no assignment of {len(counts)} groups gives each of {len(names)} splits one")
    rows = found[groups]
    return {name: np.flatnonzero(rows == names.index(name)) for name in ("train", "val", "test") if name in names}


def _assign(counts: np.ndarray, wanted: np.ndarray, order: np.ndarray) -> np.ndarray:
    """The part of each group, in `order`: the one with the largest open share of `wanted`."""
    part_of, left = np.empty(len(counts), int), wanted.sum(1)
    room = left.copy()
    for group in order:
        size = counts[group].sum()
        fits = left >= size / 2
        part = int(np.argmax(np.where(fits, left / room, -np.inf) if fits.any() else left))
        part_of[group] = part
        left[part] -= size
    return part_of


def subset(index: np.ndarray, labels: np.ndarray | None, size: int, seed: int, *, in_time: bool) -> np.ndarray:
    """At most `size` of `index` in its order: random in proportion to its `labels`, or the first ones in time."""
    if len(index) <= size:
        return index
    if in_time:
        return index[:size]
    groups = [index] if labels is None else [index[labels == c] for c in np.unique(labels)]
    rng = np.random.default_rng(seed)
    members = np.array([len(group) for group in groups])
    take = apportion(members, size, room=members, seed=seed)
    return np.sort(np.concatenate([rng.permutation(g)[:k] for g, k in zip(groups, take, strict=True)]))


def apportion(members: np.ndarray, size: int, room: np.ndarray, seed: int) -> np.ndarray:
    """How many of each group to take, `size` in all, in proportion to its `members` (largest remainder method).

    At most `room` of a group; random numbers from `seed` decide between equal remainders.
    """
    quota = members * (size / members.sum())
    take = np.minimum(np.floor(quota).astype(int), room)
    lots = np.random.default_rng([seed, len(members)]).permutation(len(members))
    by_remainder = lots[np.argsort((take - quota)[lots], kind="stable")]
    while take.sum() < size and (take < room).any():
        open_ = by_remainder[take[by_remainder] < room[by_remainder]]
        take[open_[: size - take.sum()]] += 1
    return take


def _name(label: np.integer, class_names: tuple[str, ...] | None) -> str:
    return repr(class_names[label]) if class_names else str(label)
