"""Constraint sets, conditional gradient and projected optimizers, learning rate schedules.

For any training loop, without the runner::

    from optim import L2, SFW
    optimizer = SFW(model.named_parameters(), L2(init_factor=30, apply_to="weights"), lr=0.1)

This room knows nothing of data, models, the trainer or Hydra.
"""

from optim.adaptive import AdaGradSFW
from optim.conditional import CGD, SFW, ConditionalGradient
from optim.constrained import Constrained, Held
from optim.line_search import LineSearch
from optim.projected import adam, adamw, rmsprop, sgd
from optim.schedules import Plateau, agnostic, constant, cosine, exponential, linear, one_cycle, refresh_rates, step
from optim.scion import Scion
from optim.sets import (
    L1,
    L2,
    Birkhoff,
    Box,
    Constraint,
    ConstraintSet,
    GroupKSupport,
    GroupL1,
    GroupLInf,
    KSparse,
    KSupport,
    LInf,
    Lp,
    Nuclear,
    Permutahedron,
    ProbabilitySimplex,
    ScionNorms,
    Spectral,
    SpectralKSparse,
    SpectralKSupport,
    Sphere,
    Stiefel,
    UnitSimplex,
    effective_rank,
    matching,
    note_initial_norms,
)
from optim.two_point import ORGFW, SVRF
from optim.unconstrained import Lion, MomentumAdagrad, Muon, adagrad, lion, muon

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
    "effective_rank",
    "exponential",
    "linear",
    "lion",
    "matching",
    "muon",
    "note_initial_norms",
    "one_cycle",
    "refresh_rates",
    "rmsprop",
    "sgd",
    "step",
]
