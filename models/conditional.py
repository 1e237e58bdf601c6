"""The conditional autoencoder of returns: characteristics say how an asset follows factors, and returns what these are.

Source: S. Gu, B. Kelly, D. Xiu, Autoencoder asset pricing models, Journal of Econometrics, 2021; one hidden layer.
Run: ``python -m trainer model=conditional_autoencoder data=market optim=adam optim.lr=3e-3``

Shapes: B days, A assets, C characteristics, K factors.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.layers import check_sizes, initialize


class PerAsset(nn.Module):
    """A layer for each asset by itself, with the same weights: dense ones thread over the assets, a norm counts all."""

    def __init__(self, characteristics: int, hidden: int, factors: int):
        super().__init__()
        self.hidden, self.norm = nn.Linear(characteristics, hidden), nn.BatchNorm1d(hidden)
        self.out = nn.Linear(hidden, factors)

    def forward(self, z: Tensor) -> Tensor:
        """(B, A, C) -> (B, A, K)"""
        hidden = self.hidden(z).relu()
        return self.out(self.norm(hidden.transpose(1, 2)).transpose(1, 2))


class ConditionalAutoencoder(nn.Module):
    """``beta(characteristics) . factor(returns)``, the returns that factors explain; both halves are usable alone.

    Args:
        input_shape: (A, C + 1): of each asset its characteristics, and last its return.
        num_outputs: A.
        hidden: units between characteristics and betas, at least 1.
        factors: K, at least 1.
        init: how weights are drawn, see :func:`models.layers.initialize`.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int | dict[str, int],
        *,
        hidden: int,
        factors: int,
        init: str = "default",
    ):
        super().__init__()
        if len(input_shape) != 2 or input_shape[1] < 2 or num_outputs != input_shape[0]:
            raise ValueError(
                f"input_shape={tuple(input_shape)}: a conditional autoencoder takes (assets, characteristics and "
                "return) and a target for each asset"
            )
        check_sizes(hidden=hidden, factors=factors)
        assets, columns = input_shape
        self.beta = PerAsset(columns - 1, hidden, factors)
        self.factor = nn.Linear(assets, factors)
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """(B, A, C + 1) -> (B, A)"""
        beta, factor = self.beta(x[:, :, :-1]), self.factor(x[:, :, -1])
        return (beta @ factor[:, :, None])[:, :, 0]
