"""Small tables of conga and scikit-learn, and generated ones.

Run: ``python -m trainer data=wine``, ``data=apartments model=linear``
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from data.source import Raw, Source, check_count

APARTMENTS = Path(__file__).with_name("apartments.csv")

# name -> (function in sklearn.datasets, its arguments, task)
SKLEARN = {
    "iris": ("load_iris", {}, "classification"),
    "wine": ("load_wine", {}, "classification"),
    "breast_cancer": ("load_breast_cancer", {}, "binary"),
    "diabetes": ("load_diabetes", {"scaled": False}, "regression"),  # the measurements themselves
    "linnerud": ("load_linnerud", {}, "regression"),
}

HEADS = {"age": 5, "gender": 2}  # of the generated table for two heads


@dataclass(kw_only=True)
class SklearnTable(Source):
    """A table (N, features) of float32 measurements with a class or with one or more numbers per row.

    Args:
        name: ``iris`` (150 x 4, 3 classes), ``wine`` (178 x 13, 3 classes), ``breast_cancer`` (569 x 30, binary),
            ``diabetes`` (442 x 10, 1 target) or ``linnerud`` (20 x 3, 3 targets).
    """

    name: Literal["iris", "wine", "breast_cancer", "diabetes", "linnerud"]

    def read(self) -> Raw:
        import sklearn.datasets  # the import takes 1.4 s: only if needed

        function, arguments, task = SKLEARN[self.name]
        table = getattr(sklearn.datasets, function)(**arguments)
        x, y, names = table.data.astype(np.float32), table.target, getattr(table, "target_names", ())
        if task == "regression":
            y = y.astype(np.float32).reshape(len(x), -1)
            outputs, classes, targets = y.shape[1], None, tuple(names) if names else ("progression",)
        else:
            y = y.astype(np.int64)
            outputs, classes, targets = len(names) if task == "classification" else 1, tuple(map(str, names)), None
        return Raw(
            name=self.name,
            task=task,
            parts={"train": (x, y)},
            num_outputs=outputs,
            class_names=classes,
            column_names=tuple(map(str, table.feature_names)),
            target_names=targets,
        )


@dataclass(kw_only=True)
class Apartments(Source):
    """100 flats in Berlin: size in square metres, and minutes to the nearest station -> monthly rent in euros.

    Source: the exercises of the summer school CO@Work 2020, Robust ML Training with Conditional Gradients.

    Args:
        distance: whether the minutes to the station are an input, too.
    """

    distance: bool

    def read(self) -> Raw:
        columns = APARTMENTS.read_text().partition("\n")[0].split(",")
        table = np.loadtxt(APARTMENTS, delimiter=",", skiprows=1, dtype=np.float32)
        used = 2 if self.distance else 1
        return Raw(
            name="apartments_distance" if self.distance else "apartments",
            task="regression",
            parts={"train": (table[:, :used], table[:, 2:])},
            num_outputs=1,
            column_names=tuple(columns[:used]),
            target_names=tuple(columns[2:]),
        )


@dataclass(kw_only=True)
class Generated(Source):
    """Settings of a generated table.

    Args:
        samples: rows of the table.
        features: columns of inputs.
        generator_seed: fixes the table, at least 0.
    """

    samples: int
    features: int
    generator_seed: int

    generated = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low in (("samples", 10), ("features", 1), ("generator_seed", 0)):
            check_count(name, getattr(self, name), low)


@dataclass(kw_only=True)
class MultiLabel(Generated):
    """Rows with any number of labels each, by scikit-learn's ``make_multilabel_classification``.

    Args:
        labels: labels of a row.
    """

    labels: int

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("labels", self.labels, 1, 2**15)

    def read(self) -> Raw:
        from sklearn.datasets import make_multilabel_classification

        x, y = make_multilabel_classification(
            self.samples, self.features, n_classes=self.labels, random_state=self.generator_seed
        )
        return Raw(
            name="multilabel",
            task="multilabel",
            parts={"train": (x.astype(np.float32), y.astype(np.uint8))},
            num_outputs=self.labels,
            class_names=tuple(f"label {i}" for i in range(self.labels)),
            column_names=tuple(f"x{i}" for i in range(self.features)),
        )


@dataclass(kw_only=True)
class MultiTask(Generated):
    """Rows with two class numbers each, for a network with two heads: ``age`` (5 classes) and ``gender`` (2).

    Ten clusters by scikit-learn's ``make_classification``, one for each pair of the two.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.features < 4:
            raise ValueError(f"features={self.features}: must be at least 4, to hold ten clusters apart")

    def read(self) -> Raw:
        from sklearn.datasets import make_classification

        x, pair = make_classification(
            self.samples,
            self.features,
            n_informative=self.features,
            n_redundant=0,
            n_classes=10,
            n_clusters_per_class=1,
            class_sep=2.0,
            random_state=self.generator_seed,
        )
        return Raw(
            name="multitask",
            task="multitask",
            parts={"train": (x.astype(np.float32), np.stack([pair // 2, pair % 2], 1))},
            num_outputs=HEADS,
            column_names=tuple(f"x{i}" for i in range(self.features)),
            target_names=tuple(HEADS),
        )
