"""Balls of norms of the singular values: spectral, nuclear, spectral K-support, spectral K-sparse.

A parameter of more than two dimensions is flattened to its first one by all others (the filters of a convolution); a
vector of n entries is a matrix n x 1, whose one singular value is its l2 norm: an optimizer uses the l2 ball for it.

Oracles come in two kinds. ``svd`` is exact, leaves out what rounding made of singular values that are 0, and waits for
the device on a GPU; ``iterative`` uses matrix products only. ``auto`` takes the first on the CPU and the second
elsewhere. At g = 0 both give 0.

Sources: Jaggi 2013; Pethick et al. 2025 (arXiv 2502.07529); Newton-Schulz iteration with Muon's coefficients (Jordan et
al. 2024), then classical steps, which end inside the ball.
Run: ``python -m trainer optim=sfw constraint=spectral constraint.apply_to=weights``
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from optim.sets.constraint_set import Ball, Counted, NormBall
from optim.sets.precision import double, l2_norm, or_one, wide
from optim.sets.spectrum import decomposed, matrix, rank_of, sides, singular_values, valid, with_values
from optim.sets.vectors import L2, below_simplex, capped_simplex, k_support_norm

Method = Literal["auto", "svd", "iterative"]


@dataclass(frozen=True)
class MatrixBall(NormBall):
    """A ball of a norm of the singular values; `method` says how its oracle is computed.

    Args:
        method: how the oracle is computed: ``svd``; ``iterative``: by matrix products only; ``auto``: svd on the CPU,
            else iterative.
    """

    method: Method = "auto"

    of_matrices = True

    def __post_init__(self, diameter: float | None) -> None:
        super().__post_init__(diameter)
        if self.method not in ("auto", "svd", "iterative"):
            raise ValueError(f"method={self.method}: must be auto, svd or iterative")

    def fitted(self, x: Tensor) -> Ball:
        if x.ndim >= 2:
            return self.sized(x)
        return L2(self.radius, diameter=self.wanted_diameter, init_factor=self.init_factor).fitted(x)

    def remark(self, x: Tensor) -> str:
        return "" if x.ndim >= 2 else f"a vector has one singular value: the l2 ball instead of {type(self).__name__}"

    def uses_svd(self, g: Tensor) -> bool:
        """Which oracle g's device gets."""
        return self.method == "svd" or (self.method == "auto" and g.device.type == "cpu")

    def rounding(self, x: Tensor) -> float:
        eps, single = torch.finfo(x.dtype).eps, torch.finfo(torch.float32).eps
        noise = math.sqrt(min(sides(x.shape))) / 4  # the norm of rounded entries
        return super().rounding(x) + noise * eps + 64 * min(eps, single)  # and what a decomposition loses

    def norm(self, x: Tensor) -> Tensor:
        return self.norm_of(singular_values(x))

    def measured(self, x: Tensor) -> dict[str, Tensor]:
        s = singular_values(double(x))
        return {"boundary": self.norm_of(s) / self.r, "effective_rank": rank_of(s)}

    @abc.abstractmethod
    def norm_of(self, s: Tensor) -> Tensor:
        """The norm as a function of the singular values, downwards."""

    def lmo(self, g: Tensor) -> Tensor:
        m, invalid = valid(matrix(wide(g)))
        m = m / or_one(m.abs().amax())  # squares of 1e30 would overflow
        svd = self.uses_svd(g)
        v = self.by_svd(*decomposed(m, torch.finfo(g.dtype).eps)) if svd else self.by_products(m)
        return (v + invalid).to(g.dtype).view_as(g)

    @abc.abstractmethod
    def by_svd(self, u: Tensor, s: Tensor, vt: Tensor) -> Tensor:
        """The vertex for a gradient U diag(s) V^T."""

    def by_products(self, m: Tensor) -> Tensor:
        """The vertex for a gradient m, with matrix products only."""
        raise NotImplementedError


@dataclass(frozen=True)
class Spectral(MatrixBall):
    """{X : every singular value <= radius}. lmo(G) = -radius U V^T, of G = U S V^T.

    Projection: clip the singular values.
    """

    def by_svd(self, u: Tensor, s: Tensor, vt: Tensor) -> Tensor:
        return -self.r * ((u * s.sign()) @ vt)

    def by_products(self, m: Tensor) -> Tensor:
        return -self.r * orthogonalized(m)

    def project(self, x: Tensor) -> Tensor:
        return with_values(x, lambda s: s.clamp(max=self.r))

    def norm_of(self, s: Tensor) -> Tensor:
        return s.amax()

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return 2 * math.sqrt(min(sides(shape)))


@dataclass(frozen=True)
class Nuclear(MatrixBall):
    """{X : the singular values sum to at most the radius}. lmo(G) = -radius u_1 v_1^T, the leading singular vectors.

    Projection: that of the singular values onto the l1 ball.
    """

    def by_svd(self, u: Tensor, s: Tensor, vt: Tensor) -> Tensor:
        return -self.r * (u[:, :1] * s[:1].sign()) @ vt[:1]

    def by_products(self, m: Tensor) -> Tensor:
        v = leading(m)
        u = m @ v
        return (-self.r / or_one(l2_norm(u))) * u[:, None] @ v[None]

    def project(self, x: Tensor) -> Tensor:
        return with_values(x, lambda s: below_simplex(s, self.r))

    def norm_of(self, s: Tensor) -> Tensor:
        return s.sum()

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return 2


@dataclass(frozen=True)
class RankBall(Counted, MatrixBall):
    """A ball whose extreme points have a rank of K; `k` counts singular values."""

    things = "singular values"

    def count(self, shape: Sequence[int]) -> int:
        return min(sides(shape))

    def fitted(self, x: Tensor) -> Ball:
        return super().fitted(x) if x.ndim >= 2 else MatrixBall.fitted(self, x)

    def remark(self, x: Tensor) -> str:
        return super().remark(x) if x.ndim >= 2 else MatrixBall.remark(self, x)


@dataclass(frozen=True)
class SpectralKSupport(RankBall):
    """The convex hull of {X : ||X||_F <= radius, rank at most K}; `k` counts singular values.

    lmo(G) = -radius G_K / ||G_K||_F, where G_K is G with its K largest singular values alone. Its projection has no
    closed form: x is shifted inside along the ray to 0.
    """

    def by_svd(self, u: Tensor, s: Tensor, vt: Tensor) -> Tensor:
        k = self.K((len(s), len(s)))
        return (u[:, :k] * (s[:k] * (-self.r / or_one(l2_norm(s[:k]))))) @ vt[:k]

    def by_products(self, m: Tensor) -> Tensor:
        q = leading_space(m, self.K(m.shape))
        m_K = (m @ q) @ q.mT
        return m_K * (-self.r / or_one(l2_norm(m_K)))

    def norm_of(self, s: Tensor) -> Tensor:
        return k_support_norm(s, self.K((len(s), len(s))))

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return 2


@dataclass(frozen=True)
class SpectralKSparse(RankBall):
    """{X : every singular value <= radius, and they sum to at most K radius}; `k` counts singular values.

    The twin of :class:`optim.sets.vectors.KSparse` (Zimmer, Spiegel, Pokutta 2022, arXiv 2205.11921): its extreme
    points have K singular values of the radius. lmo(G) = -radius U_K V_K^T, of G = U S V^T. Projection: the capped soft
    threshold of the singular values.
    """

    def by_svd(self, u: Tensor, s: Tensor, vt: Tensor) -> Tensor:
        k = self.K((len(s), len(s)))
        return -self.r * ((u[:, :k] * s[:k].sign()) @ vt[:k])

    def by_products(self, m: Tensor) -> Tensor:
        q = leading_space(m, self.K(m.shape))
        return -self.r * orthogonalized(m @ q) @ q.mT

    def project(self, x: Tensor) -> Tensor:
        return with_values(x, lambda s: capped_simplex(s, self.r, self.K(sides(x.shape))))

    def norm_of(self, s: Tensor) -> Tensor:
        return torch.maximum(s.amax(), s.sum() / self.K((len(s), len(s))))

    def unit_diameter(self, shape: Sequence[int]) -> float:
        return 2 * math.sqrt(self.K(shape))


def orthogonalized(m: Tensor) -> Tensor:
    """U V^T of m = U S V^T, by the Newton-Schulz iteration: matrix products only.

    Eight quintic steps with Muon's coefficients lift every singular value of at least 1e-4 of the Frobenius norm to
    between 0.5 and 1.5; eight cubic ones, f(s) = (3 s - s^3) / 2, take those to 1, and leave none above 1.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = m.mT if m.shape[0] > m.shape[1] else m
    x = x / or_one(l2_norm(x))
    for _ in range(8):
        s = x @ x.mT
        x = a * x + (b * s + c * s @ s) @ x
    for _ in range(8):
        x = 1.5 * x - 0.5 * (x @ x.mT) @ x
    return x.mT if m.shape[0] > m.shape[1] else x


def leading(m: Tensor) -> Tensor:
    """The leading right singular vector of m, of length 1 (0 at m = 0): 4,096 power steps by 12 squarings.

    A squared Gram matrix is the power iteration from all starting vectors at once; its largest column is the best of
    them. A singular value within 0.1 % of the largest may mix in, which costs the oracle no more than that.
    """
    gram = m.mT @ m if m.shape[0] >= m.shape[1] else m @ m.mT
    for _ in range(12):
        gram = gram / or_one(gram.abs().amax())
        gram = gram @ gram
    column = (gram / or_one(gram.abs().amax())).square().sum(0).argmax(0, keepdim=True)
    v = gram.gather(1, column.expand(len(gram))[:, None])[:, 0]
    v = v if m.shape[0] >= m.shape[1] else m.mT @ v
    return v / or_one(l2_norm(v))


def leading_space(m: Tensor, k: int) -> Tensor:
    """Orthonormal columns (n, k) near the space of the k leading right singular vectors: 30 subspace iterations."""
    n = m.shape[1]
    angles = torch.arange(1, n + 1, device=m.device, dtype=m.dtype)[:, None] * torch.arange(1, k + 1, device=m.device)
    q = torch.linalg.qr((angles * 0.7548776662466927).frac() - 0.5).Q  # a fixed start without structure
    for _ in range(30):
        q = torch.linalg.qr(m.mT @ (m @ q)).Q
    return q
