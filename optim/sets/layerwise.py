"""The layer-wise norms of Scion: a set for each layer by its role in the network.

Source: Pethick et al. 2025 (arXiv 2502.07529), section 4. Run: ``python -m trainer model=cnn optim=scion``
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from optim.sets.constraint_set import Ball, Constraint, ConstraintSet
from optim.sets.groups import GroupLInf
from optim.sets.matrices import Method, Spectral
from optim.sets.vectors import L2, LInf

Norm = Literal["spectral", "sign", "rms", "row", "column"]
NORMS = get_args(Norm)


@dataclass(frozen=True)
class SpectralNorm(Spectral):
    """radius sqrt(d_out / d_in) times the spectral ball; a convolution's is divided by its kernel's entries.

    Args:
        floor: the root is at least so much.
    """

    floor: float = 0.0

    def fitted(self, x: Tensor) -> Ball:
        if x.ndim < 2:
            return RMSNorm(self.r).fitted(x)
        factor = max(self.floor, math.sqrt(len(x) / x.shape[1]))
        return Spectral(self.r * factor / math.prod(x.shape[2:]), method=self.method)


@dataclass(frozen=True)
class SignNorm(LInf):
    """radius / d_in times the hypercube."""

    def fitted(self, x: Tensor) -> Ball:
        return LInf(self.r / math.prod(x.shape[1:]))


@dataclass(frozen=True)
class RMSNorm(L2):
    """{x : the root mean square of the entries <= radius}: an l2 ball of sqrt(n) times the radius."""

    def fitted(self, x: Tensor) -> Ball:
        return L2(self.r * math.sqrt(x.numel()))


@dataclass(frozen=True)
class RowNorm(GroupLInf):
    """{X : the l2 norm of every row <= radius / sqrt(d_in)}; d_in counts a kernel's entries. `whole`: <= radius."""

    whole: bool = False

    def fitted(self, x: Tensor) -> Ball:
        return GroupLInf(self.r / (1 if self.whole else math.sqrt(math.prod(x.shape[1:]))), groups="rows")


@dataclass(frozen=True)
class ColumnNorm(GroupLInf):
    """{X : the l2 norm of every column <= radius sqrt(d_out) / d_in}; `whole`: <= radius sqrt(d_out).

    A convolution's is divided by the root of its kernel's entries, so that outputs are no larger than a dense layer's.
    """

    whole: bool = False

    def fitted(self, x: Tensor) -> Ball:
        inputs = 1 if self.whole else math.prod(x.shape[1:2])
        factor = math.sqrt(math.prod(x.shape[:1]) / math.prod(x.shape[2:])) / inputs
        return GroupLInf(self.r * factor, groups="columns")


@dataclass(frozen=True)
class ScionNorms(Constraint):
    """Layer-wise norms for whole networks, by role: the first parameter of two or more dimensions is the ``input``, the
    last the ``output``, those between are ``hidden``, and all others are ``bias``.

    A network's only such parameter is its output. In each group of parameters that an optimizer is given, anew.

    Args:
        radius: rho > 0, of every layer.
        output_factor: the output's radius is so many times rho.
        input: norm of the first parameter of two or more dimensions; its rows or columns have norms that do not depend
            on d_in, which is given by the data.
        input_floor: the input's factor sqrt(d_out / d_in) of ``spectral`` is at least so much; the paper takes 1.
        hidden: norm of those between the first and the last.
        output: norm of the last of them.
        bias: norm of all other parameters.
        method: as for :class:`optim.sets.matrices.MatrixBall`.
        apply_to: as for :class:`ConstraintSet`. Roles are given among the parameters that it means.

    Raises:
        ValueError: a value outside its range.
    """

    radius: float = 4.0
    output_factor: float = 16.0
    input: Norm = "spectral"
    input_floor: float = 0.0
    hidden: Norm = "spectral"
    output: Norm = "sign"
    bias: Norm = "rms"
    method: Method = "auto"
    apply_to: str | list[str] = "all"

    def __post_init__(self) -> None:
        for name in ("input", "hidden", "output", "bias"):
            if getattr(self, name) not in NORMS:
                raise ValueError(f"{name}={getattr(self, name)}: must be {', '.join(NORMS[:-1])} or {NORMS[-1]}")
        if not 0 <= self.input_floor < math.inf:
            raise ValueError(f"input_floor={self.input_floor}: must be a number >= 0")
        if not 0 < self.output_factor < math.inf:
            raise ValueError(f"output_factor={self.output_factor}: must be a number > 0")
        if not isinstance(self.apply_to, str):
            object.__setattr__(self, "apply_to", tuple(self.apply_to))  # hashable, like the rest
        SpectralNorm(self.radius, method=self.method)  # checks both

    def norm(self, role: str) -> Ball:
        """The set of a role, before it is fitted to a parameter."""
        radius = self.radius * (self.output_factor if role == "output" else 1)
        chosen, first = getattr(self, role), role == "input"
        if chosen == "spectral":
            return SpectralNorm(radius, method=self.method, floor=self.input_floor if first else 0.0)
        if chosen in ("row", "column"):
            return (RowNorm if chosen == "row" else ColumnNorm)(radius, whole=first)
        return SignNorm(radius) if chosen == "sign" else RMSNorm(radius)

    def assign(self, names: Sequence[str | None], xs: Sequence[Tensor]) -> list[ConstraintSet | None]:
        held = RMSNorm(1.0, apply_to=self.apply_to).holds(names, xs)
        matrices = [i for i, x in enumerate(xs) if held[i] and x.ndim >= 2]
        roles = dict.fromkeys(matrices, "hidden")
        if matrices:
            roles |= {matrices[0]: "input", matrices[-1]: "output"}
        return [self.norm(roles.get(i, "bias")).fitted(x) if held[i] else None for i, x in enumerate(xs)]
