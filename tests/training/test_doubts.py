"""Warnings about runs that train and learn nothing: said once, with a key, and not about runs that learn."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from data import Facts
from trainer.training import doubts
from trainer.training.objectives import (
    BinaryCrossEntropy,
    Brier,
    CrossEntropy,
    MeanAbsoluteError,
    MeanSquaredError,
    MultiLabel,
    MultiTask,
)  # fmt: skip

SHORT = ["data.limit=200", "train.threads=1", "hydra.run.dir=run"]
N = 60
draw = torch.Generator().manual_seed(3)
CLASSES = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), N, replacement=True, generator=draw)
LABELS = (torch.rand(N, 2, generator=draw) < 0.3).long()
NUMBERS = torch.rand(N, 2, generator=draw) * 5 + 10


def facts(task, outputs, **more):
    return Facts(task, task, (1,), outputs, None, None, {"train": N}, torch.tensor(0.0), torch.tensor(1.0), **more)


def counted(y, outputs):
    return {"class_counts": tuple(torch.bincount(y, minlength=outputs).tolist())}


CASES = {
    "cross_entropy": (CrossEntropy, ("classification", 3), counted(CLASSES, 3), CLASSES, {}),
    "weighted": (CrossEntropy, ("classification", 3), counted(CLASSES, 3), CLASSES, {"class_weights": [1.0, 2.0, 5.0]}),
    "brier": (Brier, ("classification", 3), counted(CLASSES, 3), CLASSES, {}),
    "binary": (BinaryCrossEntropy, ("binary", 1), counted(LABELS[:, 0], 2), LABELS[:, 0], {}),
    "multilabel": (MultiLabel, ("multilabel", 2), {}, LABELS, {}),
    "mse": (MeanSquaredError, ("regression", 2), {}, NUMBERS, {}),
    "mae": (MeanAbsoluteError, ("regression", 2), {}, NUMBERS, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_chance_is_the_least_loss_of_a_constant_output(name):
    kind, what, more, y, options = CASES[name]
    objective = kind(facts(*what, **more), **options)
    outputs = what[1]

    def loss(constant):
        given = torch.tensor(constant, dtype=torch.float64).expand(N, outputs)
        return float(objective(lambda x: given, (torch.zeros(N, 1), y))[0])

    start = NUMBERS.mean(0).tolist() if what[0] == "regression" else [0.0] * outputs
    found = minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-9, "maxiter": 4000})
    assert objective.chance(y) == pytest.approx(found.fun, rel=1e-4)


def test_chance_of_several_heads_is_the_weighted_sum_of_entropies():
    y = torch.stack([CLASSES, LABELS[:, 0]], 1)
    objective = MultiTask(facts("multitask", {"age": 3, "gender": 2}), weights={"gender": 0.5})
    shares = [np.bincount(y[:, i]) / N for i in (0, 1)]
    entropies = [-(p * np.log(p)).sum() for p in shares]
    assert objective.chance(y) == pytest.approx(entropies[0] + 0.5 * entropies[1], rel=1e-5)


def warnings_of(tmp_path):
    lines = (tmp_path / "run" / "train.log").read_text().splitlines()
    return [line.removeprefix("warning     ") for line in lines if line.startswith("warning  ")]


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        (["optim.lr=1e-7"], "optim.lr=1e-07 may be too small or too large; try a tenth and ten times"),
        (["data.normalize=none", "optim.lr=1e-9"], "optim.lr=1e-09 may be too small"),
        (["data=diabetes", "optim.lr=1e-7"], "optim.lr=1e-07 may be too small or too large"),
    ],
)
def test_a_loss_that_stays_at_chance_is_told_once_after_a_third_also_by_a_resume(cli, tmp_path, options, cause):
    assert cli(*SHORT, *options, "train.epochs=2")[0] == 0
    assert warnings_of(tmp_path) == []
    code, text = cli("resume", "run", "train.epochs=9")
    assert code == 0
    (line,) = warnings_of(tmp_path)
    assert line.startswith("after 3 of 9 epochs the loss, ")
    told = re.search(r"is no better than that of a constant output, ([\d.]+): ", line)[1]
    assert float(told) == pytest.approx(1.0 if "data=diabetes" in options else math.log(10), rel=1e-2)
    assert cause in line
    assert line in text


def test_a_loss_far_above_chance_that_moves_is_of_too_large_a_rate():
    run = SimpleNamespace(config={"objective": {}, "optim": {"lr": 8.0}}, optimizer=None)
    run.objective = SimpleNamespace(adversary=None)
    assert doubts.likely_cause(run, 2.3, np.array([40.0, 10.0, 11.0])) == "optim.lr=8.0 may be too large"


def test_a_set_too_small_for_the_initial_weights_is_told_with_its_key(cli, tmp_path):
    run = [*SHORT, "optim=cgd", "train.epochs=1"]
    assert cli(*run, "constraint.radius=1e-4")[0] == 0
    (line,) = warnings_of(tmp_path)
    assert line.startswith("constraint.radius=0.0001: too small a set for net.1.weight, net.3.weight, net.5.weight: ")
    assert cli(*run, "constraint=box", "constraint.low=0", "constraint.high=1e-5", "hydra.run.dir=box")[0] == 0
    assert "warning     constraint.low=0 constraint.high=1e-05: too small" in (tmp_path / "box/train.log").read_text()
    assert cli(*run, "constraint.radius=0.01", "hydra.run.dir=wide")[0] == 0  # a tenth of the norm is left
    assert "warning  " not in (tmp_path / "wide" / "train.log").read_text()


def test_a_batch_larger_than_the_data_is_told_once(cli, tmp_path):
    assert cli(*SHORT, "data.batch_size=201", "train.epochs=1")[0] == 0
    assert cli("resume", "run", "train.epochs=2")[0] == 0
    assert warnings_of(tmp_path) == [
        "data.batch_size=201: larger than the training split; an epoch is one step on all 200 samples"
    ]


def test_runs_that_learn_are_not_doubted(cli, tmp_path):
    code, text = cli(*SHORT, "data.batch_size=200", "optim.lr=0.3", "optim.momentum=0", "train.epochs=9")
    assert code == 0, text
    assert "\nobjective   CrossEntropy l2=0.0 l1=0.0\n" in text
    assert warnings_of(tmp_path) == []
    line = ["experiment=apartments", "logger=csv", "hydra.run.dir=line"]  # whose loss falls from far above chance
    assert "warning  " not in cli(*line)[1]
