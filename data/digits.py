"""The handwritten digits that ship inside scikit-learn: 1,797 grey images of 8 x 8 pixels, values 0..16.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test part).
Run: ``python -m trainer data=digits``
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from data.source import Raw, Source

CLASSES = tuple(str(digit) for digit in range(10))


@dataclass(kw_only=True)
class Digits(Source):
    """8 x 8 grey digits, uint8, 10 classes."""

    def read(self) -> Raw:
        table = _shipped_table()  # (1797, 65): 64 pixels and the digit
        return Raw(
            name="digits",
            task="classification",
            parts={"train": (table[:, :64].reshape(-1, 1, 8, 8), table[:, 64].astype(np.int64))},
            num_outputs=10,
            value_range=(0, 16),
            class_names=CLASSES,
        )


def _shipped_table() -> np.ndarray:
    """scikit-learn's file, read without importing scikit-learn, which takes longer than the first epochs."""
    spec = find_spec("sklearn")
    assert spec is not None  # a dependency of conga,
    assert spec.origin is not None  # with an __init__.py
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if path.exists():
        return np.loadtxt(path, delimiter=",", dtype=np.uint8)
    from sklearn.datasets import load_digits  # a release with its file elsewhere

    digits = load_digits()
    return np.column_stack([digits.data, digits.target]).astype(np.uint8)
