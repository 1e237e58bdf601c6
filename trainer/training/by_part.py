"""Settings of the optimizer for parts of a model: ``optim.of={generator: {lr: 2e-4}, critic: {lr: 1e-4}}``.

A part is all parameters whose names begin alike; those of no part have the optimizer's own settings.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from trainer.cli.signatures import show
from trainer.rundir.errors import Refused

PART = "part"  # in a group of the optimizer: the name of its part


def groups_of(
    of: Mapping[str, Mapping[str, Any]], trainable: list[tuple[str, nn.Parameter]], constraint: Any
) -> list[dict[str, Any]]:
    """The groups of an optimizer: the parameters of no part first, then each part with its settings.

    A part that no set holds takes its `lr` as it is, also where free parameters have a rate of their own.

    Raises:
        Refused: a part without parameters.
    """
    members: dict[str, list[tuple[str, nn.Parameter]]] = {name: [] for name in ("", *of)}
    for name, x in trainable:
        parts = [part for part in of if name == part or name.startswith(f"{part}.")]
        members[max(parts, key=len, default="")].append((name, x))
    empty = [part for part in of if not members[part]]
    if empty:
        known = dict.fromkeys(name.partition(".")[0] for name, _ in trainable)
        raise Refused(f"optim.of.{empty[0]}: no trainable parameter begins so; there are {', '.join(known)}")
    names, xs = zip(*trainable, strict=True)
    held = {x for x, C in zip(xs, constraint.assign(names, xs), strict=True) if C is not None} if constraint else set()
    groups: list[dict[str, Any]] = [{"params": members[""]}] if members[""] else []
    for part, options in of.items():
        free = {} if "lr" not in options or held & {x for _, x in members[part]} else {"constraint": None}
        groups.append({"params": members[part], PART: part, **(free if constraint else {}), **options})
    return groups


def check_taken(optimizer: torch.optim.Optimizer, of: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises Refused for a setting that the optimizer has for all parameters only."""
    for part, options in of.items():
        for name, value in options.items():
            if name not in optimizer.defaults:
                kind = type(optimizer).__name__
                raise Refused(f"optim.of.{part}.{name}={show(value)}: {kind} has one {name} for all parameters")


@contextlib.contextmanager
def naming_part(of: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Lets a refusal of a part's setting name the part: ``optim.lr=-1`` becomes ``optim.of.critic.lr=-1``."""
    try:
        yield
    except Refused as error:
        at_fault = (part for part, options in of.items() for item in options.items() if says(error, *item))
        if (part := next(at_fault, None)) is None:
            raise
        raise Refused(str(error).replace("optim.", f"optim.of.{part}.", 1)) from error


def says(error: Refused, name: str, value: Any) -> bool:
    """Whether the error is about the optimizer's setting `name` with this value."""
    return str(error).startswith(f"optim.{name}={value}:")


def rates(optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """``lr_PART`` -> the learning rate of each part: of its first group, the one that a set holds if any does."""
    found: dict[str, float] = {}
    for group in optimizer.param_groups:
        if PART in group:
            found.setdefault(f"lr_{group[PART]}", group["lr"])
    return found
