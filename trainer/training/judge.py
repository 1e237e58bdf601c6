"""A judge of generated images: the last hidden features of a classifier of ours, and distances between them.

Distances compare only runs with the same judge, and with as many images.

Shapes: N, M images, D features.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data import Facts, normalized
from trainer.rundir import trust
from trainer.rundir.summary import Summary
from trainer.training import checkpoint
from trainer.training.initial import checkpoint_in, epoch_of
from trainer.training.parts import build, shapes


class Judge:
    """A classifier: what its last dense layer is given are an image's features.

    Args:
        model: the configuration of the network.
        facts: of its dataset, as plain data.
        weights: its parameters and buffers.
        about: where it comes from, its epoch, and its test metrics.

    Raises:
        Refused: the configuration names a class that is not part of conga, or does not fit.
    """

    def __init__(self, model: dict[str, Any], facts: dict[str, Any], weights: dict[str, Tensor], about: dict[str, Any]):
        # Here, since the copy in a judged run's checkpoint is data from a directory, too.
        trust.check(Path(about["file"]), "model", model)
        self.node, self.facts, self.about = model, Facts(**facts), about
        with torch.random.fork_rng(devices=[]):  # the initial weights are not used
            self.network: nn.Module = build("model", model, **shapes(self.facts))
        self.network.load_state_dict(weights)
        self.network.eval().requires_grad_(False)
        dense = [layer for layer in self.network.modules() if isinstance(layer, nn.Linear)]
        if not dense:
            raise ValueError(f"judge={about['file']}: its network has no dense layer, whose inputs are the features")
        self.seen: list[Tensor] = []
        dense[-1].register_forward_pre_hook(lambda layer, inputs: self.seen.append(inputs[0]))

    @classmethod
    def read(cls, place: str, images: Facts) -> Judge:
        """The judge in the directory of a run, or in a checkpoint, for data with the facts `images`.

        Raises:
            Refused: it is missing, damaged, or names a class that is not part of conga.
            ValueError: it is no classifier of such images.
        """
        file = checkpoint_in(place, "objective.judge")
        state = checkpoint.load(file, None, "cpu")
        node, facts = state["config"]["model"], Facts(**state["facts"])
        if facts.task not in ("classification", "binary"):
            raise ValueError(f"judge={place}: its task is {facts.task}; a judge is a classifier")
        for name in ("input_shape", "value_range"):
            theirs, ours = getattr(facts, name), getattr(images, name)
            if theirs != ours:
                raise ValueError(f"judge={place}: its {name} is {theirs}, and that of {images.name} {ours}")
        test = Summary.read(file.parent.parent).data.get("test") or {}
        about = {"file": str(file), "data": facts.name, "epoch": epoch_of(state), "test": dict(test)}
        weights = {name: x.float() if x.is_floating_point() else x for name, x in state["model"].items()}
        return cls(node, facts.plain(), weights, about)

    def plain(self) -> dict[str, Any]:
        """Tensors and plain data, for a checkpoint."""
        weights = {name: x.cpu() for name, x in self.network.state_dict().items()}
        return {"model": self.node, "facts": self.facts.plain(), "weights": weights, "about": self.about}

    def words(self) -> str:
        """The judge in a line."""
        told = ", ".join(f"{name} {value:.4f}" for name, value in self.about["test"].items() if value is not None)
        return f"{self.about['file']}, epoch {self.about['epoch']}, {self.about['data']}; test {told or 'unknown'}"

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Images (N, *input_shape) with values as in the files -> (N, D)"""
        self.network.to(x.device)
        x = x.float()
        self.seen.clear()
        self.network(normalized(x, self.facts.mean.to(x), 1.0 / self.facts.std.to(x)))
        return self.seen[0]


def frechet(a_ND: np.ndarray, b_MD: np.ndarray) -> float:
    """The Fréchet distance between normal distributions with the means and covariances of two sets of features.

    ||m_a - m_b||^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)); Dowson & Landau 1982, as in Heusel et al. 2017.
    """
    a, b = a_ND.astype(np.float64), b_MD.astype(np.float64)
    if min(len(a), len(b)) < 2 or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    S_a, S_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(S_a)
    root = vectors * np.sqrt(values.clip(0))  # root root^T = S_a; the product has the eigenvalues of S_a S_b
    overlap = np.sqrt(np.linalg.eigvalsh(root.T @ S_b @ root).clip(0)).sum()
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(S_a) + np.trace(S_b) - 2 * overlap)
