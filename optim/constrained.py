"""What every optimizer over a constraint set shares: the set itself, and starting inside it."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from optim.sets import ConstraintSet, shift_all_inside


class Constrained(torch.optim.Optimizer):
    """A base, beside one of torch's optimizers or alone, that keeps `constraint` and shifts every parameter inside it.

    A mixin: ``class ProjectedSGD(Constrained, torch.optim.SGD)``. ``shifted`` lists the positions of the parameters
    that were outside when they were added. The set stands beside the groups and not in them: there it would be
    pickled into the state dict.

    Raises:
        ValueError: `constraint` is no constraint set.
    """

    def __init__(self, params: ParamsT, constraint: ConstraintSet, *args: Any, **options: Any):
        if not isinstance(constraint, ConstraintSet):
            shown = "none" if constraint is None else constraint
            raise ValueError(f"constraint={shown}: {type(self).__name__} needs a constraint set, such as linf")
        self.constraint, self.shifted = constraint, []
        super().__init__(params, *args, **options)

    def add_param_group(self, param_group: dict) -> None:
        """Adds a group, as for any optimizer, and shifts its parameters inside the set."""
        before = sum(len(group["params"]) for group in self.param_groups)
        super().add_param_group(param_group)
        self.shifted += [before + i for i in shift_all_inside(self.param_groups[-1]["params"], self.constraint)]

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: torch's own keeps only state and groups."""
        return super().__getstate__() | {"constraint": self.constraint, "shifted": self.shifted}
