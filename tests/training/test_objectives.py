"""Losses and metrics against scikit-learn's, summed over batches of unequal size as the loop does it."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_expit, log_softmax
from sklearn import metrics
from sklearn.utils.class_weight import compute_class_weight
from torch import nn

from data import Facts
from trainer.training.evaluation import added, to_numbers
from trainer.training.objectives import (
    BinaryCrossEntropy,
    Brier,
    CrossEntropy,
    Hinge,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    MultiLabel,
    MultiTask,
    for_task,
)

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


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.9])
def test_label_smoothing(rng, epsilon):
    """Targets are (1 - epsilon) of the class, and epsilon / K of each."""
    logits, y = numbers(rng, N, 4), torch.from_numpy(rng.integers(0, 4, N))
    q = (1 - epsilon) * np.eye(4)[y] + epsilon / 4
    expected = -(q * log_softmax(logits.double().numpy(), 1)).sum(1).mean()
    result = measured(CrossEntropy(facts("classification", 4), label_smoothing=epsilon), logits, y)
    assert result["loss"] == pytest.approx(expected, rel=1e-5)
    assert result["accuracy"] == pytest.approx(metrics.accuracy_score(y, logits.argmax(1)))


def hinge_losses(scores, y, margin, p):
    """Of each sample, as Weston & Watkins wrote it down."""
    scores, losses = scores.double().numpy(), []
    for s, k in zip(scores, y.numpy(), strict=True):
        losses.append(sum(max(0, margin - s[k] + s[j]) ** p for j in range(len(s)) if j != k) / len(s))
    return np.array(losses)


@pytest.mark.parametrize(("margin", "p"), [(1.0, 1), (0.3, 1), (1.0, 2), (2.5, 2)])
def test_hinge(rng, margin, p):
    scores, y = numbers(rng, N, 4), torch.from_numpy(rng.integers(0, 4, N))
    result = measured(Hinge(facts("classification", 4), margin=margin, p=p), scores, y)
    assert result["loss"] == pytest.approx(hinge_losses(scores, y, margin, p).mean(), rel=1e-5)


def losses_of(name, outputs, y):
    """The loss of each sample (N,) in double precision, by other means; for binary those of one logit."""
    if name == "hinge":
        return hinge_losses(outputs, y, 1.0, 1)
    z, y = outputs.double().numpy(), y.numpy()
    if name == "brier":
        return np.square(np.exp(log_softmax(z, 1)) - np.eye(z.shape[1])[y]).sum(1)
    return -log_softmax(z, 1)[np.arange(len(y)), y] if name == "classes" else -log_expit(np.where(y, 1, -1) * z[:, 0])


@pytest.mark.parametrize("rows", [False, True], ids=["", "and weights of samples"])
@pytest.mark.parametrize("given", ["none", "balanced", "list"])
@pytest.mark.parametrize("name", ["classes", "binary", "brier", "hinge"])
def test_class_weights(rng, name, given, rows):
    """A mean by the weight of each sample's class, times its own; metrics other than the loss do not count by it."""
    K = 2 if name == "binary" else 3
    y = torch.from_numpy(rng.choice(K, N, p=[0.7, 0.2, 0.1] if K == 3 else [0.8, 0.2]))
    outputs, w = numbers(rng, N, 1 if K == 2 else K), torch.from_numpy(rng.integers(0, 4, N).astype(np.float32))
    kind = {"classes": CrossEntropy, "binary": BinaryCrossEntropy, "brier": Brier, "hinge": Hinge}[name]
    about = facts(
        "binary" if K == 2 else "classification", outputs.shape[1], class_counts=tuple(np.bincount(y).tolist())
    )
    of_class = {"none": np.ones(K), "list": np.array([0.5, 3, 0][:K])}.get(given)
    if of_class is None:
        of_class = compute_class_weight("balanced", classes=np.arange(K), y=y.numpy())
    weights = of_class[y] * (w.double().numpy() if rows else 1)
    result = measured(kind(about, class_weights=[0.5, 3, 0][:K] if given == "list" else given), outputs, y, *[w] * rows)
    assert result["loss"] == pytest.approx(np.average(losses_of(name, outputs, y), weights=weights), rel=1e-5)
    if name == "classes":
        p = outputs.double().softmax(1)
        assert result["loss"] == pytest.approx(metrics.log_loss(y, p, sample_weight=weights, labels=range(K)), rel=1e-5)
    chosen = outputs[:, 0] > 0 if K == 2 else outputs.argmax(1)
    assert result["accuracy"] == pytest.approx(metrics.accuracy_score(y, chosen))
    assert result["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, chosen))


@pytest.mark.parametrize(
    ("given", "counts", "message"),
    [
        ([1.0, 2.0], (5, 5, 5), r"^class_weights=\[1.0,2.0\]: must be 3 numbers, one for each class"),
        ([1.0, -2.0, 1.0], (5, 5, 5), r"^class_weights=\[1.0,-2.0,1.0\]: must be finite numbers, at least 0"),
        ([1.0, math.inf, 1.0], (5, 5, 5), r"^class_weights=.*: must be finite"),
        ([1.0, math.nan, 1.0], (5, 5, 5), r"^class_weights=.*: must be finite"),
        ([0, 0, 0], (5, 5, 5), r"^class_weights=\[0,0,0\]: .* not all 0"),
        ("balanced", (5, 0, 5), "^class_weights=balanced: the training split has no sample of class 1"),
    ],
)
def test_class_weights_that_are_refused(given, counts, message):
    with pytest.raises(ValueError, match=message):
        CrossEntropy(facts("classification", 3, class_counts=counts), class_weights=given)


@pytest.mark.parametrize(("true", "chosen"), [((0, 1, 3), range(4)), (range(4), (0, 2)), ((0, 1), (2, 3)), ([2], [2])])
def test_classes_that_are_missing_or_never_chosen(rng, true, chosen):
    """Balanced accuracy is of the classes that are there, F1 of those that are there or were chosen."""
    y, predicted = (rng.choice(list(k), N) for k in (true, chosen))
    logits = numbers(rng, N, 5) / 10 + 5 * torch.eye(5)[predicted]
    result = measured(CrossEntropy(facts("classification", 5)), logits, torch.from_numpy(y))
    recalls = metrics.recall_score(y, predicted, labels=np.unique(y), average=None, zero_division=0)
    assert result["balanced_accuracy"] == pytest.approx(recalls.mean())
    assert result["f1"] == pytest.approx(metrics.f1_score(y, predicted, average="macro", zero_division=0))


@pytest.mark.parametrize("K", [19, 20, 30])
def test_top_five_from_20_classes(rng, K):
    logits, y = numbers(rng, N, K), torch.from_numpy(rng.integers(0, K, N))
    result = measured(CrossEntropy(facts("classification", K)), logits, y)
    assert ("top5" in result) == (K >= 20)
    if K >= 20:
        expected = metrics.top_k_accuracy_score(y, logits, k=5, labels=np.arange(K))
        assert result["top5"] == pytest.approx(expected)
        assert "top5" in CrossEntropy(facts("classification", K)).higher_is_better


def test_mixed_labels_with_smoothing_and_top_five(rng):
    """Probabilities are smoothed as classes are; top-5 is the probability of the five that were chosen."""
    logits, a, b = numbers(rng, N, 24), *(rng.integers(0, 24, N) for _ in range(2))
    q = 0.3 * np.eye(24)[a] + 0.7 * np.eye(24)[b]
    smooth = 0.8 * q + 0.2 / 24
    objective = CrossEntropy(facts("classification", 24), label_smoothing=0.2)
    result = measured(objective, logits, torch.from_numpy(q.astype(np.float32)))
    assert result["loss"] == pytest.approx(-(smooth * log_softmax(logits.double().numpy(), 1)).sum(1).mean(), rel=1e-5)
    one, other = (metrics.top_k_accuracy_score(y, logits, k=5, labels=np.arange(24)) for y in (a, b))
    assert result["top5"] == pytest.approx(0.3 * one + 0.7 * other, rel=1e-5)


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_binary_metrics_of_an_evaluation(rng, share):
    """Logits are rounded, so that ties are among them."""
    logits, y = (2 * numbers(rng, N, 1)).round() / 2 - 0.2, torch.from_numpy((rng.random(N) < share).astype(np.int64))
    result, scores = measured(BinaryCrossEntropy(facts("binary", 1)), logits, y), logits[:, 0]
    assert result["auroc"] == pytest.approx(metrics.roc_auc_score(y, scores))
    assert result["f1"] == pytest.approx(metrics.f1_score(y, scores > 0, average="macro"))
    assert result["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(y, scores > 0))


@pytest.mark.parametrize("only", [0, 1])
def test_auroc_of_one_class_is_no_number(rng, only):
    logits, y = numbers(rng, N, 1), torch.full((N,), only)
    result, chosen = measured(BinaryCrossEntropy(facts("binary", 1)), logits, y), logits[:, 0] > 0
    assert math.isnan(result["auroc"])
    assert result["balanced_accuracy"] == pytest.approx(metrics.accuracy_score(y, chosen))
    assert result["f1"] == pytest.approx(metrics.f1_score(y, chosen, average="macro", zero_division=0))


def test_f1_of_labels_that_nobody_has_or_gets(rng):
    """A label that is neither there nor chosen counts as 0, as scikit-learn has it."""
    logits, y = numbers(rng, N, 5), rng.integers(0, 2, (N, 5), dtype=np.uint8)
    y[:, :2], logits[:, 1], logits[:, 2] = 0, -3, -3  # nobody has 0 and 1, and nobody gets 1 and 2
    result = measured(MultiLabel(facts("multilabel", 5)), logits, torch.from_numpy(y))
    assert result["f1"] == pytest.approx(metrics.f1_score(y, logits > 0, average="macro", zero_division=0))


@pytest.mark.parametrize("rows", [False, True], ids=["", "and weights of samples"])
@pytest.mark.parametrize("weights", [None, {"age": 0.25}, {"age": 2, "gender": 0}])
def test_weights_of_heads(rng, weights, rows):
    logits = {"age": numbers(rng, N, 5), "gender": numbers(rng, N, 2)}
    y = torch.from_numpy(np.stack([rng.integers(0, 5, N), rng.integers(0, 2, N)], 1))
    w = torch.from_numpy(rng.integers(0, 4, N).astype(np.float32))
    result = measured(MultiTask(facts("multitask", {"age": 5, "gender": 2}), weights=weights), logits, y, *[w] * rows)
    each = [losses_of("classes", v, y[:, k]) for k, v in enumerate(logits.values())]
    of_head = {"age": 1, "gender": 1} | (weights or {})
    expected = of_head["age"] * each[0] + of_head["gender"] * each[1]
    assert result["loss"] == pytest.approx(np.average(expected, weights=w if rows else None), rel=1e-5)


ERRORS = {
    "mse": (MeanSquaredError, {}, np.square),
    "mae": (MeanAbsoluteError, {}, np.abs),
    "huber": (Huber, {}, lambda e: np.where(abs(e) <= 1, e**2 / 2, abs(e) - 0.5)),
    "huber 0.3": (Huber, {"delta": 0.3}, lambda e: np.where(abs(e) <= 0.3, e**2 / 2, 0.3 * (abs(e) - 0.15))),
}


@pytest.mark.parametrize("rows", [False, True], ids=["", "and weights of samples"])
@pytest.mark.parametrize("name", ERRORS)
def test_losses_of_numbers(rng, name, rows):
    """The loss by weight, and in the units of training; all other metrics in the targets' own, each sample alike."""
    kind, settings, error = ERRORS[name]
    unit, centre = torch.tensor([10.0, 0.5, 3.0]), torch.tensor([100.0, -3.0, 0.0])
    outputs, y, w = numbers(rng, N, 3), numbers(rng, N, 3), torch.from_numpy(rng.random(N).astype(np.float32))
    objective = kind(facts("regression", 3, target_mean=centre, target_std=unit), **settings)
    result = measured(objective, outputs, y, *[w] * rows)
    each = error(outputs.double().numpy() - y.double().numpy()).mean(1)
    assert result["loss"] == pytest.approx(np.average(each, weights=w if rows else None), rel=1e-5)
    own, predicted = (v.double().numpy() * unit.numpy() + centre.numpy() for v in (y, outputs))
    assert result["mae"] == pytest.approx(metrics.mean_absolute_error(own, predicted), rel=1e-5)
    assert result["rmse"] == pytest.approx(metrics.mean_squared_error(own, predicted) ** 0.5, rel=1e-5)
    assert result["r2"] == pytest.approx(metrics.r2_score(own, predicted), rel=1e-4)
    np.testing.assert_allclose(objective.predict(nn.Identity(), outputs), predicted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(objective.truth(y), own, rtol=1e-5, atol=1e-5)


def test_r2_of_one_sample_is_no_number(rng):
    objective = MeanSquaredError(facts("regression", 2))
    sums, kept = objective.evaluate(nn.Identity(), (numbers(rng, 1, 2), numbers(rng, 1, 2)))
    assert math.isnan(objective.finish(to_numbers(sums), {k: v.numpy() for k, v in kept.items()})["r2"])


def each_objective(rng, n=6):
    """Objective, a model's inputs and targets of `n` samples, one of each kind."""
    y, z = torch.from_numpy(rng.integers(0, 3, n)), numbers(rng, n, 2)
    two = facts("binary", 1, class_counts=(3, 3))
    return {
        "cross-entropy": (CrossEntropy(facts("classification", 3), label_smoothing=0.1), numbers(rng, n, 3), y),
        "brier": (Brier(facts("classification", 3)), numbers(rng, n, 3), y),
        "hinge": (Hinge(facts("classification", 3), p=2), numbers(rng, n, 3), y),
        "binary": (BinaryCrossEntropy(two, class_weights="balanced"), numbers(rng, n, 1), y % 2),
        "labels": (MultiLabel(facts("multilabel", 2)), z, torch.stack([y % 2, y // 2], 1).to(torch.uint8)),
        "heads": (
            MultiTask(facts("multitask", {"a": 3, "b": 2})),
            {"a": numbers(rng, n, 3), "b": z},
            torch.stack([y, y % 2], 1),
        ),
        **{
            name: (kind(facts("regression", 2), **how), z, numbers(rng, n, 2))
            for name, (kind, how, _) in ERRORS.items()
        },
    }


KINDS = ["cross-entropy", "brier", "hinge", "binary", "labels", "heads", *ERRORS]


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_without_weight_has_loss_and_gradient_zero(rng, name):
    """And one with some of weight 0 has those of the others alone."""
    objective, x, y = each_objective(rng)[name]
    x = x if isinstance(x, dict) else {"x": x}
    leaves = {k: v.requires_grad_() for k, v in x.items()}
    given = leaves if name == "heads" else leaves["x"]

    def part(value, index):
        return {k: v[index] for k, v in value.items()} if isinstance(value, dict) else value[index]

    def gradients(batch):
        loss, sums = objective(nn.Identity(), batch)
        return (
            loss.item(),
            float(sums["loss"]),
            torch.cat([g.ravel() for g in torch.autograd.grad(loss, leaves.values())]),
        )

    loss, total, gradient = gradients((given, y, torch.zeros(len(y))))
    assert (loss, total, gradient.abs().max()) == (0, 0, 0)
    w = torch.tensor([0.0, 2.0, 0.0, 0.5, 1.0, 0.0])
    some, alone = gradients((given, y, w)), gradients((part(given, w > 0), y[w > 0], w[w > 0]))
    assert some[:2] == pytest.approx(alone[:2], rel=1e-5)
    torch.testing.assert_close(some[2], alone[2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", KINDS)
def test_outputs_of_16_bits_have_losses_of_32(rng, name, dtype):
    """Those of the outputs as they are, and every digit of them."""
    objective, x, y = each_objective(rng)[name]
    short = {k: v.to(dtype) for k, v in x.items()} if isinstance(x, dict) else x.to(dtype)
    full = {k: v.float() for k, v in short.items()} if isinstance(x, dict) else short.float()
    for more in ((), (torch.rand(len(y)),)):
        loss, sums = objective(nn.Identity(), (short, y, *more))
        assert loss.dtype == sums["loss"].dtype == torch.float32
        assert loss.item() == pytest.approx(objective(nn.Identity(), (full, y, *more))[0].item(), rel=1e-6)
