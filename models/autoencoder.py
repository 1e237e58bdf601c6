"""Autoencoders: an encoder to a code of few numbers, and a decoder back, each a list of layers in YAML.

Run: ``python -m trainer model=autoencoder objective=reconstruction data.normalize=scale``; variational:
``python -m trainer model=autoencoder model.variational=true objective=elbo data.normalize=scale``

Shapes: B batch, L numbers of a code.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.layer_list import built, built_to
from models.layers import check_probability, check_sizes, initialize


class Autoencoder(nn.Module):
    """``decoder(encoder(x))``; both halves are usable alone, as ``model.encoder`` and ``model.decoder``.

    Dense layers are added: to the code at the end of the encoder, and to the input's shape at the end of the decoder,
    unless its layers end in that shape.

    Args:
        input_shape: of one sample.
        num_outputs: not used: the output is like the input.
        latent: L, at least 1.
        encoder: its layers in order, as those of :class:`models.layer_list.LayerList`.
        decoder: likewise.
        variational: whether the encoder gives mean and log variance of a code, 2 L numbers (Kingma & Welling 2014); a
            forward pass then decodes the mean.
        activation, slope, prelu, dropout, init: see :class:`models.layer_list.LayerList`.

    Raises:
        ValueError: `encoder[i]…: what would be right`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int | dict[str, int],
        *,
        latent: int,
        encoder: list,
        decoder: list,
        variational: bool = False,
        activation: str = "relu",
        slope: float = 0.01,
        prelu: str = "shared",
        dropout: float = 0.0,
        init: str = "default",
    ):
        super().__init__()
        check_sizes(latent=latent)
        check_probability("dropout", dropout)
        defaults = {"activation": activation, "slope": slope, "prelu": prelu, "dropout": dropout}
        self.latent, self.variational = latent, variational
        there = built("encoder", encoder, tuple(input_shape), defaults)
        there.layers.append(nn.Linear(there.flat(), (2 if variational else 1) * latent))
        self.encoder = nn.Sequential(*there.layers)
        self.decoder = built_to("decoder", decoder, (latent,), tuple(input_shape), defaults)
        initialize(self, init)

    def encode(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """(B, *input_shape) -> codes (B, L); of a variational one mean and log variance, each (B, L)"""
        code = self.encoder(x)
        if not self.variational:
            return code
        mean, log_variance = code.chunk(2, 1)
        return mean, log_variance

    def forward(self, x: Tensor) -> Tensor:
        """(B, *input_shape) -> (B, *input_shape)"""
        code = self.encode(x)
        return self.decoder(code[0] if isinstance(code, tuple) else code)
