"""Balls of norms of the entries, whatever the parameter's shape: l-infinity, l2, l1, lp, K-sparse, K-support.

Sources: Jaggi 2013; Pokutta, Spiegel, Zimmer 2020 (arXiv 2010.07243); Argyriou, Foygel, Srebro 2012 (arXiv 1204.5043,
the K-support norm); Duchi et al. 2008 (the projection onto the l1 ball).
Run: ``python -m trainer optim=sfw constraint=k_sparse constraint.k=0.1 constraint.radius=0.3``
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from optim.sets.constraint_set import Counted, NormBall, size
from optim.sets.network import Scoped
from optim.sets.precision import double, fast_l2_norm, l2_norm, or_one, share, with_nan_of

LARGEST = 3e38  # single precision ends there


@dataclass(frozen=True)
class LInf(NormBall):
    """The hypercube {x : |x_i| <= radius}. lmo(g) = -radius sign(g). Projection: clamp."""

    def lmo(self, g: Tensor, out: Tensor | None = None) -> Tensor:
        # Where g_i = 0 every v_i minimizes; sign(0) = 0 takes the centre.
        return with_nan_of(torch.sign(g, out=out).mul_(-self.r), g)

    def project(self, x: Tensor) -> Tensor:
        return with_nan_of(x.clamp(-self.r, self.r), x)

    def norm(self, x: Tensor) -> Tensor:
        return x.abs().amax()

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return 2 * math.sqrt(size(shape))

    def boundary(self, x: Tensor) -> Tensor:
        return share(x.abs() >= 0.999 * self.r)


@dataclass(frozen=True)
class L2(NormBall):
    """The Euclidean ball {x : ||x||_2 <= radius}. lmo(g) = -radius g / ||g||_2. Projection: radial.

    With `out`, the vertex of a gradient of norm below 1e-15 or above 1e18 is shorter: squares under- or overflow.
    """

    def lmo(self, g: Tensor, out: Tensor | None = None) -> Tensor:
        if out is None:
            # At g = 0 the scale is infinite; beyond single precision it would make NaN of 0.
            scale = l2_norm(g).reciprocal_().mul_(-self.r).clamp(min=-LARGEST)
            return (g * scale).to(g.dtype)
        scale = fast_l2_norm(g).clamp_(min=1e-15).reciprocal_().mul_(-self.r)
        return torch.mul(g, scale, out=out)

    def project(self, x: Tensor) -> Tensor:
        return (x / self.gauge(x).clamp(min=1)).to(x.dtype)

    def norm(self, x: Tensor) -> Tensor:
        return l2_norm(x)

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return 2


@dataclass(frozen=True)
class L1(Scoped):
    """The cross-polytope {x : ||x||_1 <= radius}. lmo(g) = -radius sign(g_i) e_i, i = argmax |g_i|.

    Projection: soft threshold (Duchi et al. 2008).
    """

    def lmo(self, g: Tensor) -> Tensor:
        flat = g.reshape(-1)
        i = flat.abs().argmax(0, keepdim=True)
        return with_nan_of(place(flat, i, -self.r * flat.gather(0, i).sign()).view_as(g), g)

    def project(self, x: Tensor) -> Tensor:
        kept = below_simplex(double(x).abs().reshape(-1), self.r)
        return (x.sign() * kept.view_as(x)).to(x.dtype)

    def norm(self, x: Tensor) -> Tensor:
        return x.abs().sum()

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return 2


@dataclass(frozen=True)
class Lp(NormBall):
    """{x : ||x||_p <= radius}, 1 < p < infinity; lmo(g) = -radius sign(g) |g|^(q-1) / ||g||_q^(q-1), 1/p + 1/q = 1.

    Its projection has no closed form: x is shifted inside along the ray to 0.

    Args:
        p: of the norm, > 1.

    Raises:
        ValueError: a p outside its range, or an invalid size.
    """

    p: float = 3.0

    def __post_init__(self, diameter: float | None) -> None:
        super().__post_init__(diameter)
        if not 1 < self.p < math.inf:
            raise ValueError(f"p={self.p}: must be a number > 1 (constraint=l1 and linf are the ends)")

    def lmo(self, g: Tensor) -> Tensor:
        a = double(g).abs()
        w = (a / or_one(a.amax())) ** (1 / (self.p - 1))  # |g|^(q-1), scaled; then ||v||_p = radius
        return (g.sign() * w * (-self.r / or_one(p_norm(w, self.p)))).to(g.dtype)

    def norm(self, x: Tensor) -> Tensor:
        return p_norm(x.abs(), self.p)

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return 2 * size(shape) ** max(0.0, 0.5 - 1 / self.p)


@dataclass(frozen=True)
class KSparse(Scoped, Counted):
    """The K-sparse polytope {x : ||x||_1 <= K radius, |x_i| <= radius}; its vertices have K entries of +-radius.

    lmo(g) = -radius sign(g) on the K largest |g_i|, else 0. Projection: capped soft threshold.
    """

    def lmo(self, g: Tensor) -> Tensor:
        flat = g.reshape(-1)
        i = flat.abs().topk(self.K(g.shape), sorted=False).indices
        return with_nan_of(place(flat, i, -self.r * flat.gather(0, i).sign()).view_as(g), g)

    def project(self, x: Tensor) -> Tensor:
        kept = capped_simplex(double(x).abs().reshape(-1), self.r, self.K(x.shape))
        return with_nan_of((x.sign() * kept.view_as(x)).to(x.dtype), x)

    def norm(self, x: Tensor) -> Tensor:
        return torch.maximum(x.abs().amax(), x.abs().sum() / self.K(x.shape))

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return 2 * math.sqrt(self.K(shape))


@dataclass(frozen=True)
class KSupport(Scoped, Counted):
    """The K-support norm ball: the convex hull of {x : ||x||_2 <= radius, at most K entries not 0}.

    lmo(g) = -radius g_K / ||g_K||_2 on the K largest |g_i|, else 0. Its projection has no closed form: x is shifted
    inside along the ray to 0.
    """

    def lmo(self, g: Tensor) -> Tensor:
        flat = g.reshape(-1)
        i = flat.abs().topk(self.K(g.shape), sorted=False).indices
        g_K = double(flat.gather(0, i))
        return place(flat, i, (g_K * (-self.r / or_one(l2_norm(g_K)))).to(g.dtype)).view_as(g)

    def norm(self, x: Tensor) -> Tensor:
        return k_support_norm(x.abs().reshape(-1), self.K(x.shape))

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return 2


def p_norm(a: Tensor, p: float) -> Tensor:
    """||a||_p of entries a >= 0, scaled by the largest: powers of small and of large ones stay numbers."""
    largest = a.amax()
    return largest * (a / or_one(largest)).pow(p).sum().pow(1 / p)


def place(flat: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """A vector like `flat` with `values` at `index`, else 0."""
    return torch.zeros_like(flat).scatter(0, index, values)


def onto_simplex(a: Tensor, total: float) -> Tensor:
    """The nearest vector whose entries are >= 0 and sum to `total` (Duchi et al. 2008).

    max(a_i - theta, 0), with theta the largest over j of (a_(1) + … + a_(j) - total) / j, a sorted downwards. The
    largest entry is taken off first: far from the simplex, digits would be lost.
    """
    a = a - a.amax()
    sums = a.sort(descending=True).values.cumsum(0)
    theta = ((sums - total) / torch.arange(1, len(a) + 1, device=a.device, dtype=a.dtype)).amax()
    return (a - theta).clamp(min=0)


def below_simplex(a: Tensor, total: float) -> Tensor:
    """The nearest vector whose entries are >= 0 and sum to at most `total`."""
    kept = a.clamp(min=0)
    return torch.where(kept.sum() <= total, kept, onto_simplex(a, total))


def capped_simplex(a: Tensor, cap: float, k: int) -> Tensor:
    """The nearest vector with entries in [0, cap] that sum to at most k cap, for entries a >= 0.

    min(max(a_i - theta, 0), cap), whose sum falls with theta, piecewise linearly. With a_(k+1) the (k+1)-th largest
    entry, theta is between a_(k+1) - cap and a_(k+1): bisection finds the piece, and the piece gives theta.
    """
    kept = a.clamp(max=cap)
    if k >= len(a):
        return kept
    total, pivot = k * cap, a.topk(k + 1).values[-1]
    b = a - pivot  # far from the set, digits would be lost
    low, high = torch.maximum(-pivot, torch.full_like(pivot, -cap)), torch.zeros_like(pivot)
    for _ in range(64):
        theta = (low + high) / 2
        above = (b - theta).clamp(0, cap).sum() > total
        low, high = torch.where(above, theta, low), torch.where(above, high, theta)
    at_cap, free = b - low >= cap, (b - low < cap) & (b > low)
    exact = (torch.where(free, b, 0).sum() + at_cap.sum() * cap - total) / free.sum().clamp(min=1)
    theta = torch.where(free.any(), exact.clamp(low, high), high)
    return torch.where(kept.sum() <= total, kept, (b - theta).clamp(0, cap))


def k_support_norm(a: Tensor, k: int) -> Tensor:
    """The K-support norm of entries a >= 0, 0-d (Argyriou, Foygel, Srebro 2012, Proposition 2.1).

    With a sorted downwards, the square is the least over r = 0 … k-1 of a_1^2 + … + a_{k-r-1}^2 + T_r^2 / (r + 1),
    where T_r = a_{k-r} + … + a_n, among those r with T_r >= (r + 1) a_{k-r}; r = 0 is one of them.
    """
    largest = or_one(a.amax())
    a = (a / largest).sort(descending=True).values
    squares = torch.cat([a.new_zeros(1), a.square().cumsum(0)])[:k]  # of the first 0 … k-1
    tails = a.flip(0).cumsum(0).flip(0)[:k]  # from the first … k-th on
    count = torch.arange(k, 0, -1, device=a.device, dtype=a.dtype)  # r + 1, beside the (k-r)-th
    values = torch.where(tails >= count * a[:k], squares + tails.square() / count, torch.inf)
    return largest * values.amin().sqrt()
