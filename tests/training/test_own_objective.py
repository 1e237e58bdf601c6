"""An objective of a user's own (tests/users_own.py)."""

import json

import numpy as np
import pytest
import torch
from conftest import linear_outputs, softmax, summary
from sklearn.datasets import load_iris


def test_an_objective_of_ones_own_is_a_class_and_a_yaml(cli, tmp_path):
    """In a folder of one's own, `--config-dir`; its keys are checked as ours are; a resume needs `--trust` only."""
    (tmp_path / "own" / "objective").mkdir(parents=True)
    (tmp_path / "own" / "objective" / "focal.yaml").write_text("_target_: users_own.Focal\ngamma: 2.0\n")
    run = ["objective=focal", "data=iris", "data.test_fraction=0", "data.val_fraction=0", "model=linear", "optim.lr=0"]
    code, text = cli("--config-dir=own", *run, "train.epochs=1", "hydra.run.dir=run")
    assert code == 0, text
    x, y = load_iris(return_X_y=True)
    p = softmax(linear_outputs(tmp_path / "run", x))[np.arange(len(y)), y]
    assert summary(tmp_path / "run")["final"]["train/loss"] == pytest.approx(
        -((1 - p) ** 2 * np.log(p)).mean(), rel=1e-5
    )
    assert cli("train.resume=run", "train.epochs=2", "--trust")[0] == 0
    assert summary(tmp_path / "run")["epochs"] == 2
    code, text = cli("--config-dir=own", *run, "objective.gama=1")
    assert (code, text.count("\n")) == (2, 1), text


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("nowhere.Focal", "nowhere"),
        ("users_own.Focl", "Focl"),
        ("trainer.training.objectives", "class"),
        ("trainer.training.objectives.Objective", "must define __call__"),
    ],
)
def test_a_class_that_is_not_there_is_one_line(cli, target, words):
    code, text = cli(f"objective._target_={target}")
    assert (code, text.count("\n")) == (2, 1), text
    assert text.startswith(f"conga: objective._target_={target}: ")
    assert words in text.partition(f"{target}: ")[2].replace(f"'{target}'", "")


def test_an_evaluation_that_draws_finds_the_numbers_of_the_run_and_changes_no_training(cli, tmp_path):
    run = ["objective._target_=users_own.Noisy", "data=iris", "model=linear", "train.epochs=4"]
    for name, every in (("often", 1), ("seldom", 4)):
        code, text = cli(*run, f"train.eval_every={every}", f"hydra.run.dir={name}")
        assert code == 0, text
    often, seldom = (torch.load(tmp_path / name / "checkpoints/last.pt")["model"] for name in ("often", "seldom"))
    assert all(torch.equal(often[name], seldom[name]) for name in often)
    assert cli("evaluate", "often", "--trust")[0] == 0
    found = json.loads((tmp_path / "often/evaluation/report.json").read_text())["metrics"]
    assert found["loss"] == summary(tmp_path / "often")["test"]["loss"]
