"""A run loaded from its directory: model, data and objective. The run may still be training.

The commands ``evaluate``, ``predict``, ``robustness`` and ``weights`` use it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from data import Dataset, Facts
from trainer.cli.display import loading_progress
from trainer.cli.signatures import check_node
from trainer.rundir import configuration, trust
from trainer.rundir.errors import Refused, one_line
from trainer.rundir.summary import Summary
from trainer.training import checkpoint
from trainer.training.assembly import objective_of, saying_where_to_look
from trainer.training.device import autocast, pick_device
from trainer.training.objectives import Objective
from trainer.training.parts import build, refusing, shapes
from trainer.training.settings import Precision

# Settings of data that do not apply to new data.
OF_THE_RUN = (
    *("limit", "normalize", "augment", "features", "batch_size", "group", "split_seed"),
    *("test_fraction", "val_fraction", "val_size", "val_from"),
)


@dataclass
class Run:
    """A run's model from a checkpoint, on `device` and in evaluation mode, with its facts."""

    path: Path
    config: dict[str, Any]
    facts: Facts
    model: nn.Module
    objective: Objective
    device: torch.device
    precision: Precision
    epoch: int  # finished epochs at the checkpoint
    position: int = 0  # steps of the next epoch; best.pt has none
    notes: tuple[str, ...] = ()  # about the checkpoint
    trust: bool = False  # whether the run may name classes that are not part of conga
    given: dict[str, Any] = field(default_factory=dict)  # settings of the data that replace the run's
    new_data: bool = False  # whether they are other data, not the same in another place

    @property
    def moment(self) -> str:
        """When in the run the checkpoint was written, in words."""
        return f"epoch {self.epoch}" + (f" and {self.position} steps" if self.position else "")

    @cached_property
    def dataset(self) -> Dataset:
        """The run's dataset, read again, or new data.

        Raises:
            Refused: it cannot be read, or has changed since training.
        """
        source = self.source
        with saying_where_to_look(), refusing("data"), loading_progress(lambda: None) as progress:
            if self.new_data:
                return source.load_like(self.facts, progress).to(self.device, self.dtype)
            dataset = source.load(progress)
        changed = checkpoint.changed_fact(self.facts.plain(), dataset.facts.plain())
        if changed:
            changed = source.unlike(self.facts) or changed
            raise Refused(
                f"{self.facts.name}: the data changed since the run was trained ({changed}); evaluate "
                "--new-data takes other data"
            )
        return dataset.to(self.device, self.dtype)

    @cached_property
    def source(self) -> Any:
        """The source of the run's dataset, or of new data.

        Raises:
            Refused: it is not part of conga, or does not take a setting.
        """
        node = self.config["data"] | self.given
        if not self.trust:
            trust.check(self.path / configuration.CONFIG, "data", node)
        check_node("data", node, ())
        return build("data", node)

    @property
    def all_notes(self) -> tuple[str, ...]:
        """The notes about the checkpoint and the data of an evaluation."""
        return self.notes + (self.dataset.facts.notes if self.new_data else ())

    @property
    def dtype(self) -> torch.dtype | None:
        """The dtype of the model; None for float32."""
        return torch.float64 if self.precision == "float64" else None

    def cast(self) -> contextlib.AbstractContextManager:
        """The autocast context of a forward pass, as in training."""
        return autocast(self.precision, self.device)()

    def must_predict(self) -> None:
        """Raises Refused if the objective says nothing."""
        if self.objective.says == "nothing":
            raise Refused(f"objective: {type(self.objective).__name__} needs a method predict for this")

    def raw_inputs(self, split: str, index: torch.Tensor) -> torch.Tensor:
        """The inputs of a split at `index`, before normalization, on the host: (B, *input_shape)."""
        dataset, index = self.dataset, index.to(self.device)
        if not dataset.streamed:
            return dataset.splits[split][0][index].cpu()
        return (dataset.batch(split, index)[0].cpu() * self.facts.std + self.facts.mean).round()  # decoded again

    def has_split(self, split: str) -> str:
        """The name of a split, if the data have it.

        Raises:
            Refused: they do not have it.
        """
        if split not in self.facts.sizes:
            raise Refused(f"--split={split}: the data of {self.path} have {', '.join(self.facts.sizes)}")
        return split


def data_settings(words: Sequence[str], new_data: bool) -> dict[str, Any]:
    """Typed settings of the data, ``data.KEY=VALUE``; relative paths are relative to the working directory.

    Raises:
        Refused: a word is no such setting, or not a place of the data.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    settings: dict[str, Any] = {}
    for word in words:
        key, _, value = word.partition("=")
        if not value or not (key in configuration.MOVABLE or (new_data and key.startswith("data."))):
            places = " or ".join(f"{place}=…" for place in configuration.MOVABLE)
            raise Refused(f"{word}: must be {places}, the new place of the data; --new-data takes other settings, too")
        is_place = key in configuration.MOVABLE
        settings[key.removeprefix("data.")] = (
            str(Path(value).expanduser().absolute())
            if is_place
            else OverridesParser.create().parse_override(word).value()
        )
    if idle := next((key for key in settings if key in OF_THE_RUN), None):
        raise Refused(f"data.{idle}: new data are evaluated as a whole and read like the run's; leave it out")
    if new_data and not settings:
        raise Refused("--new-data: needs data.path=… (or data.root=…), the place of the other data")
    return settings


def load_run(path: Path, kind: str = "best", device: str = "auto", *, trusted: bool = False, full: bool = False) -> Run:
    """The run in the directory `path`, with the weights of its checkpoint `kind`: ``best``, ``last`` or ``epoch_N``.

    Args:
        trusted: whether it may name classes that are not part of conga.
        full: whether a model that was trained in 16 bits (bf16, fp16) computes in 32.

    Raises:
        Refused: no run, or the checkpoint is missing or damaged; the text names the file.
    """
    configuration.check_run(path)
    try:
        where = pick_device(device, None)
    except Refused as error:  # a key of a run, but here an option
        raise Refused(str(error).replace("train.device", "--device", 1)) from error
    file = path / "checkpoints" / f"{kind}.pt"
    frozen = configuration.of_run(path)
    state = state_of(file, frozen, Summary.read(path).data, where)
    if not trusted:
        check_own(path, frozen)
    config = configuration.effective(frozen, path)
    try:
        facts, precision = Facts(**state["facts"]), config["train"]["precision"]
        if full and precision != "float64":
            precision = "float32"
        model = build("model", config["model"], **shapes(facts))
        model = model.to(where, torch.float64 if precision == "float64" else None)
        autocast(precision, where)
        objective = objective_of(config["objective"], facts)
        objective.load_state(state.get("objective") or {})
        model.load_state_dict(state["model"])
    except RuntimeError as error:
        raise Refused(f"{file}: does not fit the model of {configuration.CONFIG} ({one_line(error)})") from error
    except ValueError as error:  # a precision that this device lacks
        raise Refused(f"--device={device}: the run's {error}") from error
    except TypeError as error:  # arguments that a class no longer takes
        raise Refused(f"{file}: made by another version of conga ({one_line(error)})") from error
    except (LookupError, AttributeError) as error:
        line = f"{type(error).__name__}: {one_line(error)}"
        raise Refused(f"{file}: made by another program, or by another version of conga ({line})") from error
    if kind == "best":
        epoch, position = state["best"]["epoch"], 0
    elif kind != "last":
        epoch, position = state["epoch"], 0
    else:
        epoch, position = state["progress"]["epoch"], state["progress"]["position"]
    notes = checkpoint.notes(state)
    return Run(path, config, facts, model.eval(), objective, where, precision, epoch, position, notes, trusted)


def state_of(file: Path, frozen: dict[str, Any], summary: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """What the checkpoint `file` of a run holds.

    Raises:
        Refused: it is missing, damaged, renamed, or of another run; the text names the others of the run, if any.
    """
    kind, others = file.stem, ", ".join(sorted(p.stem for p in file.parent.glob("*.pt") if p != file))
    if not file.exists():
        hint = f"there is --checkpoint={others}" if others else "the run has not finished an epoch"
        raise Refused(f"{file}: no such checkpoint; {hint}")
    try:
        state = checkpoint.load(file, kind.partition("_")[0], device)
    except Refused as error:
        raise Refused(f"{error}" + (f"; there is also --checkpoint={others}" if others else "")) from error
    with checkpoint.fitting(file):
        other = checkpoint.other_run(state, frozen, summary)
    if other:
        raise Refused(f"{file}: a checkpoint of another run ({other})")
    if kind not in ("best", "last", f"epoch_{state.get('epoch')}"):
        raise Refused(f"{file}: holds epoch {state.get('epoch')}; it was renamed")
    return state


def check_own(path: Path, config: dict[str, Any]) -> None:
    """Raises Refused if the run in `path` has a model or an objective that is not part of conga."""
    for group in ("model", "objective"):
        trust.check(path / configuration.CONFIG, group, config[group])
