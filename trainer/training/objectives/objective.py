"""Objectives: from a model and a batch to a loss and sums of metrics, all on the device.

An objective is built with the dataset's facts and has

- ``__call__(model, batch) -> (loss, sums)``: `loss` is a 0-d tensor to differentiate, a mean over the batch; `sums` a
  dict of numbers and 0-d tensors that the loop adds up over an epoch: ``samples`` is the number of samples in the
  batch, ``weight`` its weight in a mean of losses, ``loss`` the loss times that weight.
- ``evaluate(model, batch) -> (sums, kept)``: the same in evaluation. Sums may be vectors here; `kept` holds tensors
  (B, ...) that are collected over the whole split, for metrics that are no functions of sums.
- ``finish(sums, kept) -> metrics``: the metrics from these, on the host.
- ``metrics``: the names of the metrics, the first is ``loss``; ``evaluated``: those of evaluations only;
  ``higher_is_better``: those that `train.monitor` maximizes.
- ``turns``: see below.
- ``why_undefined(metric, y)``: why a metric is NaN on a split's targets, for a note.
- ``predict(model, x)``: predictions for a user; ``truth(y)``: targets in the same form; ``says``: what these are. All
  readers of a run go by it:

    choices  probabilities (B, K) of classes, or head -> probabilities
    labels   probabilities (B, K) of labels
    numbers  (B, K) in the targets' units
    images   (B, *input_shape), with values as in the files
    tokens   (B, T) whole numbers, as in the data
    nothing  no prediction: an evaluation has the metrics only

  The default is that of the data's task, or nothing without a method ``predict``.
- ``decode(model, codes)``: images from codes (B, ``model.latent``) that are drawn from N(0, I), for the command
  ``sample``; only objectives of generative models have it.
- ``needs``: names that the model must have, such as ``encode``; ``check(model)`` refuses a model for other reasons.
- ``monitor``: the column of metrics.csv that ``train.monitor=auto`` means; with ``epoch`` the last epoch is the best.
- ``pictures(run, split)``: further pictures of an evaluation.
- ``prepare(dataset, split)``: called before an evaluation of a split.
- ``begin()``: reads what the objective needs from elsewhere, once, before a new run starts; ``state()``: that, as
  tensors and plain data, which every checkpoint keeps; ``load_state(state)``: takes it from there; ``about()``: a line
  about it, which a run prints.

It gets the model and the whole batch, so a step need not compare outputs with targets: an autoencoder compares with its
input, a sequence model may read the targets. Losses that are minimized in turn over different parameters, such as those
of a generator and a discriminator, are ``turns``: names of submodules; one that comes three times takes three steps for
one of the other. All of a step have the same batches, or each its own with ``fresh``. The loop calls
``objective(model, batch, turn)`` for each turn, differentiates by that submodule's parameters, and steps only these;
each turn returns ``weight``, ``samples`` and sums with names of its own. Without a turn, as in an evaluation, it
returns all.

Your own objective is a class over :class:`Objective`, or over :class:`Supervised` if outputs are compared with targets,
and a YAML in ``conf/objective/``.

Shapes: B batch, K classes or outputs.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from data import Batch, Dataset, Facts
from models.weights import weights
from trainer.training.adversary import Adversary
from trainer.training.objectives.penalty import Penalty

Sums = dict[str, Any]
Reduction = Literal["mean", "none"]
Says = Literal["choices", "labels", "numbers", "images", "tokens", "nothing"]

SAYS: dict[str, Says] = {
    "classification": "choices",
    "binary": "choices",
    "multitask": "choices",
    "multilabel": "labels",
    "regression": "numbers",
    "sequence": "tokens",
}
TABLED = ("choices", "labels", "numbers", "tokens")  # predictions that are columns of a table
MAIN = ("accuracy", "rmse", "loss")  # the first of these that an objective has says most


class Objective(abc.ABC):
    """Base of all objectives. Subclasses name their task.

    Args:
        facts: of the dataset.
        l2: factor of the sum of squares of the weights in the loss, at least 0. Weights are the parameters of two or
            more axes, not biases and scales of norms.
        l1: factor of the sum of absolute values of the weights in the loss, at least 0.

    Raises:
        ValueError: `name=value: what would be right`; the dataset has another task.
    """

    task: str | None = None  # any
    metrics: tuple[str, ...] = ("loss",)
    evaluated: tuple[str, ...] = ()
    higher_is_better: tuple[str, ...] = ()
    turns: tuple[str | None, ...] = (None,)
    fresh = False  # whether each turn has batches of its own
    says: Says
    needs: tuple[str, ...] = ()
    monitor = "val/loss"
    takes_mixed_labels = False  # probabilities instead of class numbers, as mixup makes them
    adversary: Adversary | None = None  # who changes inputs; see against()

    def __init__(self, facts: Facts, *, l2: float = 0.0, l1: float = 0.0):
        if self.task is not None and facts.task != self.task:
            raise ValueError(f"task={facts.task}: {type(self).__name__} needs a dataset whose task is {self.task}")
        for name, value in (("l2", l2), ("l1", l1)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value}: must be at least 0, and finite")
        self.facts, self.l2, self.l1 = facts, l2, l1
        if not hasattr(self, "says"):
            self.says = "nothing" if type(self).predict is Objective.predict else SAYS[facts.task]
        self._penalized: tuple[nn.Module | None, list[nn.Parameter]] = None, []  # a model, and its weights

    @abc.abstractmethod
    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums]: ...

    def evaluate(self, model: nn.Module, batch: Batch) -> tuple[Sums, dict[str, Tensor]]:
        """The sums of a batch, and the tensors to keep; without gradients."""
        return self(model, batch)[1], {}

    def finish(self, sums: Mapping[str, Any], kept: Mapping[str, np.ndarray] | None = None) -> dict[str, float]:
        """Metrics from sums over samples, as numbers."""
        means = {k: v / sums["samples"] for k, v in sums.items() if k in self.metrics}
        return means | {"loss": sums["loss"] / sums["weight"] if sums["weight"] else math.nan}

    def why_undefined(self, metric: str, y: Tensor) -> str | None:
        """Why a metric is NaN on a split with raw targets y: words after "the split"; None if unknown."""
        return None

    def chance(self, y: Tensor) -> float | None:
        """The mean loss of a good constant output on raw training targets y, without a penalty; None if unknown."""
        return None

    def predict(self, model: nn.Module, x: Tensor) -> Any:
        """The predictions of the model for prepared inputs; see the subclasses."""
        raise NotImplementedError

    def truth(self, y: Tensor) -> Tensor:
        """Targets as trained on -> in the form of :meth:`predict`."""
        return y

    def in_files(self, x: Tensor) -> Tensor:
        """Inputs as trained on (B, *input_shape) -> as in the files."""
        return x * self.facts.std.to(x) + self.facts.mean.to(x)

    def check(self, model: nn.Module) -> None:
        """Refuses a model that does not fit.

        Raises:
            ValueError: in words that follow those of the choices, such as ``model=mlp objective=elbo``.
        """
        named = (*self.needs, *(turn for turn in dict.fromkeys(self.turns) if turn is not None))
        missing = [name for name in named if not hasattr(model, name)]
        if missing:
            us, it = type(self).__name__, type(model).__name__
            raise ValueError(f"{us} needs a model with {' and '.join(missing)}, which {it} lacks")

    @property
    def unattackable(self) -> str | None:
        """Why no adversary can change the inputs so that the loss rises, in words; None if one can."""
        if self.facts.vocabulary is not None:
            return "its inputs are tokens, which have no nearby points"
        if len(self.turns) > 1:
            return f"{type(self).__name__} has losses in turn, and none to attack"
        return None

    def against(self, adversary: Adversary) -> None:
        """Lets an adversary change the inputs of training; evaluations have ``robust_…`` metrics, too.

        These are the loss and the accuracy (for numbers the rmse) on inputs that it changed.

        Raises:
            ValueError: it cannot.
        """
        if why := self.unattackable:
            raise ValueError(f"adversary={adversary.kind}: {why}; use none")
        self.adversary = adversary
        self.evaluated += tuple(f"robust_{name}" for name in self.robust)
        self.higher_is_better += tuple(f"robust_{name}" for name in self.robust if name in self.higher_is_better)

    @property
    def robust(self) -> tuple[str, ...]:
        """The metrics that are measured on changed inputs, too."""
        return tuple(dict.fromkeys((next(name for name in MAIN if name in self.metrics), "loss")))

    def prepare(self, dataset: Dataset, split: str) -> None:
        """Called before each evaluation of a split."""
        return

    def begin(self) -> None:
        """Reads what the objective needs from elsewhere, before a new run starts.

        Raises:
            Refused, ValueError: it cannot be used.
        """
        return

    def state(self) -> dict[str, Any]:
        """What checkpoints keep of the objective: tensors and plain data."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes what a checkpoint kept."""
        return

    def about(self) -> str | None:
        """A line about the objective for a run's log."""
        return None

    def pictures(self, run: Any, split: str) -> Iterator[tuple[str, bytes]]:
        """Name and content of each further picture (PNG) of an evaluation.

        Args:
            run: has ``model``, ``dataset``, ``facts`` and ``device``; see :class:`trainer.analysis.load.Run`.
            split: of ``run.dataset``.
        """
        return iter(())

    def penalty(self, model: nn.Module) -> Tensor | float:
        """l2 * the sum of w^2 + l1 * the sum of |w| over the model's weights, a part of the loss."""
        if not self.l2 and not self.l1:
            return 0.0
        if self._penalized[0] is not model:  # found once, not in each step
            self._penalized = model, [p for p in weights(model) if p.requires_grad]
        penalized = self._penalized[1]
        return Penalty.apply(self.l2, self.l1, *penalized) if penalized else 0.0


class Supervised(Objective):
    """Compares outputs with targets. A subclass defines the comparison and the counts."""

    @abc.abstractmethod
    def compare(self, outputs: Any, y: Tensor, reduction: Reduction) -> Tensor:
        """The mean loss (), or the loss of each sample (B,) or (B, K)."""

    def count(self, outputs: Any, y: Tensor) -> Sums:
        """Sums for the metrics besides the loss."""
        return {}

    def count_more(self, outputs: Any, y: Tensor) -> Sums:
        """Further sums in evaluations."""
        return {}

    def keep(self, outputs: Any, y: Tensor) -> dict[str, Tensor]:
        """Tensors of each sample that an evaluation keeps."""
        return {}

    def weights(self, y: Tensor, given: Tensor | None) -> Tensor | None:
        """The weight of each sample (B,); None if all are equal."""
        return given

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums]:
        return self.loss_and_outputs(model, batch)[:2]

    def evaluate(self, model: nn.Module, batch: Batch) -> tuple[Sums, dict[str, Tensor]]:
        _, sums, outputs, y = self.loss_and_outputs(model, batch)
        return sums | self.count_more(outputs, y), self.keep(outputs, y)

    def loss_and_outputs(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums, Any, Tensor]:
        """Loss, sums, outputs and targets of a batch."""
        x, y = batch[:2]
        outputs = in_full(model(x))
        w = self.weights(y, batch[2] if len(batch) > 2 else None)
        weight: Tensor | int = len(y)
        if w is None:
            loss = self.compare(outputs, y, "mean")
        else:
            losses, weight = self.compare(outputs, y, "none"), w.sum()
            losses_B = losses if losses.ndim == 1 else losses.mean(1)
            loss = (losses_B * w).sum() / weight.clamp_min(torch.finfo(w.dtype).tiny)  # 0 if all weights are 0
        if self.l2 or self.l1:
            loss = loss + self.penalty(model)
        with torch.no_grad():
            sums = {"loss": loss.detach() * weight, "weight": weight, "samples": len(y), **self.count(outputs, y)}
        return loss, sums, outputs, y


def in_full(outputs: Any) -> Any:
    """16-bit outputs of a model as 32 bits, whose digits a loss needs."""
    if isinstance(outputs, Mapping):
        return {k: in_full(v) for k, v in outputs.items()}
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
