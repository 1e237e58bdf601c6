"""Generative adversarial networks: a generator from codes to images, and a discriminator, as lists of layers.

Source: I. Goodfellow et al., Generative Adversarial Nets, 2014; A. Radford et al., 2016 (DCGAN).
Run: ``python -m trainer model=gan objective=gan data.normalize=scale optim=adam``

Shapes: B batch, L numbers of a code.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.layer_list import built, built_to
from models.layers import check_probability, check_sizes, initialize


class Gan(nn.Module):
    """Both halves are usable alone: ``model.generator(codes)``, ``model.discriminator(images)``.

    Dense layers are added: to the image's shape at the end of the generator, unless its layers end in that shape, and
    to one number at the end of the discriminator, which of a Wasserstein GAN is called critic.

    Args:
        input_shape: of one image.
        num_outputs: not used.
        latent: L, at least 1; codes are drawn from N(0, I).
        generator: its layers in order, as those of :class:`models.layer_list.LayerList`.
        discriminator: likewise.
        activation, slope, prelu, dropout, init: see :class:`models.layer_list.LayerList`.

    Raises:
        ValueError: `generator[i]…: what would be right`.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int | dict[str, int],
        *,
        latent: int,
        generator: list,
        discriminator: list,
        activation: str = "leaky_relu",
        slope: float = 0.2,
        prelu: str = "shared",
        dropout: float = 0.0,
        init: str = "default",
    ):
        super().__init__()
        check_sizes(latent=latent)
        check_probability("dropout", dropout)
        defaults = {"activation": activation, "slope": slope, "prelu": prelu, "dropout": dropout}
        self.latent = latent
        judged = built("discriminator", discriminator, tuple(input_shape), defaults)
        judged.layers.append(nn.Linear(judged.flat(), 1))
        self.discriminator = nn.Sequential(*judged.layers)
        self.generator = built_to("generator", generator, (latent,), tuple(input_shape), defaults)
        initialize(self, init)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, *input_shape) -> what the discriminator says of them, (B, 1): positive ones look real"""
        return self.discriminator(x)

    def walk(self, x: Tensor) -> None:
        """Sends images (B, *input_shape), and as many codes, through all layers, to measure these."""
        self.generator(x.new_zeros(len(x), self.latent))
        self.discriminator(x)
