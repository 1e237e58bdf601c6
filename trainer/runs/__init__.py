"""Runs read back: ``from trainer.runs import load_runs; df = load_runs("outputs")``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.rundir.records import RunRecord, differing, find_runs, metric_direction
from trainer.rundir.typed import typed_path
from trainer.runs.columns import known, row

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RunRecord", "differing", "find_runs", "load_curves", "load_runs", "metric_direction"]


def load_runs(*paths: str | Path) -> pd.DataFrame:
    """All runs below the paths, one row per run; values that a run lacks are missing.

    Columns: ``path``, ``name``, ``status``, ``error``; the configuration by dotted keys, and each group's choice
    (``optim``); ``best/value``, ``best/metric``, ``best/epoch``, ``final/val/loss``, …, ``test/accuracy``, …;
    ``epochs``, ``steps``, ``seconds``, ``parameters``, ``device``.

    Raises:
        Refused: a path that does not exist.
    """
    import pandas as pd

    records = find_runs([typed_path(str(path)) for path in paths])
    return pd.DataFrame([row(record) for record in records], columns=known(records))


def load_curves(*paths: str | Path) -> pd.DataFrame:
    """``metrics.csv`` of all runs below the paths, one row for each run and epoch, with ``path`` and ``name`` first.

    Raises:
        Refused: a path that does not exist.
    """
    import numpy as np
    import pandas as pd

    records = [record for record in find_runs([typed_path(str(path)) for path in paths]) if record.curves]
    names = list(dict.fromkeys(name for record in records for name in record.curves))
    lengths = [len(record.curves["epoch"]) for record in records]
    missing = [np.full(n, np.nan) for n in lengths]
    columns = {
        name: np.concatenate([r.curves.get(name, nan) for r, nan in zip(records, missing, strict=True)])
        for name in names
    }
    who = {
        "path": np.repeat(np.array([str(record.path) for record in records], dtype=object), lengths),
        "name": np.repeat(np.array([record.name for record in records], dtype=object), lengths),
    }
    frame = pd.DataFrame(who | columns)
    return frame.astype({name: int for name in ("epoch", "step") if name in frame})
