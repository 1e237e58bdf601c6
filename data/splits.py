"""Train, validation and test indices, fixed by a seed and stratified over classes."""

from __future__ import annotations

import numpy as np


def split_indices(
    n: int,
    labels: np.ndarray | None,
    *,
    test_fraction: float,
    val_fraction: float,
    seed: int,
    class_names: tuple[str, ...] | None = None,
) -> dict[str, np.ndarray]:
    """Splits range(n) into `train`, `val` and `test`; a split whose fraction is 0 is left out.

    Every split holds each class in proportion (largest remainders decide the odd samples), and within a split the
    original order is kept. `val_fraction` counts from what is not test.

    Raises:
        ValueError: a class has fewer members than there are splits, or nothing would be left to train on.
    """
    given = f"test_fraction={test_fraction} val_fraction={val_fraction}"
    fractions = {"test": test_fraction, "val": (1 - test_fraction) * val_fraction}
    fractions = {name: f for name, f in fractions.items() if f > 0}
    groups = [np.arange(n)] if labels is None else [np.flatnonzero(labels == c) for c in np.unique(labels)]
    for group in groups:
        if len(group) <= len(fractions):
            where = "the data" if labels is None else f"class {_name(labels[group[0]], class_names)}"
            raise ValueError(
                f"{given}: {where} has {len(group)} "
                f"sample{'s' * (len(group) != 1)}, too few for {len(fractions) + 1} splits"
            )
    rng = np.random.default_rng(seed)
    groups = [rng.permutation(group) for group in groups]
    sizes = np.array([len(group) for group in groups])
    start = np.zeros_like(sizes)
    parts: dict[str, np.ndarray] = {}
    for name, fraction in fractions.items():
        take = _apportion(sizes, fraction, room=sizes - start - 1)
        if take.sum() == 0:
            raise ValueError(f"{given}: leaves the {name} split of {n} samples empty")
        parts[name] = np.sort(np.concatenate([g[a : a + k] for g, a, k in zip(groups, start, take, strict=True)]))
        start = start + take
    parts["train"] = np.sort(np.concatenate([g[a:] for g, a in zip(groups, start, strict=True)]))
    return {name: parts[name] for name in ("train", "val", "test") if name in parts}


def _apportion(sizes: np.ndarray, fraction: float, room: np.ndarray) -> np.ndarray:
    """How many of each group to take, so that round(fraction * total) are taken (largest remainder method).

    At most `room` of a group: at least one of each stays for training.
    """
    quota = sizes * fraction
    take = np.minimum(np.floor(quota).astype(int), room)
    missing = round(float(quota.sum())) - take.sum()
    by_remainder = np.argsort(take - quota, kind="stable")
    for i in by_remainder[take[by_remainder] < room[by_remainder]][: max(missing, 0)]:
        take[i] += 1
    return take


def _name(label: np.integer, class_names: tuple[str, ...] | None) -> str:
    return repr(class_names[label]) if class_names else str(label)
