"""Objectives: from a model and a batch to a loss and sums of metrics, all on the device.

An objective is one small object, built with the dataset's facts:

- ``__call__(model, batch) -> (loss, sums)``: `loss` a 0-d tensor to differentiate, a mean over the batch; `sums` a
  dict of numbers and 0-d tensors that the loop adds up over an epoch. ``samples`` is how many samples the batch has,
  ``weight`` how much it counts in a mean of losses, ``loss`` the loss times that weight.
- ``evaluate(model, batch) -> (sums, kept)``: the same where nothing is differentiated. Sums may be vectors here;
  `kept` holds tensors (B, ...) that are collected over the whole split, for what is no function of sums.
- ``finish(sums, kept) -> metrics``: from these, on the host, to the metrics that are shown.
- ``metrics``: the names of the metrics, the first of them ``loss``; ``evaluated``: those that only an evaluation has;
  ``higher_is_better``: those that `train.monitor` should maximize.
- ``turns``: see below.
- ``predict(model, x)``: what a model's user wants to know; ``truth(y)``: targets in the same terms.

It sees the model and the whole batch, so that a step need not be "outputs against targets": an autoencoder compares
with its input, a sequence model is given the targets, too. Losses that are minimized in turn over different parameters,
as those of a generator and a discriminator, are ``turns``: names of submodules. The loop then calls
``objective(model, batch, turn)`` once for each, differentiates by that submodule's parameters, and steps these alone.

A user's own objective is a file with such a class over :class:`Objective`, or :class:`Supervised` where outputs are
compared with targets, and a YAML in ``conf/objective/``.

Shapes: B batch, K classes or outputs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data import Batch, Facts

Sums = dict[str, Any]
ClassWeights = Literal["none", "balanced"] | Sequence[float]

TOP5_FROM = 20  # classes


class Objective:
    """What all objectives share. Subclasses name the task that they are for.

    Args:
        facts: of the dataset.
        l2, l1: what the sum of squares, and of absolute values, of the model's weights adds to the loss, times this.
            Weights are the parameters of two or more axes: biases and the scales of norms are free.

    Raises:
        ValueError: `name=value: what would be right`; a dataset of another task.
    """

    task: str
    metrics: tuple[str, ...] = ("loss",)
    evaluated: tuple[str, ...] = ()
    higher_is_better: tuple[str, ...] = ()
    turns: tuple[str | None, ...] = (None,)
    takes_mixed_labels = False  # probabilities instead of class numbers, as mixup makes them

    def __init__(self, facts: Facts, *, l2: float = 0.0, l1: float = 0.0):
        if facts.task != self.task:
            raise ValueError(f"task={facts.task}: {type(self).__name__} needs a dataset whose task is {self.task}")
        for name, value in (("l2", l2), ("l1", l1)):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value}: must be at least 0, and finite")
        self.facts, self.l2, self.l1 = facts, l2, l1

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums]:
        raise NotImplementedError

    def evaluate(self, model: nn.Module, batch: Batch) -> tuple[Sums, dict[str, Tensor]]:
        """Sums of a batch, and what is to be kept of it; nothing is differentiated."""
        return self(model, batch)[1], {}

    def finish(self, sums: Mapping[str, Any], kept: Mapping[str, np.ndarray] | None = None) -> dict[str, float]:
        """Sums over samples, as numbers -> metrics."""
        means = {k: v / sums["samples"] for k, v in sums.items() if k in self.metrics}
        return means | {"loss": sums["loss"] / sums["weight"] if sums["weight"] else math.nan}

    def predict(self, model: nn.Module, x: Tensor) -> Any:
        """What the model says of inputs ready for it; see the subclasses."""
        raise NotImplementedError

    def truth(self, y: Tensor) -> Tensor:
        """Targets as they are trained on -> in the terms of :meth:`predict`."""
        return y

    def penalty(self, model: nn.Module) -> Tensor | float:
        """l2 * the sum of w^2 + l1 * the sum of |w| over the model's weights; it belongs to the loss."""
        if not self.l2 and not self.l1:
            return 0.0
        weights = [p for p in model.parameters() if p.ndim >= 2 and p.requires_grad]
        terms = [self.l2 * w.square().sum() for w in weights] if self.l2 else []
        terms += [self.l1 * w.abs().sum() for w in weights] if self.l1 else []
        return torch.stack(terms).sum() if terms else 0.0


class Supervised(Objective):
    """Outputs against targets. A subclass says how the two are compared, and what is counted."""

    def compare(self, outputs: Any, y: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
        """The mean loss (), or that of each sample (B,) or (B, K)."""
        raise NotImplementedError

    def count(self, outputs: Any, y: Tensor) -> Sums:
        """Sums of the metrics besides the loss."""
        return {}

    def count_more(self, outputs: Any, y: Tensor) -> Sums:
        """Sums that only an evaluation has."""
        return {}

    def keep(self, outputs: Any, y: Tensor) -> dict[str, Tensor]:
        """What an evaluation keeps of each sample."""
        return {}

    def weights(self, y: Tensor, given: Tensor | None) -> Tensor | None:
        """How much each sample counts (B,); None: all the same."""
        return given

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums]:
        return self.measured(model, batch)[:2]

    def evaluate(self, model: nn.Module, batch: Batch) -> tuple[Sums, dict[str, Tensor]]:
        _, sums, outputs, y = self.measured(model, batch)
        return sums | self.count_more(outputs, y), self.keep(outputs, y)

    def measured(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Sums, Any, Tensor]:
        """Loss, sums, outputs and targets of a batch."""
        x, y = batch[:2]
        outputs = in_full(model(x))
        w = self.weights(y, batch[2] if len(batch) > 2 else None)
        if w is None:
            loss, weight = self.compare(outputs, y, "mean"), len(y)
        else:
            losses, weight = self.compare(outputs, y, "none"), w.sum()
            losses_B = losses if losses.ndim == 1 else losses.mean(1)
            loss = (losses_B * w).sum() / weight.clamp_min(torch.finfo(w.dtype).tiny)  # 0 where nothing has a weight
        if self.l2 or self.l1:
            loss = loss + self.penalty(model)
        with torch.no_grad():
            sums = {"loss": loss.detach() * weight, "weight": weight, "samples": len(y), **self.count(outputs, y)}
        return loss, sums, outputs, y


class Classes(Supervised):
    """What objectives over K classes share: class weights and metrics.

    Targets are class numbers (B,), or probabilities (B, K) where labels are mixed; accuracy against these is the
    probability of the class that was chosen, as in mixup's reference code.

    Args:
        facts: of the dataset; its task must be ``classification``.
        class_weights: how much the samples of each class count in the loss: ``none``: all the same; ``balanced``:
            N / (K * N_k), as scikit-learn has it, so that every class counts the same; or a number for each class.
        l2, l1: see :class:`Objective`.
    """

    task = "classification"
    higher_is_better = ("accuracy", "top5", "balanced_accuracy", "f1")
    evaluated = ("balanced_accuracy", "f1")

    def __init__(self, facts: Facts, *, class_weights: ClassWeights = "none", l2: float = 0.0, l1: float = 0.0):
        super().__init__(facts, l2=l2, l1=l1)
        self.class_weights = class_weight_tensor(class_weights, facts)
        top5 = ("top5",) if self.task == "classification" and facts.num_outputs >= TOP5_FROM else ()
        self.metrics = ("loss", "accuracy", *top5)

    def weights(self, y: Tensor, given: Tensor | None) -> Tensor | None:
        if self.class_weights is None:
            return given
        self.class_weights = self.class_weights.to(y.device)
        own = self.class_weights[y] if y.ndim == 1 else y @ self.class_weights.to(y.dtype)
        return own if given is None else own * given

    def chosen(self, logits_BK: Tensor) -> Tensor:
        """Class numbers (B,)."""
        return logits_BK.argmax(1)

    def count(self, logits_BK: Tensor, y: Tensor) -> Sums:
        chosen_B = self.chosen(logits_BK)
        if y.ndim == 2:
            return {"accuracy": y.gather(1, chosen_B[:, None]).sum()} | (
                {"top5": y.gather(1, logits_BK.topk(5).indices).sum()} if "top5" in self.metrics else {}
            )
        sums = {"accuracy": (chosen_B == y).sum()}
        if "top5" in self.metrics:
            sums["top5"] = (logits_BK.topk(5).indices == y[:, None]).sum()
        return sums

    def count_more(self, logits_BK: Tensor, y: Tensor) -> Sums:
        chosen_B, K = self.chosen(logits_BK), 2 if self.task == "binary" else self.facts.num_outputs
        return {
            "of_class": occurrences(y, K),
            "chosen": occurrences(chosen_B, K),
            "right": occurrences(y, K, chosen_B == y),
        }

    def finish(self, sums: Mapping[str, Any], kept: Mapping[str, np.ndarray] | None = None) -> dict[str, float]:
        metrics = super().finish(sums, kept)
        if "right" in sums:
            of_class, right = np.asarray(sums["of_class"]), np.asarray(sums["right"])
            there = of_class > 0
            metrics["balanced_accuracy"] = float((right[there] / of_class[there]).mean())
            metrics["f1"] = macro_f1(right, of_class, np.asarray(sums["chosen"]))
        return metrics

    def predict(self, model: nn.Module, x: Tensor) -> Tensor:
        """Probabilities (B, K)."""
        return in_full(model(x)).softmax(1)


class CrossEntropy(Classes):
    """Softmax cross-entropy over K classes.

    Args:
        facts, class_weights, l2, l1: see :class:`Classes`.
        label_smoothing: in [0, 1).

    Raises:
        ValueError: `name=value: what would be right`.
    """

    takes_mixed_labels = True

    def __init__(
        self,
        facts: Facts,
        *,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = "none",
        l2: float = 0.0,
        l1: float = 0.0,
    ):
        super().__init__(facts, class_weights=class_weights, l2=l2, l1=l1)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must be in [0, 1)")
        self.label_smoothing = label_smoothing

    def compare(self, logits_BK: Tensor, y: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
        return F.cross_entropy(logits_BK, y, label_smoothing=self.label_smoothing, reduction=reduction)


class Hinge(Classes):
    """Multi-class hinge loss: the mean over K classes of max(0, margin - s_y + s_k)^p, k other than y.

    Source: Weston & Watkins 1999, as :func:`torch.nn.functional.multi_margin_loss` has it.

    Args:
        facts, class_weights, l2, l1: see :class:`Classes`.
        margin: by how much the right class should lead.
        p: 1, or 2 for the squared hinge.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    def __init__(
        self,
        facts: Facts,
        *,
        margin: float = 1.0,
        p: Literal[1, 2] = 1,
        class_weights: ClassWeights = "none",
        l2: float = 0.0,
        l1: float = 0.0,
    ):
        super().__init__(facts, class_weights=class_weights, l2=l2, l1=l1)
        if not 0 < margin < math.inf:
            raise ValueError(f"margin={margin}: must be greater than 0, and finite")
        self.margin, self.p = margin, p

    def compare(self, scores_BK: Tensor, y: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
        return F.multi_margin_loss(scores_BK, y, p=self.p, margin=self.margin, reduction=reduction)


class BinaryCrossEntropy(Classes):
    """Sigmoid cross-entropy of one logit (B, 1) against targets 0 and 1 (B,).

    Args:
        facts: of the dataset; its task must be ``binary``.
        class_weights, l2, l1: see :class:`Classes`.
    """

    task = "binary"
    evaluated = ("balanced_accuracy", "f1", "auroc")
    higher_is_better = (*Classes.higher_is_better, "auroc")

    def compare(self, logits_B1: Tensor, y: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits_B1, y.view(-1, 1).to(logits_B1.dtype), reduction=reduction)

    def chosen(self, logits_B1: Tensor) -> Tensor:
        return (logits_B1[:, 0] > 0).long()

    def keep(self, logits_B1: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"logits": logits_B1[:, 0], "y": y}

    def finish(self, sums: Mapping[str, Any], kept: Mapping[str, np.ndarray] | None = None) -> dict[str, float]:
        metrics = super().finish(sums, kept)
        if kept:
            metrics["auroc"] = area_under_roc(kept["y"], kept["logits"])
        return metrics

    def predict(self, model: nn.Module, x: Tensor) -> Tensor:
        """Probabilities (B, 2) of the two classes."""
        p_B = in_full(model(x))[:, 0].sigmoid()
        return torch.stack([1 - p_B, p_B], 1)


class MultiLabel(Supervised):
    """Sigmoid cross-entropy of K logits against K targets 0 and 1 each; accuracy is the share of right ones.

    ``f1`` is the mean over the labels.
    """

    task = "multilabel"
    metrics = ("loss", "accuracy")
    evaluated = ("f1",)
    higher_is_better = ("accuracy", "f1")

    def compare(self, logits_BK: Tensor, y_BK: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits_BK, y_BK.to(logits_BK.dtype), reduction=reduction)

    def count(self, logits_BK: Tensor, y_BK: Tensor) -> Sums:
        return {"accuracy": ((logits_BK > 0) == (y_BK > 0)).sum() / y_BK.shape[1]}

    def count_more(self, logits_BK: Tensor, y_BK: Tensor) -> Sums:
        chosen, true = logits_BK > 0, y_BK > 0
        return {"of_class": true.sum(0), "chosen": chosen.sum(0), "right": (chosen & true).sum(0)}

    def finish(self, sums: Mapping[str, Any], kept: Mapping[str, np.ndarray] | None = None) -> dict[str, float]:
        metrics = super().finish(sums, kept)
        if "right" in sums:
            right, of_class, chosen = (np.asarray(sums[k]) for k in ("right", "of_class", "chosen"))
            metrics["f1"] = float((2 * right / np.maximum(of_class + chosen, 1)).mean())
        return metrics

    def predict(self, model: nn.Module, x: Tensor) -> Tensor:
        """The probability of each label (B, K)."""
        return in_full(model(x)).sigmoid()


class MultiTask(Supervised):
    """The weighted sum of the heads' softmax cross-entropies.

    The model returns a mapping head -> logits; targets are class numbers (B, heads).
    ``accuracy`` is the mean over the heads, ``accuracy_HEAD`` that of one.

    Args:
        facts: of the dataset; its task must be ``multitask``.
        weights: of each head's loss: head -> number; those not named count 1. null: all 1.
        l2, l1: see :class:`Objective`.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    task = "multitask"

    def __init__(self, facts: Facts, *, weights: dict[str, float] | None = None, l2: float = 0.0, l1: float = 0.0):
        super().__init__(facts, l2=l2, l1=l1)
        self.heads = tuple(facts.num_outputs)
        given = weights or {}
        for head, weight in given.items():
            if head not in self.heads:
                raise ValueError(f"weights.{head}={weight}: there is no such head; there are {', '.join(self.heads)}")
            if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight < math.inf:
                raise ValueError(f"weights.{head}={weight}: must be a number, at least 0, and finite")
        self.head_weights = {head: given.get(head, 1.0) for head in self.heads}
        self.metrics = ("loss", "accuracy", *(f"accuracy_{head}" for head in self.heads))
        self.higher_is_better = self.metrics[1:]

    def compare(self, logits: Mapping[str, Tensor], y_BH: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
        pairs = zip(self.heads, y_BH.unbind(1), strict=True)
        return sum(self.head_weights[h] * F.cross_entropy(logits[h], y, reduction=reduction) for h, y in pairs)

    def count(self, logits: Mapping[str, Tensor], y_BH: Tensor) -> Sums:
        pairs = zip(self.heads, y_BH.unbind(1), strict=True)
        right = {f"accuracy_{h}": (logits[h].argmax(1) == y).sum() for h, y in pairs}
        return {"accuracy": sum(right.values()) / len(self.heads), **right}

    def predict(self, model: nn.Module, x: Tensor) -> dict[str, Tensor]:
        """Head -> probabilities (B, classes of the head)."""
        return {head: in_full(logits).softmax(1) for head, logits in model(x).items()}


class Regression(Supervised):
    """What objectives of numbers share. The loss is of targets as they are trained on, a mean over samples and outputs.

    The other metrics are in the targets' own units: ``mae``, ``rmse``, both over all outputs at once, and ``r2``, the
    mean over the outputs.
    """

    task = "regression"
    metrics = ("loss", "mae", "rmse")
    evaluated = ("r2",)
    higher_is_better = ("r2",)

    def count(self, outputs_BK: Tensor, y_BK: Tensor) -> Sums:
        error_BK = (outputs_BK - y_BK) * self._on(y_BK)[1]
        return {"mae": error_BK.abs().mean(1).sum(), "rmse": error_BK.square().mean(1).sum()}

    def keep(self, outputs_BK: Tensor, y_BK: Tensor) -> dict[str, Tensor]:
        return {"outputs": outputs_BK, "y": y_BK}

    def finish(self, sums: Mapping[str, Any], kept: Mapping[str, np.ndarray] | None = None) -> dict[str, float]:
        metrics = super().finish(sums, kept)
        metrics["rmse"] = math.sqrt(metrics["rmse"])
        if kept:
            metrics["r2"] = r_squared(kept["y"], kept["outputs"])
        return metrics

    def predict(self, model: nn.Module, x: Tensor) -> Tensor:
        """Values (B, K) in the targets' own units."""
        return self.truth(in_full(model(x)))

    def truth(self, y: Tensor) -> Tensor:
        """Values (B, K), normalized -> in their own units."""
        mean, std = self._on(y)
        return y * std + mean

    def _on(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation that targets were normalized by, where `like` is."""
        if not hasattr(self, "_units") or self._units[0].device != like.device:
            self._units = self.facts.target_mean.to(like.device), self.facts.target_std.to(like.device)
        return self._units


class MeanSquaredError(Regression):
    """The mean of (output - target)^2."""

    def compare(self, outputs_BK: Tensor, y_BK: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
        return F.mse_loss(outputs_BK, y_BK, reduction=reduction)


class MeanAbsoluteError(Regression):
    """The mean of |output - target|."""

    def compare(self, outputs_BK: Tensor, y_BK: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
        return F.l1_loss(outputs_BK, y_BK, reduction=reduction)


class Huber(Regression):
    """The mean of e^2 / 2 where the error e is at most `delta`, of delta (|e| - delta / 2) elsewhere.

    Source: Huber 1964, equation 2.1 of "Robust estimation of a location parameter".

    Args:
        facts: of the dataset; its task must be ``regression``.
        delta: in the units that targets are trained in.
        l2, l1: see :class:`Objective`.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    def __init__(self, facts: Facts, *, delta: float = 1.0, l2: float = 0.0, l1: float = 0.0):
        super().__init__(facts, l2=l2, l1=l1)
        if not 0 < delta < math.inf:
            raise ValueError(f"delta={delta}: must be greater than 0, and finite")
        self.delta = delta

    def compare(self, outputs_BK: Tensor, y_BK: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
        return F.huber_loss(outputs_BK, y_BK, delta=self.delta, reduction=reduction)


OF_TASK = {o.task: o for o in (CrossEntropy, BinaryCrossEntropy, MultiLabel, MultiTask, MeanSquaredError)}


def for_task(facts: Facts, *, l2: float = 0.0, l1: float = 0.0) -> Objective:
    """The default objective of a dataset's task."""
    return OF_TASK[facts.task](facts, l2=l2, l1=l1)


def class_weight_tensor(given: ClassWeights, facts: Facts) -> Tensor | None:
    """The weight of each class (K,), or None where all are the same.

    Raises:
        ValueError: not a number for each class, or none above 0.
    """
    if given == "none":
        return None
    counts = facts.class_counts
    if given == "balanced":
        empty = [k for k, n in enumerate(counts) if n == 0]
        if empty:
            name = repr(facts.class_names[empty[0]]) if facts.class_names else empty[0]
            raise ValueError(f"class_weights=balanced: the training split has no sample of class {name}")
        return torch.tensor([sum(counts) / (len(counts) * n) for n in counts])
    shown = f"[{','.join(map(str, given))}]"
    if len(given) != len(counts):
        raise ValueError(f"class_weights={shown}: must be {len(counts)} numbers, one for each class")
    if not all(0 <= w < math.inf for w in given) or not any(given):
        raise ValueError(f"class_weights={shown}: must be finite numbers, at least 0 each, and not all 0")
    return torch.tensor([float(w) for w in given])


def in_full(outputs: Any) -> Any:
    """Outputs of a model in 16 bits, as 32: a loss needs the digits."""
    if isinstance(outputs, Mapping):
        return {k: in_full(v) for k, v in outputs.items()}
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs


def occurrences(numbers: Tensor, K: int, which: Tensor | None = None) -> Tensor:
    """How often each of 0 ... K - 1 is among `numbers` (B,), or among those `which` (B,) marks: (K,).

    torch.bincount would wait for the device.
    """
    counted = torch.ones_like(numbers) if which is None else which.to(numbers.dtype)
    return torch.zeros(K, dtype=numbers.dtype, device=numbers.device).scatter_add_(0, numbers, counted)


def macro_f1(right: np.ndarray, of_class: np.ndarray, chosen: np.ndarray) -> float:
    """The mean of the classes' F1 = 2 right / (of_class + chosen), of those that are there or were chosen."""
    total = of_class + chosen
    return float((2 * right[total > 0] / total[total > 0]).mean())


def area_under_roc(y: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve; NaN where only one class is there, or a score is no number."""
    from sklearn.metrics import roc_auc_score  # a second and a half: only where it is needed

    if len(np.unique(y)) < 2 or not np.isfinite(scores).all():
        return math.nan
    return float(roc_auc_score(y, scores))


def r_squared(y: np.ndarray, outputs: np.ndarray) -> float:
    """Coefficient of determination, the mean over outputs; NaN for one sample, or outputs that are no number."""
    from sklearn.metrics import r2_score

    if len(y) < 2 or not np.isfinite(outputs).all():
        return math.nan
    return float(r2_score(y, outputs))
