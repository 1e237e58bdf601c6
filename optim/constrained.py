"""What every optimizer over constraint sets shares: a set for each group of parameters, and starting inside it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from optim.lean import Lean
from optim.options import Options, at_least_0, option
from optim.sets import Ball, Constraint, ConstraintSet, Whole, flat
from optim.sets.precision import double

Group = dict[str, Any]  # of an optimizer's param_groups: "params", and its options


@dataclass(frozen=True)
class Held:
    """One parameter and the set that holds it; `constraint` is None if it is free."""

    name: str
    shape: tuple[int, ...]
    constraint: ConstraintSet | None
    shifted: bool  # it was outside when it was added
    remark: str  # what was changed to fit its shape
    kept: float = 1.0  # the share of its Euclidean norm that is left inside the set


class Constrained(Options, Lean):
    """A base, beside one of torch's optimizers or our own :class:`optim.lean.Stepping`, that keeps parameters in sets.

    A group may have a ``"constraint"`` of its own, None for free parameters. It is divided into groups of one set each,
    the free parameters last. The set's name and scalars are in ``group["constraint"]`` as plain data, so that a state
    dict holds and compares them; the sets themselves are in ``constraints``, one for each group. Parameters outside
    their set are shifted inside. ``held`` has an entry for each parameter, in the order of adding, and ``place`` the
    parameter's index there (groups may lose parameters later).

    Args:
        params: parameters, named parameters or groups, as for any ``torch.optim.Optimizer``.
        constraint: the set C, or what assigns one to each parameter.
        lr: the learning rate.
        weight_decay: lambda; adds lambda x to the gradient.

    Raises:
        ValueError: a value outside its range, as `name=value: what would be right`; no constraint set, or one that does
            not fit a parameter.
    """

    params: ParamsT = option(kw_only=False)
    constraint: Constraint | None = option(kw_only=False)
    lr: float = option(check=at_least_0)
    weight_decay: float = option(default=0.0, check=at_least_0)

    def start(self, options: dict[str, Any]) -> None:
        self.constraint = options.pop("constraint")
        self.constraints: list[ConstraintSet | None] = []  # of each group
        self.held: list[Held] = []
        self.place: dict[Tensor, int] = {}
        self.assigned: dict[Tensor, ConstraintSet | None] = {}
        self.shifts: dict[Tensor, Tensor] = {}
        params = options.pop("params")
        if not isinstance(params, Tensor):
            params = list(params)
            self.assigned = self.assign_together([group for group in params if isinstance(group, dict)])
        super().__init__(params, **options)

    def assign_together(self, groups: list[Group]) -> dict[Tensor, ConstraintSet | None]:
        """The sets of all parameters of groups without a constraint of their own, so that patterns see all of them."""
        given = [entry for group in groups if "constraint" not in group for entry in entries(group)]
        if self.constraint is None or not given:
            return {}
        xs = list(map(tensor, given))
        return dict(zip(xs, self.constraint.assign(list(map(name_of, given)), xs), strict=True))

    @property
    def shifted(self) -> list[str]:
        """Names of the parameters that were outside their set when they were added."""
        return [held.name for held in self.held if held.shifted]

    def add_param_group(self, param_group: Group) -> None:
        """Adds a group, as for any optimizer, divided by sets; shifts its parameters inside.

        Raises:
            ValueError: an option outside its range, or a set that does not fit.
        """
        group = {"constraint": self.constraint} | param_group
        self.check(self.defaults | group)
        constraint = group.pop("constraint")
        check_constraint(type(self).__name__, constraint, optional=True)
        freed = constraint is None and "constraint" in param_group  # then the group's own options hold
        given = entries(group)
        names, xs = list(map(name_of, given)), list(map(tensor, given))
        sets: list[ConstraintSet | None] = [None] * len(xs)
        if constraint is self.constraint and self.assigned.keys() >= set(xs):
            sets = [self.assigned[x] for x in xs]
        elif constraint is not None:
            sets = constraint.assign(names, xs)
        kinds = dict.fromkeys(sets or [None])  # an empty group is one of free parameters
        for C in kinds:
            self.accept(C, self.defaults | group)
        self.shifts = shifts_together(xs, sets)
        position = {x: len(self.held) + i for i, x in enumerate(xs)}
        for C in sorted(kinds, key=lambda C: C is None):
            members = [entry for entry, S in zip(given, sets, strict=True) if S == C]
            options = self.free_options() if C is None and not freed else {}
            for part in self.parts({**group, **options, "params": members, "constraint": plain(C, constraint)}):
                if isinstance(C, Whole) and any(isinstance(S, Whole) for S in self.constraints):
                    name = type(C.of).__name__
                    raise ValueError(f"constraint={name}: scope=network needs its parameters in one group")
                super().add_param_group(part)
                self.constraints.append(C)
                added = self.param_groups[-1]
                for i, x in enumerate(added["params"]):
                    name = added["param_names"][i] if "param_names" in added else str(position[x])
                    remark = "" if constraint is None or C is None else constraint.remark(x)
                    self.hold(x, name, C, remark, self.stays(added))

    def hold(self, x: Tensor, name: str, C: ConstraintSet | None, remark: str, stays: bool) -> None:
        """Shifts x inside C if the method keeps it there, and notes it in `held`."""
        norm = 0.0 if C is None else double(x.detach()).norm()
        shifted = C is not None and stays and x.requires_grad and shift_inside(x, C, self.shifts.get(x))
        kept = float(double(x.detach()).norm() / norm) if shifted else 1.0
        self.place[x] = len(self.held)
        self.held.append(Held(name, tuple(x.shape), C, shifted, remark, kept))

    def free_options(self) -> Group:
        """The options of groups of free parameters, where they differ."""
        return {}

    def parts(self, group: Group) -> list[Group]:
        """A group of one set, divided further if the method treats its parameters differently."""
        return [group]

    def accept(self, C: ConstraintSet | None, options: Group) -> None:
        """Raises ValueError for a set that the method cannot use, or not with a group's options; None: no set."""

    def stays(self, group: Group) -> bool:
        """Whether the method keeps the group's parameters inside their sets, and must start there."""
        return True

    def moving(self) -> list[tuple[Tensor, Tensor, ConstraintSet | None, Group]]:
        """(x, g, C, group) of each parameter that has a gradient."""
        pairs = zip(self.param_groups, self.constraints, strict=True)
        return [(x, g, C, group) for group, C in pairs for x, g in with_gradients(group)]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As for any optimizer.

        Raises:
            ValueError: the state is of another set, or of another size of it.
        """
        pairs = list(zip(state_dict["param_groups"], self.param_groups, strict=False))
        for i, (theirs, ours) in enumerate(pairs):
            saved, here = theirs.get("constraint"), ours.get("constraint")
            if not same_set(saved, here):
                raise ValueError(f"constraint={show(here)}: the state's group {i} is of {show(saved)}")
        for i, (theirs, ours) in enumerate(pairs):
            if "init_factor" in (ours.get("constraint") or {}):  # the radius that it began with
                C = self.constraints[i]
                assert isinstance(C, Ball | Whole)
                self.constraints[i] = C = C.with_radius(theirs["constraint"]["radius"])
                for j in (self.place[x] for x in ours["params"]):
                    self.held[j] = replace(self.held[j], constraint=C)
        super().load_state_dict(state_dict)

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: torch's own keeps only defaults, state and groups."""
        own = ("constraint", "constraints", "held", "place", "assigned", "shifts")
        return super().__getstate__() | {name: getattr(self, name) for name in own}


def entries(group: Group) -> list[tuple[str, Tensor] | Tensor]:
    """The parameters of a group that is to be added, named or not."""
    return [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])


def with_gradients(group: Group) -> list[tuple[Tensor, Tensor]]:
    """The parameters of a group that have a gradient, with it."""
    return [(x, x.grad) for x in group["params"] if x.grad is not None]


def tensor(entry: tuple[str, Tensor] | Tensor) -> Tensor:
    """A parameter without its name."""
    return entry[1] if isinstance(entry, tuple) else entry


def name_of(entry: tuple[str, Tensor] | Tensor) -> str | None:
    """The name of a parameter, if it has one."""
    return entry[0] if isinstance(entry, tuple) else None


def check_constraint(optimizer: str, constraint: Any, *, optional: bool = False) -> None:
    """Raises ValueError unless `constraint` is one, or None where it is optional."""
    if not isinstance(constraint, Constraint) and not (optional and constraint is None):
        shown = "none" if constraint is None else constraint
        raise ValueError(f"constraint={shown}: {optimizer} needs a constraint set, such as linf")


@torch.no_grad()
def shifts_together(xs: list[Tensor], sets: list[ConstraintSet | None]) -> dict[Tensor, Tensor]:
    """Where the parameters of a set of several belong if together they are outside; else empty."""
    C = next((C for C in sets if isinstance(C, Whole)), None)
    members = [x for x, S in zip(xs, sets, strict=True) if isinstance(S, Whole)]
    if C is None or C.contains(vector := flat(members)):
        return {}
    inside = C.shift_inside(vector).split([x.numel() for x in members])
    return {x: part.view_as(x) for x, part in zip(members, inside, strict=True)}


@torch.no_grad()
def shift_inside(x: Tensor, C: ConstraintSet, to: Tensor | None) -> bool:
    """Moves x into C, or `to` a value, in place, and says whether it was elsewhere.

    A conditional gradient step is a convex combination: it keeps x inside only if x started there.
    """
    if to is None and (isinstance(C, Whole) or C.contains(x)):  # waits for the device; once, before the training
        return False
    x.copy_(C.shift_inside(x) if to is None else to)
    return True


def plain(C: ConstraintSet | None, constraint: Constraint | None) -> dict[str, Any] | None:
    """A fitted set as plain data, with the `init_factor` that its radius comes from, if it does."""
    factor = getattr(constraint, "init_factor", None)
    return None if C is None else C.plain() | ({} if factor is None else {"init_factor": factor})


def same_set(a: dict[str, Any] | None, b: dict[str, Any] | None) -> bool:
    """Whether two sets, as plain data, are the same; a radius that goes by initial norms may be another."""
    if a is None or b is None:
        return a is b
    names = [name for name in b if not (name == "radius" and "init_factor" in b)]
    return a.keys() == b.keys() and all(
        math.isclose(a[k], b[k], rel_tol=1e-6) if isinstance(b[k], float) else a[k] == b[k] for k in names
    )


def show(plain: dict[str, Any] | None) -> str:
    """A set, as plain data, in a line."""
    return "none" if plain is None else " ".join(str(v) if k == "set" else f"{k}={v}" for k, v in plain.items())
