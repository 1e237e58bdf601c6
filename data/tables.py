"""Small real tables for classification that ship inside scikit-learn.

Run: ``python -m trainer data=iris``
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from data.source import Raw, Source


@dataclass(kw_only=True)
class SklearnTable(Source):
    """A table (N, features) of float32 measurements with a class each.

    Args:
        name: ``iris`` (150 x 4, 3 classes) or ``wine`` (178 x 13, 3 classes).
    """

    name: Literal["iris", "wine"]

    def read(self) -> Raw:
        import sklearn.datasets  # 1.4 s: only for a run that needs it

        table = {"iris": sklearn.datasets.load_iris, "wine": sklearn.datasets.load_wine}[self.name]()
        x = table.data.astype(np.float32)
        return Raw(
            name=self.name,
            task="classification",
            x=x,
            y=table.target.astype(np.int64),
            num_outputs=len(table.target_names),
            value_range=(float(x.min()), float(x.max())),
            class_names=tuple(str(name) for name in table.target_names),
            column_names=tuple(table.feature_names),
        )
