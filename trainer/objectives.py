"""Objectives: from a model and a batch to a loss and sums of metrics, all on the device.

An objective is one small object with

- ``__call__(model, batch) -> (loss, sums)``: `loss` a 0-d tensor to differentiate, `sums` a dict of 0-d tensors,
  each summed over the batch's samples; the loop divides by the number of samples once an epoch;
- ``metrics``: the names in `sums`, the first of them ``loss``;
- ``higher_is_better``: those that `train.monitor` should maximize.

It sees the model and the whole batch, so that a step need not be "outputs against targets". A user's own objective
is a file with such a class and a YAML in ``conf/objective/``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CrossEntropy:
    """Softmax cross-entropy and accuracy over K classes.

    Args:
        task: of the dataset; must be ``classification``.
        label_smoothing: in [0, 1).

    Raises:
        ValueError: another task, or a smoothing outside its range.
    """

    metrics = ("loss", "accuracy")
    higher_is_better = ("accuracy",)

    def __init__(self, task: str, *, label_smoothing: float = 0.0):
        if task != "classification":
            raise ValueError(f"task={task}: cross-entropy needs a dataset whose task is classification")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must be in [0, 1)")
        self.label_smoothing = label_smoothing

    def __call__(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        x, y_B = batch
        logits_BK = model(x)
        loss = F.cross_entropy(logits_BK, y_B, label_smoothing=self.label_smoothing)
        with torch.no_grad():
            correct = (logits_BK.argmax(1) == y_B).sum()
            return loss, {"loss": loss.detach() * len(y_B), "accuracy": correct}


def for_task(task: str) -> CrossEntropy:
    """The default objective of a dataset's task.

    Raises:
        ValueError: no objective fits the task.
    """
    return CrossEntropy(task)
