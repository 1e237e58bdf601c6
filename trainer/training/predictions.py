"""Predictions beside the truth: as columns, as scores of each class, and the worst mistakes.

Predictions and truth are those of ``trainer.training.evaluation.predict_split``.

Shapes: N samples, K classes, labels or targets, D decisions per sample (one, or one for each head or label).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from data import Facts
from trainer.training.objectives import Objective, r_squared

Rows = list[dict[str, Any]]

MEASURES = ("precision", "recall", "f1")


class Head(NamedTuple):
    """One choice between classes; without heads, a network has one with the name ""."""

    name: str
    classes: tuple[str, ...]
    probabilities_NK: np.ndarray
    truth_N: np.ndarray | None

    @property
    def chosen_N(self) -> np.ndarray:
        """Class numbers."""
        return self.probabilities_NK.argmax(1)


def heads(objective: Objective, predictions: Any, truth: np.ndarray | None = None) -> Iterator[Head]:
    """The choices between classes: of each head, or one; none for an objective that says something else."""
    if objective.says != "choices":
        return
    names = objective.facts.output_names
    if not objective.facts.heads:
        yield Head("", names[""], predictions, truth)
        return
    for k, (name, classes) in enumerate(names.items()):
        yield Head(name, classes, predictions[name], None if truth is None else truth[:, k])


def as_columns(
    objective: Objective, predictions: Any, truth: np.ndarray | None = None, most: int | None = None
) -> dict[str, np.ndarray]:
    """Column name -> N values, as texts or numbers.

    ``truth``, ``prediction``, ``probability`` (of the prediction) and ``probability_CLASS``; with several
    heads, targets or labels followed by ``_NAME``. Tokens are a text; an image is ``pixel_0`` and so on, channels,
    rows, columns.

    Args:
        truth: None leaves its columns out.
        most: with more classes than this, only the probability of the prediction is given.
    """
    columns: dict[str, np.ndarray] = {}
    facts, says = objective.facts, objective.says
    for head in heads(objective, predictions, truth):
        end, names = f"_{head.name}" if head.name else "", np.array(head.classes, dtype=object)
        if head.truth_N is not None:
            columns[f"truth{end}"] = names[head.truth_N]
        columns[f"prediction{end}"] = names[head.chosen_N]
        columns[f"probability{end}"] = head.probabilities_NK.max(1)
        if most is None or len(names) <= most:
            for k, name in enumerate(names):
                columns[f"probability{end}{'=' if end else '_'}{name}"] = head.probabilities_NK[:, k]
    if says == "tokens":
        told = {"truth": truth, "prediction": predictions}
        columns |= {name: words(facts, tokens) for name, tokens in told.items() if tokens is not None}
    if says == "images":
        columns |= {f"pixel_{k}": values for k, values in enumerate(predictions.reshape(len(predictions), -1).T)}
    if says in ("labels", "numbers"):
        outputs = facts.output_names[""]
        for k, name in enumerate(outputs):
            end = "" if says == "numbers" and len(outputs) == 1 else f"_{name}"
            if truth is not None:
                columns[f"truth{end}"] = truth[:, k]
            if says == "numbers":
                columns[f"prediction{end}"] = predictions[:, k]
            else:
                columns[f"prediction{end}"] = (predictions[:, k] > 0.5).astype(np.uint8)
                columns[f"probability{end}"] = predictions[:, k]
    return columns


def words(facts: Facts, tokens_NT: np.ndarray) -> np.ndarray:
    """The words of each sequence up to its end, as one text; (N,) texts."""
    names = facts.output_names[""]
    lines = []
    for tokens in tokens_NT.tolist():
        told = tokens[: tokens.index(facts.end)] if facts.end in tokens else tokens
        lines.append(facts.between.join(names[k] for k in told if k not in (facts.pad, facts.start)))
    return np.array(lines, dtype=object)


def scores(objective: Objective, predictions: Any, truth: np.ndarray) -> Rows:
    """Precision, recall, F1 and counts of each class (of each head) or label; MAE, RMSE and R^2 of each target."""
    facts = objective.facts
    if objective.says == "numbers":
        error = predictions.astype(np.float64) - truth
        return [
            {
                "target": name,
                "mae": float(np.abs(error[:, k]).mean()),
                "rmse": float(np.sqrt(np.square(error[:, k]).mean())),
                "r2": r_squared(truth[:, k], predictions[:, k]),
            }
            for k, name in enumerate(facts.output_names[""])
        ]
    from sklearn.metrics import precision_recall_fscore_support

    if objective.says == "labels":
        names, chosen = facts.output_names[""], (predictions > 0.5).astype(np.uint8)
        rows = []
        for k, name in enumerate(names):  # one by one: scikit-learn would take a single label as two classes
            numbers = precision_recall_fscore_support(truth[:, k], chosen[:, k], average="binary", zero_division=0)
            counts = {"samples": int(truth[:, k].sum()), "predicted": int(chosen[:, k].sum())}
            rows.append({"label": name} | dict(zip(MEASURES, map(float, numbers[:3]), strict=True)) | counts)
        return rows
    rows = []
    for head in heads(objective, predictions, truth):
        K = len(head.classes)
        numbers = precision_recall_fscore_support(head.truth_N, head.chosen_N, labels=range(K), zero_division=0)
        predicted, of_head = np.bincount(head.chosen_N, minlength=K), {"head": head.name} if head.name else {}
        for k, name in enumerate(head.classes):
            counts = {"samples": int(numbers[3][k]), "predicted": int(predicted[k])}
            measured = {measure: float(numbers[i][k]) for i, measure in enumerate(MEASURES)}
            rows.append(of_head | {"class": name} | measured | counts)
    return rows


def confusion(head: Head) -> np.ndarray:
    """Number of samples of each class (rows) predicted as each class (columns): (K, K)."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(head.truth_N, head.chosen_N, labels=range(len(head.classes)))


@dataclass
class Mistake:
    """A wrong prediction: truth, prediction, and the probability of the prediction."""

    index: int
    truth: str
    prediction: str
    probability: float


def worst_mistakes(objective: Objective, predictions: Any, truth: np.ndarray, most: int) -> list[Mistake]:
    """The wrong predictions of highest probability, in descending order; of each sample, the most probable."""
    facts, choices, truth_ND = objective.facts, list(heads(objective, predictions)), truth.reshape(len(truth), -1)
    if choices:
        wrong_ND = np.stack([head.chosen_N for head in choices], 1) != truth_ND
        sure_ND = np.stack([head.probabilities_NK.max(1) for head in choices], 1)
    elif objective.says == "labels":
        wrong_ND = (predictions > 0.5) != (truth > 0)
        sure_ND = np.maximum(predictions, 1 - predictions)
    else:
        return []
    sure_ND = np.where(wrong_ND, sure_ND, -1.0)
    order = np.argsort(-sure_ND.max(1), kind="stable")[: min(most, int(wrong_ND.any(1).sum()))]
    mistakes = []
    for i in order:
        d = int(sure_ND[i].argmax())
        if choices:
            head = choices[d]
            of_head = f"{head.name} " if head.name else ""
            said, true = (of_head + head.classes[k] for k in (head.chosen_N[i], truth_ND[i, d]))
        else:
            label = facts.output_names[""][d]
            true, said = (label, f"no {label}") if truth_ND[i, d] else (f"no {label}", label)
        mistakes.append(Mistake(int(i), true, said, float(sure_ND[i, d])))
    return mistakes


def percent(probability: float) -> str:
    """A probability in percent; only exactly 0 is 0%, and only 1 is 100%."""
    text = f"{probability:.1%}"
    if text == "100.0%" and probability < 1:
        return ">99.9%"
    return "<0.1%" if text == "0.0%" and probability > 0 else text
