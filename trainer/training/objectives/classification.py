"""Objectives of classification: of classes, binary, of several labels, with several heads.

Run: ``python -m trainer objective=hinge objective.class_weights=balanced``

Shapes: B batch, K classes or labels, H heads.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data import Facts
from trainer.training.objectives.counts import area_under_roc, macro_f1, occurrences
from trainer.training.objectives.objective import Reduction, Sums, Supervised, in_full

ClassWeights = Literal["none", "balanced"] | Sequence[float]

TOP5_FROM = 20  # classes
RAREST = 1e-6  # share of a class that a constant output does not leave out


class Classes(Supervised):
    """Base of objectives over K classes: class weights and metrics.

    Targets are class numbers (B,), or probabilities (B, K) if labels are mixed; then the accuracy is the probability
    of the predicted class, as in mixup's reference code.

    Args:
        facts: of the dataset; its task must be ``classification``.
        class_weights: the weight of each class in the loss: ``none``: equal for all samples; ``balanced``:
            N / (K * N_k), as in scikit-learn, so that every class counts the same; or a number for each class.
        l2, l1: see :class:`Objective`.
    """

    task = "classification"
    higher_is_better: tuple[str, ...] = ("accuracy", "top5", "balanced_accuracy", "f1")
    evaluated: tuple[str, ...] = ("balanced_accuracy", "f1")

    def __init__(self, facts: Facts, *, class_weights: ClassWeights = "none", l2: float = 0.0, l1: float = 0.0):
        super().__init__(facts, l2=l2, l1=l1)
        self.class_weights = class_weight_tensor(class_weights, facts)
        top5 = ("top5",) if self.task == "classification" and facts.num_classes >= TOP5_FROM else ()
        self.metrics = ("loss", "accuracy", *top5)

    def weights(self, y: Tensor, given: Tensor | None) -> Tensor | None:
        if self.class_weights is None:
            return given
        self.class_weights = self.class_weights.to(y.device)
        own = (
            self.class_weights[y] if y.ndim == 1 else (y * self.class_weights).sum(1)
        )  # a matmul loses digits in 16 bits
        return own if given is None else own * given

    def chance(self, y: Tensor) -> float | None:
        """That of the frequencies of the classes."""
        assert self.facts.class_counts is not None  # of a task with classes
        counts = torch.tensor(self.facts.class_counts, dtype=torch.float32)
        of_class = counts if self.class_weights is None else counts * self.class_weights.cpu()
        share = of_class / of_class.sum()
        k = torch.arange(len(share))
        return float((share * self.compare(self.constant(share).expand(len(k), -1), k, "none").view(-1)).sum())

    def constant(self, share_K: Tensor) -> Tensor:
        """The output (K,) or (1,) whose probabilities are these."""
        return share_K.clamp(min=RAREST).log()

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
        chosen_B, K = self.chosen(logits_BK), self.facts.num_classes
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
        label_smoothing: share of each target that is spread over all classes, in [0, 1).

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

    def compare(self, logits_BK: Tensor, y: Tensor, reduction: Reduction) -> Tensor:
        return F.cross_entropy(logits_BK, y, label_smoothing=self.label_smoothing, reduction=reduction)


class Hinge(Classes):
    """Multi-class hinge loss: the mean over K classes of max(0, margin - s_y + s_k)^p, k other than y.

    Source: Weston & Watkins 1999, as in :func:`torch.nn.functional.multi_margin_loss`.

    Args:
        facts, class_weights, l2, l1: see :class:`Classes`.
        margin: the lead that the score of the right class should have, > 0.
        p: power of what is missing of the margin; 2 is the squared hinge.

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

    def compare(self, scores_BK: Tensor, y: Tensor, reduction: Reduction) -> Tensor:
        return F.multi_margin_loss(scores_BK, y, p=self.p, margin=self.margin, reduction=reduction)


class Brier(Classes):
    """The Brier score: the sum over K classes of (softmax probability - target)^2, least squares of classes.

    Source: Brier 1950, with targets 0 and 1, or probabilities if labels are mixed.

    Args:
        facts, class_weights, l2, l1: see :class:`Classes`.
    """

    takes_mixed_labels = True

    def compare(self, logits_BK: Tensor, y: Tensor, reduction: Reduction) -> Tensor:
        y_BK = y if y.ndim == 2 else F.one_hot(y, logits_BK.shape[1])
        loss_B = (logits_BK.softmax(1) - y_BK).square().sum(1)
        return loss_B if reduction == "none" else loss_B.mean()


class BinaryCrossEntropy(Classes):
    """Sigmoid cross-entropy of one logit (B, 1) against targets 0 and 1 (B,).

    Args:
        facts: of the dataset; its task must be ``binary``.
        class_weights, l2, l1: see :class:`Classes`.
    """

    task = "binary"
    evaluated = ("balanced_accuracy", "f1", "auroc")
    higher_is_better = (*Classes.higher_is_better, "auroc")

    def compare(self, logits_B1: Tensor, y: Tensor, reduction: Reduction) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits_B1, y.view(-1, 1).to(logits_B1.dtype), reduction=reduction)

    def constant(self, share_K: Tensor) -> Tensor:
        return share_K[1:].clamp(RAREST, 1 - RAREST).logit()

    def chosen(self, logits_B1: Tensor) -> Tensor:
        return (logits_B1[:, 0] > 0).long()

    def keep(self, logits_B1: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"logits": logits_B1[:, 0], "y": y}

    def finish(self, sums: Mapping[str, Any], kept: Mapping[str, np.ndarray] | None = None) -> dict[str, float]:
        metrics = super().finish(sums, kept)
        if kept:
            metrics["auroc"] = area_under_roc(kept["y"], kept["logits"])
        return metrics

    def why_undefined(self, metric: str, y: Tensor) -> str | None:
        if metric != "auroc" or (y != y[0]).any():
            return None
        return f"has one class ({self.facts.output_names[''][int(y[0])]})"

    def predict(self, model: nn.Module, x: Tensor) -> Tensor:
        """Probabilities (B, 2) of the two classes."""
        p_B = in_full(model(x))[:, 0].sigmoid()
        return torch.stack([1 - p_B, p_B], 1)


class MultiLabel(Supervised):
    """Sigmoid cross-entropy of K logits against K targets 0 and 1 each; accuracy is the share of right labels.

    ``f1`` is the mean over the labels.
    """

    task = "multilabel"
    metrics = ("loss", "accuracy")
    evaluated = ("f1",)
    higher_is_better = ("accuracy", "f1")

    def compare(self, logits_BK: Tensor, y_BK: Tensor, reduction: Reduction) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits_BK, y_BK.to(logits_BK.dtype), reduction=reduction)

    def chance(self, y: Tensor) -> float | None:
        constant = y.float().mean(0).clamp(RAREST, 1 - RAREST).logit()
        return float(self.compare(constant.expand(y.shape), y, "mean"))

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
        weights: of each head's loss: head -> number, such as {age: 1, gender: 0.5}; null: 1 each.
        l2, l1: see :class:`Objective`.

    Raises:
        ValueError: `name=value: what would be right`.
    """

    task = "multitask"

    def __init__(self, facts: Facts, *, weights: dict[str, float] | None = None, l2: float = 0.0, l1: float = 0.0):
        super().__init__(facts, l2=l2, l1=l1)
        self.heads = tuple(facts.heads)
        given = weights or {}
        for head, weight in given.items():
            if head not in self.heads:
                raise ValueError(f"weights.{head}={weight}: no such head; there are {', '.join(self.heads)}")
            if not isinstance(weight, int | float) or isinstance(weight, bool) or not 0 <= weight < math.inf:
                raise ValueError(f"weights.{head}={weight}: must be a number, at least 0, and finite")
        self.head_weights = {head: given.get(head, 1.0) for head in self.heads}
        self.metrics = ("loss", "accuracy", *(f"accuracy_{head}" for head in self.heads))
        self.higher_is_better = self.metrics[1:]

    def compare(self, logits: Mapping[str, Tensor], y_BH: Tensor, reduction: Reduction) -> Tensor:
        pairs = zip(self.heads, y_BH.unbind(1), strict=True)
        losses = (self.head_weights[h] * F.cross_entropy(logits[h], y, reduction=reduction) for h, y in pairs)
        return functools.reduce(torch.add, losses)

    def chance(self, y: Tensor) -> float | None:
        losses = 0.0
        for (head, size), of_head in zip(self.facts.heads.items(), y.unbind(1), strict=True):
            share = torch.bincount(of_head, minlength=size) / len(of_head)
            losses -= self.head_weights[head] * float(torch.xlogy(share, share).sum())
        return losses

    def count(self, logits: Mapping[str, Tensor], y_BH: Tensor) -> Sums:
        pairs = zip(self.heads, y_BH.unbind(1), strict=True)
        right = {f"accuracy_{h}": (logits[h].argmax(1) == y).sum() for h, y in pairs}
        return {"accuracy": sum(right.values()) / len(self.heads), **right}

    def predict(self, model: nn.Module, x: Tensor) -> dict[str, Tensor]:
        """Head -> probabilities (B, classes of the head)."""
        return {head: in_full(logits).softmax(1) for head, logits in model(x).items()}


def class_weight_tensor(given: ClassWeights, facts: Facts) -> Tensor | None:
    """The weight of each class (K,), or None if all are equal.

    Raises:
        ValueError: not a number for each class, or all are 0.
    """
    if given == "none":
        return None
    counts = facts.class_counts
    assert counts is not None  # classification tasks only
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
