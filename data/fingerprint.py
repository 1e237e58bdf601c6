"""Fingerprints of data: they find changed data, and samples that are in two splits.

Each sample has a hash of its inputs and one of its targets. A fingerprint has a digest of them for each split in order,
and one for all samples that does not depend on order, so that a difference can be described.

Source of the hash: multilinear hashing (Carter, Wegman 1979): sum_i w_i x_i mod 2^64 over words x_i of 32 bits, with
fixed random w_i of 64 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import numpy as np

BLOCK = 2**17  # words that are hashed at once, so that they stay in the cache

Hashes = tuple[np.ndarray, np.ndarray]  # of inputs and of targets: (N,) uint64 each


def hashes(x: np.ndarray) -> np.ndarray:
    """A hash of the bytes of each sample (N, ...): (N,) uint64."""
    rows = np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)
    if rows.shape[1] % 4:
        rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4)))
    words = rows.view(np.uint32)
    weights = np.random.default_rng(words.shape[1]).integers(0, 2**64, words.shape[1], dtype=np.uint64)
    found = np.empty(len(x), np.uint64)
    step = max(1, BLOCK // words.shape[1])
    for start in range(0, len(x), step):
        found[start : start + step] = np.einsum("ij,j->i", words[start : start + step].astype(np.uint64), weights)
    return found


def file_hash(content: bytes) -> int:
    """A 64-bit hash of a file's bytes."""
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def sample_hashes(x: np.ndarray, y: np.ndarray, *weights: np.ndarray) -> Hashes:
    """Hashes of the inputs and of the targets, a sample's weight among them."""
    targets = hashes(y)
    for w in weights:
        targets = mixed(targets, hashes(w))
    return hashes(x), targets


def fingerprint(splits: Mapping[str, Hashes]) -> dict[str, Any]:
    """The fingerprint as plain data, for :func:`difference`."""
    together = [np.concatenate(part) for part in zip(*splits.values(), strict=True)]
    return {
        "splits": {name: [len(x), digest(x), digest(y)] for name, (x, y) in splits.items()},
        "inputs": any_order(mixed(together[0], together[0])),
        "samples": any_order(mixed(*together)),
    }


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The difference between two fingerprints, in words; None if equal."""
    if before == now:
        return None
    old, new = before["splits"], now["splits"]
    for name in old:
        if name not in new or old[name][0] != new[name][0]:
            return f"the {name} split had {old[name][0]:,} samples, and has {new.get(name, [0])[0]:,}"
    if old.keys() != new.keys():
        return f"the splits were {', '.join(old)}, and are {', '.join(new)}"
    if before["samples"] == now["samples"]:
        return "the samples are the same, in another order"
    if before["inputs"] == now["inputs"]:
        same_order = all(old[name][1] == new[name][1] for name in old)
        return "the targets or weights were changed; the inputs are the same" + (
            "" if same_order else ", in another order"
        )
    changed = [name for name in old if old[name][1] != new[name][1]]
    return f"the values of the inputs were changed ({', '.join(changed)})"


def shared(splits: Mapping[str, Hashes], *, with_targets: bool) -> list[str]:
    """Notes about samples that are in two splits.

    Args:
        with_targets: whether equal samples must have equal targets.
    """
    keys = {name: mixed(x, y) if with_targets else x for name, (x, y) in splits.items()}
    names, notes = list(keys), []
    for i, name in enumerate(names[:-1]):
        known = np.sort(keys[name])
        for other in names[i + 1 :]:
            asked = np.sort(keys[other])  # sorted, they are found several times faster
            place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
            n = int((known[place] == asked).sum())
            if n:
                verb = "is" if n == 1 else "are"
                notes.append(f"{n:,} of {len(keys[other]):,} {other} samples {verb} in the {name} split, too")
    return notes


def mixed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """One hash of two: (N,) uint64. Not linear, so that a sum shows which parts belong together."""
    x = b * np.uint64(0x9E3779B97F4A7C15)  # the constants are splitmix64's
    x ^= a
    x ^= x >> np.uint64(29)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    return x


def digest(hashes_N: np.ndarray) -> str:
    """A digest of hashes in their order."""
    return blake2b(hashes_N.tobytes(), digest_size=8).hexdigest()


def any_order(mixed_N: np.ndarray) -> str:
    """A digest of mixed hashes, the same in any order."""
    return f"{int(mixed_N.sum(dtype=np.uint64)):016x}"
