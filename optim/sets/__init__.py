"""Compact convex sets with their linear minimization oracles: ``lmo(g)`` = argmin over C of <g, v>."""

from optim.sets.constraint_set import Ball, Constraint, ConstraintSet, NormBall, matching
from optim.sets.groups import GroupKSupport, GroupL1, GroupLInf
from optim.sets.initial_norm import note_initial_norms
from optim.sets.layerwise import ScionNorms
from optim.sets.matrices import Nuclear, Spectral, SpectralKSparse, SpectralKSupport
from optim.sets.network import Whole, flat, put_back
from optim.sets.polytopes import Birkhoff, Box, Permutahedron, ProbabilitySimplex, UnitSimplex
from optim.sets.spectrum import effective_rank
from optim.sets.surfaces import Sphere, Stiefel
from optim.sets.vectors import L1, L2, KSparse, KSupport, LInf, Lp

__all__ = [
    "L1",
    "L2",
    "Ball",
    "Birkhoff",
    "Box",
    "Constraint",
    "ConstraintSet",
    "GroupKSupport",
    "GroupL1",
    "GroupLInf",
    "KSparse",
    "KSupport",
    "LInf",
    "Lp",
    "NormBall",
    "Nuclear",
    "Permutahedron",
    "ProbabilitySimplex",
    "ScionNorms",
    "Spectral",
    "SpectralKSparse",
    "SpectralKSupport",
    "Sphere",
    "Stiefel",
    "UnitSimplex",
    "Whole",
    "effective_rank",
    "flat",
    "matching",
    "note_initial_norms",
    "put_back",
]
