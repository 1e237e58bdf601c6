"""Sets without an interior: the sphere, and the Stiefel manifold of matrices with orthonormal columns (or rows).

An optimizer of the whole space moves on them: the gradient's part in the tangent space, a step, then the nearest point
of the surface, which is a retraction (Absil, Mahony, Sepulchre 2008, sections 3.6 and 4.1; for matrices the polar
factor). A mean of two of their points is no point of theirs, so that conditional gradients cannot.
Run: ``python -m trainer optim=sgd constraint=stiefel constraint.apply_to=weights``
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from optim.sets.constraint_set import Ball
from optim.sets.matrices import Spectral, orthogonalized
from optim.sets.precision import double, l2_norm, or_one, wide
from optim.sets.spectrum import matrix, singular_values, valid
from optim.sets.vectors import L2


@dataclass(frozen=True)
class Sphere(L2):
    """{x : ||x||_2 = radius}. lmo(g) = -radius g / ||g||_2. Projection: radial; of 0, to a fixed point."""

    convex = False

    def lmo(self, g: Tensor) -> Tensor:  # type: ignore[override]  # without `out`, whose short vertices are inside
        return self.project(-g)

    def project(self, x: Tensor) -> Tensor:
        n = l2_norm(x)
        first = torch.zeros_like(x).reshape(-1)
        first[:1] = self.r
        return (x * (self.r / or_one(n)) + (n == 0) * first.view_as(x)).to(x.dtype)

    def excess(self, x: Tensor) -> Tensor:
        return (self.gauge(x) - 1).abs()

    def tangent(self, x: Tensor, g: Tensor) -> Tensor:
        """g - x <x, g> / radius^2."""
        a, b = double(x), double(g)
        return (b - a * (torch.sum(a * b) / self.r**2)).to(g.dtype)


@dataclass(frozen=True)
class Stiefel(Spectral):
    """{X : every singular value = radius}: X^T X = radius^2 I, or X X^T if X has more columns than rows.

    lmo(G) = -radius U V^T, of G = U S V^T. Projection: the same of X, without the sign; ``method`` is that of the
    projection. A vector's is the sphere.
    """

    convex = False

    def fitted(self, x: Tensor) -> Ball:
        if x.ndim >= 2:
            return self.sized(x)
        return Sphere(self.radius, diameter=self.wanted_diameter, init_factor=self.init_factor).fitted(x)

    def remark(self, x: Tensor) -> str:
        return "" if x.ndim >= 2 else "a vector has one singular value: the sphere instead of Stiefel"

    def lmo(self, g: Tensor) -> Tensor:
        return self.polar(-g)

    def project(self, x: Tensor) -> Tensor:
        if self.uses_svd(x):
            return self.polar(x)
        m, invalid = valid(matrix(wide(x)))
        return (self.r * orthogonalized(m / or_one(m.abs().amax())) + invalid).to(x.dtype).view_as(x)

    def shift_inside(self, x: Tensor) -> Tensor:
        return self.polar(x)  # the other method needs full rank

    def polar(self, x: Tensor) -> Tensor:
        """radius U V^T of x = U S V^T; where x has not full rank, one of several."""
        m, invalid = valid(matrix(double(x)))
        u, _, vt = torch.linalg.svd(m, full_matrices=False)
        return (self.r * u @ vt + invalid).to(x.dtype).view_as(x)

    def excess(self, x: Tensor) -> Tensor:
        return (singular_values(double(x)) / self.r - 1).abs().amax()

    def tangent(self, x: Tensor, g: Tensor) -> Tensor:
        """G - X (X^T G + G^T X) / (2 radius^2), of whichever of X and its transpose is not wide."""
        a, b = matrix(double(x)), matrix(double(g))
        tall = a.shape[0] >= a.shape[1]
        a, b = (a, b) if tall else (a.mT, b.mT)
        product = a.mT @ b
        b = b - a @ (product + product.mT) / (2 * self.r**2)
        return (b if tall else b.mT).reshape(g.shape).to(g.dtype)
