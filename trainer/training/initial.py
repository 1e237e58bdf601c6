"""Initial weights from another run (``train.init_from``), and frozen ones (``train.freeze``).

Run: ``python -m trainer model=cnn train.init_from=outputs/… 'train.freeze=[net.0.*,net.4.*]'``
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from optim import matching
from trainer.rundir.errors import Refused
from trainer.rundir.typed import looked_for, typed_path
from trainer.training import checkpoint

KINDS = ("best", "last")  # the checkpoint of a run's directory: the first existing one


@dataclass(frozen=True)
class Taken:
    """The tensors that a model took from a checkpoint.

    Args:
        file: the checkpoint; `sha256` of its bytes, and its `epoch`.
        taken: names of the tensors with the same name and shape in both.
        anew: the model's other tensors, which are drawn: name -> shape here, and shape there (None if missing).
        ignored: names of the checkpoint's tensors that the model lacks.
    """

    file: Path
    sha256: str
    epoch: int
    taken: list[str]
    anew: dict[str, tuple[tuple[int, ...], tuple[int, ...] | None]]
    ignored: list[str]

    def plain(self) -> dict[str, Any]:
        """For ``summary.json``."""
        names = {"taken": self.taken, "anew": list(self.anew), "ignored": self.ignored}
        return {"file": str(self.file), "sha256": self.sha256, "epoch": self.epoch} | names

    def groups(self) -> list[tuple[str, list[str]]]:
        """For the log: the kinds of tensors, with their names."""
        anew = [
            f"{name} ({by(here)}; there {by(there)})" if there is not None else name
            for name, (here, there) in self.anew.items()
        ]
        found = [("taken", self.taken), ("start anew", anew), ("ignored", self.ignored)]
        return [(what, names) for what, names in found if names]


def take_weights(network: nn.Module, init_from: str, before: dict[str, Any] | None) -> Taken:
    """Copies the tensors of a run's checkpoint into those of `network` with the same name and shape.

    Args:
        init_from: the directory of a run (its best checkpoint, or else its last), or a checkpoint file.
        before: `init_from` of the run's summary, if the run has started before.

    Raises:
        Refused: the checkpoint is missing, damaged, has no common tensor, or is another one than before.
    """
    file = checkpoint_in(init_from)
    try:
        state = checkpoint.load(file, None, "cpu")
        with file.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    except Refused as error:
        raise Refused(f"train.init_from: {error}") from error
    if before and before.get("sha256") != sha256:
        raise Refused(
            f"train.init_from={init_from}: {file} is not the checkpoint that the run started from, whose SHA-256 was "
            f"{before.get('sha256')}; start a new run"
        )
    ours, theirs = network.state_dict(), {k: v for k, v in state["model"].items() if isinstance(v, Tensor)}
    same = [name for name, x in ours.items() if name in theirs and theirs[name].shape == x.shape]
    if not set(same) & {name for name, _ in network.named_parameters()}:
        raise Refused(
            f"train.init_from={init_from}: no parameter has the same name and shape in {file} and in this model "
            f"({example(theirs)} there, {example(ours)} here)"
        )
    with torch.no_grad():
        for name in same:
            ours[name].copy_(theirs[name])
    there = {name: tuple(x.shape) for name, x in theirs.items()}
    anew = {name: (tuple(x.shape), there.get(name)) for name, x in ours.items() if name not in same}
    return Taken(file, sha256, epoch_of(state), same, anew, [name for name in theirs if name not in ours])


def norms_taken(network: nn.Module, taken: Taken | None, path: Path) -> dict[str, float]:
    """The norms of the parameters that the run in `path` took from a checkpoint, for `init_factor`.

    Args:
        taken: None for a resumed run, whose own checkpoint has them.

    Raises:
        Refused: this checkpoint is damaged.
    """
    if taken is None:
        return checkpoint.load(path / "checkpoints" / "last.pt", "last", "cpu").get("norms") or {}
    return {name: x.detach().double().norm().item() for name, x in network.named_parameters() if name in taken.taken}


def checkpoint_in(given: str, key: str = "train.init_from") -> Path:
    """The checkpoint file that a run's directory, or a path of a file, means; `key` names the setting in errors.

    Raises:
        Refused: it does not exist.
    """
    try:
        place = typed_path(given)
    except Refused as error:
        raise Refused(f"{key}={error}") from error
    if not os.path.exists(place):  # Path.exists raises for a name that is too long
        raise Refused(f"{key}={given}: no such file or folder{looked_for(place)}")
    if not place.is_dir():
        return place
    found = [file for kind in KINDS if (file := place / "checkpoints" / f"{kind}.pt").exists()]
    if not found:
        raise Refused(f"{key}={given}: must be the directory of a run that has a checkpoint, or a checkpoint file")
    return found[0]


def epoch_of(state: dict[str, Any]) -> int:
    """The number of finished epochs at a checkpoint."""
    return {"best": state.get("best"), "last": state.get("progress")}.get(state["kind"], state)["epoch"]


def freeze(network: nn.Module, patterns: str | list[str]) -> None:
    """Freezes the parameters that match `patterns`: they need no gradient.

    Raises:
        ValueError: a pattern matches no parameter, or nothing is left to train.
    """
    if not patterns:
        return
    names, xs = zip(*network.named_parameters(), strict=True)
    for x, stays in zip(xs, matching("freeze", patterns, names, xs), strict=True):
        x.requires_grad_(x.requires_grad and not stays)
    if not any(x.requires_grad for x in xs):
        shown = patterns if isinstance(patterns, str) else f"[{','.join(patterns)}]"
        raise ValueError(f"freeze={shown}: leaves no parameter to train")


def by(shape: tuple[int, ...]) -> str:
    """A shape in words: 10 x 50; 1 for a single number."""
    return " x ".join(map(str, shape)) or "1"


def example(state: dict[str, Tensor]) -> str:
    """The first tensor of a model, as name and shape."""
    return next((f"{name} ({by(tuple(x.shape))})" for name, x in state.items()), "none")
