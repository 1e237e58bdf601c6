"""Runs read back: what a directory says, in any state that it may be left in."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from trainer.errors import Refused
from trainer.runs import differing, find_runs, load_curves, load_runs

CONFIG = {
    "seed": 0,
    "logger": {"csv": {"_target_": "trainer.loggers.Csv"}},
    "model": {"_target_": "models.mlp.MLP", "widths": [64, 64], "activation": "relu"},
    "optim": {"_target_": "optim.sgd", "lr": 0.1, "momentum": 0.9},
    "train": {"epochs": 3, "monitor": "val/loss", "max_steps": None, "compile": False},
}
CHOICES = {"experiment": None, "optim": "sgd", "model": "mlp", "data": "digits", "hydra/env": "default"}
COLUMNS = ("epoch", "step", "train/loss", "val/loss", "val/accuracy", "optim/lr")


def write_run(path, config=CONFIG, choices=CHOICES, losses=(0.9, 0.5, 0.6), status="finished", test=None, **summary):
    """A run directory by hand; `losses` are those of validation."""
    (path / ".hydra").mkdir(parents=True)
    (path / ".hydra/config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    hydra = {"hydra": {"runtime": {"cwd": "/", "choices": choices}, "verbose": False}}
    (path / ".hydra/hydra.yaml").write_text(yaml.safe_dump(hydra, sort_keys=False))
    table = [(i + 1, 10 * (i + 1), 2 * loss, loss, 1 - loss, 0.1) for i, loss in enumerate(losses)]
    lines = [",".join(COLUMNS), *(",".join(map(repr, row)) for row in table)]
    (path / "metrics.csv").write_text("\n".join(lines) + "\n")
    best = min(range(len(losses)), key=losses.__getitem__) if losses else None
    data = {
        "status": status,
        "stopped": None,
        "epochs": len(losses),
        "steps": 10 * len(losses),
        "best": {"metric": "val/loss", "value": losses[best], "epoch": best + 1, "mode": "min"} if losses else None,
        "final": dict(zip(COLUMNS, table[-1], strict=True)) if losses else None,
        "test": {"loss": 0.7, "accuracy": 0.3} if test is None else test,
        "parameters": 100,
        "seconds": 1.5,
        "device": "cpu",
        "error": None,
    }
    (path / "summary.json").write_text(json.dumps(data | summary))
    return path


def with_keys(**dotted):
    """CONFIG with other values: optim__lr=1 is optim.lr=1."""
    config = json.loads(json.dumps(CONFIG))
    for key, value in dotted.items():
        *groups, last = key.split("__")
        node = config
        for group in groups:
            node = node[group]
        node[last] = value
    return config


def test_what_a_run_says(tmp_path):
    run = write_run(tmp_path / "outputs/2026-01-02/10-00-00_mlp")
    (record,) = find_runs([tmp_path / "outputs"])
    assert (record.path, record.name, record.status) == (run, "2026-01-02/10-00-00_mlp", "finished")
    assert record.config["optim.lr"] == 0.1
    assert record.config["model.widths"] == [64, 64]
    assert record.config["train.max_steps"] is None
    assert (record.config["optim"], record.config["data"]) == ("sgd", "digits")
    assert "hydra/env" not in record.config
    assert record.best == {"metric": "val/loss", "value": 0.5, "epoch": 2, "mode": "min"}
    assert record.test == {"loss": 0.7, "accuracy": 0.3}
    assert record.final["val/loss"] == 0.6
    assert record.curves["val/loss"].tolist() == [0.9, 0.5, 0.6]


def test_natural_order_and_names(tmp_path):
    for name in ("job/10_a", "job/2_a", "job/1_a"):
        write_run(tmp_path / name)
    assert [r.name for r in find_runs([tmp_path])] == ["job/1_a", "job/2_a", "job/10_a"]
    assert [r.name for r in find_runs([tmp_path / "job/2_a"])] == ["2_a"]
    assert [r.name for r in find_runs([tmp_path / "job/10_a", tmp_path / "job/2_a"])] == ["2_a", "10_a"]
    assert len(find_runs([tmp_path, tmp_path / "job"])) == 3
    with pytest.raises(Refused, match="nowhere: no such directory"):
        find_runs([tmp_path / "nowhere"])


def test_what_differs(tmp_path):
    for i, (lr, optim) in enumerate([(0.1, "sgd"), (0.2, "sgd"), (0.1, "adam")]):
        config = with_keys(seed=i, optim__lr=lr, optim___target_=f"optim.{optim}")
        if optim == "adam":
            config["optim"]["beta1"] = 0.9
            del config["optim"]["momentum"]
        write_run(tmp_path / str(i), config, CHOICES | {"optim": optim})
    records = find_runs([tmp_path])
    assert differing(records) == ["optim", "optim.lr", "seed"]
    assert differing(records[:2]) == ["optim.lr", "seed"]


def test_half_a_last_row_is_left_out(tmp_path):
    run = write_run(tmp_path / "run")
    with (run / "metrics.csv").open("a") as file:
        file.write("4,40,0.1")
    (record,) = find_runs([tmp_path])
    assert record.status == "finished"
    assert record.curves["epoch"].tolist() == [1, 2, 3]


def test_frames(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", with_keys(seed=1, optim__lr=1e-3), losses=(0.4,))
    runs = load_runs(tmp_path)
    assert runs["name"].tolist() == ["a", "b"]
    assert runs["optim.lr"].tolist() == [0.1, 0.001]
    assert runs["best/value"].tolist() == [0.5, 0.4]
    assert runs["test/accuracy"].tolist() == [0.3, 0.3]
    curves = load_curves(tmp_path)
    assert curves["name"].tolist() == ["a"] * 3 + ["b"]
    np.testing.assert_array_equal(curves["val/loss"], [0.9, 0.5, 0.6, 0.4])


def test_states(tmp_path):
    """Queued without a summary, interrupted when the process has gone, with what a resume changed."""
    (write_run(tmp_path / "queued") / "summary.json").unlink()
    process = {"host": os.uname().nodename, "pid": 1, "heartbeat": "2026-01-01T00:00:00+00:00"}
    write_run(tmp_path / "dead", status="running", process=process)
    resumed = write_run(tmp_path / "resumed")
    Path(resumed / ".hydra/resumed.yaml").write_text("train.epochs: 9\n")
    by_name = {record.name: record for record in find_runs([tmp_path])}
    assert by_name["queued"].status == "queued"
    assert by_name["dead"].status == "interrupted"
    assert by_name["resumed"].config["train.epochs"] == 9
