"""Objectives: losses and metrics. ``objective.py`` has the interface, and says how to add one."""

from data import Facts
from trainer.training.objectives.adversarial import Gan, WassersteinGan
from trainer.training.objectives.classification import (
    BinaryCrossEntropy,
    Brier,
    CrossEntropy,
    Hinge,
    MultiLabel,
    MultiTask,
)
from trainer.training.objectives.objective import MAIN, TABLED, Objective, Says, Sums, Supervised
from trainer.training.objectives.reconstruction import Elbo, Reconstruction
from trainer.training.objectives.regression import Huber, MeanAbsoluteError, MeanSquaredError, r_squared
from trainer.training.objectives.sequence import NextToken

__all__ = [
    "MAIN",
    "TABLED",
    "BinaryCrossEntropy",
    "Brier",
    "CrossEntropy",
    "Elbo",
    "Gan",
    "Hinge",
    "Huber",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MultiLabel",
    "MultiTask",
    "NextToken",
    "Objective",
    "Reconstruction",
    "Says",
    "Sums",
    "Supervised",
    "WassersteinGan",
    "for_task",
    "r_squared",
]

OF_TASK = {o.task: o for o in (CrossEntropy, BinaryCrossEntropy, MultiLabel, MultiTask, MeanSquaredError, NextToken)}


def for_task(facts: Facts, *, l2: float = 0.0, l1: float = 0.0) -> Objective:
    """The default objective of a dataset's task.

    Args:
        facts, l2, l1: as for :class:`Objective`.
    """
    return OF_TASK[facts.task](facts, l2=l2, l1=l1)
