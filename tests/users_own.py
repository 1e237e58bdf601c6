"""Classes of a user, which configurations of the tests name."""

import json
import math
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from data import Raw, Source
from models.mlp import MLP
from trainer.training.objectives import CrossEntropy


class Mine(MLP):
    """A user's model."""


class Told:
    """A logger that keeps what it is told at the end."""

    def start(self, *args):
        pass

    log = start

    def end(self, summary, confusion):
        Path("told.json").write_text(json.dumps(summary, default=str))


class Focal(CrossEntropy):
    """A user's own: (1 - p)^gamma times the cross-entropy (Lin et al. 2017)."""

    def __init__(self, facts, *, gamma: float, l2: float = 0.0, l1: float = 0.0):
        super().__init__(facts, l2=l2, l1=l1)
        self.gamma = gamma

    def compare(self, logits_BK, y, reduction):
        losses = super().compare(logits_BK, y, "none")
        losses = (1 - (-losses).exp()) ** self.gamma * losses
        return losses.mean() if reduction == "mean" else losses


class Noisy(CrossEntropy):
    """Adds random numbers to the outputs, in training and in evaluation."""

    def compare(self, logits_BK, y, reduction):
        return super().compare(logits_BK + torch.randn_like(logits_BK), y, reduction)


class Trouble(CrossEntropy):
    """Does something bad in its second batch, unless a file says that it did so before."""

    def __init__(self, facts, *, what: str, once: str | None = None, l2: float = 0.0, l1: float = 0.0):
        super().__init__(facts, l2=l2, l1=l1)
        self.what, self.once, self.batches = what, once, 0

    def compare(self, logits_BK, y, reduction):
        self.batches += 1
        if self.batches == 2 and not (self.once and Path(self.once).exists()):
            if self.once:
                Path(self.once).touch()
            if self.what == "raise":
                raise RuntimeError("something of one's own\nwith a second line")
            if self.what == "memory":
                raise MemoryError
            if self.what == "exit":
                sys.exit(0)
            if self.what == "end":
                os._exit(0)
            if self.what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.what in ("interrupt", "insist"):
                signal.raise_signal(signal.SIGINT)
            if self.what == "insist":
                signal.raise_signal(signal.SIGINT)
            if self.what == "terminate":
                signal.raise_signal(signal.SIGTERM)
            if self.what == "leak":
                torch.set_default_dtype(torch.float64)
                torch.manual_seed(1)
                torch.use_deterministic_algorithms(True)
                os.environ["CONGA_LEAK"] = "1"
        assert self.what != "look" or (torch.get_default_dtype() == torch.float32 and "CONGA_LEAK" not in os.environ)
        return super().compare(logits_BK, y, reduction)


class TinyAutoencoder(torch.nn.Module):
    """A linear encoder and decoder; `variational`: the encoder gives mean and log variance."""

    def __init__(self, input_shape, num_outputs, *, latent: int, variational: bool = False):
        super().__init__()
        n = math.prod(input_shape)
        self.variational = variational
        self.encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(n, latent * (1 + variational)))
        self.decoder = torch.nn.Sequential(torch.nn.Linear(latent, n), torch.nn.Unflatten(1, input_shape))

    def encode(self, x):
        code = self.encoder(x)
        return code.chunk(2, 1) if self.variational else code

    def forward(self, x):
        code = self.encode(x)
        return self.decoder(code[0] if self.variational else code)


@dataclass(kw_only=True)
class Copies(Source):
    """Words to be written again; each sequence ends after one to four of them."""

    def read(self) -> Raw:
        rng = np.random.default_rng(0)
        lengths, words = rng.integers(1, 5, 200), rng.integers(3, 6, (200, 5))
        at = np.arange(5)
        y = np.where(at < lengths[:, None], words, 0)
        y[at == lengths[:, None]] = 2
        names = ("_", "<", ">", "a", "b", "c")
        shared = {"num_outputs": 6, "class_names": names, "vocabulary": names}
        return Raw(name="copies", task="sequence", parts={"train": (np.where(y == 2, 0, y), y)}, **shared)


class Copying(torch.nn.Module):
    """Says each token by the word at its place, and the end where there is none."""

    def __init__(self, input_shape, num_outputs):
        super().__init__()
        self.table = torch.nn.Embedding(num_outputs, num_outputs)

    def forward(self, x, before=None):
        return self.table(x)

    def generate(self, x):
        return self.table(x).argmax(2)
