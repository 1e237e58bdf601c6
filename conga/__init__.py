"""conga from Python: the same runs, sweeps and tables as ``python -m trainer``, for notebooks and scripts.

::

    import conga

    run = conga.train("model=cnn", "optim=cgd", "train.epochs=5")   # a conga.Run; a mistake raises conga.Refused
    run = conga.load("outputs/2026-01-31/12-00-00_cnn_digits_cgd")
    run.model(x), run.predict(x), run.metrics, run.config, run.summary, run.dataset, run.status
    conga.resume(run.path, "train.epochs=10")
    frame = conga.sweep("optim=sgd,cgd", "seed=range(0,3)")
    conga.runs("outputs"), conga.curves("outputs"), conga.plot("outputs", y="val/loss", by="optim", band="seed")
    optimizer = conga.SFW(model.named_parameters(), conga.L2(init_factor=30, apply_to="weights"), lr=0.1)

The optimizers, sets and schedules are those of :mod:`optim`. Torch is imported when one of them is used, or for
training and predictions, so ``import conga`` is quick. ``docs/python.md`` has all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from conga.doing import resume, sweep, train
from conga.reading import curves, load, plot, runs
from conga.run import Run
from trainer.rundir.errors import Refused

if TYPE_CHECKING:
    from optim import (
        CGD,
        L1,
        L2,
        ORGFW,
        SFW,
        SVRF,
        AdaGradSFW,
        Birkhoff,
        Box,
        ConditionalGradient,
        Constrained,
        Constraint,
        ConstraintSet,
        GroupKSupport,
        GroupL1,
        GroupLInf,
        Held,
        KSparse,
        KSupport,
        LineSearch,
        LInf,
        Lion,
        Lp,
        MomentumAdagrad,
        Muon,
        Nuclear,
        Permutahedron,
        Plateau,
        ProbabilitySimplex,
        Scion,
        ScionNorms,
        Spectral,
        SpectralKSparse,
        SpectralKSupport,
        Sphere,
        Stiefel,
        UnitSimplex,
        adagrad,
        adam,
        adamw,
        agnostic,
        constant,
        cosine,
        effective_rank,
        exponential,
        linear,
        lion,
        matching,
        muon,
        note_initial_norms,
        one_cycle,
        refresh_rates,
        rmsprop,
        sgd,
        step,
    )

__all__ = [
    "CGD",
    "L1",
    "L2",
    "ORGFW",
    "SFW",
    "SVRF",
    "AdaGradSFW",
    "Birkhoff",
    "Box",
    "ConditionalGradient",
    "Constrained",
    "Constraint",
    "ConstraintSet",
    "GroupKSupport",
    "GroupL1",
    "GroupLInf",
    "Held",
    "KSparse",
    "KSupport",
    "LInf",
    "LineSearch",
    "Lion",
    "Lp",
    "MomentumAdagrad",
    "Muon",
    "Nuclear",
    "Permutahedron",
    "Plateau",
    "ProbabilitySimplex",
    "Refused",
    "Run",
    "Scion",
    "ScionNorms",
    "Spectral",
    "SpectralKSparse",
    "SpectralKSupport",
    "Sphere",
    "Stiefel",
    "UnitSimplex",
    "adagrad",
    "adam",
    "adamw",
    "agnostic",
    "constant",
    "cosine",
    "curves",
    "effective_rank",
    "exponential",
    "linear",
    "lion",
    "load",
    "matching",
    "muon",
    "note_initial_norms",
    "one_cycle",
    "plot",
    "refresh_rates",
    "resume",
    "rmsprop",
    "runs",
    "sgd",
    "step",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    """The names of :mod:`optim`, which imports torch."""
    if name not in __all__:
        raise AttributeError(f"module 'conga' has no attribute {name!r}")
    import optim

    globals()[name] = found = getattr(optim, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
