"""Constraint sets, conditional gradient and projected optimizers, learning rate schedules.

Usable in anybody's training loop, without the runner::

    from optim import CGD, LInf
    optimizer = CGD(model.parameters(), LInf(radius=1.0), lr=1e-3, momentum=0.9)

This room knows nothing of data, models, the trainer or Hydra.
"""

from optim.cgd import CGD
from optim.projected import adam, sgd
from optim.schedules import constant, cosine, refresh_rates
from optim.sets import ConstraintSet, LInf

__all__ = ["CGD", "ConstraintSet", "LInf", "adam", "constant", "cosine", "refresh_rates", "sgd"]
