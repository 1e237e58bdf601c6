"""One set for several layers at once: the vector of all their entries lives in it.

With ``scope=network`` a K-sparse polytope has its K entries wherever in the network they are worth most, instead of the
same share in each layer (Zimmer, Spiegel, Pokutta 2022, arXiv 2205.11921).
Run: ``python -m trainer optim=sfw constraint=k_sparse constraint.scope=network constraint.apply_to=weights``
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from optim.sets.constraint_set import ConstraintSet, NormBall
from optim.sets.initial_norm import initial_norm


@dataclass(frozen=True)
class Whole(ConstraintSet):
    """The set of the vector of all entries of several parameters. Optimizers move these together.

    Args:
        of: the set, fitted to `entries`.
        entries: of all parameters.
    """

    of: NormBall
    entries: int

    @property
    def radius(self) -> float:
        """That of the set."""
        return self.of.r

    def lmo(self, g: Tensor) -> Tensor:
        return self.of.lmo(g)

    def project(self, x: Tensor) -> Tensor:
        return self.of.project(x)

    def shift_inside(self, x: Tensor) -> Tensor:
        return self.of.shift_inside(x)

    def excess(self, x: Tensor) -> Tensor:
        """Of all entries, or of one parameter's if the others were 0."""
        return self.of.excess(self.filled(x))

    def boundary(self, x: Tensor) -> Tensor:
        return self.of.boundary(self.filled(x))

    def diameter(self, shape: Sequence[int]) -> float:
        return self.of.diameter((self.entries,))

    def filled(self, x: Tensor) -> Tensor:
        """x as a vector of all entries, the others 0."""
        return torch.nn.functional.pad(x.reshape(-1), (0, self.entries - x.numel()))

    def with_radius(self, radius: float) -> Whole:
        """The same of another radius."""
        of = self.of.with_radius(radius)
        assert isinstance(of, NormBall)
        return replace(self, of=of)

    def plain(self) -> dict[str, Any]:
        return self.of.plain() | {"scope": "network", "entries": self.entries}


@dataclass(frozen=True)
class Scoped(NormBall):
    """A ball of vectors that may hold the entries of several parameters together.

    Args:
        scope: ``layer``: a set for each parameter; ``network``: one for the entries of all of them. Its size (`radius`,
            `diameter`, or `init_factor` of the norm of all initial entries) and its `k` are those of all entries.
    """

    scope: Literal["layer", "network"] = field(default="layer", kw_only=True)

    def __post_init__(self, diameter: float | None) -> None:
        super().__post_init__(diameter)
        if self.scope not in ("layer", "network"):
            raise ValueError(f"scope={self.scope}: must be layer or network")

    def assign(self, names: Sequence[str | None], xs: Sequence[Tensor]) -> list[ConstraintSet | None]:
        if self.scope == "layer":
            return super().assign(names, xs)
        held = self.holds(names, xs)
        if not any(held):
            return [None] * len(xs)
        whole = self.together([x for x, is_held in zip(xs, held, strict=True) if is_held])
        return [whole if is_held else None for is_held in held]

    def together(self, xs: Sequence[Tensor]) -> Whole:
        """The set of the entries of all of xs.

        Raises:
            ValueError: a `k` of more entries than they have.
        """
        n = sum(x.numel() for x in xs)
        if (k := getattr(self, "k", 0)) > n:
            raise ValueError(f"k={k}: must be at most {n}, the entries of all parameters (scope=network)")
        entries = torch.empty(n, device="meta")
        norm = math.sqrt(sum(initial_norm(x) ** 2 for x in xs))
        entries.initial_norm = norm  # type: ignore[attr-defined]  # ours, as of a parameter
        of = replace(self, scope="layer", diameter=self.wanted_diameter).fitted(entries)
        assert isinstance(of, NormBall)
        return Whole(of, n)

    def remark(self, x: Tensor) -> str:
        return "" if self.scope == "network" else super().remark(x)

    def plain(self) -> dict[str, Any]:
        return {name: value for name, value in super().plain().items() if name != "scope"}


def flat(xs: Sequence[Tensor]) -> Tensor:
    """The vector of all entries, a new tensor."""
    return torch.cat([x.reshape(-1) for x in xs])


def put_back(vector: Tensor, xs: Sequence[Tensor]) -> None:
    """Copies the entries of a vector to xs, in place."""
    for x, part in zip(xs, vector.split([x.numel() for x in xs]), strict=True):
        x.copy_(part.view_as(x))
