"""A generated market: days of returns of assets whose characteristics say how they follow a few factors.

Run: ``python -m trainer data=market model=conditional_autoencoder optim=adam optim.lr=3e-3``

Shapes: N days, A assets, C characteristics, K factors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from data.gate import Raw
from data.source import Source, check_count


@dataclass(kw_only=True)
class Market(Source):
    """Returns r = beta(z) f + noise of each day, with beta = tanh(z W): who follows which factor follows from z.

    Characteristics z are an asset's lasting traits and a slow drift; the factors f of a day are drawn. An input is
    (A, C + 1), the last column the returns; the targets are these returns, (A,). Training is first in time.

    Source of the model: S. Gu, B. Kelly, D. Xiu, Autoencoder asset pricing models, Journal of Econometrics, 2021.

    Args:
        days, assets, characteristics, factors: N, A, C, K.
        noise: deviation of what no factor explains, in deviations of the rest.
        generator_seed: fixes the market.
    """

    days: int
    assets: int
    characteristics: int
    factors: int
    noise: float
    generator_seed: int

    generated = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, low in (("days", 10), ("assets", 1), ("characteristics", 1), ("factors", 1), ("generator_seed", 0)):
            check_count(name, getattr(self, name), low)
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise={self.noise}: must be at least 0, and finite")

    def read(self) -> Raw:
        rng = np.random.default_rng(self.generator_seed)
        N, A, C = self.days, self.assets, self.characteristics
        z, traits, drift = np.empty((N, A, C)), rng.normal(size=(A, C)), np.zeros((A, C))
        for t in range(N):
            drift = 0.95 * drift + 0.3 * rng.normal(size=(A, C))
            z[t] = traits + 0.5 * drift
        beta = np.tanh(z @ (rng.normal(size=(C, self.factors)) / math.sqrt(C)))
        signal = np.einsum("nak,nk->na", beta, rng.normal(size=(N, self.factors)))
        returns = signal + self.noise * signal.std() * rng.normal(size=(N, A))
        known = 1 - np.square(returns - signal).sum(0) / np.square(returns - returns.mean(0)).sum(0)
        x = np.concatenate([z, returns[:, :, None]], 2).astype(np.float32)
        return Raw(
            name="market",
            task="regression",
            parts={"train": (x, returns.astype(np.float32))},
            num_outputs=A,
            in_time=True,
            target_names=tuple(f"asset {a}" for a in range(A)),
            notes=(f"who knows the factors and how assets follow them explains R² {known.mean():.4f} of all returns",),
        )
