"""Objectives: from a model and a batch to a loss and sums of metrics, all on the device.

An objective is one small object with

- ``__call__(model, batch) -> (loss, sums)``: `loss` a 0-d tensor to differentiate, `sums` a dict of 0-d tensors,
  each summed over the batch's samples; the loop divides by the number of samples once an epoch;
- ``finish(means) -> metrics``: from these averages, as floats, to the metrics that are shown;
- ``metrics``: the names of the metrics, the first of them ``loss``;
- ``higher_is_better``: those that `train.monitor` should maximize.

It sees the model and the whole batch, so that a step need not be "outputs against targets". It is built with the
dataset's facts. A user's own objective is a file with such a class over :class:`Objective` and a YAML in
``conf/objective/``.

Shapes: B batch, K classes or outputs.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data import Facts

Batch = tuple[Tensor, Tensor]
Sums = dict[str, Tensor]


class Objective:
    """What all objectives share. Subclasses name the task that they are for."""

    task: str
    metrics: tuple[str, ...]
    higher_is_better: tuple[str, ...] = ()

    def __init__(self, facts: Facts):
        if facts.task != self.task:
            raise ValueError(f"task={facts.task}: {type(self).__name__} needs a dataset whose task is {self.task}")

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums]:
        raise NotImplementedError

    def finish(self, means: dict[str, float]) -> dict[str, float]:
        """Averages over samples -> metrics."""
        return means


class CrossEntropy(Objective):
    """Softmax cross-entropy and accuracy over K classes; targets are class numbers (B,) or probabilities (B, K).

    Accuracy against probabilities is the probability of the class that was chosen, as in mixup's reference code.

    Args:
        facts: of the dataset; its task must be ``classification``.
        label_smoothing: in [0, 1).

    Raises:
        ValueError: another task, or a smoothing outside its range.
    """

    task = "classification"
    metrics = ("loss", "accuracy")
    higher_is_better = ("accuracy",)

    def __init__(self, facts: Facts, *, label_smoothing: float = 0.0):
        super().__init__(facts)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must be in [0, 1)")
        self.label_smoothing = label_smoothing

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums]:
        x, y = batch
        logits_BK = model(x)
        loss = F.cross_entropy(logits_BK, y, label_smoothing=self.label_smoothing)
        with torch.no_grad():
            chosen_B = logits_BK.argmax(1)
            correct = (chosen_B == y).sum() if y.ndim == 1 else y.gather(1, chosen_B[:, None]).sum()
            return loss, {"loss": loss.detach() * len(y), "accuracy": correct}


class SigmoidCrossEntropy(Objective):
    """Sigmoid cross-entropy of K logits against K targets 0 and 1 each; accuracy is the share of right ones."""

    metrics = ("loss", "accuracy")
    higher_is_better = ("accuracy",)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums]:
        x, y = batch
        logits_BK, y_BK = model(x), y.view(len(y), -1)
        loss = F.binary_cross_entropy_with_logits(logits_BK, y_BK.to(logits_BK.dtype))
        with torch.no_grad():
            correct = ((logits_BK > 0) == (y_BK > 0)).sum() / y_BK.shape[1]
            return loss, {"loss": loss.detach() * len(y), "accuracy": correct}


class BinaryCrossEntropy(SigmoidCrossEntropy):
    """Of one logit (B, 1) against targets 0 and 1 (B,)."""

    task = "binary"


class MultiLabel(SigmoidCrossEntropy):
    """Of a logit for each label."""

    task = "multilabel"


class MultiTask(Objective):
    """The sum of the heads' softmax cross-entropies.

    The model returns a mapping head -> logits; targets are class numbers (B, heads).

    ``accuracy`` is the mean over the heads, ``accuracy_HEAD`` that of one.
    """

    task = "multitask"

    def __init__(self, facts: Facts):
        super().__init__(facts)
        self.heads = tuple(facts.num_outputs)
        self.metrics = ("loss", "accuracy", *(f"accuracy_{head}" for head in self.heads))
        self.higher_is_better = self.metrics[1:]

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums]:
        x, y = batch
        logits, y_of = model(x), dict(zip(self.heads, y.unbind(1), strict=True))
        loss = sum(F.cross_entropy(logits[head], y_of[head]) for head in self.heads)
        with torch.no_grad():
            correct = {f"accuracy_{head}": (logits[head].argmax(1) == y_of[head]).sum() for head in self.heads}
            mean = sum(correct.values()) / len(self.heads)
            return loss, {"loss": loss.detach() * len(y), "accuracy": mean, **correct}


class MeanSquaredError(Objective):
    """Mean squared error over samples and outputs, of targets as they are trained on.

    Metrics besides the loss are in the original units of the targets, averaged over the outputs.
    """

    task = "regression"
    metrics = ("loss", "mae", "rmse")

    def __init__(self, facts: Facts):
        super().__init__(facts)
        self.unit = facts.target_std

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums]:
        x, y_BK = batch
        outputs_BK = model(x)
        loss = F.mse_loss(outputs_BK, y_BK)
        with torch.no_grad():
            if self.unit.device != y_BK.device:
                self.unit = self.unit.to(y_BK.device)
            error_BK = (outputs_BK - y_BK) * self.unit
            return loss, {
                "loss": loss.detach() * len(y_BK),
                "mae": error_BK.abs().mean(1).sum(),
                "rmse": error_BK.square().mean(1).sum(),
            }

    def finish(self, means: dict[str, float]) -> dict[str, float]:
        return means | {"rmse": math.sqrt(means["rmse"])}


OF_TASK = {o.task: o for o in (CrossEntropy, BinaryCrossEntropy, MultiLabel, MultiTask, MeanSquaredError)}


def for_task(facts: Facts) -> Objective:
    """The default objective of a dataset's task."""
    return OF_TASK[facts.task](facts)
