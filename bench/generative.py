"""Steps of a variational autoencoder and of a Transformer against hand-written PyTorch loops.

The networks and batches of the recipes `fashion_vae` (on random images) and `reverse_transformer`, with Adam. Loops by
hand do the same work: codes are drawn, metrics are summed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.contestants import assembled, random_images, run_of, steps
from bench.harness import interleave, print_ratios

BATCHES, ROUNDS = 20, 15
ADAM = (
    "optim=adam",
    "optim.lr=1e-3",
    "data.val_size=0",
    "data.test_fraction=0",
    "train.epochs=1000",
    "train.device=cpu",
)
PLAIN = ("data=npz", *ADAM)


def run() -> None:
    """Prints the ratios."""
    torch.manual_seed(0)
    vae()
    transformer()


def compare(ours: Callable[[], None], hand: Callable[[], None]) -> None:
    """Prints the ratio of steps."""
    found = interleave({"conga": ours, "by hand": hand}, ROUNDS)
    print_ratios(found, "conga", "ms a step", 1e3 / BATCHES)


def vae() -> None:
    """784-256-16-256-784."""
    B = 128
    images, labels = random_images(BATCHES * B, 1, 28, 28)
    words = ["model=autoencoder", "model.latent=16", "model.variational=true", "objective=elbo", "data.normalize=scale"]
    words += ["model.encoder=[{dense: 256},activation]", "model.decoder=[{dense: 256},activation]"]
    print(f" vae, {BATCHES} steps a round")
    with assembled(images, labels, *words, f"data.batch_size={B}", plain=PLAIN) as t:
        compare(lambda: steps(t), vae_by_hand(images, B))


def vae_by_hand(images: Tensor, B: int) -> Callable[[], None]:
    """As in a script."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 32))
    decoder = nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 784))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3)

    def epoch() -> None:
        totals = torch.zeros(4)
        for index in torch.randperm(len(images)).split(B):
            x = images[index].float() / 255
            mean, log_variance = encoder(x).chunk(2, 1)
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            logits, flat = decoder(z), x.flatten(1)
            told = F.binary_cross_entropy_with_logits(logits, flat, reduction="none").sum(1)
            kl = 0.5 * (log_variance.exp() + mean.square() - 1 - log_variance).sum(1)
            loss = (told + kl).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                mse = (logits.sigmoid() - flat).square().mean(1)
                totals += torch.stack([loss * len(x), told.sum(), kl.sum(), mse.sum()])

    return epoch


def transformer() -> None:
    """One layer each of width 64, against torch's own layers."""
    B = 64
    words = ["data=sequences", f"data.samples={BATCHES * B}", "model=transformer", *ADAM]
    print(f" transformer, {BATCHES} steps a round")
    with run_of(*words, f"data.batch_size={B}") as t:
        x, y = t.dataset.splits["train"][:2]
        compare(lambda: steps(t), transformer_by_hand(x, y, t.dataset.facts, B))


class Translator(nn.Module):
    """torch's Transformer with learned positions."""

    def __init__(self, words: int, S: int, T: int):
        super().__init__()
        self.source, self.target = nn.Embedding(words, 64), nn.Embedding(words, 64)
        self.at_source, self.at_target = (nn.Parameter(torch.randn(n, 64)) for n in (S, T))
        layer = {"d_model": 64, "nhead": 4, "dim_feedforward": 128, "dropout": 0.0, "batch_first": True}
        self.encoder, self.decoder = nn.TransformerEncoderLayer(**layer), nn.TransformerDecoderLayer(**layer)
        self.output = nn.Linear(64, words)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(T))

    def forward(self, x: Tensor, before: Tensor) -> Tensor:
        fill = x == 0
        memory = self.encoder(self.source(x) + self.at_source, src_key_padding_mask=fill)
        told = self.target(before) + self.at_target
        mask: Any = self.mask
        return self.output(self.decoder(told, memory, mask, memory_key_padding_mask=fill, tgt_is_causal=True))


def transformer_by_hand(x: Tensor, y: Tensor, facts: Any, B: int) -> Callable[[], None]:
    """As in a script."""
    network = Translator(facts.num_outputs, x.shape[1], y.shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)

    def epoch() -> None:
        totals = torch.zeros(3)
        for index in torch.randperm(len(x)).split(B):
            source, target = x[index], y[index]
            logits = network(source, F.pad(target[:, :-1], (1, 0), value=facts.start))
            there = target != 0
            losses = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=0, reduction="sum")
            loss = losses / there.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                right = ((logits.argmax(2) == target) & there).sum()
                totals += torch.stack([losses, right, there.sum()])

    return epoch
