"""The layer-wise norms of Scion: a set for each layer by its role in the network.

Source: Pethick et al. 2025 (arXiv 2502.07529), section 4. Run: ``python -m trainer model=cnn optim=scion``
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from optim.sets.constraint_set import Ball, Constraint, ConstraintSet
from optim.sets.matrices import Method, Spectral
from optim.sets.vectors import L2, LInf

Norm = Literal["spectral", "sign", "rms"]


@dataclass(frozen=True)
class SpectralNorm(Spectral):
    """radius sqrt(d_out / d_in) times the spectral ball; a convolution's is divided by its kernel's entries."""

    def fitted(self, x: Tensor) -> Ball:
        if x.ndim < 2:
            return RMSNorm(self.r).fitted(x)
        return Spectral(self.r * math.sqrt(len(x) / x.shape[1]) / math.prod(x.shape[2:]), method=self.method)


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
class ScionNorms(Constraint):
    """Layer-wise norms for whole networks, by role: the first parameter of two or more dimensions is the ``input``, the
    last the ``output``, those between are ``hidden``, and all others are ``bias``.

    A network's only such parameter is its output. In each group of parameters that an optimizer is given, anew.

    Args:
        radius: rho > 0, of every layer.
        output_factor: the output's radius is so many times rho.
        input: norm of the first parameter of two or more dimensions.
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
    hidden: Norm = "spectral"
    output: Norm = "sign"
    bias: Norm = "rms"
    method: Method = "auto"
    apply_to: str | list[str] = "all"

    def __post_init__(self) -> None:
        for name in ("input", "hidden", "output", "bias"):
            if getattr(self, name) not in ("spectral", "sign", "rms"):
                raise ValueError(f"{name}={getattr(self, name)}: must be spectral, sign or rms")
        if not 0 < self.output_factor < math.inf:
            raise ValueError(f"output_factor={self.output_factor}: must be a number > 0")
        if not isinstance(self.apply_to, str):
            object.__setattr__(self, "apply_to", tuple(self.apply_to))  # hashable, like the rest
        SpectralNorm(self.radius, method=self.method)  # checks both

    def norm(self, role: str) -> Ball:
        """The set of a role, before it is fitted to a parameter."""
        radius = self.radius * (self.output_factor if role == "output" else 1)
        chosen = getattr(self, role)
        if chosen == "spectral":
            return SpectralNorm(radius, method=self.method)
        return SignNorm(radius) if chosen == "sign" else RMSNorm(radius)

    def assign(self, names: Sequence[str | None], xs: Sequence[Tensor]) -> list[ConstraintSet | None]:
        held = RMSNorm(1.0, apply_to=self.apply_to).holds(names, xs)
        matrices = [i for i, x in enumerate(xs) if held[i] and x.ndim >= 2]
        roles = dict.fromkeys(matrices, "hidden")
        if matrices:
            roles |= {matrices[0]: "input", matrices[-1]: "output"}
        return [self.norm(roles.get(i, "bias")).fitted(x) if held[i] else None for i, x in enumerate(xs)]
