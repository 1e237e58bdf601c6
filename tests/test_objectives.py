"""Losses and metrics against scikit-learn's, summed over batches of unequal size as the loop does it."""

import numpy as np
import pytest
import torch
from sklearn import metrics
from torch import nn

from data import Facts
from trainer.evaluation import added, to_numbers
from trainer.objectives import BinaryCrossEntropy, CrossEntropy, MeanSquaredError, MultiLabel, MultiTask, for_task

N = 103


def facts(task, num_outputs, **more):
    return Facts(task, task, (1,), num_outputs, None, None, {"train": N}, torch.tensor(0.0), torch.tensor(1.0), **more)


def measured(objective, outputs, y, w=None):
    """The metrics over all samples, from three batches; the model gives out what it is given."""
    totals, trained, kept, index = {}, {}, {}, torch.arange(N).split(40)
    for i in index:
        x = {k: v[i] for k, v in outputs.items()} if isinstance(outputs, dict) else outputs[i]
        batch = (x, y[i]) if w is None else (x, y[i], w[i])
        loss, sums = objective(nn.Identity(), batch)
        assert loss.item() * float(sums["weight"]) == pytest.approx(sums["loss"].item(), rel=1e-5)
        trained = added(trained, sums)
        if y.is_floating_point() and objective.task == "classification":  # mixed labels: never in an evaluation
            continue
        sums, keep = objective.evaluate(nn.Identity(), batch)
        totals = added(totals, sums)
        kept = {k: np.concatenate([kept[k], v]) if k in kept else v.numpy() for k, v in keep.items()}
    if not totals:
        return objective.finish(to_numbers(trained))
    result = objective.finish(to_numbers(totals), kept)
    assert set(result) == {*objective.metrics, *objective.evaluated}
    assert objective.finish(to_numbers(trained)) == {k: result[k] for k in objective.metrics}
    return result


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def numbers(rng, *shape):
    return torch.from_numpy(rng.normal(size=shape).astype(np.float32))


def test_cross_entropy(rng):
    logits, y = numbers(rng, N, 4), torch.from_numpy(rng.integers(0, 4, N))
    result = measured(CrossEntropy(facts("classification", 4)), logits, y)
    assert result["loss"] == pytest.approx(metrics.log_loss(y, logits.double().softmax(1)), rel=1e-5)
    assert result["accuracy"] == pytest.approx(metrics.accuracy_score(y, logits.argmax(1)))


def test_cross_entropy_of_mixed_labels(rng):
    """As in mixup's reference code: weight * loss of one label + the rest * loss of the other, and so for accuracy."""
    logits, a, b = numbers(rng, N, 4), *(torch.from_numpy(rng.integers(0, 4, N)) for _ in range(2))
    objective, weight = CrossEntropy(facts("classification", 4)), 0.3
    one, other = measured(objective, logits, a), measured(objective, logits, b)
    eye = torch.eye(4)
    result = measured(objective, logits, weight * eye[a] + (1 - weight) * eye[b])
    for name in ("loss", "accuracy"):
        assert result[name] == pytest.approx(weight * one[name] + (1 - weight) * other[name], rel=1e-5)


def test_binary(rng):
    logits, y = numbers(rng, N, 1), torch.from_numpy(rng.integers(0, 2, N))
    result = measured(BinaryCrossEntropy(facts("binary", 1)), logits, y)
    assert result["loss"] == pytest.approx(metrics.log_loss(y, logits.sigmoid()[:, 0]), rel=1e-5)
    assert result["accuracy"] == pytest.approx(metrics.accuracy_score(y, logits[:, 0] > 0))


def test_multilabel(rng):
    logits, y = numbers(rng, N, 5), torch.from_numpy(rng.integers(0, 2, (N, 5), dtype=np.uint8))
    result = measured(MultiLabel(facts("multilabel", 5)), logits, y)
    each = [metrics.log_loss(y[:, k], logits[:, k].sigmoid(), labels=[0, 1]) for k in range(5)]
    assert result["loss"] == pytest.approx(np.mean(each), rel=1e-5)
    assert result["accuracy"] == pytest.approx(1 - metrics.hamming_loss(y, logits > 0))


def test_multitask(rng):
    logits = {"age": numbers(rng, N, 5), "gender": numbers(rng, N, 2)}
    y = torch.from_numpy(np.stack([rng.integers(0, 5, N), rng.integers(0, 2, N)], 1))
    result = measured(MultiTask(facts("multitask", {"age": 5, "gender": 2})), logits, y)
    losses = [metrics.log_loss(y[:, k], v.double().softmax(1)) for k, v in enumerate(logits.values())]
    assert result["loss"] == pytest.approx(sum(losses), rel=1e-5)
    for k, (head, v) in enumerate(logits.items()):
        assert result[f"accuracy_{head}"] == pytest.approx(metrics.accuracy_score(y[:, k], v.argmax(1)))
    assert result["accuracy"] == pytest.approx((result["accuracy_age"] + result["accuracy_gender"]) / 2)


def test_regression_is_measured_in_the_targets_own_units(rng):
    unit, centre = torch.tensor([10.0, 0.5]), torch.tensor([100.0, -3.0])
    outputs, y = numbers(rng, N, 2), numbers(rng, N, 2)
    result = measured(MeanSquaredError(facts("regression", 2, target_mean=centre, target_std=unit)), outputs, y)
    assert result["loss"] == pytest.approx(metrics.mean_squared_error(y, outputs), rel=1e-5)
    own, predicted = y * unit + centre, outputs * unit + centre
    assert result["mae"] == pytest.approx(metrics.mean_absolute_error(own, predicted), rel=1e-5)
    assert result["rmse"] == pytest.approx(metrics.mean_squared_error(own, predicted) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("task", ["classification", "binary", "multilabel", "multitask", "regression"])
def test_each_task_has_its_objective_and_no_other(task):
    outputs = {"a": 2} if task == "multitask" else 2
    chosen = for_task(facts(task, outputs))
    for kind in (CrossEntropy, BinaryCrossEntropy, MultiLabel, MultiTask, MeanSquaredError):
        if isinstance(chosen, kind):
            assert isinstance(kind(facts(task, outputs)), kind)
        else:
            with pytest.raises(ValueError, match=rf"task={task}: {kind.__name__} needs a dataset whose task is"):
                kind(facts(task, outputs))
