"""What a constraint set is, and how it is laid over a network's parameters.

One sign, everywhere: ``lmo(g)`` is a point of C that minimizes <g, v>. Oracles are pure tensor functions: no host
synchronization and no Python branch on a tensor's value, so that they can be vmapped, compiled and captured. Reductions
run in double precision, so that entries from 1e-30 to 1e30 neither overflow nor vanish. What is given a NaN or an
infinity gives NaN and raises nothing, so that a run sees that it has diverged.
"""

from __future__ import annotations

import abc
import fnmatch
import inspect
import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, field, fields, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from optim.sets.initial_norm import initial_norm
from optim.sets.precision import double, zero_or_nan
from optim.sets.spectrum import effective_rank

ROUNDING = 4  # units of a tensor's last place that count as inside,
SUMMING = 1e-12  # and what sums in double precision lose
LARGEST_SIZE = 1e30  # of a set: single precision ends at 3e38


class Constraint(abc.ABC):
    """What an optimizer takes: says for each parameter which set holds it."""

    @abc.abstractmethod
    def assign(self, names: Sequence[str | None], xs: Sequence[Tensor]) -> list[ConstraintSet | None]:
        """The set of each parameter, fitted to it, or None where it is free.

        Raises:
            ValueError: no set can be fitted, as `name=value: what would be right`.
        """

    def remark(self, x: Tensor) -> str:
        """What was changed to fit the parameter x, for the log; empty if nothing worth saying."""
        return ""


@dataclass(frozen=True)
class ConstraintSet(Constraint):
    """The base of every set. A set has scalars (a radius, …), but no shape: it works on any parameter.

    Args:
        apply_to: the parameters that it holds; ``all``, ``weights`` (of two or more dimensions), or one or more
            patterns of names, such as ``*.weight``. The others are free.
    """

    _: KW_ONLY
    apply_to: str | list[str] = "all"

    of_matrices: ClassVar[bool] = False  # whether its points are matrices, whose rank says something
    convex: ClassVar[bool] = True  # False: a surface, such as a sphere

    takes_out: ClassVar[bool] = False  # whether `lmo` has an argument `out` for its result

    def __init_subclass__(cls) -> None:
        cls.takes_out = "out" in inspect.signature(cls.lmo).parameters

    def __post_init__(self) -> None:
        if isinstance(self.apply_to, list):  # hashable, like the rest
            object.__setattr__(self, "apply_to", tuple(self.apply_to))

    @abc.abstractmethod
    def lmo(self, g: Tensor) -> Tensor:
        """argmin over C of <g, v>: a point of C of g's shape. At ties, and at g = 0, a fixed feasible one."""

    def project(self, x: Tensor) -> Tensor:
        """The point of C nearest to x in the Euclidean norm, of x's shape.

        Raises:
            ValueError: no method for this set is known.
        """
        raise ValueError(self.no_projection())

    @abc.abstractmethod
    def excess(self, x: Tensor) -> Tensor:
        """By how much x is outside, relative to the set's size: 0-d, in double precision; <= 0 for x in C."""

    @abc.abstractmethod
    def diameter(self, shape: Sequence[int]) -> float:
        """The largest Euclidean distance between two points of C, for a parameter of `shape`."""

    @abc.abstractmethod
    def boundary(self, x: Tensor) -> Tensor:
        """How much of x is at the boundary, 0-d: the share of the radius used, or of entries at a bound."""

    def measured(self, x: Tensor) -> dict[str, Tensor]:
        """What is worth knowing of x: `boundary`, and for matrices `effective_rank`."""
        boundary = self.boundary(x) + zero_or_nan(x)
        return {"boundary": boundary} | ({"effective_rank": effective_rank(x)} if self.of_matrices else {})

    def shift_inside(self, x: Tensor) -> Tensor:
        """A point of C near x; x itself if it is in C."""
        return self.project(x)

    def tangent(self, x: Tensor, g: Tensor) -> Tensor:
        """Of a surface: the part of g in the tangent space at x."""
        return g

    def contains(self, x: Tensor, tolerance: float = 0.0) -> Tensor:
        """Whether x is in C, or outside by at most `tolerance` relative to the set's size: a 0-d bool tensor.

        What rounding to x's precision can do counts as inside.
        """
        return self.excess(x) <= tolerance + self.rounding(x)

    def rounding(self, x: Tensor) -> float:
        """What rounding to x's precision may add to `excess`."""
        return ROUNDING * torch.finfo(x.dtype).eps + SUMMING

    def gap(self, g: Tensor, x: Tensor) -> Tensor:
        """The Frank-Wolfe gap max over C of <g, x - v> = <g, x - lmo(g)>: 0-d, never negative for x in C."""
        return torch.sum(g * (x - self.lmo(g)))

    def assign(self, names: Sequence[str | None], xs: Sequence[Tensor]) -> list[ConstraintSet | None]:
        sets: list[ConstraintSet | None] = []
        for name, x, held in zip(names, xs, self.holds(names, xs), strict=True):
            try:
                sets.append(self.fitted(x) if held else None)
            except ValueError as error:
                raise ValueError(f"{error} (at {name or 'a parameter without a name'})") from None
        return sets

    def holds(self, names: Sequence[str | None], xs: Sequence[Tensor]) -> list[bool]:
        """Which of the parameters `apply_to` means; never one without entries.

        Raises:
            ValueError: a pattern that matches no name, or patterns for parameters without names.
        """
        held = matching("apply_to", self.apply_to, names, xs)
        return [a and x.numel() > 0 for a, x in zip(held, xs, strict=True)]

    def fitted(self, x: Tensor) -> ConstraintSet:
        """The set as it is for one parameter: its size resolved, what does not fit x's shape replaced.

        Raises:
            ValueError: x's shape does not fit, as `name=value: what would be right`.
        """
        return replace(self, apply_to="all")

    def plain(self) -> dict[str, Any]:
        """The name and the scalars of a fitted set, as plain data for a state dict."""
        scalars = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "apply_to"}
        return {"set": type(self).__name__} | {k: v for k, v in scalars.items() if v is not None}

    @classmethod
    def projectable(cls) -> bool:
        """Whether `project` is known."""
        return cls.project is not ConstraintSet.project

    @classmethod
    def no_projection(cls) -> str:
        return f"constraint={cls.__name__}: no projection onto this set is known; optim=cgd or sfw needs none"


@dataclass(frozen=True)
class Scaled(ConstraintSet):
    """radius times a set: what of :class:`Ball` cannot stand beside its argument `diameter`."""

    radius: float | None = None

    @property
    def r(self) -> float:
        """The radius.

        Raises:
            ValueError: it depends on the parameter, and the set is not fitted to one.
        """
        if self.radius is None:
            raise ValueError(f"{type(self).__name__}: its radius depends on the parameter x; take fitted(x)")
        return self.radius

    @abc.abstractmethod
    def unit_diameter(self, shape: Sequence[int]) -> float:
        """The diameter of the set of radius 1, for a parameter of `shape`."""

    def diameter(self, shape: Sequence[int]) -> float:
        return self.r * self.unit_diameter(shape)


@dataclass(frozen=True)
class Ball(Scaled):
    """A set that scales with a radius. At most one of the first three arguments; with none, the radius is 1.

    Args:
        radius: r > 0, rounded to the tensors' precision (0.1 is 0.10009765625 in bfloat16).
        diameter: the Euclidean diameter of each parameter's set, > 0.
        init_factor: w > 0; each parameter's set has the diameter of an l2 ball whose radius is w times the parameter's
            mean initial norm. From Pokutta, Spiegel, Zimmer 2020, arXiv 2010.07243, section 4. The mean is what
            :func:`note_initial_norms` has noted, else the norm as it is; of parameters that start at 0, it is 1.

    Raises:
        ValueError: more than one size, or one that is not a positive, finite number.
    """

    _: KW_ONLY
    diameter: InitVar[float | None] = None  # an argument only: `diameter` is a method of every set
    init_factor: float | None = None
    wanted_diameter: float | None = field(default=None, init=False)

    def __post_init__(self, diameter: float | None) -> None:
        super().__post_init__()
        diameter = None if callable(diameter) else diameter  # the method, where dataclasses.replace has read it
        object.__setattr__(self, "wanted_diameter", diameter)
        named = {"radius": self.radius, "diameter": diameter, "init_factor": self.init_factor}
        sizes = {name: value for name, value in named.items() if value is not None}
        if len(sizes) > 1:
            given = ", ".join(f"{k}={v}" for k, v in sizes.items())
            raise ValueError(f"{given}: give at most one of radius, diameter and init_factor")
        for name, value in sizes.items():
            if not 0 < value <= LARGEST_SIZE:
                wanted = f"at most {LARGEST_SIZE:g}" if LARGEST_SIZE < value < math.inf else "a number > 0"
                raise ValueError(f"{name}={value}: must be {wanted}")
        if not sizes:
            object.__setattr__(self, "radius", 1.0)

    def fitted(self, x: Tensor) -> Ball:
        return self.sized(x)

    def sized(self, x: Tensor, **changes: Any) -> Ball:
        """With the radius that `diameter` or `init_factor` means for x."""
        unit = replace(self, radius=1.0, init_factor=None, apply_to="all", **changes)
        if self.radius is not None:
            return unit.with_radius(self.radius)
        extent = unit.diameter(x.shape)
        if extent == 0:
            name = "init_factor" if self.wanted_diameter is None else "diameter"
            raise ValueError(
                f"{name}={self.init_factor or self.wanted_diameter}: {type(self).__name__} is a single point for a "
                "parameter of one entry; leave that out with apply_to, or give a radius"
            )
        wanted = self.wanted_diameter if self.init_factor is None else 2 * self.init_factor * initial_norm(x)
        assert wanted is not None  # one of the three sizes is given
        return unit.with_radius(wanted / extent)

    def with_radius(self, radius: float) -> Ball:
        """The same set of another radius."""
        return replace(self, radius=radius)


del Ball.diameter  # the argument's default, which would hide the method


@dataclass(frozen=True)
class NormBall(Ball):
    """{x : norm(x) <= radius}. Subclasses give the norm, the oracle and the diameter at radius 1."""

    @abc.abstractmethod
    def norm(self, x: Tensor) -> Tensor:
        """The norm of x, which is in double precision: 0-d."""

    def gauge(self, x: Tensor) -> Tensor:
        """norm(x) / radius: x is in the set where it is at most 1."""
        return self.norm(double(x)) / self.r

    def excess(self, x: Tensor) -> Tensor:
        return self.gauge(x) - 1

    def boundary(self, x: Tensor) -> Tensor:
        return self.gauge(x)

    def shift_inside(self, x: Tensor) -> Tensor:
        return self.project(x) if self.projectable() else (x / self.gauge(x).clamp(min=1)).to(x.dtype)


@dataclass(frozen=True)
class Counted(Ball):
    """A ball with a number K of things: beside the class of a norm.

    Args:
        k: K, a whole number >= 1 of entries (or groups, or singular values), or a share of them between 0 and 1.
        round: where a share of them is no whole number: ``up``, or ``down``, but at least 1.

    Raises:
        ValueError: a k or a way to round outside its range, or an invalid size.
    """

    k: float = 0.1
    round: Literal["up", "down"] = "up"

    things: ClassVar[str] = "entries"

    def __post_init__(self, diameter: float | None) -> None:
        super().__post_init__(diameter)
        if not (0 < self.k < 1 or (1 <= self.k < math.inf and self.k == int(self.k))):
            raise ValueError(f"k={self.k}: must be a whole number >= 1, or a share between 0 and 1")
        if self.round not in ("up", "down"):
            raise ValueError(f"round={self.round}: must be up or down")

    def count(self, shape: Sequence[int]) -> int:
        """How many things a parameter of `shape` has."""
        return size(shape)

    def K(self, shape: Sequence[int]) -> int:
        """k as a number: a share is rounded, and a number too large means all."""
        n = self.count(shape)
        if self.k < 1:
            share = round(self.k * n, 9)  # 0.07 * 100 is 7.000000000000001
            return math.ceil(share) if self.round == "up" else max(1, math.floor(share))
        return min(int(self.k), n)

    def fitted(self, x: Tensor) -> Ball:
        return self.sized(x, k=self.K(x.shape), round="up")

    def plain(self) -> dict[str, Any]:
        """As for every set; a fitted set's k is rounded."""
        return {name: value for name, value in super().plain().items() if name != "round"}

    def remark(self, x: Tensor) -> str:
        n = self.count(x.shape)
        return f"k={int(self.k)} is more than its {n} {self.things}: {n}" if self.k > n else ""


def matching(key: str, patterns: str | Sequence[str], names: Sequence[str | None], xs: Sequence[Tensor]) -> list[bool]:
    """Which of the parameters `patterns` mean: ``all``, ``weights`` (of two or more dimensions), or patterns of names.

    Args:
        key: the option that they come from, for the error.

    Raises:
        ValueError: a pattern that is no name's, or patterns where there are no names.
    """
    wanted = [patterns] if isinstance(patterns, str) else patterns
    if not wanted:
        raise ValueError(f"{key}=[]: must be all, weights, or patterns of names")
    meant, known = [False] * len(xs), [name for name in names if name is not None]
    for each in wanted:
        if each in ("all", "weights"):
            found = [each == "all" or x.ndim >= 2 for x in xs]
        elif len(known) < len(names):
            raise ValueError(f"{key}={each}: needs named parameters, as of model.named_parameters()")
        else:
            found = [fnmatch.fnmatchcase(name, each) for name in known]
            if not any(found):
                raise ValueError(f"{key}={each}: must be all, weights, or match a name among {', '.join(known)}")
        meant = [a or b for a, b in zip(meant, found, strict=True)]
    return meant


def size(shape: Sequence[int]) -> int:
    """Entries of a tensor of `shape`."""
    return math.prod(shape)
